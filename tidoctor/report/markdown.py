"""Markdown for a job summary, a pull request or a wiki: GitHub's flavour, nothing that can act.

Foreign text is escaped, so that a name can make no link, mention, table cell or HTML.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tidoctor.finding import Severity
from tidoctor.names import printable
from tidoctor.report import units
from tidoctor.report.case import Case, Cases
from tidoctor.report.place import place
from tidoctor.report.style import Style
from tidoctor.report.text.diagnosis import finding, summary, unable
from tidoctor.report.text.subject import classes, extent
from tidoctor.report.verdict import word

if TYPE_CHECKING:
    from tidoctor.errors import TidoctorError
    from tidoctor.finding import Diagnosis

_SPECIAL = re.compile(r"([\\`*_\[\]#|!~$])")


class Markdown(Cases):
    """A section for each source; a table of findings, with the evidence to unfold."""

    between = "\n"

    def case(self, one: Case) -> str:
        """A section."""
        found = one.found
        counted = units.plural(len(one.checkpoint.tensors), "tensor")
        facts = [classes(one.checkpoint), counted, extent(one.checkpoint)]
        lines = [f"### {code(one.name)}: {verdict(found)}", "", escaped(", ".join(facts)), ""]
        if found.findings:
            lines += ["| severity | rule | finding | where |", "|---|---|---|---|"]
            for f in found.findings:
                at = place(one.checkpoint, f)
                where = at.file + (f":{at.line}" if at.line else "")
                cells = (str(f.severity), f"{f.code} {f.name}", escaped(f.message), code(where))
                lines.append(f"| {' | '.join(cells)} |")
            lines.append("")
            for f in found.findings:
                lines += _details(f"{f.code} {f.name}: evidence and cure", finding(f, Style()))
        if found.waived:
            lines += ["| waived | finding | reason |", "|---|---|---|"]
            for w in found.waived:
                rule = f"{w.finding.severity} {w.finding.code} {w.finding.name}"
                reason = f"{escaped(w.reason)} ({escaped(w.by)})"
                lines.append(f"| {rule} | {escaped(w.finding.message)} | {reason} |")
            lines.append("")
        if found.loaders:
            lines += ["| loader | version | verdict | what it says |", "|---|---|---|---|"]
            for v in found.loaders:
                cells = (v.loader, v.version, str(v.outcome), v.message or v.why)
                lines.append(f"| {' | '.join(map(escaped, cells))} |")
            lines.append("")
        lines += [f"- {escaped(line)}" for line in unable(found)]
        lines += [f"- {severity}: {escaped(text)}" for severity, text in one.remarks]
        return "\n".join([*lines, escaped(summary(found, Style()))]) + "\n"

    def failure(self, error: TidoctorError, source: str | None) -> str:
        """A section that says why there is nothing to say."""
        return f"### {code(source or 'tidoctor')}: not examined\n\n{escaped(str(error))}\n"


def verdict(found: Diagnosis) -> str:
    """`1 error, 2 notes`, `healthy` or `not examined`."""
    said = word(found)
    if said == "unexamined":
        return "not examined"
    counts = [(s, found.count(s)) for s in reversed(Severity)]
    told = [units.plural(n, str(s)) for s, n in counts if n]
    return ", ".join((["healthy"] if said == "healthy" else []) + told)


def escaped(text: str) -> str:
    """Foreign text in a line or table cell."""
    safe = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Underscores within words mean nothing to GitHub; names of tensors stay readable.
    safe = re.sub(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])", "_", _SPECIAL.sub(r"\\\1", safe))
    safe = safe.replace("@", "&#64;").replace("://", ":&#47;/")
    return re.sub(r"(?i)(?<=www)\.", "&#46;", safe)


def code(text: str) -> str:
    """Foreign text as a code span: no longer a run of backticks stands in it than around it."""
    safe = printable(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", safe)), default=0)
    fence = "`" * (longest + 1)
    room = " " if safe.startswith("`") or safe.endswith("`") or not safe.strip() else ""
    return f"{fence}{room}{safe}{room}{fence}"


def _details(title: str, lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [
        f"<details><summary>{escaped(title)}</summary>", "", f"{fence}text", text, fence, "",
        "</details>", "",
    ]  # fmt: skip
