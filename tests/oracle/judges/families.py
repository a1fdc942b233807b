"""Ten tiny language models: their configs, their tensors, and weights that betray the head.

Every model is two layers wide 32 with 384 tokens. The head is the embedding moved on by one row, so
a model that reads its own head answers a token t with t + 1 and one that reads its embedding
answers with t. Rows have one length and the body stays small beside them: whatever happens to the
layers, the answer still tells which matrix was the head. The layers do change the logits, which
tell whether the body was read.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

HIDDEN, INNER, LAYERS, VOCABULARY = 32, 64, 2, 384
HEADS, WIDTH = 4, 8
ADDS_ONE = ("gemma2", "gemma3_text")  # Gemma stores what its norms add to one
GROUPS = 2  # of queries that share keys and values; Gemma 2 has one for each head here

Tensors = dict[str, np.ndarray]
Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Family:
    """How one model type writes itself to disk."""

    name: str  # model_type
    causal: str  # the class with the head
    base: str  # the class that AutoModel saves
    prefix: str  # what stands before the body's names in a save of the causal class
    embedding: str  # with the prefix
    head: str
    ties: bool  # what the class does when config.json does not say
    config: Mapping[str, Any]
    body: Shapes  # without prefix and without the embedding


def _attention(
    at: str, *, groups: int = GROUPS, bias: bool = False, fused: bool = False
) -> Shapes:
    query, pair = HEADS * WIDTH, groups * WIDTH
    if fused:
        shapes = {"qkv_proj.weight": [query + 2 * pair, HIDDEN]}
    else:
        shapes = {
            "q_proj.weight": [query, HIDDEN],
            "k_proj.weight": [pair, HIDDEN],
            "v_proj.weight": [pair, HIDDEN],
        }
        if bias:
            shapes |= {"q_proj.bias": [query], "k_proj.bias": [pair], "v_proj.bias": [pair]}
    shapes["o_proj.weight"] = [HIDDEN, query]
    return {f"{at}self_attn.{name}": shape for name, shape in shapes.items()}


def _gated(at: str) -> Shapes:
    return {
        f"{at}gate_proj.weight": [INNER, HIDDEN],
        f"{at}up_proj.weight": [INNER, HIDDEN],
        f"{at}down_proj.weight": [HIDDEN, INNER],
    }


def _norms(at: str, *names: str) -> Shapes:
    return {f"{at}{name}.weight": [HIDDEN] for name in names}


def _decoder(kind: str) -> Shapes:
    shapes: Shapes = {}
    for i in range(LAYERS):
        at = f"layers.{i}."
        groups = HEADS if kind == "gemma2" else GROUPS
        shapes |= _attention(at, groups=groups, bias=kind == "qwen2", fused=kind == "phi3")
        shapes |= _norms(at, "input_layernorm", "post_attention_layernorm")
        if kind in ADDS_ONE:
            shapes |= _norms(at, "pre_feedforward_layernorm", "post_feedforward_layernorm")
        if kind in ("qwen3_moe", "gemma3_text"):
            shapes |= {f"{at}self_attn.{n}_norm.weight": [WIDTH] for n in "qk"}
        if kind == "qwen3_moe":
            shapes[f"{at}mlp.gate.weight"] = [2, HIDDEN]
            for expert in range(2):
                shapes |= _gated(f"{at}mlp.experts.{expert}.")
        elif kind == "mixtral":
            shapes[f"{at}block_sparse_moe.gate.weight"] = [2, HIDDEN]
            for expert in range(2):
                place = f"{at}block_sparse_moe.experts.{expert}."
                shapes |= {f"{place}w1.weight": [INNER, HIDDEN], f"{place}w3.weight": [INNER, HIDDEN]}
                shapes[f"{place}w2.weight"] = [HIDDEN, INNER]
        elif kind == "phi3":
            shapes[f"{at}mlp.gate_up_proj.weight"] = [2 * INNER, HIDDEN]
            shapes[f"{at}mlp.down_proj.weight"] = [HIDDEN, INNER]
        else:
            shapes |= _gated(f"{at}mlp.")
    return shapes | _norms("", "norm")


def _gpt2() -> Shapes:
    shapes: Shapes = {"wpe.weight": [128, HIDDEN]}
    for i in range(LAYERS):
        at = f"h.{i}."
        for name, wide, high in (
            ("attn.c_attn", HIDDEN, 3 * HIDDEN), ("attn.c_proj", HIDDEN, HIDDEN),
            ("mlp.c_fc", HIDDEN, 4 * HIDDEN), ("mlp.c_proj", 4 * HIDDEN, HIDDEN),
        ):
            shapes |= {f"{at}{name}.weight": [wide, high], f"{at}{name}.bias": [high]}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{at}{name}.weight": [HIDDEN], f"{at}{name}.bias": [HIDDEN]}
    return shapes | {"ln_f.weight": [HIDDEN], "ln_f.bias": [HIDDEN]}


def _t5() -> Shapes:
    shapes: Shapes = {}
    for stack, sublayers in (("encoder", 2), ("decoder", 3)):
        for i in range(LAYERS):
            at = f"{stack}.block.{i}.layer."
            for j in range(sublayers):
                shapes[f"{at}{j}.layer_norm.weight"] = [HIDDEN]
                if j == sublayers - 1:
                    shapes[f"{at}{j}.DenseReluDense.wi.weight"] = [INNER, HIDDEN]
                    shapes[f"{at}{j}.DenseReluDense.wo.weight"] = [HIDDEN, INNER]
                    continue
                part = f"{at}{j}.{'SelfAttention' if j == 0 else 'EncDecAttention'}."
                shapes |= {f"{part}{n}.weight": [HIDDEN, HIDDEN] for n in "qkvo"}
                if i == 0 and j == 0:
                    shapes[f"{part}relative_attention_bias.weight"] = [8, HEADS]
        shapes[f"{stack}.final_layer_norm.weight"] = [HIDDEN]
    return shapes


_COMMON = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "max_position_embeddings": 128,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": GROUPS,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def _like_llama(kind: str, stem: str, *, ties: bool = False, **config: Any) -> Family:
    return Family(
        kind, f"{stem}ForCausalLM", f"{stem}Model", "model.", "model.embed_tokens.weight",
        "lm_head.weight", ties, {**_COMMON, **config}, _decoder(kind),
    )


FAMILIES = (
    _like_llama(
        "llama", "Llama", head_dim=WIDTH, attention_bias=False, mlp_bias=False, pretraining_tp=1,
        rope_scaling=None,
    ),
    _like_llama(
        "qwen2", "Qwen2", use_sliding_window=False, sliding_window=128, max_window_layers=2,
        rope_scaling=None,
    ),
    _like_llama(
        "gemma2", "Gemma2", ties=True, head_dim=WIDTH, num_key_value_heads=HEADS, attention_bias=False,
        hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=8, sliding_window=64, attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0, cache_implementation="hybrid",
    ),
    Family(
        "gemma3_text", "Gemma3ForCausalLM", "Gemma3TextModel", "model.",
        "model.embed_tokens.weight", "lm_head.weight", True,
        {
            **_COMMON, "head_dim": WIDTH, "attention_bias": False, "rope_theta": 1000000.0,
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 8,
            "rope_local_base_freq": 10000.0, "rope_scaling": None, "sliding_window": 64,
            "sliding_window_pattern": 2, "layer_types": ["sliding_attention", "full_attention"],
            "attn_logit_softcapping": None, "final_logit_softcapping": None,
        },
        _decoder("gemma3_text"),
    ),
    _like_llama(
        "phi3", "Phi3", original_max_position_embeddings=128, rope_scaling=None,
        sliding_window=128, embd_pdrop=0.0, resid_pdrop=0.0, partial_rotary_factor=1.0,
    ),
    _like_llama(
        "granite", "Granite", attention_bias=False, mlp_bias=False, rope_scaling=None,
        attention_multiplier=WIDTH**-0.5, embedding_multiplier=1.0, logits_scaling=1.0,
        residual_multiplier=1.0,
    ),
    _like_llama(
        "mixtral", "Mixtral", num_local_experts=2, num_experts_per_tok=1, sliding_window=None,
        output_router_logits=False, router_aux_loss_coef=0.001, router_jitter_noise=0.0,
        head_dim=WIDTH,
    ),
    _like_llama(
        "qwen3_moe", "Qwen3Moe", head_dim=WIDTH, attention_bias=False, decoder_sparse_step=1,
        max_window_layers=2, mlp_only_layers=[], moe_intermediate_size=INNER, norm_topk_prob=True,
        num_experts=2, num_experts_per_tok=1, output_router_logits=False, rope_scaling=None,
        router_aux_loss_coef=0.001, sliding_window=None, use_sliding_window=False,
    ),
    Family(
        "gpt2", "GPT2LMHeadModel", "GPT2Model", "transformer.", "transformer.wte.weight",
        "lm_head.weight", True,
        {
            "activation_function": "gelu_new", "attn_pdrop": 0.0, "embd_pdrop": 0.0,
            "resid_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05, "n_ctx": 128, "n_embd": HIDDEN, "n_head": HEADS,
            "n_inner": None, "n_layer": LAYERS, "n_positions": 128, "vocab_size": VOCABULARY,
            "scale_attn_weights": True, "use_cache": True,
        },
        _gpt2(),
    ),
    Family(
        "t5", "T5ForConditionalGeneration", "T5Model", "", "shared.weight", "lm_head.weight", True,
        {
            "d_ff": INNER, "d_kv": WIDTH, "d_model": HIDDEN, "decoder_start_token_id": 0,
            "dropout_rate": 0.0, "eos_token_id": 2, "pad_token_id": 0, "feed_forward_proj": "relu",
            "initializer_factor": 1.0, "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06,
            "num_decoder_layers": LAYERS, "num_heads": HEADS, "num_layers": LAYERS,
            "relative_attention_max_distance": 128, "relative_attention_num_buckets": 8,
            "use_cache": True, "vocab_size": VOCABULARY,
        },
        _t5(),
    ),
)
FAMILY = {family.name: family for family in FAMILIES}


def _random(family: Family, name: str, shape: list[int]) -> np.ndarray:
    seed = zlib.crc32(f"{family.name}/{name}".encode())
    # the old generator, whose numbers are promised never to change
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def embedding(family: Family) -> np.ndarray:
    """The embedding: rows of one length, each a little like many but only equal to itself."""
    rows = _random(family, "embedding", [VOCABULARY, HIDDEN])
    rows -= rows.mean(1, keepdims=True)  # so that a LayerNorm changes nothing
    lengths: np.ndarray = np.linalg.norm(rows, axis=1, keepdims=True)
    # length 1.5: a certain answer, yet no probability so near to one that it hides the body
    scaled: np.ndarray = rows * np.float32(1.5) / lengths
    return scaled


def head(family: Family, *, step: int = 1) -> np.ndarray:
    """A head that answers token t with t + step; nowhere equal to the embedding."""
    near = _random(family, f"head {step}", [VOCABULARY, HIDDEN]) * np.float32(0.02)
    moved: np.ndarray = np.roll(embedding(family), step, axis=0)
    moved += near
    return moved


def body(family: Family) -> Tensors:
    """All other tensors, as a save of the causal class names them."""
    tensors = {}
    for name, shape in family.body.items():
        values = _random(family, name, shape) * np.float32(0.06)
        norm = name.endswith("weight") and ("norm" in name or ".ln_" in f".{name}")
        if norm and family.name not in ADDS_ONE:
            values += 1
        elif norm and ".post_" in name:
            values -= np.float32(0.9)  # its layers add what this norm lets through
        if name == "wpe.weight" or name.endswith(".relative_attention_bias.weight"):
            values *= np.float32(0.5)
        tensors[f"{family.prefix}{name}"] = values
    return tensors
