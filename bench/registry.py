"""Find the parts of a benchmark: ours by their file's name, a user's by a path or as an object.

There is one `Registry` for each kind of part: methods, degradations, readers, losses and metrics.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from bench import plugins
from bench.errors import UserError, unknown
from bench.options import checked_options, defaults_of, options_of

Part = TypeVar("Part")


def _every_file(module_name: str) -> bool:
    return True


@cache
def _files_of(packages: tuple[str, ...], of_kind: Callable[[str], bool]) -> dict[str, str]:
    modules = (
        (name, f"{package}.{name}")
        for package in packages
        for name in plugins.modules(import_module(package))
    )
    return {name: module for name, module in modules if of_kind(module)}


@dataclass(frozen=True)
class Registry(Generic[Part]):
    """The parts of one kind.

    A part is given by the name of one of our files, by a dotted path `my_pkg.parts:Thing`, by the
    name of an entry point of the group `reconbench.<word>s`, or as the thing itself.

    Args:
        word: what messages call a part of this kind.
        packages: names of the packages that have a file for each of ours.
        base: what the class in such a file extends; `ModuleType` where the part is the file itself.
        wanted: what a part is, for messages.
        accepts: whether a thing is a part; default: whether it is a class that extends `base`.
        reserved: parameters that are not options, because the benchmark passes them itself.
        function_of: returns the callable that takes a part's options; default: the part itself.
        of_kind: whether a file of the packages, named as a module, is of this kind. It is called
            for every file, and must import none.
        key: what a wrong name is called in messages; default: `word`.
    """

    word: str
    packages: tuple[str, ...]
    base: type
    wanted: str
    accepts: Callable[[Any], bool] | None = None
    reserved: tuple[str, ...] = ()
    function_of: Callable[[Part], Callable[..., Any]] | None = None
    of_kind: Callable[[str], bool] = _every_file
    key: str = ""

    @property
    def group(self) -> str:
        """The group of the entry points that name such parts."""
        return f"reconbench.{self.word}s"

    def ours(self) -> dict[str, str]:
        """Map the names of our own parts to their modules, importing none of them."""
        return _files_of(self.packages, self.of_kind)

    def names(self) -> list[str]:
        """List the parts that have a name: ours, and those of entry points."""
        return [*self.ours(), *(point.name for point in entry_points(group=self.group))]

    def is_path(self, given: str) -> bool:
        """Return whether a text is the path of a part instead of a name."""
        return ":" in given or (self.base is ModuleType and "." in given)

    def find(self, given: Any) -> Part:
        """Return a part, checked to be one of this kind.

        Raises:
            UserError: no part has that name, with the nearest spelling; its path cannot be
                imported; or it is not a part of this kind.
        """
        if not isinstance(given, str):
            return self._accepted(given, label_of(given))
        if self.is_path(given):
            # The module a.b is the attribute b of the module a.
            path = given if ":" in given else ":".join(given.rsplit(".", 1))
            return self._accepted(plugins.from_path(path), given)
        module = self.ours().get(given)
        if module is not None:
            return self._in_file(import_module(module))
        for point in entry_points(group=self.group, name=given):
            return self._accepted(plugins.imported(given, point.load), given)
        raise unknown(self.key or self.word, given, self.names())

    def _in_file(self, module: ModuleType) -> Any:
        """Return the part in a file of ours: a function of its name, or else its last class."""
        if self.base is ModuleType:
            return module
        own = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
        name = module.__name__.rpartition(".")[2]
        for thing in own:
            if inspect.isfunction(thing) and thing.__name__ == name:
                return thing
        classes = [
            thing for thing in own if inspect.isclass(thing) and issubclass(thing, self.base)
        ]
        if not classes:
            raise TypeError(f"{module.__name__} defines no subclass of {self.base.__name__}")
        return classes[-1]

    def _accepted(self, thing: Any, given: str) -> Any:
        if self.base is ModuleType and inspect.isfunction(thing):
            thing = sys.modules[thing.__module__]  # a path to the function that a file defines
        accepts = self.accepts or self._extends_base
        if not accepts(thing):
            raise UserError(f"{given}: is not a {self.word}; a {self.word} is {self.wanted}")
        return thing

    def _extends_base(self, thing: Any) -> bool:
        return inspect.isclass(thing) and issubclass(thing, self.base)

    def name_of(self, given: Any) -> str:
        """Return what a benchmark file would call a part: its name if it is ours, else its path."""
        if not isinstance(given, str):
            for name, module in self.ours().items():
                if module == _module_of(given) and self.find(name) is given:
                    return name
        return label_of(given)

    def code(self, given: Any) -> str:
        """Return a digest of the code of a user's part; an empty string for one of ours."""
        module = _module_of(self.find(given))
        return "" if _is_ours(module) else plugins.digest_of(module)

    def options(self, given: Any) -> dict[str, inspect.Parameter]:
        """Map the options of a part to its parameters."""
        return options_of(self._function(given), self.reserved)

    def defaults(self, given: Any) -> dict[str, Any]:
        """Map the options of a part that have a default to it."""
        return defaults_of(self._function(given), self.reserved)

    def checked(self, given: Any, options: Mapping[str, Any], label: str = "") -> dict[str, Any]:
        """Check the options of a part, and convert them to the types of its parameters.

        Args:
            given: the part.
            options: their values by name.
            label: begins messages; default: the part's name.

        Raises:
            UserError: an unknown option, or a value that its annotation does not allow.
        """
        function = self._function(given)
        return checked_options(label or label_of(given), function, options, self.reserved)

    def build(self, given: Any, *reserved: Any, **options: Any) -> Any:
        """Call a part with the reserved arguments and its checked options.

        Raises:
            UserError: see `find` and `checked`; or a user's part that cannot be built.
        """
        function, checked = self._function(given), self.checked(given, options)
        try:
            return function(*reserved, **checked)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            if _is_ours(_module_of(function)):
                raise
            raise UserError(
                f"{label_of(given)}: cannot be built ({type(error).__name__}: {error})"
            ) from None

    def _function(self, given: Any) -> Callable[..., Any]:
        part: Any = self.find(given)
        return part if self.function_of is None else self.function_of(part)


def _module_of(part: Any) -> str:
    return str(part.__name__ if inspect.ismodule(part) else getattr(part, "__module__", ""))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "bench"


def label_of(given: Any) -> str:
    """Return the name or dotted path of a part; for an object, that of its class."""
    if isinstance(given, str):
        return given
    if inspect.ismodule(given):
        return given.__name__
    thing = given if hasattr(given, "__qualname__") else type(given)
    return f"{thing.__module__}:{thing.__qualname__}"
