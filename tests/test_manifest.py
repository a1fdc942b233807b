"""The manifest that a repair writes, and what it says when something has changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import tidoctor
from tests import checkpoints
from tests.test_writer import EMBEDDING, HEAD, state, tensors
from tidoctor import manifest
from tidoctor.errors import Unreadable, Usage
from tidoctor.form import Form

TIED = checkpoints.LLAMA | {"tie_word_embeddings": True}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "source", checkpoints.llama(head=False), TIED, shards=2)


def untied(source: Path, tmp_path: Path, **wishes: object) -> list[dict[str, object]]:
    form = Form(manifest=tmp_path / "manifest.json", **wishes)  # type: ignore[arg-type]
    assert tidoctor.untie(source, tmp_path / "out", form=form).exit_code == 0
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert data["schema"] == "tidoctor.manifest/1"
    return data["tensors"]  # type: ignore[no-any-return]


def codes(folder: Path, file: Path) -> list[str]:
    return [f.code for f in tidoctor.diagnose(folder, manifest=file).findings if f.severity > 1]


@pytest.mark.parametrize("link", ["auto", "hard"])
def test_it_says_what_lies_where_and_whence(source: Path, tmp_path: Path, link: str) -> None:
    rows = untied(source, tmp_path, link=link)
    assert {row["name"] for row in rows} == set(tensors(tmp_path / "out"))
    for row in rows:
        raw = (tmp_path / "out" / str(row["file"])).read_bytes()[row["begin"] : row["end"]]  # type: ignore[misc]
        assert hashlib.sha256(raw).hexdigest() == row["sha256"]
        (origin,) = row["origin"]
        assert isinstance(origin, dict) and origin["source"] == str(source)
        assert (source / origin["file"]).read_bytes()[origin["begin"] : origin["end"]] == raw
    assert codes(tmp_path / "out", tmp_path / "manifest.json") == []


def test_casts_are_recorded_as_they_came_out(source: Path, tmp_path: Path) -> None:
    rows = untied(source, tmp_path, dtypes=(("*", "F32"),))
    assert {(row["dtype"], row["origin"][0]["dtype"]) for row in rows} == {("F32", "BF16")}  # type: ignore[index]
    assert codes(tmp_path / "out", tmp_path / "manifest.json") == []


def test_an_overlay_is_recorded_with_what_stays(source: Path, tmp_path: Path) -> None:
    import shutil

    rows = untied(source, tmp_path, delta=True)
    assert {row["name"] for row in rows} == {*tensors(source), HEAD}
    for path in (tmp_path / "out").iterdir():
        shutil.copy(path, source)
    assert codes(source, tmp_path / "manifest.json") == []


def test_a_byte_that_changed_is_found(source: Path, tmp_path: Path) -> None:
    rows = untied(source, tmp_path)
    row = next(row for row in rows if row["name"] == EMBEDDING)
    with (tmp_path / "out" / str(row["file"])).open("r+b") as f:
        f.seek(int(str(row["begin"])) + 5)
        f.write(b"\x11")
    found = [f for f in tidoctor.diagnose(tmp_path / "out", manifest=tmp_path / "manifest.json").findings
             if f.code == "X03"]  # fmt: skip
    assert [f.tensors for f in found] == [(EMBEDDING,)]
    assert "holds other bytes" in found[0].evidence[0].fact


def test_names_and_types_that_changed_are_found(source: Path, tmp_path: Path) -> None:
    untied(source, tmp_path)
    finding = next(f for f in tidoctor.diagnose(source, manifest=tmp_path / "manifest.json").findings if f.code == "X03")
    assert finding.tensors == (HEAD,) and "is not there" in finding.evidence[0].fact
    tidoctor.repair(tmp_path / "out", tmp_path / "cast", form=Form(dtypes=(("*", "F16"),)))
    assert codes(tmp_path / "cast", tmp_path / "manifest.json") == ["X03"]


def test_without_a_manifest_the_rule_does_not_apply(source: Path) -> None:
    found = tidoctor.diagnose(source)
    assert ("X03", "no manifest was given") in [(n.code, n.reason) for n in found.not_applicable]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "\0", '{"schema": "tidoctor.manifest/1"}', '{"schema": "tidoctor.manifest/1", "tensors": [1]}',
     '{"schema": "tidoctor.manifest/1", "tensors": [{"name": "\\u001b", "dtype": "F32", "shape": [true], "sha256": ""}]}',
     "[" * 100_000, '{"schema": "tidoctor.manifest/2", "tensors": []}'],
)  # fmt: skip
def test_what_is_no_manifest(source: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "m").write_text(text)
    with pytest.raises(Unreadable, match=r"no manifest|cannot be understood"):
        tidoctor.diagnose(source, manifest=tmp_path / "m")


def test_a_manifest_that_is_not_there_or_no_file(source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("nothing", "source", "pipe", "a\0b"):
        with pytest.raises(Unreadable):
            tidoctor.diagnose(source, manifest=tmp_path / name)


@pytest.mark.parametrize(
    ("place", "why"),
    [("source/manifest.json", "inside the source"), ("source/config.json", "inside the source"),
     ("nowhere/m", "no parent"), ("there", "exists already")],
)  # fmt: skip
def test_places_where_it_may_not_go(source: Path, tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "there").write_text("mine")
    before = state(tmp_path)
    with pytest.raises(Usage, match=why):
        tidoctor.untie(source, tmp_path / "out", form=Form(manifest=tmp_path / place))
    assert state(tmp_path) == before


def test_it_may_stand_in_the_result(source: Path, tmp_path: Path) -> None:
    inside = tmp_path / "out" / "manifest.json"
    tidoctor.untie(source, tmp_path / "out", form=Form(manifest=inside))
    assert len(manifest.read(inside).tensors) == len(tensors(tmp_path / "out"))
