"""Tiny models of hundreds of classes, really saved: silent as they are, named when they are lost.

Every model is saved, then opened as other classes of its family and saved again. Diagnosed as what
it was, the second file has to name the class it became and just the tensors that the library, too,
finds missing.
"""

from __future__ import annotations

import functools
import random
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tidoctor
from tests.oracle.tiny import TooLarge, limited, tiny_config
from tidoctor.atlas import data, families, learner
from tidoctor.atlas.expectation import NotCovered, expectation
from tidoctor.finding import Diagnosis, Finding, Severity

TASKS = (
    "base", "causal-lm", "masked-lm", "seq2seq-lm", "sequence-classification",
    "token-classification", "question-answering", "multiple-choice", "image-text-to-text",
    "speech-seq2seq", "image-classification",
)  # fmt: skip
SLICES = 12
CLASSES = 480  # chosen; some are too large or have no config that builds
FEWEST_SAVED = 300 // SLICES  # of each slice
LOSSES = ("C04", "C06", "C07", "C09", "H02", "H10")  # rules that speak of lost tensors
# State that only training uses or that a model counts itself; it is never told as lost.
STATE = ("masked_spec_embed", "num_batches_tracked")
MOST_OTHERS = 2  # classes that each model is saved as again


class Saved(NamedTuple):
    """A model on disk, with the config it was built from."""

    name: str
    folder: Path
    config: Any


@functools.cache
def chosen() -> tuple[str, ...]:
    learner.stand_in_for_timm()
    names = sorted(
        name
        for name in data.current().class_names
        if (facts := families.class_facts(name)) and facts.task in TASKS and facts.model_types
    )
    return tuple(random.Random("saved classes").sample(names, min(CLASSES, len(names))))


@functools.cache
def family(model_type: str) -> frozenset[str]:
    return frozenset(learner.classes_by_type().get(model_type, {}).values())


def save(name: str, folder: Path) -> Saved | None:
    """A random model of the class; None where the library builds none that is small."""
    facts = families.class_facts(name)
    assert facts is not None
    try:
        config = tiny_config(name, learner.config_class_of(name, facts.model_types))
        with limited():
            model = learner.model_class(name)(config)
            model.save_pretrained(folder)
    except TooLarge:
        return None
    except Exception as error:
        # What the library itself cannot build or save is none of ours.
        warnings.warn(f"{name}: {type(error).__name__}: {error}"[:200], stacklevel=1)
        return None
    return Saved(name, folder, config)


def loud(diagnosis: Diagnosis) -> list[Finding]:
    return [f for f in diagnosis.findings if f.severity > Severity.NOTE]


def is_generators_body(finding: Finding) -> bool:
    """A base class whose family generates: a warning by contract, since its head may be lost."""
    return finding.code == "C04" and finding.severity is Severity.WARNING


def saved_as(other: str, model: Saved, folder: Path) -> bool:
    """Whether the library opens the file as another class of the family and saves it again."""
    try:
        with limited():
            learner.model_class(other).from_pretrained(model.folder).save_pretrained(folder)
    except Exception:
        return False
    return True


def missing(name: str, folder: Path) -> set[str] | None:
    """What the library finds missing or of another shape; None where it does not load at all."""
    try:
        with limited():
            _, report = learner.model_class(name).from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except Exception:
        return None
    return {*report["missing_keys"], *(each[0] for each in report["mismatched_keys"])}


def complaint(model: Saved, other: str, folder: Path) -> str:
    """What the diagnosis says otherwise than the library; "" where both agree."""
    lost = missing(model.name, folder)
    if lost is None:
        return ""
    settings = tidoctor.open(folder).settings
    diagnosis = tidoctor.diagnose(folder, wanted=model.name)
    try:
        said = expectation(settings, model.name)
    except NotCovered:
        return ""
    if said.saved is None or set(said.saved) - set(said.memory):
        return ""  # on disk the names are others: compared where the loader is tested
    here = set(tidoctor.open(folder).tensors)
    speaking = [f for f in diagnosis.findings if f.code in LOSSES]
    told = {t for f in speaking for t in f.tensors} - here
    # A body under another prefix is not lost: the cure says which name each tensor has to get.
    cures = (f.cure.operations for f in speaking if f.cure)
    told |= {str(op["to"]) for operations in cures for op in operations if op["op"] == "rename"}
    prefix = data.current().layout(model.name).get("prefix", "")
    for each in (told - lost) & {f"{prefix}.{n}" for n in here}:
        told.discard(each)  # renamed, not lost
    untold = lost - told - said.ties.keys() - set(said.unsaved)
    untold = {name for name in untold if not name.endswith(STATE)}
    if untold or told - lost - said.ties.keys():
        return f"{model.name} from {other}: untold {sorted(untold)[:3]}, said too much "\
               f"{sorted(told - lost)[:3]}"  # fmt: skip
    # Poolers that nothing depends on are a note; a bare body of a generator is named as such.
    grave = {t for t in lost - said.ties.keys() if ".pooler." not in f".{t}"}
    if grave and not any(other in f.message for f in loud(diagnosis) if f.code == "C04"):
        return f"{model.name}: {other} is not named"
    return ""


@pytest.mark.parametrize("slice_", range(SLICES))
def test_what_is_saved_is_silent_and_what_is_lost_is_named(slice_: int, tmp_path: Path) -> None:
    wrong: list[str] = []
    count = 0
    for name in chosen()[slice_::SLICES]:
        model = save(name, tmp_path / name)
        if model is None:
            continue
        count += 1
        for finding in loud(tidoctor.diagnose(model.folder)):
            facts = families.class_facts(name)
            if not (facts and facts.task == "base" and is_generators_body(finding)):
                wrong.append(f"{name}: {finding.code} {finding.message}")
        others = sorted(family(model.config.model_type) - {name})
        for other in random.Random(name).sample(others, min(MOST_OTHERS, len(others))):
            again = tmp_path / f"{name}-{other}"
            if saved_as(other, model, again) and (said := complaint(model, other, again)):
                wrong.append(said)
    assert wrong == []
    assert count >= FEWEST_SAVED
