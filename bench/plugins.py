"""Import the files of one of our folders, or the object that a user's dotted path names."""

import ast
import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UserError

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


@cache
def modules(package: ModuleType) -> tuple[str, ...]:
    """List the plug-in files of a package: every module but `base` and private ones."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


@cache
def defined(module_name: str) -> Mapping[str, Any]:
    """Map the names that a plug-in file defines at its top level to their values.

    The file is not imported, so that looking for one kind does not import what other kinds need.
    The value is None if it is not a literal.
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
                    found[target.id] = _literal_value(node.value)
    return found


def _literal_value(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def load_module(name: str) -> ModuleType:
    """Import a plug-in file."""
    return importlib.import_module(name)


def origin_of(module_name: str) -> str | None:
    """Return where the package of a module is, without importing it; None if there is none."""
    _add_current_folder()
    package = module_name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that was added to sys.modules by hand
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or []), None)


def _add_current_folder() -> None:
    """Make modules of the current folder importable, after installed ones."""
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
    _add_current_folder()
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
    """Import a user's part; whatever its module raises becomes a `UserError`.

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
    """Hash the code of an imported module, or of the whole package that it belongs to.

    Code that was typed into an interactive session is not covered.
    """
    top = sys.modules[module_name.partition(".")[0]]
    origin = getattr(top, "__file__", None) or getattr(sys.modules[module_name], "__file__", None)
    if origin is None:
        return ""
    file = Path(origin)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for one in files:
        digest.update(one.relative_to(file.parent).as_posix().encode() + b"\0" + one.read_bytes())
    return digest.hexdigest()[:16]
