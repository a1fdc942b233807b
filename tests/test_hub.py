"""Models on the Hub: what is read, at what cost, and from where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama
from fakehub import Bytes, FakeHub, Request, Virtual, safetensors

import tidoctor
from tidoctor.__main__ import main
from tidoctor.errors import Unreadable
from tidoctor.expecting import expect
from tidoctor.source import open_source

ROOT = Path(__file__).parents[1]
TIED = LLAMA | {"tie_word_embeddings": True}


def reads(hub: FakeHub) -> list[Request]:
    """The requests that were answered, not sent elsewhere."""
    return [r for r in hub.log if r.status // 100 != 3]


def big(layers: int, shards: int, *, experts: int = 0) -> dict[str, Any]:
    """A Llama of 4096 channels in virtual shards, with experts that only make many names."""
    rows: list[tuple[str, str, list[int]]] = [("model.embed_tokens.weight", "BF16", [128256, 4096])]
    for i in range(layers):
        at = f"model.layers.{i}."
        rows += [
            (f"{at}mlp.experts.{e}.{p}.weight", "BF16", [2048, 4096])
            for e in range(experts)
            for p in ("gate_proj", "up_proj", "down_proj")
        ]
        rows += [
            (f"{at}self_attn.{p}_proj.weight", "BF16", [4096, 4096]) for p in "qkvo"
        ]
    rows += [("model.norm.weight", "BF16", [4096]), ("lm_head.weight", "BF16", [128256, 4096])]
    per = -(-len(rows) // shards)
    files: dict[str, Any] = {}
    places = {}
    for k in range(shards):
        name = f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
        part = sorted(rows[k * per : (k + 1) * per])  # the order in which the library writes
        files[name] = safetensors(part, seed=k)
        places |= dict.fromkeys((row[0] for row in part), name)
    files["model.safetensors.index.json"] = json.dumps(
        {"metadata": {"total_size": sum(f.size - len(f.head) for f in files.values())},
         "weight_map": places}
    ).encode()  # fmt: skip
    config = {"architectures": ["XForCausalLM"], "model_type": "x", "tie_word_embeddings": False}
    files["config.json"] = json.dumps(config).encode()
    return files


def test_one_file_costs_three_reads(hub: FakeHub) -> None:
    hub.repo("org/m", build(llama(), LLAMA))
    found = tidoctor.diagnose("org/m")
    assert not found.findings
    assert len(reads(hub)) == 3
    assert len(hub.log) == 5  # the redirects to where the files lie
    assert {r.what for r in hub.log} == {"/api/models/org/m", "config.json", "model.safetensors"}


def test_a_sharded_model_costs_a_read_for_each_shard_and_three(hub: FakeHub) -> None:
    files = big(30, 30)
    hub.repo("org/m", files)
    checkpoint = tidoctor.open("org/m")
    assert len(checkpoint.tensors) == 123
    assert checkpoint.nbytes > 6e9
    assert len(reads(hub)) == 3 + 30
    assert len(hub.log) == 5 + 2 * 30
    assert sum(r.sent for r in hub.log) < 3_100_000
    tidoctor.diagnose(checkpoint)  # compares the first bytes of head and embedding
    assert len(reads(hub)) == 3 + 30


def test_700_gigabytes_in_163_shards(hub: FakeHub) -> None:
    hub.repo("org/m", big(61, 163, experts=64))
    checkpoint = tidoctor.open("org/m")
    assert len(checkpoint.tensors) == 3 + 61 * 196
    assert len(reads(hub)) == 3 + 163
    assert sum(r.sent for r in hub.log) < 17_000_000


def test_long_headers_are_read_by_ranges_ahead(hub: FakeHub) -> None:
    hub.repo("org/m", big(12, 2, experts=300))
    assert len(tidoctor.open("org/m").tensors) == 3 + 12 * 904
    headers = [r for r in hub.log if r.where == "cdn"]
    assert Counter(r.what for r in headers) == {
        "model-00001-of-00002.safetensors": 2, "model-00002-of-00002.safetensors": 2
    }  # fmt: skip
    assert all(r.range and r.status == 206 for r in headers)
    # The second range goes straight to the CDN.
    assert sum(r.where == "hub" and r.status == 302 for r in hub.log) == 2


def test_what_is_expected_costs_the_config_alone(hub: FakeHub) -> None:
    hub.repo("org/m", build(llama(), LLAMA))
    for text in ("org/m", f"{hub.url}/org/m/blob/main/config.json", "hf://org/m/config.json"):
        hub.log.clear()
        assert "lm_head.weight" in expect(text).disk
        assert {r.what for r in hub.log} <= {
            "/api/models/org/m", "/api/models/org/m/revision/main", "config.json"
        }  # fmt: skip


def test_reports_name_the_commit(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    sha = hub.repo("org/m", build(llama(), LLAMA)).branches["main"]
    assert main(["inspect", "org/m"]) == 0
    assert capsys.readouterr().out.startswith(f"org/m@{sha[:12]}  LlamaForCausalLM")
    assert main(["diagnose", "org/m@main", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["source"]["revision"] == sha
    assert told["source"]["name"] == "org/m@main"
    size = sum(hub.repos["org/m"].commits[sha][n].size for n in ("config.json", "model.safetensors"))
    assert told["summary"]["bytes_read"] == size


def test_cures_can_be_pasted(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repo("org/m", build(llama(head=False), TIED))
    assert main(["diagnose", "org/m"]) == 0
    assert "tidoctor untie org/m DEST" in capsys.readouterr().out


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "tensors"),
    [
        ("org/m", "folder", 21),
        ("org/m@main", "folder", 21),
        ("org/m@old", "folder", 20),
        ("org/m@refs/pr/1", "folder", 20),
        ("hf://org/m", "folder", 21),
        ("hf://models/org/m", "folder", 21),
        ("hf://org/m@old", "folder", 20),
        ("hf://org/m@refs/pr/1", "folder", 20),
        ("hf://org/m/unet", "folder", 30),
        ("hf://org/m@main/unet/", "folder", 30),
        ("hf://org/m/model.safetensors", "file", 21),
        ("hf://org/m/unet/model.safetensors", "file", 30),
        ("{url}/org/m", "folder", 21),
        ("{url}/org/m/tree/old", "folder", 20),
        ("{url}/org/m/tree/main/unet", "folder", 30),
        ("{url}/org/m/blob/main/unet/model.safetensors", "file", 30),
        ("{url}/org/m/resolve/old/model.safetensors?download=true", "file", 20),
        ("hf://plain", "folder", 21),
        ("plain", "folder", 21),
        ("plain@main", "folder", 21),
    ],
)
def test_addresses(hub: FakeHub, text: str, kind: str, tensors: int) -> None:
    repo = hub.repo("org/m")
    old = repo.commit(build(llama(head=False), TIED), "old")
    unet = {f"unet/{n}": data for n, data in build(llama(3), LLAMA).items()}
    repo.commit({**build(llama(), LLAMA), **unet})
    from fakehub.repos import Pull

    repo.pulls.append(Pull(1, "x", "", old))
    hub.repo("plain", build(llama(), LLAMA))
    checkpoint = tidoctor.open(text.format(url=hub.url))
    assert checkpoint.source.kind == kind
    assert len(checkpoint.tensors) == tensors
    assert checkpoint.source.revision in (old, repo.branches["main"], hub.repos["plain"].branches["main"])


def test_a_commit_and_an_index_by_their_names(hub: FakeHub) -> None:
    repo = hub.repo("org/m", build(llama(), LLAMA, shards=3))
    sha = repo.branches["main"]
    repo.commit(build(llama(5), LLAMA))
    assert len(tidoctor.open(f"org/m@{sha}").tensors) == 21
    chosen = tidoctor.open(f"hf://org/m@{sha}/model.safetensors.index.json")
    assert (chosen.source.kind, len(chosen.tensors)) == ("index", 21)


def test_a_folder_here_comes_first(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from checkpoints import write

    hub.repo("org/m", build(llama(), LLAMA))
    monkeypatch.chdir(tmp_path)
    write(Path("org/m"), llama(3), LLAMA)
    assert len(tidoctor.open("org/m").tensors) == 30
    assert not hub.log
    assert len(tidoctor.open("hf://org/m").tensors) == 21


def test_a_branch_that_moves_while_it_is_read(hub: FakeHub) -> None:
    repo = hub.repo("org/m", build(llama(), LLAMA))
    source = open_source("org/m")
    repo.commit(build(llama(7), LLAMA))
    from tidoctor.opening import open_checkpoint

    assert len(open_checkpoint(source).tensors) == 21


# --- what only the listing shows ----------------------------------------------------------------


def test_a_mirror_that_lists_no_sizes(hub: FakeHub) -> None:
    hub.repo("org/m", build(llama(), LLAMA, shards=3), unlisted=True)
    assert not tidoctor.diagnose("org/m").findings
    assert len(reads(hub)) == 3 + 3 + 1  # and the tree, which has them


def test_a_mirror_without_a_cdn_is_asked_once_for_each_file(hub: FakeHub) -> None:
    hub.repo("org/m", big(4, 5), direct=True)
    checkpoint = tidoctor.open("org/m")
    assert len(checkpoint.weights) == 5
    assert sum(r.what.endswith(".safetensors") for r in hub.log) == 5
    assert {r.where for r in hub.log} == {"api", "hub"}


def test_a_mirror_that_has_no_tree_either(hub: FakeHub) -> None:
    from fakehub import Fault

    hub.repo("org/m", build(llama(), LLAMA, shards=3), unlisted=True)
    hub.faults.append(Fault("status", "*/tree/*", status=404))
    assert not tidoctor.diagnose("org/m").findings


def test_a_listed_shard_that_is_not_there_is_a_finding(hub: FakeHub) -> None:
    repo = hub.repo("org/m", build(llama(), LLAMA, shards=3))
    repo.gone.add("model-00002-of-00003.safetensors")
    found = tidoctor.diagnose("org/m").findings
    assert [f.code for f in found] == ["S01"]
    assert "the server does not have it" in " ".join(e.fact for e in found[0].evidence)


def test_a_listed_file_that_is_not_there_leaves_nothing_to_examine(hub: FakeHub) -> None:
    hub.repo("org/m", build(llama(), LLAMA)).gone.add("model.safetensors")
    with pytest.raises(Unreadable, match="listed, but the server does not have it"):
        tidoctor.open("org/m")


def test_a_file_of_another_size_than_listed_is_a_finding(hub: FakeHub) -> None:
    repo = hub.repo("org/m", build(llama(), LLAMA))
    repo.said["model.safetensors"] = {"size": 99_999}
    found = tidoctor.diagnose("org/m").findings
    assert [(f.code, str(f.severity)) for f in found] == [("F02", "warning")]
    assert "99,999" in found[0].message


def test_names_that_lead_out_are_no_files(hub: FakeHub) -> None:
    evil = {"../../etc/passwd": b"x", "/abs": b"x", "a//b": b"x", "a/../b": b"x"}
    hub.repo("org/m", {**build(llama(), LLAMA), **evil})
    checkpoint = tidoctor.open("org/m")
    assert set(checkpoint.files) == {"config.json", "model.safetensors"}
    with pytest.raises(Unreadable, match="leads out"):
        checkpoint.source.size("../x")


def test_a_pointer_in_place_of_the_file(hub: FakeHub) -> None:
    files: dict[str, Any] = dict(build(llama(), LLAMA))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    files["model.safetensors"] = Bytes(pointer, lfs=False)
    hub.repo("org/m", files)
    found = tidoctor.diagnose("org/m").findings
    assert [f.code for f in found] == ["F01"]
    assert "git-lfs pointer" in found[0].message


def test_a_truncated_upload_is_seen_without_its_weights(hub: FakeHub) -> None:
    files: dict[str, Any] = dict(build({}, LLAMA))
    files["model.safetensors"] = safetensors(
        [("a.weight", "F32", [1 << 30, 16]), ("b.weight", "F32", [1 << 20])], short=5
    )
    hub.repo("org/m", files)
    found = tidoctor.diagnose("org/m").findings
    assert [f.code for f in found if f.code[0] == "F"] == ["F02"]
    assert sum(r.sent for r in hub.log) < 200_000


# --- the cache ----------------------------------------------------------------------------------


def test_what_is_cached_is_not_fetched(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    hub.repo("org/m", build(llama(), LLAMA, shards=3))
    snapshot_download("org/m", allow_patterns=["*.json", "*-00002-of-*"])
    hub.log.clear()
    assert not tidoctor.diagnose("org/m").findings
    assert sorted(r.what for r in reads(hub)) == [
        "/api/models/org/m",
        "model-00001-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]


def test_a_cached_file_of_another_size_is_not_trusted(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    hub.repo("org/m", build(llama(), LLAMA))
    folder = Path(snapshot_download("org/m"))
    with (folder / "model.safetensors").open("r+b") as f:
        f.truncate(100)
    assert not tidoctor.diagnose("org/m").findings


def offline(hub: FakeHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tidoctor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_offline_the_cached_commit_is_examined(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    sha = hub.repo("org/m", build(llama(), LLAMA, shards=3)).branches["main"]
    snapshot_download("org/m")
    hub.log.clear()
    run = offline(hub, "diagnose", "org/m", "--format", "json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["source"]["revision"], told["findings"]) == (sha, [])
    assert not hub.log


def test_offline_a_partial_snapshot_lacks_what_was_not_downloaded(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    hub.repo("org/m", build(llama(), LLAMA, shards=3))
    snapshot_download("org/m", allow_patterns=["*.json", "*-00002-of-*"])
    run = offline(hub, "diagnose", "org/m", "--format", "json")
    told = json.loads(run.stdout)
    assert [f["code"] for f in told["findings"]] == ["S01"]
    facts = " ".join(e["fact"] for e in told["findings"][0]["evidence"])
    assert "not downloaded" in facts


def test_offline_without_the_weights_nothing_is_examined(hub: FakeHub) -> None:
    from huggingface_hub import snapshot_download

    hub.repo("org/m", build(llama(), LLAMA))
    snapshot_download("org/m", allow_patterns=["*.json"])
    run = offline(hub, "diagnose", "org/m")
    assert run.returncode == 3
    assert "model.safetensors was not downloaded" in run.stderr
    run = offline(hub, "diagnose", "org/unknown")
    assert run.returncode == 3
    assert "not in the cache" in run.stderr
    assert run.stderr.count("\n") == 1


def test_where_the_hub_cannot_be_reached_the_cache_is_used(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import constants, snapshot_download

    hub.repo("org/m", build(llama(), LLAMA))
    snapshot_download("org/m")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("tidoctor.source.transfer.wait", lambda seconds: None)
    assert not tidoctor.diagnose("org/m").findings
    assert "cannot be reached" in caplog.text
    with pytest.raises(Unreadable, match="cannot be reached"):
        tidoctor.open("org/other")


def test_threads_end_when_there_is_nothing_to_do(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from tidoctor.source import distant

    monkeypatch.setattr(distant, "_IDLE", 0.01)
    hub.repo("org/m", build(llama(), LLAMA, shards=3))
    checkpoint = tidoctor.open("org/m")
    source: Any = checkpoint.source
    work = (source._team._work, source._scouts._work)
    ours = [t for t in threading.enumerate() if getattr(t, "_target", None) in work]
    for thread in ours:
        thread.join(60)
        assert not thread.is_alive()
    tensor = checkpoint.tensors["lm_head.weight"]
    assert len(checkpoint.read(tensor, 0, tensor.nbytes)) == tensor.nbytes


def test_virtual_files_have_the_bytes_of_their_formula() -> None:
    content = Virtual(b"head", 200_000, seed=3)
    whole = content.read(0, 1 << 30)
    assert len(whole) == content.size
    for begin, end in ((0, 4), (2, 9), (4, 70_000), (65_000, 140_000), (199_000, 300_000)):
        assert content.read(begin, end) == whole[begin:end]
