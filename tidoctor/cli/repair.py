"""`tidoctor repair`: a copy without what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import tidoctor
from tidoctor import completion
from tidoctor.cli import options
from tidoctor.cli.judging import settings
from tidoctor.cli.options import Full
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.cli.writing import form_of, sent_to, treat
from tidoctor.report.style import When

if TYPE_CHECKING:
    from tidoctor.repairs import Progress, Treatment

app = verb()


@command(
    app,
    "tidoctor repair ./my-model ./healed --dry-run",
    "tidoctor repair ./my-model ./healed --as causal-lm --donor ./base-model",
    "tidoctor repair ./my-model ./healed --accept H05",
    "tidoctor repair ./my-model ./healed --for candle@0.7.1 --for vllm",
)
def repair(
    source: options.Source,
    dest: options.Dest,
    wanted: options.Wanted = None,
    loaders: options.Readers = None,
    donor: Annotated[
        str | None,
        typer.Option(
            "--donor", metavar="SOURCE",
            help="A checkpoint from which lost tensors may be taken: the consent to do so.",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept", metavar="CODES", autocompletion=completion.codes,
            help="Consent to the cures of these findings, which are not marked safe. "
            "Repeatable, comma separated.",
        ),
    ] = None,
    select: options.Select = None,
    ignore: options.Ignore = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write although an error would remain.")
    ] = False,
    link: options.Link = options.LinkMode.AUTO,
    delta: options.Delta = False,
    single_file: options.Single = False,
    max_shard_size: options.ShardSize = None,
    dtype: options.Dtype = None,
    manifest: options.ManifestFile = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    push: options.Push = None,
    create_pr: options.CreatePr = False,
    fail_on: options.Fail = None,
    config: options.Config = None,
    isolated: options.Isolated = False,
    format: options.FullFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """Write a repaired copy: plan, predict, write, verify.

    Cures marked safe are applied; others need --donor or --accept. With --for, the copy is one that
    these loaders take. Nothing is written when there is nothing to do, or when an error would
    remain.
    """
    asks = settings(config, isolated, select, ignore, fail_on=fail_on)
    told = delivery(format, Full, output, color, quiet, fail_on=asks.fail_on)
    form = form_of(link, delta, single_file, max_shard_size, dtype, manifest)

    def work(progress: Progress) -> Treatment:
        return tidoctor.repair(
            source, dest, wanted=wanted, donor=donor, accept=options.codes(accept),
            select=asks.select, ignore=asks.ignore, loaders=options.codes(loaders),
            partial=partial, form=form, force=force, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    return treat(told, source, work, dry_run, asks.fail_on, sent_to(source, push, create_pr, form))
