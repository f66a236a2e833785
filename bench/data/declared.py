"""Sizes that files declare, compared with what they can hold before memory is allocated."""

import os

from bench.data.volume import Unusable

HARMLESS = 1 << 28  # bytes that any machine can allocate
DEFLATE = 1032  # largest compression ratio of gzip, zip and PNG
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(shape: tuple[int, ...], item: int, held: int | None, packed: bool = True) -> None:
    """Refuse an array that is too large for its file, or for this machine's memory.

    Args:
        shape: as the file declares it.
        item: bytes of one value.
        held: bytes of the file, or of this array in the file; None if unknown.
        packed: whether the array may be compressed.

    Raises:
        Unusable: too large; the message states both sizes.
    """
    declared = item
    for length in shape:
        declared *= max(int(length), 0)  # not NumPy's product, which would wrap around
    if declared <= HARMLESS:
        return
    if held is not None and declared > held * (DEFLATE if packed else 1):
        raise Unusable(
            f"declares {declared:,} bytes of values, which its {held:,} bytes cannot hold; it is "
            "damaged or truncated"
        )
    if declared > MEMORY:
        raise Unusable(f"declares {declared:,} bytes of values, more than this machine's memory")
