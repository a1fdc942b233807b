"""The facts about classes, held against files that transformers has just written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import transformers

from tests.oracle.folders import copy, read_json, state, unset_config
from tests.oracle.judge import load
from tests.oracle.models import DECODERS, FAMILIES, Family, Variant, build, save
from tidoctor.atlas.families import ClassFacts, class_facts, class_for, known_model_type

WITH_HEAD = [f for f in FAMILIES if f.ties]
BOTH_WAYS = [f for f in FAMILIES if set(f.ties) == {True, False}]


def facts_of(family: Family) -> ClassFacts:
    """The facts about a family's class, which have to be there."""
    facts = class_facts(family.model_class)
    assert facts is not None
    return facts


def names(folder: Path) -> set[str]:
    """The tensors in a folder's files."""
    return set(state(folder))


def matching(pattern: str, found: Iterable[str]) -> set[str]:
    """The names that a name with `*` for numbers stands for."""
    expression = r"\d+".join(map(re.escape, pattern.split("*")))
    return {name for name in found if re.fullmatch(expression, name)}


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_class_of_a_task(family: Family) -> None:
    facts, model_type = facts_of(family), family.config(None).model_type
    assert facts.name == family.model_class
    assert facts.task == family.wanted
    assert model_type in facts.model_types
    assert known_model_type(model_type)
    assert class_for(model_type, family.wanted) == family.model_class


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_head_and_embedding_are_the_modules_own(
    family: Family, saved: Callable[..., Path]
) -> None:
    """The names in the file hold what the library calls output and input embeddings."""
    facts = facts_of(family)
    tied = False if False in family.ties else (family.ties or (None,))[0]
    folder = saved(Variant(family, tied))
    model = load(folder, family.model_class).model
    stored = state(folder)
    if facts.embedding is None:  # pictures have no vocabulary
        assert family.name == "vit"
        return
    embedding = model.get_input_embeddings().weight
    assert (stored[facts.embedding] == embedding).all()
    output = model.get_output_embeddings()
    assert (facts.head is None) is (output is None)
    if output is not None and facts.head is not None:
        kept = facts.head if not tied else facts.ties[facts.head]
        assert (stored[kept] == output.weight).all()


@pytest.mark.parametrize("family", WITH_HEAD, ids=str)
def test_ties(family: Family, saved: Callable[..., Path]) -> None:
    """Tied, every alias is out of the file and what it points at is in it."""
    facts = facts_of(family)
    tied = names(saved(Variant(family, tied=True)))
    assert facts.head is not None
    assert facts.head in facts.ties
    for alias, kept in facts.ties.items():
        assert matching(alias, tied) == set()
        assert matching(kept, tied)


@pytest.mark.parametrize("family", BOTH_WAYS, ids=str)
def test_flag_decides(family: Family, saved: Callable[..., Path]) -> None:
    """Untied, exactly the aliases come in addition."""
    facts = facts_of(family)
    assert facts.tie_follows_flag
    assert facts.always_tied is None
    tied, untied = names(saved(Variant(family, True))), names(saved(Variant(family, False)))
    assert tied < untied
    aliases = set[str]().union(*(matching(alias, untied) for alias in facts.ties))
    assert untied - tied == aliases


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if set(f.ties) == {True}], ids=str
)
def test_flag_does_not_decide(family: Family, tmp_path: Path) -> None:
    """Built with the flag false, it is tied all the same."""
    facts = facts_of(family)
    assert not facts.tie_follows_flag
    assert facts.always_tied is True
    folder = save(build(family, False), tmp_path / "m")
    assert facts.head not in names(folder)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_default_of_the_flag(family: Family, tmp_path: Path) -> None:
    facts = facts_of(family)
    model = build(family, None)
    assert facts.tie_default_v5 == getattr(model.config, "tie_word_embeddings", None)
    assert facts.nested is family.composite
    if facts.head is not None and facts.tie_follows_flag:
        folder = save(model, tmp_path / "m")
        assert (facts.head in names(folder)) is not facts.tie_default_v5


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.composite], ids=str)
def test_bridge_from_the_text_config(
    family: Family, saved: Callable[..., Path], tmp_path: Path
) -> None:
    """Top level silent, text_config against the default: which one transformers 5 follows."""
    facts = facts_of(family)
    tied = not facts.tie_default_v5
    folder = copy(saved(Variant(family, tied)), tmp_path / "m")
    unset_config(folder, "tie_word_embeddings")
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.tie_word_embeddings is tied) is facts.bridged


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_base_class_and_prefix(
    family: Family, tied: bool, saved: Callable[..., Path], bare: Callable[..., Path]
) -> None:
    """The file of the base class is the whole one without `own` and without the prefix."""
    facts = facts_of(family)
    variant = Variant(family, tied)
    whole, body = names(saved(variant)), names(bare(variant))
    assert [facts.base] == read_json(bare(variant) / "config.json")["architectures"]
    own = set[str]().union(*(matching(name, whole) for name in facts.own))
    assert facts.uniform_prefix
    assert {facts.prefix + name for name in body} == whole - own


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.decoder], ids=str)
def test_base_class_of_the_others(
    family: Family, saved: Callable[..., Path], bare: Callable[..., Path]
) -> None:
    """The same, except that a base class may have tensors more, such as a pooler."""
    facts = facts_of(family)
    variant = Variant(family, (family.ties or (None,))[0])
    whole, body = names(saved(variant)), names(bare(variant))
    assert [facts.base] == read_json(bare(variant) / "config.json")["architectures"]
    own = set[str]().union(*(matching(name, whole) for name in facts.own))
    if facts.uniform_prefix:
        assert whole - own <= {facts.prefix + name for name in body}
    assert not own & body


@pytest.mark.parametrize("family", BOTH_WAYS, ids=str)
def test_own_holds_the_head(family: Family, saved: Callable[..., Path]) -> None:
    facts = facts_of(family)
    assert facts.head in facts.own
    untied = names(saved(Variant(family, tied=False)))
    for name in facts.own:
        assert matching(name, untied)
