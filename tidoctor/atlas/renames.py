"""Rules that turn names in a file into names in memory, as transformers has them for a class.

`conversions` collects those of a class: its own and those of its submodels, each within the place
where the submodel sits, the legacy spellings last; a `Renamer` sends one name through one of them.

The rules are data (`renames.json`, written by `tidoctor.atlas.learn.renames`). Their order follows
transformers 5.23: core_model_loading.py (`rename_source_key`) and conversion_mapping.py
(`get_model_conversion_mapping`). Quantised files, whose rules come from a quantiser, are not meant
here.

The names are somebody's: each is looked at once, and none longer than `LONGEST` at all. No
pattern of the data has more than one unbounded repetition, so a name costs at most its
length squared.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tidoctor.atlas import families
from tidoctor.atlas.expression import NotCovered

LONGEST = 256  # characters of a name; those of the library itself stay below 200
_DEEPEST = 8  # submodels in submodels


class Rule(NamedTuple):
    """One conversion of names, with the operations on the tensors if it has any.

    Attributes:
        sources: regular expressions, except that `*.` stands for anything up to a dot.
        targets: what a match becomes, `\\1` being the first group of the source that matched.
            A name takes the first target; the others are further results of the operations.
        operations: name and parameters, in order; empty for a mere renaming.
        paired: the n-th source becomes the n-th target, but only once the first has been seen.
        offset: added to the number that the group caught.
        scope: the submodel the rule is for, as a path below the base prefix; None for
            everywhere.
        base: the base prefix of the class that is loaded, which may stand before the scope.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    operations: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    paired: bool = False
    offset: int = 0
    scope: str | None = None
    base: str = ""


def conversions(
    name: str, prefix: str, model_types: Mapping[str, str] | None = None
) -> tuple[Rule, ...]:
    """The rules with which transformers loads a class, in the order it applies them.

    Args:
        name: the class.
        prefix: its `base_model_prefix`.
        model_types: config path -> model type of the sub-configs, where config.json chooses
            them (`{"text_config": "qwen2"}`); the library's defaults elsewhere.

    Raises:
        NotCovered: the class was not learned, or config.json chooses a part whose class is
            not known.
    """
    claimed: dict[str, list[str]] = {}  # class or model type -> places that brought its rules
    found: list[Rule] = []
    for at, known, model_type in _modules(name, dict(model_types or {})):
        if _within(at, claimed.get(known, ())):
            continue
        rows = _rows(known)
        key = known
        if rows is None:
            key = model_type
            if _within(at, claimed.get(key, ())):
                continue
            rows = _rows(key)
        if rows is None:
            continue
        scope = at.removeprefix(prefix).removeprefix(".") if at else None
        found += [_rule(row, scope, prefix) for row in rows]
        claimed.setdefault(known, []).append(at)
        if key == model_type:
            claimed.setdefault(key, []).append(at)
    return (*found, *(_rule(row, None, prefix) for row in _rows("legacy") or ()))


def has_rules(key: str) -> bool:
    """Whether there are rules under a class name or a model type."""
    return _rows(key) is not None


def _within(at: str, places: Iterable[str]) -> bool:
    """Whether a submodel lies below one of the places."""
    return any(not place or at.startswith(f"{place}.") for place in places)


def _modules(name: str, model_types: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(place, class, model type) of a class and of the submodels that may bring rules."""
    yield "", name, str(_row(name).get("type", ""))
    yield from _parts(name, "", "", model_types, _DEEPEST)


def _parts(
    name: str, at: str, path: str, model_types: Mapping[str, str], depth: int
) -> Iterator[tuple[str, str, str]]:
    if not depth:
        raise NotCovered(f"{name}: submodels nested too deeply")
    replaced: list[str] = []
    for part in _row(name).get("parts", ()):
        place = _joined(at, part["at"])
        if _within(place, replaced):
            continue
        config = _joined(path, part["config"]) if "config" in part else None
        chosen = model_types.get(config, part["type"]) if part.get("open") and config else None
        if chosen is None or config is None or chosen == part["type"]:
            yield place, part["class"], part["type"]
            continue
        replaced.append(place)
        other = _in_its_place(part["class"], part["type"], chosen)
        yield place, other, chosen
        yield from _parts(other, place, config, model_types, depth - 1)


def _in_its_place(name: str, model_type: str, chosen: str) -> str:
    """The class that does for a chosen model type what a class does for its own."""
    for task, each in families.classes_of(model_type).items():
        if each == name:
            other = families.class_for(chosen, task)
            if other is not None:
                return other
    raise NotCovered(f"it is not known which class takes the place of {name} for {chosen}")


def _joined(before: str, after: str) -> str:
    return f"{before}.{after}" if before and after else before or after


def _row(name: str) -> Mapping[str, Any]:
    """What was learned of a class; empty for one that needs no row."""
    data = _data()
    row: Mapping[str, Any] | None = data["classes"].get(name)
    if row is not None:
        return row
    if name in data["unlearned"] or families.class_facts(name) is None:
        raise NotCovered(f"the conversions of {name} were not learned")
    return {}


def _rows(key: str) -> Sequence[Mapping[str, Any]] | None:
    """The rules kept under a class name or model type."""
    data = _data()
    rows: Sequence[Mapping[str, Any]] | None = data["rules"].get(data["same"].get(key, key))
    return rows


def _rule(row: Mapping[str, Any], scope: str | None, base: str) -> Rule:
    return Rule(
        sources=_many(row["from"]),
        targets=_many(row["to"]),
        operations=tuple((name, how) for name, how in row.get("through", ())),
        paired=row.get("paired", False),
        offset=row.get("offset", 0),
        scope=scope,
        base=base,
    )


def _many(patterns: str | list[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


@functools.cache
def _data() -> dict[str, Any]:
    path = Path(__file__).with_name("renames.json")
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


# --- one name through one rule ---------------------------------------------------------------


class Renamer:
    """A rule made ready. Keeps, for paired rules, whether the first source has been seen."""

    __slots__ = ("_active", "_first", "_needles", "_order", "_search", "_second", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._search = _pattern(rule.sources).search
        self._needles = tuple(_needle(source) for source in rule.sources)
        scope = f"{rule.scope}." if rule.scope else ""
        self._first = (f"{rule.base}." if rule.base else "") + scope
        self._second = scope
        self._active = False
        self._order = _tried(rule.sources)

    def may_match(self, text: str) -> bool:
        """Whether some line of a text may be a name that the rule applies to."""
        return any(needle in text for needle in self._needles)

    def __call__(self, name: str) -> tuple[str, str] | None:
        """The new name and the source pattern, None where the rule does not apply."""
        for needle in self._needles:
            if needle in name:
                break
        else:
            return None
        rule = self.rule
        before = ""
        if rule.scope is not None:
            before = self._first
            if not name.startswith(before):
                before = self._second
                if not name.startswith(before):
                    return None
            name = name[len(before) :]
        match = self._search(name)
        if match is None:
            return None
        which = 0
        if len(rule.sources) > 1:
            which = next(at for at in self._order if match.group(f"g{at}") is not None)
        if rule.paired:
            self._active = self._active or which == 0
            if not self._active:
                return None
        target = rule.targets[which if rule.paired else 0]
        if "\\" in target:
            caught = match.group(match.re.groupindex[f"g{which}"] + 1) or ""
            if rule.offset and caught.isdecimal():
                caught = str(int(caught) + rule.offset)
            target = target.replace("\\1", caught)
        # The first place where the matched text stands, as the library does it: with a
        # condition on what precedes, that need not be where the match was found.
        return before + name.replace(match.group(), target, 1), rule.sources[which]


def _tried(sources: Sequence[str]) -> list[int]:
    """The order of the alternatives: the longest source first."""
    return sorted(range(len(sources)), key=lambda at: -len(sources[at]))


@functools.lru_cache(maxsize=4096)
def _pattern(sources: tuple[str, ...]) -> re.Pattern[str]:
    branches = []
    for at in _tried(sources):
        body = sources[at].replace("*.", r".*\.")
        if re.search(r"[a-zA-Z0-9]$", body):  # not in the middle of a longer word
            body += r"(?!\w)"
        branches.append(f"(?P<g{at}>{body})")
    return re.compile("|".join(branches))


@functools.lru_cache(maxsize=4096)
def _needle(source: str) -> str:
    """A text that stands in every name the source matches (to skip most names cheaply)."""
    plain = source
    while True:  # groups and classes from the inside out
        less = re.sub(r"\((?:\\.|[^()\\])*\)[*+?]?|\[[^\]]*\][*+?]?", "\0", plain)
        if less == plain:
            break
        plain = less
    if "|" in plain:
        return ""
    plain = re.sub(r"\w[*?]", "\0", plain.replace("*.", "\0"))
    plain = re.sub(r"\\[A-Za-z0-9][*+?]?", "\0", plain)
    return max(re.findall(r"\w+", plain), key=len, default="")
