"""The family table: internally consistent, and right about classes everybody knows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from types import MappingProxyType

import pytest

from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts, class_facts, class_for, classes_of

DATA = resources.files("tidoctor.atlas").joinpath("families.json")
CONTENT = json.loads(DATA.read_bytes())
EVERY = sorted(CONTENT["classes"])

TASKS = {
    "base",
    "causal-lm",
    "ctc",
    "encoder",
    "image-classification",
    "image-text-to-text",
    "masked-lm",
    "multiple-choice",
    "other",
    "pretraining",
    "question-answering",
    "seq2seq-lm",
    "sequence-classification",
    "speech-seq2seq",
    "token-classification",
}


def facts_of(name: str) -> ClassFacts:
    facts = class_facts(name)
    assert facts is not None, name
    return facts


def holds(pattern: str, name: str) -> bool:
    """Whether a name, `*` standing for a number, is the same as or an instance of the other."""
    left, right = pattern.split("."), name.split(".")
    return len(left) == len(right) and all(
        a == b or (a == "*" and b.isdigit()) for a, b in zip(left, right, strict=True)
    )


# --- consistency -----------------------------------------------------------------------------


def test_enough_classes() -> None:
    assert len(EVERY) > 1500
    assert families.transformers_version().startswith("5.")


def flaws_of_one(facts: ClassFacts) -> Iterator[str]:
    """What contradicts itself within one class."""
    if facts.task not in TASKS or not facts.model_types:
        yield "task or model type"
    if facts.prefix and not (facts.prefix.endswith(".") and facts.uniform_prefix):
        yield "prefix"
    if list(facts.own) != sorted(set(facts.own)):
        yield "own"
    if not set(facts.ties).isdisjoint(facts.ties.values()):
        yield "a tie target is itself an alias"
    if (facts.always_tied is None) != facts.tie_follows_flag:
        yield "the flag decides and does not decide"
    if facts.ties and facts.always_tied is False:
        yield "never tied, yet with ties"
    if facts.tie_level_v5 not in (None, "top", "text", "either", "both"):
        yield "level"
    if (facts.bridged or facts.tie_level_v5) and not facts.nested:
        yield "nested"


def flaws_against_base(facts: ClassFacts) -> Iterator[str]:
    """What contradicts the facts of the base class."""
    if facts.base is None:
        if facts.own or facts.uniform_prefix:
            yield "compared with an unknown base"
        return
    base = class_facts(facts.base)
    if base is None:
        yield "base unknown"
    elif facts.task == "base" and (facts.base, facts.prefix, facts.own) != (facts.name, "", ()):
        yield "not bare"
    elif facts.head and facts.head not in (
        facts.embedding,
        base.head,
        facts.prefix + str(base.head),
    ):
        # Some base classes hold the whole language model, head included (Blip2Model).
        own = any(holds(each, facts.head) for each in facts.own)
        if not own and facts.head not in facts.ties.values():
            yield "head neither own nor shared"


@pytest.mark.parametrize("flaws", [flaws_of_one, flaws_against_base])
def test_every_class_is_consistent(flaws: Callable[[ClassFacts], Iterator[str]]) -> None:
    found = {name: list(flaws(facts_of(name))) for name in EVERY}
    assert {name: each for name, each in found.items() if each} == {}


def test_a_head_that_follows_the_flag_is_in_the_ties() -> None:
    untied = {
        name
        for name in EVERY
        if facts_of(name).tie_follows_flag
        and facts_of(name).head not in {None, *facts_of(name).ties, *facts_of(name).ties.values()}
    }
    # Here other tensors are tied and the head is not (transformers 5.23, modeling_luke.py).
    assert untied == {"LukeForMaskedLM"}


def test_every_answer_of_class_for_has_facts() -> None:
    for model_type in families._data()["types"]:
        assert classes_of(model_type)
        for task in TASKS:
            name = class_for(model_type, task)
            if name is not None:
                assert model_type in facts_of(name).model_types


def test_generic_names_are_weights_without_repeats() -> None:
    for names in (families.HEADS, families.EMBEDDINGS):
        assert isinstance(names, tuple)
        assert len(set(names)) == len(names) > 20
        assert all(each.endswith(".weight") for each in names)
    assert set(families.HEADS).isdisjoint(families.EMBEDDINGS)
    assert families.HEADS[0] == "lm_head.weight"
    assert families.EMBEDDINGS[0] == "model.embed_tokens.weight"


def test_old_spellings_lead_to_known_classes() -> None:
    for old, new in families.OLD_SPELLINGS.items():
        assert class_facts(old) is None
        assert class_facts(new) is not None


# --- literal values --------------------------------------------------------------------------

E, P = "embed_tokens.weight", "model."
LITERAL: dict[str, tuple[str, str, str | None, str | None, str | None]] = {
    # class: task, prefix, base, head, embedding
    "LlamaForCausalLM": ("causal-lm", P, "LlamaModel", "lm_head.weight", P + E),
    "LlamaModel": ("base", "", "LlamaModel", None, E),
    "LlamaForSequenceClassification": ("sequence-classification", P, "LlamaModel", None, P + E),
    "LlamaForQuestionAnswering": (
        "question-answering",
        "transformer.",
        "LlamaModel",
        None,
        "transformer.embed_tokens.weight",
    ),
    "MistralForCausalLM": ("causal-lm", P, "MistralModel", "lm_head.weight", P + E),
    "MixtralForCausalLM": ("causal-lm", P, "MixtralModel", "lm_head.weight", P + E),
    "Qwen2ForCausalLM": ("causal-lm", P, "Qwen2Model", "lm_head.weight", P + E),
    "Qwen3MoeForCausalLM": ("causal-lm", P, "Qwen3MoeModel", "lm_head.weight", P + E),
    "Phi3ForCausalLM": ("causal-lm", P, "Phi3Model", "lm_head.weight", P + E),
    "DeepseekV3ForCausalLM": ("causal-lm", P, "DeepseekV3Model", "lm_head.weight", P + E),
    "Gemma2ForCausalLM": ("causal-lm", P, "Gemma2Model", "lm_head.weight", P + E),
    "Gemma3ForCausalLM": ("causal-lm", P, "Gemma3TextModel", "lm_head.weight", P + E),
    "GPT2LMHeadModel": (
        "causal-lm",
        "transformer.",
        "GPT2Model",
        "lm_head.weight",
        "transformer.wte.weight",
    ),
    "GPTNeoXForCausalLM": (
        "causal-lm",
        "gpt_neox.",
        "GPTNeoXModel",
        "embed_out.weight",
        "gpt_neox.embed_in.weight",
    ),
    "FalconForCausalLM": (
        "causal-lm",
        "transformer.",
        "FalconModel",
        "lm_head.weight",
        "transformer.word_embeddings.weight",
    ),
    "BloomForCausalLM": (
        "causal-lm",
        "transformer.",
        "BloomModel",
        "lm_head.weight",
        "transformer.word_embeddings.weight",
    ),
    "OPTForCausalLM": (
        "causal-lm",
        P,
        "OPTModel",
        "lm_head.weight",
        "model.decoder.embed_tokens.weight",
    ),
    "MambaForCausalLM": (
        "causal-lm",
        "backbone.",
        "MambaModel",
        "lm_head.weight",
        "backbone.embeddings.weight",
    ),
    "BertForMaskedLM": (
        "masked-lm",
        "bert.",
        "BertModel",
        "cls.predictions.decoder.weight",
        "bert.embeddings.word_embeddings.weight",
    ),
    "RobertaForMaskedLM": (
        "masked-lm",
        "roberta.",
        "RobertaModel",
        "lm_head.decoder.weight",
        "roberta.embeddings.word_embeddings.weight",
    ),
    "T5ForConditionalGeneration": (
        "seq2seq-lm",
        "",
        "T5Model",
        "lm_head.weight",
        "shared.weight",
    ),
    "T5EncoderModel": ("encoder", "", "T5Model", None, "shared.weight"),
    "UMT5EncoderModel": ("encoder", "", "UMT5Model", None, "shared.weight"),
    "BartForConditionalGeneration": (
        "seq2seq-lm",
        P,
        "BartModel",
        "lm_head.weight",
        "model.shared.weight",
    ),
    "WhisperForConditionalGeneration": (
        "speech-seq2seq",
        P,
        "WhisperModel",
        "proj_out.weight",
        "model.decoder.embed_tokens.weight",
    ),
    "Wav2Vec2ForCTC": ("ctc", "wav2vec2.", "Wav2Vec2Model", None, None),
    "ViTForImageClassification": ("image-classification", "vit.", "ViTModel", None, None),
    "LlavaForConditionalGeneration": (
        "image-text-to-text",
        "",
        "LlavaModel",
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
    ),
    "Mistral3ForConditionalGeneration": (
        "image-text-to-text",
        "",
        "Mistral3Model",
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
    ),
    "Gemma3ForConditionalGeneration": (
        "image-text-to-text",
        "",
        "Gemma3Model",
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
    ),
    "Qwen2_5_VLForConditionalGeneration": (
        "image-text-to-text",
        "",
        "Qwen2_5_VLModel",
        "lm_head.weight",
        P + E,
    ),
}


@pytest.mark.parametrize("name", sorted(LITERAL))
def test_layout_of_well_known_classes(name: str) -> None:
    facts = facts_of(name)
    found = (facts.task, facts.prefix, facts.base, facts.head, facts.embedding)
    assert found == LITERAL[name]


def test_what_a_task_class_has_beyond_its_base() -> None:
    assert facts_of("LlamaForCausalLM").own == ("lm_head.weight",)
    assert facts_of("LlamaForSequenceClassification").own == ("score.weight",)
    assert facts_of("LlamaForTokenClassification").own == ("score.bias", "score.weight")
    assert facts_of("PhiForCausalLM").own == ("lm_head.bias", "lm_head.weight")
    assert facts_of("Wav2Vec2ForCTC").own == ("lm_head.bias", "lm_head.weight")
    assert facts_of("BertForMaskedLM").own == (
        "cls.predictions.bias",
        "cls.predictions.decoder.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.dense.weight",
    )


@pytest.mark.parametrize(
    ("name", "ties"),
    [
        ("LlamaForCausalLM", {"lm_head.weight": "model.embed_tokens.weight"}),
        ("GPTNeoXForCausalLM", {"embed_out.weight": "gpt_neox.embed_in.weight"}),
        (
            "T5ForConditionalGeneration",
            {
                "decoder.embed_tokens.weight": "shared.weight",
                "encoder.embed_tokens.weight": "shared.weight",
                "lm_head.weight": "shared.weight",
            },
        ),
        (
            "BertForMaskedLM",
            {
                "cls.predictions.decoder.bias": "cls.predictions.bias",
                "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            },
        ),
        (
            "LlavaForConditionalGeneration",
            {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"},
        ),
        ("LlamaModel", {}),
    ],
)
def test_ties(name: str, ties: Mapping[str, str]) -> None:
    assert dict(facts_of(name).ties) == ties


@pytest.mark.parametrize(
    ("name", "v5", "v4"),
    [
        ("LlamaForCausalLM", False, False),
        ("Qwen2ForCausalLM", False, False),
        ("Mamba2ForCausalLM", False, False),
        ("GPT2LMHeadModel", True, True),
        ("Gemma2ForCausalLM", True, True),
        ("OPTForCausalLM", True, True),
        ("MT5ForConditionalGeneration", True, False),
        ("Mistral3ForConditionalGeneration", True, False),
        ("InternVLForConditionalGeneration", True, False),
        ("LlavaForConditionalGeneration", False, False),
        ("Gemma3ForConditionalGeneration", True, True),
        ("ViTForImageClassification", None, None),
    ],
)
def test_default_of_the_flag(name: str, v5: bool | None, v4: bool | None) -> None:
    facts = facts_of(name)
    assert (facts.tie_default_v5, facts.tie_default_v4) == (v5, v4)


def test_where_the_flag_is_read() -> None:
    llava = facts_of("LlavaForConditionalGeneration")
    assert (llava.nested, llava.bridged, llava.tie_level_v5) == (True, True, "either")
    gemma = facts_of("Gemma3ForConditionalGeneration")
    assert (gemma.nested, gemma.bridged, gemma.tie_level_v5) == (True, False, "top")
    blip = facts_of("Blip2ForConditionalGeneration")
    assert (blip.nested, blip.tie_default_v5, blip.tie_level_v5) == (True, None, "text")
    llama = facts_of("LlamaForCausalLM")
    assert (llama.nested, llama.bridged, llama.tie_level_v5) == (False, False, None)


def test_where_the_flag_has_no_effect() -> None:
    t5 = facts_of("T5ForConditionalGeneration")
    assert (t5.tie_follows_flag, t5.always_tied) == (False, True)
    rembert = facts_of("RemBertForMaskedLM")
    assert (rembert.tie_follows_flag, rembert.always_tied) == (False, False)
    llama = facts_of("LlamaForCausalLM")
    assert (llama.tie_follows_flag, llama.always_tied) == (True, None)


def test_no_single_prefix_where_parts_move_differently() -> None:
    facts = facts_of("Qwen2_5_VLForConditionalGeneration")
    assert (facts.prefix, facts.uniform_prefix) == ("", False)
    assert facts_of("Qwen2_5_VLModel").embedding == "language_model.embed_tokens.weight"


# --- questions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "task", "name"),
    [
        ("llama", "causal-lm", "LlamaForCausalLM"),
        ("llama", "base", "LlamaModel"),
        ("gpt2", "causal-lm", "GPT2LMHeadModel"),
        ("gpt-sw3", "causal-lm", "GPT2LMHeadModel"),
        ("bert", "masked-lm", "BertForMaskedLM"),
        ("bert", "causal-lm", "BertLMHeadModel"),
        ("t5", "seq2seq-lm", "T5ForConditionalGeneration"),
        ("t5", "encoder", "T5EncoderModel"),
        ("t5", "causal-lm", None),
        ("llava", "causal-lm", "LlavaForConditionalGeneration"),
        ("gemma3", "causal-lm", "Gemma3ForConditionalGeneration"),
        ("gemma3_text", "causal-lm", "Gemma3ForCausalLM"),
        ("qwen2_5_vl_text", "base", "Qwen2_5_VLTextModel"),
        ("whisper", "speech-seq2seq", "WhisperForConditionalGeneration"),
        ("mllama", "base", "MllamaModel"),
        ("no such type", "causal-lm", None),
        ("llama", "no such task", None),
        ("", "", None),
    ],
)
def test_class_for(model_type: str, task: str, name: str | None) -> None:
    assert class_for(model_type, task) == name


def test_unknown_names_are_not_an_error() -> None:
    assert class_facts("NoSuchClass") is None
    assert class_facts("") is None
    assert dict(classes_of("no such type")) == {}
    assert not families.known_model_type("no such type")
    assert families.known_model_type("llama")
    assert families.known_model_type("timm_wrapper")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("LLaMAForCausalLM", "LlamaForCausalLM"),
        ("FSDPQwen2ForCausalLM", "Qwen2ForCausalLM"),
        ("FSDPLLaMAForCausalLM", "LlamaForCausalLM"),
        ("LlamaForCausalLM", "LlamaForCausalLM"),
        ("NoSuchClass", "NoSuchClass"),
    ],
)
def test_modern_name(spelling: str, name: str) -> None:
    assert families.modern_name(spelling) == name


def test_answers_cannot_be_changed() -> None:
    facts = facts_of("LlamaForCausalLM")
    with pytest.raises(AttributeError):
        facts.name = "Other"  # type: ignore[misc]
    assert isinstance(facts.ties, MappingProxyType)
    assert isinstance(classes_of("llama"), MappingProxyType)
    assert isinstance(families.OLD_SPELLINGS, MappingProxyType)


def test_no_such_attribute() -> None:
    with pytest.raises(AttributeError, match="NO_SUCH_TABLE"):
        families.NO_SUCH_TABLE  # noqa: B018


# --- the file --------------------------------------------------------------------------------


def test_one_line_per_class_in_order() -> None:
    lines = DATA.read_text("ascii").splitlines()
    rows = [line.partition(":")[0] for line in lines if line.startswith('"') and line != '"types"']
    for name in ("LlamaForCausalLM", "llama"):
        assert rows.count(f'"{name}"') == 1
    assert list(CONTENT["classes"]) == EVERY
    assert list(CONTENT["types"]) == sorted(CONTENT["types"])
    assert CONTENT["model_types"] == sorted(CONTENT["model_types"])


def test_size() -> None:
    assert len(DATA.read_bytes()) < 420_000


def test_nothing_is_read_or_imported_before_the_first_question() -> None:
    code = (
        "import sys; from tidoctor.atlas import families as f;"
        "assert f._data.cache_info().currsize == 0;"
        "assert f.class_facts('LlamaForCausalLM');"
        "assert not {'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
