"""How verdicts and loaders are told."""

from __future__ import annotations

import json

import pytest
from checkpoints import LLAMA, Memory, build, llama

from tests.report_samples import validated
from tidoctor import loaders, rules
from tidoctor.finding import Certainty, Outcome, Verdict
from tidoctor.opening import open_checkpoint
from tidoctor.report.concise import Concise
from tidoctor.report.json import Objects
from tidoctor.report.style import Style
from tidoctor.report.text import Text
from tidoctor.report.text.loaders import verdicts

PLAIN = Style(False)
TIED = open_checkpoint(Memory(build(llama(head=False), {**LLAMA, "tie_word_embeddings": True})))
WISHES = ("candle@0.7.1", "transformers", "sglang")
FOUND = rules.diagnose(TIED, loaders=WISHES)


def test_the_table_of_verdicts() -> None:
    assert """
  loader        version  verdict
  candle        0.7.1    fails           cannot find tensor lm_head.weight
  transformers  5.23.0   loads
  sglang        0.5.23   loads (likely)

1 error, 1 note. """ in Text(PLAIN).diagnosis(TIED, FOUND)


def test_foreign_text_cannot_break_the_table() -> None:
    rows = [
        Verdict("a\x1bb", "1\n2", Outcome.FAILS, "why", "boom\u202e"),
        Verdict("c", "3", Outcome.UNKNOWN, "no\trecord", certainty=Certainty.LIKELY),
    ]
    told = verdicts(rows, PLAIN)
    assert told[1:] == [
        r"  a\x1bb  1\n2     fails    boom\u202e",
        r"  c       3        unknown  no\trecord",
    ]


def test_a_line_for_each_failure_in_concise() -> None:
    lines = Concise(PLAIN).diagnosis(TIED, FOUND).splitlines()
    assert [line for line in lines if " L0" in line] == [
        "config.json:16: error L01 loader-fails candle 0.7.1 asks for lm_head.weight and finds none"
    ]


def test_verdicts_in_json() -> None:
    told = validated(Objects().diagnosis(TIED, FOUND))
    assert [(v["loader"], v["version"], v["verdict"]) for v in told["loaders"]] == [
        ("candle", "0.7.1", "fails"), ("transformers", "5.23.0", "loads"),
        ("sglang", "0.5.23", "loads"),
    ]  # fmt: skip
    first = told["loaders"][0]
    assert first["message"] == "cannot find tensor lm_head.weight"
    assert first["why"] == "it asks for lm_head.weight and finds none"
    assert first["source"].startswith("huggingface/candle candle-transformers/src/models/llama.rs")
    assert [v["certainty"] for v in told["loaders"]] == ["proven", "proven", "likely"]
    assert validated(Objects().diagnosis(TIED, rules.diagnose(TIED)))["loaders"] == []


def test_an_unknown_verdict_has_no_certainty_in_json() -> None:
    other = open_checkpoint(Memory(build(llama(), {**LLAMA, "model_type": "nobody"})))
    told = validated(Objects().diagnosis(other, rules.diagnose(other, loaders=["candle"])))
    assert told["loaders"] == [{
        "loader": "candle", "version": "0.11.0", "verdict": "unknown", "message": None,
        "source": None, "why": "no record of candle 0.11.0 speaks of nobody", "certainty": None,
    }]  # fmt: skip


def test_the_list_of_loaders() -> None:
    known = list(map(loaders.consumer, loaders.names()))
    text = Text(PLAIN).loaders(known)
    assert all(f"\n  {name} " in text for name in loaders.names())
    told = validated(Objects().loaders(known))
    assert [one["name"] for one in told["loaders"]] == list(loaders.names())
    assert json.loads(Objects().loaders(known)) == told


@pytest.mark.parametrize("name", loaders.names())
def test_the_page_of_a_loader_tells_each_record_and_its_source(name: str) -> None:
    one = loaders.consumer(name)
    page = Text(PLAIN).loaders([one], name)
    for record in one.records:
        assert str(record.cite) in page
        assert record.note in page and record.since in page
        assert ", ".join(record.model_types) in page
    told = validated(Objects().loaders([one], name))
    assert told["query"] == name and len(told["loaders"][0]["records"]) == len(one.records)
