"""Bytes that come from far away, side by side, each to its final place; read back and digested."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from io import FileIO
from typing import Any

from tidoctor.buffers import aligned
from tidoctor.errors import Unreadable
from tidoctor.handles import filled
from tidoctor.names import printable
from tidoctor.source.distant import Distant
from tidoctor.tensors import Span

_SWALLOW = 1 << 20  # bytes digested at once: other threads wait to be let on after each time


class Marks:
    """How far a span has come: byte `end` of its file, and the SHA-256 of all that is before it.

    `known` are those of an earlier run, `note` is told of new ones.
    """

    def __init__(
        self, known: Iterable[tuple[int, str]] = (),
        note: Callable[[int, str], None] = lambda end, sha256: None,
    ) -> None:  # fmt: skip
        self.known = sorted(known)
        self.note = note


def pour(
    source: Distant, span: Span, target: int, at: int, moved: Callable[[int], None], marks: Marks
) -> str | None:
    """Put the bytes of a distant span at byte `at` of the open file; their SHA-256.

    What stands there already up to one of the marks is not fetched again. None when what was
    written does not come back. OSError comes from the written side only; raises Unreadable when
    the span cannot be read, or when a whole file came, but not the one that is published.
    """
    # A handle of its own, closed with the last thread that may still write there: the number
    # of `target` may be that of another file by then.
    handle = FileIO(os.dup(target), "wb")
    shift = at - span.begin
    lock, torn = threading.Lock(), threading.Event()

    def arrive(begin: int, chunk: bytearray) -> None:
        to = handle.fileno()
        with memoryview(chunk) as rest:
            done = 0
            while done < len(rest):
                done += os.pwrite(to, rest[done:], begin + shift + done)
        # At once, while both are in the processor's cache.
        if os.pread(to, len(chunk), begin + shift) != chunk:
            torn.set()
            raise InterruptedError
        with lock:
            moved(len(chunk))

    start, whole = _proven(span, target, shift, marks)
    moved(start - span.begin)
    try:
        with closing(source.pour(span.file, start, span.end, arrive)) as parts:
            for begin, end in parts:
                if not _digest(whole, target, begin + shift, end + shift):
                    return None
                marks.note(end, whole.hexdigest())
    except InterruptedError:
        if torn.is_set():
            return None
        raise
    listed = source.listed(span.file)
    entire = listed and listed.sha256 and (span.begin, span.end) == (0, listed.size)
    if listed and entire and listed.sha256 != whole.hexdigest():
        raise Unreadable(
            printable(f"{source.name}: {span.file}"),
            "came with another SHA-256 than the repository publishes", "try again",
        )  # fmt: skip
    return str(whole.hexdigest())


def _proven(span: Span, target: int, shift: int, marks: Marks) -> tuple[int, Any]:
    """Up to where the file holds what a mark says, and the digest of that."""
    import hashlib

    digest = hashlib.sha256()
    best, at = (span.begin, digest.copy()), span.begin
    for end, expected in marks.known:
        if not at < end <= span.end:
            continue
        if not _digest(digest, target, at + shift, end + shift):
            break
        at = end
        if digest.hexdigest() == expected:
            best = end, digest.copy()
    return best


def _digest(digest: Any, target: int, begin: int, end: int) -> bool:
    """Add the bytes [begin, end) of the file to a digest; whether there are as many."""
    buffer = aligned(min(_SWALLOW, end - begin))
    for at in range(begin, end, _SWALLOW):
        view = buffer[: min(_SWALLOW, end - at)]
        if not filled(target, view, at):
            return False
        digest.update(view)
    return True
