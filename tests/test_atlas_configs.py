"""What a config.json means to the atlas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.atlas_samples import made_up
from tidoctor.atlas import data
from tidoctor.atlas.configs import Absent, Resolved, resolve
from tidoctor.atlas.expression import NotCovered, parse
from tidoctor.atlas.learn.write import fields_of

CONFIGS: dict[str, Any] = {
    "plain": {
        "aliases": {"hidden_size": "n_embd", "width": "n_embd"},
        "fields": {
            "n_embd": "64",
            "heads": "4",
            "head_dim": "n_embd // heads",
            "kv": "heads",
            "ratio": "4",
            "flag": "False",
            "kind": "'full'",
            "layers": "2",
            "types": "['full' for i in range(layers)]",
            "window": {"default": "4096", "null": "None"},
            "rank": "None",
            "fixed": {"always": "n_embd + 1"},
            "padded": {"default": "0", "given": "value + kv"},
            "size": {"default": "224", "types": ["a number", "a list"]},
            "extra": {"absent": True},
            "nameless": {"default": None},
            "odd": {"default": "None", "opaque": True},
            "wide": {"default": "2 if mode == 'a' else 1", "seen": {"mode": ["a", "b"]}},
            "mode": "'a'",
            "num_labels": {
                "default": "len(id2label) if id2label is not None else 2",
                "given": "len(id2label) if id2label is not None else value",
            },
            "chicken": "egg",
            "egg": "chicken + 1",
        },
    },
    "older": {
        "fields": {
            "width": {"default": "8 if d is None else d", "given": "value if d is None else d"},
            "d": "None",
            "deep": "stated.width",
            "kinds": {"default": "['near', 'far']", "former": {"local": "near"}},
        },
        "parts": {"text_config": {"type": "text", "instead": "text_config_dict"}},
        "strange": {"pattern": None, "windows": True},
    },
    "layered": {
        "fields": {
            "layer_types": "['near', 'far', 'far']",
            "far_dim": {"default": "2"},
            "far_heads": {"default": "None"},
            "shared": "True",
        },
        "layered": {
            "kind": "far",
            "keys": {"dim": "far_dim", "heads": "far_heads", "window": None},
            "always": ["dim"],
            "if": {"heads": "shared"},
        },
    },
    "text": {"fields": {"hidden": "8", "double": "hidden * 2"}},
    "big_text": {"fields": {"hidden": "800"}},
    "both": {
        "aliases": {"llm_config": "text_config"},
        "fields": {"total": "text_config.hidden + 1", "hidden": "text_config.hidden"},
        "parts": {
            "text_config": {"type": "text", "open": True},
            "vision_config": {"type": "plain", "none": True},
            "audio_config": {"type": "text", "default": {"hidden": 5}},
            "fixed_config": {"type": "text"},
            "any_config": {"open": True},
            "low_config": {"type": "text", "lifted": ["double"]},
            "loop_config": {"type": "both"},
            "ruled_config": {
                "type": "text", "sets": {"hidden": {"always": "text_config.hidden"}},
            },
            "helped_config": {
                "type": "text", "sets": {"hidden": {"default": "text_config.hidden + 1"}},
            },
            "part_config": {"type": "text", "sets": {"hidden": {"missing": "6"}}},
            "odd_config": {"type": "text", "sets": {"hidden": {"always": None}}},
        },
        "lifted": {"text_config": ["hidden", "double"]},
    },
}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path) -> Iterator[None]:
    with data.using(made_up(tmp_path, configs=CONFIGS)):
        yield


def plain(**values: object) -> Resolved:
    return resolve({"model_type": "plain", **values})


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({}, "head_dim", 16),
        ({"heads": 8}, "head_dim", 8),
        ({"head_dim": 5}, "head_dim", 5),
        ({"head_dim": None}, "head_dim", 16),
        ({"heads": 8}, "kv", 8),
        ({"hidden_size": 32}, "n_embd", 32),
        ({"n_embd": 32}, "hidden_size", 32),
        ({"width": 32}, "hidden_size", 32),
        ({"n_embd": 32, "hidden_size": 32}, "width", 32),
        ({"layers": 3}, "types", ["full"] * 3),
        ({"types": ["a"]}, "types", ["a"]),
        ({}, "window", 4096),
        ({"window": None}, "window", None),
        ({"window": 7}, "window", 7),
        ({"rank": 3}, "rank", 3),
        ({"rank": "whatever"}, "rank", "whatever"),
        ({"fixed": 3}, "fixed", 65),
        ({"padded": 2}, "padded", 6),
        ({"padded": None}, "padded", 0),
        ({"ratio": 4.0}, "ratio", 4.0),
        ({"size": [1, 2]}, "size", [1, 2]),
        ({}, "model_type", "plain"),
        ({"extra": 3}, "extra", 3),
        ({"extra": None}, "extra", None),
        ({"nameless": 3}, "nameless", 3),
        ({}, "odd", None),
        ({}, "wide", 2),
        ({"mode": "b"}, "wide", 1),
        ({"mode": "c", "wide": 7}, "wide", 7),
        ({}, "num_labels", 2),
        ({"num_labels": 5}, "num_labels", 5),
        ({"num_labels": 5, "id2label": {"0": "A", "1": "B", "2": "C"}}, "num_labels", 3),
        ({"heads": "bad"}, "n_embd", 64),  # what is not asked for does no harm
    ],
)
def test_fields(values: dict[str, object], name: str, expected: object) -> None:
    assert plain(**values)[name] == expected


@pytest.mark.parametrize(
    ("values", "name", "reason"),
    [
        ({"heads": "four"}, "heads", '`heads` is "four", expected a number'),
        ({"heads": True}, "heads", "`heads` is true, expected a number"),
        ({"flag": 1}, "flag", "`flag` is 1, expected true or false"),
        ({"kind": 3}, "kind", "`kind` is 3, expected a string"),
        ({"types": "full"}, "types", '`types` is "full", expected a list'),
        ({"heads": [4]}, "heads", "`heads` is a list, expected a number"),
        ({"heads": {}}, "heads", "`heads` is an object, expected a number"),
        ({"size": "x"}, "size", "expected a number or a list"),
        ({"hidden_size": "x" * 999}, "n_embd", "`n_embd` is"),
        ({"n_embd": 1, "hidden_size": 2}, "n_embd", "`n_embd` and `hidden_size`"),
        ({"heads": 0}, "head_dim", "division by zero"),
        ({"layers": 10**9}, "types", "items"),
        ({"heads": 10**30}, "kv", "`heads` is too large"),
        ({}, "egg", "depends on itself"),
        ({}, "extra", "`extra` is not set, and has no default"),
        ({}, "nameless", "its default is not known"),
        ({"odd": 3}, "odd", "`odd` is 3, whose meaning is not known"),
        ({"mode": "c"}, "wide", '`wide` follows from `mode` in a way that is not known for "c"'),
        ({}, "unknown", "nothing is known of `unknown` in configs of plain"),
        ({}, "heads.x", "nothing is known of the fields of `heads`"),
        ({}, "rank.x", "`rank` is null"),
    ],
)
def test_what_is_not_covered(values: dict[str, object], name: str, reason: str) -> None:
    with pytest.raises(NotCovered) as raised:
        plain(**values).value(name)
    assert reason in raised.value.reason
    assert len(raised.value.reason) < 200 and "\n" not in raised.value.reason


def test_a_given_value_ends_a_circle() -> None:
    assert plain(chicken=3)["egg"] == 4
    assert plain(egg=3)["chicken"] == 3


@pytest.mark.parametrize("values", [{}, {"model_type": None}, {"model_type": 3}])
def test_a_config_without_a_type_needs_to_be_told(values: dict[str, object]) -> None:
    with pytest.raises(NotCovered, match="model_type"):
        resolve(values)
    assert resolve(values, "plain")["heads"] == 4


def test_an_unknown_type_is_not_covered() -> None:
    with pytest.raises(NotCovered, match='the model type "mine"'):
        resolve({"model_type": "mine"})


def test_settings_of_single_layers_are_not_covered() -> None:
    for given in (None, {}):  # Gemma 4 then has no larger heads in some layers, as it else has
        with pytest.raises(NotCovered, match="`per_layer_config`"):
            plain(per_layer_config=given)
    with pytest.raises(NotCovered, match="`per_layer_config` gives layers settings of their own"):
        plain(per_layer_config={"3": {"heads": 8}})
    with pytest.raises(NotCovered, match=r"`text_config\.per_layer_config`"):
        both(text_config={"per_layer_config": {"0": {"hidden": 9}}}).value("text_config.hidden")


# --- parts ---------------------------------------------------------------------------------------


def both(**values: object) -> Resolved:
    return resolve({"model_type": "both", **values})


def test_a_part_is_a_config_of_its_own() -> None:
    config = both(text_config={"hidden": 9}, audio_config=None)
    assert config["text_config.double"] == 18 and config["total"] == 10
    assert config["llm_config.hidden"] == 9
    assert config["audio_config.hidden"] == 5
    assert config["loop_config.loop_config.text_config.hidden"] == 8
    assert config.part("loop_config.text_config").model_type == "text"
    assert config.part("") is config
    assert (
        parse("text_config.hidden + 1 if text_config is not None else 0").value(config.value) == 10
    )


def test_what_a_part_lacks_is_set_around_it_and_a_null_is_no_lack() -> None:
    assert both()["part_config.hidden"] == both(part_config={})["part_config.hidden"] == 6
    assert both(part_config={"hidden": 9})["part_config.hidden"] == 9
    plain_part = both(part_config={"hidden": None})["part_config.hidden"]
    assert plain_part == resolve({"model_type": "text", "hidden": None})["hidden"] != 6


def test_every_rule_that_is_shipped_is_of_the_language() -> None:
    folder = resources.files("tidoctor.atlas") / "layouts"
    asked = 0
    for file in folder.iterdir():
        content = json.loads(file.read_bytes()) if file.name.endswith(".json") else {}
        configs = content.get("configs", {}).values() if file.name != "index.json" else ()
        for facts in configs:
            sets = [part.get("sets", {}) for part in facts.get("parts", {}).values()]
            for rule in (each for rules in (facts["fields"], *sets) for each in rules.values()):
                told = {"default": rule} if isinstance(rule, str) else rule
                for key in ("default", "always", "missing", "null", "given"):
                    if isinstance(told.get(key), str):
                        parse(told[key])
                        asked += 1
    assert asked > 7_000


def test_the_configs_that_are_shipped_have_every_field_that_a_class_reads() -> None:
    """A class that reads a field of which nothing is known answers for no config at all."""
    folder = resources.files("tidoctor.atlas") / "layouts"
    files = [json.loads(f.read_bytes()) for f in folder.iterdir() if f.name.endswith(".json")]
    learned = {
        name: facts for file in files for name, facts in file.get("classes", {}).items()
        if isinstance(facts, dict)
    }  # fmt: skip
    lost, asked = set(), 0
    with data.using(data.shipped()):
        for name, facts in learned.items():
            config = resolve({"model_type": facts["config"]}, facts["config"])
            for path in fields_of(name, learned):
                asked += 1
                here: object = config
                try:
                    for step in path.split("."):
                        here = here.value(step) if isinstance(here, Resolved) else None
                except Absent:
                    pass
                except NotCovered as e:
                    lost |= {(name, path)} if e.reason.startswith("nothing is known of") else set()
    assert not lost
    assert asked > 19_000


def test_no_part_is_none() -> None:
    assert parse("vision_config is None").value(both().value) is True
    assert parse("vision_config is None").value(both(vision_config={}).value) is False
    for ask in (both().part, both().value):
        with pytest.raises(NotCovered):
            ask("vision_config.heads")
    with pytest.raises(NotCovered, match="`vision_config` is null"):
        both().part("vision_config")
    with pytest.raises(NotCovered, match="no sub-config"):
        both().part("total")


def test_an_open_part_chooses_its_type() -> None:
    other = both(text_config={"model_type": "big_text"}).part("text_config")
    assert (other["hidden"], other.foreign) == (800, True)
    assert not both(text_config={"model_type": "text"}).part("text_config").foreign
    fixed = both(fixed_config={"model_type": "big_text"}).part("fixed_config")
    assert (fixed["hidden"], fixed.foreign) == (8, False)
    assert both(any_config={"model_type": "text"})["any_config.hidden"] == 8
    for given in (None, {}, {"model_type": 3}, {"model_type": "mine"}):
        with pytest.raises(NotCovered):
            both(any_config=given).part("any_config")


def test_flat_configs_are_lifted() -> None:
    assert both(hidden=3)["text_config.hidden"] == 3
    assert both(llm_config={"hidden": 4}, hidden=3)["text_config.hidden"] == 4
    assert both()["hidden"] == 8
    assert both(double=5)["low_config.double"] == 5


def test_a_part_is_told_by_the_config_around_it() -> None:
    config = both(text_config={"hidden": 9}, ruled_config={"hidden": 3}, helped_config={})
    assert config["ruled_config.hidden"] == 9 and config["ruled_config.double"] == 18
    assert config["helped_config.hidden"] == 10
    assert both(helped_config={"hidden": 3})["helped_config.double"] == 6
    with pytest.raises(NotCovered, match=r"`odd_config\.hidden` follows from fields around it"):
        both(odd_config={"hidden": 3}).value("odd_config.hidden")
    assert both()["loop_config.ruled_config.hidden"] == 8


def test_the_place_is_named_in_full() -> None:
    with pytest.raises(NotCovered, match=r"`loop_config\.text_config\.hidden` is"):
        both(loop_config={"text_config": {"hidden": "x"}}).value("loop_config.total")
    with pytest.raises(NotCovered, match="`text_config` is 3, expected an object"):
        both(text_config=3).value("total")


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({}, "width", 8),
        ({"width": 9}, "width", 9),
        ({"width": 9, "d": 7}, "width", 7),
        ({"width": 9, "d": 7}, "deep", 9),
        ({}, "deep", None),
        ({"kinds": ["local", "far", "new"]}, "kinds", ["near", "far", "new"]),
        ({"text_config_dict": {"hidden": 5}}, "text_config.hidden", 5),
        ({"text_config": {"hidden": 4}, "text_config_dict": {}}, "text_config.hidden", 8),
        ({"text_config": {"hidden": 4}, "text_config_dict": None}, "text_config.hidden", 4),
        ({"pattern": None, "windows": True}, "width", 8),
    ],
)
def test_older_keys_and_words_are_read(
    values: dict[str, object], name: str, expected: object
) -> None:
    assert resolve({"model_type": "older", **values})[name] == expected


@pytest.mark.parametrize("values", [{"pattern": "MM"}, {"windows": False}])
def test_a_key_that_changes_fields_in_an_unknown_way_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(NotCovered, match="does to other fields is not known"):
        resolve({"model_type": "older", **values})


@pytest.mark.parametrize(
    ("layers", "dim", "heads"),
    [
        ({"1": {"dim": 5}, "2": {"dim": 5}}, 5, None),
        ({"01": {"dim": 5, "heads": 3}, "02": {"dim": 5, "heads": 3, "window": 9}}, 5, 3),
        ({"0": {"window": 4}, "1": {"dim": 5}, "2": {"dim": 5}}, 5, None),
    ],
)
def test_layers_of_one_kind_that_are_alike_are_understood(
    layers: object, dim: int, heads: int | None
) -> None:
    config = resolve({"model_type": "layered", "per_layer_config": layers, "far_dim": 77})
    assert (config["far_dim"], config["far_heads"]) == (dim, heads)


@pytest.mark.parametrize(
    "layers",
    [
        {}, None, [], {"1": {"dim": 5}}, {"1": {"dim": 5}, "2": {"dim": 6}},
        {"0": {"dim": 5}, "1": {"dim": 5}, "2": {"dim": 5}},
        {"1": {"heads": 5}, "2": {"heads": 5}}, {"1": {"dim": 5, "x": 1}, "2": {"dim": 5}},
        {"one": {"dim": 5}}, {"9" * 5000: {"dim": 5}}, {"1": 5},
    ],
)  # fmt: skip
def test_other_settings_of_single_layers_are_refused(layers: object) -> None:
    with pytest.raises(NotCovered, match="`per_layer_config`"):
        resolve({"model_type": "layered", "per_layer_config": layers})


def test_settings_that_count_under_a_flag_are_refused_without_it() -> None:
    layers = {str(at): {"dim": 5, "heads": 3} for at in (1, 2)}
    with pytest.raises(NotCovered, match="`per_layer_config`"):
        resolve({"model_type": "layered", "per_layer_config": layers, "shared": False})
