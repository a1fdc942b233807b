"""`tidoctor expect`: which tensors there should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidoctor.cli import options
from tidoctor.cli.options import Plain
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.report.style import When
from tidoctor.report.verdict import Exit

if TYPE_CHECKING:
    from tidoctor.report.delivery import Told

app = verb()


@command(
    app,
    "tidoctor expect ./my-model",
    "tidoctor expect ./my-model/config.json --as LlamaForCausalLM --format json",
)
def expect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A checkpoint, a folder with a config.json, or that file itself; "
            "or a model on the Hub: org/name[@revision].",
        ),
    ],
    wanted: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="CLASS",
            help="The class, or a task such as causal-lm, whose tensors are wanted. "
            "Without it, the class in config.json.",
        ),
    ] = None,
    every: options.Every = False,
    format: options.PlainFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """List the tensors that a config and class should have.

    As a fresh save of transformers writes them; what is not known for sure is not told (exit 3).
    """
    told = delivery(format, Plain, output, color, quiet)

    def examine(source: str) -> Told:
        from tidoctor.expecting import answer

        found = answer(source, wanted)
        code = Exit.CLEAN if found.expectation else Exit.UNEXAMINED
        return told.page.expectation(found, every=every), code

    return told.each([source], examine)
