"""SARIF 2.1.0, a run for each source, with all that GitHub asks for.

Sources: the OASIS standard (docs.oasis-open.org/sarif/sarif/v2.1.0) and "SARIF support for code
scanning" in GitHub's documentation, which wants a region with four numbers, texts of at most 1024
characters, a fingerprint for each result and a category of its own for each run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidoctor import __version__, rules
from tidoctor.finding import Certainty, Finding, Waived
from tidoctor.names import printable
from tidoctor.report.case import Case, Cases
from tidoctor.report.place import Place, path, place, uri
from tidoctor.report.plain import dumped
from tidoctor.report.verdict import examined

if TYPE_CHECKING:
    from tidoctor.errors import TidoctorError

Json = dict[str, object]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LONGEST = 1024  # characters of a description that GitHub takes


class Sarif(Cases):
    """One document; a source is one element of its `runs`."""

    between = ",\n"

    def opening(self) -> str:
        """The start of the document."""
        return f'{{"$schema": "{SCHEMA}", "version": "2.1.0", "runs": [\n'

    def ending(self, codes: Sequence[int] = ()) -> str:
        """Its end."""
        return "\n]}\n"

    def case(self, one: Case) -> str:
        """A run: a result for each finding, also for those that were waived."""
        seen: Counter[str] = Counter()
        told = [*one.found.findings, *(w.finding for w in one.found.waived)]
        # All rules in a file about one source; in one about a thousand, those that are needed.
        codes = {f.code for f in told} if self.several else _RULES.keys()
        listed = [code for code in _RULES if code in codes]
        results = [_result(one, f, listed, seen) for f in one.found.findings]
        results += [_result(one, w.finding, listed, seen, w) for w in one.found.waived]
        notices = [_notice(str(severity), text) for severity, text in one.remarks]
        notices += [
            _notice("warning", f"{skipped.code} did not run: {skipped.reason}")
            for skipped in one.found.not_run
            if "--deep" not in skipped.reason
        ]
        name = path(one.checkpoint, one.name)
        return _run(name, listed, results, notices, successful=examined(one.found))

    def failure(self, error: TidoctorError, source: str | None) -> str:
        """A run that did not succeed, without results."""
        return _run(source or "", [], [], [_notice("error", str(error))], successful=False)


def _run(
    name: str, listed: list[str], results: list[Json], notices: list[Json], *, successful: bool
) -> str:
    # GitHub takes what stands before the last slash as the category of the run.
    category = f"tidoctor/{printable(name).strip('/')}/"
    return dumped({
        "tool": {
            "driver": {
                "name": "tidoctor",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_RULES[code] for code in listed],
            }
        },
        "automationDetails": {"id": category},
        "invocations": [
            {"executionSuccessful": successful, "toolExecutionNotifications": notices}
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    })  # fmt: skip


def _rule(rule: rules.Rule) -> Json:
    paragraphs = rule.page.split("\n\n")
    summary = " ".join("\n\n".join(paragraphs[:2]).split())
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.title[:_LONGEST]},
        "fullDescription": {"text": summary[:_LONGEST]},
        "help": {
            "text": f"{rule.page}\n\nMore: tidoctor explain {rule.code}",
            "markdown": f"{rule.page}\n\nMore: `tidoctor explain {rule.code}`",
        },
        "properties": {"tags": ["checkpoint"], "precision": "very-high"},
    }


_RULES = {rule.code: _rule(rule) for rule in rules.RULES}


def _result(
    one: Case, f: Finding, listed: list[str], seen: Counter[str], waived: Waived | None = None
) -> Json:
    at = place(one.checkpoint, f)
    seen[f.fingerprint] += 1
    made: Json = {
        "ruleId": f.code,
        "ruleIndex": listed.index(f.code) if f.code in listed else -1,
        "level": str(f.severity),
        "message": {"text": _message(f)},
        "locations": [_location(one, at)],
        "partialFingerprints": {
            "primaryLocationLineHash": f"{f.fingerprint}:{seen[f.fingerprint]}"
        },
        "properties": {
            "certainty": str(f.certainty),
            "tensors": [printable(name) for name in f.tensors],
            "includes": f.includes,
        },
    }
    if at.speaks_of:
        uri_ = uri(path(one.checkpoint, one.name, at.speaks_of))
        made["relatedLocations"] = [
            {"id": 0, "physicalLocation": {"artifactLocation": {"uri": uri_}},
             "message": {"text": "the file that this is about"}}
        ]  # fmt: skip
    if waived:
        why = f"{waived.reason} ({waived.by})"
        made["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": printable(why)}
        ]
    return made


def _message(f: Finding) -> str:
    """Sentences: GitHub shows the first where there is little room."""
    likely = "Likely: " if f.certainty is Certainty.LIKELY else ""
    lines = [f"{likely}{printable(f.message)}."]
    lines += [f"{printable(e.where)}: {printable(e.fact)}" for e in f.evidence]
    if f.cure:
        lines.append(f"Cure ({f.cure.kind}): {printable(f.cure.summary)}")
        lines += [printable(f.cure.command)] if f.cure.command else []
    lines += [f"Caution: {printable(f.caution)}"] * bool(f.caution)
    lines += [f"Not: {printable(f.not_)}"] * bool(f.not_)
    return "\n".join([*lines, f"More: tidoctor explain {f.code}"])


def _location(one: Case, at: Place) -> Json:
    line = at.line or 1
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri(path(one.checkpoint, one.name, at.file))},
            "region": {
                "startLine": line, "startColumn": 1, "endLine": line, "endColumn": at.width + 1,
            },
        }
    }  # fmt: skip


def _notice(level: str, text: str) -> Json:
    return {"level": level, "message": {"text": printable(text)}}
