"""Configs to build a class with: small ones, and the tie flag on every level."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from tidoctor.atlas.learner.known import Unbuildable, model_class
from tidoctor.atlas.learner.seeds import (
    CLASS_SEEDS,
    EXPERTS,
    FEW_EXPERTS,
    FEW_LAYERS,
    LAYERS,
    OPEN_VALUES,
    SEEDS,
)


def config_class_of(name: str, model_types: Iterable[str]) -> Any:
    """The config class the model class declares, else that of its first model type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    declared: Any = getattr(model_class(name), "config_class", None)
    named: str = getattr(declared, "model_type", "")
    if named:
        return declared
    for model_type in model_types:
        if model_type in CONFIG_MAPPING:
            return CONFIG_MAPPING[model_type]
    raise Unbuildable(f"{name} has no config class")


@functools.cache
def default_values(config_class: Any) -> str:
    """The class's default config as JSON (a string, so that the cache cannot be changed)."""
    return json.dumps(default_config(config_class).to_dict(), default=str)


def default_config(config_class: Any) -> Any:
    """The config a `config.json` that says nothing stands for."""
    return config_class(**SEEDS.get(config_class.model_type, {}))


def fill(values: dict[str, Any]) -> None:
    """Give open values something a model can be built with."""
    for key, value in values.items():
        if isinstance(value, dict):
            fill(value)
        elif value is None and key in OPEN_VALUES:
            values[key] = OPEN_VALUES[key]


def shrink(values: dict[str, Any]) -> None:
    """Cut down what only costs time: layers (with the lists that run along them), experts."""
    for key, value in list(values.items()):
        if isinstance(value, dict):
            shrink(value)
        elif not isinstance(value, int) or isinstance(value, bool):
            continue
        elif EXPERTS.fullmatch(key):
            values[key] = min(value, FEW_EXPERTS)
        elif LAYERS.fullmatch(key) and value > FEW_LAYERS:
            values[key] = FEW_LAYERS
            for other, along in values.items():
                if isinstance(along, list) and len(along) == value:
                    values[other] = along[:FEW_LAYERS]


class Variant(NamedTuple):
    """How to build: the tie flag at the top and below, a cut-down size, open values set."""

    top: bool
    inner: bool
    small: bool = True
    filled: bool = False


def with_flag(name: str, config_class: Any, variant: Variant) -> Any:
    """A default config read from a dict that states the tie flag on every level.

    Going through `from_dict` matters: some config classes overrule the flag while they are
    built (T5 forces it to true), and setting the attribute afterwards would hide that.
    """
    values = json.loads(default_values(config_class)) | CLASS_SEEDS.get(name, {})
    if variant.small:
        shrink(values)
    if variant.filled:
        fill(values)
    state_flag(values, variant.top, variant.inner)
    try:
        return config_class.from_dict(values)
    except Exception as error:
        if "tie_word_embeddings" not in str(error):
            raise
        state_flag(values, False, False)  # a config that refuses true (DBRX)
        return config_class.from_dict(values)


# Config values in a dict that are no language model (a per-layer table) or a second one beside
# the one that counts (the speech half of an omni model).
NOT_THE_TEXT = ("per_layer_config", "depth_decoder_config", "talker_config")


def state_flag(values: dict[str, Any], top: bool, inner: bool) -> None:
    """Write the flag into a config dict and into its sub-configs."""
    values["tie_word_embeddings"] = top
    for key, value in values.items():
        if key.endswith("_config") and isinstance(value, dict) and key not in NOT_THE_TEXT:
            state_flag(value, inner, inner)


def flag_facts(config_class: Any) -> dict[str, Any]:
    """Default of the flag in transformers 5 and whether a text_config's flag moves up."""
    plain = default_config(config_class)
    default = getattr(plain, "tie_word_embeddings", None)
    nested = getattr(plain, "text_config", None) is not None
    bridged = nested and all(flag_from_text(config_class, plain, flag) for flag in (True, False))
    return {
        "v5": default if isinstance(default, bool) else None,
        "nested": nested,
        "bridged": bridged,
    }


def flag_from_text(config_class: Any, plain: Any, flag: bool) -> bool:
    """Whether a config that states the flag only inside text_config takes that value."""
    with contextlib.suppress(Exception):
        text = plain.text_config.to_dict() | {"tie_word_embeddings": flag}
        values = {"model_type": config_class.model_type, "text_config": text}
        return getattr(config_class.from_dict(values), "tie_word_embeddings", None) is flag
    return False
