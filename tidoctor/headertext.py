"""The JSON text of a safetensors header: bytes → the table as written, or what is left of it.

What is JSON is judged as the reader of the reference library does, which is serde_json: integers
have 64 bits, numbers beyond a double are errors. Of a text that it refuses, `decode` and `salvage`
pick what can still be told.
"""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from tidoctor.dtypes import U64_MAX
from tidoctor.names import printable

TextDefect = Literal["not-utf8", "bom", "nul-padding", "bad-json"]
"""What can be wrong with the text; the library refuses each of them."""
Report = Callable[[TextDefect, str], None]
"""Takes a defect and a sentence fragment about it that is safe to print."""

METADATA = "__metadata__"
"""The one key of a table that is not the name of a tensor."""

_BLANK = " \t\r\n"


class Repeated(dict[str, object]):
    """An object in which a key occurs more than once; `pairs` has them all."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class Partial(dict[str, object]):
    """What could be picked from a text that is not JSON."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    return table if len(table) == len(pairs) else Repeated(pairs)


def pairs_of(table: dict[str, object]) -> Iterable[tuple[str, object]]:
    """Every key as often as it occurs, with its values."""
    return table.pairs if isinstance(table, Repeated) else table.items()


def repeated_keys(table: dict[str, object]) -> list[str]:
    """The keys that occur more than once, in the order of the text."""
    if not isinstance(table, Repeated):
        return []
    return [key for key, n in Counter(key for key, _ in table.pairs).items() if n > 1]


def _integer(digits: str) -> int | float:
    """As serde_json has it: minus zero and what exceeds 64 bits are floating-point numbers."""
    if len(digits) <= 20 and digits != "-0" and -(2**63) <= (n := int(digits)) <= U64_MAX:
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


def decode(raw: bytes, report: Report) -> object:
    """The value of the text, or a `Partial` of what could be had of it."""
    raw = _bare(raw, report)
    # Before anything is decoded: a tensor has seven of them in at least fifty bytes, and the
    # objects made of a denser text would take over 25 times its size in memory.
    if len(raw) > 1_000_000 and sum(map(raw.count, (b"[", b"{", b":"))) > len(raw) // 6:
        said = f"{len(raw):,} bytes of JSON have more brackets than tensors need"
        report("bad-json", said)
        return Partial()
    text = _unicode(raw, report)
    with suppress(*_ERRORS):  # the exact decoder meets the same error, or knows better
        table: object = _QUICK.decode(text)
        if _faithful(table, raw):
            return table
        del table
    try:
        return _EXACT.decode(text)
    except _ERRORS as error:
        report("bad-json", _complaint(error, len(text)))
    return salvage(text)


def _bare(raw: bytes, report: Report) -> bytes:
    """The text without a byte order mark before it and NUL bytes around it."""
    if raw.startswith(b"\xef\xbb\xbf"):
        report("bom", "a byte order mark stands before the header's JSON")
        raw = raw[3:]
    if b"\0" in raw:
        bare = raw.strip(_BLANK.encode() + b"\0")
        if nuls := raw.count(b"\0") - bare.count(b"\0"):
            said = f"{nuls:,} NUL bytes pad the header's JSON, where only spaces may"
            report("nul-padding", said)
            raw = bare
    return raw


def _unicode(raw: bytes, report: Report) -> str:
    """The text decoded, with U+FFFD for what is not UTF-8."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        said = f"the header is not UTF-8 at byte {8 + error.start:,} of the file"
        report("not-utf8", said)
        text = raw.decode("utf-8", "replace")
    halves = (match for match in _ESCAPE.finditer(text) if match[1])
    if b"\\" in raw and (half := next(halves, None)) is not None:
        said = f"half a surrogate pair is escaped at character {half.start():,} of the header"
        report("bad-json", said)
    return text


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
    metadata = table.get(METADATA)
    pairs = len(table) + (len(metadata) - 3 if type(metadata) is dict else 0)
    return raw.count(b":") == pairs + 3 * [*map(type, table.values())].count(dict)


def salvage(text: str) -> Partial:
    """The table when only its end is followed by something, else the entries that are whole."""
    with suppress(*_ERRORS):
        table, _ = _EXACT.raw_decode(text.lstrip(_BLANK))
        if type(table) is dict:
            return Partial(table)
    found = Partial()
    for match in _FLAT.finditer(text):
        with suppress(*_ERRORS):
            found[match[1] or match[3]] = _EXACT.decode(match[2] or match[4])
    return found


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the cyclic garbage collector, which doubles the time that a big table takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def deeper(value: object, limit: int) -> bool:
    """Whether lists and objects are nested in each other more than `limit` times."""
    level = [value]
    for _ in range(limit + 1):
        inner: list[object] = []
        for outer in level:
            if isinstance(outer, dict):
                inner += [item for _, item in pairs_of(outer)]
            elif isinstance(outer, list):
                inner += outer
        if not any(isinstance(outer, (dict, list)) for outer in level):
            return False
        level = inner
    return True


def quoted(name: str, limit: int = 120) -> str:
    """The name in quotes, safe to print and not endless."""
    return f"'{printable(name[:limit])}{'…' if len(name) > limit else ''}'"


def shown(value: object) -> str:
    """A JSON value in a few words."""
    if isinstance(value, str):
        return f"the text {quoted(value, 40)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        flat = len(value) <= 8 and not any(isinstance(item, (dict, list)) for item in value)
        return f"[{', '.join(map(shown, value))}]" if flat else f"a list of {len(value):,}"
    text = "null" if value is None else str(value).lower()
    return text if len(text) <= 40 else f"a number of {len(text):,} digits"
