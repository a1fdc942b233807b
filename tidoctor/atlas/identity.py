"""What names and shapes say about a model: the answer of `tidoctor.atlas.identify`, only data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

HIDDEN = (
    "activation, epsilons, rotary base and scaling, attention window, dropout, token ids and,"
    " with rotary positions, the longest position are not in the tensors"
)
"""What no identification can tell, in one sentence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that the tensors may belong to.

    Attributes:
        class_name, model_type: the class and the config it is built from.
        exact: whether names and shapes are just what the class has under some config; else only
            the names are alike.
        fields: dotted path -> value, for the fields that the shapes fix. Empty unless exact.
        undetermined: dotted path -> why not, for fields that the layout reads and the shapes do
            not fix. A field that does not matter to names and shapes is not listed.
        types: dotted path of a sub-config -> its model type, where several are possible or it is
            another than the usual one.
        witness: one config under which the class has just these tensors; its undetermined
            fields have arbitrary values, so it is a proof and no config to load a model with.
        unused: how many further names, biases and activations apart, the class could have. A
            mixture of experts whose layers are all dense has the tensors of a dense model, and
            this tells it from that one.
        differs: for a class that is only similar, what stood against it.
    """

    class_name: str
    model_type: str
    exact: bool
    fields: Mapping[str, object] = field(default_factory=dict)
    undetermined: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    witness: Mapping[str, object] = field(default_factory=dict, repr=False)
    unused: int = 0
    differs: str = ""


class Identity(NamedTuple):
    """What names and shapes say about a model.

    Attributes:
        candidates: the exact ones; similar ones only where there is none. Common families first,
            which is no order of likelihood.
        reason: why nothing or not everything was looked at, "" otherwise.
    """

    candidates: tuple[Candidate, ...]
    reason: str = ""

    @property
    def exact(self) -> tuple[Candidate, ...]:
        """The classes that have just these names and shapes under some config."""
        return tuple(each for each in self.candidates if each.exact)

    @property
    def unique(self) -> Candidate | None:
        """The only exact class, where everything was looked at."""
        exact = self.exact
        return exact[0] if len(exact) == 1 and not self.reason else None

    @property
    def fields(self) -> Mapping[str, object]:
        """Dotted path -> value on which the exact candidates agree, those that have the field."""
        found: dict[str, object] = {}
        for each in self.exact:
            found |= each.fields
        return {
            path: value
            for path, value in found.items()
            if all(
                path not in each.undetermined and _same(each.fields.get(path, value), value)
                for each in self.exact
            )
        }

    @property
    def undetermined(self) -> Mapping[str, str]:
        """Dotted path -> why it is not known, for the other fields of the exact candidates."""
        agreed = self.fields
        found: dict[str, str] = {}
        for each in self.exact:
            for path, reason in each.undetermined.items():
                found.setdefault(path, reason)
        for each in self.exact:
            for path in each.fields:
                found.setdefault(path, "the classes that fit differ in it")
        return {path: reason for path, reason in found.items() if path not in agreed}

    def config(self, class_name: str | None = None) -> dict[str, object]:
        """What config.json would say of the recovered fields.

        Without `class_name` the class has to be unique. A field that is not determined has a
        sentence in the place of its value, "not determined: ...", which no loader accepts; what
        is not in the tensors at all (`HIDDEN`) is not there. Raises ValueError for a class that
        is not exact, or when there are several and none is chosen.
        """
        if class_name is None:
            chosen = self.unique
            if chosen is None:
                raise ValueError("no single class fits: choose one of the exact candidates")
        else:
            found = [each for each in self.exact if each.class_name == class_name]
            if not found:
                raise ValueError(f"{class_name} does not have these names and shapes")
            chosen = found[0]
        proposal: dict[str, object] = {
            "architectures": [chosen.class_name],
            "model_type": chosen.model_type,
        }
        for path, kind in chosen.types.items():
            put(proposal, (*path.split("."), "model_type"), kind)
        for path, value in chosen.fields.items():
            put(proposal, path.split("."), value)
        for path, reason in chosen.undetermined.items():
            put(proposal, path.split("."), f"not determined: {reason}")
        return proposal

    def told(self) -> str:
        """In one line, what the tensors look like."""
        names = [each.class_name for each in self.exact]
        doubt = f" ({self.reason})" if self.reason else ""
        if len(names) == 1:
            return f"names and shapes are those of {names[0]}{doubt}"
        if names:
            return f"names and shapes fit {len(names)} classes alike: {_some(names, 6)}{doubt}"
        if self.candidates:
            some = _some([each.class_name for each in self.candidates], 3)
            return f"no known class has just these tensors; names are similar to {some}{doubt}"
        return f"no known class has these names{doubt}"

    def fixed(self) -> str:
        """The agreed fields in one line, "" where there are none."""
        return ", ".join(f"{path} {_brief(value)}" for path, value in self.fields.items())

    def left_open(self) -> str:
        """The undetermined fields with their reasons in one line, those of one reason together."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.undetermined.items():
            by_reason.setdefault(reason, []).append(path)
        return "; ".join(f"{', '.join(paths)} ({why})" for why, paths in by_reason.items())

    def proposal(self) -> dict[str, object]:
        """What can be said of config.json for the exact candidates; empty where there is none.

        As `config`, with the class marked as not determined where there are several.
        """
        exact = self.exact
        if len(exact) == 1:
            return self.config(exact[0].class_name)
        if not exact:
            return {}
        names = _some([each.class_name for each in exact], len(exact))
        types = _some(sorted({each.model_type for each in exact}), len(exact))
        found: dict[str, object] = {
            "architectures": f"not determined: one of {names}",
            "model_type": f"not determined: one of {types}",
        }
        for path, value in self.fields.items():
            put(found, path.split("."), value)
        for path, reason in self.undetermined.items():
            put(found, path.split("."), f"not determined: {reason}")
        return found


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 48 else f"{text[:44]} ..."


def _some(names: list[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def put(into: dict[str, object], path: Iterable[str], value: object) -> None:
    """Write a value at a path into nested dictionaries; nothing where a value is in the way."""
    *way, last = path
    for step in way:
        inner = into.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        into = inner
    into[last] = value


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b
