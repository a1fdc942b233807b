"""Workflow commands of GitHub Actions, and the job summary.

GitHub keeps ten errors, ten warnings and ten notices of a step, so that the worst come first and
a last notice tells of the rest. Source: "Workflow commands for GitHub Actions" and "Annotation
limitations" in GitHub's documentation; escaping as in the toolkit's command.ts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidoctor.finding import Finding, Severity
from tidoctor.names import printable
from tidoctor.report.case import Case, Cases
from tidoctor.report.markdown import Markdown
from tidoctor.report.place import path, place
from tidoctor.report.style import Style
from tidoctor.report.units import plural
from tidoctor.report.verdict import FailOn, examined, word

if TYPE_CHECKING:
    from tidoctor.errors import TidoctorError

MOST = 10  # annotations of each kind that GitHub keeps of one step
SUMMARY_LIMIT = 1 << 20  # bytes that the summary of one step may have
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
_ROOM = 300  # bytes kept free for the line that says what was left out


class Github(Cases):
    """Collects while sources are examined; everything is told at the end, the worst first."""

    def __init__(
        self, style: Style, *, several: bool = False, fail_on: FailOn = FailOn.ERROR
    ) -> None:
        super().__init__(style, several=several, fail_on=fail_on)
        self._kept: dict[Severity, list[str]] = {severity: [] for severity in Severity}
        self._counts = dict.fromkeys(Severity, 0)
        self._sources = self._healthy = 0
        self._markdown = Markdown(style, several=several, fail_on=fail_on)
        self._summary: list[str] = []
        self._size = self._left_out = 0

    def case(self, one: Case) -> str:
        """Nothing yet."""
        self._sources += 1
        self._healthy += word(one.found) == "healthy"
        for f in one.found.findings:
            self._add(f.severity, _annotation(one, f))
        for severity, text in one.remarks:
            self._add(severity, _command(severity, printable(text), file="", title="tidoctor"))
        for skipped in one.found.not_run:
            if "--deep" not in skipped.reason:
                text = f"{one.name}: {skipped.code} did not run: {skipped.reason}"
                told = _command(Severity.NOTE, printable(text), file="", title="tidoctor")
                self._add(Severity.NOTE, told)
        if not examined(one.found):
            text = f"{printable(one.name)}: not examined: no rule ran"
            self._add(Severity.ERROR, _command(Severity.ERROR, text, file="", title="tidoctor"))
        self._collect(self._markdown.case(one))
        return ""

    def failure(self, error: TidoctorError, source: str | None) -> str:
        """Nothing yet."""
        self._sources += 1
        text = printable(str(error))
        self._add(
            Severity.ERROR, _command(Severity.ERROR, text, file="", title="tidoctor: not examined")
        )
        self._collect(self._markdown.failure(error, source))
        return ""

    def ending(self, codes: Sequence[int] = ()) -> str:
        """All annotations that GitHub would keep, and a notice that counts."""
        shown = {s: self._kept[s][: MOST - (s is Severity.NOTE)] for s in Severity}
        lines = [line for s in reversed(Severity) for line in shown[s]]
        left = sum(self._counts.values()) - len(lines)
        told = f"{plural(self._sources, 'checkpoint')}: " + ", ".join(
            [*(plural(n, str(s)) for s, n in reversed(self._counts.items()) if n),
             f"{self._healthy} healthy"]
        )  # fmt: skip
        if left:
            told += f"; {left} not shown here, all of them in the job summary or another format"
        notice = _command(Severity.NOTE, told, file="", title="tidoctor")
        return "".join(f"{line}\n" for line in [*lines, notice])

    def summary(self, room: int = SUMMARY_LIMIT) -> str:
        """The markdown of what was told, of at most `room` bytes of UTF-8."""
        text, kept, size = "", 0, 0
        for part in self._summary:
            size += len(part.encode("utf-8", "backslashreplace")) + 1
            if size > room - _ROOM:
                break
            text += f"{part}\n"
            kept += 1
        left = self._left_out + len(self._summary) - kept
        if left and room > _ROOM:
            text += f"{plural(left, 'source')} left out: the summary of a step holds 1 MiB.\n"
        return text

    def _collect(self, part: str) -> None:
        self._size += len(part.encode("utf-8", "backslashreplace")) + 1
        if self._size <= SUMMARY_LIMIT:
            self._summary.append(part)
        else:
            self._left_out += 1

    def _add(self, severity: Severity, line: str) -> None:
        self._counts[severity] += 1
        if len(self._kept[severity]) < MOST:
            self._kept[severity].append(line)


def _annotation(one: Case, f: Finding) -> str:
    at = place(one.checkpoint, f)
    lines = [printable(f.message)]
    if f.cure:
        lines.append(f"cure [{f.cure.kind}]: {printable(f.cure.summary)}")
        lines += [printable(f.cure.command)] if f.cure.command else []
    lines += [f"not: {printable(f.not_)}"] * bool(f.not_)
    return _command(
        f.severity, "\n".join([*lines, f"more: tidoctor explain {f.code}"]),
        file=path(one.checkpoint, one.name, at.file), line=at.line, title=f"{f.code} {f.name}",
    )  # fmt: skip


def _command(
    severity: Severity, message: str, *, file: str, line: int | None = None, title: str
) -> str:
    given = {"file": printable(file), "line": str(line or ""), "title": title}
    properties = ",".join(f"{key}={_property(value)}" for key, value in given.items() if value)
    return f"::{_COMMANDS[severity]} {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
