"""Tiny checkpoints from small tables of names and shapes, with the standard library only."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I64": 8,
    "I32": 4,
    "U8": 1,
    "I8": 1,
    "U32": 4,
    "BOOL": 1,
}

Table = Mapping[str, "tuple[Any, ...] | list[int]"]


def payload(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    """Bytes that depend on the name alone and read as small finite numbers."""
    count = 1
    for d in shape:
        count *= d
    seeded = random.Random(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest())
    values = [seeded.gauss(0, 0.02) for _ in range(count)]
    if dtype == "F32":
        return struct.pack(f"<{count}f", *values)
    if dtype == "F16":
        return struct.pack(f"<{count}e", *values)
    if dtype == "BF16":
        raw = struct.pack(f"<{count}f", *values)
        return b"".join(raw[i + 2 : i + 4] for i in range(0, len(raw), 4))
    return bytes(seeded.randrange(0, 100) for _ in range(count * SIZES[dtype]))


def safetensors_bytes(
    tensors: Mapping[str, tuple[str, Sequence[int], bytes]],
    metadata: Mapping[str, Any] | None = {"format": "pt"},
) -> bytes:
    """A whole file; tensors lie in the order given."""
    head: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values())


def filled(table: Table) -> dict[str, tuple[str, Sequence[int], bytes]]:
    """A table of shapes with bytes: `name: [shape]`, `name: (dtype, shape)` or
    `name: (dtype, shape, other name whose bytes it takes)`."""
    out = {}
    for name, row in table.items():
        dtype, shape, seed = "BF16", row, name
        if isinstance(row, tuple):
            dtype, shape = row[0], row[1]
            seed = row[2] if len(row) > 2 else name
        out[name] = (dtype, list(shape), payload(seed, dtype, shape))
    return out


def build(
    table: Table,
    config: Mapping[str, Any] | str | None,
    *,
    shards: int = 1,
    metadata: Mapping[str, Any] | None = {"format": "pt"},
    files: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """The files of a checkpoint by name; a config given as text is taken as it stands."""
    out = {name: text.encode() for name, text in (files or {}).items()}
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config, indent=2) + "\n"
        out["config.json"] = text.encode()
    tensors = filled(table)
    if shards == 1:
        return {**out, "model.safetensors": safetensors_bytes(tensors, metadata)}
    names = list(tensors)
    per = -(-len(names) // shards)
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[i * per : (i + 1) * per]}
        out[file] = safetensors_bytes(part, metadata)
        weight_map |= dict.fromkeys(part, file)
    index = {
        "metadata": {"total_size": sum(len(t[2]) for t in tensors.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    out["model.safetensors.index.json"] = (json.dumps(index, indent=2) + "\n").encode()
    return out


def write(
    folder: Path,
    table: Table,
    config: Mapping[str, Any] | str | None,
    *,
    shards: int = 1,
    metadata: Mapping[str, Any] | None = {"format": "pt"},
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint folder and return it."""
    built = build(table, config, shards=shards, metadata=metadata, files=files)
    for name, data in built.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


class Memory:
    """A source whose files are bytes in memory, for rules that need no disk."""

    kind = "folder"
    chosen: str | None = None
    revision: str | None = None
    stride = 1 << 20

    def __init__(self, files: Mapping[str, bytes], name: str = "memory") -> None:
        self.name = name
        self.bytes_read = 0
        self._files = files

    def files(self) -> dict[str, int]:
        return {n: len(data) for n, data in sorted(self._files.items()) if "/" not in n}

    def folders(self) -> frozenset[str]:
        return frozenset(n.partition("/")[0] for n in self._files if "/" in n)

    def size(self, file: str) -> int | None:
        return len(self._files[file]) if file in self._files else None

    def read(self, file: str, begin: int, end: int) -> bytes:
        data = self._files[file][begin:end]
        self.bytes_read += len(data)
        return data

    def vet(self, file: str) -> None:
        pass

    def ahead(self, files: Iterable[str]) -> None:
        pass

    def listed(self, file: str) -> None:
        return None


def promised(config: Mapping[str, Any], class_name: str | None = None) -> dict[str, list[int]]:
    """Names and shapes of a fresh save of the class under a config, as the atlas knows them."""
    from tidoctor.atlas.expectation import expectation

    said = expectation(config, class_name or config["architectures"][0])
    return {name: list(shape) for name, shape in said.disk.items()}


LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def llama(layers: int = 2, *, prefix: str = "model.", head: bool = True) -> dict[str, list[int]]:
    """Names and shapes of a tiny Llama: hidden 16, intermediate 32, vocabulary 64."""
    table = {f"{prefix}embed_tokens.weight": [64, 16]}
    for i in range(layers):
        at = f"{prefix}layers.{i}."
        table |= {
            f"{at}input_layernorm.weight": [16],
            f"{at}mlp.down_proj.weight": [16, 32],
            f"{at}mlp.gate_proj.weight": [32, 16],
            f"{at}mlp.up_proj.weight": [32, 16],
            f"{at}post_attention_layernorm.weight": [16],
            f"{at}self_attn.k_proj.weight": [8, 16],
            f"{at}self_attn.o_proj.weight": [16, 16],
            f"{at}self_attn.q_proj.weight": [16, 16],
            f"{at}self_attn.v_proj.weight": [8, 16],
        }
    table[f"{prefix}norm.weight"] = [16]
    if head:
        table["lm_head.weight"] = [64, 16]
    return table
