"""A thousand small checkpoints in one call: time for each after start-up, and peak memory.

`python tests/bench/preflight.py [FORMAT…]` prints a row for each format and number of checkpoints:
processor and wall time of the whole process, milliseconds for each checkpoint beyond the first
(least of the repeats), and peak resident memory. Exit 1 when the goal is missed: at most 10 ms
each, and no more than 16 MB more for a thousand checkpoints than for ten.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
NUMBERS = (1, 10, 100, 1000)
GOAL_MS, GOAL_MB = 10.0, 16.0


def write(folder: Path) -> None:
    """Healthy, tied and headless models, in one file and in shards."""
    from tests import checkpoints as c

    tied = c.LLAMA | {"tie_word_embeddings": True}
    base = c.LLAMA | {"architectures": ["LlamaModel"]}
    kinds = (
        c.build(c.llama(), c.LLAMA),
        c.build(c.llama(head=False), tied, shards=2),
        c.build(c.llama(prefix="", head=False), base, shards=3),
    )
    for number in range(max(NUMBERS)):
        place = folder / f"{number:04d}"
        place.mkdir()
        for name, data in kinds[number % len(kinds)].items():
            (place / name).write_bytes(data)


def measured(sources: list[str], format_: str) -> tuple[float, float, float]:
    """(wall seconds, processor seconds, peak MB) of a process of its own."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        line = [sys.executable, "-m", "tidoctor", "diagnose", "--format", format_, *sources]
        os.execve(sys.executable, line, os.environ | {"PYTHONPATH": str(ROOT)})
    start = time.perf_counter()
    _, _, used = os.wait4(child, 0)
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / scale


def main(formats: list[str]) -> int:
    """Print the table; 1 when a goal is missed."""
    missed = False
    print("format    number   wall s    cpu s   wall ms each   cpu ms each   peak MB")
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        every = sorted(str(p) for p in Path(place).iterdir())
        for format_ in formats:
            rows = {}
            for number in NUMBERS:
                runs = [measured(every[:number], format_) for _ in range(3)]
                rows[number] = tuple(min(column) for column in zip(*runs, strict=True))
                wall, cpu, peak = rows[number]
                more = max(number - 1, 1)
                each = [1000 * (now - then) / more for now, then in zip(rows[number], rows[1], strict=True)]
                print(f"{format_:8}  {number:6}  {wall:7.2f}  {cpu:7.2f}  {each[0]:13.2f}"
                      f"  {each[1]:12.2f}  {peak:8.1f}", flush=True)  # fmt: skip
            missed |= each[0] > GOAL_MS or rows[1000][2] - rows[10][2] > GOAL_MB
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["text", "json", "sarif"]))
