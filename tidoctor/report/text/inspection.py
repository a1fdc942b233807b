"""Tensors as a table, repeated layers collapsed into one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tidoctor import rules
from tidoctor.atlas.identity import Identity
from tidoctor.checkpoint import Checkpoint
from tidoctor.dtypes import span_bytes
from tidoctor.names import natural_key, printable
from tidoctor.patterns import collapse
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import table
from tidoctor.report.text.subject import classes, extent, named, subject
from tidoctor.rules.statistics import NOTHING, Statistics
from tidoctor.tensors import Form, Forms, Tensor, forms


class Row(NamedTuple):
    """One tensor, or several of one form by the pattern that stands for their names."""

    pattern: str
    names: Sequence[str]
    form: Form
    nbytes: int


def inspection(
    checkpoint: Checkpoint,
    wanted: Callable[[str], bool],
    style: Style,
    *,
    every: bool,
    like: Identity | None = None,
    values: Mapping[str, Statistics | None] | None = None,
) -> list[str]:
    """The tensors of a checkpoint whose names are wanted; one row for each with `every`.

    `like` is what they look like, where config.json does not tell; `values` the numbers they hold.
    """
    alike = forms(checkpoint.tensors)
    shown = _rows(checkpoint, alike, wanted, every)
    dtypes = _dtypes(checkpoint.tensors, alike)
    parts = [
        classes(checkpoint), f"{units.count(checkpoint.parameters)} parameters",
        extent(checkpoint), ", ".join(map(printable, dtypes)),
    ]
    lines = [subject(named(checkpoint), [p for p in parts if p], style), ""]
    body = [*_body(shown, several=len(dtypes) > 1), *_absent_head(checkpoint, wanted)]
    numbers = _numbers(shown, values) if values is not None else []
    if body:
        head = ("tensor", "count", "dtype", "shape", "size")
        titles = head if len(dtypes) > 1 else tuple(h for h in head if h != "dtype")
        right = frozenset(i for i, title in enumerate(titles) if title not in ("tensor", "dtype"))
        lines += [*table([titles, *body], right, style), ""]
    if numbers:
        titles = ("values", "min", "max", "mean", "deviation", "zero", "not finite")
        lines += [*table([titles, *numbers], frozenset(range(1, len(titles))), style), ""]
    lines += [*_likeness(like), *_defects(checkpoint, style)]
    return [*lines, _summary(checkpoint, shown, every)]


def _likeness(like: Identity | None) -> list[str]:
    if like is None:
        return []
    lines = [printable(like.told())]
    if like.exact:
        parts = [f"the shapes fix {like.fixed()}"] if like.fields else []
        if like.undetermined:
            parts.append(f"not determined: {', '.join(like.undetermined)}")
        lines += [printable("; ".join(parts))] if parts else []
    return [*lines, ""]


def _rows(
    checkpoint: Checkpoint, alike: Forms, wanted: Callable[[str], bool], every: bool
) -> list[Row]:
    """What to show, in natural order: names of one form that differ in integers only as one."""
    # A file that the library opens has tensors of just the size that their form says.
    sound = all(weight.header.sound for weight in checkpoint.weights)
    found = []
    for form, names in alike.items():
        each = span_bytes(*form) if sound else None
        kept = filter(wanted, names)
        for pattern, members in ((n, [n]) for n in kept) if every else collapse(kept):
            if each is None:
                length = sum(checkpoint.tensors[n].nbytes for n in members)
            else:
                length = each * len(members)
            found.append(Row(pattern, members, form, length))
    return sorted(found, key=lambda row: (natural_key(row.names[0]), row.pattern))


def _dtypes(tensors: Mapping[str, Tensor], alike: Forms) -> list[str]:
    """The dtypes, the one with most bytes first."""
    found = Counter[str]()
    for (dtype, _), names in alike.items():
        found[dtype] += len(names) * tensors[names[0]].nbytes
    return sorted(found, key=lambda dtype: (-found[dtype], dtype))


def _body(shown: Iterable[Row], *, several: bool) -> list[tuple[str, ...]]:
    body = []
    for pattern, names, (dtype, shape), length in shown:
        body.append((
            printable(pattern), str(len(names)), *([printable(dtype)] if several else []),
            units.shape(shape), units.size(length),
        ))  # fmt: skip
    return body


def _numbers(
    shown: Iterable[Row], values: Mapping[str, Statistics | None]
) -> list[tuple[str, ...]]:
    """The numbers of each row, all its tensors taken together."""
    body: list[tuple[str, ...]] = []
    for pattern, names, *_ in shown:
        known = [held for name in names if (held := values.get(name)) is not None]
        if len(known) < len(names):
            body.append((printable(pattern), "not read"))
            continue
        whole = sum(known, NOTHING)
        figures = (whole.least, whole.most, whole.mean, whole.deviation)
        body.append((
            printable(pattern), *(f"{n:.4g}" for n in figures), str(whole.zeros), str(whole.odd),
        ))  # fmt: skip
    return body


def _absent_head(
    checkpoint: Checkpoint, wanted: Callable[[str], bool]
) -> list[tuple[str, ...]]:
    head = rules.absent_head(checkpoint)
    if head is None or not wanted(head[0]):
        return []
    return [(printable(head[0]), "-", f"tied to {printable(head[1])}, not stored")]


def _defects(checkpoint: Checkpoint, style: Style) -> list[str]:
    count = sum(len(w.header.defects) for w in (*checkpoint.weights, *checkpoint.extras))
    lines = []
    if count:
        text = f"{units.plural(count, 'defect')}: run tidoctor diagnose"
        lines.append(style.paint("error", text))
    if checkpoint.shadows:
        copies = units.plural(len(checkpoint.shadows), "tensor")
        lines.append(f"{copies} stored once more in another file, which loaders overwrite")
    if checkpoint.extras:
        unread = len(checkpoint.extras)
        lines.append(f"{units.plural(unread, 'weight file')} besides, which loaders do not read")
    return [*lines, ""] if lines else []


def _summary(checkpoint: Checkpoint, shown: Sequence[Row], every: bool) -> str:
    total, counted = len(checkpoint.tensors), sum(len(row.names) for row in shown)
    some = f"{counted} of " if counted < total else ""
    patterns = "" if every else f", {units.plural(len(shown), 'pattern')}"
    read = f"Read {units.size(checkpoint.source.bytes_read)} of {units.size(stored(checkpoint))}."
    return f"{some}{units.plural(total, 'tensor')}{patterns}. {read}"


def stored(checkpoint: Checkpoint) -> int:
    """Bytes of the weight files, the index and config.json."""
    texts = {"config.json", checkpoint.index.file if checkpoint.index else ""}
    weights = (*checkpoint.weights, *checkpoint.extras)
    known = sum(checkpoint.files.get(name, 0) for name in texts)
    return known + sum(w.header.size for w in weights)
