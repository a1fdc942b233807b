"""Tests of `tidoctor.header`; the reference library is the judge of what is refused."""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from tidoctor.errors import Refused
from tidoctor.header import (
    DTYPES,
    HEADER_CAP,
    DefectKind,
    Entry,
    Header,
    parse,
    serialise,
    span_bytes,
)
from tidoctor.headercolumns import columns
from tidoctor.headertext import decode

Table = dict[str, tuple[str, tuple[int, ...]]]
Tensor = tuple[str, str, list[int], int]
SIZES = [0, 1, 2, 3, 8, -1, 2**32, 2**63, 2**64 - 1, 2**64]


def header_of(content: bytes, cap: int = HEADER_CAP) -> Header:
    """What `parse` makes of a file with this content."""
    return parse(lambda begin, end: content[begin:end], len(content), cap=cap)


def opened(path: Path, content: bytes) -> Table | None:
    """Names, dtypes and shapes as the library reads them, None when it refuses the file."""
    path.write_bytes(content)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {k: (s.get_dtype(), tuple(s.get_shape())) for k, s in slices.items()}
    except (SafetensorError, OSError):
        return None


def agree(path: Path, content: bytes) -> bool:
    """Checks that both readers come to the same verdict, and returns it."""
    header = header_of(content)
    table = opened(path, content)
    assert header.sound == (table is not None), header.defects
    if table is not None:
        assert {e.name: (e.dtype, e.shape) for e in header.entries} == table
        assert len(table) == len(header.entries)
        assert all(map(header.readable, header.entries))
    return table is not None


def framed(text: str | bytes, data: int = 0, *, pad: bool = True) -> bytes:
    """A file with this header text and so many data bytes."""
    raw = text.encode() if isinstance(text, str) else text
    raw += b" " * (-len(raw) % 8 if pad else 0)
    return len(raw).to_bytes(8, "little") + raw + b"\7" * data


def row(name: str, begin: int, end: int, shape: object = None, dtype: object = "U8") -> str:
    """One pair of the table; the shape is that of a list of bytes unless given."""
    shape = [end - begin] if shape is None else shape
    fields = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return f"{json.dumps(name)}: {json.dumps(fields)}"


def table(*rows: str) -> str:
    """The rows as a JSON object."""
    return "{" + ", ".join(rows) + "}"


def raw_row(name: str, fields: str) -> str:
    """A pair whose fields are spelled out."""
    return f'"{name}": {{{fields}}}'


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for the file under test."""
    return tmp_path_factory.mktemp("header") / "model.safetensors"


class Case(NamedTuple):
    """A file, the defects it has and the entries that survive."""

    content: bytes
    kinds: str
    names: str
    text: str = ""  # part of the text of the last defect
    stricter: bool = False  # the library accepts the file all the same


A, B, C = row("a", 0, 8), row("b", 8, 16), row("c", 16, 24)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:" + b"0a" * 32 + b"\nsize 4976698672\n"
)
X = '"dtype":"U8","shape":[8],"data_offsets":[0,8]'

CASES = {
    "sound": Case(framed(table(A, B, C), 24), "", "a b c"),
    "any order": Case(framed(table(C, A, B), 24), "", "a b c"),
    "blank around": Case(framed(f" \n\t{table(A)}\r\n  ", 8), "", "a"),
    "empty tensor between": Case(framed(table(B, A, row("e", 8, 8)), 16), "", "a e b"),
    "scalar": Case(framed(table(row("a", 0, 4, [], "F32")), 4), "", "a"),
    "metadata of null": Case(
        framed(table(A, '"__metadata__": null'), 8), "bad-metadata", "a", "is null"
    ),
    # the file is none
    "no byte": Case(b"", "file-empty", ""),
    "seven bytes": Case(b"\1" * 7, "too-short", "", "7 bytes"),
    "zeros": Case(bytes(100_000), "all-zero", "", "65,536 of 100,000"),
    "lfs pointer": Case(POINTER, "lfs-pointer", "", "0a" * 32 + ", 4,976,698,672 bytes"),
    "lfs pointer, torn": Case(POINTER[:60], "lfs-pointer", "", "unreadable"),
    "html": Case(b"\n<!DOCTYPE html>\n<p>404", "html", "", "'<!DOCTYPE html> <p>404'"),
    "words": Case(b"Entry not found", "not-safetensors", "", "plain text ('Entry not found')"),
    "words that steer": Case(b"title \x1b]0;x\x07" * 4, "not-safetensors", "", "signature"),
    "json": Case(b'{"a": 1, "b": 2}', "not-safetensors", "", "without a length"),
    "zip": Case(b"PK\3\4" + bytes(99), "not-safetensors", "", "zip"),
    "pickle": Case(b"\x80\2}q\0" * 9, "not-safetensors", "", "pickle"),
    "gguf": Case(b"GGUF\3\0\0\0" + bytes(99), "not-safetensors", "", "GGUF"),
    "hdf5": Case(b"\x89HDF\r\n\x1a\n" + bytes(99), "not-safetensors", "", "HDF5"),
    "npy": Case(b"\x93NUMPY\1\0v\0{'descr'", "not-safetensors", "", "NumPy"),
    "gzip": Case(b"\x1f\x8b\x08\0\0\0\0\1" + bytes(99), "not-safetensors", "", "gzip"),
    "noise": Case(bytes(range(200, 256)), "not-safetensors", "", "c8c9cacbcccdcecf"),
    "length beyond the file": Case(
        (999).to_bytes(8, "little") + table(A, B, C)[:-40].encode(), "header-truncated", "a b"
    ),
    "nothing but a length": Case((9).to_bytes(8, "little"), "header-truncated", "", "after 0 of"),
    "length that starts as a pickle": Case(
        (0x0280).to_bytes(8, "little") + table(A).encode(), "header-truncated", "a"
    ),
    "length beyond the cap": Case(
        (HEADER_CAP + 1).to_bytes(8, "little") + table(A).encode(), "header-too-large", "", "100,0"
    ),
    # the text
    "no text": Case(bytes(8) + b"\7" * 8, "bad-json", "", "expecting value"),
    "latin-1": Case(framed(table(A).replace("a", "\xe9", 1).encode("latin-1"), 8), "not-utf8", "�"),
    "byte order mark": Case(framed("\ufeff" + table(A), 8), "bom", "a"),
    "NULs at the end": Case(framed(table(A) + " \0" * 9, 8), "nul-padding", "a", "9 NUL bytes"),
    "NUL inside": Case(framed(table(A, '"b\0": 1'), 8), "bad-json", "a", "control character"),
    "comma at the end": Case(framed(table(A, "")[:-3] + ",}", 8), "bad-json", "a"),
    "no comma": Case(framed(table(A + B, C), 24), "bad-json", "a b c", "delimiter"),
    "words after it": Case(framed(table(A) + "x", 8), "bad-json", "a", "extra data"),
    "second table": Case(framed(table(A) * 2, 8), "bad-json", "a", "extra data"),
    "cut off": Case(framed(table(A, B, C)[:-20], 24), "bad-json", "a b"),
    "not a number": Case(
        framed(table(A, row("b", 8, 16, [float("nan")])), 16), "bad-json", "a", "NaN"
    ),
    "too big a number": Case(
        framed(table(A, raw_row("b", '"x": 1e999')), 8), "bad-json", "a", "out of range"
    ),
    "five thousand digits": Case(
        framed(table(A, raw_row("b", f'"x": {"9" * 5000}')), 8), "bad-json", "a", "out of range"
    ),
    "half a surrogate": Case(framed('{"\\udc00": {' + X + "}}", 8), "bad-json", "\udc00", "half"),
    "a list": Case(framed("[1]", 0), "bad-json", "", "[1], not an object"),
    "nested to the limit": Case(
        framed(table(raw_row("a", f'{X}, "x": {"[" * 125}{"]" * 125}')), 8), "bad-entry", "a"
    ),
    "nested beyond the limit": Case(
        framed(table(raw_row("a", f'{X}, "x": {"[" * 126}{"]" * 126}')), 8),
        "bad-entry bad-json", "a", "too deeply",
    ),
    "nested beyond all limits": Case(
        framed(table(A, f'"b": {"[" * 300_000}'), 8), "bad-json", "a", "too deeply"
    ),
    "brackets without end": Case(
        framed(table(A, f'"b": [{"[]," * 400_000}[]]'), 8), "bad-json", "", "brackets"
    ),
    "repeated name": Case(
        framed(table(row("a", 0, 16), A), 8), "duplicate-key", "a", "more than once"
    ),
    "repeated name, escaped": Case(
        framed(table(row("a", 0, 16), A.replace("a", "\\u0061", 1)), 8), "duplicate-key", "a"
    ),
    "repeated name, once wrong": Case(
        framed(table('"a": 7', A), 8), "duplicate-key bad-entry", "a", "is 7"
    ),
    "repeated name, once backwards": Case(
        framed(table(row("a", 8, 0, [0]), A), 8), "duplicate-key", "a"
    ),
    "repeated field": Case(
        framed(table(raw_row("a", f'{X}, "shape": [8]')), 8), "duplicate-key", "a", "'shape'"
    ),
    "repeated unknown field": Case(
        framed(table(raw_row("a", f'{X}, "x": 1, "x": 2')), 8),
        "duplicate-key bad-entry bad-entry", "a", "'x'",
    ),
    "repeated field, hidden by colons of a list": Case(
        framed(table('"l": ["U8",[8],[8,16]]', raw_row("a", X + ', "dtype":"U8"' * 3)), 16),
        "bad-entry duplicate-key", "a l",
    ),
    "repeated metadata": Case(
        framed(table('"__metadata__": {}', A, '"__metadata__": {}'), 8), "duplicate-key", "a"
    ),
    "repeated key in the metadata": Case(
        framed(table('"__metadata__": {"k": "1", "k": "2"}', A), 8), "duplicate-key", "a", "'k'"
    ),
    "number in the metadata": Case(
        framed(table('"__metadata__": {"k": 1}', A), 8), "bad-metadata", "a", "1 for 'k'"
    ),
    "metadata of a list": Case(
        framed(table('"__metadata__": []', A), 8), "bad-metadata", "a", "is []"
    ),
    "no tensor": Case(framed('{"__metadata__": {"format": "pt"}}'), "no-tensors", ""),
    # one entry
    "entry of a list": Case(framed('{"a": ["U8", [8], [0, 8]]}', 8), "bad-entry", "a"),
    "entry of a list of four": Case(framed('{"a": ["U8", [8], [0, 8], 1]}', 8), "bad-entry", ""),
    "entry of a text": Case(framed(table(A, '"b": "\\u001b[2J"'), 8), "bad-entry", "a", "\\x1b[2J"),
    "missing fields": Case(
        framed(table(A, raw_row("b", '"dtype": "U8"')), 8), "bad-entry", "a", "shape and data_off"
    ),
    "unknown dtype": Case(
        framed(table(A, row("b", 8, 16, dtype="Q4_K")), 16), "unknown-dtype", "a b", "'Q4_K'"
    ),
    "dtype of a number": Case(
        framed(table(A, row("b", 8, 16, dtype=8)), 16), "unknown-dtype", "a", "has 8"
    ),
    "dtype of an object": Case(
        framed(table(row("a", 0, 8, dtype={"U8": None})), 8),
        "unknown-dtype", "", "an object", stricter=True,
    ),
    "negative size": Case(
        framed(table(A, row("b", 8, 16, [-8])), 16), "bad-shape", "a", "[-8] for its shape"
    ),
    "minus zero": Case(
        framed(table(A, row("b", 8, 8, [7777])).replace("7777", "-0"), 8), "bad-shape", "a"
    ),
    "size of 8.0": Case(framed(table(row("a", 0, 8, [8.0])), 8), "bad-shape", "", "[8.0]"),
    "size of true": Case(framed(table(row("a", 0, 1, [True])), 1), "bad-shape", "", "[true]"),
    "size of 2**64": Case(framed(table(row("a", 0, 0, [0, 2**64])), 0), "bad-shape", ""),
    "overflow before a zero": Case(
        framed(table(row("a", 0, 0, [2**40, 2**40, 0])), 0), "bad-shape", "a", "2**64"
    ),
    "zero before an overflow": Case(framed(table(row("a", 0, 0, [0, 2**63, 2**63])), 0), "", "a"),
    "half a byte": Case(
        framed(table(row("a", 0, 2, [3], "F4")), 2), "bad-shape", "a", "no number of whole bytes"
    ),
    "offsets the wrong way": Case(
        framed(table(A, row("b", 16, 8, [8])), 16), "bad-offsets", "a", "[16, 8]"
    ),
    "negative offset": Case(framed(table(row("a", -8, 0, [8])), 8), "bad-offsets", "", "[-8, 0]"),
    "one offset": Case(
        framed(table(A, B.replace("[8, 16]", "[8]")), 16), "bad-offsets", "a", "[8]"
    ),
    "offset of 2**64": Case(framed(table(row("a", 0, 2**64)), 8), "bad-shape bad-offsets", ""),
    "span too long": Case(
        framed(table(row("a", 0, 8, [3], "F16"), B), 16), "span-size", "a b", "16 bits take 6"
    ),
    # how the data lies
    "gap at the start": Case(framed(table(B), 16), "gap", "b", "8 bytes, from byte 0"),
    "gap": Case(framed(table(A, C), 24), "gap", "a c", "'c' comes after 8 bytes, from byte 8"),
    "overlap": Case(
        framed(table(A, row("b", 4, 12)), 12), "overlap", "a b", "'b' begins at byte 4, 'a' ends"
    ),
    "inside another": Case(
        framed(table(row("a", 0, 16), row("b", 4, 8), row("c", 16, 24)), 24), "overlap", "a b c"
    ),
    "empty inside another": Case(framed(table(A, row("e", 4, 4)), 8), "overlap", "a e"),
    "shared span": Case(
        framed(table(A, row("h", 0, 8), row("i", 0, 8)), 8),
        "shared-span shared-span", "a h i", "the very bytes of",
    ),
    "truncated": Case(
        framed(table(A, B, C, *(row(f"d{i}", 24 + i, 25 + i) for i in range(3))), 5),
        "truncated", "a b c d0 d1 d2", "22 bytes early and cuts 'a', 'b', 'c' and 3 more",
    ),
    "no data": Case(framed(table(A)), "truncated", "a", "8 bytes early and cuts 'a'"),
    "trailing": Case(framed(table(A), 9), "trailing", "a", "1 bytes after"),
    "trailing, no tensor": Case(framed("{}", 9), "trailing no-tensors", ""),
    "no trailing verdict beside a lost entry": Case(
        framed(table(A, row("b", 8, 16, [-8])), 16), "bad-shape", "a"
    ),
    "misaligned": Case(framed(table(A), 8, pad=False), "misaligned", "a", "multiple of 8"),
    "names that steer": Case(
        framed(table(A, row("\x1b[2J\u202e\u2028", 9, 16)), 16), "gap", "a \x1b[2J\u202e\u2028",
        r"'\x1b[2J\u202e\u2028' comes after",
    ),
    "endless name": Case(
        framed(table(A, row("n" * 5000, 9, 16)), 16), "gap", "a " + "n" * 5000, "n" * 120 + "…'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_defects_and_survivors(case: Case, path: Path) -> None:
    header = header_of(case.content)
    assert [d.kind for d in header.defects] == case.kinds.split(" ") * bool(case.kinds)
    assert [e.name for e in header.entries] == case.names.split(" ") * bool(case.names)
    assert case.text in (header.defects[-1].text if header.defects else "")
    assert all(d.text.isprintable() and len(d.text) < 700 for d in header.defects)
    assert (opened(path, case.content) is not None) == (header.sound or case.stricter)


def test_every_kind_of_defect_occurs_in_the_table() -> None:
    seen = {kind for case in CASES.values() for kind in case.kinds.split(" ") if kind}
    assert seen == set(get_args(DefectKind))


def test_flood_of_defects_is_counted_and_not_listed() -> None:
    rows = [row(f"n{i}", 0, 1) for i in range(20_000)]
    header = header_of(framed(table(*rows), 0))
    *listed, truncated, rest = header.defects
    assert {d.kind for d in listed} == {"shared-span"}
    assert truncated.kind == "truncated" and "and 19,997 more" in truncated.text
    assert rest == ("shared-span", None, "9,999 more defects of entries are not listed", True)
    assert len(listed) + 9_999 == 19_999 and len(header.entries) == 20_000


def test_metadata_is_kept() -> None:
    header = header_of(framed(table('"__metadata__": {"format": "pt", "n": 7}', A), 8))
    assert header.metadata == {"format": "pt", "n": 7}
    assert header_of(framed(table(A), 8)).metadata is None
    assert header_of(framed(table('"__metadata__": {"format": "pt"}', A)[:-1], 8)).metadata == {
        "format": "pt"
    }


def test_where_the_data_starts() -> None:
    header = header_of(framed(table(A), 8))
    assert (header.size, header.length) == (header.data_start + 8, header.data_start - 8)
    assert header.entries == (Entry("a", "U8", (8,), 0, 8),)
    assert header_of(b"PK\3\4" * 9).length == 0


def test_readable_entries() -> None:
    rows = (A, B, row("c", 16, 24, dtype="Q4"), row("d", 24, 32, [3]), row("e", 32, 40))
    header = header_of(framed(table(*rows), 39))
    assert {e.name: header.readable(e) for e in header.entries} == {
        "a": True, "b": True, "c": True, "d": False, "e": False,
    }  # fmt: skip
    assert not header.readable(Entry("x", "U8", (8,), -8, 0))


def test_no_entry_of_a_truncated_header_is_readable() -> None:
    header = header_of((999).to_bytes(8, "little") + table(A, row("e", 0, 0)).encode())
    assert [e.name for e in header.entries] == ["e", "a"]
    assert not any(map(header.readable, header.entries))


def test_file_that_shrinks_while_it_is_read() -> None:
    rows = [row(f"layer.{i}", 8 * i, 8 * i + 8) for i in range(2000)]
    content = framed(table(*rows), 16_000)
    header = parse(lambda begin, end: content[:70_000][begin:end], len(content))
    assert [d.kind for d in header.defects] == ["header-truncated"]
    assert 500 < len(header.entries) < 2000


def test_long_header_is_read_in_two_pieces() -> None:
    rows = [row(f"layer.{i}", 8 * i, 8 * i + 8) for i in range(2000)]
    content = framed(table(*rows), 16_000)
    asked: list[tuple[int, int]] = []

    def read(begin: int, end: int) -> bytes:
        asked.append((begin, end))
        return content[begin:end]

    header = parse(read, len(content))
    assert header.sound and len(header.entries) == 2000
    assert asked == [(0, 65_536), (65_536, header.data_start)]


def test_cap_is_the_callers() -> None:
    content = framed(table(A), 8)
    header = header_of(content, cap=63)
    assert [d.kind for d in header.defects] == ["header-too-large"]
    assert header.length > 63


def test_errors_of_the_file_get_through() -> None:
    def read(begin: int, end: int) -> bytes:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        parse(read, 100)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        header_of(framed(table(A), 8))
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_dtypes_are_those_of_the_library(path: Path) -> None:
    path.write_bytes(framed(table(row("a", 0, 8, dtype="?")), 8))
    with pytest.raises(SafetensorError) as caught, safe_open(path, framework="numpy"):
        pass
    variants = str(caught.value).split("expected one of")[1]
    assert set(re.findall(r"`(\w+)`", variants)) == set(DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_the_library(dtype: str, path: Path) -> None:
    nbytes = DTYPES[dtype].bits
    assert span_bytes(dtype, [2, 4]) == nbytes
    for size in (nbytes - 1, nbytes, nbytes + 1):
        content = framed(table(row("a", 0, size, [2, 4], dtype)), size)
        assert (opened(path, content) is not None) is (size == nbytes)


def test_span_bytes() -> None:
    assert span_bytes("F32", []) == 4
    assert span_bytes("BF16", [3, 0]) == 0
    assert span_bytes("F4", [3, 2]) == 3
    assert span_bytes("U8", [2**61 - 1]) == 2**61 - 1
    for dtype, shape in [
        ("Q4_K", [8]), ("F4", [3]), ("F6_E2M3", [2]), ("U8", [2**61]), ("U8", [2**32, 2**32, 0]),
        ("U8", [-1]), ("U8", [0, 2**64]),
    ]:  # fmt: skip
        assert span_bytes(dtype, shape) is None


# --- any header, against the library -------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["a", "b", "lm_head.weight", "a:b", 'q"\\', "x-0", "", "é\u202e😀", "\0"]),
    st.text(max_size=3),
)
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8]), max_size=3)
dtypes = st.sampled_from(sorted(DTYPES))
rows_of_tensors = st.lists(
    st.tuples(names, dtypes, shapes), max_size=5, unique_by=lambda tensor: tensor[0]
)
metadata_of_files = st.dictionaries(st.sampled_from(["format", "k:", "{"]), st.text(max_size=3))
# What is put into a header: each piece is a token or several.
WORDS = r"""
    { } [ ] : , 0 1 2 4 8 16 -0 -1 1.0 0.5 1e0 1E400 01 +1 - true false null NaN Infinity -Infinity
    "" "a" "b" "U8" "F4" "BF16" "Q8" "dtype" "shape" "data_offsets" "__metadata__" [0] [0,0] [8]
    "\u0061" "\/" "\x" "\ud800" "\ud83d\ude00" "\udc00\ud800" "a":1, "__metadata__":null,
    ,"x":[{"y":[]}] "z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},
"""
PIECES = [
    *WORDS.split(),
    *(str(number) for number in (2**63, 2**64 - 1, 2**64, 10**300, 10**400)),
    f',"x":{"[" * 126}{"]" * 126}',
    *" \n\t\r\0\v\xa0\ufeff\x1f\x7fé",
]
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|\s+|[^\s{}\[\]:,"]+|"', re.DOTALL)
changes = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "replace", "repeat", "shift"]),
        st.integers(0, 400),
        st.integers(0, 400),
        st.sampled_from(PIECES),
    ),
    max_size=3,
)


# What is put into one field of one row: offsets are moved, the others replaced.
tweaks = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.one_of(
            st.tuples(st.just("name"), st.sampled_from(["a", "b", "__metadata__"])),
            st.tuples(st.just("dtype"), st.sampled_from([*sorted(DTYPES), "", "Q8", 7, None])),
            st.tuples(st.just("shape"), st.lists(st.sampled_from(SIZES), max_size=4)),
            st.tuples(st.sampled_from(["begin", "end"]), st.sampled_from([-8, -1, 1, 8, 2**64])),
        ),
    ),
    max_size=2,
)


def with_sizes(tensors: Sequence[tuple[str, str, list[int]]]) -> list[Tensor]:
    """The tensors with their sizes, with eight times the elements where they fill no byte."""
    found = []
    for name, dtype, shape in tensors:
        whole = shape if span_bytes(dtype, shape) is not None else [8, *shape]
        size = span_bytes(dtype, whole)
        assert size is not None
        found.append((name, dtype, whole, size))
    return found


def spelled(
    entries: Sequence[Entry], metadata: Mapping[str, str], ops: Sequence[tuple[int, Any]]
) -> str:
    """The table as JSON, with some fields of some rows tweaked."""
    rows: list[dict[str, Any]] = [entry._asdict() for entry in entries]
    for i, (field, value) in ops:
        if rows:
            place = rows[i % len(rows)]
            place[field] = place[field] + value if field in ("begin", "end") else value
    pairs = [row(r["name"], r["begin"], r["end"], r["shape"], r["dtype"]) for r in rows]
    return table(f'"__metadata__": {json.dumps(metadata)}', *pairs)


def changed(text: str, ops: Sequence[tuple[str, int, int, str]]) -> str:
    """The text with its tokens changed."""
    tokens = TOKENS.findall(text)
    for op, i, j, piece in ops:
        i, j = i % (len(tokens) + 1), j % (len(tokens) + 1)
        first, last = min(i, j), max(i, j)
        if op == "put":
            tokens[i:i] = [piece]
        elif op == "drop":
            tokens[first : first + 1 + (last - first) % 3] = []
        elif op == "replace":
            tokens[i : i + 1] = [piece]
        elif op == "repeat":
            tokens[last:last] = tokens[first:last]
        else:
            tokens[first:last] = tokens[first + 1 : last] + tokens[first : first + 1]
    return "".join(tokens)


@settings(max_examples=400, deadline=None)
@given(rows_of_tensors, metadata_of_files, st.sampled_from([1, 8, 4096]))
def test_what_is_written_is_read_back(
    path: Path,
    tensors: list[tuple[str, str, list[int]]],
    metadata: dict[str, str],
    align: int,
) -> None:
    wanted = with_sizes(tensors)
    start, entries = serialise(wanted, metadata, align=align)
    content = start + b"\1" * sum(size for *_, size in wanted)
    assert len(start) % align == 0
    assert agree(path, content)
    header = header_of(content)
    assert header.entries == tuple(sorted(entries, key=lambda e: (e.begin, e.end)))
    assert (header.metadata or {}) == metadata
    assert [(e.name, e.dtype, list(e.shape), e.end - e.begin) for e in entries] == wanted
    assert {d.kind for d in header.defects} <= {"no-tensors", "misaligned"}


@settings(max_examples=400, deadline=None)
@given(rows_of_tensors, metadata_of_files, tweaks, st.sampled_from([0] * 8 + [-1, 1]))
def test_verdict_on_tweaked_rows(
    path: Path,
    tensors: list[tuple[str, str, list[int]]],
    metadata: dict[str, str],
    ops: list[tuple[int, Any]],
    more: int,
) -> None:
    _, entries = serialise(with_sizes(tensors), {})
    size = max(0, sum(entry.end - entry.begin for entry in entries) + more)
    agree(path, framed(spelled(entries, metadata, ops), size))


@settings(max_examples=400, deadline=None)
@given(rows_of_tensors, metadata_of_files, changes)
def test_verdict_on_changed_tokens(
    path: Path,
    tensors: list[tuple[str, str, list[int]]],
    metadata: dict[str, str],
    ops: list[tuple[str, int, int, str]],
) -> None:
    start, entries = serialise(with_sizes(tensors), metadata)
    size = sum(entry.end - entry.begin for entry in entries)
    agree(path, framed(changed(start[8:].decode(), ops), size))


@settings(max_examples=400, deadline=None)
@given(
    rows_of_tensors,
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 20),
)
def test_verdict_on_changed_bytes(
    path: Path,
    tensors: list[tuple[str, str, list[int]]],
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    wanted = with_sizes(tensors)
    start, _ = serialise(wanted, {"format": "pt"})
    content = bytearray(start + b"\1" * sum(size for *_, size in wanted))
    for where, value in flips:
        content[where % len(content)] = value
    agree(path, bytes(content[: len(content) - cut] if cut < 4 else content))


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(framed)))
def test_verdict_on_any_bytes(path: Path, content: bytes) -> None:
    agree(path, content)


# --- writing -------------------------------------------------------------------------------------


def test_written_header() -> None:
    tensors = [("b", "F16", (2,), 4), ("a", "U8", (), 1)]
    start, entries = serialise(tensors, {"format": "pt"}, align=64)
    assert len(start) == 192 and start[:8] == (184).to_bytes(8, "little")
    assert start[8:].rstrip(b" ") == (
        b'{"__metadata__":{"format":"pt"},'
        b'"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
        b'"a":{"dtype":"U8","shape":[],"data_offsets":[4,5]}}'
    )
    assert entries == (Entry("b", "F16", (2,), 0, 4), Entry("a", "U8", (), 4, 5))


@pytest.mark.parametrize(
    ("entries", "metadata"),
    [
        ([("a", "U8", [8], 8), ("a", "U8", [8], 8)], {}),
        ([("__metadata__", "U8", [8], 8)], {}),
        ([("a", "U8", [8], 9)], {}),
        ([("a", "Q4_K", [8], 8)], {}),
        ([("a", "F4", [3], 2)], {}),
        ([("a", "U8", [-2, -4], 8)], {}),
        ([("\ud800", "U8", [8], 8)], {}),
        ([("a", "U8", [8], 8)], {"k": "\udfff"}),
        ([("a", "U8", [8], 8)], {"k": 1}),
        ([(str(i), "U8", [2**60], 2**60) for i in range(17)], {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_readers_would_refuse_is_not_written(
    entries: list[tuple[str, str, list[int], int]], metadata: dict[str, str]
) -> None:
    with pytest.raises(Refused):
        serialise(entries, metadata)


def test_header_beyond_the_cap_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    length = len(serialise([("a", "U8", [8], 8)], {})[0]) - 8
    monkeypatch.setattr("tidoctor.header.HEADER_CAP", length)
    serialise([("a", "U8", [8], 8)], {})
    monkeypatch.setattr("tidoctor.header.HEADER_CAP", length - 1)
    with pytest.raises(Refused, match="exceed"):
        serialise([("a", "U8", [8], 8)], {})


# --- what programs write is read by columns ----------------------------------------------------

FIELDS = ("dtype", "shape", "data_offsets")
STYLES = [(":", ","), (": ", ", "), (": ", ","), (":", ", ")]
THREE = {
    "__metadata__": {"format": "pt", "note": "a {brace} and, a comma"},
    "größe.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
    "a.bias": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
    "empty": {"dtype": "U8", "shape": [0, 5], "data_offsets": [32, 32]},
}


def written(order: Sequence[str], style: tuple[str, str], table: Mapping[str, Any]) -> bytes:
    """The text of a table by a program that writes fields in this order, with these blanks."""
    turned = {n: {f: e[f] for f in order} if "dtype" in e else e for n, e in table.items()}
    return json.dumps(turned, ensure_ascii=False, separators=style[::-1]).encode()


@pytest.mark.parametrize("order", [*permutations(FIELDS)], ids="-".join)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("padding", [0, 5])
def test_a_table_is_read_by_columns_however_a_program_writes_it(
    order: Sequence[str], style: tuple[str, str], padding: int
) -> None:
    raw = written(order, style, THREE) + b" " * padding
    found = columns(raw, 32)
    assert found is not None and columns(raw, 33) is None
    table, metadata = found
    assert [*table.names] == ["a.bias", "größe.weight", "empty"]
    assert metadata == THREE["__metadata__"]
    header = header_of(len(raw).to_bytes(8, "little") + raw + bytes(32))
    assert header.sound and [*header.names] == ["a.bias", "größe.weight", "empty"]
    assert header.entries == (
        Entry("a.bias", "I64", (), 0, 8),
        Entry("größe.weight", "F32", (2, 3), 8, 32),
        Entry("empty", "U8", (0, 5), 32, 32),
    )


@pytest.mark.parametrize("order", [*permutations(FIELDS)], ids="-".join)
@pytest.mark.parametrize("style", STYLES)
def test_data_in_the_order_of_the_names_are_not_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch, order: Sequence[str], style: tuple[str, str]
) -> None:
    monkeypatch.delattr("tidoctor.headercolumns._sorted")
    table = {n: THREE[n] for n in ("__metadata__", "a.bias", "größe.weight", "empty")}
    found = columns(written(order, style, table), 32)
    assert found is not None and [*found[0].ends] == [8, 32, 32]


SIZES_OF_ONE = '"shape":[0%s]' % (", 1" * 200_000)
PAIRS = ",".join(f'"{i:x}":""' for i in range(120_000))


@pytest.mark.parametrize(
    "raw",
    [
        f'{{"a":{{"dtype":"U8",{SIZES_OF_ONE},"data_offsets":[0,0]}}}}',
        f'{{"__metadata__":{{"\U0001f600":"",{PAIRS}}},"a":{{{X.replace("8]", "0]")}}}}}',
    ],
    ids=["sizes", "metadata"],
)
def test_very_many_of_what_is_few_take_no_more_memory_than_a_table(raw: str) -> None:
    content = framed(raw)
    tracemalloc.start()
    header = header_of(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.sound and len(header.entries[0].shape) + len(header.metadata or ()) > 100_000
    assert peak < 20 * len(content)  # and the content itself


# Characters that JSON is made of, at places where they may break a table or leave it whole.
EDITS = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 3), st.sampled_from([*'{}[],:" \\-0123eE.a\n\0é', ""])
    ),
    max_size=2,
)


@given(st.permutations(FIELDS), st.sampled_from(STYLES), st.booleans(), EDITS)
@settings(max_examples=500, deadline=None)
def test_columns_say_nothing_that_the_decoder_would_not(
    order: Sequence[str], style: tuple[str, str], headed: bool, edits: list[tuple[int, int, str]]
) -> None:
    table = {n: e for n, e in THREE.items() if headed or "dtype" in e}
    text = written(order, style, table).decode()
    for at, drop, put in edits:
        text = text[: at % len(text)] + put + text[at % len(text) + drop :]
    found = columns(text.encode(), 32)
    assert found is not None or edits
    if found is not None:
        defects: list[str] = []
        told = decode(text.encode(), lambda kind, said: defects.append(said))
        assert type(told) is dict and not defects
        assert told.pop("__metadata__", None) == found[1]
        assert told == {
            name: {"dtype": dtype, "shape": [*shape], "data_offsets": [begin, end]}
            for name, (dtype, shape), begin, end in zip(*found[0], strict=True)
        }
