"""Data of the atlas for tests: a few true classes, and a builder for made-up ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas.data import Data

TRUE = Data(Path(__file__).parent / "atlas")
"""Llama, GPT-2 and DeepSeek-V3, written by hand and compared with models that transformers
5.23.0 built and saved."""

LLAMA_31_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip


def made_up(
    folder: Path,
    classes: Mapping[str, Mapping[str, Any]] = {},
    configs: Mapping[str, Mapping[str, Any]] = {},
    absent: Mapping[str, str] = {},
) -> Data:
    """Data in a folder, with these classes and configs in one file."""
    index = {
        "learned_from": {"transformers": "0.0"},
        "classes": dict.fromkeys(classes, "all"),
        "configs": dict.fromkeys(configs, "all"),
        "absent": absent,
    }
    (folder / "index.json").write_text(json.dumps(index))
    content = {"classes": classes, "configs": configs}
    (folder / "all.json").write_text(json.dumps(content))
    return Data(folder)
