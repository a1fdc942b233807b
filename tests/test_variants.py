"""Repairs for loaders: the copy that all of them take, or who stands against whom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, payload
from test_loaders_matrix import CASES
from test_loaders_verdicts import (
    BASE,
    EMBEDDING,
    HEAD,
    LOST,
    QWEN2,
    TIED,
    TIED_LLAMA,
    TIED_QWEN,
    UNTIED_QWEN2,
    V5,
    qwen2,
    same_head,
)

import tidoctor
from tests.report_samples import validated
from tidoctor.cli import run
from tidoctor.cures import Options
from tidoctor.errors import Refused
from tidoctor.finding import Outcome
from tidoctor.loaders import asked, catalogue
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan
from tidoctor.repairs import Treatment
from tidoctor.report.json import Objects
from tidoctor.report.style import Style
from tidoctor.report.text import Text
from tidoctor.variants import choose
from tidoctor.variants.search import Search, Variant

Files = dict[str, bytes]
OWN = payload(HEAD, "BF16", [64, 16])
SHARED = b"the bytes of the embedding"
TIED_BASE = build(
    llama(prefix="", head=False), {**TIED, "architectures": ["LlamaModel"]}
)


def written(place: Path, files: Files) -> Path:
    place.mkdir(parents=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    return place


def stored(place: Path, name: str) -> bytes | None:
    opened = tidoctor.open(place)
    row = opened.tensors.get(name)
    return b"".join(opened.chunks(row)) if row else None


def outcomes(place: Path, *wishes: str) -> list[str]:
    return [str(v.outcome) for v in tidoctor.diagnose(place, loaders=wishes).loaders]


def verbs(done: Treatment) -> list[str]:
    return [str(o["op"]) for o in done.plan.operations]


# --- the incidents, from diagnosis to a copy that loads -------------------------------------------


@pytest.mark.parametrize(
    ("files", "wishes", "changed", "head"),
    [
        # 1: tied Llama in candle
        (TIED_LLAMA, ["candle@0.7.1"], ["copy"], SHARED),
        (TIED_LLAMA, ["candle@0.7.1", "transformers", "vllm"], ["copy"], SHARED),
        # 2: tied Qwen2 before candle read the flag (the untied one is below: nothing cures it)
        (TIED_QWEN, ["candle@0.5.1"], ["copy"], SHARED),
        # 3: an AutoModel save, whose head can be told from the embedding only by the config
        (TIED_BASE, ["mistral.rs", "vllm"], ["rename"] * 20 + ["set"], None),
        (TIED_BASE, ["mistral.rs", "candle@0.7.1"], ["rename"] * 20 + ["set", "copy"], SHARED),
        # 4: tied Qwen2 in LoRAX and its kin
        (TIED_QWEN, ["lorax@0.12.1", "tgi@2.2.0"], ["copy"], SHARED),
        # 5: tied Llama in mergekit
        (TIED_LLAMA, ["mergekit@c891a09"], ["copy"], SHARED),
        # a redundant head, for those who refuse one beside a true flag
        (build(same_head(llama()), TIED), ["mlx-lm@0.21.0"], ["set"], SHARED),
        (build(same_head(llama()), TIED), ["mlx-lm@0.21.0", "candle@0.7.1"], ["set"], SHARED),
        # both at once: a head has to be there, and the flag must not be true
        (TIED_LLAMA, ["candle@0.7.1", "mlx-lm@0.21.0"], ["copy", "set"], SHARED),
        # a save of transformers 5
        (build(llama(), V5), ["candle", "transformers@4.57.6", "mistral.rs", "tgi"], ["set"], OWN),
    ],
)  # fmt: skip
def test_the_incidents_end_to_end(
    files: Files, wishes: list[str], changed: list[str], head: bytes | None, tmp_path: Path
) -> None:
    source, dest = written(tmp_path / "sick", files), tmp_path / "healed"
    assert set(outcomes(source, *wishes)) > {"loads"} or "loads" not in outcomes(source, *wishes)
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    done = tidoctor.repair(source, dest, loaders=wishes)
    assert done.exit_code == 0 and done.receipt is not None and not done.unmet
    assert verbs(done) == changed
    found = tidoctor.diagnose(dest, loaders=wishes)
    assert {str(v.outcome) for v in found.loaders} == {"loads"}
    assert not [f for f in found.findings if str(f.severity) != "note"]
    embedding = stored(dest, EMBEDDING)
    assert embedding in (
        stored(source, EMBEDDING), stored(source, EMBEDDING.removeprefix("model."))
    )  # fmt: skip
    assert embedding and stored(dest, HEAD) == (embedding if head == SHARED else head)
    assert before == {p.name: p.read_bytes() for p in source.iterdir()}
    again = tidoctor.repair(dest, tmp_path / "again", loaders=wishes)
    assert (again.reason, again.exit_code, bool(again.plan)) == ("nothing to do", 0, False)
    assert not (tmp_path / "again").exists()


def test_a_lost_head_comes_from_a_donor_and_nowhere_else(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", BASE)
    donor = written(tmp_path / "donor", build(llama(), LLAMA))
    alone = tidoctor.repair(source, tmp_path / "alone", loaders=["transformers", "vllm"])
    assert alone.exit_code == 1 and alone.receipt is None
    assert [u.needs for u in alone.unmet] == [f"{HEAD}, which is lost, from a --donor"] * 2
    assert not any(o["op"] in ("copy", "set") for o in alone.plan.operations)
    done = tidoctor.repair(
        source, tmp_path / "healed", donor=donor, loaders=["transformers", "vllm", "candle@0.7.1"]
    )
    assert done.exit_code == 0 and stored(tmp_path / "healed", HEAD) == OWN
    assert set(outcomes(tmp_path / "healed", "transformers", "vllm", "candle@0.7.1")) == {"loads"}


def test_a_head_of_its_own_is_never_given_up(tmp_path: Path) -> None:
    """candle 0.6.0 takes the embedding of every Qwen2: nothing that is true would help."""
    source = written(tmp_path / "sick", UNTIED_QWEN2)
    done = tidoctor.repair(source, tmp_path / "out", loaders=["candle@0.6.0"])
    assert (done.exit_code, bool(done.plan), done.receipt) == (1, False, None)
    (unmet,) = done.unmet
    assert (unmet.who, unmet.needs, unmet.newer) == ("candle 0.6.0", "", "0.7.0 or newer")
    assert not (tmp_path / "out").exists()


# --- what is preferred ----------------------------------------------------------------------------


def test_what_loads_as_it_is_is_left_alone(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", TIED_LLAMA)
    done = tidoctor.repair(source, tmp_path / "out", loaders=["transformers", "candle", "all"])
    assert (done.reason, done.exit_code) == ("nothing to do", 0)


def test_config_before_names_before_bytes() -> None:
    """In the order in which variants are tried."""
    base = open_checkpoint(Memory(build(same_head(llama()), TIED)))
    tried = Search(base, asked(["mlx-lm@0.21.0", "candle@0.7.1"]), Options()).every()
    efforts = [max((c.effort for c in v.changes), default=0) for v in tried]
    assert efforts == sorted(efforts) and tried[0].changes == ()
    assert len(tried) > 2
    assert len({v.kinds for v in tried}) == len(tried)


@pytest.mark.parametrize("kind", ["rope_theta", "sliding_window", "tie_word_embeddings"])
def test_keys_are_written_with_the_value_that_they_have(kind: str, tmp_path: Path) -> None:
    config, wish, value = {
        "rope_theta": (
            {k: v for k, v in QWEN2.items() if k != "rope_theta"}
            | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, "candle", 1e6,
        ),
        "sliding_window": ({**QWEN2, "sliding_window": None}, "candle", 64),
        "tie_word_embeddings": (
            {k: v for k, v in QWEN2.items() if k != "tie_word_embeddings"}, "candle", False,
        ),
    }[kind]  # fmt: skip
    source = written(tmp_path / "sick", build(qwen2(), config))
    done = tidoctor.repair(source, tmp_path / "out", loaders=[wish])
    assert [(o["op"], o["path"], o["value"]) for o in done.plan.operations] == [
        ("set", [kind], value)
    ]
    assert outcomes(tmp_path / "out", wish) == ["loads"]


@pytest.mark.parametrize(
    ("rope", "wish", "more"),
    [
        ({"rope_type": "llama3", "factor": 8.0}, "mistral.rs", {"rope_scaling"}),
        ({"rope_type": "llama3", "factor": 8.0}, "transformers@4.57.6", {"rope_scaling"}),
        ({"rope_type": "linear", "factor": 8.0}, "transformers@4.57.6", {"rope_scaling"}),
        ({"rope_type": "linear", "factor": 8.0}, "mistral.rs", {"rope_scaling"}),
        ({"rope_type": "linear", "factor": 8.0}, "mistral.rs@0.5.0", None),  # takes llama3 alone
        ({"rope_type": "yarn", "factor": 8.0}, "transformers@4.57.6", {"rope_scaling"}),
        ({"rope_type": "yarn", "factor": 8.0}, "mistral.rs", None),
        ({"rope_type": "longrope", "long_factor": [1.0]}, "mistral.rs", None),
        ({"partial_rotary_factor": 0.5}, "mistral.rs", {"partial_rotary_factor"}),
        ({"rope_type": 7}, "mistral.rs", set()),
    ],
)
def test_what_goes_with_the_rotary_base_goes_along(
    rope: dict[str, Any], wish: str, more: set[str] | None, tmp_path: Path
) -> None:
    config = {**V5, "rope_parameters": {"rope_theta": 500000.0, **rope}}
    source = written(tmp_path / "sick", build(llama(), config))
    done = tidoctor.repair(source, tmp_path / "out", loaders=wish.split(","), dry_run=True)
    keys = {o["path"][0] for o in done.plan.operations}  # type: ignore[index]
    assert keys == (set() if more is None else {"rope_theta", *more})
    assert bool(done.unmet) is (more is None)


def test_who_takes_no_such_scaling_stays_unmet_beside_one_who_does(tmp_path: Path) -> None:
    rope = {"rope_theta": 500000.0, "rope_type": "linear", "factor": 8.0}
    source = written(tmp_path / "sick", build(llama(), {**V5, "rope_parameters": rope}))
    wishes = ["candle", "transformers@4.57.6"]
    done = tidoctor.repair(source, tmp_path / "out", loaders=wishes, dry_run=True)
    assert {o["path"][0] for o in done.plan.operations} == {"rope_theta", "rope_scaling"}
    assert [u.verdict.loader for u in done.unmet] == ["candle"]


def test_a_sliding_window_that_slides_is_not_written(tmp_path: Path) -> None:
    config = {**QWEN2, "sliding_window": None, "use_sliding_window": True}
    source = written(tmp_path / "sick", build(qwen2(), config))
    done = tidoctor.repair(source, tmp_path / "out", loaders=["candle"])
    assert done.exit_code == 1 and not done.plan


@pytest.mark.parametrize(
    ("case", "wish", "verb", "needs"),
    [
        ("index with another name", "mlx-lm@0.32.2", "reindex", ""),
        ("index omits the head", "mergekit@0.1.5", "reindex", ""),
        ("head under the prefix", "vllm@0.32.0", "rename", ""),
        ("head called output", "transformers@5.23.0", "rename", ""),
        ("stale shard", "mlx-lm@0.32.2", "", "leave model-00003-of-00003.safetensors out"),
        ("tied, another head", "mlx-lm@0.32.2", "", "write tie_word_embeddings = false"),
    ],
)
def test_files_are_named_as_readers_want_and_consent_is_asked_for(
    case: str, wish: str, verb: str, needs: str, tmp_path: Path
) -> None:
    files, _ = CASES[case]
    source = written(tmp_path / "sick", files)
    assert outcomes(source, wish) != ["loads"]
    done = tidoctor.repair(source, tmp_path / "out", loaders=[wish])
    if verb:
        assert verbs(done) == [verb] and outcomes(tmp_path / "out", wish) == ["loads"]
        return
    (unmet,) = done.unmet
    assert done.receipt is None and not done.plan
    assert unmet.needs.endswith(")") and "(--accept " in unmet.needs
    code = unmet.needs.rpartition(" ")[2].rstrip(")")
    agreed = tidoctor.repair(source, tmp_path / "out", loaders=[wish], accept=[code])
    assert agreed.exit_code == 0 and outcomes(tmp_path / "out", wish) == ["loads"]
    assert needs in unmet.needs or case == "tied, another head"


# --- conflicts ------------------------------------------------------------------------------------


def test_untie_looks_among_the_untied_variants(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", TIED_LLAMA)
    done = tidoctor.untie(source, tmp_path / "out", loaders=["mlx-lm@0.21.0"])
    assert verbs(done) == ["copy", "set"] and done.exit_code == 0
    assert outcomes(tmp_path / "out", "mlx-lm@0.21.0") == ["loads"]
    assert stored(tmp_path / "out", HEAD) == stored(source, EMBEDDING)


def test_tie_looks_among_the_tied_variants(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", build(same_head(llama()), V5 | TIED | {"rope_theta": None}))
    done = tidoctor.tie(source, tmp_path / "out", loaders=["candle@0.7.1"])
    assert done.exit_code == 1 and done.receipt is None
    assert [u.who for u in done.unmet] == ["candle 0.7.1"]
    fine = tidoctor.tie(
        written(tmp_path / "other", build(same_head(llama()), TIED)), tmp_path / "out",
        loaders=["candle", "vllm"],
    )  # fmt: skip
    assert fine.exit_code == 0 and stored(tmp_path / "out", HEAD) is None
    assert set(outcomes(tmp_path / "out", "candle", "vllm")) == {"loads"}


def test_untie_still_refuses_a_lost_head(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        tidoctor.untie(written(tmp_path / "sick", LOST), tmp_path / "out", loaders=["candle@0.7.1"])


def test_who_stands_against_whom_is_told() -> None:
    """No real pair of a Llama disagrees about every variant, hence a policy that refuses heads."""
    before = open_checkpoint(Memory(TIED_LLAMA))
    strict = asked(["mlx-lm@0.21.0"])[0].consumer
    never = replace(
        strict, name="never-a-head",
        records=tuple(replace(r, head="embedding-strict") for r in strict.records),
    )  # fmt: skip
    known = catalogue.consumer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "consumer", lambda n: never if n == never.name else known(n))
        choice = choose(before, ["candle@0.7.1", "never-a-head@0.21.0"], Options())
    assert choice.steps == ()  # what loads as it is is not given up
    (unmet,) = choice.unmet
    assert unmet.who == "candle 0.7.1"
    assert unmet.needs == "store the head explicitly (2048 bytes more)"
    assert unmet.newer == "0.7.2 or newer"
    assert unmet.against == (("never-a-head 0.21.0", "nothing changed"),)
    assert unmet.told() == (
        "fails: cannot find tensor lm_head.weight; needs: store the head explicitly (2048 bytes "
        "more); which never-a-head 0.21.0 does not take (needs: nothing changed); or use candle "
        "0.7.2 or newer"
    )


def test_what_is_not_known_is_not_written(tmp_path: Path) -> None:
    config = {**TIED, "model_type": "no-such-thing"}
    source = written(tmp_path / "sick", build(llama(head=False), config, metadata=None))
    done = tidoctor.repair(source, tmp_path / "out", loaders=["candle"], accept=["F04"])
    assert (done.exit_code, done.receipt) == (1, None)
    assert str(done.unmet[0].verdict.outcome) == "unknown"


def test_all_are_those_of_which_something_is_known(tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "no-such-thing"}
    source = written(tmp_path / "sick", build(llama(), config))
    unmet = tidoctor.repair(source, tmp_path / "out", loaders=["all"], dry_run=True).unmet
    assert unmet and {(u.verdict.outcome, u.verdict.cause) for u in unmet} == {
        (Outcome.FAILS, "class")
    }
    known = written(tmp_path / "known", build(llama(), V5))
    done = tidoctor.repair(known, tmp_path / "out", loaders=["all"])
    assert done.exit_code == 0 and {"loads"} == set(outcomes(tmp_path / "out", "all"))


def test_partial_writes_what_most_of_them_take(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", build(llama(), V5))
    wishes = ["candle", "ollama@main", "ollama"]
    config = {**V5, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    source = written(tmp_path / "mistral", build(llama(), config))
    stopped = tidoctor.repair(source, tmp_path / "out", loaders=wishes)
    assert stopped.reason == "an error would remain" and not (tmp_path / "out").exists()
    done = tidoctor.repair(source, tmp_path / "out", loaders=wishes, partial=True)
    assert done.receipt is not None and done.exit_code == 1
    assert [u.verdict.loader for u in done.unmet] == ["ollama"]
    assert outcomes(tmp_path / "out", "candle") == ["loads"]


def test_a_variant_that_brings_a_finding_is_not_sound() -> None:
    """The flag cleared without a head: no loader that reads heads by the flag might notice."""
    base = open_checkpoint(Memory(TIED_LLAMA))
    search = Search(base, asked(["tgi"]), Options())
    cleared: dict[str, object] = {"op": "set", "path": ["tie_word_embeddings"], "value": False}
    start = search.start
    other = Variant((), Plan(((cleared,),)).apply(base), start.view, start.exam, start.verdicts)
    assert search.sound(start) and not search.sound(other)


# --- the commands ---------------------------------------------------------------------------------


def test_the_command_that_a_finding_gives_does_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, (files, wishes) in enumerate([
        (TIED_LLAMA, "candle@0.7.1,vllm"), (build(llama(), V5), "all"),
        (TIED_LLAMA, "candle@0.7.1,mlx-lm@0.21.0"), (build(same_head(llama()), TIED), "vllm@0.5.3"),
        (TIED_BASE, "mergekit@c891a09,vllm"),
    ]):  # fmt: skip
        source = written(tmp_path / f"sick{i}", files)
        found = tidoctor.diagnose(source.name, loaders=wishes.split(","))
        commands = {
            f.cure.command for f in found.findings if f.code in ("L01", "L02") and f.cure
        }
        assert commands and None not in commands
        for command in commands:
            words = str(command).replace("DEST", f"out{i}").split()
            assert words.pop(0) == "tidoctor" and "--for" in words
            assert run([*words, "--force"]) == 0
        capsys.readouterr()
        assert "fails" not in outcomes(tmp_path / f"out{i}", *wishes.split(","))
        assert "misreads" not in outcomes(tmp_path / f"out{i}", *wishes.split(","))


def test_no_command_is_given_where_nothing_helps() -> None:
    for files, wish in ((LOST, "candle"), (UNTIED_QWEN2, "candle@0.6.0"), (BASE, "vllm")):
        found = tidoctor.diagnose(open_checkpoint(Memory(files)), loaders=[wish])
        for finding in found.findings:
            if finding.code in ("L01", "L02"):
                assert finding.cure is None or finding.cure.command is None


def test_large_checkpoints_are_not_searched_beside_a_diagnosis(tmp_path: Path) -> None:
    table = {**llama(head=False), **{f"more.{i}.weight": [1] for i in range(2500)}}
    source = written(tmp_path / "sick", build(table, TIED))
    found = tidoctor.diagnose(source, loaders=["candle@0.7.1"])
    (cure,) = [f.cure for f in found.findings if f.code == "L01"]
    assert cure is not None and cure.command is not None
    assert cure.command.endswith("--for candle@0.7.1 --dry-run")
    done = tidoctor.repair(source, tmp_path / "out", loaders=["candle@0.7.1"], dry_run=True)
    assert verbs(done) == ["copy"] or done.declined


def test_it_is_told_in_text_and_json(tmp_path: Path) -> None:
    source = written(tmp_path / "sick", UNTIED_QWEN2)
    done = tidoctor.repair(source, tmp_path / "out", loaders=["candle@0.6.0", "vllm"])
    text = Text(Style(False)).treatment(done, None, dry_run=False, exit_code=1)
    assert "unmet" in text and "no variant of it helps; or use candle 0.7.0 or newer" in text
    told = validated(Objects().treatment(done, None, dry_run=False, exit_code=1))
    assert told["unmet"] == [{
        "loader": "candle", "version": "0.6.0", "needs": None, "newer": "0.7.0 or newer",
        "against": [],
    }]  # fmt: skip
    assert [v["verdict"] for v in told["predicted"]["loaders"]] == ["misreads", "loads"]


@pytest.mark.parametrize("verb", ["repair", "untie", "tie"])
def test_unknown_loaders_are_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = written(tmp_path / "sick", TIED_LLAMA)
    assert run([verb, str(source), str(tmp_path / "out"), "--for", "candel"]) == 2
    assert "did you mean candle?" in capsys.readouterr().err
    assert run([verb, str(source), str(tmp_path / "out"), "--for", "candle", "-n"]) == 0


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{", '{"model_type": "llama"}', '{"model_type": {"a": 1}}',
     json.dumps({**V5, "rope_parameters": {"rope_theta": 10**400, "rope_type": ["x"]}}),
     json.dumps({**V5, "rope_parameters": {"full_attention": {"rope_theta": True}}}),
     json.dumps({**LLAMA, "tie_word_embeddings": {"a": []}})],
)  # fmt: skip
@pytest.mark.parametrize("table", [{"a": [1]}, llama(), llama(head=False)])
def test_any_config_is_planned_for(config: str, table: dict[str, Any], tmp_path: Path) -> None:
    source = written(tmp_path / "sick", build(table, config))
    done = tidoctor.repair(
        source, tmp_path / "out", loaders=["all", "candle@0.7.1"], dry_run=True
    )
    assert done.receipt is None
