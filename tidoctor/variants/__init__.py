"""The variant of a checkpoint that every loader takes which was named, or why there is none.

Variants are planned like any repair and held against the policies and rules that the checkpoint
itself is held against, so that what helps one loader neither breaks another nor brings a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.cures import Options, cures
from tidoctor.finding import Operation, Outcome, Severity, Verdict
from tidoctor.loaders import Asked, asked
from tidoctor.plan import Plan
from tidoctor.rules.judging import newer_version
from tidoctor.variants.search import Search, Variant

__all__ = ["Choice", "Unmet", "choose", "prescribe"]

_AS_IT_IS = "nothing changed"
_MOST_ROWS = 6_000  # tensors in all copies that are tried beside a diagnosis: it has to be quick


@dataclass(frozen=True, slots=True)
class Unmet:
    """A loader that does not take the variant which is chosen.

    Attributes:
        verdict: what it makes of it.
        needs: what this loader alone would need, empty where no variant helps.
        newer: its versions that take it, empty where none is known.
        against: other loaders that the need would stop, each with what those need.
        doubt: why something may have been overlooked.
    """

    verdict: Verdict
    needs: str
    newer: str
    against: tuple[tuple[str, str], ...]
    doubt: str = ""

    @property
    def who(self) -> str:
        """The loader and its version."""
        return f"{self.verdict.loader} {self.verdict.version}"

    def told(self) -> str:
        """All of it in a line."""
        v = self.verdict
        said = v.message if v.outcome is Outcome.FAILS and v.message else v.why
        parts = [f"{v.outcome}: {said}"]
        parts.append(f"needs: {self.needs}" if self.needs else "no variant of it helps")
        parts += [f"which {who} does not take (needs: {words})" for who, words in self.against]
        parts += [f"or use {v.loader} {self.newer}"] * bool(self.newer)
        parts += [self.doubt] * bool(self.doubt)
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
    against = []
    for i in sorted(search.met(chosen) - search.met(alone)) if alone else ():
        verdict = chosen.verdicts[i]
        own = search.cheapest(_meets(search, {i}))
        against.append((f"{verdict.loader} {verdict.version}", _words(own)))
    view = search.start.view
    lost = f"{view.head_name}, which is lost, from a --donor" if view.head_is_lost else ""
    return Unmet(
        chosen.verdicts[index],
        _words(alone) or search.consented(index) or lost,
        newer_version(chosen.exam, search.wishes[index]),
        tuple(against),
        "there are more variants than were tried" if search.cut else "",
    )


def _meets(search: Search, wanted: AbstractSet[int]) -> Callable[[Variant], bool]:
    """Whether a variant meets some wishes."""
    return lambda variant: all(search.content(variant, i) for i in wanted)


def _words(variant: Variant | None) -> str:
    if variant is None:
        return ""
    return variant.words or _AS_IT_IS


def prescribe(
    view: rules.View, wishes: Sequence[Asked], found: Sequence[Verdict]
) -> Mapping[str, tuple[str, str]]:
    """For loaders that do not take a checkpoint: what a copy of it changes, and the command.

    One command for all of them where one copy serves all; else for each a copy that it takes, and
    whoever takes the checkpoint as it is. Copies that another error would stop are not told. Where
    trying would take long, the command is the one that tries.
    """
    outcomes = [v.outcome for v in found]
    kept = {i for i, outcome in enumerate(outcomes) if outcome is Outcome.LOADS}
    failing = {i for i, o in enumerate(outcomes) if o in (Outcome.FAILS, Outcome.MISREADS)}
    asking = {
        str(wishes[i]): (
            "see whether a copy helps",
            view.command("repair", f"--for {wishes[i]}", "--dry-run"),
        )
        for i in failing
    }
    if 3 * len(view.checkpoint.tensors) > _MOST_ROWS:
        return asking
    options = Options(wanted=view.wish)
    plan = cures(view.checkpoint, options, Plan(), frozenset())
    base = plan.apply(view.checkpoint)
    search = Search(base, wishes, options, most_rows=_MOST_ROWS)
    if search.diagnosis(search.start).count(Severity.ERROR):
        return {}
    # Of some nothing is known before other cures are applied.
    later = {i for i, v in enumerate(search.start.verdicts) if v.outcome is not Outcome.UNKNOWN}
    every = failing | (later - kept)
    jointly = search.cheapest(_meets(search, kept | every))
    told = {}
    for i in sorted(failing):
        group = every if jointly else {i}
        copy = jointly or search.cheapest(_meets(search, kept | group))
        if copy is None:
            continue
        # The others are named only where the command would choose another copy without them.
        enough = search.cheapest(_meets(search, group)) is copy
        named = sorted(group if enough else kept | group)
        verb = "repair"
        if not plan and copy.kinds in ({"store"}, {"drop"}):
            verb = "untie" if "store" in copy.kinds else "tie"
        command = view.command(verb, *(f"--for {wishes[j]}" for j in named))
        told[str(wishes[i])] = (copy.words or "repair what else is found", command)
    return {**asking, **told} if search.cut else told
