"""The command line: arguments → one call of the library → report → exit code."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import tidoctor
from tidoctor import completion
from tidoctor.errors import Usage
from tidoctor.form import Form, dtype_wish
from tidoctor.report import Format
from tidoctor.report.style import When
from tidoctor.report.verdict import Exit, FailOn, of_treatment

if TYPE_CHECKING:
    from tidoctor.baseline import Baseline
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.promise import Promise
    from tidoctor.repairs import Progress, Treatment
    from tidoctor.report import Page
    from tidoctor.report.delivery import Delivery, Told
    from tidoctor.rules.statistics import Statistics
    from tidoctor.settings import Settings

_EXIT_CODES = """
\b
Exit codes:
  0    nothing at or above --fail-on; written and re-diagnosed clean
  1    findings; an error remains or would remain; the request was refused
  2    wrong command line
  3    not examined: unreadable, missing, no checkpoint there, internal error
  130  interrupted
With several sources the worst wins: 3 over 1 over 0.
"""


def _epilog(*examples: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples) + "\n" + _EXIT_CODES


_ENVIRONMENT = """
\b
Environment:
  TIDOCTOR_FORMAT        the format where --format is not given
  TIDOCTOR_DEBUG=1       show the traceback of an error
  NO_COLOR, FORCE_COLOR  colour never, always, where --color is not given
  COLUMNS                width of help pages
  HF_TOKEN               for gated and private models; else the saved login
  HF_HUB_OFFLINE=1       models come from the cache only; HF_HOME says where it is
  HF_ENDPOINT            another Hub
  GITHUB_STEP_SUMMARY    with --format github, the file that gets the report as Markdown
"""

app = typer.Typer(
    name="tidoctor",
    rich_markup_mode=None,  # plain help, the same everywhere: with rich, CI logs get ANSI codes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=_epilog(
        "tidoctor diagnose ./my-model",
        "tidoctor repair ./my-model ./healed --donor ./base-model",
        "tidoctor explain H02",
    )
    + _ENVIRONMENT,
)


class Plain(StrEnum):
    """The formats of commands that yield no findings."""

    TEXT = "text"
    JSON = "json"


class Full(StrEnum):
    """The formats of commands that yield findings."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"
    MARKDOWN = "markdown"


class LinkMode(StrEnum):
    """How files that do not change get to the result."""

    AUTO = "auto"
    HARD = "hard"
    NEVER = "never"


_SOURCE = (
    "A checkpoint: its folder, a .safetensors file or a .safetensors.index.json; "
    "or a model on the Hub: org/name[@revision], hf://org/name/folder, or the address of its page."
)

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE", help=_SOURCE)]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE)]
Dest = Annotated[
    Path, typer.Argument(metavar="DEST", help="The folder to write; SOURCE is never touched.")
]
Wanted = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="CLASS",
        help="The class, or a task such as causal-lm, that the checkpoint must serve. "
        "Without it, the class in config.json.",
    ),
]
Loaders = Annotated[
    list[str] | None,
    typer.Option(
        "--for", metavar="LOADER[@VERSION]", autocompletion=completion.wishes,
        help="Say whether this loader takes it, and what it makes of it; all for every one that is "
        "known. Without a version the newest known. Repeatable, comma separated.",
    ),
]
Readers = Annotated[
    list[str] | None,
    typer.Option(
        "--for", metavar="LOADER[@VERSION]",
        help="Choose what every loader named here takes: with the least changes, and none that "
        "would stop another one. Without a version the newest known. Repeatable, comma separated.",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select", metavar="CODES", autocompletion=completion.codes,
        help="Only these rules: codes, names or families, such as H02, head-lost or H. "
        "Repeatable, comma separated.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="CODES", autocompletion=completion.codes,
        help="Not these rules. Repeatable, comma separated.",
    ),
]
Fail = Annotated[
    FailOn | None,
    typer.Option("--fail-on", help="The lowest severity that makes exit 1; without it, error."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE",
        help="Take [tool.tidoctor] from this file, not from the nearest pyproject.toml.",
    ),
]
Isolated = Annotated[bool, typer.Option("--isolated", help="Read no configuration.")]
PlainFormat = Annotated[Plain | None, typer.Option("--format", help="How to tell it.")]
FullFormat = Annotated[
    Full | None,
    typer.Option(
        "--format",
        help="How to tell it; concise is one line per finding, github annotations of a workflow.",
    ),
]
ToFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the report to a file, all or nothing."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Show plan, cost and predicted diagnosis; write nothing."),
]
Push = Annotated[
    str | None,
    typer.Option(
        "--push", metavar="REPO",
        help="Send the result to this model on the Hub as well: what changed if it is SOURCE "
        "itself, else all of it.",
    ),
]
CreatePr = Annotated[
    bool,
    typer.Option(
        "--create-pr",
        help="Send it as a pull request, to SOURCE itself without --push. An open one is found "
        "again.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace DEST if it exists, atomically.")]
Link = Annotated[
    LinkMode,
    typer.Option(
        "--link",
        help="Files that do not change: auto shares their extents where the file system can, else "
        "copies; hard makes hard links, so that both folders share their bytes; never copies.",
    ),
]
Delta = Annotated[
    bool,
    typer.Option(
        "--delta", help="Write only what is new (shards, index, config): an overlay to upload."
    ),
]
Single = Annotated[bool, typer.Option("--single-file", help="All tensors in one file.")]
ShardSize = Annotated[
    str | None,
    typer.Option(
        "--max-shard-size", metavar="SIZE",
        help="Divide the tensors into files of at most this size, such as 5GB or 500MB.",
    ),
]
Dtype = Annotated[
    list[str] | None,
    typer.Option(
        "--dtype", metavar="[PATTERN=]TYPE",
        help="Convert to bf16, f16 or f32: all floating-point tensors, or those whose names match. "
        "Repeatable; the last that matches counts.",
    ),
]
ManifestFile = Annotated[
    Path | None,
    typer.Option(
        "--manifest", metavar="FILE",
        help="Write each tensor's file, range, SHA-256 and origin to this file; reads all values. "
        "tidoctor diagnose --manifest compares later.",
    ),
]
Color = Annotated[When, typer.Option("--color", help="Whether to colour text.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="The report only: no progress, no hints.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidoctor {tidoctor.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """The checkpoint doctor: inspect, diagnose and repair model checkpoints without torch."""
    if context.invoked_subcommand is None:
        raise Usage("tidoctor", "missing command", "see tidoctor --help")


@app.command(
    epilog=_epilog(
        "tidoctor inspect ./my-model",
        "tidoctor inspect ./my-model --all --match '*.q_proj.weight' --format json",
        "tidoctor inspect ./my-model --write-promise promise.json",
    )
)
def inspect(
    sources: Sources,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", metavar="GLOB", help="Only tensors whose names match. Repeatable."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="One row for each tensor.")] = False,
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
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """List the tensors, a row for all layers alike. Reads headers only, unless --deep."""
    told = _delivery(format, Plain, output, color, quiet, several=len(sources) > 1)

    def examine(source: str) -> Told:
        checkpoint, wanted = tidoctor.open(source), _matcher(match)
        _write_promise(write_promise, sources, checkpoint, loaders)
        like = tidoctor.identify(checkpoint, doubtful=True)
        values = _statistics(checkpoint, wanted, quiet) if deep else None
        page = told.page.inspection(checkpoint, wanted, every=every, like=like, values=values)
        return page, Exit.CLEAN if checkpoint.tensors else Exit.UNEXAMINED

    return told.each(sources, examine)


@app.command(
    epilog=_epilog(
        "tidoctor diagnose ./my-model",
        "tidoctor diagnose ./my-model --as causal-lm --deep",
        "tidoctor diagnose ./my-model --for candle@0.7.1 --for transformers",
        "tidoctor diagnose checkpoints/* --format concise --fail-on warning",
        "tidoctor diagnose --recursive . --format sarif -o tidoctor.sarif",
        "tidoctor diagnose ./my-model --baseline known.json --write-baseline",
        "tidoctor diagnose ./my-model --against-installed",
    )
)
def diagnose(
    sources: Sources,
    wanted: Wanted = None,
    loaders: Loaders = None,
    select: Select = None,
    ignore: Ignore = None,
    fail_on: Fail = None,
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
    config: Config = None,
    isolated: Isolated = False,
    format: FullFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """Say what is wrong, on what evidence, and what cures it."""
    from tidoctor import many
    from tidoctor.checkup import Checkup

    asks = _settings(config, isolated, select, ignore, loaders, fail_on)
    known, kept = _baseline(baseline, write_baseline), _promise(promise)
    listed = many.found(sources, recursive=recursive, of_files=of_files)
    several = of_files or len(listed) > 1
    told = _delivery(format, Full, output, color, quiet, several=several, fail_on=asks.fail_on)
    made = (kept, donor, manifest)
    checkup = Checkup(asks, wanted, deep, against_installed, known, write_baseline, *made)
    return checkup.run(told, listed)


@app.command(
    epilog=_epilog(
        "tidoctor repair ./my-model ./healed --dry-run",
        "tidoctor repair ./my-model ./healed --as causal-lm --donor ./base-model",
        "tidoctor repair ./my-model ./healed --accept H05",
        "tidoctor repair ./my-model ./healed --for candle@0.7.1 --for vllm",
    )
)
def repair(
    source: Source,
    dest: Dest,
    wanted: Wanted = None,
    loaders: Readers = None,
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
    select: Select = None,
    ignore: Ignore = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Write although an error would remain.")
    ] = False,
    link: Link = LinkMode.AUTO,
    delta: Delta = False,
    single_file: Single = False,
    max_shard_size: ShardSize = None,
    dtype: Dtype = None,
    manifest: ManifestFile = None,
    force: Force = False,
    dry_run: DryRun = False,
    push: Push = None,
    create_pr: CreatePr = False,
    fail_on: Fail = None,
    config: Config = None,
    isolated: Isolated = False,
    format: FullFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """Write a repaired copy: plan, predict, write, verify.

    Cures marked safe are applied; others need --donor or --accept. With --for, the copy is one that
    these loaders take. Nothing is written when there is nothing to do, or when an error would
    remain.
    """
    asks = _settings(config, isolated, select, ignore, fail_on=fail_on)
    told = _delivery(format, Full, output, color, quiet, fail_on=asks.fail_on)
    form = _form(link, delta, single_file, max_shard_size, dtype, manifest)

    def work(progress: Progress) -> Treatment:
        return tidoctor.repair(
            source, dest, wanted=wanted, donor=donor, accept=_codes(accept),
            select=asks.select, ignore=asks.ignore, loaders=_codes(loaders),
            partial=partial, form=form, force=force, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    return _treat(told, source, work, dry_run, asks.fail_on, _sent(source, push, create_pr, form))


@app.command(
    epilog=_epilog(
        "tidoctor untie ./my-model ./untied",
        "tidoctor untie ./my-model ./untied --for candle@0.7.1",
    )
)
def untie(
    source: Source,
    dest: Dest,
    loaders: Readers = None,
    link: Link = LinkMode.AUTO,
    delta: Delta = False,
    single_file: Single = False,
    max_shard_size: ShardSize = None,
    dtype: Dtype = None,
    manifest: ManifestFile = None,
    force: Force = False,
    dry_run: DryRun = False,
    push: Push = None,
    create_pr: CreatePr = False,
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """Write a copy that stores the tied head explicitly.

    For loaders that ask for lm_head.weight although the embedding serves as head.
    """
    told = _delivery(format, Plain, output, color, quiet)
    form = _form(link, delta, single_file, max_shard_size, dtype, manifest)

    def operate(progress: Progress) -> Treatment:
        return tidoctor.untie(
            source, dest, loaders=_codes(loaders), form=form, force=force, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip

    sent = _sent(source, push, create_pr, form)
    return _treat(told, source, operate, dry_run=dry_run, sent=sent)


@app.command(epilog=_epilog("tidoctor tie ./my-model ./tied"))
def tie(
    source: Source,
    dest: Dest,
    loaders: Readers = None,
    link: Link = LinkMode.AUTO,
    delta: Delta = False,
    single_file: Single = False,
    max_shard_size: ShardSize = None,
    dtype: Dtype = None,
    manifest: ManifestFile = None,
    force: Force = False,
    dry_run: DryRun = False,
    push: Push = None,
    create_pr: CreatePr = False,
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """Write a copy without the head that equals the embedding.

    Refused unless they are equal byte for byte.
    """
    told = _delivery(format, Plain, output, color, quiet)
    form = _form(link, delta, single_file, max_shard_size, dtype, manifest)

    def operate(progress: Progress) -> Treatment:
        return tidoctor.tie(
            source, dest, loaders=_codes(loaders), form=form, force=force, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip

    sent = _sent(source, push, create_pr, form)
    return _treat(told, source, operate, dry_run=dry_run, sent=sent)


@app.command(
    epilog=_epilog(
        "tidoctor expect ./my-model",
        "tidoctor expect ./my-model/config.json --as LlamaForCausalLM --format json",
    )
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
    every: Annotated[bool, typer.Option("--all", help="One row for each tensor.")] = False,
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """List the tensors that a config and class should have.

    As a fresh save of transformers writes them; what is not known for sure is not told (exit 3).
    """
    told = _delivery(format, Plain, output, color, quiet)

    def examine(source: str) -> Told:
        from tidoctor.expecting import answer

        found = answer(source, wanted)
        code = Exit.CLEAN if found.expectation else Exit.UNEXAMINED
        return told.page.expectation(found, every=every), code

    return told.each([source], examine)


@app.command(epilog=_epilog("tidoctor loaders", "tidoctor loaders candle"))
def loaders(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", autocompletion=completion.loader_names,
            help="A loader, or another name for it.",
        ),
    ] = None,
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """List the known loaders, or explain one version by version."""
    from tidoctor import loaders

    told = _delivery(format, Plain, output, color, quiet)

    def answer() -> Told:
        known = [loaders.consumer(name)] if name else list(map(loaders.consumer, loaders.names()))
        return told.page.loaders(known, name), Exit.CLEAN

    return told.once(answer)


@app.command(
    epilog=_epilog(
        "tidoctor explain",
        "tidoctor explain head-lost",
        "tidoctor explain candle",
        "tidoctor explain 'Error: cannot find tensor lm_head.weight'",
    )
)
def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTION", autocompletion=completion.questions,
            help="A rule's code or name, a loader's name, or a loader's error message.",
        ),
    ] = None,
    format: PlainFormat = None,
    output: ToFile = None,
    color: Color = When.AUTO,
    quiet: Quiet = False,
) -> int:
    """List the rules; explain a rule, loader or error message."""
    told = _delivery(format, Plain, output, color, quiet)
    return told.once(lambda: _explanation(told.page, " ".join(words or ()).strip()))


@app.command(epilog=_epilog("tidoctor demo", "tidoctor demo ./clinic"))
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


# --- from arguments to what the commands need ----------------------------------------------------


def _delivery(
    given: Plain | Full | None,
    offered: type[Plain] | type[Full],
    output: Path | None,
    color: When,
    quiet: bool,
    *,
    several: bool = False,
    fail_on: str = FailOn.ERROR,
) -> Delivery:
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


def _settings(
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
    return written.overruled(_codes(select), _codes(ignore), _codes(loaders), fail_on)


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


def _write_promise(
    path: Path | None,
    sources: Sequence[str],
    checkpoint: Checkpoint,
    loaders: Sequence[str] | None,
) -> None:
    from tidoctor import promise, promising
    from tidoctor.report.output import Output

    if path is None:
        return
    if len(sources) > 1:
        raise Usage("--write-promise", "is about one SOURCE", "write one promise at a time")
    with Output(path) as out:
        out.write(promise.text(promising.promise(checkpoint, _codes(loaders))))


def _codes(given: Sequence[str] | None) -> list[str]:
    """`["H02,C", "head-lost"]` → `["H02", "C", "head-lost"]`."""
    return [code for text in given or () for part in text.split(",") if (code := part.strip())]


def _form(
    link: LinkMode,
    delta: bool,
    single_file: bool,
    size: str | None,
    dtypes: list[str] | None,
    manifest: Path | None,
) -> Form:
    most = None
    if size is not None:
        from tidoctor.sharding import byte_size

        most = byte_size(size)
    wishes = tuple(map(dtype_wish, dtypes or ()))
    return Form(link.value, delta, single_file, most, wishes, manifest)


def _statistics(
    checkpoint: Checkpoint, wanted: Callable[[str], bool], quiet: bool
) -> dict[str, Statistics | None]:
    """The numbers that tensors hold, told on the way how far reading has come."""
    from tidoctor.report.progress import Progress as Line

    with Line(quiet=quiet) as line:
        return tidoctor.statistics(checkpoint, wanted, progress=line)


def _matcher(globs: Sequence[str] | None) -> Callable[[str], bool]:
    return lambda name: not globs or any(fnmatchcase(name, glob) for glob in globs)


def _sent(source: str, push: str | None, create_pr: bool, form: Form) -> tuple[str | None, bool]:
    """Where the result goes besides. Raises Usage when it cannot."""
    if push is not None or create_pr:
        from tidoctor import shipping

        shipping.check(source, push, create_pr, delta=form.delta)
    return push, create_pr


def _treat(
    told: Delivery,
    source: str,
    operate: Callable[[Progress], Treatment],
    dry_run: bool,
    fail_on: str = FailOn.ERROR,
    sent: tuple[str | None, bool] = (None, False),
) -> int:
    from tidoctor.report.progress import Progress as Line

    def examine(_: str) -> Told:
        with Line(quiet=told.quiet) as line:
            done = operate(line)
        code = of_treatment(done, FailOn(fail_on))
        if any(sent):
            from tidoctor import shipping

            text = _described(done, code)
            repo, create_pr = sent
            done = shipping.ship(done, repo, text, create_pr=create_pr, dry_run=dry_run)
        return told.page.treatment(done, done.cost, dry_run=dry_run, exit_code=code), code

    return told.each([source], examine)


def _described(done: Treatment, code: int) -> str:
    """The report as the description of a commit."""
    from tidoctor.report import page
    from tidoctor.report.style import Style

    told = page(Format.TEXT, Style()).treatment(done, done.cost, dry_run=False, exit_code=code)
    return f"```\n{told}```\n"


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


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; its exit code. Raises Usage when it is wrong."""
    # Or the Hub's client tells what runs here, and asks for a list to tell it by.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        code = app(args=list(arguments), prog_name="tidoctor", standalone_mode=False)
    except typer.TyperException as e:
        context = getattr(e, "ctx", None)
        command = context.command_path if context else "tidoctor"
        raise Usage(command, e.format_message().rstrip("."), f"see {command} --help") from e
    except typer.Abort as e:
        raise KeyboardInterrupt from e
    if code == Exit.INTERRUPTED:
        raise KeyboardInterrupt
    return int(code or 0)
