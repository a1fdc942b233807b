"""Reports and errors, written where they belong, and the exit code that they add up to."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from tidoctor.report.output import Output
from tidoctor.report.style import encodable
from tidoctor.report.verdict import Exit, described, of_error, worst

if TYPE_CHECKING:
    from tidoctor.report import Page

Told = tuple[str, int]
"""A report and its exit code."""


class Delivery:
    """Takes one report per source and goes on after an error, which concerns that source only."""

    def __init__(self, page: Page, output: Output, *, quiet: bool = False) -> None:
        self.page = page
        self.output = output
        self.quiet = quiet
        self._begun = False

    def each(self, sources: Iterable[str], examine: Callable[[str], Told]) -> int:
        """Tell of every source; the worst exit code. A wrong command line ends it at once."""
        codes: list[int] = []
        with self.output:
            for source in sources:
                codes.append(self._one(partial(examine, source), source))
                if codes[-1] == Exit.USAGE:
                    break
        return worst(codes)

    def once(self, tell: Callable[[], Told]) -> int:
        """Tell of something that is not a source; its exit code."""
        with self.output:
            return self._one(tell, None)

    def _one(self, tell: Callable[[], Told], source: str | None) -> int:
        try:
            text, code = tell()
        except Exception as e:
            return self.fail(e, source)
        self._tell(text)
        return code

    def fail(self, error: Exception, source: str | None = None) -> int:
        """Tell of an error: people on standard error, machines where the report goes."""
        code = of_error(error)
        told = self.page.error(described(error, source), source, code, hint=not self.quiet)
        to_file = self.output.target is not None
        if self.page.errors_in_report or to_file:
            self._tell(told)
        if not self.page.errors_in_report or to_file:
            _complain(told)
        if os.environ.get("TIDOCTOR_DEBUG") == "1":
            _complain("".join(traceback.format_exception(error)))
        return code

    def _tell(self, text: str) -> None:
        if self._begun:
            self.output.write(self.page.between)
        self._begun = True
        self.output.write(text)


def _complain(text: str) -> None:
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(encodable(text, stream.encoding or "ascii"))
        stream.flush()
    except OSError:  # nobody listens; the exit code still tells
        return
