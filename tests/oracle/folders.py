"""Checkpoint folders as the tests handle them: read, compare, copy and change on purpose."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
SINGLE = "model.safetensors"

State = dict[str, torch.Tensor]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by name."""
    return sorted(folder.glob("*.safetensors"))


def state(folder: Path) -> State:
    """All tensors of a folder, read with the safetensors library."""
    found: State = {}
    for file in weight_files(folder):
        found |= load_file(file)
    return found


def payloads(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Dtype, shape and bytes of all tensors of a folder."""
    return {
        name: (str(t.dtype), tuple(t.shape), t.contiguous().flatten().view(torch.uint8)
               .numpy().tobytes())
        for name, t in state(folder).items()
    }


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*")) if file.is_file()
    }


def copy(folder: Path, to: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(folder, to)
    return to


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON object in a file in place."""
    data = read_json(file)
    change(data)
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def set_config(folder: Path, *path: str, value: object) -> None:
    """Set one key of config.json, found along a path of keys."""

    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    edit_json(folder / CONFIG, change)


def unset_config(folder: Path, *path: str) -> None:
    """Remove one key of config.json, which has to be there."""

    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    edit_json(folder / CONFIG, change)


def change_tensors(
    folder: Path,
    change: Callable[[State], State],
    metadata: Mapping[str, str] | None = {"format": "pt"},
) -> None:
    """Replace the tensors of each file by what `change` makes of them; the index follows.

    A shard that is left without tensors goes away and the others are numbered anew.
    """
    parts = []
    for file in weight_files(folder):
        if tensors := change(load_file(file)):
            parts.append({name: t.contiguous() for name, t in tensors.items()})
        file.unlink()
    weight_map: dict[str, str] = {}
    for i, tensors in enumerate(parts, 1):
        sharded = (folder / INDEX).exists()
        name = f"model-{i:05d}-of-{len(parts):05d}.safetensors" if sharded else SINGLE
        save_file(tensors, folder / name, metadata=None if metadata is None else dict(metadata))
        weight_map |= dict.fromkeys(tensors, name)
    if (folder / INDEX).exists():
        edit_json(folder / INDEX, lambda index: index.update(weight_map=weight_map))


def rename(folder: Path, new_name: Callable[[str], str]) -> None:
    """Rename the tensors of a folder, in the files and in the index."""
    change_tensors(folder, lambda tensors: {new_name(n): t for n, t in tensors.items()})


def drop(folder: Path, *names: str) -> None:
    """Remove tensors, which have to be there, from the files and from the index."""
    assert set(names) <= state(folder).keys()
    change_tensors(folder, lambda ts: {n: t for n, t in ts.items() if n not in names})


def add(folder: Path, tensors: State) -> None:
    """Add tensors to the last file, and to the index."""
    last = weight_files(folder)[-1]
    merged = {**load_file(last), **tensors}
    save_file(merged, last, metadata={"format": "pt"})
    if (folder / INDEX).exists():
        names = dict.fromkeys(tensors, last.name)
        edit_json(folder / INDEX, lambda index: index["weight_map"].update(names))
