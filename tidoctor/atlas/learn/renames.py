"""Learns `renames.json`: what transformers does to the names in a file while it loads them.

    python -m tidoctor.atlas.learn.renames [--workers N]

Needs torch and transformers 5. Two tables come out. `rules` has the conversions as the library
keeps them, by class name or model type (conversion_mapping.py); prefix changes stand there as
the patterns they amount to, and lists that equal another one as its name under `same`.
`classes` has the submodels of each class that can bring conversions of their own: where they
sit, what they are and which config they were built from. A class of `families.json` that needs
no row has none.
`unlearned` has the classes that the library could not build here, with the reason.

The library walks the submodels of a model to collect its conversions
(`get_model_conversion_mapping`); the walk itself is done by `tidoctor.atlas.renames`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tidoctor.atlas import families, learner

DATA = Path(__file__).parent.with_name("renames.json")
Row = dict[str, Any]


def rule_row(transform: Any) -> Row:
    """One conversion of the library as plain data; raises ValueError for a kind unknown here."""
    from transformers import core_model_loading as core

    row: Row = {"from": alone(transform.source_patterns), "to": alone(transform.target_patterns)}
    kind = type(transform)
    if kind is core.WeightConverter:
        row["through"] = [operation_row(each) for each in transform.operations]
    elif kind is core.GroupWeightRename:
        row["paired"] = True
    elif kind is core.Inkling2IndexOffsetWeightRename:
        row["offset"] = transform.offset
    elif kind not in (core.WeightRenaming, core.PrefixChange):
        raise ValueError(f"a conversion of an unknown kind: {kind.__name__}")
    return row


def operation_row(operation: Any) -> list[Any]:
    """The operation's name and the parameters that are set."""
    return [type(operation).__name__, {k: v for k, v in vars(operation).items() if v is not None}]


def alone(patterns: list[str]) -> str | list[str]:
    """A list of one as its item."""
    return patterns[0] if len(patterns) == 1 else list(patterns)


def tables() -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Rules by class name or model type, and the names whose rules equal another's."""
    from transformers import conversion_mapping

    whole = {
        name: [rule_row(each) for each in conversions]
        for name, conversions in conversion_mapping._build_checkpoint_conversion_mapping().items()
    }
    borrowed = conversion_mapping._MODEL_TO_CONVERSION_PATTERN
    rules: dict[str, list[Row]] = {}
    same: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in sorted(whole, key=lambda name: (name in borrowed, name)):
        owner = first.setdefault(json.dumps(whole[name]), name)
        if owner == name:
            rules[name] = whole[name]
        else:
            same[name] = owner
    return rules, same


def class_row(name: str, wanted: frozenset[str]) -> Row:
    """The class's own model type and its submodels that may bring rules.

    A submodel is kept when there are rules for it, or when the config chooses its class.

    Raises:
        learner.Unbuildable: the library cannot build the class from default values.
    """
    import torch
    import transformers

    from tidoctor.atlas.learn import builds, hurry

    with hurry.limited(hurry.SECONDS * 4):
        config = builds.configured(name, builds.default_values(name))
        with torch.device("meta"):
            model = learner.model_class(name)(config)
    paths = {id(each): path for path, each in builds.nested(config)}
    parts = []
    chosen_above: set[str | None] = set()
    for at, module in model.named_modules():
        if not at or not isinstance(module, transformers.PreTrainedModel):
            continue
        known, model_type = type(module).__name__, module.config.model_type
        path = paths.get(id(module.config))
        open_to = path is not None and chosen(config, path) and path not in chosen_above
        if not open_to and not {known, model_type} & wanted:
            continue
        row: Row = {"at": at, "class": known, "type": model_type}
        if path is not None:
            row["config"] = path
        if open_to:
            row["open"] = True
            chosen_above.add(path)
        parts.append(row)
    return {"type": model.config.model_type, "parts": parts}


def chosen(config: Any, path: str) -> bool:
    """Whether config.json may choose the config class at a path."""
    from transformers import AutoConfig

    *outer, last = path.split(".")
    for step in outer:
        config = getattr(config, step)
    return bool((getattr(type(config), "sub_configs", None) or {}).get(last) is AutoConfig)


def learn_one(job: tuple[str, frozenset[str]]) -> tuple[str, Row | str]:
    """A class's row or the reason why there is none."""
    name, wanted = job
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity(60)
    warnings.simplefilter("ignore")
    learner.stand_in_for_timm()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return name, class_row(name, wanted)
    except Exception as reason:
        return name, f"{type(reason).__name__}: {(str(reason).splitlines() or [''])[0][:150]}"


def learned_classes(
    wanted: frozenset[str], workers: int
) -> tuple[dict[str, Row], dict[str, str]]:
    """Rows of all classes that need one, and reasons for those that could not be built."""
    names = sorted(learner.tasks_of_classes())
    rows: dict[str, Row] = {}
    unlearned: dict[str, str] = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, found in pool.map(learn_one, [(name, wanted) for name in names], chunksize=4):
            if isinstance(found, str):
                unlearned[name] = found
            elif found["parts"] or {name, found["type"]} & wanted or not families.class_facts(name):
                rows[name] = found
    return rows, unlearned


def lines(content: Mapping[str, Any]) -> Iterator[str]:
    """JSON with one line per rule, class or other entry, so that differences can be read."""

    def packed(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

    blocks = []
    for key, table in content.items():
        rows = []
        for name, row in table.items():
            text = packed(row)
            if isinstance(row, list) and row:
                text = "[\n" + ",\n".join(packed(each) for each in row) + "\n]"
            rows.append(f"{packed(name)}:{text}")
        blocks.append(f"{packed(key)}:{{\n" + ",\n".join(rows) + "\n}")
    yield "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> None:
    """Write `renames.json`."""
    import transformers

    parser = argparse.ArgumentParser(description="Learn renames.json from transformers.")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    rules, same = tables()
    rows, unlearned = learned_classes(frozenset(rules) | frozenset(same), arguments.workers)
    content = {
        "learned_from": {"transformers": transformers.__version__},
        "rules": rules,
        "same": same,
        "classes": rows,
        "unlearned": unlearned,
    }
    DATA.write_text("".join(lines(content)), encoding="utf-8")
    print(f"{len(rules)} lists of rules, {len(rows)} classes, {len(unlearned)} not built")


if __name__ == "__main__":
    main()
