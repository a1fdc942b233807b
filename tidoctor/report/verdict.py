"""What a diagnosis amounts to: one word, and one exit code. The same in every format."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from tidoctor.errors import Refused, TidoctorError, Usage

if TYPE_CHECKING:
    from tidoctor.finding import Diagnosis, Severity
    from tidoctor.repairs import Treatment


class Exit(IntEnum):
    """What the process returns."""

    CLEAN = 0  # nothing at or above --fail-on; written and re-diagnosed clean
    FINDINGS = 1  # findings; an error remains or would remain
    USAGE = 2  # wrong command line
    UNEXAMINED = 3  # unreadable, missing, refused, no checkpoint there, or an internal error
    INTERRUPTED = 130


class FailOn(StrEnum):
    """The lowest severity that makes exit 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


def word(diagnosis: Diagnosis) -> str:
    """`error` or `warning` after the worst finding, else `healthy`, or `unexamined`.

    Notes and what was waived do not make a checkpoint ill, and a diagnosis in which no rule ran
    says nothing.
    """
    from tidoctor.finding import Severity  # late: every help page needs Exit and FailOn only

    worst = diagnosis.worst
    if worst is not None and worst > Severity.NOTE:
        return str(worst)
    return "healthy" if examined(diagnosis) else "unexamined"


def examined(diagnosis: Diagnosis) -> bool:
    """Whether any rule ran."""
    return bool(diagnosis.ran or diagnosis.findings or diagnosis.waived)


def of_diagnosis(diagnosis: Diagnosis, fail_on: FailOn) -> Exit:
    """The exit code of a diagnosis."""
    if not examined(diagnosis):
        return Exit.UNEXAMINED
    return Exit.FINDINGS if _reaches(diagnosis, fail_on) else Exit.CLEAN


def of_treatment(treatment: Treatment, fail_on: FailOn = FailOn.ERROR) -> Exit:
    """The exit code of a repair. `NEVER` excuses what was written, not that nothing was."""
    if fail_on is FailOn.NEVER and treatment.receipt is not None:
        return Exit.CLEAN
    final = treatment.result or treatment.predicted
    return Exit.FINDINGS if treatment.exit_code or _reaches(final, fail_on) else Exit.CLEAN


def _reaches(diagnosis: Diagnosis, fail_on: FailOn) -> bool:
    return diagnosis.worst is not None and reaches(diagnosis.worst, fail_on)


def reaches(severity: Severity, fail_on: FailOn) -> bool:
    """Whether a finding of this severity fails."""
    from tidoctor.finding import Severity

    return fail_on is not FailOn.NEVER and severity >= Severity[fail_on.name]


def of_error(error: Exception) -> Exit:
    """The exit code of what was raised."""
    if isinstance(error, Usage):
        return Exit.USAGE
    return Exit.FINDINGS if isinstance(error, Refused) else Exit.UNEXAMINED


def worst(codes: Iterable[int]) -> int:
    """The code for several sources: 2 ends everything, then 3 over 1 over 0."""
    return max(codes, key=lambda code: (code == Exit.USAGE, code), default=Exit.CLEAN)


def described(error: Exception, source: str | None = None) -> TidoctorError:
    """The error itself, or for one that nobody meant to raise, a sentence of the same kind."""
    if isinstance(error, TidoctorError):
        return error
    what = f"internal error: {type(error).__name__}: {error}"
    if len(what) > 400:
        what = what[:400] + "…"
    return TidoctorError(source or "", what, "set TIDOCTOR_DEBUG=1 for the traceback")
