"""What transformers would make of a file: each tensor in memory and what it is fed from.

`load` sends every name of a file through the rules of `renames` and says what each tensor in
memory would be fed from, what nothing feeds, what feeds nothing and where the sizes differ. Ties
and the lists of names that a class ignores are left to the caller. The order of the steps follows
`convert_and_load_state_dict_in_model` of transformers 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tidoctor.atlas.operations import (
    IN_ORDER,
    MOVING,
    OPERATIONS,
    SHAPES,
    Failed,
    Job,
    Shape,
    Unclear,
    Values,
    Ways,
)
from tidoctor.atlas.renames import LONGEST, Renamer, Rule

_MOST_LACKING = 16  # names given as examples of what an incomplete merge lacks


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
        name in IN_ORDER for rule in rules for name, _ in rule.operations
    )
    gathered = None if ordered else _Gathering.over(files, expected, rules, prefix, hasty=True)
    if gathered is None:  # the order of the names decides something
        names = sorted(files, key=_natural)
        gathered = _Gathering.over(names, expected, rules, prefix, hasty=False)
        assert gathered is not None
    return gathered.outcome(files, expected)


class Feed(NamedTuple):
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
        self.renamings = [Renamer(rule) for rule in rules if not rule.operations]
        self.converters = [Renamer(rule) for rule in rules if rule.operations]
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
                except Failed as reason:
                    told = Missing(sources, _lacking(first, feed, rule, expected), str(reason))
                    incomplete |= dict.fromkeys(_all_targets(first, rule, expected), told)
                    continue
                except Unclear as reason:
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
        raise Unclear(
            "the shape is not the wanted one; whether the loader fails at the permutation or"
            " sees the wrong size depends on the number of heads"
        )
    return results


def _converted(
    feed: Feed, rule: Rule, values: Values, expected: Mapping[str, Shape], ways: Ways
) -> dict[str, Any]:
    """What the operations make of what was gathered, by memory name."""
    job = Job(rule.sources, rule.targets, feed.first, expected, ways)
    for name, parameters in rule.operations:
        operation = OPERATIONS.get(name)
        if operation is None:
            raise Unclear(f"what {name} does is not known")
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
    if any(name not in MOVING for name, _ in rule.operations):
        return None
    values = {s: [tensors[n] for n in sorted(ns, key=_natural)] for s, ns in feed.names.items()}
    try:
        return _converted(feed, rule, values, expected, ways)
    except (Failed, Unclear):
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
