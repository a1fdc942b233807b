"""`tidoctor untie`: a copy with the head stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tidoctor
from tidoctor.cli import options
from tidoctor.cli.options import Plain
from tidoctor.cli.telling import delivery
from tidoctor.cli.verb import command, verb
from tidoctor.cli.writing import form_of, sent_to, treat
from tidoctor.report.style import When

if TYPE_CHECKING:
    from tidoctor.repairs import Progress, Treatment

app = verb()


@command(
    app,
    "tidoctor untie ./my-model ./untied",
    "tidoctor untie ./my-model ./untied --for candle@0.7.1",
)
def untie(
    source: options.Source,
    dest: options.Dest,
    loaders: options.Readers = None,
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
    format: options.PlainFormat = None,
    output: options.ToFile = None,
    color: options.Color = When.AUTO,
    quiet: options.Quiet = False,
) -> int:
    """Write a copy that stores the tied head explicitly.

    For loaders that ask for lm_head.weight although the embedding serves as head.
    """
    told = delivery(format, Plain, output, color, quiet)
    form = form_of(link, delta, single_file, max_shard_size, dtype, manifest)

    def operate(progress: Progress) -> Treatment:
        return tidoctor.untie(
            source, dest, loaders=options.codes(loaders), form=form, force=force, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip

    sent = sent_to(source, push, create_pr, form)
    return treat(told, source, operate, dry_run=dry_run, sent=sent)
