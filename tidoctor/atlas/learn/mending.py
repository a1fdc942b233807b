"""What was found wrong goes back into learning: counters, then pins, and only then out.

A wrong answer comes with the raw config that showed it and, from the scan, with the few fields
that it takes. The class is learned again with that config among its examples. Where it has no form
that explains it, a field is pinned to the values that were seen right: on others the facts say
nothing. A class that stays wrong all the same is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas.learn.builds import FIRST_SECONDS, Built, built, default_values
from tidoctor.atlas.learn.facts import differences
from tidoctor.atlas.learn.lesson import all_activations
from tidoctor.atlas.learn.samples import Values, altered, distinct, leaves

ABSENT = "absent"
PINS = "pins"
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
    """Those on which the facts say something else than the library."""
    pairs = list(pairs)
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


def pins_at(cache: Path, name: str) -> dict[str, list[Any]]:
    """Pins that were set here before."""
    path = cache / PINS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def pin(
    cache: Path, name: str, row: dict[str, Any], wrong: list[tuple[Values, Built]],
    right: Mapping[str, list[Any]], known: Rows, only_activations: bool = False,
) -> dict[str, Any] | None:
    """The row with pins on which nothing is wrong, None where pins do not help.

    Some activations have parameters, in places that need not be learned: without those few the
    class is what it was.

    Args:
        cache: of the learner; the pins are kept there.
        name: the class.
        row: its facts.
        wrong: raw configs with what the library makes of them, where the facts are wrong.
        right: field -> values that were seen right, nothing else being changed.
        known: facts about other classes.
        only_activations: pin nothing but names of activation functions.
    """
    pins = pins_at(cache, name)
    base = default_values(name)
    plain = dict(leaves(base))
    for raw, sample in wrong:
        made = row | {"pinned": row.get("pinned", {}) | pins}
        if not wrong_ones(name, made, [(raw, sample)], known):
            continue
        changes = narrowed(name, made, raw, known)
        guilty = sorted(changes, key=lambda p: preferred(p, plain.get(p)))
        for path in guilty:
            value = sample.values.get(path)
            named = isinstance(value, str) and value in all_activations()
            if path not in sample.values or (only_activations and not named):
                continue
            usual = plain.get(path, sample.values.get(path))
            if usual == sample.values[path]:
                usual = None
            allowed = made["pinned"].get(path)
            if allowed is None:
                allowed = [usual, *(right.get(path, []) if len(guilty) == 1 else [])]
                if named:
                    allowed = harmless(name, made, path, known)
            values = [e for e in distinct(allowed) if e != sample.values[path]]
            tried = pins | {path: values}
            again = row | {"pinned": row.get("pinned", {}) | tried}
            if not wrong_ones(name, again, [(raw, sample)], known):
                pins = tried
                break
        else:
            return None
    kept = cache / PINS / f"{name}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(pins))
    return row | {"pinned": row.get("pinned", {}) | pins}


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

