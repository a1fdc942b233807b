"""Learns a class that has no form of our kind in general, as far as it has one.

First every field that shows in names or shapes is held to its default: there, constants explain
everything. Then fields are let go again, sizes first, each with those that follow from it, as
long as the class is understood. What stays held is pinned: on other values the facts say nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn.builds import Built
from tidoctor.atlas.learn.facts import HELD_OUT, differences, learned, steps_in, unproven
from tidoctor.atlas.learn.forms import EACH_ITS_OWN, SPELLED_OUT, Inexpressible
from tidoctor.atlas.learn.lesson import Lesson
from tidoctor.atlas.learn.universe import Patience

# Of processor time, in which fields are let go.
LETTING_GO = 45.0
FITTING = 6.0
EXAMS = 3
# Samples against which an attempt is held.
LOOKED_AT = 16
_SIZES = re.compile(r"vocab|label|hidden|dim|size|width|layer|depth|head|channel")


class CutCount(Exception):
    """A count that was reduced cannot be varied: it has to have its real value."""


def is_count(path: str) -> bool:
    """Whether the learner may have reduced this field."""
    key = path.rpartition(".")[2]
    return bool(learner.LAYERS.fullmatch(key) or learner.EXPERTS.fullmatch(key))


class Anchor:
    """A lesson whose fields can be held to their defaults and let go again."""

    def __init__(self, lesson: Lesson, known: Mapping[str, Any]) -> None:
        """Everything that shows can be held; nothing is yet."""
        sampler = lesson.sampler
        self.lesson, self.known = lesson, known
        self.samples = list(zip(sampler.raw, sampler.samples, strict=True))
        self.choices = dict(sampler.choices)
        self.alone = sampler.alone
        self.showing = {
            path
            for path, samples in sampler.alone.items()
            if path in self.choices and any(shows(each, sampler.first) for each in samples)
        }

    def groups(self) -> Iterator[frozenset[str]]:
        """Fields to let go together: one and those that change with it; sizes first."""
        first = self.lesson.sampler.first.values

        def rank(path: str) -> tuple[int, bool, str]:
            kind = type(first.get(path))
            order = {int: 0, list: 1, bool: 2}.get(kind, 3)
            return order, not _SIZES.search(path.rpartition(".")[2]), path

        known: set[frozenset[str]] = set()
        for path in sorted(self.showing, key=rank):
            moved = {path}
            for sample in self.alone[path]:
                moved |= {e for e in self.showing if sample.values.get(e) != first.get(e)}
            for group in (frozenset({path}), frozenset(moved)):
                if group not in known:
                    known.add(group)
                    yield group

    def hold(self, paths: Collection[str]) -> set[str]:
        """Keep the samples in which these fields have their defaults.

        Returns what is held then: these, and fields that show but have one value in all samples
        left.
        """
        lesson, sampler = self.lesson, self.lesson.sampler
        first = sampler.first.values
        pairs = [
            (raw, sample)
            for raw, sample in self.samples
            if all(sample.values.get(path) == first.get(path) for path in paths)
        ]
        held = set(paths) | {
            path
            for path in self.showing
            if all(sample.values.get(path) == first.get(path) for _, sample in pairs)
        }
        sampler.raw = [raw for raw, _ in pairs]
        sampler.samples = [sample for _, sample in pairs]
        sampler.choices = {p: each for p, each in self.choices.items() if p not in held}
        lesson.held = {path: first.get(path) for path in sorted(held)}
        return held

    def start(self) -> set[str]:
        """Hold all that shows, and find the ways in which that is understood.

        Raises:
            Inexpressible: there is none.
        """
        failure: Inexpressible | None = None
        for both, spelled in ((True, SPELLED_OUT), (True, EACH_ITS_OWN), (False, EACH_ITS_OWN)):
            self.lesson.both, self.lesson.spelled = both, spelled
            try:
                return self.attempt(self.showing)[1]
            except Inexpressible as reason:
                failure = reason
        raise failure or Inexpressible("no way")

    def more(self, count: int, seconds: float = 4.0) -> list[Built]:
        """So many random builds under what is held now, kept among the samples."""
        sampler = self.lesson.sampler
        sampler.deadline = time.process_time() + seconds
        found = sampler.at_random(count)
        self.samples += found
        first = sampler.first.values
        return [
            sample
            for _, sample in found
            if all(sample.values.get(path) == first.get(path) for path in self.lesson.held)
        ]

    def attempt(self, paths: Collection[str]) -> tuple[dict[str, Any], set[str]]:
        """The facts with these fields held, and all that is held; raises Inexpressible."""
        held = self.hold(paths)
        lesson = self.lesson
        lesson.complete_vocabulary()
        Patience.seconds(FITTING)
        facts = learned(lesson)
        # The last ones are those that vary what was let go; the exam looks at all.
        some = lesson.sampler.samples[-LOOKED_AT:]
        for sample, reason in differences(lesson.name, facts, some, self.known):
            lesson.telling.append(sample)
            raise reason
        return facts, held


def anchored(lesson: Lesson, known: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about a class where the fields that are not understood keep their defaults.

    Args:
        lesson: the class, sampled.
        known: facts about classes learned before.

    Raises:
        Inexpressible: not even its defaults have a form, or an examination failed to the end.
        CutCount: a count that was reduced is not understood.
    """
    anchor = Anchor(lesson, known)
    held = anchor.start()
    freed: list[frozenset[str]] = []
    until = time.process_time() + LETTING_GO
    for group in anchor.groups():
        if time.process_time() > until:
            break
        if not group & held:
            continue
        anchor.hold(held - group)
        anchor.more(6)
        try:
            _, now = anchor.attempt(held - group)
        except Inexpressible:
            continue
        if now != held:
            freed.append(frozenset(held - now))
            held = now
    return examined(anchor, held, freed)


def examined(anchor: Anchor, held: set[str], freed: list[frozenset[str]]) -> dict[str, Any]:
    """The facts, after fresh builds did not contradict them; what does is held again.

    Raises:
        Inexpressible: they were wrong to the end.
        CutCount: a count that was reduced is held.
    """
    lesson = anchor.lesson
    failure: Inexpressible | None = None
    for _ in range(EXAMS):
        while True:
            try:
                facts, held = anchor.attempt(held)
                break
            except Inexpressible:
                if not freed:
                    raise
                held = held | freed.pop()
        if lesson.cut and any(is_count(path) for path in held):
            raise CutCount
        fresh = anchor.more(HELD_OUT, 8.0)
        fresh += [sample for _, sample in lesson.sampler.beside(steps_in(facts))]
        seen = [*fresh, *lesson.sampler.samples]
        wrong = list(differences(lesson.name, facts, seen, anchor.known))
        if not wrong:
            if pins := unproven(facts, seen):
                facts["pinned"] = pins | facts.get("pinned", {})
            facts["verified"] = {"defaults": True, "random": len(fresh),
                                 "learned_from": len(lesson.sampler.samples)}
            return facts
        failure = wrong[0][1]
        lesson.telling += [sample for sample, _ in wrong[:6]]
    raise failure or Inexpressible("no exam")


def shows(sample: Built, first: Built) -> bool:
    """Whether a build differs from the first one."""
    return (sample.memory, sample.disk, sample.ties, sample.gone) != (
        first.memory, first.disk, first.ties, first.gone
    )
