"""Import the files of a folder of ours or a user's dotted path; check options of what is there."""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from bench.errors import UserError, unknown

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


@cache
def modules(package: ModuleType) -> tuple[str, ...]:
    """List the plug-in files of a package: every module but `base` and private ones."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


@cache
def defined(module_name: str) -> Mapping[str, Any]:
    """Map the names that a plug-in file defines at its top level to their values.

    Without importing it: asking which file is of a kind shall not import what the others need.
    None stands for what is not written out.
    """
    spec = importlib.util.find_spec(module_name)
    assert spec is not None and spec.origin is not None
    found: dict[str, Any] = {}
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = None
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = _written_out(node.value)
    return found


def _written_out(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def load_module(name: str) -> ModuleType:
    """Import a plug-in file."""
    return importlib.import_module(name)


def origin_of(module_name: str) -> str | None:
    """Return where the package of a module is, without importing it; None where there is none."""
    _look_here()
    package = module_name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # of a module that was put in place by hand
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or []), None)


def _look_here() -> None:
    """Let modules of the current folder be found, after those that are installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def from_path(dotted: str) -> Any:
    """Import `my_pkg.models:MyNet`, or a module `my_pkg:models`, looking in the current folder too.

    Raises:
        UserError: the module or the name in it cannot be imported.
    """
    if not DOTTED.fullmatch(dotted):
        raise UserError(f"{dotted}: cannot be imported; write it as my_pkg.models:MyNet")
    _look_here()
    return imported(dotted, lambda: _named(*dotted.split(":")))


def _named(module_name: str, name: str) -> Any:
    module = importlib.import_module(module_name)
    inner = f"{module_name}.{name}"
    if (
        not hasattr(module, name)
        and hasattr(module, "__path__")
        and importlib.util.find_spec(inner)
    ):
        return importlib.import_module(inner)
    return getattr(module, name)


def imported(given: str, load: Callable[[], Any]) -> Any:
    """Import a user's part, whatever its module does.

    Args:
        given: how the user names it.
        load: imports it.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{given}: cannot be imported ({error}); is its package installed?"
        ) from None
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{given}: cannot be imported (its module ends in {type(error).__name__}: {error})"
        ) from None


@cache
def digest_of(module_name: str) -> str:
    """Hash the code of an imported module, or of all the package that it belongs to.

    Nothing is known of what was typed into a session.
    """
    top = sys.modules[module_name.partition(".")[0]]
    place = getattr(top, "__file__", None) or getattr(sys.modules[module_name], "__file__", None)
    if place is None:
        return ""
    file = Path(place)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for one in files:
        digest.update(one.relative_to(file.parent).as_posix().encode() + b"\0" + one.read_bytes())
    return digest.hexdigest()[:16]


def options_of(target: Any, reserved: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """Map the named parameters of a callable, less `self` and the reserved ones."""
    function = target.__init__ if inspect.isclass(target) else target
    skip = {"self", *reserved}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):  # of some functions in C
        raise UserError(f"{target}: does not tell its parameters; wrap it in a function") from None
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in skip and parameter.kind in kinds
    }


def defaults_of(target: Any, reserved: Iterable[str] = ()) -> dict[str, Any]:
    """Map the named parameters of a callable that have a default to it."""
    return {
        name: parameter.default
        for name, parameter in options_of(target, reserved).items()
        if parameter.default is not inspect.Parameter.empty
    }


def check_options(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse the first option that is not known, with the nearest spelling."""
    known = list(known)
    for name in given:
        if name not in known:
            raise unknown(f"option of {what}:", name, known)


def checked_options(
    what: str, target: Any, given: Mapping[str, Any], reserved: Iterable[str] = ()
) -> dict[str, Any]:
    """Check the names and values of options for a class or function; convert them to its types.

    A parameter without an annotation takes anything, and so does one whose annotation cannot be
    checked.

    Raises:
        UserError: an unknown option, or a value that its annotation does not allow.
    """
    known = options_of(target, reserved)
    check_options(what, given, known)
    types = _types(target)
    return {
        name: value
        if name not in types or value is known[name].default
        else _checked(f"{what}.{name}", types[name], value)
        for name, value in given.items()
    }


def _checked(where: str, wanted: TypeAdapter, value: Any) -> Any:
    try:
        # Otherwise true would be the number 1.
        return wanted.validate_python(value, strict=True if isinstance(value, bool) else None)
    except ValidationError as error:
        raise UserError(f"{where}: {explained(error)} (given: {shortened(value)})") from None


def explained(error: ValidationError) -> str:
    """Put pydantic's first complaint in one line."""
    return " ".join(error.errors()[0]["msg"].removeprefix("Value error, ").split())


def shortened(value: Any) -> str:
    """Show a value in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def _types(target: Any) -> dict[str, TypeAdapter]:
    """Map the parameters of a class or function to what checks their values."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names that its author's type checker alone has
        return {}
    found = {}
    for name, hint in hints.items():
        with contextlib.suppress(PydanticUserError):
            found[name] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    return found
