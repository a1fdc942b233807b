"""Arguments and options that several verbs have, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tidoctor import completion
from tidoctor.report.style import When
from tidoctor.report.verdict import FailOn


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


SOURCE = (
    "A checkpoint: its folder, a .safetensors file or a .safetensors.index.json; "
    "or a model on the Hub: org/name[@revision], hf://org/name/folder, or the address of its page."
)

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE", help=SOURCE)]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)]
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
Every = Annotated[bool, typer.Option("--all", help="One row for each tensor.")]
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


def codes(given: Sequence[str] | None) -> list[str]:
    """`["H02,C", "head-lost"]` → `["H02", "C", "head-lost"]`."""
    return [code for text in given or () for part in text.split(",") if (code := part.strip())]
