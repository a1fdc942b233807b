"""A finding and diagnoses made by hand, for the tests of the reports, and the shipped schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tidoctor.finding import (
    Certainty,
    Cure,
    CureKind,
    Diagnosis,
    Evidence,
    Finding,
    Location,
    NotRun,
    Severity,
    Waived,
)

SAVED_BASE = Finding(
    code="C04",
    name="base-class-saved",
    severity=Severity.ERROR,
    message="saved from LlamaModel, the class without a head; lm_head.weight is lost",
    location=Location("config.json", 2),
    tensors=("lm_head.weight",),
    evidence=(
        Evidence("config.json:2", 'architectures is ["LlamaModel"]', ["LlamaModel"]),
        Evidence("names", "290 of 290 tensors lack the prefix `model.`", {"lacking": 290}),
    ),
    includes=("N04", "H02"),
    cure=Cure(
        CureKind.CONSENT,
        "rename 290 tensors",
        ({"op": "rename", "from": "a", "to": "model.a"},),
        ("donor",),
        "tidoctor repair ./x ./healed --donor y",
    ),
    caution="if the head was trained, only the training run still has it",
    not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong",
)
LIKELY = Finding("S10", "wrong-total-size", Severity.WARNING, "a sum", Certainty.LIKELY)
NOTE = Finding("H01", "head-tied", Severity.NOTE, "the head is the embedding")

ILL = Diagnosis(
    findings=(SAVED_BASE, LIKELY, NOTE),
    ran=("C04", "S10", "H01"),
    not_applicable=(NotRun("S01", "there is no index"),),
    not_run=(NotRun("D01", "needs --deep"), NotRun("H02", "cut"), NotRun("H04", "cut")),
)
HEALTHY = Diagnosis((NOTE,), ("C04", "H01"), (), (NotRun("D01", "needs --deep"),))
WAIVED = replace(
    ILL, findings=(NOTE,),
    waived=(Waived(SAVED_BASE, "the trainer keeps the head", "pyproject.toml"),),
)  # fmt: skip
UNEXAMINED = Diagnosis((), (), (), (NotRun("D01", "needs --deep"),))


def _schemas() -> dict[str, dict[str, Any]]:
    folder = files("tidoctor.report") / "schemas"
    loaded = [json.loads(f.read_text()) for f in folder.iterdir() if f.name.endswith(".json")]
    return {schema["title"]: schema for schema in loaded}


SCHEMAS = _schemas()


def closed(schema: Any) -> Any:
    """The schema with unknown keys forbidden: what ships allows them, for later versions."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("required"), list) and schema["required"] != ["op"]:
        made["additionalProperties"] = False
    return made


_REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(closed(schema))) for schema in SCHEMAS.values()
)


def validated(line: str) -> dict[str, Any]:
    """The object of one line of output, checked against the schema that it names."""
    assert line.isascii() and line.count("\n") <= 1

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no strict JSON")

    value: dict[str, Any] = json.loads(line, parse_constant=refuse)
    schema = closed(SCHEMAS[value["schema"]])
    Draft202012Validator(schema, registry=_REGISTRY).validate(value)
    return value
