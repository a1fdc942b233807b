"""What tidoctor costs beside what one would use otherwise, in one run, as ratios.

`python tests/bench/ratios.py [ROUNDS]` makes sparse checkpoints in a temporary folder and prints,
for each pair, the least CPU time (user and system) of the rounds, their ratio and the peak memory.
Rounds of a pair alternate, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tidoctor.header import serialise  # noqa: E402

PYTHON = sys.executable
SAFE_OPEN = """
import sys, pathlib
from safetensors import safe_open
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors")):
    with safe_open(file, framework="numpy") as f:
        for name in f.keys():
            s = f.get_slice(name); s.get_shape(); s.get_dtype()
"""
# A command line of one command with an option, which is where typer's own start ends.
TYPER = """
from typing import Annotated
import typer
app = typer.Typer(rich_markup_mode=None, add_completion=False)
@app.callback()
def main(): ...
@app.command()
def expect(source: str, wanted: Annotated[str | None, typer.Option("--as")] = None): print(source)
app(["expect", "x"])
"""
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip


def write_sparse(folder: Path, shards: list[list[tuple[str, str, list[int], int]]]) -> None:
    """Shards whose data are holes."""
    folder.mkdir()
    places = {}
    for k, rows in enumerate(shards, 1):
        file = f"model-{k:05d}-of-{len(shards):05d}.safetensors"
        head, entries = serialise(rows, {"format": "pt"})
        with (folder / file).open("wb") as f:
            f.write(head)
            f.truncate(len(head) + entries[-1].end)
        places |= {row[0]: file for row in rows}
    total = sum(row[3] for rows in shards for row in rows)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 1024}))


def many(folder: Path) -> None:
    """163 shards, 92,000 tensors."""
    row = ("BF16", [64, 64], 64 * 64 * 2)
    names = ["model.embed_tokens.weight", *(
        f"model.layers.{i}.mlp.experts.{e}.{p}.weight"
        for i in range(60) for e in range(512) for p in ("up_proj", "down_proj", "gate_proj")
    )][:92_000]  # fmt: skip
    each = -(-len(names) // 163)
    rows = [(n, "BF16", [1024, 64] if "embed" in n else row[1],
             1024 * 64 * 2 if "embed" in n else row[2]) for n in names]  # fmt: skip
    write_sparse(folder, [rows[i : i + each] for i in range(0, len(rows), each)])


def dense(folder: Path) -> None:
    """Two shards of 128 MB with real bytes."""
    rows = [("model.embed_tokens.weight", "BF16", [1024, 65536], 1024 * 65536 * 2)]
    more = [("model.layers.0.mlp.up_proj.weight", "BF16", [1024, 65536], 1024 * 65536 * 2)]
    write_sparse(folder, [rows, more])
    for file in folder.glob("*.safetensors"):
        with file.open("r+b") as f:
            f.seek(4096)
            for _ in range(127):
                f.write(os.urandom(1 << 20))


def small_llama(folder: Path) -> None:
    """A Llama of 32 layers, 291 tensors and width 512, whose head is lost: every loader is asked
    for a cure as well."""
    wide, inner, pair = 512, 1792, 128
    shapes = {"model.embed_tokens.weight": [32000, wide], "model.norm.weight": [wide]}
    for i in range(32):
        at = f"model.layers.{i}."
        for part, rows in (("q", wide), ("k", pair), ("v", pair), ("o", wide)):
            shapes[f"{at}self_attn.{part}_proj.weight"] = [rows, wide]
        shapes |= {f"{at}mlp.{part}_proj.weight": [inner, wide] for part in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = [wide, inner]
        shapes |= {f"{at}{n}_layernorm.weight": [wide] for n in ("input", "post_attention")}
    rows = [(n, "BF16", shape, 2 * math.prod(shape)) for n, shape in shapes.items()]
    write_sparse(folder, [rows])
    config = {
        **LLAMA, "hidden_size": wide, "intermediate_size": inner, "vocab_size": 32000,
        "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "rope_theta": 10000.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def configs(folder: Path) -> None:
    """Folders that hold a config.json and nothing else."""
    for name, config in (("llama", LLAMA), ("deepseek", DEEPSEEK)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))


def cost(command: list[str], before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """(CPU seconds, peak resident MB) of one run."""
    before()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = os.posix_spawnp(
        command[0], command, environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )  # fmt: skip
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 1), command
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def compare(
    title: str, ours: list[str], theirs: list[str], rounds: int,
    before: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    runs = [(cost(ours, before), cost(theirs, before)) for _ in range(rounds)]
    (a, memory_a), (b, memory_b) = (min(r[i] for r in runs) for i in (0, 1))
    print(f"{title:58} {a:6.2f} s {memory_a:5.0f} MB  {b:6.2f} s {memory_b:5.0f} MB  {a / b:5.2f} x")


def main(rounds: int) -> None:
    tidoctor = [PYTHON, "-m", "tidoctor"]
    with tempfile.TemporaryDirectory(prefix="tidoctor-bench-") as place:
        folder = Path(place)
        # In a process of its own: a child's peak memory starts with that of its parent.
        subprocess.run([PYTHON, __file__, "--make", place], check=True)
        out = folder / "out"
        print(f"load {os.getloadavg()[0]:.1f}, {rounds} rounds; least CPU and its peak memory: ours, theirs, ratio")
        compare("--version / python -c pass", [*tidoctor, "--version"], [PYTHON, "-c", "pass"], rounds)
        compare("--help / import typer", [*tidoctor, "--help"], [PYTHON, "-c", "import typer"], rounds)
        compare("inspect 92,000 tensors / safe_open, shapes and dtypes",
                [*tidoctor, "inspect", str(folder / "many")],
                [PYTHON, "-c", SAFE_OPEN, str(folder / "many")], rounds)  # fmt: skip
        compare("diagnose 92,000 tensors / safe_open, shapes and dtypes",
                [*tidoctor, "diagnose", str(folder / "many")],
                [PYTHON, "-c", SAFE_OPEN, str(folder / "many")], rounds)  # fmt: skip
        compare("diagnose a Llama --for all / diagnose it",
                [*tidoctor, "diagnose", str(folder / "llama"), "--for", "all"],
                [*tidoctor, "diagnose", str(folder / "llama")], rounds)  # fmt: skip
        for name, title in (("llama", "Llama-3.1-8B"), ("deepseek", "DeepSeek-V3")):
            compare(f"expect {title} / a command line of typer",
                    [*tidoctor, "expect", str(folder / "configs" / name)],
                    [PYTHON, "-c", TYPER], rounds)  # fmt: skip
        compare("untie 268 MB, verified and synced / cp -r",
                [*tidoctor, "untie", str(folder / "dense"), str(out)],
                ["cp", "-r", str(folder / "dense"), str(out)], rounds,
                lambda: shutil.rmtree(out, ignore_errors=True))  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        many(Path(sys.argv[2]) / "many")
        dense(Path(sys.argv[2]) / "dense")
        configs(Path(sys.argv[2]) / "configs")
        small_llama(Path(sys.argv[2]) / "llama")
        sys.exit()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
