"""From templates to tensors: indices, conditions, parts, ties and limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.atlas_samples import TRUE, made_up
from tidoctor.atlas import data
from tidoctor.atlas.configs import resolve
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.layout import Expansion, matching

FIELDS = {
    "n": "3", "m": "2", "size": "8", "first": "1", "flag": "False", "experts": "[1, 0, 2]",
    "none": "None", "mode": "'a'", "half": "0.5",
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "x": {
        "fields": FIELDS,
        "parts": {
            "sub": {"type": "x", "open": True},
            "no": {"type": "x", "none": True},
        },
    },
    "llama": {"fields": {"hidden_size": "16"}},
}


def layout(tensors: Mapping[str, Any], **counts: str) -> dict[str, Any]:
    return {"counts": counts, "tensors": tensors}


def expanded(
    folder: Path, facts: Mapping[str, Any], kind: str = "memory", **values: object
) -> dict[str, tuple[int, ...]]:
    """The tensors of a class A; B is a part, Bare a class without a disk layout of its own."""
    part = {
        "config": "x",
        "memory": {"tensors": {"w": ["size"], "alias": ["size"], "gone": ["1"]}},
        "ties": [["alias", "w", True]],
        "unsaved": ["gone"],
    }
    classes = {
        "A": {"config": "x", **facts},
        "B": part,
        "Renamed": {**part, "disk": {"tensors": {"v": ["size"], "alias": ["size"]}}},
        "Loop": {"config": "x", "memory": {"tensors": {}, "parts": [at("a.", "Loop")]}},
        "LlamaModel": {"config": "llama", "memory": {"tensors": {"embed": ["hidden_size"]}}},
    }
    source = made_up(folder, classes, CONFIGS)
    with data.using(source):
        config = resolve({"model_type": "x", **values})
        expansion = Expansion(source)
        of = expansion.class_("A")
        return expansion.memory(of, config) if kind == "memory" else expansion.disk(of, config)


def at(place: str, name: str = "B", config: str = "", **more: object) -> dict[str, object]:
    return {"at": place, "class": name, "config": config, **more}


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "values", "expected"),
    [
        (layout({"w": ["size", "2 * size"], "scale": []}), {}, {"w": (8, 16), "scale": ()}),
        (
            layout({"l.{i}.w": ["size"]}, **{"l.{i}": "n"}),
            {"n": 2},
            {"l.0.w": (8,), "l.1.w": (8,)},
        ),
        (layout({"l.{i}.w": ["size"]}, **{"l.{i}": "n"}), {"n": 0}, {}),
        (  # what no tensor needs is not evaluated
            layout(
                {"l.{i}.w": {"shape": ["none * 2"], "if": "i > 5"}, "m.{i}": ["unknown"]},
                **{"l.{i}": "n", "m.{i}": "0"},
            ),
            {},
            {},
        ),
        (  # a name whose number of dimensions depends on the config
            layout(
                {"w": [{"shape": ["1"], "if": "flag"}, {"shape": ["1", "2"], "if": "not flag"}]}
            ),
            {},
            {"w": (1, 2)},
        ),
        (layout({"l.{i}.w": ["size"]}, **{"l.{i}": "n - 9"}), {}, {}),
        (
            layout({"l.{i}.w": ["size * (i + 1)"]}, **{"l.{i}": "n"}),
            {"n": 2},
            {"l.0.w": (8,), "l.1.w": (16,)},
        ),
        (
            layout({"l.{i}.w": {"shape": ["size"], "if": "i >= first"}}, **{"l.{i}": "n"}),
            {},
            {"l.1.w": (8,), "l.2.w": (8,)},
        ),
        (
            layout({"l.{i}.w": {"shape": ["unknown"], "if": "flag"}}, **{"l.{i}": "n"}),
            {},
            {},
        ),
        (
            layout({"l.{i}.e.{j}": ["j"]}, **{"l.{i}": "n", "l.{i}.e.{j}": "experts[i]"}),
            {},
            {"l.0.e.0": (0,), "l.2.e.0": (0,), "l.2.e.1": (1,)},
        ),
        (
            layout(
                {"l.{i}.e.{j}.w": {"shape": ["i + 1"], "if": "j == 1 and i != first"}},
                **{"l.{i}": "n", "l.{i}.e.{j}": "m"},
            ),
            {},
            {"l.0.e.1.w": (1,), "l.2.e.1.w": (3,)},
        ),
        (
            layout(
                {"a{i}_b{j}.{k}.{l}": ["i", "j", "k", "l"]},
                **{"a{i}": "2", "a{i}_b{j}": "i", "a{i}_b{j}.{k}": "2", "a{i}_b{j}.{k}.{l}": "k"},
            ),
            {},
            {"a1_b0.1.0": (1, 0, 1, 0)},
        ),
    ],
)
def test_templates(
    tmp_path: Path,
    facts: dict[str, Any],
    values: dict[str, object],
    expected: dict[str, tuple[int, ...]],
) -> None:
    assert expanded(tmp_path, {"memory": facts}, **values) == expected


@pytest.mark.parametrize(
    ("facts", "values", "reason"),
    [
        (layout({"w": ["size"]}), {"size": -1}, "`size` is -1, which no size can be"),
        (layout({"w": ["half * size"]}), {}, "no whole number"),
        (layout({"w": ["flag"]}), {}, "no whole number"),
        (layout({"w": ["size"]}), {"size": 2**63}, "no size"),
        (layout({"w": ["unknown"]}), {}, "unknown"),
        (layout({"l.{i}.w": ["1"]}, **{"l.{i}": "none"}), {}, "no whole number"),
        (layout({"l.{i}.w": ["1"]}, **{"l.{i}": "n"}), {"n": 10**9}, "more than 20000"),
        (
            layout({"l.{i}.e.{j}.w": ["1"]}, **{"l.{i}": "n", "l.{i}.e.{j}": "n"}),
            {"n": 5000},
            "more than 400000 tensors",
        ),
        (
            layout({"l.{i}.e.{j}.w": ["j"]}, **{"l.{i}": "n", "l.{i}.e.{j}": "n"}),
            {"n": 5000},
            "more than 400000 tensors",
        ),
        (
            layout(
                {"l.{i}.e.{j}.w": {"shape": ["1"], "if": "j < 0"}},
                **{"l.{i}": "n", "l.{i}.e.{j}": "n"},
            ),
            {"n": 20000},
            "too many steps",
        ),
        (
            layout(
                {"l.{i}.w": {"shape": ["1"], "if": "len([e for e in experts[:i] if e > 5]) > 9"}},
                **{"l.{i}": "len(experts)"},
            ),
            {"experts": list(range(20000))},
            "too many steps",
        ),
    ],
)
def test_limits(
    tmp_path: Path, facts: dict[str, Any], values: dict[str, object], reason: str
) -> None:
    with pytest.raises(NotCovered, match=reason):
        expanded(tmp_path, {"memory": facts}, **values)


def test_a_container_without_a_count_is_a_defect_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no count"):
        expanded(tmp_path, {"memory": layout({"l.{i}.w": ["1"]})})


# --- pinned --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pinned", "values", "reason"),
    [
        ({"n": [3, 4]}, {}, ""),
        ({"n": [1, 2]}, {}, "`n` is 3; what is known of A holds for 1, 2"),
        ({"flag": [0]}, {}, "`flag` is false; .* holds for 0"),
        ({"flag": [False]}, {}, ""),
        ({"mode": ["b"]}, {"mode": "c"}, '`mode` is "c"'),
        ({"experts": [[1, 0, 2]]}, {}, ""),
        ({"experts": [[1]]}, {}, r"`experts` is \[1, 0, 2\]; .* holds for \[1\]"),
        ({"experts": [[1]]}, {"experts": [[1], 0]}, "`experts` is a list"),
        ({"sub.n": [3]}, {}, ""),
        ({"sub.n": [3]}, {"sub": {"n": 4}}, "`sub.n` is 4"),
        ({"sub.model_type": ["x"]}, {"sub": {"model_type": "llama"}}, "`sub.model_type`"),
        ({"no.n": [None]}, {}, ""),
        ({"no.n": [3]}, {}, "`no.n` is null"),
    ],
)
def test_facts_hold_for_pinned_values_only(
    tmp_path: Path, pinned: dict[str, Any], values: dict[str, object], reason: str
) -> None:
    facts = {"memory": layout({"w": ["1"]}), "pinned": pinned}
    if not reason:
        assert expanded(tmp_path, facts, **values) == {"w": (1,)}
        return
    with pytest.raises(NotCovered, match=reason):
        expanded(tmp_path, facts, **values)


def test_pins_of_one_form_and_largest_and_least_values(tmp_path: Path) -> None:
    facts = {"memory": layout({"w": ["1"]}), "disk": layout({"w": ["1"]}) | {"pinned": {"n": [3]}}}
    assert expanded(tmp_path, facts, n=4) == {"w": (1,)}
    assert expanded(tmp_path, facts, "disk") == {"w": (1,)}
    with pytest.raises(NotCovered, match="`n` is 4"):
        expanded(tmp_path, facts, "disk", n=4)
    facts = {"memory": layout({"w": ["1"]}), "most": {"n": 3}}
    assert expanded(tmp_path, facts, n=2) == {"w": (1,)}
    for value in (4, 2.0):
        with pytest.raises(NotCovered, match="holds up to 3"):
            expanded(tmp_path, facts, n=value)
    facts = {"memory": layout({"w": ["1"]}), "least": {"n": 1}}
    assert expanded(tmp_path, facts, n=1) == expanded(tmp_path, facts, n=None) == {"w": (1,)}
    with pytest.raises(NotCovered, match="holds from 1 on"):
        expanded(tmp_path, facts, n=0)
    facts = {"memory": layout({"w": ["experts[0]"]}), "lengths": {"experts": 2}}
    assert expanded(tmp_path, facts, experts=[3, 4]) == {"w": (3,)}
    for several in ([3], [3, 4, 5]):
        with pytest.raises(NotCovered, match=f"`experts` has {len(several)} items"):
            expanded(tmp_path, facts, experts=several)
    facts = {"memory": layout({"w": ["1"]}), "words": {"experts": ["wide", "narrow"]}}
    for fine in (["wide", "narrow"], ["narrow"], []):
        assert expanded(tmp_path, facts, experts=fine) == {"w": (1,)}
    for strange in (["wide", "tall"], ["wide", None], [["wide"]]):
        with pytest.raises(NotCovered, match=r"a member of `experts` is .* holds for wide, narrow"):
            expanded(tmp_path, facts, experts=strange)


# --- parts ---------------------------------------------------------------------------------------


def parts(*rows: Mapping[str, object], **counts: str) -> dict[str, Any]:
    return {"counts": counts, "tensors": {"own": ["1"]}, "parts": list(rows)}


@pytest.mark.parametrize(
    ("facts", "values", "kind", "expected"),
    [
        (
            {"memory": parts(at("a.b."))},
            {},
            "memory",
            {"own": (1,), "a.b.w": (8,), "a.b.alias": (8,), "a.b.gone": (1,)},
        ),
        (
            {"memory": parts(at("a.", config="sub", without=["gone"]))},
            {"sub": {"size": 5}},
            "memory",
            {"own": (1,), "a.w": (5,), "a.alias": (5,)},
        ),
        ({"memory": parts(at("a.", **{"if": "flag"}))}, {}, "memory", {"own": (1,)}),
        ({"memory": parts(at("a.", config="no", **{"if": "no is not None"}))}, {}, "memory",
         {"own": (1,)}),
        (
            {"memory": parts(at("a.{i}.", without=["alias", "gone"]), **{"a.{i}": "m"})},
            {},
            "memory",
            {"own": (1,), "a.0.w": (8,), "a.1.w": (8,)},
        ),
        # A part's ties and unsaved names are the outer class's business where it has no disk form,
        ({"memory": parts(at("a."))}, {}, "disk",
         {"own": (1,), "a.w": (8,), "a.alias": (8,), "a.gone": (1,)}),
        # and its own where it has: then the part stands there as it is saved by itself.
        ({"memory": parts(at("a.")), "disk": parts(at("b."))}, {}, "disk",
         {"own": (1,), "b.w": (8,)}),
        ({"memory": parts(at("a.", "Renamed")), "disk": parts(at("b.", "Renamed"))}, {}, "disk",
         {"own": (1,), "b.v": (8,)}),
        # Which class it is may follow from the sub-config.
        (
            {"memory": parts({"at": "a.", "auto": "base", "config": "sub"})},
            {"sub": {"model_type": "llama"}},
            "memory",
            {"own": (1,), "a.embed": (16,)},
        ),
    ],
)  # fmt: skip
def test_parts(
    tmp_path: Path,
    facts: dict[str, Any],
    values: dict[str, object],
    kind: str,
    expected: dict[str, tuple[int, ...]],
) -> None:
    assert expanded(tmp_path, facts, kind, **values) == expected


@pytest.mark.parametrize(
    ("row", "values", "reason"),
    [
        (at("a.", "Loop"), {}, "without end"),
        (at("a.", "Unknown"), {}, "Unknown"),
        (at("a.", config="no"), {}, "`no` is null"),
        (at("a.", config="sub"), {"sub": {"model_type": "llama"}}, "never built from a llama"),
        ({"at": "a.", "auto": "ctc", "config": "sub"}, {"sub": {"model_type": "llama"}},
         "no class serves llama as ctc"),
        ({"at": "a.{i}.", "class": "B", "config": ""}, {"n": 19_999}, ""),
    ],
)  # fmt: skip
def test_parts_that_are_not_covered(
    tmp_path: Path, row: dict[str, object], values: dict[str, object], reason: str
) -> None:
    facts = {"memory": parts(row, **{"a.{i}": "n"})}
    if not reason:
        assert len(expanded(tmp_path, facts, **values)) == 3 * 19_999 + 1
        return
    with pytest.raises(NotCovered, match=reason):
        expanded(tmp_path, facts, **values)


# --- ties ----------------------------------------------------------------------------------------


def test_ties_leave_out_what_shares_its_bytes(tmp_path: Path) -> None:
    facts = {
        "memory": layout(
            {"e": ["1"], "h.{i}.w": ["1"], "h.{i}.b": ["1"], "x": ["1"]}, **{"h.{i}": "n"}
        ),
        "ties": [
            ["h.{i}.w", "e", "i > 0"],
            ["h.{i}.b", "h.{i}.w", True],
            ["x", "h.1.b", "mode == 'a'"],
        ],
        "unsaved": ["nowhere", "h.{i}.q"],
    }
    assert sorted(expanded(tmp_path, facts, "disk")) == ["e", "h.0.w"]
    assert sorted(expanded(tmp_path, facts, "disk", mode="b")) == ["e", "h.0.w", "x"]
    source = made_up(tmp_path, {"A": {"config": "x", **facts}}, CONFIGS)
    with data.using(source):
        expansion = Expansion(source)
        of, config = expansion.class_("A"), resolve({"model_type": "x", "n": 2})
        found = expansion.ties(of, config, expansion.memory(of, config))
    assert found == {"h.1.w": "e", "h.0.b": "h.0.w", "h.1.b": "e", "x": "e"}


@pytest.mark.parametrize("body", [False, True])
def test_a_part_that_the_file_chose_brings_its_ties(tmp_path: Path, body: bool) -> None:
    chosen = parts({"at": "a.", "auto": "base", "config": "sub"})
    classes = {
        "A": {"config": "x", "memory": parts(at("m.", "Body")) if body else chosen},
        "Body": {"config": "x", "memory": chosen},
        "LlamaModel": {
            "config": "llama",
            "memory": {"tensors": {"embed": ["hidden_size"], "head": ["hidden_size"]}},
            "ties": [["head", "embed", True]],
        },
    }
    source = made_up(tmp_path, classes, CONFIGS)
    with data.using(source):
        config = resolve({"model_type": "x", "sub": {"model_type": "llama"}})
        expansion = Expansion(source)
        of = expansion.class_("A")
        memory, disk = expansion.memory(of, config), expansion.disk(of, config)
        place = "m.a." if body else "a."
        assert expansion.ties(of, config, memory) == {f"{place}head": f"{place}embed"}
    assert memory.keys() - disk.keys() == {f"{place}head"}


def test_names_of_templates() -> None:
    names = ["a.0.b.0", "a.1.b.2", "a.b", "a.x.b.1", "a.1.b.1.c"]
    assert matching(["a.b", "none"], names) == ["a.b"]
    assert matching(["a.{i}.b.{j}"], names) == ["a.0.b.0", "a.1.b.2"]
    assert matching(["a.{i}.b.{i}"], names) == ["a.0.b.0"]


# --- speed ---------------------------------------------------------------------------------------


def test_many_experts_take_little_time() -> None:
    with data.using(TRUE):
        config = resolve({"model_type": "deepseek_v3", "n_routed_experts": 512})
        start = time.perf_counter()
        expansion = Expansion(TRUE)
        tensors = expansion.disk(expansion.class_("DeepseekV3ForCausalLM"), config)
        assert len(tensors) == 89_939
        assert time.perf_counter() - start < 2  # about 0.05 s on an idle machine
    assert tensors["model.layers.60.mlp.experts.511.down_proj.weight"] == (7168, 2048)
    assert "model.layers.2.mlp.experts.0.down_proj.weight" not in tensors
