"""A row whose bytes are computed: a weight with its LoRA adapter merged into it.

W + s·B·A of W [out, in], A [rank, in] and B [out, rank] (Hu et al., 2021, LoRA, section 4.1) is
computed in F32, or F64 if W is, and rounded once to the dtype of W.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tidoctor.casting import WIDTHS, cast
from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.pieced import Derived
from tidoctor.tensors import Span, Tensor

_FILE = "merged"
_BLOCK = 4 << 20  # bytes of rows computed at once; always the same rows, so that sums are the same


class Merged(Derived):
    """A source of one file: the merged weight."""

    computed = True

    def __init__(self, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
        """Make the weight [out, in] of itself, A [rank, in] and B [out, rank].

        Raises ValueError when the shapes do not go together, or a dtype is not one of
        `casting.WIDTHS`.
        """
        if any(t.dtype not in WIDTHS or t.stored or len(t.shape) != 2 for t in (weight, a, b)):
            raise ValueError("only matrices of floating-point numbers can be merged")
        if (b.shape[0], a.shape[1]) != weight.shape or a.shape[0] != b.shape[1]:
            raise ValueError("the shapes of the adapter do not fit the weight")
        super().__init__(_FILE, weight.nbytes, (weight.span, a.span, b.span))
        self._weight, self._a, self._b, self._scale = weight, a, b, scale
        row = weight.nbytes // max(weight.shape[0], 1)
        self._step = max(_BLOCK // max(row, 1), 1) * row  # bytes

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of the merged weight.

        Raises Unreadable when numbers that were finite would not be so any more.
        """
        end = min(end, self._weight.nbytes)
        parts = []
        while begin < end:
            number = begin // self._step
            block, first = _computed(self, number), number * self._step
            parts.append(block[begin - first : end - first])
            begin = first + len(block)
        data = b"".join(parts)
        self.bytes_read += len(data)
        return data

    def block(self, number: int) -> bytes:
        """The rows of one block, computed."""
        import numpy as np

        weight = self._weight
        wide = "F64" if weight.dtype == "F64" else "F32"
        begin = number * self._step
        end = min(begin + self._step, weight.nbytes)
        row = weight.nbytes // weight.shape[0]
        source, file, start, _ = weight.span
        before = _numbers(np, source.read(file, start + begin, start + end), weight.dtype, wide)
        a, b = (_matrix(np, t, wide) for t in (self._a, self._b))
        with np.errstate(over="ignore", invalid="ignore"):
            change = b[begin // row : end // row] @ a * before.dtype.type(self._scale)
            after = before.reshape(change.shape) + change
        merged, infinite = cast(after.tobytes(), wide, weight.dtype)
        if infinite or not (np.isfinite(after) | ~np.isfinite(before.reshape(change.shape))).all():
            raise Unreadable(
                printable(weight.name), "would get infinite numbers from its adapter",
                "look at the adapter's values and alpha",
            )
        return merged


@lru_cache(maxsize=2)  # pieces of one block are asked for in turn
def _computed(source: Merged, number: int) -> bytes:
    return source.block(number)


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Span:
    """The bytes of a weight with its adapter merged; see `Merged`."""
    source = Merged(weight, a, b, scale)
    return Span(source, _FILE, 0, weight.nbytes)


def _matrix(np: Any, tensor: Tensor, wide: str) -> Any:
    source, file, begin, end = tensor.span
    data = source.read(file, begin, end)
    return _numbers(np, data, tensor.dtype, wide).reshape(tensor.shape)


def _numbers(np: Any, data: bytes, stored: str, wide: str) -> Any:
    return np.frombuffer(cast(data, stored, wide)[0], f"<f{WIDTHS[wide]}")
