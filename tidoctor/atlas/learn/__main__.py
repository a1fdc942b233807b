"""Rebuilds `tidoctor/atlas/layouts` from the installed transformers, and ships what is true.

    python -m tidoctor.atlas.learn [--real FILE] [--floor all=90] [--cache FOLDER]
    python -m tidoctor.atlas.learn --only 'Llama.*|BertModel' --data FOLDER

Needs torch and transformers 5 (`pip install tidoctor[learn]`). Three steps: every class is
learned in a few seconds from models built on the meta device; the config classes that they need
are learned; the gates (`tidoctor.atlas.learn.gates`) hold all of it against the library on other
configs, and what is still wrong is taken out. Then the data files are replaced and the coverage is
printed by task, with the reason for each class that is absent.

What is learned is verified: every class by a scan (`scan`, one field at a time) and on random
configs, heads against bodies (`agreeing`), every config class for itself (`resolving`). What was
wrong is mended (`mending`): the configs that showed it are counters for learning the class again;
where that does not help, the class is limited to what was seen right. That is repeated until
nothing is wrong.

The cache holds one file per finished class and config class, so that an interrupted run goes on
where it was; delete what should be learned anew. By a random sample of 50 classes most take 1
to 5 seconds of processor time, wrappers of several models half a minute, a few of them minutes:
with an empty cache expect well over an hour on two cores, of which one round of verifying takes
about twenty minutes and the configs five. Each turn of mending verifies again.

Exit code 1: a task is covered less than its --floor.
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
from tidoctor.atlas.learn import checked, gates, siblings
from tidoctor.atlas.learn.mending import COUNTERS, limited, limits_at
from tidoctor.atlas.learn.write import DATA, publish

SECONDS = 30.0
ABSENT = "absent"
FOUND = "found"
# How often what was wrong is mended and all is verified again.
AGAIN = 4


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
        self._held[name] = row = completed(self.cache, name, row)
        return dict(row)

    def forget(self, name: str) -> str:
        """Learn a class anew when it is asked for; the text of what was known of it."""
        self._held.pop(name, None)
        path = self.cache / f"{name}.json"
        text = path.read_text()
        path.unlink()
        return text

    def remember(self, name: str, text: str) -> None:
        """Take back what was known of a class."""
        self._held.pop(name, None)
        (self.cache / f"{name}.json").write_text(text)

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


def completed(cache: Path, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The facts with what was checked by hand, and limits that a verification made necessary."""
    if ABSENT in row:
        return row
    row = siblings.sound(checked.pinned(name, checked.guarded(name, row)))
    return limited(row, limits_at(cache, name))


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
    parser.add_argument("--only", default="", metavar="REGEX",
                        help="of names of classes: these, and what they have as parts")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.only and arguments.data.resolve() == DATA:
        parser.error("--only would leave nothing else in the data files: name another --data")
    begun = time.monotonic()
    gates.prepare()
    gates.below(gates.Coverage(DATA, {}), arguments.floor)  # are they readable?
    arguments.cache.mkdir(parents=True, exist_ok=True)
    staged = arguments.cache / "staged"
    for turn in range(1 + AGAIN):
        learn_classes(
            arguments.cache, arguments.workers, arguments.seconds, arguments.only
        )
        print(f"learned after {time.monotonic() - begun:.0f} s", flush=True)
        assemble(arguments.cache, staged, arguments.workers)
        print(f"assembled after {time.monotonic() - begun:.0f} s", flush=True)
        wrong = verified(
            arguments.cache, staged, f"{arguments.seed}{turn or ''}", arguments.count,
            arguments.workers,
        )  # fmt: skip
        print(f"verified after {time.monotonic() - begun:.0f} s: {len(wrong)} wrong", flush=True)
        if not wrong:
            break
        mend(arguments.cache, wrong, arguments.workers, arguments.seconds)
    assemble(arguments.cache, staged, arguments.workers)
    coverage = gates.passed(
        staged, workers=arguments.workers, count=arguments.count, seed=f"{arguments.seed} last",
        real=arguments.real, saves=arguments.saved, counters=arguments.cache / COUNTERS,
    )  # fmt: skip
    publish(staged, arguments.data)
    print("\n".join(coverage.lines()))
    print(f"done after {time.monotonic() - begun:.0f} s")
    failed = gates.below(coverage, arguments.floor)
    if failed:
        print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


def learn_classes(cache: Path, workers: int, seconds: float, only: str = "") -> None:
    """Learn what the cache does not have, of the classes with such names."""
    from tidoctor.atlas.learn.builds import population

    names = sorted((name for name in population() if re.fullmatch(only or ".*", name)), key=order)
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


def verified(cache: Path, staged: Path, seed: str, count: int, workers: int) -> list[str]:
    """The classes and config classes of which something is wrong; why is noted in the cache."""
    from tidoctor.atlas.learn import agreeing, resolving, scan

    (cache / COUNTERS).mkdir(exist_ok=True)
    found: dict[str, None] = {}
    for finding in scan.all_scanned(staged, cache / FOUND, workers=workers):
        if finding["wrong"]:
            gates.note(
                cache / COUNTERS / f"{finding['name']}.json", [e["raw"] for e in finding["wrong"]]
            )
            found[finding["name"]] = None
    for name in gates.wrong_at_random(
        staged, workers=workers, count=count, seed=seed, counters=cache / COUNTERS
    ):
        found[name] = None
    for name, rows in agreeing.all_wrong(staged, workers=workers):
        gates.note(cache / COUNTERS / f"{name}.json", [raw for raw, _ in rows])
        found[name] = None
    types = json.loads((staged / "index.json").read_text())["configs"]
    for model_type, wrong, _ in resolving.all_examined(staged, types, workers=workers):
        if wrong:
            note_config(cache, model_type, wrong)
            found[model_type] = None
    return list(found)


def note_config(cache: Path, model_type: str, wrong: Mapping[str, Any]) -> None:
    """Note raw configs on which fields were wrong; what was wrong before is given up."""
    path = cache / COUNTERS / "configs" / f"{model_type}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    known = json.loads(path.read_text()) if path.exists() else {"fields": [], "raw": [], "out": []}
    for field, rows in wrong.items():
        known["out" if field in known["fields"] else "fields"].append(field)
        known["raw"] += [each["raw"] for each in rows if each["raw"] not in known["raw"]]
    path.write_text(json.dumps(known))


def mend(cache: Path, wrong: list[str], workers: int, seconds: float) -> None:
    """Learn again what was wrong, pin what stays wrong, leave out the rest."""
    from tidoctor.atlas.learn.builds import population

    names = sorted(set(wrong) & population(), key=order)
    bodies = [name for name in names if not order(name)[0]]
    for group in (bodies, [name for name in names if order(name)[0]]):
        # Each time with fresh workers, which know what was learned last.
        with multiprocessing.get_context("fork").Pool(
            workers, start, (str(cache), seconds)
        ) as pool:
            for name, how in pool.imap_unordered(mended, group):
                print(f"mended {name}: {how}", flush=True)


def mended(name: str) -> tuple[str, str]:
    """Mend one class by its counters and findings, and how. Runs in a worker."""
    from tidoctor.atlas.learn import mending

    cache, row = _known.cache, _known.row(name)
    if ABSENT in row:
        return name, "it is absent"
    path = cache / COUNTERS / f"{name}.json"
    pairs = mending.samples_of(name, json.loads(path.read_text()) if path.exists() else ())
    found = cache / FOUND / f"{name}.json"
    right = json.loads(found.read_text())["right"] if found.exists() else {}
    wrong = mending.wrong_ones(name, row, pairs, _known)
    if not wrong:
        return name, "right by its parts or its config"
    if mending.limit(cache, name, row, wrong, right, _known, mild=True):
        return name, "mildly limited"
    for kin, before, after in kin_of(name):
        made = siblings.borrowed(row, _known.row(kin), before, after)
        if not mending.wrong_ones(name, made, pairs, _known):
            _known.remember(name, json.dumps(made))
            return name, f"as {kin}"
    text = _known.forget(name)
    again = _known.row(name)
    wrong = [] if ABSENT in again else mending.wrong_ones(name, again, pairs, _known)
    if not wrong and ABSENT not in again and not narrower(again, row):
        return name, "learned again"
    if ABSENT in again or narrower(again, row):
        _known.remember(name, text)
        again = _known.row(name)
        wrong = mending.wrong_ones(name, again, pairs, _known)
    if mending.limit(cache, name, again, wrong, right, _known):
        return name, f"limited: {mending.limits_at(cache, name)}"[:300]
    reason = f"{len(wrong)} configs on which nothing explains it"
    _known.remember(name, json.dumps({ABSENT: f"wrong on a random config: {reason}"}))
    return name, reason


def kin_of(name: str) -> Iterator[tuple[str, str, str]]:
    """The heads of a body or the body of a head, with the prefix here and the one there."""
    from tidoctor.atlas.learn.builds import population

    row = _known.row(name)
    for other in sorted(population()):
        path = _known.cache / f"{other}.json"
        if other == name or not path.exists() or f'"{row["config"]}"' not in path.read_text():
            continue
        kin = _known.row(other)
        if ABSENT in kin or kin["config"] != row["config"]:
            continue
        if order(name)[0] and not order(other)[0]:
            yield other, f"{row['prefix']}.", ""
        elif not order(name)[0] and order(other)[0]:
            yield other, "", f"{kin['prefix']}."
        elif order(name)[0]:
            yield other, "", ""


def narrower(row: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Whether facts hold for clearly fewer configs than others."""
    return len(row.get("pinned", ())) > len(than.get("pinned", ())) + 2


def assemble(cache: Path, staged: Path, workers: int) -> None:
    """Learn the configs that the classes need, and write all data files into a folder."""
    from tidoctor.atlas.learn import configs
    from tidoctor.atlas.learn.builds import type_name
    from tidoctor.atlas.learn.samples import is_inert
    from tidoctor.atlas.learn.write import inner_fields, wanted_fields, write

    rows = {path.stem: json.loads(path.read_text()) for path in sorted(cache.glob("*.json"))}
    learned = {name: row for name, row in rows.items() if ABSENT not in row}
    for row in learned.values():
        kept = {path: seen for path, seen in row.get("pinned", {}).items() if not is_inert(path)}
        row["pinned"] = {k: v for k, v in kept.items() if not k.endswith("_version")}
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
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        while True:
            jobs: list[ConfigJob] = []
            for model_type, fields in sorted(wanted.items()):
                below = {type_name(type(each)) for each in parts(model_type).values()}
                inside = {each: sorted(wanted[each]) for each in sorted(below) if each in wanted}
                jobs.append((str(cache), model_type, sorted(fields), inside))
            found = pool.map(learn_config, jobs, 4)
            rows_by_type = {k: row for k, row in found if row is not None}
            more = inner_fields(rows_by_type, parts)
            if all(fields <= wanted.get(each, set()) for each, fields in more.items()):
                break
            for model_type, fields in more.items():
                wanted[model_type] = wanted.get(model_type, set()) | fields
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
    asked: list[Any] = [fields, below]
    counters = Path(cache) / COUNTERS / "configs" / f"{model_type}.json"
    told = json.loads(counters.read_text()) if counters.exists() else {}
    if told:
        asked.append(told)
    path = Path(cache) / "configs" / f"{model_type}.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known["asked"] == asked:
            return model_type, known["row"]
    row: dict[str, Any] | None = None
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


if __name__ == "__main__":
    sys.exit(main())
