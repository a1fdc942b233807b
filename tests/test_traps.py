"""What looks like a fault and is none: each has to be silent but for notes.

One row for each "looks the same but is fine" of the rules, by code. Where a rule's page speaks of a
class of transformers, the tensors are those that the class saves.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, promised, safetensors_bytes

from tidoctor import rules
from tidoctor.finding import Severity
from tidoctor.opening import open_checkpoint

Files = dict[str, bytes]
TIED = {**LLAMA, "tie_word_embeddings": True}
INDEX = "model.safetensors.index.json"


def config(name: str, model_type: str, **more: Any) -> dict[str, Any]:
    usual = {k: v for k, v in LLAMA.items() if k not in ("architectures", "model_type")}
    return {"architectures": [name], "model_type": model_type, **usual, **more}


def saved(settings: dict[str, Any], *without: str, **extra: Any) -> Files:
    """A fresh save of the class, without and with some tensors."""
    table = {n: s for n, s in promised(settings).items() if n not in without}
    return build({**table, **extra}, settings)


def renamed(old: str, new: str, settings: dict[str, Any] = LLAMA) -> Files:
    return build({n.replace(old, new): s for n, s in promised(settings).items()}, settings)


def padded_header(files: Files) -> Files:
    """Spaces behind the header, as the library itself writes for alignment, many of them."""
    data = files["model.safetensors"]
    length = struct.unpack("<Q", data[:8])[0]
    head = data[8 : 8 + length] + b" " * 4096
    return {**files, "model.safetensors": struct.pack("<Q", len(head)) + head + data[8 + length :]}


def indexed(files: Files, change: Any) -> Files:
    data = json.loads(files[INDEX])
    change(data)
    return {**files, INDEX: json.dumps(data).encode()}


def extra(files: Files, name: str, *tensors: str) -> Files:
    rows = {t: ("F32", [1], b"1234") for t in tensors}
    return {**files, name: safetensors_bytes(rows)}


def numbered_otherwise() -> Files:
    """A draft shard outside the series, with an index that names every file."""
    files = build(llama(), LLAMA, shards=2)
    third = "model-00009-of-00009.safetensors"
    files = extra(files, third, "mtp.norm.weight")
    return indexed(files, lambda d: d["weight_map"].update({"mtp.norm.weight": third}))


QWEN2 = config("Qwen2ForCausalLM", "qwen2")
QWEN3 = config("Qwen3ForCausalLM", "qwen3", head_dim=8)
PHI3 = config("Phi3ForCausalLM", "phi3", pad_token_id=0)
MIXTRAL = config("MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=2)
BERT = {
    "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": 16,
    "vocab_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32,
}  # fmt: skip
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_head": 4,
    "n_layer": 1, "vocab_size": 64, "n_positions": 32,
}  # fmt: skip
T5 = {
    "model_type": "t5", "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1,
    "num_decoder_layers": 1, "num_heads": 4, "vocab_size": 64, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
    "tie_word_embeddings": True,
    "text_config": {
        "model_type": "gemma3_text", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "tie_word_embeddings": True,
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    },
}  # fmt: skip
ROW = "BF16", [2, 2]

TRAPS: dict[str, Files] = {
    "F01 a header of many spaces": padded_header(build(llama(), LLAMA)),
    "F02 a download beside it that is not done": {
        **build(llama(), LLAMA), "model.safetensors.incomplete": b"\0" * 9},
    "F03 an empty tensor at the end": build({**llama(), "model.rope": [0]}, LLAMA),
    "F04 a format that is true": build(llama(), LLAMA, metadata={"format": "mlx"}),
    "S02 one file of another name": {
        ("weights.safetensors" if n == "model.safetensors" else n): d
        for n, d in build(llama(), None).items()},
    "S05 a vision projector that the index leaves out": extra(
        build(llama(), LLAMA, shards=2), "projector.safetensors", "linear1.weight"),
    "S05 a draft model beside it": extra(
        build(llama(), LLAMA, shards=2), "mtp.safetensors", "mtp.fc.weight"),
    "S05 scales of the cache": extra(
        build(llama(), LLAMA, shards=2), "kv_cache_scales.safetensors", "layers.0.k_scale"),
    "S08 numbers outside the series with a whole index": numbered_otherwise(),
    "S10 a total of unique bytes": indexed(
        build(llama(), LLAMA, shards=2), lambda d: d["metadata"].update(total_size=11)),
    "N01 a composite class whose text model is one level deeper": saved(GEMMA3),
    "N03 low rank in the names of the architecture": build(
        {**llama(), "model.layers.0.self_attn.q_a_proj.weight": [4, 16],
         "model.layers.0.att.w_lora.lora.0.weight": [4, 16]}, LLAMA),
    "N04 GPT-2 as it was published": saved(GPT2),
    "N04 an encoder with no prefix": build(
        promised({**T5, "architectures": ["T5EncoderModel"]}),
        {**T5, "architectures": ["T5EncoderModel"]}),
    "N05 a head beside a body with its prefix": build(llama(), LLAMA),
    "N06 the layout of another generation": build(
        {n.replace("language_model.model.", "model.language_model."): s
         for n, s in promised(GEMMA3).items()}, GEMMA3),
    "N08 experts as they are": saved(MIXTRAL),
    "N09 fused by nature": saved(PHI3),
    "N11 a real name gamma": build({**llama(), "model.vision.layer_scale.gamma": [16]}, LLAMA),
    "N12 a real Sequential": build({**llama(), "model.projector.mlp.0.weight": [4, 4]}, LLAMA),
    "N13 parameters that have no suffix": build(
        {**llama(), "model.layers.0.mixer.A_log": [4], "model.layers.0.mixer.D": [4],
         "model.layers.0.mixer.dt_bias": [4], "model.layers.0.self_attn.sinks": [4]}, LLAMA),
    "H01 a tied model": build(llama(head=False), TIED),
    "H03 a reward model": build(
        {**llama(head=False), "score.weight": [1, 16]},
        config("LlamaForSequenceClassification", "llama", id2label={"0": "LABEL_0"})),
    "H04 a redundant head": build(
        {**llama(head=False), "lm_head.weight": ("BF16", [64, 16], "model.embed_tokens.weight")},
        TIED),
    "H12 a draft with a vocabulary of its own": build(
        {**llama(head=False), "lm_head.weight": [32, 16]}, {**LLAMA, "draft_vocab_size": 32}),
    "H13 regression": build(
        {**llama(head=False), "score.weight": [1, 16]},
        config("LlamaForSequenceClassification", "llama", num_labels=1)),
    "C03 a family of its own code": build(
        llama(), config("NewForCausalLM", "new", auto_map={"AutoModel": "modeling.py"})),
    "C04 a whole class that ends in Model": saved(GPT2),
    "C05 rows for a padded vocabulary": build(llama(), {**LLAMA, "pad_token_id": 63}),
    "C06 heads times head_dim is not the hidden size": saved(QWEN3),
    "C07 dense first layers": saved(config(
        "Qwen2MoeForCausalLM", "qwen2_moe", num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=8, shared_expert_intermediate_size=8, mlp_only_layers=[0])),
    "C08 layers for more tokens that are declared": build(
        {**llama(), "model.layers.2.eh_proj.weight": [16, 32]},
        {**LLAMA, "num_nextn_predict_layers": 1}),
    "C09 biases that the config asks for": saved({**LLAMA, "attention_bias": True}),
    "C09 biases of the family": saved(QWEN2),
    "C10 norms in full precision": build(
        {n: ("F32", s) if len(s) == 1 else s for n, s in llama().items()}, LLAMA),
    "C10 a router in full precision": build(
        {n: ("F32", s) if "gate.weight" in n else s for n, s in promised(MIXTRAL).items()},
        MIXTRAL),
    "C12 another family in the words of Llama": build(llama(), LLAMA),
    "D01 a buffer of its own code": build({**llama(), "model.cache": [0]}, LLAMA),
    "D03 minus infinity in a mask": {
        **build(llama(), None),
        "model.safetensors": safetensors_bytes({
            "mask": ("F32", [2], struct.pack("<2f", 0.0, float("-inf"))),
            "a.weight": ("F32", [1], b"1234")}),
    },
    "D05 a small model": build(llama(), LLAMA),
    "B01 buffers of older releases": build(
        {**llama(), "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [2])}, LLAMA),
    "B01 masks of GPT-2": saved(GPT2, **{"transformer.h.0.attn.bias": ("BOOL", [1, 1, 32, 32]),
                                         "transformer.h.0.attn.masked_bias": ("F32", [])}),
    "B01 masks of GPT-2 in bytes": saved(
        GPT2, **{"transformer.h.0.attn.bias": ("U8", [1, 1, 32, 32])}),
    "B01 positions of BERT": saved(BERT, **{"bert.embeddings.position_ids": ("I64", [1, 64])}),
}  # fmt: skip


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", TRAPS)
def test_what_is_fine_has_notes_alone(name: str, deep: bool) -> None:
    found = rules.diagnose(open_checkpoint(Memory(TRAPS[name])), deep=deep)
    loud = [f"{f.code}: {f.message}" for f in found.findings if f.severity > Severity.NOTE]
    # A model without a config is told for that, and for nothing else.
    assert [m for m in loud if not m.startswith(("C01", "S11"))] == []


def test_every_trap_stands_for_a_rule() -> None:
    known = {r.code for r in rules.RULES} | {"B01", "B02"}
    assert {name.split()[0] for name in TRAPS} <= known
