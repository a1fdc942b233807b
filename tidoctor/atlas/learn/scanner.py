"""One class held against the library, one field of its config changed at a time.

Every field gets several values in a full config.json and in an almost empty one (`Scan.run` has
the order of it); of a wrong answer the fields that it takes are narrowed down.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidoctor.atlas.learn import examine
from tidoctor.atlas.learn.builds import Built, configured, nested
from tidoctor.atlas.learn.dotted import LEFT, Values, altered, leaves, put
from tidoctor.atlas.learn.samples import Sampler, kinds_of_names, watched
from tidoctor.atlas.learn.trying import (
    distinct,
    documented,
    far,
    is_inert,
    is_list_of_words,
    joint_changes,
    kinds_of_layers,
    other_parts,
    values_for,
)
from tidoctor.atlas.learn.write import compared_in, expressions, fields_of, names_in

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
        sample = self._built(raw)
        if sample is None:
            return None
        verdict = examine.judged(self.name, raw, sample)
        self.counts[verdict[0]] += 1
        return verdict

    @functools.cached_property
    def _samples(self) -> dict[str, Any]:
        return {}

    def _built(self, raw: Values) -> Any:
        """What the library makes of it, None for nothing; two spellings are built once."""
        from tidoctor.atlas.learn.builds import built

        try:
            config = configured(self.name, raw)
            key = json.dumps(config.to_dict(), sort_keys=True, default=str)
        except Exception:
            return None
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
            self.worded, self.kinds, self.parts, self.unread, self.alone, self.lengths,
            self.within, self.at_corners, self.together,
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

    @functools.cached_property
    def choices(self) -> list[str]:
        """Fields that are a word, other than the name of an activation."""
        from tidoctor.atlas.learn.lesson import all_activations

        fields, names = sorted(self.fields.items()), all_activations()
        return [path for path, each in fields if isinstance(each, str) and each not in names]

    def values_of(self, path: str) -> list[Any]:
        """Values to try for a field."""
        value = self.fields[path]
        words = self.words.get(path, set())
        return values_for(value, words)

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
            if path in self.choices:  # tried before
                continue
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
                    sample = self._built(next(self.with_({path: value})))
                    if sample is not None and kinds_of_names(sample) != kinds:
                        self.corners[path] = value

    def worded(self) -> Iterator[None]:
        """Every word that is known for a field, since another word often is another model."""
        for path in self.choices:
            self._one(path, self.values_of(path))
            yield

    def kinds(self) -> Iterator[None]:
        """Every word of the library for what the first or the last layer is."""
        for path, value in sorted(self.fields.items()):
            if is_list_of_words(value) and {*value} <= kinds_of_layers():
                for word in sorted(kinds_of_layers()):
                    for other in ([word, *value[1:]], [*value[:-1], word]):
                        if other != value:
                            self.try_({path: other})
                            yield

    def parts(self) -> Iterator[None]:
        """Sub-configs of other types; what the full base says of the usual one would not do."""
        for key, other in other_parts(self.base):
            raw = self.base | {key: other}
            told = self.judge(raw)
            path, model_type = f"{key}.model_type", other["model_type"]
            if told and told[0] == "wrong":
                self.note({path: model_type}, raw, told[1])
            elif told and told[0] == "exact":
                self.right.setdefault(path, []).append(model_type)
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
        return any(self._built(raw) is not None for raw in self.with_(changes))

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
