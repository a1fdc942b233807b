"""What the learner finds wrong is seen as wrong where it is mended, and what cannot be is left."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tidoctor.atlas.learn.write import DATA


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """The library, quickened."""
    from tidoctor.atlas.learn import gates

    gates.prepare()


def test_a_damaged_row_is_wrong_in_a_process_that_did_not_learn_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tidoctor.atlas.learn import builds, mending

    # Qwen2 asks for `head_dim`, which its config does not declare: found only while it is learned.
    monkeypatch.setattr(builds, "UNDECLARED", {})
    rows = json.loads((DATA / "qwen2.json").read_text())["classes"]
    right, name = rows["Qwen2Model"], "layers.{i}.mlp.up_proj.weight"
    assert "head_dim" in json.dumps(right)
    damaged: dict[str, Any] = copy.deepcopy(right)
    damaged["memory"]["tensors"][name] = ["4 * hidden_size", "hidden_size"]
    raw = builds.default_values("Qwen2Model") | {"intermediate_size": 512}
    pairs = mending.samples_of("Qwen2Model", [raw])
    assert len(pairs) == 1
    assert mending.wrong_ones("Qwen2Model", damaged, pairs, rows) == pairs
    assert mending.wrong_ones("Qwen2Model", right, pairs, rows) == []


def test_a_size_of_nought_does_not_untie_a_head() -> None:
    from tidoctor.atlas.learn.builds import default_values
    from tidoctor.atlas.learn.samples import Sampler, is_empty

    name = "GPT2LMHeadModel"
    sampler = Sampler(name, default_values(name), 20.0)
    sampler.one_by_one(["n_embd", "n_layer", "vocab_size"], {}, [])
    assert not any(map(is_empty, sampler.samples))
    assert any(sample.values["n_layer"] == 0 for sample in sampler.samples)
    assert all(sample.ties for sample in sampler.samples)


