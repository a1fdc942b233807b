"""Experts and projections stored as transformers has them in memory, put back bit for bit.

What `save_pretrained` writes of a model is the measure: its file and the repaired one are equal in
names, shapes and bytes, and transformers loads the same model from both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tidoctor
from tests.oracle.folders import snapshot
from tests.oracle.judge import assert_equal, load
from tests.oracle.models import FAMILIES, Variant

STACKED = [f for f in FAMILIES if f.name in ("mixtral", "qwen3_moe", "deepseek_v3")]


def tensors(folder: Path) -> dict[str, Any]:
    return {k: v for f in sorted(folder.glob("*.safetensors")) for k, v in load_file(f).items()}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", STACKED, ids=str)
def test_stacked_experts_are_stored_apart(
    family: Any, shards: int, saved: Callable[..., Path], tmp_path: Path
) -> None:
    whole = saved(Variant(family, tied=False))
    stacked = tmp_path / "stacked"
    stacked.mkdir()
    shutil.copy(whole / "config.json", stacked)
    memory = load(whole, family.model_class).model.state_dict()
    _store(memory, stacked, shards)
    before = snapshot(stacked)
    assert any(name.endswith("experts.gate_up_proj") for name in memory)
    found = {f.code: f for f in tidoctor.diagnose(stacked).findings}
    assert str(found["N08"].severity) == "note"
    assert_equal(stacked, whole, family.model_class)  # a note: transformers reads it as it is

    done = tidoctor.repair(stacked, tmp_path / "out", accept=["N08"])
    assert (done.exit_code, snapshot(stacked)) == (0, before)
    assert "N08" not in {f.code for f in tidoctor.diagnose(tmp_path / "out").findings}
    ours, theirs = tensors(tmp_path / "out"), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    assert_equal(tmp_path / "out", whole, family.model_class)


def _store(tensors: dict[str, Any], folder: Path, shards: int) -> None:
    """Files as `safetensors` writes them, with an index when there are several."""
    names = sorted(tensors)
    if shards == 1:
        parts = {"model.safetensors": names}
    else:
        parts = {
            f"model-{i + 1:05d}-of-{shards:05d}.safetensors": names[i::shards]
            for i in range(shards)
        }
        index = {"metadata": {}, "weight_map": {n: f for f, ns in parts.items() for n in ns}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for file, inside in parts.items():
        save_file({n: tensors[n].contiguous() for n in inside}, folder / file, {"format": "pt"})
