"""A planned checkpoint made true: files, by ranges, all of them or none, and verified.

Every file of the result is some bytes made anew (a header, a text) followed by spans of existing
files. So a file that no operation touches is one span, and no tensor is ever loaded.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePath
from typing import Literal

from tidoctor.carrying import Company, company, reasons
from tidoctor.checkpoint import Checkpoint, Span, WeightFile
from tidoctor.copying import Mover, Origins, clone, joined, put
from tidoctor.errors import Refused, Unreadable, Unwritable, Usage
from tidoctor.header import parse, serialise
from tidoctor.names import printable
from tidoctor.source import Source, reason
from tidoctor.source.folder import Folder, cached_repository
from tidoctor.staging import publish, settle, staged

Progress = Callable[[Literal["copy", "verify"], int, int], None]
"""Called with what is being done, bytes done and bytes in all."""

_TELL = 4 << 20  # bytes between two calls of the progress function


@dataclass(frozen=True, slots=True)
class Cost:
    """What writing takes, in bytes.

    `copied` are moved from existing files, `written` are made anew. Files in subfolders, which a
    checkpoint does not know, are not counted; links that will turn out to lead away are.
    """

    copied: int
    written: int
    total: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes [begin, end) of a file that was far away, and the SHA-256 of what was written."""

    source: str
    revision: str | None
    file: str
    begin: int
    end: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written: the names in order, weights first, and bytes counted as in `Cost`.

    Of the `copied` bytes, `shared` take no room because the file system shares them with their
    origin. `verified` counts the tensors compared with their origin byte for byte, which is all of
    them, and `left_out` names what was not carried over, each as "name: why".
    """

    dest: Path
    files: tuple[str, ...]
    copied: int
    written: int
    shared: int
    verified: int
    left_out: tuple[str, ...]
    fetched: tuple[Fetched, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the result: bytes made anew, then spans of existing files."""

    name: str
    head: bytes
    spans: tuple[Span, ...]
    weight: WeightFile | None = None

    @property
    def whole(self) -> bool:
        """Whether it is a copy of one existing file."""
        return not self.head and (self.weight is None or self.weight.whole is not None)

    @property
    def copied(self) -> int:
        return sum(span.end - span.begin for span in self.spans)

    @property
    def size(self) -> int:
        return len(self.head) + self.copied


def cost(planned: Checkpoint) -> Cost:
    """What writing the checkpoint takes; touches no disk."""
    copied = written = 0
    for weight in planned.weights:
        if weight.whole:
            copied += weight.header.size
        else:
            written += weight.header.data_start
            copied += sum(entry.end - entry.begin for entry in weight.header.entries)
    written += sum(map(len, planned.texts.values()))
    unwanted = reasons(planned)
    copied += sum(size for name, size in planned.files.items() if unwanted(name) is None)
    return Cost(copied, written, copied + written)


def check_destination(source: Source, dest: Path, *, force: bool) -> None:
    """Raise Usage unless a folder can come to stand at `dest` without touching the source.

    With `force` a folder or a link may stand there already; without, nothing may.
    """
    place = _place(dest)
    try:
        wrong = _conflict(source, place, force)
    except OSError as e:
        raise Unwritable(printable(str(dest)), f"cannot be reached ({reason(e)})") from e
    if wrong:
        raise Usage(printable(str(dest)), *wrong)


def _conflict(source: Source, place: Path, force: bool) -> tuple[str, str] | None:
    """What is wrong with this place, and what to do."""
    outside = "name a folder outside of it"
    if cached_repository(place) is not None:
        # Its files are links that repositories share: what is written there changes others too.
        return "lies in the cache of downloaded models", outside
    if isinstance(source, Folder):
        root = source.path.resolve()
        # A single file is no folder, so the result may well stand beside it.
        folder = source.kind != "file"
        if place.exists() and folder and root.samefile(place):
            return "is the source itself", "name a folder that does not exist yet"
        if place.exists() and any(place.samefile(path) for path in (root, *root.parents)):
            return "contains the source", outside
        if folder and any(root.samefile(path) for path in (place.parent, *place.parent.parents)):
            return "lies inside the source", outside
    if not os.path.lexists(place):
        return None
    if not force:
        return "exists already", "name another folder, or replace it with --force"
    if not place.is_symlink() and not place.is_dir():
        return "exists and is not a folder", "name another folder"
    return None


def _place(dest: Path) -> Path:
    """The destination with its parent resolved, and itself not: a link there is what counts."""
    where = printable(str(dest))
    try:
        if b"\0" in os.fsencode(dest):
            raise ValueError
        if dest.name in ("", ".."):
            return dest.resolve(strict=True)
        parent = dest.parent.resolve(strict=True)
        if not parent.is_dir():
            raise NotADirectoryError
    except FileNotFoundError as e:
        raise Usage(where, "has no parent folder", "make the parent folder first") from e
    except NotADirectoryError as e:
        raise Usage(where, "has a file for its parent folder", "name another folder") from e
    except (ValueError, RuntimeError) as e:
        raise Usage(where, "is not a usable path", "name another folder") from e
    except OSError as e:
        raise Unwritable(where, f"cannot be reached ({reason(e)})") from e
    return parent / dest.name


def write(
    planned: Checkpoint,
    dest: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Receipt:
    """Write a planned checkpoint as the new folder `dest` and compare every byte with its origin.

    Either the complete folder stands at `dest` afterwards, or what stood there before and nothing
    else. With `force` an existing folder is replaced, in one step where the system can.
    Raises Usage, Unwritable, or Unreadable when an origin cannot be read or changes meanwhile.
    """
    for source in _sources(planned):
        check_destination(source, dest, force=force)
    place = _place(dest)
    others = company(planned)
    files = [*_made(planned), *_carried(planned.source, others)]
    size = sum(file.size for file in files)
    with Origins() as origins, _plain_words(dest, place, size), staged(place) as folder:
        for file in files:
            for span in file.spans:
                origins.open(span)  # what is missing shows before gigabytes were copied
        _check_room(files, place, folder, origins)
        mover = Mover(origins, _Meter("copy", sum(f.copied for f in files), progress))
        for name in others.folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            _write(file, folder / file.name, mover)
        mover.moved = _Meter("verify", sum(f.copied for f in files), progress)
        for file in files:
            _verify(file, folder / file.name, mover)
        origins.confirm()
        settle(folder)
        publish(folder, place, force=force)
    return Receipt(
        dest=dest,
        files=tuple(file.name for file in files),
        copied=sum(file.copied for file in files),
        written=sum(len(file.head) for file in files),
        shared=mover.shared,
        verified=sum(len(weight.header.entries) for weight in planned.weights),
        left_out=others.left_out,
        fetched=tuple(
            Fetched(s.source.name, s.source.revision, s.file, s.begin, s.end, sha256)
            for s, sha256 in mover.fetched.items()
        ),
    )


def _sources(planned: Checkpoint) -> list[Source]:
    """The source and every donor."""
    places = {id(planned.source): planned.source}
    for weight in planned.weights:
        if not weight.whole:
            places |= {id(row.span.source): row.span.source for row in planned.rows(weight)}
    return list(places.values())


# --- what is written ---------------------------------------------------------------------------


def _made(planned: Checkpoint) -> Iterator[_File]:
    """Weights and texts."""
    for weight in planned.weights:
        if weight.whole:
            span = Span(*weight.whole, 0, weight.header.size)
            yield _File(_inner(weight.name), b"", (span,), weight)
        else:
            yield _laid_out(planned, weight)
    for name, text in planned.texts.items():
        yield _File(_inner(name), text, ())


def _carried(source: Source, others: Company) -> Iterator[_File]:
    """Everything that stands beside the weights."""
    for name, size in others.files:
        yield _File(name, b"", (Span(source, name, 0, size),))


def _laid_out(planned: Checkpoint, weight: WeightFile) -> _File:
    """A weight file with a header of its own."""
    rows = planned.rows(weight)
    metadata = {k: v for k, v in (weight.header.metadata or {}).items() if isinstance(v, str)}
    head, entries = serialise([(r.name, r.dtype, r.shape, r.nbytes) for r in rows], metadata)
    if entries != weight.header.entries:
        raise Refused(printable(weight.name), "the plan's header and its tensors disagree")
    return _File(_inner(weight.name), head, joined(row.span for row in rows), weight)


def _inner(name: str) -> str:
    """The name, if it stays inside the folder."""
    path = PurePath(name)
    if not path.parts or path.is_absolute() or path.drive or ".." in path.parts or "\0" in name:
        raise Refused(printable(name), "is not a file name inside the result")
    return name


# --- writing and verifying ---------------------------------------------------------------------


class _Meter:
    """Counts bytes, and tells after every few millions of them and at the end."""

    def __init__(
        self, what: Literal["copy", "verify"], total: int, progress: Progress | None
    ) -> None:
        self.what = what
        self.total = total
        self.progress = progress
        self.done = self.told = 0

    def __call__(self, n: int) -> None:
        self.done += n
        due = self.done - self.told >= _TELL or self.told < self.done == self.total
        if self.progress and due:
            self.told = self.done
            self.progress(self.what, self.done, self.total)


def _write(file: _File, path: Path, mover: Mover) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    target = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        put(target, file.head)
        if file.whole and file.spans:
            mover.whole(file.spans[0], target)
        else:
            at = len(file.head)
            for span in file.spans:
                mover.copy(span, target, at)
                at += span.end - span.begin
        os.ftruncate(target, file.size)  # holes at the end
        os.fsync(target)
    finally:
        os.close(target)


def _verify(file: _File, path: Path, mover: Mover) -> None:
    """Compare a written file with what it was made from.

    Raises Unwritable when it is not the same, Unreadable when its origin is not what was planned.
    """
    with path.open("rb", buffering=0) as written:
        same = os.fstat(written.fileno()).st_size == file.size
        same = same and _read(written, 0, len(file.head)) == file.head
        at = len(file.head)
        for span in file.spans:
            same = same and not mover.differs(span, written, at)
            at += span.end - span.begin
        if not same:
            raise Unwritable(
                printable(file.name), "was written, but other bytes came back",
                "check the disk; nothing was kept",
            )
        if file.weight:
            _verify_header(file.weight, file, written)
    if file.weight and file.weight.header.sound:
        _second_opinion(file.weight, path)


def _read(handle: FileIO, begin: int, end: int) -> bytes:
    handle.seek(begin)
    parts = []
    while begin < end and (part := handle.read(end - begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _verify_header(weight: WeightFile, file: _File, written: FileIO) -> None:
    header = parse(lambda begin, end: _read(written, begin, end), file.size)
    if weight.whole and header != weight.header:
        source, name = weight.whole
        raise Unreadable(
            printable(f"{source.name}: {name}"), "changed after it was examined", "try again"
        )
    if header.entries != weight.header.entries or (not weight.whole and header.defects):
        raise Unwritable(printable(file.name), "was written with another header than planned")


def _second_opinion(weight: WeightFile, path: Path) -> None:
    """Let the reference library open a sound file and compare what it sees with the plan."""
    from safetensors import safe_open

    planned = {e.name: (e.dtype, list(e.shape)) for e in weight.header.entries}
    try:
        seen = {}
        with safe_open(str(path), framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                tensor = opened.get_slice(name)
                seen[name] = (tensor.get_dtype(), list(tensor.get_shape()))
    except Exception as e:  # whatever it raises, it does not open the file
        text = printable(str(e))
        raise Unwritable(printable(weight.name), f"the safetensors library says: {text}") from e
    if seen != planned:
        names = sorted(n for n in seen.keys() | planned.keys() if seen.get(n) != planned.get(n))
        raise Unwritable(
            printable(weight.name), f"the safetensors library sees another {printable(names[0])}"
        )


# --- room and words ----------------------------------------------------------------------------


def _check_room(files: Iterable[_File], place: Path, folder: Path, origins: Origins) -> None:
    """Raise OSError when the result cannot fit; shared extents need no room."""
    needed = {True: 0, False: 0}
    for file in files:
        needed[file.whole] += file.size
    free = shutil.disk_usage(place.parent).free
    if needed[True] + needed[False] <= free:
        return
    if needed[False] > free or not _can_clone(files, folder, origins):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _can_clone(files: Iterable[_File], folder: Path, origins: Origins) -> bool:
    """Whether the file system shares the biggest file, found out by letting it."""
    biggest = max((f for f in files if f.whole and f.spans), key=lambda f: f.size, default=None)
    if biggest is None:
        return False
    origin = origins.open(biggest.spans[0])
    probe = folder / ".probe"
    with probe.open("wb") as target:
        able = origin.handle is not None and clone(origin.handle.fileno(), target.fileno())
    probe.unlink()
    return able


_WORDS = {
    errno.EACCES: "may not be written there (permission denied)",
    errno.EPERM: "may not be written there (operation not permitted)",
    errno.EROFS: "lies on a read-only file system",
    errno.ENAMETOOLONG: "has a name that is too long for the file system",
    errno.EEXIST: "has come into being meanwhile",
}


@contextmanager
def _plain_words(dest: Path, place: Path, size: int) -> Iterator[None]:
    """What the operating system raises, as one sentence about the destination."""
    where = printable(str(dest))
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            left = f"{_decimal(size)} needed, {_decimal(shutil.disk_usage(place.parent).free)} free"
            on = f"no space left on {printable(str(place.parent))}"
            raise Unwritable(where, f"{on}, {left}", "make room, or name another place") from e
        said = _WORDS.get(e.errno or 0, f"cannot be written ({reason(e)})")
        raise Unwritable(where, said, "name another place") from e


def _decimal(size: int) -> str:
    """A number of bytes in decimal units, as file managers and the Hub show it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
