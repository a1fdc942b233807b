"""A pasted error message: whose it is, since when, what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import build, llama
from test_loaders_verdicts import BASE, LOST, TIED_LLAMA, TIED_QWEN, V5
from test_loaders_verdicts import diagnosis as diagnosed

from tests.report_samples import validated
from tidoctor import loaders, rules
from tidoctor.loaders import Origin, origins
from tidoctor.loaders.messages import TEMPLATES, fill
from tidoctor.report.json import Objects
from tidoctor.report.style import Style
from tidoctor.report.text import Text

CANDLE = "Error: cannot find tensor lm_head.weight"


def whose(message: str) -> dict[str, Origin]:
    return {origin.consumer: origin for origin in origins(message)}


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (CANDLE, {"candle", "cake", "mistral.rs"}),
        ("cannot find tensor model.layers.3.mlp.up_proj.weight", {"candle", "cake", "mistral.rs"}),
        ("RuntimeError: weight lm_head.weight does not exist",
         {"lorax", "text-generation-inference"}),
        ("weight lm_head.weight does not exist", {"lorax", "text-generation-inference"}),
        ("RuntimeError: Tensor lm_head.weight required but not present in model meta/x y",
         {"mergekit"}),
        ("ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}",
         {"vllm"}),
        ("Key a.b was found in multiple non-adapter files: x-1.safetensors and y.safetensors",
         {"lorax"}),
        ("ValueError: Missing 2 parameters: lm_head.weight, model.norm.weight.", {"mlx-lm"}),
        ("TypeError: ModelArgs.__init__() missing 1 required positional argument: 'rope_theta'",
         {"mlx-lm"}),
        ("missing field `rope_theta` at line 26 column 1", {"candle", "mistral.rs"}),
        ("missing field 'rope_theta' at line 26 column 1", {"candle", "mistral.rs"}),
        ("ValueError: Can not map tensor 'layers.0.x'", {"llama.cpp"}),
        ("lm_head.weight                 | MISSING | \n", {"transformers"}),
        ("Some weights of LlamaForCausalLM were not initialized from the model checkpoint at ./a "
         "and are newly initialized: ['lm_head.weight']\nYou should probably TRAIN this model",
         {"transformers"}),
        ("The state dictionary of the model you are trying to load is corrupted.\nAre you sure it "
         "was properly saved?", {"transformers"}),
        ("shape mismatch for lm_head.weight, expected: [64, 16], got: [60, 16]",
         {"candle", "mistral.rs"}),
    ],
)  # fmt: skip
def test_whose_message_it_is(message: str, names: set[str]) -> None:
    assert set(whose(message)) == names


@pytest.mark.parametrize(
    "message",
    ["", " ", "the cat sat on the mat", "KeyError: 'foo'", "AssertionError", "RuntimeError", "H02",
     "KeyError: 3", "cannot find the cat", "CUDA error: out of memory", "{name}", "'", "\x1b[31m"],
)  # fmt: skip
def test_other_messages_are_nobodys(message: str) -> None:
    assert origins(message) == ()


TRACEBACK = f"""
thread 'main' panicked at src/main.rs:42:10:
called `Result::unwrap()` on an `Err` value: \x1b[1mcannot find
    tensor `lm_head.weight`\x1b[0m

Stack backtrace:
   0: candle_core::error::Error::bt
{'   1: frame' * 40}
"""


@pytest.mark.parametrize(
    "message", [TRACEBACK, f'"{CANDLE}"', f"  {CANDLE.upper()} ", f"{'x ' * 30_000}{CANDLE}"]
)
def test_what_stands_around_it_does_not_count(message: str) -> None:
    assert "candle" in whose(message)
    assert whose(message)["candle"].about_head


def test_who_asks_for_the_head_of_a_tied_model_is_told_by_version() -> None:
    cases = {(t, span) for types, span, _ in whose(CANDLE)["candle"].cases for t in types}
    assert ("llama", "0.5.1 to 0.7.1") in cases
    assert ("qwen2", "0.5.1") in cases
    other = whose("cannot find tensor model.norm.weight")["candle"]
    assert not other.cases and not other.about_head
    assert "lorax" in whose("weight lm_head.weight does not exist")


def test_a_key_that_no_record_asks_for_is_no_message_of_it() -> None:
    assert "candle" in whose("missing field `rms_norm_eps` at line 1 column 1")
    assert whose("missing field `cat_food` at line 1 column 1") == {}


@pytest.mark.parametrize(
    ("files", "wish"),
    [
        (TIED_LLAMA, "candle@0.7.1"), (TIED_LLAMA, "mergekit@c891a09"), (TIED_QWEN, "lorax@0.12.1"),
        (TIED_QWEN, "tgi@2.2.0"), (BASE, "mistral.rs"), (BASE, "transformers@4.57.6"),
        (BASE, "transformers"), (LOST, "vllm@0.20.0"), (build(llama(), V5), "mistral.rs"),
        (build({**llama(), "foo.weight": [3]}, V5), "mlx-lm"),
    ],
)  # fmt: skip
def test_every_message_that_is_predicted_is_recognised(files: dict[str, bytes], wish: str) -> None:
    (verdict,) = diagnosed(files, wish, select=["L"]).loaders
    assert verdict.message
    assert verdict.loader in whose(verdict.message)


def test_every_template_with_words_of_its_own_is_found_again() -> None:
    samples = {"name": "lm_head.weight", "names": "lm_head.weight", "quoted": "'lm_head.weight'",
               "inside": "lm_head.weight", "component": "lm_head", "count": 1, "line": 3, "column": 1,
               "class": "LlamaForCausalLM", "model": "./my model", "model_type": "llama",
               "expected": "[64, 16]", "got": "[60, 16]", "first": "a.safetensors",
               "second": "b.safetensors", "plural": "1 required positional argument", "file": "a.safetensors",
               "format": "pt", "files": "{'a.safetensors'}", "lacking": "['lm_head.weight']",
               "extra": "['lm_head.weight']"}  # fmt: skip
    lost = []
    for name in loaders.names():
        for record in loaders.consumer(name).records:
            key = next((k for k in record.config if k.type or k.instead is None), None)
            typed = next((k.type for k in record.config if k.type), None)
            for kind, template in record.errors.items():
                if not template or (kind == "config" and key is None) or (kind == "null" and typed is None):
                    continue
                quoted = {**samples, "key": key and key.name, "keys": f"'{key and key.name}'",
                          "type": typed}  # fmt: skip
                message = fill(template, {k: quoted[k] for k in TEMPLATES[kind]})
                if name not in whose(message):
                    lost.append((name, template))
    # A bare exception is no words of anybody.
    assert {template for _, template in lost} == {"AssertionError", "KeyError"}


@pytest.mark.parametrize(
    "message",
    ["a" * 200_000, "cannot find tensor " + "x" * 100_000, "KeyError: '" + "'" * 50_000,
     "Some weights of a were not initialized from the model checkpoint at " * 300,
     "Received 1 parameters not in model: " + ".\n" * 20_000, "|" * 100_000 + " MISSING",
     "weight " * 20_000, "\ud800\x00\u202e cannot find tensor \u202e"],
)  # fmt: skip
def test_hostile_messages_are_looked_at_and_told_in_short(message: str) -> None:
    found = origins(message)
    text = Text(Style(False)).symptoms(message, rules.symptoms(message), found)
    assert len(text) < 20_000
    assert "\u202e" not in text and "\x00" not in text
    validated(Objects().symptoms(message, rules.symptoms(message), found))


def test_how_it_is_told() -> None:
    text = Text(Style(False)).symptoms(CANDLE, rules.symptoms(CANDLE), origins(CANDLE))
    assert text.startswith("a message of cake, candle, mistral.rs\n")
    assert "llama in 0.5.1 to 0.7.1: reads the head from the file, whatever the flag says" in text
    assert text.index("H01 head-tied") < text.index("further likely causes")
    assert text.count("H01 head-tied") == 1
    assert "loaders that print" not in text


def test_the_same_in_json() -> None:
    told: dict[str, Any] = validated(
        Objects().symptoms(CANDLE, rules.symptoms(CANDLE), origins(CANDLE))
    )
    (candle,) = [o for o in told["origins"] if o["loader"] == "candle"]
    assert candle["quoted"] == {"name": "lm_head.weight"}
    assert candle["versions"].startswith("0.5.1 to ")
    assert {"L01", "H01", "H02"} <= set(candle["codes"])
    assert {r["code"] for r in told["rules"]} >= set(candle["codes"])


def test_every_kind_has_a_meaning() -> None:
    codes = {rule.code for rule in rules.RULES}
    for kind in TEMPLATES:
        for name in ("lm_head.weight", "model.norm.weight"):
            words, named = rules.meaning(Origin("x", kind, "", {"name": name}, ""))
            assert words and set(named) <= codes


def test_the_command_knows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tidoctor.cli import run

    assert run(["explain", "missing field `rope_theta` at line 3 column 1", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {o["loader"] for o in told["origins"]} == {"candle", "mistral.rs"}
    assert run(["explain", "KeyError: 'foo'"]) == 1
    assert "nothing is known about" in capsys.readouterr().out
