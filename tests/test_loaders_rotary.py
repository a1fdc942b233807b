"""What loaders make of rotary settings, and the keys that are proposed for those that miss them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests.oracle.judges import fixtures
from tests.oracle.judges.fixtures import FIXTURES
from tidoctor.finding import Verdict
from tidoctor.loaders import Patient, asked, evaluate

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
BASE = {"rope_theta": 500000.0}


def verdict(model_type: str, wish: str, **config: Any) -> Verdict:
    """Of a config whose tensors are not known: a misread rotary setting is told all the same."""
    files = {"model.safetensors": {"model.embed_tokens.weight": (8, 4), "lm_head.weight": (8, 4)}}
    patient = Patient(
        settings={"model_type": model_type, "tie_word_embeddings": False, **config},
        model_type=model_type, declared="X", class_name="X", task="causal-lm", files=files,
        read=("model.safetensors",), formats={"model.safetensors": "pt"}, prefix="model.",
        head="lm_head.weight", embedding="model.embed_tokens.weight", tied=False, tied_v4=False,
        tied_v5=False, stored_head="lm_head.weight", stored_embedding="model.embed_tokens.weight",
    )  # fmt: skip
    return evaluate(patient, asked([wish])[0])


@pytest.mark.parametrize(
    ("model_type", "wish", "config", "outcome", "why"),
    [
        ("llama", "transformers@4.57.6", {"rope_parameters": {**BASE, **LLAMA3}, **BASE},
         "misreads", "finds none"),
        ("llama", "transformers@4.57.6", {"rope_parameters": BASE}, "misreads", "rope_theta"),
        ("llama", "transformers@4.44.2", {**BASE, "rope_scaling": LLAMA3}, "unknown", "tensors"),
        ("qwen2", "transformers@4.44.2", {**BASE, "rope_scaling": YARN}, "misreads", "no notice"),
        ("qwen2", "transformers@4.46.3", {**BASE, "rope_scaling": YARN}, "unknown", "not recorded"),
        ("qwen2", "transformers@4.51.3",
         {**BASE, "rope_scaling": YARN, "max_position_embeddings": 32768}, "unknown", "lengths"),
        ("qwen2", "transformers@4.51.3",
         {**BASE, "rope_scaling": YARN, "max_position_embeddings": 131072}, "unknown", "tensors"),
        ("llama", "transformers@5.0.0",
         {"rope_parameters": {**BASE, "rope_type": "dynamic", "factor": 2.0}}, "misreads",
         "otherwise"),
        ("qwen2", "mlx-lm", {**BASE, "rope_parameters": {"rope_theta": 7.0}}, "misreads",
         "goes by rope_parameters.rope_theta = 7"),
        ("phi3", "mistral.rs", {**BASE, "rope_scaling": {"rope_type": "longrope"}}, "fails",
         "wants type"),
        ("mixtral", "mlx-lm", {**BASE, "rope_scaling": {"type": "linear", "factor": 8}}, "misreads",
         "no notice"),
        # Its default is yarn, which it takes where there is no rope_scaling.
        ("gpt_oss", "transformers@4.57.6",
         {"rope_theta": 150000.0, "rope_parameters": {"rope_theta": 150000.0}}, "unknown",
         "of itself"),
        ("gpt_oss", "transformers@4.57.6", {"rope_theta": 150000.0, "rope_scaling": None}, "unknown",
         "tensors"),
        ("olmo2", "sglang", {**BASE, "rope_scaling": LLAMA3}, "unknown", "no record"),
    ],
)  # fmt: skip
def test_how_a_stretched_rotary_base_is_read(
    model_type: str, wish: str, config: dict[str, Any], outcome: str, why: str
) -> None:
    found = verdict(model_type, wish, **config)
    assert found.outcome.value == outcome, found.why
    assert why in found.why


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "phi3", "gemma2", "mixtral"])
def test_a_loader_without_a_record_of_scaling_never_loads_it(model_type: str) -> None:
    """Of a way of stretching that no record knows, nobody is said to take it but the reference."""
    rope = {**BASE, "rope_scaling": {"rope_type": "spiral", "factor": 2.0}}
    for wish in asked(["all"]):
        if wish.consumer.name in ("transformers", "mergekit"):
            continue
        found = verdict(model_type, str(wish), **rope)
        assert found.outcome.value != "loads", (str(wish), found.why)


@pytest.mark.parametrize(
    "rope",
    [
        7, [], {}, {"full_attention": 7}, {"rope_type": []}, {"rope_type": "llama3", "factor": 1e999},
        {"full_attention": {"rope_type": "yarn", "factor": "x"}, "sliding_attention": None},
        {"rope_theta": 10**400, "rope_type": "yarn", "original_max_position_embeddings": []},
    ],
)  # fmt: skip
def test_any_rotary_settings_are_judged(rope: object) -> None:
    for key in ("rope_parameters", "rope_scaling"):
        for wish in ("transformers@4.51.3", "mlx-lm", "candle", "mistral.rs"):
            verdict("llama", wish, **{key: rope, "layer_types": [rope]})


@pytest.mark.parametrize(
    ("name", "wishes", "keys"),
    [
        ("llama-fifth-llama3", ["transformers@4.57.6", "candle", "mistral.rs"],
         {"rope_theta", "rope_scaling"}),
        ("llama-fifth-linear", ["transformers@4.51.3", "mistral.rs"],
         {"rope_theta", "rope_scaling"}),
        ("qwen2-fifth-yarn", ["transformers@4.57.6", "mlx-lm"], {"rope_theta", "rope_scaling"}),
        ("phi3-fifth-longrope", ["transformers@4.57.6", "mistral.rs"],
         {"rope_theta", "rope_scaling"}),
        ("gemma3_text-fifth-theta", ["transformers@4.51.3", "mlx-lm"],
         {"rope_theta", "rope_local_base_freq"}),
        ("gemma3_text-fifth-linear", ["transformers@4.57.6", "mlx-lm"],
         {"rope_theta", "rope_local_base_freq", "rope_scaling"}),
        ("gemma3_text-layout-theta", ["transformers@4.51.3", "mlx-lm"], {"sliding_window_pattern"}),
    ],
)  # fmt: skip
def test_the_cure_writes_what_a_run_was_right_with(
    name: str, wishes: list[str], keys: set[str], tmp_path: Path
) -> None:
    """The cured config is that of a fixture which those programs, and the newest, loaded right."""
    source = fixtures.write(FIXTURES[name], tmp_path / "sick")
    loaders = [*wishes, "transformers"]
    before = {v.loader: v.outcome.value for v in tidoctor.diagnose(source, loaders=loaders).loaders}
    assert before["transformers"] == "loads" or len(before) < len(loaders)
    assert "misreads" in before.values() or "fails" in before.values()
    done = tidoctor.repair(source, tmp_path / "out", loaders=loaders)
    assert done.exit_code == 0 and not done.unmet
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    old = json.loads((tmp_path / "sick" / "config.json").read_text())
    assert config.keys() - old.keys() == keys
    assert {k: config[k] for k in old} == old
    twin = FIXTURES.get(name.replace("fifth", "both"))
    if twin is not None and "fifth" in name:
        wanted = fixtures.contents(twin).config
        assert {k: config[k] for k in keys} == {k: wanted[k] for k in keys}


@pytest.mark.parametrize("wish", ["transformers", "transformers@4.57.6", "mlx-lm", "sglang"])
def test_a_null_where_a_value_belongs_is_nothing_to_load(wish: str) -> None:
    """Seen to stop transformers 5 and mistral.rs, and to mean false to mlx-lm."""
    for config in ({"tie_word_embeddings": None, **BASE}, {"rope_theta": None}):
        assert verdict("llama", wish, **config).outcome.value in ("unknown", "fails")
