"""Rebuilds `tidoctor/atlas/layouts` from the installed transformers, and ships what is true.

    python -m tidoctor.atlas.learn [--real FILE] [--floor all=90] [--cache FOLDER]

Needs torch and transformers 5 (`pip install tidoctor[learn]`). Three steps: every class is
learned in a few seconds from models built on the meta device; the config classes that they need
are learned; the gates (`tidoctor.atlas.learn.gates`) hold all of it against the library on other
configs. A class that was wrong anywhere is learned again with the config that showed it, and what
is wrong in the last round is taken out. Then the data files are replaced and the coverage is
printed by task, with the reason for each class that is absent.

The cache holds one file per finished class and config class, so that an interrupted run goes on
where it was; delete what should be learned anew. Most classes take 3 to 10 seconds of processor
time, a few a minute or more: with an empty cache expect hours on two cores, of which the configs
take ten minutes and the gates about fifteen.

Exit code 1: a task is covered less than its --floor.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn import gates
from tidoctor.atlas.learn.write import DATA, publish

SECONDS = 30.0
ABSENT = "absent"
COUNTERS = "counters"
# How often classes that failed are learned again from what they failed on.
AGAIN = 2


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
        path = self.cache / COUNTERS / f"{name}.json"
        counters = json.loads(path.read_text()) if path.exists() else []
        try:
            return learn(name, self, self.seconds, counters)
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


def main() -> int:
    """Learn all classes, run the gates and replace the data files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    gates.options(parser)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="sampling time per class")
    parser.add_argument("--cache", type=Path, default=Path(".atlas-cache"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    arguments = parser.parse_args()
    begun = time.monotonic()
    gates.prepare()
    gates.below(gates.Coverage(arguments.data, {}), arguments.floor)  # are they readable?
    arguments.cache.mkdir(parents=True, exist_ok=True)
    staged, counters = arguments.cache / "staged", arguments.cache / COUNTERS
    counters.mkdir(exist_ok=True)
    for turn in range(1 + AGAIN):
        learn_classes(arguments.cache, arguments.workers, arguments.seconds)
        print(f"learned after {time.monotonic() - begun:.0f} s", flush=True)
        assemble(arguments.cache, staged, arguments.workers)
        print(f"assembled after {time.monotonic() - begun:.0f} s", flush=True)
        coverage = gates.passed(
            staged, workers=arguments.workers, count=arguments.count,
            seed=f"{arguments.seed}{turn or ''}", real=arguments.real, saves=arguments.saved,
            counters=counters,
        )  # fmt: skip
        if not coverage.wrong or turn == AGAIN:
            break
        for name in coverage.wrong:
            (arguments.cache / f"{name}.json").unlink(missing_ok=True)
    publish(staged, arguments.data)
    print("\n".join(coverage.lines()))
    print(f"done after {time.monotonic() - begun:.0f} s")
    failed = gates.below(coverage, arguments.floor)
    if failed:
        print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


def learn_classes(cache: Path, workers: int, seconds: float) -> None:
    """Learn what the cache does not have."""
    from tidoctor.atlas.learn.builds import population

    names = sorted(population(), key=order)
    reasons: Counter[str] = Counter()
    # Forked, so that the workers share the imported library.
    with multiprocessing.get_context("fork").Pool(
        workers, start, (str(cache), seconds)
    ) as pool:
        for at, (name, reason, took) in enumerate(pool.imap_unordered(work, names)):
            reasons[reason.partition(":")[0] or "learned"] += 1
            if reason or took > 60 or at % 50 == 0:
                print(f"{at}/{len(names)} {name} {took:.1f} s {reason}", file=sys.stderr)
    print(dict(reasons), file=sys.stderr)


def assemble(cache: Path, staged: Path, workers: int) -> None:
    """Learn the configs that the classes need, and write all data files into a folder."""
    from tidoctor.atlas.learn import configs
    from tidoctor.atlas.learn.builds import type_name
    from tidoctor.atlas.learn.samples import is_inert
    from tidoctor.atlas.learn.write import wanted_fields, write

    rows = {path.stem: json.loads(path.read_text()) for path in sorted(cache.glob("*.json"))}
    learned = {name: row for name, row in rows.items() if ABSENT not in row}
    for row in learned.values():
        kept = {path: seen for path, seen in row.get("pinned", {}).items() if not is_inert(path)}
        row["pinned"] = {k: v for k, v in kept.items() if not k.endswith("_version")}
    absent = {name: row[ABSENT] for name, row in rows.items() if ABSENT in row}
    kinds = configs.kinds()

    @functools.cache
    def parts(model_type: str) -> Mapping[str, Any]:
        try:
            return configs.Config(kinds[model_type]).parts
        except Exception:
            return {}

    wanted = wanted_fields(learned, parts)
    jobs: list[ConfigJob] = []
    for model_type, fields in sorted(wanted.items()):
        below = {type_name(type(each)) for each in parts(model_type).values()}
        fields_below = {each: sorted(wanted[each]) for each in sorted(below) if each in wanted}
        jobs.append((str(cache / "configs"), model_type, sorted(fields), fields_below))
    (cache / "configs").mkdir(exist_ok=True)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        found = pool.map(learn_config, jobs, 4)
    rows_by_type = {k: row for k, row in found if row is not None}
    for model_type, kind in kinds.items():  # other names for a config class
        if kind.model_type in rows_by_type:
            rows_by_type.setdefault(model_type, rows_by_type[kind.model_type])
    write(staged, learned, absent, rows_by_type, kinds)


# Folder of the cache, model type, its fields, and the fields of the types of its sub-configs.
ConfigJob = tuple[str, str, list[str], dict[str, list[str]]]


def learn_config(job: ConfigJob) -> tuple[str, dict[str, Any] | None]:
    """Facts about one config class, None where it has no usable defaults. Runs in a worker."""
    from tidoctor.atlas.learn import configs

    cache, model_type, fields, below = job
    asked = [fields, below]
    path = Path(cache) / f"{model_type}.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known["asked"] == asked:
            return model_type, known["row"]
    row: dict[str, Any] | None = None
    try:
        row = configs.Config(configs.kinds()[model_type]).facts(fields, below)
    except Exception as error:
        print(f"config {model_type}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
    path.write_text(json.dumps({"asked": asked, "row": row}))
    return model_type, row


if __name__ == "__main__":
    sys.exit(main())
