"""A promise: the small description of a checkpoint that its export has to keep to.

The file is JSON, `tidoctor.promise/1`, made to be committed: a row for all tensors whose names
differ by their numbers alone, so that the promise of a model with 80 layers fits a screen, and a
change shows in a review as the line that it is.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tidoctor.errors import Unreadable
from tidoctor.names import natural_key
from tidoctor.patterns import collapse

SCHEMA = "tidoctor.promise/1"
CAP = 16_000_000  # bytes
MOST = 2_000_000  # tensors that the rows may stand for; the largest models have 100,000
TIES: Mapping[bool | None, str] = {True: "tied", False: "untied", None: "unknown"}
_RANGES = re.compile(r"\{([0-9.,]{1,10000})\}")
_SPAN = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.\.(0|[1-9][0-9]{0,8}))?")

Kind = tuple[str, tuple[int, ...]]
"""A dtype and a shape."""


class Promise(NamedTuple):
    """What a checkpoint was when the promise was given.

    `tensors` has the dtype and shape of each name, `tie` is whether head and embedding are one
    (`tied`, `untied`, `unknown`), `loaders` are (name, version, verdict); `name` is the file that
    it was read from, or the source that it was made of.
    """

    name: str
    tensors: Mapping[str, Kind]
    architectures: tuple[str, ...]
    model_type: str | None
    tie: str
    loaders: tuple[tuple[str, str, str], ...]
    tool: str


def text(promise: Promise) -> str:
    """The file of a promise; the same for the same checkpoint."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "tidoctor", "version": promise.tool},
        "architectures": promise.architectures,
        "model_type": promise.model_type,
        "tie": promise.tie,
        "tensors": _rows(promise.tensors),
        "loaders": [
            {"loader": name, "version": version, "verdict": verdict}
            for name, version, verdict in promise.loaders
        ],
    }
    lines = [
        f" {json.dumps(key)}: {_inner(value)}" if key in ("tensors", "loaders")
        else f" {json.dumps(key)}: {json.dumps(value)}"
        for key, value in document.items()
    ]  # fmt: skip
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _inner(rows: object) -> str:
    assert isinstance(rows, list)
    return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]" if rows else "[]"


def _rows(tensors: Mapping[str, Kind]) -> list[dict[str, object]]:
    kinds: dict[Kind, list[str]] = {}
    rows: list[tuple[str, dict[str, object]]] = []
    for name, kind in tensors.items():
        if {"{", "}"} & set(name):  # would read as a range
            rows.append((name, {"name": name, **_told(kind)}))
        else:
            kinds.setdefault(kind, []).append(name)
    for kind, names in kinds.items():
        for pattern, members in collapse(names):
            rows.append((members[0], {"names": pattern, "count": len(members), **_told(kind)}))
    return [row for _, row in sorted(rows, key=lambda r: natural_key(r[0]))]


def _told(kind: Kind) -> dict[str, object]:
    return {"dtype": kind[0], "shape": list(kind[1])}


def load(path: Path) -> Promise:
    """Read a promise. Raises Unreadable when the file is none, or absent."""
    try:
        with path.open("rb") as stream:
            data = stream.read(CAP + 1)
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        hint = "write it with tidoctor inspect SOURCE --write-promise FILE"
        raise Unreadable(str(path), f"cannot be read ({why})", hint) from e
    if len(data) > CAP:
        raise Unreadable(str(path), f"has more than {CAP} bytes")
    try:
        return _promise(str(path), json.loads(data))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as e:
        why = str(e) if isinstance(e, ValueError) else "of another shape"
        hint = "write it anew with tidoctor inspect SOURCE --write-promise FILE"
        raise Unreadable(str(path), f"is no {SCHEMA} ({why[:200]})", hint) from e


def _promise(name: str, document: Mapping[str, object]) -> Promise:
    if document.get("schema") != SCHEMA:
        raise ValueError("its schema is another")
    architectures, model_type = document["architectures"], document["model_type"]
    if not _strings(architectures) or not (model_type is None or isinstance(model_type, str)):
        raise ValueError("architectures or model_type is of another type")
    if document["tie"] not in TIES.values():
        raise ValueError(f"tie is not one of {', '.join(TIES.values())}")
    tool = document.get("tool")
    version = tool.get("version") if isinstance(tool, dict) else None
    return Promise(
        name,
        _expanded(_list(document["tensors"])),
        tuple(map(str, _list(architectures))),
        model_type,
        str(document["tie"]),
        tuple(_loader(row) for row in _list(document["loaders"])),
        version if isinstance(version, str) else "unknown",
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _loader(row: object) -> tuple[str, str, str]:
    values = [row.get(k) for k in ("loader", "version", "verdict")] if isinstance(row, dict) else []
    if not values or not _strings(values):
        raise ValueError("a row of loaders is of another shape")
    name, version, verdict = map(str, values)
    return name, version, verdict


def _expanded(rows: Iterable[object]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("dtype"), str):
            raise ValueError("a row of tensors has no dtype")
        shape = row.get("shape")
        if not isinstance(shape, list) or not all(type(d) is int and d >= 0 for d in shape):
            raise ValueError("a row of tensors has no shape")
        kind = (row["dtype"], tuple(shape))
        if isinstance(row.get("name"), str):
            names: Sequence[str] = [row["name"]]
        elif isinstance(row.get("names"), str):
            names = list(expand(row["names"], MOST - len(found)))
        else:
            raise ValueError("a row of tensors has no names")
        if "count" in row and row["count"] != len(names):
            raise ValueError(f"{row['names']} does not stand for {row['count']} tensors")
        before = len(found)
        found.update(dict.fromkeys(names, kind))
        if len(found) - before != len(names):
            raise ValueError(f"rows of tensors stand for the same names ({str(names[0])[:80]}…)")
    return found


def expand(pattern: str, most: int) -> Iterator[str]:
    """The names that `layers.{0..3,7}.w` stands for. Raises ValueError for more than `most`."""
    pieces = _RANGES.split(pattern)
    columns = [_numbers(column, most) for column in pieces[1::2]]
    if math.prod(map(len, columns)) > most:
        raise ValueError(f"its rows stand for more than {MOST} tensors")
    for numbers in itertools.product(*columns):
        parts = [pieces[0]]
        for number, piece in zip(numbers, pieces[2::2], strict=True):
            parts += [str(number), piece]
        yield "".join(parts)


def _numbers(column: str, most: int) -> list[int]:
    found: list[int] = []
    for part in column.split(","):
        span = _SPAN.fullmatch(part)
        if span is None:
            raise ValueError(f"{{{column[:40]}}} is no range")
        first, last = int(span[1]), int(span[2] or span[1])
        if last - first + len(found) > most:
            raise ValueError(f"its rows stand for more than {MOST} tensors")
        found += range(first, last + 1)
    return found
