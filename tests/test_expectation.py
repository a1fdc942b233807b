"""What a config and a class promise, on classes that were compared with real models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import checkpoints
from tests.atlas_samples import LLAMA_31_8B, TRUE, made_up
from tidoctor.atlas import data
from tidoctor.atlas.expectation import NotCovered, expectation, why_not
from tidoctor.atlas.layout import Class


@pytest.fixture(autouse=True)
def _data() -> Iterator[None]:
    with data.using(TRUE):
        yield


def size(tensors: Mapping[str, tuple[int, ...]]) -> int:
    total = 0
    for shape in tensors.values():
        count = 1
        for d in shape:
            count *= d
        total += count
    return total


def test_llama() -> None:
    found = expectation(LLAMA_31_8B, "LlamaForCausalLM")
    assert (found.class_name, found.model_type, found.version) == (
        "LlamaForCausalLM", "llama", "5.23.0",
    )  # fmt: skip
    assert len(found.disk) == 291 and found.disk == found.memory
    assert size(found.disk) == 8_030_261_248  # as published
    assert found.disk["model.layers.31.self_attn.k_proj.weight"] == (1024, 4096)
    assert not found.ties and not found.disk_ties and found.quantisation is None
    assert found.required("lm_head.weight")


def test_a_tied_head_is_in_memory_and_not_on_disk() -> None:
    found = expectation(LLAMA_31_8B | {"tie_word_embeddings": True}, "LlamaForCausalLM")
    assert found.ties == found.disk_ties == {"lm_head.weight": "model.embed_tokens.weight"}
    assert found.memory.keys() - found.disk.keys() == {"lm_head.weight"}


def test_the_checkpoints_of_the_other_tests_are_llamas() -> None:
    table = checkpoints.llama()
    found = expectation(checkpoints.LLAMA, "LlamaForCausalLM")
    assert found.disk == {n: tuple(row[1] if isinstance(row, tuple) else row)
                          for n, row in table.items()}  # fmt: skip
    bare = expectation(checkpoints.LLAMA, "LlamaModel")
    assert {f"model.{n}" for n in bare.disk} == found.disk.keys() - {"lm_head.weight"}


def test_deepseek_stores_its_experts_one_by_one() -> None:
    config = {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8"}}
    found = expectation(config, "DeepseekV3ForCausalLM")
    assert size(found.disk) == size(found.memory) == 671_026_419_200
    assert (len(found.memory), len(found.disk)) == (967, 45_395)
    assert found.memory["model.layers.3.mlp.experts.gate_up_proj"] == (256, 4096, 7168)
    assert found.quantisation == "fp8"
    assert found.unexpected_ok == (r"model\.layers\.61.*",)
    assert (
        "model.layers.0.self_attn.q_proj.weight"
        in expectation(config | {"q_lora_rank": None}, "DeepseekV3ForCausalLM").disk
    )


def test_old_spellings_of_gpt2() -> None:
    found = expectation({"model_type": "gpt2", "hidden_size": 8, "n_layer": 1}, "GPT2LMHeadModel")
    assert found.memory["transformer.h.0.mlp.c_fc.weight"] == (8, 32)
    assert found.ties == {"lm_head.weight": "transformer.wte.weight"}
    other = expectation({"model_type": "gpt-sw3", "n_embd": 8, "n_layer": 1}, "GPT2LMHeadModel")
    assert other.memory == found.memory and other.model_type == "gpt2"


@pytest.mark.parametrize(
    ("config", "name", "reason"),
    [
        ({}, "MyModel", '"MyModel" is no class that was learned from transformers 5.23.0'),
        ({}, "OwlViTForObjectDetection", "not covered: a buffer"),
        ({"model_type": "mistral"}, "LlamaForCausalLM",
         'LlamaForCausalLM is built from configs of model_type llama, and this one says "mistral"'),
        ({"model_type": "gpt2"}, "LlamaForCausalLM", 'says "gpt2"'),
        ({"model_type": 3}, "LlamaForCausalLM", "says 3"),
        ({"add_cross_attention": True}, "GPT2LMHeadModel", "`add_cross_attention` is true"),
        ({"hidden_size": "big"}, "LlamaForCausalLM", "`hidden_size`"),
        ({"num_hidden_layers": 10**9}, "LlamaForCausalLM", "1000000000"),
        ({"num_hidden_layers": -1, "hidden_size": -8}, "LlamaForCausalLM", "-8"),
        ({"vocab_size": 10**40}, "LlamaForCausalLM", "too large"),
        ({"tie_word_embeddings": "yes"}, "LlamaForCausalLM", "`tie_word_embeddings`"),
    ],
)  # fmt: skip
def test_what_is_not_covered(config: dict[str, Any], name: str, reason: str) -> None:
    with pytest.raises(NotCovered) as raised:
        expectation(config, name)
    assert reason in raised.value.reason


def test_a_config_without_a_type_is_of_the_class_s() -> None:
    assert expectation({"num_hidden_layers": 1}, "LlamaModel").model_type == "llama"


def test_why_not(tmp_path: Path) -> None:
    assert why_not("LlamaModel") is None
    assert why_not("OwlViTForObjectDetection") == (
        "OwlViTForObjectDetection is not covered: a buffer is computed from numbers"
    )
    with data.using(data.Data(tmp_path)):
        assert why_not("LlamaModel") == "this build of tidoctor has no layouts"


def test_other_names_on_disk(tmp_path: Path) -> None:
    facts = {
        "config": "x",
        "memory": {"tensors": {n: ["4"] for n in ("a.head", "a.embed", "b.alias", "buffer")}},
        "disk": {"tensors": {n: ["4"] for n in ("head", "embed", "buffer")}},
        "ties": [
            ["a.head", "a.embed", True], ["head", "embed", True], ["b.alias", "a.embed", True],
        ],
        "unsaved": ["buffer"],
        "missing_ok": [r"^em"],
        "verified": {"defaults": True},
    }  # fmt: skip
    with data.using(made_up(tmp_path, {"A": facts}, {"x": {}})):
        found = expectation({"model_type": "x"}, "A")
    assert found.memory == dict.fromkeys(("a.head", "a.embed", "b.alias", "buffer"), (4,))
    assert found.disk == {"embed": (4,)}
    assert found.ties == {"a.head": "a.embed", "b.alias": "a.embed"}
    assert found.disk_ties == {"head": "embed"}
    assert found.unsaved == ("buffer",)
    assert not found.required("embed") and found.required("a.embed")


def test_a_tie_to_nothing_is_not_believed(tmp_path: Path) -> None:
    facts = {"config": "x", "memory": {"tensors": {"a": []}}, "ties": [["a", "b", True]]}
    with data.using(made_up(tmp_path, {"A": facts}, {"x": {}})), pytest.raises(NotCovered):
        expectation({}, "A")


def test_only_the_form_in_memory_is_known(tmp_path: Path) -> None:
    facts = {"config": "x", "memory": {"tensors": {"a": []}},
             "disk": {"uncovered": "names that follow no pattern"}}  # fmt: skip
    with data.using(made_up(tmp_path, {"A": facts}, {"x": {}})):
        found = expectation({}, "A")
    assert found.memory == {"a": ()} and found.saved is None and not found.disk_ties
    with pytest.raises(NotCovered, match="the disk form of A is not covered: names that follow"):
        _ = found.disk


@pytest.mark.parametrize(
    ("called", "why"),
    [("llama", ""), ("mistral", ""), ("x", ""), (None, ""), ("aria_text", 'itself "aria_text"')],
)
@pytest.mark.parametrize("inner", [False, True])
def test_what_a_part_calls_itself_decides_how_it_is_saved(
    tmp_path: Path, called: str | None, why: str, inner: bool
) -> None:
    facts = {"config": "x", "memory": {"tensors": {"w": ["1"]}}}
    configs = {"x": {"parts": {"a": {"type": "llama"}, "b": {"type": "x"}}}, "llama": {}}
    values: dict[str, Any] = {"a": {"model_type": called} if called else {}}
    with data.using(made_up(tmp_path, {"A": facts}, configs)):
        found = expectation({"b": values} if inner else values, "A")
    assert found.memory == {"w": (1,)}
    if not why:
        assert found.disk == {"w": (1,)}
        return
    with pytest.raises(NotCovered, match=f"`{'b.' if inner else ''}a` calls {why}"):
        _ = found.disk


def test_ties_under_other_names_on_disk(tmp_path: Path) -> None:
    """The names on disk of ties that the layout does not show stand in the family facts."""
    head, embed = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
    facts = {
        "config": "x",
        "memory": {"tensors": {"lm_head.weight": ["1"], "model.embed_tokens.weight": ["1"]}},
        "disk": {"tensors": {embed: ["1"]}},
        "ties": [["lm_head.weight", "model.embed_tokens.weight", True]],
    }
    with data.using(made_up(tmp_path, {"LlavaForConditionalGeneration": facts}, {"x": {}})):
        found = expectation({}, "LlavaForConditionalGeneration")
    assert found.disk == {embed: (1,)} and found.disk_ties == {head: embed}


def test_the_shipped_data_can_be_read() -> None:
    source = data.shipped()
    assert len(source.class_names) > 1000
    for name in source.class_names:
        of = Class(name, source.layout(name))
        assert of.memory.rows or of.memory.parts, name  # with every expression parsed
        assert of.disk is None or of.disk.rows or of.disk.parts or of.disk.uncovered, name
        for tie in of.ties:
            assert set(re.findall(r"{.}", tie.target)) <= set(re.findall(r"{.}", tie.alias)), name
        source.config(of.model_type)
    with data.using(source):
        assert len(expectation(LLAMA_31_8B, "LlamaForCausalLM").disk) == 291


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([2**63, -(2**70), 10**300, 10**6, 500, "llama"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
_KEYS = st.sampled_from([
    "model_type", "hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "intermediate_size", "attention_bias", "n_embd", "n_layer",
    "tie_word_embeddings", "quantization_config", "n_routed_experts", "first_k_dense_replace",
    "q_lora_rank",
])  # fmt: skip


@given(
    st.dictionaries(_KEYS, _JUNK, max_size=6),
    st.sampled_from(["LlamaForCausalLM", "DeepseekV3ForCausalLM", "GPT2LMHeadModel"]),
)
@settings(max_examples=200, deadline=10_000)
def test_any_config_yields_shapes_or_a_reason(config: dict[str, Any], name: str) -> None:
    with data.using(TRUE):
        try:
            found = expectation(config, name)
        except NotCovered as e:
            assert e.reason and "\n" not in e.reason and len(e.reason) < 400
            return
    for shape in found.memory.values():
        assert all(type(d) is int and 0 <= d < 2**63 for d in shape)
