"""The catalogue of rules, the page of one, and what an error message points to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidoctor import rules
from tidoctor.names import printable
from tidoctor.report.style import Style
from tidoctor.report.text.layout import INDENT, Fact, facts, table

if TYPE_CHECKING:
    from tidoctor.loaders import Origin
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


def symptoms(
    message: str, likely: Sequence[Symptom], origins: Sequence[Origin], style: Style
) -> list[str]:
    """The loaders that print a message, and the rules that it points to, the likeliest first."""
    if not likely and not origins:
        return [f"nothing is known about: {printable(_short(message))}",
                "Diagnose the checkpoint itself: tidoctor diagnose SOURCE"]
    known = {rule.code: rule for rule in rules.RULES}
    lines = []
    for title, group in _grouped(origins).items():
        lines += [*_origins(title, group, known, style), ""]
    told = {code for origin in origins for code in rules.meaning(origin).codes}
    causes: list[str] = []
    for symptom in likely:
        rows = [_rule_row(known[c]) for c in symptom.codes if c in known and c not in told]
        rows += [("advice", symptom.advice.splitlines())] * bool(symptom.advice)
        causes += [*facts(rows, style), ""] if rows else []
    if causes:
        more = "further " if origins else ""
        lines += [f"{more}likely causes of: {printable(_short(message))}", "", *causes]
    asked = f" --for {origins[0].consumer}" if len({o.consumer for o in origins}) == 1 else ""
    which = f"tidoctor diagnose SOURCE{asked}"
    return [*lines, f"To find out which: {which}; on each: tidoctor explain CODE"]


def _grouped(origins: Sequence[Origin]) -> dict[str, list[Origin]]:
    """Origins by what they mean, in their order."""
    groups: dict[str, list[Origin]] = {}
    for origin in origins:
        groups.setdefault(rules.meaning(origin).words, []).append(origin)
    return groups


def _origins(
    words: str, group: Sequence[Origin], known: Mapping[str, Rule], style: Style
) -> list[str]:
    """A meaning, the loaders that say so, and the rules that find it."""
    rows: list[Fact] = [("means", [words])]
    for origin in group:
        rows.append((origin.consumer, [f"{origin.versions}: {origin.template}"]))
        rows += [
            ("", [f"{', '.join(types)} in {versions}: {how}"])
            for types, versions, how in origin.cases
        ]
    rows += [_rule_row(known[code]) for code in rules.meaning(group[0]).codes if code in known]
    names = ", ".join(dict.fromkeys(o.consumer for o in group))
    return [f"a message of {names}", "", *facts(rows, style)]


def _rule_row(rule: Rule) -> Fact:
    return f"{rule.code} {rule.name}", [rule.title]


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 200 else line[:200] + "…"
