"""The atlas against the library it was learned from: names and shapes, exact or not covered.

Every class under its own defaults, a sample of classes under configs made up here, and configs
of published models. Nothing may be wrong; how much may be uncovered is limited as well.
"""

from __future__ import annotations

import functools
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tidoctor.atlas import data
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered

REAL = json.loads(Path(__file__).with_name("real_configs.json").read_text())
CLASSES = sorted(data.current().class_names)
# The categories of transformers' auto classes that people ship.
TASKS = (
    "base",
    "causal-lm",
    "masked-lm",
    "seq2seq-lm",
    "sequence-classification",
    "token-classification",
    "question-answering",
)


@pytest.fixture(scope="module")
def library():
    """The learner's builders, quickened."""
    learn = pytest.importorskip("tidoctor.atlas.learn.examine")
    from tidoctor.atlas import learner
    from tidoctor.atlas.learn import builds

    builds.hurry()
    learner.stand_in_for_timm()
    for name in ("classes_by_type", "tasks_of_classes", "model_types_by_class"):
        function = getattr(learner, name)
        if not hasattr(function, "cache_info"):
            setattr(learner, name, functools.cache(function))
    builds.population()
    return learn


def tally(library, names: list[str], count: int) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for name in names:
        result = library.one((name, count, "oracle"))
        assert not result.wrong, f"{name}: {result.example}"
        found[name] = Counter(exact=result.exact, uncovered=result.uncovered)
    return found


@pytest.mark.parametrize("slice_", range(10))
def test_defaults_of_every_class_are_exact_or_not_covered(library, slice_: int) -> None:
    found = tally(library, CLASSES[slice_::10], 0)
    covered = sum(bool(each["exact"]) for each in found.values())
    assert covered >= 0.9 * len(found), [n for n, each in found.items() if not each["exact"]]


def test_random_configs_of_a_sample_of_classes(library) -> None:
    names = random.Random("classes").sample(CLASSES, min(120, len(CLASSES)))
    total = sum(tally(library, names, 3).values(), Counter())
    assert total["exact"] >= 0.8 * sum(total.values())


def test_the_categories_people_ship_are_covered(library) -> None:
    from tidoctor.atlas.learner import classes_by_type

    for task in TASKS:
        names = {tasks[task] for tasks in classes_by_type().values() if task in tasks}
        covered = names.intersection(CLASSES)
        assert len(covered) >= 0.85 * len(names), (task, sorted(names - covered))


@pytest.mark.parametrize("case", REAL, ids=[each["name"] for each in REAL])
def test_published_configs(library, case: dict) -> None:
    from tidoctor.atlas.learn.builds import built

    sample = built(case["class"], case["config"], parts=False)
    try:
        said = expectation(case["config"], case["class"])
        disk = dict(said.disk)
    except NotCovered as error:
        pytest.fail(f"not covered: {error.reason}")
    assert dict(said.memory) == sample.memory
    assert disk == sample.disk
