"""Many checkpoints in one call: which they are, and examining some ahead of the one that is told.

Threads, because what takes time is waiting for disks and networks; a bounded number of them, and
results in the order asked for, each dropped once it was told, so that memory stays flat.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import glob
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from tidoctor.errors import Unreadable
from tidoctor.source import INDEX_SUFFIX, WEIGHT_SUFFIX

if TYPE_CHECKING:
    from concurrent.futures import Future

WORKERS = 4  # sources examined at a time, at most

_MAGIC = frozenset("*?[")

T = TypeVar("T")


class Found(NamedTuple):
    """The sources to examine, in order.

    `refused` are those among them that are patterns for which no model could be found, and why;
    `passed_by` the models that matched and have nothing to examine.
    """

    sources: list[str]
    refused: dict[str, Unreadable]
    passed_by: list[str]


def found(sources: Sequence[str], *, recursive: bool = False, of_files: bool = False) -> Found:
    """The sources themselves, each once; with `recursive` the checkpoints below each folder.

    A pattern that the shell left alone stands for what it matches here, else for an owner's models
    on the Hub (`org/*`). A folder without any checkpoint stays in the list, to be told of as what
    it is. With `of_files` the sources are files, and each stands for the checkpoint in its folder;
    a file beside no weights, such as another program's config.json, stands for nothing.
    """
    listed: dict[str, str] = {}
    all_ = Found([], {}, [])
    if of_files:
        recursive = False
        folders = dict.fromkeys(str(Path(source).parent) for source in sources)
        names = list(filter(_holds_weights, folders))
    else:
        names = [name for source in sources for name in _expanded(source, all_)]
    for name in names:
        inner = list(map(os.path.normpath, below(name))) if recursive and _is_dir(name) else ()
        for one in inner or (name,):
            listed.setdefault(one if "://" in one else os.path.normpath(one), one)
    return all_._replace(sources=list(listed.values()))


def _expanded(source: str, all_: Found) -> list[str]:
    """What a pattern matches, here or on the Hub; anything else as it is."""
    if not _MAGIC & set(source) or os.path.lexists(source):
        return [source]
    # As a shell would: nothing hidden, which Path.glob does not leave out.
    if "://" not in source and (here := sorted(glob(source))):  # noqa: PTH207
        return here
    from tidoctor.source.models import models, pattern

    wanted = pattern(source)
    if wanted is None:
        return [source]
    try:
        found = models(source, wanted)
    except Unreadable as e:
        all_.refused[source] = e
        return [source]
    all_.passed_by.extend(found.others)
    return found.weighty


def _is_dir(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or no name at all: told when it is opened
        return False


def _holds_weights(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(map(_is_weight, entries))
    except OSError:  # it is there, for its file was named: what is wrong is told when it is opened
        return True


def _is_weight(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith((WEIGHT_SUFFIX, INDEX_SUFFIX)) and not _is_folder(entry)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as e:  # a link in a circle is none; what may not be looked at is told of
        return e.errno != errno.ELOOP


def below(folder: str) -> Iterator[str]:
    """The folders with weight files at or below a folder, in the order of their names.

    Hidden folders are passed by; links are followed, each folder once. A folder that cannot be
    listed is among them, because what was not seen must not pass as healthy.
    """
    stack, seen = [folder], set()
    while stack:
        here = stack.pop()
        try:
            status = Path(here).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                listed = sorted(entries, key=lambda e: e.name)
        except OSError:
            yield here
            continue
        inner = [e.path for e in listed if not e.name.startswith(".") and _is_folder(e)]
        if any(map(_is_weight, listed)):
            yield here
        stack += reversed(inner)


class Ahead(Generic[T]):
    """Looks at sources in order, some ahead of the one that is asked for; a context manager.

    Calling it with the next source gives what `look` returned or raises what it raised. Leaving
    the block abandons what was not begun.
    """

    def __init__(self, sources: Iterable[str], look: Callable[[str], T]) -> None:
        self._look = look
        self._left = deque(sources)
        several = len(self._left) > 1
        self._pool = None
        if several:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(WORKERS)
        self._begun: deque[tuple[str, Future[T]]] = deque()

    def __call__(self, source: str) -> T:
        """What there is to know of a source; they are asked for in the order given."""
        if self._pool is None:
            return self._look(source)
        while self._left and len(self._begun) < 2 * WORKERS:
            ahead = self._left.popleft()
            self._begun.append((ahead, self._pool.submit(self._look, ahead)))
        name, future = self._begun.popleft()
        assert name == source
        return future.result()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
