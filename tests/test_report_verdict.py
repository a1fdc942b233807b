"""Words and exit codes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report_samples import HEALTHY, ILL, UNEXAMINED
from tidoctor.errors import Refused, Unreadable, Unwritable, Usage
from tidoctor.finding import Diagnosis
from tidoctor.report.verdict import FailOn, described, of_diagnosis, of_error, word, worst

WARNED = replace(ILL, findings=ILL.findings[1:])
CLEAN = replace(ILL, findings=())


@pytest.mark.parametrize(
    ("found", "expected", "codes"),
    [
        (ILL, "error", {"error": 1, "warning": 1, "note": 1, "never": 0}),
        (WARNED, "warning", {"error": 0, "warning": 1, "note": 1, "never": 0}),
        (HEALTHY, "healthy", {"error": 0, "warning": 0, "note": 1, "never": 0}),
        (CLEAN, "healthy", {"error": 0, "warning": 0, "note": 0, "never": 0}),
        (UNEXAMINED, "unexamined", {"error": 3, "warning": 3, "note": 3, "never": 3}),
    ],
)
def test_a_diagnosis_has_one_word_and_one_code(
    found: Diagnosis, expected: str, codes: dict[str, int]
) -> None:
    assert word(found) == expected
    assert {f.value: int(of_diagnosis(found, f)) for f in FailOn} == codes


@pytest.mark.parametrize(
    ("error", "code"),
    [(Usage("", ""), 2), (Refused("", ""), 1), (Unreadable("", ""), 3), (Unwritable("", ""), 3),
     (ZeroDivisionError(), 3), (MemoryError(), 3)],
)  # fmt: skip
def test_an_error_has_one_code(error: Exception, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 1], 1), ([0, 3, 1], 3), ([3, 2], 2), ([0], 0)]
)
def test_the_worst_wins(codes: list[int], code: int) -> None:
    assert worst(codes) == code


def test_what_nobody_meant_to_raise_is_described() -> None:
    error = described(ZeroDivisionError("division by zero"), "./x")
    assert str(error) == (
        "./x: internal error: ZeroDivisionError: division by zero; "
        "set TIDOCTOR_DEBUG=1 for the traceback"
    )
    assert len(str(described(ValueError("x" * 10_000)))) < 600
