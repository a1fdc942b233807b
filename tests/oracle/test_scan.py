"""The scan of the learner finds what is wrong in the data, and mending makes it refused or right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidoctor.atlas.learn.write import DATA, spread


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """The library, quickened."""
    from tidoctor.atlas.learn import gates

    gates.prepare()


def folder(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The data of Llama, changed."""
    root = tmp_path / "data"
    root.mkdir()
    content = json.loads((DATA / "llama.json").read_text())
    change(content)
    (root / "llama.json").write_text(spread(content))
    (root / "index.json").write_bytes((DATA / "index.json").read_bytes())
    return root


def findings(root: Path, name: str) -> dict[str, Any]:
    """What the scan says of one class."""
    from tidoctor.atlas.learn import scan

    (found,) = scan.all_scanned(root, root.parent / "found", [name], workers=1, seconds=20)
    return found


def test_nothing_is_wrong_in_the_data_of_llama(tmp_path: Path) -> None:
    found = findings(folder(tmp_path, lambda content: None), "LlamaModel")
    assert not found["wrong"]
    assert found["counts"]["exact"] > 50
    assert {"hidden_size", "num_hidden_layers"} <= found["right"].keys()


@pytest.mark.parametrize(
    ("template", "row", "guilty"),
    [
        ("layers.{i}.mlp.up_proj.weight", ["11008", "hidden_size"], "intermediate_size"),
        ("layers.{i}.mlp.up_proj.bias", {"shape": ["intermediate_size"], "if": "False"},
         "mlp_bias"),
    ],
)  # fmt: skip
def test_a_wrong_fact_is_found_with_the_field_that_shows_it(
    tmp_path: Path, template: str, row: Any, guilty: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        assert template in content["classes"]["LlamaModel"]["memory"]["tensors"]
        content["classes"]["LlamaModel"]["memory"]["tensors"][template] = row

    found = findings(folder(tmp_path, change), "LlamaModel")
    assert {guilty} in [set(each["fields"]) for each in found["wrong"]]


def test_what_stays_wrong_is_limited_to_what_was_right(tmp_path: Path) -> None:
    from tidoctor.atlas.learn import mending

    row = json.loads((DATA / "llama.json").read_text())["classes"]["LlamaModel"]
    row["memory"]["tensors"]["layers.{i}.mlp.up_proj.bias"]["if"] = "False"
    raw = mending.default_values("LlamaModel") | {"mlp_bias": True, "vocab_size": 48}
    pairs = mending.samples_of("LlamaModel", [raw])
    wrong = mending.wrong_ones("LlamaModel", row, pairs, {})
    assert wrong
    assert mending.narrowed("LlamaModel", row, raw, {}) == {"mlp_bias": True}
    limits = mending.limit(tmp_path, "LlamaModel", row, wrong, {}, {})
    assert limits == {"pinned": {"mlp_bias": [False]}}
    assert limits == mending.limits_at(tmp_path, "LlamaModel")
    assert not mending.wrong_ones("LlamaModel", mending.limited(row, limits), pairs, {})


def test_a_step_is_proven_by_two_values_on_either_side() -> None:
    from types import SimpleNamespace

    from tidoctor.atlas.learn import facts

    row = {"memory": {"tensors": {"a": ["256 if window_size > 10 else 128"]}}}
    few: Any = [SimpleNamespace(values={"window_size": each}) for each in (7, 14)]
    many: Any = [SimpleNamespace(values={"window_size": each}) for each in (7, 9, 11, 14)]
    assert facts.unproven(row, few) == {"window_size": [7, 14]}
    assert facts.unproven(row, many) == {}


def test_a_config_class_is_held_against_the_library(tmp_path: Path) -> None:
    from tidoctor.atlas.learn import resolving

    def change(content: dict[str, Any]) -> None:
        content["configs"]["llama"]["fields"]["num_key_value_heads"] = "32"

    root = folder(tmp_path, change)
    ((_, wrong, _),) = resolving.all_examined(root, ["llama"], count=10, workers=1)
    assert "num_key_value_heads" in wrong
    assert wrong.keys() <= {"num_key_value_heads"}


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        ({}, 2),
        ({"num_labels": 5}, 5),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3),
        ({"num_labels": 5, "id2label": {"0": "a", "1": "b", "2": "c"}}, 5),
    ],
)
def test_the_number_of_labels_is_what_the_library_makes_of_it(
    raw: dict[str, Any], labels: int
) -> None:
    import transformers

    from tidoctor.atlas.configs import resolve

    assert transformers.LlamaConfig.from_dict(dict(raw)).num_labels == labels
    assert resolve(raw, "llama").value("num_labels") == labels


def test_a_bias_follows_its_weight() -> None:
    from tidoctor.atlas.learn import siblings

    sparse = "i >= first_k_dense_replace"
    layout = {
        "tensors": {
            "l.{i}.up.weight": {"shape": ["moe_size", "hidden_size"], "if": sparse},
            "l.{i}.up.bias": {"shape": ["1088"], "if": "not (i < 2 and mlp_bias) and mlp_bias"},
            "norm.weight": {"shape": ["hidden_size"], "if": "affine"},
            "norm.bias": ["hidden_size"],  # a weight may be made in another way: left alone
        }
    }
    made = siblings.followed(layout)["tensors"]
    assert made["l.{i}.up.bias"] == {"shape": ["moe_size"], "if": f"({sparse}) and mlp_bias"}
    assert made["norm.bias"] == ["hidden_size"]


def test_activations_are_claimed_where_their_module_is() -> None:
    from tidoctor.atlas.learn import siblings

    sparse, act = "i >= first_k_dense_replace", "hidden_act == 'prelu'"
    tensors = {
        "l.{i}.mlp.experts.up": {"shape": ["1"], "if": sparse},
        "l.{i}.mlp.experts.act_fn.weight": {"shape": ["1"], "if": act},
    }
    row = {"memory": {"tensors": tensors}, "pinned": {"hidden_act": ["gelu", "prelu"]}}
    assert siblings.sound(row)["pinned"] == {"hidden_act": ["gelu"]}
    tensors["l.{i}.mlp.experts.act_fn.weight"]["if"] = f"{sparse} and {act}"
    assert siblings.sound(row)["pinned"] == row["pinned"]


def test_a_head_that_contradicts_its_body_is_seen() -> None:
    from tidoctor.atlas.learn.agreeing import disagreement

    body = {"layers.0.w": (4,), "layers.1.w": (4,)}
    head = {"model.layers.0.w": (4,), "model.layers.1.w": (4,), "lm_head.w": (9,)}
    there: dict[str, bool] = {}
    assert not disagreement(head, body, "model.", there)
    assert disagreement(head | {"model.layers.1.w": (5,)}, body, "model.", there)
    assert disagreement({"model.layers.0.w": (4,)}, body, "model.", there) == "layers.1.w"
    assert disagreement(head | {"model.layers.2.w": (4,)}, body, "model.", there)


def test_a_weight_of_another_rank_is_no_example() -> None:
    from tidoctor.atlas.learn.siblings import of_length

    usual = {"shape": ["width", "patch[0]", "patch[1]"], "if": "len(image) == 2"}
    odd = {"shape": ["1024", "14", "14", "14"], "if": "not len(image) == 2"}
    layout, lengths = of_length({"tensors": {"w": [usual, odd], "b": ["width"]}})
    assert layout["tensors"] == {"w": usual["shape"], "b": ["width"]}
    assert lengths == {"image": 2, "patch": 2}
    several = [{"shape": ["1"], "if": "flag"}, {"shape": ["1", "2"], "if": "not flag"}]
    assert of_length({"tensors": {"w": several}}) == ({"tensors": {"w": several}}, {})
