"""Algebra of tensor names: order, patterns, wrappers, prefixes. Pure functions on strings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_PLAIN_INTEGER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,8})(?![^.])")
_DANGEROUS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# What makes CI runners obey a line of a log: `::command` at its beginning, `##[command` (GitHub) or
# `##vso[command` (Azure) anywhere. Sources: ActionCommand.cs of actions/runner, "Logging commands"
# in the documentation of Azure Pipelines.
_COMMAND = re.compile(r"(?<=#)#(?=\[|vso\[)|\A(?P<room>\s*):(?=:)")

_MOST_INTEGERS = 8  # in one name; real ones have up to five, and the cost of patterns grows with it

_BRIEF = 80  # characters of a value that is told


def printable(text: str) -> str:
    """The text with everything escaped that could move, hide or reorder characters.

    C0 and C1 controls, bidi marks, zero-width characters, line separators, surrogates and tags
    become `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`, and so does the sign of a line that a CI runner
    would obey; all else stays.
    """
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda m: (m["room"] or "") + rf"\x{ord(m[0][-1]):02x}", text)
    return _DANGEROUS.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), text)


def brief(text: object) -> str:
    """A value out of somebody's config, safe to print and not too long.

    Not for names of tensors, which are never cut.
    """
    shown = printable(str(text)[:_BRIEF])
    return shown if len(str(text)) <= _BRIEF else f"{shown}…"


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts layer 2 before layer 10."""
    return tuple(
        (0, int(part)) if part.isdecimal() and part.isascii() else (1, part)
        for part in re.split(r"(\d{1,18})", name)
        if part
    )


def template(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The pieces of a name between its integers, and those integers.

    Only whole dotted components in their plain spelling count as integers: `layers.3.w` has one,
    `conv2d.w` and `layers.03.w` have none, so that `fc1` and `fc2` stay two names.
    """
    parts = _PLAIN_INTEGER.split(name)  # the integers stand at the odd places
    if len(parts) > 2 * _MOST_INTEGERS:
        return (name,), ()
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def ranges(numbers: Iterable[int]) -> str:
    """`0..16,18..31` for the given integers."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)


def collapse(names: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Names grouped into patterns, each with its members, in natural order.

    A pattern such as `layers.{0..31}.w` stands for every combination of its ranges. A group whose
    numbers do not form such a grid is split by its leading numbers until each part does.
    """
    groups: dict[tuple[str, ...], list[tuple[tuple[int, ...], str]]] = {}
    for name in dict.fromkeys(names):
        pieces, numbers = template(name)
        groups.setdefault(pieces, []).append((numbers, name))
    patterns = [row for pieces, members in groups.items() for row in _grid(pieces, members)]
    return sorted(patterns, key=lambda row: natural_key(row[1][0]))


def _grid(
    pieces: tuple[str, ...], members: list[tuple[tuple[int, ...], str]]
) -> list[tuple[str, list[str]]]:
    """One pattern when the numbers of the members form a full grid, else one per leading number."""
    members.sort()
    columns = [sorted(set(column)) for column in zip(*(m[0] for m in members), strict=True)]
    cells = 1
    for column in columns:
        cells *= len(column)
    if cells == len(members):
        return [(_fill(pieces, columns), [name for _, name in members])]
    # The first column with more than one value is the one whose values are told apart.
    split = next(i for i, column in enumerate(columns) if len(column) > 1)
    parts: dict[tuple[int, ...], list[tuple[tuple[int, ...], str]]] = {}
    for numbers, name in members:
        parts.setdefault(numbers[: split + 1], []).append((numbers, name))
    # Leading numbers with the same continuation are told together.
    shapes: dict[tuple[tuple[int, ...], ...], list[tuple[tuple[int, ...], str]]] = {}
    for part in parts.values():
        rest = tuple(numbers[split + 1 :] for numbers, _ in part)
        shapes.setdefault(rest, []).extend(part)
    if len(shapes) == 1:  # cannot be split further this way: one row for each leading number
        return [row for part in parts.values() for row in _grid(pieces, part)]
    return [row for part in shapes.values() for row in _grid(pieces, part)]


def _fill(pieces: Sequence[str], columns: Sequence[Sequence[int]]) -> str:
    out = [pieces[0]]
    for column, piece in zip(columns, pieces[1:], strict=True):
        out.append(str(column[0]) if len(column) == 1 else "{" + ranges(column) + "}")
        out.append(piece)
    return "".join(out)


def some(names: Sequence[str], most: int) -> str:
    """The first few names, safe to print, and how many more there are."""
    shown = ", ".join(map(printable, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def some_patterns(names: Iterable[str], most: int = 3) -> str:
    """The first few patterns of these names, and how many more there are."""
    return some([pattern for pattern, _ in collapse(names)], most)


# --- wrappers ---------------------------------------------------------------------------------

WRAPPER_PREFIXES: Mapping[str, str] = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel or DeepSpeed",
    "_fsdp_wrapped_module.": "FSDP",
    "_forward_module.": "Lightning Fabric",
    "base_model.model.": "PEFT",
    "pretrained_model.": "trl",
}
"""What training wrappers put in front of every name, and who does it."""

WRAPPER_INFIXES: Mapping[str, str] = {
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
}
"""What wrappers around single layers put inside a path."""

_ADAPTER = re.compile(
    r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.|$)"
)
_ALTERED = (
    "._", "lora_", ".base_layer.", ".modules_to_save.", ".original_module.", "LayerNorm.gamma",
    "LayerNorm.beta",
)  # fmt: skip
_GAMMA = re.compile(r"(?<=LayerNorm\.)(?:gamma|beta)$")
_INFIX = re.compile(r"\.(?:" + "|".join(WRAPPER_INFIXES) + r")(?=\.)")
_SAVED = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")


def wrapper_of(names: Iterable[str]) -> str | None:
    """The wrapper prefix that more than half of the names start with, None without one."""
    listed = list(names)
    text = "\n" + "\n".join(listed)  # counted in one go: a big model has 90,000 names
    for prefix in WRAPPER_PREFIXES:
        # The text may count too many, since a hostile name can hold a line break.
        if text.count("\n" + prefix) * 2 > len(listed) and (
            sum(n.startswith(prefix) for n in listed) * 2 > len(listed)
        ):
            return prefix
    return None


def peel(names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Strip wrapper prefixes until none is left: ({name: bare name}, prefixes, outermost first).

    A prefix is claimed when more than half of the names carry it; only those names lose it.
    """
    bare = {name: name for name in names}
    found: list[str] = []
    while len(found) < 8 and (prefix := wrapper_of(bare.values())):
        found.append(prefix)
        bare = {name: rest.removeprefix(prefix) for name, rest in bare.items()}
    return bare, tuple(found)


def any_altered(names: Iterable[str]) -> bool:
    """Whether any name may have an infix, an adapter part or an old spelling; in one pass."""
    text = "\n".join(names)
    return any(mark in text for mark in _ALTERED)


def without_infixes(name: str) -> str:
    """The name without the wrappers that stand inside its path."""
    return _INFIX.sub("", name) if "._" in name else name


def modern(name: str) -> str:
    """The name with `gamma` and `beta` of a LayerNorm, TensorFlow's words, as weight and bias.

    Elsewhere `gamma` is a name of its own (layer scale).
    """
    if "LayerNorm." not in name:
        return name
    return _GAMMA.sub(lambda m: "weight" if m[0] == "gamma" else "bias", name)


def is_adapter(name: str) -> bool:
    """Whether this is a part of an unmerged LoRA adapter.

    Matched by whole components, since `lora` occurs in legal names (`kv_a_proj`, RWKV's `w_lora`).
    """
    return "lora_" in name and bool(_ADAPTER.search(name))


def without_adapter(name: str) -> str | None:
    """The name that the weight has once its adapter is merged; None for parts that vanish then.

    `x.base_layer.weight` and `x.modules_to_save.default.weight` become `x.weight`.
    """
    if is_adapter(name) or ".original_module." in name:
        return None
    saved = _SAVED.sub("", name) if ".modules_to_save." in name else name
    return saved.replace(".base_layer.", ".")


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the layers of a checkpoint stand: every path in front of a first layer number."""

    counts: Mapping[str, int]  # "model.layers" → number of tensors below it

    @property
    def main(self) -> str | None:
        """The root with most tensors, None when there are no layers."""
        return max(self.counts, key=lambda r: (self.counts[r], r)) if self.counts else None


def roots(names: Iterable[str]) -> Roots:
    """The layer roots among these names."""
    counts: dict[str, int] = {}
    for name in names:
        pieces, _ = template(name)
        if len(pieces) > 1 and pieces[0] and pieces[1]:
            root = pieces[0].removesuffix(".")
            counts[root] = counts.get(root, 0) + 1
    return Roots(counts)
