"""What every verb of the command line has: plain help that ends in examples and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
import typer.core

from tidoctor.cli.coercion import PlainWords

Function = TypeVar("Function", bound=Callable[..., Any])

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


class _Command(PlainWords, typer.core.TyperCommand):
    """What a verb is on the command line."""


def epilog(*examples: str) -> str:
    """What a help page ends with."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples) + "\n" + _EXIT_CODES


def command(app: typer.Typer, *examples: str) -> Callable[[Function], Function]:
    """What enters a function as the command of `app`, whose help page ends in these examples."""
    return app.command(cls=_Command, epilog=epilog(*examples))


def verb() -> typer.Typer:
    """A command to be, of the one function that is entered in it."""
    return typer.Typer(
        rich_markup_mode=None,  # plain help, the same everywhere: with rich, CI logs get ANSI codes
        pretty_exceptions_enable=False,
        add_completion=False,
    )
