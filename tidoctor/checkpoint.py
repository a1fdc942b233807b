"""The patient: config, index and headers of one source as one immutable table of tensors.

Each row of `Checkpoint.tensors` says: this name, dtype and shape are these bytes of this file at
this source. Rules read the table, a plan derives another one from it, the writer makes it true.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Literal, NamedTuple

from tidoctor.casting import WIDTHS, cast
from tidoctor.document import Document
from tidoctor.document import parse as parse_document
from tidoctor.errors import Unreadable
from tidoctor.header import Header
from tidoctor.header import parse as parse_header
from tidoctor.names import natural_key
from tidoctor.source import CONFIG as CONFIG
from tidoctor.source import CONFIG_CAP, INDEX_SUFFIX, WEIGHT_SUFFIX, Source
from tidoctor.source import mode as file_mode

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_CAP = 256_000_000  # bytes; the index of DeepSeek-V3 with 91,991 tensors has 8.9 MB

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})\.safetensors")
_ADAPTER = re.compile(r"adapter_model(\.[^/]*)?\.safetensors|pytorch_lora_weights\.safetensors")
_FIRST = 1 << 12  # bytes

Entrance = Literal["single", "index", "shards", "other", "file", "adapter", "none"]
"""How a loader gets in: one file, an index, numbered shards, another name, one chosen file."""


class Span(NamedTuple):
    """Bytes [begin, end) of a file at a source, counted from the start of the file."""

    source: Source
    file: str
    begin: int
    end: int


class Section(NamedTuple):
    """What the bytes of tensors are counted from: byte `start` of a file at a source."""

    source: Source
    file: str
    start: int


class Tensor(NamedTuple):
    """One row: a name, dtype and shape, the weight file it stands in and where its bytes are.

    These are bytes [begin, end) of a section; `span` says where in a file. `stored` is the type
    that the bytes have there when a plan wants them converted, else empty.
    """

    # One section for all rows of a file: a model may have 90,000 of them.
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    section: Section
    begin: int
    end: int
    stored: str = ""

    @property
    def span(self) -> Span:
        """Where the bytes are, in the type that they have there."""
        source, file, start = self.section
        return Span(source, file, start + self.begin, start + self.end)

    @property
    def nbytes(self) -> int:
        """Length in bytes, once converted."""
        length = self.end - self.begin
        return length // WIDTHS[self.stored] * WIDTHS[self.dtype] if self.stored else length

    def moved(self, span: Span) -> Tensor:
        """The same row with its bytes at another place."""
        source, file, begin, end = span
        return self._replace(section=Section(source, file, 0), begin=begin, end=end)


Reader = Callable[[Tensor, int, int], bytes]
"""Gives the bytes [begin, end) of a tensor, fewer when its file ends before."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One weight file: its name and header, and the existing file that it is byte for byte.

    `whole` is None for a file that a plan wants written.
    """

    name: str
    header: Header
    whole: tuple[Source, str] | None

    @property
    def shard(self) -> tuple[str, int, int] | None:
        """(stem, number, total) when the name is that of a numbered shard."""
        return shard_of(self.name)


class Index(NamedTuple):
    """`model.safetensors.index.json`: which file holds which tensor, as far as it can be read."""

    file: str
    document: Document
    weight_map: Mapping[str, str]  # entries whose value is a plain file name inside the folder
    refused: tuple[tuple[str, str], ...]  # (tensor, why) for every other entry
    total_size: object = None  # as written, in bytes if it is a number
    has_metadata: bool = False

    @property
    def usable(self) -> bool:
        """Whether it maps anything at all."""
        return bool(self.weight_map)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that is known of one checkpoint without reading its tensors."""

    source: Source
    files: Mapping[str, int]  # every file at the top level, with its size in bytes
    folders: frozenset[str]
    config: Document | None
    index: Index | None
    entrance: Entrance
    weights: tuple[WeightFile, ...]  # what a loader reads, in the order it reads it
    extras: tuple[WeightFile, ...]  # weight files that nobody is led to
    tensors: Mapping[str, Tensor]  # the copy of each tensor that counts
    shadows: tuple[Tensor, ...] = ()  # other copies in the files that are read
    texts: Mapping[str, bytes] = field(default_factory=dict)  # files that a plan wants written so
    left_out: frozenset[str] = frozenset()  # files that a plan does not keep

    @property
    def settings(self) -> Mapping[str, object]:
        """The values of config.json; empty when it is absent, unreadable or no object."""
        data = self.config.data if self.config else None
        return data if isinstance(data, dict) else {}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that count."""
        return nbytes(self.tensors.values())

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors that count."""
        return parameters(self.tensors.values())

    def mode(self, file: str) -> int | None:
        """The permission bits of a file of the source, None where there are none."""
        return file_mode(self.source, file)

    def rows(self, weight: WeightFile) -> list[Tensor]:
        """The rows of one file that is read, in the order of its data."""
        here = {t.name: t for t in self.shadows if t.file == weight.name}
        return [
            row if (row := self.tensors[name]).file == weight.name else here[name]
            for name in weight.header.names
        ]

    def copy(self, file: str, name: str) -> Tensor | None:
        """The row of a name in one weight file, read or not; None where it has none."""
        for row in (self.tensors.get(name), *self.shadows):
            if row is not None and (row.file, row.name) == (file, name):
                return row
        for weight in self.extras:
            if weight.name == file and weight.whole:
                return stored_rows(weight.name, weight.header, *weight.whole).get(name)
        return None

    def read(self, tensor: Tensor, begin: int, end: int) -> bytes:
        """The bytes [begin, end) of a tensor, fewer when its file ends before."""
        span = tensor.span
        if tensor.stored:
            return self._converted(tensor, begin, min(end, tensor.nbytes))
        return span.source.read(span.file, span.begin + begin, min(span.begin + end, span.end))

    @contextmanager
    def reading(self, span: Span) -> Iterator[Reader]:
        """`read`, for many small ranges: the file of a span stays open where that helps."""
        opened = getattr(span.source, "opened", None)
        if opened is None:
            yield self.read
            return
        with opened(span.file) as ranged:

            def read(tensor: Tensor, begin: int, end: int) -> bytes:
                source, file, start, stop = tensor.span
                if tensor.stored or source is not span.source or file != span.file:
                    return self.read(tensor, begin, end)
                data: bytes = ranged(start + begin, min(start + end, stop))
                return data

            yield read

    def _converted(self, tensor: Tensor, begin: int, end: int) -> bytes:
        source, file, start, _ = tensor.span
        wide, narrow = WIDTHS[tensor.stored], WIDTHS[tensor.dtype]
        first, last = begin // narrow, -(-end // narrow)
        data = source.read(file, start + first * wide, start + last * wide)
        whole = data[: len(data) // wide * wide]
        numbers, _ = cast(whole, tensor.stored, tensor.dtype)
        return numbers[begin - first * narrow : end - first * narrow]

    def chunks(self, tensor: Tensor, size: int | None = None) -> Iterator[bytes]:
        """The bytes of a tensor in pieces of at most `size` bytes, the first ones short.

        Most comparisons end with the first; its length divides by that of every element.
        """
        most = size or tensor.span.source.stride
        step, begin = min(_FIRST, most), 0
        while begin < tensor.nbytes:
            yield self.read(tensor, begin, begin + step)
            begin += step
            step = min(8 * step, most)

    def pieces(self, tensor: Tensor, size: int) -> Iterator[bytes | memoryview]:
        """The bytes of a tensor in pieces of `size` bytes, each good until the next is asked for.

        Where the source is a folder nothing is opened or allocated for a piece.
        """
        source, file, begin, end = tensor.span
        in_turn = None if tensor.stored else getattr(source, "pieces", None)
        if in_turn is not None:
            yield from in_turn(file, begin, end, size)
            return
        for at in range(0, tensor.nbytes, size):
            yield self.read(tensor, at, at + size)

    def same_bytes(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors have equal dtype, shape and bytes; reads them in pieces."""
        if (a.dtype, a.shape, a.nbytes) != (b.dtype, b.shape, b.nbytes):
            return False
        if (a.span, a.stored) == (b.span, b.stored):
            return True
        return all(x == y for x, y in zip(self.chunks(a), self.chunks(b), strict=True))


def nbytes(rows: Collection[Tensor]) -> int:
    """Length in bytes of many rows together, once converted."""
    if any(map(attrgetter("stored"), rows)):
        return sum(row.nbytes for row in rows)
    # A property asked 90,000 times would take longer than all that is read of the file.
    ends, begins = map(attrgetter("end"), rows), map(attrgetter("begin"), rows)
    return int(sum(ends) - sum(begins))


def parameters(rows: Iterable[Tensor]) -> int:
    """Number of elements of many rows together."""
    shapes = Counter(map(attrgetter("shape"), rows))
    return sum(elements(shape) * count for shape, count in shapes.items())


Forms = Mapping[tuple[str, tuple[int, ...]], Sequence[str]]
"""(dtype, shape) → the names of what has both; 90,000 tensors have some twenty of these."""


def forms(rows: Mapping[str, Tensor]) -> Forms:
    """The names of rows by dtype and shape, in their order."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for name, row in rows.items():
        found[row.dtype, row.shape].append(name)
    return found


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    n = 1
    for d in shape:
        n *= d
    return n


def shard_of(file: str) -> tuple[str, int, int] | None:
    """(stem, number, total) of a name such as `model-00002-of-00005.safetensors`."""
    m = _SHARD.fullmatch(file)
    return (m["stem"], int(m["number"]), int(m["total"])) if m else None


def is_adapter_file(file: str) -> bool:
    """Whether a weight file holds a LoRA adapter, by the names that peft and diffusers give."""
    return bool(_ADAPTER.fullmatch(file))


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
    headers = _headers(source, weight_names, index)
    if not headers and not index:
        raise _nothing_here(source, files)
    weights = {f: WeightFile(f, h, (source, f)) for f, h in headers.items()}
    entrance, read = _entrance(source, weights, index, config)
    tensors, shadows = _count(source, [weights[f] for f in read], index)
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


def _headers(source: Source, files: Iterable[str], index: Index | None) -> dict[str, Header]:
    """The headers of those weight files that there are."""
    listed = dict(zip(index.weight_map, index.weight_map, strict=True)) if index else {}
    return {f: h for f in files if (h := _header(source, f, listed)) is not None}


def _header(source: Source, file: str, listed: Mapping[str, str]) -> Header | None:
    """The header of a weight file, None when there is no such file.

    A name that is `listed` is taken from there: 90,000 of them are in memory once.
    """
    size = source.size(file)
    if size is None:
        return None
    header = parse_header(lambda begin, end: source.read(file, begin, end), size)
    if not listed:
        return header
    names = tuple(map(listed.get, header.names, header.names))
    return header._replace(columns=header.columns._replace(names=names))


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
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Which copy of each tensor counts, and the others.

    The one that the index names, else the one read last, as in transformers.
    """
    tensors: dict[str, Tensor] = {}
    for weight in read:
        tensors |= stored_rows(weight.name, weight.header, source, weight.name)
    if len(tensors) == sum(len(weight.header.names) for weight in read):
        return tensors, ()
    tensors.clear()
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


def stored_rows(name: str, header: Header, source: Source, file: str) -> dict[str, Tensor]:
    """Name → row for all of a weight file that stands as `file` at a source.

    Columns at once, since a model may have 90,000 of them.
    """
    section = Section(source, file, header.data_start)
    names, dtypes, shapes, begins, ends = header.columns
    table = zip(
        names, dtypes, shapes, repeat(name), repeat(section), begins, ends, repeat(""),
        strict=False,
    )  # fmt: skip
    return dict(zip(names, map(partial(tuple.__new__, Tensor), table), strict=True))
