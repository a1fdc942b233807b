"""What was found wrong goes back into learning: counters, then pins, and only then out.

A wrong answer comes with the raw config that showed it and, from the scan, with the few fields
that it takes. The class is learned again with that config among its examples. Where it has no form
that explains it, it is limited to values of a field that were seen right: on others the facts say
nothing. A class that stays wrong all the same is left out.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas.learn.builds import FIRST_SECONDS, Built, built, default_values
from tidoctor.atlas.learn.dotted import Values, altered, leaves
from tidoctor.atlas.learn.facts import differences
from tidoctor.atlas.learn.lesson import all_activations
from tidoctor.atlas.learn.trying import distinct, is_list_of_words, kinds_of_layers
from tidoctor.atlas.learn.write import fields_of

ABSENT = "absent"
LIMITS = "limits"
COUNTERS = "counters"
# Sizes that configs vary most; another field is pinned before one of them.
_COMMON = frozenset(
    (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "d_model", "max_position_embeddings",
        "num_labels", "tie_word_embeddings",
    )
)  # fmt: skip
MOST_NARROWED = 40  # fields of a config that are looked through for the few that it takes

Rows = Mapping[str, Any]


def samples_of(name: str, raws: Iterable[Values]) -> list[tuple[Values, Built]]:
    """Raw configs with what the library makes of them, those that it builds."""
    found = []
    for raw in raws:
        try:
            found.append((raw, built(name, raw, FIRST_SECONDS)))
        except Exception:
            continue
    return found


def wrong_ones(
    name: str, row: Rows, pairs: Iterable[tuple[Values, Built]], known: Rows
) -> list[tuple[Values, Built]]:
    """Those on which the facts say something else than the library.

    A field that no config declares and that a class asks for all the same is None where it is not
    given. Only the process that learned the class knows of it from looking; the facts name it.
    """
    pairs = list(pairs)
    fields = fields_of(name, ChainMap({name: dict(row)}, known))  # type: ignore[arg-type]
    for _, sample in pairs:
        for path in fields - sample.values.keys():
            where = path.rpartition(".")[0]
            if not where or f"{where}.model_type" in sample.values:
                sample.values[path] = None
    wrong = {id(each) for each, _ in differences(name, row, [s for _, s in pairs], known)}
    return [(raw, sample) for raw, sample in pairs if id(sample) in wrong]


def changes_in(name: str, raw: Values) -> dict[str, Any]:
    """The fields in which a raw config differs from the class's base."""
    base = dict(leaves(default_values(name)))
    return {path: value for path, value in leaves(raw) if base.get(path, leaves) != value}


def narrowed(name: str, row: Rows, raw: Values, known: Rows) -> dict[str, Any]:
    """The few changes that a wrong answer takes, beginning at the base of the class."""
    changes = changes_in(name, raw)
    if len(changes) > MOST_NARROWED:
        return changes
    base = default_values(name)
    for path in list(changes):
        fewer = {key: value for key, value in changes.items() if key != path}
        made = base
        for key, value in fewer.items():
            made = altered(made, key, value)
        if fewer and wrong_ones(name, row, samples_of(name, [made]), known):
            changes = fewer
    return changes


def limits_at(cache: Path, name: str) -> dict[str, dict[str, Any]]:
    """Limits that were set here before: `pinned`, `least`, `most` and `words`."""
    path = cache / LIMITS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def limited(row: Rows, limits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row that holds within limits only."""
    return dict(row) | {kind: row.get(kind, {}) | dict(each) for kind, each in limits.items()}


def limit(
    cache: Path, name: str, row: Rows, wrong: list[tuple[Values, Built]],
    right: Mapping[str, list[Any]], known: Rows, mild: bool = False,
) -> dict[str, Any] | None:
    """Limit a class to where its facts are right; the limits, None where none help.

    A number that is wrong only when it is nought, or only beyond all that were right, gets a
    least or a most; other fields are pinned to the values that were seen right.

    Args:
        cache: of the learner; the limits are kept there.
        name: the class.
        row: its facts.
        wrong: raw configs with what the library makes of them, where the facts are wrong.
        right: field -> values that were seen right, nothing else being changed.
        known: facts about other classes.
        mild: only what costs next to nothing: no activation with parameters, no number nought.
    """
    limits = limits_at(cache, name)
    for raw, sample in wrong:
        made = limited(row, limits)
        if not wrong_ones(name, made, [(raw, sample)], known):
            continue
        changes = narrowed(name, made, raw, known)
        for kind, path, value in ways(name, made, changes, sample, right, known, mild):
            tried = limits | {kind: limits.get(kind, {}) | {path: value}}
            if not wrong_ones(name, limited(row, tried), [(raw, sample)], known):
                limits = tried
                break
        else:
            return None
    kept = cache / LIMITS / f"{name}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(limits))
    return limits


def ways(
    name: str, row: Rows, changes: Mapping[str, Any], sample: Built,
    right: Mapping[str, list[Any]], known: Rows, mild: bool,
) -> Iterator[tuple[str, str, Any]]:
    """Limits to try, those first that refuse least: kind, field and value."""
    plain = dict(leaves(default_values(name)))
    paths = [path for path in changes if path in sample.values]
    for path in sorted(paths, key=lambda each: preferred(each, plain.get(each))):
        value, usual = sample.values[path], plain.get(path)
        allowed = row.get("pinned", {}).get(path)
        words = row.get("words", {}).get(path)
        if isinstance(value, str) and value in all_activations():
            some = harmless(name, row, path, known) if allowed is None else allowed
            yield "pinned", path, [each for each in some if each != value]
        if type(value) is int and value == 0 and usual != 0:
            yield "least", path, 1
        if is_list_of_words(value) and is_list_of_words(usual) and (new := set(value) - set(usual)):
            some = sorted(kinds_of_layers()) if words is None else words
            yield "words", path, [each for each in some if each not in new]
    if mild:
        return
    for path in sorted(paths, key=lambda each: preferred(each, plain.get(each))):
        value, usual = sample.values[path], plain.get(path)
        allowed = row.get("pinned", {}).get(path)
        fine = distinct([usual, *(right.get(path, []) if len(changes) == 1 else [])])
        numbers = [each for each in fine if type(each) is int]
        if allowed is None and type(value) is int and len(numbers) > 2 and len(changes) == 1:
            if value < min(numbers):
                yield "least", path, min(numbers)
            if value > max(numbers):
                yield "most", path, max(numbers)
        yield "pinned", path, [e for e in (fine if allowed is None else allowed) if e != value]


def harmless(name: str, row: Rows, path: str, known: Rows) -> list[str]:
    """The activation functions with which the facts are right, nothing else being changed."""
    base = default_values(name)
    raws = {each: altered(base, path, each) for each in sorted(all_activations())}
    return [
        each
        for each, raw in raws.items()
        if (pairs := samples_of(name, [raw])) and not wrong_ones(name, row, pairs, known)
    ]


def preferred(path: str, value: Any) -> tuple[bool, bool, bool, bool, str]:
    """Which field to pin first: an activation, no common one, and none that is a number."""
    key = path.rpartition(".")[2]
    activation = isinstance(value, str) and value in all_activations()
    return not activation, key in _COMMON, type(value) is int, not value, path

