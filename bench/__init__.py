"""ReconBench: which reconstruction method, at my degradation level, with my number of images?

The names below are its Python interface. Each is imported when it is first used, and only `run`
imports Ray. `import reconbench` is the same as `import bench`.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import methods, physics
    from bench.api import Task, evaluate, fit, load, run, task
    from bench.gallery import show
    from bench.model import Model, load_model
    from bench.opened import Run, open_run

_EXPORTS = {
    "bench.api": ("Task", "evaluate", "fit", "load", "run", "task"),
    "bench.gallery": ("show",),
    "bench.model": ("Model", "load_model"),
    "bench.opened": ("Run", "open_run"),
}
__all__ = [
    "Model", "Run", "Task", "evaluate", "fit", "load", "load_model", "methods", "open_run",
    "physics", "run", "show", "task",
]  # fmt: skip

try:
    __version__ = version("reconbench")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in ("methods", "physics"):
        return import_module(f"bench.{name}")
    for module, exported in _EXPORTS.items():
        if name in exported:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
