"""Results sent back to the Hub: only what changed, on top of what was examined, never twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama, write
from fakehub import FakeHub
from report_samples import validated

import tidoctor
from tidoctor.__main__ import main

TIED = LLAMA | {"tie_word_embeddings": True}
OTHERS = {"tokenizer.json": "{}", "original/params.json": "{}"}

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A tied model in three shards that belongs to the user of the token."""
    hub.repo("me/m", build(llama(head=False), TIED, shards=3, files=OTHERS))
    hub.repos["me/m"].members = frozenset({"me"})
    hub.users |= {"hf_me": "me", "hf_you": "you"}
    monkeypatch.setenv("HF_TOKEN", "hf_me")
    return hub


def told(capsys: Capture, *line: str) -> dict[str, Any]:
    code = main([*line, "--format", "json"])
    found = validated(capsys.readouterr().out)
    assert code == found["exit_code"] and "push" in found, found
    return dict(found)


def test_only_what_changed_goes_to_the_model_itself(
    model: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    repo = model.repos["me/m"]
    before = repo.branches["main"]
    dest = tmp_path / "out"
    sent = told(capsys, "untie", "me/m", str(dest), "--push", "me/m")["push"]
    assert sent["parent"] == before
    assert sent["url"].startswith(model.url)
    after = repo.commits[repo.branches["main"]]
    here = {p.relative_to(dest).as_posix() for p in dest.rglob("*") if p.is_file()}
    assert set(after) == here
    assert all(after[n].read(0, after[n].size) == (dest / n).read_bytes() for n in here)
    assert "[tidoctor]" not in repo.descriptions[repo.branches["main"]]
    assert "model.embed_tokens.weight → lm_head.weight" in repo.descriptions[repo.branches["main"]]
    assert tidoctor.diagnose("me/m").worst is not None  # a note: the head equals the embedding
    # The shards got new names, but their bytes are there already: only the new one was sent.
    uploaded = [r for r in model.log if r.method == "PUT"]
    assert len(uploaded) == 1


def test_a_dry_run_tells_what_would_go(model: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    before = dict(model.repos["me/m"].branches)
    line = ["untie", "me/m", str(tmp_path / "out"), "--create-pr", "--dry-run"]
    push = told(capsys, *line)["push"]
    assert (push["repo"], push["url"], push["pull_request"]) == ("me/m", None, True)
    assert {row["file"] for row in push["add"]} == {
        *(f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)), "model.safetensors.index.json"
    }  # fmt: skip
    assert sorted(push["delete"]) == [f"model-{i:05d}-of-00003.safetensors" for i in range(1, 4)]
    assert model.repos["me/m"].branches == before
    assert not any(r.method in ("POST", "PUT") for r in model.log)
    assert list(tmp_path.iterdir()) == []
    assert main(line) == 0
    assert "a pull request to me/m on top of" in capsys.readouterr().out


def test_a_pull_request_is_found_again(
    model: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = model.repos["me/m"]
    monkeypatch.setenv("HF_TOKEN", "hf_you")  # who may not write there can propose
    first = told(capsys, "untie", "me/m", str(tmp_path / "a"), "--create-pr")["push"]
    second = told(capsys, "untie", "me/m", str(tmp_path / "b"), "--create-pr")["push"]
    assert first["url"] == second["url"]
    assert len(repo.pulls) == 1
    assert (repo.pulls[0].title, repo.pulls[0].author) == ("[tidoctor] untie", "you")
    assert "lm_head.weight" in repo.pulls[0].description
    assert "lm_head.weight" in tidoctor.open("me/m@refs/pr/1").tensors
    repo.pulls[0].status = "closed"
    told(capsys, "untie", "me/m", str(tmp_path / "c"), "--create-pr")
    assert len(repo.pulls) == 2


def test_what_has_moved_is_not_overwritten(
    model: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidoctor import writer

    repo = model.repos["me/m"]
    write_ = writer.write

    def later(*arguments: Any, **more: Any) -> Any:
        repo.commit({**repo.commits[repo.branches["main"]], "new": b"x"})
        return write_(*arguments, **more)

    monkeypatch.setattr(writer, "write", later)
    dest = tmp_path / "out"
    assert main(["untie", "me/m", str(dest), "--push", "me/m"]) == 1
    said = capsys.readouterr().err
    assert "has changed since it was examined" in said
    assert f"the result is at {dest}" in said
    assert "new" in repo.commits[repo.branches["main"]]


def test_another_model_gets_all_of_it(model: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "m", llama(head=False), TIED, files=OTHERS)
    line = ["untie", str(tmp_path / "m"), str(tmp_path / "out"), "--push", "me/fresh"]
    assert told(capsys, *line)["push"]["parent"] is None
    fresh = tidoctor.open("me/fresh")
    assert "lm_head.weight" in fresh.tensors
    assert {"tokenizer.json", "config.json"} <= set(fresh.files)


@pytest.mark.parametrize(
    ("token", "push", "said"),
    [
        ("hf_you", "me/m", "forbids it to the token in HF_TOKEN"),
        ("hf_bad", "me/m", "does not accept the token in HF_TOKEN"),
    ],
)
def test_who_may_not_write_is_told(
    model: FakeHub, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    token: str, push: str, said: str,
) -> None:  # fmt: skip
    write(tmp_path / "m", llama(head=False), TIED)
    monkeypatch.setenv("HF_TOKEN", token)
    model.repos["me/m"].members = frozenset({"me"})
    assert main(["untie", str(tmp_path / "m"), str(tmp_path / "out"), "--push", push]) == 3
    error = capsys.readouterr().err
    assert said in error
    assert token not in error


def test_a_pull_request_needs_a_model(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "m", llama(head=False), TIED)
    assert main(["untie", str(tmp_path / "m"), str(tmp_path / "out"), "--create-pr"]) == 2
    assert "name the model with --push" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_sent_when_nothing_was_written(
    model: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    model.repo("me/lost", build(llama(head=False), LLAMA))
    line = ["repair", "me/lost", str(tmp_path / "out"), "--push", "me/lost", "--format", "json"]
    assert main(line) == 1
    assert json.loads(capsys.readouterr().out)["push"] is None
    assert not any(r.method in ("POST", "PUT") for r in model.log)


@pytest.mark.parametrize("where", [["--push", "me/m"], ["--create-pr"]])
def test_an_overlay_is_not_sent(
    model: FakeHub, tmp_path: Path, capsys: Capture, where: list[str]
) -> None:
    assert main(["untie", "me/m", str(tmp_path / "out"), "--delta", *where]) == 2
    said = capsys.readouterr().err
    assert f"--delta: contradicts {where[0]}" in said and len(said.splitlines()) == 1, said
    assert not (tmp_path / "out").exists() and not model.log
