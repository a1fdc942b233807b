"""Puts what is known of classes together with the configs that they need, as data files."""

from __future__ import annotations

import functools
import json
import multiprocessing
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas.learn.known import Run, completed
from tidoctor.atlas.learn.mending import ABSENT, COUNTERS
from tidoctor.atlas.learn.shipped import NOTHING, shipped, sufficient


def assemble(run: Run, staged: Path) -> None:
    """Learn the configs that the classes need, and write all data files into a folder."""
    from tidoctor.atlas.learn import configs
    from tidoctor.atlas.learn.builds import type_name
    from tidoctor.atlas.learn.trying import is_inert
    from tidoctor.atlas.learn.write import inner_fields, wanted_fields, write

    cache = run.cache
    rows = {path.stem: json.loads(path.read_text()) for path in sorted(cache.glob("*.json"))}
    learned = {name: row for name, row in rows.items() if ABSENT not in row}
    for row in learned.values():
        for path in [*row.get("pinned", ())]:
            if is_inert(path) or path.endswith("_version"):
                del row["pinned"][path]
    learned = {name: completed(cache, name, row) for name, row in learned.items()}
    absent = {name: row[ABSENT] for name, row in rows.items() if ABSENT in row}
    kinds = configs.kinds()

    @functools.cache
    def parts(model_type: str) -> Mapping[str, Any]:
        try:
            return configs.Config(kinds[model_type]).parts
        except Exception:
            return {}

    wanted = wanted_fields(learned, parts)
    (cache / "configs").mkdir(exist_ok=True)
    with multiprocessing.get_context("fork").Pool(run.workers) as pool:
        while True:
            jobs: list[ConfigJob] = []
            for model_type, fields in sorted(wanted.items()):
                below = {type_name(type(each)) for each in parts(model_type).values()}
                inside = {each: sorted(wanted[each]) for each in sorted(below) if each in wanted}
                jobs.append((run, model_type, sorted(fields), inside))
            found = pool.map(learn_config, jobs, 4)
            rows_by_type = {k: row for k, row in found if row is not None}
            more = inner_fields(rows_by_type, parts)
            if all(fields <= wanted.get(each, set()) for each, fields in more.items()):
                break
            for model_type, fields in more.items():
                wanted[model_type] = wanted.get(model_type, set()) | fields
    # What is known of a config serves also where all of its classes are absent.
    known = shipped(run.begin) if run.begin else NOTHING
    for model_type, row in known.configs.items():
        if model_type in kinds:
            rows_by_type.setdefault(model_type, row)
    for model_type, kind in kinds.items():  # other names for a config class
        if kind.model_type in rows_by_type:
            rows_by_type.setdefault(model_type, rows_by_type[kind.model_type])
    write(staged, learned, absent, rows_by_type, kinds)


# How it is learned, model type, its fields, and the fields of the types of its sub-configs.
ConfigJob = tuple[Run, str, list[str], dict[str, list[str]]]


def learn_config(job: ConfigJob) -> tuple[str, dict[str, Any] | None]:
    """Facts about one config class, None where it has no usable defaults. Runs in a worker."""
    from tidoctor.atlas.learn import configs

    run, model_type, fields, below = job
    cache = run.cache
    asked: list[Any] = [fields, below]
    counters = cache / COUNTERS / "configs" / f"{model_type}.json"
    told = json.loads(counters.read_text()) if counters.exists() else {}
    if told:
        asked.append(told)
    path = cache / "configs" / f"{model_type}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["asked"] == asked:
            return model_type, kept["row"]
    known = shipped(run.begin) if run.begin and not told else NOTHING
    row = sufficient(model_type, known, fields)
    if row is not None:
        return model_type, row
    try:
        config = configs.Config(configs.kinds()[model_type], told.get("raw", ()))
        row = config.facts(fields, below)
        for field in told.get("out", ()):
            row["fields"].pop(field, None)
            key, _, inner = field.rpartition(".")
            if key in row.get("parts", {}):
                row["parts"][key].setdefault("sets", {})[inner] = {"always": None}
    except Exception as error:
        print(f"config {model_type}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
    path.write_text(json.dumps({"asked": asked, "row": row}))
    return model_type, row


def note_config(cache: Path, model_type: str, wrong: Mapping[str, Any]) -> None:
    """Note raw configs on which fields were wrong; what was wrong before is given up."""
    path = cache / COUNTERS / "configs" / f"{model_type}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    known = json.loads(path.read_text()) if path.exists() else {"fields": [], "raw": [], "out": []}
    for field, rows in wrong.items():
        known["out" if field in known["fields"] else "fields"].append(field)
        known["raw"] += [each["raw"] for each in rows if each["raw"] not in known["raw"]]
    path.write_text(json.dumps(known))
