"""Many checkpoints: which they are, in which order, and what one call with them does."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests import checkpoints
from tests.report_samples import validated
from tidoctor import many
from tidoctor.__main__ import main
from tidoctor.many import WORKERS, Ahead


def found(*given: Any, **how: Any) -> list[str]:
    return many.found(*given, **how).sources


LOST = {"config": checkpoints.LLAMA, "table": checkpoints.llama(head=False)}


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDOCTOR_FORMAT", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("zoo/b/run-2", "zoo/a", "zoo/.cache/x"):
        checkpoints.write(Path(name), checkpoints.llama(), checkpoints.LLAMA, shards=2)
    checkpoints.write(Path("zoo/b/run-10"), **LOST)
    Path("zoo/papers").mkdir()
    Path("zoo/papers/config.json").write_text("{}")


def test_checkpoints_below_a_folder() -> None:
    assert found(["zoo"]) == ["zoo"]
    assert found(["zoo"], recursive=True) == ["zoo/a", "zoo/b/run-10", "zoo/b/run-2"]
    assert found(["zoo/papers", "zoo/a", "./zoo/a/"], recursive=True) == ["zoo/papers", "zoo/a"]
    assert found(["none", "hf://a//b", "zoo/a"], recursive=True) == ["none", "hf://a//b", "zoo/a"]


def test_links_are_followed_once() -> None:
    Path("zoo/b/up").symlink_to("..")
    Path("zoo/linked").symlink_to("a")
    assert found(["zoo"], recursive=True) == ["zoo/a", "zoo/b/run-10", "zoo/b/run-2"]
    Path("other").mkdir()
    Path("other/in").symlink_to("../zoo/a")
    assert found(["other"], recursive=True) == ["other/in"]


def test_links_in_a_circle_are_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("zoo/self").symlink_to("self")
    Path("zoo/there").symlink_to("back")
    Path("zoo/back").symlink_to("there")
    assert found(["zoo"], recursive=True) == ["zoo/a", "zoo/b/run-10", "zoo/b/run-2"]
    Path("zoo/papers/x.safetensors").symlink_to("x.safetensors")
    assert "zoo/papers" in found(["zoo"], recursive=True)
    assert main(["diagnose", "-r", "zoo/papers"]) == 3
    assert "internal" not in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuses(path: str) -> object:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuses)
    assert found(["zoo"], recursive=True) == ["zoo/a", "zoo/b/run-10", "zoo/b/run-2"]
    assert main(["diagnose", "-r", "zoo"]) == 3


def test_files_stand_for_their_checkpoint() -> None:
    files = ["zoo/a/config.json", "zoo/a/model-00001-of-00002.safetensors",
             "zoo/papers/config.json", "zoo/b/run-2/model.safetensors.index.json"]  # fmt: skip
    assert found(files, of_files=True) == ["zoo/a", "zoo/b/run-2"]


def test_looking_ahead_keeps_order_and_bounds() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(WORKERS, timeout=60)

    def look(source: str) -> str:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        gate.wait()
        with lock:
            at_once -= 1
        if source == "7":
            raise ValueError(source)
        return source * 2

    names = [str(n) for n in range(4 * WORKERS)]
    with Ahead(names, look) as seen:
        for name in names:
            if name == "7":
                with pytest.raises(ValueError):
                    seen(name)
            else:
                assert seen(name) == name * 2
    assert most == WORKERS


def test_leaving_early_begins_nothing_new() -> None:
    begun: list[str] = []
    names = [str(n) for n in range(1000)]
    with Ahead(names, begun.append) as seen:
        seen("0")
    assert len(begun) <= 2 * WORKERS


def test_one_report_one_summary_one_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "-r", "zoo", "zoo/none"]) == 3
    captured = capsys.readouterr()
    assert captured.out.endswith("\n4 checkpoints: 2 pass, 1 fail, 1 not examined.\n")
    assert captured.err.count("error: zoo/none: ") == 1
    assert main(["diagnose", "-r", "zoo", "--format", "json"]) == 1
    told = [validated(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["source"]["name"] for t in told] == found(["zoo"], recursive=True)
    assert main(["diagnose", "-r", "zoo", "--format", "sarif"]) == 1
    runs = json.loads(capsys.readouterr().out)["runs"]
    ids = [run["automationDetails"]["id"] for run in runs]
    assert ids == [f"tidoctor/{name}/" for name in found(["zoo"], recursive=True)]


def test_files_of_no_checkpoint_are_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--of-files", "zoo/papers/config.json"]) == 0
    assert capsys.readouterr().err == "nothing to examine: there are no weights beside these files\n"
    assert main(["diagnose", "--of-files", "zoo/b/run-10/config.json"]) == 1


def test_a_baseline_from_nothing_to_a_new_finding(capsys: pytest.CaptureFixture[str]) -> None:
    known = ["diagnose", "-r", "zoo", "--baseline", "known.json"]
    assert main(known) == 3 and "--write-baseline" in capsys.readouterr().err
    assert main(["diagnose", "zoo/a", "--write-baseline"]) == 2
    assert main([*known, "--write-baseline"]) == 0
    assert list(json.loads(Path("known.json").read_text())["sources"]) == ["zoo/b/run-10"]
    capsys.readouterr()
    assert main(known) == 0
    assert "waived error H02 head-lost" in capsys.readouterr().out
    checkpoints.write(Path("zoo/c"), **LOST)
    assert main(known) == 1


def test_settings_reach_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text(
        '[tool.tidoctor]\nfail-on = "note"\n[[tool.tidoctor.waive]]\ncode = "H02"\n'
        'source = "zoo/b/*"\nreason = "to be grafted"\n'
    )
    assert main(["diagnose", "zoo/b/run-10"]) == 0
    out = capsys.readouterr().out
    assert "because            to be grafted (pyproject.toml)" in out
    assert "healthy: but for what is waived, 1 error waived. " in out
    assert main(["diagnose", "zoo/b/run-10", "--isolated"]) == 1
    Path("pyproject.toml").write_text("[tool.tidoctor]\nignore = ['H02']\n")
    assert main(["diagnose", "zoo/b/run-10"]) == 0
    assert main(["diagnose", "zoo/b/run-10", "--ignore", "D"]) == 1
    assert main(["repair", "zoo/b/run-10", "out"]) == 0
    Path("pyproject.toml").write_text("[tool.tidoctor]\nignor = ['H02']\n")
    for line in (["diagnose", "zoo/a"], ["repair", "zoo/a", "out"]):
        assert main(line) == 2
        assert "did you mean ignore?" in capsys.readouterr().err
