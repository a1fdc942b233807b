"""Another class or another setting under which the tensors would be right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tidoctor.atlas import data, families
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.patterns import template
from tidoctor.rules.fitting import Fit, Shapes, fit

_MOST_CANDIDATES = 80  # classes tried in the place of one that does not fit
_MOST_TRIED = 3_000_000  # tensors made while looking for a setting or a class


def candidates(class_name: str, files: Shapes) -> list[tuple[str, str]]:
    """(class, model type) of the classes that could give these names.

    They have the embedding under a name of the files and all other names in their layouts. Those
    of the same model type come first, then those of the same task; the class itself is left out.
    """
    from tidoctor.atlas import identify

    own = str(data.current().layout(class_name)["config"])
    facts = families.class_facts(class_name)
    if facts is None:
        return []
    names = identify.keys(files)
    found = []
    for name in data.current().class_names:
        other = families.class_facts(name)
        if other is None or name == class_name or other.embedding not in files:
            continue
        if identify.has_keys(name, names):
            model_type = str(data.current().layout(name)["config"])
            found.append((model_type != own, other.task != facts.task, name, model_type))
    return [(name, model_type) for _, _, name, model_type in sorted(found)]


class Others(NamedTuple):
    """Classes that the files fit exactly under the same settings.

    Attributes:
        classes: (class, model type).
        complete: whether every class that could fit was tried, so that one alone is proven.
    """

    classes: tuple[tuple[str, str], ...] = ()
    complete: bool = True


def others(settings: Mapping[str, object], own: Fit) -> Others:
    """Other classes that the files fit exactly.

    Missing tensors that both lack and that lie outside the layers (a lost head) do not count.
    Where classes of the same model type fit, only they are told; else those of the same task, if
    there are any.
    """
    class_name = own.expected.class_name
    lost = {gap.name for gap in own.missing if not _numbered(gap.name)}
    found: list[tuple[str, str]] = []
    complete = True
    made = 0
    names = candidates(class_name, own.files)
    for name, model_type in names[:_MOST_CANDIDATES]:
        if model_type != own.expected.model_type and _kin(found, own):
            break
        made += len(own.files)
        if made > _MOST_TRIED // 4:
            complete = False
            break
        try:
            other = _fitted({**settings, "model_type": model_type}, name, own)
        except NotCovered:
            complete = False
            continue
        odd = [gap for gap in other.missing if gap.name not in lost]
        if not odd and not other.mismatched and not other.unexpected and not other.unclear:
            found.append((name, model_type))
    if kin := _kin(found, own):
        return Others(kin, complete)
    task = _task(class_name)
    alike = tuple(each for each in found if _task(each[0]) == task)
    return Others(alike or tuple(found), complete and len(names) <= _MOST_CANDIDATES)


def _fitted(settings: Mapping[str, object], class_name: str, own: Fit) -> Fit:
    """How the same files fit another class or config."""
    return fit(expectation(settings, class_name), settings, own.files)


def _kin(found: Sequence[tuple[str, str]], own: Fit) -> tuple[tuple[str, str], ...]:
    return tuple(each for each in found if each[1] == own.expected.model_type)


def _task(name: str) -> str | None:
    facts = families.class_facts(name)
    return facts.task if facts else None


def _numbered(name: str) -> bool:
    return bool(template(name)[1])


class Correction(NamedTuple):
    """One key of the config whose other value makes every shape right.

    `missing` are the tensors that the class would still lack.
    """

    path: tuple[str, ...]
    old: object
    new: object
    missing: frozenset[str] = frozenset()


def corrections(
    settings: Mapping[str, object], own: Fit, explained: frozenset[str] = frozenset()
) -> list[Correction]:
    """Changes of a single key to a value taken from the shapes that explain all misfits.

    Where a key has several such values (a number of heads that divides the same width), two of them
    are told. Misfits that are `explained` otherwise may stay.
    """
    wanted = {m.name: m for m in own.mismatched if m.name not in explained}
    if not wanted:
        return []
    tried = _Trial(settings, own, explained)
    found: list[Correction] = []
    ratios = {
        (have, want)
        for misfit in wanted.values()
        if len(misfit.found) == len(misfit.expected)
        for have, want in zip(misfit.found, misfit.expected, strict=True)
        if have != want and have > 0
    }
    for path, old in _numbers(settings):
        good = [new for new in sorted(_values(old, ratios)) if tried(path, new) is not None]
        if len(good) == 1:  # is it the only one, or would its double and its half do as well?
            near = [n for n in (good[0] * 2, good[0] // 2, good[0] * 4, 1) if n > 0]
            near = [n for n in near if n not in (old, good[0])]
            good += [n for n in near if tried(path, n) is not None][:1]
        for new in good[:2]:
            found.append(Correction(path, old, new, tried(path, new) or frozenset()))
    return found


class _Trial:
    """Tries other values of keys until too many tensors were made."""

    def __init__(
        self, settings: Mapping[str, object], own: Fit, explained: frozenset[str]
    ) -> None:
        self.settings, self.own, self.explained = settings, own, explained
        self.left = _MOST_TRIED
        self.known: dict[tuple[tuple[str, ...], int], frozenset[str] | None] = {}

    def __call__(self, path: tuple[str, ...], value: int) -> frozenset[str] | None:
        """What is missing with this value; None where a shape is wrong or more is missing."""
        if (path, value) not in self.known:
            self.known[path, value] = self._missing(path, value)
        return self.known[path, value]

    def _missing(self, path: tuple[str, ...], value: int) -> frozenset[str] | None:
        own = self.own
        self.left -= len(own.expected.memory)
        if self.left < 0:
            return None
        changed = _changed(self.settings, path, value)
        name = own.expected.class_name
        try:
            promise = expectation(changed, name)
            disk = promise.saved if promise.saved is not None else promise.memory
            odd = (m for m in own.mismatched if m.name not in self.explained)
            if not all(disk.get(m.name, m.found) == m.found for m in odd):
                return None
            other = _fitted(changed, name, own)
        except NotCovered:
            return None
        wrong = {m.name for m in other.mismatched} - self.explained
        missing = frozenset(gap.name for gap in other.missing)
        more = missing - {gap.name for gap in own.missing}
        return None if wrong or more else missing


def _values(old: int, ratios: Iterable[tuple[int, int]]) -> set[int]:
    """Values that would bring a dimension from what is expected to what is there."""
    values: set[int] = set()
    for have, want in ratios:
        values |= {have, old + have - want}
        for over, under in ((have, want), (want, have)):  # sizes that grow with it, and shrink
            if under and (old * over) % under == 0:
                values.add(old * over // under)
    return {v for v in values if v > 0 and v != old}


class Surplus(NamedTuple):
    """Whole layers in the files beyond those that the class has.

    Attributes:
        root: what stands in front of their numbers.
        numbers: theirs.
        names: their tensors.
        cure: the one key whose change would give them a place, if there is one.
    """

    root: str
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    cure: Correction | None = None


def surplus_layers(
    settings: Mapping[str, object], own: Fit, left: Iterable[str]
) -> tuple[Surplus, ...]:
    """Left over tensors that are made like a layer which the class has."""
    there = _layers(name for name in own.files if name not in own.unexpected)
    kinds: dict[str, set[frozenset[str]]] = {}
    for (root, _), names in there.items():
        kinds.setdefault(root, set()).add(frozenset(names))
    more: dict[str, dict[int, list[str]]] = {}
    for (root, number), tails in _layers(left).items():
        if any(_is_like(frozenset(tails), kind) for kind in kinds.get(root, ())):
            more.setdefault(root, {})[number] = list(tails.values())
    return tuple(
        Surplus(
            root,
            tuple(sorted(layers)),
            tuple(name for number in sorted(layers) for name in layers[number]),
            _longer(settings, own, layers),
        )
        for root, layers in sorted(more.items())
    )


def _is_like(tails: frozenset[str], kind: frozenset[str]) -> bool:
    """Whether a layer is made of the parts of another, of most of them at least."""
    return tails <= kind and 2 * len(tails) > len(kind)


def _layers(names: Iterable[str]) -> dict[tuple[str, int], dict[str, str]]:
    """(root, number of the layer) -> what stands behind the number, and the whole name."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for name in names:
        pieces, numbers = template(name)
        if numbers:
            tail = name[len(pieces[0]) :].partition(".")[2]
            found.setdefault((pieces[0], numbers[0]), {})[tail] = name
    return found


def _longer(
    settings: Mapping[str, object], own: Fit, layers: Mapping[int, Sequence[str]]
) -> Correction | None:
    """The one count that would have to be larger."""
    name = own.expected.class_name
    wanted = {each for names in layers.values() for each in names}
    count = max(layers) + 1
    found = []
    for path, old in _numbers(settings, counts=True):
        if not old < count:
            continue
        try:
            other = _fitted(_changed(settings, path, count), name, own)
        except NotCovered:
            continue
        lost = {gap.name for gap in other.missing} - {gap.name for gap in own.missing}
        if not wanted & set(other.unexpected) and not lost and not other.mismatched:
            found.append(Correction(path, old, count))
    return found[0] if len(found) == 1 else None


_COUNT = re.compile(r".*(?:layers?|depth|blocks)")


def _numbers(
    settings: Mapping[str, object], at: tuple[str, ...] = (), *, counts: bool = False
) -> Iterator[tuple[tuple[str, ...], int]]:
    """(path, value) of the whole numbers in the settings, two levels deep.

    With `counts` those that count layers, else all others but ids.
    """
    for key, value in settings.items():
        if type(value) is int and 0 < value < 1 << 40:
            counting = _COUNT.fullmatch(key) is not None
            if counting is counts and not key.endswith(("token_id", "token_index")):
                yield (*at, key), value
        elif isinstance(value, Mapping) and not at and key.endswith("config"):
            yield from _numbers(value, (*at, key), counts=counts)


def _changed(
    settings: Mapping[str, object], path: tuple[str, ...], value: object
) -> dict[str, object]:
    out = dict(settings)
    if len(path) == 1:
        out[path[0]] = value
        return out
    inner = settings[path[0]]
    out[path[0]] = _changed(inner if isinstance(inner, Mapping) else {}, path[1:], value)
    return out
