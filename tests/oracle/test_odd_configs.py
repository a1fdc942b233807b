"""Configs that no default and no random change shows: the atlas is right on them, or says nothing.

Each was answered wrongly once: lists of unlike lengths, objects inside a config, older keys and
older words that the library still reads, settings of single layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tidoctor.atlas.expression import NotCovered

Config = Mapping[str, Any]

HGNET: dict[str, Any] = {
    "stem_channels": [3, 4, 8],
    "stage_in_channels": [8, 8, 16],
    "stage_mid_channels": [4, 4, 4],
    "stage_out_channels": [8, 16, 32],
    "stage_num_blocks": [1, 1, 2],
    "stage_downsample": [False, True, True],
    "stage_downsample_strides": [2, 2, 2],
    "stage_light_block": [False, False, True],
    "stage_kernel_size": [3, 3, 5],
    "stage_numb_of_layers": [2, 2, 2],
}
VISION: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 16}
NEMOTRON: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2, "ssm_state_size": 8,
    "intermediate_size": 32, "n_routed_experts": 4, "moe_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
}  # fmt: skip
KIMI: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 3, "num_experts": 4,
    "num_attention_heads": 4, "moe_intermediate_size": 16, "intermediate_size": 32,
    "pad_token_id": 0,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 32,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 100,
    "layer_types": [*["sliding_attention"] * 5, "full_attention"],
}  # fmt: skip
STEP: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_attention_groups": 2, "head_dim": 16, "intermediate_size": 32,
    "layer_types": ["full_attention", "sliding_attention"],
    "mlp_layer_types": ["dense", "dense"],
}  # fmt: skip
STEP_VISION: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2}
GLM: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 32, "n_routed_experts": 4,
    "moe_intermediate_size": 16,
}  # fmt: skip
SWITCH: dict[str, Any] = {"d_model": 32, "d_ff": 16, "num_layers": 4, "num_experts": 2, "vocab_size": 99}
CLIP: dict[str, Any] = {"hidden_size": 96, "num_hidden_layers": 1, "intermediate_size": 16}
GRANITE: dict[str, Any] = {
    "hidden_size": 32, "vocab_size": 99, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "mamba_n_heads": 4, "mamba_d_state": 8, "intermediate_size": 16,
    "shared_intermediate_size": 24, "num_local_experts": 2, "num_experts_per_tok": 1,
}  # fmt: skip
SWIN: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
MINIMAX: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 32, "num_local_experts": 4,
}  # fmt: skip
QWEN: dict[str, Any] = MINIMAX | {
    "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
GEMMA2: dict[str, Any] = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 32,
}  # fmt: skip
SPOKEN: dict[str, Any] = VISION | {
    "num_attention_heads": 4, "vocab_size": 30, "num_conv_pos_embedding_groups": 4,
    "num_conv_pos_embeddings": 8, "conv_dim": [8, 12, 8, 8, 8, 8, 8], "conv_stride": [2] * 7,
    "conv_kernel": [3] * 7,
}  # fmt: skip
SEEN: dict[str, Any] = VISION | {"num_attention_heads": 4, "image_size": 28, "patch_size": 14}
WRITER: dict[str, Any] = {
    "hidden_size": 64, "d_model": 64, "n_embd": 64, "num_hidden_layers": 1, "n_layer": 1,
    "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 4, "n_head": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 99,
    "is_decoder": True, "add_cross_attention": True,
}  # fmt: skip
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 2, 1]}
SPEECH = "FastSpeech2ConformerModel"
HALF: dict[str, Any] = {
    "num_attention_heads": 2, "layers": 2, "kernel_size": 31, "attention_dropout_rate": 0.2,
    "dropout_rate": 0.2, "positional_dropout_rate": 0.2, "linear_units": 1536,
    "normalize_before": False, "concat_after": False,
}  # fmt: skip

RTDETR_18: dict[str, Any] = {  # as the smallest published models have it
    "num_labels": 80, "decoder_layers": 3, "hidden_expansion": 0.5,
    "encoder_in_channels": [128, 256, 512],
    "backbone_config": {
        "model_type": "rt_detr_resnet", "depths": [2, 2, 2, 2], "layer_type": "basic",
        "hidden_sizes": [64, 128, 256, 512], "out_features": ["stage2", "stage3", "stage4"],
    },
}  # fmt: skip
RTDETR_ODD: dict[str, Any] = {
    "num_feature_levels": 6, "d_model": 128, "decoder_in_channels": [256, 256], "num_denoising": 0,
    "hidden_expansion": 0.3, "decoder_n_levels": 2, "decoder_n_points": 3, "encoder_layers": 2,
    "learn_initial_query": True, "num_queries": 20, "encode_proj_layers": [1, 2],
    "decoder_layers": 2,
}  # fmt: skip
DFINE_NANO: dict[str, Any] = {
    "num_labels": 80, "decoder_layers": 3, "hidden_expansion": 0.34, "depth_mult": 0.5,
    "encoder_in_channels": [512, 1024], "decoder_in_channels": [128, 128], "feat_strides": [16, 32],
    "encoder_hidden_dim": 128, "encode_proj_layers": [1], "num_feature_levels": 2, "d_model": 128,
    "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "decoder_n_points": [6, 6],
    "backbone_config": {
        "model_type": "hgnet_v2", "out_indices": [3, 4], "out_features": ["stage3", "stage4"],
    },
}  # fmt: skip

RIGHT: list[tuple[str, Config]] = [
    ("LlavaForConditionalGeneration", {"vision_feature_layer": [-2, -1, 0]}),
    ("LlavaNextForConditionalGeneration", {"vision_feature_layer": [-24, -20, -12, -1]}),
    ("LlavaNextVideoForConditionalGeneration", {"vision_feature_layer": []}),
    ("LlavaOnevisionForConditionalGeneration", {"vision_feature_layer": [3]}),
    ("Mistral3ForConditionalGeneration", {"vision_feature_layer": [-2, -1]}),
    ("VideoLlavaForConditionalGeneration", {"vision_feature_layer": [-2, -1]}),
    ("Dinov2Model", {"hidden_size": 1024, "num_attention_heads": 16, "use_swiglu_ffn": True}),
    ("Dinov2WithRegistersForImageClassification", {
        "hidden_size": 64, "num_attention_heads": 4, "use_swiglu_ffn": True,
    }),
    ("Tipsv2VisionModel", {"hidden_size": 64, "num_attention_heads": 4, "use_swiglu_ffn": True}),
    ("NomicBertForMaskedLM", {"tie_word_embeddings": False}),
    ("NomicBertForMaskedLM", {}),
    ("BrosModel", {
        "hidden_size": 32, "num_attention_heads": 4, "dim_bbox_sinusoid_emb_2d": 8,
        "dim_bbox_sinusoid_emb_1d": 1, "dim_bbox_projection": 8,
    }),
    ("Molmo2TextModel", {"vocab_size": 101}),
    ("RTDetrForObjectDetection", {}),
    ("RTDetrForObjectDetection", RTDETR_18),
    ("RTDetrForObjectDetection", RTDETR_ODD),
    ("RTDetrModel", RTDETR_ODD),
    ("RTDetrV2ForObjectDetection", {"num_labels": 80}),
    ("RTDetrV2ForObjectDetection", RTDETR_18),
    ("RTDetrV2ForObjectDetection", RTDETR_ODD),
    ("DFineForObjectDetection", DFINE_NANO),
    ("DFineForObjectDetection", {"eval_idx": 2, "decoder_n_points": [3, 6, 3], "lqe_layers": 3}),
    ("DFineForObjectDetection", {"eval_idx": 7, "d_model": 128, "depth_mult": 0.1}),
    ("DFineModel", {"eval_idx": -9, "depth_mult": 0.67, "encoder_hidden_dim": 384}),
    ("InformerForPrediction", {"prediction_length": 4}),
    ("HrmTextModel", {"num_hidden_layers": 4}),
    ("HrmTextModel", {"num_hidden_layers": 4, "num_layers_per_stack": 3}),
    ("InternVLVisionModel", VISION | {"image_size": [28, 56], "patch_size": [14, 7]}),
    ("HGNetV2Backbone", HGNET | {"hidden_sizes": [16, 32]}),
    ("HGNetV2ForImageClassification", HGNET | {"hidden_sizes": [16, 32]}),
    ("HGNetV2ForImageClassification", HGNET | {"depths": [1, 1], "num_labels": 5}),
    (SPEECH, {}),
    ("NemotronHForCausalLM", NEMOTRON | {"hybrid_override_pattern": "M-E*M"}),
    ("NemotronHForCausalLM", NEMOTRON | {"layers_block_type": ["mamba", "attention", "moe"]}),
    ("KimiLinearModel", KIMI | {
        "linear_attn_config": {
            "full_attn_layers": [1], "kda_layers": [2, 3], "head_dim": 24, "num_heads": 3,
            "short_conv_kernel_size": 3,
        },
    }),
    ("Gemma4TextModel", GEMMA | {"per_layer_config": {"05": {"head_dim": 48}}}),
    ("CLIPModel", {"text_config": CLIP | {"hidden_size": 64}, "text_config_dict": CLIP}),
    ("Qwen2Model", {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8,
                    "num_key_value_heads": None, "vocab_size": 100, "intermediate_size": 16}),
    ("KimiLinearForCausalLM", KIMI | {"q_lora_rank": 24}),
    *[("Step3p7Model", {"text_config": STEP | other, "vision_config": STEP_VISION}) for other in (
        {}, {"num_sliding_attention_heads": 6}, {"attention_other_setting": {"num_attention_heads": 6}},
    )],
    ("Glm4MoeModel", GLM | {"use_qk_norm": True, "head_dim": 24}),
    *[("SwitchTransformersEncoderModel", SWITCH | steps) for steps in (
        {"encoder_sparse_step": 1, "decoder_sparse_step": 2},
        {"num_sparse_encoder_layers": 0, "decoder_sparse_step": 1},
        {"num_layers": 6, "num_sparse_encoder_layers": 2},
    )],
    *[("GraniteMoeHybridForCausalLM", GRANITE | other) for other in (
        {"mamba_d_head": 16},
        {"mamba_d_head": "auto", "layer_types": ["mamba", "attention", "mamba"]},
        {"mamba_d_head": 16, "layer_types": ["linear_attention", "sliding_attention", "moe"],
         "num_local_experts": 0, "position_embedding_type": "nope", "tie_word_embeddings": True},
    )],
    ("BambaModel", {**GRANITE, "mamba_d_head": 8, "mamba_n_heads": 8, "attn_layer_indices": [1]}),
    ("Mamba2ForCausalLM", {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "vocab_size": 99,
                           "num_hidden_layers": 1, "n_groups": 2, "state_size": 16}),
    ("XLNetModel", {"d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 16, "n_layer": 1}),
    *[("SwinBackbone", SWIN | stages) for stages in (
        {}, {"out_features": ["stem", "stage2"]}, {"out_indices": [1, -1]},
        {"out_features": ["stage1", "stage3"], "out_indices": [1, 3]},
    )],
    *[("PaliGemmaForConditionalGeneration", {
        "projection_dim": 24,
        "vision_config": VISION | {"num_attention_heads": 4, "image_size": 28, "patch_size": 14},
        "text_config": GEMMA2 | {"model_type": kind},
    }) for kind in ("gemma", "gemma2")],
    *[("VoxtralModel", {"text_config": text | {"num_hidden_layers": 1}}) for text in (
        {}, {"model_type": "mistral", "hidden_size": 64}, {"vocab_size": 99, "head_dim": 32},
    )],
    *[("Gemma4TextModel", GEMMA2 | {"num_hidden_layers": layers}) for layers in (2, 5, 6, 8)],
    # Parts with a form on disk of their own, in models that have none.
    ("Idefics2Model", {"text_config": QWEN | {"model_type": "qwen3_moe"}}),
    ("EncoderDecoderModel", {
        "encoder": VISION | {"model_type": "dinov2", "num_attention_heads": 4},
        "decoder": {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1,
                    "num_attention_heads": 4, "intermediate_size": 16, "vocab_size": 99,
                    "is_decoder": True, "add_cross_attention": True},
    }),
    *[(name, SPOKEN | {"feat_extract_norm": norm}) for norm in ("group", "layer")
      for name in ("HubertModel", "Wav2Vec2ForCTC", "WavLMForCTC")],
    ("EsmModel", VISION | {"vocab_size": 33, "pad_token_id": 1, "num_attention_heads": 4,
                           "position_embedding_type": "rotary"}),
    ("MiniMaxM3VLTextModel", MINIMAX | {"mlp_layer_types": ["dense", "sparse"]}),
    ("Qwen3NextModel", QWEN | {"layer_types": ["linear_attention", "full_attention"]}),
    ("Qwen3NextModel", QWEN | {"layer_types": ["mamba", "attention"]}),
    # Wrappers whose heads follow the type that the file chooses.
    *[("LlavaForConditionalGeneration", {
        "text_config": QWEN | {"model_type": text}, "vision_config": SEEN | {"model_type": vision},
    }) for text in ("mistral", "qwen2", "gpt_neox", "qwen3_moe")
      for vision in ("siglip_vision_model", "dinov2", "pixtral")],
    *[("InternVLForConditionalGeneration", {
        "text_config": QWEN | {"model_type": "qwen3"}, "vision_config": VISION | {"norm_type": norm},
    }) for norm in ("layer_norm", "rms_norm")],
    *[("VisionEncoderDecoderModel", {
        "encoder": encoder, "decoder": WRITER | {"model_type": kind} | tied,
    }) for encoder in (SEEN | {"model_type": "vit"}, SWIN | {"model_type": "donut-swin"})
      for kind in ("trocr", "gpt2", "mbart", "roberta")
      for tied in ({}, {"tie_word_embeddings": False})],
    *[("SpeechEncoderDecoderModel", {
        "encoder": SPOKEN | {"model_type": "wav2vec2", **wide}, "decoder": WRITER | {"model_type": kind},
    }) for wide in ({}, {"output_hidden_size": 64, "add_adapter": True}) for kind in ("bart", "bert")],
    ("EncoderDecoderModel", {
        "encoder": SEEN | {"model_type": "bert"},
        "decoder": WRITER | {"model_type": "bert", "cross_attention_hidden_size": 32},
    }),
    *[(name, {"text_config": text | {"vocab_size": 99}}) for name in (
        "Blip2ForConditionalGeneration", "InstructBlipForConditionalGeneration",
    ) for text in (
        QWEN | {"model_type": "llama"}, {"model_type": "t5", "d_model": 32, "num_layers": 1},
        {"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    )],
    ("BigBirdModel", VISION | {"num_attention_heads": 4, "vocab_size": 99, "use_bias": False,
                               "add_cross_attention": True, "is_decoder": True}),
    *[(name, {"d_model": 32, "num_layers": 2, "encoder_attention_type": kind})
      for name in ("LongT5Model", "LongT5EncoderModel") for kind in ("local", "transient-global")],
    ("MiniMaxM3VLModel", {
        "text_config": MINIMAX | {"mlp_layer_types": ["dense", "sparse"]}, "vision_config": SEEN,
    }),
    # What follows from a field does not see a value that comes by the field's other name.
    *[("T5Model", {"d_model": 32, "d_ff": 16, "num_heads": 2, "vocab_size": 99, **depths}) for depths in (
        {"num_hidden_layers": 2}, {"num_layers": 2}, {"num_layers": 2, "num_hidden_layers": 2},
        {"num_hidden_layers": 1, "num_decoder_layers": 2},
    )],
    *[(name, RESNET | other) for name in ("ResNetModel", "RTDetrResNetBackbone") for other in (
        {}, {"layer_type": "basic"}, {"downsample_in_first_stage": True}, {"hidden_sizes": [8, 8, 16]},
        {"layer_type": "basic", "downsample_in_first_stage": True, "depths": [0, 2]},
        {"hidden_act": "prelu"},
    )],
    *[("RegNetModel", RESNET | {"groups_width": 4} | other) for other in (
        {}, {"layer_type": "x"}, {"downsample_in_first_stage": False}, {"hidden_act": "prelu"},
    )],
    *[("Swin2SRForImageSuperResolution", {
        "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 2], "upscale": 4, "upsampler": kind,
    }) for kind in ("pixelshuffle", "pixelshuffle_aux", "pixelshuffledirect", "nearest+conv", "")],
    *[("Wav2Vec2ConformerModel", SPOKEN | {"position_embeddings_type": kind})
      for kind in ("relative", "rotary")],
    *[("Granite4VisionModel", {"downsample_rate": "4/8", "deepstack_layer_map": layers}) for layers in (
        [], [[1, 2], [3, 4], [5, 6]],
    )],
]  # fmt: skip

SILENT: list[tuple[str, Config]] = [
    ("DFineForObjectDetection", {"layer_scale": 2}),
    ("InformerForPrediction", {"prediction_length": 4, "distribution_output": "normal"}),
    ("DeepseekV32Model", {"num_experts": 3, "num_local_experts": 512, "num_hidden_layers": 4}),
    ("InternVLVisionModel", VISION | {"image_size": [28] * 3, "patch_size": [14] * 3}),
    ("InternVLVisionModel", VISION | {"image_size": [28] * 2, "patch_size": [14] * 3}),
    ("InternVLForConditionalGeneration",
     {"vision_config": VISION | {"image_size": [28] * 3, "patch_size": [14] * 3}}),
    (SPEECH, {"decoder_config": HALF}),
    (SPEECH, {"encoder_layers": 2}),
    ("DbrxModel", {"d_model": 64, "n_layers": 1, "n_heads": 4, "vocab_size": 100,
                   "attn_config": {"rope_theta": 1e4},
                   "ffn_config": {"ffn_act_fn": {"name": "xielu"}, "ffn_hidden_size": 16}}),
    ("Gemma4TextModel", GEMMA | {"per_layer_config": {}}),
    ("PatchTSTForPrediction", {"loss": "nll"}),
    ("PatchTSTForPrediction", {"loss": None}),  # a null that stands for itself
    ("PatchTSTModel", {"norm_type": "layernorm"}),
    ("InformerForPrediction", {"prediction_length": 4, "distribution_output": "normal"}),
    ("Gemma3nForCausalLM", {"num_kv_shared_layers": 51}),
    ("RTDetrModel", {"backbone_config": {
        "model_type": "rt_detr_resnet", "out_features": ["stage1", "stage3", "stage4"],
    }, "encoder_in_channels": [256, 1024, 2048]}),
]  # fmt: skip


def verdict(name: str, config: Config) -> tuple[str, str]:
    """What the atlas says of a config, held against the library."""
    from tidoctor.atlas.learn import examine
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built

    values = dict(config)
    return examine.judged(name, values, built(name, values, FIRST_SECONDS, parts=False))


@pytest.mark.parametrize(("name", "config"), RIGHT)
def test_an_odd_config_is_understood(name: str, config: Config) -> None:
    assert verdict(name, config) == ("exact", "")


@pytest.mark.parametrize("name", ["SEWDModel", "T5Gemma2Model", "Cohere2MoeModel", "BltModel"])
def test_the_full_defaults_of_a_class_are_answered(name: str) -> None:
    from tidoctor.atlas.expectation import expectation
    from tidoctor.atlas.learn.builds import configured

    config = configured(name, {})
    assert expectation(config.to_dict(), name).disk
    other = config.to_dict() | {"norm_rel_ebd": "none"}
    if name == "SEWDModel":  # it was learned with one value of a field that it reads aside
        with pytest.raises(NotCovered, match="`norm_rel_ebd`"):
            expectation(other, name)


@pytest.mark.parametrize(("name", "config"), SILENT)
def test_an_odd_config_is_refused(name: str, config: Config) -> None:
    assert verdict(name, config)[0] == "uncovered"


@pytest.mark.parametrize(("key", "called"), [
    ("text_config", "llama"), ("text_config", "qwen3_moe"), ("text_config", "aria_text"),
])  # fmt: skip
def test_a_part_that_calls_itself_another_is_saved_by_the_rules_of_that_one(
    key: str, called: str
) -> None:
    """Its class is fixed, yet the library looks for conversions by what it calls itself."""
    from tidoctor.atlas.expectation import expectation
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built, default_values

    name = "AriaForConditionalGeneration"
    values = default_values(name)
    values[key] = values[key] | {"model_type": called}
    real = built(name, values, FIRST_SECONDS, parts=False)
    usual = built(name, default_values(name), FIRST_SECONDS, parts=False)
    said = expectation(values | {"architectures": [name]}, name)
    assert dict(said.memory) == real.memory == usual.memory
    if real.disk == usual.disk:
        assert dict(said.disk) == real.disk
    else:
        assert called != "aria_text"
        with pytest.raises(NotCovered, match=f'calls itself "{called}"'):
            _ = said.disk
