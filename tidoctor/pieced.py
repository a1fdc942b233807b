"""Rows whose bytes stand in no file as they are: in several ranges, or to be computed.

They are rows like any others, at a source that derives its bytes from other files: experts stacked
and projections joined are `Pieced`, of ranges one after the other. Only who moves bytes asks where
they really are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from tidoctor.tensors import Span

_FILE = "pieces"


class Derived:
    """A source of one file that is nowhere: its bytes come from ranges of other files.

    `spans` are those ranges, in existing files.
    """

    kind = "file"
    chosen: str | None = None
    revision: str | None = None
    computed = False
    """Whether its numbers are computed, and not bytes of those files as they are."""

    def __init__(self, file: str, size: int, spans: Iterable[Span]) -> None:
        """A file of `size` bytes that come from these ranges."""
        self.spans = tuple(beneath(spans))
        self.name = self.spans[0].source.name if self.spans else "nothing"
        self.stride = min((span.source.stride for span in self.spans), default=1)
        self.bytes_read = 0
        self._file, self._size = file, size

    def files(self) -> dict[str, int]:
        """The one file."""
        return {self._file: self._size}

    def folders(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def size(self, file: str) -> int | None:
        """Its size in bytes."""
        return self._size if file == self._file else None

    def vet(self, file: str) -> None:
        """No path leads anywhere."""

    def ahead(self, files: Iterable[str]) -> None:
        """Nothing to prepare."""

    def listed(self, file: str) -> None:
        """No listing has it."""

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end), fewer when one of the files ends before."""
        raise NotImplementedError


class Pieced(Derived):
    """Ranges of other files, one after the other."""

    def __init__(self, spans: Iterable[Span]) -> None:
        """Put ranges one after the other."""
        self._runs = joined(spans)
        self._ends = list(accumulate(span.end - span.begin for span in self._runs))
        super().__init__(_FILE, self._ends[-1] if self._ends else 0, self._runs)

    @property
    def span(self) -> Span:
        """All of it; the one range itself where it is only one."""
        return self._runs[0] if len(self._runs) == 1 else Span(self, _FILE, 0, self._size)

    def read(self, file: str, begin: int, end: int) -> bytes:
        """The bytes [begin, end), fewer when one of the files ends before."""
        parts = []
        for span in self.within(begin, end):
            part = span.source.read(span.file, span.begin, span.end)
            self.bytes_read += len(part)
            parts.append(part)
            if len(part) < span.end - span.begin:
                break
        return b"".join(parts)

    def within(self, begin: int, end: int) -> Iterator[Span]:
        """Where the bytes [begin, end) really are."""
        at = bisect_right(self._ends, begin)
        while begin < end and at < len(self._runs):
            span = self._runs[at]
            first = self._ends[at] - (span.end - span.begin)
            last = min(end, self._ends[at])
            yield span._replace(begin=span.begin + begin - first, end=span.begin + last - first)
            begin, at = last, at + 1


def beneath(spans: Iterable[Span]) -> Iterator[Span]:
    """The ranges of existing files that the bytes of these come from."""
    for span in spans:
        source = span.source
        if isinstance(source, Pieced):
            yield from beneath(source.within(span.begin, span.end))
        elif isinstance(source, Derived):
            yield from source.spans
        else:
            yield span


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same bytes in the same order, where they really are.

    Neighbouring ranges are made one, and empty ones are gone.
    """
    runs: list[Span] = []
    for each in spans:
        source, _, begin, end = each
        for span in source.within(begin, end) if isinstance(source, Pieced) else (each,):
            last = runs[-1] if runs else None
            if last and last[:2] == span[:2] and last.end == span.begin:
                runs[-1] = last._replace(end=span.end)
            elif span.begin < span.end:
                runs.append(span)
    return tuple(runs)
