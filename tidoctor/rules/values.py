"""What the bytes of tensors hold: one pass over all values, and three pages of a file.

numpy has no type for bfloat16 or the 8-bit floats, and needs none: whether a number is finite, zero
or equal to others shows in its bits. Two maxima tell all of a piece, of its bits as signed and as
unsigned integers: a pattern with an exponent of ones is NaN or infinite, with the sign or without,
and where the largest is zero, all are. A piece fits the cache of the processor, so that the pass
goes nearly as fast as the file is read.

Formats: IEEE 754 for F64, F32 and F16; bfloat16; OCP 8-bit (E4M3, E5M2) and microscaling formats
(E8M0; E2M1 and E3M2 have neither NaN nor infinity); the FNUZ forms of AMD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from tidoctor.buffers import aligned
from tidoctor.checkpoint import Checkpoint, Reader, WeightFile
from tidoctor.tensors import Span, Tensor, nbytes

if TYPE_CHECKING:
    import numpy as np

Progress = Callable[[str, int, int], None]
"""Called with what is being done, bytes done and bytes in all."""

_PIECE = 1 << 20  # bytes looked at in one go; a multiple of every element's size
_READ = 1 << 24  # bytes read at a time from far away
PAGE = 4096
_EMPTY = bytes(PAGE)


class _Bits(NamedTuple):
    """How a float type says NaN or infinity.

    Of `size` bytes, apart from the sign, every pattern from `limit` on is NaN or infinite.
    """

    size: int
    limit: int
    signed: bool = True
    infinite: bool = True  # whether the pattern `limit` is infinity, and not NaN

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (8 * self.size - 1) if self.signed else 0


_FLOATS: Mapping[str, _Bits] = {
    "F64": _Bits(8, 0x7FF0000000000000),
    "F32": _Bits(4, 0x7F800000),
    "F16": _Bits(2, 0x7C00),
    "BF16": _Bits(2, 0x7F80),
    "F8_E5M2": _Bits(1, 0x7C),
    "F8_E4M3": _Bits(1, 0x7F, infinite=False),
    "F8_E8M0": _Bits(1, 0xFF, signed=False, infinite=False),
    "C64": _Bits(4, 0x7F800000),
}
_FNUZ = frozenset({"F8_E4M3FNUZ", "F8_E5M2FNUZ"})  # the only NaN is the pattern of minus zero


class Values(NamedTuple):
    """What a tensor holds.

    Attributes:
        odd: how many values are NaN or infinite; 0 for types that have neither.
        nan: how many of those are NaN.
        zero: whether there are values and all of them are zero.
        constant: whether there are several values and all are the same number.
        read: how many of its bytes are there.
    """

    odd: int
    nan: int
    zero: bool
    constant: bool
    read: int


def survey(checkpoint: Checkpoint, progress: Progress | None = None) -> dict[str, Values]:
    """What every tensor that counts holds, in one pass over the files, each from its start on.

    In a folder two threads take one tensor after the other; far away, one does.
    """
    tensors = sorted(checkpoint.tensors.values(), key=lambda t: (t.section.file, t.span.begin))
    total = nbytes(tensors)
    done = 0
    found = {}
    here = hasattr(checkpoint.source, "pieces")
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(2 if here else 1, "values")
    try:
        seen = pool.map(partial(_look, checkpoint, _PIECE if here else _READ), tensors)
        for tensor, values in zip(tensors, seen, strict=True):
            found[tensor.name] = values
            done += tensor.nbytes
            if progress:
                progress("reading values", done, total)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted reader does not wait for the rest
    return found


def _look(checkpoint: Checkpoint, size: int, tensor: Tensor) -> Values:
    looking = _Looking(tensor.dtype)
    buffer = aligned(min(size, max(tensor.nbytes, 1)))
    for piece in checkpoint.pieces(tensor, buffer):
        looking.at(piece)
    return looking.told()


class _Looking:
    """The state of looking at one tensor, piece by piece."""

    def __init__(self, dtype: str) -> None:
        import numpy as np

        self._np = np
        self._fnuz = dtype in _FNUZ
        self._bits = _FLOATS.get(dtype)
        size = self._bits.size if self._bits else 1
        self._unsigned = np.dtype(f"<u{size}")
        self._signed = np.dtype(f"<i{size}")
        self._nan = 0
        self._infinite = 0
        self._read = 0
        self._zero = True
        self._constant = True
        self._first: object = None

    def at(self, piece: bytes | memoryview) -> None:
        """Look at the next bytes of the tensor."""
        count = len(piece) // self._unsigned.itemsize
        values = self._np.frombuffer(piece, self._unsigned, count)
        step = _PIECE // self._unsigned.itemsize
        for begin in range(0, count, step):
            self._part(values[begin : begin + step])
        self._read += len(piece)

    def _part(self, part: np.ndarray[Any, Any]) -> None:
        if self._first is None:
            self._first = part[0]
        if self._constant and (part[-1] != self._first or (part != self._first).any()):
            self._constant = False
        bits = self._bits
        if bits is None:
            self._zero = self._zero and not part.any()
            if self._fnuz:
                self._nan += int(self._np.count_nonzero(part == 0x80))
            return
        largest = int(part.max())
        most = int(part.view(self._signed).max()) if bits.signed else largest
        self._zero = self._zero and most <= 0 and largest in (0, bits.sign)
        if most >= bits.limit or (bits.signed and largest >= bits.sign | bits.limit):
            bare = part & self._unsigned.type(~bits.sign & (1 << 8 * bits.size) - 1)
            infinite = int(self._np.count_nonzero(bare == self._unsigned.type(bits.limit)))
            beyond = int(self._np.count_nonzero(bare > self._unsigned.type(bits.limit)))
            self._nan += beyond if bits.infinite else infinite + beyond
            self._infinite += infinite if bits.infinite else 0

    def told(self) -> Values:
        """What was seen."""
        many = self._read > self._unsigned.itemsize
        return Values(
            odd=self._nan + self._infinite,
            nan=self._nan,
            zero=self._zero and self._read > 0,
            constant=self._constant and many,
            read=self._read,
        )


# --- zeros without reading everything ------------------------------------------------------------


def pages(size: int) -> Iterator[tuple[int, int]]:
    """The first, the middle and the last page of so many bytes, the last first."""
    middle = size // 2
    for begin in dict.fromkeys((max(size - PAGE, 0), max(middle - PAGE // 2, 0), 0)):
        yield begin, min(begin + PAGE, size)


def _looks_zero(read: Reader, tensor: Tensor) -> bool:
    """Whether its first, middle and last page hold nothing but zeros, as far as they are there."""
    seen = False
    for begin, end in pages(tensor.nbytes):
        page = read(tensor, begin, end)
        if page != _EMPTY[: len(page)]:
            return False
        seen = seen or bool(page)
    return seen


def suspects(checkpoint: Checkpoint, weight: WeightFile) -> list[Tensor]:
    """The tensors of a file that look zero, looked for only where three pages of the file are.

    From a page of zeros on, the neighbours on both sides are looked at until one has values.
    """
    if not weight.header.names or not (bare := _bare_pages(_data(checkpoint, weight))):
        return []
    placed = [(end, row) for end, row in _placed(checkpoint, weight) if row.nbytes]
    if not placed:
        return []
    ends, rows = zip(*placed, strict=True)
    found: dict[int, Tensor] = {}
    with checkpoint.reading(rows[0].span) as read:
        for begin in bare:
            here = next((i for i, end in enumerate(ends) if end > begin), len(rows) - 1)
            for side in (range(here, -1, -1), range(here + 1, len(rows))):
                for i in side:
                    if i in found:
                        continue
                    if not _looks_zero(read, rows[i]):
                        break
                    found[i] = rows[i]
    return [found[i] for i in sorted(found)]


def _placed(checkpoint: Checkpoint, weight: WeightFile) -> Iterable[tuple[int, Tensor]]:
    """The rows of a file in the order of `_data`, and where in it each of them ends.

    What was just written counts the bytes of its rows from where they were taken (`repairs`).
    """
    rows = checkpoint.rows(weight)
    if weight.whole:
        ends = map(weight.header.data_start.__add__, weight.header.columns.ends)
        return zip(ends, rows, strict=True)
    return sorted(((r.span.end, r) for r in rows), key=lambda place: place[1].span.begin)


def _data(checkpoint: Checkpoint, weight: WeightFile) -> Span:
    """All bytes of the tensors of a file, as far as they are there."""
    if weight.whole:
        start, ends = weight.header.data_start, weight.header.columns.ends
        return Span(*weight.whole, start, min(start + max(ends), weight.header.size))
    spans = sorted((r.span for r in checkpoint.rows(weight)), key=attrgetter("begin"))
    return spans[0]._replace(end=min(spans[-1].end, weight.header.size))


def _bare_pages(data: Span) -> list[int]:
    """Where those of three pages begin that hold nothing but zeros."""
    first, last = data.begin, data.end
    with data.opened() as read:
        return [
            first + begin
            for begin, end in pages(max(last - first, 0))
            if not read(first + begin, first + end).strip(b"\0")
        ]


# --- equal tensors -------------------------------------------------------------------------------


def equal(checkpoint: Checkpoint, tensors: Iterable[Tensor]) -> list[list[str]]:
    """Groups of tensors with equal dtype, shape and bytes.

    Only those that agree in three pages are read to the end, and then compared byte for byte.
    """
    alike: dict[tuple[object, ...], list[Tensor]] = {}
    by_shape: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}
    for tensor in tensors:
        by_shape.setdefault((tensor.dtype, tensor.shape), []).append(tensor)
    for shape, members in by_shape.items():
        for tensor in members if len(members) > 1 else ():
            seen = tuple(checkpoint.read(tensor, b, e) for b, e in pages(tensor.nbytes))
            alike.setdefault((shape, hash(seen)), []).append(tensor)
    groups = []
    for members in alike.values():
        while len(members) > 1:
            first, rest = members[0], members[1:]
            same = [t for t in rest if checkpoint.same_bytes(first, t)]
            if same:
                groups.append([first.name, *(t.name for t in same)])
            members = [t for t in rest if t not in same]
    return groups
