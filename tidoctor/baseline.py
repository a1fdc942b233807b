"""Findings that are known: a file of fingerprints, so that only new findings fail.

The file is JSON, `tidoctor.baseline/1`, made to be committed and read in a review: the sources by
their path from the folder of the file, and for each finding its fingerprint with words beside it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tidoctor.errors import Unreadable
from tidoctor.finding import Diagnosis, Finding, Severity, Waived

SCHEMA = "tidoctor.baseline/1"
CAP = 64_000_000  # bytes
_SEVERITIES = {str(s): s for s in Severity}

Entry = Mapping[str, object]


class Baseline(NamedTuple):
    """The findings of a file by source; `path` is the file, which need not exist."""

    path: Path
    sources: Mapping[str, tuple[Entry, ...]]

    def apply(self, found: Diagnosis, source: str) -> Diagnosis:
        """The diagnosis of a source in which known findings no longer count.

        A finding that has become more severe is a new one; of equal fingerprints as many are
        known as the file has.
        """
        known: Counter[tuple[str, Severity]] = Counter()
        for entry in self.sources.get(key(self.path, source), ()):
            known[str(entry["fingerprint"]), _SEVERITIES[str(entry["severity"])]] += 1
        fresh: list[Finding] = []
        waived: list[Waived] = []
        for finding in found.findings:
            rank = _rank(known, finding)
            if rank is None:
                fresh.append(finding)
                continue
            known[finding.fingerprint, rank] -= 1
            waived.append(Waived(finding, "it is known", self.path.name))
        if not waived:
            return found
        return replace(found, findings=tuple(fresh), waived=(*found.waived, *waived))

    def text(self, examined: Mapping[str, Diagnosis]) -> str:
        """The file anew: sources that were examined as they are now, others as they stood."""
        sources = {name: list(rows) for name, rows in self.sources.items()}
        for source, found in examined.items():
            rows = [_entry(f) for f in found.findings]
            rows.sort(key=lambda r: (str(r["code"]), str(r["fingerprint"])))
            sources[key(self.path, source)] = rows
        document = {
            "schema": SCHEMA,
            "sources": {name: sources[name] for name in sorted(sources) if sources[name]},
        }
        return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _rank(known: Counter[tuple[str, Severity]], finding: Finding) -> Severity | None:
    """The severity under which a finding is known, at least its own; None for a new one."""
    ranks = [s for s in Severity if s >= finding.severity and known[finding.fingerprint, s] > 0]
    return min(ranks, default=None)


def _entry(finding: Finding) -> Entry:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": str(finding.severity),
        "fingerprint": finding.fingerprint,
        "message": finding.message,
    }


def key(path: Path, source: str) -> str:
    """What a source is called in a file: its path from the folder of the file, with slashes.

    So the answer does not depend on the folder that the command is run in. A source that is no
    path, such as a repository of the Hub, keeps its name.
    """
    if "://" in source or not os.path.lexists(source):
        return source
    return os.path.relpath(Path(source).absolute(), path.absolute().parent).replace(os.sep, "/")


def load(path: Path, *, must_exist: bool = True) -> Baseline:
    """Read a file. Raises Unreadable when it is no baseline, or absent though it must be there."""
    try:
        with path.open("rb") as stream:
            data = stream.read(CAP + 1)
    except FileNotFoundError as e:
        if not must_exist:
            return Baseline(path, {})
        raise Unreadable(str(path), "no such file", "write it with --write-baseline") from e
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        raise Unreadable(str(path), f"cannot be read ({why})") from e
    if len(data) > CAP:
        raise Unreadable(str(path), f"has more than {CAP} bytes")
    try:
        return Baseline(path, _sources(json.loads(data)))
    except (ValueError, RecursionError, KeyError, TypeError) as e:
        why = str(e) if isinstance(e, ValueError) else "of another shape"
        raise Unreadable(
            str(path), f"is no {SCHEMA} ({why[:200]})", "write it anew with --write-baseline"
        ) from e


def _sources(document: object) -> dict[str, tuple[Entry, ...]]:
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError("its schema is another")
    sources = document["sources"]
    if not isinstance(sources, dict):
        raise ValueError("sources is no object")
    return {name: tuple(_checked(name, rows)) for name, rows in sources.items()}


def _checked(name: str, rows: object) -> list[Entry]:
    if not isinstance(rows, list):
        raise ValueError(f"{name} has no list")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("fingerprint"), str):
            raise ValueError(f"an entry of {name} has no fingerprint")
        if row.get("severity") not in _SEVERITIES:
            raise ValueError(f"an entry of {name} has no severity")
    return rows
