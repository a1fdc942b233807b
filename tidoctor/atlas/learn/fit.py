"""Finds the expression behind observed values.

An expression fits when it gives the observed value at every point of a `Universe`. Simple
expressions are tried before composed ones, and what the constructor itself spelled before what
merely happens to agree.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tidoctor.atlas.learn.spelling import INDEX, cost, tidy, unrolled, variants
from tidoctor.atlas.learn.universe import (
    VARIABLES,
    NoFit,
    Patience,
    Universe,
    same,
)


class Vocabulary:
    """What an expression may be made of.

    Attributes:
        values: candidate expressions, the class's own.
        conditions: candidate conditions, the class's own.
        fields: plain int fields, for composed candidates.
        generic: conditions made up from fields.
        groups: how many turns an inner loop may take.
    """

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.conditions: set[str] = set()
        self.fields: set[str] = set()
        self.generic: set[str] = set()
        self.groups: list[str] = []


class Fitter:
    """Fits expressions over one universe with one vocabulary."""

    def __init__(
        self, universe: Universe, vocabulary: Vocabulary, literals: Sequence[int] = ()
    ) -> None:
        self.universe, self.vocabulary = universe, vocabulary
        self.literals = tuple(literals)[:3]
        self._memo: dict[Any, str] = {}
        self._literals_known: list[tuple[str, np.ndarray[Any, Any]]] | None = None

    # --- conditions ---

    def conditions(self) -> list[tuple[str, np.ndarray[Any, Any]]]:
        """Conditions that are true at some points and false at others, simplest first."""
        if self._literals_known is not None:
            return self._literals_known
        found: dict[bytes, tuple[tuple[int, int], str, np.ndarray[Any, Any]]] = {}
        own = {(0, each) for each in self.vocabulary.conditions}
        made = {(1, each) for each in self.vocabulary.generic}
        for variable in VARIABLES[: self.universe.variables]:
            made |= {(2, f"{variable} == {n}") for n in range(4)}
            made |= {(2, f"{variable} % 2 == 0")}
        for rank, text in sorted(own | made):
            Patience.check()
            for variant in variants(text, self.universe.variables, self.literals):
                clean = tidy(variant)
                if clean is None:
                    continue
                truth = self.universe.truth(clean)
                if truth is None or truth.all() or not truth.any():
                    continue
                score = (rank, cost(clean))
                for each, words in ((truth, clean), (~truth, f"not ({clean})")):
                    key = each.tobytes()
                    if key not in found or (score, words) < found[key][:2]:
                        found[key] = (score, words, each)
        for text, truth in self._unrolled_conditions():
            found.setdefault(truth.tobytes(), ((3, cost(text)), text, truth))
        ordered = sorted(found.values(), key=lambda row: (row[0], len(row[1]), row[1]))
        self._literals_known = [(words, truth) for _, words, truth in ordered]
        return self._literals_known

    def _unrolled_conditions(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """Conditions on the turns of nested loops that filled one list."""
        if not self.universe.variables:
            return
        index = VARIABLES[self.universe.variables - 1]
        made = [f"{index} % {group} == {n}" for group in self.vocabulary.groups for n in range(2)]
        made += [f"{index} % {group} == {group} - 1" for group in self.vocabulary.groups]
        for text in sorted(self.vocabulary.conditions):
            made += unrolled(text, self.universe.variables, self.vocabulary.groups)[:12]
        for text in made[:400]:
            clean = tidy(text)
            truth = None if clean is None else self.universe.truth(clean)
            if clean is not None and truth is not None and truth.any() and not truth.all():
                yield clean, truth

    def condition(
        self, wanted: np.ndarray[Any, Any], first: Iterable[str] = ()
    ) -> str | None:
        """The condition that is true exactly at the wanted points; None for always.

        Args:
            wanted: truth at every point.
            first: conditions to prefer, over index variables.

        Raises:
            NoFit: there is none in reach.
        """
        if wanted.all():
            return None
        for text in first:
            truth = self.universe.truth(text)
            if truth is not None and bool((truth == wanted).all()):
                return text
        key = ("condition", wanted.tobytes())
        if key not in self._memo:
            found = self._memo[key] = self._condition(wanted)
            # A bias is there where its weight is, and something more holds.
            self.conditions()[:0] = [(found, wanted), (f"not ({found})", ~wanted)]
        return self._memo[key]

    def _condition(self, wanted: np.ndarray[Any, Any]) -> str:
        literals = self.conditions()
        plain = _joined(literals, wanted)
        if plain is not None:
            return str(tidy(plain))
        above = [(w, t) for w, t in literals if not (wanted & ~t).any()]
        below = [(w, t) for w, t in literals if not (t & ~wanted).any()]
        for words, truth in above[:25]:
            Patience.check()
            rest = _joined([(w, t[truth]) for w, t in literals[:250]], wanted[truth], 60)
            if rest is not None:
                return str(tidy(f"({words}) and ({rest})"))
        for words, truth in below[:25]:
            Patience.check()
            rest = _joined([(w, t[~truth]) for w, t in literals[:250]], wanted[~truth], 60)
            if rest is not None:
                return str(tidy(f"({words}) or ({rest})"))
        together = _cover(above, wanted)
        if together is not None:
            return str(tidy(" and ".join(f"({each})" for each in together)))
        apart = _cover([(w, ~t) for w, t in below], ~wanted)
        if apart is not None:
            return str(tidy(" or ".join(f"({each})" for each in apart)))
        return str(tidy(self._listed(wanted, literals)))

    def _listed(
        self, wanted: np.ndarray[Any, Any], literals: list[tuple[str, np.ndarray[Any, Any]]]
    ) -> str:
        """A decision list: `False if a else True if b else ...`."""
        left = np.ones_like(wanted)
        steps: list[tuple[str, bool]] = []
        pairs = literals[:60]
        while len(steps) < 6:
            Patience.check()
            inside = wanted[left]
            if inside.all() or not inside.any():
                text = str(bool(inside.all()))
                for words, answer in reversed(steps):
                    if text == "True":
                        text = f"not ({words})" if not answer else "True"
                    elif text == "False":
                        text = f"({words})" if answer else "False"
                    elif answer:
                        text = f"({words}) or ({text})"
                    else:
                        text = f"not ({words}) and ({text})"
                return text
            best: tuple[int, int, str, Any, bool] | None = None
            for rank, (words, truth) in enumerate(literals):
                here = truth & left
                covered = int(here.sum())
                if covered and covered < int(left.sum()):
                    answers = wanted[here]
                    if answers.all() or not answers.any():
                        row = (-covered, rank, words, here, bool(answers.all()))
                        if best is None or row[:2] < best[:2]:
                            best = row
            if best is None:
                for (one, a), (two, b) in itertools.combinations(pairs, 2):
                    here = a & b & left
                    covered = int(here.sum())
                    if covered > 2:
                        answers = wanted[here]
                        if answers.all() or not answers.any():
                            words = f"({one}) and ({two})"
                            row = (-covered, 0, words, here, bool(answers.all()))
                            if best is None or row[:2] < best[:2]:
                                best = row
            if best is None:
                break
            steps.append((best[2], best[4]))
            left = left & ~best[3]
        raise NoFit("no condition in reach")

    # --- values ---

    def value(
        self,
        at: Sequence[int],
        wanted: Sequence[Any],
        hints: Iterable[str] = (),
        first: Iterable[str] = (),
    ) -> str:
        """The expression with the wanted values at these points (places in the universe).

        Args:
            at: the places.
            wanted: the values there.
            hints: expressions over loop variables that the constructor spelled for this size.
            first: expressions over index variables to prefer, those of tensors beside this one.

        Raises:
            NoFit: there is none in reach.
        """
        for text in first:
            if self.universe.first_fit(text, at, wanted):
                return text
        key = ("value", tuple(at), tuple(map(repr, wanted)))
        if key not in self._memo:
            self._memo[key] = self._value(list(at), list(wanted), list(hints), 4)
        return self._memo[key]

    def _value(self, at: list[int], wanted: list[Any], hints: list[str], depth: int) -> str:
        Patience.check()
        found = self._simple(at, wanted, hints) or self._composed(at, wanted)
        found = found or self._unrolled(at, wanted, hints)
        if found is not None:
            return found
        if depth == 0:
            raise NoFit("no expression in reach")
        sides: list[tuple[int, str, list[int], list[int], str]] = []
        tried = 0
        for words, truth in self.conditions():
            yes = [place for place, each in enumerate(at) if truth[each]]
            if not yes or len(yes) == len(at):
                continue
            Patience.check()
            tried += 1
            if tried > 400:
                break
            chosen = self._simple([at[p] for p in yes], [wanted[p] for p in yes], hints)
            if chosen is None:
                continue
            no = [place for place, each in enumerate(at) if not truth[each]]
            other = self._simple([at[p] for p in no], [wanted[p] for p in no], hints)
            if other is not None:
                return str(tidy(f"({chosen}) if ({words}) else ({other})"))
            sides.append((-len(yes), words, yes, no, chosen))
        sides.sort(key=lambda row: row[0])
        for _, words, _, no, chosen in sides[:3]:
            try:
                rest = self._value([at[p] for p in no], [wanted[p] for p in no], hints, depth - 1)
            except NoFit:
                continue
            return str(tidy(f"({chosen}) if ({words}) else ({rest})"))
        raise NoFit("no expression in reach")

    def _simple(self, at: list[int], wanted: list[Any], hints: list[str]) -> str | None:
        for group in (hints, None, self._ordered(), self._shifted(hints)):
            if group is None:
                if all(same(each, wanted[0]) for each in wanted):
                    return repr(wanted[0])
                continue
            for text in sorted(set(group), key=lambda each: (cost(each), each)):
                for variant in variants(text, self.universe.variables, self.literals):
                    clean = tidy(variant)
                    if clean is not None and self.universe.first_fit(clean, at, wanted):
                        return clean
        return None

    @functools.cached_property
    def _sorted_values(self) -> list[str]:
        return sorted(
            {*self.vocabulary.values, *self.vocabulary.fields}, key=lambda e: (cost(e), e)
        )

    def _shifted(self, hints: list[str]) -> list[str]:
        """What a loop carried over from its previous turn, or looked ahead for."""
        found = []
        for text in {*hints, *self.vocabulary.values}:
            if INDEX.search(text):
                for shift in ("- 1", "+ 1"):
                    found.append(INDEX.sub(rf"(\g<0> {shift})", text))
        return found

    def _unrolled(self, at: list[int], wanted: list[Any], hints: list[str]) -> str | None:
        for text in sorted({*hints, *self.vocabulary.values}, key=lambda e: (cost(e), e))[:150]:
            for variant in unrolled(text, self.universe.variables, self.vocabulary.groups):
                clean = tidy(variant)
                if clean is not None and self.universe.first_fit(clean, at, wanted):
                    return clean
        return None

    def _ordered(self) -> list[str]:
        return self._sorted_values

    def _composed(self, at: list[int], wanted: list[Any]) -> str | None:
        """A square, two known expressions, or one and a small number, put together."""
        if not all(type(each) is int for each in wanted) or len(set(wanted)) < 2:
            return None
        target = np.array(wanted, dtype=np.float64)
        atoms: list[tuple[str, np.ndarray[Any, Any]]] = []
        seen: set[bytes] = set()
        for text in self._sorted_values:
            for variant in variants(text, self.universe.variables, self.literals):
                known = self.universe.evaluate(variant)
                row = [known[place] for place in at]
                if not all(type(each) is int and abs(each) < 2**50 for each in row):
                    continue
                vector = np.array(row, dtype=np.float64)
                if vector.tobytes() not in seen and len(atoms) < 120:
                    seen.add(vector.tobytes())
                    atoms.append((variant, vector))
        with np.errstate(all="ignore"):
            for text, vector in atoms:
                if (vector * vector == target).all():
                    return tidy(f"({text}) ** 2")
                for number in (1, 2, 3, 4, 5, 6, 8, 16):
                    for sign, result in (
                        ("*", vector * number),
                        ("//", np.floor_divide(vector, number)),
                        ("+", vector + number),
                        ("-", vector - number),
                    ):
                        if (result == target).all():
                            return tidy(f"({text}) {sign} {number}")
            for (one, a), (two, b) in itertools.permutations(atoms, 2):
                for sign, result in (("*", a * b), ("+", a + b), ("-", a - b)):
                    if result[0] == target[0] and (result == target).all():
                        return tidy(f"({one}) {sign} ({two})")
                if b.all() and a[0] // b[0] == target[0] and (a // b == target).all():
                    return tidy(f"({one}) // ({two})")
        return _three(atoms[:40], target)


def _three(atoms: list[tuple[str, np.ndarray[Any, Any]]], target: Any) -> str | None:
    """Three known expressions: a sum, or the product of two plus or divided by the third."""
    if not atoms:
        return None
    place = {vector.tobytes(): at for at, (_, vector) in enumerate(atoms)}
    table = np.array([vector for _, vector in atoms])
    divisors = np.flatnonzero(table.all(axis=1))
    firsts = table[divisors, 0]
    with np.errstate(all="ignore"):
        for (one, a), (two, b) in itertools.combinations_with_replacement(atoms, 2):
            Patience.check()
            for sign, both in (("+", a + b), ("*", a * b)):
                # Of -0.0 and 0.0 the bytes differ: adding 0.0 makes one of them.
                third = place.get((target - both + 0.0).tobytes(), len(atoms))
                if sign == "*":
                    near = divisors[both[0] // firsts == target[0]]
                    for at in near[near < third]:
                        if (both // table[at] == target).all():
                            return tidy(f"({one} * {two}) // ({atoms[at][0]})")
                if third < len(atoms):
                    return tidy(f"({one} {sign} {two}) + ({atoms[third][0]})")
        return None


def _bits(truth: np.ndarray[Any, Any]) -> int:
    """Truth at every point as one number: two are joined faster than arrays."""
    return int.from_bytes(np.packbits(truth).tobytes())


def _joined(
    literals: list[tuple[str, np.ndarray[Any, Any]]], wanted: np.ndarray[Any, Any], most: int = 150
) -> str | None:
    """One condition, or two joined by `and` or `or`, that are true exactly where wanted."""
    goal = _bits(wanted)
    rows = [(words, _bits(truth)) for words, truth in literals]
    for words, bits in rows:
        if bits == goal:
            return words
    above = [(words, bits) for words, bits in rows if bits & goal == goal]
    for (one, a), (two, b) in itertools.combinations(above[:most], 2):
        if a & b == goal:
            return f"({one}) and ({two})"
    below = [(words, bits) for words, bits in rows if bits and bits | goal == goal]
    for (one, a), (two, b) in itertools.combinations(below[:most], 2):
        if a | b == goal:
            return f"({one}) or ({two})"
    return None


def _cover(
    literals: list[tuple[str, np.ndarray[Any, Any]]], wanted: np.ndarray[Any, Any]
) -> list[str] | None:
    """Few conditions, each true wherever wanted, that together are true nowhere else."""
    left = ~wanted
    chosen: list[str] = []
    while left.any():
        if len(chosen) == 5:
            return None
        gains = [int((left & ~truth).sum()) for _, truth in literals]
        if not gains or max(gains) == 0:
            return None
        best = gains.index(max(gains))
        chosen.append(literals[best][0])
        left = left & literals[best][1]
    return chosen
