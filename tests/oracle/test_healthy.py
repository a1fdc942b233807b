"""What transformers itself has just written is healthy, and repair leaves it alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tidoctor
from tests.oracle.folders import add, copy, snapshot, unset_config
from tests.oracle.judge import load, logits
from tests.oracle.models import (
    BY_NAME,
    DECODERS,
    FAMILIES,
    VARIANTS,
    Family,
    Variant,
    build,
    save,
)
from tidoctor.finding import Diagnosis, Severity


def complaints(diagnosis: Diagnosis) -> list[str]:
    """The findings above note."""
    return [
        f"{f.severity} {f.code} {f.name}: {f.message}"
        for f in diagnosis.findings if f.severity > Severity.NOTE
    ]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_premise_it_loads_clean(variant: Variant, saved: Callable[..., Path]) -> None:
    loaded = load(saved(variant), variant.family.model_class)
    assert loaded.clean
    assert loaded.model.dtype == getattr(torch, variant.dtype)
    assert logits(loaded.model).isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nothing_above_note(variant: Variant, saved: Callable[..., Path]) -> None:
    assert complaints(tidoctor.diagnose(saved(variant))) == []


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nothing_above_note_for_its_task(variant: Variant, saved: Callable[..., Path]) -> None:
    diagnosis = tidoctor.diagnose(saved(variant), wanted=variant.family.wanted, deep=True)
    assert complaints(diagnosis) == []


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nothing_above_note_for_its_class(variant: Variant, saved: Callable[..., Path]) -> None:
    diagnosis = tidoctor.diagnose(saved(variant), wanted=variant.family.model_class)
    assert complaints(diagnosis) == []


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_repair_does_nothing(
    variant: Variant, saved: Callable[..., Path], tmp_path: Path
) -> None:
    before = snapshot(saved(variant))
    treatment = tidoctor.repair(saved(variant), tmp_path / "out")
    assert treatment.receipt is None
    assert treatment.result is None
    assert treatment.exit_code == 0
    assert not (tmp_path / "out").exists()
    assert snapshot(saved(variant)) == before


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_class_defaults_are_healthy(family: Family, tmp_path: Path) -> None:
    """The tie flag left to the class: written or not, it says what the file holds."""
    folder = save(build(family, None), tmp_path / "m")
    assert load(folder, family.model_class).clean
    assert complaints(tidoctor.diagnose(folder)) == []


@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_flag_left_out_where_it_is_the_default(
    family: Family, saved: Callable[..., Path], tmp_path: Path
) -> None:
    """transformers 4 leaves the flag out where it equals the default of the class."""
    default = bool(family.config(None).tie_word_embeddings)
    folder = copy(saved(Variant(family, default)), tmp_path / "m")
    unset_config(folder, "tie_word_embeddings")
    assert load(folder, family.model_class).clean
    assert complaints(tidoctor.diagnose(folder)) == []


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
def test_left_over_buffers_are_no_fault(
    name: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    """Old releases saved the frequencies of the rotary embedding; every release ignores them."""
    folder = copy(saved(Variant(BY_NAME[name], tied=False)), tmp_path / "m")
    add(folder, {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in (0, 1)})
    assert load(folder, BY_NAME[name].model_class).clean
    assert complaints(tidoctor.diagnose(folder)) == []
