"""Rotary settings and kinds of layers: what config.json means, and what a consumer makes of it.

transformers 5 keeps base, scaling and the rotated part of a head in `rope_parameters`, for some
classes once for each kind of layer; before, and in most other programs, they are `rope_theta`,
`rope_scaling` and `partial_rotary_factor` at the top level. Where both stand, transformers 5 goes
by `rope_scaling` before `rope_parameters`, and by the base in them before the one at the top level
(modeling_rope_utils.py at 5.23.0, read and run).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tidoctor.finding import Verdict
from tidoctor.loaders.case import FAILS, MISREADS, Case
from tidoctor.loaders.policy import Key, Scaling
from tidoctor.names import printable

Settings = Mapping[str, object]

# Spellings of one way of stretching.
_SAME = {"su": "longrope"}
# Keys of the top level that stand elsewhere under another name.
_HOMES = {
    "rope_theta": ("rope_parameters", "rope_theta"),
    "partial_rotary_factor": ("rope_parameters", "partial_rotary_factor"),
}


def scaled(settings: Settings) -> Mapping[str, object] | None:
    """The rotary settings that stretch the base, of layers of any kind; None where none do."""
    rope = settings.get("rope_parameters")
    for one in (settings.get("rope_scaling"), rope, *parts(rope)):
        if isinstance(one, Mapping) and kind(one) not in ("", "default"):
            return one
    return None


def parts(rope: object) -> tuple[Mapping[str, object], ...]:
    """The settings of each kind of layer, none where they are those of all layers."""
    if not isinstance(rope, Mapping):
        return ()
    return tuple(v for v in rope.values() if isinstance(v, Mapping))


def kind(rope: Settings) -> str:
    """How rotary settings stretch the base, "" where they do not say."""
    said = rope.get("rope_type", rope.get("type"))
    return _SAME.get(said, said) if isinstance(said, str) else ""


def scaling_taken(case: Case) -> Verdict | None:
    """A way of stretching the rotary base at which the consumer stops."""
    policy, rope = _policy(case), _read(case)
    if rope is None:
        return None
    if policy.word and policy.word not in rope:
        return case.said(
            FAILS, f"it wants {policy.word} in rope_scaling of config.json", "scaling_word",
            cause="config", quoting={"key": policy.word},
        )  # fmt: skip
    how = kind(rope)
    if how not in ("", "default") and _named(policy.refuses, policy, how):
        return case.said(
            FAILS, f"it does not take a rotary base stretched by {printable(how)}", "scaling",
            cause="config", quoting={"type": how},
        )  # fmt: skip
    return None


def scaling_understood(case: Case) -> Verdict | None:
    """A way of stretching the rotary base that it does not see, or does not take notice of."""
    policy, meant = _policy(case), scaled(case.patient.settings)
    if meant is None and policy.own:
        return _by_default(case)
    if meant is None or "*" in policy.takes:
        return None
    how = printable(kind(meant))
    unknown = f"what it makes of a rotary base stretched by {how} is not recorded"
    if not policy.known:
        return case.unknown(unknown)
    rope = _read(case)
    if _named(policy.skips, policy, kind(meant)):
        why = f"it takes no notice that config.json stretches the rotary base by {how}"
        return case.said(MISREADS, why, cause="config")
    if rope is None or kind(rope) in ("", "default"):
        why = (
            f"it looks for {' or '.join(policy.reads)} in config.json, finds none and does not "
            f"stretch the rotary base by {how}, as rope_parameters says"
        )
        return case.said(MISREADS, why, cause="config")
    how = kind(rope)
    if _named(policy.alters, policy, how):
        why = f"it stretches the rotary base by {printable(how)} otherwise than transformers does"
        return case.said(MISREADS, why, cause="config")
    for name, _, condition in (way.partition("/") for way in policy.takes):
        if name == how:
            return _on_condition(case, rope, how, condition)
    return case.unknown(unknown)


def _by_default(case: Case) -> Verdict | None:
    """Some classes stretch the base by themselves where they find no rope_scaling (gpt-oss)."""
    settings = case.patient.settings
    if isinstance(settings.get("rope_parameters"), Mapping) and "rope_scaling" not in settings:
        return case.unknown("whether it stretches the rotary base of itself is not recorded")
    return None


def _policy(case: Case) -> Scaling:
    return case.record.scaling or Scaling()


def _named(ways: Sequence[str], policy: Scaling, how: str) -> bool:
    """Whether a way is among some, by its name or as any that is not named elsewhere."""
    if how in ways:
        return True
    named = (*policy.takes, *policy.alters, *policy.skips, *policy.refuses)
    return "*" in ways and how not in {way.partition("/")[0] for way in named}


def _on_condition(case: Case, rope: Settings, how: str, condition: str) -> Verdict | None:
    """`ratio`: the factor is that of the two lengths; `length`: the length is the original one."""
    length = _one(case.patient.settings.get("max_position_embeddings"))
    original = _one(rope.get("original_max_position_embeddings", length))
    factor = _one(rope.get("factor"))
    if not condition or (condition == "length" and original == length):
        return None
    if condition == "ratio" and original and factor and original * factor == length:
        return None
    return case.unknown(
        f"what it makes of {how} with these lengths is not known: it reads factor and "
        "original_max_position_embeddings otherwise"
    )


def _read(case: Case) -> Settings | None:
    """The settings that the consumer reads, None where it finds none."""
    for key in _policy(case).reads:
        found = case.patient.settings.get(key)
        if isinstance(found, Mapping):
            full = found.get("full_attention")  # alone may be stretched where layers differ
            return full if isinstance(full, Mapping) else found
    return None


# --- single values --------------------------------------------------------------------------------


def values_understood(case: Case) -> Verdict | None:
    """A value that the consumer seeks in the wrong place and replaces by its own."""
    settings = case.patient.settings
    rope = settings.get("rope_parameters")
    if settings.get("rope_theta", 0) is None and not isinstance(rope, Mapping):
        return case.unknown("rope_theta is null in config.json, at which some stop")
    for key in case.record.config:
        found = _value(case, key)
        if found is not None:
            return found
    return None


def _value(case: Case, key: Key) -> Verdict | None:
    settings = case.patient.settings
    path = key.instead or _HOMES.get(key.name)
    if path is None:
        return None
    meant = _meant(settings, path)
    where = ".".join(path)
    if settings.get(key.name) is not None:
        return _contradicted(case, key.name, meant, where) if path[0] == "rope_parameters" else None
    if key.instead is None or not meant or meant == {key.absent}:
        return None
    if key.absent is None or len(meant) > 1:
        told = "what it does then" if key.absent is None else "which layers it means"
        return case.unknown(
            f"config.json has {where} and no {key.name}, and {told} is not known: "
            f"write {key.name} at the top level to be sure"
        )
    return case.said(
        MISREADS,
        f"it looks for {key.name} at the top level of config.json only, finds none and "
        f"computes with {key.absent:g} instead of {min(meant):g}",
        cause="config",
    )


def _contradicted(case: Case, name: str, meant: set[float], where: str) -> Verdict | None:
    """A key of the top level whose value is not the one that transformers 5 goes by."""
    settings = case.patient.settings
    if isinstance(settings.get("rope_scaling"), Mapping):
        return None  # it stands in place of rope_parameters
    here = _meant(settings, (name,))
    if not here or not meant or here & meant:
        return None
    return case.said(
        MISREADS,
        f"it takes {name} = {min(here):g} of the top level of config.json, where transformers 5 "
        f"goes by {where} = {min(meant):g}",
        cause="config",
    )


def _meant(settings: Settings, path: Sequence[str]) -> set[float]:
    """The numbers at a path of config.json: several where kinds of layers differ."""
    found: object = settings
    for i, step in enumerate(path):
        inner = found.get(step) if isinstance(found, Mapping) else None
        if inner is None and i == 1 and path[0] == "rope_parameters":
            return {n for part in parts(found) for n in _numbers(part.get(step))}
        found = inner
    return _numbers(found)


def _numbers(value: object) -> set[float]:
    number = _one(value)
    return set() if number is None else {number}


def _one(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# --- kinds of layers ------------------------------------------------------------------------------


def layers_understood(case: Case) -> Verdict | None:
    """Kinds of layers that the consumer lays out by a number, where config.json lists them."""
    layout, settings = case.record.layout, case.patient.settings
    listed = settings.get("layer_types")
    if layout is None or not isinstance(listed, list) or not listed:
        return None
    if layout.key is None:
        return case.unknown("whether it goes by layer_types is not known")
    said = settings.get(layout.key)
    every = said if isinstance(said, int) and not isinstance(said, bool) else layout.absent
    if every < 1:
        return case.unknown(f"{layout.key} is {every}")
    if layout.short == "fails" and len(listed) < every:
        return case.said(
            FAILS, f"it wants as many layers as {layout.key} says, {every} where it is absent",
            "layout", cause="layout",
        )  # fmt: skip
    kinds = ("full_attention", "sliding_attention")
    for i, kind_of in enumerate(listed, 1):
        if kind_of != kinds[bool(i % every)]:
            return case.said(
                MISREADS,
                f"it goes by {layout.key}, {layout.absent} where it is absent, and not by "
                f"layer_types: layer {i - 1} is laid out as {kinds[bool(i % every)]}",
                cause="layout",
            )  # fmt: skip
    return None
