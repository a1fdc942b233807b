"""From the fields that shapes fix to whole configs: values for the fields that they leave open.

Where two fields only show as a product, any two factors prove that a class can have the tensors.
`Completion` finds such values: defaults first, then what the default of one field leaves for
another, then usual sizes. They are witnesses, and nothing that is ever told as a fact.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tidoctor.atlas.configs import Resolved, resolve
from tidoctor.atlas.expression import NotCovered, Run
from tidoctor.atlas.identity import put
from tidoctor.atlas.layout import Class
from tidoctor.atlas.solving import (
    UNKNOWN,
    Atom,
    Clause,
    Contradiction,
    Literal,
    Solver,
)
from tidoctor.atlas.terms import term

_MOST_TRIES = 60  # configs put together for one class
_FEW = 64  # numbers that a field may be, so that all are tried
_DEEPEST = 9  # fields guessed one upon another
_MOST_FAILING = 40  # clauses among which the next to be put right is chosen
_MOST_ITEMS = 20_000  # of a list
# What layers may be that no condition names, where a default does not tell either.
_WORDS = {"layer_types": ("full_attention",), "mlp_layer_types": ("dense", "sparse")}
_USUAL = (64, 128, 80, 96, 256, 32, 16, 72, 48, 112, 160, 192, 8, 4, 2, 1)


class Completion:
    """Looks for values of the fields that the shapes leave open."""

    def __init__(
        self,
        of: Class,
        pins: Mapping[str, list[object]],
        types: Mapping[str, str],
        run: Run,
    ) -> None:
        self._of, self._model_type = of, of.model_type
        self._pins, self._types, self._run = pins, types, run
        self._left = _MOST_TRIES
        self._known_words: dict[str, list[object]] = {}
        self.differs = ""

    def configs(self, solver: Solver) -> Iterator[dict[str, object]]:
        """Configs under which every clause holds."""
        start = solver.copy()
        try:
            self._stored_heads(start)
            self._pinned(start)
            start.work()
        except Contradiction:
            start = solver.copy()
        yield from self._complete(start, 0)

    def _stored_heads(self, solver: Solver) -> None:
        """A tie that may be on or off is taken to be off where its alias is stored."""
        for tie in self._of.ties:
            if tie.condition is None or not re.fullmatch(r"[\w.]+", tie.condition.text):
                continue
            atom = solver.fields.canonical(tie.condition.text), None
            if atom not in solver.known and solver.fields.rule(atom[0]) is not None:
                solver.put(atom, False)

    def _pinned(self, solver: Solver) -> None:
        """Fields that have one value in all that is known of the class; words by default."""
        for path, values in self._pins.items():
            atom = solver.fields.canonical(path), None
            if atom in solver.known or not solver.fields.rule(atom[0]):
                continue
            default = solver.fields.literal_default(atom[0])
            if len(values) == 1:
                solver.put(atom, values[0])
            elif isinstance(default, str) and default in values:
                solver.put(atom, default)

    def _complete(self, solver: Solver, depth: int) -> Iterator[dict[str, object]]:
        self._left -= 1
        if self._left < 0:
            return
        self._run.spend(50 + len(solver.known))
        settings = assembled(solver, self._model_type, self._types)
        try:
            config = resolve(settings, self._model_type)
        except NotCovered as e:
            self.differs = e.reason
            return
        failing = []
        for clause in solver.open:
            self._run.spend(2)
            if not any(self._holds(literal, config) for literal in clause):
                failing.append(clause)
                if len(failing) > _MOST_FAILING:
                    break
        if not failing:
            yield settings
            return
        if depth >= _DEEPEST:
            return
        worst = min(failing, key=lambda c: sum(len(solver.free(each)) for each in c) or 99)
        self.differs = f"{worst[0].expression} is not {worst[0].want}"
        for guess in self._guesses(worst, failing, solver, config):
            other = solver.copy()
            try:
                for atom, value in guess.items():
                    other.put(atom, value)
                other.work()
            except Contradiction:
                continue
            yield from self._complete(other, depth + 1)
            if self._left < 0:
                return

    def _holds(self, literal: Literal, config: Resolved) -> bool:
        value = worth(literal, config, self._run)
        if isinstance(literal.want, bool):
            return value is not UNKNOWN and bool(value) is literal.want
        return type(value) in (int, float) and value == literal.want

    def _guesses(
        self, clause: Clause, failing: list[Clause], solver: Solver, config: Resolved
    ) -> Iterator[dict[Atom, object]]:
        """Values worth trying for the atoms of a clause that does not hold.

        What is tried for an item of a list is tried for all items of which the same is wanted: the
        layers of a model are not guessed one by one.
        """
        tried = set()
        for literal in clause:
            alike = [
                each
                for other in failing
                for each in other
                if each.expression is literal.expression and each.want is literal.want
            ]
            numbers = sorted({number for each in alike for _, number in each.indices})
            for atom, value in self._guessed(literal, numbers, solver, config):
                key = atom, type(value), repr(value)
                if key in tried:
                    continue
                tried.add(key)
                if not isinstance(atom[1], int):
                    yield {atom: value}
                    continue
                same = {a for each in alike for a in solver.free(each) if a[0] == atom[0]}
                yield dict.fromkeys((atom, *sorted(same - {atom}, key=str)), value)

    def _guessed(
        self, literal: Literal, numbers: list[int], solver: Solver, config: Resolved
    ) -> Iterator[tuple[Atom, object]]:
        atoms = solver.free(literal)
        heads_last = sorted(atoms, key=lambda atom: "head_dim" in atom[0])
        # What the others are by default leaves one value for this.
        if len(atoms) > 1 and not isinstance(literal.want, bool):
            for atom in heads_last:
                other = solver.only(literal)
                try:
                    for fixed in atoms:
                        if fixed != atom and fixed[1] is None:
                            other.put(fixed, given(config, fixed[0]))
                    other.work()
                except (Contradiction, NotCovered):
                    continue
                if atom in other.known:
                    yield atom, other.known[atom]
        for atom in reversed(heads_last):
            for value in self._values(atom, literal, numbers, solver, config):
                yield atom, value

    def _values(
        self,
        atom: Atom,
        literal: Literal,
        numbers: list[int],
        solver: Solver,
        config: Resolved,
    ) -> Iterator[object]:
        path, item = atom
        pinned = self._pins.get(path)
        if pinned and item is None:
            yield from pinned
            return
        low, high = solver.bounds(atom)
        if high - low < _FEW:
            yield from range(low, high + 1)
            return
        default: object = given(config, path) if item is None else None
        usual: list[object] = []
        if isinstance(item, int):
            whole = given(config, path)
            if isinstance(whole, list | tuple) and whole:
                default = whole[item] if -len(whole) <= item < len(whole) else whole[-1]
                usual = [word for word in dict.fromkeys(whole[:500]) if isinstance(word, str)]
        words = [*self._words(solver, path), *usual]
        yield from words
        if isinstance(default, float) and not isinstance(literal.want, bool):
            yield from _ratios(atom, literal, solver)
            return
        if isinstance(default, bool):
            yield not default
            return
        if isinstance(default, str) and words:
            return
        members = [v for (p, v), inside in solver.members.items() if p == path and inside]
        if item is None and (members or isinstance(default, list | tuple | range)):
            yield members
            yield numbers
            return
        if low:
            yield low
        if isinstance(literal.want, bool):
            yield None
            if numbers:  # one more than the last layer, or the first: a layer where kinds change
                yield numbers[-1] + 1
                yield numbers[0]
                yield numbers[-1] + 2
            yield from range(9)
            return
        wants = dict.fromkeys(
            each.want
            for clause in (((literal,)), *solver.open)
            for each in clause
            if type(each.want) is int and each.want > 0 and atom in solver.free(each)
        )
        for want in wants:
            yield from (n for n in _USUAL if want % n == 0)
        for want in wants:
            yield from (want // n for n in _USUAL if want % n == 0)
        yield None

    def _words(self, solver: Solver, path: str) -> list[object]:
        """The strings that a field, or an item of it, is compared with."""
        if path not in self._known_words:
            name = path.rpartition(".")[2]
            self._run.spend(len(solver.clauses) // 4)
            texts = {each.expression.text for clause in solver.clauses for each in clause}
            found: dict[object, None] = {}
            for text in sorted(texts):
                if name not in text:
                    continue
                for node in ast.walk(ast.parse(text, mode="eval")):
                    if isinstance(node, ast.Compare) and name in ast.unparse(node.left):
                        for right in node.comparators:
                            if isinstance(right, ast.Constant) and isinstance(right.value, str):
                                found[right.value] = None
            rule = solver.fields.rule(path)
            default = rule.get("default") if rule else None
            if isinstance(default, str):  # the words that it chooses from
                for node in ast.walk(ast.parse(default.strip(), mode="eval")):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        found.setdefault(node.value)
            for word in _WORDS.get(name, ()):
                found.setdefault(word)
            self._known_words[path] = list(found)
        return self._known_words[path]


def _ratios(atom: Atom, literal: Literal, solver: Solver) -> Iterator[float]:
    """Plain values of a factor that give what is wanted, rounded or not."""
    other = solver.only(literal)
    other.known[atom] = 1.0
    whole = other.value(term(literal.expression.text), literal)
    if isinstance(whole, int | float) and whole > 0:
        exact = literal.want / whole
        for digits in (0, 1, 2, 3, 4, 6, 9):
            yield round(exact, digits)
        yield exact


def worth(literal: Literal, config: Resolved, run: Run) -> Any:
    """What an expression is worth under a config; `Unknown` where that cannot be told."""
    try:
        inner = config.part(literal.at[:-1])
    except NotCovered:
        return UNKNOWN
    indices = dict(literal.indices)
    own = Run(lambda name: indices[name] if name in indices else inner.value(name), run.left)
    try:
        return literal.expression.value(own)
    except NotCovered:
        return UNKNOWN
    finally:
        run.left = own.left


def given(config: Resolved, path: str) -> object:
    """A field under a config; None where it cannot be known."""
    try:
        return config.value(path)
    except NotCovered:
        return None


def assembled(
    solver: Solver, model_type: str, types: Mapping[str, str]
) -> dict[str, object]:
    """The config that says what is known, and nothing else."""
    settings: dict[str, object] = {"model_type": model_type}
    places = {path.rpartition(".")[0] for path, _ in solver.known} | set(types)
    above = {
        path[:end]
        for path in places
        for end in range(1, len(path) + 1)
        if path[end : end + 1] in ("", ".")
    }
    for path in sorted(above):  # outer ones first
        if default := solver.fields.part_default(path):
            put(settings, path.split("."), copy.deepcopy(dict(default)))
    for path, kind in types.items():
        put(settings, (*path.split("."), "model_type"), kind)
    lists: dict[str, dict[int | str, object]] = {}
    for (path, item), value in solver.known.items():
        if item is None:
            put(settings, path.split("."), value)
        else:
            lists.setdefault(path, {})[item] = value
    if lists:
        try:
            config = resolve(settings, model_type)
        except NotCovered:
            return settings
        for path, items in lists.items():
            if (path, None) not in solver.known:
                put(settings, path.split("."), _patched(given(config, path), items))
    return settings


def _patched(default: object, items: Mapping[int | str, object]) -> list[object]:
    """A list with some of its items, and maybe its length, given."""
    whole = list(default) if isinstance(default, list | tuple) else []
    numbers = {n: value for n, value in items.items() if isinstance(n, int)}
    length = items.get("len")
    least = max((n + 1 for n in numbers), default=0)
    size = length if isinstance(length, int) else max(least, len(whole))
    size = min(size, _MOST_ITEMS)
    filler = whole[-1] if whole else next(iter(numbers.values()), None)
    whole = (whole + [filler] * size)[:size]
    for n, value in numbers.items():
        if -size <= n < size:
            whole[n] = value
    return whole
