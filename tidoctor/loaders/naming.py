"""Whether a consumer finds every tensor of the class, of its shape, and has a place for all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tidoctor.finding import Verdict
from tidoctor.loaders.case import FAILS, MISREADS, Case
from tidoctor.loaders.messages import quoted, shape_words
from tidoctor.loaders.patient import Shape
from tidoctor.names import printable, some

_EXPERT = re.compile(r"(?<=\.experts\.)(\d+)(?=\.)")
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def names_found(case: Case) -> Verdict | None:
    """Tensors that the consumer misses, or has no place for; the head is looked at later."""
    if case.record.names == "transformers-5":
        loading = case.patient.loading
        return _without_values_of_5(case, loading.missing) if loading and loading.missing else None
    if case.record.names == "transformers-4":
        return _names_of_4(case)
    return _exact_names(case)


def _names_of_4(case: Case) -> Verdict | None:
    patient, here = case.patient, case.here
    if patient.expected is None:
        return None
    missing = _missing(case, case.exam.wanted(patient.prefix))
    if not missing:
        return None
    if missing == [patient.embedding] and patient.stored_head and case.tied[0]:
        if "{head}" in case.record.embedding:
            return None  # the head in the file gives its values to the embedding
        return case.said(
            FAILS, "neither head nor embedding get values, and the first pass stops",
            tensors=missing, cause="names",
        )  # fmt: skip
    bound = any(text.startswith("^") for text in case.record.strip)
    bare = not any(n.startswith(patient.prefix.rstrip(".")) for n in here)
    if patient.prefix and bare and not bound:
        # nothing has the prefix: all is read as the body alone, which has no head
        if patient.head in here:
            return case.said(
                FAILS, "the body has no prefix and the head stands at the top", "corrupted",
                missing, "prefix",
            )  # fmt: skip
        missing = _missing(case, case.exam.wanted(""))
    return _without_values(case, missing) if missing else None


def _exact_names(case: Case) -> Verdict | None:
    record, patient, here = case.record, case.patient, case.here
    wanted = case.exam.wanted(case.prefix)
    homes = case.embedding_names(case.prefix)
    found = next((name for name in homes if name in here), None)
    if found is None and not homes:
        return case.unknown("what the embedding of this class is called is not known")
    if patient.expected is None:
        if found is None and not case.elsewhere(homes):
            return case.unknown(f"no embedding under a name that is known: {patient.why}")
        return None if found else _lacks(case, homes[:1], all_known=False)
    if found is None and "{embedding}" not in record.embedding:
        return _lacks(case, homes[:1])  # the record spells out what it seeks
    own = {*homes, *record.head_parts}
    if case.use != "surplus":
        own |= {n for n in case.head_names if not record.strip or here_as(case, n)}
    extra = [
        name
        for name in here
        if name not in wanted
        and name not in own
        and not any(p.search(name) for p in record.exempt)
    ]
    missing = [n for n in _missing(case, wanted) if n not in homes]
    if found is None:
        missing = [homes[0], *missing]
    strange = [n for n in missing if n not in homes]
    if strange and not all(case.elsewhere([n]) for n in strange) and _fed_otherwise(case):
        return case.unknown("the names are of another generation than the record speaks of")
    if extra and record.extra == "error":
        return surplus(case, sorted(extra) if record.strip else extra)
    return _lacks(case, missing) if missing else None


def here_as(case: Case, name: str) -> bool:
    """Whether a head is called so in the file itself, where the consumer passes over it there."""
    passed = case.use not in ("own", None)
    return not passed or case.seen.copies.get(name, ("", name))[1] == name


def _missing(case: Case, wanted: Mapping[str, Shape]) -> list[str]:
    optional = case.patient.optional
    return [n for n in wanted if n not in case.here and n not in optional]


def _fed_otherwise(case: Case) -> bool:
    loading = case.patient.loading
    return loading is not None and (loading.unclear or not loading.missing)


def _lacks(case: Case, missing: Sequence[str], *, all_known: bool = True) -> Verdict:
    kind = case.record.missing
    if kind in ("random", "uninitialised"):
        return _without_values(case, missing)
    if kind == "uninitialised-matrices":
        vectors = [n for n in missing if not _is_matrix(case, n)]
        if not vectors:
            return _without_values(case, missing)
        return asks_for(case, vectors, "missing_vector")
    if kind == "weights" and all(name.endswith(".bias") for name in missing):
        return case.said(
            MISREADS, f"{some(missing, 2)} {'are' if len(missing) > 1 else 'is'} left out",
            tensors=missing, cause="names",
        )  # fmt: skip
    if kind == "fused" and all(_has_sibling(n, case.here) for n in missing):
        return _without_values(case, missing)
    if not all_known and case.record.extra == "error":
        return asks_for(case, missing, None)  # what it says first is not known
    return asks_for(case, missing, "missing")


def _is_matrix(case: Case, name: str) -> bool:
    expected = case.patient.expected or {}
    shape = expected.get(name) or case.exam.wanted(case.prefix).get(name, (0, 0))
    return len(shape) > 1


def asks_for(
    case: Case, names: Sequence[str], kind: str | None, cause: str = "names"
) -> Verdict:
    """That it stops at a tensor that is not there."""
    order = case.record.asks_first
    asked = {*names, *(_wanted_head(case) if cause == "names" else ())}
    first = next((n for n in order if n in asked), names[0])
    if order and first not in order and len(names) > 1:
        kind = None  # which of them it names is not known
    if kind == "missing" and _is_matrix(case, first) and first not in case.embedding_names(
        case.prefix
    ):
        kind = "missing_matrix"
    more = f" ({len(names)} are missing)" if len(names) > 1 else ""
    return case.said(
        FAILS, f"it asks for {printable(first)} and finds none{more}", kind, names, cause,
        quoting=quoted(names, first),
    )  # fmt: skip


def _wanted_head(case: Case) -> list[str]:
    """The head, where the consumer asks for it too and finds neither it nor what stands for it."""
    lost = not any(n in case.here for n in case.embedding_names(case.prefix))
    wanted = case.use == "lacks" or (case.record.head == "presence" and lost)
    return case.head_names[:1] if wanted and not case.present else []


def _without_values(case: Case, missing: Sequence[str]) -> Verdict:
    told = case.record.missing == "random"
    how = "random numbers, and only a log line says so" if told else "whatever is in memory"
    return case.said(
        MISREADS, f"{some(missing, 2)} {'are' if len(missing) > 1 else 'is'} filled with {how}",
        "missing" if told else None, missing, "names", quoting=quoted(missing, missing[0]),
    )  # fmt: skip


def _without_values_of_5(case: Case, missing: Sequence[str]) -> Verdict:
    """Experts are joined to one tensor: without one of them it has another shape."""
    for name in missing:
        first, number, last = _EXPERT.split(name, 1) if _EXPERT.search(name) else (name, "", "")
        if number and any(n.startswith(first) and n.endswith(last) for n in case.here):
            return case.said(
                FAILS, f"{printable(name)} is missing among the experts that it joins", "shape",
                missing, "names", quoting={"name": name, "got": "", "expected": ""},
            )  # fmt: skip
    return _without_values(case, missing)


def surplus(case: Case, extra: Sequence[str]) -> Verdict:
    """That it stops at tensors for which it has no place."""
    first, prefix = extra[0], case.prefix
    inside = bool(prefix) and first.startswith(prefix)
    return case.said(
        FAILS, f"it has no place for {some(extra, 2)}", "extra_inside" if inside else "extra",
        extra, "names",
        quoting={
            **quoted(extra, first),
            "component": first.partition(".")[0],
            "inside": first.removeprefix(prefix),
        },
    )  # fmt: skip


def _has_sibling(name: str, here: Mapping[str, Shape]) -> bool:
    """Whether a projection that is fused with this one is in the file."""
    for group in _FUSED:
        for part in group:
            if f".{part}." in name:
                return any(name.replace(f".{part}.", f".{o}.") in here for o in group)
    return False


def shapes_right(case: Case) -> Verdict | None:
    """Tensors of another shape than the class has."""
    misfits = list(_misfits(case))
    if not misfits:
        return None
    name, got, expected = misfits[0]
    more = f" ({len(misfits)} differ)" if len(misfits) > 1 else ""
    shapes = f"{shape_words(got)}, and the class has {shape_words(expected)}"
    why = f"{printable(name)} is {shapes}{more}"
    if case.record.shapes == "unknown":
        return case.unknown(why)
    names = [n for n, _, _ in misfits]
    if case.record.shapes == "ignore":
        return case.said(MISREADS, f"{why}; it goes on with it", None, names, "shapes")
    return case.said(
        FAILS, why, "shape", names, "shapes",
        quoting={"name": name, "got": list(got), "expected": list(expected)},
    )  # fmt: skip


def _misfits(case: Case) -> Iterator[tuple[str, Shape, Shape]]:
    """(name, shape in the file, shape of the class) of what the consumer reads."""
    patient, here = case.patient, case.here
    if case.record.names != "exact" or patient.expected is None:
        yield from patient.loading.misfits if patient.loading else ()
        return
    wanted: dict[str, Shape] = dict(case.exam.wanted(case.prefix))
    if case.use == "own" and case.held and patient.embedding:
        head = patient.expected.get(patient.head or "", patient.expected.get(patient.embedding))
        if head:
            wanted[case.held] = head
    for name, shape in wanted.items():
        if name in here and here[name] != shape:
            yield name, here[name], shape
