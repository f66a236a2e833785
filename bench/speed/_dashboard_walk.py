"""Opens every page of the dashboard, for `bench.speed.dashboard`.

In a process of its own, which imports nothing but the dashboard.
"""

import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TASK = "template-gaussian_noise-0.1"


def walk() -> None:
    """Open the pages of the run in the folder `results`, and print what each took."""
    app = AppTest.from_file(str(APP), default_timeout=600)
    _clock("the first page", app.run)
    _clock("the same page again", app.run)
    from dashboard.app import PAGES

    for name, (title, _) in PAGES.items():
        view = f"views/{name}.py"
        _clock(f"the page *{title}*", lambda view=view: app.switch_page(view).run())  # type: ignore[misc]
    app.switch_page(f"views/{next(iter(PAGES))}.py").run()
    _clock("another task", lambda: app.selectbox(key="task").set_value(TASK).run())
    _clock("another convention", lambda: app.selectbox(key="convention").set_value("roi").run())
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if "VmHWM" in line)
    print(f"peak of memory\t{int(line.split()[1]) / 1e3:.0f} MB")


def _clock(what: str, do: Callable[[], AppTest]) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    app = do()
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    failed = ", failed" if app.exception else ""
    print(f"{what}\t{took:.2f} s, {cpu:.2f} CPU seconds{failed}")


if __name__ == "__main__":
    walk()
