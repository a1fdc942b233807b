"""Run a program apart: a process group of its own, a time limit, and no more output than asked for.

Whatever the program does, the caller gets its output up to then and one sentence about its end; it
never outlives the call.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CHUNK = 1 << 16
_TALK = 1 << 14  # bytes of standard error that are kept, the last ones
_SENTENCE = 200  # characters of foreign text in a sentence
_PATIENCE = 5.0  # seconds that a killed process may take to vanish


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program wrote and how it ended.

    Attributes:
        output: what came on its standard output, the beginning if there was too much.
        problem: how it ended otherwise than well, as the end of a sentence; "" when it did well.
    """

    output: bytes
    problem: str = ""


def run(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    most: int,
) -> Outcome:
    """Run a command in a folder, for `seconds` at most, and keep `most` bytes of what it writes.

    It reads nothing. Raises nothing but what interrupts the caller.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as e:
        return Outcome(b"", f"could not be started ({sentence(str(e))})")
    late = False
    try:
        assert process.stdout is not None and process.stderr is not None
        output = _Head(process.stdout, most, lambda: _kill(process))
        talk = _Tail(process.stderr, _TALK)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
    finally:
        _kill(process)  # and whatever it started itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    output.join(_PATIENCE)
    talk.join(_PATIENCE)
    kept = bytes(output.kept)
    if output.full:
        return Outcome(kept, f"wrote more than {most:,} bytes".replace(",", " "))
    if late:
        return Outcome(kept, f"gave no answer within {seconds:g} seconds")
    if process.returncode:
        return Outcome(kept, _ending(process.returncode, bytes(talk.kept)))
    return Outcome(kept)


def sentence(text: str) -> str:
    """The first line of a foreign text that says something, cut to a readable length."""
    line = next((stripped for row in text.splitlines() if (stripped := row.strip())), "")
    return line if len(line) <= _SENTENCE else line[: _SENTENCE - 1] + "…"


def _ending(code: int | None, talk: bytes) -> str:
    if code is None:
        return "could not be ended"
    said = [line for line in talk.decode("utf-8", "replace").splitlines() if line.strip()]
    last = f" ({sentence(said[-1])})" if said else ""
    if code > 0:
        return f"ended with exit code {code}{last}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was ended by signal {name}{last}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group. Where there are no groups, the process alone."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


class _Reader(threading.Thread):
    """Empties a pipe, so that the program never waits for its reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.kept = bytearray()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError), self.stream:
            while chunk := os.read(self.stream.fileno(), _CHUNK):
                self.take(chunk)

    def take(self, chunk: bytes) -> None:
        raise NotImplementedError


class _Head(_Reader):
    """Keeps the first bytes and ends a program that writes more."""

    def __init__(self, stream: IO[bytes], most: int, end: Callable[[], None]) -> None:
        self.most, self.end, self.full = most, end, False
        super().__init__(stream)

    def take(self, chunk: bytes) -> None:
        self.kept += chunk[: self.most - len(self.kept)]
        if len(self.kept) == self.most and not self.full:
            self.full = True
            self.end()


class _Tail(_Reader):
    """Keeps the last bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.most = most
        super().__init__(stream)

    def take(self, chunk: bytes) -> None:
        self.kept += chunk
        del self.kept[: -self.most]
