"""A diagnosis: the subject, each finding with its evidence and cure, and one line that sums up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Certainty, Cure, Diagnosis, Finding, NotRun, Severity, Waived
from tidoctor.names import printable
from tidoctor.patterns import collapse
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import Fact, clean, facts, patterns
from tidoctor.report.text.opinion import lines as second_opinion
from tidoctor.report.text.subject import classes, extent, named, subject
from tidoctor.report.verdict import examined, word

if TYPE_CHECKING:
    from tidoctor.opinion import Opinion

_MOST = 6  # patterns of tensors shown with one finding


def diagnosis(
    checkpoint: Checkpoint,
    found: Diagnosis,
    style: Style,
    *,
    name: str | None = None,
    opinion: Opinion | None = None,
) -> list[str]:
    """The whole report of one source, under another name if one is given."""
    counted = units.plural(len(checkpoint.tensors), "tensor")
    parts = [classes(checkpoint), counted, extent(checkpoint)]
    lines = [subject(name or named(checkpoint), parts, style), ""]
    for one in found.findings:
        lines += [*finding(one, style), ""]
    for known in found.waived:
        lines += [*waived(known, style), ""]
    skipped = unable(found)
    lines += skipped + [""] * bool(skipped)
    if found.loaders:
        from tidoctor.report.text.loaders import verdicts

        lines += [*verdicts(found.loaders, style), ""]
    if opinion is not None:
        lines += [*second_opinion(opinion, found, style), ""]
    return [*lines, summary(found, style)]


def finding(one: Finding, style: Style) -> list[str]:
    """One finding: its headline, and below it what it rests on and what to do."""
    return [headline(one, style), *facts(_facts(one), style)]


def headline(one: Finding, style: Style) -> str:
    """`error C04 base-class-saved: message`."""
    likely = " (likely)" if one.certainty is Certainty.LIKELY else ""
    severity = style.paint(str(one.severity), str(one.severity))
    code = style.paint("strong", f"{one.code} {one.name}")
    return f"{severity} {code}{likely}: {printable(one.message)}"


def waived(known: Waived, style: Style) -> list[str]:
    """A finding that was accepted, and why."""
    one = known.finding
    told = f"{one.severity} {one.code} {one.name}: {printable(one.message)}"
    lines = [f"{style.paint('faint', 'waived')} {told}"]
    return lines + facts([("because", clean([f"{known.reason} ({known.by})"]))], style)


def summary(found: Diagnosis, style: Style) -> str:
    """`1 error. 61 rules ran, 8 not applicable, 3 need --deep.`"""
    counts = [(s, found.count(s)) for s in reversed(Severity)]
    told = [units.plural(n, str(s)) for s, n in counts if n]
    accepted = [sum(w.finding.severity is s for w in found.waived) for s in reversed(Severity)]
    told += [
        f"{units.plural(n, str(s))} waived"
        for n, s in zip(accepted, reversed(Severity), strict=True)
        if n
    ]
    verdict = word(found)
    if verdict == "healthy":
        good = style.paint("good", "healthy")
        bare = "but for what is waived" if any(accepted[:2]) else "no error, no warning"
        first = ", ".join([f"{good}: {bare}", *told])
    elif not examined(found):
        first = style.paint("error", "not examined") + ": no rule ran"
    else:
        first = style.paint(verdict, ", ".join(told))
    return f"{first}. {', '.join(_ran(found))}."


def unable(found: Diagnosis) -> list[str]:
    """The rules that could not run, a line for each reason; waiting for --deep is none."""
    reasons: dict[str, list[str]] = {}
    for one in found.not_run:
        if not waits(one):
            reasons.setdefault(one.reason, []).append(one.code)
    return [f"not run {' '.join(codes)}: {printable(why)}" for why, codes in reasons.items()]


def waits(one: NotRun) -> bool:
    """Whether a rule did not run only because reading all values was not asked for."""
    return "--deep" in one.reason


def rule_names() -> dict[str, str]:
    """The name of each rule by its code."""
    return {rule.code: rule.name for rule in rules.RULES}


def _ran(found: Diagnosis) -> list[str]:
    deep = sum(map(waits, found.not_run))
    failed = len(found.not_run) - deep
    told = [f"{units.plural(len(found.ran), 'rule')} ran"]
    told += [f"{len(found.not_applicable)} not applicable"] * bool(found.not_applicable)
    told += [f"{deep} need{'s' * (deep == 1)} --deep"] * bool(deep)
    return told + [f"{failed} could not run"] * bool(failed)


def _facts(one: Finding) -> list[Fact]:
    rows: list[Fact] = []
    places = [printable(e.where) for e in one.evidence]
    if one.location and str(one.location) not in (e.where for e in one.evidence):
        rows.append(("at", [printable(str(one.location))]))
    rows += [(p, clean(e.fact.split("\n"))) for p, e in zip(places, one.evidence, strict=True)]
    if one.tensors and not {"names", "tensors"} & set(places):
        rows.append(("tensors", _tensors(one.tensors)))
    if one.includes:
        rows.append(("includes", [", ".join(_includes(one.includes))]))
    if one.cure:
        rows.append((f"cure [{one.cure.kind}]", _cure(one.cure)))
    rows += [("caution", clean([one.caution]))] * bool(one.caution)
    rows += [("not", clean([one.not_]))] * bool(one.not_)
    return [*rows, ("more", [f"tidoctor explain {one.code}"])]


def _tensors(names: Sequence[str]) -> list[str]:
    rows = [(p, f"({len(m)})" if len(m) > 1 else "") for p, m in collapse(names)]
    return patterns(rows, _MOST)


def _includes(codes: Iterable[str]) -> list[str]:
    names = rule_names()
    return [f"{printable(code)} {names.get(code, '')}".rstrip() for code in codes]


def _cure(cure: Cure) -> list[str]:
    lines = clean(cure.summary.split("\n"))
    if cure.command:
        lines[-1] += ":"
        lines += clean(cure.command.split("\n"))
    return lines
