"""Nested config values by dotted path: what stands there, and copies with something changed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

Values = dict[str, Any]

# Never changed: what says which config it is, and token ids beyond the vocabulary.
LEFT = re.compile(
    r"(^|\.)(model_type|architectures|transformers_version|dtype|torch_dtype|id2label|label2id|"
    r"auto_map|rope_parameters|rope_scaling|problem_type|_\w+)(\.|$)"
)

# Counts along which lists run.
_COUNT = re.compile(r"layer|depth|stage|block|level|scale|group")


def get(values: Values, path: str) -> Any:
    """The value at a dotted path; KeyError when it is not there."""
    here: Any = values
    for key in path.split("."):
        here = here[key]
    return here


def put(values: Values, path: str, value: Any) -> None:
    """Set the value at a dotted path of nested dicts."""
    *way, last = path.split(".")
    here = values
    for key in way:
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            raise KeyError(path)
    here[last] = value


def leaves(values: Values, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of nested values that is no sub-config, by dotted path."""
    for key, value in values.items():
        path = before + key
        if isinstance(value, dict):
            if not LEFT.search(path):
                yield from leaves(value, path + ".")
        else:
            yield path, value


def altered(values: Values, path: str, value: Any) -> Values:
    """A copy with one field changed, wherever it stands."""
    try:
        return changed(values, path, copy.deepcopy(value))
    except (KeyError, TypeError, AttributeError):
        made = copy.deepcopy(values)
        try:
            put(made, path, copy.deepcopy(value))
        except (KeyError, TypeError, AttributeError):
            return values
        return made


def changed(values: Values, path: str, value: Any) -> Values:
    """A copy with one field changed, and with it the lists that run along a count."""
    made = copy.deepcopy(values)
    before = get(made, path)
    put(made, path, value)
    if not _COUNT.search(path.rpartition(".")[2]) and not isinstance(value, list):
        return made
    if type(before) is int and type(value) is int and 1 < before <= 64 and 0 < value <= 64:
        where = path.rpartition(".")[0]
        beside = get(made, where) if where else made
        for key, along in beside.items():
            if isinstance(along, list) and len(along) == before and key != path:
                beside[key] = [along[at % before] for at in range(value)]
    if not isinstance(before, list) or not isinstance(value, list) or not before:
        return made
    if len(before) != len(value):
        where = path.rpartition(".")[0]
        beside = get(made, where) if where else made
        for key, along in beside.items():
            if isinstance(along, list) and len(along) == len(before) and value:
                beside[key] = [along[at % len(before)] for at in range(len(value))]
    return made
