"""What counts in a folder: which files are read, and which copy of each tensor."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import LLAMA, Memory, build, llama, safetensors_bytes, write
from hypothesis import given
from hypothesis import strategies as st

import tidoctor
import tidoctor.__main__
from tidoctor.errors import Unreadable
from tidoctor.finding import Operation
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan
from tidoctor.source import open_source

INDEX = "model.safetensors.index.json"


def one(value: bytes, name: str = "a") -> bytes:
    return safetensors_bytes({name: ("U8", [len(value)], value)})


def test_a_single_file_wins_over_an_index() -> None:
    files = {**build(llama(), LLAMA, shards=2), "model.safetensors": one(b"x")}
    c = open_checkpoint(Memory(files))
    assert c.entrance == "single" and list(c.tensors) == ["a"] and len(c.extras) == 2


def test_a_stub_does_not_hide_the_shards() -> None:
    files = {**build(llama(), LLAMA, shards=2), "model.safetensors": safetensors_bytes({})}
    c = open_checkpoint(Memory(files))
    assert c.entrance == "index" and len(c.tensors) == 21


def test_the_copy_that_the_index_names_counts_else_the_last_one() -> None:
    files = {
        "1.safetensors": one(b"first"), "2.safetensors": one(b"other"),
        INDEX: json.dumps({"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}).encode(),
    }  # fmt: skip
    c = open_checkpoint(Memory(files))
    assert c.tensors["a"].file == "1.safetensors" and [t.file for t in c.shadows] == ["2.safetensors"]
    assert c.read(c.tensors["a"], 1, 3) == b"ir"
    files[INDEX] = json.dumps({"weight_map": {"x": "1.safetensors", "b": "2.safetensors"}}).encode()
    assert open_checkpoint(Memory(files)).tensors["a"].file == "2.safetensors"


def test_adapters_subfolders_and_vendor_files_are_left_alone() -> None:
    files = {
        "model.safetensors": one(b"x"), "adapter_model.safetensors": one(b"y"),
        "consolidated.safetensors": one(b"z"), "original/model.safetensors": one(b"w"),
    }  # fmt: skip
    c = open_checkpoint(Memory(files))
    assert [w.name for w in c.weights] == ["model.safetensors"]
    assert {w.name for w in c.extras} == {"adapter_model.safetensors", "consolidated.safetensors"}
    assert c.folders == {"original"}


def test_the_config_may_name_the_weights() -> None:
    files = {"a.safetensors": one(b"x"), "model.safetensors": one(b"y"),
             "config.json": b'{"transformers_weights": "a.safetensors"}'}  # fmt: skip
    assert open_checkpoint(Memory(files)).weights[0].name == "a.safetensors"


def test_a_file_and_an_index_are_sources_too(tmp_path: Path) -> None:
    write(tmp_path / "m", llama(), LLAMA, shards=2)
    shard = tidoctor.open(tmp_path / "m" / "model-00001-of-00002.safetensors")
    assert shard.entrance == "file" and len(shard.weights) == 1 and shard.extras == ()
    whole = tidoctor.open(tmp_path / "m" / INDEX)
    assert len(whole.tensors) == 21
    # One shard is not a model: nothing is said about what the others may hold.
    diagnosis = tidoctor.diagnose(tmp_path / "m" / "model-00001-of-00002.safetensors")
    assert diagnosis.findings == ()
    assert {n.reason for n in diagnosis.not_run} - {"needs --deep"} == {
        "model-00001-of-00002.safetensors is one shard of 2"
    }


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/etc/passwd", "a/../../x", "C:/x", "\\\\host\\x", "", "a\0b", 7, None, ["x"]],
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, file: object) -> None:
    (tmp_path / "x.safetensors").write_bytes(one(b"secret"))
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "in.safetensors").write_bytes(one(b"in"))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"b": file, "a": "in.safetensors"}}))
    c = tidoctor.open(folder)
    assert list(c.tensors) == ["a"]
    assert c.index is not None and [n for n, _ in c.index.refused] == ["b"]
    assert "S09" in {f.code for f in tidoctor.diagnose(folder).findings}


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(one(b"secret"))
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(Unreadable, match="leads out of the checkpoint"):
        tidoctor.open(folder)


def test_a_snapshot_of_the_hub_cache_is_read_through_its_links(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--name"
    snapshot = repo / "snapshots" / "abc"
    write(repo / "blobs", {"a": [4]}, LLAMA)
    snapshot.mkdir(parents=True)
    for file in ("model.safetensors", "config.json"):
        (snapshot / file).symlink_to(os.path.relpath(repo / "blobs" / file, snapshot))
    assert list(tidoctor.open(snapshot).tensors) == ["a"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no safetensors file"),
        ({"config.json": "{}"}, "holds no safetensors file"),
        ({"pytorch_model.bin": "x"}, "only pickles"),
        ({"model_index.json": "{}"}, "diffusers pipeline"),
        ({"m.gguf": "GGUF"}, "holds GGUF"),
    ],
)
def test_nothing_to_examine_is_said_in_a_sentence(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Unreadable, match=said):
        tidoctor.open(tmp_path)


@pytest.mark.parametrize("name", ["none", "a\0b", "org/name", "x" * 5000])
def test_no_such_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unreadable):
        tidoctor.open(f"{tmp_path}/{name}")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(Unreadable):
        tidoctor.open(tmp_path)
    with pytest.raises(Unreadable):
        tidoctor.open(tmp_path / "model.safetensors")


def test_only_headers_are_read(tmp_path: Path) -> None:
    write(tmp_path / "m", {"a": ("U8", [300_000])}, LLAMA)
    c = tidoctor.open(tmp_path / "m")
    assert c.source.bytes_read < 70_000


def test_paths_of_an_index_are_read_as_loaders_read_them() -> None:
    files = build(llama(), LLAMA, shards=2)
    index = json.loads(files[INDEX])
    index["weight_map"] = {n: f"./{f}" for n, f in index["weight_map"].items()}
    c = open_checkpoint(Memory({**files, INDEX: json.dumps(index).encode()}))
    assert c.entrance == "index" and len(c.tensors) == 21 and c.extras == ()


# --- equal bytes ---------------------------------------------------------------------------------

_BIG = 3 << 20  # bytes: longer than what is read at once of a folder


@given(size=st.integers(0, 9000) | st.integers(_BIG - 9, _BIG + 9), at=st.floats(0, 1),
       near=st.booleans())  # fmt: skip
def test_tensors_are_equal_when_no_byte_differs(
    tmp_path_factory: pytest.TempPathFactory, size: int, at: float, near: bool
) -> None:
    value = bytes(range(251)) * (size // 251 + 1)
    one = bytearray(value[:size])
    files = {"model.safetensors": safetensors_bytes({
        "a": ("U8", [size], bytes(one)), "b": ("U8", [size], bytes(one)),
        "c": ("U8", [size], _changed(one, at)),
    })}  # fmt: skip
    if near:
        folder = tmp_path_factory.mktemp("near")
        (folder / "model.safetensors").write_bytes(files["model.safetensors"])
        checkpoint = open_checkpoint(open_source(str(folder)))
    else:
        checkpoint = open_checkpoint(Memory(files))
    a, b, c = (checkpoint.tensors[name] for name in "abc")
    assert checkpoint.same_bytes(a, b)
    assert checkpoint.same_bytes(a, c) is (size == 0)


def _changed(data: bytearray, at: float) -> bytes:
    if data:
        data[min(int(at * len(data)), len(data) - 1)] ^= 1
    return bytes(data)


def test_two_tensors_are_compared_once(tmp_path: Path) -> None:
    data = bytes(1 << 20)
    (tmp_path / "model.safetensors").write_bytes(
        safetensors_bytes({"a": ("U8", [1 << 20], data), "b": ("U8", [1 << 20], data)})
    )
    checkpoint = open_checkpoint(open_source(str(tmp_path)))
    a, b = checkpoint.tensors["a"], checkpoint.tensors["b"]
    assert checkpoint.same_bytes(a, b)
    read = checkpoint.source.bytes_read
    assert read >= 2 << 20
    assert replace(checkpoint, left_out=frozenset({"x"})).same_bytes(a, b)
    assert checkpoint.source.bytes_read == read


def test_a_tensor_that_ends_early_equals_none_that_does_not(tmp_path: Path) -> None:
    data = bytes(3 << 20)
    whole = safetensors_bytes({"a": ("U8", [3 << 20], data), "b": ("U8", [3 << 20], data)})
    (tmp_path / "model.safetensors").write_bytes(whole[: -(1 << 20)])
    checkpoint = open_checkpoint(open_source(str(tmp_path)))
    assert not checkpoint.same_bytes(checkpoint.tensors["a"], checkpoint.tensors["b"])


def test_what_a_cast_makes_equal_is_known_of_that_cast_alone(tmp_path: Path) -> None:
    data = [struct.pack("<f", value) for value in (1.0, 1.0005)]
    (tmp_path / "model.safetensors").write_bytes(
        safetensors_bytes({name: ("F32", [1], value) for name, value in zip("ab", data, strict=True)})
    )
    checkpoint = open_checkpoint(open_source(str(tmp_path)))
    for dtypes in (("F16", "BF16"), ("BF16", "F16")):
        for dtype in dtypes:
            cast: list[Operation] = [{"op": "cast", "tensor": n, "dtype": dtype} for n in "ab"]
            made = Plan().then(cast).apply(checkpoint)
            assert made.same_bytes(made.tensors["a"], made.tensors["b"]) is (dtype == "BF16")


def test_a_difference_near_the_start_is_found_there(tmp_path: Path) -> None:
    one, other = bytes(4 << 20), bytearray(4 << 20)
    other[40_000] = 1
    (tmp_path / "model.safetensors").write_bytes(
        safetensors_bytes({"a": ("U8", [4 << 20], one), "b": ("U8", [4 << 20], bytes(other))})
    )
    checkpoint = open_checkpoint(open_source(str(tmp_path)))
    before = checkpoint.source.bytes_read
    assert not checkpoint.same_bytes(checkpoint.tensors["a"], checkpoint.tensors["b"])
    assert checkpoint.source.bytes_read - before <= 1 << 18


def test_what_lies_in_a_folder_is_compared_with_what_lies_elsewhere(tmp_path: Path) -> None:
    """Places differ in how much is best read of them at once."""
    data = bytes(range(256)) * (3 << 12)
    files = {"model.safetensors": safetensors_bytes({"a": ("U8", [len(data)], data)})}
    (tmp_path / "model.safetensors").write_bytes(files["model.safetensors"])
    far = Memory(files)
    far.stride = 5 << 18
    here, there = (open_checkpoint(s) for s in (open_source(str(tmp_path)), far))
    assert here.same_bytes(here.tensors["a"], there.tensors["a"])
    assert there.same_bytes(there.tensors["a"], here.tensors["a"])


@pytest.mark.parametrize("begin", [8, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_an_empty_tensor_may_claim_to_lie_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], begin: int
) -> None:
    head = {"e": {"dtype": "F32", "shape": [0], "data_offsets": [begin, begin]}}
    for number, name in enumerate("ab", 1):
        rows = {key + name: value for key, value in head.items()}
        rows["z" + name] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        text = json.dumps(rows).encode()
        file = tmp_path / f"model-0000{number}-of-00002.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    assert tidoctor.__main__.main(["diagnose", str(tmp_path), "--deep"]) in (0, 1)
    assert "internal error" not in capsys.readouterr().err
