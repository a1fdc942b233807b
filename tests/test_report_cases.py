"""Formats for CI: GitHub's annotations and summary, SARIF, JUnit, Markdown, and places in files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests import checkpoints
from tests.report_samples import HEALTHY, ILL, NOTE, SAVED_BASE, UNEXAMINED, WAIVED
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable
from tidoctor.finding import Diagnosis, Evidence, Location, Severity
from tidoctor.report import Format, page
from tidoctor.report.case import Cases
from tidoctor.report.delivery import Delivery
from tidoctor.report.github import MOST, Github
from tidoctor.report.markdown import code, escaped
from tidoctor.report.output import Output
from tidoctor.report.place import Place, place, rooted, uri
from tidoctor.report.style import Style
from tidoctor.report.verdict import FailOn
from tidoctor.rules import RULES

MACHINE = [Format.GITHUB, Format.SARIF, Format.JUNIT, Format.MARKDOWN]
GONE = Unreadable("gone", "is not there", "look")
HOSTILE = "a\n::error::b\x1b[31m]]><script>&|`x`\ud800\uffff@all %0A"


@pytest.fixture(autouse=True)
def outside_of_any_workflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint() -> Checkpoint:
    checkpoints.write(Path("m"), checkpoints.llama(), checkpoints.LLAMA, shards=3)
    return tidoctor.open("m")


def whole(format_: Format, checkpoint: Checkpoint, *found: Diagnosis, **more: Any) -> str:
    """A report about the same checkpoint with each of the diagnoses."""
    paper = page(format_, Style(), several=len(found) > 1, **more)
    assert isinstance(paper, Cases)
    told = [paper.diagnosis(checkpoint, one) for one in found]
    return paper.opening() + paper.between.join(told) + paper.ending()


def runs(text: str) -> list[dict[str, Any]]:
    assert text.isascii()
    document = json.loads(text)
    assert document["version"] == "2.1.0" and "sarif-2.1.0" in document["$schema"]
    return list(document["runs"])


# --- places --------------------------------------------------------------------------------------


def test_a_finding_is_placed_at_a_line_of_a_text(checkpoint: Checkpoint) -> None:
    config = Path("m/config.json").read_text().splitlines()
    assert place(checkpoint, SAVED_BASE) == Place("config.json", 2, len(config[1]))
    shard = replace(NOTE, location=Location("model-00002-of-00003.safetensors"))
    at = place(checkpoint, shard)
    index = Path("m/model.safetensors.index.json").read_text().splitlines()
    assert at.file == "model.safetensors.index.json" and at.line
    assert '"model-00002-of-00003.safetensors"' in index[at.line - 1]
    assert at.speaks_of == "model-00002-of-00003.safetensors"
    named = replace(shard, tensors=("lm_head.weight",))
    assert '"lm_head.weight"' in index[(place(checkpoint, named).line or 0) - 1]
    told = replace(NOTE, evidence=(Evidence("config.json:7", "x"),))
    assert place(checkpoint, told).line == 7
    tie = place(checkpoint, NOTE).line
    assert tie and "tie_word_embeddings" in config[tie - 1]


def test_without_a_config_the_weight_file_itself_is_named() -> None:
    checkpoints.write(Path("bare"), checkpoints.llama(), None)
    assert place(tidoctor.open("bare"), NOTE) == Place("model.safetensors")


def test_paths_start_at_the_root_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rooted(Path("./a/../b c")) == "b c"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir("sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert rooted(Path("m")) == "sub/m"
    assert rooted(tmp_path / "x") == "x"
    assert rooted(Path("/elsewhere/x")) == "/elsewhere/x"


@pytest.mark.parametrize(
    ("text", "made"),
    [("m/config.json", "m/config.json"), ("a b:ü", "a%20b%3A%C3%BC"), ("/abs/x", "file:///abs/x"),
     ("hf://org/name@main", "hf://org/name@main"), ("\udcff", "%FF"), ("a%b#c?", "a%25b%23c%3F")],
)  # fmt: skip
def test_paths_as_uris(text: str, made: str) -> None:
    assert uri(text) == made


def test_paths_as_uris_where_drives_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uri("C:/m/config.json") == "C%3A/m/config.json"
    monkeypatch.setattr("tidoctor.report.place._WINDOWS", True)
    assert uri("C:/m n/config.json") == "file:///C:/m%20n/config.json"
    assert uri("m/config.json") == "m/config.json"


# --- github --------------------------------------------------------------------------------------


def test_annotations_come_worst_first_and_the_last_line_counts(checkpoint: Checkpoint) -> None:
    lines = whole(Format.GITHUB, checkpoint, HEALTHY, ILL).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "::error", "::warning", "::notice", "::notice", "::notice", "::notice", "::notice",
    ]  # fmt: skip
    assert lines[0].startswith(
        "::error file=m/config.json,line=2,title=C04 base-class-saved::saved from LlamaModel, "
    )
    assert "%0Acure [consent]: rename 290 tensors%0Atidoctor repair ./x" in lines[0]
    assert "H02 did not run: cut" in lines[5] or "H02 did not run: cut" in lines[4]
    assert lines[-1] == (
        "::notice title=tidoctor::2 checkpoints: 1 error, 1 warning, 4 notes, 1 healthy"
    )


def test_no_more_annotations_than_github_keeps(checkpoint: Checkpoint) -> None:
    many = replace(ILL, findings=(SAVED_BASE,) * 25 + (NOTE,) * 25, not_run=())
    lines = whole(Format.GITHUB, checkpoint, many).splitlines()
    kinds = [line.split(" ")[0] for line in lines]
    assert (kinds.count("::error"), kinds.count("::notice")) == (MOST, MOST)
    assert "; 31 not shown here" in lines[-1]


def test_no_text_makes_a_command_of_its_own(checkpoint: Checkpoint) -> None:
    odd = replace(SAVED_BASE, message=HOSTILE, location=Location("a,b:c\n::x", 3))
    lines = whole(Format.GITHUB, checkpoint, replace(ILL, findings=(odd,))).splitlines()
    assert len(lines) == 4 and all(line.startswith("::") for line in lines)
    assert "file=m/a%2Cb%3Ac\\n%3A%3Ax" in lines[0] and "%250A" in lines[0]


def test_the_summary_of_the_job_is_added_to(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Path("summary.md")
    target.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))

    def tell(format_: Format) -> None:
        paper = page(format_, Style())
        Delivery(paper, Output()).each(["m"], lambda _: (paper.diagnosis(checkpoint, ILL), 1))

    tell(Format.TEXT)
    assert target.read_text() == "before\n"
    tell(Format.GITHUB)
    assert target.read_text().startswith("before\n### `m`: 1 error, 1 warning, 1 note\n")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/folder.md")
    tell(Format.GITHUB)
    assert "cannot be written" in capsys.readouterr().err


def test_a_summary_stays_within_its_limit(checkpoint: Checkpoint) -> None:
    paper = page(Format.GITHUB, Style())
    assert isinstance(paper, Github)
    long = replace(ILL, findings=(replace(SAVED_BASE, message="x" * 100_000),))
    for _ in range(20):
        paper.diagnosis(checkpoint, long)
    text = paper.summary()
    assert 900_000 < len(text.encode()) <= 1 << 20
    assert text.endswith("left out: the summary of a step holds 1 MiB.\n")
    assert len(paper.summary(1000)) <= 1000 and paper.summary(0) == ""


# --- sarif ---------------------------------------------------------------------------------------


def test_a_run_has_all_that_github_asks_for(checkpoint: Checkpoint) -> None:
    (run,) = runs(whole(Format.SARIF, checkpoint, ILL))
    driver = run["tool"]["driver"]
    assert [r["id"] for r in driver["rules"]] == [r.code for r in RULES]
    for rule in driver["rules"]:
        texts = [rule[k]["text"] for k in ("shortDescription", "fullDescription", "help")]
        assert all(texts) and max(map(len, texts[:2])) <= 1024
    assert run["automationDetails"]["id"] == "tidoctor/m/"
    assert [r["level"] for r in run["results"]] == ["error", "warning", "note"]
    for result in run["results"]:
        assert result["message"]["text"]
        assert re.fullmatch("[0-9a-f]{16}:1", result["partialFingerprints"]["primaryLocationLineHash"])
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        assert physical["artifactLocation"]["uri"].startswith("m/")
        assert all(physical["region"][k] >= 1 for k in
                   ("startLine", "startColumn", "endLine", "endColumn"))  # fmt: skip
        if result["ruleIndex"] >= 0:
            assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert run["invocations"][0]["executionSuccessful"] is True
    assert "H02 did not run: cut" in str(run["invocations"][0])


def test_equal_fingerprints_are_numbered(checkpoint: Checkpoint) -> None:
    (run,) = runs(whole(Format.SARIF, checkpoint, replace(ILL, findings=(NOTE, NOTE))))
    marks = [r["partialFingerprints"]["primaryLocationLineHash"][-2:] for r in run["results"]]
    assert marks == [":1", ":2"]


def test_of_several_sources_each_run_lists_the_rules_that_it_needs(checkpoint: Checkpoint) -> None:
    first, second = runs(whole(Format.SARIF, checkpoint, ILL, replace(HEALTHY, findings=())))
    codes = [r["id"] for r in first["tool"]["driver"]["rules"]]
    assert codes == [c.code for c in RULES if c.code in ("C04", "S10", "H01")]
    assert [codes[r["ruleIndex"]] for r in first["results"]] == ["C04", "S10", "H01"]
    assert second["tool"]["driver"]["rules"] == [] == second["results"]


def test_what_was_waived_is_suppressed(checkpoint: Checkpoint) -> None:
    (run,) = runs(whole(Format.SARIF, checkpoint, WAIVED))
    free, suppressed = run["results"]
    assert "suppressions" not in free
    assert suppressed["suppressions"] == [{
        "kind": "external", "status": "accepted",
        "justification": "the trainer keeps the head (pyproject.toml)",
    }]  # fmt: skip


# --- junit ---------------------------------------------------------------------------------------


def suites(text: str) -> list[ET.Element]:
    return list(ET.fromstring(text.encode()))


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 1), ("warning", 2), ("note", 3), ("never", 0)])
def test_a_test_fails_when_its_finding_does(
    checkpoint: Checkpoint, fail_on: str, failures: int
) -> None:
    (suite,) = suites(whole(Format.JUNIT, checkpoint, ILL, fail_on=FailOn(fail_on)))
    assert (suite.get("name"), suite.get("failures"), suite.get("errors")) == ("m", str(failures), "0")
    assert len(suite) == len(RULES) == int(suite.get("tests", 0))
    tests = {t.get("name", "")[:3]: t for t in suite}
    assert len(suite.findall("testcase/failure")) == failures
    told = tests["C04"].find("failure" if failures else "system-out")
    assert told is not None and "tie_word_embeddings=true: loaders fall" in (told.text or "")


def test_what_did_not_run_is_skipped_and_never_passes(checkpoint: Checkpoint) -> None:
    (suite,) = suites(whole(Format.JUNIT, checkpoint, ILL))
    skipped = {t.get("name", "")[:3]: t[0].get("message") for t in suite if t.find("skipped") is not None}
    assert skipped["S01"] == "not applicable: there is no index"
    assert skipped["H04"] == "not run: cut" and skipped["D01"] == "not run: needs --deep"
    assert skipped["H02"] == "explained by C04 base-class-saved"
    assert skipped["F01"] == "not run"  # the sample names four rules only
    (suite,) = suites(whole(Format.JUNIT, checkpoint, WAIVED))
    (told,) = [t for t in suite if t.get("name", "").startswith("C04")]
    assert told[0].get("message") == "waived: the trainer keeps the head (pyproject.toml)"


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", MACHINE)
def test_nothing_examined_is_told_as_that(format_: Format, checkpoint: Checkpoint) -> None:
    text = whole(format_, checkpoint, UNEXAMINED)
    marks = {
        Format.GITHUB: "::error title=tidoctor::m: not examined: no rule ran\n",
        Format.SARIF: '"executionSuccessful": false',
        Format.JUNIT: '<error message="no rule ran"/>',
        Format.MARKDOWN: "### `m`: not examined\n",
    }
    assert marks[format_] in text


@pytest.mark.parametrize("format_", MACHINE)
def test_a_source_that_is_gone_is_in_the_report(format_: Format) -> None:
    paper = page(format_, Style())
    assert isinstance(paper, Cases) and paper.errors_in_report
    text = paper.opening() + paper.error(GONE, "gone", 3) + paper.ending()
    assert "gone: is not there; look" in text
    assert paper.complaint(GONE, "gone", 3) == "error: gone: is not there; look\n"
    if format_ is Format.SARIF:
        (run,) = runs(text)
        assert run["invocations"][0]["executionSuccessful"] is False and run["results"] == []
    if format_ is Format.JUNIT:
        (suite,) = suites(text)
        assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


@pytest.mark.parametrize("format_", MACHINE)
def test_hostile_text_stays_text(format_: Format, checkpoint: Checkpoint) -> None:
    odd = replace(
        SAVED_BASE, message=HOSTILE, tensors=(HOSTILE,), evidence=(Evidence(HOSTILE, HOSTILE),),
        location=Location(HOSTILE), caution=HOSTILE, not_=HOSTILE,
    )  # fmt: skip
    found = replace(ILL, findings=(odd,), waived=(WAIVED.waived[0]._replace(reason=HOSTILE),))
    text = whole(format_, checkpoint, found)
    assert not {"\x1b", "\ud800", "\r"} & set(text)
    assert text.encode()
    if format_ is Format.JUNIT:
        assert suites(text)
    if format_ is Format.SARIF:
        assert runs(text)
    if format_ is Format.MARKDOWN:
        bare = re.sub(r"```+text\n.*?\n```+", "", text, flags=re.DOTALL)
        assert "<script>" not in bare and "\n::" not in bare and "@all" not in re.sub(r"`[^\n]*`", "", bare)


def test_markdown_escapes() -> None:
    assert escaped("lm_head.weight") == "lm_head.weight"
    assert escaped("*a* [x](http://y) <b> @me | `c`") == (
        r"\*a\* \[x\](http:&#47;/y) &lt;b&gt; &#64;me \| \`c\`"
    )
    assert escaped("www.x.y wwwx") == "www&#46;x.y wwwx"
    assert code("a") == "`a`" and code("a`b") == "``a`b``" and code("`a`") == "`` `a` ``"


def test_a_remark_has_its_severity(checkpoint: Checkpoint) -> None:
    from tidoctor.report.case import Case

    one = Case("m", checkpoint, HEALTHY, ((Severity.ERROR, "nothing written: no"),))
    marks = {
        Format.GITHUB: "::error title=tidoctor::nothing written: no",
        Format.SARIF: '{"level": "error", "message": {"text": "nothing written: no"}}',
        Format.JUNIT: '<failure message="nothing written: no">',
        Format.MARKDOWN: "- error: nothing written: no",
    }
    for format_, mark in marks.items():
        paper = page(format_, Style())
        assert isinstance(paper, Cases)
        assert mark in paper.opening() + paper.case(one) + paper.ending()
