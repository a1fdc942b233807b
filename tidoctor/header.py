"""The table of one safetensors file: bytes → `Header`, `Header` → bytes.

A file is an 8-byte little-endian length, that many bytes of JSON, and the data section
(https://huggingface.co/docs/safetensors, "Format"). `parse` never fails on content: it keeps every
entry that it can understand and lists every defect with the entry concerned. The judge of what is
refused is the reference library, safetensors 0.8.0 (its rules were read in `tensor.rs`, the tests
compare verdicts): a header that `parse` calls sound opens there. Known differences:

- a repeated tensor name, an entry written as the list `["F32",[2],[0,8]]`, unknown extra fields and
  null in place of `__metadata__` are defects here, but as the library accepts them, not refused;
- refused here although the library accepts them: a dtype written as the object `{"F32":null}`, a
  number within 0.1 % of the largest double, and a text above a megabyte of which more than a sixth
  are brackets and colons.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Literal, NamedTuple

from tidoctor.dtypes import DTYPES, U64_MAX, span_bytes
from tidoctor.errors import Refused
from tidoctor.headercolumns import Columns as Columns
from tidoctor.headercolumns import Form, columns
from tidoctor.headertext import (
    METADATA,
    Partial,
    Repeated,
    TextDefect,
    decode,
    deeper,
    no_collector,
    pairs_of,
    quoted,
    repeated_keys,
    salvage,
    shown,
)
from tidoctor.names import printable
from tidoctor.sniff import FileDefect, cut_off, unfit

HEADER_CAP = 100_000_000
"""The longest JSON text in bytes that the library reads (MAX_HEADER_SIZE in tensor.rs)."""

DefectKind = Literal[
    FileDefect,
    TextDefect,
    # the table and one entry
    "duplicate-key", "bad-metadata", "no-tensors",
    "bad-entry", "unknown-dtype", "bad-shape", "bad-offsets", "span-size",
    # how the data lies
    "gap", "overlap", "shared-span", "truncated", "trailing", "misaligned",
]  # fmt: skip
"""Everything that can be wrong with a file."""

_FIELDS = ("dtype", "shape", "data_offsets")
_LISTED = 10_000  # defects
_FIRST_READ = 1 << 16  # bytes; holds most headers whole
_DEEPEST = 125  # nesting of a field's value; with table and entry 127, the limit of serde_json


class Entry(NamedTuple):
    """One tensor; `begin` and `end` in bytes from the start of the data section, as written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Defect(NamedTuple):
    """One thing wrong: `entry` is its raw name, `text` a sentence fragment that is safe to print.

    `refused` says that the reference library refuses the file because of it.
    """

    kind: DefectKind
    entry: str | None
    text: str
    refused: bool


class Header(NamedTuple):
    """What the table of one file says, with all that is wrong about it.

    `columns` are its entries, with unique names (the last spelling of a repeated one, as in the
    library), sorted by begin and end. `metadata` is None when there is no `__metadata__` object.
    `length` is that of the JSON text with its padding (0 when unknown) and `size` that of the
    file, both in bytes.
    """

    columns: Columns
    metadata: Mapping[str, object] | None
    defects: tuple[Defect, ...]
    length: int
    size: int

    @property
    def names(self) -> Sequence[str]:
        """The names of the tensors, in the order of their data."""
        return self.columns.names

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All tensors, in the order of their data."""
        return tuple(
            Entry(name, *form, begin, end)
            for name, form, begin, end in zip(*self.columns, strict=True)
        )

    @property
    def data_start(self) -> int:
        """Where in the file the data section starts, in bytes."""
        return 8 + self.length

    @property
    def sound(self) -> bool:
        """Whether the reference library opens the file."""
        return not any(defect.refused for defect in self.defects)

    def readable(self, entry: Entry) -> bool:
        """Whether the bytes of the entry are all inside the file and as many as they should be.

        What an unknown dtype should take is not known: there, any span inside the file will do.
        """
        if not 0 <= entry.begin <= entry.end <= self.size - self.data_start:
            return False
        expected = span_bytes(entry.dtype, entry.shape)
        return expected == entry.end - entry.begin or entry.dtype not in DTYPES


def parse(read: Callable[[int, int], bytes], size: int, *, cap: int = HEADER_CAP) -> Header:
    """The header of a file of `size` bytes; `read(begin, end)` gives bytes of it.

    Whatever the content is, there is a result: only what `read` raises gets through. At most
    `cap` bytes of JSON are read, and memory stays below about 25 times their number.
    """
    log = _Log()
    head = read(0, min(size, _FIRST_READ)) if size > 0 else b""
    length = int.from_bytes(head[:8], "little") if len(head) >= 8 else 0
    if (wrong := unfit(head, length, size, cap)) is not None:
        log.file(*wrong)
        if wrong[0] != "header-truncated":
            known = length if wrong[0] == "header-too-large" else 0
            return Header(Columns(), None, log.close(), known, size)
    stop = min(8 + length, size)
    raw = head[8:stop] + (read(len(head), stop) if stop > len(head) else b"")
    del head
    if len(raw) < length and not log:  # the file has shrunk since its size was taken
        log.file("header-truncated", cut_off(length, len(raw)))
    room, cut = size - 8 - length, bool(log)
    with no_collector():
        table, metadata = (not cut and columns(raw, room)) or _examined(raw, room, cut, log)
    if table.names and length % 8 and not cut:
        text = f"the data starts at byte {8 + length:,}, which is not a multiple of 8"
        log.file("misaligned", text, refused=False)
    return Header(table, metadata, log.close(), length, size)


def columned(entries: Iterable[Entry]) -> Columns:
    """Entries by columns, in their order."""
    kept: dict[Form, Form] = {}
    rows = [
        (name, kept.setdefault((dtype, shape), (dtype, shape)), begin, end)
        for name, dtype, shape, begin, end in entries
    ]
    return Columns(*zip(*rows, strict=True))


def serialise(
    entries: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str],
    *,
    align: int = 8,
    phase: int = 0,
) -> tuple[bytes, tuple[Entry, ...]]:
    """The start of a file, up to its data, and the entries with the offsets given to them.

    `entries` are name, dtype, shape and number of bytes, in the order in which their data will
    follow, back to back. Spaces after the JSON make the data start `phase` bytes after a multiple
    of `align`; both are multiples of 8, so that the data start at one.
    Raises `Refused` when the reference library would refuse the result.
    """
    table: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    placed: list[Entry] = []
    begin = 0
    for name, dtype, shape, nbytes in entries:
        if name in table or name == METADATA:
            raise Refused(quoted(name), "cannot be the name of one more tensor in this file")
        end = begin + nbytes
        if nbytes != span_bytes(dtype, shape) or end > U64_MAX:
            what = f"{nbytes:,} bytes are not a {printable(dtype)} tensor of shape {list(shape)}"
            raise Refused(quoted(name), what)
        placed.append(Entry(name, dtype, tuple(shape), begin, end))
        table[name] = dict(zip(_FIELDS, (dtype, list(shape), [begin, end]), strict=True))
        begin = end
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Refused(METADATA, "a value is not a text")
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Refused("header", "a name or a metadata value is not Unicode text") from error
    text += b" " * ((phase - 8 - len(text)) % align)
    if len(text) > HEADER_CAP:
        raise Refused("header", f"{len(text):,} bytes exceed the {HEADER_CAP:,} that readers allow")
    return len(text).to_bytes(8, "little") + text, tuple(placed)


class _Log(list[Defect]):
    """The defects found so far; those of entries are listed up to a limit and then counted."""

    omitted = 0
    last: Defect

    def file(self, kind: DefectKind, text: str, refused: bool = True) -> None:
        self.append(Defect(kind, None, text, refused))

    def entry(self, kind: DefectKind, name: str, text: str, refused: bool = True) -> None:
        """`text` continues a sentence that starts with the name."""
        if len(self) < _LISTED:
            self.append(Defect(kind, name, f"{quoted(name)} {text}", refused))
        else:
            self.omitted += 1
            self.last = Defect(kind, None, "", (self.omitted > 1 and self.last.refused) or refused)

    def close(self) -> tuple[Defect, ...]:
        """All defects, with one that stands for those not listed."""
        if self.omitted:
            text = f"{self.omitted:,} more defects of entries are not listed"
            self.append(self.last._replace(text=text))
        return tuple(self)


# --- what the table says -----------------------------------------------------------------------


def _examined(
    raw: bytes, room: int, cut: bool, log: _Log
) -> tuple[Columns, Mapping[str, object] | None]:
    """Entries in data order and metadata of any table, or of what is left of one that is cut."""
    table = salvage(raw.decode("utf-8", "replace")) if cut else decode(raw, log.file)
    entries, metadata = _contents(table, log)
    if not cut and isinstance(table, dict):
        # What an entry that was given up occupies is unknown, and so is what no entry occupies.
        complete = len(entries) + (METADATA in table) == len(table)
        whole = complete and not isinstance(table, Partial)
        _layout(entries, room, whole, log)
        if whole and not entries:
            log.file("no-tensors", "the header names no tensor", refused=False)
    return columned(entries), metadata


def _contents(table: object, log: _Log) -> tuple[tuple[Entry, ...], Mapping[str, object] | None]:
    """Entries in data order, and the metadata."""
    if not isinstance(table, dict):
        log.file("bad-json", f"the header is {shown(table)}, not an object")
        return (), None
    for name in repeated_keys(table):
        log.entry("duplicate-key", name, "occurs more than once in the header", name == METADATA)
    # Only the last of several rows of one name counts, yet each has to be well-formed.
    rows = (_entry(*pair, log) for pair in pairs_of(table) if pair[0] != METADATA)
    found = {row.name: row for row in rows if row is not None}.values()
    for name, *_, begin, end in [entry for entry in found if entry.begin > entry.end]:
        log.entry("bad-offsets", name, f"has [{begin}, {end}] for the range of its bytes")
    entries = sorted((e for e in found if e.begin <= e.end), key=itemgetter(3, 4))
    metadata = _metadata(table[METADATA], log) if METADATA in table else None
    return tuple(entries), metadata


def _metadata(value: object, log: _Log) -> Mapping[str, object] | None:
    if not isinstance(value, dict):
        text = f"is {shown(value)}, not an object"
        log.entry("bad-metadata", METADATA, text, value is not None)
        return None
    for key in repeated_keys(value):
        log.entry("duplicate-key", METADATA, f"has {quoted(key)} more than once", False)
    for key, item in pairs_of(value):
        if not isinstance(item, str):
            text = f"has {shown(item)} for {quoted(key)}, not a text"
            log.entry("bad-metadata", METADATA, text)
    return dict(value)


def _entry(name: str, value: object, log: _Log) -> Entry | None:
    """The entry if its shape and offsets are such, whatever its dtype is."""
    if not isinstance(value, dict):
        if not isinstance(value, list) or len(value) != 3:
            log.entry("bad-entry", name, f"is {shown(value)}, not an object")
            return None
        log.entry("bad-entry", name, "is a list of its fields, not an object", refused=False)
        value = dict(zip(_FIELDS, value, strict=True))
    if len(value) != 3 or isinstance(value, Repeated):
        _fields(name, value, log)
    try:
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    except KeyError:
        missing = " and ".join(field for field in _FIELDS if field not in value)
        log.entry("bad-entry", name, f"has no {missing}")
        return None
    if type(dtype) is not str or dtype not in DTYPES:
        log.entry("unknown-dtype", name, f"has {shown(dtype)} for its dtype")
    shaped, placed = _whole(shape), _whole(offsets) and len(offsets) == 2
    if not shaped:
        log.entry("bad-shape", name, f"has {shown(shape)} for its shape")
    if not placed:
        log.entry("bad-offsets", name, f"has {shown(offsets)} for the range of its bytes")
    if not (shaped and placed and type(dtype) is str):
        return None
    return Entry(name, dtype, tuple(shape), *offsets)


def _whole(numbers: object) -> bool:
    """Whether it is a list of integers that fit into 64 bits."""
    if type(numbers) is not list or not {*map(type, numbers)} <= {int}:
        return False
    return not numbers or (min(numbers) >= 0 and max(numbers) <= U64_MAX)


def _fields(name: str, value: dict[str, object], log: _Log) -> None:
    """Repeated and unknown fields of an entry."""
    for field in repeated_keys(value):
        text = f"has its field {quoted(field)} more than once"
        log.entry("duplicate-key", name, text, field in _FIELDS)
    for field, item in pairs_of(value):
        if field not in _FIELDS:
            log.entry("bad-entry", name, f"has the unknown field {quoted(field)}", refused=False)
            if deeper(item, _DEEPEST):
                log.entry("bad-json", name, f"is nested too deeply in {quoted(field)}")


# --- how the entries lie -----------------------------------------------------------------------


def _layout(entries: Sequence[Entry], room: int, whole: bool, log: _Log) -> None:
    """Compares the spans with each other, with what they should hold and with the `room` there is.

    Unless the table is `whole`, bytes that belong to no entry prove nothing.
    """
    span = lru_cache(1024)(span_bytes)  # a model has many tensors of few shapes
    reach = 0
    owner: Entry | None = None  # the entry that ends at `reach`
    for entry in entries:
        name, dtype, shape, begin, end = entry
        if begin > reach and whole:
            text = f"comes after {begin - reach:,} bytes, from byte {reach:,}, that belong to none"
            log.entry("gap", name, text)
        elif begin < reach and owner is not None:
            _clash(entry, owner, log)
        if span(dtype, shape) != end - begin and dtype in DTYPES:
            _misfit(entry, log)
        if end >= reach:
            reach, owner = end, entry
    if reach > room:
        cut = [entry.name for entry in entries if entry.end > room]
        names = ", ".join(map(quoted, cut[:3]))
        more = f" and {len(cut) - 3:,} more" if len(cut) > 3 else ""
        log.file("truncated", f"the file ends {reach - room:,} bytes early and cuts {names}{more}")
    elif reach < room and whole:
        log.file("trailing", f"{room - reach:,} bytes after the last tensor belong to none")


def _clash(entry: Entry, owner: Entry, log: _Log) -> None:
    name, *_, begin, end = entry
    if (begin, end) == owner[3:]:
        text = f"has the very bytes of {quoted(owner.name)}, {begin:,} to {end:,}"
        log.entry("shared-span", name, text)
    else:
        text = f"begins at byte {begin:,}, {quoted(owner.name)} ends at byte {owner.end:,}"
        log.entry("overlap", name, text)


def _misfit(entry: Entry, log: _Log) -> None:
    """The span is not what the known dtype and the shape ask for."""
    name, dtype, shape, begin, end = entry
    sizes = " x ".join(map(str, shape[:8])) + (" x …" if len(shape) > 8 else "")
    what = f"{sizes or 'one'} elements of {DTYPES[dtype].bits} bits"
    expected = span_bytes(dtype, shape)
    if expected is not None:
        text = f"has {end - begin:,} bytes, its {what} take {expected:,}"
        log.entry("span-size", name, text)
    else:
        text = f"has {what}, which is no number of whole bytes below 2**64"
        log.entry("bad-shape", name, text)
