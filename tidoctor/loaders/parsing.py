"""A consumer's file read, and the proof that it says soundly what it may say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidoctor.loaders.messages import TEMPLATES, fill
from tidoctor.loaders.policy import (
    ABSENT,
    CHOICES,
    DEFAULTS,
    FILLERS,
    HOW,
    LISTS,
    Cite,
    Classes,
    Consumer,
    Key,
    Layout,
    Record,
    Scaling,
    WrongFlag,
)
from tidoctor.loaders.versions import Range, Timeline, parse_range, range_of

_KEYS = frozenset({*CHOICES, *DEFAULTS, *LISTS, "versions", "cite"})
_FILE_KEYS = frozenset(
    {"name", "title", "aliases", "axis", "versions", "serves", "defaults", "records"}
)
_MAY = frozenset({"eras", "classes"})


def parse(text: str | bytes, file: str) -> Consumer:
    """The consumer that a file describes. Raises ValueError naming file and record."""
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from e
    where = file
    try:
        _same_keys({k: v for k, v in data.items() if k not in _MAY}, _FILE_KEYS)
        timeline = Timeline(tuple(_strings(data, "versions")))
        if data["serves"] not in ("generation", "conversion"):
            raise ValueError("serves is neither generation nor conversion")
        where = f"{file}, eras"
        eras = _eras(data.get("eras", []), timeline)
        records = []
        for i, raw in enumerate(data["records"]):
            where = f"{file}, record {i + 1} ({raw.get('model_types')} {raw.get('versions')})"
            versions = parse_range(raw["versions"], timeline)
            for part, era in _split(versions, eras, timeline):
                errors = {**data["defaults"].get("errors", {}), **era.get("errors", {})}
                said = {**data["defaults"], **era, "errors": errors}
                records.append(_record(raw, said, part, where))
        where = f"{file}, classes"
        classes = [_classes(raw, timeline) for raw in data.get("classes", [])]
        _disjoint([c.versions for c in classes])
        where = file
        _apart(records)
        return Consumer(
            name=data["name"],
            title=data["title"],
            aliases=tuple(_strings(data, "aliases")),
            axis=data["axis"],
            timeline=timeline,
            serves=data["serves"],
            records=tuple(records),
            classes=tuple(classes),
        )
    except (KeyError, TypeError, AttributeError, re.error) as e:
        raise ValueError(f"{where}: {type(e).__name__} {e}") from e
    except ValueError as e:
        raise ValueError(str(e) if str(e).startswith(file) else f"{where}: {e}") from e


Era = tuple[Range, Mapping[str, Any]]


def _eras(raws: Iterable[Mapping[str, Any]], timeline: Timeline) -> list[Era]:
    """What holds in some versions. Raises ValueError where two eras speak of one version."""
    eras: list[Era] = []
    for raw in raws:
        said = {k: v for k, v in raw.items() if k != "versions"}
        if strange := sorted(set(said) - _KEYS):
            raise ValueError(f"{strange[0]} is no key")
        eras.append((parse_range(raw["versions"], timeline), said))
    _disjoint([versions for versions, _ in eras])
    return eras


def _disjoint(ranges: Iterable[Range]) -> None:
    taken: set[int] = set()
    for one in ranges:
        if taken & one.places:
            raise ValueError(f"{one.text} overlaps what stands before it")
        taken |= one.places


def _split(versions: Range, eras: Iterable[Era], timeline: Timeline) -> Iterator[Era]:
    """A range cut at the borders of eras: each part, and what its era says."""
    left = versions.places
    for era, said in eras:
        here = versions.places & era.places
        if here == versions.places:
            yield versions, said
        elif here:
            yield range_of(here, timeline), said
        left -= here
    if left:
        yield versions if left == versions.places else range_of(left, timeline), {}


def _classes(raw: Mapping[str, Any], timeline: Timeline) -> Classes:
    _same_keys(raw, frozenset({"versions", "by", "names", "tasks", "message", "cite"}))
    if raw["by"] not in ("architectures", "model_type"):
        raise ValueError(f"by is {raw['by']!r}")
    _fill_all({"class": raw["message"]}, {})
    return Classes(
        versions=parse_range(raw["versions"], timeline),
        by=raw["by"],
        names=frozenset(_strings(raw, "names")),
        tasks=tuple(_strings(raw, "tasks")),
        message=raw["message"],
        cite=_cite(raw["cite"]),
    )


def _cite(raw: Mapping[str, Any]) -> Cite:
    cite = Cite(**raw)
    if cite.how not in HOW or not (cite.repo and cite.file and cite.ref):
        raise ValueError("it is not cited: repo, file, ref and how are needed")
    return cite


def _record(
    raw: Mapping[str, Any], defaults: Mapping[str, Any], versions: Range, where: str
) -> Record:
    errors = {**defaults.get("errors", {}), **raw.get("errors", {})}
    full = {**DEFAULTS, **defaults, **raw, "errors": errors}
    _same_keys(full, _KEYS)
    for key, choices in CHOICES.items():
        if full[key] not in choices:
            raise ValueError(f"{key} is {full[key]!r}, not one of {', '.join(choices)}")
    lists = {key: tuple(_strings(full, key)) for key in LISTS if key != "config"}
    if not lists["model_types"] or not lists["tasks"]:
        raise ValueError("it names no model type or no task")
    cite = _cite(full["cite"])
    if full["head"] in ("unknown", "refused") and not full["note"]:
        raise ValueError(f"head is {full['head']}, and no note says why")
    if (full["head"] == "delegated") is not bool(full["delegate"]):
        raise ValueError("head is delegated and nobody named, or the other way round")
    tie = full["tie"]
    if set(tie) != {"key", "absent"} or not (
        isinstance(tie["absent"], bool) or tie["absent"] in ABSENT
    ):
        raise ValueError(f"tie says {tie!r}")
    if tie["key"] is None and not str(tie["absent"]).startswith("transformers"):
        raise ValueError("tie has no key, and leaves the flag to nobody")
    _fill_all(errors, {k: v for k, v in lists.items() if k != "exempt"})
    return Record(
        where=where,
        versions=versions,
        model_types=lists["model_types"],
        tasks=lists["tasks"],
        **{key: full[key] for key in CHOICES},
        pattern=full["pattern"],
        strip=lists["strip"],
        exempt=tuple(re.compile(p) for p in lists["exempt"]),
        asks_first=lists["asks_first"],
        prefixes=lists["prefixes"],
        embedding=lists["embedding"],
        head_names=lists["head_names"],
        head_parts=lists["head_parts"],
        tie_key=tie["key"],
        tie_absent=tie["absent"],
        needs_flag=full["needs_flag"],
        wrong_flag=_wrong_flag(full["wrong_flag"]),
        config=tuple(map(_key, full["config"])),
        scaling=_scaling(full["scaling"]),
        layout=_layout(full["layout"]),
        errors=errors,
        delegate=full["delegate"],
        cite=cite,
        since=full["since"],
        note=full["note"],
    )


def _wrong_flag(raw: Mapping[str, Any] | None) -> WrongFlag | None:
    if raw is None:
        return None
    _same_keys(raw, frozenset({"is", "why"}))
    return WrongFlag(bool(raw["is"]), raw["why"])


def _scaling(raw: str | Mapping[str, Any] | None) -> Scaling | None:
    if raw is None:
        return None
    if raw in ("unknown", "own"):
        return Scaling(own=raw == "own")
    if isinstance(raw, str) or set(raw) - {*Scaling.__slots__} | {"own"} & {*raw}:
        raise ValueError(f"scaling is {raw!r}")
    lists: dict[str, Any] = {key: tuple(_strings(raw, key)) for key in raw if key != "word"}
    found = Scaling(**lists, word=raw.get("word"))
    kinds = (found.takes, found.alters, found.skips, found.refuses)
    ways = [way.partition("/")[0] for some in kinds for way in some]
    if not found.known or len({*ways}) < len(ways):
        raise ValueError(f"scaling says nothing, or one thing twice: {raw!r}")
    if conditions := {way.partition("/")[2] for way in found.takes} - {"", "ratio", "length"}:
        raise ValueError(f"scaling has a condition that is not known: {min(conditions)}")
    return found


def _layout(raw: str | Mapping[str, Any] | None) -> Layout | None:
    if raw is None:
        return None
    if raw == "unknown":
        return Layout(None)
    if isinstance(raw, str):
        raise ValueError(f"layout is {raw!r}")
    found = Layout(raw["key"], int(raw["absent"]), raw.get("short", "fits"))
    if set(raw) - {*Layout.__slots__} or found.short not in ("fits", "fails") or found.absent < 1:
        raise ValueError(f"layout is {raw!r}")
    return found


def _key(raw: str | Mapping[str, Any]) -> Key:
    if isinstance(raw, str):
        name, _, kind = raw.partition(":")
        return Key(name, kind.removesuffix("?") or None, optional=kind.endswith("?"))
    full = {"instead": f"rope_parameters.{raw['key']}", **raw}
    _same_keys(full, frozenset({"key", "absent", "instead"}))
    absent = None if full["absent"] is None else float(full["absent"])
    return Key(full["key"], absent=absent, instead=tuple(full["instead"].split(".")))


def _fill_all(errors: Mapping[str, str], lists: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError unless every template can be filled with what it may quote."""
    for kind, text in errors.items():
        if kind not in TEMPLATES:
            raise ValueError(f"{kind} is no kind of message")
        for line in (text, fill(text, dict.fromkeys(TEMPLATES[kind], "x"))):
            if "\n" in line:
                raise ValueError(f"the message for {kind} has more than one line")
    for key, texts in lists.items():
        for text in texts:
            try:
                fill(text, dict.fromkeys(FILLERS, "x"))
            except ValueError as e:
                raise ValueError(f"{key}: {e}") from e


def _apart(records: Iterable[Record]) -> None:
    """Raise ValueError where two records speak of the same, or where `*` is not last."""
    taken: dict[tuple[str, str, int], Record] = {}
    general = ""
    for record in records:
        if "*" in record.model_types:
            general = record.where
            if len(record.model_types) > 1:
                raise ValueError(f"{record.where}: * stands beside other model types")
        elif general:
            raise ValueError(f"{record.where}: it follows the fallback, which has to be last")
        for model_type in record.model_types:
            for task in record.tasks:
                for place in record.versions.places:
                    other = taken.setdefault((model_type, task, place), record)
                    if other is not record:
                        raise ValueError(f"{record.where}: overlaps {other.where}")


def _same_keys(data: Mapping[str, Any], known: frozenset[str]) -> None:
    if strange := sorted(set(data) - known):
        raise ValueError(f"{strange[0]} is no key")
    if lacking := sorted(known - set(data)):
        raise ValueError(f"{lacking[0]} is not said")


def _strings(data: Mapping[str, Any], key: str) -> list[str]:
    value = data[key]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{key} is no list of texts")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ; Python's reader would keep the last of equal ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is repeated among {', '.join(k for k, _ in pairs)}")
    return found
