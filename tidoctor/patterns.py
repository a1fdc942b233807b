"""Names that differ only in their numbers: kinds of them, and patterns that stand for many.

A pattern such as `model.layers.{0..31}.mlp.up_proj.weight` is how a model is shown; a kind is how
90,000 names are examined as fast as thirty.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, compress, count, islice
from math import prod
from operator import itemgetter
from typing import NamedTuple

from tidoctor.names import natural_key, some

_PLAIN_INTEGER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,8})(?![^.])")
_NUMBER = re.compile(r"(?<![^.])[0-9]+(?![^.])")
_PLACE = re.compile(r"(?<![^.])[0-9]{1,9}(?![^.])")  # of a layer or an expert
_LONGEST = 9  # digits of an integer
_WORD_DIGITS = re.compile(r"(?<=[^.0-9])[0-9]+|[0-9]+(?=[^.0-9])")
_ZEROS = str.maketrans("123456789", "0" * 9)
_AT_ONCE = 10_000  # names

_MOST_INTEGERS = 8  # in one name; real ones have up to five, and the cost of patterns grows with it


def template(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The pieces of a name between its integers, and those integers.

    Only whole dotted components in their plain spelling count as integers: `layers.3.w` has one,
    `conv2d.w` and `layers.03.w` have none, so that `fc1` and `fc2` stay two names.
    """
    parts = _PLAIN_INTEGER.split(name)  # the integers stand at the odd places
    if len(parts) > 2 * _MOST_INTEGERS:
        return (name,), ()
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def _masks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Of each name what it is with a 0 for every digit of its numbers, in lists of many."""
    for at in range(0, len(names), _AT_ONCE):
        part = names[at : at + _AT_ONCE]
        masks = "\n".join(part).translate(_ZEROS).split("\n")
        if len(masks) != len(part):  # a hostile name holds a line break; then each is its own mask
            yield part
            continue
        # Digits within a word belong to it: `w1` and `w2` are no layers.
        words = {mask: [m.span() for m in _WORD_DIGITS.finditer(mask)] for mask in {*masks}}
        if any(words.values()):
            masks = [_worded(*pair, words[pair[0]]) for pair in zip(masks, part, strict=True)]
        yield masks


def _worded(mask: str, name: str, words: Sequence[tuple[int, int]]) -> str:
    pieces, done = [], 0
    for a, b in words:
        pieces += [mask[done:a], name[a:b]]
        done = b
    return "".join([*pieces, mask[done:]])


class _Masked:
    """Names by their masks, in the order in which those come first.

    Attributes:
        numbers: of each name the number of its mask.
        firsts: mask → the first of its names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        number: dict[str, int] = defaultdict(count().__next__)
        self._names = names
        self.numbers = array("I", map(number.__getitem__, chain.from_iterable(_masks(names))))
        first = dict(zip(reversed(self.numbers), reversed(names), strict=True))
        self.firsts = {mask: first[at] for mask, at in number.items()}

    @cached_property
    def groups(self) -> Mapping[str, list[str]]:
        """Mask → its names, in their order."""
        lists: list[list[str]] = [[] for _ in self.firsts]
        add = [group.append for group in lists]
        for at, name in zip(self.numbers, self._names, strict=True):
            add[at](name)
        return dict(zip(self.firsts, lists, strict=True))


class Kinds:
    """Names that differ only in the numbers of layers and experts, asked about once for all.

    A big model has 90,000 names of some 30 kinds. A test is given one name of each, the first; it
    must not depend on which numbers those are. Numbers are whole dotted components, so that `fc1`
    and `fc2` are of two kinds.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._masked = _Masked(self._names)
        self._kinds: dict[str, list[str]] = {}  # layers 0 to 9 and 10 to 99 are alike
        self._numbers: dict[tuple[str, int], frozenset[int]] = {}
        for mask in self._masked.firsts:
            self._kinds.setdefault(_PLACE.sub("0", mask), []).append(mask)

    def _first(self, kind: str) -> str:
        return self._masked.firsts[self._kinds[kind][0]]

    def first(self, test: Callable[[str], object]) -> str | None:
        """The first name that passes a test, None where none does."""
        return next((name for name in map(self._first, self._kinds) if test(name)), None)

    def where(self, test: Callable[[str], object]) -> list[str]:
        """The names that pass a test, in their order."""
        kinds = [kind for kind in self._kinds if test(self._first(kind))]
        if not kinds:
            return []
        passed = {*chain.from_iterable(map(self._kinds.__getitem__, kinds))}
        chosen = [mask in passed for mask in self._masked.firsts]
        return [*compress(self._names, map(chosen.__getitem__, self._masked.numbers))]

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Some of the names, in the order of all of them."""
        some = frozenset(names)
        return [name for name in self._names if name in some] if some else []

    def __iter__(self) -> Iterator[list[str]]:
        for masks in self._kinds.values():
            yield [*chain.from_iterable(map(self._masked.groups.__getitem__, masks))]

    def numbers(self, find: Callable[[str], re.Match[str] | None], part: int) -> frozenset[int]:
        """The numbers that a group of a pattern catches in all names that it finds.

        They are whole components of up to nine digits.
        """
        found = frozenset[int]()
        for kind, masks in self._kinds.items():
            name = self._first(kind)
            if m := find(name):
                key = kind, name.count(".", 0, m.start(part))
                if key not in self._numbers:
                    groups = {mask: self._masked.groups[mask] for mask in masks}
                    self._numbers[key] = frozenset(_column(groups, key[1]))
                found |= self._numbers[key]
        return found


def _column(masks: Mapping[str, Iterable[str]], at: int) -> Iterator[int]:
    """The numbers in the component `at`, which stands at one place in all names of a mask."""
    for mask, names in masks.items():
        before = mask.split(".", at + 1)[: at + 1]
        end = sum(map(len, before)) + at
        begin = end - len(before[-1])
        yield from map(int, {name[begin:end] for name in names})


def ranges(numbers: Iterable[int]) -> str:
    """`0..16,18..31` for the given integers."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)


def collapse(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Names grouped into patterns, each with its members, the first of them first; natural order.

    A pattern such as `layers.{0..31}.w` stands for every combination of its ranges. A group whose
    numbers do not form such a grid is split by its leading numbers until each part does.
    """
    groups: dict[tuple[str, ...], list[tuple[_Columns, list[str]]]] = {}
    for mask, alike in _Masked([*dict.fromkeys(names)]).groups.items():
        columns = _columns(mask, alike)
        if columns is not None:
            groups.setdefault(template(alike[0])[0], []).append((columns, alike))
            continue
        for name in alike:
            pieces, numbers = template(name)
            groups.setdefault(pieces, []).append(([{str(n)} for n in numbers], [name]))
    patterns = [row for pieces, parts in groups.items() for row in _collapsed(pieces, parts)]
    return sorted(patterns, key=lambda row: natural_key(row[1][0]))


_Columns = Sequence[Collection[str]]
"""The numbers, as written, at each place of some names."""


def _columns(mask: str, alike: Sequence[str]) -> _Columns | None:
    """What stands in names of one mask at the places of numbers, None unless those are integers."""
    places = [m.span() for m in islice(_NUMBER.finditer(mask), _MOST_INTEGERS)]
    if len(places) == _MOST_INTEGERS or any(b - a > _LONGEST for a, b in places):
        return None
    columns = [{*map(itemgetter(slice(a, b)), alike)} for a, b in places]
    padded = any(len(n) > 1 and n[0] == "0" for column in columns for n in column)
    return None if padded else columns


def _collapsed(
    pieces: tuple[str, ...], parts: Sequence[tuple[_Columns, list[str]]]
) -> list[tuple[str, list[str]]]:
    """Patterns of the names with these pieces between their numbers."""
    names = [*chain.from_iterable(alike for _, alike in parts)]
    together = zip(*(columns for columns, _ in parts), strict=True)
    columns = [sorted({*map(int, chain.from_iterable(each))}) for each in together]
    if prod(map(len, columns)) == len(names):  # all are there: each differs from the others
        first = names.index(_fill(pieces, [column[:1] for column in columns]))
        names[0], names[first] = names[first], names[0]
        return [(_fill(pieces, columns), names)]
    return _grid(pieces, [(template(name)[1], name) for name in names])


def _grid(
    pieces: tuple[str, ...], members: list[tuple[tuple[int, ...], str]]
) -> list[tuple[str, list[str]]]:
    """One pattern when the numbers of the members form a full grid, else one per leading number."""
    members.sort()
    columns = [sorted(set(column)) for column in zip(*(m[0] for m in members), strict=True)]
    if prod(map(len, columns)) == len(members):
        return [(_fill(pieces, columns), [name for _, name in members])]
    # The first column with more than one value is the one whose values are told apart.
    split = next(i for i, column in enumerate(columns) if len(column) > 1)
    parts: dict[tuple[int, ...], list[tuple[tuple[int, ...], str]]] = {}
    for numbers, name in members:
        parts.setdefault(numbers[: split + 1], []).append((numbers, name))
    # Leading numbers with the same continuation are told together.
    shapes: dict[tuple[tuple[int, ...], ...], list[tuple[tuple[int, ...], str]]] = {}
    for part in parts.values():
        rest = tuple(numbers[split + 1 :] for numbers, _ in part)
        shapes.setdefault(rest, []).extend(part)
    if len(shapes) == 1:  # cannot be split further this way: one row for each leading number
        return [row for part in parts.values() for row in _grid(pieces, part)]
    return [row for part in shapes.values() for row in _grid(pieces, part)]


def _fill(pieces: Sequence[str], columns: Sequence[Sequence[int]]) -> str:
    out = [pieces[0]]
    for column, piece in zip(columns, pieces[1:], strict=True):
        out.append(str(column[0]) if len(column) == 1 else "{" + ranges(column) + "}")
        out.append(piece)
    return "".join(out)


def some_patterns(names: Iterable[str], most: int = 3) -> str:
    """The first few patterns of these names, and how many more there are."""
    return some([pattern for pattern, _ in collapse(names)], most)


class Roots(NamedTuple):
    """Where the layers of a checkpoint stand: every path in front of a first layer number."""

    counts: Mapping[str, int]  # "model.layers" → number of tensors below it

    @property
    def main(self) -> str | None:
        """The root with most tensors, None when there are no layers."""
        return max(self.counts, key=lambda r: (self.counts[r], r)) if self.counts else None


def roots(names: Iterable[str]) -> Roots:
    """The layer roots among these names."""
    counts: dict[str, int] = {}
    for name in names:
        pieces, _ = template(name)
        if len(pieces) > 1 and pieces[0] and pieces[1]:
            root = pieces[0].removesuffix(".")
            counts[root] = counts.get(root, 0) + 1
    return Roots(counts)
