"""Keeps what Tune runs at hand."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ray import tune
from ray.tune import registry


@contextlib.contextmanager
def registered(name: str, trainable: Any) -> Iterator[str]:
    """Register a trainable under a name, for the length of a sweep.

    Tune fetches it from the head of the cluster and unpickles it several times for each trial: a
    quarter of what a trial costs the driver.

    Yields:
        the name.
    """
    tune.register_trainable(name, trainable)
    known = registry._global_registry
    key = (registry.TRAINABLE_CLASS, name)
    mine, get, contains = known.get(*key), known.get, known.contains
    vars(known).update(
        get=lambda *asked: mine if asked == key else get(*asked),
        contains=lambda *asked: asked == key or contains(*asked),
    )
    try:
        yield name
    finally:
        del known.get, known.contains
