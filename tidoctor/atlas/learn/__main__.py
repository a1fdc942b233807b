"""Rebuilds `tidoctor/atlas/layouts` from the installed transformers.

    python -m tidoctor.atlas.learn [--workers N] [--only REGEX] [--cache FOLDER]

Needs torch and transformers 5. Every class is learned in a few seconds and examined on configs
that it was not learned from; what cannot be expressed or fails the examination is left out,
with its reason. The cache holds one file per finished class, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import learner

ABSENT = "absent"


class Known(Mapping[str, Any]):
    """Facts about classes by name: from the cache, else learned now."""

    def __init__(self, cache: Path, seconds: float) -> None:
        self.cache, self.seconds = cache, seconds
        self._held: dict[str, Any] = {}
        self._busy: list[str] = []

    def row(self, name: str) -> dict[str, Any]:
        """The facts, or {"absent": reason}."""
        if name in self._held:
            return dict(self._held[name])
        path = self.cache / f"{name}.json"
        if path.exists():
            row = json.loads(path.read_text())
        elif name in self._busy:
            return {ABSENT: "part of itself"}
        else:
            row = self._learned(name)
            written = path.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps(row))
            written.replace(path)
        self._held[name] = row
        return dict(row)

    def _learned(self, name: str) -> dict[str, Any]:
        from tidoctor.atlas.learn.classes import learn
        from tidoctor.atlas.learn.forms import Inexpressible

        self._busy.append(name)
        try:
            return learn(name, self, self.seconds)
        except (Inexpressible, learner.Unbuildable) as reason:
            return {ABSENT: f"{type(reason).__name__}: {reason}"[:300]}
        except Exception as error:
            traceback.print_exc()
            return {ABSENT: f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        finally:
            self._busy.remove(name)

    def __getitem__(self, name: str) -> Any:
        row = self.row(name)
        if ABSENT in row:
            raise KeyError(name)
        return row

    def __contains__(self, name: object) -> bool:
        from tidoctor.atlas.learn.builds import population

        return isinstance(name, str) and name in population() and ABSENT not in self.row(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


_known: Known


def start(cache: str, seconds: float) -> None:
    """Prepare a worker."""
    global _known
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _known = Known(Path(cache), seconds)


def work(name: str) -> tuple[str, str, float]:
    """Learn one class in a worker."""
    begun = time.monotonic()
    row = _known.row(name)
    return name, str(row.get(ABSENT, "")), time.monotonic() - begun


def order(name: str) -> tuple[bool, bool, str]:
    """Bodies first, since heads are learned from them; wrappers of several models last."""
    task = learner.tasks_of_classes().get(name)
    return (task != "base", task in ("image-text-to-text", "speech-seq2seq"), name)


def main() -> None:
    """Learn all classes and write the data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--seconds", type=float, default=40.0, help="most time per class")
    parser.add_argument("--cache", type=Path, default=Path(".atlas-cache"))
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import transformers

    from tidoctor.atlas.learn.builds import hurry, population

    hurry()
    transformers.logging.set_verbosity_error()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    learner.stand_in_for_timm()
    for function in ("classes_by_type", "tasks_of_classes", "model_types_by_class"):
        setattr(learner, function, functools.cache(getattr(learner, function)))
    names = sorted((each for each in population() if re.search(arguments.only, each)), key=order)
    reasons: Counter[str] = Counter()
    # Forked, so that the workers share the imported library.
    with multiprocessing.get_context("fork").Pool(
        arguments.workers, start, (str(arguments.cache), arguments.seconds)
    ) as pool:
        for at, (name, reason, seconds) in enumerate(pool.imap_unordered(work, names)):
            reasons[reason.partition(":")[0] or "learned"] += 1
            if reason or seconds > 30 or at % 50 == 0:
                print(f"{at}/{len(names)} {name} {seconds:.1f} s {reason}", file=sys.stderr)
    print(dict(reasons), file=sys.stderr)
    if not arguments.only:
        assemble(arguments.cache, arguments.workers)


def assemble(cache: Path, workers: int) -> None:
    """Learn the configs that the classes need, and write all data files."""
    from tidoctor.atlas.learn import configs
    from tidoctor.atlas.learn.samples import is_inert
    from tidoctor.atlas.learn.write import wanted_fields, write

    rows = {path.stem: json.loads(path.read_text()) for path in sorted(cache.glob("*.json"))}
    learned = {name: row for name, row in rows.items() if ABSENT not in row}
    for row in learned.values():
        kept = {path: seen for path, seen in row.get("pinned", {}).items() if not is_inert(path)}
        row["pinned"] = {k: v for k, v in kept.items() if not k.endswith("_version")}
    absent = {name: row[ABSENT] for name, row in rows.items() if ABSENT in row}
    kinds = configs.kinds()
    config_of = functools.cache(lambda model_type: configs.Config(kinds[model_type]))
    wanted = wanted_fields(learned, config_of)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        jobs = [(k, sorted(v), {t: sorted(f) for t, f in wanted.items()}) for k, v in wanted.items()]
        found = pool.map(learn_config, sorted(jobs, key=lambda job: job[0]), 4)
    rows_by_type = {k: row for k, row in found if row is not None}
    for model_type, kind in kinds.items():  # other names for a config class
        if kind.model_type in rows_by_type:
            rows_by_type.setdefault(model_type, rows_by_type[kind.model_type])
    write(learned, absent, rows_by_type, kinds)


def learn_config(
    job: tuple[str, list[str], dict[str, list[str]]],
) -> tuple[str, dict[str, Any] | None]:
    """Facts about one config class, None where it has no usable defaults. Runs in a worker."""
    from tidoctor.atlas.learn import configs

    try:
        return job[0], configs.Config(configs.kinds()[job[0]]).facts(*job[1:])
    except Exception as error:
        print(f"config {job[0]}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
        return job[0], None


if __name__ == "__main__":
    main()
