"""Whether head and embedding are one: the tie flag by level, version and class default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tidoctor.atlas.families import ClassFacts
from tidoctor.checkpoint import CONFIG
from tidoctor.finding import Evidence, Location

_VERSION = re.compile(r"(\d{1,3})\.\d+")


class Tie(NamedTuple):
    """Whether head and embedding are one, as each major version of transformers resolves it.

    None means that it cannot be known here. `writer` is the major version that wrote the
    config, `key_written` whether any level states the flag at all.
    """

    v4: bool | None
    v5: bool | None
    writer: int | None
    key_written: bool
    evidence: tuple[Evidence, ...]

    @property
    def meant(self) -> bool | None:
        """What the writer of the config meant; None when the versions differ and it is unknown."""
        if self.v4 == self.v5:
            return self.v5
        return {4: self.v4, 5: self.v5}.get(self.writer or 0)

    @property
    def disputed(self) -> bool:
        """Whether the two major versions read the same file differently."""
        return None not in (self.v4, self.v5) and self.v4 != self.v5


def resolve_tie(
    settings: Mapping[str, object],
    text_settings: Mapping[str, object],
    text_level: str | None,
    facts: ClassFacts | None,
    at: Callable[..., Location],
) -> Tie:
    """The tie of a config for a class; `text_level` is the key of the text part, if there is one.

    transformers 4 reads the flag of `text_config` in composite models, transformers 5 in most
    classes the top one, in others that of `text_config` or either; what is absent takes the default
    of the class (measured with transformers 4.44 to 5.23).
    """
    root = _flag(settings)
    nested = _flag(text_settings) if text_level else None
    writer = _writer(settings, text_settings)
    evidence = _evidence(root, nested, text_level, facts, at)
    written = root is not None or nested is not None
    if facts is None:
        value = root if root is not None else nested
        return Tie(value, value, writer, written, evidence)
    if facts.nested:
        if text_level is None:
            nested = root  # a flat config: its values are handed to the text part as well
        v4 = nested if nested is not None else facts.tie_default_v4
        v5 = _nested_v5(root, nested, facts)
    else:
        v4 = root if root is not None else facts.tie_default_v4
        v5 = root if root is not None else facts.tie_default_v5
    if facts.head is not None and facts.head not in facts.ties:
        v5 = False  # a class may tie other tensors and never its head
    elif not facts.tie_follows_flag and facts.always_tied is not None:
        v5 = facts.always_tied
        if v5 and root is False:
            writer = 4  # transformers 5 writes true for these classes (T5), whatever they were
    if facts.tie_default_v4 is None:
        v4 = v5  # version 4 does not have this class, or ties nothing in it
    return Tie(v5 if v4 is None else v4, v5, writer, written, evidence)


def _nested_v5(root: bool | None, nested: bool | None, facts: ClassFacts) -> bool | None:
    """What transformers 5 makes of the two levels; each class has its own way."""
    default = facts.tie_default_v5
    top = root if root is not None else default
    if facts.tie_level_v5 == "text":
        return nested if nested is not None else default
    if facts.tie_level_v5 == "either":
        return True if nested else top
    if facts.tie_level_v5 == "both":
        return bool(top and nested)
    return nested if root is None and facts.bridged and nested is not None else top


def _flag(settings: Mapping[str, object]) -> bool | None:
    value = settings.get("tie_word_embeddings")
    return bool(value) if isinstance(value, bool | int) else None


def _writer(*levels: Mapping[str, object]) -> int | None:
    """The major version of transformers that wrote the config."""
    for settings in levels:
        version = settings.get("transformers_version")
        if isinstance(version, str) and (m := _VERSION.match(version)):
            return int(m[1])
    return None


def _evidence(
    root: bool | None,
    nested: bool | None,
    text_level: str | None,
    facts: ClassFacts | None,
    at: Callable[..., Location],
) -> tuple[Evidence, ...]:
    found = []
    for value, path in ((root, ()), (nested, (text_level or "",))):
        if value is not None:
            where = str(at(*path, "tie_word_embeddings"))
            level = f"{path[0]}." if path else ""
            said = "true" if value else "false"
            found.append(Evidence(where, f"{level}tie_word_embeddings is {said}", value))
    if found:
        return tuple(found)
    default = facts.tie_default_v5 if facts else None
    if facts and default is not None:
        said = f"the default of {facts.name} decides: {'tied' if default else 'not tied'}"
    else:
        said = "and no default of this class is known"
    return (Evidence(CONFIG, f"tie_word_embeddings is not written; {said}", default),)
