"""What a command takes, and the checkpoints that commands are measured on."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

# An installed package has its bytecode, whatever the environment says of writing any.
compileall.compile_dir(ROOT / "tidoctor", quiet=1)

from tidoctor.header import serialise  # noqa: E402
from tidoctor.tensors import elements as elements  # noqa: E402

PYTHON = sys.executable
TIDOCTOR = [PYTHON, "-m", "tidoctor"]
Row = tuple[str, str, list[int], int]  # name, dtype, shape, bytes


class Usage(NamedTuple):
    """CPU and wall in seconds, peak resident memory in MB."""

    cpu: float
    wall: float
    memory: float


def run(command: Sequence[str], *, codes: Iterable[int] = (0,)) -> Usage:
    """What one run takes. A child starts with its parent's peak memory, so this parent stays small."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"
    }  # fmt: skip
    start = time.perf_counter()
    process = os.posix_spawnp(
        command[0], list(command), environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )  # fmt: skip
    _, status, used = os.wait4(process, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    assert code in codes, f"exit {code}: {command}"
    return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1000)


def least(runs: Sequence[Usage]) -> Usage:
    """The least of each figure: what else the machine does only adds."""
    return Usage(*(min(column) for column in zip(*runs, strict=True)))


def alternate(
    rounds: int, *commands: Sequence[str], before: Callable[[], object] = lambda: None,
    codes: Iterable[int] = (0,),
) -> list[Usage]:  # fmt: skip
    """Rounds of all commands, there and back, so that a busy machine disturbs all alike.

    In one order alone, the same command would always come after the one that gave much memory
    back, which a virtual machine's host has then taken and has to bring again.
    """
    runs: list[list[Usage]] = [[] for _ in commands]
    for number in range(rounds):
        turn = list(zip(commands, runs, strict=True))
        for command, usages in reversed(turn) if number % 2 else turn:
            before()
            usages.append(run(command, codes=codes))
    return [least(usages) for usages in runs]


class Crowd:
    """Memory full of files, as it is on a machine that has run for a while.

    Free memory is not the same at all times: a virtual machine's host takes it back, and who comes
    next pays for that with two or three times the CPU time of a copy.
    """

    def __init__(self, folder: Path) -> None:
        """Make the file that is read for it: one long hole, which needs no disk."""
        self._file = folder / "crowd"
        self._file.touch()
        os.truncate(self._file, 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        self._at = 0

    def gather(self, *wanted: Path) -> None:
        """Read until free memory falls no further, and the wanted files first."""
        buffer = bytearray(1 << 20)
        for path in wanted:
            with path.open("rb", buffering=0) as f:
                while f.readinto(buffer):
                    pass
        before = sys.maxsize
        with self._file.open("rb", buffering=0) as f:
            while (free := _free()) < before - (64 << 20):
                before = free
                f.seek(self._at)
                for _ in range(512):
                    if not f.readinto(buffer):
                        f.seek(0)
                self._at = f.tell()


def _free() -> int:
    """Bytes of memory that hold nothing."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemFree")) << 10


def in_a_process(script: str, *arguments: str) -> None:
    """Run a script of this folder apart, because what makes large files takes memory."""
    subprocess.run([PYTHON, str(Path(__file__).parent / script), *arguments], check=True)


def machine() -> str:
    """What the figures were measured on."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, {len(names)} cores of {names[0] if names else 'unknown'}, "
        f"{memory:.0f} GiB, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    )


# --- checkpoints -------------------------------------------------------------------------------

LAYER = (
    ("input_layernorm", [2048]), ("mlp.down_proj", [2048, 8192]), ("mlp.gate_proj", [8192, 2048]),
    ("mlp.up_proj", [8192, 2048]), ("post_attention_layernorm", [2048]),
    ("self_attn.k_proj", [512, 2048]), ("self_attn.o_proj", [2048, 2048]),
    ("self_attn.q_proj", [2048, 2048]), ("self_attn.v_proj", [512, 2048]),
)  # fmt: skip


def llama(
    folder: Path, layers: int = 16, *, prefix: str = "", sparse: bool = False, width: int = 1
) -> int:
    """A tied Llama-3.2-1B with other numbers of layers, in one file: 0.53 GB and 0.12 GB a layer.

    All but the vocabulary is `width` times as wide. Its bytes are small finite numbers; the size in
    bytes is returned.
    """
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 2048 * width, "intermediate_size": 8192 * width,
        "num_hidden_layers": layers, "num_attention_heads": 32 * width,
        "num_key_value_heads": 8 * width, "head_dim": 64, "vocab_size": 128256, "rms_norm_eps": 1e-05,
        "max_position_embeddings": 131072, "tie_word_embeddings": True, "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shapes = [("model.embed_tokens.weight", [128256, 2048 * width])]
    shapes += [
        (f"model.layers.{i}.{name}.weight", [n * width for n in shape])
        for i in range(layers) for name, shape in LAYER
    ]  # fmt: skip
    shapes.append(("model.norm.weight", [2048 * width]))
    rows = [(prefix + name, "BF16", shape, 2 * elements(shape)) for name, shape in shapes]
    head, entries = serialise(rows, {"format": "pt"})
    with (folder / "model.safetensors").open("wb") as f:
        f.write(head)
        if not sparse:
            _fill(f.write, entries[-1].end)
        f.truncate(len(head) + entries[-1].end)
        f.flush()
        os.fsync(f.fileno())
    return len(head) + entries[-1].end


def _fill(write: Callable[[bytes], object], size: int) -> None:
    # High bytes 0x3c: BF16 numbers near 0.01. The low ones differ all over.
    low = bytearray(os.urandom(1 << 22))
    low[1::2] = b"\x3c" * (1 << 21)
    for i, done in enumerate(range(0, size, len(low))):
        low[0:8:2] = i.to_bytes(4, "little")
        write(bytes(low[: min(len(low), size - done)]))


def write_sparse(folder: Path, shards: list[list[Row]], config: dict[str, object]) -> None:
    """Shards whose data are holes, but for numbers where a diagnosis looks whether there are any.

    These are the first bytes of a head, which is not the embedding, and three places of each file.
    """
    folder.mkdir(parents=True)
    places = {}
    for k, rows in enumerate(shards, 1):
        file = f"model-{k:05d}-of-{len(shards):05d}.safetensors"
        head, entries = serialise(rows, {"format": "pt"})
        with (folder / file).open("wb") as f:
            f.write(head)
            end = entries[-1].end
            for begin in (0, end // 2, max(end - 64, 0)):
                f.seek(len(head) + begin)
                f.write(b"\x3d" * min(64, end))
            for entry in entries:
                if entry.name == "lm_head.weight":
                    f.seek(len(head) + entry.begin)
                    f.write(b"\x3c" * 64)
            f.truncate(len(head) + end)
        places |= {row[0]: file for row in rows}
    total = sum(row[3] for rows in shards for row in rows)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))
