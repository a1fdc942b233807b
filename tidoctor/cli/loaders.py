"""`tidoctor loaders`: who is known to read checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidoctor import completion
from tidoctor.cli import options
from tidoctor.cli.options import Plain
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.report.style import When
from tidoctor.report.verdict import Exit

if TYPE_CHECKING:
    from tidoctor.report.delivery import Told

app = verb()


@command(app, "tidoctor loaders", "tidoctor loaders candle")
def loaders(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", autocompletion=completion.loader_names,
            help="A loader, or another name for it.",
        ),
    ] = None,
    format: options.PlainFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """List the known loaders, or explain one version by version."""
    from tidoctor import loaders

    told = delivery(format, Plain, output, color, quiet)

    def answer() -> Told:
        known = [loaders.consumer(name)] if name else list(map(loaders.consumer, loaders.names()))
        return told.page.loaders(known, name), Exit.CLEAN

    return told.once(answer)
