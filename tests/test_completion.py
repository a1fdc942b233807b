"""Completion in shells: the tables, one word at a time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.snapshots import ROOT
from tidoctor import completion, loaders
from tidoctor.rules import RULES


def words(offer: completion.Offer) -> list[str]:
    return [word for word, _ in offer]


def test_codes_names_and_families_are_offered() -> None:
    offered = words(completion.codes(""))
    assert {rule.code for rule in RULES} | {rule.name for rule in RULES} | {"H", "X"} <= {*offered}
    assert words(completion.codes("head-l")) == ["head-lost"]
    assert words(completion.codes("h02")) == ["H02"]
    assert words(completion.codes("F04,H0")) == [
        f"F04,{r.code}" for r in RULES if r.code.startswith("H0")
    ]
    assert words(completion.codes("Z")) == []


def test_loaders_and_their_versions_are_offered() -> None:
    assert words(completion.loader_names("")) == list(loaders.names())
    assert words(completion.wishes("al")) == ["all"]
    known = loaders.consumer("candle").timeline.known
    assert words(completion.wishes("candle@")) == [f"candle@{v}" for v in reversed(known)]
    assert words(completion.wishes("vllm,candle@0.7.")) == [
        f"vllm,candle@{v}" for v in reversed(known) if v.startswith("0.7.")
    ]
    assert words(completion.wishes("nobody@")) == []
    assert words(completion.questions("turbo")) == ["turbomind"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [("diagnose x --select head-l", "head-lost"), ("diagnose x --for candle@0.7.1", "candle@0.7.1"),
     ("repair x y --accept head-l", "head-lost"), ("explain head-l", "head-lost"),
     ("loaders mergek", "mergekit"), ("inspect x --for mergek", "mergekit")],
)  # fmt: skip
def test_bash_is_offered_what_the_tables_hold(line: str, offered: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "_TIDOCTOR_COMPLETE": "complete_bash",
        "COMP_WORDS": f"tidoctor {line}", "COMP_CWORD": str(len(line.split())),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tidoctor"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, offered), done.stderr
