"""Many checkpoints in one call: which they are, and examining some ahead of the one that is told.

Threads, because what takes time is waiting for disks and networks; a bounded number of them, and
results in the order asked for, each dropped once it was told, so that memory stays flat.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from tidoctor.source import INDEX_SUFFIX, WEIGHT_SUFFIX

WORKERS = 4  # sources examined at a time, at most

T = TypeVar("T")


def found(
    sources: Sequence[str], *, recursive: bool = False, of_files: bool = False
) -> list[str]:
    """The sources themselves, each once; with `recursive` the checkpoints below each folder.

    A folder without any stays in the list, to be told of as what it is. With `of_files` the
    sources are files, and each stands for the checkpoint in its folder; a file beside no weights,
    such as another program's config.json, stands for nothing.
    """
    listed: dict[str, str] = {}
    for source in sources:
        names = [source]
        if of_files:
            names = [folder] if _holds_weights(folder := str(Path(source).parent)) else []
        elif recursive and Path(source).is_dir():
            names = [os.path.normpath(name) for name in below(source)] or names
        for name in names:
            listed.setdefault(name if "://" in name else os.path.normpath(name), name)
    return list(listed.values())


def _holds_weights(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(map(_is_weight, entries))
    except OSError:  # it is there, for its file was named: what is wrong is told when it is opened
        return True


def _is_weight(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith((WEIGHT_SUFFIX, INDEX_SUFFIX)) and not entry.is_dir()


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
        inner = [e.path for e in listed if e.is_dir() and not e.name.startswith(".")]
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
        self._pool = ThreadPoolExecutor(WORKERS) if several else None
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
