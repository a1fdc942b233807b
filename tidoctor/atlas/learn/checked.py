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

# Class -> field -> the values that were seen right. On others sizes follow in a way that was found
# for some values only, or not at all.
PINS: dict[str, dict[str, list[Any]]] = {
    # Ladders: kernels and strides that change at several thresholds.
    "BitModel": {"width_factor": [1, 2, 3, 4]},
    "ClapAudioModel": {"window_size": [7, 8, 9, 10]},
    "DonutSwinModel": {"window_size": [6, 7, 8, 9]},
    "MaskFormerSwinModel": {"window_size": [6, 7, 8, 9]},
    "InklingVisionModel": {"num_channels": [3]},
    "EdgeTamVideoModel": {"mask_downsampler_total_stride": [16]},
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
    "SEWDForCTC": {"attention_head_size": [None]},
    "HYV3Model": {"num_shared_experts": [1]},
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
