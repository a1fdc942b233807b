"""Cures of findings as one plan: one after the other, diagnosing anew after each."""

from __future__ import annotations

from typing import NamedTuple

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.donors import name_in_donor, unfit
from tidoctor.errors import Refused
from tidoctor.finding import CureKind, Diagnosis, Finding, Operation, Severity
from tidoctor.plan import Plan


class Options(NamedTuple):
    """What a diagnosis is asked for, the same before and after."""

    wanted: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    loaders: tuple[str, ...] = ()
    origin: Checkpoint | None = None  # the model that it was made from

    def diagnose(self, checkpoint: Checkpoint) -> Diagnosis:
        """The diagnosis with these options."""
        return rules.diagnose(
            checkpoint, wanted=self.wanted, select=self.select, ignore=self.ignore,
            loaders=self.loaders, origin=self.origin,
        )  # fmt: skip

    def apart(self, checkpoint: Checkpoint) -> Options:
        """The same without the loaders, whose wish for a class with a head is kept."""
        wanted = rules.wanted_class(checkpoint, self.wanted, self.loaders)
        return self._replace(wanted=wanted, loaders=())


_ROUNDS = 40  # each cures one finding; a cure that brings its finding back is not tried again


def cures(before: Checkpoint, options: Options, plan: Plan, accepted: frozenset[str]) -> Plan:
    """The plan that cures one finding after the other, diagnosing anew after each."""
    current = before
    tried: set[str] = set()
    for _ in range(_ROUNDS):
        findings = sorted(options.diagnose(current).findings, key=_stage)
        for finding in findings:
            if finding.fingerprint in tried or obstacle(finding, current, plan, accepted):
                continue
            tried.add(finding.fingerprint)
            longer = plan.then(_filled(finding, plan))
            try:
                current = longer._replace(steps=longer.steps[-1:]).apply(current)
            except Refused:
                continue
            plan = longer
            break
        else:
            break
    return plan


def _stage(finding: Finding) -> int:
    """Files, folder, names, parts of weights, config, head: later stages see earlier cures."""
    return "FSNQCHDXL".index(finding.code[0])


def obstacle(finding: Finding, current: Checkpoint, plan: Plan, accepted: frozenset[str]) -> str:
    """Why the cure of a finding is not applied, empty when it can be."""
    cure = finding.cure
    agreed = finding.code in accepted
    if cure is None or not cure.operations:
        return cure.summary if cure else "no cure is known that would be safe"
    if finding.severity is Severity.NOTE and not agreed:
        return "a note; nothing has to be done"
    if "accept" in cure.needs and not agreed:
        return f"needs your consent: --accept {finding.code}"
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
