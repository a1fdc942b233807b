"""JSON: every line keeps to the schema that it names, whatever the files say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import tidoctor
from tests import checkpoints
from tests.report_samples import HEALTHY, ILL, SAVED_BASE, SCHEMAS, UNEXAMINED, validated
from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable
from tidoctor.finding import Diagnosis, Evidence, Location
from tidoctor.report.json import Objects

JSON = Objects()


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    config = checkpoints.LLAMA | {"architectures": ["LlamaModel"]}
    table = checkpoints.llama(prefix="", head=False)
    return tidoctor.open(checkpoints.write(tmp_path, table, config, shards=3))


def test_the_schemas_are_sound_and_complete() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    assert sorted(SCHEMAS) == [
        f"tidoctor.{kind}/1"
        for kind in (
            "baseline", "diagnosis", "error", "expectation", "inspection", "loaders", "plan",
            "promise", "rules",
        )
    ]


@pytest.mark.parametrize(
    ("found", "verdict"), [(ILL, "error"), (HEALTHY, "healthy"), (UNEXAMINED, "unexamined")]
)
def test_a_diagnosis(base: Checkpoint, found: Diagnosis, verdict: str) -> None:
    told = validated(JSON.diagnosis(base, found))
    assert told["summary"]["verdict"] == verdict
    assert [f["code"] for f in told["findings"]] == [f.code for f in found.findings]
    assert told["source"] | {"name": ""} == {
        "kind": "folder", "name": "", "revision": None, "files": 3, "tensors": 20,
        "parameters": 5712, "bytes": 11424, "architectures": ["LlamaModel"],
        "model_type": "llama",
    }  # fmt: skip
    assert told["summary"]["bytes_read"] == base.source.bytes_read > 0


def test_a_finding_is_told_in_full(base: Checkpoint) -> None:
    told = validated(JSON.diagnosis(base, ILL))["findings"][0]
    assert told == {
        "code": "C04",
        "name": "base-class-saved",
        "severity": "error",
        "certainty": "proven",
        "message": SAVED_BASE.message,
        "location": {"file": "config.json", "line": 2},
        "tensors": ["lm_head.weight"],
        "evidence": [
            {"where": e.where, "fact": e.fact, "value": e.value} for e in SAVED_BASE.evidence
        ],
        "includes": ["N04", "H02"],
        "cure": {
            "kind": "consent",
            "summary": "rename 290 tensors",
            "needs": ["donor"],
            "operations": [{"op": "rename", "from": "a", "to": "model.a"}],
            "command": "tidoctor repair ./x ./healed --donor y",
        },
        "caution": SAVED_BASE.caution,
        "not": SAVED_BASE.not_,
        "fingerprint": SAVED_BASE.fingerprint,
    }


def test_hostile_text_and_numbers_survive(base: Checkpoint) -> None:
    name = "\ud800\x00\u2028\x1b é"
    odd = replace(
        SAVED_BASE,
        message=name,
        tensors=(name,),
        location=Location(name),
        evidence=(Evidence(name, name, {name: float("inf"), "huge": 1 << 20_000}),),
    )
    told = validated(JSON.diagnosis(base, replace(ILL, findings=(odd,))))["findings"][0]
    assert told["message"] == told["tensors"][0] == told["location"]["file"] == name
    assert told["evidence"][0]["value"][name] == "inf"


def test_an_inspection_lists_every_tensor_with_its_bytes(base: Checkpoint) -> None:
    told = validated(JSON.inspection(base, lambda name: True, every=False))
    assert len(told["tensors"]) == 20
    for row in told["tensors"]:
        raw = (Path(base.source.name) / row["file"]).read_bytes()[row["begin"] : row["end"]]
        assert raw == checkpoints.payload(row["name"], row["dtype"], row["shape"])
    assert told["absent_head"] is None and told["defects"] == []


def test_an_inspection_tells_the_absent_head_and_defects(tmp_path: Path) -> None:
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    folder = checkpoints.write(tmp_path, checkpoints.llama(head=False), config)
    (folder / "other.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    head = "lm_head.weight"
    told = validated(JSON.inspection(tidoctor.open(folder), lambda n: n == head, every=False))
    assert told["absent_head"] == {"name": head, "tied_to": "model.embed_tokens.weight"}
    assert told["tensors"] == [] and told["source"]["tensors"] == 20
    assert [(d["file"], d["refused"]) for d in told["defects"]] == [("other.safetensors", True)]
    assert told["unread_files"] == ["other.safetensors"]


def test_a_shape_beyond_64_bits_has_no_count(base: Checkpoint) -> None:
    name, row = next(iter(base.tensors.items()))
    huge = replace(base, tensors={name: row._replace(shape=(2**63,) * 400)})
    assert validated(JSON.diagnosis(huge, ILL))["source"]["parameters"] is None


def test_rules_and_symptoms() -> None:
    assert len(validated(JSON.rules(rules.RULES))["rules"]) == len(rules.RULES)
    one = validated(JSON.rules([rules.find("H02")], "head-lost"))
    assert (one["query"], [r["code"] for r in one["rules"]]) == ("head-lost", ["H02"])
    message = "Error: cannot find tensor lm_head.weight"
    told = validated(JSON.symptoms(message, rules.symptoms(message)))
    assert "H02" in [r["code"] for r in told["rules"]]
    codes = told["symptoms"][0]["codes"]
    assert codes == [r["code"] for r in told["rules"]][: len(codes)]
    assert validated(JSON.symptoms("?", []))["rules"] == []


def test_errors() -> None:
    told = validated(JSON.error(Unreadable("./x", "no such folder", "look"), "./x", 3))
    assert told["source"] == {"name": "./x"}
    assert (told["where"], told["what"], told["hint"], told["exit_code"]) == (
        "./x", "no such folder", "look", 3,
    )  # fmt: skip
    assert validated(JSON.error(Unreadable("", "x"), None, 3))["source"] is None


def test_the_same_input_gives_the_same_line(base: Checkpoint) -> None:
    again = tidoctor.open(base.source.name)
    assert JSON.diagnosis(base, ILL) == JSON.diagnosis(again, ILL)
    assert json.loads(JSON.diagnosis(base, ILL))["source"]["name"] == base.source.name
