"""Learns one class: samples, vocabulary, both forms, ties, parts; then examines itself."""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tidoctor.atlas import learner
from tidoctor.atlas.learn.builds import (
    Built,
    configured,
    default_values,
    extra_defaults,
    nested,
)
from tidoctor.atlas.learn.fit import NoFit, Patience, Vocabulary
from tidoctor.atlas.learn.forms import Form, Inexpressible, entries_of
from tidoctor.atlas.learn.predict import Uncovered, predicted
from tidoctor.atlas.learn.samples import Sampler, get, is_inert, kinds_of_names, watched

SECONDS = 30.0
# Of processor time after sampling, in which fields are held to their defaults one by one.
MOST_SECONDS = 60.0
RANDOM = 40
HELD_OUT = 16
SLOW = 0.12  # seconds for one build
ROUNDS = 4
FITTING = 20.0
# Names of all samples together from which a form is fitted; the others are held against it.
MOST_NAMES = 8_000
# How many fields may be tied to their default because their effect is not understood.
MOST_HELD = 6


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
        self, name: str, known: Mapping[str, Any], seconds: float = SECONDS, cut: bool = True
    ) -> None:
        """Gather samples; raises learner.Unbuildable where the library cannot build the class."""
        from transformers.activations import ACT2FN

        self.name, self.known, self.cut = name, known, cut
        self.sampler = Sampler(name, default_values(name, cut), seconds)
        self.vocabulary = Vocabulary()
        self.hints: dict[str, list[list[str | None]]] = {}
        self.hashed: set[str] = set()
        self.reads: set[str] = set()
        self.missed: set[str] = set()
        self.compared: dict[str, set[Any]] = {}
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
                signature = frozenset(re.sub(r"\d+", "#", each) for each in sample.memory)
                if signature not in signatures and self.watched < 40:
                    signatures.add(signature)
                    self._watch(raw)
        self.telling: list[Built] = []  # samples that showed a former attempt to be wrong
        self.chosen: list[Built] = []
        self.held: dict[str, Any] = {}  # fields that are not varied, since they are not understood
        # Large models take long to build: fewer then.
        self.slow = self.sampler.pace > SLOW
        self.many = RANDOM // (2 if self.composed else 1) // (2 if self.slow else 1)
        self.sampler.keep(self.sampler.at_random(self.many))
        for raw in self.sampler.raw[-6 if self.composed else -12 :]:
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
                    words |= all_activations()
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


def distinct(values: list[Any]) -> list[Any]:
    """Without repetitions."""
    found: list[Any] = []
    for each in values:
        if each not in found:
            found.append(each)
    return found


def learn(name: str, known: Mapping[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
    """The facts about one class, examined on configs they were not learned from.

    Args:
        name: the class.
        known: facts about classes learned before, which may occur as parts.
        seconds: time for building samples.

    Raises:
        learner.Unbuildable: the library does not build it here.
        Inexpressible: its form is not of our kind even where the fields behind what is not
            understood keep their default, or an examination failed to the end.
    """
    try:
        return learned_from(Lesson(name, known, seconds), known)
    except CutCount:
        return learned_from(Lesson(name, known, seconds, cut=False), known)


class CutCount(Exception):
    """A count that was reduced cannot be varied: it has to have its real value."""


def learned_from(lesson: Lesson, known: Mapping[str, Any]) -> dict[str, Any]:
    """The facts, after as many attempts as it takes; raises Inexpressible or CutCount."""
    name = lesson.name
    failure: Inexpressible | None = None
    rounds = 0
    until = time.process_time() + MOST_SECONDS
    while rounds < ROUNDS:
        lesson.complete_vocabulary()
        Patience.seconds(FITTING)
        try:
            facts = learned(lesson)
        except Inexpressible as reason:
            late = len(lesson.held) >= MOST_HELD or time.process_time() > until
            if late or not hold_something(lesson, reason):
                raise
            continue
        rounds += 1
        lesson.sampler.deadline = max(lesson.sampler.deadline, time.process_time() + 8)
        fresh = lesson.sampler.at_random(HELD_OUT // (2 if lesson.slow else 1))
        wrong = list(differences(name, facts, [sample for _, sample in fresh], known))
        if not wrong:
            wrong = list(differences(name, facts, lesson.sampler.samples, known))
            if not wrong:
                facts["verified"] = {"defaults": True, "random": len(fresh),
                                     "learned_from": len(lesson.sampler.samples)}
                return facts
        lesson.telling += [sample for sample, _ in wrong[:6]]
        failure = wrong[0][1]
        lesson.sampler.keep(fresh)
        lesson.sampler.keep(lesson.sampler.at_random(lesson.many))
        if rounds == ROUNDS and len(lesson.held) < MOST_HELD and hold_something(lesson, failure):
            rounds -= 2
    raise failure or Inexpressible("no samples")


def learned(lesson: Lesson) -> dict[str, Any]:
    """One attempt at the facts from the samples at hand."""
    samples = lesson.chosen = lesson.some()
    values = [each.values for each in samples]
    facts: dict[str, Any] = {"config": samples[0].values["model_type"]}
    parts = shared_parts(lesson)
    names = [own(each.memory, parts) for each in samples]
    memory = Form(values, names, lesson.vocabulary, lesson.hints)
    facts["memory"] = memory.layout()
    if parts:
        facts["memory"]["parts"] = [row for row, _ in parts]
    ties = tied(lesson, memory, parts)
    if ties:
        facts["ties"] = ties
    gone = sorted({name for each in samples for name in each.gone})
    if gone:
        facts["unsaved"] = gone
    if any(set(each.disk) != set(each.memory) - each.ties.keys() - each.gone
           or any(each.memory.get(n) != s for n, s in each.disk.items()) for each in samples):
        priors = list(memory.tensors.items())
        for alias, _, guard in ties:
            for row in entries_of(memory.tensors.get(alias, [])) if guard is not True else ():
                priors.append((alias, row | {"if": f"not ({guard})"}))
        try:
            facts["disk"] = disk_form(lesson, parts, priors)
        except Inexpressible as reason:
            if len(lesson.held) < MOST_HELD:
                raise
            facts["disk"] = {"uncovered": str(reason)}
    model = learner.model_class(lesson.name)
    facts["prefix"] = model.base_model_prefix
    for key, attribute in (
        ("missing_ok", "_keys_to_ignore_on_load_missing"),
        ("unexpected_ok", "_keys_to_ignore_on_load_unexpected"),
    ):
        patterns = sorted(getattr(model, attribute, None) or ())
        if patterns:
            facts[key] = patterns
    pinned = lesson.pinned()
    for row, _ in parts:
        if "auto" in row:
            before = row["config"] + "."
            pinned = {path: rows for path, rows in pinned.items() if not path.startswith(before)}
    if pinned:
        facts["pinned"] = pinned
    most = thresholds(lesson, facts)
    if most:
        facts["most"] = most
    return facts


def thresholds(lesson: Lesson, facts: Mapping[str, Any]) -> dict[str, int]:
    """Counts that only thresholds describe: nothing is known beyond the largest one tried."""
    text = repr(facts)
    found: dict[str, int] = {}
    for path in lesson.vocabulary.fields:
        spelled = re.findall(rf"(?<![\w.]){re.escape(path)} > \d+", text)
        if any(f"({each})" not in lesson.vocabulary.conditions for each in spelled):
            values = [sample.values.get(path) for sample in lesson.sampler.samples]
            found[path] = max(each for each in values if type(each) is int)
    return found


def own(names: Mapping[str, Any], parts: list[tuple[dict[str, Any], str]]) -> dict[str, Any]:
    """What does not belong to a part."""
    places = tuple(row["at"] for row, _ in parts)
    return {n: s for n, s in names.items() if not n.startswith(places)} if places else dict(names)


def shared_parts(lesson: Lesson) -> list[tuple[dict[str, Any], str]]:
    """Submodels that are learned classes and exactly what those facts say, in every sample."""
    samples = lesson.sampler.samples
    found: list[tuple[dict[str, Any], str]] = []
    first = {part.at: part for part in samples[0].parts}
    for at, part in first.items():
        if part.config is None or any(each.isdigit() for each in at.split(".")):
            continue
        row = part_row(lesson, at, part.config)
        if row is not None:
            found.append((row, at))
    return found


def part_row(lesson: Lesson, at: str, config: str) -> dict[str, Any] | None:
    """The part's row, None where it is not always exactly one learned class."""
    kinds: set[str] = set()
    without: set[str] | None = None
    followed = True
    base = learner.classes_by_type()
    for sample in lesson.sampler.samples:
        here = [each for each in sample.parts if each.at == at]
        if len(here) != 1 or here[0].config != config:
            return None
        kind = here[0].name
        kinds.add(kind)
        model_type = sample.values.get(f"{config}.model_type" if config else "model_type")
        followed = followed and base.get(str(model_type), {}).get("base") == kind
        if kind not in lesson.known:
            return None
        inner = sub_values(sample.values, config)
        try:
            wanted = predicted(lesson.known[kind], "memory", inner, lesson.known)
        except Uncovered:
            return None
        real = {n.removeprefix(at): s for n, s in sample.memory.items() if n.startswith(at)}
        if any(wanted.get(name) != shape for name, shape in real.items()):
            return None
        missing = {re.sub(r"(?<=\.)\d+(?=\.)", "#", each) for each in wanted.keys() - real.keys()}
        if any("#" in each for each in missing):
            return None
        without = missing if without is None else without
        if missing != without:
            return None
    row: dict[str, Any] = {"at": at, "config": config}
    if followed and config and "base" in kinds_of(kinds, base):
        row["auto"] = "base"
    elif len(kinds) == 1:
        row["class"] = kinds.pop()
    else:
        return None
    if without:
        row["without"] = sorted(without)
    return row


def kinds_of(kinds: set[str], base: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Tasks under which the classes are filed."""
    return {task for tasks in base.values() for task, name in tasks.items() if name in kinds}


def sub_values(values: Mapping[str, Any], config: str) -> dict[str, Any]:
    """The fields of a sub-config as a config of its own."""
    if not config:
        return dict(values)
    before = config + "."
    return {k.removeprefix(before): v for k, v in values.items() if k.startswith(before)}


def tied(
    lesson: Lesson, memory: Form, parts: list[tuple[dict[str, Any], str]]
) -> list[list[Any]]:
    """Rows (alias, keeper, condition) with index variables.

    Raises:
        Inexpressible: a tie that does not follow one pattern.
    """
    samples = lesson.chosen
    rows: dict[tuple[str, str], set[tuple[int, ...]]] = {}
    place: dict[tuple[int, str], tuple[str, tuple[int, ...]]] = {}
    for template in memory.templates:
        for point, name in template.names.items():
            place[point[0], name] = (template.name, point)
    chains = {template.name: template.chain for template in memory.templates}
    for at, sample in enumerate(samples):
        for alias, keeper in sample.ties.items():
            one, point = place.get((at, alias), (alias, (at,)))
            other, target = place.get((at, keeper), (keeper, (at,)))
            if "{" in other and target[1:] != point[1 : len(target)]:
                other = keeper
            rows.setdefault((one, other), set()).add(point)
    found: list[list[Any]] = []
    for (alias, keeper), points in sorted(rows.items()):
        chain = chains.get(alias, ())
        fitter = memory._fitters[chain]
        wanted = np.fromiter(
            (each in points for each in fitter.universe.points),
            dtype=bool,
            count=len(fitter.universe.points),
        )
        try:
            guard = fitter.condition(wanted)
        except NoFit:
            raise Inexpressible("tie", alias) from None
        found.append([alias, keeper, True if guard is None else guard])
    return found


def disk_form(
    lesson: Lesson, parts: list[tuple[dict[str, Any], str]], priors: list[tuple[str, Any]]
) -> dict[str, Any]:
    """The form of what a fresh save writes, its parts found again under their name on disk.

    Args:
        lesson: the class.
        parts: rows of the parts in memory.
        priors: rows of the tensors in memory, whose sizes and conditions serve here too.
    """
    samples = lesson.chosen
    rows: list[dict[str, Any]] = []
    pins: dict[str, list[Any]] = {}
    left = [dict(each.disk) for each in samples]
    for row, _ in parts:
        place = disk_place(lesson, row, left)
        if place is None:
            # The wrapper renames inside the part: spelled out for the kinds of part seen.
            before = row["config"] + "." if row["config"] else ""
            for path, allowed in lesson.pinned().items():
                if path.startswith(before):
                    pins[path] = allowed
            continue
        rows.append(row | {"at": place})
        for names, sample in zip(left, samples, strict=True):
            for name in part_on_disk(lesson, row, sample):
                names.pop(place + name, None)
    # A share of a tensor on disk is often half of one in memory, or one of a stack.
    values = [each.values for each in samples]
    form = Form(values, left, lesson.vocabulary, lesson.hints, priors)
    layout = form.layout()
    if rows:
        layout["parts"] = rows
    if pins:
        layout["pinned"] = pins
    return layout


def part_on_disk(lesson: Lesson, row: Mapping[str, Any], sample: Built) -> dict[str, Any]:
    """What a part alone would write; raises Uncovered."""
    kind = next(each.name for each in sample.parts if each.at == row["at"])
    found = predicted(
        lesson.known[kind], "disk", sub_values(sample.values, row["config"]), lesson.known
    )
    return {n: s for n, s in found.items() if n not in row.get("without", ())}


def disk_place(
    lesson: Lesson, row: Mapping[str, Any], left: list[dict[str, Any]]
) -> str | None:
    """The prefix on disk under which the whole part stands in every sample."""
    places: set[str] | None = None
    for names, sample in zip(left, lesson.chosen, strict=True):
        try:
            wanted = part_on_disk(lesson, row, sample)
        except Uncovered:
            return None
        if not wanted:
            continue
        longest = max(wanted, key=lambda each: (len(each), each))
        here = {
            place
            for name in names
            if name.endswith(longest)
            and ((place := name[: -len(longest)]) == "" or place.endswith("."))
            and all(names.get(place + each) == shape for each, shape in wanted.items())
        }
        places = here if places is None else places & here
    if not places:
        return None
    return max(places, key=lambda each: (each == row["at"], len(each)))


def differences(
    name: str, facts: Mapping[str, Any], samples: list[Built], known: Mapping[str, Any]
) -> Iterator[tuple[Built, Inexpressible]]:
    """What the facts say otherwise than the library, for each sample where they do."""
    both = ChainMap({name: dict(facts)}, known)  # type: ignore[arg-type]
    for sample in samples:
        for kind, real in (("memory", sample.memory), ("disk", sample.disk)):
            try:
                said = predicted(facts, kind, sample.values, both)
            except Uncovered:
                continue
            if said != real:
                wrong = sorted(n for n in said.keys() | real.keys() if said.get(n) != real.get(n))
                first = wrong[0]
                problem = f"{kind}: {len(wrong)} wrong, {said.get(first)} for {real.get(first)}"
                yield sample, Inexpressible(problem, first)
                break


def hold_something(lesson: Lesson, failure: Inexpressible) -> bool:
    """Tie one more field to its default: one behind what could not be explained.

    What is known of the class then holds for that value only, and says so. False where no
    single field is behind it.
    """
    sampler = lesson.sampler
    touches = pattern_of(failure.names)
    first = restricted(sampler.first, touches)
    behind = [
        path
        for path, changed_ones in sampler.alone.items()
        if path in sampler.choices
        and any(restricted(each, touches) != first for each in changed_ones)
    ]
    if not behind:
        return False
    names = [restricted(each, touches) for each in sampler.samples]
    rows: list[tuple[bool, bool, int, str, list[int]]] = []
    for path in behind:
        value = sampler.first.values.get(path)
        inside = [at for at, each in enumerate(sampler.samples) if each.values.get(path) == value]
        renames = any(restricted(each, touches).keys() != first.keys()
                      for each in sampler.alone[path])
        # Lists and words before numbers, which models vary most.
        rows.append((type(value) is int, not renames, -len(inside), path, inside))
    rows.sort()
    chosen = rows[0][3]
    for _, _, _, path, inside in rows[:6]:
        Patience.seconds(2)
        try:
            Form(
                [sampler.samples[at].values for at in inside],
                [names[at] for at in inside], lesson.vocabulary, lesson.hints,
            )
        except Inexpressible:
            continue
        chosen = path
        break
    if lesson.cut and is_count(chosen):
        raise CutCount(chosen)
    lesson.held[chosen] = sampler.first.values.get(chosen)
    sampler.hold(chosen)
    sampler.deadline = max(sampler.deadline, time.process_time() + 6)
    if len(sampler.samples) < lesson.many:
        sampler.keep(sampler.at_random(lesson.many))
    return True


def is_count(path: str) -> bool:
    """Whether the learner may have reduced this field."""
    key = path.rpartition(".")[2]
    return bool(learner.LAYERS.fullmatch(key) or learner.EXPERTS.fullmatch(key))


def pattern_of(names: str) -> re.Pattern[str]:
    """A template, a name or a beginning with `*`, whatever its numbers."""
    text = re.escape(re.sub(r"\{[ijkl]\}|(?<=[._])\d+(?=\.|$)", "#", names.rstrip("*")))
    text = text.replace(r"\#", r"\d+")
    return re.compile(text + (".*" if names.endswith("*") else ""))


def restricted(sample: Built, touches: re.Pattern[str]) -> dict[str, Any]:
    """The names in memory, on disk and of aliases that match, with what is said of them."""
    found: dict[str, Any] = {n: s for n, s in sample.memory.items() if touches.fullmatch(n)}
    found |= {n: s for n, s in sample.disk.items() if touches.fullmatch(n)}
    found |= {f"tied:{n}": (len(k),) for n, k in sample.ties.items() if touches.fullmatch(n)}
    return found
