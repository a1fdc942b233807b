"""Tensors as rows of a table: name, dtype, shape, and which bytes of which file they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import chain, repeat
from operator import attrgetter, eq, itemgetter
from typing import NamedTuple

from tidoctor.casting import WIDTHS
from tidoctor.header import Header
from tidoctor.headercolumns import Form as Form
from tidoctor.source import Source, ranges


class Span(NamedTuple):
    """Bytes [begin, end) of a file at a source, counted from the start of the file."""

    source: Source
    file: str
    begin: int
    end: int

    def opened(self) -> AbstractContextManager[Callable[[int, int], bytes]]:
        """A function that reads ranges of the file, which stays open meanwhile if it is local."""
        return ranges(self.source, self.file)


class Section(NamedTuple):
    """What the bytes of tensors are counted from: byte `start` of a file at a source."""

    source: Source
    file: str
    start: int


class Tensor(NamedTuple):
    """One row: a name, dtype and shape, the weight file it stands in and where its bytes are.

    These are bytes [begin, end) of a section; `span` says where in a file. `stored` is the type
    that the bytes have there when a plan wants them converted, else empty.
    """

    # One section for all rows of a file: a model may have 90,000 of them.
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    section: Section
    begin: int
    end: int
    stored: str = ""

    @property
    def span(self) -> Span:
        """Where the bytes are, in the type that they have there."""
        source, file, start = self.section
        return Span(source, file, start + self.begin, start + self.end)

    @property
    def nbytes(self) -> int:
        """Length in bytes, once converted."""
        length = self.end - self.begin
        return length // WIDTHS[self.stored] * WIDTHS[self.dtype] if self.stored else length

    def moved(self, span: Span) -> Tensor:
        """The same row with its bytes at another place."""
        source, file, begin, end = span
        return self._replace(section=Section(source, file, 0), begin=begin, end=end)


Forms = Mapping[Form, Sequence[str]]
"""(dtype, shape) → the names of what has both; 90,000 tensors have some twenty of these."""


class Table(Mapping[str, Tensor]):
    """The rows of weight files of a source, no name in two of them; made when one is asked for.

    A model may have 90,000 rows, of which a diagnosis looks at a few: what it asks about all of
    them is answered by the columns of the headers.
    """

    def __init__(self, source: Source, headers: Mapping[str, Header]) -> None:
        self._source = source
        self._rows: dict[str, dict[str, Tensor]] = {}  # by file
        self.headers = headers
        self.homes: dict[str, str] = {}
        for file, header in headers.items():
            self.homes.update(zip(header.names, repeat(file)))

    def __getitem__(self, name: str) -> Tensor:
        return self._of(self.homes[name])[name]

    def __contains__(self, name: object) -> bool:
        return name in self.homes

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)

    def keys(self) -> KeysView[str]:
        """The names; those of a dictionary are compared faster than those of a mapping."""
        return self.homes.keys()

    def items(self) -> ItemsView[str, Tensor]:
        """All names and rows."""
        return self._all.items()

    def values(self) -> ValuesView[Tensor]:
        """All rows."""
        return self._all.values()

    @cached_property
    def forms(self) -> Forms:
        """The names by dtype and shape, in their order; found once."""
        return _forms(self)

    @cached_property
    def _all(self) -> dict[str, Tensor]:
        return dict(chain.from_iterable(self._of(file).items() for file in self.headers))

    def _of(self, file: str) -> dict[str, Tensor]:
        if file not in self._rows:
            self._rows[file] = stored_rows(file, self.headers[file], self._source, file)
        return self._rows[file]


def stored_rows(name: str, header: Header, source: Source, file: str) -> dict[str, Tensor]:
    """Name → row for all of a weight file that stands as `file` at a source."""
    section = Section(source, file, header.data_start)
    return {
        each: Tensor(each, dtype, shape, name, section, begin, end)
        for each, (dtype, shape), begin, end in zip(*header.columns, strict=True)
    }


def homes(rows: Mapping[str, Tensor]) -> Mapping[str, str]:
    """Name → file in which the row stands."""
    if isinstance(rows, Table):
        return rows.homes
    return {name: row.file for name, row in rows.items()}


def shapes(rows: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape."""
    if not isinstance(rows, Table):
        return {name: row.shape for name, row in rows.items()}
    found: dict[str, tuple[int, ...]] = {}
    for header in rows.headers.values():
        names, forms, *_ = header.columns
        found.update(zip(names, map(itemgetter(1), forms), strict=True))
    return found


def are_shaped(rows: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether rows have just the names and shapes that are wanted."""
    if not isinstance(rows, Table):
        return shapes(rows) == wanted
    tables = [header.columns for header in rows.headers.values()]
    return len(rows) == len(wanted) and all(
        all(map(eq, map(wanted.get, table.names), map(itemgetter(1), table.forms)))
        for table in tables
    )


def forms(rows: Mapping[str, Tensor]) -> Forms:
    """The names of rows by dtype and shape, in their order."""
    return rows.forms if isinstance(rows, Table) else _forms(rows)


def _forms(rows: Mapping[str, Tensor]) -> Forms:
    found: dict[Form, list[str]] = defaultdict(list)
    for name, form in formed(rows):
        found[form].append(name)
    return found


def formed(rows: Mapping[str, Tensor]) -> Iterable[tuple[str, Form]]:
    """Names with their dtypes and shapes."""
    if isinstance(rows, Table):
        columns = (header.columns for header in rows.headers.values())
        return chain.from_iterable(zip(c.names, c.forms, strict=True) for c in columns)
    return ((name, (row.dtype, row.shape)) for name, row in rows.items())


def parameters(rows: Mapping[str, Tensor]) -> int:
    """Number of elements of all rows."""
    return sum(elements(shape) * len(names) for (_, shape), names in forms(rows).items())


def size(rows: Mapping[str, Tensor]) -> int:
    """Length in bytes of all rows, once converted."""
    if isinstance(rows, Table):
        return sum(sum(h.columns.ends) - sum(h.columns.begins) for h in rows.headers.values())
    return nbytes(rows.values())


def nbytes(rows: Collection[Tensor]) -> int:
    """Length in bytes of many rows together, once converted."""
    if any(map(attrgetter("stored"), rows)):
        return sum(row.nbytes for row in rows)
    # A property asked 90,000 times would take longer than all that is read of the file.
    ends, begins = map(attrgetter("end"), rows), map(attrgetter("begin"), rows)
    return int(sum(ends) - sum(begins))


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    n = 1
    for d in shape:
        n *= d
    return n
