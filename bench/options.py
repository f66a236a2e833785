"""Options of a part: parameters of its class or function, and whether values fit their types."""

import contextlib
import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from bench.errors import UserError, unknown


def options_of(target: Any, reserved: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
    """Map the named parameters of a callable, without `self` and the reserved ones."""
    function = target.__init__ if inspect.isclass(target) else target
    if function is object.__init__:  # the signature of what is in C takes long to read
        return {}
    skip = {"self", *reserved}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):  # some functions in C have no signature
        raise UserError(f"{target}: has no signature; wrap it in a function") from None
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in skip and parameter.kind in kinds
    }


def defaults_of(target: Any, reserved: Iterable[str] = ()) -> dict[str, Any]:
    """Map the named parameters of a callable to their defaults, where they have one."""
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
    types = types_of(target)
    return {
        name: value
        if name not in types or value is known[name].default
        else _checked(f"{what}.{name}", types[name], value)
        for name, value in given.items()
    }


def _checked(where: str, wanted: TypeAdapter, value: Any) -> Any:
    try:
        # Otherwise `true` would count as the number 1.
        return wanted.validate_python(value, strict=True if isinstance(value, bool) else None)
    except ValidationError as error:
        raise UserError(f"{where}: {explained(error)} (given: {shortened(value)})") from None


def explained(error: ValidationError) -> str:
    """Return pydantic's first error message in one line."""
    return " ".join(error.errors()[0]["msg"].removeprefix("Value error, ").split())


def shortened(value: Any) -> str:
    """Show a value in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def types_of(target: Any) -> dict[str, TypeAdapter]:
    """Map the parameters of a class or function to the adapters that check their values."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations imported for type checkers only
        return {}
    found = {}
    for name, hint in hints.items():
        with contextlib.suppress(PydanticUserError):
            found[name] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    return found
