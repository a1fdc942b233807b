"""Names that differ only in their numbers."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor import patterns
from tidoctor.patterns import Kinds, template

COMPONENTS = st.lists(
    st.one_of(
        st.sampled_from(["model", "layers", "w", "w1", "w2", "1w", "fc1", "01", "x²"]),
        st.integers(0, 12).map(str),
    ),
    min_size=1, max_size=5,
).map(".".join)  # fmt: skip


def expanded(pattern: str) -> list[str]:
    """Every name that a pattern stands for, by its definition."""
    parts = []
    for piece in pattern.replace("{", "\0{").replace("}", "}\0").split("\0"):
        if piece.startswith("{"):
            numbers: list[str] = []
            for run in piece.strip("{}").split(","):
                first, _, last = run.partition("..")
                numbers += map(str, range(int(first), int(last or first) + 1))
            parts.append(numbers)
        else:
            parts.append([piece])
    return ["".join(p) for p in itertools.product(*parts)]


@given(st.sets(COMPONENTS, max_size=40))
def test_patterns_stand_for_exactly_their_names(given_names: set[str]) -> None:
    collapsed = patterns.collapse(given_names)
    assert sorted(n for _, members in collapsed for n in members) == sorted(given_names)
    for pattern, members in collapsed:
        assert sorted(expanded(pattern)) == sorted(members)


def test_a_hole_shows_itself() -> None:
    rows = [f"model.layers.{i}.w" for i in range(32) if i != 17]
    assert patterns.collapse(rows)[0][0] == "model.layers.{0..16,18..31}.w"
    ragged = ["e.0.x.0.w", "e.0.x.1.w", "e.1.x.0.w"]
    assert [p for p, _ in patterns.collapse(ragged)] == ["e.0.x.{0..1}.w", "e.1.x.0.w"]


def test_names_of_very_many_parts_stand_for_themselves() -> None:
    words, numbers = "a1" * 20_000, "0." * 20_000
    rows = [f"{words}.{i}.w" for i in range(2)] + [f"{numbers}{i}" for i in range(2)]
    assert [p for p, _ in patterns.collapse(rows)] == [*rows[2:], f"{words}.{{0..1}}.w"]


def test_roots_of_layers() -> None:
    found = patterns.roots(["model.layers.0.a", "model.layers.1.a", "layers.0.a", "norm", "conv2d.w"])
    assert found.counts == {"model.layers": 2, "layers": 1}
    assert found.main == "model.layers"


def test_braces_in_names_are_no_numbers() -> None:
    rows = ["a.{}.1.w", "a.{}.2.w", "{}", "{0}.5", "\0.3"]
    assert sorted(n for _, members in patterns.collapse(rows) for n in members) == sorted(rows)


@given(st.lists(COMPONENTS, max_size=40))
def test_patterns_go_by_the_templates_of_names(listed: list[str]) -> None:
    for _, members in patterns.collapse(listed):
        assert len({template(name)[0] for name in members}) == 1


# Tests that go by whole components with any number, as those of rules do.
TESTS = [r".*w1", r".*\.w[12](?:\..*)?", r".*layers\.\d+\.w", r".*fc1.*", r"(?:.*\.)?w", r".*\.\d{1,6}", r"model\..*", r"\d+\..*"]


@given(
    st.lists(st.one_of(COMPONENTS, st.text(alphabet="a.0\n19²", max_size=6)), unique=True, max_size=40),
    st.sampled_from(TESTS),
)  # fmt: skip
def test_kinds_are_asked_about_once_for_all(listed: list[str], test: str) -> None:
    find = re.compile(test).fullmatch
    kinds = Kinds(listed)
    assert kinds.where(find) == [name for name in listed if find(name)]
    assert kinds.first(find) == next(filter(find, listed), None)
    assert sorted(name for kind in kinds for name in kind) == sorted(listed)


def test_modules_with_numbers_in_their_names_are_of_several_kinds() -> None:
    listed = ["l.0.w1", "l.0.w2", "l.10.w1", "l.7.fc1.0", "l.1234567890.w1"]
    assert [*Kinds(listed)] == [
        ["l.0.w1", "l.10.w1"], ["l.0.w2"], ["l.7.fc1.0"], ["l.1234567890.w1"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "part", "numbers"),
    [
        (r"l\.(\d{1,6})\..*", 1, {0, 10, 7}), (r"(l\.\d+\.e\.)(\d{1,6})\.w", 2, {2, 7, 11}),
        (r"(x)\.(\d{1,6})", 2, set()),
    ],
)  # fmt: skip
def test_numbers_of_all_names_that_a_pattern_finds(
    pattern: str, part: int, numbers: set[int]
) -> None:
    kinds = Kinds(["l.0.e.2.w", "l.10.e.7.w", "l.7.norm", "l.10.e.11.w", "y.1", "l.10.e.1234567890.w"])
    assert kinds.numbers(re.compile(pattern).fullmatch, part) == numbers
    assert kinds.numbers(re.compile(pattern).fullmatch, part) == numbers  # the second time kept
