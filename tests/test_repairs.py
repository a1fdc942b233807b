"""Repair, untie and tie from end to end, on folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama, write

import tidoctor
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused, Usage

TIED = {**LLAMA, "tie_word_embeddings": True}
BASE = {**LLAMA, "architectures": ["LlamaModel"]}
INDEX = "model.safetensors.index.json"


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def values(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {n: b"".join(checkpoint.chunks(t)) for n, t in checkpoint.tensors.items()}


def codes(folder: Path, **options: Any) -> list[str]:
    return [f.code for f in tidoctor.diagnose(folder, **options).findings]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def nothing_written(out: Path) -> bool:
    return not out.exists() and not [p for p in out.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("shards", [1, 3])
def test_untie_then_tie_gives_back_equal_tensors(tmp_path: Path, out: Path, shards: int) -> None:
    source = write(tmp_path / "m", llama(head=False), TIED, shards=shards,
                   files={"tokenizer.json": "{}", "1_x/y.txt": "hi"})  # fmt: skip
    before = digests(source)
    done = tidoctor.untie(source, out)
    assert done.exit_code == 0 and done.receipt is not None and done.receipt.verified == 21
    untied = values(tidoctor.open(out))
    assert untied["lm_head.weight"] == untied["model.embed_tokens.weight"]
    assert codes(out) == ["H04"]
    again = tmp_path / "again"
    assert tidoctor.tie(out, again).exit_code == 0
    assert values(tidoctor.open(again)) == values(tidoctor.open(source))
    assert digests(source) == before
    assert (again / "1_x/y.txt").read_text() == "hi"
    assert json.loads((again / "config.json").read_text()) == TIED


@pytest.mark.parametrize(
    ("table", "config", "verb", "said"),
    [
        (llama(head=False), LLAMA, "untie", "not tied but lost"),
        (llama(), TIED, "tie", "does not equal the embedding"),
        (llama(head=False, prefix=""), BASE, "untie", "no output head"),
        ({"a": [2]}, TIED, "untie", "no embedding"),
        (llama(head=False), None, "untie", "no config.json"),
        (llama(head=False), {"model_type": "new", "architectures": ["NewForCausalLM"]}, "untie",
         "is not known"),
    ],
)  # fmt: skip
def test_what_would_compute_something_else_is_refused(
    tmp_path: Path, out: Path, table: dict, config: dict, verb: str, said: str
) -> None:
    source = write(tmp_path / "m", table, config)
    with pytest.raises(Refused, match=said):
        getattr(tidoctor, verb)(source, out)
    assert nothing_written(out)


@pytest.mark.parametrize(
    ("table", "config", "verb"),
    [(llama(), LLAMA, "untie"), (llama(head=False), TIED, "tie"), (llama(), LLAMA, "repair"),
     (llama(head=False), TIED, "repair")],
)  # fmt: skip
def test_nothing_to_do_is_said_and_nothing_written(
    tmp_path: Path, out: Path, table: dict, config: dict, verb: str
) -> None:
    source = write(tmp_path / "m", table, config)
    done = getattr(tidoctor, verb)(source, out)
    assert done.exit_code == 0 and "nothing to do" in done.reason and done.receipt is None
    assert nothing_written(out)


def test_tie_sets_the_flag_that_it_needs(tmp_path: Path, out: Path) -> None:
    table = {**llama(head=False), "lm_head.weight": ("BF16", [64, 16], "model.embed_tokens.weight")}
    source = write(tmp_path / "m", table, LLAMA)
    assert tidoctor.tie(source, out).exit_code == 0
    assert json.loads((out / "config.json").read_text()) == TIED
    assert codes(out) == ["H01"]


def test_a_saved_base_class_that_was_tied_needs_no_more(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", llama(head=False, prefix=""), {**TIED, "architectures": ["LlamaModel"]})
    done = tidoctor.repair(source, out)
    assert done.exit_code == 0 and codes(out, wanted="causal-lm") == ["H01"]
    assert json.loads((out / "config.json").read_text()) == TIED


def test_a_lost_head_comes_from_a_donor_or_not_at_all(tmp_path: Path, out: Path) -> None:
    whole = write(tmp_path / "whole", llama(), LLAMA, shards=2)
    source = write(tmp_path / "m", llama(head=False, prefix=""), BASE, shards=3)
    for wanted in (None, "causal-lm"):
        done = tidoctor.repair(source, out, wanted=wanted)
        assert done.exit_code == 1 and "--donor" in done.declined[0].reason
        assert nothing_written(out)
    done = tidoctor.repair(source, out, wanted="causal-lm", donor=whole)
    assert done.exit_code == 0 and done.receipt is not None and done.receipt.verified == 21
    healed = values(tidoctor.open(out))
    assert healed["lm_head.weight"] == values(tidoctor.open(whole))["lm_head.weight"]
    assert set(healed) == set(llama())
    assert codes(out) == []
    files = sorted(p.name for p in out.iterdir())
    assert files == ["config.json", *(f"model-{i:05d}-of-00004.safetensors" for i in (1, 2, 3, 4)), INDEX]


@pytest.mark.parametrize(
    ("donor", "said"),
    [
        (build(llama(head=False), TIED), "its own is tied"),
        (build({**llama(), "lm_head.weight": [72, 16]}, LLAMA), "another vocabulary"),
        (build({**llama(), "lm_head.weight": ("F32", [64, 16])}, LLAMA), "is F32"),
        (build(llama(), {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}),
         "is a mistral"),
    ],
)  # fmt: skip
def test_a_donor_that_does_not_fit_is_refused(
    tmp_path: Path, out: Path, donor: dict[str, bytes], said: str
) -> None:
    source = write(tmp_path / "m", llama(head=False), LLAMA)
    giver = tmp_path / "giver"
    giver.mkdir()
    for name, data in donor.items():
        (giver / name).write_bytes(data)
    done = tidoctor.repair(source, out, donor=giver)
    assert done.exit_code == 1 and said in done.declined[0].reason
    assert nothing_written(out)


def test_consent_is_asked_for_and_taken(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", llama(), TIED)
    done = tidoctor.repair(source, out)
    assert done.exit_code == 1 and done.declined[0].reason == "needs your consent: --accept H05"
    assert nothing_written(out)
    assert tidoctor.repair(source, out, accept=["head-differs"]).exit_code == 0
    assert json.loads((out / "config.json").read_text()) == LLAMA
    assert values(tidoctor.open(out)) == values(tidoctor.open(source))


def test_several_faults_are_cured_one_after_the_other(tmp_path: Path, out: Path) -> None:
    table = {f"module._orig_mod.{n}": s for n, s in llama(head=False, prefix="").items()}
    config = json.dumps({**TIED, "architectures": ["LlamaModel"]}, indent=1)[:-2] + ",\n}"
    source = write(tmp_path / "m", table, config, shards=3, metadata=None)
    (source / INDEX).unlink()
    assert set(codes(source)) >= {"S02", "N01", "C11"}
    done = tidoctor.repair(source, out, wanted="causal-lm")
    assert done.exit_code == 0 and codes(out, wanted="causal-lm") == ["H01"]
    assert set(tidoctor.open(out).tensors) == set(llama(head=False))


def test_what_cannot_be_cured_keeps_everything_from_being_written(tmp_path: Path, out: Path) -> None:
    table = {f"module.{n}": s for n, s in {**llama(), "model.norm.weight": [0]}.items()}
    source = write(tmp_path / "m", table, LLAMA)
    done = tidoctor.repair(source, out)
    assert done.exit_code == 1 and done.reason == "an error would remain"
    assert [d.finding.code for d in done.declined] == ["D01"]
    assert nothing_written(out)
    done = tidoctor.repair(source, out, partial=True)
    assert done.exit_code == 1 and done.receipt is not None and codes(out) == ["D01"]


def test_a_dry_run_writes_nothing_and_predicts_what_a_real_one_finds(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", {f"module.{n}": s for n, s in llama(head=False).items()}, TIED, shards=2)
    dry = tidoctor.repair(source, out, dry_run=True)
    assert dry.reason == "dry run" and nothing_written(out)
    wet = tidoctor.repair(source, out)
    assert wet.result is not None
    assert wet.predicted.findings and [f.code for f in wet.predicted.findings] == [
        f.code for f in wet.result.findings
    ]


def test_one_shard_alone_is_not_repaired(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", llama(head=False), TIED, shards=2)
    with pytest.raises(Refused, match="one shard"):
        tidoctor.untie(source / "model-00001-of-00002.safetensors", out)


def test_shards_found_under_other_names_are_indexed_anew(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", llama(), LLAMA, shards=2)
    (source / "model-00002-of-00002.safetensors").rename(source / "q4-2.safetensors")
    assert "S01" in codes(source)
    done = tidoctor.repair(source, out)
    assert done.exit_code == 0 and codes(out) == []
    assert values(tidoctor.open(out)).keys() == llama().keys()
    assert "q4-2.safetensors" not in {p.name for p in out.iterdir()}


@pytest.mark.parametrize("dest", ["m", "m/inside", ".", "taken", "no/such/parent"])
def test_destinations_that_cannot_be(tmp_path: Path, dest: str) -> None:
    source = write(tmp_path / "m", llama(), {**TIED})
    (tmp_path / "taken").mkdir()
    before = digests(tmp_path)
    for verb in ("repair", "tie", "untie"):
        with pytest.raises((Usage, Refused)):
            getattr(tidoctor, verb)(source, tmp_path / dest)
    assert digests(tmp_path) == before


def test_an_error_that_is_ignored_is_not_written_away(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", {f"module.{n}": s for n, s in llama(head=False).items()}, LLAMA)
    for options in ({"ignore": ["H02"]}, {"select": ["N"]}):
        done = tidoctor.repair(source, out, **options)
        assert done.exit_code == 1 and done.reason == "an error would remain"
        assert nothing_written(out)


def test_a_donor_whose_head_is_its_embedding_has_no_head_to_give(tmp_path: Path, out: Path) -> None:
    equal = {**llama(head=False), "lm_head.weight": ("BF16", [64, 16], "model.embed_tokens.weight")}
    source = write(tmp_path / "m", llama(head=False), LLAMA)
    for name, config in (("tied", TIED), ("untied", LLAMA)):
        giver = write(tmp_path / name, equal, config)
        done = tidoctor.repair(source, out, donor=giver)
        assert done.exit_code == 1 and "is its embedding" in done.declined[0].reason
        assert nothing_written(out)


def test_a_shard_is_not_repaired_as_if_it_were_a_model(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "m", {f"module.{n}": s for n, s in llama().items()}, LLAMA, shards=2)
    with pytest.raises(Refused, match="one shard of 2"):
        tidoctor.repair(source / "model-00001-of-00002.safetensors", out)
    assert nothing_written(out)
