"""Everything gathered about one class while it is learned: samples, what it reads, vocabulary."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidoctor.atlas.learn.builds import (
    Built,
    configured,
    default_values,
    extra_defaults,
    nested,
)
from tidoctor.atlas.learn.dotted import Values, get
from tidoctor.atlas.learn.fit import Vocabulary
from tidoctor.atlas.learn.forms import SPELLED_OUT
from tidoctor.atlas.learn.samples import Sampler, kind_of_name, kinds_of_names, watched
from tidoctor.atlas.learn.trying import distinct, documented, is_inert
from tidoctor.atlas.learn.write import HOLDING

SECONDS = 30.0
RANDOM = 40
SLOW = 0.12  # seconds for one build
# Names of all samples together from which a form is fitted; the others are held against it.
MOST_NAMES = 8_000

# Two activations that hold parameters, and one more that does not.
TELLING = ("prelu", "relu", "silu", "xielu")


@functools.cache
def all_activations() -> frozenset[str]:
    """Names of activation functions that models were built with."""
    from transformers.activations import ACT2FN

    return frozenset(ACT2FN)


class Lesson:
    """Everything gathered about one class while it is learned."""

    def __init__(
        self,
        name: str,
        known: Mapping[str, Any],
        seconds: float = SECONDS,
        cut: bool = True,
        counters: Iterable[Values] = (),
    ) -> None:
        """Gather samples.

        Args:
            name: the class.
            known: facts about classes learned before.
            seconds: of processor time, for building samples.
            cut: reduce counts that only make a model large.
            counters: raw configs on which former facts about the class were wrong.

        Raises:
            learner.Unbuildable: the library cannot build the class.
        """
        from transformers.activations import ACT2FN

        self.name, self.known, self.cut = name, known, cut
        self.sampler = Sampler(name, default_values(name, cut), seconds)
        self.vocabulary = Vocabulary()
        self.hints: dict[str, list[list[str | None]]] = {}
        self.hashed: set[str] = set()
        self.reads: set[str] = set()
        self.missed: set[str] = set()
        self.compared: dict[str, set[Any]] = dict(documented(name, self.sampler.base))
        self.activations = sorted(ACT2FN)
        self.watched = 0
        # Where most of a class is a submodel learned before, its own few tensors need less.
        first = self.sampler.first
        places = tuple(each.at for each in first.parts if each.config is not None)
        inside = [each for each in first.memory if places and each.startswith(places)]
        self.composed = len(inside) > 0.6 * len(first.memory) and all(
            each.name in known for each in first.parts
        )
        if self.composed:
            self.sampler.wanted = 2
            self.sampler.deadline -= seconds / 2
            self.activations = [each for each in self.activations if each in TELLING]
        self._watch(self.sampler.base)
        if not self.watched:
            self.reads = {
                path
                for path, value in self.sampler.first.values.items()
                if isinstance(value, (int, float, str, list, type(None)))
            }
        self.extras = {
            f"{path}.{key}" if path else key
            for path, each in nested(configured(name, self.sampler.base))
            for key in extra_defaults(type(each))
        } & {path for path in self.sampler.first.values if has(self.sampler.base, path)}
        self.reads |= self.extras
        # Asked for with a default at hand: `getattr(config, "head_dim", None)`.
        undeclared = {each for each in self.missed if not is_inert(each)} - self.reads
        there = self.sampler.first.values.keys()  # since a class before this one asked for them
        self.reads |= undeclared & there
        self.reads |= set(self.sampler.look_for(undeclared - there))
        # Read after the construction, when weights are tied.
        self.reads |= {
            path for path in self.sampler.first.values if path.endswith("tie_word_embeddings")
        }
        done: set[str] = set()
        for _ in range(3):
            fresh = sorted(self.reads - done)
            if not fresh:
                break
            done |= set(fresh)
            before = len(self.sampler.raw)
            self.sampler.one_by_one(fresh, self.compared, self.activations)
            signatures: set[Any] = set()
            for raw, sample in zip(
                self.sampler.raw[before:], self.sampler.samples[before:], strict=True
            ):
                signature = frozenset(map(kind_of_name, sample.memory))
                if signature not in signatures and self.watched < 40:
                    signatures.add(signature)
                    self._watch(raw)
        self.telling: list[Built] = []  # samples that showed a former attempt to be wrong
        self.chosen: list[Built] = []
        self.held: dict[str, Any] = {}  # fields that are not varied, since they are not understood
        self.both = True  # whether facts without the form on disk are no use
        self.spelled = SPELLED_OUT  # members up to which lists are spelled out
        # Large models take long to build: fewer then.
        self.slow = self.sampler.pace > SLOW
        self.many = RANDOM // (2 if self.composed else 1) // (2 if self.slow else 1)
        for raw in self.sampler.together():
            self._watch(raw)
        self.sampler.keep(self.sampler.at_random(self.many))
        self.sampler.keep(self.sampler.at_corners(4 if self.composed or self.slow else 8))
        for raw in self.sampler.raw[-6 if self.composed else -12 :]:
            self._watch(raw)
        for raw in counters:
            told = self.sampler.try_one(raw)
            if told is not None:
                self.telling.append(told)
                self._watch(raw)

    def _watch(self, raw: dict[str, Any]) -> None:
        log = watched(self.name, raw)
        if log is None:
            return
        self.watched += 1
        self.reads |= log.reads
        self.missed |= log.missed
        self.hashed |= log.hashed
        self.vocabulary.conditions |= log.conditions
        self.vocabulary.values |= log.values
        for name, hint in log.hints.items():
            rows = self.hints.setdefault(name, [])
            if hint not in rows:
                rows.append(hint)
            self.vocabulary.values.update(each for each in hint if each and not each.isdigit())
        for text, constants in log.compared.items():
            words = constants if len(constants) < 20 else set()
            self.compared.setdefault(text.split("[")[0], set()).update(words)

    def complete_vocabulary(self) -> None:
        """Conditions that Python lets nobody watch (`is None`), and plain fields."""
        for path in self.reads:
            if is_inert(path):
                continue
            seen = [sample.values.get(path) for sample in self.sampler.samples]
            if any(type(each) is int for each in seen):
                self.vocabulary.fields.add(path)
                most = max(each for each in seen if type(each) is int)
                if most <= 40:
                    self.vocabulary.generic |= {f"{path} > {n}" for n in range(most)}
            if any(each is None for each in seen):
                self.vocabulary.generic.add(f"{path} is None")
            if any(type(each) is bool for each in seen):
                self.vocabulary.generic.add(path)
            words = {each for each in seen if isinstance(each, str)}
            if 1 < len(words) < 60:
                self.vocabulary.generic |= {f"{path} == {each!r}" for each in sorted(words)}
            if any(isinstance(each, list) for each in seen):
                self.vocabulary.fields.add(f"len({path})")
                members = {m for each in seen if isinstance(each, list) for m in each[:64]
                           if isinstance(m, str)}
                self.vocabulary.generic |= {f"{path}[_I1_] == {m!r}" for m in sorted(members)}
                if len(members) < 8:  # a pattern that is repeated over the layers
                    turn = f"{path}[_I1_ % len({path})]"
                    self.vocabulary.generic |= {f"{turn} == {m!r}" for m in sorted(members)}
                self.vocabulary.values.add(f"{path}[_I1_]")
                lengths = {len(each) for each in seen if isinstance(each, list)}
                if len(lengths) > 1:
                    self.vocabulary.generic |= {f"len({path}) == {n}" for n in lengths if n < 9}
                    self.vocabulary.groups.append(f"len({path})")
                if not members:
                    self.vocabulary.generic.add(f"_I1_ in {path}")
        small = [
            path
            for path in sorted(self.vocabulary.fields)
            if not re.search("token|window|_id$", path)
            and all(
                type(n := each.values.get(path)) is int and n <= 100
                for each in self.sampler.samples
            )
        ]
        self.vocabulary.groups += [each for each in small if "len(" not in each][:6]
        self.vocabulary.groups = sorted(set(self.vocabulary.groups))[:10]
        for path in small[:12]:
            self.vocabulary.generic |= {f"_I1_ < {path}", f"(_I1_ + 1) % {path} == 0"}
            self.vocabulary.generic |= {f"_I1_ % {path} == 0"}
            self.vocabulary.generic |= {
                f"_I1_ < {one} - {path}" for one in small[:12] if "layer" in one
            }
        for extra in self.extras:
            for each in list(self.vocabulary.values):
                for word in set(re.findall(r"[A-Za-z]\w*(?:\.\w+)*", each)) & self.reads:
                    if extra.endswith(word.rpartition(".")[2].removeprefix("num_")):
                        self.vocabulary.values.add(re.sub(rf"\b{word}\b", extra, each))
        for each in list(self.vocabulary.values):
            if re.fullmatch(r"[\w.]+", each) and each not in self.vocabulary.fields:
                self.vocabulary.generic.add(f"{each} > 0")

    def some(self) -> list[Built]:
        """Samples to fit: all, or of large models some of each kind and those that told most."""
        samples = self.sampler.samples
        left = MOST_NAMES - sum(len(each.memory) for each in self.telling)
        if sum(len(each.memory) for each in samples) <= left:
            return samples
        kinds: dict[frozenset[str], list[Built]] = {}
        for each in samples[1:]:
            kinds.setdefault(kinds_of_names(each), []).append(each)
        found = [samples[0], *(e for e in self.telling if e in samples and e is not samples[0])]
        known = set(map(id, found))
        for turn in itertools.zip_longest(*kinds.values()):
            for each in turn:
                if each is not None and id(each) not in known and left > 0:
                    found.append(each)
                    left -= len(each.memory)
        return found

    def pinned(self) -> dict[str, list[Any]]:
        """Fields whose other values are unknown: never varied, or looked up in a table."""
        found: dict[str, list[Any]] = {path: [value] for path, value in self.held.items()}
        for path in self.reads - self.held.keys():
            if is_inert(path):
                continue
            values = [sample.values.get(path) for sample in self.sampler.samples]
            if path in self.hashed and any(isinstance(each, str) for each in values):
                words = {each for each in values if isinstance(each, str)}
                if self.composed and words & all_activations():
                    words |= all_activations() - HOLDING  # these count where they were tried
                found[path] = sorted(words)
            elif path in self.sampler.stuck:
                # A field that follows from others varied with them, and is explained as they are.
                if len(distinct(values)) > 3:
                    continue
                if isinstance(values[0], (bool, int, str, list, type(None))):
                    found[path] = distinct(values)
        # Another kind of submodel was never tried; where its class follows the config, the
        # part says so and the pin is lifted.
        for path in self.sampler.first.values:
            if path.endswith(".model_type"):
                found[path] = distinct([each.values.get(path) for each in self.sampler.samples])
        return found

def has(values: dict[str, Any], path: str) -> bool:
    """Whether a dotted path stands in nested dicts."""
    try:
        get(values, path)
    except (KeyError, TypeError):
        return False
    return True
