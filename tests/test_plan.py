"""Plans are pure, and their operations do what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

INDEX = "model.safetensors.index.json"


def opened(shards: int = 1, **options: Any) -> Checkpoint:
    return open_checkpoint(Memory(build(llama(**options), LLAMA, shards=shards)))


def applied(checkpoint: Checkpoint, *operations: dict[str, Any]) -> Checkpoint:
    return Plan((operations,)).apply(checkpoint)


def test_a_rename_moves_no_byte_and_touches_one_file() -> None:
    before = opened(shards=3)
    after = applied(before, {"op": "rename", "from": "lm_head.weight", "to": "output.weight"})
    assert after.tensors["output.weight"].span == before.tensors["lm_head.weight"].span
    assert "lm_head.weight" not in after.tensors
    assert [w.whole is None for w in after.weights] == [False, False, True]
    assert after.index is not None and after.index.weight_map["output.weight"].startswith("model-")
    assert "lm_head.weight" in before.tensors


def test_a_copy_is_a_second_row_on_the_same_bytes() -> None:
    before = opened(head=False)
    after = applied(before, {"op": "copy", "from": "model.norm.weight", "to": "b"})
    assert after.tensors["b"].span == after.tensors["model.norm.weight"].span
    assert [w.name for w in after.weights] == ["model.safetensors"]


def test_a_new_tensor_gets_a_shard_of_its_own_and_all_are_numbered_anew() -> None:
    after = applied(opened(shards=3), {"op": "copy", "from": "model.norm.weight", "to": "b"})
    assert [w.name for w in after.weights] == [f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)]
    assert [w.whole is not None for w in after.weights] == [True, True, True, False]
    assert after.index is not None and after.index.weight_map["b"] == "model-00004-of-00004.safetensors"
    assert after.index.total_size == after.nbytes


def test_the_total_of_a_planned_cast_is_right() -> None:
    table = {name: ("F32", shape) for name, shape in llama().items()}
    before = open_checkpoint(Memory(build(table, LLAMA, shards=2)))
    after = applied(before, *({"op": "cast", "tensor": n, "dtype": "BF16"} for n in table))
    assert after.index is not None and after.index.total_size == before.nbytes // 2
    assert rules.diagnose(after, select=["S10"]).findings == ()


def test_a_shard_that_is_emptied_vanishes() -> None:
    before = opened(shards=21)
    after = applied(before, {"op": "drop", "tensor": "model.norm.weight"})
    assert len(after.weights) == 20
    assert "model.norm.weight" not in after.tensors


def test_the_index_keeps_what_it_says_besides() -> None:
    files = build(llama(), LLAMA, shards=2)
    data = json.loads(files[INDEX])
    data = {"note": "keep", "metadata": {"total_size": 1, "total_parameters": 1, "x": [1]}, **data,}
    data["metadata"] = {"total_size": 1, "total_parameters": 1, "x": [1]}
    files[INDEX] = json.dumps(data, indent=4).encode()
    after = applied(open_checkpoint(Memory(files)), {"op": "drop", "tensor": "lm_head.weight"})
    written = json.loads(after.texts[INDEX])
    assert list(written) == ["note", "metadata", "weight_map"] and written["note"] == "keep"
    assert written["metadata"] == {"total_size": after.nbytes, "total_parameters": after.parameters, "x": [1]}
    assert b'\n    "note"' in after.texts[INDEX]
    assert set(written["weight_map"]) == set(after.tensors)


def test_config_edits_change_one_value() -> None:
    text = json.dumps(LLAMA, indent=3)
    before = open_checkpoint(Memory(build(llama(), text)))
    after = applied(before, {"op": "set", "path": ["tie_word_embeddings"], "value": True})
    assert after.texts["config.json"].decode() == text.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    assert after.settings["tie_word_embeddings"] is True
    assert before.settings["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "rename", "from": "nothing", "to": "a"},
        {"op": "rename", "from": "lm_head.weight", "to": "model.norm.weight"},
        {"op": "copy", "from": "model.norm.weight", "to": "lm_head.weight"},
        {"op": "drop", "tensor": "nothing"},
        {"op": "graft", "tensor": "b"},
        {"op": "graft", "tensor": "b", "donor": "unknown"},
        {"op": "rewrite", "file": "nothing"},
        {"op": "adopt", "file": "nothing"},
        {"op": "set", "path": ["architectures", "0"], "value": 1},
        {"op": "discard", "file": "model.safetensors"},  # the only copy of its tensors
        {"op": "burn"},
        {},
    ],
)
def test_what_does_not_fit_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        applied(opened(), operation)


NAMES = sorted(llama())
RENAMES = st.permutations(NAMES).map(lambda order: list(zip(NAMES, order, strict=True)))


@settings(max_examples=40, deadline=None)
@given(RENAMES, st.integers(1, 4))
def test_renames_have_an_inverse(pairs: list[tuple[str, str]], shards: int) -> None:
    before = opened(shards=shards)
    there = [{"op": "rename", "from": a, "to": f"new.{b}"} for a, b in pairs]
    back = [{"op": "rename", "from": f"new.{b}", "to": a} for a, b in pairs]
    after = Plan((tuple(there), tuple(back))).apply(before)
    assert {n: t.span for n, t in after.tensors.items()} == {
        n: t.span for n, t in before.tensors.items()
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(NAMES), unique=True, max_size=5), st.integers(1, 4))
def test_copies_dropped_again_leave_the_same_rows(picked: list[str], shards: int) -> None:
    before = opened(shards=shards)
    copies = [{"op": "copy", "from": n, "to": f"x.{n}"} for n in picked]
    drops = [{"op": "drop", "tensor": f"x.{n}"} for n in picked]
    after = Plan((tuple(copies), tuple(drops))).apply(before)
    assert {n: t.span for n, t in after.tensors.items()} == {
        n: t.span for n, t in before.tensors.items()
    }
    assert after.nbytes == before.nbytes


def test_an_alias_note_in_the_metadata_goes_when_both_are_stored() -> None:
    table = {n: s for n, s in llama().items() if "embed" not in n}
    files = build(table, LLAMA, metadata={"format": "pt", "model.embed_tokens.weight": "lm_head.weight"})
    before = open_checkpoint(Memory(files))
    after = applied(before, {"op": "rename", "from": "lm_head.weight", "to": "model.embed_tokens.weight"})
    assert after.weights[0].header.metadata == {"format": "pt"}
