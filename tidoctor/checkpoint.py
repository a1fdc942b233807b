"""The patient: config, index and headers of one source as one immutable table of tensors.

Each row of `Checkpoint.tensors` says: this name, dtype and shape are these bytes of this file at
this source. Rules read the table, a plan derives another one from it, the writer makes it true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal, NamedTuple

from tidoctor.buffers import Twins
from tidoctor.casting import WIDTHS, cast
from tidoctor.document import Document
from tidoctor.header import Header
from tidoctor.source import CONFIG as CONFIG
from tidoctor.source import Source
from tidoctor.source import mode as file_mode
from tidoctor.tensors import Span, Tensor, parameters, size, stored_rows

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
INDEX_CAP = 256_000_000  # bytes; the index of DeepSeek-V3 with 91,991 tensors has 8.9 MB

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})\.safetensors")
_ADAPTER = re.compile(r"adapter_model(\.[^/]*)?\.safetensors|pytorch_lora_weights\.safetensors")
_FIRST, _SECOND = 1 << 12, 1 << 16  # bytes

Entrance = Literal["single", "index", "shards", "other", "file", "adapter", "none"]
"""How a loader gets in: one file, an index, numbered shards, another name, one chosen file."""


Reader = Callable[[Tensor, int, int], bytes]
"""Gives the bytes [begin, end) of a tensor, fewer when its file ends before."""


class WeightFile(NamedTuple):
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
    _compared: dict[tuple[object, object], bool] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def settings(self) -> Mapping[str, object]:
        """The values of config.json; empty when it is absent, unreadable or no object."""
        data = self.config.data if self.config else None
        return data if isinstance(data, dict) else {}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that count."""
        return size(self.tensors)

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors that count."""
        return parameters(self.tensors)

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
        with span.opened() as ranged:

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

    def pieces(self, tensor: Tensor, buffer: memoryview) -> Iterator[bytes | memoryview]:
        """The bytes of a tensor in pieces as long as the buffer, good until the next is asked for.

        Where the source is a folder they are read into it: nothing is opened or allocated for each.
        """
        if in_turn := _in_turn(tensor):
            _, file, begin, end = tensor.span
            yield from in_turn(file, begin, end, buffer)
            return
        for at in range(0, tensor.nbytes, len(buffer)):
            yield self.read(tensor, at, at + len(buffer))

    def same_bytes(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors have equal dtype, shape and bytes, as they were when first asked for.

        They are read once, in pieces: a plan knows what is known of the checkpoint that it changes.
        """
        if (a.dtype, a.shape, a.nbytes) != (b.dtype, b.shape, b.nbytes):
            return False
        one, other = (a.span, a.stored, a.dtype), (b.span, b.stored, b.dtype)
        if one == other:
            return True
        known = self._compared.get((one, other))
        if known is None:
            known = self._compared[one, other] = self._equal(a, b)
        return known

    def _equal(self, a: Tensor, b: Tensor) -> bool:
        size = max(a.span.source.stride, b.span.source.stride)
        if _in_turn(a) is None or _in_turn(b) is None:
            pairs = zip(self.chunks(a, size), self.chunks(b, size), strict=True)
            return all(x == y for x, y in pairs)
        for begin, end in ((0, _FIRST), (_FIRST, _SECOND)):  # most comparisons end here
            if self.read(a, begin, end) != self.read(b, begin, end):
                return False
        if a.nbytes <= _SECOND:
            return True
        twins = Twins(min(size, a.nbytes))
        both = zip_longest(*map(self.pieces, (a, b), twins.views), fillvalue=b"")
        return all(len(x) == len(y) and twins.alike(len(x)) for x, y in both)


def _in_turn(tensor: Tensor) -> Callable[..., Iterator[memoryview]] | None:
    """How the bytes of a tensor are read into a buffer, as `Folder.pieces`; None where not."""
    return None if tensor.stored else getattr(tensor.span.source, "pieces", None)


def shard_of(file: str) -> tuple[str, int, int] | None:
    """(stem, number, total) of a name such as `model-00002-of-00005.safetensors`."""
    m = _SHARD.fullmatch(file)
    return (m["stem"], int(m["number"]), int(m["total"])) if m else None


def is_adapter_file(file: str) -> bool:
    """Whether a weight file holds a LoRA adapter, by the names that peft and diffusers give."""
    return bool(_ADAPTER.fullmatch(file))
