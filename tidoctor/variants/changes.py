"""What may be changed so that a loader takes a checkpoint, each as operations that damage nothing.

A change is offered only where it says the same model in other words: a lost head is not made up, a
head that differs is not left out, a flag is not turned against the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tidoctor import rules
from tidoctor.errors import Refused
from tidoctor.finding import Operation
from tidoctor.loaders import Record, rotary
from tidoctor.names import printable, some
from tidoctor.rules.rule import CannotRun, NotApplicable, reindex, rename, set_key
from tidoctor.tying import copies, drops


class Effort(IntEnum):
    """What a change touches; the least is preferred."""

    NOTHING = 0
    CONFIG = 1
    HEADER = 2  # names and tables, or fewer tensors
    BYTES = 3  # a tensor more


@dataclass(frozen=True, slots=True)
class Change:
    """One step from a checkpoint to a variant of it."""

    kind: str
    words: str
    effort: Effort
    operations: tuple[Operation, ...]


_OF_CAUSE: Mapping[str, frozenset[str]] = {
    "config": frozenset({"keys", "tied", "untied"}),
    "layout": frozenset({"keys"}),
    "flag": frozenset({"tied", "untied", "store", "drop"}),
    "head": frozenset({"store", "drop", "tied", "untied", "headname", "files"}),
    "names": frozenset({"store", "drop", "tied", "untied", "headname", "prefix", "files"}),
    "prefix": frozenset({"prefix"}),
    "files": frozenset({"files"}),
    "class": frozenset(),
    "shapes": frozenset(),
}
_ONE_OF = (frozenset({"store", "drop"}), frozenset({"tied", "untied"}))


def changes(
    view: rules.View, records: Sequence[tuple[Record, str]], done: frozenset[str]
) -> Iterator[Change]:
    """What may help against some causes of trouble, each beside the record that names it.

    `done` are the kinds of changes that were made already, or are not wanted.
    """
    if view.incomplete or view.checkpoint.config is None:
        return
    gone = {*done, *(k for pair in _ONE_OF if pair & done for k in pair)}
    wanted = frozenset[str]().union(*(_OF_CAUSE.get(c, _ALL) for _, c in records)) - gone
    for kind, make in _MAKERS.items():
        if kind not in wanted:
            continue
        try:
            change = make(view, [record for record, _ in records])
        except (Refused, NotApplicable, CannotRun):
            continue
        if change is not None and change.operations:
            yield change


# --- head and flag --------------------------------------------------------------------------------


def _stored(view: rules.View, _: Sequence[Record]) -> Change:
    operations = copies(view)
    tensors = view.checkpoint.tensors
    size = sum(tensors[str(o["from"])].nbytes for o in operations)
    words = f"store the head explicitly ({size} bytes more)"
    return Change("store", words, Effort.BYTES, tuple(operations))


def _dropped(view: rules.View, _: Sequence[Record]) -> Change:
    operations = drops(view)
    tensors = view.checkpoint.tensors
    size = sum(tensors[str(o["tensor"])].nbytes for o in operations if o["op"] == "drop")
    words = f"leave out the head, a copy of the embedding ({size} bytes less)"
    return Change("drop", words, Effort.HEADER, tuple(operations))


def _untied(view: rules.View, _: Sequence[Record]) -> Change | None:
    """The flag false, beside a head whose bytes are those that the model has now."""
    if not _flag_alone(view) or view.head is None:
        return None
    if view.tie.meant is not False and view.head_equals_embedding is not True:
        return None
    return _flag(view, value=False)


def _tied(view: rules.View, _: Sequence[Record]) -> Change | None:
    """The flag true, where the embedding is the head or equals it."""
    if not _flag_alone(view) or view.embedding is None or view.head_parts:
        return None
    same = view.tie.meant is True if view.head is None else view.head_equals_embedding is True
    return _flag(view, value=True) if same else None


def _flag(view: rules.View, *, value: bool) -> Change | None:
    operations = view.flag_operations(value)
    if all(_at(view.settings, _path(o)) is value for o in operations):
        return None
    said = "true" if value else "false"
    return Change(
        "tied" if value else "untied", f"write tie_word_embeddings = {said}", Effort.CONFIG,
        tuple(operations),
    )  # fmt: skip


def _path(operation: Operation) -> list[str]:
    path = operation["path"]
    return [str(step) for step in path] if isinstance(path, list) else []


def _flag_alone(view: rules.View) -> bool:
    """Whether the flag decides about the head and nothing else (T5 scales its output by it)."""
    facts = view.generator
    return facts is not None and facts.tie_follows_flag and facts.always_tied is None


def _head_named(view: rules.View, _: Sequence[Record]) -> Change | None:
    """The stored head under the name that the class has for it."""
    wanted = view.generator.head if view.generator else None
    if view.head is None or wanted is None or view.head == wanted:
        return None
    actual = view.tensors[view.head].name
    words = f"rename {printable(actual)} to {wanted}"
    return Change("headname", words, Effort.HEADER, (rename(actual, wanted),))


# --- names and files ------------------------------------------------------------------------------


def _prefixed(view: rules.View, _: Sequence[Record]) -> Change | None:
    prefix, bare, inside = view.layout
    if bool(bare) is bool(inside):
        return None
    if any(view.tensors[n].name != n for n in (*bare, *inside)):
        return None  # a wrapper stands in front of them: its own rule cures that first
    pairs = [(n, prefix + n) for n in bare] or [(n, n.removeprefix(prefix)) for n in inside]
    words = f"{'put' if bare else 'take'} {prefix} {'in front of' if bare else 'off'} the names"
    return Change("prefix", words, Effort.HEADER, tuple(rename(old, new) for old, new in pairs))


def _filed(view: rules.View, _: Sequence[Record]) -> Change:
    words = "name the files, and write the index, as loaders expect"
    return Change("files", words, Effort.HEADER, (reindex(),))


# --- keys of config.json --------------------------------------------------------------------------

# Where the values of keys stand that older readers seek at the top level, beside
# rope_parameters.KEY: other spellings, and settings of layers that differ (Gemma 3).
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "n_ctx": ("n_positions",),
    "rotary_pct": ("rope_parameters", "partial_rotary_factor"),
    "rope_theta": ("rope_parameters", "full_attention", "rope_theta"),
    "rope_local_base_freq": ("rope_parameters", "sliding_attention", "rope_theta"),
}


def _keyed(view: rules.View, records: Sequence[Record]) -> Change | None:
    """Keys that the loaders seek at the top level, with the values that the config means."""
    settings = view.settings
    if view.text_level is not None:
        return None
    values: dict[str, object] = {}
    for record in records:
        for name in (record.tie_key or "").split("|"):
            if name and "." not in name and name not in settings and view.tie.meant is not None:
                values[name] = view.tie.meant
        for key in record.config:
            if settings.get(key.name) is None and key.name not in values:
                values |= _meant(settings, key.name, key.instead)
        if record.layout and record.layout.key and record.layout.key not in settings:
            values |= _pattern(settings, record.layout.key)
    values |= _scaling(settings, records)
    if not values:
        return None
    operations = tuple(set_key(name, value=value) for name, value in values.items())
    words = f"write {some([printable(n) for n in values], 3)} at the top level of config.json"
    return Change("keys", words, Effort.CONFIG, operations)


def _meant(
    settings: Mapping[str, object], name: str, instead: tuple[str, ...] | None
) -> dict[str, object]:
    """The value of a key that stands elsewhere or follows from others."""
    if name == "sliding_window" and name in settings:
        # A window as long as the context hides nothing, and readers that know the switch skip it.
        length = settings.get("max_position_embeddings")
        idle = settings.get("use_sliding_window") is False and _is_number(length)
        return {name: length} if idle else {}
    paths = [instead or ("rope_parameters", name), _ELSEWHERE.get(name, ())]
    path = next((p for p in paths if p and _is_number(_at(settings, p))), None)
    if path is None:
        return {}
    return {name: _at(settings, path)}


def _pattern(settings: Mapping[str, object], key: str) -> dict[str, object]:
    """The number of layers of which each last one has no sliding window, where that is so."""
    kinds = settings.get("layer_types")
    if not isinstance(kinds, list) or "full_attention" not in kinds:
        return {}
    every = kinds.index("full_attention") + 1
    fits = all(
        one == ("sliding_attention" if i % every else "full_attention")
        for i, one in enumerate(kinds, 1)
    )
    return {key: every} if fits else {}


def _scaling(settings: Mapping[str, object], readers: Sequence[Record]) -> dict[str, object]:
    """What of `rope_parameters` others seek at the top level beside the base.

    transformers 5 takes a `rope_scaling` for the settings themselves, so it has to be whole.
    """
    rope, out = settings.get("rope_parameters"), dict[str, object]()
    if not isinstance(rope, Mapping):
        return {}
    full = rope.get("full_attention")
    rope = full if isinstance(full, Mapping) else rope
    factor = rope.get("partial_rotary_factor")
    keys = {key.name for reader in readers for key in reader.config}
    name = "rotary_pct" if "rotary_emb_base" in keys else "partial_rotary_factor"  # GPT-NeoX
    if _is_number(factor) and settings.get(name) is None:
        out[name] = factor
    how = rotary.kind(rope)
    if how in ("", "default") or settings.get("rope_scaling") is not None:
        return out
    if all("rope_scaling" not in r.scaling.reads for r in readers if r.scaling):
        return out
    apart = {"rope_theta", "partial_rotary_factor", "rope_type", "type"}
    said = ["rope_type"]
    words = {r.scaling.word for r in readers if r.scaling}
    if "type" in words:  # who wants this word also counts what stands beside it
        said = ["type", *(word for word in said if word in words)]
        if rope.get("original_max_position_embeddings") == settings.get(
            "original_max_position_embeddings"
        ):
            apart.add("original_max_position_embeddings")
    scaling = {**dict.fromkeys(said, how), **{k: v for k, v in rope.items() if k not in apart}}
    if not {"rope_theta", "rotary_emb_base"} & {*settings, *keys} and "rope_theta" in rope:
        out["rope_theta"] = rope["rope_theta"]  # which would be lost beside it
    return {**out, "rope_scaling": scaling}


def _at(settings: Mapping[str, object], path: Sequence[str]) -> object:
    found: object = settings
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_MAKERS: Mapping[str, Callable[[rules.View, Sequence[Record]], Change | None]] = {
    "keys": _keyed,
    "tied": _tied,
    "untied": _untied,
    "headname": _head_named,
    "prefix": _prefixed,
    "files": _filed,
    "drop": _dropped,
    "store": _stored,
}
_ALL = frozenset(_MAKERS)
