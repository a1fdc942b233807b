"""The judge itself: it must see a loss, or its silence would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.oracle.folders import copy, drop, rename
from tests.oracle.judge import assert_equal, differences, load, logits
from tests.oracle.models import BY_NAME, Variant

UNTIED = Variant(BY_NAME["llama"], tied=False)
UNTIED_CLASS = UNTIED.family.model_class


def test_lost_head_is_seen(saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy(saved(UNTIED), tmp_path / "m")
    drop(folder, "lm_head.weight")
    loaded = load(folder, UNTIED_CLASS)
    assert loaded.missing == ("lm_head.weight",)
    assert not loaded.clean
    assert not torch.equal(logits(loaded.model), logits(load(saved(UNTIED), UNTIED_CLASS).model))
    with pytest.raises(AssertionError):
        assert_equal(folder, saved(UNTIED), UNTIED_CLASS)


def test_swapped_tensors_are_seen(saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy(saved(UNTIED), tmp_path / "m")
    other = {"lm_head.weight": "model.embed_tokens.weight"}
    other |= {new: old for old, new in other.items()}
    rename(folder, lambda name: other.get(name, name))
    loaded = load(folder, UNTIED_CLASS)
    assert loaded.clean
    assert differences(loaded.model, load(saved(UNTIED), UNTIED_CLASS).model) == sorted(other)
    with pytest.raises(AssertionError):
        assert_equal(folder, saved(UNTIED), UNTIED_CLASS)


def test_head_really_differs_from_the_embedding(saved: Callable[..., Path]) -> None:
    model = load(saved(UNTIED), UNTIED_CLASS).model
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


