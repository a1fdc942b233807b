"""Changes one field at a time and holds what the data say of each class against the library.

    python -m tidoctor.atlas.learn.scan [--data FOLDER] [--found FOLDER] [--only REGEX]

Random configs find by luck what is wrong on one value of one field; this goes through all of
them: every field that a class reads gets several values, those beside the constants of its own
facts among them, in a full config.json and in an almost empty one; fields that it does not read
are changed together, to a little more, the double, the half and one; then the numbers once more
where a flag makes other tensors, and pairs of fields that stand in one expression. An answer is
exact, refused, or wrong; of a wrong one the fields that it takes are narrowed down. A class that
is known only as large as it is by default is scanned in that size.

The folder of findings holds one file per class, and a class is scanned again only when its facts
changed.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidoctor.atlas import data
from tidoctor.atlas.learn import gates
from tidoctor.atlas.learn.rows import Rows, parts_in
from tidoctor.atlas.learn.scanner import Finding, Scan
from tidoctor.atlas.learn.write import DATA

SECONDS = 3.0  # of processor time for one class
LESS = 0.3  # of it, where a part that is scanned itself makes up most of the class

_rows: Rows


def scanned(root: str, found: str, seconds: float, name: str) -> Finding:
    """The finding on one class, from the folder of findings or made now. Runs in a worker."""
    path = Path(found) / f"{name}.json"
    digest = _rows.digest(name)
    if path.exists():
        known: Finding = json.loads(path.read_text())
        if known.get("digest") == digest:
            return known
    source = gates.data_at(root)
    with data.using(source):
        try:
            body = any("class" in e and not e["config"] for e in parts_in(_rows[name]))
            scan = Scan(name, _rows, seconds * (LESS if body else 1))
            scan.try_({})
            if not scan.wrong and not scan.counts["exact"]:  # known only as large as it is
                scan = Scan(name, _rows, seconds, cut=False)
                scan.try_({})
            finding = scan.finding(scan.run())
        except Exception as error:
            finding = {"name": name, "done": False, "counts": {}, "right": {}, "wrong": [],
                       "error": f"{type(error).__name__}: {error}"[:300]}  # fmt: skip
    finding["digest"] = digest
    path.write_text(json.dumps(finding, default=str))
    return finding


def all_scanned(
    root: Path, found: Path, names: Iterable[str] | None = None, *, workers: int = 2,
    seconds: float = SECONDS,
) -> Iterator[Finding]:
    """The findings on classes, as they come.

    Args:
        root: folder of the data files.
        found: folder of the findings.
        names: the classes, all of them by default.
        workers: processes.
        seconds: of processor time for one class.
    """
    global _rows
    _rows = Rows(root)
    found.mkdir(parents=True, exist_ok=True)
    gates.data_at.cache_clear()
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        work = functools.partial(scanned, str(root), str(found), seconds)
        chosen = sorted(_rows if names is None else names, key=lambda name: -_rows.intricacy(name))
        yield from pool.imap_unordered(work, chosen, 2)


def main() -> int:
    """Scan, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data files")
    parser.add_argument("--found", type=Path, default=Path(".atlas-scan"), help="of the findings")
    parser.add_argument("--only", default="", metavar="REGEX", help="of names of classes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one class")
    arguments = parser.parse_args()
    gates.prepare()
    begun = time.monotonic()
    names = [name for name in Rows(arguments.data) if re.search(arguments.only, name)]
    totals: Counter[str] = Counter()
    for finding in all_scanned(
        arguments.data, arguments.found, names, workers=arguments.workers,
        seconds=arguments.seconds,
    ):  # fmt: skip
        totals.update(finding["counts"])
        totals["classes"] += 1
        totals["classes wrong"] += bool(finding["wrong"])
        totals["not finished"] += not finding["done"]
        for each in finding["wrong"]:
            print(f"{finding['name']} {each['fields']}: {each['words']}"[:300], flush=True)
    print(f"{dict(totals)}, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 1 if totals["classes wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
