"""The operations of a plan in few lines: 290 renames are one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from tidoctor.checkpoint import CONFIG, Checkpoint
from tidoctor.finding import Operation
from tidoctor.names import printable
from tidoctor.patterns import collapse, template
from tidoctor.report import units
from tidoctor.report.plain import plain
from tidoctor.tensors import Tensor, nbytes

_VALUE = 200  # characters of a config value that are shown


def told(operations: Iterable[Operation], planned: Checkpoint) -> list[tuple[str, list[str]]]:
    """(verb, lines) for each kind of operation, in the order in which they first appear."""
    kinds: dict[str, list[Operation]] = {}
    for operation in operations:
        kinds.setdefault(str(operation.get("op")), []).append(operation)
    return [(printable(kind), _lines(kind, group, planned)) for kind, group in kinds.items()]


def _lines(kind: str, group: Sequence[Operation], planned: Checkpoint) -> list[str]:
    tellers: Mapping[str, Callable[[], list[str]]] = {
        "rename": lambda: renames([(str(o.get("from")), str(o.get("to"))) for o in group]),
        "drop": lambda: _drops(group),
        "copy": lambda: _copies(group, planned.tensors),
        "graft": lambda: _grafts(group, planned.tensors),
        "set": lambda: [f"{CONFIG}: {_path(o)} = {_value(o.get('value'))}" for o in group],
        "unset": lambda: [f"{CONFIG}: {_path(o)} removed" for o in group],
        "tidy": lambda: [f"{CONFIG} as strict JSON with the same values"],
        "rewrite": lambda: [f"{_file(o)} from the tensors that can be read" for o in group],
        "reindex": lambda: ["files named, and the index written, as loaders expect"],
        "discard": lambda: [_file(o) for o in group],
        "adopt": lambda: [_file(o) for o in group],
        "cast": lambda: _casts(group, planned.tensors),
        "merge": lambda: _gathers(group, planned.tensors),
        "gather": lambda: _gathers(group, planned.tensors),
        "reshard": lambda: [_division(o.get("bytes"), planned) for o in group],
    }
    teller = tellers.get(kind, lambda: [printable(json.dumps(plain(o))) for o in group])
    return teller()


def renames(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Renames grouped by the part of the name that changes; `X` stands for what stays."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for old, new in pairs:
        groups.setdefault(_change(old, new), []).append((old, new))
    lines = []
    for change, members in groups.items():
        if len(members) == 1:
            old, new = members[0]
            lines.append(f"{printable(old)} → {printable(new)}")
        else:
            lines.append(f"{len(members)} tensors: {printable(change)}")
    return lines


def _change(old: str, new: str) -> str:
    """`X → model.X`, `X.gamma → X.weight` or `X.attn.Y → X.self_attn.Y`; layer numbers as `N`."""
    a, b = ("N".join(template(name)[0]).split(".") for name in (old, new))
    lead = _common(a, b)
    a, b = a[lead:], b[lead:]
    tail = _common(a[::-1], b[::-1])
    a, b = a[: len(a) - tail], b[: len(b) - tail]
    left = ["X"] * bool(lead)
    right = [("Y" if lead else "X")] * bool(tail)
    sides = (".".join([*left, *middle, *right]) for middle in (a, b))
    return " → ".join(sides)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many leading parts are equal."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def _drops(group: Sequence[Operation]) -> list[str]:
    by_file: dict[object, list[str]] = {}
    for operation in group:
        by_file.setdefault(operation.get("file"), []).append(str(operation.get("tensor")))
    return [
        _pattern(pattern, members) + (f" (the copy in {printable(str(file))})" if file else "")
        for file, dropped in by_file.items()
        for pattern, members in collapse(dropped)
    ]


def _copies(group: Sequence[Operation], tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{printable(str(o.get('from')))} → {printable(str(o.get('to')))}"
        f"{_extent([str(o.get('to'))], tensors)}"
        for o in group
    ]


def _grafts(group: Sequence[Operation], tensors: Mapping[str, Tensor]) -> list[str]:
    by_donor: dict[str, list[str]] = {}
    for operation in group:
        by_donor.setdefault(str(operation.get("donor")), []).append(str(operation.get("tensor")))
    return [
        f"{_pattern(pattern, members)}{_extent(members, tensors)} from {printable(donor)}"
        for donor, grafted in by_donor.items()
        for pattern, members in collapse(grafted)
    ]


def _gathers(group: Sequence[Operation], tensors: Mapping[str, Tensor]) -> list[str]:
    made = [str(o.get("tensor")) for o in group]
    return [
        f"{_pattern(pattern, members)}{_extent(members, tensors)}"
        for pattern, members in collapse(made)
    ]


def _casts(group: Sequence[Operation], tensors: Mapping[str, Tensor]) -> list[str]:
    ways: dict[str, list[Tensor]] = {}
    for operation in group:
        if row := tensors.get(str(operation.get("tensor"))):
            ways.setdefault(f"{row.stored} → {row.dtype}", []).append(row)
    return [
        f"{units.plural(len(rows), 'tensor')}: {printable(way)} "
        f"({units.size(nbytes(rows))})"
        for way, rows in ways.items()
    ]


def _division(most: object, planned: Checkpoint) -> str:
    files = units.plural(len(planned.weights), "file")
    return f"{files} of at most {units.size(most)}" if isinstance(most, int) else files


def _pattern(pattern: str, members: Sequence[str]) -> str:
    return printable(pattern) + (f" ({len(members)} tensors)" if len(members) > 1 else "")


def _extent(names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    """Shape, dtype and size of one tensor, the size of several."""
    rows = [tensors[name] for name in names if name in tensors]
    if not rows:
        return ""
    first, size = rows[0], units.size(nbytes(rows))
    kind = f"{units.shape(first.shape)} {printable(first.dtype)}, " if len(rows) == 1 else ""
    return f" ({kind}{size})"


def _path(operation: Operation) -> str:
    path = operation.get("path")
    steps = path if isinstance(path, (list, tuple)) else (path,)
    return printable(".".join(map(str, steps)))


def _file(operation: Operation) -> str:
    return printable(str(operation.get("file")))


def _value(value: object) -> str:
    text = printable(json.dumps(plain(value), ensure_ascii=False))
    return text if len(text) <= _VALUE else text[:_VALUE] + "…"
