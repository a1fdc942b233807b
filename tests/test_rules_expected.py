"""Tensors against what their class promises: which rule speaks, of which tensors, and of no other.

The tables of names and shapes come from the atlas itself; each case then injures them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, promised
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor import rules
from tidoctor.atlas.expectation import expectation
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Diagnosis, Finding, Severity
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

Table = dict[str, list[int]]
Config = dict[str, Any]

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
MIXTRAL = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", **SMALL,
           "num_local_experts": 3, "tie_word_embeddings": False}  # fmt: skip
PHI3 = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", **SMALL, "pad_token_id": 0,
        "tie_word_embeddings": False}  # fmt: skip
BERT = {"architectures": ["BertForSequenceClassification"], "model_type": "bert",
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64,
        "num_attention_heads": 4}  # fmt: skip
NOMIC = {"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "hidden_size": 16,
         "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64,
         "num_attention_heads": 4}  # fmt: skip
T5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 16,
      "d_kv": 4, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
      "vocab_size": 64, "tie_word_embeddings": True}  # fmt: skip
WRITER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64,
          "num_attention_heads": 4}  # fmt: skip
INSTRUCT = {
    "architectures": ["InstructBlipVideoForConditionalGeneration"],
    "model_type": "instructblipvideo", "num_query_tokens": 2,
    "vision_config": {"model_type": "instructblipvideo_vision_model", "hidden_size": 16,
                      "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4},
    "qformer_config": {"model_type": "instructblipvideo_qformer", **WRITER,
                       "encoder_hidden_size": 16},
    "text_config": {"model_type": "opt", "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1,
                    "vocab_size": 64, "num_attention_heads": 4, "word_embed_proj_dim": 16,
                    "do_layer_norm_before": False},
}  # fmt: skip
VICUNA = INSTRUCT | {"text_config": {"model_type": "llama", **WRITER, "tie_word_embeddings": False}}
GEMMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
T5GEMMA = {"architectures": ["T5GemmaForConditionalGeneration"], "model_type": "t5gemma",
           "vocab_size": 128, "tie_word_embeddings": True,
           "encoder": {"model_type": "t5_gemma_module", "vocab_size": 100, **GEMMA},
           "decoder": {"model_type": "t5_gemma_module", "vocab_size": 128, **GEMMA}}  # fmt: skip
QWEN_VL = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
    "tie_word_embeddings": False,
    "text_config": {"model_type": "qwen2_5_vl_text", **SMALL},
    "vision_config": {"model_type": "qwen2_5_vl", "depth": 2, "hidden_size": 16,
                      "intermediate_size": 32, "num_heads": 4, "out_hidden_size": 16},
}  # fmt: skip


def examine(table: Table, config: Config | None, wanted: str | None = None) -> Diagnosis:
    return rules.diagnose(open_checkpoint(Memory(build(table, config))), wanted=wanted)


def loud(found: Diagnosis) -> list[Finding]:
    return [f for f in found.findings if f.severity > Severity.NOTE]


def one(found: Diagnosis, code: str) -> Finding:
    """The only finding above a note."""
    (finding,) = loud(found)
    assert finding.code == code, finding
    return finding


def without(table: Table, gone: Callable[[str], bool]) -> Table:
    return {n: s for n, s in table.items() if not gone(n)}


@pytest.mark.parametrize(
    "config", [LLAMA, MIXTRAL, PHI3, BERT, NOMIC, QWEN_VL, INSTRUCT, VICUNA, T5GEMMA],
    ids=lambda c: c["model_type"],
)  # fmt: skip
def test_a_fresh_save_is_silent(config: Config) -> None:
    found = examine(promised(config), config)
    assert loud(found) == []
    assert {"C06", "C07", "C09", "C12", "D05", "N07", "N14"} <= {*found.ran}


def test_what_was_not_run_has_a_reason_where_most_names_are_strange() -> None:
    table = {n.replace("_proj", "_p"): s for n, s in promised(LLAMA).items()}
    found = examine(table, LLAMA)
    assert "N07" in {each.code for each in found.not_run}
    assert all(each.reason for each in found.not_run)


# --- what is missing -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data(), config=st.sampled_from([LLAMA, MIXTRAL, PHI3, BERT]))
def test_every_dropped_tensor_is_named_and_no_other(data: st.DataObject, config: Config) -> None:
    table = promised(config)
    inside = sorted(n for n in table if "layer" in n)
    gone = set(data.draw(st.sets(st.sampled_from(inside), min_size=1, max_size=6)))
    found = examine(without(table, gone.__contains__), config)
    assert {t for f in loud(found) for t in f.tensors} == gone
    assert all(f.severity is Severity.ERROR for f in loud(found))


def test_lost_bytes_are_exact() -> None:
    finding = one(examine(without(promised(LLAMA), lambda n: "layers.1.mlp" in n), LLAMA), "C07")
    assert ("size", "3072 bytes are lost", 3 * 32 * 16 * 2) in {
        (e.where, e.fact, e.value) for e in finding.evidence if isinstance(e.value, int)
    }


def test_one_missing_expert_is_named() -> None:
    gone = "model.layers.1.block_sparse_moe.experts.2.w2.weight"
    assert gone in promised(MIXTRAL)
    assert one(examine(without(promised(MIXTRAL), gone.__eq__), MIXTRAL), "C07").tensors == (gone,)


def test_a_pooler_that_nobody_uses_is_a_note() -> None:
    base = {**BERT, "architectures": ["BertModel"]}
    found = examine(without(promised(base), lambda n: "pooler" in n), base)
    assert loud(found) == []
    assert [f.code for f in found.findings if "pooler" in f.message] == ["C07"]


def test_the_pooler_of_a_classifier_is_none_of_those() -> None:
    table = without(promised(BERT), lambda n: n.endswith("pooler.dense.weight"))
    assert one(examine(table, BERT), "C07").tensors == ("bert.pooler.dense.weight",)


def test_the_head_of_a_classifier_is_lost_to_the_byte() -> None:
    finding = one(examine(without(promised(BERT), lambda n: n.startswith("classifier")), BERT), "H10")
    assert finding.tensors == ("classifier.bias", "classifier.weight")
    assert ("size", "68 bytes are lost") in {(e.where, e.fact) for e in finding.evidence}


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL, BERT, T5], ids=lambda c: c["model_type"])
def test_the_more_is_lost_the_more_is_told(config: Config) -> None:
    table = promised(config)
    for kept in (lambda n: "layer" not in n and "block" not in n, next(iter(table)).__eq__):
        left = {n: s for n, s in table.items() if kept(n)}
        errors = [f for f in loud(examine(left, config)) if f.severity is Severity.ERROR]
        assert {t for f in errors for t in f.tensors} >= table.keys() - left.keys()


def test_what_another_finding_speaks_of_hides_no_lost_tensor() -> None:
    table = without(promised(LLAMA), "model.norm.weight".__eq__)
    found = examine({**table, "v_head.norm.weight": [16]}, LLAMA)
    assert {"C07", "H11"} == {f.code for f in loud(found)}


# --- shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("intermediate_size", 48), ("num_key_value_heads", 4), ("head_dim", 8)],
)
def test_the_setting_that_is_wrong_is_found(key: str, wrong: int) -> None:
    config = {**LLAMA, key: wrong}
    finding = one(examine(promised(LLAMA), config), "C06")
    assert finding.cure is not None
    assert finding.cure.operations[0] == {"op": "set", "path": [key], "value": LLAMA[key]}
    before = open_checkpoint(Memory(build(promised(LLAMA), config)))
    after = Plan((finding.cure.operations,)).apply(before)
    assert loud(rules.diagnose(after)) == []


def test_a_single_odd_tensor_is_no_matter_of_the_config() -> None:
    finding = one(examine({**promised(LLAMA), "model.norm.weight": [15]}, LLAMA), "C06")
    assert finding.tensors == ("model.norm.weight",)
    assert finding.cure is None
    assert "ignore_mismatched_sizes" in finding.not_


def test_slices_of_a_rank_are_no_other_config() -> None:
    table = {n: [s[0] // 2, *s[1:]] if "up_proj" in n or "q_proj" in n else s
             for n, s in promised(LLAMA).items()}  # fmt: skip
    finding = one(examine(table, LLAMA), "D05")
    assert len(finding.tensors) == 4 and finding.cure is not None and not finding.cure.operations


@pytest.mark.parametrize(
    ("config", "key", "wrong"),
    [({**LLAMA, "head_dim": None}, "num_attention_heads", 8), (BERT, "num_attention_heads", 8)],
)
def test_a_number_of_heads_that_shapes_do_not_fix_is_not_made_up(
    config: Config, key: str, wrong: int
) -> None:
    for finding in loud(examine(promised(config), {**config, key: wrong})):
        assert finding.cure is None or not finding.cure.operations, finding


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL, PHI3], ids=lambda c: c["model_type"])
def test_a_wrong_width_is_no_slice(config: Config) -> None:
    finding = one(examine(promised(config), {**config, "hidden_size": 32}), "C06")
    assert "hidden_size is 32" in finding.message


def test_experts_that_the_config_counts_wrong_are_one_finding() -> None:
    finding = one(examine(promised(MIXTRAL), {**MIXTRAL, "num_local_experts": 6}), "C06")
    assert finding.cure is not None
    assert finding.cure.operations[0]["value"] == 3


@pytest.mark.parametrize("shape", [[1, 64, 16], [64, 8], [16, 64], []], ids=str)
def test_a_head_of_another_shape(shape: list[int]) -> None:
    assert one(examine({**promised(LLAMA), "lm_head.weight": shape}, LLAMA), "C06").tensors == (
        "lm_head.weight",
    )


@pytest.mark.parametrize("config", [LLAMA, BERT, MIXTRAL, T5], ids=lambda c: c["model_type"])
def test_layers_beyond_the_count_are_told(config: Config) -> None:
    key = "num_layers" if config is T5 else "num_hidden_layers"
    found = loud(examine(promised(config), {**config, key: 1}))
    assert {f.code for f in found} == {"C06"}
    assert all(f.severity is Severity.WARNING for f in found)


def test_the_body_of_a_bare_class_is_looked_at() -> None:
    base = {**LLAMA, "architectures": ["LlamaModel"]}
    table = promised(base)
    for files in ({"modules.json": "[]"}, {}):
        checkpoint = open_checkpoint(Memory(build(table, {**base, "hidden_size": 32}, files=files)))
        assert "C06" in {f.code for f in loud(rules.diagnose(checkpoint))}


# --- biases ----------------------------------------------------------------------------------


def test_biases_that_are_declared_and_not_stored() -> None:
    finding = one(examine(promised(LLAMA), {**LLAMA, "attention_bias": True}), "C09")
    assert len(finding.tensors) == 8


def test_biases_that_the_class_does_not_have() -> None:
    table = promised({**LLAMA, "attention_bias": True})
    found = examine(table, LLAMA)
    assert {f.code for f in loud(found)} == {"C09"}
    zeros = {n: ("BF16", s) for n, s in table.items()}
    files = build(zeros, LLAMA)
    assert loud(rules.diagnose(open_checkpoint(Memory(files))))


def test_a_head_of_pretraining_beside_the_model_is_no_matter_of_biases() -> None:
    config = {**BERT, "architectures": ["BertForMaskedLM"]}
    more = {"cls.seq_relationship.weight": [2, 16], "cls.seq_relationship.bias": [2]}
    assert loud(examine({**promised(config), **more}, config)) == []


# --- which class -----------------------------------------------------------------------------


def test_a_classifier_saved_as_a_generator() -> None:
    config = {**LLAMA, "architectures": ["LlamaForSequenceClassification"]}
    finding = one(examine(promised(config), LLAMA), "C04")
    assert "LlamaForSequenceClassification" in finding.message
    assert "lm_head.weight" in finding.tensors and "H02" in finding.includes
    assert finding.cure is not None
    assert finding.cure.operations[0]["value"] == ["LlamaForSequenceClassification"]


def test_the_wanted_class_lacks_its_head() -> None:
    finding = one(examine(promised(LLAMA), LLAMA, "sequence-classification"), "C04")
    assert finding.tensors == ("score.weight",)
    assert finding.includes == ("H10",)
    assert finding.cure is not None and finding.cure.needs == ("donor",)
    assert ("shapes", "score.weight: 2 × 16, 64 bytes in BF16") in {
        (e.where, e.fact) for e in finding.evidence
    }


def test_another_base_prefix_is_renamed_and_no_head_becomes_another() -> None:
    finding = one(examine(promised(LLAMA), LLAMA, "question-answering"), "C04")
    assert finding.cure is not None
    moves = {op["from"]: op["to"] for op in finding.cure.operations if op["op"] == "rename"}
    assert moves["model.norm.weight"] == "transformer.norm.weight"
    assert "lm_head.weight" not in moves
    grafts = {op["tensor"] for op in finding.cure.operations if op["op"] == "graft"}
    assert grafts == {"qa_outputs.bias", "qa_outputs.weight"}


@pytest.mark.parametrize("wanted", ["BertModel", "base"])
def test_a_base_is_served_by_every_class_of_its_family(wanted: str) -> None:
    assert loud(examine(promised(BERT), BERT, wanted)) == []


def test_the_names_of_another_family() -> None:
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_head": 4,
            "n_layer": 2, "vocab_size": 64, "n_positions": 32}  # fmt: skip
    found = examine(promised(gpt2), {**LLAMA, "n_embd": 16})
    assert loud(found), "the tensors of GPT-2 are no Llama"
    assert all(f.cure is None or f.cure.kind != "safe" for f in loud(found))


@pytest.mark.parametrize(
    ("wanted", "why"),
    [("masked-lm", "no class of llama for masked-lm"), ("GPT2LMHeadModel", "is a class of gpt-sw3, gpt2")],
)
def test_a_wish_that_no_class_serves_is_an_error(wanted: str, why: str) -> None:
    assert why in one(examine(promised(LLAMA), LLAMA, wanted), "C04").message


def test_several_families_that_fit_are_all_named_and_none_is_set() -> None:
    roberta = {**BERT, "architectures": ["RobertaForTokenClassification"], "model_type": "roberta",
               "max_position_embeddings": 512, "type_vocab_size": 2}  # fmt: skip
    config = {**roberta, "architectures": ["BertForTokenClassification"], "model_type": "bert"}
    finding = one(examine(promised(roberta), config), "C12")
    assert str(finding.certainty) == "likely" and finding.cure is None


def test_a_prefix_before_everything_is_no_lost_head() -> None:
    table = {"model." + n: s for n, s in promised(BERT).items()}
    finding = one(examine(table, BERT), "N01")
    before = open_checkpoint(Memory(build(table, BERT)))
    assert finding.cure is not None
    assert loud(rules.diagnose(Plan((finding.cure.operations,)).apply(before))) == []


# --- names -----------------------------------------------------------------------------------


def test_one_component_under_another_word() -> None:
    table = {n.replace("input_layernorm", "input_norm"): s for n, s in promised(LLAMA).items()}
    finding = one(examine(table, LLAMA), "N14")
    before = open_checkpoint(Memory(build(table, LLAMA)))
    assert finding.cure is not None
    after = Plan((finding.cure.operations,)).apply(before)
    assert sorted(after.tensors) == sorted(promised(LLAMA))


def test_two_norms_of_one_shape_are_not_told_apart() -> None:
    words = {"input_layernorm": "a", "post_attention_layernorm": "b"}
    table = {n: s for n, s in promised(LLAMA).items() if not any(w in n for w in words)}
    table |= {f"model.layers.{i}.{w}.weight": [16] for i in range(2) for w in words.values()}
    for finding in loud(examine(table, LLAMA)):
        assert finding.cure is None or not finding.cure.operations, finding


def test_a_word_that_the_class_has_elsewhere_is_no_other_word_for_what_is_missing() -> None:
    table = {n.replace("mlp.up_proj", "mlp.gate_proj_old"): s for n, s in promised(LLAMA).items()}
    finding = one(examine(table, LLAMA), "N14")
    assert str(finding.certainty) == "likely" and finding.cure is None


def test_left_over_tensors_are_told_as_a_note() -> None:
    found = examine({**promised(LLAMA), "ema.norm.weight": [16]}, LLAMA)
    assert loud(found) == []
    assert [f.tensors for f in found.findings if f.code == "N07"] == [("ema.norm.weight",)]


# --- layouts ---------------------------------------------------------------------------------


def test_another_generation_of_a_multimodal_layout_is_a_note() -> None:
    fresh = promised(QWEN_VL)
    newer = {"visual.": "model.visual.", "model.": "model.language_model."}
    table = {
        next((new + n.removeprefix(old) for old, new in newer.items() if n.startswith(old)), n): s
        for n, s in fresh.items()
    }
    found = examine(table, QWEN_VL)
    assert loud(found) == []
    (note,) = [f for f in found.findings if f.code == "N06"]
    assert len(note.tensors) == len(fresh) - 1  # all but the head
    assert note.cure is not None
    after = Plan((note.cure.operations,)).apply(open_checkpoint(Memory(build(table, QWEN_VL))))
    assert sorted(after.tensors) == sorted(fresh)


def in_fresh_form(table: Table, config: dict[str, Any], note: Finding) -> Checkpoint:
    """What the cure of a note leads to: names and shapes of a fresh save."""
    assert note.cure is not None and note.cure.needs == ("accept",)
    after = Plan((note.cure.operations,)).apply(open_checkpoint(Memory(build(table, config))))
    fresh = promised(config)
    assert {n: list(t.shape) for n, t in after.tensors.items()} == fresh
    return after


def test_stacked_experts_are_a_note() -> None:
    table = without(promised(MIXTRAL), lambda n: ".experts." in n)
    for layer in range(2):
        at = f"model.layers.{layer}.mlp.experts."
        table |= {f"{at}gate_up_proj": [3, 64, 16], f"{at}down_proj": [3, 16, 32]}
    found = examine(table, MIXTRAL)
    assert loud(found) == []
    (note,) = [f for f in found.findings if f.code == "N08"]
    assert len(note.tensors) == 4
    after = in_fresh_form(table, MIXTRAL, note)
    assert loud(rules.diagnose(after)) == []
    stacked, apart = (open_checkpoint(Memory(build(t, MIXTRAL))) for t in (table, promised(MIXTRAL)))
    up = stacked.tensors["model.layers.1.mlp.experts.gate_up_proj"]
    w3 = after.tensors["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    assert w3.shape == apart.tensors[w3.name].shape == (32, 16)
    assert after.read(w3, 0, w3.nbytes) == stacked.read(up, 5 * w3.nbytes, 6 * w3.nbytes)


def test_projections_apart_where_the_loader_takes_both_are_a_note() -> None:
    memory = expectation(NOMIC, "NomicBertModel").memory
    table = {n: list(s) for n, s in memory.items()}
    found = examine(table, NOMIC)
    assert loud(found) == []
    (note,) = [f for f in found.findings if f.code == "N09"]
    after = in_fresh_form(table, NOMIC, note)
    before = open_checkpoint(Memory(build(table, NOMIC)))
    fused = after.tensors["encoder.layers.0.attn.Wqkv.weight"]
    parts = [before.tensors[f"layers.0.self_attn.{n}_proj.weight"] for n in "qkv"]
    assert after.read(fused, 0, fused.nbytes) == b"".join(
        before.read(t, 0, t.nbytes) for t in parts
    )


def test_fused_projections_that_the_loader_does_not_cut() -> None:
    split = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    table = without(promised(LLAMA), lambda n: n.split(".")[-2] in split)
    for layer in range(2):
        at = f"model.layers.{layer}."
        table |= {f"{at}self_attn.qkv_proj.weight": [32, 16], f"{at}mlp.gate_up_proj.weight": [64, 16]}
    finding = one(examine(table, LLAMA), "N09")
    assert len(finding.tensors) == 4 + 10


def test_split_projections_where_the_class_has_them_in_one() -> None:
    finding = one(examine(llama(), {**PHI3, **{k: LLAMA[k] for k in SMALL}}), "N09")
    assert "model.layers.0.self_attn.qkv_proj.weight" in finding.tensors


META = {"tok_embeddings.weight": [64, 16], "norm.weight": [16], "output.weight": [64, 16],
        "layers.0.attention.wq.weight": [16, 16], "layers.0.feed_forward.w1.weight": [32, 16]}  # fmt: skip


def test_the_layout_of_another_program() -> None:
    finding = one(examine(META, LLAMA), "N10")
    assert "Meta" in finding.message
    assert finding.cure is not None and not finding.cure.operations
    assert [f.code for f in examine(META, None).findings if f.code == "N10"] == ["N10"]


# --- and where nothing is known -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({**LLAMA, "num_hidden_layers": 10**9}, "more than"),
        ({**LLAMA, "hidden_size": "many"}, "expected a number"),
        ({**LLAMA, "quantization_config": {"quant_method": "hqq"}}, "quantised"),
        ({**LLAMA, "auto_map": {"AutoModel": "m.py"}}, "its own code"),
        ({**LLAMA, "architectures": ["PoetForCausalLM"]}, "no class that was learned"),
    ],
)
def test_what_is_not_known_is_said(config: Config, why: str) -> None:
    found = examine(promised(LLAMA), config)
    reasons = {n.code: n.reason for n in found.not_run}
    assert why in reasons["C06"]
    assert "C06" not in found.ran
