"""The consumers that are known, found by the name and version that a user gives."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tidoctor.errors import Usage
from tidoctor.loaders.parsing import parse
from tidoctor.loaders.policy import Consumer
from tidoctor.loaders.versions import Place
from tidoctor.names import printable


class Asked(NamedTuple):
    """A consumer in one version."""

    consumer: Consumer
    place: Place

    @property
    def version(self) -> str:
        """The version as the consumer spells it."""
        return self.place.text

    def __str__(self) -> str:
        return f"{self.consumer.name}@{self.version}"


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all consumers, sorted."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.json")))


@functools.cache
def _load(name: str) -> Consumer:
    file = f"{name}.json"
    text = Path(__file__).with_name(file).read_bytes()
    found = parse(text, file)
    if found.name != name:
        raise ValueError(f"{file}: it calls itself {found.name}")
    return found


@functools.cache
def _spellings() -> dict[str, str]:
    """Every name and alias, in lower case and without punctuation -> the name."""
    found: dict[str, str] = {}
    for name in names():
        for spelling in (name, *_load(name).aliases):
            if found.setdefault(_plain(spelling), name) != name:
                raise ValueError(f"{spelling} is the name of {found[_plain(spelling)]} and {name}")
    return found


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def find(name: str) -> Consumer | None:
    """The consumer of a name or alias in any case, None where there is none."""
    if _plain(name) in (_plain(known) for known in names()):
        return _load(next(known for known in names() if _plain(known) == _plain(name)))
    known = _spellings().get(_plain(name)) if len(name) < 100 else None
    return _load(known) if known else None


def consumer(name: str) -> Consumer:
    """The same; raises Usage naming the nearest where there is none."""
    found = find(name)
    if found is None:
        near = difflib.get_close_matches(name.lower()[:100], names(), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names())}"
        raise Usage(printable(name), "is no loader that is known", hint)
    return found


def asked(wishes: Sequence[str]) -> tuple[Asked, ...]:
    """What `candle@0.7.1`, `transformers` or `all` stand for, each once, in the order given.

    Without a version the newest known. Raises Usage for unknown names and versions, naming the
    nearest.
    """
    found: dict[tuple[str, str], Asked] = {}
    for wish in wishes:
        name, at, version = wish.partition("@")
        if name.lower() == "all" and not at:
            every = [Asked(c, c.timeline.place(c.timeline.newest)) for c in map(_load, names())]
        else:
            every = [_one(consumer(name), version if at else None)]
        for each in every:
            found.setdefault((each.consumer.name, each.version), each)
    return tuple(found.values())


def _one(found: Consumer, version: str | None) -> Asked:
    timeline = found.timeline
    wanted = timeline.newest if version is None else version
    try:
        return Asked(found, timeline.place(wanted))
    except ValueError as e:
        if "older" in str(e) or "newer" in str(e):
            nearest = timeline.known[0] if "older" in str(e) else timeline.newest
        else:
            nearest = difflib.get_close_matches(wanted[:100], timeline.known, 1, 0)[0]
        where = f"{found.name}@{printable(wanted[:100])}"
        raise Usage(where, str(e), f"the nearest is {nearest}") from e
