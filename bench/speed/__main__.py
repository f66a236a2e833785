"""Measure the parts named on the command line, or all, and write a page of docs/ for each."""

import sys
from pathlib import Path

from bench import plugins, speed
from bench.errors import UserError, unknown

if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:  # it has options of its own
        from bench.speed import gpu

        try:
            gpu.main(sys.argv[2:])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        sys.exit()
    known = [name for name in plugins.modules(speed) if name != "__main__"]
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"error: {unknown('part', name, known)}")
        try:
            page = plugins.load_module(f"bench.speed.{name}").page()
        except UserError as error:  # something is missing on this machine
            print(f"left out: {error}")
            continue
        print(page)
        Path(f"docs/speed_{name}.md").write_text(page, encoding="utf-8")
