"""The loading that `tidoctor.atlas.renames` foresees against the one that transformers does.

Two proofs. Many classes are built tiny and saved for real, the file is made ill in the ways
files are ill, and `from_pretrained` reads it. Then every class that the library can build goes
through the loader's core on the meta device, where sizes cost nothing. Compared are the three
sets of the loader: missing, unexpected (under the names it reports) and mismatched with both
shapes; in `from_pretrained` also what is left of them after ties and ignored names.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import modeling_utils
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    convert_and_load_state_dict_in_model,
    revert_weight_conversion,
)

from tests.oracle.models import FAMILIES
from tidoctor.atlas import families, learner
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.loading import Loading, load
from tidoctor.atlas.operations import Shape
from tidoctor.atlas.renames import conversions

Shapes = dict[str, Shape]

# Classes beside those of tests/oracle/models.py; built from their default config, cut down.
MORE = (
    "AlbertForMaskedLM", "BartForSequenceClassification", "BeitForImageClassification",
    "BertForPreTraining", "BertForTokenClassification", "BertModel", "CLIPModel",
    "CLIPVisionModelWithProjection", "CohereForCausalLM", "ConvNextForImageClassification",
    "DebertaV2ForMaskedLM", "DeepseekV2ForCausalLM", "Dinov2Model", "DistilBertForMaskedLM",
    "ElectraForPreTraining", "Ernie4_5_MoeForCausalLM", "Ernie4_5_VLMoeForConditionalGeneration",
    "EsmForMaskedLM", "FalconH1ForCausalLM", "FlexOlmoForCausalLM",
    "Glm4MoeForCausalLM", "Glm4vForConditionalGeneration", "GPTJForCausalLM",
    "GraniteMoeForCausalLM", "GroundingDinoForObjectDetection", "HubertForCTC",
    "Idefics3ForConditionalGeneration", "InternVLForConditionalGeneration", "JambaForCausalLM",
    "Kimi_K25ForConditionalGeneration", "LlamaForSequenceClassification", "LlamaModel",
    "LlavaNextForConditionalGeneration", "LlavaOnevisionForConditionalGeneration", "MiniMaxM3SparseForConditionalGeneration",
    "Mamba2ForCausalLM", "MarianMTModel", "MiniMaxForCausalLM", "MiniMaxM2ForCausalLM",
    "Mistral3ForConditionalGeneration", "MllamaForConditionalGeneration", "ModernBertForMaskedLM",
    "MptForCausalLM", "NemotronHForCausalLM", "OlmoeForCausalLM", "PaliGemmaForConditionalGeneration",
    "PhimoeForCausalLM", "PixtralVisionModel", "Qwen2AudioForConditionalGeneration",
    "Qwen2MoeForCausalLM", "Qwen2VLForConditionalGeneration", "Qwen3NextForCausalLM",
    "Qwen3VLMoeForConditionalGeneration", "RobertaForSequenceClassification", "RwkvForCausalLM",
    "SamModel", "SegformerForSemanticSegmentation", "SiglipModel", "SiglipVisionModel",
    "SmolLM3ForCausalLM", "Swinv2ForImageClassification", "T5EncoderModel", "T5ForSequenceClassification",
    "Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining", "WavLMForXVector", "WhisperForAudioClassification",
    "XLMRobertaForTokenClassification", "XLNetLMHeadModel",
)  # fmt: skip
NAMES = (*(family.name for family in FAMILIES), *MORE)
# Where dividing alone does not make the default config small.
SETTINGS: Mapping[str, dict[str, Any]] = {
    "Mamba2ForCausalLM": {
        "num_heads": 8, "head_dim": 8, "hidden_size": 32, "vocab_size": 128, "state_size": 8,
        "n_groups": 1,
    },
    "MarianMTModel": {
        "vocab_size": 128, "decoder_vocab_size": 128, "pad_token_id": 0,
        "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": 1,
    },
    "Kimi_K25ForConditionalGeneration": {
        "vision_config": {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4},
    },
    "Ernie4_5_VLMoeForConditionalGeneration": {
        "text_config": {
            "hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": [16, 8],
            "vocab_size": 128, "moe_num_experts": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 128,
        },
        "vision_config": {"hidden_size": 64, "intermediate_size": 64, "num_heads": 4},
    },
}
SETTINGS = {**SETTINGS, "Kimi_K25Model": SETTINGS["Kimi_K25ForConditionalGeneration"]}
LARGEST = 60_000_000  # values of a model that is written to disk
SHARES = 6
MANY = 6_000  # tensors of a model that goes through the core on the meta device


# --- models ----------------------------------------------------------------------------------


class Subject(NamedTuple):
    """A class with a config small enough to write its file."""

    name: str
    config: Any

    @property
    def model_class(self) -> Any:
        return getattr(transformers, self.name)

    def on_meta(self) -> Any:
        with torch.device("meta"):
            return self.model_class(copy.deepcopy(self.config))

    def memory(self) -> Shapes:
        return {name: tuple(t.shape) for name, t in self.on_meta().state_dict().items()}

    def foreseen(self, files: Shapes) -> Loading:
        prefix = self.model_class.base_model_prefix
        return load(files, self.memory(), conversions(self.name, prefix), prefix)


def subject(name: str) -> Subject:
    for family in FAMILIES:
        if family.name == name:
            return Subject(family.model_class, family.config(family.ties[0] if family.ties else None))
    return Subject(name, small_config(name, LARGEST))


def small_config(name: str, largest: float) -> Any:
    """A default config, made smaller as far as the class can still be built from it."""
    learner.stand_in_for_timm()
    kind = learner.config_class_of(name, learner.model_types_by_class().get(name, ()))
    ways = [(factor, True, filled) for factor in (16, 8, 4, 2, 1) for filled in (False, True)]
    for factor, cut, filled in (*ways, (1, False, False), (1, False, True)):
        for staged in (False, True):
            values = json.loads(learner.default_values(kind))
            values |= copy.deepcopy(learner.CLASS_SEEDS.get(name, {}))
            if cut:
                learner.shrink(values)
            if filled:
                learner.fill(values)
            divide(values, factor)
            merge(values, SETTINGS.get(name, {}))
            for key in () if staged else ("out_features", "out_indices", "stage_names"):
                values.pop(key, None)  # they follow the number of layers
            try:
                config = kind.from_dict(values)
                model = Subject(name, config).on_meta()
            except Exception:
                continue
            if sum(p.numel() for p in model.parameters()) <= largest:
                return config
    raise LookupError(f"{name} cannot be built small")


def divide(values: Any, factor: int) -> None:
    """Make every number that looks like a size smaller."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, dict | list):
            divide(value, factor)
        elif type(value) is int and value >= 64 and "rate" not in str(key):
            values[key] = value // factor


def merge(values: dict[str, Any], settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if isinstance(value, dict):
            merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def write(subject: Subject, folder: Path) -> Shapes:
    """Save a model for real; what stands in the file."""
    model = subject.on_meta().to_empty(device="cpu")
    model.tie_weights()
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


# --- the ways in which a file can be ill ------------------------------------------------------


def illnesses(files: Shapes, prefix: str, seed: str) -> Iterator[tuple[str, Shapes]]:
    chance = random.Random(seed)
    names = sorted(files)
    stem = f"{prefix}." if prefix else ""

    def without(name: str) -> Shapes:
        return {k: v for k, v in files.items() if k != name}

    yield "healthy", dict(files)
    yield "prefix removed", {name.removeprefix(stem): v for name, v in files.items()}
    yield "prefix added", {stem + name: v for name, v in files.items()}
    yield "prefix removed here and there", {
        name.removeprefix(stem) if chance.random() < 0.5 else name: v for name, v in files.items()
    }
    yield "wrapped", {f"module.{name}": v for name, v in files.items()}
    yield "dropped", without(chance.choice(names))
    gone = chance.choice(names)
    yield "renamed", without(gone) | {gone + "s": files[gone]}
    shaped = [name for name in names if files[name]]
    if shaped:
        odd = chance.choice(shaped)
        shape = list(files[odd])
        shape[chance.randrange(len(shape))] += chance.choice((1, 2, 16))
        yield "another shape", files | {odd: tuple(shape)}
    legacy = {old_spelling(name): v for name, v in files.items()}
    if legacy != files:
        yield "old spelling", legacy
    experts = [name for name in names if re.search(r"experts\.\d+\.", name)]
    if experts:
        yield "an expert matrix lost", without(chance.choice(experts))
        lost = re.sub(r"(experts\.\d+\.).*", r"\1", chance.choice(experts))
        yield "an expert lost", {k: v for k, v in files.items() if not k.startswith(lost)}
        kind = re.sub(r".*experts\.\d+\.", "", chance.choice(experts))
        yield "a projection of all experts lost", {
            k: v for k, v in files.items() if not ("experts." in k and k.endswith(kind))
        }


def old_spelling(name: str) -> str:
    """What earlier releases wrote for norms, weight norm and language models in others."""
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    name = name.replace("LayerNorm.bias", "LayerNorm.beta")
    name = name.replace(".parametrizations.weight.original0", ".weight_g")
    name = name.replace(".parametrizations.weight.original1", ".weight_v")
    name = re.sub(r"^language_model\.model\.", "model.language_model.model.", name)
    return re.sub(r"^vision_tower\.(?!vision_model)", "vision_tower.vision_model.", name)


# --- comparison ------------------------------------------------------------------------------


class Sets(NamedTuple):
    missing: frozenset[str]
    unexpected: frozenset[str]
    mismatched: frozenset[tuple[str, Shape, Shape]]

    @classmethod
    def of(cls, info: Any) -> Sets:
        return cls(
            frozenset(info.missing_keys), frozenset(info.unexpected_keys),
            frozenset((name, tuple(a), tuple(b)) for name, a, b in info.mismatched_keys),
        )

    @classmethod
    def foreseen(cls, loading: Loading) -> Sets:
        return cls(
            frozenset(loading.missing),
            frozenset(name for names in loading.unexpected.values() for name in names),
            frozenset((name, m.found, m.wanted) for name, m in loading.mismatched.items()),
        )


    def without(self, names: Mapping[str, str]) -> Sets:
        """Leave out tensors of which nothing was foreseen."""
        return Sets(
            self.missing - names.keys(), self.unexpected,
            frozenset(each for each in self.mismatched if each[0] not in names),
        )


def assert_few_unknown(loading: Loading) -> None:
    """Only a wrong size before a permutation by heads is left open."""
    assert all("number of heads" in reason for reason in loading.unknown.values())


def settled(sets: Sets, model: Any) -> Sets:
    """After ties and ignored names, as a caller applies them (modeling_utils.py)."""
    missing = set(sets.missing)
    ties = list(model.all_tied_weights_keys.items())
    for target, source in ties:
        group = {source, *(t for t, s in ties if s == source)}
        if group - missing:
            if target not in missing and source in missing:
                missing.discard(source)
            missing.discard(target)
    ignored = [re.compile(each) for each in model._keys_to_ignore_on_load_missing or ()]
    unexpected_ok = set(model._keys_to_ignore_on_load_unexpected or ())
    buffers = [name for name, _ in model.named_buffers()]
    if any(name.endswith("rotary_emb.inv_freq") for name in buffers):
        unexpected_ok.add(r"rotary_emb\.inv_freq")
    if any(name.endswith("position_ids") for name in buffers):
        unexpected_ok.add(r"(^|\.)position_ids$")
    passed = [re.compile(each) for each in unexpected_ok]
    return Sets(
        frozenset(name for name in missing if not any(p.search(name) for p in ignored)),
        frozenset(name for name in sets.unexpected if not any(p.search(name) for p in passed)),
        sets.mismatched,
    )


class Read(NamedTuple):
    """What `from_pretrained` found: first in the loader's core, then in its report."""

    core: Sets | None
    report: Sets | None
    raised: str


def read(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    core: list[Sets] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        info, index = convert_and_load_state_dict_in_model(*args, **kwargs)
        core.append(Sets.of(info))
        return info, index

    monkeypatch.setattr(modeling_utils, "convert_and_load_state_dict_in_model", watched)
    try:
        _, info = subject.model_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (RuntimeError, AttributeError) as reason:
        return Read(core[0] if core else None, None, str(reason))
    report = Sets(
        frozenset(info["missing_keys"]), frozenset(info["unexpected_keys"]),
        frozenset((name, tuple(a), tuple(b)) for name, a, b in info["mismatched_keys"]),
    )
    return Read(core[0], report, "")


def assert_same(ours: Sets, theirs: Sets, what: str) -> None:
    for mine, real, kind in zip(ours, theirs, Sets._fields, strict=True):
        assert mine == real, (
            f"{what}: {kind}: only ours {sorted(mine - real)[:4]}, only theirs {sorted(real - mine)[:4]}"
        )


def put(folder: Path, files: Shapes) -> None:
    save_file({name: torch.empty(shape) for name, shape in files.items()},
              folder / "model.safetensors", {"format": "pt"})


# --- tests -----------------------------------------------------------------------------------


def test_the_sample_is_broad() -> None:
    assert len(NAMES) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_from_pretrained_finds_what_was_foreseen(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = subject(name)
    files = write(case, tmp_path)
    cases = list(illnesses(files, case.model_class.base_model_prefix, name))
    facts = families.class_facts(case.name)
    if facts is not None and facts.base not in (None, case.name):
        bare = Subject(str(facts.base), case.config)
        cases.append(("saved from the base class", write(bare, tmp_path / "bare")))
        case.config.save_pretrained(tmp_path / "bare")
        compare(bare, tmp_path / "bare", files, "the base class reads the file", monkeypatch)
    case.config.save_pretrained(tmp_path)
    for what, ill in cases:
        compare(case, tmp_path, ill, what, monkeypatch)


def compare(
    case: Subject, folder: Path, files: Shapes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, files)
    loading = case.foreseen(files)
    assert_few_unknown(loading)
    ours = Sets.foreseen(loading)
    found = read(case, folder, monkeypatch)
    if found.core is None:
        assert loading.raises, (what, found.raised)
        return
    assert not loading.raises, what
    assert_same(ours, found.core.without(loading.unknown), f"{case.name}, {what}")
    if found.report is None:  # the library raises when an operation has failed
        told = [each.reason for each in loading.missing.values()] + list(loading.unknown)
        assert any(told), (what, found.raised)
        return
    report = found.report.without(loading.unknown)
    assert_same(settled(ours, case.on_meta()), report, f"{case.name}, {what}, settled")


# One share in an ordinary run; all of them take eight minutes (TIDOCTOR_SHARES=6).
@pytest.mark.parametrize("share", range(int(os.environ.get("TIDOCTOR_SHARES", "1"))))
def test_every_class_on_the_meta_device(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.core_model_loading.tqdm", lambda items, **_: items)
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    count: Counter[str] = Counter()
    wrong: list[str] = []
    for name in sorted(learner.tasks_of_classes())[share::SHARES]:
        try:
            model = Subject(name, small_config(name, float("inf"))).on_meta()
            rules = conversions(name, model.base_model_prefix)
            saved = saved_names(model)
        except (Exception, NotCovered):
            count["not built or not covered"] += 1
            continue
        memory = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        if not 0 < len(memory) < MANY:
            count["too many tensors, or none"] += 1
            continue
        count["classes"] += 1
        assert_same_rules(model, {})
        for what, files in illnesses(saved, model.base_model_prefix, name):
            loading = load(files, memory, rules, model.base_model_prefix)
            theirs = core_on_meta(model, files)
            count["cases"] += 1
            assert_few_unknown(loading)
            count["cases with something unknown"] += bool(loading.unknown)
            if theirs is None or loading.raises:
                count["raise"] += 1
                same = theirs is None and bool(loading.raises)
            else:
                same = Sets.foreseen(loading) == theirs.without(loading.unknown)
            if not same:
                wrong.append(f"{name}, {what}")
    print(dict(count))
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"
    assert count["classes"] > 800 // SHARES


def saved_names(model: Any) -> Shapes:
    """Names and shapes that a fresh save writes, ties included."""
    if hasattr(model, "_weight_conversions"):
        del model._weight_conversions
    saved: Mapping[str, torch.Tensor] = revert_weight_conversion(model, dict(model.state_dict()))
    return {name: tuple(tensor.shape) for name, tensor in saved.items()}


def core_on_meta(model: Any, files: Shapes) -> Sets | None:
    """The loader's core with tensors without values; None when it raises.

    The model keeps its names and shapes, so that it can be asked again.
    """
    state = {name: torch.empty(shape, device="meta") for name, shape in files.items()}
    how = modeling_utils.LoadStateDictConfig(
        device_map={"": "meta"}, dtype=torch.float32,
        weight_mapping=get_model_conversion_mapping(model),
    )
    try:
        info, _ = convert_and_load_state_dict_in_model(model, state, how)
    except Exception:
        return None
    return Sets.of(info)


def assert_same_rules(model: Any, model_types: Mapping[str, str]) -> None:
    """The list that the library collects for a model, rule by rule."""
    theirs = [
        (
            tuple(each.source_patterns), tuple(each.target_patterns), each.scope_prefix,
            tuple(type(op).__name__ for op in getattr(each, "operations", ())),
        )
        for each in get_model_conversion_mapping(model)
    ]
    prefix = model.base_model_prefix
    found = conversions(type(model).__name__, prefix, model_types)
    ours = [(r.sources, r.targets, r.scope, tuple(op for op, _ in r.operations)) for r in found]
    assert ours == theirs
    assert all(rule.scope is None or rule.base == prefix for rule in found)


TEXTS: tuple[dict[str, Any], ...] = (
    {"model_type": "qwen2"}, {"model_type": "mixtral", "num_local_experts": 2},
    {"model_type": "qwen3_moe", "num_experts": 2}, {"model_type": "gpt_oss", "num_local_experts": 2},
    {"model_type": "mistral"},
)
VISIONS = ("clip_vision_model", "siglip_vision_model", "pixtral", "dinov2")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text["model_type"]))
@pytest.mark.parametrize("name", ["LlavaForConditionalGeneration", "LlavaModel", "VipLlavaModel"])
def test_a_part_that_config_json_chooses_brings_its_rules(
    name: str, text: dict[str, Any], vision: str
) -> None:
    kind = learner.config_class_of(name, ())
    config = kind.from_dict({
        "text_config": {**text, "num_hidden_layers": 2},
        "vision_config": {"model_type": vision, "num_hidden_layers": 2},
    })
    types = {"text_config": text["model_type"], "vision_config": vision}
    assert_same_rules(Subject(name, config).on_meta(), types)
