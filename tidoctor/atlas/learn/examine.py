"""Examines the written data, through the shipped reader, on configs that it was not learned from.

    python -m tidoctor.atlas.learn.examine [--workers N] [--count 5] [--seed TEXT] [--remove]

For every class: its defaults as a full and as an almost empty config.json, and random configs
of both kinds. Each answer is exact, wrong, or not covered. With --remove, a class that was
wrong anywhere is taken out of the data, with what was wrong as its reason.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import multiprocessing
import os
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tidoctor.atlas import learner
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.learn.write import DATA, spread


class Result(NamedTuple):
    """One class: how many answers were exact, wrong and not covered, and an example."""

    name: str
    exact: int
    wrong: int
    uncovered: int
    example: str
    reason: str


def one(job: tuple[str, int, str]) -> Result:
    """Examine one class. Runs in a worker."""
    from tidoctor.atlas.learn.builds import default_values
    from tidoctor.atlas.learn.samples import Sampler

    name, count, seed = job
    counts: Counter[str] = Counter()
    example = reason = ""
    try:
        base = default_values(name)
        sampler = Sampler(name, base, 10.0, seed=hash_of(seed))
        raws = [(base, sampler.first)]
        loose(sampler)
        for _ in range(12 * count):
            if len(raws) > count or sampler.late():
                break
            values = sampler.shuffled(5)
            sample = sampler.try_one(values, keep=False)
            if sample is not None:
                raws.append((values, sample))
    except Exception as error:
        return Result(name, 0, 0, 1, "", f"{type(error).__name__}: {error}"[:200])
    for raw, sample in raws:
        for values in (raw, sparse(name, raw)):
            if values is None:
                continue
            verdict, words = judged(name, values, sample)
            counts[verdict] += 1
            if verdict == "wrong" and not example:
                example = words
            if verdict == "uncovered" and not reason:
                reason = words
    return Result(name, counts["exact"], counts["wrong"], counts["uncovered"], example, reason)


def loose(sampler: Any) -> None:
    """Choices for the random configs: every int, bool and None the config states."""
    from tidoctor.atlas.learn.samples import alternatives, is_inert

    def walk(values: dict[str, Any], before: str) -> None:
        for key, value in values.items():
            path = before + key
            if isinstance(value, dict) and "model_type" in value:
                walk(value, path + ".")
            elif not is_inert(path) and not path.endswith(("token_id", "seed", "version")):
                options = alternatives(path, value, set(), [])
                if options and not isinstance(value, (str, type(None))):
                    sampler.choices[path] = options[:3]

    walk(sampler.base, "")


def hash_of(text: str) -> int:
    """A stable number for a seed text."""
    return sum(ord(each) * 31**at for at, each in enumerate(text)) % 2**31


def sparse(name: str, raw: dict[str, Any]) -> dict[str, Any] | None:
    """The same config with every default left out, as `to_diff_dict` writes it."""
    from tidoctor.atlas.learn.builds import configured

    try:
        config = configured(name, raw)
        values = json.loads(config.to_json_string(use_diff=True))
        again = configured(name, values)
        if again.to_dict() != config.to_dict():
            return None
    except Exception:
        return None
    return dict(values)


def judged(name: str, values: dict[str, Any], sample: Any) -> tuple[str, str]:
    """Verdict on one answer."""
    values = copy.deepcopy(values) | {"architectures": [name]}
    try:
        said = expectation(json.loads(json.dumps(values, default=str)), name)
        memory = dict(said.memory)
    except NotCovered as error:
        return "uncovered", error.reason
    if memory != sample.memory:
        return "wrong", "memory: " + differing(memory, sample.memory)
    try:
        disk = dict(said.disk)
    except NotCovered as error:
        return "uncovered", f"disk: {error.reason}"
    if disk != sample.disk:
        return "wrong", "disk: " + differing(disk, sample.disk)
    return "exact", ""


def differing(said: dict[str, Any], real: dict[str, Any]) -> str:
    """The first differences in words."""
    lost = sorted(real.keys() - said.keys())[:2]
    more = sorted(said.keys() - real.keys())[:2]
    shapes = [(n, said[n], real[n]) for n in said.keys() & real.keys() if said[n] != real[n]][:2]
    return f"not said {lost}, said in excess {more}, shapes {shapes}"


def remove(results: list[Result]) -> None:
    """Take wrong classes out of the data files."""
    index = json.loads((DATA / "index.json").read_text())
    for result in results:
        if result.wrong and result.name in index["classes"]:
            folder = index["classes"].pop(result.name)
            index["absent"][result.name] = f"wrong on a random config: {result.example}"[:200]
            path = DATA / f"{folder}.json"
            content = json.loads(path.read_text())
            content["classes"].pop(result.name, None)
            path.write_text(spread(content), encoding="ascii")
    index["absent"] = dict(sorted(index["absent"].items()))
    (DATA / "index.json").write_text(spread(index, 2), encoding="ascii")


def main() -> None:
    """Examine all classes and print the table by kind of class."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", default="examination")
    parser.add_argument("--only", default="")
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    import transformers

    from tidoctor.atlas.learn.builds import hurry, population

    transformers.logging.set_verbosity_error()
    hurry()
    learner.stand_in_for_timm()
    for function in ("classes_by_type", "tasks_of_classes", "model_types_by_class"):
        setattr(learner, function, functools.cache(getattr(learner, function)))
    population()
    index = json.loads((DATA / "index.json").read_text())
    jobs = [
        (name, arguments.count, arguments.seed)
        for name in index["classes"]
        if re.search(arguments.only, name)
    ]
    results = []
    with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
        for result in pool.imap_unordered(one, jobs, 2):
            results.append(result)
            if result.wrong or result.uncovered:
                print(json.dumps(result._asdict()), file=sys.stderr)
    if arguments.report:
        arguments.report.write_text(json.dumps([each._asdict() for each in results], indent=0))
    if arguments.remove:
        remove(results)
    totals: Counter[str] = Counter()
    for each in results:
        totals["classes"] += 1
        totals["exact"] += each.exact
        totals["wrong"] += each.wrong
        totals["uncovered"] += each.uncovered
        totals["classes with wrong answers"] += bool(each.wrong)
        totals["classes never covered"] += not each.exact
    print(dict(totals))
    for line in coverage():
        print(line)


def coverage() -> list[str]:
    """Learned of buildable classes, by task."""
    index = json.loads((DATA / "index.json").read_text())
    tasks = learner.tasks_of_classes()
    rows: dict[str, Counter[str]] = {}
    for name in tasks:
        row = rows.setdefault(tasks[name], Counter())
        reason = index["absent"].get(name, "")
        if name in index["classes"]:
            row["learned"] += 1
        elif reason and not reason.startswith("Unbuildable"):
            row["absent"] += 1
        else:
            row["not buildable"] += 1
    lines = []
    for task, row in sorted(rows.items()):
        whole = row["learned"] + row["absent"]
        share = f"{row['learned'] / whole:.1%}" if whole else "-"
        lines.append(
            f"{task:24} {row['learned']:4} of {whole:4} {share:>7}, "
            f"{row['not buildable']} not buildable"
        )
    return lines


if __name__ == "__main__":
    main()
