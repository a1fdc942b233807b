"""The files that a changed checkpoint consists of: their rows, their names, the index.

A file that no operation touches stays the file it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tidoctor import document as documents
from tidoctor.checkpoint import CONFIG, SINGLE, Checkpoint, Entrance, Index, WeightFile, shard_of
from tidoctor.draft import Draft
from tidoctor.errors import Refused
from tidoctor.filing import beside, index_file, weight_file
from tidoctor.sharding import shares
from tidoctor.source import INDEX_SUFFIX
from tidoctor.tensors import Tensor


def laid_out(draft: Draft, *, apart: bool = False, kept: bool = False) -> Checkpoint:
    """The checkpoint that a draft leads to; see `Plan` for `apart` and `kept`.

    Raises Refused when nothing would be left of the weights, or a header would be refused.
    """
    return _Layout(draft, apart, kept).checkpoint()


class _Layout:
    """A draft on its way to files."""

    def __init__(self, draft: Draft, apart: bool, kept: bool) -> None:
        self.draft = draft
        self._before = draft.before
        self._apart = apart
        self._kept = kept
        self._read = (*draft.before.weights, *draft.adopted)  # the files whose rows there are

    def checkpoint(self) -> Checkpoint:
        """The checkpoint of these files."""
        before, draft = self._before, self.draft
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
        if self.draft.config is not before.config and self.draft.config is not None:
            texts[CONFIG] = documents.encode(self.draft.config)
        index = self._index(stem, sharded, tensors, texts)
        return replace(
            before,
            files=self._files(weights, texts),
            config=self.draft.config,
            index=index,
            entrance=self._entrance(stem, sharded),
            weights=tuple(weights),
            extras=tuple(
                w for w in before.extras if w.name not in draft.left_out and w not in draft.adopted
            ),
            tensors=tensors,
            shadows=tuple(shadows),
            texts=texts,
            left_out=frozenset(self.draft.left_out),
        )

    def _parts(self) -> list[tuple[str | None, list[Tensor]]]:
        """The files of the result: the old name, None for a new one, and the rows."""
        parts: list[tuple[str | None, list[Tensor]]] = []
        for weight in self._read:
            rows = []
            for i, row in enumerate(self.draft.rows[weight.name]):
                place = (weight.name, i)
                rows += [] if place in self.draft.gone else [row]
                rows += self.draft.gathered.get(place, ())
            if rows:
                parts.append((weight.name, rows))
            elif weight.name not in self.draft.left_out:
                self.draft.left_out.add(weight.name)
        if self.draft.fresh and len(parts) == 1 and not self._was_sharded() and not self._apart:
            old, rows = parts[0]
            parts[0] = (old, beside(rows, self.draft.fresh))
            self.draft.touched.add(str(old))
        elif self.draft.fresh:
            parts.append((None, list(self.draft.fresh)))
        return parts if self.draft.most is None else self._shared_out(parts, self.draft.most[0])

    def _shared_out(
        self, parts: list[tuple[str | None, list[Tensor]]], most: int | None
    ) -> list[tuple[str | None, list[Tensor]]]:
        """The parts as `reshard` wants them; a file that comes out as it was stays as it is."""
        counted = self._before.tensors
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
                self.draft.touched.add(old)
            result.append((old, rows))
        return result

    def _names(
        self, parts: Sequence[tuple[str | None, object]], stem: str, sharded: bool
    ) -> Iterator[str]:
        keeping = self._kept and self._was_sharded() and self.draft.most is None
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
        return self._before.entrance in ("index", "shards")

    def _layout(self, count: int) -> tuple[str, bool]:
        """(stem of numbered shards, True) or (name of the one file, False)."""
        first = self._read[0].name
        numbered = shard_of(first)
        if count > 1 or (self._was_sharded() and self.draft.most is None):
            if self._before.index:
                return self._before.index.file.removesuffix(INDEX_SUFFIX), True
            return (numbered[0] if numbered else "model"), True
        # Other programs have names of their own (diffusers): those are kept.
        renamed = self.draft.renamed or self._was_sharded()
        kept = self._before.entrance == "single" or not renamed
        return (first if kept else SINGLE), False

    def _weight(self, name: str, old: str | None, rows: list[Tensor]) -> WeightFile:
        was = next((w for w in self._read if w.name == old), None)
        if was is not None and old not in self.draft.touched:
            return was._replace(name=name)
        return weight_file(name, was, rows)

    def _index(
        self, stem: str, sharded: bool, tensors: Mapping[str, Tensor], texts: dict[str, bytes]
    ) -> Index | None:
        if not sharded:
            if self._before.index:
                texts.pop(self._before.index.file, None)
                self.draft.left_out.add(self._before.index.file)
            return None
        name = stem + INDEX_SUFFIX
        self.draft.left_out.discard(name)
        index, text = index_file(self._before.source, name, self._before.index, tensors)
        texts |= {name: text} if text is not None else {}
        return index

    def _files(self, weights: list[WeightFile], texts: Mapping[str, bytes]) -> dict[str, int]:
        gone = {w.name for w in self._read} | self.draft.left_out
        files = {f: size for f, size in self._before.files.items() if f not in gone}
        files |= {w.name: w.header.size for w in weights}
        files |= {name: len(text) for name, text in texts.items()}
        return dict(sorted(files.items()))

    def _entrance(self, stem: str, sharded: bool) -> Entrance:
        if sharded:
            return "index"
        if stem == SINGLE:
            return "single"
        return self._before.entrance
