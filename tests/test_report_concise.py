"""One line per finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tidoctor
from tests import checkpoints
from tests.report_samples import HEALTHY, ILL, UNEXAMINED
from tidoctor.checkpoint import Checkpoint
from tidoctor.report.concise import Concise
from tidoctor.report.style import Style


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    opened = tidoctor.open(checkpoints.write(tmp_path, checkpoints.llama(), checkpoints.LLAMA))
    opened.source.name = "./x/"
    return opened


def test_lines(checkpoint: Checkpoint) -> None:
    assert Concise(Style()).diagnosis(checkpoint, ILL).splitlines() == [
        "config.json:2: error C04 base-class-saved "
        "saved from LlamaModel, the class without a head; lm_head.weight is lost",
        "./x/: warning S10 wrong-total-size a sum",
        "./x/: note H01 head-tied the head is the embedding",
        "./x/: not-run H02 head-lost cut",
        "./x/: not-run H04 head-redundant cut",
    ]


def test_of_several_sources_each_line_names_its_own(checkpoint: Checkpoint) -> None:
    lines = Concise(Style(), several=True).diagnosis(checkpoint, ILL).splitlines()
    assert lines[0].startswith("./x/config.json:2: error C04 ")


def test_health_is_silent_and_silence_is_not_health(checkpoint: Checkpoint) -> None:
    page = Concise(Style())
    assert page.diagnosis(checkpoint, replace(HEALTHY, findings=())) == ""
    assert page.diagnosis(checkpoint, UNEXAMINED) == "./x/: not-examined: no rule ran\n"


def test_a_message_stays_on_its_line(checkpoint: Checkpoint) -> None:
    odd = replace(ILL.findings[0], message="a\nb\x1b[31m", location=None)
    lines = Concise(Style()).diagnosis(checkpoint, replace(HEALTHY, findings=(odd,)))
    assert lines == "./x/: error C04 base-class-saved a\\nb\\x1b[31m\n"
