"""A checkpoint in the hands of one consumer: what both are, and verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tidoctor.finding import Certainty, Outcome, Verdict
from tidoctor.loaders.catalogue import Asked
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.messages import fill, short, template
from tidoctor.loaders.patient import Shape
from tidoctor.loaders.policy import Classes, Record
from tidoctor.loaders.reading import Seen
from tidoctor.names import printable

if TYPE_CHECKING:
    from tidoctor.loaders.evaluation import Examination

LOADS, FAILS, MISREADS, UNKNOWN = Outcome


class Case:
    """A checkpoint, a consumer, a version and the record for them."""

    def __init__(self, exam: Examination, wish: Asked, record: Record, depth: int) -> None:
        self.exam = exam
        self.patient = exam.patient
        self.wish = wish
        self.record = record
        self.depth = depth
        # what it makes of a bare base class has the names of the body and no head
        self.bare = self.patient.is_base and record.base_class == "bare"
        self.fillers = {
            "prefix": "" if self.bare else self.patient.prefix,
            "model_type": self.patient.model_type or "",
            "embedding": self.patient.embedding or "",
            "head": self.patient.head or "",
        }

    # --- verdicts ---

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
        text = template(self.record.errors, kind) if kind else ""
        always = {"model": self.patient.name, "class": self.patient.class_name or ""}
        message = fill(text, {**always, **(quoting or {})}) if text else ""
        certainty = Certainty.LIKELY if likely else self.record.certainty
        return Verdict(
            self.wish.consumer.name, self.wish.version, outcome, why,
            message=printable(short(message)), certainty=certainty, tensors=tuple(tensors),
            source=str(self.record.cite), policy=self.policy, since=self.record.since,
            cause=cause,
        )  # fmt: skip

    def unknown(self, why: str) -> Verdict:
        """That it cannot be told, and why."""
        return self.said(UNKNOWN, why)

    @property
    def policy(self) -> str:
        """How this consumer chooses the head, in words."""
        return POLICIES[self.record.head].words if self.record.head in POLICIES else ""

    # --- what both are ---

    @cached_property
    def seen(self) -> Seen:
        """What the consumer sees of the files."""
        return self.exam.seen(self.record)

    @property
    def here(self) -> Mapping[str, Shape]:
        """Its tensors and their shapes."""
        return self.seen.tensors

    @cached_property
    def classes(self) -> Classes | None:
        """The classes that the consumer knows, where that is known for its version."""
        place = self.wish.place
        low, high = (self.wish.consumer.known(p) for p in (place.low, place.high))
        return low if low is high else None

    @cached_property
    def tied(self) -> tuple[bool | None, str]:
        """The flag as this consumer reads it, and why not known."""
        record, patient = self.record, self.patient
        if patient.settings.get("tie_word_embeddings", 0) is None:
            return None, "tie_word_embeddings is null, at which some stop and others go on"
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

    # --- names ---

    @cached_property
    def prefix(self) -> str:
        """The first prefix under which the embedding is found, else the first."""
        prefixes = [fill(p, self.fillers) for p in self.record.prefixes]
        for prefix in prefixes:
            if any(name in self.here for name in self.embedding_names(prefix)):
                return prefix
        return prefixes[0]

    def embedding_names(self, prefix: str) -> list[str]:
        """Names of the embedding under a prefix; those that the record spells out as they are."""
        names = []
        for one in self.record.embedding:
            if one == "{head}" and self.tied[0] is not True:
                continue
            name = fill(one, self.fillers)
            if one == "{embedding}" and name:
                name = moved(name, self.patient.prefix, prefix)
            elif one != "{embedding}" and len(self.record.prefixes) > 1:
                base = fill(self.record.prefixes[0], self.fillers)
                name = moved(name, base, prefix)
            if name:
                names.append(name)
        return names

    @cached_property
    def head_names(self) -> list[str]:
        """Names under which the head is sought."""
        if self.bare:
            return []
        return [n for t in self.record.head_names if (n := fill(t, self.fillers))]

    @cached_property
    def held(self) -> str | None:
        """The head that the consumer finds in the files."""
        return next((name for name in self.head_names if name in self.here), None)

    @cached_property
    def use(self) -> str | None:
        """What serves as head, by the policy; None where that is not known."""
        policy = POLICIES.get(self.record.head)
        tied, _ = self.tied
        return policy.use(tied, self.present) if policy else None

    @property
    def present(self) -> bool:
        """Whether there is a head for the consumer, by its name or by one that it takes as such."""
        if self.held is not None:
            return True
        stored, head = self.patient.stored_head, self.patient.head
        if self.record.names != "transformers-5" or not stored or not head:
            return False  # transformers 5 takes a head with or without the base prefix
        return stored in (self.patient.prefix + head, head)

    def elsewhere(self, names: Iterable[str]) -> bool:
        """Whether one of some names is there with the base prefix put on or taken off."""
        prefix = self.patient.prefix
        both = ((n.removeprefix(prefix), prefix + n) for n in names)
        return any(name in self.here for pair in both for name in pair)


def moved(name: str, old: str, new: str) -> str:
    """A name with another base prefix."""
    if not old:
        return new + name
    return new + name.removeprefix(old) if name.startswith(old) else name
