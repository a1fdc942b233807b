"""Verdicts against what served as head in real programs, family by family.

Observed by running: MLX-LM 0.32.2, vLLM 0.28.0 and 0.32.0, and llama.cpp of October 2026, each with
six tiny checkpoints of a family: the flag true without and with a head of its own, the flag false
with and without one, and no flag without and with one. L loads, F fails, M misreads; `-` was not
run, or stopped at something else than the head.
"""

from __future__ import annotations

from typing import Any

import pytest

from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts
from tidoctor.loaders import Patient, asked, evaluate
from tidoctor.loaders.patient import Loading

JUDGES = asked(["mlx-lm@0.32.2", "vllm@0.28.0", "vllm@0.32.0", "llama.cpp@2026-10"])
SITUATIONS = ((True, False), (True, True), (False, True), (False, False), (None, False), (None, True))
LETTERS = {"L": "loads", "F": "fails", "M": "misreads"}

SEEN = {
    "apertus": ("ApertusForCausalLM", "LMLF-- LMLM-- LLLM-- ------"),
    "arcee": ("ArceeForCausalLM", "------ LMLM-- LLLM-- ------"),
    "bloom": ("BloomForCausalLM", "------ LFFM-- LFFM-- ------"),
    "cohere": ("CohereForCausalLM", "LFFMLF LMFF-- LMMM-- L-F---"),
    "cohere2": ("Cohere2ForCausalLM", "LFFMLF LMFF-- LMMM-- --F---"),
    "deepseek_v2": ("DeepseekV2ForCausalLM", "FLLFFL ------ MLLM-- L-L---"),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "FLLFFL ------ ------ ------"),
    "ernie4_5": ("Ernie4_5ForCausalLM", "LFLF-- LMLM-- LLLM-- ------"),
    "exaone4": ("Exaone4ForCausalLM", "------ LMLM-- LLLM-- L-L---"),
    "gemma": ("GemmaForCausalLM", "LFFMLF LMFF-- LLLM-- L-M---"),
    "gemma2": ("Gemma2ForCausalLM", "LFFMLF LMFF-- LFFM-- ------"),
    "gemma3_text": ("Gemma3ForCausalLM", "LLLMLL LMLM-- LLLM-- L-L---"),
    "glm": ("GlmForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "glm4": ("Glm4ForCausalLM", "FLLFFL LMLM-- LLLM-- ------"),
    "glm4_moe": ("Glm4MoeForCausalLM", "FLLF-- MLLM-- MLLM-- ------"),
    "gpt2": ("GPT2LMHeadModel", "------ LMLM-- LLLM-- ------"),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", "LFLFLF LMLM-- LLLM-- ------"),
    "gpt_neox": ("GPTNeoXForCausalLM", "F--FF- LMLM-- LMLM-- ------"),
    "gpt_oss": ("GptOssForCausalLM", "------ MMLM-- MLLM-- F-L---"),
    "gptj": ("GPTJForCausalLM", "FLLFFL FFLM-- FLLM-- ------"),
    "granite": ("GraniteForCausalLM", "LMLFMM LMLM-- LLLM-- L-L---"),
    "granitemoe": ("GraniteMoeForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "helium": ("HeliumForCausalLM", "FLLF-- LMLM-- LLLM-- ------"),
    "hunyuan_v1_dense": ("HunYuanDenseV1ForCausalLM", "LMLFFL ------ LLLM-- ------"),
    "lfm2": ("Lfm2ForCausalLM", "LFFMLF ------ ------ ------"),
    "llama": ("LlamaForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "mamba": ("MambaForCausalLM", "LFLFLF LLLM-- LLLM-- ------"),
    "mistral": ("MistralForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "mixtral": ("MixtralForCausalLM", "LMLFFL LMLM-- LLLM-- ------"),
    "nemotron": ("NemotronForCausalLM", "LFLFFL LMLM-- LLLM-- F-L---"),
    "olmo": ("OlmoForCausalLM", "------ LMLM-- LLLM-- L-L---"),
    "olmo2": ("Olmo2ForCausalLM", "LFLFMF LMLM-- LLLM-- F-L---"),
    "olmo3": ("Olmo3ForCausalLM", "------ LMLM-- LLLM-- ------"),
    "olmoe": ("OlmoeForCausalLM", "LFLFMF MLLM-- MLLM-- ------"),
    "opt": ("OPTForCausalLM", "------ LMLM-- LLLM-- ------"),
    "phi": ("PhiForCausalLM", "FLLFFL FF---- LLLM-- F-----"),
    "phi3": ("Phi3ForCausalLM", "LFLFFL LMLM-- LLLM-- ------"),
    "qwen2": ("Qwen2ForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "FLLFFL LMLM-- LLLM-- F-L---"),
    "qwen3": ("Qwen3ForCausalLM", "LMLF-- LMLM-- LLLM-- ------"),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "LMLF-- LMLM-- LLLM-- L-L---"),
    "qwen3_next": ("Qwen3NextForCausalLM", "LMLFFL MLLM-- MLLM-- ------"),
    "seed_oss": ("SeedOssForCausalLM", "LMLFMM LMLM-- LLLM-- ------"),
    "smollm3": ("SmolLM3ForCausalLM", "LMLFLM LMLM-- LLLM-- L-L---"),
    "stablelm": ("StableLmForCausalLM", "FLLFFL LMLM-- LLLM-- F-L---"),
    "starcoder2": ("Starcoder2ForCausalLM", "LFLFLF LMLM-- LLLM-- L-L---"),
}


def patient(
    model_type: str, facts: ClassFacts, keys: list[str], tie: bool | None, head: bool
) -> Patient:
    """A complete checkpoint of the family, whose head differs from its embedding."""
    name, embedding = facts.head or "", facts.embedding or ""
    body = {embedding: (8, 4), f"{facts.prefix}layers.0.weight": (4, 4)}
    settings: dict[str, Any] = dict.fromkeys(keys, 1)
    settings |= {"model_type": model_type} | ({} if tie is None else {"tie_word_embeddings": tie})
    tied = facts.tie_default_v5 if tie is None else tie
    return Patient(
        settings=settings,
        model_type=model_type,
        declared=facts.name,
        class_name=facts.name,
        task="causal-lm",
        files={"model.safetensors": body | ({name: (8, 4)} if head else {})},
        read=("model.safetensors",),
        prefix=facts.prefix,
        head=name,
        embedding=embedding,
        stored_head=name if head else None,
        stored_embedding=embedding,
        same=lambda: (False, ""),
        tied=tied,
        tied_v4=tied,
        tied_v5=tied,
        expected=body,
        loading=Loading(),
    )


@pytest.mark.parametrize("model_type", SEEN)
def test_no_verdict_contradicts_what_was_seen(model_type: str) -> None:
    name, seen = SEEN[model_type]
    facts = families.class_facts(name)
    assert facts is not None
    for wish, letters in zip(JUDGES, seen.split(), strict=True):
        record = wish.consumer.find(model_type, "causal-lm", wish.place.low)
        keys = [k.name for k in record.config if k.instead is None] if record else []
        for (tie, head), letter in zip(SITUATIONS, letters, strict=True):
            found = evaluate(patient(model_type, facts, keys, tie, head), wish)
            if letter != "-":
                wanted = (LETTERS[letter], "unknown")
                assert str(found.outcome) in wanted, (wish.consumer.name, tie, head, found)


def test_nearly_all_that_was_seen_is_known() -> None:
    """A silent retreat into `unknown` must show."""
    cells = unknown = 0
    for model_type, (name, seen) in SEEN.items():
        facts = families.class_facts(name)
        assert facts is not None
        for wish, letters in zip(JUDGES, seen.split(), strict=True):
            record = wish.consumer.find(model_type, "causal-lm", wish.place.low)
            keys = [k.name for k in record.config if k.instead is None] if record else []
            for (tie, head), letter in zip(SITUATIONS, letters, strict=True):
                if letter != "-":
                    found = evaluate(patient(model_type, facts, keys, tie, head), wish)
                    cells += 1
                    unknown += str(found.outcome) == "unknown"
    assert cells == 587 and unknown <= 9
