"""`tidoctor inspect`: which tensors there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tidoctor
from tidoctor import completion
from tidoctor.cli import options
from tidoctor.cli.options import Plain
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.errors import Usage
from tidoctor.report.style import When
from tidoctor.report.verdict import Exit

if TYPE_CHECKING:
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.report.delivery import Told
    from tidoctor.rules.statistics import Statistics

app = verb()


@command(
    app,
    "tidoctor inspect ./my-model",
    "tidoctor inspect ./my-model --all --match '*.q_proj.weight' --format json",
    "tidoctor inspect ./my-model --write-promise promise.json",
)
def inspect(
    sources: options.Sources,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="GLOB", help="Only tensors whose names match. Repeatable."),
    ] = None,
    every: options.Every = False,
    write_promise: Annotated[
        Path | None,
        typer.Option(
            "--write-promise", metavar="FILE",
            help="Write names, shapes, dtypes, tie and loader verdicts to FILE, for diagnose "
            "--promise.",
        ),
    ] = None,
    loaders: Annotated[
        list[str] | None,
        typer.Option(
            "--for", metavar="LOADER[@VERSION]", autocompletion=completion.wishes,
            help="The loaders whose verdicts are promised; without it all. With --write-promise.",
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Read all values too: extremes, mean, deviation, zeros."),
    ] = False,
    format: options.PlainFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """List the tensors, a row for all layers alike. Reads headers only, unless --deep."""
    told = delivery(format, Plain, output, color, quiet, several=len(sources) > 1)

    def examine(source: str) -> Told:
        checkpoint, wanted = tidoctor.open(source), _matcher(match)
        _write_promise(write_promise, sources, checkpoint, loaders)
        like = tidoctor.identify(checkpoint, doubtful=True)
        values = _statistics(checkpoint, wanted, quiet) if deep else None
        page = told.page.inspection(checkpoint, wanted, every=every, like=like, values=values)
        return page, Exit.CLEAN if checkpoint.tensors else Exit.UNEXAMINED

    return told.each(sources, examine)


def _write_promise(
    path: Path | None,
    sources: Sequence[str],
    checkpoint: Checkpoint,
    loaders: Sequence[str] | None,
) -> None:
    if path is None:
        return
    if len(sources) > 1:
        raise Usage("--write-promise", "is about one SOURCE", "write one promise at a time")
    from tidoctor import promise, promising
    from tidoctor.report.output import Output

    with Output(path) as out:
        out.write(promise.text(promising.promise(checkpoint, options.codes(loaders))))


def _statistics(
    checkpoint: Checkpoint, wanted: Callable[[str], bool], quiet: bool
) -> dict[str, Statistics | None]:
    """The numbers that tensors hold, told on the way how far reading has come."""
    from tidoctor.report.progress import Progress as Line

    with Line(quiet=quiet) as line:
        return tidoctor.statistics(checkpoint, wanted, progress=line)


def _matcher(globs: Sequence[str] | None) -> Callable[[str], bool]:
    return lambda name: not globs or any(fnmatchcase(name, glob) for glob in globs)
