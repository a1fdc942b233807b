"""JSON text with line numbers: read tolerantly, edited without touching anything else.

`parse` accepts any bytes. What a strict reader refuses becomes a `Problem`, and the value is
kept wherever one can still be told. Edits (`set`, `unset`, `tidy`) work on the text, so the
indentation, order and comments of its author survive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tidoctor.jsonscan import (
    BLANK,
    FATAL,
    NEWLINE,
    SURROGATE_ESCAPE,
    Problem,
    Scan,
    Unreadable,
    read_strictly,
    shown,
    strict_string,
)

__all__ = ["Document", "Problem", "encode", "parse"]

# Offsets of what goes, and what comes in its place.
_Edit = tuple[int, int, str]

_COMMA = re.compile(r"([ \t]*+,[ \t]*+)[ \t\r\n]*?((?:\r\n?|\n)[ \t]*+)?")
_LAST_LINE = re.compile(r"(?:\r\n?|\n)[ \t]*\Z")
_COLON = re.compile(r"[ \t]*+:[ \t]*+")


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON text, the value it holds and what is wrong with it.

    `text` has no byte order mark; bytes that are not UTF-8 stand in it as surrogate escapes,
    so that `encode` gives them back. `data` is None if the text is not readable. Of repeated
    keys the last counts. In `data` a lone surrogate is U+FFFD (as Go's encoding/json reads it)
    and a number beyond a double is an infinity (as Python's json reads 1e999).
    """

    text: str = field(repr=False)
    data: object
    problems: tuple[Problem, ...]
    _max_depth: int = field(default=100, repr=False, compare=False)
    _style: _Style | None = field(default=None, repr=False, compare=False)
    _scans: list[Scan] = field(default_factory=list, repr=False, compare=False)

    @property
    def readable(self) -> bool:
        """Whether `data` is the value of the text, however untidy the text is."""
        return not any(problem.kind in FATAL for problem in self.problems)

    @property
    def strict(self) -> bool:
        """Whether a strict reader accepts the text; repeated keys do not stop it."""
        return all(problem.kind == "duplicate-key" for problem in self.problems)

    def line(self, *path: str | int) -> int | None:
        """Line, from 1, of the key or list item at `path`; None if it is not known."""
        try:
            scan, node = self._scan(), 0
        except ValueError:
            return None
        for step in path:
            if step not in (members := scan.members(node)):
                return None
            node = members[step]
        return scan.line(scan.head(node))

    def set(self, path: tuple[str, ...], value: object) -> Document:
        """The document with `value` at `path`; every byte outside of it stays.

        A new key goes last into its object, in the style of its siblings; missing objects on
        the way are made. Of a repeated key the last value is replaced. An equal value changes
        nothing. Raises ValueError if the document is unreadable or has more than a million
        values, something on the way is not an object, or the value cannot be said in JSON.
        Each edit reads the text anew: many keys of one object are set as one value.
        """
        if not path:
            raise ValueError("a path of at least one key is needed")
        scan, node, old = self._scan(), 0, self.data
        for depth, key in enumerate(path):
            if not isinstance(old, dict):
                where = shown(".".join(path[:depth])) if depth else "the whole document"
                raise ValueError(f"{where} is not an object")
            if key not in old:
                for outer in reversed(path[depth + 1 :]):
                    value = {outer: value}
                return self._edited([_addition(scan, node, key, value, self._styled())])
            node, old = scan.members(node)[key], old[key]
        style, start, end = self._styled(), scan.start[node], scan.end[node]
        inline = isinstance(old, dict | list) and bool(old) and scan.line(start) == scan.line(end)
        new = style.render(value, scan.margin(scan.head(node)), inline)
        if style.render(value, "", True) == _compact(old, style):
            return self
        return self._edited([(start, end, new)])

    def unset(self, path: tuple[str, ...]) -> Document:
        """The document without the key at `path` and its comma; the same one if it is absent.

        A repeated key goes altogether. Raises ValueError if the document is unreadable.
        """
        scan, node = self._scan(), 0
        for key in path[:-1]:
            if key not in (members := scan.members(node)):
                return self
            node = members[key]
        if not path or path[-1] not in scan.members(node):
            return self
        return self._edited(_removals(scan, node, path[-1]))

    def tidy(self) -> Document:
        """The same values as strict JSON, by the smallest edit; repeated keys stay.

        Comments, trailing commas and data after the value go, and strings are quoted and
        escaped as they must be. Raises ValueError if the document is unreadable or holds what
        strict JSON cannot say: a NaN, an infinity, a lone surrogate, bytes that are not UTF-8.
        """
        if self.strict:
            return self
        tidied = self._edited(_tidying(self._scan()))
        for problem in tidied.problems:
            if problem.kind != "duplicate-key":
                raise ValueError(f"line {problem.line}: {problem.text}")
        return tidied

    def _scan(self) -> Scan:
        """Positions in the text; found once, on the first question that needs them."""
        if not self.readable:
            raise ValueError(self.problems[-1].text)
        if not self._scans:
            scan = Scan(self.text)
            try:
                scan.read(self._max_depth)
            except Unreadable as fatal:  # only for its size: the strict reader was content
                raise ValueError(str(fatal)) from fatal
            self._scans.append(scan)
        return self._scans[0]

    def _styled(self) -> _Style:
        return self._style or _style_of(self._scan())

    def _edited(self, edits: Iterable[_Edit]) -> Document:
        pieces, done = [], 0
        for start, end, new in sorted(edits):
            if start >= done:  # an edit inside an earlier one has nothing left to do
                pieces += [self.text[done:start], new]
                done = end
        text = "".join([*pieces, self.text[done:]])
        # The style is that of the first text: a value that is put back looks as it did.
        edited = _read(text, self._max_depth, (), self._styled())
        if not edited.readable:
            raise ValueError(edited.problems[-1].text)
        return edited


def parse(raw: bytes, *, max_bytes: int = 16_000_000, max_depth: int = 100) -> Document:
    """Read JSON from any bytes; never raises. A clean text costs one pass of the C reader."""
    if len(raw) > max_bytes:
        large = f"the file has {len(raw)} bytes; more than {max_bytes} are not read"
        return Document("", None, (Problem("too-large", 1, large),), max_depth)
    for mark, codec in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if raw.startswith(mark):
            wide = Problem("encoding", 1, f"the text is {codec.upper()}, JSON has to be UTF-8")
            return _read(raw.decode(codec, "replace"), max_depth, (wide,))
    if raw.startswith(b"\xef\xbb\xbf"):
        bom = Problem("bom", 1, "a byte order mark (EF BB BF) stands before the text")
        return _read(raw[3:].decode("utf-8", "surrogateescape"), max_depth, (bom,))
    return _read(raw.decode("utf-8", "surrogateescape"), max_depth, ())


def encode(doc: Document) -> bytes:
    """UTF-8 of the text, without a byte order mark."""
    return doc.text.encode("utf-8", "surrogateescape")


def _read(
    text: str, max_depth: int, before: tuple[Problem, ...], style: _Style | None = None
) -> Document:
    try:
        return Document(text, read_strictly(text, max_depth), before, max_depth, style)
    except (ValueError, RecursionError):
        scan = Scan(text)
    try:
        data = scan.read(max_depth)
    except Unreadable as fatal:
        problems = (*before, *scan.problems(), Problem(fatal.kind, scan.line(fatal.at), str(fatal)))
        return Document(text, None, problems, max_depth, style)
    return Document(text, data, (*before, *scan.problems()), max_depth, style, [scan])


def _compact(value: object, style: _Style) -> str | None:
    try:
        return style.render(value, "", True)
    except ValueError:  # the old value may be a NaN
        return None


class _Style(NamedTuple):
    """How a document writes: `indent` of one level (None: on one line) and separators."""

    indent: str | None
    newline: str
    item: str
    colon: str
    ascii: bool

    def render(self, value: object, margin: str, inline: bool = False) -> str:
        """JSON of `value`, whose following lines begin with `margin`; ValueError if it has none."""
        indent = None if inline else self.indent
        item = self.item
        if inline and self.indent is not None:
            item = "," if self.colon == ":" else ", "
        try:
            text = json.dumps(
                value,
                ensure_ascii=self.ascii,
                allow_nan=False,
                indent=indent,
                separators=(item, self.colon),
            )
        except (TypeError, RecursionError) as error:
            raise ValueError(f"the value cannot be said in JSON: {error}") from error
        if not self.ascii or SURROGATE_ESCAPE.search(text):
            # A lone surrogate has no UTF-8: UnicodeEncodeError is a ValueError.
            json.dumps(value, ensure_ascii=False).encode()
        return text.replace("\n", self.newline + margin)


def _style_of(scan: Scan) -> _Style:
    """How the text is written, by its first container, pair of siblings and key."""
    text, indent, item, colon = scan.text, "  ", None, None
    newline = NEWLINE.search(text)
    one_line = False
    for node in range(len(scan.start)):
        if item and colon:
            break
        if scan.key[node] >= 0 and not colon:
            colon = _colon(scan, node)
        first = node + 1
        if first >= scan.after[node]:
            continue
        lead = _LAST_LINE.search(text, scan.start[node] + 1, scan.head(first))
        if node == 0:
            one_line = lead is None
            outer = scan.margin(scan.start[0])
            indent = lead[0].lstrip("\r\n").removeprefix(outer) if lead else ""
        second = scan.after[first]
        if second < scan.after[node] and not item and one_line == (lead is None):
            gap = _COMMA.fullmatch(text, scan.end[first], scan.head(second))
            item = gap[1] if gap else None
    colon = colon or ": "
    return _Style(
        indent=None if one_line else indent,
        newline=newline[0] if newline else "\n",
        item=item or (", " if one_line and colon != ":" else ","),
        colon=colon,
        ascii=text.isascii(),
    )


def _colon(scan: Scan, node: int) -> str | None:
    """What stands between a key and its value, if it is nothing unusual."""
    gap = _COLON.fullmatch(scan.text, scan.key_end(node), scan.start[node])
    return gap[0] if gap else None


def _addition(scan: Scan, node: int, key: str, value: object, style: _Style) -> _Edit:
    """The edit that appends a member to the object `node`."""
    text, members = scan.text, list(scan.children(node))
    name, begin = style.render(key, ""), scan.start[node]
    margin = scan.margin(begin)
    if not members:
        inner = text[begin + 1 : scan.end[node] - 1]
        if inner or style.indent is None:  # what stands between the braces has to stay
            at, inline = scan.end[node] - 1, True
            return at, at, name + style.colon + style.render(value, margin, inline)
        deeper = margin + style.indent
        member = name + style.colon + style.render(value, deeper)
        line = style.newline
        return begin + 1, begin + 1, f"{line}{deeper}{member}{line}{margin}"
    last, at = members[-1], scan.end[members[-1]]
    before = scan.end[members[-2]] if members[1:] else at
    if gap := _COMMA.fullmatch(text, before, scan.head(last)):
        item, line = gap[1], gap[2] or ""
    else:
        lead = _LAST_LINE.search(text, begin + 1, scan.head(last))
        item, line = (style.item, lead[0]) if lead else (style.item.rstrip() + " ", "")
        if not lead and style.indent is None:
            item = style.item
    member = name + (_colon(scan, last) or style.colon)
    member += style.render(value, line.lstrip("\r\n") if line else margin, not line)
    return at, at, item + line + member


def _removals(scan: Scan, node: int, key: str) -> list[_Edit]:
    """The edits that take every member named `key` out of the object `node`."""
    members = list(scan.children(node))
    gone = [scan.name(member) == key for member in members]
    first = gone.index(False) if False in gone else len(gone)
    cuts = [(scan.key[m], scan.end[m]) for m, out in zip(members, gone, strict=True) if out]
    for i in range(1, len(members)):  # a comma goes with the member after it if it can
        if i <= first or gone[i]:
            cuts += _gap(scan.text, scan.end[members[i - 1]], scan.key[members[i]])
    if first == len(members):
        tail, stop = scan.end[members[-1]], scan.end[node] - 1
        if tail < stop and not scan.text[tail:stop].strip(", \t\r\n"):
            cuts += [*_gap(scan.text, scan.start[node] + 1, scan.key[members[0]]), (tail, stop)]
        else:
            cuts += _gap(scan.text, tail, stop)
    return [(start, end, "") for start, end in cuts]


def _gap(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """What goes when nothing is left beside a gap: all of it, but a comment stays."""
    if not text[start:end].strip(", \t\r\n"):
        return [(start, end)]
    blank = BLANK.match(text, start, end)
    comma = blank.end() if blank else end
    return [(comma, comma + 1)] if text.startswith(",", comma, end) else []


def _tidying(scan: Scan) -> Iterator[_Edit]:
    """The edits that make the text strict."""
    text = scan.text
    if scan.stop is not None:
        yield scan.stop, len(text.rstrip(" \t\r\n")), ""
    for start, end in scan.cuts():
        if text.startswith(('"', "'"), start):
            yield start, end, strict_string(text[start:end])
            continue
        newline = NEWLINE.match(text, end)
        if text.startswith(("/", "#"), start) and (newline or end == len(text)):
            while start and text[start - 1] in " \t":
                start -= 1
            if newline and (not start or text[start - 1] in "\r\n"):
                end = newline.end()  # a line of its own goes with its line end
        yield start, end, ""
