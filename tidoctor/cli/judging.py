"""By what a checkpoint is judged: the command line over the project's settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor.cli.options import codes
from tidoctor.report.verdict import FailOn

if TYPE_CHECKING:
    from tidoctor.settings import Settings


def settings(
    config: Path | None,
    isolated: bool,
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
    loaders: Sequence[str] | None = None,
    fail_on: FailOn | None = None,
) -> Settings:
    """The project's settings, where the command line does not overrule them."""
    from tidoctor.settings import load

    written = load(config, isolated=isolated)
    return written.overruled(codes(select), codes(ignore), codes(loaders), fail_on)
