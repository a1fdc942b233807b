"""Reports and errors, written where they belong, and the exit code that they add up to."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
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
            self.output.write(self.page.opening())
            for source in sources:
                codes.append(self._one(partial(examine, source), source))
                if codes[-1] == Exit.USAGE:
                    break
            self.output.write(self.page.ending(codes))
        self._summarise()
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

    def hint(self, text: str) -> None:
        """Say something beside the report, unless only the report was wanted."""
        if not self.quiet:
            _complain(f"{text}\n")

    def fail(self, error: Exception, source: str | None = None) -> int:
        """Tell of an error: people on standard error, machines where the report goes."""
        code = of_error(error)
        known, hint = described(error, source), not self.quiet
        to_file = self.output.target is not None
        if self.page.errors_in_report or to_file:
            self._tell(self.page.error(known, source, code, hint=hint))
        if not self.page.errors_in_report or to_file:
            _complain(self.page.complaint(known, source, code, hint=hint))
        if os.environ.get("TIDOCTOR_DEBUG") == "1":
            _complain("".join(traceback.format_exception(error)))
        return code

    def _tell(self, text: str) -> None:
        if self._begun:
            self.output.write(self.page.between)
        self._begun = True
        self.output.write(text)

    def _summarise(self) -> None:
        """Add to the summary of the job that GitHub shows, where it was asked for annotations."""
        target = os.environ.get("GITHUB_STEP_SUMMARY")
        if not target:
            return
        from tidoctor.report.github import SUMMARY_LIMIT, Github

        if not isinstance(self.page, Github):
            return
        try:
            file = Path(target)
            used = file.stat().st_size if file.exists() else 0
            text = self.page.summary(SUMMARY_LIMIT - used)
            with file.open("ab") as stream:
                stream.write(encodable(text, "utf-8").encode())
        except OSError as e:  # what was found is told all the same, and the exit code stands
            _complain(f"GITHUB_STEP_SUMMARY: cannot be written ({e.strerror})\n")


def _complain(text: str) -> None:
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(encodable(text, stream.encoding or "ascii"))
        stream.flush()
    except OSError:  # nobody listens; the exit code still tells
        return
