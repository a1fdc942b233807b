"""A repair: what would change, what it costs, what is predicted, what was written and verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidoctor.finding import Diagnosis, Severity
from tidoctor.names import printable
from tidoctor.repairs import Shipment, Treatment
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.diagnosis import diagnosis, headline, summary
from tidoctor.report.text.layout import Fact, clean, facts
from tidoctor.report.text.operations import told
from tidoctor.report.text.subject import classes, extent, subject

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.writer import Receipt

_LINKED = "linked files share their bytes with the source: what is edited in place changes in both"
_MOST = 12  # lines told of one kind of operation
_FILES = 6  # files named before the rest is counted


def treatment(done: Treatment, cost: Cost | None, style: Style) -> list[str]:
    """The whole report of a repair, untie or tie."""
    before = done.before
    counted = units.plural(len(before.tensors), "tensor")
    name = f"{done.verb} {before.source.name} → {done.dest}"
    lines = [subject(name, [classes(before), counted, extent(before)], style), ""]
    plan = _plan(done, cost, style)
    lines += [*plan, ""] if plan else []
    if done.shipment:
        lines += [*facts(_shipment(done.shipment), style), ""]
    if done.receipt is None:
        return [*lines, *_unwritten(done, style)]
    lines += [*facts(_receipt(done.receipt), style), ""]
    if done.result is None:
        return lines[:-1]
    return [*lines, *diagnosis(done.planned, done.result, style, name=str(done.dest))]


def _plan(done: Treatment, cost: Cost | None, style: Style) -> list[str]:
    verbs = told(done.plan.operations, done.planned)
    rows: list[Fact] = [(verb, _short(lines)) for verb, lines in verbs]
    for declined in done.declined:
        one = declined.finding
        rows.append(("declined", clean([f"{one.code} {one.name}: {declined.reason}"])))
    rows += [("unmet", clean([f"{u.who} {u.told()}"])) for u in done.unmet]
    rows += [("caution", clean(done.cautions))] * bool(done.cautions)
    if cost is not None:
        rows.append(("cost", [f"{amount(cost)}, {units.size(cost.total)} in all"]))
    if done.plan:
        rows.append(("predicted", _predicted(done.predicted, style)))
    if not done.result:
        said = [f"{v.loader} {v.version} {v.outcome}" for v in done.predicted.loaders]
        rows += [("loaders", clean(_short(said)))] * bool(said)
    return facts(rows, style)


def _predicted(found: Diagnosis, style: Style) -> list[str]:
    bad = [headline(f, style) for f in found.findings if f.severity > Severity.NOTE]
    return [*bad, summary(found, style)]


def _unwritten(done: Treatment, style: Style) -> list[str]:
    """Why nothing was written; what is wrong with the source, where no plan tells it."""
    lines = [] if done.plan else [summary(done.diagnosis, style)]
    role = "error" if done.exit_code else "good"
    reason = f": {printable(done.reason)}" if done.reason else ""
    return [*lines, style.paint(role, "nothing written") + reason]


def _shipment(shipment: Shipment) -> list[Fact]:
    size = sum(n for _, n in shipment.add)
    on = f" on top of {shipment.parent[:12]}" if shipment.parent else ""
    how = "a pull request to" if shipment.pull_request else "a commit to"
    told = [f"{how} {printable(shipment.repo)}{on}: {size:,} bytes at most"]
    told += [f"add {printable(name)} ({units.size(n)})" for name, n in shipment.add]
    told += [f"remove {printable(name)}" for name in shipment.delete]
    if shipment.url:
        return [("sent", [printable(shipment.url), *_short(told)])]
    return [("to send", _short(told))]


def _receipt(receipt: Receipt) -> list[Fact]:
    rows: list[Fact] = [
        ("written", [
            printable(str(receipt.dest)), amount(receipt.cost), _verified(receipt),
        ]),
        ("files", _files(list(receipt.files))),
    ]
    if receipt.cost.linked:
        rows.append(("caution", [_LINKED]))
    if receipt.overflows:
        rows.append(("caution", _short(_overflows(receipt.overflows))))
    if receipt.steps:
        rows.append(("then", _short(["where it is laid over the source:", *receipt.steps])))
    rows += [("fetched", _fetched(receipt))] * bool(receipt.fetched)
    return rows + [("left out", clean(receipt.left_out))] * bool(receipt.left_out)


def _fetched(receipt: Receipt) -> list[str]:
    """Ranges out of files one by one; files that came whole are summed up."""
    whole = [one for one in receipt.fetched if one.begin == 0]
    lines = []
    if whole:
        size = units.size(sum(one.end for one in whole))
        lines.append(f"{units.plural(len(whole), 'file')}, {size}")
    for one in receipt.fetched:
        if one.begin:
            place = one.source if one.revision is None else f"{one.source}@{one.revision[:12]}"
            size = units.size(one.end - one.begin)
            lines.append(printable(f"{size} of {place}/{one.file}, sha256 {one.sha256}"))
    return _short(lines)


def _overflows(counts: Mapping[str, int]) -> list[str]:
    said = [
        f"{printable(name)}: {units.plural(count, 'number')} too large for the type, now infinite"
        for name, count in counts.items()
    ]
    return [f"{units.plural(sum(counts.values()), 'number')} became infinite", *said]


def _verified(receipt: Receipt) -> str:
    """What the proof rests on."""
    counted = units.plural(receipt.verified, "tensor")
    said = f"{counted} verified equal to the source byte for byte"
    if receipt.cost.linked or receipt.cost.cloned:
        said = f"{counted} verified: copied bytes compared, the others are the source's own on disk"
    if not receipt.made:
        return said
    made = f"{units.plural(receipt.made, 'tensor')} computed and read back"
    return f"{made}; {said}" if receipt.verified else made


def amount(cost: Cost) -> str:
    """`4.3 kB written anew, 13.5 kB copied`, and what takes no room."""
    said = [f"{units.size(cost.written)} written anew", f"{units.size(cost.copied)} copied"]
    if cost.cloned:
        said.append(f"{units.size(cost.cloned)} cloned")
    if cost.linked:
        said.append(f"{units.size(cost.linked)} linked")
    return ", ".join(said)


def _files(names: list[str]) -> list[str]:
    shown = clean(names[:_FILES])
    more = len(names) - _FILES
    return [", ".join(shown) + (f", and {more} more" if more > 0 else "")]


def _short(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST
    if more <= 1:
        return lines
    return [*lines[:_MOST], f"… and {more} more lines (all of them with --format json)"]
