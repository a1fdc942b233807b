"""How a verb tells what it found: from --format, --output, --color and --quiet to a delivery."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor.cli.options import Full, Plain
from tidoctor.errors import Usage
from tidoctor.report import Format
from tidoctor.report.style import When
from tidoctor.report.verdict import FailOn

if TYPE_CHECKING:
    from tidoctor.report.delivery import Delivery


def delivery(
    given: Plain | Full | None,
    offered: type[Plain] | type[Full],
    output: Path | None,
    color: When,
    quiet: bool,
    *,
    several: bool = False,
    fail_on: str = FailOn.ERROR,
) -> Delivery:
    """Where the report of a verb goes, in which format; `offered` are the formats it has."""
    import logging

    from tidoctor.report import page
    from tidoctor.report.delivery import Delivery
    from tidoctor.report.output import Output
    from tidoctor.report.style import style_for

    logging.getLogger("tidoctor").setLevel(logging.ERROR if quiet else logging.WARNING)
    out = Output(output)
    style = style_for(color, out.stream)
    paper = page(_format(given, offered), style, several=several, fail_on=FailOn(fail_on))
    return Delivery(paper, out, quiet=quiet)


def _format(given: Plain | Full | None, offered: Iterable[Plain | Full]) -> Format:
    """The format asked for, else the one of the environment where the command offers it."""
    if given is not None:
        return Format(given.value)
    wish = os.environ.get("TIDOCTOR_FORMAT") or Format.TEXT.value
    known = [f.value for f in Format]
    if wish not in known:
        raise Usage("TIDOCTOR_FORMAT", f"unknown format {wish!r}", f"one of {', '.join(known)}")
    return Format(wish) if wish in [f.value for f in offered] else Format.TEXT
