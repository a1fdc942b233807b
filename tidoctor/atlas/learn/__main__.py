"""Rebuilds `tidoctor/atlas/layouts` from the installed transformers, and ships what is true.

    python -m tidoctor.atlas.learn [--real FILE] [--floor all=90] [--cache FOLDER]
    python -m tidoctor.atlas.learn --only 'Llama.*|BertModel' --data FOLDER
    python -m tidoctor.atlas.learn --afresh

Needs torch and transformers 5 (`pip install tidoctor[learn]`). Three steps: what the data files
say of a class is kept where it holds for the class's base (`shipped`), and every other class is
learned from models built on the meta device; the same for the config classes that they need; the
gates (`tidoctor.atlas.learn.gates`) hold all of it against the library on other configs, and what
is still wrong is taken out. Then the data files are replaced and the coverage is printed by task,
with the reason for each class that is absent. With --afresh nothing is kept of the data files.

What is learned is verified: every class by a scan (`scan`, one field at a time; not where its
facts and the library's own files for it are those of the last time) and on random configs, heads
against bodies (`agreeing`), every config class for itself (`resolving`). What was wrong is mended
(`mending`): the configs that showed it are counters for learning the class again; where that does
not help, the class is limited to what was seen right. That is repeated until nothing is wrong.

The cache holds one file per finished class and config class, so that an interrupted run goes on
where it was; delete what should be learned anew. On two cores, where all is kept, learning takes
a minute and a half and each turn of verifying up to a quarter of an hour. With --afresh most
classes take 1 to 5 seconds of processor time, wrappers of several models half a minute, a few of
them minutes (a random sample of 50): expect well over an hour, and twenty minutes for a turn of
verifying, since all classes are scanned then.

Exit code 1: a task is covered less than its --floor.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn import gates, siblings
from tidoctor.atlas.learn.assembling import assemble, note_config
from tidoctor.atlas.learn.known import Known, Run
from tidoctor.atlas.learn.mending import ABSENT, COUNTERS
from tidoctor.atlas.learn.write import DATA, publish

SECONDS = 30.0
FOUND = "found"
# How often what was wrong is mended and all is verified again.
AGAIN = 3


_known: Known


def start(run: Run) -> None:
    """Prepare a worker."""
    global _known
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _known = Known(run)


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
    parser.add_argument("--afresh", action="store_true", help="keep nothing of the data files")
    arguments = parser.parse_args()
    if arguments.only and arguments.data.resolve() == DATA:
        parser.error("--only would leave nothing else in the data files: name another --data")
    begun = time.monotonic()
    gates.prepare()
    gates.below(gates.Coverage(DATA, {}), arguments.floor)  # are they readable?
    arguments.cache.mkdir(parents=True, exist_ok=True)
    staged = arguments.cache / "staged"
    keep = not arguments.afresh and (arguments.data / "index.json").exists()
    run = Run(
        arguments.cache, arguments.data if keep else None, arguments.workers, arguments.seconds
    )
    for turn in range(1 + AGAIN):
        learn_classes(run, arguments.only)
        print(f"learned after {time.monotonic() - begun:.0f} s", flush=True)
        assemble(run, staged)
        print(f"assembled after {time.monotonic() - begun:.0f} s", flush=True)
        wrong = verified(run, staged, f"{arguments.seed}{turn or ''}", arguments.count)
        print(f"verified after {time.monotonic() - begun:.0f} s: {len(wrong)} wrong", flush=True)
        if not wrong:
            break
        mend(run, wrong)
    assemble(run, staged)
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


def learn_classes(run: Run, only: str = "") -> None:
    """Learn what the cache does not have, of the classes with such names."""
    from tidoctor.atlas.learn.builds import population

    names = sorted((name for name in population() if re.fullmatch(only or ".*", name)), key=order)
    reasons: Counter[str] = Counter()
    # Forked, so that the workers share the imported library.
    with multiprocessing.get_context("fork").Pool(run.workers, start, (run,)) as pool:
        for at, (name, reason, took) in enumerate(pool.imap_unordered(work, names)):
            reasons[reason.partition(":")[0] or "learned"] += 1
            if reason or took > 60 or at % 50 == 0:
                print(f"{at}/{len(names)} {name} {took:.1f} s {reason}", file=sys.stderr)
    print(dict(reasons), file=sys.stderr)


def verified(run: Run, staged: Path, seed: str, count: int) -> list[str]:
    """The classes and config classes of which something is wrong; why is noted in the cache."""
    from tidoctor.atlas.learn import agreeing, resolving, scan
    from tidoctor.atlas.learn.rows import changed

    cache = run.cache
    (cache / COUNTERS).mkdir(exist_ok=True)
    found: dict[str, None] = {}
    for finding in scan.all_scanned(
        staged, cache / FOUND, changed(staged, run.begin), workers=run.workers
    ):
        if finding["wrong"]:
            gates.note(
                cache / COUNTERS / f"{finding['name']}.json", [e["raw"] for e in finding["wrong"]]
            )
            found[finding["name"]] = None
    for name in gates.wrong_at_random(
        staged, workers=run.workers, count=count, seed=seed, counters=cache / COUNTERS
    ):
        found[name] = None
    for name, rows in agreeing.all_wrong(staged, workers=run.workers):
        gates.note(cache / COUNTERS / f"{name}.json", [raw for raw, _ in rows])
        found[name] = None
    types = json.loads((staged / "index.json").read_text())["configs"]
    for model_type, wrong, _ in resolving.all_examined(staged, types, workers=run.workers):
        if wrong:
            note_config(cache, model_type, wrong)
            found[model_type] = None
    return list(found)


def mend(run: Run, wrong: list[str]) -> None:
    """Learn again what was wrong, pin what stays wrong, leave out the rest."""
    from tidoctor.atlas.learn.builds import population

    names = sorted(set(wrong) & population(), key=order)
    bodies = [name for name in names if not order(name)[0]]
    for group in (bodies, [name for name in names if order(name)[0]]):
        # Each time with fresh workers, which know what was learned last.
        with multiprocessing.get_context("fork").Pool(run.workers, start, (run,)) as pool:
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


if __name__ == "__main__":
    sys.exit(main())
