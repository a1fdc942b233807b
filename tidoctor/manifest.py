"""The manifest: what each tensor of a result is, where it lies, and where it came from.

One JSON object, `tidoctor.manifest/1`: for every tensor its name, file, dtype, shape, the range of
its bytes in the file, their SHA-256, and the file and range of its origin. Later, `diagnose
--manifest` says which tensors are no longer those.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from tidoctor import __version__, document
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable, Unwritable, Usage
from tidoctor.names import natural_key, printable
from tidoctor.pieced import beneath
from tidoctor.source import reason
from tidoctor.source.folder import Folder
from tidoctor.tensors import Tensor

SCHEMA = "tidoctor.manifest/1"
_CAP = 256_000_000  # bytes; one of 91,991 tensors has some 40 MB
_PIECE = 1 << 16  # bytes hashed at once


class Recorded(NamedTuple):
    """What the manifest says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str


class Manifest(NamedTuple):
    """A manifest that was read: its name for messages, and its tensors by name."""

    where: str
    tensors: Mapping[str, Recorded]


def digest(checkpoint: Checkpoint, tensor: Tensor) -> str:
    """The SHA-256 of a tensor's bytes. Raises Unreadable when there are not enough."""
    import hashlib

    sha, count = hashlib.sha256(), 0
    for piece in checkpoint.chunks(tensor, _PIECE):
        sha.update(piece)
        count += len(piece)
    if count != tensor.nbytes:
        missing = tensor.nbytes - count
        raise Unreadable(printable(tensor.name), f"{missing} of its bytes are missing")
    return sha.hexdigest()


def described(planned: Checkpoint, written: Checkpoint) -> str:
    """The manifest of a result; of an overlay, with what stays in the source."""
    tensors = []
    for name in sorted(planned.tensors, key=natural_key):
        row, there = planned.tensors[name], written.tensors.get(name)
        if there is not None and there.file == row.file:
            place, held, begin = there.span, written, there.span.begin
        else:  # the file that the source has
            place, held, begin = row.span, planned, row.span.begin
            there = row
        tensors.append({
            "name": name, "file": row.file, "dtype": row.dtype, "shape": list(row.shape),
            "begin": begin, "end": place.end, "sha256": digest(held, there),
            "origin": [
                {
                    "source": span.source.name, "file": span.file, "begin": span.begin,
                    "end": span.end, "dtype": row.stored or row.dtype,
                }
                for span in beneath((row.span,))
            ],
        })  # fmt: skip
    head = {"schema": SCHEMA, "tool": {"name": "tidoctor", "version": __version__}}
    return json.dumps(head | {"tensors": tensors}, ensure_ascii=True, allow_nan=False) + "\n"


def check_place(path: Path, source: Checkpoint, dest: Path, *, force: bool) -> None:
    """Raise Usage when the manifest may not be written there: least of all into the source."""
    where = printable(str(path))
    try:
        parent = path.parent.resolve()
        if isinstance(source.source, Folder):
            root = source.source.path.resolve()
            if parent == root or root in parent.parents:
                raise Usage(where, "lies inside the source", "name a file outside of it")
        inside = dest.resolve()
        if parent == inside or inside in parent.parents:
            return  # it will be there once DEST is
        if not parent.is_dir():
            raise Usage(where, "has no parent folder", "make the parent folder first")
        if os.path.lexists(path) and not (force and path.is_file() and not path.is_symlink()):
            raise Usage(where, "exists already", "name another file, or replace it with --force")
    except (OSError, ValueError, RuntimeError) as e:
        raise Usage(where, f"is not a usable path ({reason(e)})", "name another file") from e


def write(path: Path, text: str) -> None:
    """Write the file, all or nothing. Raises Unwritable."""
    partial = path.with_name(f".{path.name}.tidoctor-{os.getpid()}.partial")
    try:
        try:
            with partial.open("x", encoding="ascii") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink()
    except OSError as e:
        raise Unwritable(printable(str(path)), f"cannot be written ({reason(e)})") from e


def read(path: Path) -> Manifest:
    """The manifest in a file. Raises Unreadable for anything else."""
    where = printable(str(path))
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with FileIO(handle) as f:
            raw = f.read(_CAP + 1) or b""
    except (OSError, ValueError) as e:
        raise Unreadable(where, f"cannot be read ({reason(e)})") from e
    data = document.parse(raw, max_bytes=_CAP).data
    rows = data.get("tensors") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(rows, list):
        raise Unreadable(where, "is no manifest of tidoctor", "give what --manifest wrote")
    tensors = {}
    for row in rows:
        name, recorded = _recorded(row)
        if recorded is None or name in tensors:
            raise Unreadable(where, f"its entry {printable(name)} cannot be understood")
        tensors[name] = recorded
    return Manifest(where, tensors)


def _recorded(row: object) -> tuple[str, Recorded | None]:
    known = row if isinstance(row, dict) else {}
    name, dtype, shape, sha = (known.get(k) for k in ("name", "dtype", "shape", "sha256"))
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(sha, str):
        return str(name)[:80], None
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        return name, None
    return name, Recorded(dtype, tuple(shape), sha)
