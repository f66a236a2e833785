"""`import reconbench`, as in `pip install reconbench`: the same modules as `import bench`.

Here the packages of this distribution are found by where they are, so that another `bench`,
`dashboard` or `search_spaces` on the user's path does not hide them.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import *  # noqa: F403

OWN = ("bench", "dashboard", "search_spaces")
HERE = Path(__file__).resolve().parent
# Of a checkout, else of an installed wheel.
ROOT = HERE.parents[2] if HERE.parent.name == "alias" else HERE.parent


class _Finder(MetaPathFinder, Loader):
    """Finds our packages by their folder, and `reconbench.x` as `bench.x`."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname in OWN:
            folder = ROOT / fullname
            return spec_from_file_location(
                fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
        if fullname.startswith("reconbench.") and fullname != "reconbench.__main__":
            return spec_from_loader(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> Any:
        module = import_module(f"bench.{spec.name.partition('.')[2]}")
        self.specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: Any) -> None:
        # The import system has set the alias's.
        module.__spec__ = self.specs.pop(module.__spec__.name)


def main() -> None:
    """Entry point of the command `reconbench`."""
    import_module("bench.cli").main()


sys.meta_path.insert(0, _Finder())
_bench = import_module("bench")
if "open_run" not in getattr(_bench, "__all__", ()):
    raise ImportError(
        f"another module called bench was imported before ({getattr(_bench, '__file__', '')}); "
        "import reconbench first, or rename that one"
    )
__version__ = _bench.__version__
__all__ = _bench.__all__


def __getattr__(name: str) -> Any:
    return getattr(_bench, name)


def __dir__() -> list[str]:
    return dir(_bench)
