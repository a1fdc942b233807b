"""Names of tensors as people read them: their order, and safe to print."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DANGEROUS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# What makes CI runners obey a line of a log: `::command` at its beginning, `##[command` (GitHub) or
# `##vso[command` (Azure) anywhere. Sources: ActionCommand.cs of actions/runner, "Logging commands"
# in the documentation of Azure Pipelines.
_COMMAND = re.compile(r"(?<=#)#(?=\[|vso\[)|\A(?P<room>\s*):(?=:)")

_BRIEF = 80  # characters of a value that is told


def printable(text: str) -> str:
    """The text with everything escaped that could move, hide or reorder characters.

    C0 and C1 controls, bidi marks, zero-width characters, line separators, surrogates and tags
    become `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`, and so does the sign of a line that a CI runner
    would obey; all else stays.
    """
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda m: (m["room"] or "") + rf"\x{ord(m[0][-1]):02x}", text)
    return _DANGEROUS.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text)


def brief(text: object) -> str:
    """A value out of somebody's config, safe to print and not too long.

    Not for names of tensors, which are never cut.
    """
    shown = printable(str(text)[:_BRIEF])
    return shown if len(str(text)) <= _BRIEF else f"{shown}…"


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts layer 2 before layer 10."""
    return tuple(
        (0, int(part)) if part.isdecimal() and part.isascii() else (1, part)
        for part in re.split(r"(\d{1,18})", name)
        if part
    )


def some(names: Sequence[str], most: int) -> str:
    """The first few names, safe to print, and how many more there are."""
    shown = ", ".join(map(printable, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
