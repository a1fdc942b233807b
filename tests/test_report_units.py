"""Numbers for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor.report.units import count, plural, shape, size


@pytest.mark.parametrize(
    ("nbytes", "told"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (65_536, "65.5 kB"),
        (999_949, "999.9 kB"), (999_950, "1.0 MB"), (525_336_576, "525.3 MB"),
        (999_950_000, "1.00 GB"), (2_471_628_032, "2.47 GB"), (15_009_849_344, "15.01 GB"),
        (1_340_000_000_000, "1.34 TB"), (10**21, "over 1000 EB"),
    ],
)  # fmt: skip
def test_sizes_are_decimal(nbytes: int, told: str) -> None:
    assert size(nbytes) == told


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (9_999, "9999"), (10_000, "10.0 k"), (124_439_808, "124.4 M"), (1_235_814_400, "1.24 B"),
        (671_026_419_200, "671.03 B"),
    ],
)  # fmt: skip
def test_counts_are_short(n: int, told: str) -> None:
    assert count(n) == told


def test_what_cannot_be_printed_in_full_is_told_in_short() -> None:
    assert (size(10**5000), count(10**5000)) == ("over 1000 EB", "over 1000 T")


@given(st.integers(0, 10**18))
def test_a_size_is_never_off_by_more_than_half_its_last_digit(nbytes: int) -> None:
    number, unit = size(nbytes).split()
    power = ["byte", "kB", "MB", "GB", "TB", "PB", "EB"].index(unit.removesuffix("s"))
    digits = len(re.sub(r"[^.]*\.?", "", number, count=1))
    assert abs(float(number) - nbytes / 1000**power) <= 0.5 * 10**-digits + 1e-9
    assert float(number) < 1000


def test_words_and_shapes() -> None:
    assert (plural(1, "file"), plural(0, "file")) == ("1 file", "0 files")
    assert (shape((128256, 2048)), shape((7,)), shape(())) == ("128256 × 2048", "7", "scalar")
