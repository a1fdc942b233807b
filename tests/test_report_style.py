"""Colours, and letters that a stream cannot carry."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor.report.style import Style, When, encodable, style_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("when", "environment", "terminal", "colour"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_when_to_colour(
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    environment: dict[str, str],
    terminal: bool,
    colour: bool,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    assert style_for(When(when), stream).colour is colour


def test_a_file_gets_colour_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert not style_for(When.AUTO, None).colour
    assert style_for(When.ALWAYS, None).colour


def test_painting_adds_codes_only_in_colour() -> None:
    assert Style(True).paint("error", "x") == "\x1b[1;31mx\x1b[0m"
    assert Style(False).paint("error", "x") == "x"


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", "2 × 3 → 4…é"), ("ascii", "2 x 3 -> 4...\\xe9"), ("latin-1", "2 × 3 -> 4...é"),
     ("no-such-encoding", "2 x 3 -> 4...\\xe9")],
)  # fmt: skip
def test_signs_have_plain_likenesses(encoding: str, told: str) -> None:
    assert encodable("2 × 3 → 4…é", encoding) == told


@given(st.text(st.characters()), st.sampled_from(["ascii", "utf-8", "cp1252", "shift_jis"]))
def test_everything_can_be_encoded(text: str, encoding: str) -> None:
    encodable(text, encoding).encode(encoding)
