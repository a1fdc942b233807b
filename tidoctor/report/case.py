"""What formats for machines tell of: one checkpoint, what was found, and remarks beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidoctor.finding import Severity
from tidoctor.report.text import Text
from tidoctor.report.verdict import FailOn

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.errors import TidoctorError
    from tidoctor.finding import Diagnosis
    from tidoctor.opinion import Opinion
    from tidoctor.repairs import Treatment
    from tidoctor.report.style import Style


class Case(NamedTuple):
    """A source under the name that it is told by; `remarks` is what was done or not done."""

    name: str
    checkpoint: Checkpoint
    found: Diagnosis
    remarks: tuple[tuple[Severity, str], ...] = ()


class Cases(Text):
    """Formats of findings only; what yields none is told as text.

    `fail_on` is the lowest severity that fails.
    """

    between = ""
    errors_in_report = True

    def __init__(
        self, style: Style, *, several: bool = False, fail_on: FailOn = FailOn.ERROR
    ) -> None:
        super().__init__(style, several=several)
        self.fail_on = fail_on

    def ending(self, codes: Sequence[int] = ()) -> str:
        """What closes the document."""
        return ""

    def case(self, one: Case) -> str:
        """The part of the report that one case has."""
        raise NotImplementedError

    def failure(self, error: TidoctorError, source: str | None) -> str:
        """The part of the report that a source has which could not be examined."""
        raise NotImplementedError

    def diagnosis(
        self, checkpoint: Checkpoint, found: Diagnosis, opinion: Opinion | None = None
    ) -> str:
        """The findings; a second opinion as a remark where it differs or could not be had."""
        from tidoctor.report.text.opinion import difference

        told = difference(opinion) if opinion else ""
        remarks = ((Severity.NOTE, told),) if told else ()
        return self.case(Case(checkpoint.source.name, checkpoint, found, remarks))

    def treatment(
        self, done: Treatment, cost: Cost | None, *, dry_run: bool, exit_code: int
    ) -> str:
        """The findings that remain or would, and the outcome as remarks."""
        final = done.result or (done.predicted if done.plan else done.diagnosis)
        failed = Severity.ERROR if exit_code else Severity.NOTE
        remarks = [
            (failed, f"declined {d.finding.code} {d.finding.name}: {d.reason}")
            for d in done.declined
        ]
        if done.receipt is None:
            remarks.append((failed, f"nothing written: {done.reason}"))
        else:
            verified = f"{done.receipt.verified + done.receipt.made} tensors verified"
            remarks.append((Severity.NOTE, f"written to {done.dest}, {verified}"))
        name = str(done.dest) if done.plan else done.before.source.name
        return self.case(Case(name, done.planned, final, tuple(remarks)))

    def error(
        self, error: TidoctorError, source: str | None, exit_code: int, *, hint: bool = True
    ) -> str:
        """What could not be examined, in the report."""
        return self.failure(error, source)
