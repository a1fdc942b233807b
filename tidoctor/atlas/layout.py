"""From the layout of a class and a config to tensors: names and shapes.

A layout is data (`ClassLayout`): templates of names with the expressions of their shapes and
conditions, and parts that are classes of their own. Whatever does not depend on an index
variable is evaluated once, so that the time goes into making names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Literal, NamedTuple

from tidoctor.atlas import families
from tidoctor.atlas.configs import Absent, Resolved
from tidoctor.atlas.data import Data, shown, spelt
from tidoctor.atlas.expression import LARGEST, Expression, NotCovered, Run, parse

Shape = tuple[int, ...]
Tensors = dict[str, Shape]
# A model whose layout on disk is the one in memory is "kept": its usual parts are so as well, and
# one of another type may have a form of its own.
Kind = Literal["memory", "disk", "kept"]

MOST_TENSORS = 400_000  # the largest published model has fewer than 100,000
MOST_CHILDREN = 20_000  # of one container: layers, experts
_MOST_STEPS = 5_000_000  # of all loops and expressions together
_DEEPEST = 8  # parts within parts
_TOO_MANY = f"the config asks for more than {MOST_TENSORS} tensors"

_VARIABLE = re.compile(r"\{([ijkl])\}")


class _Row(NamedTuple):
    """A template of names, taken apart at its index variables."""

    pieces: tuple[str, ...]  # what stands between the indices
    variables: tuple[str, ...]
    counts: tuple[Expression, ...]  # how many values each index has
    condition: Expression | None
    condition_at: int  # how many indices must be known to decide it
    shape: tuple[Expression, ...]
    shape_reads: tuple[str, ...]  # which indices it depends on


class _Part(NamedTuple):
    row: _Row  # its prefix as a template without shape
    class_name: str
    task: str
    config: str
    without: tuple[str, ...]


class _Layout(NamedTuple):
    rows: tuple[_Row, ...]
    parts: tuple[_Part, ...]
    pinned: Mapping[str, list[object]]
    uncovered: str  # why nothing is known of it, "" where something is


class Tie(NamedTuple):
    """A template of names that share the bytes of others while a condition holds."""

    alias: str
    target: str
    condition: Expression | None


class Class:
    """The facts about one class, ready for use.

    Attributes:
        name: the class.
        model_type: of the config that it is built from.
        ties, unsaved: templates, in memory names and, where those differ, also in disk names.
        missing_ok, unexpected_ok: regular expressions of names that the loader lets pass.
        verified: what the facts were held against.
    """

    def __init__(self, name: str, facts: Mapping[str, Any]) -> None:
        self.name = name
        self.model_type: str = facts["config"]
        self.ties = tuple(
            Tie(alias, target, None if condition is True else parse(condition))
            for alias, target, condition in facts.get("ties", ())
        )
        self.unsaved: tuple[str, ...] = tuple(facts.get("unsaved", ()))
        self.missing_ok: tuple[str, ...] = tuple(facts.get("missing_ok", ()))
        self.unexpected_ok: tuple[str, ...] = tuple(facts.get("unexpected_ok", ()))
        self.verified: Mapping[str, Any] = facts.get("verified", {})
        self._facts = facts

    @functools.cached_property
    def memory(self) -> _Layout:
        """The layout of the model in memory."""
        return _compiled(self._facts["memory"])

    @functools.cached_property
    def disk(self) -> _Layout | None:
        """That of a fresh save, where it differs otherwise than by what is left out."""
        return _compiled(self._facts["disk"]) if "disk" in self._facts else None

    def check(self, config: Resolved) -> None:
        """Raise NotCovered unless the facts hold for this config."""
        if config.foreign and config.model_type != self.model_type:
            raise NotCovered(f"{self.name} was never built from a {config.model_type} config")
        _check_pinned(self.name, config, self._facts.get("pinned", {}))
        for path, length in self._facts.get("lengths", {}).items():
            value = _held(config, path)
            if isinstance(value, list | tuple) and len(value) != length:
                known = f"what is known of {self.name} holds for {length}"
                raise NotCovered(f"`{path}` has {len(value)} items; {known}")
        for path, words in self._facts.get("words", {}).items():
            value = _held(config, path)
            for word in value if isinstance(value, list | tuple) else ():
                if word not in words:
                    known = f"what is known of {self.name} holds for {', '.join(words)}"
                    raise NotCovered(f"a member of `{path}` is {shown(word)}; {known}")
        for path, most in self._facts.get("most", {}).items():
            value = _held(config, path)
            if type(value) is not int or value > most:
                known = f"what is known of {self.name} holds up to {most}"
                raise NotCovered(f"`{path}` is {shown(value)}; {known}")
        for path, least in self._facts.get("least", {}).items():
            value = _held(config, path)
            if type(value) is int and value < least:
                known = f"what is known of {self.name} holds from {least} on"
                raise NotCovered(f"`{path}` is {value}; {known}")


class Expansion:
    """The tensors of classes under configs; one for each question, so that its limits count.

    `place` is what stands before all names of a model within another one: each is made once.
    """

    def __init__(self, source: Data) -> None:
        self._data = source
        self._classes: dict[str, Class] = {}
        self._left = MOST_TENSORS
        self._run = Run(_nothing, _MOST_STEPS)
        self._under: list[str] = []
        # Whether a part of a type that the file chose was met that has a form on disk of its own.
        self.apart = False

    def class_(self, name: str) -> Class:
        """The facts about a class. Raises NotCovered for one that was not learned."""
        if name not in self._classes:
            self._classes[name] = Class(name, self._data.layout(name))
        return self._classes[name]

    def memory(self, of: Class, config: Resolved) -> Tensors:
        """The tensors of the model in memory, tied ones under each of their names."""
        of.check(config)
        return self._expanded(of, of.memory, config, "memory")

    def disk(self, of: Class, config: Resolved, place: str = "") -> Tensors:
        """The tensors that a fresh save writes."""
        tensors = self.uncut(of, config, place)
        for name in self.ties(of, config, tensors, place):
            del tensors[name]
        for name in matching(of.unsaved, tensors, place):
            tensors.pop(name, None)
        return tensors

    def uncut(self, of: Class, config: Resolved, place: str = "") -> Tensors:
        """The same, before tied and unsaved ones are left out."""
        of.check(config)
        if of.disk is None:
            return self._expanded(of, of.memory, config, "kept", place)
        return self._expanded(of, of.disk, config, "disk", place)

    def ties(
        self, of: Class, config: Resolved, tensors: Tensors, place: str = ""
    ) -> dict[str, str]:
        """Alias -> target for the ties in force whose alias is among the tensors.

        The target is one that is no alias itself. Of two rows for one alias, one in memory names
        and one in disk names, the one counts whose target is among the tensors. A part whose type
        the file chose brings ties of its own, in memory names.
        """
        found: dict[str, str] = {}
        for below, inner_class, inner in self._chosen(of, config):
            found |= self.ties(inner_class, inner, tensors, place + below)
        for tie in of.ties:
            for alias, indices in _instances(place + tie.alias, tensors):
                if tie.condition is not None:
                    run = Run(_scope(config, indices), self._run.left)
                    holds = tie.condition.value(run)
                    self._run.left = run.left - 10
                    if not holds:
                        continue
                target = place + _filled(tie.target, indices)
                if target in tensors or alias not in found:
                    found[alias] = target
        return {alias: _root(alias, found) for alias in found}

    # --- expansion --------------------------------------------------------------------------

    def _expanded(
        self, of: Class, layout: _Layout, config: Resolved, kind: Kind, place: str = ""
    ) -> Tensors:
        if len(self._under) >= _DEEPEST:
            raise NotCovered(f"{self._under[0]} consists of parts of parts of parts without end")
        if layout.uncovered:
            raise NotCovered(f"the {kind} form of {of.name} is not covered: {layout.uncovered}")
        _check_pinned(of.name, config, layout.pinned)
        self._under.append(of.name)
        try:
            tensors: Tensors = {}
            filler = _Filler(config, self._run)
            for row in layout.rows:
                self._limit(filler.fill(row, tensors, self._left, place))
            for part in layout.parts:
                places: Tensors = {}
                filler.fill(part.row, places, MOST_TENSORS, place)
                if places:
                    tensors |= self._part(part, config, kind, list(places))
        finally:
            self._under.pop()
        return tensors

    def _chosen(self, of: Class, config: Resolved) -> Iterator[tuple[str, Class, Resolved]]:
        """Place, class and config of the parts whose type the file chose."""
        filler = _Filler(config, self._run)
        for part in of.memory.parts:
            places: Tensors = {}
            filler.fill(part.row, places, MOST_TENSORS)
            for place in places:
                inner = config.part(part.config)
                known = self.class_(self._name(part, inner))
                if part.task and inner.foreign:
                    yield place, known, inner
                else:
                    for below, chosen, each in self._chosen(known, inner):
                        yield place + below, chosen, each

    def _name(self, part: _Part, inner: Resolved) -> str:
        """The class of a part. Raises NotCovered where no class serves its config."""
        if not part.task:
            return part.class_name
        found = families.class_for(inner.model_type, part.task)
        if found is None:
            raise NotCovered(f"no class serves {inner.model_type} as {part.task}")
        return found

    def _part(self, part: _Part, config: Resolved, kind: Kind, places: Sequence[str]) -> Tensors:
        """The tensors of a part at each of its places."""
        inner = config.part(part.config)
        of = self.class_(self._name(part, inner))
        first, *others = places
        apart = inner.foreign and of.disk is not None
        self.apart = self.apart or apart
        if kind == "disk" or (kind == "kept" and apart):
            own = self.disk(of, inner, first)
        else:
            of.check(inner)
            own = self._expanded(of, of.memory, inner, kind, first)
        for left_out in matching(part.without, own, first):
            own.pop(left_out, None)
        self._limit(len(own) * len(others))  # once they were counted when they were made
        if others:
            below, shapes = [name[len(first) :] for name in own], list(own.values())
            for place in others:
                own |= zip(map(place.__add__, below), shapes, strict=True)
        return own

    def _limit(self, made: int) -> None:
        self._left -= made
        if self._left < 0:
            raise NotCovered(_TOO_MANY)


class _Filler:
    """Fills in the templates of one layout for one config."""

    def __init__(self, config: Resolved, shared: Run) -> None:
        self._shared = shared
        self._indices: dict[str, int] = {}
        self._look = _scope(config, self._indices)
        # What an expression is worth, by it and the values of the indices that it reads.
        self._known: dict[tuple[Expression, tuple[int, ...]], Any] = {}
        self._ends: dict[tuple[int, str], list[str]] = {}
        self._shapes: dict[tuple[tuple[Expression, ...], tuple[int, ...]], Shape] = {}

    def fill(self, row: _Row, tensors: Tensors, most: int, place: str = "") -> int:
        """Add the tensors of a template at a place, at most that many; how many they are."""
        before = len(tensors)
        self._descend(row, 0, place + row.pieces[0], tensors, before + most)
        return len(tensors) - before

    def _descend(self, row: _Row, at: int, name: str, tensors: Tensors, most: int) -> None:
        if row.condition is not None and row.condition_at == at and not self._worth(row.condition):
            return
        if at == len(row.variables):
            tensors[name] = self._shape(row)
            if len(tensors) > most:
                raise NotCovered(_TOO_MANY)
            return
        children = self._children(row.counts[at])
        if not children:
            return
        self._shared.spend(children)
        variable, piece = row.variables[at], row.pieces[at + 1]
        last = at + 1 == len(row.variables) and row.condition_at <= at
        if last and variable not in row.shape_reads:
            if len(tensors) + children > most:
                raise NotCovered(_TOO_MANY)
            shape = self._shape(row)
            names = map(name.__add__, self._tails(children, piece))
            tensors.update(zip(names, repeat(shape)))
            return
        for n in range(children):
            self._indices[variable] = n
            self._descend(row, at + 1, f"{name}{n}{piece}", tensors, most)
        del self._indices[variable]

    def _tails(self, children: int, piece: str) -> list[str]:
        """How the names of so many children end: as those of their siblings in other layers."""
        if (children, piece) not in self._ends:
            self._ends[children, piece] = [f"{n}{piece}" for n in range(children)]
        return self._ends[children, piece]

    def _worth(self, expression: Expression) -> Any:
        key = expression, tuple([n for v, n in self._indices.items() if v in expression.names])
        if key not in self._known:
            self._shared.spend(10)
            run = Run(self._look, self._shared.left)
            self._known[key] = expression.value(run)
            self._shared.left = run.left
        return self._known[key]

    def _children(self, expression: Expression) -> int:
        count = self._worth(expression)
        if type(count) is not int:
            raise NotCovered(f"{expression} is no whole number")
        if count > MOST_CHILDREN:
            raise NotCovered(f"{expression} is {count}, more than {MOST_CHILDREN}")
        return max(count, 0)

    def _shape(self, row: _Row) -> Shape:
        key = row.shape, tuple([self._indices[variable] for variable in row.shape_reads])
        if key not in self._shapes:
            self._shapes[key] = tuple(self._size(expression) for expression in row.shape)
        return self._shapes[key]

    def _size(self, expression: Expression) -> int:
        size = self._worth(expression)
        if type(size) is not int:
            raise NotCovered(f"{expression} is no whole number")
        if not 0 <= size < LARGEST:
            raise NotCovered(f"{expression} is {size}, which no size can be")
        return size


def matching(templates: Iterable[str], names: Iterable[str], place: str = "") -> list[str]:
    """The names that are instances of some template at a place."""
    found = []
    for template in templates:
        found += [name for name, _ in _instances(place + template, names)]
    return found


def _instances(template: str, names: Iterable[str]) -> list[tuple[str, dict[str, int]]]:
    """The names that a template stands for, each with the values of its index variables."""
    parts = _VARIABLE.split(template)
    if len(parts) == 1:
        return [(template, {})] if template in names else []
    seen: set[str] = set()
    pattern = ""
    for n, part in enumerate(parts):
        if n % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>[0-9]+)"
            seen.add(part)
    find = re.compile(pattern).fullmatch
    return [
        (name, {variable: int(number) for variable, number in m.groupdict().items()})
        for name in names
        if name.startswith(parts[0]) and (m := find(name))
    ]


def _filled(template: str, indices: Mapping[str, int]) -> str:
    return _VARIABLE.sub(lambda m: str(indices[m[1]]), template)


def _root(alias: str, ties: Mapping[str, str]) -> str:
    """What an alias stands for in the end."""
    passed = {alias}
    target = ties[alias]
    while target in ties:
        if target in passed:
            raise ValueError(f"ties in a circle: {alias}")
        passed.add(target)
        target = ties[target]
    return target


# --- from data to rows ---------------------------------------------------------------------------


def _compiled(facts: Mapping[str, Any]) -> _Layout:
    counts: Mapping[str, str] = facts.get("counts", {})
    rows = []
    for template, given in facts.get("tensors", {}).items():
        # A name that has several ranks, each under its condition, has a list of rows.
        several = isinstance(given, list) and bool(given) and isinstance(given[0], dict)
        for one in given if several else [given]:
            row = one if isinstance(one, dict) else {"shape": one}
            rows.append(_row(template, counts, row["shape"], row.get("if")))
    parts = tuple(
        _Part(
            _row(part["at"], counts, [], part.get("if")),
            part.get("class", ""),
            part.get("auto", ""),
            part["config"],
            tuple(part.get("without", ())),
        )
        for part in facts.get("parts", ())
    )
    return _Layout(tuple(rows), parts, facts.get("pinned", {}), facts.get("uncovered", ""))


def _row(
    template: str, counts: Mapping[str, str], shape: Iterable[str], condition: str | None
) -> _Row:
    pieces = _VARIABLE.split(template)
    variables = tuple(pieces[1::2])
    containers = [template[: m.end()] for m in _VARIABLE.finditer(template)]
    if lost := [container for container in containers if container not in counts]:
        raise ValueError(f"no count for {lost[0]!r}")
    sizes = tuple(map(parse, shape))
    guard = None if condition is None else parse(condition)
    return _Row(
        tuple(pieces[::2]),
        variables,
        tuple(parse(counts[container]) for container in containers),
        guard,
        max((n for n, name in enumerate(variables, 1) if guard and name in guard.names), default=0),
        sizes,
        tuple(name for name in variables if any(name in size.names for size in sizes)),
    )


# --- values --------------------------------------------------------------------------------------


def _scope(config: Resolved, indices: Mapping[str, int]) -> Callable[[str], object]:
    value = config.value
    return lambda name: indices[name] if name in indices else value(name)


def _nothing(name: str) -> object:
    raise NotCovered(f"nothing is known of `{name}`")


def _held(config: Resolved, path: str) -> object:
    """A field; None also where it does not exist or there is no sub-config to have it."""
    *way, last = path.split(".")
    here: object = config
    try:
        for step in way:
            here = here.value(step) if isinstance(here, Resolved) else None
        return here.value(last) if isinstance(here, Resolved) else None
    except Absent:
        return None


def _check_pinned(name: str, config: Resolved, pinned: Mapping[str, list[object]]) -> None:
    """Raise NotCovered unless each of these fields has one of its values."""
    for path, values in pinned.items():
        value = _held(config, path)
        if not any(_same(value, known) for known in values):
            some = ", ".join(map(spelt, values[:8])) + (", …" if values[8:] else "")
            known = f"what is known of {name} holds for {some}"
            raise NotCovered(f"`{path}` is {spelt(value)}; {known}")


def _same(value: object, known: object) -> bool:
    """Equality to which true is not 1."""
    if isinstance(value, bool) or isinstance(known, bool):
        return value is known
    if isinstance(value, tuple | range):
        value = list(value)
    return value == known
