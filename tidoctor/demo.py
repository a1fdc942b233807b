"""The five incidents that tidoctor was made for, as tiny checkpoints, and their treatment."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidoctor.errors import Unwritable, Usage
from tidoctor.header import serialise
from tidoctor.source import reason

_HIDDEN, _INNER, _KEYS, _VOCABULARY = 16, 32, 8, 64

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the walk: what it shows, its arguments and the exit code it ends with."""

    says: str
    arguments: tuple[str, ...]
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Incident:
    """What happened to somebody, and the commands that find and cure it."""

    title: str
    story: str
    steps: tuple[Step, ...]


def _body(prefix: str = "model.", *, biases: bool = False) -> dict[str, list[int]]:
    """Names and shapes of a decoder with two layers."""
    shapes: dict[str, list[int]] = {f"{prefix}embed_tokens.weight": [_VOCABULARY, _HIDDEN]}
    for i in range(2):
        at = f"{prefix}layers.{i}."
        rows = {"q": _HIDDEN, "k": _KEYS, "v": _KEYS}
        shapes[f"{at}input_layernorm.weight"] = [_HIDDEN]
        for part, size in rows.items():
            shapes[f"{at}self_attn.{part}_proj.weight"] = [size, _HIDDEN]
            if biases:
                shapes[f"{at}self_attn.{part}_proj.bias"] = [size]
        shapes |= {
            f"{at}self_attn.o_proj.weight": [_HIDDEN, _HIDDEN],
            f"{at}post_attention_layernorm.weight": [_HIDDEN],
            f"{at}mlp.gate_proj.weight": [_INNER, _HIDDEN],
            f"{at}mlp.up_proj.weight": [_INNER, _HIDDEN],
            f"{at}mlp.down_proj.weight": [_HIDDEN, _INNER],
        }
    return {**shapes, f"{prefix}norm.weight": [_HIDDEN]}


_HEAD = {"lm_head.weight": [_VOCABULARY, _HIDDEN]}


def _config(family: str, name: str, tied: bool) -> dict[str, object]:
    return {
        "architectures": [name],
        "model_type": family,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
    }


def _values(seed: str, count: int) -> bytes:
    """`count` BF16 numbers around zero that depend on the seed alone."""
    chance = random.Random(seed)
    floats = struct.pack(f"<{count}f", *(chance.gauss(0, 0.02) for _ in range(count)))
    return b"".join(floats[i + 2 : i + 4] for i in range(0, len(floats), 4))


def _write(folder: Path, config: Mapping[str, object], shapes: Shapes, shards: int = 1) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    names = list(shapes)
    each = -(-len(names) // shards)
    places: dict[str, str] = {}
    for k in range(shards):
        part = names[k * each : (k + 1) * each]
        file = (
            f"model-{k + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        )
        # A model saved from its base class keeps its values: they go with the name's tail.
        data = {n: _values(n.removeprefix("model."), _count(shapes[n])) for n in part}
        head, _ = serialise(
            [(n, "BF16", shapes[n], len(raw)) for n, raw in data.items()], {"format": "pt"}
        )
        (folder / file).write_bytes(head + b"".join(data.values()))
        places |= dict.fromkeys(part, file)
    if shards > 1:
        total = sum(2 * _count(shape) for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _count(shape: Sequence[int]) -> int:
    count = 1
    for d in shape:
        count *= d
    return count


def write_incidents(folder: Path) -> None:
    """Write the checkpoints of the five incidents, and the donor of the third, below a folder."""
    llama, qwen = "LlamaForCausalLM", "Qwen2ForCausalLM"
    qwen_body = _body(biases=True)
    _write(folder / "llama-3.2-1b", _config("llama", llama, True), _body())
    _write(folder / "qwen2-7b", _config("qwen2", qwen, False), {**qwen_body, **_HEAD})
    _write(folder / "llama-3.1-8b", _config("llama", llama, False), {**_body(), **_HEAD}, 4)
    _write(folder / "llama-3.1-8b-tuned", _config("llama", "LlamaModel", False), _body(""), 4)
    _write(folder / "qwen2.5-3b", _config("qwen2", qwen, True), qwen_body, 2)
    _write(folder / "llama-3.2-3b", _config("llama", llama, True), _body())


INCIDENTS = (
    Incident(
        "candle, Llama 3.2: cannot find tensor lm_head.weight",
        "A healthy checkpoint: its head is the embedding and is not stored. candle before 0.7.2\n"
        "asks for it all the same.",
        (
            Step("Is the head lost?", ("diagnose", "llama-3.2-1b")),
            Step(
                "No. For the old loader, store it explicitly:",
                ("untie", "llama-3.2-1b", "llama-3.2-1b-untied"),
            ),
            Step(
                "The copy holds both:",
                ("inspect", "llama-3.2-1b-untied", "--match", "*embed*", "--match", "lm_head*"),
            ),
        ),
    ),
    Incident(
        "candle, Qwen2-7B: the head was silently ignored",
        "The code asked for `lm_head` where the tensor is called `lm_head.weight`, found nothing\n"
        "and used the embedding. The checkpoint has a head of its own and nothing is wrong.",
        (
            Step("Is anything wrong?", ("diagnose", "qwen2-7b")),
            Step("Its head is a tensor called:", ("inspect", "qwen2-7b", "--match", "lm_head*")),
            Step(
                "Nothing has to be repaired; the code has to ask for that name:",
                ("repair", "qwen2-7b", "qwen2-7b-repaired"),
            ),
        ),
    ),
    Incident(
        "transformers, Llama 3.1 8B: loaded with AutoModel and saved",
        "The prefix `model.` is gone, and so is the head, which was not tied. It loads without an\n"
        "exception, with random numbers for a head.",
        (
            Step(
                "It is meant to write text:",
                ("diagnose", "llama-3.1-8b-tuned", "--as", "causal-lm"),
                1,
            ),
            Step(
                "Nobody can guess a head, so nothing is written:",
                ("repair", "llama-3.1-8b-tuned", "healed", "--as", "causal-lm"),
                1,
            ),
            Step(
                "With the model that it was tuned from:",
                (
                    "repair",
                    "llama-3.1-8b-tuned",
                    "healed",
                    "--as",
                    "causal-lm",
                    "--donor",
                    "llama-3.1-8b",
                ),
            ),
            Step("The copy holds:", ("inspect", "healed")),
        ),
    ),
    Incident(
        "LoRAX, Qwen2.5-3B: weight lm_head.weight does not exist",
        "tie_word_embeddings is true and the shards are complete. This server reads the head\n"
        "whatever the flag says.",
        (
            Step(
                "What does the message mean?",
                ("explain", "RuntimeError: weight lm_head.weight does not exist"),
            ),
            Step("Is the head lost?", ("diagnose", "qwen2.5-3b")),
            Step(
                "No. The head becomes a shard of its own; the others are copied whole:",
                ("untie", "qwen2.5-3b", "qwen2.5-3b-untied"),
            ),
        ),
    ),
    Incident(
        "mergekit, Llama 3.2: the merge fails on the absent head",
        "Before its architecture file called the head optional, mergekit wanted it in all inputs.\n"
        "An untied copy goes in; afterwards the copy of the head can go again.",
        (
            Step("Store the head for the merge:", ("untie", "llama-3.2-3b", "llama-3.2-3b-untied")),
            Step("And back:", ("tie", "llama-3.2-3b-untied", "llama-3.2-3b-tied")),
            Step(
                "The head is the embedding again:",
                ("inspect", "llama-3.2-3b-tied", "--match", "*embed*", "--match", "lm_head*"),
            ),
        ),
    ),
)


def run(
    directory: Path | None,
    echo: Callable[[str], None],
    command: Callable[[Sequence[str]], int],
) -> int:
    """Write the incidents and walk through them; 0 when every command ended as it should.

    They go to `directory`, which must not exist and is kept, or to a temporary folder that is
    removed. `command` carries out a command line of tidoctor and returns its exit code.
    """
    if directory is not None:
        try:
            directory.mkdir(parents=True)
        except FileExistsError as e:
            raise Usage(str(directory), "exists already", "name a folder that does not") from e
        except OSError as e:
            raise Unwritable(str(directory), f"cannot be made ({reason(e)})") from e
        return _walk(directory, echo, command)
    with tempfile.TemporaryDirectory(prefix="tidoctor-demo-") as folder:
        return _walk(Path(folder), echo, command)


def _walk(
    folder: Path, echo: Callable[[str], None], command: Callable[[Sequence[str]], int]
) -> int:
    write_incidents(folder)
    wrong = 0
    with contextlib.chdir(folder):
        for number, incident in enumerate(INCIDENTS, 1):
            echo(f"{number}. {incident.title}\n\n{incident.story}\n")
            for step in incident.steps:
                shown = " ".join(f'"{a}"' if " " in a or "*" in a else a for a in step.arguments)
                echo(f"# {step.says}\n$ tidoctor {shown}")
                code = command(step.arguments)
                wrong += code != step.exit_code
                echo(f"[exit {code}]\n")
    echo(
        f"{len(INCIDENTS)} incidents, {sum(len(i.steps) for i in INCIDENTS)} commands, "
        + ("each ended as it should." if not wrong else f"{wrong} did not end as they should.")
    )
    return int(wrong > 0)
