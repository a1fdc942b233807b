"""`tidoctor explain`: what a rule, a loader or an error message means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from tidoctor import completion
from tidoctor.cli import options
from tidoctor.cli.options import Plain
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.errors import Usage
from tidoctor.report.style import When
from tidoctor.report.verdict import Exit

if TYPE_CHECKING:
    from tidoctor.report import Page
    from tidoctor.report.delivery import Told

app = verb()


@command(
    app,
    "tidoctor explain",
    "tidoctor explain head-lost",
    "tidoctor explain candle",
    "tidoctor explain 'Error: cannot find tensor lm_head.weight'",
)
def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION", autocompletion=completion.questions,
            help="A rule's code or name, a loader's name, or a loader's error message.",
        ),
    ] = None,
    format: options.PlainFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """List the rules; explain a rule, loader or error message."""
    told = delivery(format, Plain, output, color, quiet)
    return told.once(lambda: _explanation(told.page, " ".join(words or ()).strip()))


_CODE = re.compile(r"[A-Za-z][0-9]{0,3}|[a-z0-9]+(-[a-z0-9]+)*")


def _explanation(page: Page, query: str) -> Told:
    from tidoctor import loaders, rules

    if not query:
        return page.rules(rules.RULES), Exit.CLEAN
    try:
        return page.rules([rules.find(query)], query), Exit.CLEAN
    except Usage:
        if (loader := loaders.find(query)) is not None:
            return page.loaders([loader], query), Exit.CLEAN
        likely, from_ = rules.symptoms(query), loaders.origins(query)
        if not (likely or from_) and _CODE.fullmatch(query):
            raise
        told = page.symptoms(query, likely, from_)
        return told, Exit.CLEAN if likely or from_ else Exit.FINDINGS
