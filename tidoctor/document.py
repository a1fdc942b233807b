"""JSON text with line numbers: read tolerantly, edited without touching anything else.

`parse` accepts any bytes. What a strict reader refuses becomes a `Problem`, and the value is
kept wherever one can still be told. Edits (`set`, `unset`, `tidy`) work on the text, so the
indentation, order and comments of its author survive. The grammar is RFC 8259.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_FATAL = frozenset({"syntax", "too-deep", "too-large"})
# Hostile files hold millions of anything: what is told per kind, and what ends the reading.
_LISTED = 100
_MOST_PROBLEMS = 100_000
_MOST_VALUES = 1_000_000
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_NON_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_SHORT_ESCAPES = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Possessive quantifiers throughout: no input can make a match step back.
_SPACE = re.compile(r"[ \t\r\n]*+")
_COMMENT = re.compile(r"(?://|\#)[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/")
_BLANK = re.compile(rf"(?:[ \t\r\n]++|{_COMMENT.pattern})*+")
_PLAIN = re.compile(r'"([^"\\\x00-\x1f\ud800-\udfff]*+)"')
_PLAIN_KEY = re.compile(rf"{_PLAIN.pattern}[ \t\r\n]*+:[ \t\r\n]*+(?![/#])")
_PLAIN_MEMBER = re.compile(
    rf"{_PLAIN.pattern}[ \t\r\n]*+:[ \t\r\n]*+({_PLAIN.pattern})[ \t\r\n]*+,[ \t\r\n]*+(?=\")"
)
_STRING = re.compile(r""""(?:[^"\\]++|\\.)*+"|'(?:[^'\\]++|\\.)*+'""", re.DOTALL)
_WORD = re.compile(r"""[^\s,:\[\]{}"'/#]*+""")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)((?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
_CONTROL = re.compile(r"[\x00-\x1f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_NEWLINE = re.compile(r"\r\n?|\n")
_COMMA = re.compile(r"([ \t]*+,[ \t]*+)[ \t\r\n]*?((?:\r\n?|\n)[ \t]*+)?")
_LAST_LINE = re.compile(r"(?:\r\n?|\n)[ \t]*\Z")
_COLON = re.compile(r"[ \t]*+:[ \t]*+")
_LENIENT = json.JSONDecoder(strict=False)


class Problem(NamedTuple):
    """One place where the text is not strict JSON: its kind, its line from 1, a sentence.

    Kinds: bom, encoding, comment, trailing-comma, single-quote, control-character, surrogate,
    non-finite, number, duplicate-key and trailing-data leave a value; syntax, too-deep and
    too-large do not.
    """

    kind: str
    line: int
    text: str


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
    _scans: list[_Scan] = field(default_factory=list, repr=False, compare=False)

    @property
    def readable(self) -> bool:
        """Whether `data` is the value of the text, however untidy the text is."""
        return not any(problem.kind in _FATAL for problem in self.problems)

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
                where = _shown(".".join(path[:depth])) if depth else "the whole document"
                raise ValueError(f"{where} is not an object")
            if key not in old:
                for outer in reversed(path[depth + 1 :]):
                    value = {outer: value}
                return self._edited([scan.addition(node, key, value, self._styled())])
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
        return self._edited(scan.removals(node, path[-1]))

    def tidy(self) -> Document:
        """The same values as strict JSON, by the smallest edit; repeated keys stay.

        Comments, trailing commas and data after the value go, and strings are quoted and
        escaped as they must be. Raises ValueError if the document is unreadable or holds what
        strict JSON cannot say: a NaN, an infinity, a lone surrogate, bytes that are not UTF-8.
        """
        if self.strict:
            return self
        tidied = self._edited(self._scan().tidying())
        for problem in tidied.problems:
            if problem.kind != "duplicate-key":
                raise ValueError(f"line {problem.line}: {problem.text}")
        return tidied

    def _scan(self) -> _Scan:
        """Positions in the text; found once, on the first question that needs them."""
        if not self.readable:
            raise ValueError(self.problems[-1].text)
        if not self._scans:
            scan = _Scan(self.text)
            try:
                scan.read(self._max_depth)
            except _Fatal as fatal:  # only for its size: the strict reader was content
                raise ValueError(str(fatal)) from fatal
            self._scans.append(scan)
        return self._scans[0]

    def _styled(self) -> _Style:
        return self._style or self._scan().style()

    def _edited(self, edits: Iterable[tuple[int, int, str]]) -> Document:
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
        return Document(text, _read_strictly(text, max_depth), before, max_depth, style)
    except (ValueError, RecursionError):
        scan = _Scan(text)
    try:
        data = scan.read(max_depth)
    except _Fatal as fatal:
        problems = (*before, *scan.problems(), Problem(fatal.kind, scan.line(fatal.at), str(fatal)))
        return Document(text, None, problems, max_depth, style)
    return Document(text, data, (*before, *scan.problems()), max_depth, style, [scan])


def _read_strictly(text: str, max_depth: int) -> object:
    """The value of a text without any problem; ValueError or RecursionError otherwise."""
    if _SURROGATE_ESCAPE.search(text) or not (text.isascii() or not _SURROGATE.search(text)):
        raise ValueError("surrogates need a closer look")
    data: object = json.loads(
        text,
        object_pairs_hook=_unrepeated,
        parse_int=_finite,
        parse_float=_finite,
        parse_constant=_finite,
    )
    if text.count("[") + text.count("{") > max_depth:
        level = [data]
        for _ in range(max_depth):
            level = [item for outer in level for item in _items(outer)]
        if any(isinstance(item, dict | list) for item in level):
            raise ValueError("too deep")
    return data


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is repeated")
    return members


def _finite(word: str) -> int | float:
    value = _number(word)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _number(word: str) -> int | float:
    """Value of a JSON number; infinite beyond a double, whether or not it is written as integer."""
    # An integer of up to 308 digits fits a double; the test also avoids int()'s digit limit.
    if word.lstrip("-").isdigit() and (len(word) <= 308 or math.isfinite(float(word))):
        return int(word)
    return float(word)


def _shown(text: str, limit: int = 60) -> str:
    """`text` in quotes, ASCII only and not too long."""
    return json.dumps(text if len(text) <= limit else text[: limit - 1] + "…")


def _json_string(literal: str) -> str:
    """A string literal with double quotes, whichever it had."""
    if literal.startswith('"'):
        return literal
    changes = {r"\'": "'", '"': r"\""}
    body = re.sub(r'\\.|"', lambda m: changes.get(m[0], m[0]), literal[1:-1], flags=re.DOTALL)
    return f'"{body}"'


def _escaped(control: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(control[0], f"\\u{ord(control[0]):04x}")


def _decoded(literal: str) -> str:
    """Value of a string literal; json.JSONDecodeError for an escape that JSON does not have."""
    value: str = _LENIENT.raw_decode(_json_string(literal))[0]
    return value


def _compact(value: object, style: _Style) -> str | None:
    try:
        return style.render(value, "", True)
    except ValueError:  # the old value may be a NaN
        return None


class _Fatal(Exception):
    def __init__(self, kind: str, at: int, text: str) -> None:
        self.kind = kind
        self.at = at
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class _Style:
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
        if not self.ascii or _SURROGATE_ESCAPE.search(text):
            # A lone surrogate has no UTF-8: UnicodeEncodeError is a ValueError.
            json.dumps(value, ensure_ascii=False).encode()
        return text.replace("\n", self.newline + margin)


class _Scan:
    """The tolerant reader. Leaves a flat table of nodes in the order of the text.

    Per node: offset of its key (-1 without), of its first character, after its last one, and
    the number of the first node that is not inside of it. Arrays, because a hostile 16 MB hold
    millions of nodes.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.key, self.start, self.end, self.after = (array("q") for _ in range(4))
        self._cuts = array("q")  # start and end of what strict JSON does not have
        self._stop: int | None = None  # end of the value, if more than blanks follow it
        self._notes: list[tuple[int, str, str]] = []
        self._counts: Counter[str] = Counter()
        self._lines: array[int] | None = None
        self._members: dict[int, dict[str | int, int]] = {}

    def read(self, max_depth: int) -> object:
        """The value of the text; raises _Fatal where there is none."""
        text = self.text
        if bad := _SURROGATE.search(text):
            code = ord(bad[0])
            what = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
            self._note("encoding", bad.start(), f"the text is not UTF-8: {what}")
        frames: list[tuple[int, dict[str, object] | list[object]]] = []
        at, key_at, key, root = self._skip(0), -1, "", None
        while True:
            value, end = self._value(at)
            self._place(key_at, at, end)
            if len(self.start) > _MOST_VALUES:
                raise _Fatal("too-large", at, f"more than {_MOST_VALUES} values")
            if not frames:
                root = value
            elif isinstance(outer := frames[-1][1], dict):
                outer[key] = value
            else:
                outer.append(value)
            opened = isinstance(value, dict | list)
            if isinstance(value, dict | list):
                if len(frames) >= max_depth:
                    raise _Fatal("too-deep", at, f"nested deeper than {max_depth} levels")
                frames.append((len(self.start) - 1, value))
            at = self._skip(end)
            while frames:  # close all that ends here
                node, outer = frames[-1]
                closer = "}" if isinstance(outer, dict) else "]"
                if not opened and text[at : at + 1] == ",":
                    comma, at = at, self._skip(at + 1)
                    if text[at : at + 1] != closer:
                        break
                    self._note("trailing-comma", comma, f"a comma stands before {closer}", 1)
                elif text[at : at + 1] != closer:
                    if opened:
                        break
                    raise self._unexpected(at, f"',' or '{closer}'")
                frames.pop()
                end, opened = at + 1, False
                self.end[node], self.after[node] = end, len(self.start)
                at = self._skip(end)
            else:
                break
            if isinstance(outer, dict):
                at = self._plain_members(at, outer)
                key_at = at
                key, at = self._key(at)
                if key in outer:
                    said = f"the key {_shown(key)} stands here again; its last value counts"
                    self._note("duplicate-key", key_at, said)
            else:
                key_at = -1
        if at < len(text):
            self._note("trailing-data", at, f"{self._found(at)} stands after the end of the value")
            self._stop = end
        return root

    def _place(self, key_at: int, start: int, end: int) -> None:
        self.key.append(key_at)
        self.start.append(start)
        self.end.append(end)
        self.after.append(len(self.start))

    def _plain_members(self, at: int, outer: dict[str, object]) -> int:
        """Read members from a string to a string at once: an index has 100,000 of them."""
        while plain := _PLAIN_MEMBER.match(self.text, at):
            if plain[1] in outer:
                break
            outer[plain[1]] = plain[3]
            self._place(at, *plain.span(2))
            at = plain.end()
        return at

    def _value(self, at: int) -> tuple[object, int]:
        """A scalar and its end, or an empty container and the offset after its bracket."""
        char = self.text[at : at + 1]
        if char in ('"', "'"):
            return self._string(at)
        if char == "{":
            return {}, at + 1
        if char == "[":
            return [], at + 1
        word, end = self._word(at)
        if word in _WORDS:
            return _WORDS[word], end
        if _NUMBER.fullmatch(word):
            value = _number(word)
            if math.isinf(value):
                self._note("number", at, f"the number {_shown(word)} is too large for a double")
            return value, end
        if word in _NON_FINITE:
            self._note("non-finite", at, f"{word} is not JSON; only some readers accept it")
            return float(word), end
        raise self._unexpected(at, "a value")

    def _key(self, at: int) -> tuple[str, int]:
        """A key and the offset of its value."""
        if plain := _PLAIN_KEY.match(self.text, at):
            return plain[1], plain.end()
        if not self.text.startswith(('"', "'"), at):
            raise self._unexpected(at, "a key in double quotes")
        key, at = self._string(at)
        at = self._skip(at)
        if not self.text.startswith(":", at):
            raise self._unexpected(at, f"':' after the key {_shown(key)}")
        return key, self._skip(at + 1)

    def _string(self, at: int) -> tuple[str, int]:
        text = self.text
        if plain := _PLAIN.match(text, at):
            return plain[1], plain.end()
        match = _STRING.match(text, at)
        if match is None:
            raise _Fatal("syntax", at, "the text ends inside the string that begins here")
        literal, end = match[0], match.end()
        if literal[0] == "'":
            self._note("single-quote", at, f"{_shown(literal)} is in single quotes", len(literal))
        if control := _CONTROL.search(literal):
            said = f"U+{ord(control[0]):04X} stands unescaped in a string"
            self._note("control-character", at + control.start(), said)
            self._cuts.extend((at, end))
        try:
            value = _decoded(literal)
        except json.JSONDecodeError as error:
            said = f"{_shown(literal)} holds an escape that JSON does not have"
            raise _Fatal("syntax", min(at + error.pos, end), said) from error
        if _SURROGATE.search(value):
            if not _SURROGATE.search(literal):  # otherwise it is a byte, noted as encoding
                self._note("surrogate", at, f"{_shown(literal)} holds half of a surrogate pair")
            value = _SURROGATE.sub("\ufffd", value)
        return value, end

    def _skip(self, at: int) -> int:
        """Offset of the next token; comments on the way are noted."""
        text = self.text
        while True:
            if space := _SPACE.match(text, at):
                at = space.end()
            if text[at : at + 1] not in ("/", "#"):
                return at
            comment = _COMMENT.match(text, at)
            if comment is None:
                if text.startswith("/*", at):
                    raise _Fatal("syntax", at, "the text ends inside the comment that begins here")
                raise self._unexpected(at, "JSON")
            size = comment.end() - at
            self._note("comment", at, f"the comment {_shown(comment[0])} is not JSON", size)
            at = comment.end()

    def _word(self, at: int) -> tuple[str, int]:
        match = _WORD.match(self.text, at)
        return (match[0], match.end()) if match else ("", at)

    def _found(self, at: int) -> str:
        return _shown(self._word(at)[0] or self.text[at : at + 1])

    def _unexpected(self, at: int, wanted: str) -> _Fatal:
        if at < len(self.text):
            return _Fatal("syntax", at, f"expected {wanted}, found {self._found(at)}")
        what = "the text ends" if self.start else "the text is empty"
        return _Fatal("syntax", at, f"{what}: expected {wanted}")

    def _note(self, kind: str, at: int, said: str, cut: int = 0) -> None:
        self._counts[kind] += 1
        if self._counts[kind] > _MOST_PROBLEMS:
            raise _Fatal("too-large", at, f"more than {_MOST_PROBLEMS} problems like {kind}")
        if self._counts[kind] <= _LISTED:
            self._notes.append((at, kind, said))
        if cut:
            self._cuts.extend((at, at + cut))

    def problems(self) -> Iterator[Problem]:
        """What was found, in the order of the text; of each kind the first and a number."""
        last: dict[str, int] = {}
        for at, kind, said in sorted(self._notes):
            last[kind] = self.line(at)
            yield Problem(kind, last[kind], said)
        for kind, count in self._counts.items():
            if count > _LISTED:
                yield Problem(kind, last[kind], f"{count - _LISTED} more of the kind {kind} follow")

    def line(self, at: int) -> int:
        """Line of an offset, from 1. Lines end with LF, CR LF or CR."""
        if self._lines is None:
            self._lines = array("q", (match.end() for match in _NEWLINE.finditer(self.text)))
        return bisect_right(self._lines, at) + 1

    def head(self, node: int) -> int:
        """Where a node begins: at its key if it has one."""
        return self.start[node] if self.key[node] < 0 else self.key[node]

    def children(self, node: int) -> Iterator[int]:
        """The members or items of a container, in the order of the text."""
        child = node + 1
        while child < self.after[node]:
            yield child
            child = self.after[child]

    def name(self, node: int) -> str:
        """The key of a member, as it stands in `data`."""
        if plain := _PLAIN.match(self.text, self.key[node]):
            return plain[1]
        match = _STRING.match(self.text, self.key[node])
        return _SURROGATE.sub("\ufffd", _decoded(match[0])) if match else ""

    def members(self, node: int) -> dict[str | int, int]:
        """Key or position → node, for the children of a node."""
        if node not in self._members:
            self._members[node] = {
                self.name(child) if self.key[child] >= 0 else position: child
                for position, child in enumerate(self.children(node))
            }
        return self._members[node]

    def margin(self, at: int) -> str:
        """Blanks at the beginning of the line in which `at` lies."""
        line = self.line(at)
        begin = self._lines[line - 2] if self._lines and line > 1 else 0
        blank = re.compile(r"[ \t]*+").match(self.text, begin, at)
        return blank[0] if blank else ""

    def style(self) -> _Style:
        """How the text is written, by its first container, pair of siblings and key."""
        text, indent, item, colon = self.text, "  ", None, None
        newline = _NEWLINE.search(text)
        one_line = False
        for node in range(len(self.start)):
            if item and colon:
                break
            if self.key[node] >= 0 and not colon:
                colon = self._colon(node)
            first = node + 1
            if first >= self.after[node]:
                continue
            lead = _LAST_LINE.search(text, self.start[node] + 1, self.head(first))
            if node == 0:
                one_line = lead is None
                outer = self.margin(self.start[0])
                indent = lead[0].lstrip("\r\n").removeprefix(outer) if lead else ""
            second = self.after[first]
            if second < self.after[node] and not item and one_line == (lead is None):
                gap = _COMMA.fullmatch(text, self.end[first], self.head(second))
                item = gap[1] if gap else None
        colon = colon or ": "
        return _Style(
            indent=None if one_line else indent,
            newline=newline[0] if newline else "\n",
            item=item or (", " if one_line and colon != ":" else ","),
            colon=colon,
            ascii=text.isascii(),
        )

    def _colon(self, node: int) -> str | None:
        """What stands between a key and its value, if it is nothing unusual."""
        match = _STRING.match(self.text, self.key[node])
        gap = _COLON.fullmatch(self.text, match.end(), self.start[node]) if match else None
        return gap[0] if gap else None

    def addition(self, node: int, key: str, value: object, style: _Style) -> tuple[int, int, str]:
        """The edit that appends a member to the object `node`."""
        text, members = self.text, list(self.children(node))
        name, begin = style.render(key, ""), self.start[node]
        margin = self.margin(begin)
        if not members:
            inner = text[begin + 1 : self.end[node] - 1]
            if inner or style.indent is None:  # what stands between the braces has to stay
                at, inline = self.end[node] - 1, True
                return at, at, name + style.colon + style.render(value, margin, inline)
            deeper = margin + style.indent
            member = name + style.colon + style.render(value, deeper)
            line = style.newline
            return begin + 1, begin + 1, f"{line}{deeper}{member}{line}{margin}"
        last, at = members[-1], self.end[members[-1]]
        before = self.end[members[-2]] if members[1:] else at
        if gap := _COMMA.fullmatch(text, before, self.head(last)):
            item, line = gap[1], gap[2] or ""
        else:
            lead = _LAST_LINE.search(text, begin + 1, self.head(last))
            item, line = (style.item, lead[0]) if lead else (style.item.rstrip() + " ", "")
            if not lead and style.indent is None:
                item = style.item
        member = name + (self._colon(last) or style.colon)
        member += style.render(value, line.lstrip("\r\n") if line else margin, not line)
        return at, at, item + line + member

    def removals(self, node: int, key: str) -> list[tuple[int, int, str]]:
        """The edits that take every member named `key` out of the object `node`."""
        members = list(self.children(node))
        gone = [self.name(member) == key for member in members]
        first = gone.index(False) if False in gone else len(gone)
        cuts = [(self.key[m], self.end[m]) for m, out in zip(members, gone, strict=True) if out]
        for i in range(1, len(members)):  # a comma goes with the member after it if it can
            if i <= first or gone[i]:
                cuts += self._gap(self.end[members[i - 1]], self.key[members[i]])
        if first == len(members):
            tail, stop = self.end[members[-1]], self.end[node] - 1
            if tail < stop and not self.text[tail:stop].strip(", \t\r\n"):
                cuts += [*self._gap(self.start[node] + 1, self.key[members[0]]), (tail, stop)]
            else:
                cuts += self._gap(tail, stop)
        return [(start, end, "") for start, end in cuts]

    def _gap(self, start: int, end: int) -> list[tuple[int, int]]:
        """What goes when nothing is left beside a gap: all of it, but a comment stays."""
        if not self.text[start:end].strip(", \t\r\n"):
            return [(start, end)]
        blank = _BLANK.match(self.text, start, end)
        comma = blank.end() if blank else end
        return [(comma, comma + 1)] if self.text.startswith(",", comma, end) else []

    def tidying(self) -> Iterator[tuple[int, int, str]]:
        """The edits that make the text strict."""
        text = self.text
        if self._stop is not None:
            yield self._stop, len(text.rstrip(" \t\r\n")), ""
        for start, end in zip(self._cuts[::2], self._cuts[1::2], strict=True):
            if text.startswith(('"', "'"), start):
                yield start, end, _CONTROL.sub(_escaped, _json_string(text[start:end]))
                continue
            newline = _NEWLINE.match(text, end)
            if text.startswith(("/", "#"), start) and (newline or end == len(text)):
                while start and text[start - 1] in " \t":
                    start -= 1
                if newline and (not start or text[start - 1] in "\r\n"):
                    end = newline.end()  # a line of its own goes with its line end
            yield start, end, ""
