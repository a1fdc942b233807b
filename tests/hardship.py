"""Kills and full disks: whatever happens, DEST is absent or complete, and the source unchanged.

`python tests/hardship.py [KILLS [SIZES]]` runs the commands that write, in processes of their own:

- KILLS of them (300) are killed at a random moment, every third by SIGINT or SIGTERM;
- in SIZES (20) file systems of growing size, each command once as it is, and once believing that
  there is room, so that the disk is full in the middle. This part needs root, to mount them.

After each, DEST is compared tensor for tensor with what it should be, the source with what it was,
and the same command is run again, which has to succeed and to leave nothing else behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import checkpoints  # noqa: E402

from tests.test_writer import state, tensors  # noqa: E402

Rows = dict[str, tuple[str, Sequence[int], bytes]]
# Runs a command line; the file system is said to have room.
BELIEVING = """
import shutil, sys
shutil.disk_usage = lambda place: type("Usage", (), {"total": 1 << 60, "used": 0, "free": 1 << 60})
from tidoctor.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
COMMANDS = {
    "untie": ["untie", "tied"],
    "untie, linked": ["untie", "tied", "--link", "hard"],
    "untie, replacing": ["untie", "tied", "--force"],
    "tie": ["tie", "untied"],
    "rename": ["repair", "wrapped", "--force"],
    "rename, copied": ["repair", "wrapped", "--link", "never"],
}


def digests(folder: Path) -> dict[str, str]:
    """The tensors of a folder, read with the standard library."""
    return {
        name: f"{dtype} {shape} {hashlib.sha256(data).hexdigest()}"
        for name, (dtype, shape, data) in tensors(folder).items()
    }


def start(arguments: list[str], here: Path, *, believing: bool = False) -> subprocess.Popen[bytes]:
    how = ["-c", BELIEVING] if believing else ["-m", "tidoctor"]
    return subprocess.Popen(
        [sys.executable, *how, *arguments], cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def patients(here: Path) -> None:
    """Three checkpoints with 16 MB of embedding, so that there is a while to be killed in."""
    config = checkpoints.LLAMA | {"tie_word_embeddings": True, "vocab_size": 512_000}
    small = checkpoints.filled(checkpoints.llama(head=False))
    embedding = ("BF16", [512_000, 16], random.Random(5).randbytes(1 << 14) * 1000)
    body = {**small, "model.embed_tokens.weight": embedding}
    company = {"tokenizer.json": b" " * 2_000_000}
    lay(here / "tied", body, config, 3, company)
    lay(here / "untied", {**body, "lm_head.weight": embedding}, config, 3)
    lay(here / "wrapped", {f"module.{n}": row for n, row in body.items()}, config, 2)


def lay(
    folder: Path, rows: Rows, config: dict[str, object], shards: int,
    company: dict[str, bytes] | None = None,
) -> None:  # fmt: skip
    folder.mkdir()
    for name, data in (company or {}).items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    names = list(rows)
    each = -(-len(names) // shards)
    places = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: rows[n] for n in names[i * each : (i + 1) * each]}
        (folder / file).write_bytes(checkpoints.safetensors_bytes(part))
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(len(r[2]) for r in rows.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


class Trial:
    """One command, what it should lead to, and how long it takes."""

    def __init__(self, here: Path, arguments: list[str], out: Path) -> None:
        self.here, self.out = here, out
        self.source = here / arguments[1]
        self.arguments = [*arguments[:2], str(out), *arguments[2:]]
        self.old = "--force" in arguments
        self.untouched = state(self.source)
        self.prepare()
        began = time.monotonic()
        self.run()
        self.seconds = time.monotonic() - began
        self.expected = digests(out)

    def prepare(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        if self.old:
            checkpoints.write(self.out, {"old": [2]}, {})

    def run(self) -> None:
        with start(self.arguments, self.here) as process:
            said = process.communicate()[1]
        assert process.returncode == 0, said

    def check(self) -> str:
        """What stands at DEST after a mishap."""
        assert state(self.source) == self.untouched, "the source was changed"
        if not self.out.exists():
            assert not self.old, "what stood there is gone"
            return "nothing"
        found = digests(self.out)
        if self.old and list(found) == ["old"]:
            return "old"
        assert found == self.expected, "DEST is neither what was there nor complete"
        return "new"

    def again(self) -> None:
        """The next run succeeds and puts things in order."""
        self.prepare()
        self.run()
        assert digests(self.out) == self.expected
        left = {path.name for path in self.out.parent.iterdir()} - {self.out.name}
        left -= {path.name for path in self.here.iterdir()} if self.out.parent == self.here else set()
        assert not [name for name in left if "tidoctor" in name], left
        assert not list(self.out.parent.glob(".*tidoctor*")), "something was left behind"
        assert state(self.source) == self.untouched


def kills(here: Path, count: int) -> None:
    seeded = random.Random(11)
    trials = {n: Trial(here, a, here / "out") for n, a in COMMANDS.items()}
    stood: dict[str, dict[str, int]] = {name: {} for name in trials}
    partial = 0
    for i in range(count):
        name = list(trials)[i % len(trials)]
        trial = trials[name]
        trial.prepare()
        number = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[i % 3 if i % 2 else 0]
        with start(trial.arguments, here) as process:
            # Most of a run are imports; half of the moments are taken from its second half.
            time.sleep(trial.seconds * seeded.uniform(0.5 if i % 4 < 2 else 0, 1.05))
            process.send_signal(number)
            process.communicate()
        left = list(here.glob(".out.tidoctor-*"))
        partial += bool(left)
        if number != signal.SIGKILL and process.returncode == 130:
            assert not left, "a signal that can be heard left something behind"
        after = trial.check()
        stood[name][after] = stood[name].get(after, 0) + 1
        trial.again()
    shutil.rmtree(here / "out")
    print(f"{count} kills, {partial} left an unfinished folder, which the next run removed")
    for name, found in stood.items():
        print(f"  {name:18} DEST afterwards: {found}")


def full_disks(here: Path, sizes: int) -> None:
    place = here / "disk"
    place.mkdir()
    refused = failed = done = 0
    for name, arguments in COMMANDS.items():
        trial = Trial(here, arguments, here / "out")
        need = sum(path.stat().st_size for path in (here / "out").iterdir())
        shutil.rmtree(here / "out")
        for k in range(sizes):
            size = max(int(need * 1.2 * (k + 1) / sizes), 1 << 14)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "disk", place], check=True)
            try:
                trial.out, trial.arguments[2] = place / "out", str(place / "out")
                for believing in (False, True):
                    trial.prepare()
                    with start(trial.arguments, here, believing=believing) as process:
                        said = process.communicate()[1].decode()
                    after = trial.check()
                    assert after == "new" if process.returncode == 0 else after != "new"
                    if process.returncode == 0:
                        done += 1
                    else:
                        assert "no space left" in said and "Traceback" not in said, said
                        failed += believing
                        refused += not believing
                    left = {path.name for path in place.iterdir()}
                    assert left <= {"out"}, left
            finally:
                subprocess.run(["umount", place], check=True)
        print(f"  {name:18} {sizes} sizes up to {1.2 * need / 1e6:.1f} MB")
    print(f"full disks: {refused} told before writing, {failed} in the middle, {done} had room")


if __name__ == "__main__":
    number = [int(argument) for argument in sys.argv[1:3]]
    with tempfile.TemporaryDirectory(prefix="tidoctor-hardship-") as folder:
        patients(Path(folder))
        kills(Path(folder), number[0] if number else 300)
        if os.geteuid() == 0:
            full_disks(Path(folder), number[1] if len(number) > 1 else 20)
        else:
            print("full disks: not tried, because only root can mount file systems")
