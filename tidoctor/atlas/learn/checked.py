"""Facts about classes that were checked by hand, since no sample of the learner shows them.

Each was read off models that the library built; a clean start would lose them without this table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# In every speech model the vector for masked frames is made when either probability says so, and
# of 0.05 and 0.0, their usual values, the second one alone is rarely tried.
EITHER = "mask_time_prob > 0.0 or mask_feature_prob > 0.0"
GUARDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?:.*\.)?masked_spec_embed"), EITHER),
)
# UniSpeechSat makes it always.
UNGUARDED = re.compile("UniSpeechSat")

_RATES: dict[str, list[Any]] = {
    "compress_rates": [
        None, {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
    ],
    "compress_rate_csa": [None, 4],
    "compress_rate_hca": [None, 128],
}  # fmt: skip
_CONFORMER: dict[str, list[Any]] = {
    f"{half}_{key}": [value]
    for half, kernel in (("encoder", 7), ("decoder", 31))
    for key, value in {
        "num_attention_heads": 2, "layers": 4, "kernel_size": kernel, "linear_units": 1536,
        "normalize_before": False, "concat_after": False,
    }.items()
} | {
    f"{half}_config": [
        None,
        {
            "num_attention_heads": 2, "layers": 4, "kernel_size": kernel,
            "attention_dropout_rate": 0.2, "dropout_rate": 0.2, "positional_dropout_rate": 0.2,
            "linear_units": 1536, "normalize_before": False, "concat_after": False,
        },
    ]
    for half, kernel in (("encoder", 7), ("decoder", 31))
}  # fmt: skip
# Activations without parameters that the library's own configs name.
_PLAIN = ("silu", "gelu", "relu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "swish", "tanh")

# Class -> field -> the values that were seen right. On others sizes follow in a way that was found
# for some values only, or not at all.
_DEPTH: dict[str, list[Any]] = {"depth_mult": [1.0]}
PINS: dict[str, dict[str, list[Any]]] = {
    # Ladders: kernels and strides that change at several thresholds.
    "AlignVisionModel": {"width_coefficient": [2.0]},
    "Deimv2Model": _DEPTH,
    "DFineModel": _DEPTH,
    "DFineForObjectDetection": _DEPTH,
    "PPDocLayoutV2Model": {"hidden_expansion": [1.0]},
    "BitModel": {"width_factor": [1, 2, 3, 4]},
    "InklingVisionModel": {"num_channels": [3]},
    "EdgeTamVideoModel": {"mask_downsampler_total_stride": [16]},
    # On disk, layers inside a layer were seen with one width only.
    "Sam3TrackerModel": {"mask_decoder_config.mlp_dim": [2048]},
    "PocketTTSAudioTokenizerEncoderModel": {"num_residual_layers": [1]},
    "ChameleonModel": {"vq_config.num_res_blocks": [2]},
    "Nemotron3_5TranscribeForConditionalGeneration": {
        "audio_config.asr_config.num_key_value_heads": [10],
    },
    # From how many layers on keys are shared changes which layers have double width.
    "Gemma3nTextModel": {"num_kv_shared_layers": [15, 10]},
    # Choices of whole submodules, of which one was seen.
    "Phi4MultimodalForCausalLM": {"audio_config.bias_symmetric": [False]},
    "PerceiverForImageClassificationLearned": {"cross_attention_shape_for_attention": ["kv"]},
    # Sizes in which two fields cannot be told apart.
    "HYV3Model": {"num_shared_experts": [1]},
    # Fields that are objects, whose members the library reads one by one.
    "DeepseekV4Model": _RATES,
    "DeepseekV4ForCausalLM": _RATES,
    "FastSpeech2ConformerModel": _CONFORMER,
    "DbrxModel": {"ffn_config.ffn_act_fn": [None, *({"name": each} for each in _PLAIN)]},
}

# Model type -> field -> what it is, where the learner finds no expression for it.
_VIDEO = "video_temporal_patch_size * num_channels * patch_size ** 2"
_FORMER = {"mamba": "linear_attention", "attention": "full_attention"}
_PATTERN = (
    "['linear_attention' if each == 'M' else 'moe' if each == 'E' else 'full_attention'"
    " if each == '*' else 'mlp' for each in hybrid_override_pattern]"
)
_RATIOS = (
    "['sliding_attention' if each == 0 else 'compressed_sparse_attention' if each == 4"
    " else 'heavily_compressed_attention' for each in compress_ratios[:num_hidden_layers]]"
)
_WIDTH = "24576 if stated.intermediate_size is None else stated.intermediate_size"
_OBJECT = {"default": "None", "types": ["an object"]}


def _kimi(field: str, key: str, default: int) -> dict[str, Any]:
    """A field that an object of older configs gives too, and then with more weight."""
    older = f"linear_attn_config is not None and '{key}' in linear_attn_config"
    text = f"linear_attn_config['{key}'] if {older} else "
    return {field: {"default": f"{text}{default}", "given": f"{text}value"}}


_GIVEN = "value if value and num_static_categorical_features > 0 else"
_WIDTHS = "[min(50, (each + 1) // 2) for each in cardinality]"
_SERIES: dict[str, Any] = {
    "cardinality": {"default": "[0]", "given": f"{_GIVEN} [0]"},
    "embedding_dimension": {"default": _WIDTHS, "given": f"{_GIVEN} {_WIDTHS}"},
    "context_length": {
        "default": "prediction_length",
        "given": "value or prediction_length",
        "types": ["a number"],
    },
    "feature_size": {
        "default": "input_size * len(lags_sequence) + sum(embedding_dimension)"
        " + num_dynamic_real_features + num_time_features + num_static_real_features"
        " + input_size * 2",
        "null": None,
    },
}
_GIVEN = (
    "[stage_names[i] for i in out_indices] if out_indices is not None else [stage_names[-1]]"
)
_STAGES: dict[str, Any] = {"out_features": _GIVEN, "out_indices": "None"}
# What follows from a field is settled before a value arrives that the file gives by another name.
_DEPTHS = {"t5": 6, "mt5": 8, "umt5": 8, "longt5": 6, "pop2piano": 6, "udop": 24}
FIELDS: dict[str, dict[str, Any]] = {
    **{
        kind: {"num_decoder_layers": f"{depth} if stated.num_layers is None else num_layers"}
        for kind, depth in _DEPTHS.items()
    },
    "glm_moe_dsa": {
        "n_routed_experts": {
            "default": "256 if num_experts is None else num_experts",
            "given": "value if num_experts is None or stated.n_routed_experts is None"
            " else num_experts",
        },
    },
    "hgnet_v2": _STAGES,
    "hiera": _STAGES,
    "rf_detr_dinov2": _STAGES,
    "rt_detr_resnet": _STAGES,
    "swin": _STAGES,
    "autoformer": {key: _SERIES[key] for key in ("cardinality", "embedding_dimension")},
    "time_series_transformer": _SERIES,
    "informer": _SERIES,
    "minimax_m3_vl": {
        "merged_hidden_size": {
            "always": "text_config.hidden_size * vision_config.spatial_merge_size ** 2",
        },
    },
    "step3p5_vision": {"intermediate_size": {"always": "int(hidden_size * mlp_ratio)"}},
    "radio": {
        "video_patch_dim": {
            "default": f"None if video_temporal_patch_size is None else {_VIDEO}",
            "given": f"value if video_temporal_patch_size is None else {_VIDEO}",
            "types": ["a number"],
        },
    },
    "nemotron_h": {
        "hybrid_override_pattern": {"default": "None", "types": ["a string"]},
        "layers_block_type": {
            "default": "['linear_attention', 'moe', 'full_attention', 'mlp']"
            f" if hybrid_override_pattern is None else {_PATTERN}",
            "types": ["a list"],
            "former": _FORMER,
        },
    },
    "deepseek_v4": {
        "compress_ratios": {"default": "None", "types": ["a list"]},
        "compress_rates": _OBJECT,
        "compress_rate_csa": {"default": "None"},
        "compress_rate_hca": {"default": "None"},
        "layer_types": {
            "default": "['heavily_compressed_attention' if i < 2 or i % 2 == 0"
            " else 'compressed_sparse_attention' for i in range(num_hidden_layers)]"
            f" if compress_ratios is None else {_RATIOS}",
            "types": ["a list"],
            "given": "value[:num_hidden_layers]",
            "former": _FORMER,
        },
    },
    "kimi_linear": {
        "linear_attn_config": _OBJECT,
        **_kimi("linear_head_dim", "head_dim", 128),
        **_kimi("linear_num_heads", "num_heads", 32),
        **_kimi("linear_conv_kernel_dim", "short_conv_kernel_size", 4),
        "layer_types": {
            "default": "['linear_attention' if i + 1 in linear_attn_config['kda_layers']"
            " else 'full_attention' for i in range(num_hidden_layers)]"
            " if linear_attn_config is not None and 'kda_layers' in linear_attn_config"
            " and 'full_attn_layers' in linear_attn_config"
            " else ['full_attention' if i > 0 and i % 4 == 0 else 'linear_attention'"
            " for i in range(num_hidden_layers)]",
            "types": ["a list"],
            "former": _FORMER,
        },
    },
    # The width of a head goes on to another field before it is set anew.
    "bailing_hybrid": {
        "linear_head_dim": {
            "default": "128 if stated.head_dim is None else stated.head_dim",
            "types": ["a number"],
            "null": None,
        },
    },
    "switch_transformers": {
        f"{side}_sparse_step": {
            "default": f"{layers} // num_sparse_{side}_layers if num_sparse_{side}_layers > 0"
            f" else {layers}",
            "types": ["a number"],
            "null": None,
        }
        for side, layers in (("encoder", "num_layers"), ("decoder", "num_decoder_layers"))
    },
    "step3p5": {
        "hidden_act": {"always": "'silu'"},
        "attention_other_setting": _OBJECT,
        "num_sliding_attention_heads": {
            "default": "num_attention_heads if attention_other_setting is None"
            " else attention_other_setting['num_attention_heads']"
            " if 'num_attention_heads' in attention_other_setting else num_attention_heads",
        },
    },
    "granite4_vision": {"deepstack_layer_map": {"default": "None", "types": ["a list"]}},
    "dpt": {
        "neck_ignore_stages": {
            "default": "[0, 1] if is_hybrid else []",
            "given": "value if is_hybrid else []",
            "types": ["a list"],
        },
    },
    "inkling_text": {
        "dense_intermediate_size": {"default": "None"},
        "moe_intermediate_size": {
            "default": f"3072 if dense_intermediate_size is None else {_WIDTH}",
            "given": f"value if dense_intermediate_size is None else {_WIDTH}",
            "types": ["a number"],
        },
    },
    "lfm2": {
        "full_attn_idxs": {
            "default": "[i for i in range(num_hidden_layers)] if stated.layer_types is None"
            " else None",
            "types": ["a list"],
        },
    },
    # Two older keys win over it, and are refused as strange.
    "dots3_note_audio_encoder": {"adapter_out_dim": "5120"},
    "csm": {"tie_word_embeddings": {"always": "tie_codebooks_embeddings"}},
    "mistral_large4_text": {"partial_rotary_factor": {"default": "None"}},
    "sam3_tracker_video": {
        "memory_attention_rope_feat_sizes": {
            "always": "[image_size // vision_config.backbone_config.patch_size] * 2",
        },
    },
    "fastspeech2_conformer": {"encoder_config": _OBJECT, "decoder_config": _OBJECT},
    "DbrxFFNConfig": {"ffn_act_fn": _OBJECT},
}
# Model type -> fields that make other tensors, in a way that is not known, than their defaults do.
STRANGE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("d_fine", "deimv2", "pp_doclayout_v3", "pp_doclayout_v4", "rt_detr", "rt_detr_v2"),
        ("hidden_expansion",),
    ),
    "align_vision_model": ("squeeze_expansion_ratio",),
    "textnet": ("conv_layer_kernel_sizes", "conv_layer_strides"),
    "udop": ("relative_bias_args",),
    "uvdoc_backbone": ("resnet_head", "resnet_configs", "stage_configs"),
    "xmod": ("languages",),
}
# Sub-config by its place -> fields that follow from what stands outside of it.
_CROSS = "encoder_config.hidden_size * cross_attn_k"
SETS: dict[str, dict[str, Any]] = {
    "granite4_vision.qformer_config": {
        "num_attention_heads": {"always": "vision_config.hidden_size // 64"},
    },
    "blt.global_config": {
        "encoder_cross_output_size": {
            "always": f"None if {_CROSS} == global_config.hidden_size else {_CROSS}",
        },
    },
}

# Model type -> what `per_layer_config` says of the layers of one kind, and the keys that say the
# same of all of them (null for what changes no size); "always" are settings that such a layer
# always has, "if" those that count only under a flag (transformers 5.23).
_GLOBAL = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
_GEMMA = {"kind": "full_attention", "keys": _GLOBAL, "always": ["head_dim"]}
LAYERED: dict[str, dict[str, Any]] = {
    "gemma4_text": _GEMMA | {"if": {"num_key_value_heads": "attention_k_eq_v"}},
    "gemma4_unified_text": _GEMMA | {"if": {"num_key_value_heads": "attention_k_eq_v"}},
    "embedding_gemma2_text": _GEMMA | {"always": ["head_dim", "num_key_value_heads"]},
    "neomme": {"kind": "full_attention", "keys": {"sliding_window": None}, "always": []},
}


def guarded(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the conditions that were checked by hand."""
    tensors: Mapping[str, Any] = row.get("memory", {}).get("tensors", {})
    if UNGUARDED.match(name):
        return row
    for template, given in tensors.items():
        for pattern, guard in GUARDS:
            condition = given.get("if", "") if isinstance(given, dict) else ""
            first = guard.partition(" ")[0]
            if pattern.fullmatch(template) and (not condition or first in condition):
                shape = given["shape"] if isinstance(given, dict) else given
                row["memory"]["tensors"][template] = {"shape": shape, "if": guard}
    return row


def pinned(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the values that its fields are bound to."""
    if name in PINS:
        row["pinned"] = row.get("pinned", {}) | PINS[name]
    return row
