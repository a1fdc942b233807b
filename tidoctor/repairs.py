"""From findings to a repaired copy: plan, predict, write, verify.

All verbs share one course (`untie` and `tie` are in `tidoctor.retie`): the plan is applied to the
checkpoint on paper, the result is diagnosed, and only then is anything written and diagnosed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tidoctor import manifest, rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.cures import Options, cures, obstacle
from tidoctor.errors import Refused
from tidoctor.finding import Diagnosis, Finding, Severity
from tidoctor.form import PLAIN, Form
from tidoctor.forming import operations_for
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan
from tidoctor.source import open_source
from tidoctor.source.folder import Folder

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.variants import Choice, Unmet
    from tidoctor.writer import Receipt

Progress = Callable[[str, int, int], None]
"""Called with what is being done, bytes done and bytes in all."""


class Declined(NamedTuple):
    """A finding whose cure was not applied, and why."""

    finding: Finding
    reason: str


class Shipment(NamedTuple):
    """What goes to a repository on the Hub: files with their sizes in bytes, and files removed.

    `parent` is the commit that it rests on, None for the newest; `url` where it is, "" if it was
    not sent.
    """

    repo: str
    parent: str | None
    add: tuple[tuple[str, int], ...]
    delete: tuple[str, ...]
    pull_request: bool
    url: str


class Treatment(NamedTuple):
    """What a repair did or would do.

    `planned` and `predicted` describe the checkpoint that the plan leads to, and `cost` what
    writing it takes; `receipt` and `result` are None when nothing was written, and then `reason`
    says why. `unmet` are the loaders among those named that do not take what is planned.
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
    unmet: tuple[Unmet, ...] = ()
    cost: Cost | None = None  # None when nothing was planned
    cautions: tuple[str, ...] = ()  # what speaks against the donor
    shipment: Shipment | None = None

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
        unmet: tuple[Unmet, ...] = (),
    ) -> Treatment:
        """Nothing was planned: what is planned is what was there."""
        return cls(
            verb, before, diagnosis, Plan(), before, diagnosis, declined, Path(dest), None, None,
            reason, exit_code or int(bool(unmet)), unmet,
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
    loaders: Sequence[str] = (),
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
    origin = next(iter(donors.values()), None)
    options = Options(wanted, tuple(select), tuple(ignore), tuple(loaders), origin)
    diagnosis = options.diagnose(before)
    accepted = rules.chosen(accept)
    blank = Plan((), donors, form.apart, form.delta)
    plan = cures(before, options.apart(before), blank, accepted)
    plan, unmet = pleasing(plan, before, options)
    if not plan and not form.changes:
        guard(before, dest, force)
        declined = _declined(before, diagnosis, plan, accepted)
        open_wish = any(d.finding.cure and d.finding.cure.operations for d in declined)
        failed = bool(diagnosis.count(Severity.ERROR)) or open_wish
        reason = "no cure is known for what was found" if declined or unmet else "nothing to do"
        if open_wish:
            reason = "nothing can be done without more from you"
        return Treatment.idle(
            "repair", before, diagnosis, dest, reason, declined, int(failed), unmet
        )
    course = Course("repair", before, diagnosis, plan, options, Path(dest), unmet, form)
    return course.carry_out(
        lambda c, d: _declined(c, d, plan, accepted),
        partial=partial,
        force=force,
        dry_run=dry_run,
        progress=progress,
    )


def pleasing(
    plan: Plan, before: Checkpoint, options: Options, unwanted: frozenset[str] = frozenset()
) -> tuple[Plan, tuple[Unmet, ...]]:
    """A plan made longer so that the loaders take its result, and those that do not take it."""
    if not options.loaders:
        return plan, ()
    from tidoctor.variants import choose  # the loaders' policies take time to import

    current = plan.apply(before)
    alone = options.apart(before)._replace(select=(), ignore=())
    choice: Choice = choose(current, options.loaders, alone, unwanted=unwanted)
    for step in choice.steps:
        plan = plan.then(step)
    return plan, choice.unmet


class Course(NamedTuple):
    """A plan on its way: predict, refuse or write, diagnose again."""

    verb: str
    before: Checkpoint
    diagnosis: Diagnosis
    plan: Plan
    options: Options
    dest: Path
    unmet: tuple[Unmet, ...] = ()
    form: Form = PLAIN

    def _formed(self) -> tuple[Plan, Checkpoint]:
        """The plan with what was asked of the form, and the checkpoint that it leads to."""
        planned = self.plan.apply(self.before)
        wishes = operations_for(planned, self.form)
        if not wishes:
            return self.plan, planned
        plan = self.plan.then(wishes)
        return plan, plan._replace(steps=plan.steps[-1:]).apply(planned)

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
        every = self.options._replace(select=(), ignore=())
        predicted = every.diagnose(planned)
        remains = predicted.count(Severity.ERROR) > 0
        receipt = result = None
        reason = ""
        if remains and not partial:
            reason = "an error would remain"
        elif self.unmet and not partial:
            reason = f"whether {self.unmet[0].who} takes it is not known"
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
            int(remains or bool(self.unmet)),
            self.unmet,
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

    So what the plan says of equal bytes need not be read once more. What came from far away is
    read where it was written to.
    """
    rows = dict(written.tensors)
    for name, row in rows.items():
        origin = planned.tensors.get(name)
        if origin is None or not isinstance(origin.section.source, Folder):
            continue
        if (origin.dtype, origin.shape) == (row.dtype, row.shape):
            rows[name] = row.moved(origin.span)._replace(stored=origin.stored)
    return replace(written, tensors=rows)


def open_at(source: str | Path) -> Checkpoint:
    """The checkpoint at a path."""
    return open_checkpoint(open_source(str(source)))


def guard(before: Checkpoint, dest: str | Path, force: bool) -> None:
    """Raise Usage before any work when the destination cannot be."""
    from tidoctor.destination import check_destination

    check_destination(before.source, Path(dest), force=force)


def _declined(
    checkpoint: Checkpoint, diagnosis: Diagnosis, plan: Plan, accepted: frozenset[str]
) -> tuple[Declined, ...]:
    """What remains above a note, and why; what loaders do not take is told as unmet."""
    return tuple(
        Declined(f, obstacle(f, checkpoint, plan, accepted) or "the cure did not take")
        for f in diagnosis.findings
        if f.severity > Severity.NOTE and not f.code.startswith("L")
    )
