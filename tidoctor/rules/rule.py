"""What a rule is: a code, a name, a page, and a check that yields findings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tidoctor.finding import (
    Certainty,
    Cure,
    CureKind,
    Evidence,
    Finding,
    Location,
    Operation,
    Severity,
)

if TYPE_CHECKING:
    from tidoctor.rules.view import View

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
LIKELY, PROVEN = Certainty.LIKELY, Certainty.PROVEN

Check = Callable[["View"], Iterator[Finding]]


class NotApplicable(Exception):
    """There is nothing here that the rule speaks about; the argument says why."""


class CannotRun(Exception):
    """The rule would apply, but what it needs is missing; the argument says what."""


class Rule(NamedTuple):
    """One rule of the catalogue.

    `page` is the docstring of its check, written once and shown by `tidoctor explain`; `absorbs`
    are the codes of findings that this one explains when both are found.
    """

    code: str
    name: str
    page: str
    check: Check
    absorbs: tuple[str, ...] = ()
    needs_deep: bool = False

    @property
    def title(self) -> str:
        """The first line of the page."""
        return self.page.partition("\n")[0]


def rule(
    code: str, name: str, *, absorbs: tuple[str, ...] = (), needs_deep: bool = False
) -> Callable[[Check], Rule]:
    """Make a rule of a generator of findings whose docstring is its page."""

    def make(check: Check) -> Rule:
        return Rule(code, name, inspect.cleandoc(check.__doc__ or ""), check, absorbs, needs_deep)

    return make


def found(
    severity: Severity,
    message: str,
    *,
    certainty: Certainty = PROVEN,
    at: Location | None = None,
    tensors: tuple[str, ...] = (),
    evidence: tuple[Evidence, ...] = (),
    includes: tuple[str, ...] = (),
    cure: Cure | None = None,
    caution: str = "",
    not_: str = "",
    about: str = "",
) -> Finding:
    """A finding whose code and name are those of the rule that yields it."""
    return Finding(
        "", "", severity, message, certainty, at, tensors, evidence, includes, cure, caution, not_,
        about,
    )  # fmt: skip


def safe(summary: str, *operations: Operation, command: str | None = None) -> Cure:
    """A cure that provably keeps every byte that matters."""
    return Cure(CureKind.SAFE, summary, tuple(operations), (), command)


def consent(
    summary: str, *operations: Operation, needs: str = "accept", command: str | None = None
) -> Cure:
    """A cure that needs the user's word: `needs` is `accept` or `donor`."""
    return Cure(CureKind.CONSENT, summary, tuple(operations), (needs,), command)


def advice(summary: str) -> Cure:
    """What to do where no operation of tidoctor does it."""
    return Cure(CureKind.CONSENT, summary)


def rename(old: str, new: str) -> Operation:
    """The operation that gives a tensor another name."""
    return {"op": "rename", "from": old, "to": new}


def reindex() -> Operation:
    """The operation that writes the index from the headers."""
    return {"op": "reindex"}


def set_key(*path: str, value: object) -> Operation:
    """The operation that writes a key of config.json."""
    return {"op": "set", "path": list(path), "value": value}
