"""What speaks against a donor: another config, other weights."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests import checkpoints
from tidoctor.kinship import doubts


def model(folder: Path, *, seed: int = 0, moved: float = 0.0, dtype: str = "F32", **config: Any) -> Path:
    """A Llama whose numbers come from a seed, and from another one by a part of `moved`."""
    folder.mkdir()
    rows = {}
    for name, shape in checkpoints.llama().items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        base, noise = random.Random(f"{seed}{name}"), random.Random(f"moved{name}")
        values = [base.gauss(0, 1) + moved * noise.gauss(0, 1) for _ in range(count)]
        code = {"F32": "f", "F16": "e"}[dtype]
        rows[name] = (dtype, shape, struct.pack(f"<{count}{code}", *values))
    import json

    (folder / "config.json").write_text(json.dumps({**checkpoints.LLAMA, **config}))
    (folder / "model.safetensors").write_bytes(checkpoints.safetensors_bytes(rows))
    return folder


def said(patient: Path, donor: Path) -> str:
    return "; ".join(doubts(tidoctor.open(patient), tidoctor.open(donor)))


@pytest.mark.parametrize("options", [{}, {"moved": 0.2}, {"dtype": "F16"}])
def test_the_model_it_was_tuned_from(tmp_path: Path, options: dict[str, Any]) -> None:
    patient = model(tmp_path / "a", architectures=["LlamaModel"], torch_dtype="float16", **options)
    assert said(patient, model(tmp_path / "b")) == ""


def test_other_weights(tmp_path: Path) -> None:
    text = said(model(tmp_path / "a"), model(tmp_path / "b", seed=1))
    assert "other weights: 6 matrices" in text and "config" not in text


def test_another_config(tmp_path: Path) -> None:
    text = said(model(tmp_path / "a"), model(tmp_path / "b", rope_theta=5e5, num_attention_heads=8))
    assert "num_attention_heads 8, not 4" in text and "rope_theta 500000.0, not 10000.0" in text
    assert "weights" not in text


def test_values_out_of_somebodys_config_are_safe_to_print(tmp_path: Path) -> None:
    text = said(model(tmp_path / "a"), model(tmp_path / "b", hidden_act="\x1b[2J" * 50))
    assert "\x1b" not in text and len(text) < 200


def test_a_donor_that_ends_too_early_is_not_sampled(tmp_path: Path) -> None:
    donor = model(tmp_path / "b")
    file = donor / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1500])
    assert said(model(tmp_path / "a"), donor) == ""


def test_doubts_are_told_with_the_plan(tmp_path: Path) -> None:
    patient = model(tmp_path / "a", architectures=["LlamaModel"])
    rows = {n: r for n, r in checkpoints.filled({n: ("F32", s) for n, s in checkpoints.llama(head=False).items()}).items()}
    (patient / "model.safetensors").write_bytes(checkpoints.safetensors_bytes(rows))
    donor = model(tmp_path / "b", seed=1)
    done = tidoctor.repair(patient, tmp_path / "out", wanted="causal-lm", donor=donor, dry_run=True)
    assert any("other weights" in line for line in done.cautions)
