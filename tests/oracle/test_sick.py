"""Broken checkpoints: the damage is real, it is found, and what can be cured is cured for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tidoctor
from tests.oracle.folders import copy, snapshot
from tests.oracle.judge import assert_equal, differences, load, logits, reference
from tests.oracle.sickness import CASES, Case
from tidoctor.errors import TidoctorError
from tidoctor.finding import Severity

EVERY = pytest.mark.parametrize("case", CASES, ids=str)
CURED = pytest.mark.parametrize("case", [c for c in CASES if c.outcome == "cured"], ids=str)
KEPT = pytest.mark.parametrize("case", [c for c in CASES if c.outcome == "kept"], ids=str)
LOST = pytest.mark.parametrize("case", [c for c in CASES if c.outcome == "lost"], ids=str)


@pytest.fixture
def sick(
    request: pytest.FixtureRequest, saved: Callable[..., Path], tmp_path: Path
) -> tuple[Case, Path, Path]:
    """The case, its damaged folder and the healthy original."""
    case: Case = request.getfixturevalue("case")
    original = saved(case.variant)
    folder = copy(original, tmp_path / "sick")
    case.damage(folder)
    return case, folder, original


Sick = tuple[Case, Path, Path]


def harm(case: Case, folder: Path, original: Path) -> str:
    """What transformers makes of the folder, in the words of `sickness.Harm`."""
    wanted, expected = reference(original, case.variant.family.model_class)
    try:
        loaded = load(folder, case.variant.family.model_class)
    except Exception:  # whatever it raises is the observation
        return "raises"
    same = loaded.clean and not differences(loaded.model, wanted.model)
    return "none" if same and torch.equal(logits(loaded.model), expected) else "misloads"


def answer(case: Case, folder: Path, original: Path, dest: Path) -> Any:
    """The treatment with the consent and the donor that the case grants."""
    return tidoctor.repair(
        folder, dest, wanted=case.variant.family.model_class, accept=case.accept,
        donor=original if case.donor else None,
    )


@EVERY
def test_premise_harm(case: Case, sick: Sick) -> None:
    assert harm(*sick) == case.harm


@EVERY
def test_found(case: Case, sick: Sick) -> None:
    _, folder, _ = sick
    diagnosis = tidoctor.diagnose(folder, wanted=case.variant.family.model_class)
    named = {code for f in diagnosis.findings for code in (f.code, *f.includes)}
    assert case.code in named
    if case.harm != "none":
        assert diagnosis.worst is Severity.ERROR


@CURED
def test_cured(case: Case, sick: Sick, tmp_path: Path) -> None:
    _, folder, original = sick
    before, donor_before = snapshot(folder), snapshot(original)
    treatment = answer(*sick, tmp_path / "out")
    assert snapshot(folder) == before
    assert snapshot(original) == donor_before
    assert treatment.exit_code == 0, treatment.reason
    assert treatment.receipt is not None, treatment.reason
    assert_equal(tmp_path / "out", original, case.variant.family.model_class)
    assert_cured_for_good(tmp_path / "out", case)


def assert_cured_for_good(folder: Path, case: Case) -> None:
    """A healthy copy, about which there is nothing left to do."""
    wanted = case.variant.family.model_class
    left = tidoctor.diagnose(folder, wanted=wanted)
    assert [f.code for f in left.findings if f.severity > Severity.NOTE] == []
    again = tidoctor.repair(folder, folder.with_name("again"), wanted=wanted)
    assert again.receipt is None
    assert again.exit_code == 0


@pytest.mark.parametrize("case", [c for c in CASES if c.accept and c.harm != "none"], ids=str)
def test_no_cure_without_consent(case: Case, sick: Sick, tmp_path: Path) -> None:
    _, folder, _ = sick
    treatment = tidoctor.repair(
        folder, tmp_path / "out", wanted=case.variant.family.model_class
    )
    assert treatment.exit_code == 1
    assert not (tmp_path / "out").exists()


@KEPT
def test_worth_a_note_and_kept(case: Case, sick: Sick, tmp_path: Path) -> None:
    """Nothing that would be read wrongly: said, and left alone."""
    _, folder, _ = sick
    findings = {f.code: f for f in tidoctor.diagnose(folder).findings}
    assert findings[case.code].severity is Severity.NOTE
    treatment = answer(*sick, tmp_path / "out")
    assert treatment.receipt is None
    assert treatment.exit_code == 0
    assert not (tmp_path / "out").exists()


@LOST
def test_incurable_is_refused(case: Case, sick: Sick, tmp_path: Path) -> None:
    _, folder, _ = sick
    before = snapshot(folder)
    try:
        treatment = answer(*sick, tmp_path / "out")
    except TidoctorError:
        pass
    else:
        assert treatment.exit_code == 1
        assert treatment.receipt is None
    assert not (tmp_path / "out").exists()
    assert snapshot(folder) == before
