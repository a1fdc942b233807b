"""From a message that somebody pasted to the consumers that print it.

The templates of the policies are read backwards: what they quote may be anything, line breaks and
kinds of quotation marks do not count, and the name of the exception may have been left out.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidoctor.loaders.catalogue import consumer, names
from tidoctor.loaders.heads import POLICIES
from tidoctor.loaders.policy import Consumer, Record

_MOST = 20_000  # characters of a message that are looked at, half of them from its end
_LEAST = 7  # letters that a template has to have beside the name of its exception
_QUOTES = "'\"`‘’“”"
_EXCEPTION = re.compile(r"(?:\w+Error|Error): ")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FIELD: Mapping[str, str] = {
    "names": r"(?P<names>[^\n]{1,2000})",
    "files": r"(?P<files>[^\n]{1,2000}?)",
    "lacking": r"(?P<lacking>[^\n]{1,2000})",
    "extra": r"(?P<extra>[^\n]{1,2000})",
    "quoted": r"(?P<quoted>[^\]}]{1,4000})",
    "keys": r"(?P<keys>[^\n]{1,400})",
    "plural": r"(?P<plural>\d+ required positional arguments?)",
    "count": r"(?P<count>\d{1,9})",
    "line": r"(?P<line>\d{1,9}|\?)",
    "column": r"(?P<column>\d{1,9}|\?)",
    "expected": r"(?P<expected>\[[\d, ]{0,200}\])",
    "got": r"(?P<got>\[[\d, ]{0,200}\])",
    "type": r"(?P<type>[\w ]{1,40})",
    "model": r"(?P<model>[^\n]{1,400}?)",
}
_IN_WORD = r"[^\s'\"`‘’“”,;|\[\](){}]"
_WORD = _IN_WORD + "{1,400}"  # a name, as tensors, files and classes have
_NAMES = ("name", "names", "quoted", "inside", "component")  # fields that hold names of tensors
_LACKING = ("missing", "missing_head", "missing_matrix", "missing_vector")


@dataclass(frozen=True, slots=True)
class Origin:
    """A consumer that prints a message, and when.

    Attributes:
        consumer: which one.
        kind: what the message is about, one of `messages.TEMPLATES`.
        template: the message as the policies have it.
        quoted: what the message says of names, keys and shapes.
        versions: those of which it is known, as a range in words.
        cases: for a head, (model types, versions, how they choose it) of the records that ask for
            one where a tied model stores none, or refuse one that is stored.
    """

    consumer: str
    kind: str
    template: str
    quoted: Mapping[str, str]
    versions: str
    cases: tuple[tuple[tuple[str, ...], str, str], ...] = ()

    @property
    def about_head(self) -> bool:
        """Whether the names that it quotes are those of an output head."""
        return any(is_head(v) for k, v in self.quoted.items() if k in _NAMES)


def origins(message: str) -> tuple[Origin, ...]:
    """The consumers whose messages this is, the most telling message first."""
    text = message if len(message) <= _MOST else message[: _MOST // 2] + message[-_MOST // 2 :]
    text = _ANSI.sub("", text)
    found: list[tuple[int, tuple[int, int], Origin]] = []
    for name in names():
        one = consumer(name)
        for (template, kind), records in _templates(name).items():
            pattern, weight = _pattern(template)
            if pattern is None or (match := pattern.search(text)) is None:
                continue
            quoted = {k: v.strip() for k, v in match.groupdict().items() if v is not None}
            origin = _origin(one, kind, template, quoted, records)
            if origin is not None:
                found.append((weight, match.span(), origin))
    # A short message inside a longer one of somebody else is not his.
    kept = [
        (weight, origin)
        for weight, span, origin in found
        if not any(s[0] <= span[0] and span[1] <= s[1] and w > 2 * weight for w, s, _ in found)
    ]
    kept.sort(key=lambda pair: (-pair[0], pair[1].consumer))
    return tuple(origin for _, origin in kept)


@functools.cache
def _templates(name: str) -> Mapping[tuple[str, str], tuple[Record, ...]]:
    """(template, kind) -> the records that have it, for each message of a consumer."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in consumer(name).records:
        for kind, template in record.errors.items():
            found.setdefault((template, kind.removesuffix("_inside")), []).append(record)
    return {key: tuple(records) for key, records in found.items()}


@functools.cache
def _pattern(template: str) -> tuple[re.Pattern[str] | None, int]:
    """What finds a message, and how many letters of it are its own; none for one without any."""
    exception = _EXCEPTION.match(template)
    head = exception[0] if exception else ""
    body, weight = _backwards(template.removeprefix(head))
    end = r"(?!\w)" if template[-1:].isalnum() else ""
    if weight >= _LEAST:
        alone = re.fullmatch(r"\w+Error", template)
        return (None, 0) if alone else (re.compile(body + end, re.IGNORECASE), weight)
    if not head:
        return None, 0
    return re.compile(_backwards(head)[0] + body + end), weight


def _backwards(template: str) -> tuple[str, int]:
    out, weight, seen = [], 0, set[str]()
    for text, field, _, _ in string.Formatter().parse(template):
        out.append(_literal(text))
        weight += sum(c.isalnum() for c in text)
        if field is not None:
            again = field in seen
            seen.add(field)
            # The start of a word, so that a long one is not tried from each of its letters.
            word = rf"(?<!{_IN_WORD})(?P<{field}>{_WORD})"
            out.append(_WORD if again else _FIELD.get(field, f"[{_QUOTES}]?{word}[{_QUOTES}]?"))
    return "".join(out), weight


def _literal(text: str) -> str:
    """A pattern for fixed text in which any quotation mark and any white space will do."""
    out = []
    for part in re.findall(rf"\s+|[{_QUOTES}]|[^\s{_QUOTES}]+", text):
        if part.isspace():
            out.append(r"\s{1,40}")
        elif part in _QUOTES:
            out.append(f"[{_QUOTES}]?")
        else:
            out.append(re.escape(part))
    return "".join(out)


def _origin(
    one: Consumer, kind: str, template: str, quoted: Mapping[str, str], records: Iterable[Record]
) -> Origin | None:
    places: set[int] = set()
    cases: dict[str, dict[str, set[int]]] = {}  # how it chooses a head -> model type -> versions
    for record in records:
        if not _fits(record, kind, quoted):
            continue
        places |= record.versions.places
        if how := _case(record, kind, quoted):
            for model_type in record.model_types:
                cases.setdefault(how, {}).setdefault(model_type, set()).update(
                    record.versions.places
                )
    if not places:
        return None
    told: list[tuple[tuple[str, ...], str, str]] = []
    for how, types in cases.items():
        spans: dict[str, list[str]] = {}
        for model_type, held in types.items():
            spans.setdefault(_span(one, held), []).append(model_type)
        told += [(tuple(together), span, how) for span, together in spans.items()]
    return Origin(one.name, kind, template, quoted, _span(one, places), tuple(told))


def _fits(record: Record, kind: str, quoted: Mapping[str, str]) -> bool:
    """Whether a record can be the one that speaks, by the keys and names that are quoted."""
    if kind == "config":
        keys = set(re.findall(r"\w+", quoted.get("key", "") or quoted.get("keys", "")))
        return bool(keys & {*(k.name for k in record.config), record.tie_key})
    if kind == "null":
        return any(k.type == quoted.get("type") for k in record.config)
    if kind == "missing_head" and "name" in quoted:  # a template that is for heads alone
        return is_head(quoted["name"])
    name = quoted.get("name") or quoted.get("inside") or "."
    return kind != "extra" or "." in name  # not every KeyError is about a tensor


def _case(record: Record, kind: str, quoted: Mapping[str, str]) -> str:
    """How a record chooses its head, where that explains a message about one."""
    policy = POLICIES.get(record.head)
    if policy is None or not any(is_head(v) for k, v in quoted.items() if k in _NAMES):
        return ""
    ways = (policy.tied_absent, policy.tied_present)
    if kind in _LACKING and ways[0] == "lacks":
        return policy.words
    return policy.words if kind == "extra" and "surplus" in ways else ""


def is_head(text: str) -> bool:
    """Whether a text names an output head."""
    found = re.search(r"\b(?:lm_head|embed_out|output_layer|output)\b", text, re.IGNORECASE)
    return found is not None


def _span(one: Consumer, places: Iterable[int]) -> str:
    """`0.5.1 to 0.7.1`, `0.6.0`, or several of those."""
    known = one.timeline.known
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ", ".join(
        known[low] if low == high else f"{known[low]} to {known[high]}" for low, high in runs
    )
