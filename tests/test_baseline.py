"""Known findings: only new ones fail, and the file can be reviewed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report_samples import ILL, LIKELY, NOTE, SAVED_BASE, validated
from tidoctor import baseline
from tidoctor.errors import Unreadable
from tidoctor.finding import Diagnosis, Severity

FILE = Path("known.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()


def written(**examined: Diagnosis) -> baseline.Baseline:
    FILE.write_text(baseline.load(FILE, must_exist=False).text(examined))
    return baseline.load(FILE)


def test_what_is_known_no_longer_counts() -> None:
    found = written(m=ILL).apply(ILL, "m")
    assert found.findings == () and [w.finding for w in found.waived] == list(ILL.findings)
    assert {w.by for w in found.waived} == {"known.json"}
    new = replace(SAVED_BASE, tensors=("other.weight",))
    found = written(m=ILL).apply(replace(ILL, findings=(new, NOTE)), "m")
    assert found.findings == (new,)
    assert written(m=ILL).apply(ILL, "other").findings == ILL.findings


def test_what_became_worse_is_new() -> None:
    mild = replace(SAVED_BASE, severity=Severity.WARNING)
    known = written(m=replace(ILL, findings=(mild,)))
    assert known.apply(ILL, "m").findings == ILL.findings
    known = written(m=ILL)
    assert known.apply(replace(ILL, findings=(mild,)), "m").findings == ()


def test_of_equal_fingerprints_as_many_are_known_as_there_were() -> None:
    twice = replace(ILL, findings=(LIKELY, LIKELY))
    assert len(written(m=replace(ILL, findings=(LIKELY,))).apply(twice, "m").findings) == 1
    assert written(m=twice).apply(twice, "m").findings == ()


def test_a_finding_about_one_loader_is_not_one_about_another() -> None:
    first, second = replace(SAVED_BASE, about="candle"), replace(SAVED_BASE, about="vllm")
    known = written(m=replace(ILL, findings=(first,)))
    assert known.apply(replace(ILL, findings=(first, second)), "m").findings == (second,)


def test_the_folder_of_the_command_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    known = written(m=ILL)
    assert known.apply(ILL, str(Path("m").absolute())).findings == ()
    monkeypatch.chdir("m")
    known = baseline.load(Path("..") / FILE)
    assert known.apply(ILL, ".").findings == ()
    assert baseline.key(FILE, "hf://org/name") == "hf://org/name"


def test_what_was_not_examined_stays_written() -> None:
    written(m=ILL, gone=ILL)
    again = written(m=replace(ILL, findings=(NOTE,)))
    assert [len(rows) for rows in (again.sources["gone"], again.sources["m"])] == [3, 1]
    assert "m" not in written(m=replace(ILL, findings=())).sources


def test_the_file_is_the_same_every_time() -> None:
    text = baseline.Baseline(FILE, {}).text({"m": ILL})
    assert validated(text.replace("\n", " "))
    shuffled = replace(ILL, findings=tuple(reversed(ILL.findings)))
    assert baseline.Baseline(FILE, {}).text({"m": shuffled}) == text
    assert text.isascii() and list(json.loads(text)) == ["schema", "sources"]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"schema": "tidoctor.baseline/2"}', b"[" * 100_000,
     b'{"schema": "tidoctor.baseline/1", "sources": []}',
     b'{"schema": "tidoctor.baseline/1", "sources": {"m": 1}}',
     b'{"schema": "tidoctor.baseline/1", "sources": {"m": [{"fingerprint": 1}]}}',
     b'{"schema": "tidoctor.baseline/1", "sources": {"m": [{"fingerprint": "a", "severity": "x"}]}}'],
)  # fmt: skip
def test_another_file_is_no_baseline(data: Any) -> None:
    FILE.write_bytes(data)
    with pytest.raises(Unreadable, match=r"is no tidoctor\.baseline/1"):
        baseline.load(FILE)
    with pytest.raises(Unreadable):
        baseline.load(FILE, must_exist=False)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(Unreadable, match="--write-baseline"):
        baseline.load(FILE)
