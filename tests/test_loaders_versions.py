"""The order of versions, and ranges of them."""

from __future__ import annotations

import pytest

from tidoctor.loaders.versions import Timeline, number, parse_range

LINE = Timeline(("0.5.1", "0.6.0", "0.9.2-alpha.1", "0.9.2-alpha.2", "0.10.0", "8522917", "main"))
DATES = Timeline(("2026-02-28", "2026-03-01", "2026-04-24"))


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.5.1", 0, 0), ("v0.6.0", 1, 1), ("0.6", 1, 1), ("0.6.0.0", 1, 1), ("0.6.1", 1, 2),
        ("0.9.2", 3, 4), ("0.9.2-alpha.1", 2, 2), ("0.9.2a1", 2, 2), ("main", 6, 6),
        ("MAIN", 6, 6), ("8522917", 5, 5),
    ],
)  # fmt: skip
def test_a_version_has_a_place(text: str, low: int, high: int) -> None:
    place = LINE.place(text)
    assert (place.low, place.high) == (low, high)
    assert place.exact is (low == high)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.5.0", "older"), ("0.11", "newer"), ("mian", "no such"), ("", "no such"),
        ("0.6.0.dev.x", "no such"), ("9" * 500, "no such"), ("3" * 7, "no such"),
        ("99999999", "no such"), ("1.2.3.4.5.6.7.8", "no such"),
    ],
)  # fmt: skip
def test_other_versions_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LINE.place(text)


def test_dates_are_versions() -> None:
    assert DATES.place("2026-03-24").low == 1
    assert number("2026-03-01") == ((2026, 3, 1), 0, 0)
    assert number("main") is None


def test_stages_come_in_order() -> None:
    order = ["1.0a1", "1.0-alpha.2", "1.0b1", "1.0rc1", "1.0", "1.0.post1", "1.0.1"]
    assert sorted(order, key=lambda v: number(v) or ((), 0, 0)) == order


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("*", {0, 1, 2, 3, 4, 5, 6}), ("<0.6.0", {0}), ("<=0.6.0", {0, 1}), ("==main", {6}),
        (">=0.6.0,<0.10.0", {1, 2, 3}), (">8522917", {6}), (">= 0.10.0 , < main", {4, 5}),
    ],
)  # fmt: skip
def test_a_range_holds_known_versions(text: str, inside: set[int]) -> None:
    assert parse_range(text, LINE).places == inside


@pytest.mark.parametrize(
    "text", ["", "0.6.0", "~=0.6.0", ">=0.7.0", ">=nobody", "<0.5.1", ">main", ">=0.6.0,<0.6.0"]
)
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_range(text, LINE)


@pytest.mark.parametrize(
    "known", [(), ("1.0", "1.0"), ("1.1", "1.0"), ("main", "MAIN"), ("1.0", "1.0.0")]
)
def test_a_timeline_is_in_order(known: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Timeline(known)
