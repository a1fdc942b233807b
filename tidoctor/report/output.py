"""Where a report goes: standard output, or a file that is there whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TextIO

from tidoctor.errors import Unwritable, Usage
from tidoctor.report.style import encodable


class Output:
    """Takes the text of a report. A context manager: a file is written when the block succeeds.

    Raises Unwritable when the file cannot be written, Usage when it would replace a part of a
    checkpoint.
    """

    def __init__(self, target: Path | None = None) -> None:
        self.target = target
        self._parts: list[str] = []
        self._broken = False
        if target is not None:
            _check(target)

    @property
    def stream(self) -> TextIO | None:
        """The stream that is written to, None for a file or when there is no standard output."""
        return None if self.target is not None else sys.stdout

    @property
    def terminal(self) -> bool:
        """Whether somebody watches the report as it is written."""
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> None:
        """Add to the report. A reader that went away is not an error: the rest is not told."""
        if self.target is not None:
            self._parts.append(text)
            return
        stream = self.stream
        if stream is None or self._broken:
            return
        try:
            stream.write(encodable(text, stream.encoding or "utf-8"))
            stream.flush()
        except BrokenPipeError:
            self._broken = True
            silence(stream)
        except OSError as e:
            silence(stream)
            raise Unwritable("standard output", f"cannot be written ({e.strerror})") from e

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.target is not None:
            _replace(self.target, encodable("".join(self._parts), "utf-8"))


def silence(stream: TextIO) -> None:
    """Let everything still buffered for a stream go nowhere, at exit too."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without a descriptor, as in tests
        return


def _check(target: Path) -> None:
    """Fail before the work rather than after it."""
    name = target.name
    if name.endswith((".safetensors", ".safetensors.index.json")) or name == "config.json":
        what = "would replace a part of a checkpoint"
        raise Usage(f"--output {target}", what, "name another file")
    try:
        folder, housed = target.is_dir() or not name, target.parent.is_dir()
    except OSError as e:
        raise Unwritable(str(target), "is not a usable file name") from e
    if folder:
        raise Unwritable(str(target), "is a folder", "name a file for the report")
    if not housed:
        raise Unwritable(str(target), "its folder does not exist", "create the folder first")


def _replace(target: Path, text: str) -> None:
    try:
        data = text.encode()
        if target.exists() and not target.is_file():  # /dev/stdout, a pipe: nothing to replace
            target.write_bytes(data)
            return
        replace_file(target, data)
    except OSError as e:
        raise Unwritable(str(target), f"cannot be written ({e.strerror})") from e


def replace_file(target: Path, data: bytes) -> None:
    """Write a file so that it is there whole or as it was. Raises OSError."""
    try:
        real = target.resolve()
    except RuntimeError as e:  # how Python before 3.13 tells of links that lead in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target)) from e
    temporary = real.with_name(f".{real.name[:100]}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(real)
    finally:
        temporary.unlink(missing_ok=True)
