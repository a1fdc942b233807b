"""What transformers makes of a folder: what it loads, what it misses, what the model computes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers


@dataclass(frozen=True)
class Loaded:
    """A model from a folder and what `output_loading_info` said, as sorted names."""

    model: Any
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether every parameter came from the files and every tensor of the files was used."""
        return not (self.missing or self.unexpected or self.mismatched)


def load(folder: Path, class_name: str) -> Loaded:
    """Open a folder with the class of this name. Raises what transformers raises."""
    # Without a config.json the class would build itself in its default size of many gigabytes.
    transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(12345)  # so that an initialised parameter never equals the saved one
    model, info = getattr(transformers, class_name).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    return Loaded(
        model.eval(),
        tuple(sorted(map(str, info["missing_keys"]))),
        tuple(sorted(map(str, info["unexpected_keys"]))),
        tuple(sorted(map(str, info["mismatched_keys"]))),
    )


def logits(model: Any) -> torch.Tensor:
    """What the model answers to a fixed random input."""
    generator = torch.Generator().manual_seed(3)
    config = model.config
    ids = torch.randint(3, 90, (1, 7), generator=generator)
    inputs: dict[str, torch.Tensor] = {"input_ids": ids}
    if config.model_type == "vit":
        side = config.image_size
        inputs = {"pixel_values": torch.randn(1, 3, side, side, generator=generator)}
    elif config.model_type == "whisper":
        frames = 2 * config.max_source_positions
        mel = torch.randn(1, config.num_mel_bins, frames, generator=generator)
        inputs = {"input_features": mel, "decoder_input_ids": ids}
    elif config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    cast = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        answer: torch.Tensor = model(**cast).logits
    assert torch.isfinite(answer).all(), "a model with such numbers proves nothing"
    assert answer.std() > 0, "a model whose answer is constant proves nothing"
    return answer


def differences(a: Any, b: Any) -> list[str]:
    """Parameters and buffers of two models that are not equal bit for bit."""
    one, other = a.state_dict(), b.state_dict()
    return sorted(
        name for name in one.keys() | other.keys()
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    )


@functools.lru_cache(maxsize=256)
def reference(folder: Path, class_name: str) -> tuple[Loaded, torch.Tensor]:
    """The model of a folder that never changes, and its answer; loaded once."""
    loaded = load(folder, class_name)
    return loaded, logits(loaded.model)


def assert_equal(folder: Path, original: Path, class_name: str) -> None:
    """A folder loads without complaint and is, bit for bit, the model of the original one."""
    loaded, (wanted, answer) = load(folder, class_name), reference(original, class_name)
    assert loaded.missing == ()
    assert loaded.unexpected == ()
    assert loaded.mismatched == ()
    assert differences(loaded.model, wanted.model) == []
    assert torch.equal(logits(loaded.model), answer)
