"""Findings: what is wrong, how sure we are, and what would cure it. Data only.

A cure is an inert description (the operations as plain mappings); giving it a
meaning is the business of `tidoctor.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Severity(IntEnum):
    """How bad a finding is; comparable, worst highest."""

    NOTE = 1  # worth knowing
    WARNING = 2  # depends on who loads it
    ERROR = 3  # will fail, or compute something else

    def __str__(self) -> str:
        return self.name.lower()


class Certainty(StrEnum):
    """Whether the facts prove the finding or only point to it."""

    PROVEN = "proven"
    LIKELY = "likely"


class CureKind(StrEnum):
    """`SAFE` cures provably keep every byte that matters; `CONSENT` needs the user's word."""

    SAFE = "safe"
    CONSENT = "consent"


Operation = Mapping[str, object]
"""One step of a cure, such as `{"op": "rename", "from": "a", "to": "b"}`; see `tidoctor.plan`."""


class Location(NamedTuple):
    """A place in a file of the checkpoint; `line` counts from 1, None when there is no line."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Evidence(NamedTuple):
    """One fact that a finding rests on.

    `where` is a location (`config.json:28`) or a subject (`names`, `size`, `bytes`),
    `fact` a sentence, `value` the machine-readable fact or None.
    """

    where: str
    fact: str
    value: object = None


class Cure(NamedTuple):
    """What would put it right.

    `summary` says it in words, `operations` say it to the planner (empty when the
    cure is outside tidoctor's reach, such as fetching a file again), `needs` lists what the
    user has to give: `"donor"`, `"accept"` or nothing. `command` can be pasted; None when
    no command of tidoctor does it.
    """

    kind: CureKind
    summary: str
    operations: tuple[Operation, ...] = ()
    needs: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, with the facts it rests on."""

    code: str
    name: str
    severity: Severity
    message: str
    certainty: Certainty = Certainty.PROVEN
    location: Location | None = None
    tensors: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    includes: tuple[str, ...] = ()  # codes that this finding explains and absorbs
    cure: Cure | None = None
    caution: str = ""
    not_: str = ""  # the tempting wrong cure, and what it would do
    about: str = ""  # what else it is about: the loader of whose verdict it speaks

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that stay the same as long as the fault is the same.

        Made of code, file, loader and tensor names, not of messages, lines, sizes or versions.
        """
        import hashlib

        file = self.location.file if self.location else ""
        whose = [f"@{self.about}"] if self.about else []
        text = "\0".join([self.code, file, *whose, *sorted(self.tensors)])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class NotRun(NamedTuple):
    """A rule that could not run, and why. Skipping is a value, never silence."""

    code: str
    reason: str


class Waived(NamedTuple):
    """A finding that was accepted beforehand: why, and which file says so."""

    finding: Finding
    reason: str
    by: str


class Outcome(StrEnum):
    """What becomes of a checkpoint in the hands of a loader."""

    LOADS = "loads"
    FAILS = "fails"
    MISREADS = "misreads"  # it loads, and computes something else
    UNKNOWN = "unknown"


class Verdict(NamedTuple):
    """What one loader in one version makes of a checkpoint.

    `why` is one sentence, `message` what its user sees where that is known, `source` where the
    statement stands, `policy` how the loader chooses a head, `since` the change that brought that
    about, `cause` a word for what is in the way (class, flag, config, files, names, prefix, shapes,
    head), empty where nothing is.
    """

    loader: str
    version: str
    outcome: Outcome
    why: str = ""
    message: str = ""
    certainty: Certainty = Certainty.PROVEN
    tensors: tuple[str, ...] = ()
    source: str = ""
    policy: str = ""
    since: str = ""
    cause: str = ""
    cure: Cure | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that the rules had to say about one checkpoint."""

    findings: tuple[Finding, ...]
    ran: tuple[str, ...]
    not_applicable: tuple[NotRun, ...]
    not_run: tuple[NotRun, ...]
    loaders: tuple[Verdict, ...] = ()  # of those that were asked for, in that order
    waived: tuple[Waived, ...] = ()  # what no longer counts as a finding

    def count(self, severity: Severity) -> int:
        """How many findings have exactly this severity."""
        return sum(f.severity is severity for f in self.findings)

    @property
    def worst(self) -> Severity | None:
        """The highest severity, None when there is no finding."""
        return max((f.severity for f in self.findings), default=None)
