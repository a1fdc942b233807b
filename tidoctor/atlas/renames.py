"""How names in a file become names in memory when transformers loads it.

Two steps. `conversions` collects the rules for a class: its own and those of its submodels,
each within the place where the submodel sits, the legacy spellings last. `load` sends every
name of a file through them and says what each tensor in memory would be fed from, what
nothing feeds, what feeds nothing and where the sizes differ. Ties and the lists of names that
a class ignores are left to the caller.

The rules are data (`renames.json`, written by `tidoctor.atlas.learn.renames`). The order of
the steps, and what an operation does to a shape, follow transformers 5.23:
core_model_loading.py (`rename_source_key`, `convert_and_load_state_dict_in_model` and the
operations) and conversion_mapping.py (`get_model_conversion_mapping`). Quantised files, whose
rules come from a quantiser, are not meant here.

The names are somebody's: each is looked at once, and none longer than `LONGEST` at all. No
pattern of the data has more than one unbounded repetition, so a name costs at most its
length squared.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple

from tidoctor.atlas import families
from tidoctor.atlas.expression import NotCovered

Shape = tuple[int, ...]
# Shapes, or what else stands for tensors (`Ways`), by source pattern (by target pattern at the
# end): a list as gathered, or one tensor.
_Values = dict[str, Any]

LONGEST = 256  # characters of a name; those of the library itself stay below 200
_MOST_LACKING = 16  # names given as examples of what an incomplete merge lacks
_DEEPEST = 8  # submodels in submodels


# --- rules -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """One conversion of names, with the operations on the tensors if it has any.

    Attributes:
        sources: regular expressions, except that `*.` stands for anything up to a dot.
        targets: what a match becomes, `\\1` being the first group of the source that matched.
            A name takes the first target; the others are further results of the operations.
        operations: name and parameters, in order; empty for a mere renaming.
        paired: the n-th source becomes the n-th target, but only once the first has been seen.
        offset: added to the number that the group caught.
        scope: the submodel the rule is for, as a path below the base prefix; None for
            everywhere.
        base: the base prefix of the class that is loaded, which may stand before the scope.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    paired: bool = False
    offset: int = 0
    scope: str | None = None
    base: str = ""


def conversions(
    name: str, prefix: str, model_types: Mapping[str, str] | None = None
) -> tuple[Rule, ...]:
    """The rules with which transformers loads a class, in the order it applies them.

    Args:
        name: the class.
        prefix: its `base_model_prefix`.
        model_types: config path -> model type of the sub-configs, where config.json chooses
            them (`{"text_config": "qwen2"}`); the library's defaults elsewhere.

    Raises:
        NotCovered: the class was not learned, or config.json chooses a part whose class is
            not known.
    """
    claimed: dict[str, list[str]] = {}  # class or model type -> places that brought its rules
    found: list[Rule] = []
    for at, known, model_type in _modules(name, dict(model_types or {})):
        if _within(at, claimed.get(known, ())):
            continue
        rows = _rows(known)
        key = known
        if rows is None:
            key = model_type
            if _within(at, claimed.get(key, ())):
                continue
            rows = _rows(key)
        if rows is None:
            continue
        scope = at.removeprefix(prefix).removeprefix(".") if at else None
        found += [_rule(row, scope, prefix) for row in rows]
        claimed.setdefault(known, []).append(at)
        if key == model_type:
            claimed.setdefault(key, []).append(at)
    return (*found, *(_rule(row, None, prefix) for row in _rows("legacy") or ()))


def _within(at: str, places: Iterable[str]) -> bool:
    """Whether a submodel lies below one of the places."""
    return any(not place or at.startswith(f"{place}.") for place in places)


def _modules(name: str, model_types: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(place, class, model type) of a class and of the submodels that may bring rules."""
    yield "", name, str(_row(name).get("type", ""))
    yield from _parts(name, "", "", model_types, _DEEPEST)


def _parts(
    name: str, at: str, path: str, model_types: Mapping[str, str], depth: int
) -> Iterator[tuple[str, str, str]]:
    if not depth:
        raise NotCovered(f"{name}: submodels nested too deeply")
    replaced: list[str] = []
    for part in _row(name).get("parts", ()):
        place = _joined(at, part["at"])
        if _within(place, replaced):
            continue
        config = _joined(path, part["config"]) if "config" in part else None
        chosen = model_types.get(config, part["type"]) if part.get("open") and config else None
        if chosen is None or config is None or chosen == part["type"]:
            yield place, part["class"], part["type"]
            continue
        replaced.append(place)
        other = _in_its_place(part["class"], part["type"], chosen)
        yield place, other, chosen
        yield from _parts(other, place, config, model_types, depth - 1)


def _in_its_place(name: str, model_type: str, chosen: str) -> str:
    """The class that does for a chosen model type what a class does for its own."""
    for task, each in families.classes_of(model_type).items():
        if each == name:
            other = families.class_for(chosen, task)
            if other is not None:
                return other
    raise NotCovered(f"it is not known which class takes the place of {name} for {chosen}")


def _joined(before: str, after: str) -> str:
    return f"{before}.{after}" if before and after else before or after


def _row(name: str) -> Mapping[str, Any]:
    """What was learned of a class; empty for one that needs no row."""
    data = _data()
    row: Mapping[str, Any] | None = data["classes"].get(name)
    if row is not None:
        return row
    if name in data["unlearned"] or families.class_facts(name) is None:
        raise NotCovered(f"the conversions of {name} were not learned")
    return {}


def _rows(key: str) -> Sequence[Mapping[str, Any]] | None:
    """The rules kept under a class name or model type."""
    data = _data()
    rows: Sequence[Mapping[str, Any]] | None = data["rules"].get(data["same"].get(key, key))
    return rows


def _rule(row: Mapping[str, Any], scope: str | None, base: str) -> Rule:
    return Rule(
        sources=_many(row["from"]),
        targets=_many(row["to"]),
        operations=tuple((name, how) for name, how in row.get("through", ())),
        paired=row.get("paired", False),
        offset=row.get("offset", 0),
        scope=scope,
        base=base,
    )


def _many(patterns: str | list[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


@functools.cache
def _data() -> dict[str, Any]:
    path = resources.files("tidoctor.atlas").joinpath("renames.json")
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


# --- one name through one rule ---------------------------------------------------------------


class _Renamer:
    """A rule made ready. Keeps, for paired rules, whether the first source has been seen."""

    __slots__ = ("_active", "_first", "_needles", "_order", "_search", "_second", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._search = _pattern(rule.sources).search
        self._needles = tuple(_needle(source) for source in rule.sources)
        scope = f"{rule.scope}." if rule.scope else ""
        self._first = (f"{rule.base}." if rule.base else "") + scope
        self._second = scope
        self._active = False
        self._order = _tried(rule.sources)

    def may_match(self, text: str) -> bool:
        """Whether some line of a text may be a name that the rule applies to."""
        return any(needle in text for needle in self._needles)

    def __call__(self, name: str) -> tuple[str, str] | None:
        """The new name and the source pattern, None where the rule does not apply."""
        for needle in self._needles:
            if needle in name:
                break
        else:
            return None
        rule = self.rule
        before = ""
        if rule.scope is not None:
            before = self._first
            if not name.startswith(before):
                before = self._second
                if not name.startswith(before):
                    return None
            name = name[len(before) :]
        match = self._search(name)
        if match is None:
            return None
        which = 0
        if len(rule.sources) > 1:
            which = next(at for at in self._order if match.group(f"g{at}") is not None)
        if rule.paired:
            self._active = self._active or which == 0
            if not self._active:
                return None
        target = rule.targets[which if rule.paired else 0]
        if "\\" in target:
            caught = match.group(match.re.groupindex[f"g{which}"] + 1) or ""
            if rule.offset and caught.isdecimal():
                caught = str(int(caught) + rule.offset)
            target = target.replace("\\1", caught)
        # The first place where the matched text stands, as the library does it: with a
        # condition on what precedes, that need not be where the match was found.
        return before + name.replace(match.group(), target, 1), rule.sources[which]


def _tried(sources: Sequence[str]) -> list[int]:
    """The order of the alternatives: the longest source first."""
    return sorted(range(len(sources)), key=lambda at: -len(sources[at]))


@functools.lru_cache(maxsize=4096)
def _pattern(sources: tuple[str, ...]) -> re.Pattern[str]:
    branches = []
    for at in _tried(sources):
        body = sources[at].replace("*.", r".*\.")
        if re.search(r"[a-zA-Z0-9]$", body):  # not in the middle of a longer word
            body += r"(?!\w)"
        branches.append(f"(?P<g{at}>{body})")
    return re.compile("|".join(branches))


@functools.lru_cache(maxsize=4096)
def _needle(source: str) -> str:
    """A text that stands in every name the source matches (to skip most names cheaply)."""
    plain = source
    while True:  # groups and classes from the inside out
        less = re.sub(r"\((?:\\.|[^()\\])*\)[*+?]?|\[[^\]]*\][*+?]?", "\0", plain)
        if less == plain:
            break
        plain = less
    if "|" in plain:
        return ""
    plain = re.sub(r"\w[*?]", "\0", plain.replace("*.", "\0"))
    plain = re.sub(r"\\[A-Za-z0-9][*+?]?", "\0", plain)
    return max(re.findall(r"\w+", plain), key=len, default="")


# --- shapes through operations ---------------------------------------------------------------


class _Failed(Exception):
    """The library would fail at this operation."""


class _Unclear(Exception):
    """What the operation yields is not known here."""


class Ways(NamedTuple):
    """How tensors are put together and cut, for what stands for them: a shape, or more than that.

    Attributes:
        shape: of one.
        stacked: several along a new dimension.
        joined: several along a dimension they have.
        cut: one to `size` from `begin` on along a dimension.
    """

    shape: Callable[[Any], Shape]
    stacked: Callable[[Sequence[Any], int], Any]
    joined: Callable[[Sequence[Any], int], Any]
    cut: Callable[[Any, int, int, int], Any]


class _Job(NamedTuple):
    """What an operation may ask for: the patterns, the first name in memory, the shapes there."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    name: str
    expected: Mapping[str, Shape]
    ways: Ways

    def only_target(self) -> str:
        if len(self.targets) > 1:
            raise _Failed("several targets for one result")
        return self.targets[0]


def _one(values: _Values) -> Any:
    """The first tensor of the first pattern, which is all that some operations look at."""
    first = next(iter(values.values()))
    return first[0] if isinstance(first, list) else first


def _has(shape: Shape, dim: int) -> int:
    if not 0 <= dim < len(shape):
        raise _Failed(f"a tensor of {len(shape)} dimensions has no dimension {dim}")
    return shape[dim]


def _with(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _stacked(shapes: Sequence[Shape], dim: int) -> Shape:
    if any(shape != shapes[0] for shape in shapes):
        raise _Failed("the tensors to be stacked differ in shape")
    if not 0 <= dim <= len(shapes[0]):
        raise _Failed(f"tensors of {len(shapes[0])} dimensions cannot be stacked along {dim}")
    return (*shapes[0][:dim], len(shapes), *shapes[0][dim:])


def _joined_shape(shapes: Sequence[Shape], dim: int) -> Shape:
    shapes = [shape for shape in shapes if shape != (0,)] or list(shapes[:1])
    if not shapes:
        raise _Failed("nothing to be concatenated")
    total = sum(_has(shape, dim) for shape in shapes)
    if any(_with(shape, dim, 0) != _with(shapes[0], dim, 0) for shape in shapes):
        raise _Failed("the tensors to be concatenated differ in their other dimensions")
    return _with(shapes[0], dim, total)


def _cut_shape(shape: Shape, dim: int, begin: int, size: int) -> Shape:
    return _with(shape, dim, size)


SHAPES = Ways(shape=lambda shape: shape, stacked=_stacked, joined=_joined_shape, cut=_cut_shape)


def _merge(values: _Values, job: _Job, dim: int = 0) -> _Values:
    alone = len(values) == 1
    return {
        job.only_target() if alone else source: (
            job.ways.stacked(tensors, dim) if isinstance(tensors, list) else tensors
        )
        for source, tensors in values.items()
    }


def _concatenate(values: _Values, job: _Job, dim: int = 0, **_: object) -> _Values:
    tensors: list[Any] = []
    for source in job.sources:
        gathered = values.get(source, [])
        tensors += gathered if isinstance(gathered, list) else [gathered]
    return {job.only_target(): job.ways.joined(tensors, dim)}


def _chunk(values: _Values, job: _Job, dim: int = 0, num_shards_attribute: str = "") -> _Values:
    if num_shards_attribute:
        raise _Unclear("the number of pieces depends on the config")
    if len(values) > 1:
        raise _Failed("several tensors where one is to be cut")
    tensor = _one(values)
    whole, count = _has(job.ways.shape(tensor), dim), len(job.targets)
    size = -(-whole // count)
    starts = range(0, whole, size) if size else [0] * count
    return {
        target: job.ways.cut(tensor, dim, start, min(size, whole - start))
        for target, start in zip(job.targets, starts, strict=False)
    }


def _split(values: _Values, job: _Job, dim: int = 0) -> _Values:
    if len(values) > 1:
        raise _Failed("several tensors where one is to be cut")
    tensor = _one(values)
    shape: Shape = job.ways.shape(tensor)
    found: _Values = {}
    total = 0
    for target in job.targets:
        wanted = job.expected.get(job.name.replace(job.targets[0], target))
        if wanted is None:
            raise _Failed(f"the model has no {target}")
        found[target] = job.ways.cut(tensor, dim, total, _has(wanted, dim))
        total += _has(wanted, dim)
    if total != _has(shape, dim):
        raise _Failed(f"{total} rows are wanted of dimension {dim}, which has {shape[dim]}")
    return found


def _transpose(
    values: _Values, job: _Job, dim0: int = 0, dim1: int = 1, check_dims: bool = False
) -> _Values:
    if len(values) != 1:
        raise _Failed("several tensors where one is to be transposed")
    if len(job.targets) > 1 and len(job.sources) > 1:
        raise _Failed("several sources and several targets")
    shape = _one(values)
    if not check_dims or shape != job.expected.get(job.name):
        first, second = _has(shape, dim0), _has(shape, dim1)
        shape = _with(_with(shape, dim0, second), dim1, first)
    return {job.sources[0] if len(job.targets) > 1 else job.targets[0]: shape}


def _interleave(values: _Values, job: _Job, dim: int = 0, inverse: bool = False) -> _Values:
    shape = _one(values)
    if _has(shape, dim) % 2:
        raise _Failed(f"dimension {dim} has an odd size")
    return {job.targets[0]: shape}


def _permute(values: _Values, job: _Job, **_: object) -> _Values:
    """Rows change their order, never the shape. Sizes that the heads do not divide fail there."""
    through = (len(job.targets) > 1) != (len(job.sources) > 1)
    if not through and (len(job.targets) > 1 or len(job.sources) > 1):
        raise _Failed("several sources and several targets")
    return {
        source if through else job.targets[0]: (
            shapes[0] if isinstance(shapes, list) and shapes else shapes
        )
        for source, shapes in values.items()
    }


def _share_out(values: _Values, job: _Job, stack_dim: int = 0, concat_dim: int = 1) -> _Values:
    """The experts of each source in equal runs, one run for each target."""
    found: dict[str, list[Shape]] = {}
    for source in job.sources:
        shapes = values.get(source)
        if not isinstance(shapes, list):
            raise _Failed(f"nothing for {source}")
        run = -(-len(shapes) // len(job.targets))
        for at, target in enumerate(job.targets):
            part = shapes[at * run : (at + 1) * run]
            if not part:
                raise _Failed(f"too few tensors for {source}")
            found.setdefault(target, []).append(_stacked(part, stack_dim))
    return {target: _joined_shape(shapes, concat_dim) for target, shapes in found.items()}


_OPERATIONS: Mapping[str, Callable[..., _Values]] = {
    "MergeModulelist": _merge,
    "Concatenate": _concatenate,
    "Chunk": _chunk,
    "Split": _split,
    "Transpose": _transpose,
    "Interleave": _interleave,
    "PermuteForRope": _permute,
    "ErnieFuseAndSplitTextVisionExperts": _share_out,
}
_MOVING = frozenset({"MergeModulelist", "Concatenate", "Chunk", "Split"})
_IN_ORDER = {"ErnieFuseAndSplitTextVisionExperts"}  # here the order of the experts matters


# --- a whole file ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fed:
    """What a tensor in memory is fed from.

    Attributes:
        sources: names in the file.
        through: what happens on the way: "renamed", "prefix added", "prefix stripped", and
            the library's names of the operations. Empty where the name is the same.
        feed: all that was gathered with it, and the first name in memory that it feeds.
    """

    sources: tuple[str, ...]
    through: tuple[str, ...] = ()
    feed: Feed | None = field(default=None, repr=False, compare=False)


class Missing(NamedTuple):
    """A tensor in memory that stays without values.

    Attributes:
        sources: what the file has for it, where that is not enough; else empty.
        lacking: names (at most 16) that would complete it.
        reason: why what is there does not do.
    """

    sources: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    reason: str = ""


class Mismatch(NamedTuple):
    """A tensor whose shape, once loaded, is not the wanted one.

    Attributes:
        found: the shape after all operations.
        wanted: the shape in memory.
        sources: names in the file.
        lacking: names (at most 16) that would make the shape right, where some are absent.
        through: as in `Fed`.
    """

    found: Shape
    wanted: Shape
    sources: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loading:
    """What the loader would make of a file. Memory names are keys except where said.

    Attributes:
        fed: tensors that get their values, in the right shape.
        missing: tensors that get none.
        mismatched: tensors whose values have the wrong shape.
        unexpected: name in the file -> the names under which the loader reports it.
        surplus: name in the file -> the tensor that already had been given another one.
        unknown: tensors and names in the file of which nothing can be said, with the reason.
        raises: sentences about what makes the loader raise instead of finishing.
    """

    fed: Mapping[str, Fed]
    missing: Mapping[str, Missing]
    mismatched: Mapping[str, Mismatch]
    unexpected: Mapping[str, tuple[str, ...]]
    surplus: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    raises: tuple[str, ...] = ()


def load(
    files: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    rules: Sequence[Rule] = (),
    prefix: str = "",
) -> Loading:
    """Send the names of a file through the rules.

    Args:
        files: name -> shape of all the tensors in all the shards.
        expected: name -> shape of all the tensors in memory, tied ones and saved buffers
            included.
        rules: what `conversions` gave.
        prefix: the class's `base_model_prefix`.
    """
    ordered = any(rule.paired for rule in rules) or any(
        name in _IN_ORDER for rule in rules for name, _ in rule.operations
    )
    gathered = None if ordered else _Gathering.over(files, expected, rules, prefix, hasty=True)
    if gathered is None:  # the order of the names decides something
        names = sorted(files, key=_natural)
        gathered = _Gathering.over(names, expected, rules, prefix, hasty=False)
        assert gathered is not None
    return gathered.outcome(files, expected)


@dataclass(slots=True)
class Feed:
    """What was gathered for one name in memory: names in the file by source pattern.

    `rule` is None for a tensor that is taken as it is.
    """

    first: str
    rule: Rule | None
    names: dict[str, list[str]]
    through: tuple[str, ...]


class _Collision(Exception):
    """Two names compete, and the one that sorts first wins."""


class _Gathering:
    """Where every name of a file goes."""

    def __init__(
        self, expected: Mapping[str, Shape], rules: Sequence[Rule], prefix: str, hasty: bool
    ) -> None:
        self.expected, self.prefix, self.hasty = expected, prefix, hasty
        self.renamings = [_Renamer(rule) for rule in rules if not rule.operations]
        self.converters = [_Renamer(rule) for rule in rules if rule.operations]
        # Of two converters with the same source the last counts, in whatever scope it is.
        self.owner = {s: rule for rule in rules if rule.operations for s in rule.sources}
        self.feeds: dict[str, Feed] = {}
        self.unexpected: dict[str, tuple[str, ...]] = {}
        self.surplus: dict[str, str] = {}
        self.unknown: dict[str, str] = {}

    @classmethod
    def over(
        cls,
        names: Iterable[str],
        expected: Mapping[str, Shape],
        rules: Sequence[Rule],
        prefix: str,
        *,
        hasty: bool,
    ) -> _Gathering | None:
        """Take all names; None when their order matters and it was not kept to (`hasty`)."""
        gathering = cls(expected, rules, prefix, hasty)
        names = list(names)
        gathering._leave_out_idle("\n".join(names))
        try:
            for name in names:
                gathering.take(name)
        except _Collision:
            return None
        return gathering

    def _leave_out_idle(self, text: str) -> None:
        """Let go of the rules of which no name holds what it would have to.

        Behind a renaming that is kept all are, since what it makes of a name may hold it.
        """
        able = [each.may_match(text) for each in self.renamings]
        self.renamings = self.renamings[able.index(True) :] if True in able else []
        if not self.renamings:
            self.converters = [each for each in self.converters if each.may_match(text)]

    def take(self, name: str) -> None:
        if len(name) > LONGEST:
            self.unknown[name] = f"a name longer than {LONGEST} characters"
            return
        renamed = name
        for renamer in self.renamings:
            turned = renamer(renamed)
            if turned is not None:
                renamed = turned[0]
        plain, source = renamed, None
        for renamer in self.converters:
            turned = renamer(renamed)
            if turned is not None:
                plain, source = turned
                break
        target, moved = self._prefixed(plain)
        if target not in self.expected and name in self.expected:
            # It was in order as it stood.
            (target, moved), source, renamed = self._prefixed(name), None, name
        if target not in self.expected:
            self._unmatched(name, target, source)
            return
        through = (*(("renamed",) if renamed != name else ()), *moved)
        feed = self.feeds.get(target)
        rule = None if source is None else self.owner[source]
        if feed is None:
            feed = self.feeds[target] = Feed(target, rule, {}, through)
        elif feed.rule is not rule or rule is None:
            if self.hasty:
                raise _Collision
            if feed.rule is None:
                self.surplus[name] = target
                return
        feed.names.setdefault(name if source is None else source, []).append(name)

    def _prefixed(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The name with the base prefix taken off or put on, where only that makes it known."""
        prefix = self.prefix
        if name.startswith(prefix) and name[len(prefix) + 1 :] in self.expected:
            return name[len(prefix) + 1 :], ("prefix stripped",)
        if f"{prefix}.{name}" in self.expected:
            return f"{prefix}.{name}", ("prefix added",)
        return name, ()

    def _unmatched(self, name: str, target: str, source: str | None) -> None:
        if source is None:
            self.unexpected[name] = (target,)
        else:
            targets = self.owner[source].targets
            self.unexpected[name] = tuple(target.replace(targets[0], each) for each in targets)

    def outcome(self, files: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Loading:
        """Run the operations and compare."""
        fed: dict[str, Fed] = {}
        mismatched: dict[str, Mismatch] = {}
        incomplete: dict[str, Missing] = {}
        raises: list[str] = []
        for first, feed in self.feeds.items():
            sources = tuple(name for names in feed.names.values() for name in names)
            through, rule = feed.through, feed.rule
            results = {first: files[sources[0]]}
            if rule is not None:
                through += tuple(name for name, _ in rule.operations)
                try:
                    results = _results(feed, rule, files, expected)
                except _Failed as reason:
                    told = Missing(sources, _lacking(first, feed, rule, expected), str(reason))
                    incomplete |= dict.fromkeys(_all_targets(first, rule, expected), told)
                    continue
                except _Unclear as reason:
                    targets = _all_targets(first, rule, expected)
                    self.unknown |= dict.fromkeys(targets, str(reason))
                    continue
            for target, shape in results.items():
                wanted = expected.get(target)
                if wanted is None:
                    raises.append(f"{sources[0]} yields {target}, which the model does not have")
                elif shape == wanted:
                    fed[target] = Fed(sources, through, feed)
                else:
                    lacking = _lacking(first, feed, rule, expected) if rule else ()
                    mismatched[target] = Mismatch(shape, wanted, sources, lacking, through)
        missing = {
            name: incomplete.get(name) or Missing()
            for name in expected
            if name not in fed and name not in mismatched and name not in self.unknown
        }
        return Loading(
            fed, missing, mismatched, self.unexpected, self.surplus, self.unknown, tuple(raises)
        )


def _results(
    feed: Feed, rule: Rule, files: Mapping[str, Shape], expected: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Shapes by memory name after the operations."""
    values = {s: [files[name] for name in names] for s, names in feed.names.items()}
    results = _converted(feed, rule, values, expected, SHAPES)
    if any(name == "PermuteForRope" for name, _ in rule.operations) and any(
        shape != expected.get(target) for target, shape in results.items()
    ):
        raise _Unclear(
            "the shape is not the wanted one; whether the loader fails at the permutation or"
            " sees the wrong size depends on the number of heads"
        )
    return results


def _converted(
    feed: Feed, rule: Rule, values: _Values, expected: Mapping[str, Shape], ways: Ways
) -> dict[str, Any]:
    """What the operations make of what was gathered, by memory name."""
    job = _Job(rule.sources, rule.targets, feed.first, expected, ways)
    for name, parameters in rule.operations:
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise _Unclear(f"what {name} does is not known")
        values = operation(values, job, **parameters)
    # The results bear target patterns; what stands around the first one in the name stands
    # around all of them.
    whole = feed.first.replace("*.", "0.")
    before, after = "", ""
    for target in values:
        if target in whole:
            before, _, after = whole.partition(target)
            break
    return {
        before + target + after: each[0] if isinstance(each, list) else each
        for target, each in values.items()
    }


def moved(
    feed: Feed, tensors: Mapping[str, Any], expected: Mapping[str, Shape], ways: Ways
) -> Mapping[str, Any] | None:
    """What a loader makes of what was gathered, by memory name, where it only moves values about.

    None where an operation changes the order of values within a tensor, or fails.

    Args:
        feed: what was gathered.
        tensors: name in the file -> what stands for that tensor.
        expected: name -> shape of all tensors in memory.
        ways: how to put such tensors together and cut them.
    """
    rule = feed.rule
    if rule is None:
        (name,) = next(iter(feed.names.values()))
        return {feed.first: tensors[name]}
    if any(name not in _MOVING for name, _ in rule.operations):
        return None
    values = {s: [tensors[n] for n in sorted(ns, key=_natural)] for s, ns in feed.names.items()}
    try:
        return _converted(feed, rule, values, expected, ways)
    except (_Failed, _Unclear):
        return None


def _all_targets(first: str, rule: Rule, expected: Mapping[str, Shape]) -> list[str]:
    """The names in memory that a conversion was to feed."""
    names = [first.replace(rule.targets[0], target, 1) for target in rule.targets]
    return [name for name in dict.fromkeys((first, *names)) if name in expected]


def _lacking(
    first: str, feed: Feed, rule: Rule, expected: Mapping[str, Shape]
) -> tuple[str, ...]:
    """Names that would complete an incomplete merge, spelled like those that are there."""
    numbered = {s: _numbers(feed.names[s]) for s in rule.sources if s in feed.names}
    wanted: set[int] = set()
    stacking = next((how for op, how in rule.operations if op == "MergeModulelist"), None)
    if stacking is not None:
        shape, dim = expected[first], stacking.get("dim", 0)
        seen = {number for _, numbers in numbered.values() for number in numbers}
        if dim < len(shape) and len(seen) <= shape[dim]:
            most = len(seen) + _MOST_LACKING
            wanted = set(range(min(shape[dim], most)))
    found: list[str] = []
    for source in rule.sources:
        spelled, present = numbered.get(source, (None, set()))
        if spelled is None:
            # Nothing at all for this source: spell it after one of the others.
            model = next(iter(numbered))
            spelled = _respelled(numbered[model][0], model, source)
            if spelled is None:
                continue
            if "\0" not in spelled:
                found.append(spelled)
                continue
        if "\0" in spelled:
            found += [spelled.replace("\0", str(each)) for each in sorted(wanted - present)]
    return tuple(found[:_MOST_LACKING])


def _numbers(names: Sequence[str]) -> tuple[str, set[int]]:
    """The spelling with `\\0` for the running number, and the numbers present.

    The number is the component in which the names differ, the last one if there is one name.
    """
    split = [name.split(".") for name in names]
    places = [
        at
        for at, component in enumerate(split[0])
        if component.isdecimal() and component.isascii() and len(component) < 10
    ]
    differing = [
        at for at in places if len({each[at] if at < len(each) else "" for each in split}) > 1
    ]
    if not places or len(differing) > 1:
        return names[0], set()
    place = (differing or places[-1:])[0]
    numbers = {
        int(each[place])
        for each in split
        if place < len(each) and each[place].isdecimal() and len(each[place]) < 10
    }
    return ".".join([*split[0][:place], "\0", *split[0][place + 1 :]]), numbers


def _respelled(spelled: str, model: str, wanted: str) -> str | None:
    """A name for another source pattern: the part in which the two patterns differ exchanged."""
    model, wanted = (re.split(r"\\?\.", each) for each in (model, wanted))  # type: ignore[assignment]
    if len(model) != len(wanted):
        return None
    components = spelled.split(".")
    for old, new in zip(model, wanted, strict=True):
        if old == new:
            continue
        places = [at for at, component in enumerate(components) if component == old]
        if not places:
            return None
        components[places[-1]] = new
    return ".".join(components)


def _natural(name: str) -> list[tuple[int, int, str, int]]:
    """The order in which the loader takes names: numbers by value, before words."""
    key = []
    for part in name[:LONGEST].split("."):
        word = part.rstrip("0123456789")
        number = part[len(word) :]
        if number and not word:
            key.append((0, int(number), "", 0))
        else:
            key.append((1, 0, word, int(number) if number else -1))
    return key
