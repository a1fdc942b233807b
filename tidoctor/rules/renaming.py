"""Cures that only rename, and where a name stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tidoctor.finding import Cure, Location, Operation
from tidoctor.rules.rule import rename, safe
from tidoctor.rules.view import View


def renames(
    view: View, names: Iterable[str], new_name: Callable[[str], str]
) -> list[Operation] | None:
    """Renaming operations; None when two tensors would get one name."""
    pairs = [(n, new_name(n)) for n in names]
    pairs = [(old, new) for old, new in pairs if old != new]
    taken = set(view.checkpoint.tensors) - {old for old, _ in pairs}
    new = [n for _, n in pairs]
    if len(set(new)) < len(new) or taken & set(new) or not all(new):
        return None
    return [rename(old, n) for old, n in pairs]


def renaming(operations: list[Operation] | None, summary: str) -> Cure | None:
    """The cure of these renames, None where they cannot be done."""
    return safe(summary, *operations) if operations else None


def line_of(view: View, name: str) -> Location:
    """Where a name as in the files stands: in the index, else in its file."""
    index = view.checkpoint.index
    if index and index.weight_map.get(name) and (line := index.document.line("weight_map", name)):
        return Location(index.file, line)
    return Location(view.checkpoint.tensors[name].file)
