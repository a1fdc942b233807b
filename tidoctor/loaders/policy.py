"""A consumer and its records: what each of them may say.

A file has `name`, `title`, `aliases`, `axis` (what its versions are), `versions` (those known,
oldest first), `serves`, `defaults`, `eras`, `classes` and `records`. A record holds for some
versions, model types and tasks; what it does not say, the era of a version says, and else
`defaults`. The keys of all three:

    versions     a range such as ">=0.7.2" or "*"; its bounds are known versions
    model_types  of config.json; ["*"] is for those that no other record names, and stands last
    tasks        ["causal-lm"] unless said otherwise
    class_from   who chooses the class: "caller", "model_type" or "architectures"
    base_class   what the name of a bare base class in `architectures` does: "ignored", "refused",
                 "unknown", "bare" (the names of the body have no prefix, and no head is read)
    select       which files are read: "caller", "single-first", "index-first", "glob",
                 "glob-index" (the files of the pattern, of those only what an index lists)
    pattern      of the file names, where a pattern is used; "a|b" is either
    index        "unused"; "listed": names that it does not list are not seen; "map": nor are those
                 that it places in another file, and one that is not there is an error;
                 "must-match": its names have to be those in the files
    duplicates   of one name in two files: "last", "any" (files are read as the system lists them)
                 or "error"
    metadata     of a file: "unused"; "format": a `format` that is none of a framework's is
                 refused; "needed": so is a file without metadata
    strip        texts that are taken out of every name; "^text" only off its front, which is what
                 transformers 4 does with the base prefix of a class that has another one inside:
                 names without any are then not found
    extra        names without a place: "ignore", "report", "error"; `exempt` are regular
                 expressions for names that never count
    missing      tensors without a value: "error", "random" (told), "uninitialised" (not told),
                 "uninitialised-matrices" (the same, but a missing vector is an error), "weights"
                 (an error, but a missing bias is left out without a word), "fused"
                 (an error, unless a projection that is fused with it is there)
    asks_first   names in the order in which missing ones are asked for, where that is not the
                 order of the class
    shapes       of a wrong one: "error", "unknown", "ignore" (it goes on with what is there)
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
    wrong_flag   {"is": a value of the flag, "why": what is then computed wrongly}, null for none
    config       keys of config.json: "key:type" has to be there and not null, "key:type?" may be
                 absent but not null; {"key": ..., "absent": number, "instead": path} is replaced
                 silently by that number where it is absent (null: by which is not known), and its
                 value may stand at that path, which is rope_parameters.KEY unless said otherwise
    scaling      how a stretched rotary base is read: "unknown" (as null, but where there is a
                 `delegate`: null is then as that one does), "own" (the same, and the class
                 stretches it of itself where it finds nothing), or {"reads": the keys where it is
                 sought, "takes", "alters", "skips", "refuses": the ways that it computes as
                 transformers 5 does, computes otherwise, goes on without, stops at; "*" is any
                 other, "word": the key that has to name the way, null for either}. "yarn/ratio" is
                 taken where the factor is the ratio of the two lengths, "yarn/length" where these
                 are equal
    layout       what says which layers have a sliding window, beside `layer_types`: null where that
                 is what it goes by, "unknown", or {"key": the number of layers of which the last
                 has none, "absent": its default, "short": "fails" where a model with fewer layers
                 stops it, else "fits"}
    errors       kind -> message, see `messages.TEMPLATES`
    delegate     "consumer@version" that decides where this record finds nothing wrong
    cite         {"repo", "file", "ref", "how"}: how is "run", "read", "issue" or "inferred"
    since, note  history and remarks, shown on the consumer's page

`eras` is a list of `versions` that do not overlap, each with keys of records. `classes` is a list
of which classes a consumer knows at all: {"versions", "by": "architectures" or "model_type",
"names", "tasks", "message", "cite"}. A class that is not among them is refused with the message; of
one that is among them and has no record nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidoctor.finding import Certainty
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.versions import Range, Timeline

HOW = ("run", "read", "issue", "inferred")
HEADS = (*POLICIES, "none", "delegated", "refused", "unknown")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "class_from": ("caller", "model_type", "architectures"),
    "base_class": ("ignored", "refused", "unknown", "bare"),
    "select": ("caller", "single-first", "index-first", "glob", "glob-index"),
    "index": ("unused", "listed", "map", "must-match"),
    "duplicates": ("last", "any", "error"),
    "metadata": ("unused", "format", "needed"),
    "extra": ("ignore", "report", "error"),
    "missing": ("error", "random", "uninitialised", "uninitialised-matrices", "weights", "fused"),
    "shapes": ("error", "unknown", "ignore"),
    "names": ("exact", "transformers-4", "transformers-5"),
    "head": HEADS,
}
DEFAULTS: Mapping[str, Any] = {
    "tasks": ["causal-lm"],
    "pattern": "*.safetensors",
    "index": "unused",
    "metadata": "unused",
    "strip": [],
    "exempt": [],
    "asks_first": [],
    "shapes": "unknown",
    "names": "exact",
    "prefixes": ["{prefix}"],
    "embedding": ["{embedding}"],
    "head_names": ["{head}"],
    "head_parts": [],
    "tie": {"key": "tie_word_embeddings", "absent": False},
    "needs_flag": None,
    "wrong_flag": None,
    "config": [],
    "scaling": None,
    "layout": None,
    "errors": {},
    "delegate": None,
    "since": "",
    "note": "",
}
ABSENT = ("error", "unknown", "transformers", "transformers-4", "transformers-5")
LISTS = (
    "model_types", "tasks", "strip", "exempt", "asks_first", "prefixes", "embedding", "head_names",
    "head_parts", "config",
)  # fmt: skip
FILLERS = frozenset({"prefix", "model_type", "embedding", "head"})


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
    metadata: str
    strip: tuple[str, ...]
    extra: str
    exempt: tuple[re.Pattern[str], ...] = field(repr=False)
    missing: str
    asks_first: tuple[str, ...]
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
    wrong_flag: WrongFlag | None
    config: tuple[Key, ...]
    scaling: Scaling | None
    layout: Layout | None
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
    `absent` is None where the replacement is not known. `type` is that of a key that must not be
    null; one that is `optional` may be absent.
    """

    name: str
    type: str | None = None
    optional: bool = False
    absent: float | None = None
    instead: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a stretched rotary base is read; see the module. Ways are those of `rope_type`."""

    reads: tuple[str, ...] = ("rope_scaling",)
    takes: tuple[str, ...] = ()
    alters: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    word: str | None = None
    own: bool = False  # whether the class stretches the base of itself where it finds nothing

    @property
    def known(self) -> bool:
        """Whether anything is recorded."""
        return bool(self.takes or self.alters or self.skips or self.refuses)


@dataclass(frozen=True, slots=True)
class Layout:
    """The key that says which layers have a sliding window; None where it is not known."""

    key: str | None
    absent: int = 0
    short: str = "fits"


@dataclass(frozen=True, slots=True)
class WrongFlag:
    """The value of the tie flag with which a consumer computes something else, and why."""

    value: bool
    why: str


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that a consumer knows in some versions, by what it looks for in config.json."""

    versions: Range
    by: str
    names: frozenset[str]
    tasks: tuple[str, ...]
    message: str
    cite: Cite


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
    classes: tuple[Classes, ...] = ()

    def known(self, place: int) -> Classes | None:
        """The classes that it knows in a known version, by its place; None where not known."""
        return next((c for c in self.classes if place in c.versions), None)

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
