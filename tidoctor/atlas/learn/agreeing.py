"""Holds a head against its body: what the data say of both, on configs made up here.

    python -m tidoctor.atlas.learn.agreeing [--data FOLDER]

A head and its body were learned each for itself, where the head does not simply have the body as a
part. Under one config the body's tensors stand in the head with the same shapes, and a kind of
tensor that the head leaves out it leaves out always. No model is built for that, so a hundred
configs cost what one build costs; where two disagree, the library says which of them is wrong.
Where the facts about one tensor are written otherwise, its fields are those that are changed, for
that is where one of the two may have learned a coincidence.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidoctor.atlas import data, families
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.learn import gates, siblings
from tidoctor.atlas.learn.builds import config_class, default_values
from tidoctor.atlas.learn.dotted import LEFT, Values, altered, leaves
from tidoctor.atlas.learn.rows import Rows, parts_in
from tidoctor.atlas.learn.samples import kind_of_name
from tidoctor.atlas.learn.siblings import Row
from tidoctor.atlas.learn.trying import alternatives, is_inert
from tidoctor.atlas.learn.write import DATA, compared_in, fields_of, names_in

COUNT = 150
MOST = 12  # configs for one pair on which the two disagree
SECONDS = 3.0  # of processor time for one pair


def pairs(rows: Rows) -> Iterator[tuple[str, str, str]]:
    """Head, body, and the prefix of the body in the head."""
    for name in rows:
        row = rows[name]
        body = families.class_for(row["config"], "base")
        before = f"{row['prefix']}."
        if body in (None, name) or body not in rows or rows[body]["config"] != row["config"]:
            continue
        if not any(part["at"] == before for part in parts_in(row)):
            yield name, body, before


def disagreement(
    head: dict[str, Any], body: dict[str, Any], before: str, there: dict[str, bool]
) -> str:
    """What two answers to one config contradict each other in, "" for nothing.

    `there` remembers of each kind of tensor of the body whether the head has it. One that the head
    leaves out is told once: perhaps the head was never seen with it.
    """
    inside = {name[len(before):]: shape for name, shape in head.items() if name.startswith(before)}
    if not inside:
        return ""
    left_out: list[str] = []
    for name, shape in body.items():
        if inside.get(name, shape) != shape:
            return f"{name} {shape} {inside[name]}"
        kind = kind_of_name(name)
        known = kind in there
        if there.setdefault(kind, name in inside) != (name in inside):
            return name
        if not known and name not in inside:
            left_out.append(name)
    for name in sorted(inside.keys() - body.keys()):
        if kind_of_name(name) in there:  # of a kind that the body has elsewhere
            return name
    return left_out[0] if left_out else ""


def in_question(head: Row, body: Row, before: str) -> dict[str, set[Any]]:
    """Field -> constants beside it, for what a head and its body say otherwise of one tensor."""
    texts: set[str] = set()
    for form in ("memory", "disk"):
        theirs = body.get(form, {}).get("tensors", {})
        for name, said in head.get(form, {}).get("tensors", {}).items():
            one, other = map(siblings.parsed, (said, theirs.get(name.removeprefix(before))))
            if one and other and one != other:
                texts |= {*one[0], *other[0], one[1], other[1]}
    found: dict[str, set[Any]] = {}
    for text in filter(None, texts):
        constants = compared_in(text)
        for path in names_in(text):
            found[path] = found.get(path, set()) | constants.get(path, set())
    return found


def held(root: str, pair: tuple[str, str, str], count: int = COUNT) -> list[Values]:
    """Raw configs under which a head and its body disagree. Runs in a worker."""
    name, body, before = pair
    rows = _rows(root)
    found: list[Values] = []
    try:
        base = default_values(name)
    except Exception:
        return found
    read = fields_of(name, rows) | fields_of(body, rows)
    apart = in_question(rows[name], rows[body], before)
    known = dict(leaves(base))
    fields = [
        (path, options)
        for path in {**known, **apart}
        if path in read and not is_inert(path) and not LEFT.search(path)
        and (path in apart or not isinstance(known[path], str))
        and (options := alternatives(known.get(path), apart.get(path, set()))[:9])
    ]  # fmt: skip
    first = [field for field in fields if field[0] in apart]
    chance = random.Random(name)
    there: dict[str, bool] = {}
    until = time.process_time() + SECONDS
    with data.using(gates.data_at(root)):
        for turn in range(count):
            if time.process_time() > until or len(found) > MOST:
                break
            raw = base
            some = first if first and turn % 4 else fields
            for path, options in chance.sample(some, min(len(some), turn and turn % 5 + 1)):
                raw = altered(raw, path, chance.choice(options))
            try:
                head, own = expectation(raw, name).memory, expectation(raw, body).memory
                told = disagreement(dict(head), dict(own), before, there)
            except NotCovered:
                continue
            if told:
                found.append(raw)
    return found


@functools.cache
def _rows(root: str) -> Rows:
    return Rows(Path(root))


def disagreeing(root: Path, *, workers: int = 2) -> Iterator[tuple[str, str, list[Values]]]:
    """Head, body and configs on which they disagree."""
    gates.data_at.cache_clear()
    _rows.cache_clear()
    found = list(pairs(_rows(str(root))))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        work = functools.partial(held, str(root))
        for (name, body, _), raws in zip(found, pool.imap(work, found, 2), strict=True):
            if raws:
                yield name, body, raws


def wrong_of(root: Path, name: str, raws: Iterable[Values]) -> list[tuple[Values, str]]:
    """Those raw configs on which the data are wrong of a class, by the library, and how."""
    from tidoctor.atlas.learn import examine
    from tidoctor.atlas.learn.builds import FIRST_SECONDS, built

    found = []
    with data.using(gates.data_at(str(root))):
        for raw in raws:
            try:
                sample = built(name, raw, FIRST_SECONDS, parts=False)
            except Exception:
                continue
            verdict, words = examine.judged(name, raw, sample)
            if verdict == "wrong":
                found.append((raw, words))
    return found


def all_wrong(root: Path, *, workers: int = 2) -> Iterator[tuple[str, list[tuple[Values, str]]]]:
    """Classes that a disagreement showed to be wrong, with the configs and words."""
    for name, body, raws in disagreeing(root, workers=workers):
        for each in (name, body):
            if config_class(each) is config_class(name):
                wrong = wrong_of(root, each, raws)
                if wrong:
                    yield each, wrong


def main() -> int:
    """Say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    gates.prepare()
    guilty = 0
    for name, wrong in all_wrong(arguments.data, workers=arguments.workers):
        guilty += 1
        print(f"{name}: {wrong[0][1]}"[:300], flush=True)
    return 1 if guilty else 0


if __name__ == "__main__":
    raise SystemExit(main())
