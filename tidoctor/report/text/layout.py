"""The two shapes that text has: a column of labels with facts, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidoctor.names import printable
from tidoctor.report.style import Style

INDENT = "  "
_NARROW, _WIDE = 17, 40  # characters; labels are padded to the longest, within these
_CELL = 120  # characters; a longer cell is shown whole, but others are not padded to it

Fact = tuple[str, Sequence[str]]
"""A label and the lines that belong to it."""


def facts(rows: Sequence[Fact], style: Style) -> list[str]:
    """Labels in a column, their lines in the next one."""
    width = max((len(label) for label, _ in rows if len(label) <= _WIDE), default=0)
    width = max(width, _NARROW) + len(INDENT)
    lines = []
    for label, values in rows:
        first = style.paint("faint", label) + " " * max(width - len(label), len(INDENT))
        lead = INDENT + first
        for value in values:
            lines.append((lead + value).rstrip())
            lead = INDENT + " " * width
    return lines


def table(rows: Sequence[Sequence[str]], right: frozenset[int], style: Style) -> list[str]:
    """Columns two spaces apart, those in `right` flush right; the first row holds their titles.

    A row with fewer cells than titles ends in free text.
    """
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [
        max(len(cell) for cell in column if len(cell) <= _CELL or cell is column[0])
        for column in zip(*full, strict=True)
    ]
    for row in rows:  # the first cells of short rows share the columns
        for i, cell in enumerate(row[:-1]):
            if len(cell) <= _CELL:
                widths[i] = max(widths[i], len(cell))
    lines = [_line(row, widths, right, free=len(row) < len(rows[0])) for row in rows]
    return [style.paint("faint", lines[0]), *lines[1:]]


def _line(row: Sequence[str], widths: Sequence[int], right: frozenset[int], *, free: bool) -> str:
    cells = [
        cell.rjust(widths[i]) if i in right and not (free and i == len(row) - 1)
        else cell.ljust(widths[i]) if i < len(row) - 1
        else cell
        for i, cell in enumerate(row)
    ]
    return INDENT + INDENT.join(cells).rstrip()


def clean(lines: Iterable[str]) -> list[str]:
    """Lines of foreign text made safe to print."""
    return [printable(line) for line in lines]


def patterns(rows: Sequence[tuple[str, str]], most: int) -> list[str]:
    """At most `most` lines of a pattern and what is said of it, then how many more there are."""
    shown = [f"{printable(name)} {more}".rstrip() for name, more in rows[:most]]
    if len(rows) > most:
        shown.append(f"… and {len(rows) - most} more (all of them with --format json)")
    return shown
