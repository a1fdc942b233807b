"""From findings to a repaired copy: plan, predict, write, verify.

All verbs share one course (`untie` and `tie` are in `tidoctor.retie`): the plan is applied to the
checkpoint on paper, the result is diagnosed, and only then is anything written and diagnosed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor import manifest, rules
from tidoctor.checkpoint import Checkpoint, open_checkpoint
from tidoctor.donors import name_in_donor, unfit
from tidoctor.errors import Refused
from tidoctor.finding import CureKind, Diagnosis, Finding, Operation, Severity
from tidoctor.form import PLAIN, Form
from tidoctor.forming import operations_for
from tidoctor.plan import Plan
from tidoctor.source import open_source

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.writer import Receipt

Progress = Callable[[str, int, int], None]
"""Called with what is being done, bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A finding whose cure was not applied, and why."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a repair did or would do.

    `planned` and `predicted` describe the checkpoint that the plan leads to, and `cost` what
    writing it takes; `receipt` and `result` are None when nothing was written, and then `reason`
    says why.
    """

    verb: str  # "repair", "untie" or "tie"
    before: Checkpoint
    diagnosis: Diagnosis
    plan: Plan
    planned: Checkpoint
    predicted: Diagnosis
    declined: tuple[Declined, ...]
    dest: Path
    receipt: Receipt | None
    result: Diagnosis | None
    reason: str
    exit_code: int  # 0: written clean, planned clean or nothing to do; 1: an error remains or would
    cost: Cost | None = None  # None when nothing was planned
    cautions: tuple[str, ...] = ()  # what speaks against the donor

    @classmethod
    def idle(
        cls,
        verb: str,
        before: Checkpoint,
        diagnosis: Diagnosis,
        dest: str | Path,
        reason: str,
        declined: tuple[Declined, ...] = (),
        exit_code: int = 0,
    ) -> Treatment:
        """Nothing was planned: what is planned is what was there."""
        return cls(
            verb, before, diagnosis, Plan(), before, diagnosis, declined, Path(dest), None, None,
            reason, exit_code,
        )  # fmt: skip


def repair(
    source: str | Path,
    dest: str | Path,
    *,
    wanted: str | None = None,
    donor: str | Path | None = None,
    accept: Sequence[str] = (),
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    partial: bool = False,
    form: Form = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Cure what can be cured; see `tidoctor.repair`."""
    before = open_at(source)
    if before.entrance == "file" and (shard := before.weights[0].shard) and shard[2] > 1:
        raise Refused(
            before.source.name, f"is one shard of {shard[2]}", "give the checkpoint's folder"
        )
    donors = {str(donor): open_at(donor)} if donor is not None else {}
    options = Options(wanted, tuple(select), tuple(ignore))
    diagnosis = options.diagnose(before)
    accepted = rules.chosen(accept)
    plan = _cures(before, options, Plan((), donors, form.apart, form.delta), accepted)
    if not plan and not form.changes:
        guard(before, dest, force)
        declined = _declined(before, diagnosis, plan, accepted)
        open_wish = any(d.finding.cure and d.finding.cure.operations for d in declined)
        failed = bool(diagnosis.count(Severity.ERROR)) or open_wish
        reason = "no cure is known for what was found" if declined else "nothing to do"
        if open_wish:
            reason = "nothing can be done without more from you"
        return Treatment.idle("repair", before, diagnosis, dest, reason, declined, int(failed))
    course = Course("repair", before, diagnosis, plan, options, Path(dest), form)
    return course.carry_out(
        lambda c, d: _declined(c, d, plan, accepted),
        partial=partial,
        force=force,
        dry_run=dry_run,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What a diagnosis is asked for, the same before and after."""

    wanted: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def diagnose(self, checkpoint: Checkpoint) -> Diagnosis:
        """The diagnosis with these options."""
        return rules.diagnose(
            checkpoint, wanted=self.wanted, select=self.select, ignore=self.ignore
        )


@dataclass(frozen=True, slots=True)
class Course:
    """A plan on its way: predict, refuse or write, diagnose again."""

    verb: str
    before: Checkpoint
    diagnosis: Diagnosis
    plan: Plan
    options: Options
    dest: Path
    form: Form = PLAIN

    def _formed(self) -> tuple[Plan, Checkpoint]:
        """The plan with what was asked of the form, and the checkpoint that it leads to."""
        planned = self.plan.apply(self.before)
        wishes = operations_for(planned, self.form)
        if not wishes:
            return self.plan, planned
        plan = self.plan.then(wishes)
        return plan, replace(plan, steps=plan.steps[-1:]).apply(planned)

    def _standing(self, planned: Checkpoint) -> Checkpoint:
        """What stands at DEST; of an overlay, only the files that are there."""
        if not self.form.delta:
            return open_at(self.dest)
        there = [w for w in planned.weights if (self.dest / w.name).is_file()]
        rows = {t.name: t for w in there for t in open_at(self.dest / w.name).tensors.values()}
        return replace(planned, tensors=rows)

    def carry_out(
        self,
        declined: Callable[[Checkpoint, Diagnosis], tuple[Declined, ...]],
        *,
        partial: bool,
        force: bool,
        dry_run: bool,
        progress: Progress | None,
    ) -> Treatment:
        """Predict; write unless an error would remain; diagnose what was written."""
        from tidoctor import writer

        guard(self.before, self.dest, force)
        if self.form.manifest:
            manifest.check_place(self.form.manifest, self.before, self.dest, force=force)
        plan, planned = self._formed()
        cost = writer.cost(planned, self.dest, self.form)
        # What was not selected is not cured, but an error in it counts all the same.
        every = Options(self.options.wanted)
        predicted = every.diagnose(planned)
        remains = predicted.count(Severity.ERROR) > 0
        receipt = result = None
        reason = ""
        if remains and not partial:
            reason = "an error would remain"
        elif dry_run:
            reason = "dry run"
        else:
            receipt = writer.write(
                planned, self.dest, self.form, force=force, progress=progress
            )
        if receipt and self.form.manifest:
            manifest.write(
                self.form.manifest, manifest.described(planned, self._standing(planned))
            )
        if receipt and not self.form.delta:  # an overlay is no checkpoint by itself
            result = every.diagnose(_proven(open_at(self.dest), planned))
            remains = result.count(Severity.ERROR) > 0
        return Treatment(
            self.verb,
            self.before,
            self.diagnosis,
            plan,
            planned,
            predicted,
            declined(planned, predicted),
            self.dest,
            receipt,
            result,
            reason,
            int(remains),
            cost,
            self._cautions(),
        )

    def _cautions(self) -> tuple[str, ...]:
        """Doubts about each donor that something is taken from."""
        from tidoctor.kinship import doubts

        used = {str(o.get("donor")) for o in self.plan.operations if o["op"] == "graft"}
        return tuple(
            doubt
            for name, donor in (self.plan.donors or {}).items()
            if name in used
            for doubt in doubts(self.before, donor)
        )


def _proven(written: Checkpoint, planned: Checkpoint) -> Checkpoint:
    """What was written, with its bytes where the plan took them from, which they were proved to be.

    So what the plan says of equal bytes need not be read once more.
    """
    rows = dict(written.tensors)
    for name, row in rows.items():
        origin = planned.tensors.get(name)
        if origin and (origin.dtype, origin.shape) == (row.dtype, row.shape):
            rows[name] = row._replace(span=origin.span, stored=origin.stored)
    return replace(written, tensors=rows)


def open_at(source: str | Path) -> Checkpoint:
    """The checkpoint at a path."""
    return open_checkpoint(open_source(str(source)))


def guard(before: Checkpoint, dest: str | Path, force: bool) -> None:
    """Raise Usage before any work when the destination cannot be."""
    from tidoctor.destination import check_destination

    check_destination(before.source, Path(dest), force=force)


_ROUNDS = 40  # each cures one finding; a cure that brings its finding back is not tried again


def _cures(before: Checkpoint, options: Options, plan: Plan, accepted: frozenset[str]) -> Plan:
    """The plan that cures one finding after the other, diagnosing anew after each."""
    current = before
    tried: set[str] = set()
    for _ in range(_ROUNDS):
        findings = sorted(options.diagnose(current).findings, key=_stage)
        for finding in findings:
            if finding.fingerprint in tried or _obstacle(finding, current, plan, accepted):
                continue
            tried.add(finding.fingerprint)
            longer = plan.then(_filled(finding, plan))
            try:
                current = replace(longer, steps=longer.steps[-1:]).apply(current)
            except Refused:
                continue
            plan = longer
            break
        else:
            break
    return plan


def _stage(finding: Finding) -> int:
    """Files, folder, names, config, head: later stages see what earlier ones cure."""
    return "FSNCHD".index(finding.code[0])


def _obstacle(finding: Finding, current: Checkpoint, plan: Plan, accepted: frozenset[str]) -> str:
    """Why the cure of a finding is not applied, empty when it can be."""
    cure = finding.cure
    agreed = finding.code in accepted
    if cure is None or not cure.operations:
        return cure.summary if cure else "no cure is known that would be safe"
    if finding.severity is Severity.NOTE and not agreed:
        return "a note; nothing has to be done"
    if "donor" in cure.needs:
        if not plan.donors:
            return "needs a donor: --donor MODEL"
        return unfit(finding, current, next(iter(plan.donors.values())))
    if cure.kind is CureKind.CONSENT and not agreed:
        return f"needs your consent: --accept {finding.code}"
    return ""


def _filled(finding: Finding, plan: Plan) -> list[Operation]:
    """The operations of a cure, with the donor's name and its name of the tensor in each graft."""
    donor, given_by = next(iter((plan.donors or {}).items()), ("", None))
    view = rules.View(given_by) if given_by else None
    filled: list[Operation] = []
    for operation in finding.cure.operations if finding.cure else ():
        if operation["op"] == "graft":
            given = name_in_donor(str(operation["tensor"]), view) if view else None
            if given is None and operation.get("optional"):
                continue
            operation = {**operation, "donor": donor, "from": given or operation["tensor"]}
        filled.append(operation)
    return filled


def _declined(
    checkpoint: Checkpoint, diagnosis: Diagnosis, plan: Plan, accepted: frozenset[str]
) -> tuple[Declined, ...]:
    """What remains above a note, and why."""
    return tuple(
        Declined(f, _obstacle(f, checkpoint, plan, accepted) or "the cure did not take")
        for f in diagnosis.findings
        if f.severity > Severity.NOTE
    )
