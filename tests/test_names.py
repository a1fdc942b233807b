"""Names as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor import names


def test_order_is_natural() -> None:
    assert sorted(["l.10", "l.9", "l.a", "a"], key=names.natural_key) == ["a", "l.9", "l.10", "l.a"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"), ("a\nb", "a\\nb"), ("\u202egnp", "\\u202egnp"),
        ("a\u200bb", "a\\u200bb"), ("\ud800", "\\ud800"), ("naïve.重み", "naïve.重み"),
        ("::error::x", "\\x3a:error::x"), (" \n::stop-commands::x", " \\n\\x3a:stop-commands::x"),
        ("a::b", "a::b"), ("# #[x]##", "# #[x]##"), ("x###[add-mask]y", "x##\\x23[add-mask]y"),
        ("##vso[task.setvariable variable=x]y", "#\\x23vso[task.setvariable variable=x]y"),
        ("\x9b1m", "\\x9b1m"), ("\U000e0041", "\\U000e0041"),
    ],
)  # fmt: skip
def test_dangerous_characters_are_shown_as_escapes(raw: str, shown: str) -> None:
    assert names.printable(raw) == shown


@given(st.text())
def test_printable_text_stays_printable(text: str) -> None:
    once = names.printable(text)
    assert names.printable(once) == once
    once.encode("utf-8")
