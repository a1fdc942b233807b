"""One attempt at the facts about a class from the samples at hand: forms, ties, parts."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tidoctor.atlas import learner
from tidoctor.atlas.learn.builds import Built
from tidoctor.atlas.learn.forms import Form, Inexpressible, entries_of
from tidoctor.atlas.learn.lesson import Lesson
from tidoctor.atlas.learn.predict import Uncovered, predicted
from tidoctor.atlas.learn.trying import distinct
from tidoctor.atlas.learn.universe import NoFit
from tidoctor.atlas.learn.write import compared_in, expressions

# Random builds, against which facts are held that were learned from others.
HELD_OUT = 16
# Tasks for which wrappers ask for the class of a submodel by its config, `AutoModelForCausalLM`.
FOLLOWED = ("base", "causal-lm")


def learned(lesson: Lesson) -> dict[str, Any]:
    """One attempt at the facts from the samples at hand; raises Inexpressible."""
    samples = lesson.chosen = lesson.some()
    values = [each.values for each in samples]
    facts: dict[str, Any] = {"config": samples[0].values["model_type"]}
    parts = shared_parts(lesson)
    names = [own(each.memory, parts) for each in samples]
    memory = Form(values, names, lesson.vocabulary, lesson.hints, spelled=lesson.spelled)
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
            if lesson.both:
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
    for path in followed_pins(lesson, [row for row, _ in parts], pinned):
        del pinned[path]
    if pinned:
        facts["pinned"] = pinned
    most = thresholds(lesson, facts)
    if most:
        facts["most"] = most
    return facts


def followed_pins(
    lesson: Lesson, parts: Iterable[Mapping[str, Any]], pinned: Iterable[str]
) -> set[str]:
    """Pinned fields of sub-configs whose class is that of their type, here or within the body.

    They stand with that class. What a head makes of such a sub-config besides is its own.
    """
    kinds = learner.classes_by_type()
    found: set[str] = set()
    for row in parts:
        if "auto" in row:
            found |= {path for path in pinned if path.startswith(f"{row['config']}.")}
        elif not row["config"]:
            for part in lesson.known[row["class"]].get("memory", {}).get("parts", ()):
                if "auto" in part:
                    at = part["config"]
                    model_type = str(lesson.sampler.first.values[f"{at}.model_type"])
                    name = kinds.get(model_type, {}).get(part["auto"], "")
                    theirs = lesson.known[name].get("pinned", {}) if name in lesson.known else {}
                    own = {f"{at}.{path}" for path in (*theirs, "model_type")}
                    found |= own & set(pinned)
    return found


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


def steps_in(facts: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Fields and the numbers of two digits or more at which something changes."""
    found: set[tuple[str, int]] = set()
    for text in expressions(facts):
        for path, constants in compared_in(text).items():
            found |= {(path, each) for each in constants if type(each) is int and each >= 10}
    return sorted(found)


def unproven(facts: Mapping[str, Any], samples: list[Built]) -> dict[str, list[Any]]:
    """Fields with a step that was not seen with two values on either side: these, with all seen.

    A ladder of numbers fits whatever few values were tried; between and beyond them it is a guess.
    """
    found: dict[str, list[Any]] = {}
    for path, number in steps_in(facts):
        seen = distinct([sample.values.get(path) for sample in samples])
        numbers = [each for each in seen if type(each) in (int, float)]
        below = [each for each in numbers if each < number]
        above = [each for each in numbers if each > number]
        if len(below) < 2 or len(above) < 2:
            found[path] = seen
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
    followed = set(FOLLOWED)
    tasks = learner.classes_by_type()
    for sample in lesson.sampler.samples:
        here = [each for each in sample.parts if each.at == at]
        if len(here) != 1 or here[0].config != config:
            return None
        kind = here[0].name
        kinds.add(kind)
        model_type = sample.values.get(f"{config}.model_type" if config else "model_type")
        followed -= {t for t in followed if tasks.get(str(model_type), {}).get(t) != kind}
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
    if followed and config:
        row["auto"] = min(followed, key=FOLLOWED.index)
    elif len(kinds) == 1:
        row["class"] = kinds.pop()
    else:
        return None
    if without:
        row["without"] = sorted(without)
    return row


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
    form = Form(values, left, lesson.vocabulary, lesson.hints, priors, lesson.spelled)
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
