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
  are brackets and colons: a tensor has seven in at least fifty bytes, and the objects made of a
  denser text would take over 25 times its size in memory.
"""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from tidoctor.errors import Refused
from tidoctor.names import printable


class Dtype(NamedTuple):
    """Bits of one element, and the first safetensors release that reads the type."""

    bits: int
    since: str


# From the enum `Dtype` of tensor.rs at the release tags, of which 0.5.3 is the oldest looked at.
_RELEASES = {
    "0.5.3": "BOOL:8 U8:8 I8:8 F8_E5M2:8 F8_E4M3:8 I16:16 U16:16 F16:16 BF16:16 "
    "I32:32 U32:32 F32:32 F64:64 I64:64 U64:64",
    "0.6.0": "F4:4 F6_E2M3:6 F6_E3M2:6 F8_E8M0:8",
    "0.7.0": "C64:64",
    "0.8.0": "F8_E4M3FNUZ:8 F8_E5M2FNUZ:8",
}
DTYPES: Mapping[str, Dtype] = MappingProxyType(
    {
        name: Dtype(int(bits), since)
        for since, names in _RELEASES.items()
        for name, bits in (word.split(":") for word in names.split())
    }
)

HEADER_CAP = 100_000_000
"""The longest JSON text in bytes that the library reads (MAX_HEADER_SIZE in tensor.rs)."""

DefectKind = Literal[
    # the file is none, or its header cannot be had
    "file-empty", "too-short", "lfs-pointer", "html", "not-safetensors", "all-zero",
    "header-truncated", "header-too-large",
    # the JSON text
    "not-utf8", "bom", "nul-padding", "bad-json", "duplicate-key", "bad-metadata", "no-tensors",
    # one entry
    "bad-entry", "unknown-dtype", "bad-shape", "bad-offsets", "span-size",
    # how the data lies
    "gap", "overlap", "shared-span", "truncated", "trailing", "misaligned",
]  # fmt: skip
"""Everything that can be wrong with a file."""

_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_U64 = 2**64 - 1
_LISTED = 10_000  # defects
_FIRST_READ = 1 << 16  # bytes; holds most headers whole
_DEEPEST = 125  # nesting of a field's value; with table and entry 127, the limit of serde_json
_BLANK = " \t\r\n"


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


@dataclass(frozen=True, slots=True)
class Header:
    """What the table of one file says, with all that is wrong about it.

    `entries` have unique names (the last spelling of a repeated one, as in the library) and are
    sorted by `begin` and `end`. `metadata` is None when there is no `__metadata__` object.
    `length` is that of the JSON text with its padding (0 when unknown) and `size` that of the
    file, both in bytes.
    """

    entries: tuple[Entry, ...]
    metadata: Mapping[str, object] | None
    defects: tuple[Defect, ...]
    length: int
    size: int

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


def span_bytes(dtype: str, shape: Sequence[int]) -> int | None:
    """How many bytes such a tensor takes.

    None for an unknown dtype, for a size that overflows 64 bits when multiplied from left to right
    (as the library does: [2**40, 2**40, 0] overflows, [0, 2**63, 2**63] does not), and for
    elements smaller than a byte that do not fill whole bytes.
    """
    known = DTYPES.get(dtype)
    if known is None:
        return None
    count = 1
    for n in shape:
        count *= n
        if n < 0 or n > _U64 or count > _U64:
            return None
    bits = count * known.bits
    return None if bits > _U64 or bits % 8 else bits // 8


def parse(read: Callable[[int, int], bytes], size: int, *, cap: int = HEADER_CAP) -> Header:
    """The header of a file of `size` bytes; `read(begin, end)` gives bytes of it.

    Whatever the content is, there is a result: only what `read` raises gets through. At most
    `cap` bytes of JSON are read, and memory stays below about 25 times their number.
    """
    log = _Log()
    head = read(0, min(size, _FIRST_READ)) if size > 0 else b""
    length = int.from_bytes(head[:8], "little") if len(head) >= 8 else 0
    if not _enclosed(head, length, size, cap, log):
        known = length if log[0].kind in ("header-truncated", "header-too-large") else 0
        if log[0].kind != "header-truncated":
            return Header((), None, log.close(), known, size)
    stop = min(8 + length, size)
    raw = head[8:stop] + (read(len(head), stop) if stop > len(head) else b"")
    del head
    if len(raw) < length and not log:  # the file has shrunk since its size was taken
        log.file("header-truncated", _cut_off(length, len(raw)))
    with _no_collector():
        cut = bool(log)
        table = _salvage(raw.decode("utf-8", "replace")) if cut else _table(raw, log)
        del raw
        entries, metadata = _contents(table, log)
    if not cut and isinstance(table, dict):
        # What an entry that was given up occupies is unknown, and so is what no entry occupies.
        complete = len(entries) + (_METADATA in table) == len(table)
        whole = complete and not isinstance(table, _Partial)
        _layout(entries, size - 8 - length, whole, log)
        if whole and not entries:
            log.file("no-tensors", "the header names no tensor", refused=False)
        if entries and length % 8:
            text = f"the data starts at byte {8 + length:,}, which is not a multiple of 8"
            log.file("misaligned", text, refused=False)
    return Header(entries, metadata, log.close(), length, size)


def serialise(
    entries: Iterable[tuple[str, str, Sequence[int], int]],
    metadata: Mapping[str, str],
    *,
    align: int = 8,
) -> tuple[bytes, tuple[Entry, ...]]:
    """The start of a file, up to its data, and the entries with the offsets given to them.

    `entries` are name, dtype, shape and number of bytes, in the order in which their data will
    follow, back to back. Spaces after the JSON make the data start at a multiple of `align` bytes.
    Raises `Refused` when the reference library would refuse the result.
    """
    table: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    placed: list[Entry] = []
    begin = 0
    for name, dtype, shape, nbytes in entries:
        if name in table or name == _METADATA:
            raise Refused(_quoted(name), "cannot be the name of one more tensor in this file")
        end = begin + nbytes
        if nbytes != span_bytes(dtype, shape) or end > _U64:
            what = f"{nbytes:,} bytes are not a {printable(dtype)} tensor of shape {list(shape)}"
            raise Refused(_quoted(name), what)
        placed.append(Entry(name, dtype, tuple(shape), begin, end))
        table[name] = dict(zip(_FIELDS, (dtype, list(shape), [begin, end]), strict=True))
        begin = end
    if not all(isinstance(value, str) for value in metadata.values()):
        raise Refused(_METADATA, "a value is not a text")
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Refused("header", "a name or a metadata value is not Unicode text") from error
    text += b" " * (-(8 + len(text)) % align)
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
            self.append(Defect(kind, name, f"{_quoted(name)} {text}", refused))
        else:
            self.omitted += 1
            self.last = Defect(kind, None, "", (self.omitted > 1 and self.last.refused) or refused)

    def close(self) -> tuple[Defect, ...]:
        """All defects, with one that stands for those not listed."""
        if self.omitted:
            text = f"{self.omitted:,} more defects of entries are not listed"
            self.append(self.last._replace(text=text))
        return tuple(self)


# --- what kind of file it is -------------------------------------------------------------------

_MAGIC = {
    b"PK\x03\x04": "a zip archive, such as torch.save writes",
    b"\x80\x02": "a pickle, such as an old torch.save wrote",
    **{bytes([0x80, protocol]): "a pickle" for protocol in (3, 4, 5)},
    b"GGUF": "a GGUF file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x1f\x8b": "gzip data",
    b"\x28\xb5\x2f\xfd": "zstandard data",
}
_POINTER = re.compile(rb"oid sha256:([0-9a-f]{64})\s+size ([0-9]{1,20})\b")


def _enclosed(head: bytes, length: int, size: int, cap: int, log: _Log) -> bool:
    """Whether the file has a header of a legal length; if not, why."""
    if size <= 0:
        log.file("file-empty", "the file is empty")
    elif len(head) < 8:
        log.file("too-short", f"the file has {size:,} bytes, the length in front alone needs 8")
    elif not any(head):
        text = f"the first {len(head):,} of {size:,} bytes are zero, as in an unfinished download"
        log.file("all-zero", text)
    elif length <= min(cap, size - 8):
        return True
    # A legal length has four zero bytes at its end; text and the containers below have not.
    elif (other := _lookalike(head)) is not None:
        log.file(*other)
    elif length <= cap:
        log.file("header-truncated", _cut_off(length, size - 8))
    elif head[8:].lstrip(_BLANK.encode()).startswith(b"{"):
        text = f"a header of {length:,} bytes is declared, readers allow {cap:,}"
        log.file("header-too-large", text)
    else:
        text = f"the first 8 bytes ({head[:8].hex()}) are no header length and no known signature"
        log.file("not-safetensors", text)
    return False


def _cut_off(length: int, present: int) -> str:
    return f"a header of {length:,} bytes is declared, the file ends after {present:,} of them"


def _lookalike(head: bytes) -> tuple[DefectKind, str] | None:
    """What the file is instead, judged by its first bytes."""
    if head.startswith(b"version https://git-lfs"):
        found = _POINTER.search(head)
        known = f"sha256 {found[1].decode()}, {int(found[2]):,} bytes" if found else "unreadable"
        return "lfs-pointer", f"the file is a git-lfs pointer in place of the real file ({known})"
    for magic, name in _MAGIC.items():
        # Two bytes alone may as well be the low end of a length.
        if head.startswith(magic) and (len(magic) > 2 or any(head[4:8])):
            return "not-safetensors", f"the file is {name}"
    words = " ".join(head[:400].decode("utf-8", "replace").strip("\ufeff\ufffd").split())
    if not words or "\ufffd" in words or not words.isprintable():
        return None
    excerpt = _quoted(words, 60)
    if words.startswith("<"):
        return "html", f"the file is an HTML or XML page ({excerpt})"
    if words.startswith(("{", "[")):
        return "not-safetensors", f"the file is JSON text without a length in front ({excerpt})"
    return "not-safetensors", f"the file is plain text ({excerpt})"


# --- the JSON text -----------------------------------------------------------------------------


class _Repeated(dict[str, object]):
    """An object in which a key occurs more than once; `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class _Partial(dict[str, object]):
    """What could be picked from a text that is not JSON."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    return table if len(table) == len(pairs) else _Repeated(pairs)


def _pairs(table: dict[str, object]) -> Iterable[tuple[str, object]]:
    return table.pairs if isinstance(table, _Repeated) else table.items()


def _repeated(table: dict[str, object]) -> list[str]:
    if not isinstance(table, _Repeated):
        return []
    return [key for key, n in Counter(key for key, _ in table.pairs).items() if n > 1]


def _integer(digits: str) -> int | float:
    """As serde_json has it: minus zero and what exceeds 64 bits are floating-point numbers."""
    if len(digits) <= 20 and digits != "-0" and -(2**63) <= (n := int(digits)) <= _U64:
        return n
    return _float(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if abs(number) > 1.797e308:
        raise ValueError("a number is out of range")
    return number


def _constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


# The exact decoder sees repeated keys and minus zero, and takes twice the time.
_QUICK = json.JSONDecoder(parse_float=_float, parse_constant=_constant)
_EXACT = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
_ERRORS = (ValueError, RecursionError)  # of both decoders
# A flat object after a plain key. Each part stops at a character that the next one needs, so that
# the search takes linear time on any text.
_FLAT = re.compile(
    r'(?<!\\)"(?:(__metadata__)"\s*:\s*(\{[^{}]*\})'
    r'|([^"\\]*)"\s*:\s*(\{\s*"(?:dtype|shape|data_offsets)"[^{}]*\}))'
)
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(u[dD][89a-fA-F])|.)", re.DOTALL)


def _table(raw: bytes, log: _Log) -> object:
    """The value of the JSON text, or a `_Partial` of what could be had of it."""
    if raw.startswith(b"\xef\xbb\xbf"):
        log.file("bom", "a byte order mark stands before the header's JSON")
        raw = raw[3:]
    if b"\0" in raw:
        bare = raw.strip(_BLANK.encode() + b"\0")
        if nuls := raw.count(b"\0") - bare.count(b"\0"):
            text = f"{nuls:,} NUL bytes pad the header's JSON, where only spaces may"
            log.file("nul-padding", text)
            raw = bare
    # Before anything is decoded, see the module's docstring.
    if len(raw) > 1_000_000 and sum(map(raw.count, (b"[", b"{", b":"))) > len(raw) // 6:
        log.file("bad-json", f"{len(raw):,} bytes of JSON have more brackets than tensors need")
        return _Partial()
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        log.file("not-utf8", f"the header is not UTF-8 at byte {8 + error.start:,} of the file")
        text = raw.decode("utf-8", "replace")
    halves = (match for match in _ESCAPE.finditer(text) if match[1])
    if b"\\" in raw and (half := next(halves, None)) is not None:
        where = f"character {half.start():,} of the header"
        log.file("bad-json", f"half a surrogate pair is escaped at {where}")
    with suppress(*_ERRORS):  # the exact decoder meets the same error, or knows better
        table: object = _QUICK.decode(text)
        if _faithful(table, raw):
            return table
        del table
    try:
        return _EXACT.decode(text)
    except _ERRORS as error:
        log.file("bad-json", _complaint(error, len(text)))
    return _salvage(text)


def _complaint(error: Exception, length: int) -> str:
    if isinstance(error, json.JSONDecodeError):
        what = error.msg[:1].lower() + error.msg[1:]
        return f"the header's JSON breaks at character {error.pos:,} of {length:,}: {what}"
    if isinstance(error, RecursionError):
        return "the header's JSON is nested too deeply"
    return f"the header's JSON breaks: {error}"


def _faithful(table: object, raw: bytes) -> bool:
    """Whether the quick decoder has lost nothing: no repeated key, no minus zero.

    The colons of the text are the pairs as written, and those inside strings. If they are just as
    many as the pairs of a table whose entries have three fields each, no pair was lost.
    """
    # One byte is found ten times faster than two.
    if type(table) is not dict or (b"-" in raw and b"-0" in raw):
        return False
    metadata = table.get(_METADATA)
    pairs = len(table) + (len(metadata) - 3 if type(metadata) is dict else 0)
    return raw.count(b":") == pairs + 3 * [*map(type, table.values())].count(dict)


def _salvage(text: str) -> _Partial:
    """The table when only its end is followed by something, else the entries that are whole."""
    with suppress(*_ERRORS):
        table, _ = _EXACT.raw_decode(text.lstrip(_BLANK))
        if type(table) is dict:
            return _Partial(table)
    found = _Partial()
    for match in _FLAT.finditer(text):
        with suppress(*_ERRORS):
            found[match[1] or match[3]] = _EXACT.decode(match[2] or match[4])
    return found


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the cyclic garbage collector, which doubles the time that a big table takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# --- what the table says -----------------------------------------------------------------------


def _contents(
    table: object, log: _Log
) -> tuple[tuple[Entry, ...], Mapping[str, object] | None]:
    """Entries in data order, and the metadata."""
    if not isinstance(table, dict):
        log.file("bad-json", f"the header is {_shown(table)}, not an object")
        return (), None
    for name in _repeated(table):
        log.entry("duplicate-key", name, "occurs more than once in the header", name == _METADATA)
    found = _plain(table)
    if found is None:
        # Only the last of several rows of one name counts, yet each has to be well-formed.
        rows = (_entry(*pair, log) for pair in _pairs(table) if pair[0] != _METADATA)
        found = list({row.name: row for row in rows if row is not None}.values())
    for name, *_, begin, end in [entry for entry in found if entry.begin > entry.end]:
        log.entry("bad-offsets", name, f"has [{begin}, {end}] for the range of its bytes")
    entries = sorted((e for e in found if e.begin <= e.end), key=itemgetter(3, 4))
    metadata = _metadata(table[_METADATA], log) if _METADATA in table else None
    return tuple(entries), metadata


def _plain(table: dict[str, object]) -> list[Entry] | None:
    """All entries at once, by columns; None when one of them needs a closer look by `_entry`."""
    fields = {name: value for name, value in table.items() if name != _METADATA}
    if isinstance(table, _Repeated) or not {*map(type, fields.values())} <= {dict}:
        return None
    rows = cast("list[dict[str, Any]]", [*fields.values()])
    try:
        dtypes, shapes, offsets = ([row[field] for row in rows] for field in _FIELDS)
        known = {*dtypes} <= DTYPES.keys()
    except (KeyError, TypeError):
        return None
    if not known or not {*map(type, chain(shapes, offsets))} <= {list}:
        return None
    numbers = [*chain.from_iterable(shapes), *chain.from_iterable(offsets)]
    if not _whole(numbers) or not {*map(len, rows)} <= {3} or not {*map(len, offsets)} <= {2}:
        return None
    begins, ends = (map(itemgetter(i), offsets) for i in (0, 1))
    columns = zip(fields, dtypes, map(tuple, shapes), begins, ends, strict=True)
    return [*map(Entry._make, columns)]


def _metadata(value: object, log: _Log) -> Mapping[str, object] | None:
    if not isinstance(value, dict):
        text = f"is {_shown(value)}, not an object"
        log.entry("bad-metadata", _METADATA, text, value is not None)
        return None
    for key in _repeated(value):
        log.entry("duplicate-key", _METADATA, f"has {_quoted(key)} more than once", False)
    for key, item in _pairs(value):
        if not isinstance(item, str):
            text = f"has {_shown(item)} for {_quoted(key)}, not a text"
            log.entry("bad-metadata", _METADATA, text)
    return dict(value)


def _entry(name: str, value: object, log: _Log) -> Entry | None:
    """The entry if its shape and offsets are such, whatever its dtype is."""
    if not isinstance(value, dict):
        if not isinstance(value, list) or len(value) != 3:
            log.entry("bad-entry", name, f"is {_shown(value)}, not an object")
            return None
        log.entry("bad-entry", name, "is a list of its fields, not an object", refused=False)
        value = dict(zip(_FIELDS, value, strict=True))
    if len(value) != 3 or isinstance(value, _Repeated):
        _fields(name, value, log)
    try:
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    except KeyError:
        missing = " and ".join(field for field in _FIELDS if field not in value)
        log.entry("bad-entry", name, f"has no {missing}")
        return None
    if type(dtype) is not str or dtype not in DTYPES:
        log.entry("unknown-dtype", name, f"has {_shown(dtype)} for its dtype")
    shaped, placed = _whole(shape), _whole(offsets) and len(offsets) == 2
    if not shaped:
        log.entry("bad-shape", name, f"has {_shown(shape)} for its shape")
    if not placed:
        log.entry("bad-offsets", name, f"has {_shown(offsets)} for the range of its bytes")
    if not (shaped and placed and type(dtype) is str):
        return None
    return Entry(name, dtype, tuple(shape), *offsets)


def _whole(numbers: object) -> bool:
    """Whether it is a list of integers that fit into 64 bits."""
    if type(numbers) is not list or not {*map(type, numbers)} <= {int}:
        return False
    return not numbers or (min(numbers) >= 0 and max(numbers) <= _U64)


def _fields(name: str, value: dict[str, object], log: _Log) -> None:
    """Repeated and unknown fields of an entry."""
    for field in _repeated(value):
        text = f"has its field {_quoted(field)} more than once"
        log.entry("duplicate-key", name, text, field in _FIELDS)
    for field, item in _pairs(value):
        if field not in _FIELDS:
            log.entry("bad-entry", name, f"has the unknown field {_quoted(field)}", refused=False)
            if _deeper(item, _DEEPEST):
                log.entry("bad-json", name, f"is nested too deeply in {_quoted(field)}")


def _deeper(value: object, limit: int) -> bool:
    """Whether lists and objects are nested in each other more than `limit` times."""
    level = [value]
    for _ in range(limit + 1):
        inner: list[object] = []
        for outer in level:
            if isinstance(outer, dict):
                inner += [item for _, item in _pairs(outer)]
            elif isinstance(outer, list):
                inner += outer
        if not any(isinstance(outer, (dict, list)) for outer in level):
            return False
        level = inner
    return True


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
        names = ", ".join(map(_quoted, cut[:3]))
        more = f" and {len(cut) - 3:,} more" if len(cut) > 3 else ""
        log.file("truncated", f"the file ends {reach - room:,} bytes early and cuts {names}{more}")
    elif reach < room and whole:
        log.file("trailing", f"{room - reach:,} bytes after the last tensor belong to none")


def _clash(entry: Entry, owner: Entry, log: _Log) -> None:
    name, *_, begin, end = entry
    if (begin, end) == owner[3:]:
        text = f"has the very bytes of {_quoted(owner.name)}, {begin:,} to {end:,}"
        log.entry("shared-span", name, text)
    else:
        text = f"begins at byte {begin:,}, {_quoted(owner.name)} ends at byte {owner.end:,}"
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


# --- words -------------------------------------------------------------------------------------


def _quoted(name: str, limit: int = 120) -> str:
    """The name in quotes, safe to print and not endless."""
    return f"'{printable(name[:limit])}{'…' if len(name) > limit else ''}'"


def _shown(value: object) -> str:
    """A JSON value in a few words."""
    if isinstance(value, str):
        return f"the text {_quoted(value, 40)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        flat = len(value) <= 8 and not any(isinstance(item, (dict, list)) for item in value)
        return f"[{', '.join(map(_shown, value))}]" if flat else f"a list of {len(value):,}"
    text = "null" if value is None else str(value).lower()
    return text if len(text) <= 40 else f"a number of {len(text):,} digits"
