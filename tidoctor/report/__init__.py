"""How it is told: one module per format, and what they have in common.

Formats turn values into text and know nothing of streams; `Delivery` writes that text where it
belongs, tells errors the same way, and keeps the exit code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidoctor.report.json import Objects
    from tidoctor.report.style import Style
    from tidoctor.report.text import Text

    Page = Text | Objects


class Format(StrEnum):
    """Every format there is."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"


def page(format_: Format, style: Style, *, several: bool = False) -> Page:
    """The page of a format; `several` says that more than one source will be told of."""
    if format_ is Format.JSON:
        from tidoctor.report.json import Objects

        return Objects()
    if format_ is Format.CONCISE:
        from tidoctor.report.concise import Concise

        return Concise(style, several=several)
    from tidoctor.report.text import Text

    return Text(style, several=several)
