"""Configs worth building: one field changed at a time, then many at random.

A class is learned from what happens when its config changes, so the changes must cover every
field that its constructor reads. A field that could not be varied is reported as pinned: the
facts then hold for its tried values only.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tidoctor.atlas.learn.builds import (
    FIRST_SECONDS,
    UNDECLARED,
    Built,
    built,
    configured,
    nested,
)
from tidoctor.atlas.learn.dotted import Values, altered, changed, get, put
from tidoctor.atlas.learn.trying import alternatives, is_inert, is_list_of_words, joint_changes

# Values to give a field that a config class does not declare.
UNLIKE = (64, True, False, 2)
# Seconds for a first build, from which on another one is timed.
HICCUP = 0.1


class Sampler:
    """Makes and builds configs for one class.

    Attributes:
        base: the config everything starts from.
        samples: what was built so far, the base first.
        choices: field -> values with which a build succeeded.
        stuck: fields that no tried value could change.
    """

    def __init__(
        self, name: str, base: Values, seconds: float, seed: int = 0, parts: bool = True
    ) -> None:
        """Build the base; `parts` tells whether the submodels of each build are wanted."""
        self.name, self.base = name, base
        self.random = random.Random(f"{name}{seed}")
        self.deadline = time.process_time() + seconds
        self.parts = parts
        begun = time.process_time()
        self.first = built(name, base, FIRST_SECONDS, parts=parts)
        self.pace = time.process_time() - begun  # seconds for one build
        if self.pace > HICCUP:  # a class is slow only if it is so twice
            begun = time.process_time()
            built(name, base, FIRST_SECONDS, parts=parts)
            self.pace = min(self.pace, time.process_time() - begun)
        self.samples: list[Built] = [self.first]
        self.raw: list[Values] = [base]
        self.choices: dict[str, list[Any]] = {}
        self.stuck: set[str] = set()
        # Values to try for one field.
        self.wanted = 4 if self.pace < 0.1 else 3 if self.pace < 0.25 else 2
        self.alone: dict[str, list[Built]] = {}  # samples in which only this field was changed
        self._seen = {json.dumps(base, sort_keys=True, default=str)}

    def late(self) -> bool:
        """Whether the time for this class is used up."""
        return time.process_time() > self.deadline

    def look_for(self, paths: Iterable[str]) -> list[str]:
        """Those undeclared fields that make another model when they are given.

        They are None from now on where they are not given.
        """
        found = []
        for path in sorted(paths):
            for value in UNLIKE:
                values = copy.deepcopy(self.base)
                try:
                    put(values, path, value)
                    sample = built(self.name, values, parts=False, disk=False)
                except Exception:
                    continue
                if (sample.memory, sample.ties) != (self.first.memory, self.first.ties):
                    found.append(path)
                    break
        kinds = {path: type(each) for path, each in nested(configured(self.name, self.base))}
        for path in found:
            where, _, key = path.rpartition(".")
            if where in kinds:
                UNDECLARED.setdefault(kinds[where], set()).add(key)
            self.first.values.setdefault(path, None)
        return found

    def try_one(self, values: Values, keep: bool = True, disk: bool = True) -> Built | None:
        """Build, None where it cannot be; kept as a sample, perhaps without its form on disk."""
        key = json.dumps(values, sort_keys=True, default=str)
        if key in self._seen:
            return None
        self._seen.add(key)
        try:
            sample = built(self.name, values, parts=self.parts, disk=disk)
        except Exception:
            return None
        if keep:
            self.samples.append(sample)
            self.raw.append(values)
        return sample

    def together(self) -> Iterator[Values]:
        """Configs in which fields are changed that only build together, built and kept.

        Random configs begin with one of these as often as with any other one.
        """
        for changes in joint_changes(self.name, self.base):
            values = self.base
            for path, value in changes.items():
                values = altered(values, path, value)
            if self.try_one(values) is not None:
                self.stuck -= changes.keys()
                yield values

    def one_by_one(
        self, reads: list[str], compared: dict[str, set[Any]], activations: list[str]
    ) -> None:
        """Change each field alone, with a few values each (all, for names in a table)."""
        for path in reads:
            if path in self.choices or is_inert(path):
                continue
            try:
                value = get(self.base, path)
            except (KeyError, TypeError):
                try:
                    value = self.first.values[path]
                    put(copy.deepcopy(self.base), path, value)
                except KeyError:
                    self.stuck.add(path)
                    continue
            others = alternatives(value, compared.get(path, set()), activations)
            if not others:
                continue
            words = isinstance(value, str) or is_list_of_words(others[0])
            wanted = 40 if words else self.wanted
            worked: list[Any] = []
            for other in others:
                if len(worked) >= wanted or self.late():
                    break
                try:
                    values = changed(self.base, path, other)
                except (KeyError, TypeError, AttributeError):
                    values = copy.deepcopy(self.base)
                    put(values, path, other)
                sample = self.try_one(values)
                if sample is not None and sample.values.get(path) == other:
                    worked.append(other)
                    self.alone.setdefault(path, []).append(sample)
            if type(value) is int and value > 0 and 0 not in worked:
                self._nought(path)
            if worked:
                self.choices[path] = worked
            else:
                self.stuck.add(path)
        self._lengths()

    def _nought(self, path: str) -> None:
        """A count of 0 often means that something is made in another way.

        A size of 0 leaves tensors without values, which are saved untied: no checkpoint is such.
        """
        if not self.late():
            values = altered(self.base, path, 0)
            sample = self.try_one(values, keep=False)
            if sample is None or (sample.ties != self.first.ties and is_empty(sample)):
                return
            self.keep([(values, sample)])
            self.alone.setdefault(path, []).append(sample)

    def _lengths(self) -> None:
        """Lists of one length are made shorter and longer together."""
        for path in [each for each in self.choices if isinstance(self._now(each), list)]:
            value = self._now(path)
            for other in (value[:-1], [*value, value[-1]]) if value else ():
                if other:
                    sample = self.try_one(changed(self.base, path, other))
                    if sample is not None:
                        self.alone.setdefault(path, []).append(sample)

    def _now(self, path: str) -> Any:
        try:
            return get(self.base, path)
        except (KeyError, TypeError):
            return self.first.values.get(path)

    def hold(self, path: str) -> None:
        """Vary a field no more, and forget the samples in which it was another."""
        value = self.first.values.get(path)
        pairs = [
            (raw, sample)
            for raw, sample in zip(self.raw, self.samples, strict=True)
            if sample.values.get(path) == value
        ]
        self.raw = [raw for raw, _ in pairs]
        self.samples = [sample for _, sample in pairs]
        self.choices.pop(path, None)

    def shuffled(self, most: int = 7, start: Values | None = None) -> Values:
        """A config with several fields changed at random."""
        values = copy.deepcopy(self.base if start is None else start)
        paths = sorted(self.choices)
        if not paths:
            return values
        for path in self.random.sample(paths, min(len(paths), self.random.randint(1, most))):
            other = self.random.choice(self.choices[path])
            if type(other) is int and other > 16 and self.random.random() < 0.5:
                other *= self.random.choice((2, 3, 5))
            try:
                values = changed(values, path, other)
            except (KeyError, TypeError, AttributeError):
                put(values, path, other)
        return values

    def starts(self) -> list[list[Values]]:
        """Configs tried so far, those together that make the same kinds of names."""
        found: dict[frozenset[str], list[Values]] = {}
        for raw, sample in zip(self.raw, self.samples, strict=True):
            found.setdefault(kinds_of_names(sample), []).append(raw)
        return list(found.values())

    def at_random(self, count: int) -> list[tuple[Values, Built]]:
        """So many builds of shuffled configs (fewer when the time is up or few build).

        Every second one starts from a config with other names than most, since tensors that
        exist rarely would else be seen under too few sizes.
        """
        found: list[tuple[Values, Built]] = []
        starts = self.starts()
        for number in range(4 * count):
            if len(found) >= count or self.late():
                break
            start = self.random.choice(self.random.choice(starts)) if number % 2 else None
            values = self.shuffled(7 if start is None else 4, start)
            sample = self.try_one(values, keep=False)
            if sample is not None:
                found.append((values, sample))
        return found

    def at_corners(self, most: int = 8) -> list[tuple[Values, Built]]:
        """Builds in which all numbers differ at once, for each kind of names that was seen.

        Tensors that exist rarely are else seen with the usual sizes of most fields only, and a
        number that is one of those then looks like a constant.
        """
        found: list[tuple[Values, Built]] = []
        counts = sorted(path for path in self.choices if type(self._now(path)) is int)
        for raws in self.starts()[:most]:
            for turn in (0, 1):
                for group in (counts, counts[::2], counts[1::2]):
                    if self.late():
                        return found
                    values = raws[0]
                    for path in group:
                        others = self.choices[path]
                        values = altered(values, path, others[turn % len(others)])
                    sample = self.try_one(values, keep=False)
                    if sample is not None:
                        found.append((values, sample))
                        if group is counts:
                            break
        return found

    def beside(self, constants: Iterable[tuple[str, int]]) -> list[tuple[Values, Built]]:
        """Builds with values of fields on both sides of constants."""
        found: list[tuple[Values, Built]] = []
        for path, number in constants:
            for value in (number - 1, number, number + 1, 2 * number, 3 * number):
                for start in (self.base, self.random.choice(self.raw)):
                    if value >= 0 and not self.late():
                        values = altered(start, path, value)
                        sample = self.try_one(values, keep=False)
                        if sample is not None:
                            found.append((values, sample))
        return found

    def keep(self, found: list[tuple[Values, Built]]) -> None:
        """Add builds to the samples to learn from."""
        self.raw += [raw for raw, _ in found]
        self.samples += [sample for _, sample in found]


def is_empty(sample: Built) -> bool:
    """Whether a tensor has no values."""
    return any(0 in shape for shape in sample.memory.values())


@functools.lru_cache(maxsize=200_000)
def kind_of_name(name: str) -> str:
    """A name, whatever its numbers."""
    return re.sub(r"\d+", "#", name)


def kinds_of_names(sample: Built) -> frozenset[str]:
    """The names of a sample and its ties, whatever their numbers."""
    names = [*sample.memory, *(f"{one} = {other}" for one, other in sample.ties.items())]
    return frozenset(map(kind_of_name, names))


def watched(name: str, values: Values, builder: Callable[..., Any] | None = None) -> Any:
    """The log of one watched construction, None when the class does not bear being watched."""
    import torch

    from tidoctor.atlas import learner
    from tidoctor.atlas.learn import trace
    from tidoctor.atlas.learn.hurry import limited

    try:
        config = configured(name, values)
        with limited(20), trace.watching(config) as log, torch.device("meta"):
            model = learner.model_class(name)(config)
    except Exception:
        return None
    trace.gather_hints(log, model)
    return log
