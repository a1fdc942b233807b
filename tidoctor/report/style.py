"""How text looks on a terminal: a few colours, and plain letters where others cannot be shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TextIO

# Select Graphic Rendition, ECMA-48 section 8.3.117.
_CODES: Mapping[str, str] = MappingProxyType(
    {
        "error": "1;31", "warning": "1;33", "note": "1;36", "good": "1;32",
        "faint": "2", "strong": "1",
    }
)
_PLAIN: Mapping[str, str] = MappingProxyType(
    {"×": "x", "→": "->", "…": "...", "–": "-", "≠": "!=", "≤": "<=", "≥": ">="}
)


class When(StrEnum):
    """Whether to colour: `AUTO` asks the environment and the terminal."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Style(NamedTuple):
    """Colours, or none."""

    colour: bool = False

    def paint(self, role: str, text: str) -> str:
        """The text in the colour of a role: a severity, `good`, `faint` or `strong`."""
        return f"\x1b[{_CODES[role]}m{text}\x1b[0m" if self.colour and text else text


def style_for(when: When, stream: TextIO | None) -> Style:
    """The style for a stream, None being a file.

    Without the user's word, NO_COLOR (https://no-color.org) decides before FORCE_COLOR, and both
    before what the stream is.
    """
    if when is not When.AUTO:
        return Style(when is When.ALWAYS)
    if os.environ.get("NO_COLOR"):
        return Style(False)
    if os.environ.get("FORCE_COLOR"):
        return Style(True)
    return Style(stream is not None and os.environ.get("TERM") != "dumb" and stream.isatty())


def encodable(text: str, encoding: str) -> str:
    """The text as the encoding can say it: an arrow as `->`, what has no likeness as an escape."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, plain in _PLAIN.items():
            if not _fits(sign, encoding):
                text = text.replace(sign, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return encodable(text, "ascii")
    return text


def _fits(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
