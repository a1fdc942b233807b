"""Where bytes live: the one seam between tidoctor and the outside."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tidoctor.errors import Unreadable
from tidoctor.source.folder import Folder

INDEX_SUFFIX = ".safetensors.index.json"
WEIGHT_SUFFIX = ".safetensors"
CONFIG = "config.json"
CONFIG_CAP = 16_000_000  # bytes; the largest published config.json is far below 1 MB


class Source(Protocol):
    """A place that holds the files of one checkpoint.

    `name` is what the user called it, `kind` how it was given (`folder`, `file` or `index`),
    `chosen` the one file it was pointed at, and `bytes_read` what has been read so far, in bytes.
    """

    name: str
    kind: str
    chosen: str | None
    bytes_read: int

    def files(self) -> dict[str, int]:
        """The files at the top level, by name, with their sizes in bytes."""

    def folders(self) -> frozenset[str]:
        """The names of the folders at the top level."""

    def size(self, file: str) -> int | None:
        """The size of a file in bytes, None when it is not there.

        Raises Unreadable for a path that leads out of the checkpoint.
        """

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of a file, fewer when it ends before."""


def open_source(text: str) -> Source:
    """The source that a user's text names: a folder, a weight file or an index file.

    Raises Unreadable when there is no such place or it is of another kind.
    """
    if not text:
        raise Unreadable("", "an empty name was given for a checkpoint", "give its folder")
    path = Path(text)
    try:
        if path.is_dir():
            return Folder(path, name=text, kind="folder")
        if path.is_file():
            if text.endswith(INDEX_SUFFIX):
                return Folder(path.parent, name=text, kind="index", chosen=path.name)
            if text.endswith(WEIGHT_SUFFIX):
                return Folder(path.parent, name=text, kind="file", chosen=path.name)
            raise Unreadable(
                text,
                "is neither a folder nor a .safetensors file",
                "give the checkpoint's folder, a .safetensors file or its .safetensors.index.json",
            )
        exists = path.exists() or path.is_symlink()
    except (OSError, ValueError) as e:
        raise Unreadable(text, f"cannot be opened ({reason(e)})", "check the path") from e
    if exists:
        raise Unreadable(text, "is not a regular file or folder", "give the checkpoint's folder")
    raise Unreadable(
        text,
        "no such folder or file",
        "check the path; this version reads local checkpoints only, so download the model first",
    )


def mode(source: Source, file: str) -> int | None:
    """The permission bits of a file of a local source, None where there are none."""
    return source.mode(file) if isinstance(source, Folder) else None


def reason(error: BaseException) -> str:
    """What an operating system error says, without its number and path."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
