"""How it is told: one module per format, and what they have in common.

Formats turn values into text and know nothing of streams; `Delivery` writes that text where it
belongs, tells errors the same way, and keeps the exit code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tidoctor.report.verdict import FailOn

if TYPE_CHECKING:
    from tidoctor.report.case import Cases
    from tidoctor.report.json import Objects
    from tidoctor.report.style import Style
    from tidoctor.report.text import Text

    Page = Text | Objects


class Format(StrEnum):
    """Every format there is."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"
    MARKDOWN = "markdown"


def page(
    format_: Format, style: Style, *, several: bool = False, fail_on: FailOn = FailOn.ERROR
) -> Page:
    """The page of a format; `several` says that more than one source will be told of.

    `fail_on` is the lowest severity that fails, where the format says so of a single finding.
    """
    if format_ is Format.JSON:
        from tidoctor.report.json import Objects

        return Objects()
    if format_ is Format.CONCISE:
        from tidoctor.report.concise import Concise

        return Concise(style, several=several)
    if format_ is Format.TEXT:
        from tidoctor.report.text import Text

        return Text(style, several=several)
    return _cases(format_)(style, several=several, fail_on=fail_on)


def _cases(format_: Format) -> type[Cases]:
    if format_ is Format.GITHUB:
        from tidoctor.report.github import Github

        return Github
    if format_ is Format.SARIF:
        from tidoctor.report.sarif import Sarif

        return Sarif
    if format_ is Format.JUNIT:
        from tidoctor.report.junit import Junit

        return Junit
    from tidoctor.report.markdown import Markdown

    return Markdown
