"""From a source to a checkpoint: which files are read, in which order, and which copy counts."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from tidoctor.checkpoint import (
    INDEX,
    INDEX_CAP,
    SINGLE,
    Checkpoint,
    Entrance,
    Index,
    WeightFile,
    is_adapter_file,
    shard_of,
)
from tidoctor.document import Document
from tidoctor.document import parse as parse_document
from tidoctor.errors import Unreadable
from tidoctor.header import Header
from tidoctor.header import parse as parse_header
from tidoctor.names import natural_key
from tidoctor.source import CONFIG, CONFIG_CAP, INDEX_SUFFIX, WEIGHT_SUFFIX, Source, ranges
from tidoctor.tensors import Table, Tensor, stored_rows


def open_checkpoint(source: Source) -> Checkpoint:
    """Read config, index and headers of a source.

    Raises Unreadable when there is no safetensors file to examine.
    """
    files = source.files()
    source.ahead(_needed(source, files))
    config = _document(source, files, CONFIG, CONFIG_CAP)
    index = _index(source, files, _index_name(source, files, config))
    weight_names = sorted((f for f in files if f.endswith(WEIGHT_SUFFIX)), key=natural_key)
    if source.kind == "file":
        weight_names = [f for f in weight_names if f == source.chosen]
    if index:
        weight_names += sorted({*index.weight_map.values()} - files.keys())
        source.ahead(weight_names)
    headers = {f: h for f in weight_names if (h := _header(source, f)) is not None}
    if not headers and not index:
        raise _nothing_here(source, files)
    weights = {f: WeightFile(f, h, (source, f)) for f, h in headers.items()}
    entrance, read = _entrance(source, weights, index, config)
    tensors, shadows = _count(source, [weights[f] for f in read], index)
    if index and isinstance(tensors, Table) and index.weight_map == tensors.homes:
        index = _placed(index, tensors.homes)
    return Checkpoint(
        source=source,
        files=files,
        folders=source.folders(),
        config=config,
        index=index,
        entrance=entrance,
        weights=tuple(weights[f] for f in read),
        extras=tuple(w for f, w in weights.items() if f not in read),
        tensors=tensors,
        shadows=shadows,
    )


def _needed(source: Source, files: Mapping[str, int]) -> list[str]:
    """The files whose beginnings are read whatever they say, in the order of the reading."""
    index = source.chosen if source.kind == "index" else INDEX
    weights = (f for f in files if f.endswith(WEIGHT_SUFFIX))
    if source.kind == "file":
        return [f for f in (CONFIG, source.chosen) if f in files and f is not None]
    return [f for f in (CONFIG, index, *sorted(weights, key=natural_key)) if f and f in files]


def _nothing_here(source: Source, files: Mapping[str, int]) -> Unreadable:
    listed = source.listed(SINGLE)
    if listed and listed.size is not None:
        if SINGLE not in files:
            what = f"{SINGLE} was not downloaded"
            return Unreadable(source.name, what, "download the whole model")
        what = f"{SINGLE} is listed, but the server does not have it"
        return Unreadable(source.name, what, "try again later; behind a mirror, without it")
    pickles = [f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickles:
        return Unreadable(
            source.name,
            f"holds no safetensors file, only pickles ({pickles[0]})",
            "tidoctor never opens pickles; convert them to safetensors first",
        )
    if "model_index.json" in files:
        return Unreadable(
            source.name, "is a diffusers pipeline", "point at one of its components, e.g. unet/"
        )
    ggufs = [f for f in files if f.endswith(".gguf")]
    if ggufs:
        return Unreadable(source.name, f"holds GGUF ({ggufs[0]}), not safetensors")
    return Unreadable(source.name, "holds no safetensors file", "check the path")


def _document(source: Source, files: Mapping[str, int], name: str, cap: int) -> Document | None:
    size = files.get(name)
    if size is None:
        return None
    return parse_document(source.read(name, 0, min(size, cap + 1)), max_bytes=cap)


def _index_name(source: Source, files: Mapping[str, int], config: Document | None) -> str | None:
    if source.kind == "file":
        return None
    if source.chosen:
        return source.chosen
    named = _named_weights(config)
    if named.endswith(INDEX_SUFFIX) and named in files:
        return named
    if INDEX in files:
        return INDEX
    others = sorted(f for f in files if f.endswith(INDEX_SUFFIX))
    # A variant such as model.fp16.safetensors.index.json is read only by who asks for it.
    return others[0] if len(others) == 1 and SINGLE not in files else None


def _named_weights(config: Document | None) -> str:
    """The weight or index file that the config names, as transformers 4.52 and later allow."""
    data = config.data if config else None
    named = data.get("transformers_weights") if isinstance(data, dict) else None
    return named if isinstance(named, str) else ""


def _index(source: Source, files: Mapping[str, int], name: str | None) -> Index | None:
    document = _document(source, files, name, INDEX_CAP) if name else None
    return read_index(source, name, document) if name and document else None


def read_index(source: Source, name: str, document: Document) -> Index:
    """The index that a document is, with every file name in it checked against the source."""
    data = document.data if isinstance(document.data, dict) else {}
    metadata = data.get("metadata")
    raw = data.get("weight_map")
    raw = raw if isinstance(raw, dict) else {}
    texts = {*map(type, raw.values())} <= {str}  # of 90,000 values as of one
    listed = {*raw.values()} if texts else {f for f in raw.values() if isinstance(f, str)}
    checked = {file: _refusal(source, file) for file in sorted(listed)}
    plain = {file: posixpath.normpath(file) for file in listed}  # `./x` is x to every loader
    refused: list[tuple[str, str]] = []
    weight_map: dict[str, str] = {}
    if texts and not any(checked.values()):
        weight_map = raw if all(a == b for a, b in plain.items()) else {
            tensor: plain[file] for tensor, file in raw.items()
        }  # fmt: skip
        raw = {}
    for tensor, file in raw.items():
        if not isinstance(file, str):
            refused.append((tensor, "its value is not a file name"))
        elif checked[file]:
            refused.append((tensor, checked[file]))
        else:
            weight_map[tensor] = plain[file]
    return Index(
        file=name,
        document=document,
        weight_map=weight_map,
        refused=tuple(refused),
        total_size=metadata.get("total_size") if isinstance(metadata, dict) else None,
        has_metadata=isinstance(metadata, dict),
    )


def _placed(index: Index, homes: Mapping[str, str]) -> Index:
    """The same index, its 90,000 names those of the headers: they are in memory once."""
    data = index.document.data
    data = {**data, "weight_map": homes} if isinstance(data, dict) else data
    return index._replace(document=replace(index.document, data=data), weight_map=homes)


def _refusal(source: Source, file: str) -> str:
    """Why this file name of an index is not followed, empty when it is."""
    parts = file.replace("\\", "/").split("/")
    if not file or "\0" in file or file.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        return "leads out of the folder"
    try:
        source.vet(file)
    except Unreadable:
        return "leads out of the folder"
    return ""


def _header(source: Source, file: str) -> Header | None:
    """The header of a weight file, None when there is no such file."""
    size = source.size(file)
    if size is None:
        return None
    with ranges(source, file) as read:
        return parse_header(read, size)


def _entrance(
    source: Source,
    weights: Mapping[str, WeightFile],
    index: Index | None,
    config: Document | None,
) -> tuple[Entrance, list[str]]:
    """How a loader gets in, and the files it then reads.

    The order is that of transformers: a name in the config (from 4.52 on), `model.safetensors`,
    the index. What follows is for the doctor's own view of folders that it would not open.
    """
    if source.kind == "file":
        return "file", [f for f in weights if f == source.chosen]
    named = _named_weights(config)
    if named in weights:
        return "single", [named]
    mapped = set(index.weight_map.values()) if index else set()
    listed = [f for f in weights if f in mapped]
    alone = weights.get(SINGLE)
    # A stub in place of model.safetensors is a finding; the tensors are looked for in the shards.
    if alone and source.kind != "index" and (alone.header.names or not listed):
        return "single", [SINGLE]
    if index and (listed or index.usable):
        return "index", listed
    shards = [f for f in weights if (s := shard_of(f)) and s[0] == "model"]
    if shards:
        return "shards", shards
    models = [f for f in weights if not is_adapter_file(f) and not f.startswith("consolidated")]
    if models:
        same = shard_of(models[0])
        first = [f for f in models if same and (shard_of(f) or ("",))[0] == same[0]]
        return "other", first or models[:1]
    vendor = [f for f in weights if f.startswith("consolidated")]
    if vendor:
        return "other", vendor
    return ("adapter", sorted(weights)) if weights else ("none", [])


def _count(
    source: Source, read: list[WeightFile], index: Index | None
) -> tuple[Mapping[str, Tensor], tuple[Tensor, ...]]:
    """Which copy of each tensor counts, and the others.

    The one that the index names, else the one read last, as in transformers.
    """
    table = Table(source, {weight.name: weight.header for weight in read})
    if len(table) == sum(len(weight.header.names) for weight in read):
        return table, ()
    tensors: dict[str, Tensor] = {}
    shadows: list[Tensor] = []
    mapped = index.weight_map if index else {}
    for weight in read:
        for row in stored_rows(weight.name, weight.header, source, weight.name).values():
            other = tensors.get(row.name)
            if other is None:
                tensors[row.name] = row
            elif mapped.get(row.name) == other.file:
                shadows.append(row)
            else:
                shadows.append(other)
                tensors[row.name] = row
    return tensors, tuple(shadows)
