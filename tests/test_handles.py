"""Room on the disk that is chosen before anything is written there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tidoctor.continuing import JOURNAL, Journal
from tidoctor.handles import lay_out

SIZE = 8 << 20


def kind_of(path: Path) -> str:
    """The kind of file system that a path lies on, as Linux names it."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split(" ")[1:3] for line in lines]
    above = {str(p) for p in (path.resolve(), *path.resolve().parents)}
    return max((m for m in mounts if m[0] in above), key=lambda m: len(m[0]), default=["", ""])[1]


def test_a_file_keeps_its_size_and_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    with path.open("r+b") as f:
        lay_out(f.fileno(), 3, SIZE)
        status = os.fstat(f.fileno())
    assert path.read_bytes() == b"abc"
    if kind_of(tmp_path) == "ext4":
        assert status.st_blocks * 512 >= SIZE


def test_it_is_a_wish_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with (tmp_path / "x").open("rb") as read_only:
        lay_out(read_only.fileno(), 0, SIZE)
        lay_out(read_only.fileno(), -1, -1)
    with (tmp_path / "x").open("r+b") as f:
        lay_out(f.fileno(), 0, 1 << 62)  # no disk has so much
    reads, writes = os.pipe()
    lay_out(writes, 0, SIZE)
    os.close(reads)
    os.close(writes)
    lay_out(writes, 0, SIZE)  # closed
    assert (tmp_path / "x").read_bytes() == b"abc"


@pytest.mark.skipif(not hasattr(os.stat_result, "st_blocks"), reason="the system tells no blocks")
def test_what_was_laid_out_for_an_earlier_run_is_there_to_be_used(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text(json.dumps(["x", "recipe", 0, 10, "0" * 64]) + "\n")
    with (tmp_path / "x").open("wb") as f:
        f.write(bytes(10))
        lay_out(f.fileno(), 0, SIZE)
    taken = sum((tmp_path / name).stat().st_blocks * 512 for name in ("x", JOURNAL))
    journal = Journal(tmp_path)
    journal.close()
    assert journal.held == taken
