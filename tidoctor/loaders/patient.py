"""What the consumers' policies need to know of a checkpoint, as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loading:
    """What transformers of the atlas's release makes of names and shapes, the head left out.

    Attributes:
        missing: tensors that nothing feeds.
        misfits: (name, shape in the file, shape of the class).
        unclear: whether its conversions could not be followed to the end.
    """

    missing: tuple[str, ...] = ()
    misfits: tuple[tuple[str, Shape, Shape], ...] = ()
    unclear: bool = False


Answer = tuple[bool | None, str]
"""Yes or no; None where that is not known, and why."""

Copy = tuple[str, str]
"""A weight file and the name of one of its tensors."""


def _not_compared() -> Answer:
    return None, "nothing to compare"


def _not_read(one: Copy, other: Copy) -> Answer:
    return None, "whether the copies are equal was not compared"


@dataclass(frozen=True, slots=True)
class Patient:
    """A checkpoint as a loader meets it. Names are those of the files unless said otherwise.

    Attributes:
        name: of the source, for messages that quote it.
        settings: the values of config.json.
        end: line and column of the brace that ends config.json, where known.
        model_type, declared: of config.json; `declared` is the first of `architectures`.
        class_name: the class of transformers that the checkpoint is asked to serve.
        task: its task, such as `causal-lm` or `encoder`.
        is_base: whether `declared` is the bare class without a head.
        embeds: whether it is marked as a sentence embedding model.
        served: whether it is to serve as `class_name`; a bare base class that nobody asks to
            generate may stay one.
        files: weight file -> its tensors with their shapes, in the order of the file.
        index: tensor -> file of the index, None without one.
        read: the files that transformers reads.
        formats: weight file -> `format` of its metadata, None without one; a file without any
            metadata is not among them.
        home: tensor -> the file whose copy counts: the one that the index names, else the last.
        incomplete: why tensors may be missing that no file and no index tells of, None when none
            are.
        prefix, head, embedding: base prefix, names of head and embedding of `class_name`.
        stored_head, stored_embedding: what plays these parts in the files, None when absent.
        head_parts: tensors of a head that is not a plain matrix (quantised, wrapped).
        same: whether stored head and embedding are equal byte for byte, and why not known.
        equal: the same of any two copies of tensors.
        tied: whether the config means head and embedding to be one; `tied_v4` and `tied_v5` say
            how each major version of transformers reads it. None where not known.
        expected: name -> shape of a fresh save of `class_name`, None where not known.
        optional: those of `expected` that a loader does without.
        aliases: names that stand for another tensor and are not stored.
        loading: the outcome in transformers, None where not known.
        why: why `expected` or `loading` is not known.
    """

    name: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    end: tuple[int, int] | None = None
    model_type: str | None = None
    declared: str | None = None
    class_name: str | None = None
    task: str | None = None
    is_base: bool = False
    embeds: bool = False
    served: bool = True
    files: Mapping[str, Mapping[str, Shape]] = field(default_factory=dict)
    index: Mapping[str, str] | None = None
    read: tuple[str, ...] = ()
    formats: Mapping[str, str | None] = field(default_factory=dict)
    home: Mapping[str, str] = field(default_factory=dict)
    incomplete: str | None = None
    prefix: str = ""
    head: str | None = None
    embedding: str | None = None
    stored_head: str | None = None
    stored_embedding: str | None = None
    head_parts: tuple[str, ...] = ()
    same: Callable[[], Answer] = _not_compared
    equal: Callable[[Copy, Copy], Answer] = _not_read
    tied: bool | None = None
    tied_v4: bool | None = None
    tied_v5: bool | None = None
    expected: Mapping[str, Shape] | None = None
    optional: frozenset[str] = frozenset()
    aliases: frozenset[str] = frozenset()
    loading: Loading | None = None
    why: str = ""
