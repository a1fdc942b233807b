"""What untie and rename take on file systems that share extents, XFS and btrfs on loop mounts.

`python tests/bench/reflinks.py [LAYERS [ROUNDS]]`, as root, with xfsprogs and btrfs-progs. The
model has 0.53 GB and 0.12 GB a layer. New bytes are what the file system has less of after a sync.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import TIDOCTOR, Usage, in_a_process, least, llama, machine, run


def used(place: Path) -> int:
    os.sync()
    status = os.statvfs(place)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def measure(place: Path, title: str, command: list[str], out: Path, rounds: int) -> None:
    runs: list[Usage] = []
    grown = []
    for _ in range(rounds):
        shutil.rmtree(out, ignore_errors=True)
        before = used(place)
        runs.append(run(command))
        grown.append(used(place) - before)
    best = least(runs)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"  {title:26} {size / 1e9:5.2f} GB  new {max(grown) / 1e3:8.0f} kB  "
          f"wall {best.wall:5.2f} s  CPU {best.cpu:5.2f} s  {best.memory:4.0f} MB", flush=True)  # fmt: skip


def main(layers: int, rounds: int) -> None:
    print(machine())
    size = 2 * (530_000_000 + 122_000_000 * layers) + (1 << 30)
    with tempfile.TemporaryDirectory(prefix="tidoctor-reflinks-") as folder:
        for kind in ("xfs", "btrfs"):
            image, place = Path(folder) / f"{kind}.img", Path(folder) / kind
            with image.open("wb") as f:
                f.truncate(max(size, 1 << 30))
            subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
            place.mkdir()
            subprocess.run(["mount", "-o", "loop", image, place], check=True)
            try:
                print(f"{kind}, {layers} layers")
                in_a_process("reflinks.py", "--make", str(layers), str(place))
                out = place / "out"
                tied, wrapped = str(place / "tied"), str(place / "wrapped")
                measure(place, "cp --reflink=always",
                        ["cp", "-r", "--reflink=always", tied, str(out)], out, rounds)  # fmt: skip
                measure(place, "untie", [*TIDOCTOR, "untie", tied, str(out)], out, rounds)
                measure(place, "rename all", [*TIDOCTOR, "repair", wrapped, str(out)], out, rounds)
            finally:
                subprocess.run(["umount", place], check=True)
                image.unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        llama(Path(sys.argv[3]) / "tied", int(sys.argv[2]))
        llama(Path(sys.argv[3]) / "wrapped", int(sys.argv[2]), prefix="module.")
    else:
        main(*(int(sys.argv[i]) if len(sys.argv) > i else (16, 3)[i - 1] for i in (1, 2)))
