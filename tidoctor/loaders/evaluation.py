"""A checkpoint held against a consumer in one version: it loads, fails, misreads, or is unknown.

The order of the checks is that in which loaders meet trouble: the class, the config, the files, the
names, the head. A verdict rests on the record that it cites; without a matching record, or where a
fact that the answer needs is not known, it is `unknown` and says why.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidoctor.finding import Certainty, Verdict
from tidoctor.loaders import filing, naming, output, rotary, settings
from tidoctor.loaders.case import FAILS, LOADS, UNKNOWN, Case, moved
from tidoctor.loaders.catalogue import Asked, asked
from tidoctor.loaders.messages import fill
from tidoctor.loaders.patient import Answer, Copy, Patient, Shape
from tidoctor.loaders.policy import Record
from tidoctor.loaders.reading import Seen, seen
from tidoctor.names import printable

_DELEGATIONS = 3


def evaluate(patient: Patient, wish: Asked) -> Verdict:
    """What a consumer makes of a checkpoint."""
    return Examination(patient).evaluate(wish)


class Examination:
    """One checkpoint, to be held against any number of consumers; keeps what they share."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self._seen: dict[tuple[object, ...], Seen] = {}
        self._wanted: dict[str, Mapping[str, Shape]] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._equal: dict[frozenset[Copy], Answer] = {}

    def evaluate(self, wish: Asked, *, depth: int = _DELEGATIONS) -> Verdict:
        """What a consumer makes of the checkpoint."""
        key = (wish.consumer.name, wish.version)
        if key not in self._verdicts:
            record, why = self.record(wish)
            self._verdicts[key] = (
                self._unrecorded(wish, why)
                if record is None
                else _verdict(Case(self, wish, record, depth))
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

    def _unrecorded(self, wish: Asked, why: str) -> Verdict:
        """Without a record: a class that the consumer does not know, or nothing to say."""
        patient, place = self.patient, wish.place
        told = (wish.consumer.name, wish.version)
        known, later = (wish.consumer.known(p) for p in (place.low, place.high))
        if known is None or known is not later or patient.task not in known.tasks:
            return Verdict(*told, UNKNOWN, why)
        name = patient.declared if known.by == "architectures" else patient.model_type
        if known.by == "model_type" and patient.settings.get("auto_map"):
            return Verdict(*told, UNKNOWN, "the model brings its own code")
        if name is None or name in known.names:
            return Verdict(*told, UNKNOWN, why)
        quoting = {
            "class": name, "model_type": patient.model_type or "", "model": patient.name,
        }  # fmt: skip
        return Verdict(
            *told, FAILS, f"it knows no {printable(name)}", cause="class", source=str(known.cite),
            message=printable(fill(known.message, quoting)),
        )  # fmt: skip

    def seen(self, record: Record) -> Seen:
        """What a consumer sees of the files."""
        key = (record.select, record.pattern, record.index, record.strip)
        if key not in self._seen:
            self._seen[key] = seen(self.patient, record)
        return self._seen[key]

    def wanted(self, prefix: str) -> Mapping[str, Shape]:
        """The tensors of the class under a base prefix, head and aliases left out."""
        if prefix not in self._wanted:
            p = self.patient
            out = {*p.aliases, p.head}
            self._wanted[prefix] = {
                moved(name, p.prefix, prefix): shape
                for name, shape in (p.expected or {}).items()
                if name not in out
            }
        return self._wanted[prefix]

    def equal(self, one: Copy, other: Copy) -> Answer:
        """Whether two copies of tensors are equal byte for byte, and why not known."""
        key = frozenset((one, other))
        if key not in self._equal:
            self._equal[key] = self.patient.equal(one, other)
        return self._equal[key]


def _verdict(case: Case) -> Verdict:
    """The first trouble that this consumer meets, else that it loads."""
    for check in _CHECKS:
        if (found := check(case)) is not None:
            return found
    return case.said(LOADS, case.policy)


def _delegated(case: Case) -> Verdict | None:
    """What another consumer says, to which this one hands the checkpoint on."""
    if case.record.delegate is None:
        return None
    own = rotary.scaling_understood(case) if case.record.scaling else None
    if own is not None:
        return own
    if not case.depth:
        return case.unknown("it hands the checkpoint on in a circle")
    (to,) = asked([case.record.delegate])
    found = case.exam.evaluate(to, depth=case.depth - 1)
    sure = case.record.certainty is Certainty.PROVEN
    return found._replace(
        loader=case.wish.consumer.name,
        version=case.wish.version,
        why=f"handed on to {to.consumer.name} {to.version}: {found.why}".removesuffix(": "),
        certainty=found.certainty if sure else Certainty.LIKELY,
    )


def _determined(case: Case) -> Verdict | None:
    """That nothing contradicts it, and too little is known to say that it loads."""
    patient = case.patient
    if patient.expected is None and case.record.extra == "error":
        return case.unknown(f"whether every tensor has a place is not known: {patient.why}")
    exact = case.record.names == "exact"
    if patient.expected is None if exact else patient.loading is None:
        return case.unknown(f"whether all tensors are there is not known: {patient.why}")
    if case.record.names == "transformers-4" and patient.expected is None:
        return case.unknown(f"whether all tensors are there is not known: {patient.why}")
    if patient.loading is not None and patient.loading.unclear:
        return case.unknown("how the names of the files are read could not be followed")
    return None


_CHECKS = (
    settings.class_taken,
    settings.class_named,
    settings.flag_taken,
    settings.config_taken,
    rotary.scaling_taken,
    filing.files_found,
    filing.metadata_taken,
    filing.copies_taken,
    filing.index_agrees,
    naming.names_found,
    output.embedding_right,
    output.head_right,
    naming.shapes_right,
    _delegated,
    rotary.values_understood,
    rotary.scaling_understood,
    rotary.layers_understood,
    settings.flag_right,
    filing.copies_right,
    _determined,
)
