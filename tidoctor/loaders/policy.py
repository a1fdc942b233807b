"""A consumer's file: what it may say, and the proof that it says it soundly.

A file has `name`, `title`, `aliases`, `axis` (what its versions are), `versions` (those known,
oldest first), `serves`, `defaults` and `records`. A record holds for some versions, model types
and tasks; what it does not say, `defaults` says. The keys of both:

    versions     a range such as ">=0.7.2" or "*"; its bounds are known versions
    model_types  of config.json; ["*"] is for those that no other record names, and stands last
    tasks        ["causal-lm"] unless said otherwise
    class_from   who chooses the class: "caller", "model_type" or "architectures"
    base_class   what the name of a bare base class in `architectures` does: "ignored", "refused",
                 "unknown"
    select       which files are read: "caller", "single-first", "index-first", "glob",
                 "glob-index" (the files of the pattern, of those only what an index lists)
    pattern      of the file names, where a pattern is used
    index        "unused"; "listed": names that it does not list are not seen; "map": nor are those
                 that it places in another file, and one that is not there is an error;
                 "must-match": its names have to be those in the files
    duplicates   of one name in two files: "last" or "error"
    extra        names without a place: "ignore", "report", "error"; `exempt` are regular
                 expressions for names that never count
    missing      tensors without a value: "error", "random" (told), "uninitialised" (not told),
                 "uninitialised-matrices" (the same, but a missing vector is an error), "fused"
                 (an error, unless a projection that is fused with it is there)
    shapes       of a wrong one: "error", "unknown", "ignore"
    names        "exact", or by the rules of a release: "transformers-4", "transformers-5"
    prefixes     in front of the body's names, in the order of trying; {prefix} is that of the
                 class in transformers, {model_type} that of config.json
    embedding    names under which the embedding is sought, in order; {embedding} and {head} are
                 those of the class. A head that may stand for it is believed only if it is tied
    head         one of `heads.POLICIES`, "none" (no head is built), "delegated" (see `delegate`),
                 "refused" (the class is not taken), "unknown" (what happens is not known); for
                 the last two `note` says why
    head_names   names under which the head is sought; {head} is that of the class
    head_parts   further tensors that have to be there with the head
    tie          {"key": of the flag, "absent": what holds without it}: true, false, "error",
                 "unknown", "transformers-4", "transformers-5", "transformers" (as both agree). The
                 key is null where transformers itself reads the flag; "a|b" is a, else b
    needs_flag   the only value of the flag that is accepted, null for both
    config       keys of config.json: "key:type" has to be there and not null; {"key": ...,
                 "absent": number, "instead": path} is replaced silently by that number where it
                 is absent (null: by which is not known), and its value may stand at that path,
                 which is rope_parameters.KEY unless said otherwise
    errors       kind -> message, see `TEMPLATES`
    delegate     "consumer@version" that decides where this record finds nothing wrong
    cite         {"repo", "file", "ref", "how"}: how is "run", "read", "issue" or "inferred"
    since, note  history and remarks, shown on the consumer's page
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidoctor.finding import Certainty
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.versions import Range, Timeline, parse_range

HOW = ("run", "read", "issue", "inferred")
HEADS = (*POLICIES, "none", "delegated", "refused", "unknown")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "class_from": ("caller", "model_type", "architectures"),
    "base_class": ("ignored", "refused", "unknown"),
    "select": ("caller", "single-first", "index-first", "glob", "glob-index"),
    "index": ("unused", "listed", "map", "must-match"),
    "duplicates": ("last", "error"),
    "extra": ("ignore", "report", "error"),
    "missing": ("error", "random", "uninitialised", "uninitialised-matrices", "fused"),
    "shapes": ("error", "unknown", "ignore"),
    "names": ("exact", "transformers-4", "transformers-5"),
    "head": HEADS,
}
_DEFAULTS: Mapping[str, Any] = {
    "tasks": ["causal-lm"],
    "pattern": "*.safetensors",
    "index": "unused",
    "exempt": [],
    "shapes": "unknown",
    "names": "exact",
    "prefixes": ["{prefix}"],
    "embedding": ["{embedding}"],
    "head_names": ["{head}"],
    "head_parts": [],
    "tie": {"key": "tie_word_embeddings", "absent": False},
    "needs_flag": None,
    "config": [],
    "errors": {},
    "delegate": None,
    "since": "",
    "note": "",
}
_ABSENT = ("error", "unknown", "transformers", "transformers-4", "transformers-5")
_LISTS = (
    "model_types", "tasks", "exempt", "prefixes", "embedding", "head_names", "head_parts", "config",
)  # fmt: skip
_KEYS = frozenset({*_CHOICES, *_DEFAULTS, *_LISTS, "versions", "cite"})
_FILE_KEYS = frozenset(
    {"name", "title", "aliases", "axis", "versions", "serves", "defaults", "records"}
)
_FILLERS = frozenset({"prefix", "model_type", "embedding", "head"})

_ALWAYS = frozenset({"class", "model"})
_LACKING = _ALWAYS | {"name", "names", "quoted", "count"}
_SURPLUS = _ALWAYS | {"name", "names", "count", "component", "inside"}
TEMPLATES: Mapping[str, frozenset[str]] = {
    "missing": _LACKING,
    "missing_head": _LACKING,
    "missing_vector": _LACKING,
    "extra": _SURPLUS,
    "extra_inside": _SURPLUS,
    "shape": _ALWAYS | {"name", "expected", "got"},
    "config": _ALWAYS | {"key", "keys", "plural", "line", "column"},
    "null": _ALWAYS | {"key", "type", "line", "column"},
    "class": _ALWAYS | {"model_type"},
    "duplicate": _ALWAYS | {"name", "first", "second"},
    "flag": _ALWAYS,
    "corrupted": _ALWAYS,
    "files": _ALWAYS,
    "index": _ALWAYS,
}
"""Kinds of messages, and what each may quote."""


@dataclass(frozen=True, slots=True)
class Cite:
    """Where a statement stands, and how it is known: run, read, issue or inferred."""

    repo: str
    file: str
    ref: str
    how: str

    def __str__(self) -> str:
        said = {"run": "run", "read": "read in the source", "issue": "reported in an issue"}
        return f"{self.repo} {self.file} at {self.ref} ({said.get(self.how, self.how)})"


@dataclass(frozen=True, slots=True)
class Record:
    """What one consumer does in some versions with some model types; see the module."""

    where: str
    versions: Range
    model_types: tuple[str, ...]
    tasks: tuple[str, ...]
    class_from: str
    base_class: str
    select: str
    pattern: str
    index: str
    duplicates: str
    extra: str
    exempt: tuple[re.Pattern[str], ...] = field(repr=False)
    missing: str
    shapes: str
    names: str
    prefixes: tuple[str, ...]
    embedding: tuple[str, ...]
    head: str
    head_names: tuple[str, ...]
    head_parts: tuple[str, ...]
    tie_key: str | None
    tie_absent: bool | str
    needs_flag: bool | None
    config: tuple[Key, ...]
    errors: Mapping[str, str]
    delegate: str | None
    cite: Cite
    since: str
    note: str

    @property
    def certainty(self) -> Certainty:
        """Likely where nobody has run or read it."""
        sure = self.cite.how in ("run", "read")
        return Certainty.PROVEN if sure else Certainty.LIKELY


@dataclass(frozen=True, slots=True)
class Key:
    """A key of config.json: required, or silently replaced by `absent` when it is not there.

    `instead` is the path at which transformers 5 keeps the same value, None for a required key;
    `absent` is None where the replacement is not known.
    """

    name: str
    type: str | None = None
    absent: float | None = None
    instead: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """One program that reads checkpoints. `serves` is "generation" or "conversion"."""

    name: str
    title: str
    aliases: tuple[str, ...]
    axis: str
    timeline: Timeline
    serves: str
    records: tuple[Record, ...]

    def find(self, model_type: str | None, task: str | None, place: int) -> Record | None:
        """The record for a known version, by its place; exact model types before `*`."""
        if model_type is None or task is None:
            return None
        for wanted in (model_type, "*"):
            for record in self.records:
                speaks = wanted in record.model_types and task in record.tasks
                if speaks and place in record.versions:
                    return record
        return None


def parse(text: str | bytes, file: str) -> Consumer:
    """The consumer that a file describes. Raises ValueError naming file and record."""
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from e
    where = file
    try:
        _same_keys(data, _FILE_KEYS)
        timeline = Timeline(tuple(_strings(data, "versions")))
        if data["serves"] not in ("generation", "conversion"):
            raise ValueError("serves is neither generation nor conversion")
        records = []
        for i, raw in enumerate(data["records"]):
            where = f"{file}, record {i + 1} ({raw.get('model_types')} {raw.get('versions')})"
            records.append(_record(raw, data["defaults"], timeline, where))
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
        )
    except (KeyError, TypeError, AttributeError, re.error) as e:
        raise ValueError(f"{where}: {type(e).__name__} {e}") from e
    except ValueError as e:
        raise ValueError(str(e) if str(e).startswith(file) else f"{where}: {e}") from e


def _record(
    raw: Mapping[str, Any], defaults: Mapping[str, Any], timeline: Timeline, where: str
) -> Record:
    errors = {**defaults.get("errors", {}), **raw.get("errors", {})}
    full = {**_DEFAULTS, **defaults, **raw, "errors": errors}
    _same_keys(full, _KEYS)
    for key, choices in _CHOICES.items():
        if full[key] not in choices:
            raise ValueError(f"{key} is {full[key]!r}, not one of {', '.join(choices)}")
    lists = {key: tuple(_strings(full, key)) for key in _LISTS if key != "config"}
    if not lists["model_types"] or not lists["tasks"]:
        raise ValueError("it names no model type or no task")
    cite = Cite(**full["cite"])
    if cite.how not in HOW or not (cite.repo and cite.file and cite.ref):
        raise ValueError("it is not cited: repo, file, ref and how are needed")
    if full["head"] in ("unknown", "refused") and not full["note"]:
        raise ValueError(f"head is {full['head']}, and no note says why")
    if (full["head"] == "delegated") is not bool(full["delegate"]):
        raise ValueError("head is delegated and nobody named, or the other way round")
    tie = full["tie"]
    if set(tie) != {"key", "absent"} or not (
        isinstance(tie["absent"], bool) or tie["absent"] in _ABSENT
    ):
        raise ValueError(f"tie says {tie!r}")
    if tie["key"] is None and not str(tie["absent"]).startswith("transformers"):
        raise ValueError("tie has no key, and leaves the flag to nobody")
    _fill_all(errors, {k: v for k, v in lists.items() if k != "exempt"})
    return Record(
        where=where,
        versions=parse_range(full["versions"], timeline),
        model_types=lists["model_types"],
        tasks=lists["tasks"],
        **{key: full[key] for key in _CHOICES},
        pattern=full["pattern"],
        exempt=tuple(re.compile(p) for p in lists["exempt"]),
        prefixes=lists["prefixes"],
        embedding=lists["embedding"],
        head_names=lists["head_names"],
        head_parts=lists["head_parts"],
        tie_key=tie["key"],
        tie_absent=tie["absent"],
        needs_flag=full["needs_flag"],
        config=tuple(map(_key, full["config"])),
        errors=errors,
        delegate=full["delegate"],
        cite=cite,
        since=full["since"],
        note=full["note"],
    )


def _key(raw: str | Mapping[str, Any]) -> Key:
    if isinstance(raw, str):
        name, _, kind = raw.partition(":")
        return Key(name, kind or None)
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
                fill(text, dict.fromkeys(_FILLERS, "x"))
            except ValueError as e:
                raise ValueError(f"{key}: {e}") from e


def fill(template: str, values: Mapping[str, object]) -> str:
    """A template with its braces filled. Raises ValueError for one that asks for more."""
    out = []
    for text, name, spec, conversion in string.Formatter().parse(template):
        out.append(text)
        if name is not None:
            if name not in values or spec or conversion:
                raise ValueError(f"{template!r} asks for {name!r}")
            out.append(str(values[name]))
    return "".join(out)


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
