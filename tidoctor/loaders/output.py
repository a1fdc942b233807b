"""What a consumer takes for the head, held against what it should be."""

from __future__ import annotations

from tidoctor.finding import Verdict
from tidoctor.loaders.case import MISREADS, Case
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.messages import quoted
from tidoctor.loaders.naming import asks_for, surplus
from tidoctor.loaders.patient import Answer
from tidoctor.names import printable


def head_right(case: Case) -> Verdict | None:
    """Another head than the checkpoint's, or none."""
    record, patient = case.record, case.patient
    if record.head not in POLICIES or not (patient.head or record.head_names != ("{head}",)):
        return None
    if patient.head_parts:
        part = printable(patient.head_parts[0])
        return case.unknown(f"the head is stored in parts ({part})")
    if case.bare:
        return _embedding_as_head(case, "none") if patient.served else None
    use = case.use
    if use is None:
        return case.unknown(case.tied[1])
    if use == "surplus":
        return surplus(case, [case.held or case.head_names[0]])
    if use == "lacks":
        return _no_head(case)
    parts = [n for n in record.head_parts if n not in case.here]
    if parts:
        return asks_for(case, parts, "missing", "head")
    return None if use == "own" else _embedding_as_head(case, use)


def _no_head(case: Case) -> Verdict:
    kind = case.record.missing
    name = case.head_names[0] if case.head_names else ""
    if kind in ("error", "fused", "weights"):
        return asks_for(case, [name], "missing_head", "head")
    how = "random numbers" if kind == "random" else "whatever is in memory"
    told = " and only a log line says so" if kind == "random" else " without a word"
    file = "the one in the file is skipped" if case.present else f"there is no {printable(name)}"
    return case.said(
        MISREADS, f"{file}: its head holds {how},{told}",
        "missing_head" if kind == "random" else None, (name,), "head",
        quoting=quoted([name], name),
    )  # fmt: skip


def _embedding_as_head(case: Case, use: str) -> Verdict | None:
    patient = case.patient
    stored = patient.stored_head or case.held
    if stored is None:
        if patient.tied is True:
            return None
        if patient.tied is None:
            return case.unknown("whether the head is tied is not known")
        lost = printable(patient.head or "the head")
        done = (
            "what it writes lacks it too" if use == "none" else "the embedding is used as head"
        )
        return case.said(
            MISREADS, f"{lost} is lost, and {done}, without a word", tensors=(lost,), cause="head"
        )
    if use == "none":
        return case.said(
            MISREADS, f"{printable(stored)} is not in what it writes", tensors=(stored,),
            cause="head",
        )  # fmt: skip
    same, why = _same(case)
    if same is True:
        return None
    if same is None:
        return case.unknown(f"whether head and embedding are equal is not known: {why}")
    gone = "is passed over" if case.present else "is not looked for"
    return case.said(
        MISREADS,
        f"the embedding is used as head; {printable(stored)}, which differs, {gone} without a word",
        tensors=(stored,), cause="head", likely=patient.tied is not False,
    )  # fmt: skip


def _same(case: Case) -> Answer:
    """Whether the head that is not used equals the embedding that is used in its place."""
    patient, seen = case.patient, case.seen
    homes = case.embedding_names(case.prefix)
    embedding = next((name for name in homes if name in case.here), None)
    if embedding is not None and embedding == case.held:
        return True, ""  # one matrix serves as both
    if patient.stored_head is not None:
        return patient.same()
    if embedding is None or case.held is None:
        return None, "the embedding was not found"
    return case.exam.equal(seen.copies[case.held], seen.copies[embedding])


def embedding_right(case: Case) -> Verdict | None:
    """The embedding lost, where head and embedding are built as one."""
    patient = case.patient
    if case.record.names != "transformers-5":
        return None  # the others look for it by its name
    if patient.embedding is None or patient.stored_embedding is not None:
        return None
    if patient.stored_head is None or patient.tied is True:
        return None
    if patient.tied is None:
        return case.unknown("whether the head is tied is not known")
    return case.said(
        MISREADS,
        f"{printable(patient.embedding)} is lost, and the head is used in its place without a word",
        tensors=(patient.embedding,), cause="names",
    )  # fmt: skip
