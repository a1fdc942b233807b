"""Checkpoints on web servers and in object stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import fsspec
import pytest
from checkpoints import LLAMA, build, llama
from fakehub import FakeHub, Fault, safetensors

import tidoctor
from tidoctor.errors import Unreadable
from tidoctor.expecting import expect
from tidoctor.source import transfer


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "wait", lambda seconds: None)


# --- the web -------------------------------------------------------------------------------------


@pytest.fixture
def web(hub: FakeHub) -> Iterator[str]:
    """The files of a second stand-in, which to the client is no Hub at all."""
    with FakeHub() as other:
        other.repo("org/one", build(llama(), LLAMA))
        other.repo("org/sharded", build(llama(), LLAMA, shards=3))
        hub.other = other  # type: ignore[attr-defined]
        yield f"{other.url}/org/{{}}/resolve/main/"


@pytest.mark.parametrize(
    ("path", "kind", "requests"),
    [
        ("one/", "folder", 3),
        ("sharded/", "folder", 6),
        ("one/model.safetensors", "file", 2),
        ("sharded/model.safetensors.index.json", "index", 6),
    ],
)
def test_a_checkpoint_on_the_web(
    web: str, hub: FakeHub, path: str, kind: str, requests: int
) -> None:
    name, _, file = path.partition("/")
    checkpoint = tidoctor.open(web.format(name) + file)
    assert checkpoint.source.kind == kind
    assert not tidoctor.diagnose(checkpoint).findings
    answered = [r for r in hub.other.log if r.status // 100 != 3]  # type: ignore[attr-defined]
    assert len(answered) == requests
    assert not any(r.token for r in answered)


def test_what_is_not_on_the_web_is_a_sentence(web: str, hub: FakeHub) -> None:
    for address, said in (
        (web.format("one") + "sub/", "holds no safetensors file"),
        ("http://127.0.0.1:9/x/", "cannot be reached"),
        ("http://[::1/x", "no usable address"),
        ("https:///x", "no usable address"),
    ):
        with pytest.raises(Unreadable, match=said):
            tidoctor.open(address)
    hub.other.faults.append(Fault("status", "*", status=500))  # type: ignore[attr-defined]
    with pytest.raises(Unreadable, match="answered 500"):
        tidoctor.open(web.format("one"))


def test_a_missing_shard_on_the_web_is_a_finding(web: str, hub: FakeHub) -> None:
    other: FakeHub = hub.other  # type: ignore[attr-defined]
    other.repos["org/sharded"].gone.add("model-00002-of-00003.safetensors")
    assert [f.code for f in tidoctor.diagnose(web.format("sharded")).findings] == ["S01"]


def test_a_config_on_the_web_is_enough_to_expect(web: str) -> None:
    assert "lm_head.weight" in expect(web.format("one") + "config.json").disk


# --- object stores -------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def put(fs: fsspec.AbstractFileSystem, folder: str, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        fs.pipe_file(f"{folder}/{name}", data)


def test_a_checkpoint_in_a_store(store: fsspec.AbstractFileSystem) -> None:
    put(store, "/bucket/one", {**build(llama(), LLAMA), "sub/x": b"x"})
    put(store, "/bucket/sharded", build(llama(), LLAMA, shards=3))
    for path, kind in (
        ("one", "folder"), ("one/", "folder"), ("one/model.safetensors", "file"),
        ("sharded", "folder"), ("sharded/model.safetensors.index.json", "index"),
    ):  # fmt: skip
        checkpoint = tidoctor.open(f"memory://bucket/{path}")
        assert checkpoint.source.kind == kind
        assert not tidoctor.diagnose(checkpoint).findings
    assert tidoctor.open("memory://bucket/one").folders == {"sub"}
    assert "lm_head.weight" in expect("memory://bucket/one").disk


def test_a_missing_shard_in_a_store_is_a_finding(store: fsspec.AbstractFileSystem) -> None:
    files = build(llama(), LLAMA, shards=3)
    del files["model-00002-of-00003.safetensors"]
    put(store, "/bucket/m", files)
    assert [f.code for f in tidoctor.diagnose("memory://bucket/m").findings] == ["S01"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://bucket/none", "nothing is there"),
        ("memory://bucket/m/x.safetensors", "no such file"),
        ("nosuch://bucket/m", "nosuch:// is not known here"),
        ("simplecache::memory://bucket/m", "no such folder or file|is a chain"),
        ("memory://simplecache::x", "is a chain of file systems"),
    ],
)
def test_what_is_not_in_a_store_is_a_sentence(
    store: fsspec.AbstractFileSystem, url: str, said: str
) -> None:
    put(store, "/bucket/m", build(llama(), LLAMA))
    with pytest.raises(Unreadable, match=said) as caught:
        tidoctor.open(url)
    assert "\n" not in str(caught.value)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, package in (("s3://b/m", "s3fs"), ("gs://b/m", "gcsfs"), ("az://b/m", "adlfs")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(Unreadable, match=rf"\({package}\); pip install 'tidoctor\[cloud\]'"):
            tidoctor.open(url)


class Refusal(Exception):
    """As adlfs and gcsfs have them: with the status under one of two names."""

    def __init__(self, **said: object) -> None:
        vars(self).update(said)


@pytest.mark.parametrize(
    "error",
    [PermissionError("x"), OSError("Forbidden: b/m\nno"), Refusal(status_code=403), Refusal(code=401), Refusal(code="403"),
     type("NoCredentialsError", (Exception,), {})(), type("ClientAuthenticationError", (Exception,), {})()],
    ids=lambda e: type(e).__name__ + str(vars(e)),
)  # fmt: skip
def test_a_store_that_lets_nobody_in(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> list[object]:
        raise error

    monkeypatch.setattr(type(store), "ls", refuse)
    with pytest.raises(Unreadable, match="access is denied"):
        tidoctor.open("memory://bucket/m")


def test_a_store_that_knows_no_ranges(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = safetensors([("x", "BF16", [1000, 200])])
    put(store, "/bucket/m", {"model.safetensors": content.read(0, content.size)})
    checkpoint = tidoctor.open("memory://bucket/m")
    real = type(store).cat_file
    monkeypatch.setattr(type(store), "cat_file", lambda fs, path, **_: real(fs, path))
    with pytest.raises(Unreadable, match="knows no ranges"):
        checkpoint.source.read("model.safetensors", content.size - 10, content.size - 5)


def test_a_store_without_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(fsspec.AbstractFileSystem):  # type: ignore[misc]
        def __init__(self, **_: object) -> None:
            raise ValueError("which account?")

    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "needy", Needy)
    with pytest.raises(Unreadable, match=r"not told which account .* set the credentials"):
        tidoctor.open("needy://bucket/m")


def test_the_words_of_a_store_are_not_repeated(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "/bucket/m", build(llama(), LLAMA))

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError("signature=secret")

    monkeypatch.setattr(type(store), "cat_file", refuse)
    with pytest.raises(Unreadable, match="access is denied") as caught:
        tidoctor.open("memory://bucket/m")
    assert "secret" not in str(caught.value)
