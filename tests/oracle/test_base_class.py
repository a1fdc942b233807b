"""Opened with AutoModel and saved: prefix and head are gone, and how far that can be cured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tidoctor
from tests.oracle.folders import change_tensors, copy, drop, read_json, snapshot
from tests.oracle.judge import assert_equal, load, logits, reference
from tests.oracle.models import BY_NAME, DECODERS, FAMILIES, Family, Variant
from tidoctor.errors import Refused
from tidoctor.finding import Severity

CODE = "C04"
SHARDED = pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])
EVERY = pytest.mark.parametrize("family", DECODERS, ids=str)
# What is tied survives the base class whole; the bias of a head never does.
TIED_WHOLE = pytest.mark.parametrize(
    "family", [f for f in DECODERS if not f.head_bias], ids=str
)


@SHARDED
@EVERY
def test_premise_the_base_class_was_saved(
    family: Family, sharded: bool, saved: Callable[..., Path], bare: Callable[..., Path]
) -> None:
    variant = Variant(family, tied=False, sharded=sharded)
    (written,) = read_json(bare(variant) / "config.json")["architectures"]
    assert written != family.model_class
    loaded = load(bare(variant), family.model_class)
    assert loaded.missing


@SHARDED
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@EVERY
def test_found(family: Family, tied: bool, sharded: bool, bare: Callable[..., Path]) -> None:
    folder = bare(Variant(family, tied, sharded))
    diagnosis = tidoctor.diagnose(folder, wanted="causal-lm")
    errors = [f.code for f in diagnosis.findings if f.severity is Severity.ERROR]
    assert errors == [CODE]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@EVERY
def test_base_model_is_no_error_as_such(
    family: Family, tied: bool, bare: Callable[..., Path]
) -> None:
    """Embedding models are saved this way on purpose."""
    diagnosis = tidoctor.diagnose(bare(Variant(family, tied)))
    assert diagnosis.worst is not Severity.ERROR


@SHARDED
@TIED_WHOLE
def test_tied_is_cured_alone(
    family: Family, sharded: bool, saved: Callable[..., Path], bare: Callable[..., Path],
    tmp_path: Path,
) -> None:
    variant = Variant(family, tied=True, sharded=sharded)
    source = bare(variant)
    before = snapshot(source)
    treatment = tidoctor.repair(source, tmp_path / "out", wanted="causal-lm")
    assert treatment.exit_code == 0
    assert treatment.receipt is not None
    assert snapshot(source) == before
    config = read_json(tmp_path / "out" / "config.json")
    assert config["architectures"] == [family.model_class]
    assert_equal(tmp_path / "out", saved(variant), family.model_class)


@TIED_WHOLE
def test_tied_is_served_without_a_wish(
    family: Family, saved: Callable[..., Path], bare: Callable[..., Path], tmp_path: Path
) -> None:
    """Nobody says what it is for: whatever repair hands over still opens as the causal class."""
    variant = Variant(family, tied=True)
    treatment = tidoctor.repair(bare(variant), tmp_path / "out")
    assert treatment.exit_code == 0
    folder = tmp_path / "out" if treatment.receipt else bare(variant)
    assert_equal(folder, saved(variant), family.model_class)


@SHARDED
@EVERY
def test_untied_is_refused_without_donor(
    family: Family, sharded: bool, bare: Callable[..., Path], tmp_path: Path
) -> None:
    source = bare(Variant(family, tied=False, sharded=sharded))
    treatment = tidoctor.repair(
        source, tmp_path / "out", wanted="causal-lm", accept=["C04", "H02", "N04"]
    )
    assert treatment.exit_code == 1
    assert treatment.receipt is None
    assert list(tmp_path.iterdir()) == []


@SHARDED
@EVERY
def test_untied_is_cured_with_donor(
    family: Family, sharded: bool, saved: Callable[..., Path], bare: Callable[..., Path],
    tmp_path: Path,
) -> None:
    variant = Variant(family, tied=False, sharded=sharded)
    donor = saved(variant)
    before = snapshot(donor)
    treatment = tidoctor.repair(
        bare(variant), tmp_path / "out", wanted="causal-lm", donor=donor
    )
    assert treatment.exit_code == 0
    assert treatment.receipt is not None
    assert snapshot(donor) == before
    assert_equal(tmp_path / "out", donor, family.model_class)


@pytest.mark.parametrize("family", [f for f in DECODERS if f.head_bias], ids=str)
def test_bias_of_a_tied_head_is_lost(
    family: Family, saved: Callable[..., Path], bare: Callable[..., Path], tmp_path: Path
) -> None:
    variant = Variant(family, tied=True)
    alone = tidoctor.repair(bare(variant), tmp_path / "alone", wanted="causal-lm")
    assert alone.exit_code == 1
    assert not (tmp_path / "alone").exists()
    cured = tidoctor.repair(
        bare(variant), tmp_path / "out", wanted="causal-lm", donor=saved(variant)
    )
    assert cured.exit_code == 0
    assert_equal(tmp_path / "out", saved(variant), family.model_class)


@pytest.mark.parametrize("with_donor", [False, True], ids=["alone", "donor"])
@pytest.mark.parametrize(
    "variant", [Variant(f, t) for f in FAMILIES if not f.decoder for t in f.ties or (None,)],
    ids=str,
)
def test_other_tasks_get_a_whole_model_or_none(
    variant: Variant, with_donor: bool, saved: Callable[..., Path], bare: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Encoders, translators, speech and pictures: whatever is handed over computes the same."""
    family = variant.family
    donor = saved(variant) if with_donor else None
    try:
        treatment = tidoctor.repair(
            bare(variant), tmp_path / "out", wanted=family.wanted, donor=donor
        )
    except Refused:
        return
    if treatment.exit_code == 1:
        assert not (tmp_path / "out").exists()
        return
    loaded = load(tmp_path / "out" if treatment.receipt else bare(variant), family.model_class)
    assert loaded.missing == ()
    assert torch.equal(logits(loaded.model), reference(saved(variant), family.model_class)[1])


def test_donor_without_a_head_is_no_donor(
    saved: Callable[..., Path], bare: Callable[..., Path], tmp_path: Path
) -> None:
    variant = Variant(BY_NAME["llama"], tied=False)
    donor = copy(saved(variant), tmp_path / "donor")
    drop(donor, "lm_head.weight")
    refused(bare(variant), donor, tmp_path / "out")


def test_donor_of_another_size_is_no_donor(
    saved: Callable[..., Path], bare: Callable[..., Path], tmp_path: Path
) -> None:
    variant = Variant(BY_NAME["llama"], tied=False)
    donor = copy(saved(variant), tmp_path / "donor")
    change_tensors(
        donor, lambda ts: {n: t[:-8] if n == "lm_head.weight" else t for n, t in ts.items()}
    )
    refused(bare(variant), donor, tmp_path / "out")


def refused(source: Path, donor: Path, dest: Path) -> None:
    """A repair that ends without a result, told by its exit code or by a refusal."""
    try:
        treatment = tidoctor.repair(source, dest, wanted="causal-lm", donor=donor)
    except Refused:
        pass
    else:
        assert treatment.exit_code == 1
        assert treatment.receipt is None
    assert not dest.exists()
