"""Plans: what would change, as operations on the table of tensors.

`Plan.apply` is pure: it returns the checkpoint that would exist, on which the same rules run and
which the writer makes true. No byte of a tensor is read or moved here.

Operations, as mappings (`Operation` in `tidoctor.finding`):

    rename   from, to              the same bytes under another name
    drop     tensor [, file]       one row less: everywhere, or only the copy in one file
    copy     from, to              a second row that points at the same bytes
    graft    tensor [, from]       a row that points into another checkpoint; one marked
                                   `optional` is left out when the donor lacks it
    set      path, value           a key of config.json (path is a list of keys)
    unset    path                  the key removed
    tidy                           config.json as strict JSON with the same values
    rewrite  file                  the file laid out anew from the rows that can be read
    reindex                        files named, and the index written, as loaders expect
    discard  file                  a file that is not carried over
    adopt    file                  a weight file that was not read becomes one of the shards
    cast     tensor, dtype         the same numbers as another floating-point type
    gather   tensor, shape, from   a row made of byte ranges of others: `from` is a list of
                                   {tensor, begin, end}
    merge    tensor, weight, a, b, scale
                                   a row computed of a weight and its LoRA adapter
    reshard  bytes                 files of at most so many bytes of tensors, or one (null)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from tidoctor import document as documents
from tidoctor.casting import WIDTHS
from tidoctor.checkpoint import (
    CONFIG,
    SINGLE,
    Checkpoint,
    Entrance,
    Index,
    Span,
    Tensor,
    WeightFile,
    shard_of,
)
from tidoctor.document import Document
from tidoctor.errors import Refused
from tidoctor.filing import beside, index_file, weight_file
from tidoctor.finding import Operation
from tidoctor.header import span_bytes
from tidoctor.merging import merged
from tidoctor.names import printable
from tidoctor.pieced import Pieced
from tidoctor.sharding import shares
from tidoctor.source import INDEX_SUFFIX


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they apply, each a group of operations, and the donors they name.

    A step refers to the checkpoint that the steps before it lead to. With `apart` new tensors get
    a file of their own even beside a single one, and with `kept` no numbered file that exists is
    given another number for that.
    """

    steps: tuple[tuple[Operation, ...], ...] = ()
    donors: Mapping[str, Checkpoint] | None = None
    apart: bool = False
    kept: bool = False

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of all steps."""
        return tuple(operation for step in self.steps for operation in step)

    def then(self, operations: Iterable[Operation]) -> Plan:
        """This plan followed by one more step."""
        return replace(self, steps=(*self.steps, tuple(operations)))

    def apply(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint that would exist. Reads no tensor.

        Raises Refused when an operation does not fit the checkpoint.
        """
        for step in self.steps:
            draft = _Draft(checkpoint, self.donors or {}, apart=self.apart, kept=self.kept)
            for operation in step:
                draft.edit(operation)
            checkpoint = draft.finish()
        return checkpoint


class _Draft:
    """A checkpoint being changed: its rows by file, and what has been touched."""

    def __init__(
        self, checkpoint: Checkpoint, donors: Mapping[str, Checkpoint], *, apart: bool, kept: bool
    ) -> None:
        self.before = checkpoint
        self.donors = donors
        self.apart = apart
        self.kept = kept
        self.most: tuple[int | None] | None = None  # what `reshard` asks for
        self.rows: dict[str, list[Tensor]] = {
            w.name: checkpoint.rows(w) for w in checkpoint.weights
        }
        self.places: dict[str, list[tuple[str, int]]] = {}
        for file, rows in self.rows.items():
            for i, row in enumerate(rows):
                self.places.setdefault(row.name, []).append((file, i))
        self.gone: set[tuple[str, int]] = set()
        self.fresh: list[Tensor] = []
        self.gathered: dict[tuple[str, int], list[Tensor]] = {}  # what stands behind a row
        self.touched: set[str] = set()
        self.config = checkpoint.config
        self.left_out: set[str] = set(checkpoint.left_out)
        self.adopted: list[WeightFile] = []
        self.renamed = False  # the files get the names that loaders look for
        self.verbs: Mapping[str, Callable[[Operation], None]] = {
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
        verb = self.verbs.get(str(operation.get("op")))
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
        gathered = (row for rows in self.gathered.values() for row in rows)
        if name in self.places or any(row.name == name for row in (*self.fresh, *gathered)):
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
        row = first._replace(
            name=name, shape=tuple(shape), file="", span=Pieced(span for _, span in parts).span
        )
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
        self._behind(weight, weight._replace(name=name, file="", span=span))

    def _range(self, each: Mapping[str, object]) -> tuple[Tensor, Span]:
        row = self._find(str(each["tensor"]))
        begin, end = each["begin"], each["end"]
        if row.stored:
            raise Refused(self.before.source.name, f"{printable(row.name)} is being converted")
        if not isinstance(begin, int) or not isinstance(end, int) or not (
            0 <= begin <= end <= row.nbytes
        ):
            raise Refused(self.before.source.name, f"{printable(row.name)} has no such bytes")
        start = row.span.begin
        return row, row.span._replace(begin=start + begin, end=start + end)

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
        source, file = weight.whole
        start = weight.header.data_start
        rows = []
        for name, dtype, shape, begin, end in weight.header.entries:
            self._free(name)
            rows.append(
                Tensor(
                    name, dtype, shape, weight.name, Span(source, file, start + begin, start + end)
                )
            )
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

    # --- the result ---

    def finish(self) -> Checkpoint:
        before = self.before
        parts = self._parts()
        if not parts:
            raise Refused(before.source.name, "nothing would be left of the weights")
        stem, sharded = self._layout(len(parts))
        weights, tensors, shadows = [], dict[str, Tensor](), list[Tensor]()
        for (old, rows), name in zip(parts, self._names(parts, stem, sharded), strict=True):
            weights.append(self._weight(name, old, rows))
            counted = before.tensors
            for row in rows:
                moved = row._replace(file=name)
                other = tensors.get(row.name)
                chosen = counted.get(row.name)
                if other is not None and chosen is not None and chosen.file != row.file:
                    shadows.append(moved)
                    continue
                if other is not None:
                    shadows.append(other)
                tensors[row.name] = moved
        texts = dict(before.texts)
        if self.config is not before.config and self.config is not None:
            texts[CONFIG] = documents.encode(self.config)
        index = self._index(stem, sharded, tensors, texts)
        return replace(
            before,
            files=self._files(weights, texts),
            config=self.config,
            index=index,
            entrance=self._entrance(stem, sharded),
            weights=tuple(weights),
            extras=tuple(
                w for w in before.extras if w.name not in self.left_out and w not in self.adopted
            ),
            tensors=tensors,
            shadows=tuple(shadows),
            texts=texts,
            left_out=frozenset(self.left_out),
        )

    def _parts(self) -> list[tuple[str | None, list[Tensor]]]:
        """The files of the result: the old name, None for a new one, and the rows."""
        parts: list[tuple[str | None, list[Tensor]]] = []
        for weight in (*self.before.weights, *self.adopted):
            rows = []
            for i, row in enumerate(self.rows[weight.name]):
                place = (weight.name, i)
                rows += [] if place in self.gone else [row]
                rows += self.gathered.get(place, ())
            if rows:
                parts.append((weight.name, rows))
            elif weight.name not in self.left_out:
                self.left_out.add(weight.name)
        if self.fresh and len(parts) == 1 and not self._was_sharded() and not self.apart:
            old, rows = parts[0]
            parts[0] = (old, beside(rows, self.fresh))
            self.touched.add(str(old))
        elif self.fresh:
            parts.append((None, list(self.fresh)))
        return parts if self.most is None else self._shared_out(parts, self.most[0])

    def _shared_out(
        self, parts: list[tuple[str | None, list[Tensor]]], most: int | None
    ) -> list[tuple[str | None, list[Tensor]]]:
        """The parts as `reshard` wants them; a file that comes out as it was stays as it is."""
        counted = self.before.tensors
        last: dict[str, tuple[str | None, Tensor]] = {}
        for old, rows in parts:
            for row in rows:
                mine = counted.get(row.name)
                if row.name not in last or mine is None or mine.file != last[row.name][1].file:
                    last[row.name] = (old, row)
        stood = {old: rows for old, rows in parts if old is not None}
        origin = {name: old for name, (old, _) in last.items()}
        result: list[tuple[str | None, list[Tensor]]] = []
        for rows in shares([row for _, row in last.values()], most):
            old = next((o for row in rows if (o := origin[row.name]) is not None), None)
            if old is not None and rows != stood[old]:
                self.touched.add(old)
            result.append((old, rows))
        return result

    def _names(
        self, parts: Sequence[tuple[str | None, object]], stem: str, sharded: bool
    ) -> Iterator[str]:
        keeping = self.kept and self._was_sharded() and self.most is None
        added = 0
        for i, (old, _) in enumerate(parts, 1):
            if not sharded:
                yield stem
            elif keeping and old is not None:
                yield old
            elif keeping:
                added += 1
                yield f"{stem}-added{added if added > 1 else ''}.safetensors"
            else:
                yield f"{stem}-{i:05d}-of-{len(parts):05d}.safetensors"

    def _was_sharded(self) -> bool:
        return self.before.entrance in ("index", "shards")

    def _layout(self, count: int) -> tuple[str, bool]:
        """(stem of numbered shards, True) or (name of the one file, False)."""
        first = (*self.before.weights, *self.adopted)[0].name
        numbered = shard_of(first)
        if count > 1 or (self._was_sharded() and self.most is None):
            if self.before.index:
                return self.before.index.file.removesuffix(INDEX_SUFFIX), True
            return (numbered[0] if numbered else "model"), True
        # Other programs have names of their own (diffusers): those are kept.
        renamed = self.renamed or self._was_sharded()
        kept = self.before.entrance == "single" or not renamed
        return (first if kept else SINGLE), False

    def _weight(self, name: str, old: str | None, rows: list[Tensor]) -> WeightFile:
        was = next((w for w in (*self.before.weights, *self.adopted) if w.name == old), None)
        if was is not None and old not in self.touched:
            return replace(was, name=name)
        return weight_file(name, was, rows)

    def _index(
        self, stem: str, sharded: bool, tensors: Mapping[str, Tensor], texts: dict[str, bytes]
    ) -> Index | None:
        if not sharded:
            if self.before.index:
                texts.pop(self.before.index.file, None)
                self.left_out.add(self.before.index.file)
            return None
        name = stem + INDEX_SUFFIX
        self.left_out.discard(name)
        index, text = index_file(self.before.source, name, self.before.index, tensors)
        texts |= {name: text} if text is not None else {}
        return index

    def _files(self, weights: list[WeightFile], texts: Mapping[str, bytes]) -> dict[str, int]:
        gone = {w.name for w in (*self.before.weights, *self.adopted)} | self.left_out
        files = {f: size for f, size in self.before.files.items() if f not in gone}
        files |= {w.name: w.header.size for w in weights}
        files |= {name: len(text) for name, text in texts.items()}
        return dict(sorted(files.items()))

    def _entrance(self, stem: str, sharded: bool) -> Entrance:
        if sharded:
            return "index"
        if stem == SINGLE:
            return "single"
        return self.before.entrance
