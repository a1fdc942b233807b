"""A place far away: read ahead by many threads, and in large strides.

What counts is the number of round trips that wait for each other. So the heads of all weight files
are fetched at once, as long as most headers are, and long ranges in pieces side by side.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.transfer import Sink, Spilled

T = TypeVar("T")

THREADS = 24  # requests at a time for bytes
SCOUTS = 16  # requests at a time that only ask where a file lies
FIRST = 100_000  # bytes; one request has the whole header of nearly every shard
STRIDE = 8 << 20  # bytes of one request that is held
POURED = 8 << 20  # bytes of one request that is not
_GATHERED = 128 << 10  # bytes of it that are put away at once
_WAITING = THREADS + 8  # such requests that have been made when the first is waited for
_LONGEST = 8 << 20  # bytes of a header that is fetched ahead
_HELD = 64 << 20  # bytes of long headers and texts held at a time
_HEADS = 512  # files whose heads are fetched ahead
_IDLE = 2.0  # seconds after which a thread without work ends
_RECENT = 16  # short ranges kept, since every diagnosis of a repair reads the same ones


class Listed(NamedTuple):
    """What the listing of a place says of a file: its size in bytes and its SHA-256, if it does."""

    size: int | None
    sha256: str | None = None
    stored: bool = True  # aside, byte for byte; not as a text that may be compressed on the way


class Got(NamedTuple):
    """Bytes of a file, and its size where the server told it."""

    data: bytes
    total: int | None


class Absent(Exception):
    """A file that is listed, or asked for, is not there."""


class Reader:
    """Reads ranges of the files of one place, on any thread. It raises Absent or Unreadable."""

    def fetch(self, file: str, begin: int, end: int) -> Got:
        """The bytes [begin, end) of a file."""
        raise NotImplementedError

    def find(self, file: str, end: int) -> None:
        """Find out where a file lies whose bytes [0, end) will be asked for, if that costs any."""

    def stream(self, file: str, begin: int, end: int, sink: Sink) -> None:
        """The same, given to `sink` in order as they come. Raises Spilled when that fails."""
        for at in range(begin, end, STRIDE):
            data = self.fetch(file, at, min(at + STRIDE, end)).data
            try:
                sink(data)
            except OSError as e:
                raise Spilled(e) from e


class Distant:
    """A source whose reads take time: what all of them share.

    `repository` is the model on the Hub that it is, and `inside` the folder of it that was given.
    """

    repository: str | None = None
    inside = ""

    stride = 4 * STRIDE

    def __init__(
        self,
        name: str,
        listing: Mapping[str, Listed],
        reader: Reader,
        *,
        kind: str = "folder",
        chosen: str | None = None,
        revision: str | None = None,
        folders: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.kind = kind
        self.chosen = chosen
        self.revision = revision
        self.bytes_read = 0
        self._listing = listing
        self._reader = reader
        self._folders = folders
        self._heads: dict[str, Future[Got]] = {}
        self._recent: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._team, self._scouts = Team(THREADS), Team(SCOUTS)
        self._lock = threading.Lock()
        self._held = 0

    def files(self) -> dict[str, int]:
        """The files at the top level, by name, with their sizes in bytes."""
        names = sorted(n for n in self._listing if "/" not in n)
        self.ahead(n for n in names if self._listing[n].size is None)
        sizes = ((n, self.size_of(n)) for n in names)
        return {n: size for n, size in sizes if size is not None}

    def folders(self) -> frozenset[str]:
        """The names of the folders at the top level."""
        return self._folders | {n.partition("/")[0] for n in self._listing if "/" in n}

    def tree(self) -> Mapping[str, int | None]:
        """All files, those in folders too, with their sizes in bytes where they are listed."""
        return {n: listed.size for n, listed in sorted(self._listing.items())}

    def listed(self, file: str) -> Listed | None:
        """What the listing says of a file."""
        return self._listing.get(file)

    def size(self, file: str) -> int | None:
        """The size of a file in bytes, None when it is not there.

        What the server said when it sent the file counts more than what was listed.
        Raises Unreadable for a path that leads out of the checkpoint.
        """
        self.vet(file)
        if file not in self._listing:
            return None
        head = self._heads.get(file)
        if head is None:
            return self.size_of(file)
        try:
            total = head.result().total
        except Absent:
            return None
        return total if total is not None else self._listing[file].size

    def vet(self, file: str) -> None:
        """Raise Unreadable for a path that leads out of the checkpoint."""
        if file.startswith("/") or ".." in file.replace("\\", "/").split("/"):
            raise Unreadable(printable(f"{self.name}: {file}"), "leads out of the checkpoint")

    def size_of(self, file: str) -> int | None:
        """The listed size; without one, that of the file, for which its head is fetched."""
        if (size := self._listing[file].size) is not None:
            return size
        self.ahead([file])
        return self.size(file)

    def ahead(self, files: Iterable[str]) -> None:
        """Begin to fetch the heads of these files, which will be asked for next."""
        for file in files:
            if file in self._listing and file not in self._heads and len(self._heads) < _HEADS:
                head: Future[Got] = Future()
                self._heads[file] = head
                self._scouts.begin(partial(self._find, file, head))

    def _find(self, file: str, head: Future[Got]) -> None:
        """Find out where a file lies, then have its head fetched."""
        try:
            self._reader.find(file, self._first(file))
        except BaseException as e:
            head.set_exception(e)
        else:
            self._team.begin(partial(self._head, file), head)

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of a file, fewer when it ends before.

        Raises Unreadable when it cannot be read, or is not there.
        """
        try:
            head = self._heads[file].result().data if file in self._heads else b""
            if end <= len(head):
                return head[begin:end]
            start = max(begin, len(head))
            rest = self._range(file, start, end)
        except Absent as e:
            raise Unreadable(printable(f"{self.name}: {file}"), "is not there") from e
        return head[begin:] + rest if begin < len(head) else rest

    def _range(self, file: str, begin: int, end: int) -> bytes:
        key = (file, begin, end)
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        size = self.size(file)
        end = end if size is None else min(end, size)
        bounds = range(begin, end, STRIDE)
        if len(bounds) > 1:
            parts = [
                self._team.begin(partial(self._counted, file, at, min(at + STRIDE, end)))
                for at in bounds
            ]
            return b"".join(part.result().data for part in parts)
        data = self._counted(file, begin, end).data if begin < end else b""
        if len(data) <= 1 << 20:
            self._recent[key] = data
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return data

    def pour(
        self, file: str, begin: int, end: int, put: Callable[[int, bytearray], None]
    ) -> Generator[tuple[int, int]]:
        """Fetch a range side by side, in parts, and `put` what comes, with its place in the file.

        Gives (begin, end) of the parts in order, each as soon as it is complete, so that what comes
        can be looked at while the rest is on its way. `put` is called on several threads; what it
        raises as OSError is raised here, and all of it ends. Raises Unreadable when the file cannot
        be read, or ends before.
        """
        ended = threading.Event()
        waiting: deque[tuple[int, int, Future[None]]] = deque()
        try:
            for at in range(begin, end, POURED):
                stop = min(at + POURED, end)
                job = self._team.begin(partial(self._pour, file, put, ended, at, stop))
                waiting.append((at, stop, job))
                if len(waiting) == _WAITING:
                    yield self._poured(file, *waiting.popleft())
            while waiting:
                yield self._poured(file, *waiting.popleft())
        finally:
            ended.set()

    def _poured(self, file: str, begin: int, end: int, job: Future[None]) -> tuple[int, int]:
        try:
            job.result()
        except Spilled as e:
            raise e.error from None
        except Absent as e:
            raise Unreadable(printable(f"{self.name}: {file}"), "is not there") from e
        return begin, end

    def _pour(
        self, file: str, put: Callable[[int, bytearray], None], ended: threading.Event,
        begin: int, end: int,
    ) -> None:  # fmt: skip
        at, held = begin, bytearray()

        def take(chunk: bytes) -> None:
            nonlocal at, held
            if ended.is_set():
                raise InterruptedError
            held += chunk
            if len(held) >= _GATHERED or at + len(held) == end:
                put(at, held)
                at, held = at + len(held), bytearray()

        if not ended.is_set():
            self._reader.stream(file, begin, end, take)
        with self._lock:
            self.bytes_read += at - begin
        if at < end and not ended.is_set():
            raise Unreadable(printable(f"{self.name}: {file}"), f"ends before byte {end:,}")

    def _counted(self, file: str, begin: int, end: int) -> Got:
        got = self._reader.fetch(file, begin, end)
        with self._lock:
            self.bytes_read += len(got.data)
        return got

    def _head(self, file: str) -> Got:
        """The beginning of a file: a text as a whole, of weights the header."""
        size = self._listing[file].size
        text = file.endswith(".json")
        want = self._first(file)
        if text and size is not None and self._holds(size):
            want = size
        head = self._counted(file, 0, want) if want else Got(b"", 0)
        total = head.total if head.total is not None else size
        if text or total is None or len(head.data) < 8:
            return Got(head.data, total)
        stop = min(8 + int.from_bytes(head.data[:8], "little"), total)
        if stop <= len(head.data) or stop > _LONGEST or not self._holds(stop):
            return Got(head.data, total)  # with the first bytes of the first tensor
        rest = self._counted(file, len(head.data), stop)
        return Got(head.data + rest.data, total)

    def _first(self, file: str) -> int:
        """How many bytes of a file are asked for at first."""
        size = self._listing[file].size
        return FIRST if size is None else min(FIRST, size)

    def _holds(self, size: int) -> bool:
        """Whether so many bytes more may be held."""
        with self._lock:
            if self._held + size > _HELD:
                return size <= FIRST
            self._held += size
        return True


class Team:
    """A few threads that end when there is nothing to do, or with the process."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._alive = 0
        self.busy = 0  # jobs that are not done
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        # Not a SimpleQueue: there, whoever is woken for a job that another takes may wait for ever.
        self._more = threading.Condition()

    def begin(self, job: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Do it as soon as a thread is free."""
        future = future or Future()
        with self._more:
            self._jobs.append((future, job))
            self.busy += 1
            another = self._alive < self._threads
            self._alive += another
            self._more.notify()
        if another:
            threading.Thread(target=self._work, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._more:
                if not self._more.wait_for(lambda: self._jobs, _IDLE):
                    self._alive -= 1
                    return
                future, job = self._jobs.popleft()
            try:
                future.set_result(job())
            except BaseException as e:
                future.set_exception(e)
            del future, job
            with self._more:
                self.busy -= 1
