"""A header as programs write it: every entry alike, so that it is read by columns.

A big model has 90,000 entries, and a decoder of JSON makes three objects and a table of each. Here
one pattern takes the text apart, made for the way in which its first entry is written (order of
the fields, blanks); whatever does not follow it to the last byte is left to the decoder, which
knows all of JSON and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from json import JSONDecoder
from operator import itemgetter
from typing import NamedTuple

from tidoctor.headertext import METADATA

_NUMBER = "(?:0|[1-9][0-9]{0,18}+)"
_VALUE = r'(?:"\w*+"|\[[0-9, ]*+\])'
_FIRST = re.compile(rf'"[^"\\]*+":( ?)\{{"(\w++)": ?{_VALUE},( ?)"(\w++)": ?{_VALUE}, ?"(\w++)"')
_METADATA = re.compile(r'\{"__metadata__": ?(\{(?:[^{}"\\]|"[^"\\]*+")*+\})(, ?|(?=\}))')
# Tensors have a few sizes. The texts of many would take more memory than their numbers.
_SIZES = re.compile(rf"(?:{_NUMBER}(?:, ?{_NUMBER}){{0,31}}+)?+")
_PAIRS = JSONDecoder(object_pairs_hook=list)
_LONG = 1_000_000  # characters; metadata that would be in memory twice


class Columns(NamedTuple):
    """The entries of a table, one list per field: the first of each are those of one tensor.

    Begins and ends in bytes from the start of the data section.
    """

    names: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    shapes: Sequence[tuple[int, ...]] = ()
    begins: Sequence[int] = ()
    ends: Sequence[int] = ()

    def in_data_order(self) -> Columns:
        """The same entries, sorted by where their bytes begin and end."""
        return Columns(*zip(*sorted(zip(*self, strict=True), key=itemgetter(3, 4)), strict=True))


def columns(raw: bytes) -> tuple[Columns, dict[str, str] | None] | None:
    """Entries in the order of the text, and metadata; None when one is not written as the first.

    What is returned is what the decoder would find: each name once, shapes and offsets of plain
    integers below 2**64. Dtypes may be unknown and a begin behind its end.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    metadata, start = None, 1
    if head := _METADATA.match(text):
        start = head.end()
        metadata = _texts(head[1]) if start < _LONG else None
        if metadata is None:
            return None
    first = _FIRST.match(text, start)
    if first is None or not text.startswith("{"):
        return None
    form = _form(first.group(2, 4, 5), first[1], first[3])
    if form is None:
        return None
    rows = form.entry.findall(text, start)
    end = len(text.rstrip(" "))
    length = sum(map(len, chain.from_iterable(rows))) + len(rows) * form.length - len(first[3])
    # Matches that are together as long as the text leave out none of it.
    if start + length != end or not text.endswith("}", 0, end):
        return None
    cells = dict(zip(form.groups, zip(*rows, strict=True), strict=True))
    shapes = _shapes(cells["shape"])
    if len({*cells["name"]}) != len(rows) or METADATA in cells["name"] or shapes is None:
        return None
    ends = [*map(int, cells["end"])]
    if cells["begin"] == ("0", *cells["end"][:-1]):  # end to end: each number is kept once
        begins = [0, *ends[:-1]]
    else:
        begins = [*map(int, cells["begin"])]
    return Columns(cells["name"], cells["dtype"], shapes, begins, ends), metadata


class _Form(NamedTuple):
    """How an entry is written, with the comma after it; its length beside what the groups take."""

    entry: re.Pattern[str]
    groups: tuple[str, ...]
    length: int


@lru_cache(16)
def _form(fields: tuple[str, ...], colon: str, comma: str) -> _Form | None:
    """For an order of the fields and the blanks after colons and commas; None for other fields."""
    patterns = {
        "dtype": ('"', "dtype", "[A-Z0-9_]++", '"'),
        "shape": ("[", "shape", "[0-9, ]*+", "]"),
        "data_offsets": ("[", "begin end", _NUMBER, "]"),
    }
    if {*fields} != patterns.keys():
        return None
    text = [(r'"([^"\\\x00-\x1f]*+)"', '""'), _verbatim(f":{colon}{{")]
    groups = ["name"]
    for field in fields:
        opening, names, value, closing = patterns[field]
        groups += names.split()
        values = [(f"({value})", ""), _verbatim(f",{comma}")] * len(names.split())
        text += [_verbatim(f'"{field}":{colon}{opening}'), *values[:-1]]
        text.append(_verbatim(f"{closing},{comma}"))
    text[-1] = _verbatim(closing + "}")
    pattern, literal = map("".join, zip(*text, strict=True))
    entry = re.compile(rf"{pattern}(?:,{comma}|\}}(?= *+\Z))")
    return _Form(entry, tuple(groups), len(f"{literal},{comma}"))


def _verbatim(text: str) -> tuple[str, str]:
    """A pattern that matches just a text, and the text."""
    return re.escape(text), text


def _texts(literal: str) -> dict[str, str] | None:
    """An object of texts, None when it is something else or repeats a key."""
    try:
        pairs = _PAIRS.decode(literal)
    except ValueError:
        return None
    found = dict(pairs)
    plain = len(found) == len(pairs) and {*map(type, found.values())} <= {str}
    return found if plain else None


def _shapes(written: tuple[str, ...]) -> list[tuple[int, ...]] | None:
    """The shapes, each of which is kept once; None when one of them is unusual."""
    distinct = {*written}
    if not all(map(_SIZES.fullmatch, distinct)):
        return None
    known = {text: tuple(map(int, text.split(","))) if text else () for text in distinct}
    return [*map(known.__getitem__, written)]
