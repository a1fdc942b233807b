"""The command line: arguments → one call of the library → report → exit code.

A module per verb, imported when that verb is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

import tidoctor
from tidoctor.cli.coercion import PlainWords
from tidoctor.cli.verb import epilog
from tidoctor.errors import Usage
from tidoctor.report.verdict import Exit

VERBS = (
    "inspect", "diagnose", "repair", "untie", "tie", "expect", "loaders", "explain", "demo",
)  # fmt: skip
"""In the order of the help page."""

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


class _Commands(Mapping[str, Any]):
    """The commands by their names, in order; each is made when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in VERBS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


@cache
def _command(name: str) -> Any:
    return typer.main.get_command(import_module(f"tidoctor.cli.{name}").app)


class _Group(PlainWords, typer.core.TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"commands": _Commands()})


app = typer.Typer(
    name="tidoctor",
    cls=_Group,
    rich_markup_mode=None,  # plain help, the same everywhere: with rich, CI logs get ANSI codes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=epilog(
        "tidoctor diagnose ./my-model",
        "tidoctor repair ./my-model ./healed --donor ./base-model",
        "tidoctor explain H02",
    )
    + _ENVIRONMENT,
)


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
