"""JUnit XML: a suite for each source, a test case for each rule.

The shape is that of the XSD of the xunit plugin of Jenkins (junit-10.xsd), which GitLab, Azure and
others read too. A rule that did not run is a skipped test, never a passed one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from tidoctor import rules
from tidoctor.finding import Finding, Severity
from tidoctor.names import printable
from tidoctor.report.case import Case, Cases
from tidoctor.report.style import Style
from tidoctor.report.text.diagnosis import finding
from tidoctor.report.verdict import examined, reaches

if TYPE_CHECKING:
    from tidoctor.errors import TidoctorError

# Characters that no XML 1.0 document may hold, beside those that `printable` escapes.
_FORBIDDEN = re.compile("[\ufffe\uffff]")


class Junit(Cases):
    """One document; a source is one of its suites."""

    def opening(self) -> str:
        """The start of the document."""
        return '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="tidoctor">\n'

    def ending(self, codes: Sequence[int] = ()) -> str:
        """Its end."""
        return "</testsuites>\n"

    def case(self, one: Case) -> str:
        """A suite. A finding below --fail-on is told in a test that passes."""
        rows = [self._test(one, rule) for rule in rules.RULES]
        if not examined(one.found):
            rows.append(_test(one.name, "examined", [_outcome("error", "no rule ran", "")]))
        for severity, text in one.remarks:
            kind = "failure" if severity is Severity.ERROR else "system-out"
            rows.append(_test(one.name, text.partition(":")[0], [_outcome(kind, text, text)]))
        return _suite(one.name, rows)

    def failure(self, error: TidoctorError, source: str | None) -> str:
        """A suite with one test that ended in an error."""
        told = _outcome("error", str(error), str(error), type(error).__name__)
        return _suite(source or "tidoctor", [_test(source or "tidoctor", "examined", [told])])

    def _test(self, one: Case, rule: rules.Rule) -> str:
        found = [f for f in one.found.findings if f.code == rule.code]
        bad = [f for f in found if reaches(f.severity, self.fail_on)]
        inside: list[str] = []
        if bad:
            inside.append(_outcome("failure", _headline(bad), _whole(found), str(bad[0].severity)))
        elif found:
            inside.append(_outcome("system-out", "", _whole(found)))
        elif why := _skipped(one, rule.code):
            inside.append(_outcome("skipped", why, ""))
        return _test(one.name, f"{rule.code} {rule.name}", inside)


def _skipped(one: Case, code: str) -> str:
    """Why a rule has no result of its own; empty when it ran and found nothing."""
    waived = [w for w in one.found.waived if w.finding.code == code]
    if waived:
        return "; ".join(f"waived: {w.reason} ({w.by})" for w in waived)
    for root in one.found.findings:
        if code in root.includes:
            return f"explained by {root.code} {root.name}"
    for how, rows in (
        ("not applicable", one.found.not_applicable), ("not run", one.found.not_run)
    ):  # fmt: skip
        for row in rows:
            if row.code == code:
                return f"{how}: {row.reason}"
    return "" if code in one.found.ran else "not run"


def _headline(found: list[Finding]) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0].message}{more}"


def _whole(found: Iterable[Finding]) -> str:
    return "\n\n".join("\n".join(finding(f, Style())) for f in found)


def _test(source: str, name: str, inside: list[str]) -> str:
    opened = f"  <testcase classname={_quoted(source)} name={_quoted(name)}"
    return "\n".join([f"{opened}>", *inside, "  </testcase>"]) if inside else f"{opened}/>"


def _outcome(kind: str, message: str, body: str, type_: str = "") -> str:
    said = f" message={_quoted(message)}" if message and kind != "system-out" else ""
    said += f" type={_quoted(type_)}" if type_ else ""
    text = "\n".join(map(_text, body.split("\n")))
    return f"    <{kind}{said}>{text}</{kind}>" if text else f"    <{kind}{said}/>"


def _suite(name: str, rows: list[str]) -> str:
    body = "\n".join(rows)
    counts = {kind: sum(f"<{tag}" in r for r in rows) for kind, tag in
              (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))}  # fmt: skip
    told = " ".join(f'{kind}="{number}"' for kind, number in counts.items())
    return f'<testsuite name={_quoted(name)} tests="{len(rows)}" {told}>\n{body}\n</testsuite>\n'


def _text(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", printable(text)))


def _quoted(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub("\ufffd", printable(text)))
