"""The contracts of parts: `reconbench check` checks a user's part, and the tests check ours."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from bench import methods, metrics, physics, plugins
from bench.contracts.base import Outcome, outcomes
from bench.contracts.degradation import Degradation
from bench.contracts.loss import Loss
from bench.contracts.method import Method
from bench.contracts.metric import Metric
from bench.contracts.reader import Reader
from bench.data import sources
from bench.errors import UserError, unknown
from bench.methods import losses
from bench.registry import Registry, label_of

__all__ = ["KINDS", "Outcome", "check", "kinds_of", "on_gpu", "ours"]

KINDS: dict[str, Registry] = {
    registry.word: registry
    for registry in (
        methods.METHODS,
        physics.DEGRADATIONS,
        sources.READERS,
        losses.LOSSES,
        metrics.METRICS,
    )
}


def check(given: Any, kind: str | None = None, file: Path | None = None) -> Iterator[Outcome]:
    """Check whether a part fulfils the contract of its kind.

    Args:
        given: a name, a dotted path, or the part itself.
        kind: one of `KINDS`; default: the kind that the part looks like; for a name, all kinds
            that have it.
        file: the file on which to try a reader.

    Raises:
        UserError: there is no such part, or it belongs to no kind.
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind of part", kind, KINDS)
    for one in [kind] if kind else kinds_of(given):
        label = label_of(given)
        yield from outcomes(f"{one} {label}", _contract(one, given, file).checks())


def on_gpu(kind: str, given: Any) -> Outcome | None:
    """Check only that a part gives on a GPU what it gives on the CPU; None for a reader.

    Args:
        kind: one of `KINDS`.
        given: a name, a dotted path, or the part itself.
    """
    first, *others = _contract(kind, given, None).checks()
    chosen = [first, *(one for one in others if one[1].__name__ == "on_gpu")]
    found = list(outcomes(f"{kind} {label_of(given)}", chosen))
    return found[-1] if len(chosen) > 1 else None


def _contract(kind: str, given: Any, file: Path | None) -> Any:
    if kind == "reader":
        return Reader(given, file)
    kinds = {"method": Method, "degradation": Degradation, "loss": Loss, "metric": Metric}
    return kinds[kind](given)


def ours() -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of each part of ours."""
    for kind, registry in KINDS.items():
        for name in registry.ours():
            yield kind, name


def kinds_of(given: Any) -> list[str]:
    """Determine the kinds of a part: those that have its name, or the one that it looks like.

    Raises:
        UserError: no kind has the name, or the path cannot be imported.
    """
    if isinstance(given, str) and not sources.READERS.is_path(given):
        found = [kind for kind, registry in KINDS.items() if given in registry.names()]
        if not found:
            names = {name for registry in KINDS.values() for name in registry.names()}
            raise unknown("part", given, names)
        return found
    return [_looks_like(_imported(given) if isinstance(given, str) else given, label_of(given))]


def _imported(path: str) -> Any:
    return plugins.from_path(path if ":" in path else ":".join(path.rsplit(".", 1)))


def _looks_like(part: Any, label: str) -> str:
    for kind in ("degradation", "metric", "reader"):
        try:
            KINDS[kind].find(part)
        except UserError:
            continue
        return kind
    function = part.forward if _is_network(part) else part
    if not callable(function):
        raise UserError(f"{label}: is not a part of any kind")
    parameters = inspect.signature(function).parameters
    if [*parameters][-2:] == ["x_hat", "x"]:
        return "loss"
    # A function with two required parameters compares images; any other builds a method.
    needed = [one for one in parameters.values() if one.default is inspect.Parameter.empty]
    return "loss" if inspect.isfunction(part) and len(needed) == 2 else "method"


def _is_network(part: Any) -> bool:
    return isinstance(part, nn.Module) or (inspect.isclass(part) and issubclass(part, nn.Module))
