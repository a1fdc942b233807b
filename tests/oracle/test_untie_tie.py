"""A tied head stored explicitly, and taken out again: the model stays the same, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import tidoctor
from tests.oracle.folders import payloads, snapshot, weight_files
from tests.oracle.judge import assert_equal
from tests.oracle.models import DECODERS, Family, Variant
from tidoctor.errors import Refused

EMBEDDING = re.compile(r"\b(embed\w*|word_embed\w*|wte)\.weight$")
SHARDED = pytest.mark.parametrize("sharded", [False, True], ids=["single", "sharded"])


def ends(tied: Path, untied: Path) -> tuple[str, str]:
    """(head, embedding): what transformers writes besides when they are not tied, and its like."""
    (head,) = payloads(untied).keys() - payloads(tied).keys()
    shape = payloads(untied)[head][1]
    (embedding,) = [
        name for name, (_, other, _) in payloads(tied).items()
        if other == shape and EMBEDDING.search(name)
    ]
    return head, embedding


@SHARDED
@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_untie_and_tie_back(
    family: Family, sharded: bool, saved: Callable[..., Path], tmp_path: Path
) -> None:
    source = saved(Variant(family, tied=True, sharded=sharded))
    head, embedding = ends(source, saved(Variant(family, tied=False)))
    before = snapshot(source)

    untied = tidoctor.untie(source, tmp_path / "untied")
    assert untied.exit_code == 0
    assert untied.receipt is not None
    assert snapshot(source) == before
    stored = payloads(tmp_path / "untied")
    assert stored[head] == stored[embedding]
    assert stored == payloads(source) | {head: stored[embedding]}
    assert_equal(tmp_path / "untied", source, family.model_class)

    untied_before = snapshot(tmp_path / "untied")
    tied = tidoctor.tie(tmp_path / "untied", tmp_path / "tied")
    assert tied.exit_code == 0
    assert tied.receipt is not None
    assert snapshot(tmp_path / "untied") == untied_before
    assert payloads(tmp_path / "tied") == payloads(source)
    assert_equal(tmp_path / "tied", source, family.model_class)


@SHARDED
def test_untied_copy_is_whole(
    sharded: bool, saved: Callable[..., Path], tmp_path: Path
) -> None:
    """The files besides the weights come along, and sharded stays sharded."""
    family = DECODERS[0]
    source = saved(Variant(family, tied=True, sharded=sharded))
    tidoctor.untie(source, tmp_path / "untied")
    others = {f.name for f in source.iterdir()} - {f.name for f in weight_files(source)}
    assert others <= {f.name for f in (tmp_path / "untied").iterdir()}
    assert (len(weight_files(tmp_path / "untied")) > 1) is sharded


@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_tie_refuses_a_head_of_its_own(
    family: Family, saved: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(Refused):
        tidoctor.tie(saved(Variant(family, tied=False)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_dry_runs_write_nothing(
    family: Family, saved: Callable[..., Path], tmp_path: Path
) -> None:
    treatment = tidoctor.untie(saved(Variant(family, tied=True)), tmp_path / "out", dry_run=True)
    assert treatment.plan
    assert treatment.receipt is None
    assert treatment.exit_code == 0
    assert list(tmp_path.iterdir()) == []
