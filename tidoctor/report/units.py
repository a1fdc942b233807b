"""Numbers for people: decimal sizes as on the Hub, counts, shapes. Machines get the integers."""

from __future__ import annotations

from collections.abc import Sequence

_BYTES = ("kB", "MB", "GB", "TB", "PB", "EB")
_COUNTS = ("k", "M", "B", "T")
_FINE = {"GB", "TB", "PB", "EB", "B", "T"}  # where a tenth of a unit is too coarse to compare


def size(nbytes: int) -> str:
    """A number of bytes as `65.5 kB`, `525.3 MB` or `2.47 GB`: powers of 1000."""
    if abs(nbytes) < 1000:
        return plural(nbytes, "byte")
    return _scaled(nbytes, _BYTES)


def count(n: int) -> str:
    """A number of elements as `1.24 B`, `124.4 M` or, below ten thousand, in full."""
    return str(n) if abs(n) < 10_000 else _scaled(n, _COUNTS)


def plural(n: int, word: str) -> str:
    """`1 file`, `4 files`."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def shape(dims: Sequence[int]) -> str:
    """Dimensions with a sign of multiplication between; without any, `scalar`."""
    return " × ".join(map(str, dims)) if dims else "scalar"


def _scaled(n: int, units: Sequence[str]) -> str:
    for step, unit in enumerate(units, 1):
        # Whole numbers only: what a hostile shape multiplies to may not fit a float.
        digits = 2 if unit in _FINE else 1
        scale = 1000**step
        rounded = (2 * n * 10**digits + scale) // (2 * scale)
        if abs(rounded) < 1000 * 10**digits:
            whole, rest = divmod(rounded, 10**digits)
            return f"{whole}.{rest:0{digits}d} {unit}"
    return f"over 1000 {units[-1]}"
