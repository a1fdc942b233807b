"""Promises: what is written, what is read, and the day an export changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidoctor
from tests import checkpoints
from tests.report_samples import validated
from tidoctor import promise, promising
from tidoctor.__main__ import main
from tidoctor.errors import Unreadable
from tidoctor.finding import Finding, Severity

FILE = Path("promise.json")
TIED = checkpoints.LLAMA | {"tie_word_embeddings": True}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints.write(Path("m"), checkpoints.llama(), checkpoints.LLAMA)
    assert main(["inspect", "m", "--write-promise", str(FILE), "-q", "-o", "inspection.txt"]) == 0


def broken(table: checkpoints.Table, config: Mapping[str, Any], **more: Any) -> list[Finding]:
    """What the promise says of another export."""
    shutil.rmtree("now", ignore_errors=True)
    checkpoints.write(Path("now"), table, config, **more)
    found = tidoctor.diagnose("now", promise=FILE)
    assert "X02" in found.ran
    return [f for f in found.findings if f.code == "X02"]


def test_a_promise_is_kept_by_the_same_tensors_in_other_files() -> None:
    assert broken(checkpoints.llama(), checkpoints.LLAMA) == []
    assert broken(checkpoints.llama(), checkpoints.LLAMA, shards=3) == []
    more = checkpoints.LLAMA | {"max_position_embeddings": 4096, "transformers_version": "4.40.0"}
    assert broken(checkpoints.llama(), more) == []


def test_it_is_small_and_reads_as_it_was_written() -> None:
    text = FILE.read_text()
    assert len(text) < 4000 and validated(text.replace("\n", " "))
    rows = json.loads(text)["tensors"]
    assert {"names": "model.layers.{0..1}.mlp.up_proj.weight", "count": 2, "dtype": "BF16",
            "shape": [32, 16]} in rows  # fmt: skip
    read = promise.load(FILE)
    made = promising.promise(tidoctor.open("m"))
    assert (read.tensors, read.loaders, read.tie) == (made.tensors, made.loaders, "untied")
    assert promise.text(made) == text
    checkpoints.write(Path("deep"), checkpoints.llama(80), checkpoints.LLAMA)
    assert len(promise.text(promising.promise(tidoctor.open("deep"), ["vllm"]))) < 2500


@pytest.mark.parametrize(
    ("table", "config", "told"),
    [
        (checkpoints.llama(head=False), checkpoints.LLAMA, ["1 tensor is promised and not there"]),
        (checkpoints.llama(3), checkpoints.LLAMA, ["9 tensors are there and not promised"]),
        (checkpoints.llama() | {"model.norm.weight": ("F32", [16])}, checkpoints.LLAMA,
         ["1 tensor is of another dtype: model.norm.weight is F32, BF16 promised"]),
        (checkpoints.llama() | {"lm_head.weight": [65, 16]}, checkpoints.LLAMA,
         ["1 tensor is of another shape: lm_head.weight is [65, 16], [64, 16] promised"]),
        (checkpoints.llama(), TIED, ["head and embedding are tied, the promise says untied"]),
        (checkpoints.llama(), checkpoints.LLAMA | {"architectures": ["LlamaModel"]},
         ["architectures is LlamaModel, the promise says LlamaForCausalLM"]),
        (checkpoints.llama(), checkpoints.LLAMA | {"architectures": []},
         ["architectures is absent, the promise says LlamaForCausalLM"]),
    ],
)  # fmt: skip
def test_the_day_an_export_changes(table: Any, config: Any, told: list[str]) -> None:
    found = broken(table, config)
    messages = [f.message for f in found if "loader" not in f.message]
    assert messages == told and found[0].severity is Severity.ERROR
    assert main(["diagnose", "now", "--promise", str(FILE), "--select", "X"]) == 1
    assert len({f.fingerprint for f in found}) == len(found)


def test_what_loaders_make_of_it_is_one_finding() -> None:
    (one,) = [f for f in broken(checkpoints.llama(prefix=""), checkpoints.LLAMA) if "loader" in f.message]
    assert one.severity is Severity.ERROR and len(one.evidence) > 5
    assert {e.where for e in one.evidence} >= {"vllm", "candle", "promise"}


def test_a_loader_that_takes_it_now_is_a_note_and_one_unknown_a_warning() -> None:
    document = json.loads(FILE.read_text())
    for verdict, version, severity in (
        ("fails", "0.11.0", Severity.NOTE), ("loads", "99.9", Severity.WARNING),
    ):  # fmt: skip
        document["loaders"] = [{"loader": "candle", "version": version, "verdict": verdict}]
        FILE.write_text(json.dumps(document))
        (one,) = broken(checkpoints.llama(), checkpoints.LLAMA)
        assert one.severity is severity, one


def test_only_the_loaders_that_were_asked_about_are_promised() -> None:
    line = ["inspect", "m", "--write-promise", str(FILE), "--for", "candle@0.7.1", "-o", "x.txt"]
    assert main(line) == 0
    assert promise.load(FILE).loaders == (("candle", "0.7.1", "loads"),)
    assert main([*line, "--for", "candel"]) == 2
    assert main(["inspect", "m", "m", "--write-promise", str(FILE)]) == 2


def test_a_promise_cannot_be_left_unread() -> None:
    assert main(["diagnose", "m", "--promise", "none.json"]) == 3
    assert main(["diagnose", "m", "--promise", "m/config.json"]) == 3
    assert main(["inspect", "m", "--write-promise", "m/config.json"]) == 2


NAMES = st.text("ab.{}019,", min_size=1, max_size=9)


@settings(deadline=None, suppress_health_check=list(HealthCheck))  # a busy machine is no fault
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(["F32", "BF16"]), st.tuples(st.integers(0, 3)))))
def test_any_names_come_back(tensors: dict[str, Any]) -> None:
    given = promise.Promise("m", tensors, (), None, "tied", (), "1")
    read = promise._promise("m", json.loads(promise.text(given)))
    assert read.tensors == tensors


@pytest.mark.parametrize(
    "row",
    [
        {"names": "a.{0..999999999}", "dtype": "F32", "shape": []},
        {"names": ".".join(["{0..999}"] * 9), "dtype": "F32", "shape": []},
        {"names": "a.{0..3,}", "dtype": "F32", "shape": []},
        {"names": "a.{..}", "dtype": "F32", "shape": []},
        {"names": "a.{0..1}", "count": 3, "dtype": "F32", "shape": []},
        {"names": "a.{0,0..1}", "dtype": "F32", "shape": []},
        {"names": "a", "dtype": "F32", "shape": [True]},
        {"names": "a", "dtype": "F32", "shape": [-1]},
        {"names": "a", "dtype": 1, "shape": []},
        {"dtype": "F32", "shape": []},
        [],
    ],
)
def test_hostile_rows_are_refused(row: Any) -> None:
    document = json.loads(FILE.read_text()) | {"tensors": [row]}
    FILE.write_text(json.dumps(document))
    with pytest.raises(Unreadable, match=r"is no tidoctor\.promise/1"):
        promise.load(FILE)


def test_rows_that_stand_for_the_same_names_are_refused() -> None:
    row = {"names": "a.{0..9}", "dtype": "F32", "shape": []}
    document = json.loads(FILE.read_text()) | {"tensors": [row, row]}
    FILE.write_text(json.dumps(document))
    with pytest.raises(Unreadable, match="stand for the same names"):
        promise.load(FILE)


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{}", b"\xff\xfe", b"[" * 100_000])
def test_hostile_files_are_refused(data: bytes) -> None:
    FILE.write_bytes(data)
    with pytest.raises(Unreadable):
        promise.load(FILE)
