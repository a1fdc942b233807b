"""Holds what the shipped reader says of one class against real models, on configs made up here.

The defaults of the class as a full and as an almost empty config.json, and random configs of both
kinds, half of them from corners where the class has other tensors than usual. Each answer is
exact, wrong, or not covered.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.learn.builds import FIRST_SECONDS, Built, built, configured, default_values
from tidoctor.atlas.learn.dotted import Values, changed
from tidoctor.atlas.learn.samples import Sampler
from tidoctor.atlas.learn.trying import alternatives, is_inert

SECONDS = 12.0  # of processor time for one class
FLIPS = 8  # fields that are changed alone, to find the corners


class Result(NamedTuple):
    """One class: how many answers were exact, wrong and not covered, and an example.

    Attributes:
        silent: why there is no answer to the library's own defaults in full, "" where there is.
        counters: raw configs on which the answer was wrong.
    """

    name: str
    exact: int
    wrong: int
    uncovered: int
    example: str
    reason: str
    silent: str = ""
    counters: tuple[Values, ...] = ()


def one(job: tuple[str, int, str]) -> Result:
    """Examine one class: its name, the number of random configs, and a seed for them."""
    name, count, seed = job
    counts: Counter[str] = Counter()
    example = reason = ""
    counters: list[Values] = []
    try:
        rows = configs_of(name, count, seed)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        return Result(name, 0, 0, 1, "", reason, reason)
    for raw, sample in rows:
        for values in (raw, sparse(name, raw)):
            if values is None:
                continue
            verdict, words = judged(name, values, sample)
            counts[verdict] += 1
            if verdict == "wrong":
                example = example or words
                if raw not in counters:
                    counters.append(raw)
            if verdict == "uncovered" and not reason:
                reason = words
    full = default_values(name, cut=False)
    silent = refusal(name, full)
    if not silent and not counts["exact"]:  # the facts hold for the whole model only
        verdict, words = judged(name, full, built(name, full, FIRST_SECONDS, parts=False))
        counts[verdict] += 1
        example = example or (words if verdict == "wrong" else "")
    return Result(
        name, counts["exact"], counts["wrong"], counts["uncovered"], example, reason,
        silent, tuple(counters),
    )  # fmt: skip


def refusal(name: str, values: Values) -> str:
    """Why the reader says nothing of a config, "" where it answers."""
    try:
        _ = expectation(json.loads(json.dumps(values, default=str)), name).disk
    except NotCovered as error:
        return error.reason
    return ""


def configs_of(name: str, count: int, seed: str) -> list[tuple[Values, Built]]:
    """The defaults and so many random configs, with what the library makes of each."""
    base = default_values(name)
    sampler = Sampler(name, base, SECONDS, seed=hash_of(seed), parts=False)
    if not count:
        return [(base, sampler.first)]
    flips = loose(sampler)
    sampler.random.shuffle(flips)
    for path in flips[:FLIPS]:
        for other in sampler.choices.pop(path)[:2]:
            try:
                values = changed(base, path, other)
            except (KeyError, TypeError, AttributeError):
                continue
            if sampler.try_one(values, disk=False) is not None:
                sampler.choices.setdefault(path, []).append(other)
    list(sampler.together())
    return [(base, sampler.first), *sampler.at_random(count)]


def loose(sampler: Sampler) -> list[str]:
    """Choices for the random configs: every number, flag, list and null the config states.

    Returns those that may change which tensors there are.
    """
    flips = []

    def walk(values: dict[str, Any], before: str) -> None:
        for key, value in values.items():
            path = before + key
            if isinstance(value, dict) and "model_type" in value:
                walk(value, path + ".")
            elif not is_inert(path) and not path.endswith(("token_id", "seed", "version")):
                options = alternatives(value)
                if options and not isinstance(value, str):
                    sampler.choices[path] = options[:3]
                    if not isinstance(value, int | float) or isinstance(value, bool):
                        flips.append(path)

    walk(sampler.base, "")
    return sorted(flips)


def hash_of(text: str) -> int:
    """A stable number for a seed text."""
    return int(sum(ord(each) * 31**at for at, each in enumerate(text)) % 2**31)


def sparse(name: str, raw: Values) -> Values | None:
    """The same config with every default left out, as `to_diff_dict` writes it."""
    try:
        config = configured(name, raw)
        values = json.loads(config.to_json_string(use_diff=True))
        again = configured(name, values)
        if again.to_dict() != config.to_dict():
            return None
    except Exception:
        return None
    return dict(values)


def judged(name: str, values: Values, sample: Built) -> tuple[str, str]:
    """Verdict on one answer."""
    values = copy.deepcopy(values) | {"architectures": [name]}
    try:
        said = expectation(json.loads(json.dumps(values, default=str)), name)
        memory = dict(said.memory)
    except NotCovered as error:
        return "uncovered", error.reason
    except Exception as error:
        return "wrong", f"the reader raised {type(error).__name__}: {error}"
    if memory != sample.memory:
        return "wrong", "memory: " + differing(memory, sample.memory)
    try:
        disk = dict(said.disk)
    except NotCovered as error:
        return "uncovered", f"disk: {error.reason}"
    if disk != sample.disk:
        return "wrong", "disk: " + differing(disk, sample.disk)
    return "exact", ""


def differing(
    said: Mapping[str, tuple[int, ...]], real: Mapping[str, tuple[int, ...]]
) -> str:
    """The first differences in words."""
    lost = sorted(real.keys() - said.keys())[:2]
    more = sorted(said.keys() - real.keys())[:2]
    other = sorted(n for n in said.keys() & real.keys() if said[n] != real[n])[:2]
    shapes = [(name, said[name], real[name]) for name in other]
    return f"not said {lost}, said in excess {more}, shapes {shapes}"
