"""Rows made of ranges of others: whose bytes they are, and that they are written so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, write
from hypothesis import given, settings
from hypothesis import strategies as st

import tidoctor
from tidoctor import writer
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused
from tidoctor.form import Form
from tidoctor.opening import open_checkpoint
from tidoctor.pieced import Pieced, joined
from tidoctor.plan import Plan
from tidoctor.tensors import Span

Q, K = (f"model.layers.0.self_attn.{n}_proj.weight" for n in "qk")


def gather(name: str, shape: list[int], *ranges: tuple[str, int, int]) -> dict[str, Any]:
    parts = [{"tensor": t, "begin": b, "end": e} for t, b, e in ranges]
    return {"op": "gather", "tensor": name, "shape": shape, "from": parts}


def drop(*names: str) -> list[dict[str, Any]]:
    return [{"op": "drop", "tensor": n} for n in names]


def content(checkpoint: Checkpoint, name: str) -> bytes:
    tensor = checkpoint.tensors[name]
    return checkpoint.read(tensor, 0, tensor.nbytes)


SHARDS = st.integers(1, 5)
CUTS = st.lists(st.integers(0, 24), max_size=6).map(lambda cuts: [0, *sorted(cuts), 24])


@settings(max_examples=15, deadline=None)
@given(SHARDS, CUTS)
def test_cut_and_put_together_again(shards: int, cuts: list[int]) -> None:
    """24 rows of q in ranges of rows, and those joined to what it was."""
    table = {**llama(), Q: [24, 4]}
    before = open_checkpoint(Memory(build(table, LLAMA, shards=shards)))
    width = before.tensors[Q].nbytes // 24
    ranges = list(pairwise(cuts))
    apart = Plan((
        [gather(f"part.{i}", [b - a, 4], (Q, a * width, b * width)) for i, (a, b) in enumerate(ranges)]
        + drop(Q),
    )).apply(before)  # fmt: skip
    assert Q not in apart.tensors
    for i, (a, b) in enumerate(ranges):
        assert content(apart, f"part.{i}") == content(before, Q)[a * width : b * width]
    names = [f"part.{i}" for i in range(len(ranges))]
    whole = [(n, 0, apart.tensors[n].nbytes) for n in names]
    again = Plan(([gather(Q, [24, 4], *whole), *drop(*names)],)).apply(apart)
    assert again.tensors.keys() == before.tensors.keys()
    assert again.tensors[Q].span == before.tensors[Q].span


def test_a_row_of_several_files_is_written_and_proved(tmp_path: Path) -> None:
    source = write(tmp_path / "in", llama(), LLAMA, shards=6)
    before = tidoctor.open(source)
    assert before.tensors[Q].file != before.tensors["model.layers.1.self_attn.q_proj.weight"].file
    other = "model.layers.1.self_attn.q_proj.weight"
    sizes = [before.tensors[n].nbytes for n in (other, Q)]
    plan = Plan(([gather("both", [2, 16, 16], (other, 0, sizes[0]), (Q, 0, sizes[1])), *drop(other, Q)],))
    planned = plan.apply(before)
    for link in ("auto", "never", "hard"):
        receipt = writer.write(planned, tmp_path / link, Form(link=link))  # type: ignore[arg-type]
        after = tidoctor.open(tmp_path / link)
        assert content(after, "both") == content(before, other) + content(before, Q)
        assert after.tensors["both"].shape == (2, 16, 16)
        assert receipt.verified == len(after.tensors) == len(before.tensors) - 1
        assert sum((tmp_path / link / n).stat().st_size for n in receipt.files) == receipt.cost.total


def test_numbers_of_such_a_row_are_converted(tmp_path: Path) -> None:
    before = tidoctor.open(write(tmp_path / "in", llama(), LLAMA, shards=3))
    sizes = {n: before.tensors[n].nbytes for n in (Q, K)}
    made = gather("qk", [24, 16], *((n, 0, sizes[n]) for n in (Q, K)))
    steps = ([made, *drop(Q, K)], [{"op": "cast", "tensor": "qk", "dtype": "F32"}])
    planned = Plan(steps).apply(before)
    writer.write(planned, tmp_path / "out")
    after = tidoctor.open(tmp_path / "out")
    wide = content(after, "qk")
    # A bfloat16 is the upper half of a float32.
    assert b"".join(wide[i + 2 : i + 4] for i in range(0, len(wide), 4)) == b"".join(
        content(before, n) for n in (Q, K)
    )


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (gather("new", [16, 16]), "is made of"),
        (gather("new", [16, 16], (Q, 0, 511)), "bytes of its shape"),
        (gather("new", [16, 16], (Q, -512, 0)), "no such bytes"),
        (gather("new", [16, 16], (Q, 0, 513)), "no such bytes"),
        (gather("new", [16, 16], ("nothing", 0, 512)), "there is no tensor"),
        (gather(K, [16, 16], (Q, 0, 512)), "is there already"),
        ({**gather("new", [16, 16], (Q, 0, 512)), "shape": 3}, "is made of"),
        (gather("new", [17, 16], (Q, 0, 512), ("wide", 0, 32)), "several dtypes"),
    ],
)
def test_what_does_not_fit_is_refused(operation: dict[str, Any], said: str) -> None:
    table = {**llama(), "wide": ("F32", [8])}
    before = open_checkpoint(Memory(build(table, LLAMA)))
    with pytest.raises(Refused, match=said):
        Plan(([operation],)).apply(before)


def test_the_same_name_is_not_made_twice() -> None:
    before = open_checkpoint(Memory(build(llama(), LLAMA)))
    with pytest.raises(Refused, match="is there already"):
        Plan(([gather("new", [16, 16], (Q, 0, 512))] * 2,)).apply(before)


def test_the_manifest_says_where_each_part_came_from(tmp_path: Path) -> None:
    from tidoctor import manifest

    before = tidoctor.open(write(tmp_path / "in", llama(), LLAMA, shards=6))
    other = "model.layers.1.self_attn.q_proj.weight"
    made = gather("both", [32, 16], (Q, 0, 512), (other, 0, 512))
    planned = Plan(([made, *drop(Q, other)],)).apply(before)
    writer.write(planned, tmp_path / "out")
    told = json.loads(manifest.described(planned, tidoctor.open(tmp_path / "out")))
    (row,) = [r for r in told["tensors"] if r["name"] == "both"]
    assert [(o["file"], o["end"] - o["begin"]) for o in row["origin"]] == [
        (before.tensors[n].file, 512) for n in (Q, other)
    ]


def test_pieces_of_pieces_are_pieces_of_files() -> None:
    source = Memory({"x": bytes(range(100)), "y": bytes(range(100, 200))})
    inner = Pieced([Span(source, "x", 10, 20), Span(source, "y", 0, 10), Span(source, "y", 10, 20)])
    assert inner.spans == (Span(source, "x", 10, 20), Span(source, "y", 0, 20))
    outer = Pieced([inner.span._replace(begin=5, end=15), Span(source, "x", 0, 0)])
    assert outer.spans == (Span(source, "x", 15, 20), Span(source, "y", 0, 5))
    assert outer.read("pieces", 0, 99) == bytes([*range(15, 20), *range(100, 105)])
    assert joined((outer.span,)) == outer.spans
    assert Pieced([Span(source, "x", 1, 2)]).span == Span(source, "x", 1, 2)
    assert Pieced([]).span.end == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8), st.integers(0, 300), st.integers(0, 300))
def test_reading_is_as_of_one_file(cuts: list[tuple[int, int]], begin: int, end: int) -> None:
    data = bytes(range(80))
    source = Memory({"x": data})
    spans = [Span(source, "x", a, a + n) for a, n in cuts]
    whole = b"".join(data[a : a + n] for a, n in cuts)
    pieced = Pieced(spans)
    assert pieced.read("pieces", begin, end) == whole[begin:end]
    assert pieced.size("pieces") == len(whole) and pieced.size("x") is None
