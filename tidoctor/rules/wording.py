"""How differences between tensors and their class are told: evidence, places, renames."""

from __future__ import annotations

from collections.abc import Sequence

from tidoctor.finding import Cure, Evidence, Location, Operation
from tidoctor.names import brief, printable
from tidoctor.patterns import collapse
from tidoctor.rules.causes import Renaming
from tidoctor.rules.fitting import Gap, Misfit
from tidoctor.rules.rule import consent, rename, set_key
from tidoctor.rules.view import View

MOST_ROWS = 6  # of evidence about shapes in one finding


def shape_text(shape: Sequence[int]) -> str:
    """`64 × 16`."""
    return " × ".join(map(str, shape)) or "a number"


def place(view: View, name: str) -> Location:
    """The line of a tensor in the index, else its file. The name is canonical."""
    tensor = view.tensors[name]
    index = view.checkpoint.index
    if index and (line := index.document.line("weight_map", tensor.name)):
        return Location(index.file, line)
    return Location(tensor.file)


def gap_rows(view: View, gaps: Sequence[Gap]) -> tuple[int, tuple[Evidence, ...]]:
    """Bytes that missing tensors would take, and what they are."""
    rows: list[Evidence] = []
    total = 0
    shapes = {gap.name: gap.shape for gap in gaps}
    dtype = view.size_of(())[0]
    for pattern, members in collapse(shapes):
        size = sum(view.size_of(shapes[m])[1] for m in members)
        total += size
        if len(rows) < MOST_ROWS:
            kinds = {shapes[m] for m in members}
            shape = shape_text(shapes[members[0]]) if len(kinds) == 1 else "several shapes"
            count = f"{len(members)} tensors, " if len(members) > 1 else ""
            fact = f"{printable(pattern)}: {count}{shape}, {size} bytes in {dtype}"
            rows.append(Evidence("shapes", fact, list(shapes[members[0]])))
    return total, tuple(rows)


def misfit_row(misfit: Misfit) -> Evidence:
    """A tensor of another shape than the class has."""
    found, expected = shape_text(misfit.found), shape_text(misfit.expected)
    fact = f"{printable(misfit.name)} is {found}, expected {expected}"
    return Evidence("shapes", fact, list(misfit.found))


def renaming_cure(view: View, renamings: Sequence[Renaming]) -> Cure | None:
    """Renaming the tensors of whole components, where nothing stands in the way."""
    if view.wrappers or not all(r.certain for r in renamings):
        return None
    pairs = [(view.tensors[old].name, new) for r in renamings for old, new in r.pairs]
    if any(new in view.checkpoint.tensors for _, new in pairs):
        return None
    operations: list[Operation] = [rename(old, new) for old, new in pairs]
    return consent(f"rename {len(pairs)} tensors", *operations)


def class_cure(name: str) -> Cure:
    """Naming another class in config.json."""
    return consent(f"set architectures to {name}", set_key("architectures", value=[name]))


def model_type_row(view: View) -> Evidence:
    """What config.json says of the family."""
    return Evidence(str(view.at("model_type")), f"model_type is {brief(view.model_type)}")


def tensor_count(names: Sequence[str]) -> str:
    """`1 tensor`, `3 tensors`."""
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''}"
