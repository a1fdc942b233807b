"""Whether a consumer takes the class and the config: the first things that it looks at."""

from __future__ import annotations

from tidoctor.finding import Verdict
from tidoctor.loaders.case import FAILS, MISREADS, Case
from tidoctor.loaders.messages import listed
from tidoctor.loaders.policy import Key
from tidoctor.names import printable, some


def class_taken(case: Case) -> Verdict | None:
    """A class that the consumer does not take at all, or of which nothing is known."""
    if case.record.head == "unknown":
        return case.unknown(case.record.note)
    if case.record.head == "refused":
        return _class_error(case, case.record.note)
    return None


def _class_error(case: Case, why: str) -> Verdict:
    name = case.patient.declared or case.patient.class_name or ""
    quoting = {"class": name, "model_type": case.patient.model_type or ""}
    return case.said(FAILS, why, "class", cause="class", quoting=quoting)


def class_named(case: Case) -> Verdict | None:
    """The name of another class than the one that the record speaks of."""
    patient, record, known = case.patient, case.record, case.classes
    if record.class_from != "architectures" or patient.declared == patient.class_name:
        return None
    declared = printable(patient.declared or "no class")
    why = f"config.json names {declared}, which it does not serve as {patient.class_name}"
    strange = known is not None and patient.declared not in (None, *known.names)
    if strange and not (patient.is_base and record.base_class == "bare"):
        return _class_error(case, why)
    if patient.is_base and record.base_class in ("ignored", "bare"):
        return None
    if patient.is_base and record.base_class == "refused":
        return _class_error(case, why)
    return case.unknown(f"it goes by architectures, which names {declared}")


def flag_taken(case: Case) -> Verdict | None:
    """A tie flag of the value that the consumer refuses."""
    wanted = case.record.needs_flag
    null = case.patient.settings.get("tie_word_embeddings", 0) is None
    if null and case.record.tie_key is None:
        return case.unknown(case.tied[1])
    if wanted is None:
        return None
    tied, why = case.tied
    if tied is None:
        return case.unknown(why)
    if tied is wanted:
        return None
    said = "tied" if tied else "untied"
    return case.said(FAILS, f"it refuses a config whose head is {said}", "flag", cause="flag")


def flag_right(case: Case) -> Verdict | None:
    """A tie flag that means more to the class than the consumer makes of it."""
    wrong = case.record.wrong_flag
    if wrong is None or case.patient.tied is not wrong.value:
        return None
    return case.said(MISREADS, wrong.why, cause="flag")


def config_taken(case: Case) -> Verdict | None:
    """Keys of config.json without which the consumer stops."""
    patient, record = case.patient, case.record
    required = [k for k in record.config if k.instead is None]
    if record.tie_absent == "error" and record.tie_key:
        required.append(Key(record.tie_key))
    if not required:
        return None
    if not patient.settings:
        return case.unknown("config.json could not be read")
    end = dict(zip(("line", "column"), patient.end or ("?", "?"), strict=True))
    null = [k for k in required if k.type and patient.settings.get(k.name, 0) is None]
    if null:  # whoever types its keys meets a wrong value before it can miss another
        return case.said(
            FAILS, f"{null[0].name} is null in config.json, and it wants a value", "null",
            cause="config", quoting={"key": null[0].name, "type": null[0].type, **end},
        )  # fmt: skip
    lacking = [k.name for k in required if k.name not in patient.settings and not k.optional]
    if not lacking:
        return None
    plural = f"{len(lacking)} required positional argument{'s' * (len(lacking) > 1)}"
    return case.said(
        FAILS, f"config.json lacks {some(lacking, 3)}, which it needs at the top level",
        "config", cause="config",
        quoting={
            "key": lacking[0], "keys": listed([f"'{k}'" for k in lacking]), "plural": plural, **end,
        },
    )  # fmt: skip
