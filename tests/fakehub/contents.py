"""What files hold: bytes, or a header with a body made by a formula, so that 700 GB cost nothing."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

WIDTH = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "U8": 1}


class Content(Protocol):
    """The content of one file; `lfs` says whether it is stored aside and served by the CDN."""

    size: int
    lfs: bool

    @property
    def sha256(self) -> str: ...

    @property
    def oid(self) -> str: ...

    def read(self, begin: int, end: int) -> bytes: ...


class Bytes:
    """Content that is held."""

    def __init__(self, data: bytes, *, lfs: bool | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.lfs = len(data) > 10_000_000 if lfs is None else lfs

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % self.size + self.data).hexdigest()

    def read(self, begin: int, end: int) -> bytes:
        return self.data[begin:end]


class Virtual:
    """A head that is held and a body of any length: a block of random bytes, over and over."""

    lfs = True
    _BLOCK = 65_521  # bytes; a prime, so that no two aligned ranges look alike

    def __init__(self, head: bytes, body: int, seed: int = 0) -> None:
        self.head = head
        self.size = len(head) + body
        self.seed = seed
        block = random.Random(seed).randbytes(self._BLOCK)
        self._run = block * 17  # about 1 MB

    @cached_property
    def sha256(self) -> str:
        """The true digest up to 64 MB; beyond that, one that stands for the content."""
        if self.size > 64 << 20:
            return hashlib.sha256(b"%d %d" % (self.seed, self.size) + self.head).hexdigest()
        digest = hashlib.sha256()
        for begin in range(0, self.size, 1 << 20):
            digest.update(self.read(begin, begin + (1 << 20)))
        return digest.hexdigest()

    @property
    def oid(self) -> str:
        return hashlib.sha1(self.sha256.encode()).hexdigest()

    def read(self, begin: int, end: int) -> bytes:
        end = min(end, self.size)
        parts = [self.head[begin:end]]
        at = max(begin, len(self.head)) - len(self.head)
        stop = end - len(self.head)
        while at < stop:
            inner = at % self._BLOCK
            part = self._run[inner : inner + min(stop - at, len(self._run) - inner)]
            parts.append(part)
            at += len(part)
        return b"".join(parts)


def safetensors(
    rows: Iterable[tuple[str, str, Sequence[int]]], *, seed: int = 0, short: int = 0
) -> Virtual:
    """A virtual file with a true header over rows of name, dtype and shape.

    `short` bytes are missing at its end.
    """
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dtype, shape in rows:
        size = WIDTH[dtype]
        for n in shape:
            size *= n
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Virtual(len(text).to_bytes(8, "little") + text, at - short, seed)
