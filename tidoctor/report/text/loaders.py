"""Loaders: the table of verdicts, the list of those known, and the page of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidoctor.finding import Certainty, Outcome, Verdict
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.policy import Consumer, Record
from tidoctor.names import printable
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import INDENT, Fact, facts, table

_SAID = {
    "none": "builds no head",
    "delegated": "hands the checkpoint on",
    "refused": "does not take the class",
    "unknown": "not known",
}


def verdicts(found: Sequence[Verdict], style: Style) -> list[str]:
    """A row for each loader: what it makes of the checkpoint, and what its user sees."""
    rows = [(printable(v.loader), printable(v.version), _word(v), _told(v)) for v in found]
    return table([("loader", "version", "verdict", ""), *rows], frozenset(), style)


def _word(verdict: Verdict) -> str:
    guessed = verdict.certainty is Certainty.LIKELY and verdict.outcome is not Outcome.UNKNOWN
    return f"{verdict.outcome} (likely)" if guessed else str(verdict.outcome)


def _told(verdict: Verdict) -> str:
    if verdict.outcome is Outcome.LOADS:
        return ""
    if verdict.outcome is Outcome.FAILS and verdict.message:
        return printable(verdict.message)
    return printable(verdict.why)


def listing(known: Sequence[Consumer], style: Style) -> list[str]:
    """Every loader with its newest version and how much is known of it."""
    rows = [
        (c.name, c.timeline.newest, str(len(_model_types(c))), c.title) for c in known
    ]
    titles = ("loader", "newest", "families", "what it is")
    lines = table([titles, *rows], frozenset({2}), style)
    return [
        *lines,
        "",
        f"{units.plural(len(known), 'loader')}. Its page: tidoctor loaders NAME. "
        "A verdict: tidoctor diagnose SOURCE --for NAME[@VERSION]",
    ]


def page(consumer: Consumer, style: Style) -> list[str]:
    """All that is known of one loader: its versions, and each record with its source."""
    known = consumer.timeline.known
    head: list[Fact] = [
        ("also called", [", ".join(consumer.aliases) or "nothing else"]),
        ("versions", [f"{known[0]} to {known[-1]}: {consumer.axis}"]),
        ("model types", [", ".join(_model_types(consumer))]),
    ]
    lines = [f"{style.paint('strong', consumer.name)}{INDENT}{consumer.title}", ""]
    lines += facts(head, style)
    for record in consumer.records:
        types = ", ".join(record.model_types)
        lines += ["", style.paint("strong", types), *facts(list(_facts(record)), style)]
    return lines


def _facts(record: Record) -> Iterator[Fact]:
    every = record.versions.text == "*"
    yield "versions", ["all that are known" if every else record.versions.text]
    if record.tasks != ("causal-lm",):
        yield "as", [", ".join(record.tasks)]
    policy = POLICIES.get(record.head)
    yield "head", [policy.words if policy else _SAID[record.head]]
    if record.delegate:
        yield "goes to", [record.delegate]
    if record.prefixes != ("{prefix}",):
        yield "prefix", [" or ".join(repr(p) if p else "none" for p in record.prefixes)]
    if record.head_names != ("{head}",):
        yield "head is called", [", ".join(record.head_names)]
    keys = [k.name for k in record.config if k.instead is None]
    if keys:
        yield "config.json needs", [", ".join(keys)]
    if record.since:
        yield "since", [record.since]
    if record.note:
        yield "note", [record.note]
    yield "source", [str(record.cite)]


def _model_types(consumer: Consumer) -> list[str]:
    found = dict.fromkeys(t for r in consumer.records for t in r.model_types if t != "*")
    others = any("*" in r.model_types for r in consumer.records)
    return [*sorted(found), *(["and others"] if others else [])]
