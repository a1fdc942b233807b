"""Repairs whose patient or donor is on the Hub: only what is needed comes, and it is proved."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama, write
from fakehub import FakeHub, Fault, safetensors

import tidoctor
from tidoctor.errors import Unreadable, Unwritable, Usage
from tidoctor.form import Form
from tidoctor.source import transfer

ROOT = Path(__file__).parents[1]
TIED = LLAMA | {"tie_word_embeddings": True}
OTHERS = {"tokenizer.json": "{}", "original/params.json": "{}", "LICENSE": "x" * 3000}


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(transfer, "wait", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize("shards", [1, 3])
def test_a_repair_of_a_remote_model_is_that_of_its_copy(
    hub: FakeHub, tmp_path: Path, shards: int
) -> None:
    files = build(llama(head=False), TIED, shards=shards, files=OTHERS)
    hub.repo("org/m", files)
    local = write(tmp_path / "local", llama(head=False), TIED, shards=shards, files=OTHERS)
    ours = tidoctor.untie(local, tmp_path / "a")
    theirs = tidoctor.untie("org/m", tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert ours.receipt and theirs.receipt
    assert ours.receipt.verified == theirs.receipt.verified
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "local"]


@pytest.mark.parametrize(
    "form",
    [Form(delta=True), Form(single_file=True), Form(max_shard_size=1 << 12),
     Form(dtypes=(("*", "BF16"),)), Form(link="hard")],
)  # fmt: skip
def test_a_remote_model_takes_every_form_that_its_copy_takes(
    hub: FakeHub, tmp_path: Path, form: Form
) -> None:
    hub.repo("org/m", build(llama(head=False), TIED, shards=3, files=OTHERS))
    local = write(tmp_path / "local", llama(head=False), TIED, shards=3, files=OTHERS)
    sums = []
    for source in (str(local), "org/m"):
        dest = tmp_path / f"out{len(sums)}"
        recorded = dest.with_suffix(".json")
        done = tidoctor.untie(source, dest, form=replace(form, manifest=recorded))
        assert done.receipt and not done.exit_code
        rows = json.loads(recorded.read_text())["tensors"]
        sums.append((tree(dest), [(row["name"], row["sha256"]) for row in rows]))
    assert sums[0] == sums[1] and sums[0][0]


def test_only_the_tensor_of_a_donor_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    hub.repo("org/base", build(llama(), LLAMA, shards=4))
    write(tmp_path / "m", llama(head=False), LLAMA)
    done = tidoctor.repair(tmp_path / "m", tmp_path / "out", donor="org/base")
    assert done.exit_code == 0
    donor = tidoctor.open("org/base")
    out = tidoctor.open(tmp_path / "out")
    head, theirs = out.tensors["lm_head.weight"], donor.tensors["lm_head.weight"]
    assert out.read(head, 0, head.nbytes) == donor.read(theirs, 0, theirs.nbytes)


def test_the_report_has_place_and_digest_of_what_was_fetched(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from report_samples import validated

    from tidoctor.__main__ import main

    repo = hub.repo("org/base", build(llama(), LLAMA))
    write(tmp_path / "m", llama(head=False), LLAMA)
    line = ["repair", str(tmp_path / "m"), str(tmp_path / "out"), "--donor", "org/base"]
    assert main([*line, "--format", "json"]) == 0
    (fetched,) = validated(capsys.readouterr().out)["written"]["fetched"]
    sha = repo.branches["main"]
    data = repo.commits[sha]["model.safetensors"].read(fetched["begin"], fetched["end"])
    assert fetched["sha256"] == hashlib.sha256(data).hexdigest()
    assert (fetched["source"], fetched["revision"]) == ("org/base", sha)
    assert main([*line, "--force"]) == 0
    said = f"of org/base@{sha[:12]}/model.safetensors, sha256 {fetched['sha256']}"
    assert said in capsys.readouterr().out


@pytest.fixture
def donor(hub: FakeHub, tmp_path: Path) -> FakeHub:
    """A donor whose head has 96 MB, and a patient that has lost it."""
    config = LLAMA | {"vocab_size": 1 << 18, "hidden_size": 192, "intermediate_size": 32}
    rows = [
        (n, "BF16", [{64: 1 << 18, 16: 192}.get(d, d) for d in shape])
        for n, shape in llama().items()
    ]
    rows = [(n, d, shape) for n, d, shape in rows if "self_attn" not in n]
    config |= {"num_hidden_layers": 0}
    rows = [row for row in rows if ".layers." not in row[0]]
    files: dict[str, Any] = {"config.json": json.dumps(config).encode()}
    files["model.safetensors"] = safetensors(sorted(rows), seed=1)
    hub.repo("org/base", files)
    files["model.safetensors"] = safetensors([r for r in rows if r[0] != "lm_head.weight"], seed=2)
    hub.repo("org/lost", files)
    return hub


def graft(tmp_path: Path, **more: Any) -> bytes:
    """Repair with the donor; the SHA-256 of the head that was written."""
    done = tidoctor.repair("org/lost", tmp_path / "out", donor="org/base", **more)
    assert done.receipt, done.reason
    out = tidoctor.open(tmp_path / "out")
    digest = hashlib.sha256()
    for chunk in out.chunks(out.tensors["lm_head.weight"]):
        digest.update(chunk)
    return digest.digest()


def true_head(hub: FakeHub) -> bytes:
    source = tidoctor.open("org/base")
    span = source.tensors["lm_head.weight"].span
    content = hub.repos["org/base"].commits[source.source.revision or ""]["model.safetensors"]
    return hashlib.sha256(content.read(span.begin, span.end)).digest()


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault("reset", "model.safetensors", "cdn", 10, after=2_000_000),
        Fault("short", "model.safetensors", "cdn", 4, after=12_345),
        Fault("status", "model.safetensors", "cdn", 4, status=503),
        Fault("status", "model.safetensors", "cdn", 2, status=429),
    ],
    ids=lambda f: f.action + str(f.status) if f else "none",
)
def test_a_graft_survives(donor: FakeHub, tmp_path: Path, fault: Fault | None) -> None:
    if fault:
        tidoctor.open("org/base"), tidoctor.open("org/lost")
        donor.faults.append(fault)
    assert graft(tmp_path) == true_head(donor)
    assert fault is None or fault.times == 0


def test_a_signed_address_that_expires_under_way(donor: FakeHub, tmp_path: Path) -> None:
    struck = Fault("reset", "model.safetensors", "cdn", 3, after=5_000_000)
    expired = Fault(
        "status", "model.safetensors", "cdn", 2, status=403, when=lambda: struck.times == 0
    )
    donor.faults += [struck, expired]
    assert graft(tmp_path) == true_head(donor)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("ignore-range", "model.safetensors", "cdn"), "knows no ranges"),
        (Fault("reset", "model.safetensors", "cdn", after=10), "breaks off"),
        (Fault("status", "model.safetensors", "cdn", status=500), "in trouble"),
        (Fault("shift", "model.safetensors", "cdn"), "another range"),
        (Fault("etag", "model.safetensors", "cdn"), "changed while"),
    ],
    ids=lambda f: f.action if isinstance(f, Fault) else "",
)
def test_what_stays_leaves_nothing(
    donor: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    from tidoctor import writer

    write_ = writer.write

    def later(*arguments: Any, **more: Any) -> Any:
        donor.faults.append(fault)
        return write_(*arguments, **more)

    monkeypatch.setattr(writer, "write", later)
    with pytest.raises(Unreadable, match=said):
        graft(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_the_published_one(hub: FakeHub, tmp_path: Path) -> None:
    repo = hub.repo("org/m", build(llama(head=False), TIED, shards=3))
    size = len(build(llama(head=False), TIED, shards=3)["model-00001-of-00003.safetensors"])
    lfs = {"sha256": "0" * 64, "size": size, "pointerSize": 135}
    repo.said["model-00001-of-00003.safetensors"] = {"lfs": lfs}
    with pytest.raises(Unreadable, match="another SHA-256"):
        tidoctor.untie("org/m", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_all_threads(
    donor: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Unwritable, match="no space left"):
        graft(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_into_the_cache(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    hub.repo("org/m", build(llama(head=False), TIED))
    folder = Path(snapshot_download("org/m"))
    for place in (folder / "out", folder.parent / "out", folder.parent / "f" / ".." / "out"):
        (folder.parent / "f").mkdir(exist_ok=True)
        with pytest.raises(Usage, match="lies in the cache of downloaded models"):
            tidoctor.untie("org/m", place)


def test_a_dry_run_fetches_no_weights(donor: FakeHub, tmp_path: Path) -> None:
    done = tidoctor.repair("org/lost", tmp_path / "out", donor="org/base", dry_run=True)
    assert done.reason == "dry run"
    assert list(tmp_path.iterdir()) == []
    assert sum(r.sent for r in donor.log) < 1_000_000


def test_a_graft_needs_little_memory(donor: FakeHub, tmp_path: Path) -> None:
    """In a process of its own: less than the 96 MB that arrive, and no more than a dry run."""
    script = (
        "import resource, sys, tidoctor\n"
        "tidoctor.repair('org/lost', sys.argv[1], donor='org/base', dry_run=sys.argv[2] == 'dry')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for how in ("dry", "real"):
        command = [sys.executable, "-c", script, str(tmp_path / "out"), how]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        peaks[how] = int(run.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert (tmp_path / "out").is_dir()
    assert peaks["real"] - peaks["dry"] < 40_000_000


