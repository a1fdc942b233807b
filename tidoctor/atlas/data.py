"""The data files of the atlas, read when they are asked for.

They lie in one folder: `index.json` says in which file a class or a model type is found, and
`<folder>.json`, one for each model folder of transformers, holds the facts. What they contain is
the project's own; a file that contradicts itself raises ValueError.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tidoctor.atlas.expression import NotCovered

Facts = Mapping[str, Any]


class Data:
    """One folder of data files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, Facts] = {}

    @property
    def version(self) -> str:
        """The release of transformers that the facts were learned from."""
        return str(self._index["learned_from"]["transformers"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that something is known of."""
        return tuple(self._index["classes"])

    def layout(self, class_name: str) -> Facts:
        """The `ClassLayout` of a class. Raises NotCovered for one that was not learned."""
        folder = self._index["classes"].get(class_name)
        if folder is None:
            raise NotCovered(self.why_not(class_name))
        facts: Facts = self._file(f"{folder}.json")["classes"][class_name]
        return facts

    def config(self, model_type: str) -> Facts:
        """The `ConfigFacts` of a model type. Raises NotCovered for one that was not learned."""
        folder = self._index["configs"].get(model_type)
        if folder is None:
            raise NotCovered(f"nothing is known of configs of the model type {shown(model_type)}")
        facts: Facts = self._file(f"{folder}.json")["configs"][model_type]
        return facts

    def why_not(self, class_name: str) -> str | None:
        """Why nothing is known of a class; None where something is."""
        if class_name in self._index["classes"]:
            return None
        reason = self._index["absent"].get(class_name)
        if reason is not None:
            return f"{class_name} is not covered: {reason}"
        return f"{shown(class_name)} is no class that was learned from transformers {self.version}"

    @property
    def _index(self) -> Facts:
        try:
            return self._file("index.json")
        except FileNotFoundError as e:
            raise NotCovered("this build of tidoctor has no layouts") from e

    def _file(self, name: str) -> Facts:
        if name not in self._files:
            self._files[name] = json.loads(self._root.joinpath(name).read_bytes())
        return self._files[name]


@functools.cache
def shipped() -> Data:
    """The data that come with the package."""
    return Data(Path(__file__).with_name("layouts"))


_instead: ContextVar[Data | None] = ContextVar("tidoctor_atlas_data", default=None)


def current() -> Data:
    """The data in use: those that come with the package, unless others were set."""
    return _instead.get() or shipped()


@contextmanager
def using(data: Data) -> Iterator[None]:
    """Within the block, other data are in use: for tests and for data that are being made."""
    token = _instead.set(data)
    try:
        yield
    finally:
        _instead.reset(token)


def shown(value: object) -> str:
    """A value out of somebody's file for a message: on one line and not too long."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple | range):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:56] + '…"'


def spelt(value: object) -> str:
    """The same, with the items of a short list."""
    if isinstance(value, list | tuple) and not any(isinstance(v, list | Mapping) for v in value):
        text = ", ".join(map(shown, value[:8]))
        if len(value) <= 8 and len(text) <= 60:
            return f"[{text}]"
    return shown(value)
