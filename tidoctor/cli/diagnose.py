"""`tidoctor diagnose`: what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidoctor.cli import options
from tidoctor.cli.judging import settings
from tidoctor.cli.options import Full
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.errors import Usage
from tidoctor.report.style import When

if TYPE_CHECKING:
    from tidoctor.baseline import Baseline
    from tidoctor.promise import Promise

app = verb()


@command(
    app,
    "tidoctor diagnose ./my-model",
    "tidoctor diagnose ./my-model --as causal-lm --deep",
    "tidoctor diagnose ./my-model --for candle@0.7.1 --for transformers",
    "tidoctor diagnose checkpoints/* --format concise --fail-on warning",
    "tidoctor diagnose --recursive . --format sarif -o tidoctor.sarif",
    "tidoctor diagnose ./my-model --baseline known.json --write-baseline",
    "tidoctor diagnose ./my-model --against-installed",
)
def diagnose(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help=f"{options.SOURCE} In quotes, org/* or org/Llama-* are all the models of an owner "
            "that match.",
        ),
    ],
    wanted: options.Wanted = None,
    loaders: options.Loaders = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    fail_on: options.Fail = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read all values, not headers only.")
    ] = False,
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Every checkpoint below each SOURCE."),
    ] = False,
    of_files: Annotated[
        bool,
        typer.Option(
            "--of-files",
            help="Each SOURCE is a file: the checkpoint that it belongs to, each once.",
        ),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="FILE", help="Findings that this file knows are waived."
        ),
    ] = None,
    write_baseline: Annotated[
        bool,
        typer.Option("--write-baseline", help="Write what is found to the --baseline FILE."),
    ] = False,
    promise: Annotated[
        Path | None,
        typer.Option(
            "--promise", metavar="FILE", help="What inspect --write-promise wrote must still hold."
        ),
    ] = None,
    donor: Annotated[
        str | None,
        typer.Option(
            "--donor", metavar="SOURCE",
            help="The checkpoint that this one was made from: what it has and this one lacks is "
            "told (X01).",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", metavar="FILE",
            help="Hold every tensor against this manifest, which a repair wrote; reads all values.",
        ),
    ] = None,
    against_installed: Annotated[
        bool,
        typer.Option(
            "--against-installed",
            help="Ask the transformers installed beside tidoctor too: what tensors the class has, "
            "and what it makes of these. Takes seconds, 120 at most; changes no exit code.",
        ),
    ] = False,
    config: options.Config = None,
    isolated: options.Isolated = False,
    format: options.FullFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """Say what is wrong, on what evidence, and what cures it."""
    from tidoctor import many
    from tidoctor.checkup import Checkup

    asks = settings(config, isolated, select, ignore, loaders, fail_on)
    known, kept = _baseline(baseline, write_baseline), _promise(promise)
    listed = many.found(sources, recursive=recursive, of_files=of_files)
    several = of_files or len(listed.sources) > 1
    told = delivery(format, Full, output, color, quiet, several=several, fail_on=asks.fail_on)
    made = (kept, donor, manifest)
    checkup = Checkup(asks, wanted, deep, against_installed, known, write_baseline, *made)
    return checkup.run(told, listed)


def _baseline(path: Path | None, write: bool) -> Baseline | None:
    from tidoctor import baseline

    if path is None:
        if write:
            raise Usage("--write-baseline", "needs --baseline FILE", "name the file to write")
        return None
    return baseline.load(path, must_exist=not write)


def _promise(path: Path | None) -> Promise | None:
    from tidoctor import promise

    return promise.load(path) if path is not None else None
