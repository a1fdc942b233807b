"""Any value becomes one that strict JSON can say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor.finding import CureKind, Severity
from tidoctor.report.plain import dumped, plain


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "nan"), (-math.inf, "-inf"), (1.5, 1.5), (True, True), (None, None),
        ((1, 2), [1, 2]), ({3, 1}, [1, 3]), ({1: ("a",)}, {"1": ["a"]}), (Path("x"), "x"),
        (CureKind.SAFE, "safe"), (Severity.ERROR, 3), (b"x", "b'x'"), (10**30, 10**30),
    ],
)  # fmt: skip
def test_values(value: object, told: object) -> None:
    got = plain(value)
    assert got == told and type(got) is type(told)


def test_an_integer_too_long_to_print_becomes_text() -> None:
    assert plain(1 << 20_000) == "0x1" + "0" * 5000


def test_deep_nesting_ends() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert json.dumps(plain(value)).count("[") == 100


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(_VALUES)
def test_whatever_it_is_json_can_say_it(value: object) -> None:
    json.dumps(plain(value), allow_nan=False)


def test_no_runner_finds_a_command_in_a_line_of_json() -> None:
    value = {"##[add-mask]": ["###", "##vso[x]", "\\##", "#"]}
    assert "##" not in dumped(value)
    assert json.loads(dumped(value)) == value
