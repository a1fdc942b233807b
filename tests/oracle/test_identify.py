"""Identification against every class that writes text: found from the names of a fresh save alone.

The config is the library's default of each class, cut down; what a fresh save has then comes from
the atlas, which `test_atlas.py` holds against the library itself.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tidoctor.atlas import data, families, learner
from tidoctor.atlas.configs import resolve
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.identify import Identity, identify

REAL = json.loads(Path(__file__).with_name("real_configs.json").read_text())
CLASSES = sorted(
    name
    for name in data.current().class_names
    if (facts := families.class_facts(name)) and facts.task == "causal-lm"
)
FOUND: dict[str, Identity] = {}  # of the classes that were looked at, for the figures at the end
UNCOVERED: dict[str, str] = {}  # class -> why the atlas promises nothing
UNCOVERED_CONFIGS: frozenset[str] = frozenset()


@functools.cache
def defaults(name: str) -> str:
    """The default config of a class as text, with few layers and experts."""
    facts = families.class_facts(name)
    assert facts is not None
    config_class = learner.config_class_of(name, facts.model_types)
    values: dict[str, Any] = json.loads(learner.default_values(config_class))
    values |= learner.CLASS_SEEDS.get(name, {})
    learner.shrink(values)
    return json.dumps(values)


def check(found: Identity, name: str, config: dict[str, Any], shapes: Any) -> None:
    """No field is told wrongly, and the config that proves the class gives these tensors."""
    own = next(each for each in found.exact if each.class_name == name)
    resolved = resolve(config, own.model_type)
    for path, value in own.fields.items():
        said = resolved.value(path)
        if isinstance(said, tuple | range):
            said = list(said)
        # Of a size that the file leaves to the class, the one in force is told.
        assert value == said or (said is None and isinstance(value, int)), (path, value, said)
    again = expectation(own.witness, name)
    assert shapes in (again.saved, again.memory)


@pytest.mark.parametrize("name", CLASSES)
def test_a_fresh_save_is_of_its_class(name: str) -> None:
    config = json.loads(defaults(name))
    try:
        shapes = expectation(config, name).disk
    except NotCovered as e:
        UNCOVERED[name] = e.reason  # nothing is promised, so there is nothing to be found
        return
    found = FOUND[name] = identify(shapes)
    if found.exact:
        # Whatever else fits, the true class is among them: a wrong one never stands alone.
        assert name in {each.class_name for each in found.exact}
        check(found, name, config, shapes)


def test_almost_all_are_found() -> None:
    assert len(FOUND) + len(UNCOVERED) == len(CLASSES), "run the whole module"
    assert len(FOUND) >= 0.85 * len(CLASSES), UNCOVERED
    exact = {name: [each.class_name for each in found.exact] for name, found in FOUND.items()}
    kept = [name for name, others in exact.items() if name in others]
    sizes = Counter(
        "unique" if n == 1 else "2-3" if n <= 3 else "4-10" if n <= 10 else "more"
        for n in (len(exact[name]) for name in kept)
    )
    print(f"\n{len(kept)} of {len(FOUND)} found; classes that fit alike: {dict(sizes)}")
    assert len(kept) >= 0.95 * len(FOUND), sorted(FOUND.keys() - set(kept))


@pytest.mark.parametrize("case", REAL, ids=[each["name"] for each in REAL])
def test_published_configs(case: dict[str, Any]) -> None:
    try:
        shapes = expectation(case["config"], case["class"]).disk
    except NotCovered as e:
        assert case["name"] in UNCOVERED_CONFIGS, e.reason
        return
    found = identify(shapes)
    assert case["class"] in {each.class_name for each in found.exact}, found.told()
    check(found, case["class"], case["config"], shapes)
