"""What copying and proving costs: the engine with and without reading back, beside cp and fsync.

`python tests/bench/copying.py [GIGABYTES [ROUNDS]]` makes one file in a temporary folder (TMPDIR
says where) and prints a Markdown table: the least CPU and wall time of rounds that go there and
back, with memory full of files, and their ratios to cp. Start-up of Python is no part of them: each
figure is that of a process that has begun. The file is copied as a file of its own and, as all the
tensors of a renamed checkpoint are, behind a header of another length.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import PYTHON, Crowd, Usage, least, machine

ENGINE = """
import os, resource, sys, time
from pathlib import Path
from tidoctor.copying import Mover, Origins
from tidoctor.source import open_source
from tidoctor.tensors import Span
folder, target, begin, proven = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "proven"
if not proven:
    import tidoctor.copying
    tidoctor.copying.filled = lambda *_: True
    tidoctor.copying.Twins.alike = lambda *_: True
    if not begin:  # the system copies it, and nothing has to be read
        tidoctor.copying.Origin.fill = lambda *_: None
source, begun = open_source(folder), time.perf_counter()
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu()
with Origins() as origins:
    there = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(there, bytes(4096) if begin else b"")
    span = Span(source, "model.safetensors", begin, source.size("model.safetensors"))
    assert Mover(origins, lambda n: None).copy(span, there, 4096 if begin else 0)
    os.fsync(there)
    last, end = os.pread(there, 1 << 20, os.fstat(there).st_size - (1 << 20)), span.end
    assert last == source.read("model.safetensors", end - (1 << 20), end)
    os.close(there)
print(cpu() - before, time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""
CP = """
import resource, subprocess, sys, time
begun = time.perf_counter()
subprocess.run(["cp", *sys.argv[1:]], check=True)
subprocess.run(["sync", sys.argv[2]], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, time.perf_counter() - begun, used.ru_maxrss / 1000)
"""


def once(code: str, *arguments: str) -> Usage:
    """One run of a program that prints its own CPU and wall seconds and MB."""
    run = subprocess.run([PYTHON, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return Usage(*map(float, run.stdout.split()))


def main(gigabytes: float, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tidoctor-bench-") as folder:
        origin, target = Path(folder) / "model.safetensors", str(Path(folder) / "copy")
        piece = os.urandom(1 << 22)
        with origin.open("wb") as f:
            for _ in range(round(gigabytes * 1e9 / len(piece))):
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        ways = {
            "cp, fsync": (CP, str(origin), target),
            "copied": (ENGINE, folder, target, "0", "trusted"),
            "copied and read back": (ENGINE, folder, target, "0", "proven"),
            "behind another header, copied": (ENGINE, folder, target, "1000", "trusted"),
            "behind another header, copied and read back": (ENGINE, folder, target, "1000", "proven"),
        }
        runs: dict[str, list[Usage]] = {name: [] for name in ways}
        crowd = Crowd(Path(folder))
        for number in range(rounds):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                Path(target).unlink(missing_ok=True)
                crowd.gather(origin)
                code, *arguments = ways[name]
                runs[name].append(once(code, *arguments))
    print(f"{machine()}; {gigabytes} GB, the least of {rounds} rounds\n")
    print("| way | CPU s | wall s | MB | ratio of CPU | of wall |")
    print("|---|---:|---:|---:|---:|---:|")
    by = least(runs["cp, fsync"])
    for name, usages in runs.items():
        own = least(usages)
        print(f"| {name} | {own.cpu:.2f} | {own.wall:.2f} | {own.memory:.0f} "
              f"| {own.cpu / by.cpu:.2f} | {own.wall / by.wall:.2f} |")  # fmt: skip


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:3]]
    main(given[0] if given else 1.0, int(given[1]) if len(given) > 1 else 5)
