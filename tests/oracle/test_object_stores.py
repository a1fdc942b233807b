"""Checkpoints in object stores, through the real packages and stand-ins on this machine.

S3 is served by moto, Google's store by gcp-storage-emulator. Azure's stand-in is no Python package:
`npm install azurite`, and AZURITE=node_modules/.bin/azurite-blob adds it here, as .ci/run does where
there is npm.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from checkpoints import LLAMA, build, llama, write
from fakehub import safetensors

import tidoctor
from tidoctor.errors import Unreadable

TIED = LLAMA | {"tie_word_embeddings": True}
AZURITE = os.environ.get("AZURITE", "")
# The account and the key that azurite has for everyone.
AZURE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtl"
    "CDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:{}/devstoreaccount1;"
)


def free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def s3(patch: pytest.MonkeyPatch) -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    server.stop()


def gs(patch: pytest.MonkeyPatch) -> Iterator[str]:
    from gcp_storage_emulator.server import create_server

    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks over gRPC what the stand-in is
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    yield "gs://bucket"
    server.stop()


def az(patch: pytest.MonkeyPatch) -> Iterator[str]:
    port = free_port()
    command = [AZURITE, "--inMemoryPersistence", "--blobPort", str(port), "--skipApiVersionCheck", "--disableTelemetry"]
    patch.setenv("AZURE_STORAGE_CONNECTION_STRING", AZURE.format(port))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        for line in server.stdout:
            if "listens on" in line:
                break
        fsspec.filesystem("az").mkdir("bucket")
        yield "az://bucket"
        server.terminate()
        server.communicate()


BIG = safetensors([("model.embed_tokens.weight", "BF16", [20_000, 512])])


@pytest.fixture(scope="module", params=[s3, gs, *([az] if AZURITE else [])], ids=lambda f: f.__name__)
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for url in request.param(patch):
            fs, _ = fsspec.url_to_fs(url)
            for folder, files in (
                ("one", build(llama(head=False), TIED)),
                ("sharded", build(llama(), LLAMA, shards=3)),
                ("short", build(llama(), LLAMA, shards=3)),
                ("big", {"model.safetensors": BIG.read(0, BIG.size), "sub/x": b"x"}),
            ):
                for name, data in files.items():
                    if (folder, name) != ("short", "model-00002-of-00003.safetensors"):
                        fs.pipe_file(f"bucket/{folder}/{name}", data)
            fs.invalidate_cache()
            yield url


def test_a_checkpoint_in_a_store_is_judged_as_its_copy(bucket: str, tmp_path: Path) -> None:
    assert not tidoctor.diagnose(f"{bucket}/sharded").findings
    here = write(tmp_path / "one", llama(head=False), TIED)
    there = tidoctor.diagnose(f"{bucket}/one").findings
    assert [(f.code, f.message) for f in there] == [
        (f.code, f.message) for f in tidoctor.diagnose(here).findings
    ]
    assert [f.code for f in tidoctor.diagnose(f"{bucket}/short").findings] == ["S01"]


@pytest.mark.parametrize("file", ["model-00002-of-00003.safetensors", "model.safetensors.index.json", ""])
def test_a_file_of_it_may_be_named(bucket: str, file: str) -> None:
    checkpoint = tidoctor.open(f"{bucket}/sharded/{file}")
    kind = {"": "folder", ".json": "index", ".safetensors": "file"}[Path(file).suffix]
    assert checkpoint.source.kind == kind and checkpoint.tensors


def test_a_repair_from_a_store_is_that_of_the_copy(bucket: str, tmp_path: Path) -> None:
    here = write(tmp_path / "one", llama(head=False), TIED)
    tidoctor.untie(here, tmp_path / "a")
    tidoctor.untie(f"{bucket}/one", tmp_path / "b")
    assert subprocess.run(["diff", "-r", tmp_path / "a", tmp_path / "b"]).returncode == 0


@pytest.mark.skipif(not Path("/proc/net/dev").exists(), reason="nothing here counts bytes")
def test_only_what_is_asked_for_comes(bucket: str) -> None:
    """20 MB are there; the bytes are counted where they cross the machine's own network."""
    begun = crossed()
    checkpoint = tidoctor.open(f"{bucket}/big")
    assert checkpoint.folders == {"sub"}
    tensor = checkpoint.tensors["model.embed_tokens.weight"]
    at = 12_345_678
    data = checkpoint.read(tensor, at, at + 1000)
    assert data == BIG.read(len(BIG.head) + at, len(BIG.head) + at + 1000)
    assert crossed() - begun < 4_000_000  # of which others who use it may have their part


def crossed() -> int:
    (line,) = (row for row in Path("/proc/net/dev").read_text().splitlines() if row.strip().startswith("lo:"))
    return int(line.split()[1])


@pytest.mark.parametrize("path", ["bucket/none", "nobucket/x", "bucket/one/x.safetensors"])
def test_what_is_not_in_a_store_is_a_sentence(bucket: str, path: str) -> None:
    with pytest.raises(Unreadable, match=r"nothing is there|no such file"):
        tidoctor.open(f"{bucket.partition('://')[0]}://{path}")


@pytest.mark.skipif(not AZURITE, reason="AZURITE does not name azurite's azurite-blob")
@pytest.mark.parametrize("bucket", [az], indirect=True)
def test_who_may_not_read_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins of the other stores let everyone in; see test_stores.py for their errors."""
    said = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", said.replace("Key=Eby", "Key=Fby"))
    fsspec.get_filesystem_class("az").clear_instance_cache()
    with pytest.raises(Unreadable, match="access is denied"):
        tidoctor.open(f"{bucket}/one")


def test_azure_without_an_account_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("az").clear_instance_cache()
    with pytest.raises(Unreadable, match="set AZURE_STORAGE_CONNECTION_STRING"):
        tidoctor.open("az://bucket/other")
