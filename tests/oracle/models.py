"""Tiny random models of many families, built from a config and saved by transformers itself.

Nothing is downloaded. Every parameter is random, norms and biases included, and an untied head
differs from the embedding, so a tensor that is lost or swapped changes what a model computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB = 128
HIDDEN = 32

Settings = Mapping[str, Any]

_LLAMA: Settings = {
    "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": VOCAB,
    "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
_ENCODER: Settings = {
    "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": VOCAB, "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_NEOX: Settings = {**_ENCODER, "bos_token_id": 1, "eos_token_id": 2}
_WIDE: Settings = {
    "d_model": HIDDEN, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_TOWER: Settings = {
    "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 16, "patch_size": 8,
}
_EXPERTS: Settings = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Family:
    """A kind of model: its class in transformers and the settings that make it tiny.

    `ties` are the values of the tie flag that the class can be built with: none of them for a
    class without an output head over the vocabulary. `wanted` is the task as tidoctor names it.
    """

    name: str
    model_class: str
    config_class: str
    settings: Settings
    wanted: str = "causal-lm"
    ties: tuple[bool, ...] = (True, False)
    composite: bool = False  # the language model is a part with a text_config of its own
    head_bias: bool = False  # the head has a bias, which is never tied

    def __str__(self) -> str:
        return self.name

    @property
    def decoder(self) -> bool:
        """Whether AutoModel opens it as a decoder without the head, under other names."""
        return self.wanted == "causal-lm"

    def config(self, tied: bool | None) -> Any:
        """The config, with the tie flag at every level that has one."""
        settings = dict(self.settings)
        if tied is not None:
            settings["tie_word_embeddings"] = tied
            if self.composite:
                settings["text_config"] = {**settings["text_config"], "tie_word_embeddings": tied}
        return getattr(transformers, self.config_class)(**settings)


def _causal(name: str, stem: str, extra: Settings | None = None, **more: Any) -> Family:
    settings = {**_LLAMA, **(extra or {})}
    return Family(name, f"{stem}ForCausalLM", f"{stem}Config", settings, **more)


FAMILIES: tuple[Family, ...] = (
    _causal("llama", "Llama"),
    _causal("qwen2", "Qwen2"),
    _causal("qwen3", "Qwen3"),
    _causal("mistral", "Mistral"),
    _causal("granite", "Granite"),
    _causal("olmo2", "Olmo2"),
    _causal("phi3", "Phi3"),
    _causal("phi", "Phi", head_bias=True),
    _causal("cohere", "Cohere"),
    _causal("gemma2", "Gemma2", {"query_pre_attn_scalar": 8, "sliding_window": 16}),
    Family(
        "gemma3_text", "Gemma3ForCausalLM", "Gemma3TextConfig",
        {**_LLAMA, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    _causal("mixtral", "Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    _causal("qwen3_moe", "Qwen3Moe", {**_EXPERTS, "num_experts": 4}),
    _causal(
        "gpt_oss", "GptOss",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16},
    ),
    _causal(
        "deepseek_v3", "DeepseekV3",
        {
            **_EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
            "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4,
            "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
        },
    ),
    Family(
        "gpt2", "GPT2LMHeadModel", "GPT2Config",
        {"n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": VOCAB,
         "bos_token_id": 1, "eos_token_id": 2},
    ),
    Family(
        "opt", "OPTForCausalLM", "OPTConfig",
        {"hidden_size": HIDDEN, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": VOCAB, "max_position_embeddings": 64, "word_embed_proj_dim": HIDDEN,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    Family(
        "bloom", "BloomForCausalLM", "BloomConfig",
        {"hidden_size": HIDDEN, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    Family("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", _NEOX),
    Family(
        "falcon", "FalconForCausalLM", "FalconConfig",
        {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": VOCAB, "ffn_hidden_size": 64, "bos_token_id": 1, "eos_token_id": 2},
    ),
    Family(
        "mamba", "MambaForCausalLM", "MambaConfig",
        {"hidden_size": HIDDEN, "num_hidden_layers": 2, "state_size": 4, "vocab_size": VOCAB,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    # T5Config of transformers 5 sets the tie flag to true whatever it is given.
    Family(
        "t5", "T5ForConditionalGeneration", "T5Config",
        {"d_model": HIDDEN, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_decoder_layers": 2,
         "num_heads": 4, "vocab_size": VOCAB, "pad_token_id": 0, "eos_token_id": 1,
         "decoder_start_token_id": 0},
        wanted="seq2seq-lm", ties=(True,),
    ),
    Family(
        "bart", "BartForConditionalGeneration", "BartConfig",
        {**_WIDE, "max_position_embeddings": 64, "forced_eos_token_id": 2}, wanted="seq2seq-lm",
    ),
    Family(
        "whisper", "WhisperForConditionalGeneration", "WhisperConfig",
        {**_WIDE, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
        wanted="speech-seq2seq",
    ),
    Family("bert", "BertForMaskedLM", "BertConfig", _ENCODER, wanted="masked-lm", head_bias=True),
    Family(
        "bert_classifier", "BertForSequenceClassification", "BertConfig",
        {**_ENCODER, "num_labels": 3}, wanted="sequence-classification", ties=(),
    ),
    Family(
        "roberta", "RobertaForMaskedLM", "RobertaConfig",
        {**_ENCODER, "bos_token_id": 1, "eos_token_id": 2}, wanted="masked-lm", head_bias=True,
    ),
    Family(
        "vit", "ViTForImageClassification", "ViTConfig", {**_TOWER, "num_labels": 3},
        wanted="image-classification", ties=(),
    ),
    Family(
        "gemma3", "Gemma3ForConditionalGeneration", "Gemma3Config",
        {
            "text_config": {**_LLAMA, "query_pre_attn_scalar": 8, "sliding_window": 16},
            "vision_config": _TOWER, "mm_tokens_per_image": 4, "image_token_index": 120,
            "boi_token_index": 121, "eoi_token_index": 122,
        },
        wanted="image-text-to-text", composite=True,
    ),
    Family(
        "llava", "LlavaForConditionalGeneration", "LlavaConfig",
        {
            "text_config": {**_LLAMA, "model_type": "llama"},
            "vision_config": {**_TOWER, "model_type": "clip_vision_model", "projection_dim": 16},
            "image_token_index": 120,
        },
        wanted="image-text-to-text", composite=True,
    ),
    Family(
        "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig",
        {
            "text_config": {
                **{k: v for k, v in _LLAMA.items() if k != "head_dim"},
                "rope_parameters": {
                    "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2],
                },
            },
            "vision_config": {
                "depth": 2, "hidden_size": HIDDEN, "intermediate_size": 64, "num_heads": 4,
                "out_hidden_size": HIDDEN, "fullatt_block_indexes": [1], "patch_size": 8,
            },
            "image_token_id": 120, "video_token_id": 121, "vision_start_token_id": 122,
            "vision_end_token_id": 123,
        },
        wanted="image-text-to-text", composite=True,
    ),
)

BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}
DECODERS = tuple(family for family in FAMILIES if family.decoder)


@dataclass(frozen=True)
class Variant:
    """One way to save a family: tied or not (None where there is nothing to tie), and the files."""

    family: Family
    tied: bool | None
    sharded: bool = False
    dtype: str = "float32"

    def __str__(self) -> str:
        tied = {True: "tied", False: "untied", None: "headless"}[self.tied]
        return f"{self.family.name}-{tied}-{'sharded' if self.sharded else 'single'}-{self.dtype}"


def _variants() -> Iterator[Variant]:
    for family in FAMILIES:
        for tied in family.ties or (None,):
            yield Variant(family, tied)
            yield Variant(family, tied, sharded=True)
            yield Variant(family, tied, dtype="bfloat16")


VARIANTS: tuple[Variant, ...] = tuple(_variants())


def build(family: Family, tied: bool | None) -> Any:
    """A model with random parameters, the same ones at each call."""
    torch.manual_seed(0)
    model = getattr(transformers, family.model_class)(family.config(tied)).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
            if parameter.ndim == 1 and name.endswith("weight"):  # a norm: keep the signal alive
                parameter.add_(1.0)
    return model


def save(model: Any, folder: Path, *, sharded: bool = False) -> Path:
    """Write a model with `save_pretrained`, in one file or in three shards at least."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=size // 3 if sharded else "5GB")
    return folder


def write(variant: Variant, folder: Path) -> Path:
    """Build and save one variant."""
    model = build(variant.family, variant.tied).to(getattr(torch, variant.dtype))
    return save(model, folder, sharded=variant.sharded)
