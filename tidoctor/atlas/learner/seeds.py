"""What the default config of a model type lacks to be built, and what only makes it large."""

from __future__ import annotations

import re
from typing import Any

_VOCABULARY = {"<image>": 4, "<|extra_200|>": 5, "<|image start|>": 6, "<|image end|>": 7}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Config values without which the defaults of a model type do not build.
SEEDS: dict[str, dict[str, Any]] = {
    "aya_vision": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "num_attention_heads": 12,
            "hidden_size": 768,
        }
    },
    "chameleon": {"vocabulary_map": _VOCABULARY},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}
    },
    "cohere_compass": {
        "text_config": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}}
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0}},
    "deepseek_ocr2": {
        "text_config": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]}
    },
    "dots1": {
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 64,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
    },
    "emu3": {"vocabulary_map": _VOCABULARY},
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    },
    "granite4_vision": {"deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "moonshine_streaming": {"num_key_value_heads": 8},
    "perception_lm": {
        "vision_config": {"model_type": "timm_wrapper", "model_args": {"embed_dim": 64}}
    },
    "qwen3_omni_moe": {
        "talker_config": {
            "spatial_merge_size": 2,
            "text_config": {"shared_expert_intermediate_size": 64},
        }
    },
}
# The same for one class among several that share a config.
CLASS_SEEDS: dict[str, dict[str, Any]] = {
    "ReformerModelWithLMHead": {"is_decoder": True},
    "T5GemmaEncoderModel": {"is_encoder_decoder": False},
}
_MAMBA: tuple[dict[str, Any], ...] = (
    {"hidden_size": 2048, "mamba_n_heads": 64},
    {"hidden_size": 1536, "mamba_n_heads": 48, "mamba_d_state": 128},
    {"mamba_expand": 1, "mamba_n_heads": 64},
    {"mamba_n_heads": 64, "mamba_d_head": 128},
    {"hidden_size": 1024, "mamba_expand": 4, "mamba_d_head": 32},
)
# Fields of a model type that only build when they are changed together, dotted.
TOGETHER: dict[str, tuple[dict[str, Any], ...]] = {
    "bamba": (
        *_MAMBA, {"attn_layer_indices": [1]}, {"attn_layer_indices": [0, 2]},
        {"hidden_size": 2048, "mamba_n_heads": 64, "attn_layer_indices": [1, 3]},
    ),
    "granitemoehybrid": (
        *_MAMBA, {"position_embedding_type": "nope"}, {"position_embedding_type": "rope"},
        {"hidden_size": 2048, "mamba_n_heads": 64, "position_embedding_type": "nope"},
    ),
    "mamba2": (
        {"hidden_size": 768, "num_heads": 24},
        {"hidden_size": 512, "num_heads": 32, "head_dim": 32},
        {"expand": 1, "num_heads": 64},
        {"expand": 4, "head_dim": 128},
        {"num_heads": 256, "head_dim": 32},
    ),
    "reformer": (
        {"hidden_size": 512, "axial_pos_embds_dim": [128, 384]},
        {"hidden_size": 384, "axial_pos_embds_dim": [128, 256]},
        {"axial_pos_embds_dim": [128, 128]},
        {"max_position_embeddings": 8192, "axial_pos_shape": [64, 128]},
        {"max_position_embeddings": 8192, "axial_pos_shape": [128, 64]},
        {"hidden_size": 512, "axial_pos_embds": False},
    ),
    "squeezebert": (
        {"hidden_size": 384, "embedding_size": 384},
        {"hidden_size": 1152, "embedding_size": 1152},
    ),
    "t5gemma2": tuple(
        {f"{half}.{field}": value for half in ("encoder.text_config", "decoder")}
        for field, value in (
            ("hidden_size", 1152), ("hidden_size", 640), ("vocab_size", 262144),
            ("vocab_size", 1024),
        )
    ),
    "xlnet": (
        {"d_model": 768, "n_head": 12},
        {"d_model": 512, "d_head": 32},
        {"d_model": 2048, "n_head": 32},
        {"n_head": 32, "d_head": 32},
        {"n_head": 8, "d_head": 128},
    ),
}  # fmt: skip
# Last resort for values that a config class leaves open and its model needs.
OPEN_VALUES: dict[str, Any] = {
    "dropout_rate": 0.0,
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "prediction_length": 4,
    "vocab_size": 128,
}
# Counts that only make the default model large; the names do not depend on them.
EXPERTS = re.compile(r"(num|n)_(local_|routed_)?experts|moe_num_experts")
LAYERS = re.compile(r"num_hidden_layers|n_layers?|num_layers|(encoder|decoder)_layers|depth")
FEW_EXPERTS, FEW_LAYERS = 16, 4
