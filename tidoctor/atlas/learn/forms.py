"""From many observed sets of names and shapes to one form: counts, templates, guards, shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidoctor.atlas.learn.fit import Fitter, Vocabulary
from tidoctor.atlas.learn.universe import VARIABLES, NoFit, Patience, Universe

Shape = tuple[int, ...]
# A list of parts with a fixed number of members is spelled out: a small one, or any where each
# member is of its own kind.
SPELLED_OUT = 8
EACH_ITS_OWN = 256
# Of processor time, for one template: what takes longer is not understood.
SECONDS = 2.5


# Numbers that can be positions: `layers.3.`, `Embedder_7.`; names split into text and numbers.
_NUMBER = re.compile(r"(?<=[._])(0|[1-9]\d*)(?=\.|$)")


class Inexpressible(Exception):
    """The observations have no form of this kind; the message says what failed.

    Attributes:
        names: the template, or the beginning of names ending in `*`, that could not be explained.
    """

    def __init__(self, problem: str, names: str = "") -> None:
        super().__init__(f"{problem} of {names}" if names else problem)
        self.names = names


class Template:
    """A name with index variables, and where it was observed."""

    def __init__(self, name: str, chain: tuple[str, ...]) -> None:
        self.name, self.chain = name, chain
        self.shapes: dict[tuple[int, ...], Shape] = {}
        self.names: dict[tuple[int, ...], str] = {}


_VARIABLE = re.compile(r"\{([ijkl])\}")


def beside(name: str) -> str:
    """What the tensors of one layer have in common: the name without its last word."""
    return name.rpartition(".")[0] + "."


def entries_of(row: Any) -> list[dict[str, Any]]:
    """The rows of one template, each with a shape and perhaps a condition."""
    several = row and isinstance(row, list) and isinstance(row[0], dict)
    rows = row if several else [row]
    return [each if isinstance(each, dict) else {"shape": each} for each in rows]


def ending_of(name: str) -> str:
    """The last two words of a name, by which it is found again under another prefix."""
    return "*" + ".".join(name.split(".")[-2:])


def shared_ending(one: str, other: str) -> int:
    """How many words at the end of two names are the same."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count


def preferred(related: Sequence[Mapping[str, Any]], rank: int, axis: int) -> list[str]:
    """Sizes of related tensors that may be this one's; plain numbers say too little."""
    found: list[str] = []
    for row in related:
        sizes = row["shape"]
        if len(sizes) == rank:
            found.append(sizes[axis])
        elif rank == 1:
            found += sizes[:2]
    return [each for each in dict.fromkeys(found) if not each.isdigit()]


Entry = tuple[tuple[int, ...], tuple[str, ...], str, Shape]


class Form:
    """The learned form of one class, for memory or for disk."""

    def __init__(
        self,
        values: Sequence[Mapping[str, Any]],
        observed: Sequence[Mapping[str, Shape]],
        vocabulary: Vocabulary,
        hints: Mapping[str, Sequence[list[str | None]]],
        priors: Sequence[tuple[str, Any]] = (),
        spelled: int = SPELLED_OUT,
    ) -> None:
        """Learn it.

        Args:
            values: config fields of each sample.
            observed: names and shapes of each sample.
            vocabulary: likely expressions and conditions.
            hints: concrete name -> expressions seen for its dimensions.
            priors: rows of a form learned before that a tensor here may share.
            spelled: members up to which a list that is always as long is spelled out.

        Raises:
            Inexpressible: some part could not be explained.
        """
        self.values, self.vocabulary, self.hints = values, vocabulary, hints
        self.spelled = spelled
        self.counts: dict[str, str] = {}
        self.tensors: dict[str, Any] = {}
        self.templates: list[Template] = []
        self._fitters: dict[tuple[str, ...], Fitter] = {}
        base = [(at,) for at in range(len(values))]
        self._fitters[()] = Fitter(Universe(values, base), vocabulary)
        entries: list[Entry] = [
            ((sample,), tuple(_NUMBER.split(name)), name, shape)
            for sample, names in enumerate(observed)
            for name, shape in names.items()
        ]
        self._walk("", (), entries)
        self._beside: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self._before: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for name, row in priors:
            for each in entries_of(row):
                self._before.setdefault(ending_of(name), []).append((name, each))
        # Weights first: the expressions of their sizes serve what lies beside them.
        made = {}
        for template in sorted(self.templates, key=lambda e: not e.name.endswith("weight")):
            row = made[template.name] = self._tensor(template)
            self._remember(template.name, row)
        self.tensors = {each.name: made[each.name] for each in self.templates}

    def _remember(self, name: str, row: Any) -> None:
        for each in entries_of(row):
            self._beside.setdefault(beside(name), []).append((name, each))

    def _related(self, template: Template) -> list[dict[str, Any]]:
        """Rows of tensors that are likely sized or conditioned alike, the nearest first."""
        near = self._beside.get(beside(template.name), [])
        far = self._before.get(ending_of(template.name), [])
        far = sorted(far, key=lambda row: -shared_ending(row[0], template.name))
        known = set(_VARIABLE.findall(template.name))
        return [
            row for name, row in [*far[:12], *near[:6]] if set(_VARIABLE.findall(name)) <= known
        ]

    def _walk(self, before: str, chain: tuple[str, ...], entries: list[Entry]) -> None:
        """Sort names by their next piece of text; what follows is the end or a number."""
        texts: dict[str, list[Entry]] = {}
        for point, rest, name, shape in entries:
            texts.setdefault(rest[0], []).append((point, rest[1:], name, shape))
        for text, inner in texts.items():
            ended = [entry for entry in inner if not entry[1]]
            for point, _, name, shape in ended:
                leaf = self._leaf(before + text, chain)
                leaf.shapes[point], leaf.names[point] = shape, name
            if len(ended) < len(inner):
                self._numbered(before + text, chain, [entry for entry in inner if entry[1]])

    def _leaf(self, name: str, chain: tuple[str, ...]) -> Template:
        for template in reversed(self.templates[-1:]):
            if template.name == name:
                return template
        made = Template(name, chain)
        self.templates.append(made)
        return made

    def _numbered(self, before: str, chain: tuple[str, ...], entries: list[Entry]) -> None:
        members: dict[tuple[int, ...], set[int]] = {}
        for point, rest, _, _ in entries:
            members.setdefault(point, set()).add(int(rest[0]))
        sets = {frozenset(each) for each in members.values()}
        largest = max(sets, key=lambda each: (len(each), max(each)))
        run = largest == frozenset(range(len(largest)))
        varies = len(sets) > 1
        if run and (varies or len(largest) > self.spelled) and len(chain) < len(VARIABLES):
            try:
                self._counted(before, chain, entries, members)
                return
            except NoFit:
                if len(largest) > max(4 * SPELLED_OUT, self.spelled):
                    raise Inexpressible("number", f"{before}*") from None
        inner: dict[str, list[Entry]] = {}
        for point, rest, name, shape in entries:
            inner.setdefault(rest[0], []).append((point, rest[1:], name, shape))
        if len(inner) > max(4 * SPELLED_OUT, self.spelled):
            raise Inexpressible("number", f"{before}*")
        for number in sorted(inner, key=int):
            self._walk(f"{before}{number}", chain, inner[number])

    def _counted(
        self,
        before: str,
        chain: tuple[str, ...],
        entries: list[Entry],
        members: Mapping[tuple[int, ...], set[int]],
    ) -> None:
        outer = self._fitters[chain]
        sizes = [max(members.get(point, {-1})) + 1 for point in outer.universe.points]
        text, sizes = self._count(outer, sizes)
        variable = VARIABLES[len(chain)]
        container = f"{before}{{{variable}}}"
        self.counts[container] = text
        inside = (*chain, container)
        points = [
            (*point, number)
            for point, size in zip(outer.universe.points, sizes, strict=True)
            for number in range(size)
        ]
        literals = [int(each) for each in _NUMBER.findall(before)]
        self._fitters[inside] = Fitter(
            Universe(self.values, points), self.vocabulary, literals
        )
        deeper = [
            ((*point, int(rest[0])), rest[1:], name, shape) for point, rest, name, shape in entries
        ]
        self._walk(container, inside, deeper)

    def _count(self, outer: Fitter, sizes: list[int]) -> tuple[str, list[int]]:
        """The expression of a count and its values.

        A list whose members hold no tensors under some configs looks empty there: then the
        count is that of the other points, and the members' own conditions tell the rest.
        """
        Patience.step(SECONDS)
        places = list(range(len(sizes)))
        try:
            whole = outer.value(places, sizes)
        except NoFit:
            whole = None
        filled = [place for place in places if sizes[place]]
        if whole is not None and (len(filled) == len(places) or len(whole) < 40):
            return whole, sizes
        try:
            text = outer.value(filled, [sizes[place] for place in filled])
        except NoFit:
            if whole is None:
                raise
            return whole, sizes
        said = outer.universe.evaluate(text)
        if any(type(each) is not int or not 0 <= each <= 4096 for each in said):
            if whole is None:
                raise NoFit(text)
            return whole, sizes
        return text, said

    def _tensor(self, template: Template) -> Any:
        Patience.step(SECONDS)
        ranks = sorted({len(shape) for shape in template.shapes.values()})
        rows = [self._of_rank(template, rank) for rank in ranks]
        if len(rows) == 1:
            return rows[0]
        return [row if isinstance(row, dict) else {"shape": row} for row in rows]

    def _of_rank(self, template: Template, rank: int) -> Any:
        fitter = self._fitters[template.chain]
        points = fitter.universe.points
        shaped = {p: s for p, s in template.shapes.items() if len(s) == rank}
        present = np.fromiter((p in shaped for p in points), dtype=bool, count=len(points))
        if len(shaped) != int(present.sum()):
            raise Inexpressible("place", template.name)
        related = self._related(template)
        try:
            guard = fitter.condition(present, [row["if"] for row in related if "if" in row])
        except NoFit:
            raise Inexpressible("condition", template.name) from None
        at = [place for place, each in enumerate(present) if each]
        shapes = [shaped[points[place]] for place in at]
        seen = [
            hint
            for name in set(template.names.values())
            for hint in self.hints.get(name, ())
            if len(hint) == rank
        ]
        shape = []
        for axis in range(rank):
            hints = {text for hint in seen if (text := hint[axis]) and not text.isdigit()}
            first = preferred(related, rank, axis)
            try:
                shape.append(fitter.value(at, [each[axis] for each in shapes], hints, first))
            except NoFit:
                raise Inexpressible(f"dimension {axis}", template.name) from None
        return shape if guard is None else {"shape": shape, "if": guard}

    def matching(self, chosen: Mapping[tuple[int, str], Any]) -> dict[str, dict[Any, Any]]:
        """Facts about (sample, name), sorted by template and point."""
        found: dict[str, dict[Any, Any]] = {}
        for template in self.templates:
            for point, name in template.names.items():
                if (point[0], name) in chosen:
                    found.setdefault(template.name, {})[point] = chosen[point[0], name]
        return found

    def layout(self) -> dict[str, Any]:
        """As the data file has it."""
        found: dict[str, Any] = {}
        if self.counts:
            found["counts"] = self.counts
        found["tensors"] = self.tensors
        return found
