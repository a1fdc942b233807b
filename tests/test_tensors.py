"""Rows that are made when they are asked for say what rows say that are all there."""

from __future__ import annotations

import json

import pytest
from checkpoints import LLAMA, Memory, build, llama
from hypothesis import given
from hypothesis import strategies as st

from tidoctor import tensors
from tidoctor.header import Header, parse, serialise
from tidoctor.opening import open_checkpoint
from tidoctor.tensors import Table

FORM = st.tuples(
    st.sampled_from(["BF16", "F32", "I8"]), st.lists(st.integers(0, 3), max_size=2).map(tuple)
)
FILES = st.lists(st.dictionaries(st.text("ab.01é", min_size=1, max_size=4), FORM, max_size=6), max_size=3)
WIDTHS = {"BF16": 2, "F32": 4, "I8": 1}


def header(table: dict[str, tuple[str, tuple[int, ...]]]) -> Header:
    rows = [(n, d, s, WIDTHS[d] * tensors.elements(s)) for n, (d, s) in table.items()]
    head, entries = serialise(rows, {})
    content = head + bytes(entries[-1].end if entries else 0)
    return parse(lambda begin, end: content[begin:end], len(content))


@given(FILES)
def test_what_columns_say_of_all_rows_is_what_the_rows_say(files: list[dict[str, tuple[str, tuple[int, ...]]]]) -> None:
    taken: set[str] = set()
    headers = {}
    for i, table in enumerate(files):
        headers[f"{i}.safetensors"] = header({n: f for n, f in table.items() if n not in taken})
        taken |= table.keys()
    source = Memory({})
    lazy, whole = Table(source, headers), dict(Table(source, headers).items())
    for about in (tensors.homes, tensors.shapes, tensors.forms, tensors.size, tensors.parameters):
        assert about(lazy) == about(whole)  # type: ignore[operator]
    assert {n: [*g] for n, g in tensors.forms(lazy).items()} == {n: [*g] for n, g in tensors.forms(whole).items()}
    assert dict(tensors.formed(lazy)) == dict(tensors.formed(whole))
    assert [*lazy] == [*whole] and len(lazy) == len(whole) and lazy.keys() == whole.keys()
    assert {name: lazy[name] for name in lazy} == whole == dict(lazy) and [*lazy.values()] == [*whole.values()]
    assert "no such name" not in lazy and all(name in lazy for name in whole)
    with pytest.raises(KeyError):
        lazy["no such name"]
    shapes = tensors.shapes(whole)
    for rows in (lazy, whole):
        assert tensors.are_shaped(rows, shapes)
        assert not tensors.are_shaped(rows, shapes | {"no such name": ()})
        for name, shape in shapes.items():
            assert not tensors.are_shaped(rows, shapes | {name: (*shape, 1)})
            assert not tensors.are_shaped(rows, {n: s for n, s in shapes.items() if n != name})


def test_the_names_of_an_index_that_is_right_are_in_memory_once() -> None:
    files = build(llama(), LLAMA, shards=2)
    checkpoint = open_checkpoint(Memory(files))
    assert checkpoint.index is not None and isinstance(checkpoint.tensors, Table)
    assert checkpoint.index.weight_map is checkpoint.tensors.homes
    written = json.loads(files["model.safetensors.index.json"])
    assert checkpoint.index.document.data == written
    first, last = min(written["weight_map"].values()), max(written["weight_map"].values())
    written["weight_map"][next(n for n, f in written["weight_map"].items() if f == first)] = last
    wrong = open_checkpoint(Memory({**files, "model.safetensors.index.json": json.dumps(written).encode()}))
    assert wrong.index is not None and isinstance(wrong.tensors, Table)
    assert wrong.index.weight_map == written["weight_map"] != wrong.tensors.homes
