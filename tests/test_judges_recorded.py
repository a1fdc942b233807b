"""The verdicts on loaders against what the real programs did, as recorded in judges/outcomes.json.

No program is run here and torch is not needed; `oracle/test_judges_live.py` proves for some of the
judges that the record is true.
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.judges import agreement, environments, families, fixtures, judging, run
from tests.oracle.judges.agreement import Case
from tests.oracle.judges.fixtures import FIXTURES, ROTARY, SCALED, SOUND
from tests.oracle.judges.judging import Outcome, judged
from tidoctor import diagnose

RECORD = run.read()


@functools.cache
def cases() -> tuple[Case, ...]:
    with tempfile.TemporaryDirectory() as root:
        return tuple(agreement.cases(RECORD, Path(root)))


# The record


def test_every_judge_has_judged_every_fixture_of_this_table() -> None:
    wanted = {judge.name: judge for judge in environments.JUDGES}
    assert RECORD["judges"].keys() == wanted.keys()
    for name, one in RECORD["judges"].items():
        judge = wanted[name]
        assert (one["consumer"], one["version"]) == (judge.consumer, judge.version)
        wanted_ones = [*judge.requirements, *(judge.source or ())]
        assert one["requirements"] == wanted_ones, f"{name} was another program"
        assert one["fixtures"] == fixtures.digest(), f"{name} judged another table: run it again"
        assert one["outcomes"].keys() == FIXTURES.keys()


@pytest.mark.parametrize("name", [judge.name for judge in environments.JUDGES])
def test_a_judge_tells_fixtures_apart(name: str) -> None:
    """One that loads nothing, or everything, or never a wrong head, proves nothing."""
    rows = [Outcome(*row) for row in RECORD["judges"][name]["outcomes"].values()]
    kinds = Counter(row.outcome for row in rows)
    assert kinds["fails"] >= 4
    assert all(row.message for row in rows if row.outcome in ("fails", "unknown"))
    if name == "mistralrs-0.6.0":  # its wheel has instructions that the recording machine lacks
        assert all("SIGILL" in row.message for row in rows if row.outcome == "unknown")
        return
    assert kinds["unknown"] <= 25
    assert kinds["loads"] >= 30
    assert kinds["misreads"] >= 5
    assert {row.head for row in rows if row.outcome == "loads"} == {"own", "embedding"}


@pytest.mark.parametrize("family", families.FAMILY)
def test_the_references_are_answers_of_two_different_heads(family: str) -> None:
    own, embedding = (RECORD["references"][f"{family}-{s}"] for s in SOUND.values())
    assert len(own) == len(embedding) == 12
    far = sum(abs(a - b) > 5 * judging.TOLERANCE for a, b in zip(own, embedding, strict=True))
    assert far >= 8


def test_two_programs_that_share_no_code_compute_the_same() -> None:
    """Neither knows transformers: so the answers called sound are those of the checkpoint."""
    names = ("llama-cpp-2026-10", "mistralrs-0.9.5")
    one, other = (RECORD["judges"][name]["answers"] for name in names)
    loaded = [RECORD["judges"][name]["outcomes"] for name in names]
    both = [
        name for name in one
        if name in other and "gemma2" not in name
        and all(rows[name][0] == "loads" for rows in loaded)
    ]
    assert len(both) >= 10
    for name in both:  # logarithms of the probabilities of four tokens
        assert max(abs(a - b) for a, b in zip(one[name], other[name], strict=True)) < 0.001, name


@pytest.mark.parametrize("family", ROTARY)
def test_the_rotary_base_changes_the_answer(family: str) -> None:
    """Else nobody could see that a program has taken another one."""
    for name in ("transformers-4.57.6", "transformers-4.44.2"):
        rows = RECORD["judges"][name]["outcomes"]
        if (family, name) != ("gemma3_text", "transformers-4.44.2"):  # which knows no such class
            assert rows[f"{family}-theta"][:2] == ["loads", "own"]
            assert rows[f"{family}-fifth-theta"][:2] == ["misreads", "own"]
    rows = RECORD["judges"]["transformers-5.23.0"]["outcomes"]
    assert rows[f"{family}-fifth-theta"][:2] == ["loads", "own"]


@pytest.mark.parametrize(("scaled", "twin"), SCALED.items())
def test_stretching_the_rotary_base_changes_the_answer(scaled: str, twin: str) -> None:
    one, other = (RECORD["references"][name] for name in (scaled, twin))
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > judging.TOLERANCE
    greedy = RECORD["greedy"][scaled]
    for name in ("mistralrs-0.9.5", "llama-cpp-2026-10"):  # the same of what is generated
        answer = RECORD["judges"][name]["answers"].get(twin)
        assert answer is None or not judging.says(answer, greedy)


def test_the_head_of_a_fixture_is_never_its_embedding() -> None:
    for fixture in FIXTURES.values():
        matrices = [
            judging.content(fixture, f"{file}:{name}")
            for file, tensors in fixtures.contents(fixture).files.items()
            for name in tensors if name.endswith(fixture.family.head)
        ]
        equal = fixture.situation.endswith(("-equal", "-only"))
        if fixture.truth == "own":
            assert "own" in matrices and "embedding" not in matrices, fixture.name
        elif equal:
            assert matrices == ["embedding"], fixture.name


# How outcomes are judged

SOUND_ANSWER: dict[str, Any] = {
    "loaded": True, "step": 1, "answer": RECORD["references"]["llama-untied-different"],
}


@pytest.mark.parametrize(
    ("change", "outcome", "head"),
    [
        ({}, "loads", "own"),
        ({"matrix": "model.safetensors:lm_head.weight"}, "loads", "own"),
        ({"matrix": None, "step": None}, "misreads", "random"),
        ({"step": None}, "misreads", "unknown"),
        ({"step": 0, "answer": RECORD["references"]["llama-tied-absent"]}, "misreads", "embedding"),
        ({"answer": RECORD["references"]["qwen2-untied-different"]}, "misreads", "own"),
        ({"loaded": False, "error": "cannot find tensor x"}, "fails", "none"),
        ({"error": "it has no values"}, "fails", "none"),
        ({"loaded": None, "error": "too late"}, "unknown", "unknown"),
    ],
)
def test_loading_alone_proves_nothing(change: dict[str, Any], outcome: str, head: str) -> None:
    fixture = FIXTURES["llama-untied-different"]
    found = judged(fixture, {**SOUND_ANSWER, **change}, RECORD["references"])
    assert (found.outcome, found.head) == (outcome, head)


def test_a_lost_head_can_only_be_misread() -> None:
    found = judged(FIXTURES["llama-untied-absent"], {
        "loaded": True, "step": 0, "answer": RECORD["references"]["llama-tied-absent"],
    }, RECORD["references"])
    assert (found.outcome, found.head) == ("misreads", "embedding")


def test_a_merge_that_drops_the_head_or_a_layer_is_no_success() -> None:
    fixture, mine = FIXTURES["llama-untied-different"], "model.safetensors:lm_head.weight"
    good = {"loaded": True, "headed": True, "matrix": mine, "lost": []}
    assert judged(fixture, good, {}).outcome == "loads"
    assert judged(fixture, {**good, "headed": False}, {}).head == "none"
    assert judged(fixture, {**good, "headed": False}, {}).outcome == "misreads"
    lost = {**good, "lost": ["model.layers.1.self_attn.q_proj.weight"]}
    assert judged(fixture, lost, {}).outcome == "misreads"
    assert judged(fixture, {**good, "lost": ["foo.bar.weight"]}, {}).outcome == "loads"


# Agreement


def test_every_outcome_is_the_verdict_or_unknown_with_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        print("\n" + agreement.table(cases()))
    assert len(cases()) == len(environments.JUDGES) * len(FIXTURES)
    for case in cases():
        assert case.kind != "unknown" or case.verdict.why, (case.judge, case.fixture)
    found, known = agreement.disputes(cases()), agreement.disputed()
    new = [
        f"{judge} {fixture}: {what}"
        for judge, rows in found.items() for fixture, what in rows.items()
        if known.get(judge, {}).get(fixture) != what
    ]
    assert not new, "false statements:\n" + "\n".join(new)
    mended = [
        f"{judge} {fixture}" for judge, rows in known.items() for fixture in rows
        if fixture not in found.get(judge, {})
    ]
    assert not mended, "no longer disputed, take them out:\n" + "\n".join(mended)


def test_nearly_every_outcome_has_a_verdict() -> None:
    """`unknown` everywhere would agree with everybody."""
    kinds = Counter(case.kind for case in cases())
    judged = len(cases()) - kinds["unjudged"]
    assert kinds["agrees"] >= 0.97 * judged
    assert kinds["unknown"] <= 0.02 * judged


def test_the_message_is_the_one_that_was_seen_where_we_give_one() -> None:
    told = [case.message for case in cases() if case.message is not None]
    failed = [case for case in cases() if case.kind == "agrees" and case.ran.outcome == "fails"]
    assert all(told)
    assert len(told) >= 0.85 * len(failed)


@pytest.mark.parametrize("name", ["llama-base-untied", "gemma2-tied-equal", "qwen2-fifth-theta"])
def test_diagnose_says_the_same(name: str, tmp_path: Path) -> None:
    wishes = [f"{one['consumer']}@{one['version']}" for one in RECORD["judges"].values()]
    found = diagnose(fixtures.write(FIXTURES[name], tmp_path / name), loaders=wishes)
    expected = [case.verdict for case in cases() if case.fixture == name]
    assert len(expected) == len(found.loaders)
    for verdict in expected:
        one = next(
            v for v in found.loaders if (v.loader, v.version) == (verdict.loader, verdict.version)
        )
        assert (one.outcome, one.why) == (verdict.outcome, verdict.why)
