"""Process many files in parallel; each failure becomes a message about its file."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from bench.data.volume import NoImage, Unusable
from bench.errors import UserError

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

MOST_AT_ONCE = 16  # items that a worker takes at a time
MANY = 1000  # items from which processes read them
IDLE_SECONDS = 60  # after which a process ends by itself
# With as many processes as CPUs, each needs no threads.
ALONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Entry = TypeVar("Entry")
Result = TypeVar("Result")


@contextmanager
def workers_for(count: int, prepare: Callable[[], object]) -> Iterator[None]:
    """Start the processes of `survey` early, and end them with the block.

    They take a second or two to start, during which other work can be done.

    Args:
        count: how many items there may be; few need no processes.
        prepare: called once in each process, to import what its work needs.
    """
    if count < MANY:
        yield
        return
    pool = _processes()
    for _ in range(_workers()):
        pool.submit(_called, prepare)
    ended = False
    try:
        yield
        ended = True
    finally:  # otherwise they would run on for a while, during the trials of a sweep
        pool.shutdown(kill_workers=not ended)


def survey(
    items: Sequence[Entry], work: Callable[[Entry], Result], doing: str = "reading files"
) -> Iterator[tuple[Entry, Result | NoImage | str]]:
    """Process items in parallel, in order; a string says why an item is unusable.

    Args:
        items: what to work on.
        work: a function that another process can find by its name, or a `partial` of one.
        doing: what the progress bar says.
    """
    from rich.console import Console  # late, as joblib: training alone reads no files
    from rich.progress import track

    # Several items at a time, or workers would mostly wait for one another.
    size = max(1, min(MOST_AT_ONCE, len(items) // (4 * _workers())))
    chunks = [items[k : k + size] for k in range(0, len(items), size)]
    with _pool(len(items)) as pool:
        console = Console(stderr=True)
        done = track(
            pool.map(partial(_several, work), chunks), doing, total=len(chunks),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        for chunk, results in zip(chunks, done, strict=True):
            yield from zip(chunk, results, strict=True)


def _called(prepare: Callable[[], object]) -> None:
    prepare()


def _workers() -> int:
    return os.cpu_count() or 1


def _processes() -> "ProcessPoolExecutor":
    from joblib.externals.loky import get_reusable_executor

    return get_reusable_executor(max_workers=_workers(), timeout=IDLE_SECONDS, env=ALONE)


@contextmanager
def _pool(count: int) -> Iterator[Executor]:
    """Open threads, or, for many items, processes, which do not share a lock."""
    if count >= MANY:
        yield _processes()
        return
    threads = ThreadPoolExecutor(_workers())
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _several(
    work: Callable[[Entry], Result], chunk: Sequence[Entry]
) -> list[Result | NoImage | str]:
    return [_attempt(work, item) for item in chunk]


def _attempt(work: Callable[[Entry], Result], item: Entry) -> Result | NoImage | str:
    try:
        return work(item)
    except NoImage as reason:
        return reason
    except Unusable as reason:
        return str(reason)
    except UserError:
        raise
    except Exception as error:  # decoders raise any exception on a broken file
        return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
