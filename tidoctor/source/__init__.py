"""Where bytes live: the one seam between tidoctor and the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.folder import Folder
from tidoctor.source.kinds import CONFIG as CONFIG
from tidoctor.source.kinds import INDEX_SUFFIX as INDEX_SUFFIX
from tidoctor.source.kinds import WEIGHT_SUFFIX as WEIGHT_SUFFIX

if TYPE_CHECKING:
    from tidoctor.source.distant import Listed

CONFIG_CAP = 16_000_000  # bytes; the largest published config.json is far below 1 MB


class Source(Protocol):
    """A place that holds the files of one checkpoint.

    `name` is what the user called it, `kind` how it was given (`folder`, `file` or `index`),
    `chosen` the one file it was pointed at, `revision` the commit of a repository, `bytes_read`
    what has been read so far and `stride` how much is best read at a time, both in bytes.
    """

    name: str
    kind: str
    chosen: str | None
    revision: str | None
    bytes_read: int
    stride: int

    def files(self) -> dict[str, int]:
        """The files at the top level, by name, with their sizes in bytes."""

    def folders(self) -> frozenset[str]:
        """The names of the folders at the top level."""

    def size(self, file: str) -> int | None:
        """The size of a file in bytes, None when it is not there.

        Raises Unreadable for a path that leads out of the checkpoint.
        """

    def vet(self, file: str) -> None:
        """Raise Unreadable for a path that leads out of the checkpoint, without waiting."""

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of a file, fewer when it ends before."""

    def ahead(self, files: Iterable[str]) -> None:
        """The beginnings of these files will be asked for next."""

    def listed(self, file: str) -> Listed | None:
        """What a listing kept beside the files says of one, None where there is none."""


def open_source(text: str) -> Source:
    """The source that a user's text names: a local place, else one on the Hub or in a store.

    Raises Unreadable when there is no such place or it is of another kind.
    """
    if not text:
        raise Unreadable("", "an empty name was given for a checkpoint", "give its folder")
    if (local := _local(text)) is not None:
        return local
    from tidoctor.source.address import hub_address

    address = hub_address(text)
    if address is None:
        return _elsewhere(text)
    from tidoctor.source.hub import open_hub

    try:
        return open_hub(text, address)
    except Unreadable as e:
        if address.spelled_out or e.where != printable(text):
            raise
        raise Unreadable(e.where, f"no such folder or file here, and {e.what}", e.hint) from e


def _elsewhere(text: str) -> Source:
    """A place on the web or in an object store."""
    from tidoctor.source.cloud import SCHEME, open_cloud

    if text.startswith(("http://", "https://")):
        from tidoctor.source.web import open_web

        return open_web(text)
    if SCHEME.fullmatch(text):
        return open_cloud(text)
    raise Unreadable(
        printable(text), "no such folder or file", "check the path; a model is org/name"
    )


def _local(text: str) -> Folder | None:
    """The folder, weight file or index at a path; None when nothing is there."""
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
    return None


@contextmanager
def ranges(source: Source, file: str) -> Iterator[Callable[[int, int], bytes]]:
    """A function that reads ranges of one file, which stays open meanwhile if it is a local one."""
    if isinstance(source, Folder):
        with source.opened(file) as read:
            yield read
    else:
        yield partial(source.read, file)


def mode(source: Source, file: str) -> int | None:
    """The permission bits of a file of a local source, None where there are none."""
    return source.mode(file) if isinstance(source, Folder) else None


def reason(error: BaseException) -> str:
    """What an operating system error says, without its number and path."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
