"""Open files by their numbers: bytes at places, their blocks, and extents that two files share."""

from __future__ import annotations

import errno
import os
import struct
import sys
from contextlib import suppress

_DRAINED = 32 << 20  # bytes brought to the disk at once
_LAID_OUT = 4 << 20  # bytes from which it pays to ask for room beforehand
BUFFER = 8 << 20  # bytes written at once unless said otherwise

UNSUPPORTED = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP,
     errno.ENOTTY}
)  # fmt: skip
"""How systems and file systems say that they lack an operation: another way is tried then."""

# linux/fs.h; Python knows these names from 3.12 on
_FICLONE = 0x40049409  # _IOW(0x94, 9, int)
_FICLONERANGE = 0x4020940D  # _IOW(0x94, 13, struct file_clone_range)
_CLONE_STEP = 1 << 30  # bytes per call, a multiple of every block size

_KEEP_SIZE = 1  # linux/falloc.h
_GETFLAGS = 0x80006601 | struct.calcsize("l") << 16  # linux/fs.h: _IOR('f', 1, long)
_EXTENTS = 0x80000  # FS_EXTENT_FL: ext4 sets it, also below an overlay; XFS and btrfs do not


def clone(origin: int, target: int) -> bool:
    """Let the open file `target` share all extents of `origin`; False where that is impossible."""
    return _shared(target, "FICLONE", _FICLONE, origin)


def clone_range(origin: int, target: int, begin: int, at: int, size: int) -> bool:
    """The same for `size` bytes from byte `begin` on, put at byte `at`; all three whole blocks."""
    for done in range(0, size, _CLONE_STEP):
        step = min(_CLONE_STEP, size - done)
        request = struct.pack("qQQQ", origin, begin + done, step, at + done)
        if not _shared(target, "FICLONERANGE", _FICLONERANGE, request):
            return False
    return True


def _shared(target: int, name: str, number: int, request: int | bytes) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, getattr(fcntl, name, number), request)
    except OSError as e:
        if e.errno in UNSUPPORTED:
            return False
        raise
    return True


def copy_range(origin: int, target: int, begin: int, at: int, size: int) -> bool:
    """Have the system copy `size` bytes from byte `begin` of an open file to byte `at` of another.

    False where it cannot, or could not to the end: to read and to write tells why. Raises OSError
    when the disk is full.
    """
    if not hasattr(os, "copy_file_range"):
        return False
    done = 0
    try:
        while done < size:
            n = os.copy_file_range(origin, target, size - done, begin + done, at + done)
            if not n:
                return False
            done += n
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


def lay_out(target: int, at: int, size: int) -> None:
    """Have room on the disk chosen for `size` bytes that will be written from byte `at` on.

    Only where that is known to pay: ext4 does a quarter less work for blocks that stand ready than
    for blocks whose places it finds later (Linux 6.18); btrfs would not compress them. The file
    keeps its size. What goes wrong here, a full disk too, is left to the writing to tell.
    """
    if size < _LAID_OUT or sys.platform != "linux":
        return
    import ctypes
    import fcntl

    attributes = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(target, _GETFLAGS, attributes)
        system = ctypes.CDLL(None)
        allocate = getattr(system, "fallocate64", None) or system.fallocate
    except (OSError, AttributeError):  # no such attributes; a C library without the call
        return
    if struct.unpack_from("I", attributes)[0] & _EXTENTS:
        allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        allocate(target, _KEEP_SIZE, at, size)


def put(target: int, data: bytes | memoryview, most: int = BUFFER) -> None:
    """Write all of `data` where the open file stands, at most so many bytes at once."""
    with memoryview(data) as rest:
        done = 0
        while done < len(rest):
            done += os.write(target, rest[done : done + most])


class Drain:
    """Has the bytes of a file that is being written brought to the disk meanwhile, not at the end.

    `begin` is where writing begins; `reached` is told how far it has come.
    """

    def __init__(self, handle: int, begin: int) -> None:
        self._handle, self._begin = handle, begin

    def reached(self, end: int) -> None:
        """Ask for what has come since the last time, if it is much."""
        if end - self._begin < _DRAINED or not hasattr(os, "posix_fadvise"):
            return
        # Linux starts to write dirty pages of which that is said, and drops only those which are
        # clean: what has just been written stays in memory for who reads it next.
        with suppress(OSError):  # a wish, no more
            os.posix_fadvise(self._handle, self._begin, end - self._begin, os.POSIX_FADV_DONTNEED)
        self._begin = end


def read_at(handle: int, view: memoryview, at: int) -> int:
    """Fill what can be had of the view from byte `at` of the open file on; the number of bytes."""
    if hasattr(os, "preadv"):
        return os.preadv(handle, [view], at)
    os.lseek(handle, at, os.SEEK_SET)
    data = os.read(handle, len(view))
    view[: len(data)] = data
    return len(data)


def filled(handle: int, view: memoryview, at: int) -> bool:
    """Whether the file has enough bytes for the view from byte `at` on."""
    done = 0
    while done < len(view) and (
        n := read_at(handle, view[done:] if done else view, at + done)
    ):
        done += n
    return done == len(view)
