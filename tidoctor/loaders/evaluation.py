"""A checkpoint held against a consumer in one version: it loads, fails, misreads, or is unknown.

The order of the checks is that in which loaders meet trouble: the class, the config, the files, the
names, the head. A verdict rests on the record that it cites; without a matching record, or where a
fact that the answer needs is not known, it is `unknown` and says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tidoctor.finding import Certainty, Outcome, Verdict
from tidoctor.loaders.catalogue import Asked, asked
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.patient import Patient, Shape
from tidoctor.loaders.policy import Key, Record, fill
from tidoctor.loaders.reading import Seen, seen, unlisted
from tidoctor.names import printable, some

LOADS, FAILS, MISREADS, UNKNOWN = Outcome
_MOST = 200  # characters of a message that lists names
_FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_LACKING = ("missing_head", "missing_vector")  # without a text of their own, as any tensor
_DELEGATIONS = 3


def evaluate(patient: Patient, wish: Asked) -> Verdict:
    """What a consumer makes of a checkpoint."""
    return Examination(patient).evaluate(wish)


class Examination:
    """One checkpoint, to be held against any number of consumers; keeps what they share."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self._seen: dict[tuple[str, ...], Seen] = {}
        self._wanted: dict[str, Mapping[str, Shape]] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}

    def evaluate(self, wish: Asked, *, depth: int = _DELEGATIONS) -> Verdict:
        """What a consumer makes of the checkpoint."""
        key = (wish.consumer.name, wish.version)
        if key not in self._verdicts:
            record, why = self.record(wish)
            self._verdicts[key] = (
                Verdict(*key, UNKNOWN, why)
                if record is None
                else _Case(self, wish, record, depth).verdict()
            )
        return self._verdicts[key]

    def record(self, wish: Asked) -> tuple[Record | None, str]:
        """The record that speaks of this checkpoint, or why there is none."""
        patient, found = self.patient, None
        consumer, place = wish.consumer, wish.place
        if patient.model_type is None:
            return None, "config.json names no model_type"
        tasks = ["embedding"] if patient.embeds else []
        for task in (*tasks, patient.task):
            pair = [consumer.find(patient.model_type, task, p) for p in (place.low, place.high)]
            found = pair[0]
            if pair[0] is not pair[1]:
                ends = [consumer.timeline.known[p] for p in (place.low, place.high)]
                return None, f"it lies between {ends[0]} and {ends[1]}, which differ"
            if found is not None:
                return found, ""
        what = printable(patient.model_type)
        if patient.task not in (None, "causal-lm"):
            what += f" as {patient.task}"
        return None, f"no record of {consumer.name} {wish.version} speaks of {what}"

    def seen(self, record: Record) -> Seen:
        """What a consumer sees of the files."""
        key = (record.select, record.pattern, record.index)
        if key not in self._seen:
            self._seen[key] = seen(self.patient, record)
        return self._seen[key]

    def wanted(self, prefix: str) -> Mapping[str, Shape]:
        """The tensors of the class under a base prefix, head and aliases left out."""
        if prefix not in self._wanted:
            p = self.patient
            out = {*p.aliases, p.head}
            self._wanted[prefix] = {
                _moved(name, p.prefix, prefix): shape
                for name, shape in (p.expected or {}).items()
                if name not in out
            }
        return self._wanted[prefix]


def _moved(name: str, old: str, new: str) -> str:
    return new + name.removeprefix(old) if old and name.startswith(old) else (
        new + name if not old else name
    )


class _Case:
    """A checkpoint, a consumer, a version and the record for them."""

    def __init__(self, exam: Examination, wish: Asked, record: Record, depth: int) -> None:
        self.exam = exam
        self.patient = exam.patient
        self.wish = wish
        self.record = record
        self.depth = depth
        self.fillers = {
            "prefix": self.patient.prefix,
            "model_type": self.patient.model_type or "",
            "embedding": self.patient.embedding or "",
            "head": self.patient.head or "",
        }

    # --- verdicts ---

    def verdict(self) -> Verdict:
        """The first trouble that this consumer meets, else that it loads."""
        checks = (
            self.refused, self.class_refused, self.flag_refused, self.config_refused,
            self.files_unread, self.duplicated, self.index_differs, self.misnamed, self.headless,
            self.misshapen, self.delegated, self.defaulted, self.stale, self.undetermined,
        )  # fmt: skip
        for check in checks:
            if (found := check()) is not None:
                return found
        return self.said(LOADS, self.policy())

    def said(
        self,
        outcome: Outcome,
        why: str,
        kind: str | None = None,
        tensors: Sequence[str] = (),
        cause: str = "",
        *,
        likely: bool = False,
        quoting: Mapping[str, object] | None = None,
    ) -> Verdict:
        """A verdict; `kind` is that of the message, filled with what it quotes."""
        errors = self.record.errors
        template = errors.get(kind or "", errors.get("missing", "") if kind in _LACKING else "")
        always = {"model": self.patient.name, "class": self.patient.class_name or ""}
        message = fill(template, {**always, **(quoting or {})}) if template else ""
        certainty = Certainty.LIKELY if likely else self.record.certainty
        return Verdict(
            self.wish.consumer.name, self.wish.version, outcome, why,
            message=printable(_short(message)), certainty=certainty, tensors=tuple(tensors),
            source=str(self.record.cite), policy=self.policy(), since=self.record.since,
            cause=cause,
        )  # fmt: skip

    def unknown(self, why: str) -> Verdict:
        """That it cannot be told, and why."""
        return self.said(UNKNOWN, why)

    # --- the class and config.json ---

    def refused(self) -> Verdict | None:
        """A class that the consumer does not take at all, or of which nothing is known."""
        if self.record.head == "unknown":
            return self.unknown(self.record.note)
        if self.record.head == "refused":
            return self.class_error(self.record.note)
        return None

    def class_error(self, why: str) -> Verdict:
        """The message about a class."""
        name = self.patient.declared or self.patient.class_name or ""
        quoted = {"class": name, "model_type": self.patient.model_type or ""}
        return self.said(FAILS, why, "class", cause="class", quoting=quoted)

    def class_refused(self) -> Verdict | None:
        """The name of another class than the one that the record speaks of."""
        patient, record = self.patient, self.record
        if record.class_from != "architectures" or patient.declared == patient.class_name:
            return None
        declared = printable(patient.declared or "no class")
        if patient.is_base and record.base_class == "ignored":
            return None
        if patient.is_base and record.base_class == "refused":
            return self.class_error(f"config.json names {declared}, which it does not serve as "
                                    f"{patient.class_name}")
        return self.unknown(f"it goes by architectures, which names {declared}")

    def tied(self) -> tuple[bool | None, str]:
        """The flag as this consumer reads it, and why not known."""
        record, patient = self.record, self.patient
        if record.tie_key:
            values = [self._setting(k) for k in record.tie_key.split("|")]
            given = [bool(v) for v in values if isinstance(v, bool | int)]
            if given:
                return given[0], ""
            if any(v is not None for v in values):
                return None, f"{record.tie_key} is neither true nor false"
        absent = record.tie_absent
        if isinstance(absent, bool):
            return absent, ""
        if absent == "transformers-4":
            return patient.tied_v4, "how transformers 4 reads the tie flag is not known here"
        if absent == "transformers-5":
            return patient.tied_v5, "how transformers 5 reads the tie flag is not known here"
        if absent == "transformers" and patient.tied_v4 == patient.tied_v5:
            return patient.tied_v5, "the default of the tie flag is not known here"
        if absent == "unknown":
            return None, "what it does without the tie flag is not known"
        return None, "how the tie flag is read depends on the transformers beside it"

    def _setting(self, path: str) -> object:
        found: object = self.patient.settings
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def flag_refused(self) -> Verdict | None:
        """A tie flag of the value that the consumer refuses."""
        wanted = self.record.needs_flag
        if wanted is None:
            return None
        tied, why = self.tied()
        if tied is None:
            return self.unknown(why)
        if tied is wanted:
            return None
        said = "tied" if tied else "untied"
        return self.said(
            FAILS, f"it refuses a config whose head is {said}", "flag", cause="flag"
        )

    def config_refused(self) -> Verdict | None:
        """Keys of config.json without which the consumer stops."""
        patient = self.patient
        required = [k for k in self.record.config if k.instead is None]
        if self.record.tie_absent == "error" and self.record.tie_key:
            required.append(Key(self.record.tie_key))
        if not required:
            return None
        if not patient.settings:
            return self.unknown("config.json could not be read")
        lacking = [k.name for k in required if k.name not in patient.settings]
        end = dict(zip(("line", "column"), patient.end or ("?", "?"), strict=True))
        plural = f"{len(lacking)} required positional argument{'s' * (len(lacking) > 1)}"
        if lacking:
            keys = _listed([f"'{k}'" for k in lacking])
            return self.said(
                FAILS, f"config.json lacks {some(lacking, 3)}, which it needs at the top level",
                "config", cause="config",
                quoting={"key": lacking[0], "keys": keys, "plural": plural, **end},
            )  # fmt: skip
        null = [k for k in required if k.type and patient.settings[k.name] is None]
        if null:
            return self.said(
                FAILS, f"{null[0].name} is null in config.json, and it wants a value", "null",
                cause="config", quoting={"key": null[0].name, "type": null[0].type, **end},
            )  # fmt: skip
        return None

    def defaulted(self) -> Verdict | None:
        """A value that the consumer seeks in the wrong place and replaces by its own."""
        for key in self.record.config:
            if key.instead is None or key.name in self.patient.settings:
                continue
            meant = _number_at(self.patient.settings, key.instead)
            if meant is None or meant == key.absent:
                continue
            where = ".".join(key.instead)
            if key.absent is None:
                return self.unknown(
                    f"config.json has {where} and no {key.name}, and what it does then is not known"
                )
            return self.said(
                MISREADS,
                f"it looks for {key.name} at the top level of config.json only, finds none and "
                f"computes with {key.absent:g} instead of {meant:g}",
                cause="config",
            )
        return None

    # --- files ---

    def files_unread(self) -> Verdict | None:
        """No file under a name that the consumer looks for, or one that is not there."""
        if self.patient.incomplete:
            return self.unknown(self.patient.incomplete)
        if not self.exam.seen(self.record).files:
            return self.said(
                FAILS, "no weight file has a name that it looks for", "files", cause="files"
            )
        return None

    def duplicated(self) -> Verdict | None:
        """A name in two files, for those who stop at it."""
        twice = self.exam.seen(self.record).twice
        if twice is None or self.record.duplicates != "error":
            return None
        name, first, second = twice
        return self.said(
            FAILS, f"{printable(name)} stands in {printable(first)} and in {printable(second)}",
            "duplicate", (name,), "files",
            quoting={"name": name, "first": first, "second": second},
        )  # fmt: skip

    def stale(self) -> Verdict | None:
        """A tensor that is read from another file than the one that the index names."""
        stale = self.exam.seen(self.record).stale
        if stale is None:
            return None
        name, file, listed = (printable(each) for each in stale)
        return self.unknown(
            f"it takes {name} from {file}, where the index names {listed}: whether both copies are "
            "equal was not compared"
        )

    def index_differs(self) -> Verdict | None:
        """An index whose names are not those in the files, for those who compare them."""
        if self.record.index not in ("map", "must-match"):
            return None
        here = self.exam.seen(self.record)
        odd = unlisted(self.patient, here)
        if self.record.index == "map":
            odd = [name for name in odd if name not in here.tensors]
        if not odd:
            return None
        return self.said(
            FAILS, f"the index and the files differ in {some(odd, 2)}", "index", odd, "files"
        )  # fmt: skip

    # --- names ---

    def misnamed(self) -> Verdict | None:
        """Tensors that the consumer misses, or has no place for; the head is looked at later."""
        if self.record.names == "transformers-5":
            return self._names_of_5()
        if self.record.names == "transformers-4":
            return self._names_of_4()
        return self._exact_names()

    def _names_of_5(self) -> Verdict | None:
        loading = self.patient.loading
        if loading is None or not loading.missing:
            return None
        return self._without_values(loading.missing)

    def _names_of_4(self) -> Verdict | None:
        patient = self.patient
        if patient.expected is None:
            return None
        here = self.exam.seen(self.record).tensors
        missing = self._missing(self.exam.wanted(patient.prefix), here)
        if not missing:
            return None
        if missing == [patient.embedding] and patient.stored_head and self.tied()[0]:
            if "{head}" in self.record.embedding:
                return None  # the head in the file gives its values to the embedding
            return self.said(
                FAILS, "neither head nor embedding get values, and the first pass stops",
                tensors=missing, cause="names",
            )  # fmt: skip
        if patient.prefix and not self._missing(self.exam.wanted(""), here):
            if patient.stored_head is not None:
                return self.said(
                    FAILS, "the body has no prefix and the head stands at the top", "corrupted",
                    missing, "prefix",
                )  # fmt: skip
            return None
        return self._without_values(missing)

    def _exact_names(self) -> Verdict | None:
        record, patient = self.record, self.patient
        here = self.exam.seen(record).tensors
        prefix = self._prefix(here)
        wanted = self.exam.wanted(prefix)
        homes = self._embedding_names(prefix)
        found = next((name for name in homes if name in here), None)
        if found is None and not homes:
            return self.unknown("what the embedding of this class is called is not known")
        if patient.expected is None:
            if found is None and not self._elsewhere(homes, here):
                return self.unknown(f"no embedding under a name that is known: {patient.why}")
            return None if found else self._lacks(homes[:1], here)
        if found is None and "{embedding}" not in record.embedding:
            return self._lacks(homes[:1], here)  # the record spells out what it seeks
        own = {*homes, *self._head_names(), *record.head_parts}
        extra = [
            name
            for name in here
            if name not in wanted
            and name not in own
            and not any(p.search(name) for p in record.exempt)
        ]
        missing = [n for n in self._missing(wanted, here) if n not in homes]
        if found is None:
            missing = [homes[0], *missing]
        strange = [n for n in missing if n not in homes]
        if strange and not self._renamed(strange, here) and self._fed_otherwise():
            return self.unknown("the names are of another generation than the record speaks of")
        if extra and record.extra == "error":
            return self._surplus(extra, prefix)
        return self._lacks(missing, here) if missing else None

    def _prefix(self, here: Mapping[str, Shape]) -> str:
        """The first prefix under which the embedding is found, else the first."""
        prefixes = [fill(p, self.fillers) for p in self.record.prefixes]
        for prefix in prefixes:
            if any(name in here for name in self._embedding_names(prefix)):
                return prefix
        return prefixes[0]

    def _embedding_names(self, prefix: str) -> list[str]:
        """Names of the embedding under a prefix; those that the record spells out as they are."""
        names = []
        for template in self.record.embedding:
            if template == "{head}" and self.tied()[0] is not True:
                continue
            name = fill(template, self.fillers)
            if template == "{embedding}" and name:
                name = _moved(name, self.patient.prefix, prefix)
            elif template != "{embedding}" and len(self.record.prefixes) > 1:
                base = fill(self.record.prefixes[0], self.fillers)
                name = _moved(name, base, prefix)
            if name:
                names.append(name)
        return names

    def _head_names(self) -> list[str]:
        return [n for t in self.record.head_names if (n := fill(t, self.fillers))]

    def _missing(self, wanted: Mapping[str, Shape], here: Mapping[str, Shape]) -> list[str]:
        optional = self.patient.optional
        return [n for n in wanted if n not in here and n not in optional]

    def _elsewhere(self, names: Iterable[str], here: Mapping[str, Shape]) -> bool:
        """Whether one of some names is there with the base prefix put on or taken off."""
        prefix = self.patient.prefix
        both = ((n.removeprefix(prefix), prefix + n) for n in names)
        return any(name in here for pair in both for name in pair)

    def _renamed(self, missing: Sequence[str], here: Mapping[str, Shape]) -> bool:
        """Whether all of what is missing is there with the base prefix put on or taken off."""
        return all(self._elsewhere([name], here) for name in missing)

    def _fed_otherwise(self) -> bool:
        loading = self.patient.loading
        return loading is not None and (loading.unclear or not loading.missing)

    def _lacks(self, missing: Sequence[str], here: Mapping[str, Shape]) -> Verdict:
        kind = self.record.missing
        if kind in ("random", "uninitialised"):
            return self._without_values(missing)
        expected = self.patient.expected or {}
        if kind == "uninitialised-matrices":
            shapes = {**expected, **self.exam.wanted(self.patient.prefix)}
            vectors = [n for n in missing if len(shapes.get(n, (0, 0))) < 2]
            if not vectors:
                return self._without_values(missing)
            return self._asks_for(vectors, "missing_vector")
        if kind == "fused" and all(_has_sibling(n, here) for n in missing):
            return self._without_values(missing)
        return self._asks_for(missing, "missing")

    def _asks_for(self, names: Sequence[str], kind: str, cause: str = "names") -> Verdict:
        first = names[0]
        more = f" ({len(names)} are missing)" if len(names) > 1 else ""
        return self.said(
            FAILS, f"it asks for {printable(first)} and finds none{more}", kind, names, cause,
            quoting=_quoted(names, first),
        )  # fmt: skip

    def _without_values(self, missing: Sequence[str]) -> Verdict:
        told = self.record.missing == "random"
        how = "random numbers, and only a log line says so" if told else "whatever is in memory"
        return self.said(
            MISREADS, f"{some(missing, 2)} {'are' if len(missing) > 1 else 'is'} filled with {how}",
            "missing", missing, "names",
            quoting=_quoted(missing, missing[0]),
        )  # fmt: skip

    def _surplus(self, extra: Sequence[str], prefix: str) -> Verdict:
        first = extra[0]
        inside = bool(prefix) and first.startswith(prefix)
        known = "extra_inside" in self.record.errors
        return self.said(
            FAILS, f"it has no place for {some(extra, 2)}",
            "extra_inside" if inside and known else "extra", extra, "names",
            quoting={
                **_quoted(extra, first),
                "component": first.partition(".")[0],
                "inside": first.removeprefix(prefix),
            },
        )  # fmt: skip

    # --- the head ---

    def headless(self) -> Verdict | None:
        """Whatever the consumer takes for the head, held against what it should be."""
        record, patient = self.record, self.patient
        policy = POLICIES.get(record.head)
        if policy is None or not (patient.head or record.head_names != ("{head}",)):
            return None
        if patient.head_parts:
            part = printable(patient.head_parts[0])
            return self.unknown(f"the head is stored in parts ({part})")
        here = self.exam.seen(record).tensors
        names = self._head_names()
        present = any(n in here for n in names) or self._head_by_rename()
        tied, why = self.tied()
        use = policy.use(tied, present)
        if use is None:
            return self.unknown(why)
        if use == "surplus":
            held = next((n for n in names if n in here), names[0])
            return self._surplus([held], "")
        if use == "lacks":
            return self._no_head(names[0] if names else "", present)
        parts = [n for n in record.head_parts if n not in here]
        if parts:
            return self._asks_for(parts, "missing", "head")
        return None if use == "own" else self._embedding_as_head(use, present)

    def _head_by_rename(self) -> bool:
        """transformers 5 takes a head with or without the base prefix."""
        stored = self.patient.stored_head
        if self.record.names != "transformers-5" or not stored or not self.patient.head:
            return False
        return stored in (self.patient.prefix + self.patient.head, self.patient.head)

    def _no_head(self, name: str, present: bool) -> Verdict:
        kind = self.record.missing
        if kind in ("error", "fused"):
            return self._asks_for([name], "missing_head", "head")
        how = "random numbers" if kind == "random" else "whatever is in memory"
        told = " and only a log line says so" if kind == "random" else " without a word"
        file = "the one in the file is skipped" if present else f"there is no {printable(name)}"
        return self.said(
            MISREADS, f"{file}: its head holds {how},{told}", "missing_head", (name,), "head",
            quoting=_quoted([name], name),
        )  # fmt: skip

    def _embedding_as_head(self, use: str, present: bool) -> Verdict | None:
        patient = self.patient
        stored = patient.stored_head
        if stored is None and present:
            return self.unknown("the head stands in a file that transformers does not read")
        if stored is None:
            if patient.tied is True:
                return None
            if patient.tied is None:
                return self.unknown("whether the head is tied is not known")
            lost = printable(patient.head or "the head")
            if use == "none":
                return self.said(
                    MISREADS, f"{lost} is lost, and what it writes lacks it too, without a word",
                    tensors=(lost,), cause="head",
                )  # fmt: skip
            return self.said(
                MISREADS, f"{lost} is lost, and the embedding is used as head without a word",
                tensors=(lost,), cause="head",
            )  # fmt: skip
        same, why = patient.same()
        if same is True:
            return None
        if same is None:
            return self.unknown(f"whether head and embedding are equal is not known: {why}")
        gone = "is passed over" if present else "is not looked for"
        return self.said(
            MISREADS,
            f"the embedding is used as head; {printable(stored)}, which differs, {gone} without a "
            "word",
            tensors=(stored,), cause="head", likely=patient.tied is not False,
        )  # fmt: skip

    # --- what remains ---

    def misshapen(self) -> Verdict | None:
        """Tensors of another shape than the class has."""
        loading = self.patient.loading
        if loading is None or not loading.misfits or self.record.shapes == "ignore":
            return None
        name, got, expected = loading.misfits[0]
        more = f" ({len(loading.misfits)} differ)" if len(loading.misfits) > 1 else ""
        shapes = f"{_shape(got)}, and the class has {_shape(expected)}"
        if self.record.shapes == "unknown":
            return self.unknown(f"{printable(name)} is {shapes}{more}")
        return self.said(
            FAILS, f"{printable(name)} is {shapes}{more}", "shape",
            [n for n, _, _ in loading.misfits], "shapes",
            quoting={"name": name, "got": list(got), "expected": list(expected)},
        )  # fmt: skip

    def delegated(self) -> Verdict | None:
        """What another consumer says, to which this one hands the checkpoint on."""
        if self.record.delegate is None:
            return None
        if not self.depth:
            return self.unknown("it hands the checkpoint on in a circle")
        (to,) = asked([self.record.delegate])
        found = self.exam.evaluate(to, depth=self.depth - 1)
        sure = self.record.certainty is Certainty.PROVEN
        return replace(
            found,
            loader=self.wish.consumer.name,
            version=self.wish.version,
            why=f"handed on to {to.consumer.name} {to.version}: {found.why}".removesuffix(": "),
            certainty=found.certainty if sure else Certainty.LIKELY,
        )

    def undetermined(self) -> Verdict | None:
        """That nothing contradicts it, and too little is known to say that it loads."""
        patient = self.patient
        if self.record.extra == "error" and patient.expected is None:
            return self.unknown(f"whether every tensor has a place is not known: {patient.why}")
        exact = self.record.names != "transformers-5"
        if patient.loading is None or (exact and patient.expected is None):
            return self.unknown(f"whether all tensors are there is not known: {patient.why}")
        if patient.loading.unclear:
            return self.unknown("how the names of the files are read could not be followed")
        return None

    def policy(self) -> str:
        """How this consumer chooses the head, in words."""
        return POLICIES[self.record.head].words if self.record.head in POLICIES else ""


def _has_sibling(name: str, here: Mapping[str, Shape]) -> bool:
    """Whether a projection that is fused with this one is in the file."""
    for group in _FUSED:
        for part in group:
            if f".{part}." in name:
                return any(name.replace(f".{part}.", f".{o}.") in here for o in group)
    return False


def _number_at(settings: Mapping[str, object], path: Sequence[str]) -> float | None:
    """The number at a path of config.json, None where there is none."""
    found: object = settings
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _quoted(names: Sequence[str], first: str) -> dict[str, object]:
    """What messages say of names: one of them, all as they are and in quotes, how many."""
    shown = sorted(names)[:_MOST]  # more than a message shows
    return {
        "name": first,
        "names": ", ".join(shown),
        "quoted": ", ".join(f"'{n}'" for n in shown),
        "count": len(names),
    }


def _listed(words: Sequence[str]) -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`: as Python counts missing arguments."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def _shape(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "a scalar"


def _short(text: str) -> str:
    return text if len(text) <= _MOST else text[:_MOST] + "…"
