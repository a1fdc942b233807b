"""Repairs from the Hub that stopped half-way go on there, with nothing taken on trust."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA
from fakehub import FakeHub, safetensors
from fakehub.faults import Fault

import tidoctor
from tidoctor import continuing, writer
from tidoctor.__main__ import main
from tidoctor.continuing import JOURNAL
from tidoctor.errors import Unreadable, Unwritable
from tidoctor.form import Form
from tidoctor.source import distant

ROOT = Path(__file__).parents[1]
PART = 1 << 18  # bytes of one request here
SLACK = 33 * PART  # bytes that are lost with a process: what waits for the first of them
ROWS, WIDTH = 1 << 17, 128  # 32 MB of BF16
CHILD = f"""
import sys
import os
from tidoctor import continuing
from tidoctor.source import distant
distant.POURED = {PART}
continuing.WORTH = int(os.environ.get("WORTH", continuing.WORTH))
from tidoctor.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills like that")


def config() -> bytes:
    return json.dumps(
        LLAMA | {"vocab_size": ROWS, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 0}
    ).encode()


def files(*names: str, seed: int = 0, shards: int = 1) -> dict[str, Any]:
    """A model of these tensors, each of 32 MB but for the norm; in files of its own with `shards`."""
    shape = {"model.norm.weight": [WIDTH]}
    rows = [(name, "BF16", shape.get(name, [ROWS, WIDTH])) for name in names]
    made: dict[str, Any] = {"config.json": config(), "LICENSE": b"free " * 999}
    if shards == 1:
        return made | {"model.safetensors": safetensors(rows, seed=seed)}
    places = {}
    for k, row in enumerate(rows):
        places[row[0]] = f"model-{k + 1:05d}-of-{len(rows):05d}.safetensors"
        made[places[row[0]]] = safetensors([row], seed=seed + k)
    total = sum(2 * row[2][0] * (row[2][1] if len(row[2]) > 1 else 1) for row in rows)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    return made | {"model.safetensors.index.json": json.dumps(index).encode()}


HEAD, NORM, EMBED = "lm_head.weight", "model.norm.weight", "model.embed_tokens.weight"
GRAFT = ("repair", "org/lost", "--donor", "org/base")


@pytest.fixture
def models(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A patient that has lost its head, and its donor; 64 MB come, one half of each."""
    monkeypatch.setattr(distant, "POURED", PART)
    hub.repo("org/base", files(EMBED, NORM, HEAD, seed=1))
    hub.repo("org/lost", files(EMBED, NORM, seed=5))
    return hub


def start(out: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHILD, words[0], words[1], str(out), *words[2:]]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sent(hub: FakeHub, begun: int) -> int:
    """Bytes of weights that have been sent since a line of the log."""
    return sum(r.sent for r in hub.log[begun:] if r.what.endswith(".safetensors") and r.where == "cdn")


def kill(hub: FakeHub, out: Path, after: int, *words: str) -> int:
    """Kill a run when so many bytes have been sent; how many were. Nothing stands at `out`."""
    begun = len(hub.log)
    with start(out, *words) as process:
        while process.poll() is None and sent(hub, begun) < after:
            time.sleep(0.0005)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was done before"
    assert not out.exists()
    return sent(hub, begun)


def finish(hub: FakeHub, out: Path, *words: str) -> int:
    """Let a run come to its end, in this process: bytes that were sent for it."""
    begun = len(hub.log)
    assert main([words[0], words[1], str(out), *words[2:]]) == 0
    assert sorted(p.name for p in out.parent.iterdir() if p.name.startswith(".")) == []
    return sent(hub, begun)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def right(hub: FakeHub, folder: Path) -> None:
    """Every tensor has the bytes of its origin."""
    out = tidoctor.open(folder)
    for name, tensor in out.tensors.items():
        repo = hub.repos["org/base" if name == HEAD else "org/lost"]
        content = repo.commits[repo.branches["main"]]["model.safetensors"]
        at = len(content.head) + json.loads(content.head[8:])[name]["data_offsets"][0]  # type: ignore[attr-defined]
        assert out.read(tensor, 0, tensor.nbytes) == content.read(at, at + tensor.nbytes)


def leftover(tmp_path: Path) -> Path:
    (found,) = tmp_path.glob(".out.tidoctor-*.partial")
    return found


@pytest.mark.parametrize("seed", range(2))
def test_what_came_before_kills_is_not_fetched_again(
    models: FakeHub, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = finish(models, tmp_path / "whole", *GRAFT)
    assert expected > 64 << 20 and "goes on" not in caplog.text
    moments, kept = random.Random(seed), 0
    for mark in (12 << 20, 26 << 20):
        kept += kill(models, tmp_path / "out", moments.randrange(mark, mark + (4 << 20)), *GRAFT) - SLACK
        assert (leftover(tmp_path) / JOURNAL).exists()
    rest = finish(models, tmp_path / "out", *GRAFT)
    assert rest <= expected - kept
    assert "goes on where an earlier run stopped" in caplog.text
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_files_that_had_come_are_all_kept(models: FakeHub, tmp_path: Path) -> None:
    """Whole shards, and small files beside them."""
    models.repo("org/shards", files(EMBED, NORM, HEAD, seed=9, shards=3))
    words = ("repair", "org/shards", "--dtype", "*norm.weight=f32")
    whole = finish(models, tmp_path / "whole", *words)
    spent = kill(models, tmp_path / "out", 40 << 20, *words)
    rest = finish(models, tmp_path / "out", *words)
    assert rest <= whole - spent + SLACK
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_nothing_is_taken_on_trust(models: FakeHub, tmp_path: Path) -> None:
    kill(models, tmp_path / "out", 40 << 20, *GRAFT)
    for harm in (None, *HARMS):
        place = tmp_path / (harm.__name__ if harm else "none")
        place.mkdir()
        folder = place / leftover(tmp_path).name
        shutil.copytree(leftover(tmp_path), folder)
        precious = place / "precious"
        precious.write_bytes(b"p" * 99)
        rows = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines() if line]
        if harm:
            harm(folder / rows[-1][0], folder / JOURNAL, rows, precious)
        rest = finish(models, place / "out", *GRAFT)
        if harm in (None, rubbish):
            assert rest < (65 << 20) - ((40 << 20) - SLACK)
        else:  # of two tensors, the first is hit
            assert rest >= (32 << 20 if harm is harmed else 59 << 20 if harm is shorter else 64 << 20)
        right(models, place / "out")
        assert precious.read_bytes() == b"p" * 99


Rows = list[Any]


def harmed(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    with weights.open("r+b") as f:
        f.seek(100_000)
        f.write(b"harm")


def shorter(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    os.truncate(weights, 5 << 20)


def digest(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.write_text("\n".join(json.dumps([*row[:4], "0" * 64]) for row in rows))


def end(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.write_text("\n".join(json.dumps([*row[:3], row[3] + (8 << 40), row[4]]) for row in rows))


def rubbish(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.write_bytes(b"\xff\n[[[\n{}\n[1,2,3,4,5]\n" + b"[" * 99_999 + b"\n" + journal.read_bytes() + b"[\"mod")


def link(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    weights.unlink()
    weights.symlink_to(precious)


def name(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    weights.unlink()
    weights.hardlink_to(precious)


def outside(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.write_text(journal.read_text().replace(weights.name, f"../{precious.name}"))


def journal_link(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    link(journal, journal, rows, precious)


def journal_name(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    name(journal, journal, rows, precious)


def journal_folder(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.unlink()
    (journal / "x").mkdir(parents=True)


def pipe(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    os.mkfifo(weights.parent / "pipe")
    weights.unlink()
    os.mkfifo(weights)


def surrogate(weights: Path, journal: Path, rows: Rows, precious: Path) -> None:
    journal.write_text("\n".join(json.dumps(["\ud800" + row[0], *row[1:]]) for row in rows))


HARMS = (harmed, shorter, digest, end, rubbish, link, name, outside, journal_link, journal_name,
         journal_folder, pipe, surrogate)  # fmt: skip


def test_another_commit_has_other_bytes(models: FakeHub, tmp_path: Path) -> None:
    kill(models, tmp_path / "out", 40 << 20, *GRAFT)
    models.repos["org/base"].commit(files(EMBED, NORM, HEAD, seed=2))
    models.repos["org/lost"].commit(files(EMBED, NORM, seed=6))
    rest = finish(models, tmp_path / "out", *GRAFT)
    assert rest > 64 << 20
    right(models, tmp_path / "out")


def test_another_plan_begins_anew(models: FakeHub, tmp_path: Path) -> None:
    kill(models, tmp_path / "out", 40 << 20, *GRAFT)
    rest = finish(models, tmp_path / "out", *GRAFT, "--dtype", "*norm.weight=f32")
    assert rest > 64 << 20
    assert {t.dtype for t in tidoctor.open(tmp_path / "out").tensors.values()} == {"BF16", "F32"}


def test_a_changed_file_here_is_not_mixed_with_its_former_self(models: FakeHub, tmp_path: Path) -> None:
    """A local patient that is changed between two runs, where its file has a hole."""
    folder = tmp_path / "lost"
    folder.mkdir()
    (folder / "config.json").write_bytes(config())
    content = files(EMBED, NORM)["model.safetensors"]
    weights = folder / "model.safetensors"
    weights.write_bytes(content.read(0, content.size))
    words = ("repair", str(folder), "--donor", "org/base")
    kill(models, tmp_path / "out", 20 << 20, *words)
    with weights.open("r+b") as f:
        f.truncate(len(content.head))
        f.truncate(content.size)
    finish(models, tmp_path / "out", *words)
    out = tidoctor.open(tmp_path / "out")
    tensor = out.tensors[EMBED]
    assert not any(any(chunk) for chunk in out.chunks(tensor))


def interrupt(hub: FakeHub, out: Path, after: int, *words: str) -> tuple[int, str]:
    """Ask a run to end when so many bytes have been sent: how many were, and what it told."""
    begun = len(hub.log)
    with start(out, *words) as process:
        while process.poll() is None and sent(hub, begun) < after:
            time.sleep(0.0005)
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, which who runs this may have turned off
        _, told = process.communicate()
    assert process.returncode == 130, told
    assert not out.exists()
    return sent(hub, begun), told


def test_little_that_came_before_an_interruption_goes(models: FakeHub, tmp_path: Path) -> None:
    _, told = interrupt(models, tmp_path / "out", 20 << 20, *GRAFT)
    assert list(tmp_path.iterdir()) == []
    assert "kept" not in told


def test_much_that_came_before_an_interruption_stays(
    models: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORTH", str(8 << 20))
    whole = finish(models, tmp_path / "whole", *GRAFT)
    spent, told = interrupt(models, tmp_path / "out", 40 << 20, *GRAFT)
    kept = leftover(tmp_path)
    assert f"what came is kept in {kept}: the same command goes on from there" in told
    assert finish(models, tmp_path / "out", *GRAFT) <= whole - spent + SLACK
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_much_that_came_before_an_error_stays(
    models: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(continuing, "WORTH", 8 << 20)
    whole = finish(models, tmp_path / "whole", *GRAFT)
    begun = len(models.log)
    gone = Fault("status", "*.safetensors", "cdn", status=403, when=lambda: sent(models, begun) > 40 << 20)
    models.faults.append(gone)
    assert main([GRAFT[0], GRAFT[1], str(tmp_path / "out"), *GRAFT[2:]]) == 3
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["whole"]
    assert "what came is kept in" in caplog.text
    models.faults.clear()
    assert finish(models, tmp_path / "out", *GRAFT) <= whole - (40 << 20) + SLACK
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.fixture
def kept(models: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a repair in this process left when the network was lost for good."""
    monkeypatch.setattr(continuing, "WORTH", 8 << 20)
    begun = len(models.log)
    gone = Fault("status", "*.safetensors", "cdn", status=403, when=lambda: sent(models, begun) > 40 << 20)
    models.faults.append(gone)
    with pytest.raises(Unreadable):
        tidoctor.repair("org/lost", tmp_path / "out", donor="org/base")
    models.faults.clear()
    return leftover(tmp_path)


def test_another_process_goes_on_while_the_one_that_failed_lives(
    models: FakeHub, tmp_path: Path, kept: Path
) -> None:
    begun = len(models.log)
    with start(tmp_path / "out", *GRAFT) as process:
        _, told = process.communicate()
    assert process.returncode == 0, told
    assert sent(models, begun) < 50 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_was_kept_stays_when_the_next_run_does_not_get_far(
    models: FakeHub, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("Ground", "cost_of"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(writer, name, stop)
            tidoctor.repair("org/lost", tmp_path / "out", donor="org/base")
    with monkeypatch.context() as patch, pytest.raises(Unwritable, match="no space left"):
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        tidoctor.repair("org/lost", tmp_path / "out", donor="org/base")
        with pytest.raises(Unwritable, match="no space left"):  # nor at another command
            tidoctor.repair("org/lost", tmp_path / "out", donor="org/base", form=Form(dtypes=(("*", "F32"),)))
    assert finish(models, tmp_path / "out", *GRAFT) < 50 << 20
    right(models, tmp_path / "out")


def test_all_that_came_is_there_after_an_interruption_at_the_end(
    models: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer, "settle", stop)
        tidoctor.repair("org/lost", tmp_path / "out", donor="org/base")
    assert "the same command goes on from there" in caplog.text
    assert finish(models, tmp_path / "out", *GRAFT) < SLACK
    right(models, tmp_path / "out")


def test_a_full_disk_leaves_nothing(
    models: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuing, "WORTH", 1)
    write, written = os.pwrite, 0

    def full(handle: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        if written > 20 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    assert main([GRAFT[0], GRAFT[1], str(tmp_path / "out"), *GRAFT[2:]]) == 3
    assert list(tmp_path.iterdir()) == []
