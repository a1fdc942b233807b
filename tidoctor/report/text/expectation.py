"""The tensors that a config promises, repeated layers collapsed into one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidoctor.names import natural_key, printable
from tidoctor.patterns import collapse, some_patterns
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import Fact, facts, table

if TYPE_CHECKING:
    from tidoctor.atlas.expectation import Expectation
    from tidoctor.expecting import Answer

_CHECKS = (
    ("random", "random config"),
    ("real", "published config"),
    ("saved", "saved model"),
)
_SHOWN = 6  # regular expressions; some families have dozens


def expectation(answer: Answer, style: Style, *, every: bool) -> list[str]:
    """The tensors of a fresh save, one row for each with `every`; or why they are not known."""
    name = style.paint("strong", printable(answer.source))
    asked = printable(answer.class_name or answer.model_type or "")
    found = answer.expectation
    if found is None:
        return ["  ".join(filter(None, (name, asked, f"not covered: {printable(answer.reason)}")))]
    total = parameters(found.disk)
    rows = _all(found.disk) if every else _patterns(found.disk)
    lines = [f"{name}  {asked}  {units.count(total)} parameters", ""]
    body: list[tuple[str, ...]] = [
        (printable(pattern), str(len(members)), units.shape(found.disk[members[0]]))
        for pattern, members in rows
    ]
    for alias, target in sorted(found.disk_ties.items(), key=lambda tie: natural_key(tie[0])):
        body.append((printable(alias), "-", f"tied to {printable(target)}, not stored"))
    if body:
        lines += [*table([("tensor", "count", "shape"), *body], frozenset({1, 2}), style), ""]
    if notes := _notes(found):
        lines += [*facts(notes, style), ""]
    counted = "" if every else f", {units.plural(len(rows), 'pattern')}"
    return [*lines, f"{units.plural(len(found.disk), 'tensor')}{counted}. {_origin(found)}"]


def parameters(tensors: Mapping[str, tuple[int, ...]]) -> int:
    """Number of elements of all tensors together."""
    sizes: dict[tuple[int, ...], int] = {}
    for shape in tensors.values():
        sizes[shape] = sizes.get(shape, 0) + 1
    total = 0
    for shape, times in sizes.items():
        for size in shape:
            times *= size
        total += times
    return total


def _all(tensors: Mapping[str, tuple[int, ...]]) -> list[tuple[str, list[str]]]:
    return [(name, [name]) for name in sorted(tensors, key=natural_key)]


def _patterns(tensors: Mapping[str, tuple[int, ...]]) -> list[tuple[str, list[str]]]:
    """Names of equal shape that differ in integers only, as one pattern each."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, shape in tensors.items():
        alike.setdefault(shape, []).append(name)
    rows = [row for names in alike.values() for row in collapse(names)]
    return sorted(rows, key=lambda row: (natural_key(row[1][0]), row[0]))


def _notes(found: Expectation) -> list[Fact]:
    notes: list[Fact] = []
    if found.quantisation:
        method = printable(found.quantisation)
        said = f"config.json names {method}; these are the tensors of the model without it"
        notes.append(("quantised", [said]))
    if found.unsaved:
        notes.append(("never saved", [some_patterns(found.unsaved)]))
    if optional := [name for name in found.disk if not found.required(name)]:
        notes.append(("may be absent", [some_patterns(optional)]))
    if found.unexpected_ok:
        more = len(found.unexpected_ok) - _SHOWN
        shown = [printable(pattern) for pattern in found.unexpected_ok[:_SHOWN]]
        notes.append(("passed over", shown + ([f"… and {more} more"] if more > 0 else [])))
    return notes


def _origin(found: Expectation) -> str:
    checks = ["its defaults"] if found.verified.get("defaults") else []
    for key, word in _CHECKS:
        if number := found.verified.get(key):
            checks.append(units.plural(number, word))
    verified = f", verified on {', '.join(checks)}" if checks else ""
    return f"Learned from transformers {found.version}{verified}."
