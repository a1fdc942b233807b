"""What the data files say already: where learning begins, so that what still holds is kept.

Facts of an earlier version of the library are guesses about the one that is installed. Each is
held against a build of the class's base before it is taken, and all of them are verified with what
was learned anew. What was found by hand or by earlier verifications stays in that way.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from tidoctor.atlas.learn.builds import default_values
from tidoctor.atlas.learn.dotted import Values
from tidoctor.atlas.learn.mending import ABSENT, Rows, samples_of, wrong_ones


class Shipped(NamedTuple):
    """Rows of classes and of config classes by name; the version that they were learned from."""

    version: str
    classes: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    absent: dict[str, str]


NOTHING = Shipped("", {}, {}, {})


@functools.cache
def shipped(folder: Path) -> Shipped:
    """All data files of a folder. Raises OSError and ValueError for what cannot be read."""
    index = json.loads((folder / "index.json").read_text())
    files = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in {*index["classes"].values(), *index["configs"].values()}
    }
    return Shipped(
        index["learned_from"]["transformers"],
        {name: files[file]["classes"][name] for name, file in index["classes"].items()},
        {name: files[file]["configs"][name] for name, file in index["configs"].items()},
        index["absent"],
    )


def still_true(
    name: str, known: Shipped, version: str, counters: list[Values], others: Rows
) -> dict[str, Any] | None:
    """The facts about a class that hold for its base and on the raw configs given, else None.

    Why a class is absent is kept for the same version of the library alone: another one may have
    mended what kept it from being built.
    """
    if name in known.absent and version == known.version:
        return {ABSENT: known.absent[name]}
    row = known.classes.get(name)
    if row is None:
        return None
    pairs = samples_of(name, [default_values(name), *counters])
    return None if not pairs or wrong_ones(name, row, pairs, others) else row


def sufficient(model_type: str, known: Shipped, fields: list[str]) -> dict[str, Any] | None:
    """The facts about a config class when they tell of all these fields, else None."""
    row = known.configs.get(model_type)
    return row if row is not None and row["fields"].keys() >= {*fields} else None
