"""Tensors as a table, repeated layers collapsed into one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized

from tidoctor import rules
from tidoctor.atlas.identity import Identity
from tidoctor.checkpoint import Checkpoint, Forms, Tensor, forms, nbytes
from tidoctor.names import natural_key, printable
from tidoctor.patterns import collapse
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import table
from tidoctor.report.text.subject import classes, extent, named, subject
from tidoctor.rules.statistics import NOTHING, Statistics

Row = tuple[str, list[Tensor]]
"""A name or pattern and the tensors it stands for."""


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
    tensors = {name: t for name, t in checkpoint.tensors.items() if wanted(name)}
    shown = [(t.name, [t]) for t in _ordered(tensors.values())] if every else rows(tensors, alike)
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
    return [*lines, _summary(checkpoint, tensors, shown, every)]


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


def rows(tensors: Mapping[str, Tensor], alike: Forms) -> list[Row]:
    """Tensors of equal dtype and shape whose names differ in integers only, as one row each.

    `alike` may have further names.
    """
    found = [
        (pattern, [*map(tensors.__getitem__, members)])
        for names in alike.values()
        for pattern, members in collapse(filter(tensors.__contains__, names))
    ]
    return sorted(found, key=lambda row: (natural_key(row[1][0].name), row[0]))


def _ordered(tensors: Iterable[Tensor]) -> list[Tensor]:
    return sorted(tensors, key=lambda t: natural_key(t.name))


def _dtypes(tensors: Mapping[str, Tensor], alike: Forms) -> list[str]:
    """The dtypes, the one with most bytes first."""
    found = Counter[str]()
    for (dtype, _), names in alike.items():
        found[dtype] += len(names) * tensors[names[0]].nbytes
    return sorted(found, key=lambda dtype: (-found[dtype], dtype))


def _body(shown: Iterable[Row], *, several: bool) -> list[tuple[str, ...]]:
    body = []
    for pattern, members in shown:
        first = members[0]
        body.append((
            printable(pattern), str(len(members)), *([printable(first.dtype)] if several else []),
            units.shape(first.shape), units.size(nbytes(members)),
        ))  # fmt: skip
    return body


def _numbers(
    shown: Iterable[Row], values: Mapping[str, Statistics | None]
) -> list[tuple[str, ...]]:
    """The numbers of each row, all its tensors taken together."""
    body: list[tuple[str, ...]] = []
    for pattern, members in shown:
        known = [held for t in members if (held := values.get(t.name)) is not None]
        if len(known) < len(members):
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


def _summary(
    checkpoint: Checkpoint, tensors: Sized, shown: Sequence[Row], every: bool
) -> str:
    total = len(checkpoint.tensors)
    some = f"{len(tensors)} of " if len(tensors) < total else ""
    counted = "" if every else f", {units.plural(len(shown), 'pattern')}"
    read = f"Read {units.size(checkpoint.source.bytes_read)} of {units.size(stored(checkpoint))}."
    return f"{some}{units.plural(total, 'tensor')}{counted}. {read}"


def stored(checkpoint: Checkpoint) -> int:
    """Bytes of the weight files, the index and config.json."""
    texts = {"config.json", checkpoint.index.file if checkpoint.index else ""}
    weights = (*checkpoint.weights, *checkpoint.extras)
    known = sum(checkpoint.files.get(name, 0) for name in texts)
    return known + sum(w.header.size for w in weights)
