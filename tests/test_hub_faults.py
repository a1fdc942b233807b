"""Everything that can go wrong on the way to the Hub: a finding, a sentence, or no harm at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama
from fakehub import FakeHub, Fault, safetensors

import tidoctor
from tidoctor.errors import Unreadable
from tidoctor.source import transfer

ROOT = Path(__file__).parents[1]
TOKEN = "hf_secretsecretsecret"
WEIGHTS = "model-00002-of-00003.safetensors"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """No waiting, and timeouts of a second; yields how long it would have been waited."""
    from huggingface_hub import constants

    asked: list[float] = []
    monkeypatch.setattr(transfer, "wait", asked.append)
    monkeypatch.setattr(transfer, "_told_until", 0.0)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    yield asked


@pytest.fixture
def model(hub: FakeHub) -> FakeHub:
    hub.repo("org/m", build(llama(), LLAMA, shards=3))
    return hub


def told(text: str = "org/m") -> str:
    """The sentence that opening ends in."""
    with pytest.raises(Unreadable) as caught:
        tidoctor.open(text)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "Signature" not in str(caught.value)
    return str(caught.value)


# --- faults that pass ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", WEIGHTS, "cdn", 4, status=503),
        Fault("status", WEIGHTS, "hub", 4, status=500),
        Fault("status", WEIGHTS, "cdn", 3, status=429),
        Fault("status", WEIGHTS, "cdn", 3, status=408),
        Fault("status", "/api/models/org/m", "api", 4, status=504),
        Fault("reset", WEIGHTS, "cdn", 4),
        Fault("reset", WEIGHTS, "cdn", 4, after=700),
        Fault("short", WEIGHTS, "cdn", 4, after=3),
        Fault("stall", WEIGHTS, "cdn", 1, after=10),
        Fault("ignore-range", WEIGHTS, "cdn"),
        Fault("short", "config.json", "hub", 2, after=5),
    ],
    ids=lambda f: f"{f.action}-{f.where}-{f.status}-{f.after}",
)
def test_what_passes_leaves_no_trace(model: FakeHub, waits: list[float], fault: Fault) -> None:
    model.faults.append(fault)
    assert not tidoctor.diagnose("org/m").findings


def test_a_short_body_is_continued_not_begun_again(model: FakeHub, waits: list[float]) -> None:
    model.faults.append(Fault("short", WEIGHTS, "cdn", 2, after=1000))
    assert not tidoctor.diagnose("org/m").findings
    ranges = [r.range for r in model.log if r.where == "cdn" and r.what == WEIGHTS]
    assert [r.split("-")[0] for r in ranges if r] == ["bytes=0", "bytes=1000", "bytes=2000"]


def test_a_server_that_ignores_ranges_is_stopped(hub: FakeHub, waits: list[float]) -> None:
    files: dict[str, Any] = dict(build({}, LLAMA))
    files["model.safetensors"] = safetensors([("a.weight", "F32", [1 << 30, 8])])
    hub.repo("org/m", files)
    hub.faults.append(Fault("ignore-range", "model.safetensors", "cdn"))
    checkpoint = tidoctor.open("org/m")
    assert checkpoint.nbytes == 1 << 35
    assert checkpoint.source.bytes_read < 200_000
    tensor = checkpoint.tensors["a.weight"]
    with pytest.raises(Unreadable, match="knows no ranges"):
        checkpoint.read(tensor, 1 << 30, (1 << 30) + 8)


@pytest.fixture
def long(hub: FakeHub) -> FakeHub:
    """A model of one file that is longer than what is read ahead."""
    files: dict[str, Any] = dict(build({}, LLAMA))
    files["model.safetensors"] = safetensors([("a.weight", "F32", [1 << 20, 8])])
    hub.repo("org/m", files)
    return hub


def test_a_signed_address_that_has_expired_is_asked_for_anew(
    long: FakeHub, waits: list[float]
) -> None:
    checkpoint = tidoctor.open("org/m")
    tensor = checkpoint.tensors["a.weight"]
    content = long.repos["org/m"].commits[checkpoint.source.revision or ""]["model.safetensors"]
    long.log.clear()
    long.faults.append(Fault("status", "*", "cdn", 1, status=403))
    data = checkpoint.read(tensor, tensor.nbytes - 99, tensor.nbytes)
    assert data == content.read(content.size - 99, content.size)
    assert [(r.where, r.status) for r in long.log] == [("cdn", 403), ("hub", 302), ("cdn", 206)]


def test_a_long_range_comes_in_strides(long: FakeHub, waits: list[float]) -> None:
    checkpoint = tidoctor.open("org/m")
    content = long.repos["org/m"].commits[checkpoint.source.revision or ""]["model.safetensors"]
    resets = Fault("reset", "*", "cdn", 6, after=1 << 20)
    long.faults.append(resets)
    tensor = checkpoint.tensors["a.weight"]
    assert checkpoint.read(tensor, 0, tensor.nbytes) == content.read(tensor.span.begin, content.size)
    assert resets.times == 0
    assert len(waits) == 6


# --- faults that stay ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", WEIGHTS, "cdn", status=503), "in trouble (status 503); try again later"),
        (Fault("status", "/api/*", "api", status=502), "in trouble (status 502)"),
        (Fault("status", WEIGHTS, "cdn", status=403), "forbids it to an anonymous user"),
        (Fault("status", "/api/*", "api", status=403), "forbids it to an anonymous user"),
        (Fault("status", "/api/*", "api", status=418), "refuses it (status 418)"),
        (Fault("status", "/api/*", "api", status=204), "no description of a model"),
        (Fault("reset", WEIGHTS, "cdn"), "breaks off"),
        (Fault("short", WEIGHTS, "cdn"), "breaks off"),
        (Fault("stall", WEIGHTS, "cdn"), "does not answer in time"),
        (Fault("shift", WEIGHTS, "cdn"), "another range"),
        (Fault("redirect", WEIGHTS, "hub", location="file:///etc/passwd"), "redirected to a 'file'"),
        (Fault("short", "config.json", "hub"), "breaks off"),
    ],
    ids=lambda f: f"{f.action}-{f.what}-{f.status}" if isinstance(f, Fault) else "",
)
def test_what_stays_is_a_sentence(
    model: FakeHub, waits: list[float], fault: Fault, said: str
) -> None:
    model.faults.append(fault)
    begin = time.monotonic()
    assert said in told()
    assert time.monotonic() - begin < 60  # a bound, not a measurement
    assert len(waits) <= 3 * transfer.TRIES


def test_a_circle_of_redirects_ends(model: FakeHub, waits: list[float]) -> None:
    address = f"{model.url}/org/m/resolve/main/config.json"
    model.faults.append(Fault("redirect", "config.json", "hub", location=address))
    assert "in a circle" in told()


def test_a_file_that_changes_between_two_reads_is_refused(
    long: FakeHub, waits: list[float]
) -> None:
    checkpoint = tidoctor.open("org/m")
    long.faults.append(Fault("etag", "*", "cdn"))
    tensor = checkpoint.tensors["a.weight"]
    with pytest.raises(Unreadable, match="changed while it was being read"):
        checkpoint.read(tensor, tensor.nbytes - 9, tensor.nbytes)


def test_a_file_of_another_total_is_a_finding(model: FakeHub, waits: list[float]) -> None:
    model.faults.append(Fault("total", WEIGHTS, "cdn"))
    assert [f.code for f in tidoctor.diagnose("org/m").findings] == ["F02"]


# --- limits of requests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit": '"resolvers";r=0;t=13', "RateLimit-Policy": '"fixed window";"resolvers";q=3000;w=300'}, 13),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
def test_the_announced_wait_is_kept_and_told(
    model: FakeHub, waits: list[float], headers: dict[str, str], asked: float,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    model.faults.append(Fault("status", WEIGHTS, "cdn", 1, status=429, headers=headers))
    assert not tidoctor.diagnose("org/m").findings
    assert waits == [asked]
    assert (f"waiting {asked:.0f} s" in caplog.text) is (asked >= 1)


def test_a_long_wait_is_given_up_and_told(model: FakeHub, waits: list[float]) -> None:
    model.faults.append(Fault("status", "/api/*", "api", status=429, headers={"Retry-After": "280"}))
    assert "too many requests" in (said := told())
    assert "try again in 280 s" in said
    assert "HF_TOKEN" in said
    assert not waits


def test_an_unannounced_limit_is_given_up_in_the_end(model: FakeHub, waits: list[float]) -> None:
    model.faults.append(Fault("status", "/api/*", "api", status=429))
    assert "try again in a few minutes" in told()
    assert len(waits) == transfer.TRIES - 1


# --- who may read --------------------------------------------------------------------------------


def test_gated(model: FakeHub, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    model.repos["org/m"].gated = True
    model.users |= {TOKEN: "someone", "hf_member": "member"}
    model.repos["org/m"].members = frozenset({"member"})
    said = told()
    assert "is gated" in said
    assert "an anonymous user has none" in said
    assert f"ask for it at {model.url}/org/m" in said
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "the token in HF_TOKEN has none" in told()
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    assert not tidoctor.diagnose("org/m").findings


def test_the_saved_login_is_named(
    model: FakeHub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    model.repos["org/m"].gated = True
    model.users[TOKEN] = "someone"
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    assert "the token of the saved login has none" in told()


def test_private_misspelt_and_refused(
    model: FakeHub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.repos["org/m"].private = True
    assert "no such folder or file here, and no such model on" in told()
    assert told("hf://org/m").startswith("hf://org/m: no such model on")
    assert "or a private one that an anonymous user may not see" in told("org/nothing")
    model.users |= {"hf_member": "member"}
    model.repos["org/m"].members = frozenset({"member"})
    monkeypatch.setenv("HF_TOKEN", "hf_member")
    assert not tidoctor.diagnose("org/m").findings
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token in HF_TOKEN; renew or unset it" in told()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("org/m@nothing", "org/m has no revision nothing"),
        ("hf://org/m/unet", "there is no unet"),
        ("hf://org/m/README.md", "there is no README.md"),
        ("hf://datasets/org/m", "is a dataset, not a model"),
        ("hf://org", "no such model on"),
        ("{url}/datasets/org/m", "is a dataset, not a model"),
        ("{url}/org/m/discussions/3", "is no address of a model"),
        ("hf://", "is no address of a model"),
        ("hf://org/m/../c", "there is no ../c"),
        ("hf://org/--m", "no name that a repository can have|is no address"),
        ("../nothing", "no such folder or file"),
        ("./org/m", "no such folder or file"),
        ("/org/m", "no such folder or file"),
        ("org/m/unet", "no such folder or file"),
        ("a b/c", "no such folder or file"),
        ("org/m\x1b[2J", r"org/m\\x1b\[2J: no such folder or file"),
        ("x" * 5000, "no such folder or file|cannot be opened"),
    ],
)
def test_what_is_not_there(model: FakeHub, waits: list[float], text: str, said: str) -> None:
    import re

    assert re.search(said, told(text.format(url=model.url)))


def test_a_repository_without_safetensors(hub: FakeHub) -> None:
    hub.repo("org/pickles", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    hub.repo("org/gguf", {"m.gguf": b"GGUF"})
    hub.repo("org/empty", {})
    assert "only pickles" in told("org/pickles")
    assert "holds GGUF" in told("org/gguf")
    assert "no safetensors file" in told("org/empty")


# --- tokens --------------------------------------------------------------------------------------


def test_the_token_goes_to_the_hub_and_nowhere_else(
    model: FakeHub, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.users[TOKEN] = "someone"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # Another port of the same host is another origin too.
    with FakeHub() as other:
        model.faults.append(
            Fault("redirect", "config.json", "hub", 1, location=f"{other.url}/org/m/resolve/main/x")
        )
        told()
        assert other.log
        assert not any(r.token for r in other.log)
    model.log.clear()
    assert not tidoctor.diagnose("org/m").findings
    assert {r.where: r.token for r in model.log} == {"api": TOKEN, "hub": TOKEN, "cdn": None}


def test_nothing_that_is_printed_holds_the_token(model: FakeHub) -> None:
    model.users[TOKEN] = "someone"
    model.repos["org/m"].gated = True
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_TOKEN": TOKEN, "TIDOCTOR_DEBUG": "1"}
    for style in ("text", "json"):
        command = [sys.executable, "-m", "tidoctor", "diagnose", "org/m", "--format", style]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert run.returncode == 3
        assert TOKEN not in run.stdout + run.stderr
    assert json.loads(run.stdout)["what"].startswith("is gated")
