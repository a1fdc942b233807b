"""The variant of a checkpoint that every loader takes which was named, or why there is none.

Variants are planned like any repair and held against the policies and rules that the checkpoint
itself is held against, so that what helps one loader neither breaks another nor brings a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.cures import Options, cures
from tidoctor.errors import Refused
from tidoctor.finding import Operation, Outcome, Severity, Verdict
from tidoctor.loaders import Asked, asked
from tidoctor.plan import Plan
from tidoctor.rules.loading import newer_version
from tidoctor.variants.search import Search, Variant

__all__ = ["Choice", "Unmet", "choose", "prescribe"]

_AS_IT_IS = "nothing changed"


@dataclass(frozen=True, slots=True)
class Unmet:
    """A loader that does not take the variant which is chosen.

    Attributes:
        verdict: what it makes of it.
        needs: what this loader alone would need, empty where no variant helps.
        newer: its versions that take it, empty where none is known.
        against: other loaders that the need would stop, each with what those need.
    """

    verdict: Verdict
    needs: str
    newer: str
    against: tuple[tuple[str, str], ...]

    @property
    def who(self) -> str:
        """The loader and its version."""
        return f"{self.verdict.loader} {self.verdict.version}"

    def told(self) -> str:
        """All of it in a sentence."""
        v = self.verdict
        said = v.message or v.why if v.outcome is Outcome.FAILS else v.why
        parts = [f"{v.outcome}: {said}" if v.outcome is not Outcome.UNKNOWN else f"unknown: {v.why}"]
        if self.needs:
            parts.append(f"needs: {self.needs}")
        parts += [f"which {who} does not take (it needs: {words})" for who, words in self.against]
        if not self.needs:
            parts.append("no variant of it helps")
        if self.newer:
            parts.append(f"or use {v.loader} {self.newer}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be changed, in steps, and which wishes remain."""

    steps: tuple[tuple[Operation, ...], ...] = ()
    unmet: tuple[Unmet, ...] = ()


def choose(
    base: Checkpoint,
    loaders: Sequence[str],
    options: Options,
    *,
    unwanted: frozenset[str] = frozenset(),
) -> Choice:
    """The cheapest variant that all loaders take, else the one that most of them take.

    None that takes it as it is is given up for another. Of those that stand for `all` only the ones
    count of which anything is known.
    """
    wishes = asked(loaders)
    named = {str(wish) for wish in asked([w for w in loaders if w.lower() != "all"])}
    search = Search(
        base, wishes, options, firm=[str(w) in named for w in wishes], unwanted=unwanted
    )
    everything = frozenset(range(len(wishes)))
    kept = search.met(search.start)
    found = search.cheapest(lambda v: search.met(v) == everything)
    if found is None:
        found = max(
            (v for v in search.every() if search.met(v) >= kept and search.sound(v)),
            key=lambda v: len(search.met(v)),  # the first of them, which is the cheapest
        )
    unmet = tuple(_unmet(search, found, i) for i in sorted(everything - search.met(found)))
    return Choice(tuple(change.operations for change in found.changes), unmet)


def _unmet(search: Search, chosen: Variant, index: int) -> Unmet:
    alone = search.cheapest(lambda v: search.content(v, index))
    against: list[tuple[str, str]] = []
    for i in sorted(search.met(chosen) - search.met(alone)) if alone else ():
        own = search.cheapest(lambda v, i=i: search.content(v, i))  # type: ignore[misc]
        verdict = chosen.verdicts[i]
        against.append((f"{verdict.loader} {verdict.version}", _words(own)))
    return Unmet(
        chosen.verdicts[index],
        _words(alone),
        newer_version(chosen.exam, search.wishes[index]),
        tuple(against),
    )


def _words(variant: Variant | None) -> str:
    if variant is None:
        return ""
    return variant.words or _AS_IT_IS


def prescribe(
    view: rules.View, wishes: Sequence[Asked], found: Sequence[Verdict]
) -> Mapping[str, tuple[str, str]]:
    """For loaders that do not take a checkpoint: what a copy of it changes, and the command.

    One command for all of them where one copy serves all; else for each a copy that it takes, and
    whoever takes the checkpoint as it is. Copies that another error would stop are not told.
    """
    options = Options(wanted=view.wish)
    plan = cures(view.checkpoint, options, Plan(), frozenset())
    try:
        base = plan.apply(view.checkpoint)
    except Refused:
        return {}
    known = [w for w, v in zip(wishes, found, strict=True) if v.outcome is not Outcome.UNKNOWN]
    search = Search(base, known, options)
    if search.diagnosis(search.start).count(Severity.ERROR):
        return {}
    loaded = {str(w) for w, v in zip(wishes, found, strict=True) if v.outcome is Outcome.LOADS}
    kept = {i for i, w in enumerate(known) if str(w) in loaded}
    failing = {i for i in range(len(known)) if i not in kept}
    for_all = search.cheapest(lambda v: search.met(v) >= kept | failing)
    told = {}
    for i in sorted(failing):
        group = failing if for_all else {i}
        copy = for_all or search.cheapest(
            lambda v, group=group: search.met(v) >= kept | group  # type: ignore[misc]
        )
        if copy is None:
            continue
        # The command names the others only where it would choose another copy without them.
        same = search.cheapest(lambda v, group=group: search.met(v) >= group) is copy  # type: ignore[misc]
        named = sorted(group if same else kept | group)
        verb = "repair"
        if not plan and copy.kinds in ({"store"}, {"drop"}):
            verb = "untie" if "store" in copy.kinds else "tie"
        command = view.command(verb, *(f"--for {known[j]}" for j in named))
        told[str(known[i])] = (copy.words or "repair what else is found", command)
    return told
