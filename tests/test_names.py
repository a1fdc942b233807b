"""The algebra of names."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidoctor import names

COMPONENTS = st.lists(
    st.one_of(st.sampled_from(["model", "layers", "w", "fc1", "01", "x²"]), st.integers(0, 12).map(str)),
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
    collapsed = names.collapse(given_names)
    assert sorted(n for _, members in collapsed for n in members) == sorted(given_names)
    for pattern, members in collapsed:
        assert sorted(expanded(pattern)) == sorted(members)


def test_a_hole_shows_itself() -> None:
    rows = [f"model.layers.{i}.w" for i in range(32) if i != 17]
    assert names.collapse(rows)[0][0] == "model.layers.{0..16,18..31}.w"
    ragged = ["e.0.x.0.w", "e.0.x.1.w", "e.1.x.0.w"]
    assert [p for p, _ in names.collapse(ragged)] == ["e.0.x.{0..1}.w", "e.1.x.0.w"]


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


@pytest.mark.parametrize(
    ("listed", "bare", "wrappers"),
    [
        (["module.a", "module.b"], ["a", "b"], ("module.",)),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"], ("module.", "_orig_mod.")),
        (["_orig_mod.module.a"], ["a"], ("_orig_mod.", "module.")),
        (["module.a", "b", "c"], ["module.a", "b", "c"], ()),
        (["base_model.model.model.a"], ["model.a"], ("base_model.model.",)),
        ([], [], ()),
        (["a\nmodule.\nmodule.", "b"], ["a\nmodule.\nmodule.", "b"], ()),
    ],
)
def test_wrappers_are_peeled_until_none_is_left(
    listed: list[str], bare: list[str], wrappers: tuple[str, ...]
) -> None:
    found, prefixes = names.peel(listed)
    assert list(found.values()) == bare
    assert prefixes == wrappers


@pytest.mark.parametrize(
    ("name", "merged"),
    [
        ("a.q.base_layer.weight", "a.q.weight"), ("a.q.lora_A.default.weight", None),
        ("lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("lm_head.original_module.weight", None), ("a.kv_a_proj_with_mqa.weight", "a.kv_a_proj_with_mqa.weight"),
        ("blocks.0.attn.w_lora.lora.0.weight", "blocks.0.attn.w_lora.lora.0.weight"),
        ("e.lora_embedding_A.default", None),
    ],
)  # fmt: skip
def test_adapters_are_told_by_whole_components(name: str, merged: str | None) -> None:
    assert names.without_adapter(name) == merged


def test_roots_of_layers() -> None:
    found = names.roots(["model.layers.0.a", "model.layers.1.a", "layers.0.a", "norm", "conv2d.w"])
    assert found.counts == {"model.layers": 2, "layers": 1}
    assert found.main == "model.layers"


def test_braces_in_names_are_no_numbers() -> None:
    rows = ["a.{}.1.w", "a.{}.2.w", "{}", "{0}.5", "\0.3"]
    assert sorted(n for _, members in names.collapse(rows) for n in members) == sorted(rows)
