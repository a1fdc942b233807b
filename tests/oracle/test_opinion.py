"""The second opinion of the real transformers, against what it saves and loads itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

import tidoctor
from tests import checkpoints
from tests.oracle.folders import change_tensors, copy, set_config
from tests.oracle.judge import load
from tests.oracle.models import BY_NAME, Variant
from tidoctor.atlas import data
from tidoctor.checkpoint import Checkpoint
from tidoctor.opinion import Misfit, Opinion

Saved = Callable[..., Path]


def opinion(source: Path | Checkpoint) -> Opinion:
    found = tidoctor.second_opinion(source)
    assert found.version in (None, transformers.__version__)
    return found


@pytest.mark.parametrize(
    ("family", "tied"),
    [("llama", False), ("llama", True), ("mixtral", False), ("bert", True), ("llava", False)],
)
def test_what_it_saved_itself_it_agrees_with(saved: Saved, family: str, tied: bool) -> None:
    folder = saved(Variant(BY_NAME[family], tied))
    found = opinion(folder)
    assert found.reason == ""
    assert found.atlas.agrees is True
    assert found.files.complete is True
    checkpoint = tidoctor.open(folder)
    assert found.tensors == {name: each.shape for name, each in checkpoint.tensors.items()}
    assert bool(found.ties) is tied


def test_it_says_what_its_loader_reports(saved: Saved, tmp_path: Path) -> None:
    folder = copy(saved(Variant(BY_NAME["llama"], False)), tmp_path / "ill")

    def damage(state: dict[str, Any]) -> dict[str, Any]:
        del state["model.layers.1.mlp.up_proj.weight"]
        return state | {"junk.weight": state["model.norm.weight"].clone()}

    change_tensors(folder, damage)
    found, real = opinion(folder).files, load(folder, "LlamaForCausalLM")
    assert found.missing == real.missing == ("model.layers.1.mlp.up_proj.weight",)
    assert found.unexpected == real.unexpected == ("junk.weight",)
    assert found.mismatched == () == found.failed


def test_legitimate_spellings_are_no_difference(saved: Saved, tmp_path: Path) -> None:
    folder = copy(saved(Variant(BY_NAME["llama"], False)), tmp_path / "bare")

    def bare(state: dict[str, Any]) -> dict[str, Any]:
        return {name.removeprefix("model."): each for name, each in state.items()}

    change_tensors(folder, bare)
    assert load(folder, "LlamaForCausalLM").clean
    assert opinion(folder).files.complete is True


def test_shapes_follow_the_config(saved: Saved, tmp_path: Path) -> None:
    folder = copy(saved(Variant(BY_NAME["llama"], False)), tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    shape = tidoctor.open(folder).tensors["model.layers.0.self_attn.q_proj.weight"].shape
    set_config(folder, "head_dim", value=2 * config["head_dim"])
    found = opinion(folder)
    assert found.atlas.agrees is True  # both know what head_dim means
    wanted = Misfit(
        "model.layers.0.self_attn.q_proj.weight", shape, (2 * shape[0], shape[1])
    )
    assert wanted in found.files.mismatched and not found.files.missing


def test_an_incomplete_merge_is_told_with_its_reason(saved: Saved, tmp_path: Path) -> None:
    folder = copy(saved(Variant(BY_NAME["mixtral"], False)), tmp_path / "holed")
    lost = next(n for n in tidoctor.open(folder).tensors if ".layers.1." in n and ".experts.0." in n)

    def damage(state: dict[str, Any]) -> dict[str, Any]:
        return {name: each for name, each in state.items() if name != lost}

    change_tensors(folder, damage)
    files = opinion(folder).files
    told = [name for name, _ in files.failed] + [m.name for m in files.mismatched]
    assert told and all(".layers.1." in name for name in told)
    assert all("Traceback" not in why and why for _, why in files.failed)


# Classes with small default configs, of which the atlas did not learn all.
_RARE: dict[str, dict[str, Any]] = {
    "RegNetModel": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "MobileNetV1Model": {"depth_multiplier": 0.25},
    "MobileNetV2Model": {"depth_multiplier": 0.25},
    "MobileViTModel": {"hidden_sizes": [16, 16, 16]},
    "SwiftFormerModel": {},
    "EfficientNetModel": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
}


def test_of_a_class_that_the_atlas_lacks_it_is_the_only_source(tmp_path: Path) -> None:
    name = next(n for n in _RARE if data.current().why_not(n) is not None)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**_RARE[name]))
    model.save_pretrained(tmp_path)
    found = opinion(tmp_path)
    assert found.reason == "" and found.atlas.agrees is None and name in found.atlas.reason
    assert found.tensors == {n: t.shape for n, t in tidoctor.open(tmp_path).tensors.items()}
    assert found.files.complete is True


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "x.Y"}},
         "the model brings its own code, which is not run"),
        ({"architectures": ["AutoModel"]}, "it has no model class of the name AutoModel"),
        ({"architectures": ["os"]}, "it has no model class of the name os"),
        ({"architectures": ["NoSuchModel"]}, "it has no model class of the name NoSuchModel"),
        ({"model_type": "gpt2"},
         'LlamaForCausalLM is built from configs of model_type llama, and this one says "gpt2"'),
        ({"num_attention_heads": 3}, "it does not read this config: "),
        ({"hidden_act": "nonsense"}, "it does not build the class under this config: "),
        ({"intermediate_size": 2**62}, "it does not build the class under this config: "),
    ],
)  # fmt: skip
def test_what_it_cannot_answer_is_a_sentence(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = checkpoints.write(tmp_path, checkpoints.llama(), checkpoints.LLAMA | changes)
    found = opinion(folder)
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason and "Traceback" not in found.reason
    assert len(found.reason) < 320 and not found.reason.endswith(":")


def test_code_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    values = checkpoints.LLAMA | {"attn_implementation": "someone/kernel"}
    folder = checkpoints.write(tmp_path, checkpoints.llama(), values)
    for name in ("modeling_llama.py", "torch.py", "transformers.py", "sitecustomize.py"):
        (folder / name).write_text(f"open({str(trap)!r}, 'w').close()\n")
    assert opinion(folder).files.complete is True
    assert not trap.exists()


def test_impossible_shapes_in_a_file_are_a_sentence(tmp_path: Path) -> None:
    checkpoint = tidoctor.open(
        checkpoints.write(tmp_path, checkpoints.llama(), checkpoints.LLAMA)
    )
    odd = checkpoint.tensors["lm_head.weight"]._replace(shape=(2**70, 2**70))
    changed = replace(checkpoint, tensors={**checkpoint.tensors, odd.name: odd})
    files = opinion(changed).files
    assert files.complete is None and "Overflow" in files.reason and "\n" not in files.reason
