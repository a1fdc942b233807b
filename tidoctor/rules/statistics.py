"""The numbers that tensors hold: extremes, mean, deviation, how many are zero or not finite."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidoctor.checkpoint import Checkpoint
from tidoctor.rules.values import Progress
from tidoctor.tensors import Tensor, nbytes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_READ = 1 << 20  # bytes read at a time; a multiple of every element's size
_PLAIN = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the values of one or several tensors.

    Attributes:
        count: how many there are.
        odd: how many are NaN or infinite; the other figures leave these out.
        zeros: how many are zero.
        least, most: the extremes; 0.0 where no value is finite, as is the rest.
        total, squares: sum and sum of squares.
    """

    count: int
    odd: int
    zeros: int
    least: float
    most: float
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """The mean of the finite values."""
        return self.total / max(self.count - self.odd, 1)

    @property
    def deviation(self) -> float:
        """The standard deviation of the finite values."""
        finite = max(self.count - self.odd, 1)
        return math.sqrt(max(self.squares / finite - self.mean**2, 0.0))

    def __add__(self, other: Statistics) -> Statistics:
        mine, yours = self.count > self.odd, other.count > other.odd
        lows = [s.least for s, there in ((self, mine), (other, yours)) if there]
        highs = [s.most for s, there in ((self, mine), (other, yours)) if there]
        return Statistics(
            self.count + other.count,
            self.odd + other.odd,
            self.zeros + other.zeros,
            min(lows, default=0.0),
            max(highs, default=0.0),
            self.total + other.total,
            self.squares + other.squares,
        )


NOTHING = Statistics(0, 0, 0, 0.0, 0.0, 0.0, 0.0)


def statistics(
    checkpoint: Checkpoint, tensors: Iterable[Tensor], progress: Progress | None = None
) -> dict[str, Statistics | None]:
    """Of each tensor by name; None for types whose values numpy cannot be told to read."""
    chosen = sorted(tensors, key=lambda t: (t.section.file, t.span.begin))
    total, done = nbytes(chosen), 0
    found: dict[str, Statistics | None] = {}
    for tensor in chosen:
        decode = decoder(tensor.dtype)
        if decode is None:
            found[tensor.name] = None
            continue
        sum_ = NOTHING
        for piece in checkpoint.chunks(tensor, _READ):
            sum_ += _of(decode(piece))
            done += len(piece)
            if progress:
                progress("reading values", done, total)
        found[tensor.name] = sum_
    return found


def _of(values: Array) -> Statistics:
    import numpy as np

    wide = values.astype("<f8")
    finite = wide[np.isfinite(wide)] if wide.dtype.kind == "f" else wide
    if not finite.size:
        return Statistics(values.size, values.size, 0, 0.0, 0.0, 0.0, 0.0)
    return Statistics(
        count=values.size,
        odd=values.size - finite.size,
        zeros=int(finite.size - np.count_nonzero(finite)),
        least=float(finite.min()),
        most=float(finite.max()),
        total=float(finite.sum()),
        squares=float(np.dot(finite, finite)),
    )


def decoder(dtype: str) -> Callable[[bytes], Array] | None:
    """How bytes of a type become numbers of numpy; None for types without a way."""
    import numpy as np

    if dtype == "BF16":
        return lambda raw: (_cut(raw, "<u2").astype("<u4") << 16).view("<f4")
    if dtype == "F8_E5M2":  # the upper half of F16
        return lambda raw: (_cut(raw, "<u1").astype("<u2") << 8).view("<f2")
    if dtype in ("F8_E4M3", "F8_E8M0"):
        table = np.asarray(_table(dtype))
        return lambda raw: table[_cut(raw, "<u1")]
    plain = _PLAIN.get(dtype)
    return (lambda raw: _cut(raw, plain)) if plain else None


def _cut(raw: bytes, plain: str) -> Array:
    """The whole elements of some bytes; the last one may be cut off with its file."""
    import numpy as np

    return np.frombuffer(raw, plain, len(raw) // np.dtype(plain).itemsize)


@functools.cache
def _table(dtype: str) -> tuple[float, ...]:
    """The number of each byte."""
    if dtype == "F8_E8M0":  # a power of two
        return (*(2.0 ** (byte - 127) for byte in range(255)), math.nan)
    numbers = []
    for byte in range(256):  # one sign, four bits of exponent, three of mantissa
        exponent, mantissa = byte >> 3 & 15, byte & 7
        size = (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0**-9
        numbers.append(math.nan if byte & 127 == 127 else -size if byte > 127 else size)
    return tuple(numbers)
