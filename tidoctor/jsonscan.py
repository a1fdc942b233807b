"""The tolerant scanner of JSON text: its value, where each part stands, what is not strict.

`Scan` reads what a strict reader refuses wherever a value can still be told, and keeps a table of
positions for those who edit the text. `read_strictly` is the quick way through a text without any
problem. The grammar is RFC 8259.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

FATAL = frozenset({"syntax", "too-deep", "too-large"})
"""The kinds of problems that leave no value."""

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
_LENIENT = json.JSONDecoder(strict=False)

BLANK = re.compile(rf"(?:[ \t\r\n]++|{_COMMENT.pattern})*+")
"""All that may stand between two tokens, comments included."""
NEWLINE = re.compile(r"\r\n?|\n")
"""One line end."""
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape of half a surrogate pair; in a whole pair there are two of them."""


class Problem(NamedTuple):
    """One place where the text is not strict JSON: its kind, its line from 1, a sentence.

    Kinds: bom, encoding, comment, trailing-comma, single-quote, control-character, surrogate,
    non-finite, number, duplicate-key and trailing-data leave a value; syntax, too-deep and
    too-large do not.
    """

    kind: str
    line: int
    text: str


class Unreadable(Exception):
    """The text has no value: a kind out of `FATAL`, the offset where it shows, a sentence."""

    def __init__(self, kind: str, at: int, text: str) -> None:
        self.kind = kind
        self.at = at
        super().__init__(text)


class Scan:
    """The tolerant reader. Leaves a flat table of nodes in the order of the text.

    Per node: offset of its `key` (-1 without), of its `start`, of its `end` (after its last
    character), and in `after` the number of the first node that is not inside of it. Arrays,
    because a hostile 16 MB hold millions of nodes. `stop` is the end of the value if more than
    blanks follow it, otherwise None. Offsets count characters of `text`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.key, self.start, self.end, self.after = (array("q") for _ in range(4))
        self.stop: int | None = None
        self._cuts = array("q")  # start, end, start, end …
        self._notes: list[tuple[int, str, str]] = []
        self._counts: Counter[str] = Counter()
        self._lines: array[int] | None = None
        self._members: dict[int, dict[str | int, int]] = {}

    def read(self, max_depth: int) -> object:
        """The value of the text; raises Unreadable where there is none."""
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
                raise Unreadable("too-large", at, f"more than {_MOST_VALUES} values")
            if not frames:
                root = value
            elif isinstance(outer := frames[-1][1], dict):
                outer[key] = value
            else:
                outer.append(value)
            opened = isinstance(value, dict | list)
            if isinstance(value, dict | list):
                if len(frames) >= max_depth:
                    raise Unreadable("too-deep", at, f"nested deeper than {max_depth} levels")
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
                    said = f"the key {shown(key)} stands here again; its last value counts"
                    self._note("duplicate-key", key_at, said)
            else:
                key_at = -1
        if at < len(text):
            self._note("trailing-data", at, f"{self._found(at)} stands after the end of the value")
            self.stop = end
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
                self._note("number", at, f"the number {shown(word)} is too large for a double")
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
            raise self._unexpected(at, f"':' after the key {shown(key)}")
        return key, self._skip(at + 1)

    def _string(self, at: int) -> tuple[str, int]:
        text = self.text
        if plain := _PLAIN.match(text, at):
            return plain[1], plain.end()
        match = _STRING.match(text, at)
        if match is None:
            raise Unreadable("syntax", at, "the text ends inside the string that begins here")
        literal, end = match[0], match.end()
        if literal[0] == "'":
            self._note("single-quote", at, f"{shown(literal)} is in single quotes", len(literal))
        if control := _CONTROL.search(literal):
            said = f"U+{ord(control[0]):04X} stands unescaped in a string"
            self._note("control-character", at + control.start(), said)
            self._cuts.extend((at, end))
        try:
            value = _decoded(literal)
        except json.JSONDecodeError as error:
            said = f"{shown(literal)} holds an escape that JSON does not have"
            raise Unreadable("syntax", min(at + error.pos, end), said) from error
        if _SURROGATE.search(value):
            if not _SURROGATE.search(literal):  # otherwise it is a byte, noted as encoding
                self._note("surrogate", at, f"{shown(literal)} holds half of a surrogate pair")
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
                    said = "the text ends inside the comment that begins here"
                    raise Unreadable("syntax", at, said)
                raise self._unexpected(at, "JSON")
            size = comment.end() - at
            self._note("comment", at, f"the comment {shown(comment[0])} is not JSON", size)
            at = comment.end()

    def _word(self, at: int) -> tuple[str, int]:
        match = _WORD.match(self.text, at)
        return (match[0], match.end()) if match else ("", at)

    def _found(self, at: int) -> str:
        return shown(self._word(at)[0] or self.text[at : at + 1])

    def _unexpected(self, at: int, wanted: str) -> Unreadable:
        if at < len(self.text):
            return Unreadable("syntax", at, f"expected {wanted}, found {self._found(at)}")
        what = "the text ends" if self.start else "the text is empty"
        return Unreadable("syntax", at, f"{what}: expected {wanted}")

    def _note(self, kind: str, at: int, said: str, cut: int = 0) -> None:
        self._counts[kind] += 1
        if self._counts[kind] > _MOST_PROBLEMS:
            raise Unreadable("too-large", at, f"more than {_MOST_PROBLEMS} problems like {kind}")
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

    def cuts(self) -> Iterator[tuple[int, int]]:
        """Start and end of what strict JSON does not have, or has in other characters."""
        return zip(self._cuts[::2], self._cuts[1::2], strict=True)

    def line(self, at: int) -> int:
        """Line of an offset, from 1. Lines end with LF, CR LF or CR."""
        if self._lines is None:
            self._lines = array("q", (match.end() for match in NEWLINE.finditer(self.text)))
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
        """The key of a member, as it stands in the value."""
        if plain := _PLAIN.match(self.text, self.key[node]):
            return plain[1]
        match = _STRING.match(self.text, self.key[node])
        return _SURROGATE.sub("\ufffd", _decoded(match[0])) if match else ""

    def key_end(self, node: int) -> int:
        """Offset after the closing quote of the key of a member."""
        match = _STRING.match(self.text, self.key[node])
        return match.end() if match else self.start[node]

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


def read_strictly(text: str, max_depth: int) -> object:
    """The value of a text without any problem; ValueError or RecursionError otherwise."""
    # A function for every object costs as much as all the rest. Without it a repeated key shows in
    # the number of quotes, as long as there are none within a string.
    countable = "\\" not in text
    escaped = not countable and SURROGATE_ESCAPE.search(text)
    if escaped or not (text.isascii() or not _SURROGATE.search(text)):
        raise ValueError("surrogates need a closer look")
    data: object = json.loads(
        text,
        object_pairs_hook=None if countable else _unrepeated,
        parse_int=_finite,
        parse_float=_finite,
        parse_constant=_finite,
    )
    if _strings(data) * 2 != text.count('"') and countable:
        raise ValueError("a key is repeated")
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


def _strings(data: object) -> int:
    """How many strings a value is made of, keys included."""
    found, left = int(isinstance(data, str)), [data]
    while left:
        value = left.pop()
        inner = _items(value)
        strings = [*map(type, inner)].count(str)
        found += strings + (len(value) if isinstance(value, dict) else 0)
        if strings < len(inner):
            left += [item for item in inner if not isinstance(item, str)]
    return found


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


def shown(text: str, limit: int = 60) -> str:
    """`text` in quotes, ASCII only and not too long."""
    return json.dumps(text if len(text) <= limit else text[: limit - 1] + "…")


def _json_string(literal: str) -> str:
    """A string literal with double quotes, whichever it had."""
    if literal.startswith('"'):
        return literal
    changes = {r"\'": "'", '"': r"\""}
    body = re.sub(r'\\.|"', lambda m: changes.get(m[0], m[0]), literal[1:-1], flags=re.DOTALL)
    return f'"{body}"'


def strict_string(literal: str) -> str:
    """The literal of a string, as strict JSON has it: double quotes, no bare control character."""
    return _CONTROL.sub(_escaped, _json_string(literal))


def _escaped(control: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(control[0], f"\\u{ord(control[0]):04x}")


def _decoded(literal: str) -> str:
    """Value of a string literal; json.JSONDecodeError for an escape that JSON does not have."""
    value: str = _LENIENT.raw_decode(_json_string(literal))[0]
    return value
