"""What a loader says: its messages as templates, and how they quote names and shapes."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from tidoctor.loaders.patient import Shape

MOST = 200  # characters of a message that lists names

_ALWAYS = frozenset({"class", "model"})
_LACKING = _ALWAYS | {"name", "names", "quoted", "count"}
_SURPLUS = _ALWAYS | {"name", "names", "count", "component", "inside"}
_INDEX = _ALWAYS | {"name", "lacking", "files", "extra"}
TEMPLATES: Mapping[str, frozenset[str]] = {
    "missing": _LACKING,
    "missing_head": _LACKING,
    "missing_matrix": _LACKING,
    "missing_vector": _LACKING,
    "extra": _SURPLUS,
    "extra_inside": _SURPLUS,
    "shape": _ALWAYS | {"name", "expected", "got"},
    "config": _ALWAYS | {"key", "keys", "plural", "line", "column"},
    "null": _ALWAYS | {"key", "type", "line", "column"},
    "scaling": _ALWAYS | {"type"},
    "scaling_word": _ALWAYS | {"key"},
    "layout": _ALWAYS,
    "class": _ALWAYS | {"model_type"},
    "duplicate": _ALWAYS | {"name", "first", "second"},
    "flag": _ALWAYS,
    "corrupted": _ALWAYS,
    "metadata": _ALWAYS | {"file", "format"},
    "files": _ALWAYS,
    "absent": _ALWAYS | {"file"},
    "index": _INDEX,
    "index_lacking": _INDEX,
}
"""Kinds of messages, and what each may quote. One that has no text of its own is told by another:
`missing_head`, `missing_matrix` and `missing_vector` by `missing`, `extra_inside` by `extra`,
`index_lacking` (nothing but names that no file has) by `index`."""

_INSTEAD = {
    "missing_head": "missing",
    "missing_matrix": "missing",
    "missing_vector": "missing",
    "extra_inside": "extra",
    "index_lacking": "index",
}


def template(errors: Mapping[str, str], kind: str) -> str:
    """The text for a kind of message, "" where none is known."""
    return errors.get(kind) or errors.get(_INSTEAD.get(kind, ""), "")


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


def quoted(names: Sequence[str], first: str) -> dict[str, object]:
    """What messages say of names: one of them, all as they are and in quotes, how many."""
    shown = sorted(names)[:MOST]  # more than a message shows
    return {
        "name": first,
        "names": ", ".join(shown),
        "quoted": ", ".join(f"'{n}'" for n in shown),
        "count": len(names),
    }


def listed(words: Sequence[str]) -> str:
    """`'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`: as Python counts missing arguments."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def shape_words(shape: Shape) -> str:
    """`320 × 32`."""
    return " × ".join(map(str, shape)) or "a scalar"


def short(text: str) -> str:
    """A message cut to what is shown of it."""
    return text if len(text) <= MOST else text[:MOST] + "…"
