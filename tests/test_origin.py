"""What a model lacks of the one that it was made from, and differences that mean nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, write

import tidoctor
from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Diagnosis
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

Table = dict[str, Any]
TIED = {**LLAMA, "tie_word_embeddings": True}
MTP = {"mtp.fc.weight": [16, 32], "mtp.norm.weight": [16]}
TOWER = {f"vision_tower.layers.{i}.fc1.weight": [32, 16] for i in range(4)}


def opened(table: Table, config: dict[str, Any] = LLAMA) -> Checkpoint:
    return open_checkpoint(Memory(build(table, config)))


def compared(ours: Checkpoint, theirs: Checkpoint) -> Diagnosis:
    return rules.diagnose(ours, origin=theirs)


def lacking(ours: Checkpoint, theirs: Checkpoint) -> set[str]:
    return {t for f in compared(ours, theirs).findings if f.code == "X01" for t in f.tensors}


def test_tensors_of_a_part_that_was_left_out_are_taken_from_the_source() -> None:
    ours, theirs = opened(llama()), opened({**llama(), **MTP, **TOWER})
    (finding,) = [f for f in compared(ours, theirs).findings if f.code == "X01"]
    assert set(finding.tensors) == {*MTP, *TOWER} and str(finding.severity) == "warning"
    assert finding.cure is not None and finding.cure.needs == ("donor", "accept")
    steps = [{**step, "donor": "base"} for step in finding.cure.operations]
    after = Plan((tuple(steps),), {"base": theirs}).apply(ours)
    assert not lacking(after, theirs)
    assert after.tensors["mtp.fc.weight"].span[2:] == theirs.tensors["mtp.fc.weight"].span[2:]


def test_a_lost_layer_is_one_finding_with_the_source_to_take_it_from() -> None:
    ours = opened({n: s for n, s in llama().items() if ".layers.1." not in n})
    found = compared(ours, opened(llama()))
    (finding,) = [f for f in found.findings if f.severity > 1]
    assert finding.code == "X01" and "C07" in finding.includes and str(finding.severity) == "error"


def respelt(pattern: str, new: str) -> Table:
    return {re.sub(pattern, new, n): s for n, s in llama().items()}


EXPERTS = {
    f"model.layers.0.mlp.experts.{i}.{p}.weight": [8, 16]
    for i in range(4) for p in ("gate_proj", "up_proj", "down_proj")
}  # fmt: skip
STACKED = {
    "model.layers.0.mlp.experts.gate_up_proj": [4, 16, 16],
    "model.layers.0.mlp.experts.down_proj": [4, 16, 8],
}
PACKED = {
    **{n: s for n, s in llama().items() if "up_proj" not in n},
    **{f"model.layers.{i}.mlp.up_proj.{p}": ("I32", [2, 32])
       for i in range(2) for p in ("qweight", "qzeros", "scales")},
}  # fmt: skip
FUSED = {
    **{n: s for n, s in llama().items() if not re.search(r"\.[qkv]_proj\.", n)},
    **{f"model.layers.{i}.self_attn.qkv_proj.weight": [32, 16] for i in range(2)},
}


@pytest.mark.parametrize(
    ("ours", "theirs", "config"),
    [
        (llama(), llama(), LLAMA),
        (llama(prefix=""), llama(), LLAMA),
        (respelt("^model", "model.language_model"), llama(), LLAMA),
        (llama(), respelt("^model", "language_model.model"), LLAMA),
        (llama(head=False), llama(), TIED),
        (llama(), {**llama(), "model.layers.0.self_attn.rotary_emb.inv_freq": [2]}, LLAMA),
        ({**llama(), **STACKED}, {**llama(), **EXPERTS}, LLAMA),
        ({**llama(), **EXPERTS}, {**llama(), **STACKED}, LLAMA),
        (PACKED, llama(), LLAMA),
        (llama(), PACKED, LLAMA),
        (FUSED, llama(), LLAMA),
        (llama(), FUSED, LLAMA),
        ({**llama(), **MTP}, llama(), LLAMA),  # more than the source has
    ],
)
def test_differences_that_mean_nothing_are_silent(
    ours: Table, theirs: Table, config: dict[str, Any]
) -> None:
    assert not lacking(opened(ours, config), opened(theirs, config))


def test_one_projection_and_one_expert_are_missed_all_the_same() -> None:
    whole = {**llama(), **EXPERTS}
    for lost in (
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.mlp.experts.2.up_proj.weight",
    ):
        ours = opened({n: s for n, s in whole.items() if n != lost})
        assert lacking(ours, opened(whole)) == {lost}


def test_a_lost_head_is_told_once() -> None:
    found = compared(opened(llama(head=False)), opened(llama()))
    assert [f.code for f in found.findings if f.severity > 1] == ["H02"]


def test_another_model_is_not_compared() -> None:
    other = {f"transformer.h.{i}.weight": [4, 4] for i in range(9)}
    found = compared(opened(llama()), opened(other))
    assert "X01" in {n.code for n in found.not_run}
    assert "X01" in {n.code for n in rules.diagnose(opened(llama())).not_applicable}


def test_repair_takes_them_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours = write(tmp_path / "ours", llama(), LLAMA)
    theirs = write(tmp_path / "theirs", {**llama(), **MTP}, LLAMA)
    idle = tidoctor.repair(ours, tmp_path / "no", donor=theirs)
    assert not (tmp_path / "no").exists()
    assert ["--accept X01" in d.reason for d in idle.declined] == [True]
    done = tidoctor.repair(ours, tmp_path / "healed", donor=theirs, accept=["X01"])
    assert done.exit_code == 0
    assert set(tidoctor.open(tmp_path / "healed").tensors) == {*llama(), *MTP}
