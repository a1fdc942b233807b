"""Values followed from one form of a model to another, held against numpy doing the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidoctor.atlas.loading import load
from tidoctor.atlas.operations import Shape
from tidoctor.atlas.regions import Run, regrouped
from tidoctor.atlas.renames import Rule

MERGE = ("MergeModulelist", {"dim": 0})
GATE_UP = Rule(
    ("experts.*.gate.weight", "experts.*.up.weight"), ("experts.gate_up",),
    (MERGE, ("Concatenate", {"dim": 1})),
)
DOWN = Rule(("experts.*.down.weight",), ("experts.down",), (MERGE,))
CHUNK = Rule(("qkv",), ("q", "k", "v"), (("Chunk", {"dim": 0}),))
JOIN = Rule(("a.x", "a.y"), ("a.xy",), (("Concatenate", {"dim": 1}),))
SPLIT = Rule(("s.all",), ("s.one", "s.two"), (("Split", {"dim": 0}),))
RULES = (GATE_UP, DOWN, CHUNK, JOIN, SPLIT)

Tensors = Mapping[str, np.ndarray]


def shapes(tensors: Tensors) -> dict[str, Shape]:
    return {name: each.shape for name, each in tensors.items()}


def told(files: Tensors, wanted: Tensors, memory: Tensors) -> Mapping[str, tuple[Run, ...]] | None:
    """The ranges, from what the loader gathers for either form."""
    have, want = (load(shapes(each), shapes(memory), RULES).fed for each in (files, wanted))
    assert set(have) == set(want) == set(memory)
    feeds = [(have[name].feed, want[name].feed) for name in memory]
    return regrouped(shapes(files), shapes(wanted), shapes(memory), feeds)  # type: ignore[arg-type]


def built(runs: Mapping[str, tuple[Run, ...]], files: Tensors, wanted: Tensors) -> Tensors:
    return {
        name: np.concatenate([files[r.source].ravel()[r.begin : r.end] for r in each]).reshape(
            wanted[name].shape
        )
        for name, each in runs.items()
    }


def assert_same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def numbers(*shape: int, of: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape) + 1000 * of


def experts(count: int, rows: int, columns: int, layer: int = 0) -> tuple[Tensors, Tensors]:
    """Experts apart and stacked."""
    apart: dict[str, np.ndarray] = {}
    for i in range(count):
        at = f"layers.{layer}.experts.{i}"
        apart[f"{at}.gate.weight"] = numbers(rows, columns, of=i * 3)
        apart[f"{at}.up.weight"] = numbers(rows, columns, of=i * 3 + 1)
        apart[f"{at}.down.weight"] = numbers(columns, rows, of=i * 3 + 2)

    def all_of(part: str) -> np.ndarray:
        return np.stack([apart[f"layers.{layer}.experts.{i}.{part}.weight"] for i in range(count)])

    return apart, {
        f"layers.{layer}.experts.gate_up": np.concatenate([all_of("gate"), all_of("up")], axis=1),
        f"layers.{layer}.experts.down": all_of("down"),
    }


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5))
def test_experts_are_stacked_and_taken_apart(count: int, rows: int, columns: int) -> None:
    apart, stacked = experts(count, rows, columns)
    into = told(apart, stacked, stacked)
    assert into is not None
    assert_same(built(into, apart, stacked), stacked)
    back = told(stacked, apart, stacked)
    assert back is not None
    assert_same(built(back, stacked, apart), apart)
    # Taking apart needs no pass over the values: each expert is one range.
    assert all(len(runs) == 1 for runs in back.values())


def test_experts_are_stacked_by_number_not_in_the_order_of_the_file() -> None:
    apart, stacked = experts(11, 2, 3)
    shuffled = dict(sorted(apart.items()))
    assert list(shuffled)[3].split(".")[3] == "1" and list(shuffled)[6].split(".")[3] == "10"
    runs = told(shuffled, stacked, stacked)
    assert runs is not None
    assert_same(built(runs, shuffled, stacked), stacked)


@given(st.integers(1, 4), st.integers(1, 5))
def test_projections_are_cut_and_joined(rows: int, columns: int) -> None:
    fused = {"qkv": numbers(3 * rows, columns, of=0)}
    parts = dict(zip("qkv", np.split(fused["qkv"], 3), strict=True))
    runs = told(fused, parts, parts)
    assert runs is not None
    assert_same(built(runs, fused, parts), parts)
    back = told(parts, fused, parts)
    assert back == {"qkv": tuple(Run(n, 0, rows * columns) for n in "qkv")}


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_columns_are_joined_row_by_row(rows: int, left: int, right: int) -> None:
    apart = {"a.x": numbers(rows, left, of=0), "a.y": numbers(rows, right, of=1)}
    whole = {"a.xy": np.concatenate([*apart.values()], axis=1)}
    runs = told(apart, whole, whole)
    assert runs is not None and len(runs["a.xy"]) == 2 * rows
    assert_same(built(runs, apart, whole), whole)
    back = told(whole, apart, whole)
    assert back is not None
    assert_same(built(back, whole, apart), apart)


def test_rows_of_unequal_parts() -> None:
    whole = {"s.all": numbers(5, 2, of=0)}
    parts = {"s.one": whole["s.all"][:4], "s.two": whole["s.all"][4:]}
    runs = told(whole, parts, parts)
    assert runs is not None
    assert_same(built(runs, whole, parts), parts)


def test_what_turns_values_round_is_not_followed() -> None:
    turned = Rule(("t.old",), ("t.new",), (("Transpose", {"dim0": 0, "dim1": 1}),))
    fed = {n: load({n: s}, {"t.new": (2, 3)}, (turned,)).fed["t.new"].feed
           for n, s in (("t.old", (3, 2)), ("t.new", (2, 3)))}  # fmt: skip
    pair = (fed["t.old"], fed["t.new"])
    both = {"t.old": (3, 2), "t.new": (2, 3)}
    assert regrouped(both, both, {"t.new": (2, 3)}, [pair]) is None  # type: ignore[list-item]


def test_what_is_used_in_part_only_is_not_told() -> None:
    apart, stacked = experts(2, 2, 3)
    gates = {n: each for n, each in apart.items() if "down" not in n}
    have, want = (load(shapes(each), shapes(stacked), RULES).fed for each in (stacked, apart))
    name = "layers.0.experts.gate_up"
    feeds = [(have[name].feed, want[name].feed)]
    whole = regrouped(shapes(stacked), shapes(apart), shapes(stacked), feeds)  # type: ignore[arg-type]
    assert whole is not None and whole.keys() == gates.keys()
    # A tensor of which only a part is wanted is not to be given up.
    short = {n: s for n, s in shapes(apart).items() if "down" not in n}
    longer = {**shapes(stacked), name: (2, 5, 3)}
    assert regrouped(longer, short, shapes(stacked), feeds) is None  # type: ignore[arg-type]
