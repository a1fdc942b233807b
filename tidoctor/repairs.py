"""From findings to a repaired copy: plan, predict, write, verify.

`repair`, `untie` and `tie` share one course: the plan is applied to the checkpoint on paper, the
result is diagnosed, and only then is anything written and diagnosed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint, open_checkpoint
from tidoctor.errors import Refused
from tidoctor.finding import CureKind, Diagnosis, Finding, Operation, Severity
from tidoctor.plan import Plan
from tidoctor.rules.rule import CannotRun
from tidoctor.source import open_source

if TYPE_CHECKING:
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

    `planned` and `predicted` describe the checkpoint that the plan leads to; `receipt` and `result`
    are None when nothing was written, and then `reason` says why.
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
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Cure what can be cured; see `tidoctor.repair`."""
    before = _open(source)
    donors = {str(donor): _open(donor)} if donor is not None else {}
    options = _Options(wanted, tuple(select), tuple(ignore))
    diagnosis = options.diagnose(before)
    accepted = rules.chosen(accept)
    plan = _cures(before, options, Plan((), donors), accepted)
    if not plan:
        _guard(before, dest, force)
        declined = _declined(before, diagnosis, plan, accepted)
        open_wish = any(d.finding.cure and d.finding.cure.operations for d in declined)
        failed = bool(diagnosis.count(Severity.ERROR)) or open_wish
        reason = "nothing can be done without more from you" if failed else "nothing to do"
        return Treatment(
            "repair",
            before,
            diagnosis,
            plan,
            before,
            diagnosis,
            declined,
            Path(dest),
            None,
            None,
            reason,
            int(failed),
        )
    course = _Course("repair", before, diagnosis, plan, options, Path(dest))
    return course.carry_out(
        lambda c, d: _declined(c, d, plan, accepted),
        partial=partial,
        force=force,
        dry_run=dry_run,
        progress=progress,
    )


def untie(
    source: str | Path,
    dest: str | Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Store the tied head explicitly; see `tidoctor.untie`."""
    before = _open(source)
    view = rules.View(before)
    _need_head(view)
    if view.head or view.head_parts:
        operations: list[Operation] = []
    else:
        operations = _copies(view)
    return _retie("untie", before, operations, dest, force, dry_run, progress)


def tie(
    source: str | Path,
    dest: str | Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Drop a head that equals the embedding; see `tidoctor.tie`."""
    before = _open(source)
    view = rules.View(before)
    _need_head(view)
    operations = _drops(view) if view.head else []
    if view.head_parts and not view.head:
        raise Refused(before.source.name, "the head is quantised and cannot be the embedding")
    return _retie("tie", before, operations, dest, force, dry_run, progress)


@dataclass(frozen=True, slots=True)
class _Options:
    """What a diagnosis is asked for, the same before and after."""

    wanted: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def diagnose(self, checkpoint: Checkpoint) -> Diagnosis:
        return rules.diagnose(
            checkpoint, wanted=self.wanted, select=self.select, ignore=self.ignore
        )


@dataclass(frozen=True, slots=True)
class _Course:
    """A plan on its way: predict, refuse or write, diagnose again."""

    verb: str
    before: Checkpoint
    diagnosis: Diagnosis
    plan: Plan
    options: _Options
    dest: Path

    def carry_out(
        self,
        declined: Callable[[Checkpoint, Diagnosis], tuple[Declined, ...]],
        *,
        partial: bool,
        force: bool,
        dry_run: bool,
        progress: Progress | None,
    ) -> Treatment:
        from tidoctor import writer

        _guard(self.before, self.dest, force)
        planned = self.plan.apply(self.before)
        predicted = self.options.diagnose(planned)
        remains = predicted.count(Severity.ERROR) > 0
        receipt = result = None
        reason = ""
        if remains and not partial:
            reason = "an error would remain"
        elif dry_run:
            reason = "dry run"
        else:
            receipt = writer.write(planned, self.dest, force=force, progress=progress)
            result = self.options.diagnose(_open(self.dest))
            remains = result.count(Severity.ERROR) > 0
        return Treatment(
            self.verb,
            self.before,
            self.diagnosis,
            self.plan,
            planned,
            predicted,
            declined(planned, predicted),
            self.dest,
            receipt,
            result,
            reason,
            int(remains),
        )


def _open(source: str | Path) -> Checkpoint:
    return open_checkpoint(open_source(str(source)))


def _guard(before: Checkpoint, dest: str | Path, force: bool) -> None:
    from tidoctor import writer

    writer.check_destination(before.source, Path(dest), force=force)


# --- repair -----------------------------------------------------------------------------------

_ROUNDS = 40  # each cures one finding; a cure that brings its finding back is not tried again


def _cures(before: Checkpoint, options: _Options, plan: Plan, accepted: frozenset[str]) -> Plan:
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
                current = Plan(longer.steps[-1:], plan.donors).apply(current)
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
        return _unfit(finding, current, next(iter(plan.donors.values())))
    if cure.kind is CureKind.CONSENT and not agreed:
        return f"needs your consent: --accept {finding.code}"
    return ""


def _filled(finding: Finding, plan: Plan) -> list[Operation]:
    """The operations of a cure, with the donor's name and its name of the tensor in each graft."""
    donor = next(iter(plan.donors or {}), "")
    filled: list[Operation] = []
    for operation in finding.cure.operations if finding.cure else ():
        if operation["op"] == "graft":
            given = _in_donor(str(operation["tensor"]), (plan.donors or {})[donor])
            if given is None and operation.get("optional"):
                continue
            operation = {**operation, "donor": donor, "from": given or operation["tensor"]}
        filled.append(operation)
    return filled


def _in_donor(tensor: str, donor: Checkpoint) -> str | None:
    """What the donor calls a tensor."""
    view = rules.View(donor)
    if tensor in view.tensors:
        return view.tensors[tensor].name
    part = view.head if tensor == view.head_name else None
    return view.tensors[part].name if part else None


def _unfit(finding: Finding, patient: Checkpoint, donor: Checkpoint) -> str:
    """Why a donor cannot give what a finding lacks, empty when it can."""
    ours, theirs = rules.View(patient), rules.View(donor)
    name = donor.source.name
    if ours.model_type != theirs.model_type:
        return f"the donor {name} is a {theirs.model_type}, this is a {ours.model_type}"
    grafts = [
        str(o["tensor"])
        for o in (finding.cure.operations if finding.cure else ())
        if o["op"] == "graft" and not o.get("optional")
    ]
    for tensor in grafts:
        given = _in_donor(tensor, donor)
        if given is None:
            tied = theirs.tie.meant is True and theirs.head is None
            return f"the donor {name} has no {tensor}" + ("; its own is tied" if tied else "")
    like = ours.embedding or ours.head
    twin = theirs.embedding if ours.embedding else theirs.head
    pairs = [(ours.tensors[like], theirs.tensors[twin])] if like and twin else []
    if not pairs:  # then every tensor that both have has to fit
        pairs = [(t, theirs.tensors[n]) for n, t in ours.tensors.items() if n in theirs.tensors]
    if not pairs:
        return f"the donor {name} has no tensor in common with this"
    pairs += [
        (ours.tensors[like], donor.tensors[str(_in_donor(t, donor))])
        for t in grafts
        if like and t in (ours.head_name, ours.generator.embedding if ours.generator else None)
    ]
    for mine, yours in pairs:
        if mine.shape != yours.shape:
            return (
                f"{yours.name} of the donor {name} has {_dims(yours.shape)}, {mine.name} has "
                f"{_dims(mine.shape)}: another vocabulary or size"
            )
        if mine.dtype != yours.dtype:
            return f"{yours.name} of the donor {name} is {yours.dtype}, {mine.name} is {mine.dtype}"
    return ""


def _dims(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _declined(
    checkpoint: Checkpoint, diagnosis: Diagnosis, plan: Plan, accepted: frozenset[str]
) -> tuple[Declined, ...]:
    """What remains above a note, and why."""
    return tuple(
        Declined(f, _obstacle(f, checkpoint, plan, accepted) or "the cure did not take")
        for f in diagnosis.findings
        if f.severity > Severity.NOTE
    )


# --- untie and tie ----------------------------------------------------------------------------


def _need_head(view: rules.View) -> None:
    """Raise Refused unless head and embedding of a complete checkpoint can be told."""
    name = view.checkpoint.source.name
    if view.incomplete:
        raise Refused(
            name, f"the checkpoint is not complete: {view.incomplete}", "see tidoctor diagnose"
        )
    if view.checkpoint.config is None:
        raise Refused(name, "there is no config.json to tell whether the head is tied")
    if not view.must_generate or (view.generator and view.generator.head is None):
        raise Refused(name, "the class has no output head", "see tidoctor diagnose")
    if not view.embedding:
        raise Refused(
            name, "no embedding is stored under a name that is known", "see tidoctor diagnose"
        )


def _copies(view: rules.View) -> list[Operation]:
    """Copies of the tied tensors under the names that belong to the head."""
    name = view.checkpoint.source.name
    if view.tie.meant is None:
        raise Refused(
            name,
            "whether the head is tied is not known here",
            "write tie_word_embeddings into config.json",
        )
    if view.tie.meant is False:
        raise Refused(
            name,
            f"{view.head_name} is not tied but lost",
            "a copy of the embedding would compute something else; see tidoctor explain H02",
        )
    facts = view.generator
    head = view.head_name
    pairs = {head: view.embedding or ""}
    if facts:
        module = head.removesuffix("weight")
        pairs |= {
            alias: kept
            for alias, kept in facts.ties.items()
            if alias.startswith(module) and alias != head and kept in view.tensors
        }
    return [
        {"op": "copy", "from": view.tensors[kept].name, "to": alias}
        for alias, kept in pairs.items()
        if alias not in view.tensors
    ]


def _drops(view: rules.View) -> list[Operation]:
    """Dropping what is tied to the embedding, and the flag that says so."""
    name = view.checkpoint.source.name
    head = view.tensors[view.head or ""]
    facts = view.generator
    try:
        equal = view.head_equals_embedding
    except CannotRun as e:
        raise Refused(name, str(e), "see tidoctor diagnose") from e
    if equal is not True:
        raise Refused(
            name, f"{head.name} does not equal the embedding byte for byte", "both are needed"
        )
    if facts and facts.always_tied is False:
        raise Refused(name, f"{facts.name} never ties its head")
    dropped = [head]
    if facts:
        module = (view.head or "").removesuffix("weight")
        dropped += [
            view.tensors[alias]
            for alias, kept in facts.ties.items()
            if alias.startswith(module)
            and alias != view.head
            and alias in view.tensors
            and kept in view.tensors
            and view.checkpoint.same_bytes(view.tensors[alias], view.tensors[kept])
        ]
    operations: list[Operation] = [{"op": "drop", "tensor": t.name} for t in dropped]
    if not (view.tie.v4 is True and view.tie.v5 is True):
        operations += view.flag_operations(True)
    return operations


def _retie(
    verb: str,
    before: Checkpoint,
    operations: list[Operation],
    dest: str | Path,
    force: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Treatment:
    options = _Options()
    diagnosis = options.diagnose(before)
    if not operations:
        _guard(before, dest, force)
        stored = "stored already" if verb == "untie" else "not stored"
        return Treatment(
            verb,
            before,
            diagnosis,
            Plan(),
            before,
            diagnosis,
            (),
            Path(dest),
            None,
            None,
            f"nothing to do: the head is {stored}",
            0,
        )
    course = _Course(verb, before, diagnosis, Plan((tuple(operations),)), options, Path(dest))
    return course.carry_out(
        lambda c, d: (), partial=False, force=force, dry_run=dry_run, progress=progress
    )
