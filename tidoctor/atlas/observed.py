"""Layouts held against names and shapes: what each class says must be true of its config.

`Observed` is the table of a checkpoint grouped by names without their numbers. `clauses` lays the
rows of one class over it: a size that is written as an expression has been seen, a tensor under a
condition is there or is not, a container has so many children. `Unlike` is raised as soon as no
config could make the class have these tensors.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal as OneOf

from tidoctor.atlas import data, families
from tidoctor.atlas.expectation import is_passing
from tidoctor.atlas.expression import Expression, NotCovered, Run, parse
from tidoctor.atlas.layout import MOST_CHILDREN, Class
from tidoctor.atlas.solving import Clause, Fields, Literal

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Form = OneOf["disk", "memory"]

_NUMBER = re.compile(r"(?<![^._])(0|[1-9][0-9]{0,8})(?![^._])")
_VARIABLE = re.compile(r"\{([ijkl])\}")
_MOST_NUMBERS = 8  # in one name
_MOST_COMBINATIONS = 20_000  # of indices for which one condition is asked
_DEEPEST = 8

Key = str
Numbers = tuple[int, ...]
Instances = dict[Numbers, set[Shape]]
Children = dict[Numbers, int]


class Unlike(Exception):
    """No config gives the class these tensors; the argument says why."""


def split(name: str) -> tuple[Key, Numbers]:
    """A name without its numbers, and those."""
    parts = _NUMBER.split(name)
    if len(parts) == 1 or len(parts) > 2 * _MOST_NUMBERS:
        return name, ()
    return "{}".join(parts[::2]), tuple(map(int, parts[1::2]))


def key(name: str) -> Key:
    """The first half of `split`, in half the time."""
    bare, count = _NUMBER.subn("{}", name)
    return bare if count < _MOST_NUMBERS else name


@dataclass(frozen=True, slots=True)
class _Group:
    """The tensors of one name without numbers."""

    rows: dict[Numbers, Shape]
    distinct: dict[tuple[int, ...], Instances] = field(default_factory=dict)
    offspring: dict[tuple[int, ...], list[Children]] = field(default_factory=dict)

    def shapes(self, places: tuple[int, ...]) -> Instances:
        """The shapes by the numbers at some places."""
        if places not in self.distinct:
            found: Instances = {}
            for numbers, shape in self.rows.items():
                found.setdefault(tuple([numbers[p] for p in places]), set()).add(shape)
            self.distinct[places] = found
        return self.distinct[places]

    def children(self, places: tuple[int, ...]) -> list[Children]:
        """What `_children` makes of `shapes`: the same for every class that is held against it."""
        if places not in self.offspring:
            self.offspring[places] = _children(self.shapes(places), len(places))
        return self.offspring[places]


def _children(found: Instances, depths: int) -> list[Children]:
    """By the depth of a number: how many children the numbers before it show at least."""
    children: list[Children] = [{} for _ in range(depths)]
    for numbers in found:
        for depth, counts in enumerate(children):
            outer, number = numbers[:depth], numbers[depth]
            if number >= counts.get(outer, 0):
                counts[outer] = number + 1
    return children


class Observed:
    """Names and shapes, grouped."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.groups: dict[Key, _Group] = {}
        for name, shape in shapes.items():
            key, numbers = split(name)
            self.groups.setdefault(key, _Group({})).rows[numbers] = shape
        self.keys = frozenset(self.groups)


# --- which names a class can have ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """The names of a class in one form, without numbers, whatever its config.

    Attributes:
        keys: those of its own layout and of parts that are always the same class.
        open: prefixes of parts whose class the config chooses.
    """

    keys: frozenset[Key]
    open: tuple[str, ...]


def offer(source: data.Data, class_name: str, form: Form) -> Offer | None:
    """The names a class can have; None for one without this form."""
    if form == "disk" and "disk" not in source.layout(class_name):
        return None
    return _offer(source, class_name, form, _DEEPEST)


@functools.lru_cache(maxsize=8192)
def _offer(source: data.Data, class_name: str, form: Form, depth: int) -> Offer | None:
    try:
        facts = source.layout(class_name)
    except NotCovered:
        return None
    layout = facts.get(form) or facts["memory"]
    if "uncovered" in layout or not depth:
        return None
    keys = {_key(name) for name in layout.get("tensors", ())}
    open_: list[str] = []
    for part in layout.get("parts", ()):
        if "{" in part["at"]:
            return None
        if "class" not in part:
            open_.append(part["at"])
            continue
        inner = _offer(source, part["class"], form, depth - 1)
        if inner is None:
            return None
        keys |= {_key(part["at"] + key) for key in inner.keys}
        open_ += [part["at"] + prefix for prefix in inner.open]
    return Offer(frozenset(keys), tuple(open_))


@functools.lru_cache(maxsize=100_000)
def _key(template: str) -> Key:
    return key(_VARIABLE.sub("0", template).replace("{}", "0"))


# --- the rows of a class, its parts unfolded -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """An expression and the config that it reads."""

    expression: Expression
    at: str


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place in a name where a number stands."""

    variable: str
    place: int  # among the numbers of the name
    container: str  # the template up to here
    count: _Asked


@dataclass(slots=True)
class _Row:
    """A template of names in the whole class."""

    template: str
    key: Key
    fixed: tuple[tuple[int, int], ...]  # numbers that are part of the name: place, number
    slots: tuple[_Slot, ...]
    guards: tuple[_Asked, ...]
    shape: tuple[_Asked, ...]
    optional: bool
    ties: list[_Asked | None] = field(default_factory=list)


def _unfolded(
    source: data.Data,
    classes: Mapping[str, Class],
    class_: Class,
    form: Form,
    fields: Fields,
    types: Mapping[str, str],
    prefix: str = "",
    at: str = "",
    guards: tuple[_Asked, ...] = (),
    depth: int = _DEEPEST,
) -> Iterator[_Row]:
    """All rows of a class; `prefix` of names and `at` of fields lead to it."""
    layout = class_.memory if form == "memory" or class_.disk is None else class_.disk
    if layout.uncovered or not depth:
        raise Unlike(f"{class_.name} is not covered")
    ties: dict[str, list[_Asked | None]] = {}
    for tie in class_.ties:
        condition = None if tie.condition is None else _Asked(tie.condition, at)
        ties.setdefault(tie.alias, []).append(condition)
    loose = [re.compile(pattern) for pattern in class_.missing_ok]
    for row in layout.rows:
        template = row.pieces[0]
        containers = []
        for variable, piece in zip(row.variables, row.pieces[1:], strict=True):
            template += "{" + variable + "}"
            containers.append(template)
            template += piece
        plain = _VARIABLE.sub("0", template)
        yield _placed(
            prefix + template,
            tuple(
                (variable, prefix + container, _Asked(count, at))
                for variable, container, count in zip(
                    row.variables, containers, row.counts, strict=True
                )
            ),
            guards if row.condition is None else (*guards, _Asked(row.condition, at)),
            tuple(_Asked(size, at) for size in row.shape),
            template in class_.unsaved
            or any(pattern.search(plain) for pattern in loose)
            or is_passing(prefix + plain),
            ties.get(template, []),
        )
    for part in layout.parts:
        if part.row.variables:
            raise Unlike(f"{class_.name} has parts that are not understood")
        place = part.row.pieces[0]
        inner_at = f"{at}{part.config}." if part.config else at
        name = part.class_name
        if part.task:
            inner_type = types.get(inner_at[:-1]) or fields.model_type(inner_at[:-1])
            name = families.class_for(inner_type or "", part.task) or ""
        inner = classes.get(name)
        if inner is None:
            try:
                inner = Class(name, source.layout(name))
            except NotCovered as e:
                raise Unlike(e.reason) from e
        own = guards
        if part.row.condition is not None:
            own = (*guards, _Asked(part.row.condition, at))
        left_out = set(part.without)
        for found in _unfolded(
            source, classes, inner, form, fields, types, prefix + place, inner_at, own, depth - 1
        ):
            if found.template.removeprefix(prefix + place) not in left_out:
                found.ties += ties.get(found.template.removeprefix(prefix), [])
                yield found


def _placed(
    template: str,
    slots: tuple[tuple[str, str, _Asked], ...],
    guards: tuple[_Asked, ...],
    shape: tuple[_Asked, ...],
    optional: bool,
    ties: Iterable[_Asked | None],
) -> _Row:
    """A row with the places of its numbers."""
    key, zeros = split(_VARIABLE.sub("0", template))
    _, ones = split(_VARIABLE.sub("1", template))
    places = [n for n, (a, b) in enumerate(zip(zeros, ones, strict=True)) if a != b]
    if len(places) != len(slots):
        raise Unlike("names with numbers in words")
    return _Row(
        template,
        key,
        tuple((n, number) for n, number in enumerate(zeros) if n not in places),
        tuple(
            _Slot(variable, place, container, count)
            for (variable, container, count), place in zip(slots, places, strict=True)
        ),
        guards,
        shape,
        optional,
        list(ties),
    )


# --- clauses -------------------------------------------------------------------------------------


def clauses(
    source: data.Data,
    classes: Mapping[str, Class],
    class_: Class,
    form: Form,
    fields: Fields,
    types: Mapping[str, str],
    seen: Observed,
    run: Run,
) -> list[Clause]:
    """What must hold of the config of a class that has these tensors.

    Raises Unlike where none can, NotCovered when it takes too many steps.
    """
    rows = list(_unfolded(source, classes, class_, form, fields, types))
    found: dict[Clause, None] = {}
    for clause in _Laying(rows, seen, run).clauses():
        run.spend(3)
        found[clause] = None
    return list(found)


class _Laying:
    """Rows laid over a table."""

    def __init__(self, rows: list[_Row], seen: Observed, run: Run) -> None:
        self.rows, self.run = rows, run
        self.seen = seen
        self.counts: dict[str, Children] = {}  # container -> outer numbers -> children
        self.instances: list[Instances] = []  # by row, by the numbers in its slots
        self.shared = Counter(row.key for row in rows)
        # Whether no other row of the class has the names of this one, in the order of the rows.
        self.alone = _alone(rows)
        for row in rows:
            found, children = self._instances(row)
            self.instances.append(found)
            self._count(row, children)

    def _instances(self, row: _Row) -> tuple[Instances, list[Children]]:
        group = self.seen.groups.get(row.key)
        if group is None:
            return {}, []
        places = tuple(slot.place for slot in row.slots)
        everywhere = tuple(range(len(places) + len(row.fixed)))
        if not row.fixed:
            found = group.shapes(places)
        else:
            found = {}
            for numbers, shapes in group.shapes(everywhere).items():
                if all(numbers[place] == number for place, number in row.fixed):
                    found.setdefault(tuple([numbers[p] for p in places]), set()).update(shapes)
        self.run.spend(1 + len(found) // 20)
        if row.slots and self.shared[row.key] > 1:
            # Other rows may be meant by the same names: those that the indices decide.
            found = {n: s for n, s in found.items() if self._may(row, n)}
        elif not row.fixed:
            return found, group.children(places)
        return found, _children(found, len(places))

    def _may(self, row: _Row, numbers: Numbers) -> bool:
        """Whether conditions that read nothing but indices let this instance be."""
        for guard in row.guards:
            indices = _indices(guard.expression, row, numbers)
            decided = guard.expression.names == {variable for variable, _ in indices}
            if decided and not guard.expression.value(Run(dict(indices), 1000)):
                return False
        return True

    def _count(self, row: _Row, children: Iterable[Children]) -> None:
        for slot, found in zip(row.slots, children, strict=False):
            counts = self.counts.setdefault(slot.container, {})
            for outer, count in found.items():
                if count > counts.get(outer, 0):
                    if count > MOST_CHILDREN:
                        raise Unlike(f"{slot.container} has number {count - 1}")
                    counts[outer] = count

    def clauses(self) -> Iterator[Clause]:
        for row, found, alone in zip(self.rows, self.instances, self.alone, strict=True):
            self.run.spend(1)
            if alone:
                yield from self._sizes(row, found)
                yield from self._presence(row, found)
        yield from self._children()

    def _sizes(self, row: _Row, found: Mapping[Numbers, set[Shape]]) -> Iterator[Clause]:
        told: set[tuple[int, Numbers, int]] = set()
        names = frozenset[str]().union(*(size.expression.names for size in row.shape))
        if found and not any(slot.variable in names for slot in row.slots):
            found = {next(iter(found)): set().union(*found.values())}
        for numbers, shapes in found.items():
            for shape in shapes:
                if len(shape) != len(row.shape):
                    raise Unlike(f"{row.template} has {len(shape)} dimensions")
                for n, size in enumerate(row.shape):
                    names = size.expression.names
                    read = tuple([
                        number
                        for slot, number in zip(row.slots, numbers, strict=True)
                        if slot.variable in names
                    ])
                    if (n, read, shape[n]) in told:
                        continue
                    told.add((n, read, shape[n]))
                    indices = _indices(size.expression, row, numbers)
                    yield (Literal(size.expression, size.at, indices, shape[n]),)

    def _presence(self, row: _Row, found: Mapping[Numbers, set[Shape]]) -> Iterator[Clause]:
        if not row.guards:
            if not found and not row.optional and not any(
                self._none(slot) for slot in row.slots
            ):
                yield self._tied(row)
            elif found and len(found) < self._total(row) and not row.optional and not row.ties:
                raise Unlike(f"some of {row.template} are not there")
            return
        read = [
            n
            for n, slot in enumerate(row.slots)
            if any(slot.variable in guard.expression.names for guard in row.guards)
        ]
        if any(n != at for n, at in enumerate(read)):
            read = list(range(max(read) + 1))
        present = {tuple([numbers[n] for n in read]) for numbers in found}
        deeper = row.slots[len(read) :]
        # Where nothing shows that there are children, a missing one tells nothing.
        parents = (
            {
                outer[: len(read)]
                for outer, count in self.counts.get(row.slots[-1].container, {}).items()
                if count
            }
            if deeper
            else set()
        )
        for combination in self._combinations(row, len(read)):
            there = combination in present
            filled = (*combination, *(0,) * len(deeper))
            if there:
                for guard in row.guards:
                    yield (self._literal(guard, row, filled, True),)
            elif not row.optional and (not deeper or combination in parents):
                refused = tuple(self._literal(guard, row, filled, False) for guard in row.guards)
                tied = () if None in row.ties else self._tied(row, soft=True)
                if None not in row.ties:
                    yield (*refused, *tied)

    def _literal(self, asked: _Asked, row: _Row, numbers: Numbers, want: bool) -> Literal:
        indices = _indices(asked.expression, row, numbers)
        return Literal(asked.expression, asked.at, indices, want)

    def _tied(self, row: _Row, *, soft: bool = False) -> Clause:
        """That a tie accounts for a tensor that is not there."""
        if not row.ties and not soft:
            raise Unlike(f"{row.template} is not there")
        found = []
        for tie in row.ties:
            if tie is None:
                return (Literal(parse("True"), "", (), True),)
            if not tie.expression.names & {"i", "j", "k", "l"}:
                found.append(Literal(tie.expression, tie.at, (), True))
        if not found and not soft:
            return (Literal(parse("True"), "", (), True),)
        return tuple(found)

    def _none(self, slot: _Slot) -> bool:
        return not self.counts.get(slot.container)

    def _total(self, row: _Row) -> int:
        """How many instances a row without conditions has, by the children that show."""
        if not row.slots:
            return 1
        return sum(self.counts.get(row.slots[-1].container, {}).values())

    def _combinations(self, row: _Row, depth: int) -> Iterator[Numbers]:
        """The numbers that the first slots of a row can have."""
        found: list[Numbers] = [()]
        for slot in row.slots[:depth]:
            counts = self.counts.get(slot.container, {})
            total = sum(counts.get(outer, 0) for outer in found)
            if total > _MOST_COMBINATIONS:
                return
            found = [(*outer, n) for outer in found for n in range(counts.get(outer, 0))]
        self.run.spend(len(found))
        yield from found

    def _children(self) -> Iterator[Clause]:
        """How many children each container has."""
        told = set()
        for row in self.rows:
            for depth, slot in enumerate(row.slots):
                if slot.container in told:
                    continue
                told.add(slot.container)
                sure = self._always(slot.container)
                done = set()
                for outer in itertools.islice(self._combinations(row, depth), _MOST_COMBINATIONS):
                    count = self.counts.get(slot.container, {}).get(outer, 0)
                    if not count and not sure:
                        continue
                    indices = tuple(
                        (other.variable, number)
                        for other, number in zip(row.slots, outer, strict=False)
                        if other.variable in slot.count.expression.names
                    )
                    if (indices, count) not in done:
                        done.add((indices, count))
                        yield (Literal(slot.count.expression, slot.count.at, indices, count),)

    def _always(self, container: str) -> bool:
        """Whether children of a container would show themselves whatever the config."""
        return any(
            row.slots
            and row.slots[-1].container == container
            and not row.guards
            and not row.optional
            and not row.ties
            for row in self.rows
        )


def _indices(expression: Expression, row: _Row, numbers: Numbers) -> tuple[tuple[str, int], ...]:
    return tuple(
        (slot.variable, number)
        for slot, number in zip(row.slots, numbers, strict=False)
        if slot.variable in expression.names
    )


def _alone(rows: Sequence[_Row]) -> list[bool]:
    """Whether no other row can give the same name as this one, in their order.

    Two rows of one key can unless they have different numbers fixed at a place. A class may have
    ten thousand rows of a key, one for each expert; those that fix the same places are told apart
    by what they fix.
    """
    like: dict[tuple[Key, tuple[int, ...]], list[dict[int, int]]] = {}
    forms: dict[Key, dict[tuple[int, ...], None]] = {}
    for row in rows:
        fixed = dict(row.fixed)
        like.setdefault((row.key, tuple(sorted(fixed))), []).append(fixed)
        forms.setdefault(row.key, {})[tuple(sorted(fixed))] = None

    @functools.cache
    def seen(key: Key, places: tuple[int, ...], common: tuple[int, ...]) -> Counter[Numbers]:
        """How often rows that fix these places have which numbers at some of them."""
        return Counter(tuple([fixed[p] for p in common]) for fixed in like[key, places])

    def alone(row: _Row) -> bool:
        fixed, others = dict(row.fixed), -1  # it is one of those that are counted
        for places in forms[row.key]:
            common = tuple([p for p in places if p in fixed])
            others += seen(row.key, places, common)[tuple([fixed[p] for p in common])]
        return not others

    return list(map(alone, rows))
