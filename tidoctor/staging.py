"""A folder that appears under its name complete, or not at all.

It grows under a hidden name beside its place and is renamed into it. A process that is killed
leaves the hidden folder only, which the next one with the same place removes, or takes over; so
does one that stops with much of it done.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tidoctor.handles import UNSUPPORTED

_AT_FDCWD = -100  # fcntl.h
_NOREPLACE = 1  # linux/fs.h, RENAME_NOREPLACE
_EXCHANGE = 2  # linux/fs.h, RENAME_EXCHANGE


@dataclass(slots=True)
class Stage:
    """The hidden folder; whether it stays if it is not published."""

    folder: Path
    stays: bool = False


@contextmanager
def staged(place: Path, mark: str | None = None) -> Iterator[Stage]:
    """A folder beside `place`, removed at the end if it was not published and need not stay.

    It is empty, unless an earlier process left one for the same place with a file called `mark` in
    it: then that is it. Raises OSError when it cannot be made.
    """
    folder = place.with_name(f".{place.name}.tidoctor-{os.getpid()}.partial")
    lock = _taken_over(place, folder, mark) if mark else None
    sweep(place, but=folder if lock is not None else None)
    stage = Stage(folder)
    try:
        if lock is None:
            folder.mkdir()
            lock = _lock(folder)
        yield stage
    finally:
        if lock is not None and lock >= 0:
            os.close(lock)
        # After an exchange this is the old folder, which has to go as well.
        if not stage.stays:
            remove(folder)


def sweep(place: Path, but: Path | None = None) -> None:
    """Remove what processes that are gone have left beside `place`."""
    for path in _leftovers(place):
        if path != but:
            remove(path)


def _leftovers(place: Path) -> Iterator[Path]:
    """The hidden folders of processes that are gone beside `place`."""
    pattern = re.compile(re.escape(f".{place.name}.tidoctor-") + r"(\d{1,9})\.partial")
    try:
        names = os.listdir(place.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return  # a folder that may be written to but not listed
    for name in names:
        found = pattern.fullmatch(name)
        path = place.parent / name
        if found and path.is_dir() and not path.is_symlink() and _abandoned(path, int(found[1])):
            yield path


def _taken_over(place: Path, folder: Path, mark: str) -> int | None:
    """Give `folder` to the hidden folder that has most in its `mark`; its lock, None without one.

    Only a folder of the user's own is taken over: what others made may hold links to anything.
    """
    best, most = None, 0
    for path in _leftovers(place):
        with suppress(OSError):
            size = (path / mark).lstat().st_size
            if size > most and is_own(path.lstat()):
                best, most = path, size
    if best is None:
        return None
    lock = -1
    try:
        lock = _lock(best)
        if best != folder:
            remove(folder)  # left by a process of the same number as this one, if at all
            best.rename(folder)
    except OSError:  # someone else was quicker
        if lock >= 0:
            os.close(lock)
        return None
    return lock


def _abandoned(folder: Path, pid: int) -> bool:
    """Whether the process that made the folder is gone.

    The number alone does not say: in containers each process may have the same, and those of
    another container look dead. So its maker also holds a lock on the folder.
    """
    if pid != os.getpid() and _alive(pid):
        return False
    try:
        lock = _lock(folder)
    except BlockingIOError:
        return False
    if lock >= 0:
        os.close(lock)
    return True


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # there, os.kill would end the process instead of asking for it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _lock(folder: Path) -> int:
    """A handle whose lock lasts until it is closed; -1 where folders cannot be locked.

    Raises BlockingIOError when someone else holds it.
    """
    if sys.platform == "win32":
        return -1
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(handle)
        if isinstance(e, BlockingIOError):
            raise
        return -1
    return handle


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, where systems know of users."""
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that can be done."""
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def settle(folder: Path) -> None:
    """Bring the names in a folder and its subfolders to the disk, innermost first."""
    for path, _, _ in os.walk(folder, topdown=False):
        _sync(Path(path))


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in UNSUPPORTED:  # some network file systems sync no folders
            raise
    finally:
        os.close(handle)


def publish(folder: Path, place: Path, *, force: bool) -> None:
    """Give a staged folder its name; with `force`, what stands there gets the hidden one.

    Raises FileExistsError when something stands there without `force`, and other OSErrors; then
    `place` is as it was.
    """
    if force and os.path.lexists(place):
        if not _renameat2(folder, place, _EXCHANGE):
            _swap(folder, place)
    elif not _renameat2(folder, place, _NOREPLACE):
        if os.path.lexists(place):  # os.rename would replace an empty folder without a word
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
        folder.rename(place)
    with suppress(OSError):  # it is published; what the disk says now changes nothing
        _sync(place.parent)


def _swap(folder: Path, place: Path) -> None:
    """Replace in two steps, for file systems that have no single one.

    Killed in between, the old folder stays under its hidden name, which no sweep touches.
    """
    aside = folder.with_suffix(".old")
    try:
        place.rename(aside)
        folder.rename(place)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(place):
            aside.rename(place)
        raise
    remove(aside)


def _renameat2(old: Path, new: Path, flag: int) -> bool:
    """Rename under a condition; False where the system or the file system has no such call."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError):
        return False
    call.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
    )  # fmt: skip
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(old), None, str(new))
