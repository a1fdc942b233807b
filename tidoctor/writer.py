"""A planned checkpoint made true: files, by ranges, all of them or none, and verified.

No tensor is ever loaded: `tidoctor.assembly` says which pieces of existing files each file of the
result is made of, and here the pieces are put together.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from tidoctor.assembly import Cost, Part, Piece, assembled, cost_of
from tidoctor.carrying import Company, company, overlaid
from tidoctor.checkpoint import Checkpoint
from tidoctor.continuing import JOURNAL, Journal
from tidoctor.copying import Mover, Origins
from tidoctor.destination import check_destination, place_of, plain_words, room
from tidoctor.form import PLAIN, Form
from tidoctor.ground import Ground
from tidoctor.handles import put
from tidoctor.names import printable
from tidoctor.pieced import Derived, beneath
from tidoctor.source import Source
from tidoctor.staging import publish, settle, staged
from tidoctor.tensors import Tensor
from tidoctor.verification import compared, torn, verify

Progress = Callable[[Literal["copy", "verify"], int, int], None]
"""Called with what is being done, bytes done and bytes in all."""

log = logging.getLogger("tidoctor")

_TELL = 4 << 20  # bytes between two calls of the progress function


class Fetched(NamedTuple):
    """Bytes [begin, end) of a file that was far away, and the SHA-256 of what was written."""

    source: str
    revision: str | None
    file: str
    begin: int
    end: int
    sha256: str


class Receipt(NamedTuple):
    """What was written: the names in order, weights first, and what it took.

    `verified` counts the tensors that are those of their origin: what was copied was compared byte
    for byte, what was cloned or linked is the origin's own bytes on disk. `made` counts the others,
    whose numbers were converted or merged; what was written of them was read back.
    `left_out` names what was not carried over, each as "name: why", and `overflows` the tensors in
    which converting made numbers infinite, with how many. Of an overlay (`--delta`), `steps` say
    what else has to happen where it is laid over the source.
    """

    dest: Path
    files: tuple[str, ...]
    cost: Cost
    verified: int
    made: int
    left_out: tuple[str, ...]
    overflows: Mapping[str, int]
    steps: tuple[str, ...] = ()
    fetched: tuple[Fetched, ...] = ()


def cost(planned: Checkpoint, dest: Path, form: Form = PLAIN) -> Cost:
    """What writing the checkpoint at `dest` takes. Nothing is written.

    Raises Unreadable when a file that bytes come from cannot be opened.
    """
    with Origins() as origins:
        ground = Ground(place_of(dest).parent, origins, form.link)
        return cost_of(_parts(planned, company(planned), ground, form))


def write(
    planned: Checkpoint,
    dest: Path,
    form: Form = PLAIN,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Receipt:
    """Write a planned checkpoint as the new folder `dest` and verify it.

    Either the complete folder stands at `dest` afterwards, or what stood there before and nothing
    else. With `force` an existing folder is replaced, in one step where the system can.
    Raises Usage, Unwritable, or Unreadable when an origin cannot be read or changes meanwhile.
    """
    for source in _sources(planned):
        check_destination(source, dest, force=force)
    place = place_of(dest)
    others = company(planned)
    with Origins() as origins, plain_words(dest, place), staged(place, JOURNAL) as stage:
        folder = stage.folder
        with closing(Journal(folder)) as journal:
            ground = Ground(folder, origins, form.link, scratch=True)
            parts = _parts(planned, others, ground, form)
            with room(dest, place, cost_of(parts), journal.held), journal.lasting(stage, parts):
                if journal.kept:
                    log.warning("%s: goes on where an earlier run stopped", printable(str(dest)))
                for name in () if form.delta else others.folders:
                    (folder / name).mkdir(parents=True, exist_ok=True)
                meter = _meter("copy", parts, progress)
                mover = Mover(origins, meter, share=form.link != "never")
                overflows: dict[str, int] = {}
                parts = tuple(
                    _write(part, folder / part.name, mover, overflows, journal) for part in parts
                )
                mover.moved = _meter("verify", parts, progress)
                for part in parts:
                    verify(part, folder / part.name, mover, origins)
                origins.confirm()
                settle(folder)
            journal.end()
        publish(stage, place, force=force)
    made = sum(_is_made(row) for w in planned.weights if not w.whole for row in planned.rows(w))
    return Receipt(
        dest=dest,
        files=tuple(part.name for part in parts),
        cost=cost_of(parts),
        verified=sum(len(weight.header.names) for weight in planned.weights) - made,
        made=made,
        left_out=() if form.delta else others.left_out,
        overflows=overflows,
        steps=overlaid(planned) if form.delta else (),
        fetched=tuple(
            Fetched(s.source.name, s.source.revision, s.file, s.begin, s.end, sha256)
            for s, sha256 in mover.fetched.items()
        ),
    )


def _is_made(row: Tensor) -> bool:
    source = row.section.source
    return bool(row.stored) or (isinstance(source, Derived) and source.computed)


def _parts(
    planned: Checkpoint, others: Company, ground: Ground, form: Form
) -> tuple[Part, ...]:
    """The files to write: all of the result, or those that the source does not have."""
    parts = assembled(planned, others, ground)
    return tuple(part for part in parts if part.whole is None) if form.delta else parts


def _sources(planned: Checkpoint) -> list[Source]:
    """The source and every donor."""
    places = {id(planned.source): planned.source}
    for weight in planned.weights:
        if not weight.whole:
            spans = beneath(row.span for row in planned.rows(weight))
            places |= {id(span.source): span.source for span in spans}
    return list(places.values())


def _meter(
    what: Literal["copy", "verify"], parts: tuple[Part, ...], progress: Progress | None
) -> Callable[[int], None]:
    """A function that counts bytes, and tells after every few millions of them and at the end."""
    pieces = [piece for part in parts for piece in part.pieces]
    total = sum(piece.size if what == "copy" else compared(piece) for piece in pieces)
    done = told = 0

    def count(n: int) -> None:
        nonlocal done, told
        done += n
        if progress and (done - told >= _TELL or told < done == total):
            told = done
            progress(what, done, total)

    return count


def _write(
    part: Part, path: Path, mover: Mover, overflows: dict[str, int], journal: Journal
) -> Part:
    """Write one file; the part as it really came about, and the tensors that overflow noted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = part.whole
    if whole and whole.how == "link":
        if mover.link(whole.span, path):
            return part
        part = part._replace(pieces=(whole._replace(how="copy"),))
    over = journal.continues(part)
    flags = os.O_RDWR | (getattr(os, "O_NOFOLLOW", 0) if over else os.O_CREAT | os.O_EXCL)
    flags |= getattr(os, "O_BINARY", 0)
    target = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        put(target, part.head)
        at = len(part.head)
        done: list[Piece] = []
        for number, piece in enumerate(part.pieces):
            same, how = True, piece.how
            if piece.tensor:
                same, lost = mover.cast(piece.tensor, target, at)
                overflows |= {piece.tensor.name: lost} if lost else {}
            elif how != "clone" or not mover.clone(piece.span, target, at):
                marks = journal.marks(part, number)
                same, how = mover.copy(piece.span, target, at, marks, over=over), "copy"
            if not same:
                raise torn(part)
            done.append(piece._replace(how=how))
            at += piece.size
        os.ftruncate(target, part.size)  # holes at the end
        os.fsync(target)
    finally:
        os.close(target)
    return part._replace(pieces=tuple(done))
