"""The process around a command: whatever happens, an exit code of the contract, no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType

_INTERRUPTED = 130


def carry_out(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        with _terminable():
            code = _run(arguments)
    except KeyboardInterrupt:
        _complain("interrupted")
        code = _INTERRUPTED
    flush()
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        from tidoctor.cli import run

        return run(arguments)
    except Exception as e:
        return _fail(e, arguments)


def _fail(error: Exception, arguments: Sequence[str]) -> int:
    """Tell of an error that no command took care of."""
    try:
        from tidoctor.report import Format, page
        from tidoctor.report.delivery import Delivery
        from tidoctor.report.output import Output
        from tidoctor.report.style import Style

        format_ = Format.JSON if _wants_json(arguments) else Format.TEXT
        return Delivery(page(format_, Style()), Output()).fail(error)
    except Exception as e:
        _complain(f"error: internal error: {type(e).__name__}: {e!r}")
        return 3


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether JSON was asked for, as far as a wrong command line tells."""
    given = [a.removeprefix("--format=") for a in arguments if a.startswith("--format=")]
    given += [b for a, b in pairwise(arguments) if a == "--format"]
    return (given or [os.environ.get("TIDOCTOR_FORMAT", "")])[-1] == "json"


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM and a lost terminal as Ctrl-C, so that unfinished files are cleared away.

    What the caller has set otherwise stays, as `nohup` sets SIGHUP.
    """
    numbers = (signal.SIGTERM, *((signal.SIGHUP,) if sys.platform != "win32" else ()))
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, _terminate)
    except ValueError:  # outside the main thread there are no signals to take
        taken = []
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _complain(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def flush() -> None:
    """Leave nothing in the streams that could fail to be written at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            from tidoctor.report.output import silence

            silence(stream)
