"""Learns `families.json` from an installed transformers. Run at development time only.

    python -m tidoctor.atlas.learner --transformers4 /path/to/v4/bin/python

Needs torch and transformers 5. Every class is built on the meta device from the default
config of its model type, so no weight is ever allocated or downloaded. The names are those
of a fresh `save_pretrained`: the state dict without the keys ignored on save, with the
load-time conversions reverted (transformers 5.23, modeling_utils.py `save_pretrained` and
core_model_loading.py `revert_weight_conversion`). The tied aliases are left in, so that the
head has a name although no tied file would hold it.

The effective default of the tie flag in transformers 4 is asked of a second interpreter,
which runs this same file with `--print-v4`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).with_name("families.json")

# task -> auto classes of transformers (modeling_auto.py). The order decides which task a class
# that stands in several of them is filed under: the narrower one first.
TASKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("image-text-to-text", ("IMAGE_TEXT_TO_TEXT",)),
    ("speech-seq2seq", ("SPEECH_SEQ_2_SEQ",)),
    ("seq2seq-lm", ("SEQ_TO_SEQ_CAUSAL_LM",)),
    ("causal-lm", ("CAUSAL_LM",)),
    ("masked-lm", ("MASKED_LM",)),
    ("ctc", ("CTC",)),
    ("sequence-classification", ("SEQUENCE_CLASSIFICATION",)),
    ("token-classification", ("TOKEN_CLASSIFICATION",)),
    ("question-answering", ("QUESTION_ANSWERING",)),
    ("multiple-choice", ("MULTIPLE_CHOICE",)),
    ("image-classification", ("IMAGE_CLASSIFICATION",)),
    ("image-text-to-text", ("MULTIMODAL_LM",)),
    ("base", ("BASE",)),
    ("pretraining", ("PRETRAINING",)),
    ("encoder", ("TEXT_ENCODING",)),
)

# Names under which families unknown to transformers store the two ends of the model. The ones
# that are not a transformers spelling come from original (Meta, ChatGLM, InternLM, Qwen 1) or
# remote-code layouts.
GENERIC_HEADS = (
    "lm_head.weight",
    "model.lm_head.weight",
    "language_model.lm_head.weight",
    "model.language_model.lm_head.weight",
    "thinker.lm_head.weight",
    "llm.lm_head.weight",
    "text_model.lm_head.weight",
    "transformer.lm_head.weight",
    "embed_out.weight",
    "output.weight",
    "language_model.output.weight",
    "output_layer.weight",
    "transformer.output_layer.weight",
    "transformer.ff_out.weight",
    "model.transformer.ff_out.weight",
    "lm_head.decoder.weight",
    "lm_head.linear.weight",
    "cls.predictions.decoder.weight",
    "generator_lm_head.weight",
    "vocab_projector.weight",
    "predictions.decoder.weight",
    "decoder.output_projection.weight",
    "output_projection.weight",
    "proj_out.weight",
    "head.weight",
    "lm_head.out_proj.weight",
    "pred_layer.proj.weight",
    "lm_loss.weight",
)
GENERIC_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.embed_tokens.weight",
    "thinker.model.embed_tokens.weight",
    "llm.model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "model.transformer.wte.weight",
    "tok_embeddings.weight",
    "model.tok_embeddings.weight",
    "language_model.model.tok_embeddings.weight",
    "transformer.embedding.word_embeddings.weight",
    "embedding.word_embeddings.weight",
    "transformer.word_embeddings.weight",
    "word_embeddings.weight",
    "gpt_neox.embed_in.weight",
    "embed_in.weight",
    "backbone.embeddings.weight",
    "backbone.embedding.weight",
    "model.embeddings.weight",
    "shared.weight",
    "model.shared.weight",
    "embeddings.word_embeddings.weight",
    "bert.embeddings.word_embeddings.weight",
    "roberta.embeddings.word_embeddings.weight",
    "model.embeddings.tok_embeddings.weight",
    "model.text_model.embed_tokens.weight",
    "text_model.embed_tokens.weight",
    "transformer.embeddings.weight",
    "transformer.embed_tokens.weight",
    "model.word_embeddings.weight",
    "transformer.tokens_embed.weight",
    "model.encoder.embed_tokens.weight",
    "embed.weight",
)
# Sources: transformers PR 21955 changed the spelling, files written before it or by NVIDIA keep
# the old one (llama.cpp PR 9485, vLLM PR 251).
OLD_SPELLINGS = {"LLaMAForCausalLM": "LlamaForCausalLM"}

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
# A class with more tensors of its own than this has its numbers replaced by `*`.
MANY = 24


Facts = dict[str, Any]


class Unbuildable(Exception):
    """The class has no usable default config."""


# --- what transformers knows -----------------------------------------------------------------


def auto_mappings() -> dict[str, dict[str, tuple[str, ...]]]:
    """Auto class key ("CAUSAL_LM", "BASE") -> model type -> class names."""
    from transformers.models.auto import modeling_auto

    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, mapping in vars(modeling_auto).items():
        match = re.fullmatch(r"MODEL_(?:FOR_)?(?:(\w+)_)?MAPPING_NAMES", name)
        if match is None:
            continue
        found[match[1] or "BASE"] = {
            model_type: tuple(names) if isinstance(names, (list, tuple)) else (names,)
            for model_type, names in mapping.items()
        }
    return found


def is_bare(name: str) -> bool:
    """Whether a class of the base mapping really is a body without a task head."""
    return re.search(r"For[A-Z]|With[A-Z]|Backbone$|LMHead|DoubleHeads", name) is None


def classes_by_type() -> dict[str, dict[str, str]]:
    """Model type -> task -> class name, the first class of each auto class winning."""
    table: dict[str, dict[str, str]] = {}
    for task, model_type, names in auto_entries():
        if fits(names[0], task):
            table.setdefault(model_type, {}).setdefault(filed(names[0], task), names[0])
    return table


def auto_entries() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Task, model type and class names, in the order of TASKS."""
    mappings = auto_mappings()
    for task, keys in TASKS:
        for key in keys:
            for model_type, names in mappings.get(key, {}).items():
                yield task, model_type, names


def fits(name: str, task: str) -> bool:
    """The base mapping also holds classes with a head, where a family has nothing else."""
    return task != "base" or is_bare(name)


def filed(name: str, task: str) -> str:
    """The text encoding mapping also holds text bodies of multimodal families."""
    return "base" if task == "encoder" and not name.endswith("EncoderModel") else task


def tasks_of_classes() -> dict[str, str]:
    """Class name -> task, for every class of every auto class and every exported one."""
    tasks: dict[str, str] = {}
    for task, _, names in auto_entries():
        for name in names:
            if fits(name, task):
                tasks.setdefault(name, filed(name, task))
    for mapping in auto_mappings().values():
        for names in mapping.values():
            for name in names:
                tasks.setdefault(name, "other")
    for name in exported_models():
        tasks.setdefault(name, "encoder" if name.endswith("EncoderModel") else "other")
    return tasks


def exported_models() -> Iterator[str]:
    """Public model classes, the abstract `...PreTrainedModel` ones left out."""
    import transformers

    for name in sorted(dir(transformers)):
        if re.search(r"Pre[tT]rainedModel|^Auto|^Pretrained", name):
            continue
        if re.search(r"Model|For[A-Z]|Encoder|Decoder|Backbone|Head", name) is None:
            continue
        thing = getattr(transformers, name, None)
        if inspect.isclass(thing) and issubclass(thing, transformers.PreTrainedModel):
            yield name


def model_types_by_class() -> dict[str, list[str]]:
    """Class name -> model types whose auto classes name it, in the library's order."""
    found: dict[str, list[str]] = {}
    for mapping in auto_mappings().values():
        for model_type, names in mapping.items():
            for name in names:
                types = found.setdefault(name, [])
                if model_type not in types:
                    types.append(model_type)
    return found


def model_class(name: str) -> Any:
    """The class object, from the package or, if not exported, from its modelling module."""
    import transformers

    thing = getattr(transformers, name, None)
    if thing is None:
        raise Unbuildable(f"{name} is not exported")
    return thing


# --- configs ---------------------------------------------------------------------------------


def config_class_of(name: str, model_types: Iterable[str]) -> Any:
    """The config class the model class declares, else that of its first model type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    declared: Any = getattr(model_class(name), "config_class", None)
    named: str = getattr(declared, "model_type", "")
    if named:
        return declared
    for model_type in model_types:
        if model_type in CONFIG_MAPPING:
            return CONFIG_MAPPING[model_type]
    raise Unbuildable(f"{name} has no config class")


@functools.cache
def default_values(config_class: Any) -> str:
    """The class's default config as JSON (a string, so that the cache cannot be changed)."""
    return json.dumps(default_config(config_class).to_dict(), default=str)


def default_config(config_class: Any) -> Any:
    """The config a `config.json` that says nothing stands for."""
    return config_class(**SEEDS.get(config_class.model_type, {}))


def fill(values: dict[str, Any]) -> None:
    """Give open values something a model can be built with."""
    for key, value in values.items():
        if isinstance(value, dict):
            fill(value)
        elif value is None and key in OPEN_VALUES:
            values[key] = OPEN_VALUES[key]


def shrink(values: dict[str, Any]) -> None:
    """Cut down what only costs time: layers (with the lists that run along them), experts."""
    for key, value in list(values.items()):
        if isinstance(value, dict):
            shrink(value)
        elif not isinstance(value, int) or isinstance(value, bool):
            continue
        elif EXPERTS.fullmatch(key):
            values[key] = min(value, FEW_EXPERTS)
        elif LAYERS.fullmatch(key) and value > FEW_LAYERS:
            values[key] = FEW_LAYERS
            for other, along in values.items():
                if isinstance(along, list) and len(along) == value:
                    values[other] = along[:FEW_LAYERS]


class Variant(NamedTuple):
    """How to build: the tie flag at the top and below, a cut-down size, open values set."""

    top: bool
    inner: bool
    small: bool = True
    filled: bool = False


def with_flag(name: str, config_class: Any, variant: Variant) -> Any:
    """A default config read from a dict that states the tie flag on every level.

    Going through `from_dict` matters: some config classes overrule the flag while they are
    built (T5 forces it to true), and setting the attribute afterwards would hide that.
    """
    values = json.loads(default_values(config_class)) | CLASS_SEEDS.get(name, {})
    if variant.small:
        shrink(values)
    if variant.filled:
        fill(values)
    state_flag(values, variant.top, variant.inner)
    try:
        return config_class.from_dict(values)
    except Exception as error:
        if "tie_word_embeddings" not in str(error):
            raise
        state_flag(values, False, False)  # a config that refuses true (DBRX)
        return config_class.from_dict(values)


# Config values in a dict that are no language model (a per-layer table) or a second one beside
# the one that counts (the speech half of an omni model).
NOT_THE_TEXT = ("per_layer_config", "depth_decoder_config", "talker_config")


def state_flag(values: dict[str, Any], top: bool, inner: bool) -> None:
    """Write the flag into a config dict and into its sub-configs."""
    values["tie_word_embeddings"] = top
    for key, value in values.items():
        if key.endswith("_config") and isinstance(value, dict) and key not in NOT_THE_TEXT:
            state_flag(value, inner, inner)


def flag_facts(config_class: Any) -> dict[str, Any]:
    """Default of the flag in transformers 5 and whether a text_config's flag moves up."""
    plain = default_config(config_class)
    default = getattr(plain, "tie_word_embeddings", None)
    nested = getattr(plain, "text_config", None) is not None
    bridged = nested and all(flag_from_text(config_class, plain, flag) for flag in (True, False))
    return {
        "v5": default if isinstance(default, bool) else None,
        "nested": nested,
        "bridged": bridged,
    }


def flag_from_text(config_class: Any, plain: Any, flag: bool) -> bool:
    """Whether a config that states the flag only inside text_config takes that value."""
    with contextlib.suppress(Exception):
        text = plain.text_config.to_dict() | {"tie_word_embeddings": flag}
        values = {"model_type": config_class.model_type, "text_config": text}
        return getattr(config_class.from_dict(values), "tie_word_embeddings", None) is flag
    return False


# --- one model -------------------------------------------------------------------------------


@functools.cache
def stand_in_for_timm() -> None:
    """Let classes with a timm vision tower build without that library.

    The tower gets one tensor; neither ends nor ties nor prefix of a class depend on it.
    """
    import torch
    from transformers import PreTrainedModel, TimmWrapperModel

    def build(self: Any, config: Any) -> None:
        PreTrainedModel.__init__(self, config)
        self.features_only = False
        self.timm_model = torch.nn.Linear(1, 1)
        self.post_init()

    TimmWrapperModel.__init__ = build


class Layout:
    """Names of one model built on the meta device: in memory and on disk."""

    def __init__(self, name: str, config: Any) -> None:
        """Build `name` from `config`; raises whatever the library raises."""
        import torch

        with torch.device("meta"):
            self.model = model_class(name)(config)
        self.model.tie_weights()
        self.state = dict(self.model.state_dict())
        for key in self.model._keys_to_ignore_on_save or ():
            self.state.pop(key, None)
        self.memory = frozenset(self.state)

    @functools.cached_property
    def disk(self) -> frozenset[str]:
        """All names on disk, aliases included."""
        return frozenset(self.on_disk(self.memory))

    def on_disk(self, names: Iterable[str]) -> set[str]:
        """What a fresh save calls these tensors (an expert stack becomes many)."""
        from transformers.core_model_loading import revert_weight_conversion

        chosen = {name: self.state[name] for name in names if name in self.state}
        if not chosen:
            return set()
        if hasattr(self.model, "_weight_conversions"):
            del self.model._weight_conversions
        return set(revert_weight_conversion(self.model, chosen))

    def one_on_disk(self, name: str) -> str | None:
        """The name on disk of one tensor, None when it has not exactly one."""
        found = self.on_disk([name])
        return found.pop() if len(found) == 1 and found <= self.disk else None

    def names_of(self, module: Any) -> list[str]:
        """Names in memory of a module's weight (several when the module is shared)."""
        if module is None:
            return []
        return [
            f"{name}.weight"
            for name, each in self.model.named_modules(remove_duplicate=False)
            if each is module and f"{name}.weight" in self.memory
        ]

    def kept(self) -> set[str]:
        """Names in memory that survive `remove_tied_weights_from_state_dict`."""
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        return set(remove_tied_weights_from_state_dict(dict(self.state), self.model))

    def ties(self) -> dict[str, str]:
        """Dropped alias -> tensor that keeps the bytes, names in memory."""
        groups: dict[int, list[str]] = {}
        for name in self.memory:
            groups.setdefault(id(self.model.get_parameter_or_buffer(name)), []).append(name)
        shared = [names for names in groups.values() if len(names) > 1]
        kept = self.kept() if shared else set()
        found: dict[str, str] = {}
        for names in shared:
            keepers = sorted(kept.intersection(names))
            if len(keepers) == 1:
                found |= {name: keepers[0] for name in names if name != keepers[0]}
        return found

    def input_names(self) -> list[str]:
        """Names in memory of the token embedding."""
        import torch

        with contextlib.suppress(Exception):
            module = self.model.get_input_embeddings()
            if isinstance(module, torch.nn.Embedding) or hasattr(module, "num_embeddings"):
                return self.names_of(module)
        return []

    def output_names(self) -> list[str]:
        """Names in memory of the output projection.

        A class that only bundles models (Qwen2.5-Omni: thinker, talker, vocoder) has none of
        its own; then the one part that has an output projection speaks for it.
        """
        import transformers

        with contextlib.suppress(Exception):
            own = self.names_of(self.model.get_output_embeddings())
            if own:
                return own
        parts: list[str] = []
        for part in self.model.children():
            if isinstance(part, transformers.PreTrainedModel) and part.can_generate():
                with contextlib.suppress(Exception):
                    parts += self.names_of(part.get_output_embeddings())
        return parts

    def starred(self, name: str) -> str | None:
        """The name on disk with `*` for positions in a module list, whose length varies."""
        disk = self.one_on_disk(name)
        if disk is None:
            return None
        parts, places = disk.split("."), self._list_places(name)
        digits = [at for at, part in enumerate(parts) if part.isdigit()]
        if len(digits) == len(places):
            for at, varies in zip(digits, places, strict=True):
                parts[at] = "*" if varies else parts[at]
        return ".".join(parts)

    def _list_places(self, name: str) -> list[bool]:
        """For each number in a name in memory: is it a position in a module list?"""
        import torch

        lists = (torch.nn.ModuleList, torch.nn.ParameterList)
        places, module = [], self.model
        for part in name.split("."):
            if part.isdigit():
                places.append(isinstance(module, lists))
            module = getattr(module, part, None)
        return places


@functools.lru_cache(maxsize=8)
def base_layout(name: str, config_json: str, config_class: Any) -> Layout:
    """The bare class built from the same config."""
    return Layout(name, config_class.from_dict(json.loads(config_json)))


# --- one class -------------------------------------------------------------------------------


def learn_class(name: str, task: str, model_types: list[str], bare: Mapping[str, str]) -> Facts:
    """Everything about one class, unabridged."""
    config_class = config_class_of(name, model_types)
    types = model_types or [config_class.model_type]
    facts: Facts = {"task": task, "types": types} | flag_facts(config_class)
    untied, tied, on = build_both(name, config_class)
    if facts["nested"] and decisive_ties(tied) - set(untied.ties()):
        facts |= level_facts(name, config_class, on, decisive_ties(tied))
    facts |= tie_facts(untied, tied) | body_facts(name, task, untied, bare)
    facts |= ends(untied, tied)
    if facts["embedding"] is None:
        # A bundle (Qwen2.5-Omni) names no embedding, but its head may be tied to one.
        facts["embedding"] = facts["ties"].get(facts["head"])
    return facts


def build_both(name: str, config_class: Any) -> tuple[Layout, Layout, Variant]:
    """The class untied and tied: small, else in full size, else with open values set."""
    failure = Unbuildable(name)
    for filled, small in itertools.product((False, True), (True, False)):
        off, on = (Variant(flag, flag, small, filled) for flag in (False, True))
        try:
            untied = Layout(name, with_flag(name, config_class, off))
            return untied, Layout(name, with_flag(name, config_class, on)), on
        except Unbuildable:
            raise
        except Exception as error:
            failure = Unbuildable(f"{type(error).__name__}: {error}")
    raise failure


def level_facts(name: str, config_class: Any, on: Variant, ties: Iterable[str]) -> Facts:
    """Which level of a nested config decides in transformers 5, by building the two mixtures."""
    wanted = set(ties)
    top, inner = (
        not wanted.isdisjoint(Layout(name, with_flag(name, config_class, variant)).ties())
        for variant in (on._replace(inner=False), on._replace(top=False))
    )
    levels = {(True, False): "top", (False, True): "text", (True, True): "either"}
    return {"level": levels.get((top, inner), "both")}


def ends(untied: Layout, tied: Layout) -> Facts:
    """Names on disk of head and embedding."""
    outputs, inputs = untied.output_names(), untied.input_names()
    if len(inputs) > 1:  # one module under several names (T5): the one that is saved
        inputs = sorted(tied.kept().intersection(inputs))
    return {
        "head": untied.one_on_disk(outputs[0]) if len(outputs) == 1 else None,
        "embedding": untied.one_on_disk(inputs[0]) if len(inputs) == 1 else None,
    }


def decisive_ties(tied: Layout) -> set[str]:
    """Aliases (in memory) that tell whether the model is tied: the head's, if it has any."""
    ties = tied.ties()
    head = set(tied.output_names())
    return {alias for alias, kept in ties.items() if {alias, kept} & head} or set(ties)


def tie_facts(untied: Layout, tied: Layout) -> Facts:
    """What is tied with the flag on, and whether the flag decides."""
    ties, decisive = tied.ties(), decisive_ties(tied)
    named = {untied.starred(alias): untied.starred(kept) for alias, kept in ties.items()}
    follows = bool(decisive - set(untied.ties()))
    return {
        "ties": {a: k for a, k in sorted(named.items(), key=str) if a and k and a != k},
        "follows": follows,
        "always": None if follows else bool(decisive),
    }


def body_facts(name: str, task: str, own: Layout, bare: Mapping[str, str]) -> Facts:
    """Base class, prefix and the tensors beyond the base class."""
    if task == "base":
        return {"base": name, "prefix": "", "uniform": True, "own": []}
    nothing: Facts = {"base": None, "prefix": "", "uniform": False, "own": []}
    base_name, stem, config = find_base(own, bare)
    if base_name is None:
        return nothing
    try:
        base = base_layout(base_name, json.dumps(config.to_dict(), default=str), config.__class__)
    except Exception:  # the base class wants another config (MusicgenModel: the decoder's)
        return nothing
    body = {stem + each for each in base.memory} & own.memory
    extra = own.memory - body
    names = {own.starred(each) or each for each in extra}
    if len(names) > MANY:
        names = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", each) for each in names}
    prefix, uniform = find_prefix(own, base, stem)
    return {"base": base_name, "prefix": prefix, "uniform": uniform, "own": sorted(names)}


def find_base(own: Layout, bare: Mapping[str, str]) -> tuple[str | None, str, Any]:
    """Base class, where it sits in memory ("model."), and its config."""
    model = own.model
    default = bare.get(model.config.model_type)
    # The declared place is wrong in a few classes (Llama4ForCausalLM says "language_model").
    places = [model.base_model_prefix, *(place for place, _ in model.named_children())]
    for place in filter(None, places):
        inner: Any = getattr(model, place, None)
        name = type(inner).__name__
        if name == default or (place in (places[0], "model") and is_base(name)):
            return name, f"{place}.", inner.config
    inner = getattr(model, places[0], None) if places[0] else None
    return default, "" if inner is None else f"{places[0]}.", model.config


def is_base(name: str) -> bool:
    """Whether a part of a model is a public class without a task head."""
    import transformers

    thing = getattr(transformers, name, None)
    is_model = inspect.isclass(thing) and issubclass(thing, transformers.PreTrainedModel)
    return is_model and name.endswith("Model") and is_bare(name)


def find_prefix(own: Layout, base: Layout, stem: str) -> tuple[str, bool]:
    """What stands before the body's tensors on disk, and whether before all of them."""
    gone = {each for each in base.memory if stem + each not in own.memory}
    wanted = base.disk - base.on_disk(gone)
    if not wanted:
        return "", False
    longest = max(wanted, key=lambda each: (len(each), each))
    prefixes = {each[: -len(longest)] for each in own.disk if each.endswith(longest)}
    for prefix in sorted(prefixes, key=len):
        if (not prefix or prefix.endswith(".")) and all(prefix + w in own.disk for w in wanted):
            return prefix, True
    return "", False


# --- transformers 4 --------------------------------------------------------------------------


def print_v4() -> None:
    """Run by a transformers 4 interpreter: class name -> effective default of the flag.

    transformers 4 asks the text config alone (4.57, modeling_utils.py `tie_weights`).
    """
    found: dict[str, bool | None] = {}
    for name in tasks_of_classes():
        with contextlib.suppress(Exception):
            config = config_class_of(name, model_types_by_class().get(name, []))()
            flag = config.get_text_config(decoder=True).tie_word_embeddings
            found[name] = flag if isinstance(flag, bool) else None
    print(json.dumps(found))


def ask_v4(python: str | None) -> dict[str, bool | None]:
    """The answers of a transformers 4 interpreter; empty without one."""
    if python is None:
        return {}
    command = [python, str(Path(__file__).resolve()), "--print-v4"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answers: dict[str, bool | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


# --- the file --------------------------------------------------------------------------------

SECONDS_PER_CLASS = 120


def learn_one(job: tuple[str, str, list[str], dict[str, str]]) -> tuple[str, Facts | str]:
    """A class's facts, or why there are none. Runs in a worker."""
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    stand_in_for_timm()
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS_PER_CLASS)
    try:
        return job[0], learn_class(*job)
    except Exception as error:
        return job[0], f"{type(error).__name__}: {str(error).splitlines()[:1]}"
    finally:
        signal.alarm(0)


def too_slow(signum: int, frame: object) -> None:
    """Ends a build that takes too long."""
    raise Unbuildable(f"more than {SECONDS_PER_CLASS} s")


def learn_all(workers: int, only: str) -> tuple[dict[str, Facts], dict[str, str]]:
    """Facts by class name, and reasons by the name of each class left out."""
    types, by_type = model_types_by_class(), classes_by_type()
    bare = {each: tasks["base"] for each, tasks in by_type.items() if "base" in tasks}
    jobs = [
        (name, task, types.get(name, []), bare)
        for name, task in sorted(tasks_of_classes().items())
        if re.search(only, name)
    ]
    learned: dict[str, Facts] = {}
    left_out: dict[str, str] = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, result in pool.map(learn_one, jobs, chunksize=4):
            if isinstance(result, str):
                left_out[name] = result
            else:
                learned[name] = result
    return learned, left_out


def abridged(name: str, facts: Facts, served: Mapping[str, list[str]]) -> Facts:
    """The facts without what families.py fills in by itself."""
    implied: Facts = {
        "types": served.get(name),
        "task": "other",
        "base": name if facts["task"] == "base" else None,
        "uniform": facts["base"] is not None,
        "own": [facts["head"]] if facts["head"] and facts["task"] != "base" else [],
        "ties": {facts["head"]: facts["embedding"]} if facts["head"] and facts["embedding"] else {},
        "always": False if not facts["ties"] else None,
        "follows": bool(facts["ties"]),
    }
    for key in facts:
        # Of the defaults of the flag, false and unknown differ; elsewhere both mean no.
        flag = key in ("v4", "v5")
        implied.setdefault(key, None if flag or facts[key] is None else type(facts[key])())
    row = {key: value for key, value in sorted(facts.items()) if value != implied[key]}
    if "own" in row:
        row["own"] = paired(row["own"])
    return row


def paired(names: list[str]) -> list[str]:
    """`a.bias` and `a.weight` written as `a.{bias,weight}`; families.py takes it apart."""
    left = set(names)
    for stem in [each.removesuffix("bias") for each in names if each.endswith(".bias")]:
        if stem + "weight" in left:
            left -= {stem + "bias", stem + "weight"}
            left.add(stem + "{bias,weight}")
    return sorted(left)


def finished(learned: dict[str, Facts], v4: Mapping[str, bool | None]) -> dict[str, Any]:
    """The content of families.json."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    tying = {each for facts in learned.values() if facts["ties"] for each in facts["types"]}
    for name, facts in learned.items():
        # Where a family has neither the flag nor a tie, transformers 4's generic true says nothing.
        ties_at_all = not tying.isdisjoint(facts["types"])
        facts["v4"] = v4.get(name) if ties_at_all or facts["v5"] is not None else None
        # A text_config's flag matters only where some class of the family ties at all (not CLIP).
        facts["nested"] = facts["nested"] and ties_at_all
        facts["bridged"] = facts["bridged"] and facts["nested"]
    for facts in learned.values():
        facts["types"] = sorted(facts["types"])
    types = {
        model_type: {task: name for task, name in sorted(tasks.items()) if name in learned}
        for model_type, tasks in sorted(classes_by_type().items())
    }
    served: dict[str, list[str]] = {}
    for model_type, tasks in types.items():
        for name in dict.fromkeys(tasks.values()):
            served.setdefault(name, []).append(model_type)
    return {
        "learned_from": {"transformers": transformers.__version__},
        "model_types": sorted(CONFIG_MAPPING_NAMES),
        "generic": {
            "embeddings": GENERIC_EMBEDDINGS,
            "heads": GENERIC_HEADS,
            "old_spellings": OLD_SPELLINGS,
        },
        "types": {each: tasks for each, tasks in types.items() if tasks},
        "classes": {name: abridged(name, facts, served) for name, facts in sorted(learned.items())},
    }


def one_line_each(content: dict[str, Any]) -> str:
    """JSON with one line per class, model type or list, so that differences can be read."""

    def packed(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

    parts = []
    for key, value in content.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"{packed(name)}:{packed(row)}" for name, row in value.items())
            parts.append(f"{packed(key)}:{{\n{rows}\n}}")
        else:
            parts.append(f"{packed(key)}:{packed(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Learn everything and write families.json; classes left out are listed on stderr."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transformers4", metavar="PYTHON", help="interpreter with 4.57")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", metavar="REGEX", help="a trial with some classes")
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--print-v4", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.print_v4:
        print_v4()
        return
    v4 = ask_v4(arguments.transformers4)
    learned, left_out = learn_all(arguments.workers, arguments.only)
    arguments.output.write_text(one_line_each(finished(learned, v4)), encoding="ascii")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(f"{len(learned)} classes learned, {len(left_out)} left out", file=sys.stderr)


if __name__ == "__main__":
    main()
