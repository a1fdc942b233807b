"""The gates that learned data must pass before they are shipped.

    python -m tidoctor.atlas.learn.gates [--count 5] [--seed TEXT] [--real FILE] [--saved N]

Every class is held against the library through the shipped reader: on its defaults and on random
configs that it was not learned from, on configs of published models, and some on files that were
really written. A class that was wrong anywhere is taken out of the data, and with it every class
that has it as a part; `index.json` says why. What is left is counted by task.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import data, learner
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.learn import examine
from tidoctor.atlas.learn.write import DATA, parts_of, spread

SEED = "gates"
SAVED = 60
LARGEST_SAVED = 30_000_000  # values in a model that is really written


@functools.cache
def data_at(root: str) -> data.Data:
    """The data files in a folder, read once."""
    return data.Data(Path(root))


def examined(root: str, job: tuple[str, int, str]) -> examine.Result:
    """One class by the data in a folder. Runs in a worker."""
    with data.using(data_at(root)):
        return examine.one(job)


def published(root: str, case: Mapping[str, Any]) -> tuple[str, str, str]:
    """Class, verdict and words for the config of a published model. Runs in a worker."""
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built

    with data.using(data_at(root)):
        try:
            sample = built(case["class"], case["config"], FIRST_SECONDS, parts=False)
        except Exception as error:
            return case["class"], "unbuildable", f"{case['name']}: {type(error).__name__}"
        verdict, words = examine.judged(case["class"], case["config"], sample)
        return case["class"], verdict, f"{case['name']}: {words}"


def saved(root: str, name: str) -> tuple[str, str, str]:
    """Class, verdict and words for a small model that is built and written. Runs in a worker."""
    try:
        config = small(name)
    except Exception as error:
        return name, "unbuildable", f"{type(error).__name__}: {error}"[:200]
    if config is None:
        return name, "too large", ""
    with tempfile.TemporaryDirectory() as folder, data.using(data_at(root)):
        try:
            learner.model_class(name)(config).save_pretrained(folder)
        except Exception as error:
            return name, "unbuildable", f"{type(error).__name__}: {error}"[:200]
        real: dict[str, tuple[int, ...]] = {}
        for path in Path(folder).glob("*.safetensors"):
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            header.pop("__metadata__", None)
            real |= {key: tuple(row["shape"]) for key, row in header.items()}
        values = json.loads(Path(folder, "config.json").read_text())
        if type(config).from_dict(dict(values)).to_dict() != config.to_dict():
            return name, "another config when read again", ""
        try:
            disk = dict(expectation(values, name).disk)
        except NotCovered as error:
            return name, "uncovered", error.reason
        if disk != real:
            return name, "wrong", "saved: " + examine.differing(disk, real)
        return name, "exact", ""


def small(name: str) -> Any:
    """A config with which a class is small enough to be written, None where none was found."""
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built, configured, default_values

    values = default_values(name)
    for divisor in (1, 4, 16, 64):
        made = shrunk(values, divisor)
        try:
            sample = built(name, made, FIRST_SECONDS, parts=False, disk=False)
        except Exception:
            continue
        if sum(size_of(shape) for shape in sample.memory.values()) <= LARGEST_SAVED:
            return configured(name, made)
    return None


def shrunk(values: Any, divisor: int) -> Any:
    """Raw values whose large numbers are divided."""
    if isinstance(values, dict):
        return {
            key: each if key.endswith("_id") else shrunk(each, divisor)
            for key, each in values.items()
        }
    if isinstance(values, int) and not isinstance(values, bool) and values >= 256:
        return max(64, values // divisor)
    return values


def size_of(shape: Iterable[int]) -> int:
    """How many values a tensor has."""
    size = 1
    for each in shape:
        size *= each
    return size


def removed(root: Path, wrong: Mapping[str, str]) -> dict[str, str]:
    """Take classes out of the data files, and what has them as a part; all with the reason."""
    index = json.loads((root / "index.json").read_text())
    files = {path.stem: json.loads(path.read_text()) for path in root.glob("*.json")}
    facts = {name: files[folder]["classes"][name] for name, folder in index["classes"].items()}
    gone = {name: reason for name, reason in wrong.items() if name in facts}
    grew = True
    while grew:
        grew = False
        for name, row in facts.items():
            lost = [each for each in parts_of(row) if each in gone]
            if name not in gone and lost:
                gone[name] = f"it has {lost[0]} as a part"
                grew = True
    for name, reason in gone.items():
        folder = index["classes"].pop(name)
        index["absent"][name] = reason[:300]
        del files[folder]["classes"][name]
        (root / f"{folder}.json").write_text(spread(files[folder]), encoding="ascii")
    index["absent"] = dict(sorted(index["absent"].items()))
    (root / "index.json").write_text(spread(index, 2), encoding="ascii")
    return gone


class Coverage:
    """How many of the classes that the library builds are answered for, by task."""

    def __init__(
        self, root: Path, silent: Mapping[str, str], wrong: Iterable[str] = ()
    ) -> None:
        """Count.

        Args:
            root: folder of the data files.
            silent: classes without any answer to their own defaults, with the reason.
            wrong: classes that were taken out because something they said was wrong.
        """
        self.wrong = frozenset(wrong)
        index = json.loads((root / "index.json").read_text())
        self.rows: dict[str, Counter[str]] = {}
        self.reasons: dict[str, list[str]] = {}
        for name, task in sorted(learner.tasks_of_classes().items()):
            row = self.rows.setdefault(task, Counter())
            reason = silent.get(name) or index["absent"].get(name, "")
            if name in index["classes"] and name not in silent:
                row["covered"] += 1
            elif not reason or reason.startswith(("Unbuildable", "ImportError")):
                row["not buildable"] += 1
            else:
                row["absent"] += 1
                self.reasons.setdefault(task, []).append(f"{name}: {reason[:110]}")

    def share(self, task: str) -> float:
        """Of a task, or of `all`; 1.0 where there is nothing to cover."""
        rows = self.rows.values() if task == "all" else [self.rows[task]]
        whole = sum(row["covered"] + row["absent"] for row in rows)
        return sum(row["covered"] for row in rows) / whole if whole else 1.0

    def lines(self, reasons: bool = True) -> list[str]:
        """The table."""
        found = []
        for task, row in sorted(self.rows.items()):
            whole = row["covered"] + row["absent"]
            found.append(
                f"{task:24} {row['covered']:4} of {whole:4} {self.share(task):7.1%}, "
                f"{row['not buildable']} not buildable"
            )
            found += [f"    {each}" for each in self.reasons.get(task, ())] if reasons else []
        return [*found, f"all {self.share('all'):.1%}"]


def passed(
    root: Path,
    *,
    workers: int = 2,
    count: int = 5,
    seed: str = SEED,
    real: Path | None = None,
    saves: int = SAVED,
    only: str = "",
    counters: Path | None = None,
) -> Coverage:
    """Run all gates on the data in a folder, remove what failed, and count what is left.

    Args:
        root: the folder.
        workers: processes.
        count: random configs for each class.
        seed: of the random configs.
        real: JSON file of published configs.
        saves: classes of which a model is really written.
        only: regex of names of classes.
        counters: folder to note the random configs in on which a class was wrong.
    """
    index = json.loads((root / "index.json").read_text())
    names = [name for name in index["classes"] if re.search(only, name)]
    wrong: dict[str, str] = {}
    silent: dict[str, str] = {}
    totals: Counter[str] = Counter()
    begun = time.monotonic()
    # Forked, so that the workers share the imported library.
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        work = functools.partial(examined, str(root))
        for result in pool.imap_unordered(work, [(name, count, seed) for name in names], 2):
            totals.update(exact=result.exact, wrong=result.wrong, uncovered=result.uncovered)
            if result.wrong:
                wrong[result.name] = f"wrong on a random config: {result.example}"
                if counters:
                    note(counters / f"{result.name}.json", result.counters)
            if result.silent:
                silent[result.name] = f"its defaults are not covered: {result.silent}"
            if result.wrong or result.uncovered:
                told(result.name, f"{result.exact} exact, {result.wrong} wrong, "
                     f"{result.uncovered} uncovered", result.example or result.reason)
        print(f"random configs: {dict(totals)}, {time.monotonic() - begun:.0f} s", flush=True)
        cases = json.loads(real.read_text()) if real else []
        chosen = random.Random(seed).sample(names, min(saves, len(names)))
        for title, work_on, items in (
            ("published configs", published, cases),
            ("saved models", saved, chosen),
        ):
            verdicts: Counter[str] = Counter()
            for name, verdict, words in pool.imap_unordered(
                functools.partial(work_on, str(root)), items
            ):
                verdicts[verdict] += 1
                if verdict == "wrong":
                    wrong.setdefault(name, words)
                if verdict != "exact":
                    told(name, verdict, words)
            print(f"{title}: {dict(verdicts)}", flush=True)
    for name, reason in removed(root, wrong).items():
        print(f"removed {name}: {reason}", flush=True)
    return Coverage(root, silent, wrong)


def wrong_at_random(
    root: Path, *, workers: int, count: int, seed: str, counters: Path
) -> Iterator[str]:
    """Classes that are wrong on a random config, which is noted in the folder of counters."""
    names = list(json.loads((root / "index.json").read_text())["classes"])
    data_at.cache_clear()
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        work = functools.partial(examined, str(root))
        for result in pool.imap_unordered(work, [(name, count, seed) for name in names], 2):
            if result.wrong:
                note(counters / f"{result.name}.json", result.counters)
                told(result.name, "wrong", result.example)
                yield result.name


def note(path: Path, configs: Iterable[Mapping[str, Any]]) -> None:
    """Add configs to a file of them."""
    known = json.loads(path.read_text()) if path.exists() else []
    known += [dict(each) for each in configs if each not in known]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(known))


def told(name: str, verdict: str, words: str) -> None:
    """A line on what was not exact."""
    print(f"{name}: {verdict}; {words}"[:400], file=sys.stderr, flush=True)


def options(parser: argparse.ArgumentParser) -> None:
    """The options of the gates."""
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=5, help="random configs for each class")
    parser.add_argument("--seed", default=SEED, help="of the random configs")
    parser.add_argument("--real", type=Path, metavar="FILE",
                        help="JSON list of published configs: name, class, config")  # fmt: skip
    parser.add_argument("--counters", type=Path, metavar="FOLDER",
                        help="note the random configs here on which a class was wrong")  # fmt: skip
    parser.add_argument("--saved", type=int, default=SAVED, metavar="N",
                        help="classes of which a model is really written")  # fmt: skip
    parser.add_argument("--floor", action="append", default=[], metavar="TASK=PERCENT",
                        help="fail when a task, or `all`, is covered less")  # fmt: skip


def below(coverage: Coverage, floors: Iterable[str]) -> list[str]:
    """The floors that are not reached; raises SystemExit for one that cannot be read."""
    found = []
    for floor in floors:
        task, _, percent = floor.partition("=")
        if task != "all" and task not in coverage.rows:
            raise SystemExit(f"--floor {floor}: no such task; there are {sorted(coverage.rows)}")
        try:
            wanted = float(percent) / 100
        except ValueError:
            raise SystemExit(f"--floor {floor}: expected TASK=PERCENT") from None
        if coverage.share(task) < wanted:
            found.append(f"{task} is covered {coverage.share(task):.1%}, below {percent} %")
    return found


def prepare() -> None:
    """Import the library, quickened, before workers are forked."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import torch
    import transformers

    from tidoctor.atlas.learn.builds import population
    from tidoctor.atlas.learn.hurry import hurry

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    hurry()
    learner.stand_in_for_timm()
    for function in ("classes_by_type", "tasks_of_classes", "model_types_by_class"):
        if not hasattr(getattr(learner, function), "cache_info"):
            setattr(learner, function, functools.cache(getattr(learner, function)))
    population()


def main() -> int:
    """Run the gates alone, on the data that are shipped or staged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options(parser)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    parser.add_argument("--only", default="", metavar="REGEX", help="of names of classes")
    arguments = parser.parse_args()
    prepare()
    coverage = passed(
        arguments.data, workers=arguments.workers, count=arguments.count, seed=arguments.seed,
        real=arguments.real, saves=arguments.saved, only=arguments.only,
        counters=arguments.counters,
    )  # fmt: skip
    print("\n".join(coverage.lines()))
    failed = below(coverage, arguments.floor)
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
