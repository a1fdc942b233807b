"""Checkpoints in S3, through s3fs and a server of moto on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import LLAMA, build, llama, write

import tidoctor
from tidoctor.errors import Unreadable

TIED = LLAMA | {"tie_word_embeddings": True}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bucket")
        for folder, files in (
            ("one", build(llama(head=False), TIED)),
            ("sharded", build(llama(), LLAMA, shards=3)),
            ("short", build(llama(), LLAMA, shards=3)),
        ):
            for name, data in files.items():
                if (folder, name) != ("short", "model-00002-of-00003.safetensors"):
                    s3.put_object(Bucket="bucket", Key=f"{folder}/{name}", Body=data)
        yield "s3://bucket"
        server.stop()


def test_a_checkpoint_in_s3_is_judged_as_its_copy(bucket: str, tmp_path: Path) -> None:
    assert not tidoctor.diagnose(f"{bucket}/sharded").findings
    here = write(tmp_path / "one", llama(head=False), TIED)
    there = tidoctor.diagnose(f"{bucket}/one").findings
    assert [(f.code, f.message) for f in there] == [
        (f.code, f.message) for f in tidoctor.diagnose(here).findings
    ]
    assert [f.code for f in tidoctor.diagnose(f"{bucket}/short").findings] == ["S01"]


def test_a_repair_from_s3_is_that_of_the_copy(bucket: str, tmp_path: Path) -> None:
    here = write(tmp_path / "one", llama(head=False), TIED)
    tidoctor.untie(here, tmp_path / "a")
    tidoctor.untie(f"{bucket}/one", tmp_path / "b")
    assert subprocess.run(["diff", "-r", tmp_path / "a", tmp_path / "b"]).returncode == 0


def test_what_is_not_in_s3_is_a_sentence(bucket: str) -> None:
    for url, said in ((f"{bucket}/none", "nothing is there"), ("s3://nobucket/x", "nothing is there")):
        with pytest.raises(Unreadable, match=said):
            tidoctor.open(url)
