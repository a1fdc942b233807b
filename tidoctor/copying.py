"""Bytes from file to file without holding them, and proof that they arrived.

Files and ranges are cloned where the file system shares extents. Else the system copies them piece
by piece, or they are read and written; of each piece both sides are read into two reused buffers,
and every byte is compared.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tidoctor.buffers import Twins, aligned
from tidoctor.casting import WIDTHS, cast
from tidoctor.errors import Unreadable
from tidoctor.handles import (
    BUFFER,
    UNSUPPORTED,
    Drain,
    clone,
    clone_range,
    copy_range,
    filled,
    lay_out,
    put,
    read_at,
)
from tidoctor.names import printable
from tidoctor.pieced import Derived
from tidoctor.pouring import Marks, pour
from tidoctor.source import Source, reason
from tidoctor.source.distant import Distant
from tidoctor.source.folder import Folder
from tidoctor.tensors import Span, Tensor

PIECE = 512 << 10
"""Bytes copied by the system and compared at once: they stay in the processor's cache."""
_PAGE = 4096  # bytes
_CAST = 256 << 10  # bytes of numbers made at once
# Bytes written at once. For larger writes Linux takes larger runs of free memory, and where a
# virtual machine's host has taken those back they cost more than the copying; smaller ones cost
# more in themselves. Also the least that is left out of a file whose origin has holes.
_WRITTEN = 64 << 10


class Identity(NamedTuple):
    """What changes when a file is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """That of a file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Origin:
    """One existing file, open for reading: a local one by its handle, another by its source."""

    def __init__(self, source: Source, file: str) -> None:
        self.source = source
        self.file = file
        self.where = printable(f"{source.name}: {file}")
        self.handle: FileIO | None = None
        self.path: Path | None = None
        self.sparse = False
        self._ahead = (0, b"")  # where the piece last fetched begins, and that piece
        if isinstance(source, Folder):
            self._open(source.locate(file))
        elif (size := source.size(file)) is None:
            raise Unreadable(self.where, "is no longer there")
        else:
            self.identity = Identity(0, 0, size, 0)

    def _open(self, path: Path) -> None:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            self.handle = FileIO(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb")
            status = os.fstat(self.handle.fileno())
        except OSError as e:
            raise Unreadable(self.where, f"cannot be opened ({reason(e)})") from e
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise Unreadable(self.where, "is not a regular file")
        self.path = path
        self.identity = Identity.of(status)
        self.sparse = getattr(status, "st_blocks", status.st_size) * 512 < status.st_size

    def close(self) -> None:
        """Close the handle, if there is one."""
        if self.handle is not None:
            self.handle.close()

    def fill(self, begin: int, view: memoryview, end: int) -> None:
        """Fill the view from byte `begin` on; nothing from byte `end` on will be asked for next.

        Raises Unreadable when the file ends before.
        """
        done = 0
        while done < len(view):
            n = self._some(begin + done, view[done:] if done else view, end)
            if not n:
                raise self.shorter(end)
            done += n

    def _some(self, begin: int, view: memoryview, end: int) -> int:
        if self.handle is not None:
            try:
                return read_at(self.handle.fileno(), view, begin)
            except OSError as e:
                raise Unreadable(self.where, f"cannot be read ({reason(e)})") from e
        start, data = self._ahead
        if not start <= begin < start + len(data):
            start, data = begin, self.source.read(self.file, begin, min(begin + BUFFER, end))
            self._ahead = (start, data)
        part = data[begin - start : begin - start + len(view)]
        view[: len(part)] = part
        return len(part)

    def copy(self, begin: int, target: int, at: int, size: int) -> bool:
        """Have the system copy bytes to the open file, if it can; OSError for a full disk."""
        handle = self.handle
        return handle is not None and copy_range(handle.fileno(), target, begin, at, size)

    def confirm(self) -> None:
        """Raise Unreadable when someone has written to the open file."""
        if self.handle is not None and Identity.of(os.fstat(self.handle.fileno())) != self.identity:
            raise self.changed()

    def shorter(self, end: int) -> Unreadable:
        """The exception for a file that ends before byte `end`."""
        return Unreadable(
            self.where, f"ends before byte {end:,}, although its header promises those bytes",
            "fetch the file again",
        )

    def changed(self) -> Unreadable:
        """The exception for a file that someone else writes to."""
        return Unreadable(
            self.where, "changed while it was being copied",
            "wait until nothing writes to it any more, and try again",
        )


class Origins:
    """The files that bytes come from, opened one at a time, and proof that they stayed the same."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Source, str], tuple[Path | None, Identity]] = {}
        self._current: Origin | None = None

    def __enter__(self) -> Origins:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None

    def open(self, span: Span) -> Origin:
        """The file that a span lies in, the same file as the first time.

        Raises Unreadable when it cannot be opened, has changed, or ends before the span does.
        """
        now = self.get(span.source, span.file)
        if span.end > now.identity.size:
            raise now.shorter(span.end)
        return now

    def get(self, source: Source, file: str) -> Origin:
        """A file, the same as the first time. Raises Unreadable when it is gone or has changed."""
        if isinstance(source, Derived):
            for span in source.spans:
                self.get(span.source, span.file)
        now = self._current
        if now is None or now.source is not source or now.file != file:
            self._close()
            now = self._current = Origin(source, file)
            first = self._seen.setdefault((source, file), (now.path, now.identity))
            if first != (now.path, now.identity):
                raise now.changed()
        return now

    def confirm(self) -> None:
        """Raise Unreadable when one of the files is not what it was when first opened."""
        for (source, file), first in self._seen.items():
            origin = Origin(source, file)
            origin.close()
            if first != (origin.path, origin.identity):
                raise origin.changed()


class Mover:
    """Moves spans into new files, through buffers of its own, and reads back what it wrote.

    `moved` is called with the number of bytes after every step, `fetched` has the SHA-256 of what
    came from far away. Without `share` no file shares extents with another. OSError comes from the
    written side only; the read side raises Unreadable. Written files are open for reading too.
    """

    def __init__(
        self, origins: Origins, moved: Callable[[int], None], *, share: bool = True
    ) -> None:
        self.moved = moved
        self._share = share
        self._origins = origins
        self.fetched: dict[Span, str] = {}
        self._twins = Twins(PIECE)
        self._ours, self._theirs = self._twins.views
        self._zeros = bytearray(_WRITTEN)  # equal to a view by memcmp, when it stands on the left

    def clone(self, span: Span, target: int, at: int) -> bool:
        """Let the open file share the bytes of a span, whole blocks or a whole file, if it can."""
        origin = self._origins.open(span)
        if origin.handle is None:
            return False
        handle = origin.handle.fileno()
        if span.begin == at == 0 and span.end == origin.identity.size:
            done = clone(handle, target)
        else:
            done = clone_range(handle, target, span.begin, at, span.end - span.begin)
        if done:
            self.moved(span.end - span.begin)
        return done

    def link(self, span: Span, path: Path) -> bool:
        """Make `path` one more name of the file that the span covers, if that can be."""
        origin = self._origins.open(span)
        if origin.path is None:
            return False
        try:
            os.link(origin.path, path)  # a real path: of a link, the link itself would be linked
        except OSError as e:
            if e.errno in (*UNSUPPORTED, errno.EMLINK, errno.EACCES):
                return False
            raise
        if Identity.of(path.lstat()) != origin.identity:
            raise origin.changed()
        self.moved(span.end - span.begin)
        return True

    def copy(
        self, span: Span, target: int, at: int, marks: Marks | None = None, *, over: bool = False
    ) -> bool:
        """Put the bytes of a span at byte `at` of a file; whether they could be read back.

        The file is new, or with `over` may hold other bytes there; what a distant span's `marks`
        prove to be there is not fetched.

        Pieces of nothing but zeros are left to the holes of the new file if the origin has holes.
        """
        origin = self._origins.open(span)
        if isinstance(origin.source, Distant):
            digest = pour(origin.source, span, target, at, self.moved, marks or Marks())
            if digest is not None:
                self.fetched[span] = digest
            return digest is not None
        shift = at - span.begin
        holes = origin.sparse and not over
        drain = Drain(target, at)
        # The system may share extents as well. It takes whole pages as they are, and half as long
        # again where they lie otherwise in the other file.
        handed = self._share and not holes and shift % _PAGE == 0 and origin.handle is not None
        step = _WRITTEN if holes else PIECE
        if not holes and not over:
            lay_out(target, at, span.end - span.begin)
        # A piece that begins where a multiple of its size does can be kept in one run of memory;
        # across those bounds, a copy takes a quarter longer (Linux 6.18, ext4).
        for begin, n in _steps(span, step, -at % step):
            view, there = self._ours[:n], begin + shift
            handed = handed and origin.copy(begin, target, there, n)
            origin.fill(begin, view, span.end)
            if handed:
                same = self._same(view, target, there)
            else:
                same = (holes and self._zeros == view) or self._kept(view, target, there)
            if not same:
                origin.confirm()
                return False
            drain.reached(there + n)
            self.moved(n)
        return True

    def cast(self, tensor: Tensor, target: int, at: int) -> tuple[bool, int]:
        """Put the converted numbers of a tensor at byte `at` of a new file.

        Whether they could be read back, and how many became infinite.
        """
        origin = self._origins.open(tensor.span)
        infinite = 0
        step = _CAST // WIDTHS[tensor.dtype] * WIDTHS[tensor.stored]
        raw, drain = aligned(step), Drain(target, at)
        lay_out(target, at, tensor.nbytes)
        for begin, n in _steps(tensor.span, step):
            with raw[:n] as view:
                origin.fill(begin, view, tensor.span.end)
                numbers, lost = cast(view, tensor.stored, tensor.dtype)
            infinite += lost
            view = self._ours[: len(numbers)]
            view[:] = numbers
            if not self._kept(view, target, at):
                return False, infinite
            at += len(numbers)
            drain.reached(at)
            self.moved(len(numbers))
        return True, infinite

    def _kept(self, view: memoryview, target: int, at: int) -> bool:
        """Whether a piece, the start of the first buffer, comes back as it was written."""
        os.lseek(target, at, os.SEEK_SET)
        put(target, view, _WRITTEN)
        return self._same(view, target, at)

    def _same(self, view: memoryview, target: int, at: int) -> bool:
        """Whether the file has the bytes of a piece, the start of the first buffer."""
        return filled(target, self._theirs[: len(view)], at) and self._twins.alike(len(view))

    def differs(self, span: Span, written: FileIO, at: int) -> bool:
        """Whether the file `written` holds other bytes than the span, from byte `at` on."""
        origin = self._origins.open(span)
        for begin, n in _steps(span, PIECE):
            origin.fill(begin, self._ours[:n], span.end)
            there = filled(written.fileno(), self._theirs[:n], at + begin - span.begin)
            if not there or not self._twins.alike(n):
                return True
            self.moved(n)
        return False


def _steps(span: Span, size: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """(begin, length) of pieces of a span of at most `size` bytes; the first may be shorter."""
    begin = span.begin
    while begin < span.end:
        n = min(first or size, span.end - begin)
        yield begin, n
        begin, first = begin + n, 0
