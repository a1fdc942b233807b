"""Holds what the data say of config classes against the library, on configs made up here.

    python -m tidoctor.atlas.learn.resolving [--data FOLDER] [--count N]

No model is built, so that every field of every config class can be asked for under hundreds of
configs: each field that it has with several values alone, then some together. What the shipped
reader makes of a field is the library's value, or it refuses.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import data
from tidoctor.atlas.configs import Resolved
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.learn import gates
from tidoctor.atlas.learn.configs import PLAIN, THREE, Config, kinds
from tidoctor.atlas.learn.dotted import put
from tidoctor.atlas.learn.trying import alternatives, distinct
from tidoctor.atlas.learn.write import DATA

COUNT = 60  # configs with several fields changed
DEEPEST = 40  # layers
SECONDS = 4.0  # of processor time for one config class
_LEFT = ("id2label", "label2id", "transformers_version", "model_type", "dtype", "torch_dtype")

_COUNTED = re.compile(r"in range\((\w+)\)")

Wrong = dict[str, list[dict[str, Any]]]


def choices(
    config: Config, told: Container[str], counted: Container[str] = ()
) -> dict[str, list[Any]]:
    """Keys of a config.json with values to give them, more of those that something is told of.

    For the number of layers that a list follows from, all up to `DEEPEST`: which layer is of which
    kind is fitted to a few, and the last one is often an exception.
    """
    found: dict[str, list[Any]] = {"num_labels": [5], "id2label": [THREE]}
    for path, value in config.values.items():
        if path.rpartition(".")[2] in _LEFT or not isinstance(value, PLAIN):
            continue
        words = sorted(config.words) if isinstance(value, str) else []
        options = alternatives(value, set(words))
        if value is None:
            options = [2, 64, True, 0.5, [1], *sorted(config.words)[:10]]
        some = range(1, DEEPEST + 1) if path in counted else options[: 4 if path in told else 2]
        found[path] = distinct([*some, None, value])
    # A field that comes by another name is set later: what follows from it may not see it.
    for other, path in (getattr(config.kind, "attribute_map", None) or {}).items():
        if path in found and other not in found:
            found[other] = [each for each in found[path] if each is not None][:2]
    for extra in sorted(config.extras - config.values.keys()):
        found[extra] = [2, 3, True, False]
    return found


def raws(
    config: Config, count: int, told: Container[str], counted: Container[str] = ()
) -> Iterator[dict[str, Any]]:
    """Configs that the library takes: nothing said, each field alone, several at random."""
    yield {}
    taken: dict[str, list[Any]] = {}
    for path, values in choices(config, told, counted).items():
        for value in values:
            raw: dict[str, Any] = {}
            put(raw, path, value)
            if config.made(raw) is not None:
                taken.setdefault(path, []).append(value)
                yield raw
    chance = random.Random(f"resolving {config.kind.__name__}")
    paths = sorted(taken)
    for _ in range(count):
        raw = {}
        for path in chance.sample(paths, min(len(paths), chance.randint(2, 6))):
            try:
                put(raw, path, chance.choice(taken[path]))
            except (KeyError, TypeError, AttributeError):
                continue
        yield raw


def fields_under(source: data.Data, model_type: str, depth: int = 3) -> Iterator[str]:
    """The fields that the data say something of, of sub-configs too."""
    try:
        row = source.config(model_type)
    except NotCovered:
        return
    yield from row.get("fields", ())
    for key, part in row.get("parts", {}).items() if depth else ():
        for name in fields_under(source, str(part.get("type")), depth - 1):
            yield f"{key}.{name}"


def plain(value: Any) -> Any:
    """As JSON has it: every sequence a list."""
    return [*map(plain, value)] if isinstance(value, list | tuple | range) else value


def examined(root: str, count: int, model_type: str) -> tuple[str, Wrong, int]:
    """What is wrong in one config class: field -> examples. Runs in a worker."""
    source = gates.data_at(root)
    wrong: Wrong = {}
    asked = 0
    try:
        config = Config(kinds()[model_type])
    except Exception:
        return model_type, {}, 0
    fields = list(fields_under(source, model_type))
    counted = frozenset(_COUNTED.findall(json.dumps(source.config(model_type)["fields"])))
    until = time.process_time() + SECONDS
    with data.using(source):
        for raw in raws(config, count, frozenset(fields), counted):
            made = config.made(raw) if time.process_time() < until else None
            if made is None:
                continue
            try:
                resolved = Resolved(json.loads(json.dumps(raw)), model_type, source=source)
            except NotCovered:
                continue
            for field in fields:
                if field not in made or isinstance(made[field], dict):
                    continue
                try:
                    said: Any = resolved.value(field)
                except NotCovered:
                    continue
                asked += 1
                said, real = plain(said), plain(made[field])
                if said != real or isinstance(said, bool) != isinstance(real, bool):
                    rows = wrong.setdefault(field, [])
                    if len(rows) < 8:
                        rows.append({"raw": raw, "said": said, "real": real})
    return model_type, wrong, asked


def all_examined(
    root: Path, types: Iterable[str], *, count: int = COUNT, workers: int = 2
) -> Iterator[tuple[str, Wrong, int]]:
    """What is wrong in config classes, as they come."""
    gates.data_at.cache_clear()
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        work = functools.partial(examined, str(root), count)
        yield from pool.imap_unordered(work, list(types), 2)


def main() -> int:
    """Examine, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write what is wrong here")
    parser.add_argument("only", nargs="*", help="model types")
    arguments = parser.parse_args()
    gates.prepare()
    begun = time.monotonic()
    types: Mapping[str, str] = json.loads((arguments.data / "index.json").read_text())["configs"]
    totals: Counter[str] = Counter()
    everything: dict[str, Wrong] = {}
    for model_type, wrong, asked in all_examined(
        arguments.data, arguments.only or types, count=arguments.count, workers=arguments.workers
    ):
        totals.update(types=1, asked=asked, wrong=len(wrong))
        if wrong:
            everything[model_type] = wrong
        for field, rows in wrong.items():
            print(f"{model_type} {field}: {json.dumps(rows[0], default=str)}"[:400], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, default=str))
    print(f"{dict(totals)}, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
