"""A checkpoint in a local folder."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor.errors import Unreadable

if TYPE_CHECKING:
    from tidoctor.source.distant import Listed

_LONGEST = 1 << 63  # bytes: no file is as long


class Folder:
    """The files of one local folder, read by ranges and never mapped.

    Links are followed when they stay in the folder, or when the folder is a snapshot in a Hub cache
    and they lead into the `blobs` of the same repository, or of the whole cache, which repositories
    share; any other link is refused, so that a downloaded checkpoint cannot make its reader touch,
    or a repair copy, a file of the machine.
    """

    revision: str | None = None
    stride = 1 << 20

    def __init__(self, path: Path, *, name: str, kind: str, chosen: str | None = None) -> None:
        self.path = path
        self.name = name
        self.kind = kind
        self.chosen = chosen
        self.bytes_read = 0
        self._counting = threading.Lock()
        self._found: dict[str, Path] = {}  # by file, for reading: to look costs more than to read
        root = path.resolve()
        self._homes = [root]
        if (repository := cached_repository(root)) is not None:
            self._homes += [repository / "blobs", repository.parent / "blobs"]

    def files(self) -> dict[str, int]:
        """Regular files at the top level, by name, with their sizes in bytes."""
        found: dict[str, int] = {}
        for entry in self._scan():
            try:
                status = entry.stat()
            except OSError:
                continue  # a dangling link: as good as absent
            if stat.S_ISREG(status.st_mode):
                found[entry.name] = status.st_size
                if not entry.is_symlink():  # it lies here and nowhere else
                    self._found[entry.name] = self._homes[0] / entry.name
        return dict(sorted(found.items()))

    def folders(self) -> frozenset[str]:
        """The names of the folders at the top level."""
        return frozenset(e.name for e in self._scan() if e.is_dir(follow_symlinks=False))

    def _scan(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.path) as entries:
                yield from entries
        except OSError as e:
            raise Unreadable(self.name, f"cannot be listed ({e.strerror})") from e

    def size(self, file: str) -> int | None:
        """The size of a regular file in bytes, None when it is not there or of another kind.

        Raises Unreadable for a path that leads out of the folder.
        """
        try:
            status = self._located(file).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise Unreadable(f"{self.name}: {file}", f"cannot be opened ({e.strerror})") from e
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def mode(self, file: str) -> int | None:
        """The permission bits of a file; None when it is not there or the system has none."""
        if os.name != "posix":
            return None
        try:
            return stat.S_IMODE(self._located(file).stat().st_mode)
        except OSError:
            return None

    def locate(self, file: str) -> Path:
        """The real path of a file of this folder.

        Raises Unreadable when the path, or a link on it, leads out of the checkpoint.
        """
        try:
            real = (self.path / file).resolve()
        except (OSError, ValueError, RuntimeError) as e:
            raise Unreadable(f"{self.name}: {file!r}", "is not a usable file name") from e
        if not any(real == home or home in real.parents for home in self._homes):
            raise Unreadable(
                f"{self.name}: {file}",
                f"leads out of the checkpoint, to {real}",
                "replace the link by the file it points to",
            )
        return real

    def vet(self, file: str) -> None:
        """Raise Unreadable for a path that leads out of the checkpoint."""
        self.size(file)

    def _located(self, file: str) -> Path:
        """`locate`, once for each file: where a link leads later is not looked at."""
        if (known := self._found.get(file)) is None:
            known = self._found[file] = self.locate(file)
        return known

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of a file, fewer when it ends before.

        Raises Unreadable when it cannot be read, or is no regular file.
        """
        with self.opened(file) as read:
            return read(begin, end)

    @contextmanager
    def opened(self, file: str) -> Iterator[Callable[[int, int], bytes]]:
        """What `read` does, for many ranges of one file, which is found and opened once."""
        try:
            with self._open(file) as f:
                yield partial(self._range, f)
        except OSError as e:
            raise Unreadable(f"{self.name}: {file}", f"cannot be read ({e.strerror})") from e

    def _range(self, f: io.FileIO, begin: int, end: int) -> bytes:
        if begin >= min(end, _LONGEST):  # an empty tensor may claim to lie anywhere
            return b""
        f.seek(begin)
        parts = []
        missing = end - begin
        while missing > 0 and (part := f.read(missing)):
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts) if len(parts) != 1 else parts[0]
        with self._counting:
            self.bytes_read += len(data)
        return data

    def pieces(self, file: str, begin: int, end: int, buffer: memoryview) -> Iterator[memoryview]:
        """The bytes [begin, end) in turn, each in the buffer until the next is asked for.

        As fast as the system reads, since nothing is opened or allocated for a piece. Raises
        Unreadable like `read`.
        """
        if begin >= min(end, _LONGEST):
            return
        try:
            with self._open(file) as f:
                f.seek(begin)
                while begin < end:
                    filled = 0
                    wanted = min(len(buffer), end - begin)
                    while filled < wanted and (count := f.readinto(buffer[filled:wanted])):
                        filled += count
                    if not filled:
                        return
                    begin += filled
                    with self._counting:
                        self.bytes_read += filled
                    yield buffer[:filled]
        except OSError as e:
            raise Unreadable(f"{self.name}: {file}", f"cannot be read ({e.strerror})") from e

    def _open(self, file: str) -> io.FileIO:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self._located(file), flags)
        f = io.FileIO(handle, "rb")
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            f.close()
            raise Unreadable(f"{self.name}: {file}", "is not a regular file")
        return f

    def ahead(self, files: Iterable[str]) -> None:
        """Reading is quick here: nothing to prepare."""

    def listed(self, file: str) -> Listed | None:
        """None: there is no listing but the folder itself."""
        return None


def cached_repository(path: Path) -> Path | None:
    """The repository in a Hub cache that a path lies in the snapshots of, None for other paths.

    The layout is <cache>/models--org--name/{blobs,snapshots/<revision>/…}.
    """
    for parent in (path, *path.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent.parent.parent
    return None
