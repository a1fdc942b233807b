"""A header as programs write it: every entry alike, so that it is read by columns.

A big model has 90,000 entries, and a decoder of JSON makes three objects and a table of each. Here
the text is cut at its quotes, ten to an entry, and every tenth piece is held against what the first
entry has there. What is written otherwise is left to the decoder, which knows all of JSON and what
is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from json import JSONDecoder
from operator import itemgetter
from sys import intern
from typing import NamedTuple

from tidoctor.dtypes import span_bytes
from tidoctor.headertext import METADATA

Form = tuple[str, tuple[int, ...]]
"""A dtype and a shape: a model has many tensors of few forms, each of which is kept once."""

_METADATA = re.compile(r'\{"__metadata__": ?(\{(?:[^{}"\\]|"[^"\\]*+")*+\})(, ?|(?=\}))')
_LONG = 1_000_000  # characters; metadata that would be in memory twice
_PAIRS = JSONDecoder(object_pairs_hook=list)
_CONTROLS = bytes(range(32))  # no text of JSON holds one of them

_QUOTES = 10  # of an entry: around its name, the names of its three fields, and its dtype
_LEAST = 48  # characters of an entry with the comma after it
_FIELDS = {"dtype", "shape", "data_offsets"}
# What stands between the quotes. The last field of an entry has a brace before its comma.
_OPENING, _COLON, _AFTER = map(re.compile, (": ?{", ": ?", "(}?), ?"))
_LONGEST = 800  # characters of a dtype and a shape; what is kept does not grow with a file
_NUMBER = "(?:0|[1-9][0-9]{0,18}+)"
# Tensors have a few sizes. The texts of many would take more memory than their numbers.
_SHAPE = re.compile(rf": ?\[((?:{_NUMBER}(?:, ?{_NUMBER}){{0,31}}+)?+)\](}}?), ?")
_RANGE = re.compile(rf"(: ?\[)({_NUMBER})(, ?)({_NUMBER})(\](}}?), ?)")


class Columns(NamedTuple):
    """The entries of a table, one list per field: the first of each are those of one tensor.

    Begins and ends in bytes from the start of the data section.
    """

    names: Sequence[str] = ()
    forms: Sequence[Form] = ()
    begins: Sequence[int] = ()
    ends: Sequence[int] = ()


def columns(raw: bytes, room: int) -> tuple[Columns, dict[str, str] | None] | None:
    """Entries in the order of their data, and metadata, of a table with which nothing is wrong.

    `room` is the length of the data section in bytes. None for any other table, and where an entry
    is not written as the first.
    """
    cut = _cut(raw)
    if cut is None:
        return None
    pieces, metadata = cut
    found = _entries(pieces)
    return (found, metadata) if found and found.ends[-1] == room else None


def _cut(raw: bytes) -> tuple[list[str], dict[str, str] | None] | None:
    """The text of the entries, cut at its quotes, and metadata; the text itself is not kept."""
    try:
        text = raw.decode().rstrip(" ")
    except UnicodeDecodeError:
        return None
    metadata, start = None, 1
    if head := _METADATA.match(text):
        start = head.end()
        metadata = _texts(head[1]) if start < _LONG else None
        if metadata is None:
            return None
    # The pieces of a text of nothing but quotes would take eighty times its memory.
    dense = len(text) > _LONG and text.count('"', start) * _LEAST > len(text) * _QUOTES
    if dense or "\\" in text or not (text.startswith("{") and text.endswith("}}")):
        return None
    # The brace of the table goes, and its last entry gets the comma that the others have.
    pieces = (text[start:-1] + ",").split('"')
    if len(pieces) < _QUOTES or len(pieces) % _QUOTES != 1 or pieces[0]:
        return None
    if pieces[_QUOTES].endswith(" "):
        pieces[-1] += " "
    return pieces, metadata


def _entries(pieces: Sequence[str]) -> Columns | None:
    """The entries of a text cut at its quotes, in the order of their data if that is end to end."""
    places = _places(pieces)
    names = pieces[1::_QUOTES]
    if places is None or not _proper(names):
        return None
    dtype, shape, offsets = (places[field] for field in ("dtype", "shape", "data_offsets"))
    braces = {at: "}" if at == max(places.values()) else "" for at in places.values()}
    fixed = {2: _OPENING, dtype + 1: _COLON, dtype + 3: _AFTER, **dict.fromkeys(places.values())}
    for at, pattern in fixed.items():
        column = pieces[at::_QUOTES]
        if column.count(column[0]) != len(column) or (pattern and not pattern.fullmatch(column[0])):
            return None
    if braces[dtype] != ("}" if "}" in pieces[dtype + 3] else ""):
        return None
    dtypes, shapes = pieces[dtype + 2 :: _QUOTES], pieces[shape + 1 :: _QUOTES]
    if dtypes.count(dtypes[0]) == len(dtypes):  # shapes alone are told apart in half the time
        known = {written: _form(dtypes[0], written, braces[shape]) for written in {*shapes}}
        found = [*map(known.get, shapes)]
    else:
        kinds = [*zip(dtypes, shapes, strict=True)]
        pairs = {kind: _form(*kind, braces[shape]) for kind in {*kinds}}
        found = [*map(pairs.get, kinds)]
    if not all(found):
        return None
    forms, sizes = zip(*found, strict=True)
    ranges = pieces[offsets + 1 :: _QUOTES]
    first = _RANGE.fullmatch(ranges[0])
    if first is None or first[6] != braces[offsets]:
        return None
    ends = [*accumulate(sizes)]
    if "\n".join(ranges) == _written(ends, first):
        return Columns(names, forms, [0, *ends[:-1]], ends)
    return _sorted(names, forms, sizes, ranges, first)


def _written(ends: Sequence[int], first: re.Match[str]) -> str:
    """Ranges that lie end to end, written as the first, a line each."""
    before, _, comma, _, after, _ = first.groups()
    texts = [*map(str, ends)]
    pairs = map(comma.join, zip(("0", *texts[:-1]), texts, strict=True))
    return before + f"{after}\n{before}".join(pairs) + after


def _sorted(
    names: Sequence[str], forms: Sequence[Form], sizes: Sequence[int], ranges: Sequence[str],
    first: re.Match[str],
) -> Columns | None:  # fmt: skip
    """The same for a text that sorts the names and not the data, as some programs do."""
    rows = []
    for name, form, size, written in zip(names, forms, sizes, ranges, strict=True):
        m = _RANGE.fullmatch(written)
        if m is None or m[6] != first[6] or int(m[2]) + size != int(m[4]):
            return None
        rows.append((name, form, int(m[2]), int(m[4])))
    table = Columns(*zip(*sorted(rows, key=itemgetter(2, 3)), strict=True))
    together = table.begins[0] == 0 and table.begins[1:] == table.ends[:-1]
    return table if together else None


def _places(pieces: Sequence[str]) -> dict[str, int] | None:
    """Where the first entry has the names of its fields, None unless they are the three."""
    places, at = {}, 3
    while at < _QUOTES:
        places[pieces[at]] = at
        at += 4 if pieces[at] == "dtype" else 2
    return places if places.keys() == _FIELDS else None


def _proper(names: Sequence[str]) -> bool:
    """Whether each is a name and occurs once."""
    distinct = {*names}
    raw = "".join(names).encode()
    return (
        len(distinct) == len(names)
        and METADATA not in distinct
        and len(raw.translate(None, _CONTROLS)) == len(raw)
    )


def _form(dtype: str, written: str, brace: str) -> tuple[Form, int] | None:
    """A form and how many bytes such a tensor takes; None when something is unusual."""
    return _usual(dtype, written, brace) if len(dtype) + len(written) < _LONGEST else None


@lru_cache(1024)
def _usual(dtype: str, written: str, brace: str) -> tuple[Form, int] | None:
    sizes = _SHAPE.fullmatch(written)
    if sizes is None or sizes[2] != brace:
        return None
    shape = tuple(map(int, sizes[1].split(","))) if sizes[1] else ()
    length = span_bytes(dtype, shape)
    return None if length is None else ((intern(dtype), shape), length)


def _texts(literal: str) -> dict[str, str] | None:
    """An object of texts, None when it is something else or repeats a key."""
    try:
        pairs = _PAIRS.decode(literal)
    except ValueError:
        return None
    found = dict(pairs)
    plain = len(found) == len(pairs) and {*map(type, found.values())} <= {str}
    return found if plain else None
