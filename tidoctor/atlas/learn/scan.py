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
import copy
import functools
import hashlib
import itertools
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import data
from tidoctor.atlas.learn import examine, gates
from tidoctor.atlas.learn.builds import Built, configured, nested
from tidoctor.atlas.learn.samples import (
    LEFT,
    Sampler,
    Values,
    altered,
    alternatives,
    distinct,
    documented,
    is_inert,
    is_list_of_words,
    joint_changes,
    kinds_of_layers,
    kinds_of_names,
    leaves,
    put,
    watched,
)
from tidoctor.atlas.learn.write import DATA, compared_in, expressions, fields_of, names_in, parts_of

SECONDS = 3.0  # of processor time for one class
LESS = 0.3  # of it, where a part that is scanned itself makes up most of the class
MOST_VALUES = 3  # of a field, besides those beside constants
MOST_TURNS = 4  # of fields that no fact reads
MOST_CORNERS = 8
MOST_PAIRS = 30
Finding = dict[str, Any]


class Scan:
    """One class under the scan.

    Attributes:
        right: field -> values with which an answer was exact, nothing else being changed.
        wrong: what was wrong: the fields with their values, the raw config, words.
        counts: verdicts.
    """

    def __init__(
        self, name: str, rows: Mapping[str, Any], seconds: float, cut: bool = True
    ) -> None:
        """Build the base, cut down or not; raises whatever the library raises."""
        from tidoctor.atlas.learn.builds import default_values

        self.name = name
        self.row = rows[name]
        self.sampler = Sampler(name, default_values(name, cut), seconds, parts=False)
        self.base = self.sampler.base
        self.bare = self.terse(examine.sparse(name, self.base))
        self.counts: Counter[str] = Counter()
        self.right: dict[str, list[Any]] = {}
        self.wrong: list[Finding] = []
        self.corners: dict[str, Any] = {}
        texts = [each for each in expressions(self.row) if isinstance(each, str)]
        self.own = {each for text in texts for each in names_in(text)}
        self.inside = fields_of(name, rows) - self.own
        log = watched(name, self.base)
        self.reads = set(log.reads) if log else {p for p, _ in leaves(self.base)}
        self.words: dict[str, set[Any]] = {}
        for path, others in (log.compared if log else {}).items():
            self.words.setdefault(path.split("[")[0], set()).update(others)
        for path, others in documented(name, self.base).items():
            self.words.setdefault(path, set()).update(others)
        self.pairs: list[frozenset[str]] = []
        for text in texts:
            for path, constants in compared_in(text).items():
                self.words.setdefault(path, set()).update(constants)
            names = frozenset(names_in(text))
            if 2 <= len(names) <= 5:
                self.pairs += map(frozenset, itertools.combinations(sorted(names), 2))
        for path, values in self.row.get("pinned", {}).items():
            self.words.setdefault(path, set()).update(e for e in values if isinstance(e, str))

    # --- one config ---

    def terse(self, values: Values | None) -> Values | None:
        """An almost empty config without objects that are no sub-configs, where it builds.

        The library may derive those from fields beside them, and what it once derived wins.
        """
        if values is None:
            return None
        inside = {path for path, _ in nested(configured(self.name, values))}
        made = {key: each for key, each in values.items()
                if not isinstance(each, dict) or key in inside}  # fmt: skip
        try:
            Built(self.name, configured(self.name, made), parts=False)
        except Exception:
            return values
        return made

    def judge(self, raw: Values) -> tuple[str, str] | None:
        """The verdict on a raw config; None where the library does not build it."""
        try:
            config = configured(self.name, raw)
            key = json.dumps(config.to_dict(), sort_keys=True, default=str)
        except Exception:
            return None
        sample = self._built(key, raw)
        if sample is None:
            return None
        verdict = examine.judged(self.name, raw, sample)
        self.counts[verdict[0]] += 1
        return verdict

    @functools.cached_property
    def _samples(self) -> dict[str, Any]:
        return {}

    def _built(self, key: str, raw: Values) -> Any:
        """What the library makes of it; two spellings of one config are built once."""
        from tidoctor.atlas.learn.builds import built

        if key not in self._samples:
            if len(self._samples) > 200:
                self._samples.clear()
            try:
                self._samples[key] = built(self.name, raw, parts=False)
            except Exception:
                self._samples[key] = None
        return self._samples[key]

    def with_(self, changes: Mapping[str, Any]) -> Iterator[Values]:
        """The full and the almost empty config with these fields."""
        full, bare = copy.deepcopy(self.base), copy.deepcopy(self.bare)
        for path, value in changes.items():
            full = altered(full, path, value)
            if bare is not None:
                try:
                    put(bare, path, copy.deepcopy(value))
                except (KeyError, TypeError, AttributeError):
                    bare = None
        yield full
        if bare is not None:
            yield bare

    def try_(self, changes: Mapping[str, Any], narrow: bool = True) -> str:
        """exact, uncovered, wrong or unbuildable: the worst of both spellings."""
        verdicts = []
        for raw in self.with_(changes):
            told = self.judge(raw)
            verdicts.append(told[0] if told else "unbuildable")
            if told and told[0] == "wrong":
                if narrow and len(changes) > 1:
                    changes = self.narrowed(dict(changes))
                self.note(changes, raw, told[1])
                return "wrong"
        for each in ("uncovered", "exact"):
            if each in verdicts:
                return each
        return "unbuildable"

    def note(self, changes: Mapping[str, Any], raw: Values, words: str) -> None:
        """Remember what was wrong, each set of fields a few times."""
        same = [each for each in self.wrong if each["fields"].keys() == changes.keys()]
        if len(same) < 6 and not any(each["fields"] == changes for each in same):
            self.wrong.append({"fields": dict(changes), "raw": raw, "words": words[:300]})

    def narrowed(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes without those that the wrong answer does not need."""
        for path in list(changes):
            fewer = {k: v for k, v in changes.items() if k != path}
            for raw in self.with_(fewer) if fewer else ():
                told = self.judge(raw)
                if told and told[0] == "wrong":
                    changes = fewer
                    break
        return changes

    # --- the plan ---

    def run(self) -> bool:
        """All steps after the base was tried; whether there was time for all."""
        for changes in joint_changes(self.name, self.base):
            self.try_(changes)
        if self.wrong:
            return True
        steps = (
            self.unread, self.kinds, self.alone, self.lengths, self.within, self.at_corners,
            self.together,
        )  # fmt: skip
        for step in steps:
            for _ in step():
                if self.sampler.late():
                    return False
        return True

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """Every field that may be changed, with the value it has."""
        found = dict(leaves(self.base))
        for path in self.own | self.inside:
            if path not in found and path in self.sampler.first.values:
                value = self.sampler.first.values[path]
                if not isinstance(value, dict) and not path.endswith("model_type"):
                    found[path] = value
        return {path: each for path, each in found.items() if not LEFT.search(path)}

    def values_of(self, path: str) -> list[Any]:
        """Values to try for a field."""
        value = self.fields[path]
        words = self.words.get(path, set())
        return values_for(path, value, words)

    def unread(self) -> Iterator[None]:
        """Fields that have no part in anything: changed together, for they should not show."""
        rest = {
            path: options
            for path in self.fields
            if path not in self.own and path not in self.inside and path not in self.reads
            and (options := far(self.fields[path]) or self.values_of(path))
        }
        for turn in range(MOST_TURNS):
            yield from self._grouped({p: o[turn:] for p, o in rest.items() if o[turn:]})

    def within(self) -> Iterator[None]:
        """Fields that only the parts read, which are scanned themselves."""
        theirs = {
            path: options
            for path in sorted(self.fields)
            if path in self.inside and (options := self.values_of(path))
        }
        sizes = {p: o for p, o in theirs.items() if type(self.fields[p]) is int}
        yield from self._grouped(sizes)
        yield from self._grouped({p: o for p, o in theirs.items() if p not in sizes})
        yield from self._grouped({p: o[1:] for p, o in sizes.items() if o[1:]})

    def _grouped(self, options: Mapping[str, list[Any]]) -> Iterator[None]:
        """Change fields together; where that does not build, in halves."""
        groups = [list(options)]
        while groups:
            group = groups.pop()
            if not group:
                continue
            verdict = self.try_({path: options[path][0] for path in group})
            yield
            if verdict == "wrong" and len(group) > 1:  # there may be another one
                guilty = self.wrong[-1]["fields"].keys()
                groups.append([each for each in group if each not in guilty])
            elif verdict in ("unbuildable", "uncovered") and len(group) > 1:
                half = len(group) // 2
                groups += [group[:half], group[half:]]

    def alone(self) -> Iterator[None]:
        """Fields that the class reads, one at a time."""
        for path in sorted(self.fields):
            if path in self.own or (path in self.reads and path not in self.inside):
                options = self.values_of(path)
                if is_inert(path) and path not in self.own:
                    options = options[:2]
                self._one(path, options)
                yield

    def _one(self, path: str, options: Iterable[Any]) -> None:
        kinds = kinds_of_names(self.sampler.first)
        for value in options:
            if self.sampler.late():
                return
            verdict = self.try_({path: value})
            if verdict == "exact":
                self.right.setdefault(path, []).append(value)
                if path not in self.corners and type(self.fields[path]) is not int:
                    for raw in self.with_({path: value}):
                        key = json.dumps(
                            configured(self.name, raw).to_dict(), sort_keys=True, default=str
                        )
                        sample = self._built(key, raw)
                        if sample is not None and kinds_of_names(sample) != kinds:
                            self.corners[path] = value
                        break

    def kinds(self) -> Iterator[None]:
        """Every word of the library for what the first or the last layer is."""
        for path, value in sorted(self.fields.items()):
            if is_list_of_words(value) and {*value} <= kinds_of_layers():
                for word in sorted(kinds_of_layers()):
                    for other in ([word, *value[1:]], [*value[:-1], word]):
                        if other != value:
                            self.try_({path: other})
                            yield

    def lengths(self) -> Iterator[None]:
        """Lists shorter and longer than those beside them, which are else changed with them."""
        for path, value in sorted(self.fields.items()):
            if isinstance(value, list) and value and (path in self.own or path in self.inside):
                for other in (value[:-1], [*value, value[-1]], value[:1]):
                    raw = copy.deepcopy(self.base)
                    try:
                        put(raw, path, other)
                    except (KeyError, TypeError, AttributeError):
                        break
                    told = self.judge(raw)
                    if told and told[0] == "wrong":
                        self.note({path: other}, raw, told[1])
                    yield

    def at_corners(self) -> Iterator[None]:
        """Numbers once more, all together, where a flag or a word makes other tensors."""
        sizes = {p: self.values_of(p) for p in self.fields
                 if type(self.fields[p]) is int and p in self.own}  # fmt: skip
        for path, value in list(self.corners.items())[:MOST_CORNERS]:
            for turn in (0, 1):
                some = {p: o[turn:] for p, o in sizes.items() if o[turn:]}
                for group in self._building(some, {path: value}):
                    self.try_({path: value} | group)
                    yield

    def _building(
        self, options: Mapping[str, list[Any]], beside: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Changes that build together: all, else halves, else quarters."""
        paths = list(options)
        if not paths:
            return
        for pieces in (1, 2, 4):
            found = []
            for at in range(pieces):
                group = {p: options[p][0] for p in paths[at::pieces]}
                if group and self.builds(dict(beside) | group):
                    found.append(group)
            if found:
                yield from found
                return

    def builds(self, changes: Mapping[str, Any]) -> bool:
        """Whether the library builds it."""
        for raw in self.with_(changes):
            try:
                key = json.dumps(
                    configured(self.name, raw).to_dict(), sort_keys=True, default=str
                )
            except Exception:
                continue
            if self._built(key, raw) is not None:
                return True
        return False

    def together(self) -> Iterator[None]:
        """Pairs: of flags that make other tensors, and of fields in one expression."""
        corners = sorted(self.corners)
        flags = [frozenset(each) for each in itertools.combinations(corners, 2)]
        both = distinct([*flags, *(each for each, _ in Counter(self.pairs).most_common())])
        done = 0
        for pair in both:
            one, other = sorted(pair)
            if one not in self.fields or other not in self.fields or done >= MOST_PAIRS:
                continue
            done += 1
            lone = {p: [self.corners[p]] if p in self.corners else self._telling(p) for p in pair}
            for left, right in itertools.islice(itertools.product(lone[one], lone[other]), 4):
                self.try_({one: left, other: right})
                yield

    def _telling(self, path: str) -> list[Any]:
        """Values of a field that were right alone: the next one, and one beyond a constant."""
        right = self.right.get(path, [])
        return [right[0], right[-1]] if len(right) > 1 else right or self.values_of(path)[:2]

    def finding(self, done: bool) -> Finding:
        """As it is kept."""
        return {
            "name": self.name, "done": done, "counts": dict(self.counts),
            "right": self.right, "wrong": self.wrong,
        }  # fmt: skip


def parts_in(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of parts in memory."""
    return list(row.get("memory", {}).get("parts", ()))


def far(value: Any) -> list[int]:
    """Other values for a number of which nothing is known: near, far above, far below."""
    if type(value) is not int or value < 0:
        return []
    return [each for each in distinct([value + 1, 2 * value, value // 2, 1]) if each != value]


def values_for(path: str, value: Any, words: Iterable[Any]) -> list[Any]:
    """Values to try for a field, given what it is compared with."""
    from tidoctor.atlas.learn.lesson import all_activations

    words = set(words)
    if isinstance(value, str):
        if value in all_activations():
            return [each for each in ("relu", "gelu_new", "prelu", "xielu") if each != value]
        return [each for each in sorted(map(str, words)) if each != value][:12]
    if isinstance(value, bool):
        return [not value]
    numbers = sorted(each for each in words if type(each) is int and 0 <= each < 100_000)
    if isinstance(value, int):
        beside = [n + s for n in numbers for s in (0, 1, -1)] + [2 * n for n in numbers]
        small = [value + 1, value + 2, value - 1, 2 * value, value // 2]
        near = small if value <= 16 else alternatives(path, value, set(), [])[:MOST_VALUES]
        found = [*near, *beside[:6]]
        if value > 16:
            found.insert(3, value + 3 if value % 2 else value + 2)
        return [each for each in distinct(found) if each != value and each >= 0]
    if isinstance(value, float):
        found = [0.0, 0.5, 1.0, 2 * value, *(e for e in words if isinstance(e, float))]
        return [each for each in distinct(found) if each != value][:5]
    if isinstance(value, list):
        found = alternatives(path, value, words, [])[:8]
        if value:
            found += [value[:-1], [*value, value[-1]]]
        return [*distinct(found), None]
    if value is None:
        return [2, 64, True, 1, 3, 0.5, [1], *sorted(e for e in words if isinstance(e, str))[:6],
                *numbers[:4]]  # fmt: skip
    return []


# --- all classes -------------------------------------------------------------------------------


class Rows(Mapping[str, Any]):
    """The facts of every class in a folder of data."""

    def __init__(self, root: Path) -> None:
        self.index = json.loads((root / "index.json").read_text())
        self._files = {p.stem: json.loads(p.read_text()) for p in root.glob("*.json")}

    def __getitem__(self, name: str) -> Any:
        return self._files[self.index["classes"][name]]["classes"][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.index["classes"])

    def __len__(self) -> int:
        return len(self.index["classes"])

    def config(self, model_type: str) -> Any:
        """The facts about a model type."""
        return self._files[self.index["configs"][model_type]]["configs"].get(model_type)

    def intricacy(self, name: str) -> int:
        """How much a class has to say for itself: where that is much, more can be wrong."""
        return sum(map(len, {str(text) for text in expressions(self[name])}))

    def digest(self, name: str) -> str:
        """Of everything that the answers about a class hang on."""
        known: set[str] = set()
        texts: list[str] = []
        left = [name]
        while left:
            each = left.pop()
            if each in known or each not in self.index["classes"]:
                continue
            known.add(each)
            row = {k: v for k, v in self[each].items() if k != "verified"}
            texts.append(str(self._files[self.index["classes"][each]].get("source")))
            texts.append(json.dumps(row, sort_keys=True))
            left += parts_of(row)
            if row["config"] in self.index["configs"]:
                texts.append(json.dumps(self.config(row["config"]), sort_keys=True))
        return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def changed(root: Path, former: Path | None) -> list[str]:
    """Classes whose facts, or the library's files for them, are others than in former data."""
    now = Rows(root)
    if former is None:
        return list(now)
    before = Rows(former)
    return [n for n in now if n not in before or before.digest(n) != now.digest(n)]


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
