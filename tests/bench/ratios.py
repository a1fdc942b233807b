"""What tidoctor costs beside what one would use otherwise: ratios out of one run, as a table.

`python tests/bench/ratios.py [ROUNDS [LAYERS]]` makes checkpoints in a temporary folder (TMPDIR
says where) and prints a Markdown table: the least CPU time (user and system), wall time and peak
memory of the rounds. Rounds of a row alternate, so that a busy machine disturbs all alike. LAYERS
(16) give the size of the model that is copied: 0.53 GB and 0.12 GB a layer. What only reads takes
little time and has nine rounds at least. Before a copy its source is read, and memory filled with
files. Peers that are not installed have no row. `growth.py` prints how time and memory grow.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import (
    PYTHON,
    TIDOCTOR,
    Crowd,
    Row,
    Usage,
    alternate,
    elements,
    in_a_process,
    llama,
    machine,
    write_sparse,
)

_READING = 9  # rounds
SAFE_OPEN = """
import sys, pathlib
from safetensors import safe_open
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors")):
    with safe_open(file, framework="numpy") as f:
        for name in f.keys():
            s = f.get_slice(name); s.get_shape(); s.get_dtype()
"""
HUB = """
import sys
from huggingface_hub import get_local_safetensors_metadata
found = get_local_safetensors_metadata(sys.argv[1])
for file in found.files_metadata.values():
    for tensor in file.tensors.values(): tensor.shape; tensor.dtype
"""
META = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[1]))
sum(p.numel() for p in model.parameters())
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
SAFETENSORS = """
import sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1] + "/model.safetensors")
what = sys.argv[3]
if what == "untie": tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
if what == "tie": del tensors["lm_head.weight"]
if what == "rename": tensors = {n.removeprefix("module."): t for n, t in tensors.items()}
if what == "cast": tensors = {n: t.half() for n, t in tensors.items()}
import os; os.mkdir(sys.argv[2])
save_file(tensors, sys.argv[2] + "/model.safetensors", {"format": "pt"})
"""
TRANSFORMERS = """
import sys, torch
from transformers import AutoModelForCausalLM
what = sys.argv[3]
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float16 if what == "cast" else "auto")
if what == "untie":
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.model.embed_tokens.weight.detach().clone())
if what == "tie":
    model.config.tie_word_embeddings = True
    model.tie_weights()
model.save_pretrained(sys.argv[2], max_shard_size="100GB")
"""
LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8192,
    "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "torch_dtype": "bfloat16",
}  # fmt: skip
SMALL_LLAMA = {
    **LLAMA_70B, "hidden_size": 512, "intermediate_size": 1792, "vocab_size": 32000,
    "num_hidden_layers": 32, "num_attention_heads": 8, "num_key_value_heads": 2,
}  # fmt: skip
DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def llama_70b() -> list[list[Row]]:
    """30 shards, 723 tensors, 141 GB."""
    shapes = {"model.embed_tokens.weight": [128256, 8192]}
    for i in range(80):
        at = f"model.layers.{i}."
        shapes |= {
            f"{at}input_layernorm.weight": [8192], f"{at}mlp.down_proj.weight": [8192, 28672],
            f"{at}mlp.gate_proj.weight": [28672, 8192], f"{at}mlp.up_proj.weight": [28672, 8192],
            f"{at}post_attention_layernorm.weight": [8192],
            f"{at}self_attn.k_proj.weight": [1024, 8192], f"{at}self_attn.o_proj.weight": [8192, 8192],
            f"{at}self_attn.q_proj.weight": [8192, 8192], f"{at}self_attn.v_proj.weight": [1024, 8192],
        }  # fmt: skip
    shapes |= {"model.norm.weight": [8192], "lm_head.weight": [128256, 8192]}
    rows = [(n, "BF16", s, 2 * elements(s)) for n, s in shapes.items()]
    return [rows[i : i + 25] for i in range(0, len(rows), 25)]


def small_llama() -> list[list[Row]]:
    """32 layers whose head is lost: every loader is asked for a cure as well."""
    from tidoctor.atlas.expectation import expectation

    said = expectation(SMALL_LLAMA, "LlamaForCausalLM").disk
    return [[(n, "BF16", list(s), 2 * elements(s)) for n, s in said.items() if n != "lm_head.weight"]]


def deepseek(shards: int, experts: int = 256) -> list[list[Row]]:
    """The tensors of a DeepSeek-V3, with their real names and shapes."""
    from tidoctor.atlas.expectation import expectation

    said = expectation({**DEEPSEEK, "n_routed_experts": experts}, "DeepseekV3ForCausalLM")
    rows = [(name, "BF16", list(shape), 2 * elements(shape)) for name, shape in said.disk.items()]
    each = -(-len(rows) // shards)
    return [rows[i : i + each] for i in range(0, len(rows), each)]


def make(place: Path, layers: int) -> None:
    write_sparse(place / "70b", llama_70b(), LLAMA_70B)
    write_sparse(place / "many", deepseek(163, 512), {**DEEPSEEK, "n_routed_experts": 512})
    write_sparse(place / "small", small_llama(), SMALL_LLAMA)
    for name, config in (("llama", LLAMA_70B), ("deepseek", DEEPSEEK)):
        (place / "configs" / name).mkdir(parents=True)
        (place / "configs" / name / "config.json").write_text(json.dumps(config))
    llama(place / "tied", layers)
    llama(place / "wrapped", layers, prefix="module.")
    llama(place / "wide", 3, width=2)


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


class Table:
    """Rows of what was measured, each against its first column."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        print(f"{machine()}; the least of {rounds} rounds, or of {max(rounds, _READING)}\n")
        print("| command | CPU s | wall s | MB | beside | CPU s | wall s | MB | ratio of CPU | of memory |")
        print("|---|---:|---:|---:|---|---:|---:|---:|---:|---:|")

    def row(
        self, title: str, ours: Sequence[str], *peers: tuple[str, Sequence[str]],
        before: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        """One command beside others; `before` clears what they write away."""
        rounds = self.rounds if before else max(self.rounds, _READING)
        commands = [ours, *(command for _, command in peers)]
        mine, *others = alternate(
            rounds, *commands, before=before or (lambda: None), codes=(0, 1)
        )
        for (name, _), other in zip(peers, others, strict=True):
            print(f"| {title} | {_told(mine)} | {name} | {_told(other)} | {_ratio(mine.cpu, other.cpu)} "
                  f"| {_ratio(mine.memory, other.memory)} |", flush=True)  # fmt: skip


def _told(usage: Usage) -> str:
    return f"{usage.cpu:.2f} | {usage.wall:.2f} | {usage.memory:.0f}"


def _ratio(ours: float, theirs: float) -> str:
    """`1.10` times as much, or `1/12` for twelve times less."""
    return f"{ours / theirs:.2f}" if ours * 2 > theirs else f"1/{theirs / ours:.0f}"


def reading(table: Table, place: Path) -> None:
    table.row("--version", [*TIDOCTOR, "--version"], ("python -c pass", [PYTHON, "-c", "pass"]))
    table.row("--help", [*TIDOCTOR, "--help"], ("import typer", [PYTHON, "-c", "import typer"]))
    typer = ("a typer program", [PYTHON, "-c", TYPER])
    for name, title in (("llama", "Llama-70B"), ("deepseek", "DeepSeek-V3")):
        table.row(f"expect {title}", [*TIDOCTOR, "expect", str(place / "configs" / name)], typer)
    for name, title in (("70b", "723 tensors, 30 shards"), ("many", "90,000 tensors, 163 shards")):
        source = str(place / name)
        peers = [("safe_open over all names", [PYTHON, "-c", SAFE_OPEN, source])]
        peers += [("huggingface_hub", [PYTHON, "-c", HUB, source])] * installed("huggingface_hub")
        if name == "70b":
            peers = [typer, *peers]
            meta = ("transformers, meta device", [PYTHON, "-c", META, source])
            peers += [meta] * installed("torch", "transformers")
        table.row(f"inspect {title}", [*TIDOCTOR, "inspect", source], *peers)
        table.row(f"diagnose {title}", [*TIDOCTOR, "diagnose", source], *peers)
    source = str(place / "small")
    table.row("diagnose 291 tensors --for all", [*TIDOCTOR, "diagnose", source, "--for", "all"],
              ("diagnose them", [*TIDOCTOR, "diagnose", source]))  # fmt: skip


def writing(table: Table, place: Path) -> None:
    out = place / "out"
    tied, wrapped, wide, result = (str(place / n) for n in ("tied", "wrapped", "wide", "out"))
    size = (place / "tied" / "model.safetensors").stat().st_size
    head, wide_head = (_head(place, name, n) for name, n in (("tied", 2048), ("wide", 4096)))

    crowd = Crowd(place)

    def ready(source: str) -> Callable[[], None]:
        """What comes before each command that reads this source: both begin alike."""

        def clear() -> None:
            shutil.rmtree(out, ignore_errors=True)
            crowd.gather(*Path(source).glob("*.safetensors"), Path(head), Path(wide_head))

        return clear

    def by(code: str, what: str, source: str) -> list[str]:
        return [PYTHON, "-c", code, source, result, what]

    def copying(*sources: str) -> list[str]:
        return ["sh", "-c", f'mkdir "{result}" && cp {" ".join(sources)} "{result}" && sync "{result}"/*']

    def peers(what: str, source: str) -> list[tuple[str, list[str]]]:
        loaded = [("safetensors load, save", by(SAFETENSORS, what, source))]
        model = [("transformers load, save", by(TRANSFORMERS, what, source))]
        return (loaded * installed("torch", "safetensors")
                + model * (installed("torch", "transformers") and what != "rename"))  # fmt: skip

    every = f"{tied}/*"
    gigabytes = f"{size / 1e9:.1f} GB"
    table.row(f"untie {gigabytes} by copy", [*TIDOCTOR, "untie", tied, result],
              ("cp of the same bytes, fsync", copying(every, head)), *peers("untie", tied),
              before=ready(tied))  # fmt: skip
    for source, one, weight in ((tied, head, "0.5 GB"), (wide, wide_head, "1.1 GB")):
        model = [p for p in peers("untie", source) if p[0].startswith("transformers")]
        table.row(f"untie with a head of {weight}, --link hard",
                  [*TIDOCTOR, "untie", source, result, "--link", "hard"],
                  ("cp of the head, fsync", copying(one)), *model * (source == tied),
                  before=ready(source))  # fmt: skip
    table.row(f"rename all of {gigabytes}", [*TIDOCTOR, "repair", wrapped, result],
              ("cp of the same bytes, fsync", copying(f"{wrapped}/*")), *peers("rename", wrapped),
              before=ready(wrapped))  # fmt: skip
    table.row(f"cast {gigabytes} to f16", [*TIDOCTOR, "repair", tied, result, "--dtype", "f16"],
              ("cp of the same bytes, fsync", copying(every)), *peers("cast", tied),
              before=ready(tied))  # fmt: skip
    shutil.rmtree(out)
    os.system(f'{" ".join(TIDOCTOR)} untie "{tied}" "{place}/untied" > /dev/null')
    shutil.rmtree(wrapped)
    untied = str(place / "untied")
    table.row(f"tie {gigabytes}", [*TIDOCTOR, "tie", untied, result],
              ("cp of the same bytes, fsync", copying(every)), *peers("tie", untied),
              before=ready(untied))  # fmt: skip


def _head(place: Path, name: str, hidden: int) -> str:
    """A file as large as the head of a model."""
    head = place / f"{name}.head"
    with head.open("wb") as f, (place / name / "model.safetensors").open("rb") as origin:
        for begin in range(0, 128256 * hidden * 2, 1 << 22):
            f.write(origin.read(min(1 << 22, 128256 * hidden * 2 - begin)))
    return str(head)


def main(rounds: int, layers: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tidoctor-bench-") as folder:
        place = Path(folder)
        in_a_process("ratios.py", "--make", folder, str(layers))
        table = Table(rounds)
        reading(table, place)
        writing(table, place)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*(int(sys.argv[i]) if len(sys.argv) > i else (3, 16)[i - 1] for i in (1, 2)))
