"""One JSON object per line and source; the shapes are in `schemas/`.

Only ASCII is written, so that any stream can carry any name; keys are always present, null for
what is not known; the order is fixed, and nothing depends on clock, host or terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tidoctor import __version__
from tidoctor.errors import TidoctorError
from tidoctor.finding import Cure, Diagnosis, Finding, Outcome, Severity, Verdict
from tidoctor.names import natural_key
from tidoctor.report.plain import dumped
from tidoctor.report.verdict import word

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.atlas.expectation import Expectation
    from tidoctor.atlas.identity import Identity
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.expecting import Answer
    from tidoctor.loaders import Consumer, Origin
    from tidoctor.opinion import Misfit, Opinion
    from tidoctor.repairs import Shipment, Treatment
    from tidoctor.rules import Rule, Symptom
    from tidoctor.rules.statistics import Statistics
    from tidoctor.tensors import Tensor
    from tidoctor.writer import Receipt

Json = dict[str, object]


class Objects:
    """Each method returns one line."""

    between = ""
    errors_in_report = True

    def opening(self) -> str:
        """Nothing comes before the first line."""
        return ""

    def ending(self, codes: Sequence[int] = ()) -> str:
        """Nothing comes after the last line."""
        return ""

    def inspection(
        self,
        checkpoint: Checkpoint,
        wanted: Callable[[str], bool],
        *,
        every: bool,
        like: Identity | None = None,
        values: Mapping[str, Statistics | None] | None = None,
    ) -> str:
        """`tidoctor.inspection/1`: every tensor whose name is wanted; there are no patterns."""
        from tidoctor import rules

        head = rules.absent_head(checkpoint)
        tensors = [t for t in checkpoint.tensors.values() if wanted(t.name)]
        defects = [
            {
                "file": w.name,
                "kind": d.kind,
                "tensor": d.entry,
                "text": d.text,
                "refused": d.refused,
            }
            for w in (*checkpoint.weights, *checkpoint.extras)
            for d in w.header.defects
        ]
        return _line("inspection", {
            "source": _source(checkpoint),
            "bytes_read": checkpoint.source.bytes_read,
            "tensors": [
                _tensor(t, (values or {}).get(t.name))
                for t in sorted(tensors, key=lambda t: natural_key(t.name))
            ],
            "shadows": [_tensor(t) for t in checkpoint.shadows],
            "absent_head": (
                {"name": head[0], "tied_to": head[1]} if head and wanted(head[0]) else None
            ),
            "unread_files": [w.name for w in checkpoint.extras],
            "defects": defects,
            "identity": _identity(like) if like else None,
        })  # fmt: skip

    def expectation(self, answer: Answer, *, every: bool) -> str:
        """`tidoctor.expectation/1`: every tensor, always."""
        found = answer.expectation
        return _line("expectation", {
            "source": {"name": answer.source, "model_type": answer.model_type},
            "class": answer.class_name,
            "library": {"name": "transformers", "version": found.version} if found else None,
            "coverage": _coverage(answer),
            "reason": answer.reason or None,
            "quantisation": found.quantisation if found else None,
            "verified": found.verified if found else None,
            "tensors": _expected(found) if found else [],
            "unsaved": found.unsaved if found else [],
            "missing_ok": found.missing_ok if found else [],
            "unexpected_ok": found.unexpected_ok if found else [],
        })  # fmt: skip

    def diagnosis(
        self, checkpoint: Checkpoint, found: Diagnosis, opinion: Opinion | None = None
    ) -> str:
        """`tidoctor.diagnosis/1`; `installed` is null when no second opinion was asked for."""
        summary = {**_summary(found), "bytes_read": checkpoint.source.bytes_read}
        body = _diagnosis(found) | {"summary": summary}
        body["installed"] = _installed(opinion) if opinion else None
        return _line("diagnosis", {"source": _source(checkpoint), **body})

    def treatment(
        self, done: Treatment, cost: Cost | None, *, dry_run: bool, exit_code: int
    ) -> str:
        """`tidoctor.plan/1`, before and after writing."""
        return _line("plan", {
            "verb": done.verb,
            "source": _source(done.before),
            "dest": str(done.dest),
            "dry_run": dry_run,
            "diagnosis": _diagnosis(done.diagnosis),
            "operations": list(done.plan.operations),
            "declined": [{"code": d.finding.code, "reason": d.reason} for d in done.declined],
            "unmet": [
                {
                    "loader": u.verdict.loader,
                    "version": u.verdict.version,
                    "needs": u.needs or None,
                    "newer": u.newer or None,
                    "against": [{"loader": who, "needs": words} for who, words in u.against],
                }
                for u in done.unmet
            ],
            "cost": _cost(cost),
            "cautions": done.cautions,
            "predicted": _diagnosis(done.predicted),
            "written": _receipt(done.receipt) if done.receipt else None,
            "result": _diagnosis(done.result) if done.result else None,
            "reason": done.reason,
            "push": _shipment(done.shipment) if done.shipment else None,
            "exit_code": exit_code,
        })  # fmt: skip

    def rules(self, listed: Sequence[Rule], query: str | None = None) -> str:
        """`tidoctor.rules/1`: all rules, or the one that was asked for."""
        return _line("rules", {
            "query": query, "rules": _rules(listed), "symptoms": [], "origins": [],
        })  # fmt: skip

    def loaders(self, known: Sequence[Consumer], query: str | None = None) -> str:
        """`tidoctor.loaders/1`: all loaders, or the one that was asked for."""
        return _line("loaders", {"query": query, "loaders": [_loader(c) for c in known]})

    def symptoms(
        self, message: str, likely: Sequence[Symptom], origins: Sequence[Origin] = ()
    ) -> str:
        """`tidoctor.rules/1`: what an error message points to, and the loaders that print it."""
        from tidoctor import rules

        known = {rule.code: rule for rule in rules.RULES}
        codes = dict.fromkeys(code for symptom in likely for code in symptom.codes)
        codes |= dict.fromkeys(code for o in origins for code in rules.meaning(o).codes)
        told = [
            {"pattern": s.pattern, "codes": list(s.codes), "advice": s.advice} for s in likely
        ]
        named = [known[code] for code in codes if code in known]
        return _line("rules", {
            "query": message, "rules": _rules(named), "symptoms": told,
            "origins": [_message_of(o) for o in origins],
        })  # fmt: skip

    def error(
        self, error: TidoctorError, source: str | None, exit_code: int, *, hint: bool = True
    ) -> str:
        """`tidoctor.error/1`."""
        return _line("error", {
            "source": {"name": source} if source is not None else None,
            "where": error.where,
            "what": error.what,
            "hint": error.hint,
            "exit_code": int(exit_code),
        })  # fmt: skip

    complaint = error


def _line(kind: str, body: Mapping[str, object]) -> str:
    head = {"schema": f"tidoctor.{kind}/1", "tool": {"name": "tidoctor", "version": __version__}}
    return dumped(head | dict(body)) + "\n"


def _source(checkpoint: Checkpoint) -> Json:
    settings = checkpoint.settings
    found = settings.get("architectures")
    classes = found if isinstance(found, list) else []
    kind = settings.get("model_type")
    return {
        "kind": checkpoint.source.kind,
        "name": checkpoint.source.name,
        "revision": checkpoint.source.revision,
        "files": len(checkpoint.weights),
        "tensors": len(checkpoint.tensors),
        # What hostile shapes multiply to is no number that a reader of JSON could use.
        "parameters": count if (count := checkpoint.parameters).bit_length() <= 64 else None,
        "bytes": checkpoint.nbytes,
        "architectures": [c for c in classes if isinstance(c, str)],
        "model_type": kind if isinstance(kind, str) else None,
    }


def _tensor(tensor: Tensor, values: Statistics | None = None) -> Json:
    return {
        "name": tensor.name,
        "file": tensor.file,
        "dtype": tensor.dtype,
        "shape": tensor.shape,
        "begin": tensor.span.begin,
        "end": tensor.span.end,
        "values": _values(values),
    }


def _values(held: Statistics | None) -> Json | None:
    if held is None:
        return None
    return {
        "count": held.count,
        "not_finite": held.odd,
        "zeros": held.zeros,
        "min": held.least,
        "max": held.most,
        "mean": held.mean,
        "deviation": held.deviation,
    }


def _identity(like: Identity) -> Json:
    return {
        "message": like.told(),
        "exact": [
            {
                "class": each.class_name,
                "model_type": each.model_type,
                "unused": each.unused,
            }
            for each in like.exact
        ],
        "similar": [
            {"class": each.class_name, "model_type": each.model_type}
            for each in like.candidates
            if not each.exact
        ],
        "fields": like.fields,
        "undetermined": like.undetermined,
        "proposal": like.proposal() or None,
        "reason": like.reason or None,
    }


def _coverage(answer: Answer) -> str:
    if answer.expectation is None:
        return "none"
    return "unquantised" if answer.expectation.quantisation else "full"


def _expected(found: Expectation) -> list[Json]:
    disk, ties = found.disk, found.disk_ties
    return [
        {
            "name": name,
            "shape": disk[ties.get(name, name)],
            "tied_to": ties.get(name),
            "required": name not in ties and found.required(name),
        }
        for name in sorted([*disk, *ties], key=natural_key)
    ]


def _diagnosis(found: Diagnosis) -> Json:
    return {
        "summary": _summary(found),
        "findings": [_finding(f) for f in found.findings],
        "waived": [
            {"finding": _finding(w.finding), "reason": w.reason, "by": w.by} for w in found.waived
        ],
        "loaders": [_verdict(v) for v in found.loaders],
        "not_run": [{"code": one.code, "reason": one.reason} for one in found.not_run],
    }


def _verdict(one: Verdict) -> Json:
    known = one.outcome is not Outcome.UNKNOWN
    return {
        "loader": one.loader,
        "version": one.version,
        "verdict": str(one.outcome),
        "message": one.message or None,
        "source": one.source or None,
        "why": one.why or None,
        "certainty": str(one.certainty) if known else None,
    }


def _loader(one: Consumer) -> Json:
    return {
        "name": one.name,
        "title": one.title,
        "aliases": one.aliases,
        "serves": one.serves,
        "axis": one.axis,
        "versions": one.timeline.known,
        "newest": one.timeline.newest,
        "records": [
            {
                "versions": r.versions.text,
                "model_types": r.model_types,
                "tasks": r.tasks,
                "head": r.head,
                "since": r.since or None,
                "note": r.note or None,
                "source": {
                    "repository": r.cite.repo,
                    "file": r.cite.file,
                    "ref": r.cite.ref,
                    "how": r.cite.how,
                },
            }
            for r in one.records
        ],
    }


def _message_of(origin: Origin) -> Json:
    from tidoctor import rules

    words, codes = rules.meaning(origin)
    return {
        "loader": origin.consumer,
        "versions": origin.versions,
        "kind": origin.kind,
        "template": origin.template,
        "quoted": origin.quoted,
        "meaning": words,
        "codes": codes,
        "cases": [
            {"model_types": types, "versions": versions, "head": how}
            for types, versions, how in origin.cases
        ],
    }


def _installed(opinion: Opinion) -> Json:
    """Names as the library tells them: those of `files` are names in memory."""
    atlas, files = opinion.atlas, opinion.files
    told = not opinion.reason
    return {
        "class": opinion.class_name,
        "library": (
            {"name": "transformers", "version": opinion.version} if opinion.version else None
        ),
        "reason": opinion.reason or None,
        "tensors": len(opinion.tensors) if told else None,
        "atlas": {
            "version": atlas.version,
            "reason": atlas.reason or None,
            "agrees": atlas.agrees,
            "form": atlas.form,
            "compared": atlas.compared,
            "installed_only": atlas.installed_only,
            "atlas_only": atlas.atlas_only,
            "shapes": [_misfit(m, "atlas", "installed") for m in atlas.shapes],
            "ties": atlas.ties,
        } if told else None,
        "files": {
            "reason": files.reason or None,
            "complete": files.complete,
            "compared": files.compared,
            "missing": files.missing,
            "unexpected": files.unexpected,
            "mismatched": [_misfit(m, "found", "wanted") for m in files.mismatched],
            "failed": [{"name": name, "reason": why} for name, why in files.failed],
        } if told else None,
    }  # fmt: skip


def _misfit(one: Misfit, found: str, wanted: str) -> Json:
    return {"name": one.name, found: one.found, wanted: one.wanted}


def _summary(found: Diagnosis) -> Json:
    return {
        "verdict": word(found),
        "error": found.count(Severity.ERROR),
        "warning": found.count(Severity.WARNING),
        "note": found.count(Severity.NOTE),
        "waived": len(found.waived),
        "rules": {
            "ran": len(found.ran),
            "not_applicable": len(found.not_applicable),
            "not_run": len(found.not_run),
        },
    }


def _finding(one: Finding) -> Json:
    place = one.location
    return {
        "code": one.code,
        "name": one.name,
        "severity": str(one.severity),
        "certainty": str(one.certainty),
        "message": one.message,
        "location": {"file": place.file, "line": place.line} if place else None,
        "tensors": one.tensors,
        "evidence": [{"where": e.where, "fact": e.fact, "value": e.value} for e in one.evidence],
        "includes": one.includes,
        "cure": _cure(one.cure) if one.cure else None,
        "caution": one.caution or None,
        "not": one.not_ or None,
        "fingerprint": one.fingerprint,
    }


def _cure(cure: Cure) -> Json:
    return {
        "kind": str(cure.kind),
        "summary": cure.summary,
        "needs": cure.needs,
        "operations": cure.operations,
        "command": cure.command,
    }


def _shipment(shipment: Shipment) -> Json:
    return {
        "repo": shipment.repo,
        "parent": shipment.parent,
        "pull_request": shipment.pull_request,
        "add": [{"file": name, "bytes": size} for name, size in shipment.add],
        "delete": shipment.delete,
        "url": shipment.url or None,
    }


def _cost(cost: Cost | None) -> Json:
    return {
        "linked": cost.linked if cost else 0,
        "cloned": cost.cloned if cost else 0,
        "copied": cost.copied if cost else 0,
        "written": cost.written if cost else 0,
        "total": cost.total if cost else 0,
    }


def _receipt(receipt: Receipt) -> Json:
    return {
        "files": list(receipt.files),
        "bytes": receipt.cost.total,
        "shared": receipt.cost.linked + receipt.cost.cloned,
        "cost": _cost(receipt.cost),
        "verified": receipt.verified,
        "made": receipt.made,
        "left_out": list(receipt.left_out),
        "overflows": [
            {"tensor": name, "numbers": count} for name, count in receipt.overflows.items()
        ],
        "steps": list(receipt.steps),
        "fetched": [one._asdict() for one in receipt.fetched],
    }


def _rules(listed: Iterable[Rule]) -> list[Json]:
    return [
        {"code": r.code, "name": r.name, "title": r.title, "page": r.page, "deep": r.needs_deep}
        for r in listed
    ]
