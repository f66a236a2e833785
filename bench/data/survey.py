"""Work through many files in parallel, each failure a word about its file."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from rich.console import Console
from rich.progress import track

from bench.data.volume import NoImage, Unusable
from bench.errors import UserError

MOST_AT_ONCE = 16  # items of a worker's turn
MANY = 1000  # items from which processes read them

Entry = TypeVar("Entry")
Result = TypeVar("Result")


def survey(
    items: Sequence[Entry], work: Callable[[Entry], Result], doing: str = "reading files"
) -> Iterator[tuple[Entry, Result | NoImage | str]]:
    """Work through items in parallel, in order; a string says why an item is unusable.

    Args:
        items: what to work on.
        work: a function that another process can find by its name, or a `partial` of one.
        doing: what the progress bar says.
    """
    # Several at a time, or those at work wait for one another more than they work.
    workers = os.cpu_count() or 1
    size = max(1, min(MOST_AT_ONCE, len(items) // (4 * workers)))
    chunks = [items[k : k + size] for k in range(0, len(items), size)]
    # Processes share no lock as threads do, but take a second to begin.
    backend = "loky" if len(items) >= MANY else "threading"
    pool = Parallel(n_jobs=workers, backend=backend, return_as="generator")
    console = Console(stderr=True)
    done = track(
        pool(delayed(_several)(work, chunk) for chunk in chunks), doing, total=len(chunks),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    for chunk, results in zip(chunks, done, strict=True):
        yield from zip(chunk, results, strict=True)
    if backend == "loky":  # its processes would stay for minutes, beside the trials of a sweep
        get_reusable_executor().shutdown()


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
    except Exception as error:  # decoders raise whatever a broken file provokes
        return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
