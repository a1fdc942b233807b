"""What training puts around names: wrappers, adapters, old spellings; and the names without it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tidoctor.patterns import Kinds

WRAPPER_PREFIXES: Mapping[str, str] = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel or DeepSpeed",
    "_fsdp_wrapped_module.": "FSDP",
    "_forward_module.": "Lightning Fabric",
    "base_model.model.": "PEFT",
    "pretrained_model.": "trl",
}
"""What training wrappers put in front of every name, and who does it."""

WRAPPER_INFIXES: Mapping[str, str] = {
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
}
"""What wrappers around single layers put inside a path."""

_ADAPTER = re.compile(
    r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.|$)"
)
_ALTERED = (
    "._", "lora_", ".base_layer.", ".modules_to_save.", ".original_module.", "LayerNorm.gamma",
    "LayerNorm.beta",
)  # fmt: skip
_GAMMA = re.compile(r"(?<=LayerNorm\.)(?:gamma|beta)$")
_INFIX = re.compile(r"\.(?:" + "|".join(WRAPPER_INFIXES) + r")(?=\.)")
_SAVED = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")


def peel(names: Kinds) -> tuple[dict[str, str], tuple[str, ...]]:
    """Wrapper prefixes, outermost first, and what is left of each name that carries some.

    A prefix is claimed when more than half of the names carry it, until none is left; only those
    names lose it.
    """
    if names.first(lambda name: name.startswith((*WRAPPER_PREFIXES,))) is None:
        return {}, ()
    kinds = [(alike[0], alike) for alike in names]
    total = sum(len(alike) for _, alike in kinds)
    found: list[str] = []
    while len(found) < 8:
        for prefix in WRAPPER_PREFIXES:
            carried = sum(len(alike) for bare, alike in kinds if bare.startswith(prefix))
            if carried * 2 > total:
                break
        else:
            break
        found.append(prefix)
        kinds = [(bare.removeprefix(prefix), alike) for bare, alike in kinds]
    # What a kind has lost at its beginning is the same for all of its names.
    bare = {
        name: name[len(alike[0]) - len(bare) :]
        for bare, alike in kinds
        if bare != alike[0]
        for name in alike
    }
    return bare, tuple(found)


def is_altered(name: str) -> bool:
    """Whether a name may have an infix, an adapter part or an old spelling."""
    return any(mark in name for mark in _ALTERED)


def without_infixes(name: str) -> str:
    """The name without the wrappers that stand inside its path."""
    return _INFIX.sub("", name) if "._" in name else name


def modern(name: str) -> str:
    """The name with `gamma` and `beta` of a LayerNorm, TensorFlow's words, as weight and bias.

    Elsewhere `gamma` is a name of its own (layer scale).
    """
    if "LayerNorm." not in name:
        return name
    return _GAMMA.sub(lambda m: "weight" if m[0] == "gamma" else "bias", name)


def is_adapter(name: str) -> bool:
    """Whether this is a part of an unmerged LoRA adapter.

    Matched by whole components, since `lora` occurs in legal names (`kv_a_proj`, RWKV's `w_lora`).
    """
    return "lora_" in name and bool(_ADAPTER.search(name))


def without_adapter(name: str) -> str | None:
    """The name that the weight has once its adapter is merged; None for parts that vanish then.

    `x.base_layer.weight` and `x.modules_to_save.default.weight` become `x.weight`.
    """
    if is_adapter(name) or ".original_module." in name:
        return None
    saved = _SAVED.sub("", name) if ".modules_to_save." in name else name
    return saved.replace(".base_layer.", ".")
