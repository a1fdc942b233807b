"""The writer: what it writes, what it leaves alone, and what remains when it fails."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidoctor
from tests import checkpoints
from tidoctor import copying, handles, staging, writer
from tidoctor.checkpoint import Checkpoint
from tidoctor.continuing import JOURNAL
from tidoctor.copying import Mover, Origins
from tidoctor.errors import Refused, TidoctorError, Unreadable, Unwritable, Usage
from tidoctor.form import Form, Link
from tidoctor.pieced import joined
from tidoctor.plan import Plan
from tidoctor.source.folder import Folder
from tidoctor.tensors import Span

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
UNTIE = {"op": "copy", "from": EMBEDDING, "to": HEAD}
Tensors = dict[str, tuple[str, list[int], bytes]]


def planned(folder: Path, *operations: Mapping[str, object], **donors: Path) -> Checkpoint:
    """The checkpoint in a folder, as the operations would make it."""
    others = {name: tidoctor.open(path) for name, path in donors.items()}
    return Plan(donors=others).then(operations).apply(tidoctor.open(folder))


def tensors(folder: Path) -> Tensors:
    """All tensors of the files at the top of a folder, read with the standard library alone."""
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        for name, row in json.loads(raw[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = row["data_offsets"]
                data = raw[8 + length + begin : 8 + length + end]
                assert name not in found
                found[name] = (row["dtype"], row["shape"], data)
    return found


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a folder that a writer could disturb: kinds, contents, times, modes."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = None
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = (
            content, status.st_mode, status.st_mtime_ns, status.st_ino
        )  # fmt: skip
    return found


def names(folder: Path) -> set[str]:
    """Relative paths of everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tied Llama in one file, with company."""
    company = {"tokenizer.json": '{"a": 1}', "generation_config.json": "{}", "LICENSE": "free"}
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    return checkpoints.write(
        tmp_path / "source", checkpoints.llama(head=False), config, files=company
    )


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """The same in three shards."""
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    return checkpoints.write(
        tmp_path / "source", checkpoints.llama(head=False), config, shards=3
    )


# --- operations --------------------------------------------------------------------------------


def test_rename_of_all_keeps_every_byte(source: Path, tmp_path: Path) -> None:
    before = tensors(source)
    renames = [{"op": "rename", "from": n, "to": f"language_{n}"} for n in before]
    receipt = writer.write(planned(source, *renames), tmp_path / "out")
    assert tensors(tmp_path / "out") == {f"language_{n}": row for n, row in before.items()}
    assert receipt.files[0] == "model.safetensors"
    assert receipt.verified == len(before)
    assert receipt.cost.written > 0


def test_untie_in_one_file(source: Path, tmp_path: Path) -> None:
    before = tensors(source)
    receipt = writer.write(planned(source, UNTIE), tmp_path / "out")
    assert tensors(tmp_path / "out") == before | {HEAD: before[EMBEDDING]}
    assert receipt.verified == len(before) + 1
    assert names(tmp_path / "out") == names(source)


def test_untie_of_shards_adds_one_and_copies_the_others_whole(
    sharded: Path, tmp_path: Path
) -> None:
    before = tensors(sharded)
    writer.write(planned(sharded, UNTIE), tmp_path / "out")
    assert tensors(tmp_path / "out") == before | {HEAD: before[EMBEDDING]}
    for i in (1, 2, 3):
        old = sharded / f"model-{i:05d}-of-00003.safetensors"
        new = tmp_path / "out" / f"model-{i:05d}-of-00004.safetensors"
        assert new.read_bytes() == old.read_bytes()
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"][HEAD] == "model-00004-of-00004.safetensors"
    assert set(index["weight_map"]) == set(tensors(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*-of-00003*"))


def test_drop(source: Path, tmp_path: Path) -> None:
    before = tensors(source)
    drop = {"op": "drop", "tensor": "model.norm.weight"}
    writer.write(planned(source, drop), tmp_path / "out")
    del before["model.norm.weight"]
    assert tensors(tmp_path / "out") == before


def test_graft_from_a_donor(source: Path, tmp_path: Path) -> None:
    donor = checkpoints.write(tmp_path / "donor", checkpoints.llama(), checkpoints.LLAMA)
    untouched = state(donor)
    graft = {"op": "graft", "tensor": HEAD, "donor": "donor"}
    writer.write(planned(source, graft, donor=donor), tmp_path / "out")
    assert tensors(tmp_path / "out") == tensors(source) | {HEAD: tensors(donor)[HEAD]}
    assert state(donor) == untouched


def test_a_donor_is_not_replaced_by_the_result(source: Path, tmp_path: Path) -> None:
    donor = checkpoints.write(tmp_path / "donor", checkpoints.llama(), checkpoints.LLAMA)
    graft = {"op": "graft", "tensor": HEAD, "donor": "donor"}
    untouched = state(donor)
    with pytest.raises(Usage, match="is the source itself"):
        writer.write(planned(source, graft, donor=donor), donor, force=True)
    assert state(donor) == untouched


def test_a_key_of_the_config(source: Path, tmp_path: Path) -> None:
    change = {"op": "set", "path": ["tie_word_embeddings"], "value": False}
    receipt = writer.write(planned(source, change), tmp_path / "out")
    before, after = ((p / "config.json").read_text() for p in (source, tmp_path / "out"))
    assert after == before.replace(
        '"tie_word_embeddings": true', '"tie_word_embeddings": false'
    )
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        source / "model.safetensors"
    ).read_bytes()
    assert receipt.cost.written == len(after)


def test_cost_is_what_the_receipt_says(sharded: Path, tmp_path: Path) -> None:
    result = planned(sharded, UNTIE, {"op": "drop", "tensor": "model.norm.weight"})
    cost = writer.cost(result, tmp_path / "out")
    receipt = writer.write(result, tmp_path / "out")
    assert cost == receipt.cost
    on_disk = sum(p.stat().st_size for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert cost.total == on_disk


def test_result_can_be_repaired_again(sharded: Path, tmp_path: Path) -> None:
    writer.write(planned(sharded, UNTIE), tmp_path / "a")
    writer.write(planned(tmp_path / "a", {"op": "drop", "tensor": HEAD}), tmp_path / "b")
    assert tensors(tmp_path / "b") == tensors(sharded)


def test_a_damaged_file_that_no_operation_touches_is_copied_as_it_is(
    sharded: Path, tmp_path: Path
) -> None:
    cut = sharded / "model-00003-of-00003.safetensors"
    os.truncate(cut, cut.stat().st_size - 10)
    writer.write(planned(sharded, UNTIE), tmp_path / "out")
    copy = tmp_path / "out" / "model-00003-of-00004.safetensors"
    assert copy.read_bytes() == cut.read_bytes()


def test_a_damaged_file_that_is_laid_out_anew_is_named(sharded: Path, tmp_path: Path) -> None:
    cut = sharded / "model-00003-of-00003.safetensors"
    os.truncate(cut, cut.stat().st_size - 10)
    rewrite = {"op": "rewrite", "file": cut.name}
    with pytest.raises(Unreadable, match=r"model-00003-of-00003.*ends before"):
        writer.write(planned(sharded, rewrite), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


SHAPES = st.lists(st.integers(0, 5), max_size=3)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda n: n != "__metadata__"
)


@settings(deadline=None, max_examples=30)
@given(
    table=st.dictionaries(
        NAMES, st.tuples(st.sampled_from(["F32", "BF16", "U8", "I64"]), SHAPES), min_size=1,
        max_size=8,
    ),
    shards=st.integers(1, 3),
    data=st.data(),
)
def test_copy_then_drop_gives_the_same_tensors(
    table: dict[str, tuple[str, list[int]]], shards: int, data: st.DataObject
) -> None:
    old = data.draw(st.sampled_from(sorted(table)))
    new = data.draw(NAMES.filter(lambda n: n not in table))
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        source = checkpoints.write(root / "a", table, None, shards=min(shards, len(table)))
        before = tensors(source)
        copy = {"op": "copy", "from": old, "to": new}
        writer.write(planned(source, copy), root / "b")
        assert tensors(root / "b") == before | {new: before[old]}
        writer.write(planned(root / "b", {"op": "drop", "tensor": new}), root / "c")
        assert tensors(root / "c") == before


# --- company -----------------------------------------------------------------------------------


def test_everything_else_goes_along(source: Path, tmp_path: Path) -> None:
    checkpoints.write(source / "2_Dense", {"linear.weight": [4, 4]}, {"in_features": 4})
    (source / "1_Pooling").mkdir()
    (source / "3_Normalize").mkdir()
    (source / "1_Pooling" / "config.json").write_text("{}")
    (source / "modeling_own.py").write_text("print(1)\n")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (source / "training_args.bin").write_bytes(b"\x80\x02")
    receipt = writer.write(planned(source, UNTIE), tmp_path / "out")
    assert names(tmp_path / "out") == names(source)
    for name in names(source) - {"model.safetensors"}:
        if (source / name).is_file():
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert receipt.left_out == ()
    assert receipt.files[:1] == ("model.safetensors",)
    assert "2_Dense/model.safetensors" in receipt.files


def test_what_does_not_go_along_is_told(source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    (source / "key").symlink_to(secret / "key")
    (source / "folder").symlink_to(secret)
    (source / "inner").symlink_to(".")
    (source / "dangling").symlink_to("nowhere")
    (source / "loop").symlink_to("loop")
    (source / "alias.json").symlink_to("tokenizer.json")
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "pipe.safetensors")
    for name in (".git", ".cache/huggingface"):
        (source / name).mkdir(parents=True)
        (source / name / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(source):
        listener.bind("socket")
        receipt = writer.write(planned(source, UNTIE), tmp_path / "out")
    told = dict(line.split(": ", 1) for line in receipt.left_out)
    assert told == {
        ".cache/": "not a part of the model",
        ".git/": "not a part of the model",
        "dangling": "a link to nothing",
        "folder": "a link that leads out of the checkpoint",
        "inner": "a link to a folder",
        "key": "a link that leads out of the checkpoint",
        "loop": "a link that leads out of the checkpoint",
        "pipe": "neither a file nor a folder",
        "pipe.safetensors": "no tensor is read from it",
        "socket": "neither a file nor a folder",
    }
    gone = {*told, ".cache", ".git", ".cache/huggingface", ".cache/huggingface/file", ".git/file"}
    assert names(tmp_path / "out") == names(source) - gone
    assert not (tmp_path / "out" / "alias.json").is_symlink()
    assert (tmp_path / "out" / "alias.json").read_text() == '{"a": 1}'


def test_weight_files_that_would_lead_loaders_astray_stay_behind(
    sharded: Path, tmp_path: Path
) -> None:
    row = {"x": ("U8", [1], b"1")}
    stub = checkpoints.safetensors_bytes({})
    other = checkpoints.safetensors_bytes(row)
    (sharded / "model.safetensors").write_bytes(stub)
    for name in ("model-00001-of-00009", "draft-00001-of-00002", "consolidated", "mmproj"):
        (sharded / f"{name}.safetensors").write_bytes(other)
    receipt = writer.write(planned(sharded, UNTIE), tmp_path / "out")
    told = dict(line.split(": ", 1) for line in receipt.left_out)
    assert told == {
        "model.safetensors": "loaders would read it in place of the shards",
        "model-00001-of-00009.safetensors": (
            "a shard of the same name that the result does not have"
        ),
    }
    for name in ("draft-00001-of-00002", "consolidated", "mmproj"):
        assert (tmp_path / "out" / f"{name}.safetensors").read_bytes() == other


@pytest.mark.parametrize("operations", [(), (UNTIE,)])
def test_idle_shards_beside_a_single_file_go_with_their_index(
    sharded: Path, tmp_path: Path, operations: tuple[Mapping[str, object], ...]
) -> None:
    rows = checkpoints.filled(checkpoints.llama(head=False))
    (sharded / "model.safetensors").write_bytes(checkpoints.safetensors_bytes(rows))
    receipt = writer.write(planned(sharded, *operations), tmp_path / "out")
    assert names(tmp_path / "out") == {"config.json", "model.safetensors"}
    assert len(receipt.left_out) == 4


def test_what_the_plan_discards_stays_behind(source: Path, tmp_path: Path) -> None:
    discard = {"op": "discard", "file": "LICENSE"}
    receipt = writer.write(planned(source, discard), tmp_path / "out")
    assert names(tmp_path / "out") == names(source) - {"LICENSE"}
    assert receipt.left_out == ("LICENSE: the plan does without it",)


def test_one_chosen_file_takes_only_texts_beside_it(source: Path, tmp_path: Path) -> None:
    (source / "sub").mkdir()
    (source / "sub" / "x").write_text("x")
    for name in ("other.safetensors", "model.safetensors.index.json", "pytorch_model.bin"):
        (source / name).write_bytes(b"{}")
    out = source / "out"  # beside the file is a fair place for the result
    writer.write(planned(source / "model.safetensors", UNTIE), out)
    assert names(out) == {
        "model.safetensors", "config.json", "tokenizer.json", "generation_config.json", "LICENSE"
    }  # fmt: skip


def test_one_chosen_file_without_a_config_comes_alone(source: Path, tmp_path: Path) -> None:
    (source / "config.json").unlink()
    writer.write(planned(source / "model.safetensors", UNTIE), tmp_path / "out")
    assert names(tmp_path / "out") == {"model.safetensors"}


def test_snapshot_of_a_hub_cache(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "models--a--b"
    snapshot = home / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for i, path in enumerate(sorted(source.iterdir())):
        path.rename(home / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    writer.write(planned(snapshot, UNTIE), tmp_path / "out")
    assert names(tmp_path / "out") == names(snapshot)
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert HEAD in tensors(tmp_path / "out")


def test_names_that_are_no_utf8(source: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \x1b[2J.txt")
    (source / name).write_text("x")
    (source / os.fsdecode(b"link\xff\n")).symlink_to("/etc")
    receipt = writer.write(planned(source, UNTIE), tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "x"
    assert receipt.left_out == (
        "link\\udcff\\n: a link that leads out of the checkpoint",
    )


@pytest.mark.parametrize(
    ("mask", "mode", "folder"),
    [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)],
)
def test_modes_follow_the_umask(
    source: Path, tmp_path: Path, mask: int, mode: int, folder: int
) -> None:
    (source / "sub").mkdir()
    (source / "sub" / "x").write_text("x")
    (source / "model.safetensors").chmod(0o600)
    previous = os.umask(mask)
    try:
        writer.write(planned(source, UNTIE), tmp_path / "out")
    finally:
        os.umask(previous)
    for path in ((tmp_path / "out"), *(tmp_path / "out").rglob("*")):
        expected = folder if path.is_dir() else mode
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


# --- the destination ---------------------------------------------------------------------------


def _file(path: Path) -> None:
    path.write_text("mine")


def _folder(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [_file, _folder, _dangling])
def test_whatever_exists_is_not_overwritten(
    source: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "out")
    before = state(tmp_path)
    with pytest.raises(Usage, match="exists already"):
        writer.write(planned(source, UNTIE), tmp_path / "out")
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("dest", "why"),
    [
        ("source", "is the source itself"),
        ("link", "is the source itself"),
        ("link/../source", "is the source itself"),
        ("source/out", "lies inside the source"),
        ("source/sub/out", "lies inside the source"),
        ("link/out", "lies inside the source"),
        (".", "contains the source"),
        ("up", "contains the source"),
        ("source/..", "contains the source"),
        ("missing/out", "has no parent folder"),
        ("dangling/out", "has no parent folder"),
        ("file/out", "has a file for its parent"),
        ("file/deep/out", "has a file for its parent"),
        ("loop/out", "not a usable path|cannot be reached"),
        ("nul\0", "not a usable path"),
        ("half\ud800", "not a usable path"),
        ("file", "is not a folder"),
    ],
)
def test_places_where_the_result_may_not_go(
    source: Path, tmp_path: Path, dest: str, why: str
) -> None:
    (source / "sub").mkdir()
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    before = state(tmp_path)
    with pytest.raises((Usage, Unwritable), match=why):
        writer.write(planned(source, UNTIE), tmp_path / dest, force=True)
    assert state(tmp_path) == before


def test_parent_may_be_a_link(source: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    writer.write(planned(source, UNTIE), tmp_path / "link" / "out")
    assert names(tmp_path / "real" / "out") == names(source)


def test_relative_destination(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writer.write(planned(source, UNTIE), Path("out"))
    assert names(tmp_path / "out") == names(source)


def test_force_replaces_the_whole_folder(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "old").write_text("old")
    writer.write(planned(source, UNTIE), out, force=True)
    assert names(out) == names(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_force_on_nothing(source: Path, tmp_path: Path) -> None:
    writer.write(planned(source, UNTIE), tmp_path / "out", force=True)
    assert names(tmp_path / "out") == names(source)


def test_force_replaces_a_link_and_not_what_it_leads_to(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").write_text("x")
    (tmp_path / "out").symlink_to("other")
    writer.write(planned(source, UNTIE), tmp_path / "out", force=True)
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "other" / "precious").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out", "source"]


@pytest.mark.parametrize("force", [False, True])
def test_without_renameat2(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
    out = tmp_path / "out"
    if force:
        out.mkdir()
        (out / "old").write_text("old")
    writer.write(planned(source, UNTIE), out, force=force)
    assert names(out) == names(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("modern", [True, False])
def test_destination_that_appears_meanwhile_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern: bool
) -> None:
    if not modern:
        monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
    out = tmp_path / "out"

    def rival(what: str, done: int, total: int) -> None:
        if done == total:
            out.mkdir()

    with pytest.raises(Unwritable, match="meanwhile"):
        writer.write(planned(source, UNTIE), out, progress=rival)
    assert list(out.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_name_that_is_too_long(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="too long"):
        writer.write(planned(source, UNTIE), tmp_path / ("x" * 250))
    assert names(tmp_path) == {"source", *(f"source/{n}" for n in names(source))}


def test_names_of_a_plan_stay_inside(source: Path, tmp_path: Path) -> None:
    for name in ("../evil", "/evil", "", "a/../../evil"):
        result = replace(planned(source), texts={name: b"x"})
        with pytest.raises(Refused, match="not a file name inside"):
            writer.write(result, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


# --- failures ----------------------------------------------------------------------------------


@contextlib.contextmanager
def failing(call: str, nth: int, code: int) -> Iterator[list[int]]:
    """Let the n-th call of a function of `os` fail, and only that one; counts the calls."""
    real: Callable[..., Any] = getattr(os, call)
    calls = [0]

    def fake(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fake)
        yield calls


@pytest.fixture(autouse=True)
def _laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room on the disk is asked for as it is for the large files that these are not."""
    monkeypatch.setattr(handles, "_LAID_OUT", 1)


needs_offload = pytest.mark.skipif(
    not hasattr(os, "copy_file_range"), reason="the system copies nothing by itself"
)


def written_by(patch: pytest.MonkeyPatch, call: str) -> None:
    """Let bytes be written by `call`, if that is one that writes: by hand, or by the system."""
    if call in ("write", "lseek"):
        patch.delattr("os.copy_file_range", raising=False)
    if call == "copy_file_range":
        patch.setattr(copying, "_PAGE", 1)  # wherever they lie


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("call", "nth"),
    [("mkdir", 1), ("write", 1), ("write", 2), ("write", 3), ("write", 6), ("lseek", 3),
     ("ftruncate", 2), ("fsync", 1), ("fsync", 4), ("fsync", 7),
     *(pytest.param("copy_file_range", n, marks=needs_offload) for n in (1, 3))],
)  # fmt: skip
def test_a_full_disk_leaves_nothing(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, force: bool
) -> None:
    written_by(monkeypatch, call)
    out = tmp_path / "out"
    if force:
        checkpoints.write(out, {"old": [2]}, {})
    result = planned(sharded, UNTIE)
    before = state(tmp_path)
    with (
        failing(call, nth, errno.ENOSPC) as calls,
        pytest.raises(Unwritable, match=r"no space left on ") as caught,
    ):
        writer.write(result, out, force=force)
    assert calls[0] >= nth
    assert call == "mkdir" or re.search(r"needed, .* free", caught.value.what)
    assert caught.value.where == str(out)
    assert state(tmp_path) == before


def test_a_folder_that_is_published_counts_as_written(source: Path, tmp_path: Path) -> None:
    result = planned(source, UNTIE)
    files = sum(path.is_file() for path in source.iterdir())
    with failing("fsync", files + 2, errno.EIO) as calls:  # after files and folder, the parent
        writer.write(result, tmp_path / "out")
    assert calls[0] == files + 2
    assert names(tmp_path / "out") == names(source)


def test_a_parent_that_cannot_be_listed(source: Path, tmp_path: Path) -> None:
    with failing("listdir", 1, errno.EACCES) as calls:
        writer.write(planned(source, UNTIE), tmp_path / "out")
    assert calls[0] >= 1
    assert names(tmp_path / "out") == names(source)


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("write", errno.EDQUOT, "no space left"),
        ("lseek", errno.EIO, "cannot be written"),
        ("fsync", errno.EIO, "cannot be written"),
        ("mkdir", errno.EROFS, "read-only file system"),
        ("mkdir", errno.EACCES, "permission denied"),
    ],
)
def test_each_failure_has_its_words(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, words: str
) -> None:
    written_by(monkeypatch, call)
    result = planned(source, UNTIE)
    with failing(call, 1, code), pytest.raises(Unwritable, match=words):
        writer.write(result, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("modern", [True, False])
def test_a_failing_rename_leaves_nothing(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, modern: bool
) -> None:
    out = tmp_path / "out"
    if force:
        checkpoints.write(out, {"old": [2]}, {})

    def broken(*_: object) -> bool:
        if modern:
            raise OSError(errno.EIO, "Input/output error")
        return False

    monkeypatch.setattr(staging, "_renameat2", broken)
    real = os.rename

    def refuse(old: Path, new: Path, **kwargs: Any) -> None:
        if str(old).endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        real(old, new, **kwargs)

    monkeypatch.setattr(os, "rename", refuse)
    before = state(tmp_path)
    with pytest.raises(Unwritable, match="Input/output error"):
        writer.write(planned(sharded, UNTIE), out, force=force)
    assert state(tmp_path) == before


def test_too_little_room_is_told_before_copying(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    told: list[object] = []
    with pytest.raises(Unwritable, match=r"no space left on .*, 1\d\.\d kB needed, 1\.0 kB free"):
        writer.write(planned(source, UNTIE), tmp_path / "out", progress=lambda *a: told.append(a))
    assert told == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("call", "where"),
    [
        *(("write", where) for where in ("first", "middle", "last", "header")),
        *(pytest.param("copy_file_range", where, marks=needs_offload)
          for where in ("first", "middle", "last")),
    ],
)  # fmt: skip
def test_wrong_bytes_on_the_disk_are_noticed(
    source: Path, tmp_path: Path, where: str, call: str
) -> None:
    result = planned(source, UNTIE)
    size = result.weights[0].header.size
    at = {"first": result.weights[0].header.data_start, "middle": size // 2, "last": size - 1,
          "header": 20}[where]  # fmt: skip
    write, copy = os.write, getattr(os, "copy_file_range", None)

    def spoil(target: int, begin: int, n: int) -> int:
        if begin <= at < begin + n and "model.safetensors" in str(Path(f"/proc/self/fd/{target}").readlink()):
            os.pwrite(target, bytes([os.pread(target, 1, at)[0] ^ 1]), at)
        return n

    def wrong_write(target: int, data: memoryview) -> int:
        begin = os.lseek(target, 0, os.SEEK_CUR)
        return spoil(target, begin, write(target, data))

    def wrong_copy(origin: int, target: int, size: int, begin: int, to: int) -> int:
        assert copy is not None
        return spoil(target, to, copy(origin, target, size, begin, to))

    with pytest.MonkeyPatch.context() as patch:
        written_by(patch, call)
        if call == "write":
            patch.setattr(os, call, wrong_write)
        else:
            patch.setattr(os, call, wrong_copy)
        with pytest.raises(Unwritable, match=r"model\.safetensors: .*other bytes"):
            writer.write(result, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@needs_offload
@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.EIO, errno.ENOSYS, errno.EINTR])
@pytest.mark.parametrize("most", [0, 1, 100])
def test_what_the_system_does_not_copy_is_written_by_hand(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, most: int
) -> None:
    real = os.copy_file_range
    calls = [0]

    def some(origin: int, target: int, size: int, begin: int, to: int) -> int:
        calls[0] += 1
        if code is not None and calls[0] % 3 == 0:
            raise OSError(code, os.strerror(code))
        return real(origin, target, min(size, most), begin, to) if most else 0

    written_by(monkeypatch, "copy_file_range")
    monkeypatch.setattr(os, "copy_file_range", some)
    writer.write(planned(source, UNTIE), tmp_path / "out")
    assert calls[0]
    written = tensors(tmp_path / "out")
    assert written.pop(HEAD) == written[EMBEDDING]
    assert written == tensors(source)


@needs_offload
def test_never_linked_is_never_left_to_the_system(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may share extents, as it does on XFS and btrfs."""
    written_by(monkeypatch, "copy_file_range")
    monkeypatch.setattr("tidoctor.copying.copy_range", lambda *_: pytest.fail("was asked to copy"))
    writer.write(planned(source, UNTIE), tmp_path / "out", Form(link="never"))
    assert tensors(tmp_path / "out")[HEAD] == tensors(source)[EMBEDDING]


@needs_offload
def test_an_origin_that_changes_under_the_system_is_told_of(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.copy_file_range
    file = source / "model.safetensors"

    def disturbed(origin: int, target: int, size: int, begin: int, to: int) -> int:
        n = real(origin, target, size, begin, to)
        if os.path.samestat(os.fstat(origin), file.stat()):
            with file.open("r+b") as f:
                f.seek(-1, os.SEEK_END)
                f.write(b"\xff")
            os.utime(file, ns=(1, 1))
        return n

    written_by(monkeypatch, "copy_file_range")
    monkeypatch.setattr(os, "copy_file_range", disturbed)
    with pytest.raises(Unreadable, match="changed while it was being copied"):
        writer.write(planned(source, UNTIE), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("a bug"), SystemExit(143), MemoryError()]
)
@pytest.mark.parametrize("force", [False, True])
def test_an_interruption_leaves_nothing(
    sharded: Path, tmp_path: Path, error: BaseException, force: bool
) -> None:
    out = tmp_path / "out"
    if force:
        checkpoints.write(out, {"old": [2]}, {})

    def stop(what: str, done: int, total: int) -> None:
        assert list(tmp_path.glob(".out.tidoctor-*.partial"))
        raise error

    before = state(tmp_path)
    with pytest.raises(type(error)):
        writer.write(planned(sharded, UNTIE), out, force=force, progress=stop)
    assert state(tmp_path) == before


# --- a source that moves -----------------------------------------------------------------------


def _append(path: Path) -> None:
    with path.open("ab") as f:
        f.write(b"\0")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as f:
        f.seek(-1, os.SEEK_END)
        f.write(b"\x55")


def _replace(path: Path) -> None:
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("change", [_append, _overwrite, _replace, _shorten, Path.unlink])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_source_that_changes_is_not_copied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None], late: bool, name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(writer, "_TELL", 1)
    told = 0

    def disturb(what: str, done: int, total: int) -> None:
        nonlocal told
        told += 1
        if done == total if late else told == 1:
            time.sleep(0.02)  # more than the tick by which file times advance
            change(source / name)

    with pytest.raises(Unreadable, match=f"{name}: (changed|ends before|cannot be opened)"):
        writer.write(planned(source, UNTIE), tmp_path / "out", progress=disturb)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("operations", [(), (UNTIE,)])
def test_a_source_that_shrank_since_it_was_examined(
    source: Path, tmp_path: Path, operations: tuple[Mapping[str, object], ...]
) -> None:
    result = planned(source, *operations)
    _shorten(source / "model.safetensors")
    with pytest.raises(Unreadable, match=r"model\.safetensors: ends before"):
        writer.write(result, tmp_path / "out")


def test_a_header_that_changed_since_it_was_examined(source: Path, tmp_path: Path) -> None:
    result = planned(source)
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"model.norm", b"model.morn"))
    with pytest.raises(Unreadable, match="changed after it was examined"):
        writer.write(result, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


# --- kill --------------------------------------------------------------------------------------

RUN = """
import sys, tidoctor
from pathlib import Path
from tidoctor import writer
from tidoctor.plan import Plan
source, dest = sys.argv[1:3]
plan = Plan().then([{"op": "copy", "from": "model.embed_tokens.weight", "to": "lm_head.weight"}])
planned = plan.apply(tidoctor.open(source))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A fresh interpreter that runs some lines after those of RUN."""
    root = Path(tidoctor.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", RUN + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def killed_at(nth: int, work: Callable[[], object]) -> bool:
    """Do the work in a copy of this process that is killed before its n-th call to the system.

    Whether it came to that. What is counted are calls of the modules that write.
    """
    child = os.fork()
    if child == 0:  # whatever happens, the copy must not go on with the tests
        calls = 0

        def count(frame: FrameType, event: str, called: Any) -> None:
            nonlocal calls
            if event == "c_call" and called.__module__ in ("posix", "fcntl"):
                calls += Path(frame.f_code.co_filename).name in WRITING
                if calls == nth:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.setprofile(count)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


WRITING = {"assembly.py", "continuing.py", "copying.py", "ground.py", "handles.py", "pathlib.py",
           "shutil.py", "staging.py", "verification.py", "writer.py"}  # fmt: skip


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one, because there fsync takes no time."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as place:
        yield Path(place)


@pytest.mark.parametrize(
    ("force", "link", "nth"),
    [(False, "auto", 1), (False, "hard", 2), (True, "auto", 3), (True, "hard", 4)],
)
def test_killed_before_a_call_to_the_system(
    memory: Path, force: bool, link: Link, nth: int
) -> None:
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    table = checkpoints.llama(1, head=False)
    sharded = checkpoints.write(memory / "source", table, config, shards=2)
    out = memory / "out"
    result = planned(sharded, UNTIE)
    untouched = state(sharded)
    expected = tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}
    old = checkpoints.filled({"old": [2]})
    ended, first = False, nth
    stood = {"nothing": 0, "old": 0, "new": 0}
    while not ended:
        if force:
            checkpoints.write(out, {"old": [2]}, {})
        ended = not killed_at(nth, lambda: writer.write(result, out, Form(link), force=force))
        found = tensors(out) if out.exists() else None
        which = "nothing" if found is None else "new" if found == expected else "old"
        assert which != "old" or (force and found is not None and set(found) == set(old))
        stood[which] += 1
        if found is not None:
            shutil.rmtree(out)
        nth += 4
        if nth % 5 == 0 or ended:
            writer.write(result, out)  # the next run puts things in order
            assert tensors(out) == expected
            shutil.rmtree(out)
            assert [p.name for p in memory.iterdir()] == ["source"]
    tried = (nth - first) // 4
    assert tried > 20 and stood["new"] and stood["old" if force else "nothing"] > tried - 10
    assert state(sharded) == untouched


def no_lock(handle: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize("locks", [True, False])
def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """Who lives holds a lock; on file systems without any the number of the process counts."""
    if not locks:
        monkeypatch.setattr("fcntl.flock", no_lock)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    with subprocess.Popen(["sleep", "60"]) as living:
        stays = {f".other.tidoctor-{dead.pid}.partial", ".out.tidoctor-x.partial"}
        goes = {f".out.tidoctor-{dead.pid}.partial", f".out.tidoctor-{os.getpid()}.partial",
                f".out.tidoctor-{dead.pid}-7.partial"}  # fmt: skip
        (goes if locks else stays).add(f".out.tidoctor-{living.pid}.partial")
        for name in stays | goes:
            (tmp_path / name / "sub").mkdir(parents=True)
            os.mkfifo(tmp_path / name / "sub" / "pipe")
        for number, make in enumerate((Path.touch, os.mkfifo, lambda p: p.symlink_to(tmp_path))):
            stays.add(f".out.tidoctor-{dead.pid}-{number}.partial")
            make(tmp_path / f".out.tidoctor-{dead.pid}-{number}.partial")
        writer.write(planned(source, UNTIE), tmp_path / "out")
        living.kill()
    assert {p.name for p in tmp_path.iterdir()} == {"source", "out"} | stays


def test_a_folder_that_is_being_written_elsewhere_stays(source: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    # As seen from another container: the number is nobody's, or this one's; the lock is held.
    others = [tmp_path / f".out.tidoctor-{pid}.partial" for pid in (dead.pid, os.getpid())]
    for other in others:
        other.mkdir()
    locks = [staging._lock(other) for other in others]
    try:
        writer.write(planned(source, UNTIE), tmp_path / "out")
        assert all(other.exists() for other in others)
    finally:
        for lock in locks:
            os.close(lock)
    writer.write(planned(source, UNTIE), tmp_path / "out", force=True)
    assert not any(other.exists() for other in others)


@pytest.mark.parametrize("locks", [True, False])
def test_of_two_at_once_in_one_process_one_wins(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setattr("fcntl.flock", no_lock)
    result = planned(source, UNTIE)
    expected = writer.write(result, tmp_path / "alone")
    begun: list[str] = []

    def second(what: str, done: int, total: int) -> None:
        if not begun:
            begun.append(what)
            writer.write(result, tmp_path / "out")

    with pytest.raises(Unwritable, match="has come into being meanwhile"):
        writer.write(result, tmp_path / "out", progress=second)
    assert begun
    assert tensors(tmp_path / "out") == tensors(expected.dest)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "out", "source"]


@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_is_free_again_may_be_somebody_elses(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Once a folder is published, another run of the same number may take its hidden name."""
    theirs: list[Path] = []
    publish = staging.publish

    def published(stage: staging.Stage, place: Path, *, force: bool) -> None:
        publish(stage, place, force=force)
        if not stage.exchanged:
            stage.folder.mkdir()
            theirs.append(stage.folder)

    monkeypatch.setattr(writer, "publish", published)
    if force:
        monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
        checkpoints.write(tmp_path / "out", {"old": [2]}, {})
    writer.write(planned(source, UNTIE), tmp_path / "out", force=force)
    assert theirs and theirs[0].exists()


def test_what_an_older_run_put_aside_is_not_in_the_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be exchanged: a kill in between left the only copy of what stood there."""
    monkeypatch.setattr(staging, "_renameat2", lambda *_: False)
    aside = tmp_path / f".out.tidoctor-{os.getpid()}.old"
    for folder in (aside, tmp_path / "out"):
        checkpoints.write(folder, {"old": [2]}, {})
    writer.write(planned(source, UNTIE), tmp_path / "out", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [aside.name, "out", "source"]
    assert tensors(aside)


def test_a_leftover_that_cannot_be_cleared_is_left_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / f".out.tidoctor-{os.getpid()}.partial"
    (locked / "sub").mkdir(parents=True)
    (locked / JOURNAL).write_text("{}")
    access, remove = os.access, staging.remove
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "sub" and access(path, mode))
    monkeypatch.setattr(staging, "remove", lambda path: None if path == locked else remove(path))
    writer.write(planned(source, UNTIE), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [locked.name, "out", "source"]


def test_a_folder_taken_away_before_it_is_locked_is_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that sees it in between cannot know that someone lives there."""
    lock, swept = staging._lock, []

    def late(folder: Path) -> int:
        if not swept:
            swept.append(folder)
            staging.remove(folder)
        return lock(folder)

    monkeypatch.setattr(staging, "_lock", late)
    writer.write(planned(source, UNTIE), tmp_path / "out")
    assert swept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


# --- size --------------------------------------------------------------------------------------


def sparse(folder: Path, size: int) -> Path:
    """A checkpoint whose embedding is a hole of `size` bytes between two small tensors."""
    folder.mkdir()
    head: dict[str, Any] = {}
    at = 0
    rows = {"a": [4], EMBEDDING: [size // 2], "z": [4]}
    for name, shape in rows.items():
        end = at + 2 * shape[0]
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"aaaaaaaa")
        f.seek(size // 2, os.SEEK_CUR)
        f.write(b"in the middle")
        f.seek(8 + len(text) + at - 8)
        f.write(b"zzzzzzzz")
    return folder


# Not ru_maxrss: it starts at what the parent had when it forked, and would hide the growth.
MEASURE = """
import re
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
base = peak()
receipt = writer.write(planned, Path(dest))
print(peak() - base, receipt.verified)
"""


def test_memory_and_disk_do_not_grow_with_the_model(tmp_path: Path) -> None:
    size = 256 << 20
    source = sparse(tmp_path / "source", size)
    with start(MEASURE, source, tmp_path / "out") as process:
        out, errors = process.communicate(timeout=300)
    assert not errors
    grown, verified = map(int, out.split())
    assert 0 < grown < 60_000  # kB; the safetensors library and numpy take most of it
    assert verified == 4
    result = tmp_path / "out" / "model.safetensors"
    status = result.stat()
    assert status.st_size > 2 * size
    assert status.st_blocks * 512 < 1_000_000
    with result.open("rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        rows = json.loads(f.read(length))
        for name in (EMBEDDING, HEAD):
            f.seek(8 + length + rows[name]["data_offsets"][0] + size // 2)
            assert f.read(13) == b"in the middle"
        f.seek(8 + length + rows["z"]["data_offsets"][0])
        assert f.read(8) == b"zzzzzzzz"


# --- pieces ------------------------------------------------------------------------------------


class Distant:
    """A source that is not local: it can only be asked for ranges."""

    stride = 1 << 20

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(folder, name="distant", kind="folder")
        self.name = "distant"
        self.kind = "folder"
        self.chosen: str | None = None
        self.revision: str | None = None
        self.bytes_read = 0
        self.longest = 0
        self.short = False

    def files(self) -> dict[str, int]:
        return self._folder.files()

    def folders(self) -> frozenset[str]:
        return self._folder.folders()

    def size(self, file: str) -> int | None:
        return self._folder.size(file)

    def read(self, file: str, begin: int, end: int) -> bytes:
        self.longest = max(self.longest, end - begin)
        data = self._folder.read(file, begin, end)
        return b"" if self.short else data

    def vet(self, file: str) -> None:
        pass

    def ahead(self, files: Iterable[str]) -> None:
        pass

    def listed(self, file: str) -> None:
        return None


def test_a_source_that_is_not_local(sharded: Path, tmp_path: Path) -> None:
    from tidoctor.opening import open_checkpoint

    (sharded / "sub").mkdir()
    distant = Distant(sharded)
    result = Plan().then((UNTIE,)).apply(open_checkpoint(distant))
    receipt = writer.write(result, tmp_path / "out")
    assert tensors(tmp_path / "out") == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}
    assert receipt.left_out == ("sub/: a folder of a source that is not local",)
    assert distant.longest <= copying.BUFFER
    distant.short = True
    with pytest.raises(Unreadable, match="ends before"):
        writer.write(result, tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_progress_is_monotonous_and_rare(source: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    receipt = writer.write(
        planned(source, UNTIE), tmp_path / "out", progress=lambda *row: told.append(row)
    )
    assert told == [("copy", receipt.cost.copied, receipt.cost.copied)]


def test_neighbours_are_joined(tmp_path: Path) -> None:
    a, b = (Folder(tmp_path, name=n, kind="folder") for n in "ab")
    spans = [Span(a, "x", 0, 4), Span(a, "x", 4, 4), Span(a, "x", 4, 9), Span(a, "y", 9, 12),
             Span(b, "y", 12, 14), Span(b, "y", 15, 16), Span(b, "y", 16, 16)]  # fmt: skip
    assert joined(spans) == (
        Span(a, "x", 0, 9), Span(a, "y", 9, 12), Span(b, "y", 12, 14), Span(b, "y", 15, 16)
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_holes_and_data_arrive_where_they_belong(data: st.DataObject) -> None:
    block = 4096
    size = data.draw(st.integers(1, 40 * block))
    islands = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, 3 * block))))
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, size))
    at = data.draw(st.integers(0, 2 * block))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "origin"
        with path.open("wb") as f:
            f.truncate(size)
            for start, length in islands:
                f.seek(start)
                f.write(random.Random(start).randbytes(min(length, size - start)))
        span = Span(Folder(Path(place), name="here", kind="folder"), "origin", begin, end)
        moved: list[int] = []
        with Origins() as origins, (Path(place) / "copy").open("w+b", buffering=0) as target:
            mover = Mover(origins, moved.append)
            mover.copy(span, target.fileno(), at)
            os.ftruncate(target.fileno(), at + end - begin)
            assert not mover.differs(span, target, at)
        content = (Path(place) / "copy").read_bytes()
        assert content == bytes(at) + path.read_bytes()[begin:end]
        assert sum(moved) == 2 * (end - begin)


def test_every_failure_is_one_of_ours(source: Path, tmp_path: Path) -> None:
    """No operation of the system, failing, shows as anything but a TidoctorError."""
    result = planned(source, UNTIE)
    for call in ("open", "stat", "lstat", "fstat", "scandir", "listdir", "mkdir", "lseek", "close"):
        for nth in range(1, 8):
            with failing(call, nth, errno.EIO), contextlib.suppress(TidoctorError):
                writer.write(result, tmp_path / f"{call}{nth}")
