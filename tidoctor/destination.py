"""Where a result may come to stand, and what is said when it cannot be written there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidoctor.assembly import Cost
from tidoctor.errors import Unwritable, Usage
from tidoctor.names import printable
from tidoctor.source import Source, reason
from tidoctor.source.folder import Folder, cached_repository


def check_destination(source: Source, dest: Path, *, force: bool) -> None:
    """Raise Usage unless a folder can come to stand at `dest` without touching the source.

    With `force` a folder or a link may stand there already; without, nothing may.
    """
    place = place_of(dest)
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


def place_of(dest: Path) -> Path:
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


_ROOM = "make room, or name another place"
_WORDS = {
    errno.EACCES: "may not be written there (permission denied)",
    errno.EPERM: "may not be written there (operation not permitted)",
    errno.EROFS: "lies on a read-only file system",
    errno.ENAMETOOLONG: "has a name that is too long for the file system",
    errno.EEXIST: "has come into being meanwhile",
    errno.ENOTEMPTY: "has come into being meanwhile",
}


@contextmanager
def plain_words(dest: Path, place: Path) -> Iterator[None]:
    """What the operating system raises, as one sentence about the destination."""
    where = printable(str(dest))
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"no space left on {printable(str(place.parent))}"
            raise Unwritable(where, what, _ROOM) from e
        said = _WORDS.get(e.errno or 0, f"cannot be written ({reason(e)})")
        raise Unwritable(where, said, "name another place") from e


@contextmanager
def room(dest: Path, place: Path, cost: Cost, held: int = 0) -> Iterator[None]:
    """Raise Unwritable with figures when the disk is too full, at once or in the end.

    `held` bytes on the disk are those of an earlier run: they will be used, or make room.
    """
    needed = max(0, cost.room - held)
    try:
        if needed > shutil.disk_usage(place.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(place.parent).free
        left = f"{_decimal(needed)} needed, {_decimal(free)} free"
        left += ", of which a quota may allow less" if free >= needed else ""
        on = f"no space left on {printable(str(place.parent))}"
        raise Unwritable(printable(str(dest)), f"{on}, {left}", _ROOM) from e


def _decimal(size: int) -> str:
    """A number of bytes in decimal units, as file managers and the Hub show it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
