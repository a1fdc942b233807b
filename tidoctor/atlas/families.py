"""What transformers knows about its model classes: head, embedding, prefix, ties.

Everything here is data learned from the library itself (`tidoctor.atlas.learner` writes
`families.json`); names are those on disk, as a fresh `save_pretrained` spells them, with the
head in its untied spelling. Files written by other releases may spell a few families
otherwise. In a name, `*` stands for a number that depends on the config (`lm_heads.*.weight`).

The file is read once, at the first question.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

# Generic names of the output projection and of the token embedding, likely ones first, for
# families transformers does not know.
HEADS: tuple[str, ...]
EMBEDDINGS: tuple[str, ...]
# Spellings of `architectures` that older or foreign writers use -> today's class.
OLD_SPELLINGS: Mapping[str, str]

# FSDP2 changes the class in place, and a saver that takes its name writes the prefix
# (transformers 5.23, modeling_utils.py `save_pretrained` removes it since it was noticed).
_FSDP = "FSDP"


class ClassFacts(NamedTuple):
    """One model class and its layout on disk.

    Attributes:
        name: the class, `LlamaForCausalLM`.
        model_types: values of `model_type` this class belongs to.
        task: base, encoder, causal-lm, masked-lm, seq2seq-lm, image-text-to-text,
            speech-seq2seq, ctc, sequence-classification, token-classification,
            question-answering, multiple-choice, image-classification, pretraining or other.
        prefix: what stands before the body's tensors compared with a file of the base class
            ("model."); "" when the spelling is the same or no single prefix exists.
        uniform_prefix: whether `prefix` holds for the whole body. False also when the base
            class is unknown.
        base: the bare base class, the class itself if it is bare, None when unknown.
        head: the output projection's weight, None for classes without one.
        embedding: the token embedding's weight.
        own: tensors beyond those of the base class, the head included; empty when the base
            class is unknown.
        ties: alias that is not saved -> tensor that keeps the bytes, with the flag true. Ties
            from layer to layer (Zamba) are not listed.
        tie_follows_flag: whether `tie_word_embeddings` decides over the ties, the head's
            where it has one.
        always_tied: where the flag does not decide: True always tied, False never. None
            where it does.
        nested: the config has a `text_config` whose flag matters to some reader.
        tie_default_v5: transformers 5, the top-level value when config.json does not say;
            None when the config class has no such flag there.
        tie_default_v4: the same in transformers 4, which asks `text_config` alone in nested
            classes; here with the default text model. None when v4 lacks the class, or when
            nothing in the family can be tied.
        bridged: transformers 5 takes `text_config`'s value when the top level is silent.
        tie_level_v5: in nested classes, where transformers 5 looks for a true flag: "top",
            "text", "either" (one is enough, even against a false at the other place) or
            "both". None in classes that are not nested or never tied.
    """

    name: str
    model_types: tuple[str, ...]
    task: str
    prefix: str
    uniform_prefix: bool
    base: str | None
    head: str | None
    embedding: str | None
    own: tuple[str, ...]
    ties: Mapping[str, str]
    tie_follows_flag: bool
    always_tied: bool | None
    nested: bool
    tie_default_v5: bool | None
    tie_default_v4: bool | None
    bridged: bool
    tie_level_v5: str | None


@functools.lru_cache(maxsize=256)
def class_facts(name: str) -> ClassFacts | None:
    """The facts about a class, None for one that was not learned."""
    row = _data()["classes"].get(name)
    return None if row is None else _unpacked(name, row)


def class_for(model_type: str, task: str) -> str | None:
    """The class that serves a task for a model type: `("llama", "causal-lm")`.

    A multimodal type without a causal class of its own answers with the class that reads
    images and writes text.
    """
    classes = classes_of(model_type)
    if task == "causal-lm" and task not in classes:
        return classes.get("image-text-to-text")
    return classes.get(task)


def classes_of(model_type: str) -> Mapping[str, str]:
    """Task -> class name for a model type; empty for an unknown one."""
    found: dict[str, str] = _data()["types"].get(model_type, {})
    return MappingProxyType(found)


def known_model_type(model_type: str) -> bool:
    """Whether transformers has a config class for this model type."""
    return model_type in _model_types()


def modern_name(spelling: str) -> str:
    """Today's class name for an entry of `architectures`; unknown spellings unchanged."""
    name = spelling
    if spelling.startswith(_FSDP) and class_facts(spelling) is None:
        name = spelling.removeprefix(_FSDP)
    return str(_data()["generic"]["old_spellings"].get(name, name))


def transformers_version() -> str:
    """The release the facts were learned from."""
    return str(_data()["learned_from"]["transformers"])


def __getattr__(name: str) -> object:
    """The generic tables, which live in the data file and are read when asked for."""
    if name == "HEADS":
        return tuple(_data()["generic"]["heads"])
    if name == "EMBEDDINGS":
        return tuple(_data()["generic"]["embeddings"])
    if name == "OLD_SPELLINGS":
        return MappingProxyType(_data()["generic"]["old_spellings"])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _data() -> dict[str, Any]:
    path = Path(__file__).with_name("families.json")
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


@functools.cache
def _served() -> dict[str, list[str]]:
    """Class name -> model types that name it for some task."""
    found: dict[str, list[str]] = {}
    for model_type, classes in _data()["types"].items():
        for name in dict.fromkeys(classes.values()):
            found.setdefault(name, []).append(model_type)
    return found


@functools.cache
def _model_types() -> frozenset[str]:
    return frozenset(_data()["model_types"])


def _unpacked(name: str, row: Mapping[str, Any]) -> ClassFacts:
    """Fill in what the file leaves out (the counterpart of `abridged` in the learner)."""
    task = row.get("task", "other")
    base = row.get("base", name if task == "base" else None)
    head = row.get("head")
    embedding = row.get("embedding")
    ties = row.get("ties", {head: embedding} if head and embedding else {})
    follows = row.get("follows", bool(ties))
    return ClassFacts(
        name=name,
        model_types=tuple(row.get("types", _served().get(name, ()))),
        task=task,
        prefix=row.get("prefix", ""),
        uniform_prefix=row.get("uniform", base is not None),
        base=base,
        head=head,
        embedding=embedding,
        own=_unpaired(row.get("own", [head] if head and task != "base" else [])),
        ties=MappingProxyType(ties),
        tie_follows_flag=follows,
        always_tied=row.get("always", None if ties else False),
        nested=row.get("nested", False),
        tie_default_v5=row.get("v5"),
        tie_default_v4=row.get("v4"),
        bridged=row.get("bridged", False),
        tie_level_v5=row.get("level"),
    )


def _unpaired(names: list[str]) -> tuple[str, ...]:
    """`a.{bias,weight}` as its two names, all sorted."""
    found = []
    for name in names:
        stem = name.removesuffix("{bias,weight}")
        found += [name] if stem == name else [stem + "bias", stem + "weight"]
    return tuple(sorted(found))
