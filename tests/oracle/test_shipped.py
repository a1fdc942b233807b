"""Learning begins with the data files: what is true of the installed library stays as it stands."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tidoctor.atlas.learn.known import Known, Run
from tidoctor.atlas.learn.write import DATA, spread

NAME = "layers.{i}.mlp.up_proj.weight"


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """The library, quickened."""
    from tidoctor.atlas.learn import gates

    gates.prepare()


def folder(at: Path, version: str = "", absent: dict[str, str] | None = None) -> Path:
    """Data files of Llama alone, said to be learned from a version of the library."""
    import transformers

    llama = json.loads((DATA / "llama.json").read_text())
    index = {
        "learned_from": {"transformers": version or transformers.__version__},
        "classes": dict.fromkeys(llama["classes"], "llama"),
        "configs": dict.fromkeys(llama["configs"], "llama"),
        "absent": absent or {},
    }
    at.mkdir()
    (at / "index.json").write_text(spread(index, 2))
    (at / "llama.json").write_text(spread(llama))
    return at


def known(tmp_path: Path, begin: Path | None) -> Known:
    """Facts with an empty cache."""
    cache = tmp_path / "cache"
    cache.mkdir()
    return Known(Run(cache, begin, 1, 10.0))


def test_what_holds_is_kept_as_it_stands(tmp_path: Path) -> None:
    rows = json.loads((DATA / "llama.json").read_text())["classes"]
    begun = known(tmp_path, folder(tmp_path / "data"))
    for name in ("LlamaModel", "LlamaForCausalLM"):
        assert begun.row(name) == rows[name]


def test_what_does_not_hold_is_learned(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    held = json.loads((data / "llama.json").read_text())
    right = held["classes"]["LlamaModel"]["memory"]["tensors"][NAME]
    damaged: dict[str, Any] = copy.deepcopy(held)
    damaged["classes"]["LlamaModel"]["memory"]["tensors"][NAME] = ["hidden_size", "hidden_size"]
    (data / "llama.json").write_text(spread(damaged))
    row = known(tmp_path, data).row("LlamaModel")
    assert row["memory"]["tensors"][NAME] == right
    assert row["memory"]["counts"] == held["classes"]["LlamaModel"]["memory"]["counts"]


@pytest.mark.parametrize("same", [True, False])
def test_why_a_class_is_absent_is_asked_again_of_another_version(
    tmp_path: Path, same: bool
) -> None:
    data = folder(tmp_path / "data", "" if same else "4.0", {"LlamaModel": "of some reason"})
    index = json.loads((data / "index.json").read_text())
    del index["classes"]["LlamaModel"]
    (data / "index.json").write_text(spread(index, 2))
    row = known(tmp_path, data).row("LlamaModel")
    assert row.get("absent") == ("of some reason" if same else None)
    assert same or NAME in row["memory"]["tensors"]


def test_a_config_that_does_not_tell_of_all_fields_is_learned(tmp_path: Path) -> None:
    from tidoctor.atlas.learn.assembling import learn_config

    data = folder(tmp_path / "data")
    rule = json.loads((data / "llama.json").read_text())["configs"]["llama"]
    run = Run(tmp_path, data, 1, 10.0)
    (tmp_path / "configs").mkdir()
    asked = sorted(rule["fields"])
    assert learn_config((run, "llama", asked, {})) == ("llama", rule)
    assert not any((tmp_path / "configs").iterdir())
    _, more = learn_config((run, "llama", [*asked, "max_position_embeddings"], {}))
    assert more is not None and {*asked, "max_position_embeddings"} <= more["fields"].keys()
