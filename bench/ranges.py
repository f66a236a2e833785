"""Ranges of numbers, as types for the values in a benchmark file.

Pydantic checks them (`bench.options.checked_options`); in Python they are plain numbers.
"""

from typing import Annotated

from pydantic import AfterValidator, Field


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("must be an odd number of pixels")
    return size


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Relative = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountFrom0 = Annotated[int, Field(ge=0, le=1_000_000)]
Iterations = Annotated[int, Field(ge=1, le=100_000)]
Odd = Annotated[int, Field(ge=1, le=15), AfterValidator(_odd)]  # side of a patch or filter
# Of a penalty, scaled so that 1 is a natural choice.
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]
