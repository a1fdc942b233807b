"""Learns one class: samples, vocabulary, both forms, ties, parts; then examines itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tidoctor.atlas.learn.anchored import CutCount, anchored, is_count
from tidoctor.atlas.learn.builds import Built, configured, default_values, flattened
from tidoctor.atlas.learn.dotted import Values
from tidoctor.atlas.learn.facts import HELD_OUT, differences, learned, steps_in, unproven
from tidoctor.atlas.learn.forms import Form, Inexpressible
from tidoctor.atlas.learn.lesson import SECONDS, Lesson
from tidoctor.atlas.learn.universe import Patience

# Of processor time after sampling, in which fields are held to their defaults one by one.
MOST_SECONDS = 60.0
ROUNDS = 4
FORMS = ("memory", "disk")
FITTING = 20.0
# How many fields may be tied to their default because their effect is not understood.
MOST_HELD = 6


def learn(
    name: str,
    known: Mapping[str, Any],
    seconds: float = SECONDS,
    counters: Iterable[Values] = (),
) -> dict[str, Any]:
    """The facts about one class, examined on configs they were not learned from.

    Args:
        name: the class.
        known: facts about classes learned before, which may occur as parts.
        seconds: time for building samples.
        counters: raw configs on which former facts about the class were wrong.

    Raises:
        learner.Unbuildable: the library does not build it here.
        Inexpressible: its form is not of our kind even where all fields keep their defaults, or
            an examination failed to the end.
    """
    failure: Inexpressible | None = None
    for way in (learned_from, anchored):
        try:
            try:
                facts = way(Lesson(name, known, seconds, counters=counters), known)
                if not cut_away(name, facts):
                    return facts
            except CutCount:
                pass
            return way(Lesson(name, known, seconds, cut=False, counters=counters), known)
        except Inexpressible as reason:
            failure = failure or reason
    raise failure or Inexpressible("no way")


def cut_away(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether facts are limited to values that only the learner's smaller config has."""
    full = flattened(configured(name, default_values(name, cut=False)))
    pins = [facts.get("pinned", {}), *(facts.get(key, {}).get("pinned", {}) for key in FORMS)]
    return any(
        path in full and full[path] not in seen for each in pins for path, seen in each.items()
    )


def learned_from(lesson: Lesson, known: Mapping[str, Any]) -> dict[str, Any]:
    """The facts, after as many attempts as it takes; raises Inexpressible or CutCount."""
    name = lesson.name
    failure: Inexpressible | None = None
    rounds = 0
    until = time.process_time() + MOST_SECONDS
    while rounds < ROUNDS:
        lesson.complete_vocabulary()
        Patience.seconds(FITTING)
        try:
            facts = learned(lesson)
        except Inexpressible as reason:
            late = len(lesson.held) >= MOST_HELD or time.process_time() > until
            if late or not hold_something(lesson, reason):
                raise
            continue
        rounds += 1
        lesson.sampler.deadline = max(lesson.sampler.deadline, time.process_time() + 8)
        fresh = lesson.sampler.at_random(HELD_OUT // (2 if lesson.slow else 1))
        fresh += lesson.sampler.beside(steps_in(facts))
        wrong = list(differences(name, facts, [sample for _, sample in fresh], known))
        if not wrong:
            wrong = list(differences(name, facts, lesson.sampler.samples, known))
            if not wrong:
                seen = [*lesson.sampler.samples, *(sample for _, sample in fresh)]
                if pins := unproven(facts, seen):
                    facts["pinned"] = pins | facts.get("pinned", {})
                facts["verified"] = {"defaults": True, "random": len(fresh),
                                     "learned_from": len(lesson.sampler.samples)}
                return facts
        lesson.telling += [sample for sample, _ in wrong[:6]]
        failure = wrong[0][1]
        lesson.sampler.keep(fresh)
        lesson.sampler.keep(lesson.sampler.at_random(lesson.many))
        if rounds == ROUNDS and len(lesson.held) < MOST_HELD and hold_something(lesson, failure):
            rounds -= 2
    raise failure or Inexpressible("no samples")


def hold_something(lesson: Lesson, failure: Inexpressible) -> bool:
    """Tie one more field to its default: one behind what could not be explained.

    What is known of the class then holds for that value only, and says so. False where no
    single field is behind it.
    """
    sampler = lesson.sampler
    touches = pattern_of(failure.names)
    first = restricted(sampler.first, touches)
    behind = [
        path
        for path, changed_ones in sampler.alone.items()
        if path in sampler.choices
        and any(restricted(each, touches) != first for each in changed_ones)
    ]
    if not behind:
        return False
    names = [restricted(each, touches) for each in sampler.samples]
    rows: list[tuple[bool, bool, int, str, list[int]]] = []
    for path in behind:
        value = sampler.first.values.get(path)
        inside = [at for at, each in enumerate(sampler.samples) if each.values.get(path) == value]
        renames = any(restricted(each, touches).keys() != first.keys()
                      for each in sampler.alone[path])
        # Lists and words before numbers, which models vary most.
        rows.append((type(value) is int, not renames, -len(inside), path, inside))
    rows.sort()
    chosen = rows[0][3]
    for _, _, _, path, inside in rows[:6]:
        Patience.seconds(2)
        try:
            Form(
                [sampler.samples[at].values for at in inside],
                [names[at] for at in inside], lesson.vocabulary, lesson.hints,
            )
        except Inexpressible:
            continue
        chosen = path
        break
    if lesson.cut and is_count(chosen):
        raise CutCount(chosen)
    lesson.held[chosen] = sampler.first.values.get(chosen)
    lesson.both = len(lesson.held) < MOST_HELD
    sampler.hold(chosen)
    sampler.deadline = max(sampler.deadline, time.process_time() + 6)
    if len(sampler.samples) < lesson.many:
        sampler.keep(sampler.at_random(lesson.many))
    return True


def pattern_of(names: str) -> re.Pattern[str]:
    """A template, a name or a beginning with `*`, whatever its numbers."""
    text = re.escape(re.sub(r"\{[ijkl]\}|(?<=[._])\d+(?=\.|$)", "#", names.rstrip("*")))
    text = text.replace(r"\#", r"\d+")
    return re.compile(text + (".*" if names.endswith("*") else ""))


def restricted(sample: Built, touches: re.Pattern[str]) -> dict[str, Any]:
    """The names in memory, on disk and of aliases that match, with what is said of them."""
    found: dict[str, Any] = {n: s for n, s in sample.memory.items() if touches.fullmatch(n)}
    found |= {n: s for n, s in sample.disk.items() if touches.fullmatch(n)}
    found |= {f"tied:{n}": (len(k),) for n, k in sample.ties.items() if touches.fullmatch(n)}
    return found
