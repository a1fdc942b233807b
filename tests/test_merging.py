"""A LoRA adapter merged into its weights: the sums, and when none is made."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import LLAMA, llama, safetensors_bytes, write

import tidoctor
from tidoctor.casting import cast
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable
from tidoctor.merging import Merged
from tidoctor.plan import Plan
from tidoctor.tensors import Tensor
from tidoctor.writer import write as write_plan

RANK, ALPHA = 4, 8
SAID: dict[str, Any] = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_dora": False}
TARGETS = [f"model.layers.{layer}.self_attn.{n}_proj" for layer in range(2) for n in "qv"]


def adapted(**more: Any) -> dict[str, Any]:
    """A Llama whose q and v have an adapter each."""
    table: dict[str, Any] = {}
    for name, shape in llama().items():
        module = name.removesuffix(".weight")
        if module not in TARGETS:
            table[name] = shape
            continue
        table[f"{module}.base_layer.weight"] = shape
        table[f"{module}.lora_A.default.weight"] = ("F32", [RANK, shape[1]])
        table[f"{module}.lora_B.default.weight"] = ("F32", [shape[0], RANK])
    return table | more


def folder(place: Path, table: dict[str, Any], said: Any = SAID, shards: int = 1) -> Path:
    files = {} if said is None else {"adapter_config.json": json.dumps(said)}
    return write(place, table, LLAMA, files=files, shards=shards)


def numbers(checkpoint: Checkpoint, name: str) -> np.ndarray:
    tensor = checkpoint.tensors[name]
    data = cast(checkpoint.read(tensor, 0, tensor.nbytes), tensor.dtype, "F64")[0]
    return np.frombuffer(data, "<f8").reshape(tensor.shape)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(("more", "scale"), [({}, ALPHA / RANK), ({"use_rslora": True}, ALPHA / RANK**0.5)])
def test_an_adapter_is_merged(tmp_path: Path, shards: int, more: dict[str, Any], scale: float) -> None:
    source = folder(tmp_path / "in", adapted(), {**SAID, **more}, shards)
    before = tidoctor.open(source)
    (finding,) = [f for f in tidoctor.diagnose(source).findings if f.code == "N03"]
    assert str(finding.severity) == "error" and finding.cure and finding.cure.needs == ("accept",)
    dropped = [str(o["tensor"]) for o in finding.cure.operations if o["op"] == "drop"]
    old = [n for n in before.tensors if ".base_layer." in n]
    assert [n for n in dropped if n in old] == old  # a plan is the same each time
    refused = tidoctor.repair(source, tmp_path / "out")
    assert refused.exit_code == 1 and refused.receipt is None

    done = tidoctor.repair(source, tmp_path / "out", accept=["N03"])
    assert done.exit_code == 0 and done.receipt
    assert done.receipt.made == len(TARGETS)
    assert done.receipt.verified + done.receipt.made == len(llama())
    after = tidoctor.open(tmp_path / "out")
    assert {n: list(t.shape) for n, t in after.tensors.items()} == llama()
    assert [f for f in tidoctor.diagnose(tmp_path / "out").findings if f.severity > 1] == []
    for module in TARGETS:
        a, b = (numbers(before, f"{module}.lora_{side}.default.weight") for side in "AB")
        exact = numbers(before, f"{module}.base_layer.weight") + scale * (b @ a)
        ours = numbers(after, f"{module}.weight")
        assert after.tensors[f"{module}.weight"].dtype == "BF16"
        # Rounded once: half of the last of eight bits, and what F32 lost before.
        assert (abs(ours - exact) <= abs(exact) * 2.0**-8 * 1.001 + 1e-9).all()
        assert (ours != numbers(before, f"{module}.base_layer.weight")).any()
    kept = set(llama()) - {f"{m}.weight" for m in TARGETS}
    assert all((numbers(after, n) == numbers(before, n)).all() for n in kept)


def test_sums_of_whole_numbers_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight, a, b = (rng.integers(-9, 9, s).astype("<f4") for s in ((6, 5), (2, 5), (6, 2)))
    tensors = {n: ("F32", list(m.shape), m.tobytes()) for n, m in (("w", weight), ("a", a), ("b", b))}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    before = tidoctor.open(tmp_path / "model.safetensors")
    operation = {"op": "merge", "tensor": "x", "weight": "w", "a": "a", "b": "b", "scale": 0.5}
    after = Plan(([operation],)).apply(before)
    assert (numbers(after, "x") == weight + 0.5 * (b @ a)).all()
    write_plan(after, tmp_path / "out")
    assert (numbers(tidoctor.open(tmp_path / "out"), "x") == weight + 0.5 * (b @ a)).all()


def test_it_does_not_matter_in_what_pieces_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidoctor.merging._BLOCK", 100)
    source = tidoctor.open(folder(tmp_path, adapted()))
    module = TARGETS[0]
    rows = [source.tensors[f"{module}.{n}.weight"] for n in ("base_layer", "lora_A.default", "lora_B.default")]
    merged = Merged(rows[0], rows[1], rows[2], 2.0)
    size = rows[0].nbytes
    whole = merged.read("merged", 0, size + 99)
    assert len(whole) == size
    for step in (1, 7, 64, 100, 511):
        assert b"".join(merged.read("merged", i, i + step) for i in range(0, size, step)) == whole


DORA = {f"{TARGETS[0]}.lora_magnitude_vector.default.weight": ("F32", [16])}
SECOND = {f"{TARGETS[0]}.lora_{s}.other.weight": ("F32", shape) for s, shape in (("A", [4, 16]), ("B", [16, 4]))}
HALF = {n: s for n, s in adapted().items() if not n.endswith(f"{TARGETS[0]}.lora_B.default.weight")}


@pytest.mark.parametrize(
    ("table", "said", "why"),
    [
        (adapted(), None, "no adapter_config.json"),
        (adapted(), [], "cannot be read"),
        (adapted(), {**SAID, "peft_type": "LOHA"}, "not LORA"),
        (adapted(), {**SAID, "use_dora": True}, "use_dora"),
        (adapted(), {**SAID, "rank_pattern": {"q": 2}}, "rank_pattern"),
        (adapted(), {**SAID, "r": 0}, "rank and alpha"),
        (adapted(), {**SAID, "r": True}, "rank and alpha"),
        (adapted(), {**SAID, "lora_alpha": "8"}, "rank and alpha"),
        (adapted(), {**SAID, "lora_alpha": True}, "rank and alpha"),
        (adapted(), {**SAID, "lora_alpha": 1e300}, "no usable number"),
        (adapted(), {**SAID, "use_rslora": 1}, "neither true nor false"),
        (adapted(), {**SAID, "use_rslora": "true"}, "neither true nor false"),
        ({n.replace("q_proj", "c_proj"): s for n, s in adapted().items()}, SAID, "turned round"),
        (adapted(), {**SAID, "r": 8}, "its rank is not the 8"),
        (adapted(**DORA), SAID, "no factor of a plain matrix"),
        (adapted(**SECOND), SAID, "2 adapters"),
        (HALF, SAID, "one factor only"),
        (adapted(**{f"{TARGETS[0]}.base_layer.weight": ("I8", [16, 16])}), SAID, "quantised"),
        (adapted(**{f"{TARGETS[0]}.base_layer.weight": [16, 8]}), SAID, "do not fit"),
        (adapted(**{f"{TARGETS[0]}.weight": [16, 16]}), SAID, "two tensors"),
    ],
)  # fmt: skip
def test_what_is_not_merged_and_why(tmp_path: Path, table: dict[str, Any], said: Any, why: str) -> None:
    source = folder(tmp_path / "in", table, said)
    (finding,) = [f for f in tidoctor.diagnose(source).findings if f.code == "N03"]
    assert finding.cure and not finding.cure.operations
    assert any(why in e.fact for e in finding.evidence), finding.evidence
    assert tidoctor.repair(source, tmp_path / "out", accept=["N03"]).receipt is None


def test_the_adapter_does_not_stay_beside_what_it_was_merged_into(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", adapted())
    (source / "adapter_model.safetensors").write_bytes(safetensors_bytes({}))
    (source / "tokenizer.json").write_text("{}")
    done = tidoctor.repair(source, tmp_path / "out", accept=["N03"])
    assert done.exit_code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json"
    }


def test_numbers_that_would_become_infinite_are_not_written(tmp_path: Path) -> None:
    weight, a, b = (np.full(s, v, "<f2") for s, v in (((4, 4), 6e4), ((2, 4), 100), ((4, 2), 100)))
    tensors = {n: ("F16", list(m.shape), m.tobytes()) for n, m in (("w", weight), ("a", a), ("b", b))}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    operation = {"op": "merge", "tensor": "x", "weight": "w", "a": "a", "b": "b", "scale": 1.0}
    planned = Plan(([operation],)).apply(tidoctor.open(tmp_path / "model.safetensors"))
    with pytest.raises(Unreadable, match="infinite"):
        write_plan(planned, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_saved_modules_take_the_place_of_the_original_ones(tmp_path: Path) -> None:
    table = adapted()
    table["lm_head.modules_to_save.default.weight"] = table.pop("lm_head.weight")
    table["lm_head.original_module.weight"] = [64, 16]
    source = folder(tmp_path / "in", table)
    done = tidoctor.repair(source, tmp_path / "out", accept=["N03"])
    assert done.exit_code == 0
    before, after = tidoctor.open(source), tidoctor.open(tmp_path / "out")
    trained = numbers(before, "lm_head.modules_to_save.default.weight")
    assert (numbers(after, "lm_head.weight") == trained).all()
    assert {n: list(t.shape) for n, t in after.tensors.items()} == llama()


@pytest.mark.parametrize("shapes", [((4, 4), (2, 4), (4, 3)), ((4, 4), (2, 3), (4, 2)), ((4,), (2, 4), (4, 2))])
def test_shapes_that_do_not_go_together(tmp_path: Path, shapes: tuple[tuple[int, ...], ...]) -> None:
    tensors = {
        n: ("F32", list(s), struct.pack(f"<{np.prod(s)}f", *([1.0] * int(np.prod(s)))))
        for n, s in zip("wab", shapes, strict=True)
    }
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    rows: list[Tensor] = [*tidoctor.open(tmp_path / "model.safetensors").tensors.values()]
    by_name = {t.name: t for t in rows}
    with pytest.raises(ValueError):
        Merged(by_name["w"], by_name["a"], by_name["b"], 1.0)
