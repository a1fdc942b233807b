"""How time and memory grow: with the bytes that are copied, and with the number of tensors.

`python tests/bench/growth.py [GIGABYTES,... [TENSORS,...]]` (1,4,16 and 1000,10000,100000,1000000).
Each model is made, measured once and removed; TMPDIR says where, and needs twice the largest size.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measuring import TIDOCTOR, in_a_process, llama, machine, run

from tidoctor.header import serialise


def many(folder: Path, count: int) -> None:
    """One file with so many tensors of a model with experts, whose bytes are holes."""
    folder.mkdir()
    rows = [
        (f"model.layers.{i // 1536}.mlp.experts.{i // 3 % 512}.{('up', 'gate', 'down')[i % 3]}_proj.weight",
         "BF16", [8, 8], 128)
        for i in range(count)
    ]  # fmt: skip
    # Headers end at 100 MB, so a million tensors need several files.
    shards = [rows[i : i + 200_000] for i in range(0, count, 200_000)]
    places = {}
    for k, part in enumerate(shards, 1):
        file = f"model-{k:05d}-of-{len(shards):05d}.safetensors"
        head, entries = serialise(part, {"format": "pt"})
        with (folder / file).open("wb") as f:
            f.write(head)
            f.truncate(len(head) + entries[-1].end)
        places |= {row[0]: file for row in part}
    index = {"metadata": {"total_size": 128 * count}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def main(gigabytes: Sequence[int], tensors: Sequence[int]) -> None:
    print(f"{machine()}\n\n| untie by copy | CPU s | wall s | CPU s/GB | MB |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="tidoctor-growth-") as folder:
        source, out = Path(folder) / "model", Path(folder) / "out"
        for size in gigabytes:
            layers = max(round((size * 1e9 - 5.3e8) / 1.22e8), 1)
            in_a_process("growth.py", "--make", str(source), str(layers))
            used = run([*TIDOCTOR, "untie", str(source), str(out)])
            written = sum(path.stat().st_size for path in out.iterdir()) / 1e9
            print(f"| {written:.1f} GB | {used.cpu:.2f} | {used.wall:.1f} | {used.cpu / written:.2f} | {used.memory:.0f} |", flush=True)
            shutil.rmtree(source)
            shutil.rmtree(out)
        print("\n| tensors | inspect: CPU s | MB | diagnose: CPU s | MB |\n|---|---:|---:|---:|---:|")
        for count in tensors:
            in_a_process("growth.py", "--many", str(source), str(count))
            a, b = (run([*TIDOCTOR, verb, str(source)], codes=(0, 1)) for verb in ("inspect", "diagnose"))
            print(f"| {count:,} | {a.cpu:.2f} | {a.memory:.0f} | {b.cpu:.2f} | {b.memory:.0f} |", flush=True)
            shutil.rmtree(source)


def numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        llama(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["--many"]:
        many(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        given = [numbers(text) for text in sys.argv[1:3]]
        main(given[0] if given else [1, 4, 16], given[1] if len(given) > 1 else [1000, 10_000, 100_000, 1_000_000])
