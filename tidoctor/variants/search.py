"""Variants of a checkpoint in the order of what they cost, each with what loaders make of it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.cures import Options
from tidoctor.errors import Refused
from tidoctor.finding import Diagnosis, Outcome, Severity, Verdict
from tidoctor.loaders import Asked, Examination, Record, asked
from tidoctor.plan import Plan
from tidoctor.rules import loading
from tidoctor.variants.changes import Change, Effort, changes

_MOST = 64  # variants tried
_MOST_ROWS = 1_000_000  # tensors in all that is tried


@dataclass(frozen=True)
class Variant:
    """A checkpoint that could be written instead.

    Attributes:
        changes: what leads to it.
        checkpoint: as planned.
        exam: what answers what a loader makes of it.
        verdicts: those of the loaders that were asked for, in their order.
    """

    changes: tuple[Change, ...]
    checkpoint: Checkpoint
    view: rules.View
    exam: Examination
    verdicts: tuple[Verdict, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of changes that lead to it."""
        return frozenset(change.kind for change in self.changes)

    @property
    def words(self) -> str:
        """What is changed, empty for nothing."""
        return ", ".join(change.words for change in self.changes)


class Search:
    """The variants of a checkpoint, tried one by one and kept.

    `options` are those of the diagnosis that a variant must not worsen; kinds of changes that are
    `unwanted` are not made; `firm` says of each wish whether it has to load or may stay unknown.
    No more is tried once the variants have `most_rows` tensors together; `cut` then says so.
    """

    def __init__(
        self,
        base: Checkpoint,
        wishes: Sequence[Asked],
        options: Options,
        *,
        firm: Sequence[bool] | None = None,
        unwanted: frozenset[str] = frozenset(),
        most_rows: int = _MOST_ROWS,
    ) -> None:
        self.most_rows = most_rows
        self.base = base
        self.wishes = wishes
        self.options = options
        self.unwanted = unwanted
        self.firm = firm or [True] * len(wishes)
        self.cut = False
        self._found: list[Variant] = []
        self._more = self._explore()
        self._diagnoses: dict[int, Diagnosis] = {}

    @cached_property
    def start(self) -> Variant:
        """The checkpoint as it is."""
        return next(self._every())

    def cheapest(self, good: Callable[[Variant], bool]) -> Variant | None:
        """The first variant that is good and brings no finding that was not there."""
        return next((v for v in self._every() if good(v) and self.sound(v)), None)

    def content(self, variant: Variant, index: int) -> bool:
        """Whether a wish is met."""
        outcome = variant.verdicts[index].outcome
        if outcome is Outcome.UNKNOWN and not self.firm[index]:
            return self.start.verdicts[index].outcome is Outcome.UNKNOWN
        return outcome is Outcome.LOADS

    def met(self, variant: Variant) -> frozenset[int]:
        """The places of the wishes that are met."""
        return frozenset(i for i in range(len(self.wishes)) if self.content(variant, i))

    def sound(self, variant: Variant) -> bool:
        """Whether no rule finds more than in the checkpoint as it is, notes aside."""
        if variant is self.start:
            return True
        return _codes(self.diagnosis(variant)) <= _codes(self.diagnosis(self.start))

    def diagnosis(self, variant: Variant) -> Diagnosis:
        """What the rules say, loaders aside."""
        key = id(variant)
        if key not in self._diagnoses:
            self._diagnoses[key] = self.options.diagnose(variant.checkpoint)
        return self._diagnoses[key]

    def consented(self, index: int) -> str:
        """What would serve one loader and has to be agreed to; empty where nothing would.

        Cures of findings that are not applied of themselves, each tried alone.
        """
        for finding in self.diagnosis(self.start).findings:
            cure = finding.cure
            if cure is None or not cure.operations or "donor" in cure.needs:
                continue
            try:
                after = Plan((cure.operations,)).apply(self.base)
            except Refused:
                continue
            if self._judged((), after).verdicts[index].outcome is Outcome.LOADS:
                return f"{cure.summary} (--accept {finding.code})"
        return ""

    def every(self) -> list[Variant]:
        """All of them."""
        return list(self._every())

    def _every(self) -> Iterator[Variant]:
        for i in itertools.count():
            if i == len(self._found):
                fresh = next(self._more, None)
                if fresh is None:
                    return
                self._found.append(fresh)
            yield self._found[i]

    def _explore(self) -> Iterator[Variant]:
        order = itertools.count()
        waiting: list[tuple[tuple[int, int], int, tuple[Change, ...], Checkpoint]] = [
            ((Effort.NOTHING, 0), next(order), (), self.base)
        ]
        tried: set[frozenset[str]] = set()
        rows = 0
        while waiting:
            _, _, made, checkpoint = heapq.heappop(waiting)
            kinds = frozenset(change.kind for change in made)
            if kinds in tried:
                continue
            rows += len(checkpoint.tensors)
            if len(tried) >= _MOST or (tried and rows > self.most_rows):
                self.cut = True
                return
            tried.add(kinds)
            variant = self._judged(made, checkpoint)
            yield variant
            for change in changes(variant.view, self._troubles(variant), kinds | self.unwanted):
                try:
                    after = Plan((change.operations,)).apply(checkpoint)
                except Refused:
                    continue
                if not _alike(checkpoint, after):
                    longer = (*made, change)
                    key = (max(c.effort for c in longer), len(longer))
                    heapq.heappush(waiting, (key, next(order), longer, after))

    def _judged(self, made: tuple[Change, ...], checkpoint: Checkpoint) -> Variant:
        view = rules.View(checkpoint, wanted=self.options.wanted)
        exam = Examination(loading.patient(view))
        verdicts = tuple(exam.evaluate(wish) for wish in self.wishes)
        return Variant(made, checkpoint, view, exam, verdicts)

    def _troubles(self, variant: Variant) -> list[tuple[Record, str]]:
        """(record, cause) of each wish that is not met and of which anything is known."""
        found = []
        for wish, verdict in zip(self.wishes, variant.verdicts, strict=True):
            if verdict.outcome is not Outcome.LOADS:
                record, _ = variant.exam.record(wish)
                if record is not None and record.delegate:
                    record, _ = variant.exam.record(asked([record.delegate])[0])
                if record is not None:
                    found.append((record, verdict.cause))
        return found


def _codes(diagnosis: Diagnosis) -> frozenset[str]:
    return frozenset(f.code for f in diagnosis.findings if f.severity > Severity.NOTE)


def _alike(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether a change changed nothing."""
    return (
        a.settings == b.settings
        and a.tensors.keys() == b.tensors.keys()
        and [w.name for w in a.weights] == [w.name for w in b.weights]
        and (a.index and a.index.weight_map) == (b.index and b.index.weight_map)
    )
