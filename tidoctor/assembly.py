"""What each file of a result is made of, and the cheapest way to get its bytes there.

Every file of the result is some bytes made anew (a header, a text) followed by pieces of existing
files. A file that no operation touches is linked, cloned or copied whole. In a file with a new
header the data keep their offset modulo the block size, by spaces at the end of the header, so that
file systems which share extents need not store them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Literal, NamedTuple

from tidoctor.carrying import Company
from tidoctor.checkpoint import Checkpoint, WeightFile
from tidoctor.errors import Refused
from tidoctor.ground import Ground
from tidoctor.header import serialise
from tidoctor.names import printable
from tidoctor.pieced import Derived, joined
from tidoctor.source import Source
from tidoctor.tensors import Span, Tensor

How = Literal["link", "clone", "copy", "cast"]

LINKED = 1 << 20  # bytes from which a file that holds no weights is linked when links are wanted


class Piece(NamedTuple):
    """A range of an existing file and how it gets into the result.

    `tensor` is the row that it becomes when its numbers are converted.
    """

    span: Span
    how: How
    tensor: Tensor | None = None

    @property
    def size(self) -> int:
        """Length in bytes, in the result."""
        return self.tensor.nbytes if self.tensor else self.span.end - self.span.begin


class Cost(NamedTuple):
    """What writing takes, in bytes.

    `linked` and `cloned` take no room because they are the bytes on the disk that the source has;
    `copied` are moved from existing files; `written` are made anew: headers, texts, and numbers
    that are converted or computed.
    """

    linked: int
    cloned: int
    copied: int
    written: int

    @property
    def total(self) -> int:
        """The size of all files of the result."""
        return self.linked + self.cloned + self.copied + self.written

    @property
    def room(self) -> int:
        """What the disk has to have free."""
        return self.copied + self.written


class Part(NamedTuple):
    """A file of the result: bytes made anew, then pieces of existing files."""

    name: str
    head: bytes
    pieces: tuple[Piece, ...]
    weight: WeightFile | None = None

    @property
    def whole(self) -> Piece | None:
        """The piece that is the whole of an existing file and all of this one."""
        kept = not self.head and (self.weight is None or self.weight.whole is not None)
        return self.pieces[0] if kept and self.pieces else None

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.head) + sum(piece.size for piece in self.pieces)


def assembled(planned: Checkpoint, others: Company, ground: Ground) -> tuple[Part, ...]:
    """The files of the result, weights first. Raises Refused for names that lead out of it.

    Raises Unreadable when a file that bytes come from is gone, has changed or is too short.
    """
    return (
        *(_weight(planned, weight, ground) for weight in planned.weights),
        *(Part(_inner(name), text, ()) for name, text in planned.texts.items()),
        *_carried(planned.source, others, ground),
    )


def cost_of(parts: Iterable[Part]) -> Cost:
    """What writing these files takes."""
    sums: Counter[str] = Counter()
    for part in parts:
        sums["written"] += len(part.head)
        for piece in part.pieces:
            made = piece.how == "cast" or isinstance(piece.span.source, Derived)
            sums["written" if made else piece.how] += piece.size
    return Cost(sums["link"], sums["clone"], sums["copy"], sums["written"])


def _carried(source: Source, others: Company, ground: Ground) -> Iterator[Part]:
    """Everything that stands beside the weights."""
    for name, size in others.files:
        span = Span(source, name, 0, size)
        # People edit small files in place, which would reach through a link into the source.
        yield Part(name, b"", (_whole(span, ground, linked=size >= LINKED),))


def _weight(planned: Checkpoint, weight: WeightFile, ground: Ground) -> Part:
    if weight.whole:
        span = Span(*weight.whole, 0, weight.header.size)
        return Part(_inner(weight.name), b"", (_whole(span, ground, linked=True),), weight)
    rows = planned.rows(weight)
    metadata = {k: v for k, v in (weight.header.metadata or {}).items() if isinstance(v, str)}
    table = [(r.name, r.dtype, r.shape, r.nbytes) for r in rows]
    runs = list(_joined(rows))
    cloning = [p.how != "cast" and ground.clones(p.span.source, p.span.file) for p in runs]
    phase = _phase(runs, cloning, ground.block)
    if phase is None:
        head, entries = serialise(table, metadata)
    else:
        head, entries = serialise(table, metadata, align=ground.block, phase=phase)
    if entries != weight.header.entries:
        raise Refused(printable(weight.name), "the plan's header and its tensors disagree")
    pieces: list[Piece] = []
    at = len(head)
    for piece, able in zip(runs, cloning, strict=True):
        pieces += _split(piece.span, at, ground.block) if able else (piece,)
        at += piece.size
    return Part(_inner(weight.name), head, tuple(pieces), weight)


def _whole(span: Span, ground: Ground, *, linked: bool) -> Piece:
    if linked and ground.links(span.source, span.file):
        return Piece(span, "link")
    return Piece(span, "clone" if ground.clones(span.source, span.file) else "copy")


def _joined(rows: Iterable[Tensor]) -> Iterator[Piece]:
    """The pieces that rows are made of, neighbours as one; what is converted stands by itself."""
    for converted, group in groupby(rows, key=lambda row: bool(row.stored)):
        if converted:
            yield from (Piece(row.span, "cast", row) for row in group if row.nbytes)
        else:
            yield from (Piece(span, "copy") for span in joined(row.span for row in group))


def _phase(runs: Sequence[Piece], cloning: Sequence[bool], block: int) -> int | None:
    """Where in a block the data should start so that most bytes can be cloned; None for anywhere.

    Only a multiple of 8 will do, and only what is larger than the spaces that it costs.
    """
    gain: Counter[int] = Counter()
    at = 0
    for piece, able in zip(runs, cloning, strict=True):
        phase = (piece.span.begin - at) % block
        if able and phase % 8 == 0:
            begin, end = _aligned(piece.span, block)
            gain[phase] += max(end - begin, 0)
        at += piece.size
    phase, gained = max(gain.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
    return phase if gained > block else None


def _aligned(span: Span, block: int) -> tuple[int, int]:
    """The whole blocks within a span."""
    return -(-span.begin // block) * block, span.end // block * block


def _split(span: Span, at: int, block: int) -> Iterator[Piece]:
    """The pieces of a span that goes to byte `at`: its whole blocks cloned if they stay such."""
    begin, end = _aligned(span, block) if (span.begin - at) % block == 0 else (0, 0)
    if begin >= end:
        yield Piece(span, "copy")
        return
    if span.begin < begin:
        yield Piece(span._replace(end=begin), "copy")
    yield Piece(span._replace(begin=begin, end=end), "clone")
    if end < span.end:
        yield Piece(span._replace(begin=end), "copy")


def _inner(name: str) -> str:
    """The name, if it stays inside the folder."""
    path = PurePath(name)
    if not path.parts or path.is_absolute() or path.drive or ".." in path.parts or "\0" in name:
        raise Refused(printable(name), "is not a file name inside the result")
    return name
