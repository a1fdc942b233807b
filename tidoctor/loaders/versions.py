"""Versions of a consumer on its own axis: their order, and ranges of them.

A consumer lists the versions that are known, oldest first. Most are numbers (`0.7.1`, `v3.3.7`,
dates such as `2026-03-01`); others are names of builds (`main`, a commit), whose only order is
their place in the list. A number that is not listed has a place between two that are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# A bare number of seven digits is a commit, hence the limit.
_NUMBER = re.compile(
    r"v?(?P<release>\d{1,4}(?:[.-]\d{1,8}){0,5})"
    r"(?:[.-]?(?P<stage>alpha|beta|a|b|rc|post)[.-]?(?P<nth>\d{1,8})?)?"
)
_STAGES = {"alpha": -3, "a": -3, "beta": -2, "b": -2, "rc": -1, None: 0, "post": 1}
_BOUND = re.compile(r"(<=|>=|==|<|>)\s*(\S+)")

Number = tuple[tuple[int, ...], int, int]


def number(text: str) -> Number | None:
    """What orders numbered versions; None for the name of a build."""
    m = _NUMBER.fullmatch(text.lower())
    if m is None:
        return None
    release = [int(part) for part in re.split(r"[.-]", m["release"])]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    return tuple(release), _STAGES[m["stage"]], int(m["nth"] or 0)


class Place(NamedTuple):
    """Where a version stands: between the known versions `low` and `high`, or on one of them."""

    text: str
    low: int
    high: int

    @property
    def exact(self) -> bool:
        """Whether it is one of the known versions."""
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Timeline:
    """The known versions of a consumer, oldest first."""

    known: tuple[str, ...]
    _numbers: tuple[tuple[Number, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError for an empty list, a repeated version or numbers out of order."""
        if not self.known or len({v.lower() for v in self.known}) < len(self.known):
            raise ValueError("known versions: none, or one of them twice")
        found = [(n, i) for i, text in enumerate(self.known) if (n := number(text)) is not None]
        if [n for n, _ in found] != sorted({n for n, _ in found}):
            raise ValueError("known versions are not in order, oldest first")
        object.__setattr__(self, "_numbers", tuple(found))

    @property
    def newest(self) -> str:
        """The last one known."""
        return self.known[-1]

    def place(self, text: str) -> Place:
        """Where a version stands. Raises ValueError where it is not within what is known."""
        for i, known in enumerate(self.known):
            if text.lower() in (known.lower(), f"v{known.lower()}"):
                return Place(known, i, i)
        wanted = number(text)
        if wanted is None:
            raise ValueError("no such version is known")
        before = [i for n, i in self._numbers if n < wanted]
        after = [i for n, i in self._numbers if n > wanted]
        for n, i in self._numbers:
            if n == wanted:
                return Place(self.known[i], i, i)
        if not before:
            raise ValueError("it is older than every version that is known")
        if not after:
            raise ValueError("it is newer than every version that is known")
        return Place(text, before[-1], after[0])


@dataclass(frozen=True, slots=True)
class Range:
    """A set of known versions, such as `>=0.6.0,<0.7.0`, `==main` or `*`, by their places."""

    text: str
    places: frozenset[int]

    def __contains__(self, place: int) -> bool:
        return place in self.places


def parse_range(text: str, timeline: Timeline) -> Range:
    """The known versions that a text stands for.

    Raises ValueError for other texts, for a bound that is not a known version, and for a range
    that holds none.
    """
    places: Sequence[int] = range(len(timeline.known))
    if text != "*":
        for part in text.split(","):
            m = _BOUND.fullmatch(part.strip())
            if m is None:
                raise ValueError(f"{text!r} is no range of versions")
            place = timeline.place(m[2])
            if not place.exact:
                raise ValueError(f"{m[2]} in {text!r} is not one of the known versions")
            places = [i for i in places if _holds(m[1], i, place.low)]
    if not places:
        raise ValueError(f"no known version is in {text!r}")
    return Range(text, frozenset(places))


def range_of(places: frozenset[int], timeline: Timeline) -> Range:
    """The range that some places make up, in words."""
    known = timeline.known
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    texts = [
        f"=={known[run[0]]}" if len(run) == 1 else f">={known[run[0]]},<={known[run[-1]]}"
        for run in runs
    ]
    return Range(" or ".join(texts), places)


def _holds(operator: str, place: int, bound: int) -> bool:
    return {
        "<": place < bound,
        "<=": place <= bound,
        "==": place == bound,
        ">=": place >= bound,
        ">": place > bound,
    }[operator]
