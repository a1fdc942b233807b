"""`tidoctor demo`: the incidents, to be tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidoctor.cli import run
from tidoctor.cli.verb import command, verb

app = verb()


@command(app, "tidoctor demo", "tidoctor demo ./clinic")
def demo(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where to write the checkpoints, kept afterwards."),
    ] = None,
) -> int:
    """Write tiny sick checkpoints; diagnose and repair each."""
    from tidoctor import demo
    from tidoctor.report.output import Output

    out = Output()
    return demo.run(directory, lambda line: out.write(f"{line}\n"), run)
