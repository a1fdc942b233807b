"""What training puts around names."""

from __future__ import annotations

import pytest

from tidoctor import wrappers
from tidoctor.patterns import Kinds


@pytest.mark.parametrize(
    ("listed", "bare", "prefixes"),
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
    listed: list[str], bare: list[str], prefixes: tuple[str, ...]
) -> None:
    rest, claimed = wrappers.peel(Kinds(listed))
    found = {name: rest.get(name, name) for name in listed}
    assert list(found.values()) == bare
    assert claimed == prefixes


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
    assert wrappers.without_adapter(name) == merged
