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
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tidoctor.handles import UNSUPPORTED

_AT_FDCWD = -100  # fcntl.h
_NOREPLACE = 1  # linux/fs.h, RENAME_NOREPLACE
_EXCHANGE = 2  # linux/fs.h, RENAME_EXCHANGE

# The number of a process, and that of one of its folders when it has several for one place.
_NUMBERED = r"(\d{1,9})(?:-\d{1,9})?\.partial"
_LIVING: set[Path] = set()  # folders that this process fills


@dataclass(slots=True)
class Stage:
    """The hidden folder, and what is to become of it.

    `stays` says whether it is kept if it is not published, `exchanged` whether what stood at its
    destination has its name now.
    """

    folder: Path
    stays: bool = False
    exchanged: bool = False


@contextmanager
def staged(place: Path, mark: str | None = None) -> Iterator[Stage]:
    """A folder beside `place`, removed at the end if it was not published and need not stay.

    It is empty, unless an earlier process left one for the same place with a file called `mark` in
    it: then that is it, and it stays until someone decides otherwise. Raises OSError when it cannot
    be made.
    """
    taken = _taken_over(place, mark) if mark else None
    folder, lock = taken or _made(place)
    stage = Stage(folder, stays=taken is not None)
    own = folder.lstat()
    try:
        sweep(place)
        yield stage
    finally:
        # Once the folder has another name, its old one may be somebody else's.
        if not stage.stays and (stage.exchanged or _is(folder, own)):
            remove(folder)
        _LIVING.discard(folder)
        _release(lock)


def sweep(place: Path) -> None:
    """Remove what processes that are gone have left beside `place`."""
    for path, lock in _leftovers(place):
        remove(path)
        _release(lock)


def _made(place: Path) -> tuple[Path, int]:
    """A new hidden folder, and the lock on it."""
    for folder in _names(place):
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # of another thread, or of a container with the same numbers
        _LIVING.add(folder)
        try:
            return folder, _lock(folder)
        except OSError as e:
            _LIVING.discard(folder)
            if not isinstance(e, BlockingIOError):  # else a sweep found it before it was locked
                with suppress(OSError):
                    folder.rmdir()
                raise
    raise AssertionError("there is always one more name")


def _names(place: Path) -> Iterator[Path]:
    """Names of this process for a hidden folder beside `place`, without end."""
    for number in count():
        more = f"-{number}" if number else ""
        yield place.with_name(f".{place.name}.tidoctor-{os.getpid()}{more}.partial")


def _leftovers(place: Path) -> Iterator[tuple[Path, int]]:
    """The hidden folders beside `place` that nobody fills any more, and a lock on each.

    Who fills one holds a lock on it. Where there are no locks the number in its name has to do,
    though in another container it may be that of a process here, or of none.
    """
    pattern = re.compile(re.escape(f".{place.name}.tidoctor-") + _NUMBERED)
    try:
        names = os.listdir(place.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return  # a folder that may be written to but not listed
    for name in names:
        found = pattern.fullmatch(name)
        path = place.parent / name
        if not found or path in _LIVING or path.is_symlink() or not path.is_dir():
            continue
        try:
            lock = _lock(path)
        except OSError:
            continue
        if lock >= 0 or int(found[1]) == os.getpid() or not _alive(int(found[1])):
            yield path, lock


def _taken_over(place: Path, mark: str) -> tuple[Path, int] | None:
    """The leftover that has most in its `mark`, under a name of this process, and the lock on it.

    Only a folder of the user's own is taken over: what others made may hold links to anything. And
    only one that can be cleared of what does not belong into it.
    """
    best, held, most = None, -1, 0
    for path, lock in _leftovers(place):
        size = _marked(path, mark)
        if size > most and _usable(path):
            _release(held)
            best, held, most = path, lock, size
        else:
            _release(lock)
    if best is None:
        return None
    for folder in _names(place):
        try:
            if folder != best:
                _rename(best, folder)
        except FileExistsError:
            continue
        except OSError:
            _release(held)
            return None
        _LIVING.add(folder)
        return folder, held
    raise AssertionError("there is always one more name")


def _marked(folder: Path, mark: str) -> int:
    """Bytes of the file called `mark` in a folder of the user's own, else 0."""
    try:
        status = (folder / mark).lstat()
        return status.st_size if is_plain(status) and is_own(folder.lstat()) else 0
    except OSError:
        return 0


def _usable(folder: Path) -> bool:
    """Whether files can be made and removed in a folder and all that are in it."""
    try:
        inner = (Path(at, name) for at, names, _ in os.walk(folder) for name in names)
        return all(os.access(each, os.R_OK | os.W_OK | os.X_OK) for each in (folder, *inner))
    except RecursionError:
        return False


def _is(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except OSError:
        return False


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
    """A handle whose lock lasts until it is released; -1 where folders cannot be locked.

    Raises BlockingIOError when someone else holds it or has taken the folder away, and OSError
    when it cannot be opened as a folder.
    """
    if sys.platform == "win32":
        return -1
    import fcntl

    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        handle = os.open(folder, flags)
    except FileNotFoundError as e:
        raise BlockingIOError(*e.args) from e
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return -1
    # Whoever held it until now may have removed the folder, or given it another name.
    if not _is(folder, os.fstat(handle)):
        os.close(handle)
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(folder))
    return handle


def _release(lock: int) -> None:
    if lock >= 0:
        os.close(lock)


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, where systems know of users."""
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def is_plain(status: os.stat_result) -> bool:
    """Whether that is a file of this user's own that has no second name."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and is_own(status)


def remove(path: Path) -> None:
    """Remove a folder, or whatever else has that name, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        with suppress(RecursionError):  # thousands of folders within each other
            shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


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


def publish(stage: Stage, place: Path, *, force: bool) -> None:
    """Give a staged folder its name; with `force`, what stands there gets the hidden one.

    Raises FileExistsError when something stands there without `force`, and other OSErrors; then
    `place` is as it was.
    """
    folder = stage.folder
    if force and os.path.lexists(place):
        stage.exchanged = _renameat2(folder, place, _EXCHANGE)
        if not stage.exchanged:
            _swap(folder, place)
    else:
        _rename(folder, place)
    with suppress(OSError):  # it is published; what the disk says now changes nothing
        _sync(place.parent)


def _rename(old: Path, new: Path) -> None:
    """Raises FileExistsError when something has the new name."""
    if not _renameat2(old, new, _NOREPLACE):
        if os.path.lexists(new):  # os.rename would replace an empty folder without a word
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        old.rename(new)


def _swap(folder: Path, place: Path) -> None:
    """Replace in two steps, for file systems that have no single one.

    Killed in between, the old folder stays under its hidden name, which no sweep touches.
    """
    names = (path.with_suffix(".old") for path in _names(place))
    aside = next(path for path in names if not os.path.lexists(path))
    own = folder.lstat()
    try:
        place.rename(aside)
        folder.rename(place)
    except BaseException:
        if os.path.lexists(aside) and not os.path.lexists(place):
            aside.rename(place)
        raise
    finally:
        if _is(place, own):
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
