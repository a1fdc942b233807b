"""Proof that a written file is what was planned: its size, its header, and every byte copied."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from tidoctor.assembly import Part, Piece
from tidoctor.checkpoint import WeightFile
from tidoctor.copying import PIECE, Identity, Mover, Origins
from tidoctor.errors import Unreadable, Unwritable
from tidoctor.header import parse
from tidoctor.names import printable
from tidoctor.tensors import Span


def verify(part: Part, path: Path, mover: Mover, origins: Origins) -> None:
    """Compare a written file with what it was made from.

    What was copied or converted has been read back already. A clone or a link is by the system's
    word the bytes that the source has: of a clone the first and the last piece are compared all the
    same, and a link has to be the same file. Raises Unwritable when it is not the same, Unreadable
    when its origin is not what was planned.
    """
    with path.open("rb", buffering=0) as written:
        same = os.fstat(written.fileno()).st_size == part.size
        same = same and _read(written, 0, len(part.head)) == part.head
        at = len(part.head)
        for piece in part.pieces:
            same = same and _arrived(piece, written, at, mover, origins)
            at += piece.size
        if not same:
            raise torn(part)
        if part.weight:
            _verify_header(part.weight, part, written)


def torn(part: Part) -> Unwritable:
    """The exception for a file that holds other bytes than were written."""
    return Unwritable(
        printable(part.name), "was written, but other bytes came back",
        "check the disk; nothing was kept",
    )


def compared(piece: Piece) -> int:
    """How many bytes of a piece are compared."""
    return sum(span.end - span.begin for span in _samples(piece))


def _arrived(piece: Piece, written: FileIO, at: int, mover: Mover, origins: Origins) -> bool:
    if piece.how == "link":
        origin = origins.get(piece.span.source, piece.span.file)
        return Identity.of(os.fstat(written.fileno())) == origin.identity
    shift = at - piece.span.begin
    return not any(mover.differs(span, written, span.begin + shift) for span in _samples(piece))


def _samples(piece: Piece) -> tuple[Span, ...]:
    """The ranges of a piece that are compared."""
    span = piece.span
    if piece.how != "clone":
        return ()
    if piece.size <= 2 * PIECE:
        return (span,)
    return span._replace(end=span.begin + PIECE), span._replace(begin=span.end - PIECE)


def _read(handle: FileIO, begin: int, end: int) -> bytes:
    handle.seek(begin)
    parts = []
    while begin < end and (part := handle.read(end - begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _verify_header(weight: WeightFile, part: Part, written: FileIO) -> None:
    header = parse(lambda begin, end: _read(written, begin, end), part.size)
    if weight.whole and header != weight.header:
        source, name = weight.whole
        raise Unreadable(
            printable(f"{source.name}: {name}"), "changed after it was examined", "try again"
        )
    if header.entries != weight.header.entries or (not weight.whole and header.defects):
        raise Unwritable(printable(part.name), "was written with another header than planned")
