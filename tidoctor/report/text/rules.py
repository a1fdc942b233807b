"""The catalogue of rules, the page of one, and what an error message points to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidoctor import rules
from tidoctor.names import printable
from tidoctor.report.style import Style
from tidoctor.report.text.layout import INDENT, Fact, facts, table

if TYPE_CHECKING:
    from tidoctor.rules import Rule, Symptom


def catalogue(listed: Sequence[Rule], style: Style) -> list[str]:
    """Code, name and title of each rule."""
    rows = [(r.code, r.name, r.title + (" (--deep)" if r.needs_deep else "")) for r in listed]
    lines = table([("code", "name", "what it says"), *rows], frozenset(), style)
    return [*lines, "", f"{len(rows)} rules. The page of one: tidoctor explain CODE"]


def page(rule: Rule, style: Style) -> list[str]:
    """All that is written about one rule."""
    deep = "  (reads all values: runs with --deep only)" if rule.needs_deep else ""
    lines = [style.paint("strong", f"{rule.code} {rule.name}") + deep, ""]
    return lines + [(INDENT + line).rstrip() for line in rule.page.splitlines()]


def symptoms(message: str, likely: Sequence[Symptom], style: Style) -> list[str]:
    """The rules that an error message points to, the likeliest first."""
    if not likely:
        return [f"nothing is known about: {printable(_short(message))}",
                "Diagnose the checkpoint itself: tidoctor diagnose SOURCE"]
    known = {rule.code: rule for rule in rules.RULES}
    lines = [f"likely causes of: {printable(_short(message))}", ""]
    for symptom in likely:
        named = [known[code] for code in symptom.codes if code in known]
        rows: list[Fact] = [(f"{r.code} {r.name}", [r.title]) for r in named]
        rows += [("advice", symptom.advice.splitlines())] * bool(symptom.advice)
        lines += [*facts(rows, style), ""]
    return [*lines, "To find out which: tidoctor diagnose SOURCE; on each: tidoctor explain CODE"]


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 200 else line[:200] + "…"
