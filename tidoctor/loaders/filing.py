"""Whether a consumer finds the files, and which copy of a tensor it takes."""

from __future__ import annotations

from tidoctor.finding import Verdict
from tidoctor.loaders.case import FAILS, MISREADS, Case
from tidoctor.names import printable, some

_FORMATS = ("pt", "tf", "flax", "mlx")


def files_found(case: Case) -> Verdict | None:
    """No file under a name that the consumer looks for, or one that is not there."""
    patient, seen = case.patient, case.seen
    if patient.incomplete:
        return case.unknown(patient.incomplete)
    if seen.absent:
        file = printable(seen.absent[0])
        return case.said(
            FAILS, f"the index names {file}, which is not there", "absent", cause="files",
            quoting={"file": seen.absent[0]},
        )  # fmt: skip
    lost = set((patient.index or {}).values()) - set(patient.files)
    if case.record.select in ("caller", "glob-index") and lost:
        return case.unknown(f"the index names {printable(min(lost))}, which is not there")
    if not seen.files:
        return case.said(
            FAILS, "no weight file has a name that it looks for", "files", cause="files"
        )
    return None


def metadata_taken(case: Case) -> Verdict | None:
    """A file whose metadata does not say that a framework has written it."""
    wanted, formats = case.record.metadata, case.patient.formats
    if wanted == "unused":
        return None
    for file in case.seen.files:
        if file not in formats:
            if wanted == "needed":
                return case.said(
                    FAILS, f"{printable(file)} has no __metadata__, and it wants one", "metadata",
                    cause="files", quoting={"file": file, "format": "None"},
                )  # fmt: skip
            continue
        if formats[file] not in _FORMATS:
            return case.said(
                FAILS, f"the metadata of {printable(file)} names no format that it takes",
                cause="files",
            )  # fmt: skip
    return None


def copies_taken(case: Case) -> Verdict | None:
    """A name in two files, for those who stop at it."""
    if case.record.duplicates != "error" or not case.seen.twice:
        return None
    name, (first, second, *_) = next(iter(case.seen.twice.items()))
    return case.said(
        FAILS, f"{printable(name)} stands in {printable(first)} and in {printable(second)}",
        "duplicate", (name,), "files",
        quoting={"name": name, "first": first, "second": second},
    )  # fmt: skip


def index_agrees(case: Case) -> Verdict | None:
    """An index whose names are not those in the files, for those who compare them."""
    patient, kind = case.patient, case.record.index
    if kind not in ("map", "must-match") or patient.index is None:
        return None
    stored = {name for _, name in case.seen.copies.values()}
    lacking = sorted(set(patient.index) - stored)
    extra = sorted(stored - set(patient.index)) if kind == "must-match" else []
    if not lacking and not extra:
        return None
    odd = [*lacking, *extra]
    return case.said(
        FAILS, f"the index and the files differ in {some(odd, 2)}",
        "index" if extra else "index_lacking", odd, "files",
        quoting={
            "name": odd[0],
            "lacking": lacking[:9],
            "extra": extra[:9],
            "files": sorted({patient.index[n] for n in lacking})[:9],
        },
    )  # fmt: skip


def copies_right(case: Case) -> Verdict | None:
    """A tensor that is read from another file than the one whose copy counts."""
    patient, seen = case.patient, case.seen
    unsure = case.record.duplicates == "any"
    for name, copy in seen.copies.items():
        if name in case.head_names and case.use != "own":
            continue
        home = patient.home.get(copy[1])
        if home is None:
            continue
        others = [f for f in seen.twice.get(name, ()) if f != home] if unsure else [copy[0]]
        for file in others:
            if file == home:
                continue
            same, why = case.exam.equal((file, copy[1]), (home, copy[1]))
            if same:
                continue
            where = f"{printable(copy[1])} stands in {printable(file)} and in {printable(home)}"
            if same is None:
                return case.unknown(f"{where}: {why}")
            if unsure and home in seen.twice[name]:
                return case.unknown(
                    f"{where}, the two differ, and it reads files in the order in which the system "
                    "lists them: remove the copy that is out of date"
                )
            return case.said(
                MISREADS, f"{where}, the two differ, and it takes the first", None, (copy[1],),
                "files", likely=patient.index is None or copy[1] not in patient.index,
            )  # fmt: skip
    return None
