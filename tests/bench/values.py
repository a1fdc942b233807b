"""Reading all values beside `cat file > /dev/null`, from the same cache.

`python tests/bench/values.py [GIGABYTES] [RUNS]` prints, for each run, what both read in a second
(of the wall, and of the processor: the steadier figure where others work on the machine), and the
most memory that reading all values took.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import tidoctor
from tidoctor.rules.values import survey

SIDE = 2048
MATRIX = SIDE * SIDE * 2  # bytes


def write(folder: Path, size: int) -> None:
    """One file of BF16 matrices of finite random numbers, of some `size` bytes."""
    block = bytearray(os.urandom(MATRIX))
    block[1::2] = bytes(0x3C + (b & 0x80) for b in block[1::2])
    header: dict[str, object] = {}
    for i in range(max(size // MATRIX, 1)):
        header[f"model.layers.{i}.mlp.up_proj.weight"] = {
            "dtype": "BF16", "shape": [SIDE, SIDE],
            "data_offsets": [i * MATRIX, (i + 1) * MATRIX],
        }  # fmt: skip
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for i in range(len(header)):
            f.write(struct.pack("<H", i % 0x3F00))
            f.write(memoryview(block)[2:])


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall and of the processor, that of children included."""
    wall, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def main(gigabytes: float = 2, runs: int = 5) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(gigabytes * 1e9))
        file = Path(folder) / "model.safetensors"
        size = file.stat().st_size / 1e9
        checkpoint = tidoctor.open(folder)
        for _ in range(runs):
            ours = timed(lambda: survey(checkpoint))
            cat = timed(lambda: subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True))
            print(
                f"values {size / ours[0]:6.2f} GB/s, cat {size / cat[0]:6.2f} GB/s, ratio "
                f"{cat[0] / ours[0]:.2f};  of the processor {size / ours[1]:6.2f} and "
                f"{size / cat[1]:6.2f} GB/s, ratio {cat[1] / ours[1]:.2f}"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"at most {peak:.0f} MB")


if __name__ == "__main__":
    main(*(float(a) if "." in a else int(a) for a in sys.argv[1:]))
