"""Every copy that is chosen for any loader is the same model to transformers, bit for bit.

Tiny models as transformers saves them, tied and not, whole and from the bare class; each loader of
which anything is known asks for its copy in the newest version of each of its records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers

import tidoctor
from tests.oracle.folders import payloads, snapshot
from tests.oracle.judge import assert_equal, differences, load, logits
from tests.oracle.models import DECODERS, Family, Variant, save
from tidoctor import loaders
from tidoctor.cures import Options
from tidoctor.variants import choose

NEWEST = f"transformers@{loaders.consumer('transformers').timeline.newest}"
CASES = [(family, tied) for family in DECODERS for tied in family.ties]


def wishes(model_type: str) -> Iterator[str]:
    """Each loader in the newest version of each record that speaks of a model type."""
    for name in loaders.names():
        consumer = loaders.consumer(name)
        known = consumer.timeline.known
        for record in consumer.records:
            if model_type in record.model_types and "causal-lm" in record.tasks:
                yield f"{name}@{known[max(record.versions.places)]}"


def copies(source: Path, model_type: str) -> dict[str, str]:
    """The operations of each copy that some loader needs -> the first that needs it."""
    before = tidoctor.open(source)
    found: dict[str, str] = {}
    for wish in wishes(model_type):
        choice = choose(before, [wish], Options())
        if choice.steps and not choice.unmet:
            found.setdefault(json.dumps(choice.steps), wish)
    return found


WRITTEN: set[tuple[str, bool, str]] = set()  # family, tied, operations


@pytest.mark.parametrize(("family", "tied"), CASES, ids=[f"{f}-{t}" for f, t in CASES])
def test_the_copy_for_a_loader_is_the_same_model(
    family: Family, tied: bool, saved: Callable[..., Path], tmp_path: Path
) -> None:
    whole = saved(Variant(family, tied=tied))
    sources = [whole]
    if tied:  # and with the head stored beside the flag that says that it need not be
        tidoctor.untie(whole, tmp_path / "untied")
        sources.append(tmp_path / "untied")
    for number, source in enumerate(sources):
        _check(family, tied, source, whole, tmp_path / f"copies-{number}")


def _check(family: Family, tied: bool, source: Path, whole: Path, place: Path) -> None:
    place.mkdir()
    model_type = json.loads((source / "config.json").read_text())["model_type"]
    before = snapshot(source)
    for i, (steps, wish) in enumerate(copies(source, model_type).items()):
        dest = place / str(i)
        verbs = sorted({operation["op"] for step in json.loads(steps) for operation in step})
        WRITTEN.add((family.name, tied, ",".join(verbs)))
        done = tidoctor.repair(source, dest, loaders=[wish])
        assert (done.exit_code, done.unmet) == (0, ()), (wish, done.reason)
        (verdict,) = tidoctor.diagnose(dest, loaders=[wish]).loaders
        assert str(verdict.outcome) == "loads"
        assert_equal(dest, whole, family.model_class)
        again = tidoctor.repair(dest, place / "again", loaders=[wish])
        assert not again.plan, (wish, steps)
    assert snapshot(source) == before


def test_copies_of_each_kind_were_written() -> None:
    """Runs after the tests above, in one process with them."""
    if not WRITTEN:
        pytest.skip("they were not selected")
    assert {verbs for _, _, verbs in WRITTEN} >= {"copy", "set", "drop", "copy,set"}
    assert len({name for name, _, _ in WRITTEN}) >= 12 and len(WRITTEN) >= 25


@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_a_tied_bare_save_for_transformers_and_for_those_who_want_a_head(
    family: Family, bare: Callable[..., Path], saved: Callable[..., Path], tmp_path: Path
) -> None:
    variant = Variant(family, tied=True)
    source = bare(variant)
    done = tidoctor.repair(source, tmp_path / "out", loaders=[NEWEST])
    if family.head_bias:  # the bias of the head is lost, and only a donor could give it
        assert (done.exit_code, done.receipt) == (1, None)
        return
    assert done.exit_code == 0 and not done.unmet
    assert_equal(tmp_path / "out" if done.receipt else source, saved(variant), family.model_class)


ROPE: dict[str, dict[str, Any]] = {
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "default": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", ROPE)
def test_a_rotary_base_told_in_the_old_way_beside_the_new_one(kind: str, tmp_path: Path) -> None:
    """transformers 5 reads both levels of the copy as it reads the one of the source."""
    rope = {"rope_type": kind, "rope_theta": 777.0, **ROPE[kind]}
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=128, max_position_embeddings=64, rope_parameters=rope,
    )  # fmt: skip
    save(transformers.LlamaForCausalLM(config), tmp_path / "saved", sharded=False)
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "rope_theta" not in written
    done = tidoctor.repair(tmp_path / "saved", tmp_path / "out", loaders=["transformers@4.57.6"])
    assert done.exit_code == 0 and done.receipt is not None
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert after["rope_theta"] == 777.0
    assert (after.get("rope_scaling") or {}).get("rope_type", "default") == kind
    assert payloads(tmp_path / "out") == payloads(tmp_path / "saved")
    one, other = (load(tmp_path / n, "LlamaForCausalLM").model for n in ("saved", "out"))
    assert differences(one, other) == []
    assert (logits(one) == logits(other)).all()
    old = {k: v for k, v in after.items() if k != "rope_parameters"}
    (tmp_path / "out" / "config.json").write_text(json.dumps(old))
    assert (logits(load(tmp_path / "out", "LlamaForCausalLM").model) == logits(one)).all()
