"""The form that a result takes: in which files, as which numbers, and how it gets to the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidoctor.errors import Usage

Link = Literal["auto", "hard", "never"]
"""How files that do not change get to the result.

Sharing extents where the file system can, else by copy; as hard links; or by copy at any price.
"""

_TYPES = {
    "bf16": "BF16", "bfloat16": "BF16", "f16": "F16", "fp16": "F16", "float16": "F16",
    "half": "F16", "f32": "F32", "fp32": "F32", "float32": "F32", "float": "F32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """What was asked for.

    `link` says how files that do not change get there; with `delta` they do not: only what is new
    is written, to be laid over the source. `single_file` and `max_shard_size`, in bytes, say in
    which files the tensors come to lie, the source's own where neither is given. `dtypes` are
    (glob of names, dtype) pairs, of which the last that fits a tensor counts. `manifest` is the
    file to which every tensor's digest and origin are written.
    """

    link: Link = "auto"
    delta: bool = False
    single_file: bool = False
    max_shard_size: int | None = None
    dtypes: tuple[tuple[str, str], ...] = ()
    manifest: Path | None = None

    def __post_init__(self) -> None:
        if self.single_file and self.max_shard_size is not None:
            raise Usage("--single-file", "contradicts --max-shard-size", "give one of them")
        if self.delta and self.reshards:
            raise Usage("--delta", "contradicts another division into files", "give one of them")

    @property
    def reshards(self) -> bool:
        """Whether the tensors may come to lie in other files."""
        return self.single_file or self.max_shard_size is not None

    @property
    def changes(self) -> bool:
        """Whether there is something to do even for a checkpoint that nothing ails."""
        return self.reshards or bool(self.dtypes)

    @property
    def apart(self) -> bool:
        """Whether new tensors need a file of their own, so that the others can stay untouched."""
        return self.delta or (self.link == "hard" and not self.single_file)


PLAIN = Form()


def dtype_wish(text: str) -> tuple[str, str]:
    """`bf16` or `*.norm.weight=f32` as (glob, dtype). Raises Usage."""
    glob, separator, name = text.rpartition("=")
    wanted = _TYPES.get(name.strip().lower())
    if wanted is None or (separator and not glob):
        raise Usage("--dtype", f"{text!r} is none of bf16, f16, f32", "or write PATTERN=TYPE")
    return glob or "*", wanted
