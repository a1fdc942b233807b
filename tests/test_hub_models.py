"""Patterns of models on the Hub: which models they stand for, and one report of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama
from checkpoints import write as write_checkpoint
from fakehub import FakeHub, Fault
from report_samples import validated

from tidoctor import many
from tidoctor.__main__ import main
from tidoctor.errors import Unreadable
from tidoctor.report import progress
from tidoctor.source import models, transfer

WELL = build(llama(), LLAMA)
LOST = build(llama(head=False), LLAMA)
OLD = {"config.json": b"{}", "pytorch_model.bin": b"PK"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDOCTOR_FORMAT", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "wait", lambda seconds: None)


@pytest.fixture
def org(hub: FakeHub) -> FakeHub:
    """An owner with models of every kind, listed two at a time."""
    hub.page = 2
    hub.repo("org/b-lost", LOST)
    hub.repo("org/a-well", WELL)
    hub.repo("org/a-old", OLD)
    hub.repo("org/c-gated", WELL, gated=True)
    hub.repo("org/d-secret", WELL, private=True)
    hub.repo("organ/other", WELL)
    return hub


def test_a_pattern_stands_for_the_models_of_one_owner(org: FakeHub) -> None:
    found = many.found(["org/*"])
    assert found.sources == ["org/a-well", "org/b-lost", "org/c-gated"]
    assert (found.passed_by, found.refused) == (["org/a-old"], {})
    assert [r.what for r in org.log] == ["/api/models"] * 2
    assert many.found(["org/[ab]-[wl]*"]).sources == ["org/a-well", "org/b-lost"]
    assert many.found(["hf://org/b-*@main", "org/b-lost"]).sources == [
        "hf://org/b-lost@main", "org/b-lost"
    ]  # fmt: skip
    assert many.found(["org/?-well", "org/a*", "./org/a-well"]).sources == ["org/a-well"]
    assert many.found(["ORG/a-w*"]).sources == ["org/a-well"]


def test_whoever_may_sees_private_models(org: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    org.users["hf_me"] = "me"
    org.repos["org/d-secret"].members = org.repos["org/c-gated"].members = frozenset({"me"})
    monkeypatch.setenv("HF_TOKEN", "hf_me")
    assert "org/d-secret" in many.found(["org/*"]).sources
    assert main(["diagnose", "org/[acd]*", "-q"]) == 0


def test_one_summary_with_what_was_passed_by_and_what_was_not_examined(
    org: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "org/*"]) == 3
    out, err = capsys.readouterr()
    assert out.endswith("\n3 checkpoints: 1 pass, 1 fail, 1 not examined.\n")
    passed, gated = err.splitlines()
    assert passed == "passed by, for they have no .safetensors: org/a-old"
    assert gated.startswith("error: org/c-gated: config.json: is gated: ")
    assert main(["diagnose", "org/a-*"]) == 0


@pytest.mark.parametrize(
    "format", ["concise", "json", "github", "sarif", "junit", "markdown"]
)  # fmt: skip
def test_one_report_in_every_format(
    org: FakeHub, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "org/*", "-q", "--format", format]) == 3
    told = capsys.readouterr().out
    if format == "json":
        rows = [validated(line) for line in told.splitlines()]
        commits = [org.repos[f"org/{n}"].branches["main"] for n in ("a-well", "b-lost")]
        assert [row["source"]["revision"] for row in rows[:2]] == commits
        assert [row["schema"] for row in rows] == ["tidoctor.diagnosis/1"] * 2 + ["tidoctor.error/1"]
    if format == "sarif":
        ids = [run["automationDetails"]["id"] for run in json.loads(told)["runs"]]
        assert ids[:2] == ["tidoctor/org/a-well/", "tidoctor/org/b-lost/"]
    if format in ("junit", "markdown"):  # the two that tell of what is healthy
        assert "org/a-well" in told
    assert "org/b-lost" in told
    assert "a-old" not in told and "d-secret" not in told


def test_progress_counts_models(
    org: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(progress, "_PAUSE", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["diagnose", "org/[ab]*", "--format", "json", "-o", "report.jsonl"]) == 1
    err = capsys.readouterr().err
    assert "\r\x1b[K  0 %  0 of 2 checkpoints  org/a-well" in err
    assert "\r\x1b[K 50 %  1 of 2 checkpoints  org/b-lost" in err


def test_what_is_here_wins(org: FakeHub) -> None:
    write_checkpoint(Path("org/mine"), llama(), LLAMA)
    Path("org/.hidden").mkdir()
    assert many.found(["org/*"]).sources == ["org/mine"]
    assert many.found(["org/*", "hf://org/a-w*"], recursive=True).sources == [
        "org/mine", "hf://org/a-well"
    ]  # fmt: skip
    Path("org/[ab]*").mkdir()
    assert many.found(["org/[ab]*"]).sources == ["org/[ab]*"]
    assert many.found(["org/b-*"]).sources == ["org/b-lost"]
    assert many.found(["./org/z*", "here-*", "*/model"]).sources == ["./org/z*", "here-*", "*/model"]


@pytest.mark.parametrize("text", ["org/z*", "nobody/*", "hf://org/z*"])
def test_nothing_that_matches_is_one_line(
    org: FakeHub, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", text, "org/a-well"]) == 3
    out, err = capsys.readouterr()
    assert "2 checkpoints: 1 pass, 1 not examined." in out
    owner = text.removeprefix("hf://").partition("/")[0]
    (line,) = err.splitlines()
    assert line.startswith(f"error: {text}: nothing here matches, and no model of {owner} on 127.")
    assert main(["diagnose", text, "--format", "json"]) == 3
    assert validated(capsys.readouterr().out)["schema"] == "tidoctor.error/1"


def test_models_without_weights_alone_are_not_examined(
    org: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "org/*-old"]) == 3
    assert capsys.readouterr().err == (
        "error: org/*-old: none of the 1 models that match has a .safetensors file; "
        "only these can be examined\n"
    )


def test_where_the_listing_leaves_files_out_every_model_is_opened(org: FakeHub) -> None:
    org.repos["org/a-old"].unlisted = True
    assert many.found(["org/a-*"]).sources == ["org/a-old", "org/a-well"]
    assert main(["diagnose", "org/a-*"]) == 3


def test_offline_it_says_so(org: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: True)
    (error,) = many.found(["org/*"]).refused.values()
    assert str(error) == "org/*: is needed from the Hub, but HF_HUB_OFFLINE is set; unset it"
    assert not org.log


@pytest.mark.parametrize(
    ("status", "times", "said"),
    [(503, 2, None), (429, 3, None), (503, 99, "in trouble (status 503)"),
     (403, 1, "forbids it"), (404, 1, "is not to be found")],
)  # fmt: skip
def test_a_listing_that_fails(
    org: FakeHub, status: int, times: int, said: str | None
) -> None:
    org.faults.append(Fault(action="status", status=status, what="/api/models", times=times))
    found = many.found(["org/b-*"])
    assert found.sources == (["org/b-*"] if said else ["org/b-lost"])
    assert not said or said in str(found.refused["org/b-*"])


@pytest.mark.parametrize(
    "page",
    ["not JSON", "[" * 100_000, "{}", "[null]", '[{"id": 5}]', '[{"name": "org/x"}]',
     '[{"id": "org/x", "siblings": [5]}]', "null", '"org/x"'],
)  # fmt: skip
def test_a_listing_that_is_none(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, page)
    (error,) = many.found(["org/*"]).refused.values()
    assert "\n" not in str(error) and len(str(error)) < 300


def test_what_a_server_calls_a_model_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["../x", "/etc/passwd", "org/../../x", "org/x\n", "org/", "org/a/b", "other/x", "-x",
             "org/x y", "org/\x1b[31m", "org", "s3://org/x", "ORG/fine"]  # fmt: skip
    serve(monkeypatch, json.dumps([{"id": name} for name in names]))
    assert many.found(["org/*"]).sources == ["ORG/fine"]


def test_a_listing_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, '[{"id": "org/x"}]', following="http://127.0.0.1/again")
    with pytest.raises(Unreadable, match="the listing does not end"):
        models.models("org/*", models.Pattern("", "org", "*", ""))


def serve(monkeypatch: pytest.MonkeyPatch, page: str, following: str = "") -> None:
    def whole(self: Any, url: str, most: int) -> transfer.Piece:
        return transfer.Piece(page.encode()[:most], None, "", url, following)

    monkeypatch.setattr(transfer.Client, "whole", whole)
