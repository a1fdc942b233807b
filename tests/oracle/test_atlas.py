"""The atlas against the library it was learned from: names and shapes, exact or not covered.

Every class under its own defaults, a sample of classes under configs made up here, and configs
of published models. Nothing may be wrong; how much may be uncovered is limited as well. The
seeds are fixed, and are none that the data were learned or examined with.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tidoctor.atlas import data
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered

REAL = json.loads(Path(__file__).with_name("real_configs.json").read_text())
CLASSES = sorted(data.current().class_names)
SEED = "oracle"
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
Verdicts = dict[str, Any]


@pytest.fixture(scope="module")
def library() -> Any:
    """The learner's builders, quickened."""
    from tidoctor.atlas.learn import examine, gates

    gates.prepare()
    return examine


def at_once(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """The results, worked out on all cores."""
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        return pool.map(work, list(items), 4)


@pytest.fixture(scope="module")
def defaults(library: Any) -> Verdicts:
    """The verdict on the defaults of every class."""
    return {each.name: each for each in at_once(library.one, [(n, 0, SEED) for n in CLASSES])}


@pytest.fixture(scope="module")
def published(library: Any) -> Verdicts:
    """The verdict on every published config."""
    return dict(zip((each["name"] for each in REAL), at_once(judged, REAL), strict=True))


def judged(case: dict[str, Any]) -> tuple[str, str]:
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built
    from tidoctor.atlas.learn.examine import differing

    sample = built(case["class"], case["config"], FIRST_SECONDS, parts=False)
    try:
        said = expectation(case["config"], case["class"])
        disk = dict(said.disk)
    except NotCovered as error:
        return "uncovered", error.reason
    if dict(said.memory) != sample.memory:
        return "wrong", "memory: " + differing(said.memory, sample.memory)
    if disk != sample.disk:
        return "wrong", "disk: " + differing(disk, sample.disk)
    return "exact", ""


def test_defaults_of_every_class_are_exact_or_not_covered(defaults: Verdicts) -> None:
    assert len(defaults) == len(CLASSES) > 1000
    assert not {name: each.example for name, each in defaults.items() if each.wrong}
    silent = {name: each.reason for name, each in defaults.items() if not each.exact}
    assert len(silent) <= 0.1 * len(CLASSES), silent


def test_random_configs_of_a_sample_of_classes(library: Any) -> None:
    names = random.Random("classes").sample(CLASSES, min(120, len(CLASSES)))
    results = at_once(library.one, [(name, 3, SEED) for name in names])
    assert not {each.name: each.example for each in results if each.wrong}
    total = Counter(
        exact=sum(each.exact for each in results),
        uncovered=sum(each.uncovered for each in results),
    )
    assert total["exact"] >= 0.8 * sum(total.values()), total


def test_the_categories_people_ship_are_covered(defaults: Verdicts) -> None:
    from tidoctor.atlas.learn import gates

    silent = {name: each.reason for name, each in defaults.items() if not each.exact}
    coverage = gates.Coverage(gates.DATA, silent)
    few = {task: coverage.share(task) for task in TASKS if coverage.share(task) < 0.9}
    assert not few, coverage.lines()
    assert coverage.share("all") >= 0.85, coverage.lines()


@pytest.mark.parametrize("name", [each["name"] for each in REAL])
def test_published_configs_are_exact_or_not_covered(published: Verdicts, name: str) -> None:
    verdict, words = published[name]
    assert verdict != "wrong", words


def test_published_configs_are_covered(published: Verdicts) -> None:
    uncovered = {name: words for name, (verdict, words) in published.items() if words}
    assert len(published) > 50 and len(uncovered) <= 0.05 * len(published), uncovered


@functools.cache
def written() -> list[tuple[str, str, str]]:
    from tidoctor.atlas.learn import gates

    names = random.Random("written").sample(CLASSES, 25)
    return at_once(functools.partial(gates.saved, str(Path(data.__file__).parent / "layouts")),
                   names)


def test_models_that_were_really_written(library: Any) -> None:
    assert not [(name, words) for name, verdict, words in written() if verdict == "wrong"]
    verdicts = Counter(verdict for _, verdict, _ in written())
    assert verdicts["exact"] >= 12, verdicts
