"""What one release of transformers writes and another reads otherwise, without a word."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from checkpoints import LLAMA, Memory, build, llama, promised, safetensors_bytes

from tidoctor import rules
from tidoctor.finding import Diagnosis, Finding
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

MODERN = {k: v for k, v in LLAMA.items() if k != "rope_theta"}
QWEN3_MOE: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 16,
    "intermediate_size": 32, "moe_intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64,
    "num_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False,
}  # fmt: skip


def rope(base: float, kind: str = "default", **more: float) -> dict[str, Any]:
    return {**MODERN, "rope_parameters": {"rope_theta": base, "rope_type": kind, **more}}


def examine(table: dict[str, Any], config: dict[str, Any]) -> Diagnosis:
    return rules.diagnose(open_checkpoint(Memory(build(table, config))))


def told(found: Diagnosis, code: str) -> list[Finding]:
    return [f for f in found.findings if f.code == code]


def cured(table: dict[str, Any], config: dict[str, Any], code: str) -> Any:
    before = open_checkpoint(Memory(build(table, config)))
    (finding,) = told(rules.diagnose(before), code)
    assert finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    assert not told(rules.diagnose(after), code)
    return after


def test_a_rotary_base_that_version_4_does_not_read_is_written_beside() -> None:
    (finding,) = told(examine(llama(), rope(500000.0)), "C13")
    assert "10000" in finding.message and str(finding.severity) == "note"
    assert cured(llama(), rope(500000.0), "C13").settings["rope_theta"] == 500000.0


def test_scaling_is_written_as_version_4_reads_it() -> None:
    after = cured(llama(), rope(10000.0, "linear", factor=4.0), "C13")
    assert after.settings["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert after.settings["rope_parameters"]["factor"] == 4.0


@pytest.mark.parametrize(
    "config",
    [
        LLAMA, MODERN, rope(10000.0), {**rope(500000.0), "rope_theta": 500000.0},
        {**MODERN, "rope_parameters": {"full_attention": {"rope_theta": 1e6}}},
        {**MODERN, "rope_parameters": {"rope_theta": "much"}},
    ],
)  # fmt: skip
def test_what_version_4_reads_or_takes_anyway_is_silent(config: dict[str, Any]) -> None:
    assert not told(examine(llama(), config), "C13")


def test_the_number_of_experts_is_written_under_both_names() -> None:
    config = {("num_local_experts" if k == "num_experts" else k): v for k, v in QWEN3_MOE.items()}
    after = cured(promised(QWEN3_MOE), config, "C13")
    assert after.settings["num_experts"] == after.settings["num_local_experts"] == 4


def renumbered(change: Any) -> dict[str, Any]:
    table = promised(QWEN3_MOE)
    return {re.sub(r"(?<=experts\.)\d+", lambda m: str(change(int(m[0]))), n): s
            for n, s in table.items()}  # fmt: skip


def test_experts_that_count_from_one_are_renamed() -> None:
    (finding,) = told(examine(renumbered(lambda n: n + 1), QWEN3_MOE), "N08")
    assert str(finding.severity) == "error"
    after = cured(renumbered(lambda n: n + 1), QWEN3_MOE, "N08")
    assert set(after.tensors) == set(promised(QWEN3_MOE))
    # each expert keeps its own bytes
    before = open_checkpoint(Memory(build(renumbered(lambda n: n + 1), QWEN3_MOE)))
    name = "model.layers.1.mlp.experts.{}.up_proj.weight"
    assert after.tensors[name.format(2)].span[2:] == before.tensors[name.format(3)].span[2:]


def test_a_gap_among_experts_and_one_too_many_cannot_be_put_right() -> None:
    (finding,) = told(examine(renumbered(lambda n: 4 if n == 2 else n), QWEN3_MOE), "N08")
    assert str(finding.severity) == "error" and finding.cure is None


def test_a_part_of_every_expert_under_the_next_number_is_not_another_count() -> None:
    table = promised(QWEN3_MOE)
    astray = {
        re.sub(r"(?<=experts\.)\d+(?=\.down)", lambda m: str(int(m[0]) + 1), n): s
        for n, s in table.items()
    }
    assert len(astray) == len(table) and astray != table
    assert not [f for f in told(examine(astray, QWEN3_MOE), "N08") if str(f.severity) == "error"]


def test_experts_as_they_should_be_are_silent() -> None:
    assert examine(promised(QWEN3_MOE), QWEN3_MOE).findings == ()


# --- a head that was never trained ---------------------------------------------------------------


def matrices(head: Any, embedding: Any) -> dict[str, bytes]:
    table = {n: s for n, s in llama().items() if "embed" not in n and "lm_head" not in n}
    files = build(table, {**LLAMA, "vocab_size": 2048, "hidden_size": 64})
    rows = {
        name: ("F32", list(m.shape), m.astype("<f4").tobytes())
        for name, m in (("lm_head.weight", head), ("model.embed_tokens.weight", embedding))
    }
    return {**files, "model.safetensors": safetensors_bytes(rows)}


def fresh(seed: int, deviation: float = 0.02) -> Any:
    return np.random.default_rng(seed).normal(0, deviation, (2048, 64))


def trained(seed: int) -> Any:
    lengths = np.random.default_rng(seed).uniform(0.5, 1.5, (2048, 1))
    return fresh(seed) * lengths


@pytest.mark.parametrize(
    ("head", "embedding", "expected"),
    [
        (fresh(1), trained(2), ["warning"]),
        (trained(1), trained(2), []),
        (fresh(1), fresh(2), []),  # nothing of it is trained
        (fresh(1, 0.05), trained(2), []),  # drawn otherwise than the config says
        (trained(1), fresh(2), []),
        (np.full((2048, 64), 0.02), trained(2), []),
        (np.random.default_rng(1).uniform(-0.0346, 0.0346, (2048, 64)), trained(2), []),
    ],
)
def test_only_a_fresh_head_beside_a_trained_embedding_is_suspected(
    head: Any, embedding: Any, expected: list[str]
) -> None:
    checkpoint = open_checkpoint(Memory(matrices(head, embedding)))
    found = rules.diagnose(checkpoint, deep=True)
    assert [str(f.severity) for f in told(found, "H14")] == expected
    assert "H14" not in {n.code for n in found.not_run} or head[0, 0] == head[1, 1]
    assert not told(rules.diagnose(checkpoint), "H14")


