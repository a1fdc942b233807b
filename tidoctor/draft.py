"""A checkpoint being changed, one operation after the other; `tidoctor.plan` lists them.

The table of tensors is edited row by row; what files it leads to is a matter of `tidoctor.layout`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

from tidoctor.casting import WIDTHS
from tidoctor.checkpoint import CONFIG, Checkpoint, WeightFile
from tidoctor.document import Document
from tidoctor.dtypes import span_bytes
from tidoctor.errors import Refused
from tidoctor.finding import Operation
from tidoctor.merging import merged
from tidoctor.names import printable
from tidoctor.pieced import Pieced
from tidoctor.tensors import Span, Tensor, stored_rows


class Draft:
    """A checkpoint being changed.

    Attributes:
        before: as it was.
        rows: the rows of each file; a place in it is (file, number), also of what is gone.
        places: where the copies of a name are.
        gone: places whose row is dropped.
        fresh: new rows that belong to no file yet.
        gathered: new rows that stand behind the one at a place.
        touched: files that no longer are what they were.
        config: config.json.
        left_out: files that are not carried over.
        adopted: weight files that were not read before.
        renamed: whether the files get the names that loaders look for.
        most: (bytes of tensors in a file,) when they are shared out anew; None in it for one file.
    """

    def __init__(self, checkpoint: Checkpoint, donors: Mapping[str, Checkpoint]) -> None:
        self.before = checkpoint
        self.donors = donors
        self.most: tuple[int | None] | None = None
        self.rows: dict[str, list[Tensor]] = {
            w.name: checkpoint.rows(w) for w in checkpoint.weights
        }
        self.places: dict[str, list[tuple[str, int]]] = {}
        for file, rows in self.rows.items():
            for i, row in enumerate(rows):
                self.places.setdefault(row.name, []).append((file, i))
        self.gone: set[tuple[str, int]] = set()
        self.fresh: list[Tensor] = []
        self.gathered: dict[tuple[str, int], list[Tensor]] = {}
        self.touched: set[str] = set()
        self.config = checkpoint.config
        self.left_out: set[str] = set(checkpoint.left_out)
        self.adopted: list[WeightFile] = []
        self.renamed = False
        self._made: set[str] = set()  # the names of what is gathered
        self._verbs: Mapping[str, Callable[[Operation], None]] = {
            "rename": self._rename,
            "drop": self._drop,
            "copy": self._copy,
            "graft": self._graft,
            "set": self._set,
            "unset": self._unset,
            "tidy": self._tidy,
            "rewrite": self._rewrite,
            "reindex": self._reindex,
            "discard": self._discard,
            "adopt": self._adopt,
            "cast": self._cast,
            "gather": self._gather,
            "merge": self._merge,
            "reshard": self._reshard,
        }

    def edit(self, operation: Operation) -> None:
        """Carry out one operation. Raises Refused when it does not fit."""
        verb = self._verbs.get(str(operation.get("op")))
        if verb is None:
            raise Refused("", f"the plan asks for an unknown operation {operation.get('op')!r}")
        verb(operation)

    # --- rows ---

    def _find(self, name: str) -> Tensor:
        """The copy of a tensor that counts."""
        for row in self.fresh:
            if row.name == name:
                return row
        places = self.places.get(name)
        if not places:
            raise Refused(self.before.source.name, f"there is no tensor {printable(name)}")
        counted = self.before.tensors.get(name)
        rows = [self.rows[file][i] for file, i in places]
        return next((r for r in rows if counted and r.file == counted.file), rows[-1])

    def _free(self, name: str) -> None:
        taken = name in self.places or name in self._made
        if taken or any(row.name == name for row in self.fresh):
            raise Refused(self.before.source.name, f"a tensor {printable(name)} is there already")

    def _rename(self, operation: Operation) -> None:
        old, new = str(operation["from"]), str(operation["to"])
        self._find(old)
        self._free(new)
        for file, i in self.places.get(old, ()):
            self.rows[file][i] = self.rows[file][i]._replace(name=new)
            self.touched.add(file)
        if old in self.places:
            self.places[new] = self.places.pop(old)
        self.fresh = [r._replace(name=new) if r.name == old else r for r in self.fresh]

    def _drop(self, operation: Operation) -> None:
        name, only = str(operation["tensor"]), operation.get("file")
        self._find(name)
        kept = []
        for file, i in self.places.pop(name, ()):
            if only is None or file == only:
                self.gone.add((file, i))
                self.touched.add(file)
            else:
                kept.append((file, i))
        if kept:
            self.places[name] = kept
        self.fresh = [r for r in self.fresh if r.name != name]

    def _copy(self, operation: Operation) -> None:
        old, new = str(operation["from"]), str(operation["to"])
        self._free(new)
        self.fresh.append(self._find(old)._replace(name=new, file=""))

    def _graft(self, operation: Operation) -> None:
        name, donor = str(operation["tensor"]), str(operation.get("donor", ""))
        if donor not in self.donors:
            raise Refused(
                self.before.source.name,
                f"{printable(name)} has to come from another checkpoint",
                "name it with --donor",
            )
        self._free(name)
        wanted = str(operation.get("from", name))
        row = self.donors[donor].tensors.get(wanted)
        if row is None:
            raise Refused(donor, f"the donor has no tensor {printable(wanted)}")
        self.fresh.append(row._replace(name=name, file=""))

    def _cast(self, operation: Operation) -> None:
        name, wanted = str(operation["tensor"]), str(operation["dtype"])
        self._find(name)
        for file, i in self.places.get(name, ()):
            self.rows[file][i] = self._as(self.rows[file][i], wanted)
            self.touched.add(file)
        self.fresh = [self._as(r, wanted) if r.name == name else r for r in self.fresh]

    def _as(self, row: Tensor, wanted: str) -> Tensor:
        where = self.before.source.name
        if row.dtype not in WIDTHS or wanted not in WIDTHS:
            raise Refused(where, f"{printable(row.name)} cannot go from {row.dtype} to {wanted}")
        if row.stored:
            raise Refused(where, f"{printable(row.name)} would be converted twice")
        if row.nbytes != span_bytes(row.dtype, row.shape):
            raise Refused(where, f"{printable(row.name)} has not the bytes of its shape")
        return row if row.dtype == wanted else row._replace(dtype=wanted, stored=row.dtype)

    def _gather(self, operation: Operation) -> None:
        name, where = str(operation["tensor"]), self.before.source.name
        shape, ranges = operation["shape"], operation["from"]
        if not isinstance(shape, Sequence) or not isinstance(ranges, Sequence) or not ranges:
            raise Refused(where, f"it is not said what {printable(name)} is made of")
        parts = [self._range(each) for each in ranges]
        first, _ = parts[0]
        whole = Pieced(span for _, span in parts).span
        row = first.moved(whole)._replace(name=name, shape=tuple(shape), file="")
        if any(each.dtype != first.dtype for each, _ in parts):
            raise Refused(where, f"{printable(name)} would be of several dtypes")
        if row.nbytes != span_bytes(row.dtype, row.shape):
            raise Refused(where, f"{printable(name)} would not have the bytes of its shape")
        self._behind(first, row)

    def _behind(self, first: Tensor, row: Tensor) -> None:
        """A new row in the file of another, behind it."""
        self._free(row.name)
        for file, i in self.places.get(first.name, ()):
            if self.rows[file][i] == first:
                self.gathered.setdefault((file, i), []).append(row)
                self._made.add(row.name)
                self.touched.add(file)
                return
        self.fresh.append(row)

    def _merge(self, operation: Operation) -> None:
        weight, a, b = (self._find(str(operation[part])) for part in ("weight", "a", "b"))
        name, scale = str(operation["tensor"]), operation["scale"]
        if not isinstance(scale, float) or not isfinite(scale):
            raise Refused(self.before.source.name, f"{printable(name)} has no scale")
        try:
            span = merged(weight, a, b, scale)
        except ValueError as e:
            raise Refused(self.before.source.name, f"{printable(weight.name)}: {e}") from e
        self._behind(weight, weight.moved(span)._replace(name=name, file=""))

    def _range(self, each: Mapping[str, object]) -> tuple[Tensor, Span]:
        row = self._find(str(each["tensor"]))
        begin, end = each["begin"], each["end"]
        if row.stored:
            raise Refused(self.before.source.name, f"{printable(row.name)} is being converted")
        if not isinstance(begin, int) or not isinstance(end, int) or not (
            0 <= begin <= end <= row.nbytes
        ):
            raise Refused(self.before.source.name, f"{printable(row.name)} has no such bytes")
        span = row.span
        return row, span._replace(begin=span.begin + begin, end=span.begin + end)

    # --- files ---

    def _reshard(self, operation: Operation) -> None:
        most = operation.get("bytes")
        self.most = (most if isinstance(most, int) else None,)

    def _rewrite(self, operation: Operation) -> None:
        file = str(operation["file"])
        if file not in self.rows:
            raise Refused(self.before.source.name, f"there is no weight file {printable(file)}")
        self.touched.add(file)

    def _discard(self, operation: Operation) -> None:
        file = str(operation["file"])
        self.left_out.add(file)
        if rows := self.rows.get(file):
            for i, row in enumerate(rows):
                if self.places.get(row.name) == [(file, i)]:
                    raise Refused(file, f"it holds the only copy of {printable(row.name)}")
                self.gone.add((file, i))
                if row.name in self.places:
                    self.places[row.name] = [p for p in self.places[row.name] if p != (file, i)]

    def _reindex(self, operation: Operation) -> None:
        self.renamed = True

    def _adopt(self, operation: Operation) -> None:
        weight = next((w for w in self.before.extras if w.name == operation["file"]), None)
        if weight is None or weight.whole is None:
            raise Refused(self.before.source.name, f"there is no file {operation['file']!r}")
        rows = [*stored_rows(weight.name, weight.header, *weight.whole).values()]
        for row in rows:
            self._free(row.name)
        self.adopted.append(weight)
        self.rows[weight.name] = rows
        for i, row in enumerate(rows):
            self.places[row.name] = [(weight.name, i)]

    # --- config ---

    def _config(self) -> Document:
        if self.config is None:
            raise Refused(self.before.source.name, "there is no config.json to change")
        return self.config

    def _path(self, operation: Operation) -> tuple[str, ...]:
        path = operation["path"]
        return tuple(map(str, path)) if isinstance(path, Sequence) else ()

    def _set(self, operation: Operation) -> None:
        try:
            self.config = self._config().set(self._path(operation), operation["value"])
        except ValueError as e:
            raise Refused(f"{self.before.source.name}: {CONFIG}", str(e)) from e

    def _unset(self, operation: Operation) -> None:
        try:
            self.config = self._config().unset(self._path(operation))
        except ValueError as e:
            raise Refused(f"{self.before.source.name}: {CONFIG}", str(e)) from e

    def _tidy(self, operation: Operation) -> None:
        try:
            self.config = self._config().tidy()
        except ValueError as e:
            raise Refused(f"{self.before.source.name}: {CONFIG}", str(e)) from e
