"""One line on standard error that says how far a long piece of work is."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType

from tidoctor.names import printable
from tidoctor.report.style import encodable
from tidoctor.report.units import size

PATIENCE = 0.5  # seconds before anything is shown
_PAUSE = 0.1  # seconds between two updates


class Progress:
    """Callable with what is being done, bytes done and bytes in all; shown on terminals only.

    With a `unit`, such as `checkpoints`, the numbers count that instead.
    """

    def __init__(self, *, quiet: bool = False, unit: str = "") -> None:
        self._unit = unit
        self._stream = sys.stderr
        self._on = not quiet and self._stream is not None and self._stream.isatty()
        self._next = time.monotonic() + PATIENCE
        self._shown = False

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far it is, if it has taken a while and enough time has passed."""
        now = time.monotonic()
        if not self._on or now < self._next:
            return
        self._next = now + _PAUSE
        percent = f"{min(100 * done // total, 100):3d} %  " if total > 0 else ""
        amount = f"{size(done)} of {size(total)}"
        if self._unit:
            amount = f"{done} of {total} {self._unit}"
        line = f"{percent}{amount}  {printable(what)}"
        self._put("\r\x1b[K" + line[: max(shutil.get_terminal_size().columns - 1, 20)])
        self._shown = True

    def _put(self, text: str) -> None:
        try:
            self._stream.write(encodable(text, self._stream.encoding or "ascii"))
            self._stream.flush()
        except OSError:  # the terminal went away; the work goes on
            self._on = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._put("\r\x1b[K")
