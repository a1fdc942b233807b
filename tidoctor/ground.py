"""What the place where a result will stand can do with the bytes of existing files.

Three things come cheaper than a copy: a hard link, a clone of a whole file, and a clone of a range.
Whether two places share extents is not to be told from names or types of file systems (XFS may be
made without, btrfs refuses some files), so the system is asked to do it, once for each device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidoctor.copying import Origins
from tidoctor.form import Link
from tidoctor.handles import clone, clone_range
from tidoctor.source import Source
from tidoctor.source.folder import Folder

BLOCK = 4096  # bytes; the block of ext4, XFS and btrfs on all common machines
_LARGEST = 1 << 16  # bytes; what network file systems call a block can be megabytes


class Ground:
    """The folder in which a result will stand, seen from the files that its bytes come from.

    With `scratch`, a new file may be made there under a name to find out; without, only one that
    never has a name.
    """

    def __init__(
        self, folder: Path, origins: Origins, link: Link = "auto", *, scratch: bool = False
    ) -> None:
        self.link = link
        self.block = _block(folder)
        self._folder = folder
        self._origins = origins
        self._scratch = scratch
        self._devices: dict[int, bool] = {}
        try:
            self._here = folder.stat().st_dev
        except OSError:
            self._here = -1

    def clones(self, source: Source, file: str) -> bool:
        """Whether new files here can share extents with this one."""
        if self.link == "never" or not isinstance(source, Folder):
            return False
        origin = self._origins.get(source, file)
        able = self._devices.get(origin.identity.device)
        if able is None and origin.handle is not None and origin.identity.size >= self.block:
            able = self._try(origin.handle.fileno())
            self._devices[origin.identity.device] = able
        return bool(able)

    def links(self, source: Source, file: str) -> bool:
        """Whether a hard link here may and can stand for this file."""
        if self.link != "hard" or not isinstance(source, Folder):
            return False
        origin = self._origins.get(source, file)
        return origin.path is not None and (
            origin.identity.device == self._here and not cached(origin.path)
        )

    def _try(self, origin: int) -> bool:
        with suppress(OSError), self._target() as target:
            return clone_range(origin, target, 0, 0, self.block) or clone(origin, target)
        return False

    @contextmanager
    def _target(self) -> Iterator[int]:
        """A new file in the folder, without a name where that is possible."""
        flags = getattr(os, "O_TMPFILE", 0)
        probe = self._folder / ".probe"
        try:
            if not flags:
                raise OSError
            target = os.open(self._folder, flags | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            named = False
        except OSError:
            if not self._scratch:
                raise
            target = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            named = True
        try:
            yield target
        finally:
            os.close(target)
            if named:
                probe.unlink()


def cached(path: Path) -> bool:
    """Whether a Hub cache owns the file at a real path: then other names for it may not be made.

    The layout is `models--org--name/{blobs,snapshots/REVISION}/…`, for datasets and spaces alike
    (huggingface_hub, file_download.py); without links the snapshots hold the files themselves.
    """
    return any(
        part.startswith(("models--", "datasets--", "spaces--")) and below in ("blobs", "snapshots")
        for part, below in zip(path.parts, path.parts[1:], strict=False)
    )


def _block(folder: Path) -> int:
    """The block size of the file system, in bytes; the usual one where it tells no likely one."""
    try:
        size = os.statvfs(folder).f_bsize
    except (OSError, AttributeError):
        return BLOCK
    return size if BLOCK <= size <= _LARGEST and size & (size - 1) == 0 else BLOCK
