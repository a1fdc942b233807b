"""The same values in other tensors: which ranges of stored tensors make up the wanted ones.

Loaders stack experts, join projections and cut them. Two forms of one model feed the same tensors
in memory; following both there shows, for every tensor of one form, where its values lie in the
other. Only conversions that move values about are followed (`tidoctor.atlas.loading.moved`).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tidoctor.atlas.loading import Feed, moved
from tidoctor.atlas.operations import Shape, Ways

_MOST_RUNS = 1 << 20  # ranges of one model; more would be rows cut in the middle


class Region(NamedTuple):
    """A box of a tensor, and the box of a stored tensor that its values are.

    `at` and `size` are first index and extent in each dimension, `source` and `begin` the stored
    tensor and its first index in each of its dimensions. `axes` are those dimensions of the tensor
    that the stored one has, in order; along the others the box has extent 1.
    """

    at: tuple[int, ...]
    size: tuple[int, ...]
    source: str
    begin: tuple[int, ...]
    axes: tuple[int, ...]


class Laid(NamedTuple):
    """A tensor as boxes of stored tensors that cover it."""

    shape: Shape
    regions: tuple[Region, ...]


class Run(NamedTuple):
    """The elements [begin, end) of a stored tensor, counted in the order of its data."""

    source: str
    begin: int
    end: int


def stored(name: str, shape: Shape) -> Laid:
    """A stored tensor as itself."""
    nought = (0,) * len(shape)
    return Laid(shape, (Region(nought, shape, name, nought, tuple(range(len(shape)))),))


def regrouped(
    files: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
    memory: Mapping[str, Shape],
    feeds: Sequence[tuple[Feed, Feed]],
) -> Mapping[str, tuple[Run, ...]] | None:
    """Which elements of the tensors of files make up the wanted ones.

    None where a conversion changes more than the places of values, or where what the files have
    is not used up, each element once.

    Args:
        files: name -> shape of the tensors in the files.
        wanted: name -> shape of the tensors of the other form.
        memory: name -> shape of the tensors in memory.
        feeds: for every tensor in memory that is concerned, what the files and what the other form
            feed it with.
    """
    have = _followed((ours for ours, _ in feeds), files, memory)
    want = _followed((theirs for _, theirs in feeds), wanted, memory)
    if have is None or want is None or not want.keys() <= have.keys():
        return None
    runs: dict[str, list[tuple[int, Run]]] = defaultdict(list)
    count = 0
    for name in want:
        for target, at, run in _shared(have[name], want[name], files, wanted):
            runs[target].append((at, run))
            count += 1
            if count > _MOST_RUNS:
                return None
    found = {name: _in_order(each, math.prod(wanted[name])) for name, each in runs.items()}
    used = [run for each in found.values() if each for run in each]
    if None in found.values() or not _used_up(used, files):
        return None
    return {name: each for name, each in found.items() if each is not None}


def _followed(
    feeds: Iterable[Feed], shapes: Mapping[str, Shape], memory: Mapping[str, Shape]
) -> Mapping[str, Laid] | None:
    """What the feeds make of the tensors, by memory name; None where one cannot be followed."""
    found: dict[str, Laid] = {}
    for feed in {id(each): each for each in feeds}.values():  # one that is cut serves several
        tensors = {n: stored(n, shapes[n]) for names in feed.names.values() for n in names}
        made = moved(feed, tensors, memory, _LAYING)
        if made is None or any(memory.get(name) != each.shape for name, each in made.items()):
            return None
        found |= made
    return found


def _stacked(parts: Sequence[Laid], dim: int) -> Laid:
    shape = parts[0].shape
    regions = tuple(
        Region(
            (*r.at[:dim], i, *r.at[dim:]), (*r.size[:dim], 1, *r.size[dim:]), r.source, r.begin,
            tuple(axis + (axis >= dim) for axis in r.axes),
        )
        for i, part in enumerate(parts)
        for r in part.regions
    )  # fmt: skip
    return Laid((*shape[:dim], len(parts), *shape[dim:]), regions)


def _joined(parts: Sequence[Laid], dim: int) -> Laid:
    parts = [part for part in parts if part.shape != (0,)] or list(parts[:1])
    regions, begin = [], 0
    for part in parts:
        for r in part.regions:
            regions.append(r._replace(at=(*r.at[:dim], r.at[dim] + begin, *r.at[dim + 1 :])))
        begin += part.shape[dim]
    shape = parts[0].shape
    return Laid((*shape[:dim], begin, *shape[dim + 1 :]), tuple(regions))


def _cut(whole: Laid, dim: int, begin: int, size: int) -> Laid:
    regions = []
    for r in whole.regions:
        first, last = max(r.at[dim], begin), min(r.at[dim] + r.size[dim], begin + size)
        if first >= last:
            continue
        inner = list(r.begin)
        if dim in r.axes:
            inner[r.axes.index(dim)] += first - r.at[dim]
        regions.append(
            r._replace(
                at=(*r.at[:dim], first - begin, *r.at[dim + 1 :]),
                size=(*r.size[:dim], last - first, *r.size[dim + 1 :]),
                begin=tuple(inner),
            )
        )
    shape = whole.shape
    return Laid((*shape[:dim], size, *shape[dim + 1 :]), tuple(regions))


_LAYING = Ways(shape=lambda laid: laid.shape, stacked=_stacked, joined=_joined, cut=_cut)


def _shared(
    have: Laid, want: Laid, files: Mapping[str, Shape], wanted: Mapping[str, Shape]
) -> Iterator[tuple[str, int, Run]]:
    """(wanted tensor, first element in it, where those elements are) for one tensor in memory."""
    planes: dict[int, list[Region]] = defaultdict(list)  # those one deep in dimension 0, by index
    thick = []
    for region in have.regions:
        if region.size and region.size[0] == 1:
            planes[region.at[0]].append(region)
        else:
            thick.append(region)
    for a in want.regions:
        depth = range(a.at[0], a.at[0] + a.size[0]) if a.size else ()
        for b in itertools.chain(thick, *(planes.get(i, ()) for i in depth)):
            low = tuple(map(max, a.at, b.at))
            high = tuple(
                min(x + n, y + m) for x, n, y, m in zip(a.at, a.size, b.at, b.size, strict=True)
            )
            size = tuple(h - n for h, n in zip(high, low, strict=True))
            if all(n > 0 for n in size):
                yield from _ranges(a, b, low, size, wanted[a.source], files[b.source])


def _ranges(
    a: Region, b: Region, low: tuple[int, ...], size: tuple[int, ...], into: Shape, out_of: Shape
) -> Iterator[tuple[str, int, Run]]:
    """A box that lies in both regions as ranges without a gap in either tensor.

    No operation changes the order of dimensions, so it is the same in the tensor in memory and in
    both others.
    """
    there, here = _Place(a, low, into), _Place(b, low, out_of)
    dim = len(size)  # all dimensions from here on are whole in both
    while dim and there.whole(dim - 1, size[dim - 1]) and here.whole(dim - 1, size[dim - 1]):
        dim -= 1
    outer = max(dim - 1, 0)
    length = math.prod(size[outer:])
    for index in itertools.product(*map(range, size[:outer])):
        begin = here.element(index)
        yield a.source, there.element(index), Run(b.source, begin, begin + length)


class _Place:
    """A box within a stored tensor."""

    def __init__(self, region: Region, low: tuple[int, ...], shape: Shape) -> None:
        steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        self._extent = dict(zip(region.axes, shape, strict=True))
        self._step = dict(zip(region.axes, steps, strict=True))
        self._first = sum(
            (begin + low[axis] - region.at[axis]) * step
            for axis, begin, step in zip(region.axes, region.begin, steps, strict=True)
        )

    def whole(self, axis: int, extent: int) -> bool:
        """Whether a box of this extent has all of the stored tensor along a dimension."""
        return self._extent.get(axis, 1) == extent

    def element(self, index: tuple[int, ...]) -> int:
        """The number of an element, by its place in the box in the first dimensions."""
        return self._first + sum(i * self._step.get(axis, 0) for axis, i in enumerate(index))


def _in_order(runs: Sequence[tuple[int, Run]], size: int) -> tuple[Run, ...] | None:
    """The runs of one tensor one after the other; None where they leave a gap or overlap."""
    found: list[Run] = []
    at = 0
    for begin, run in sorted(runs):
        if begin != at:
            return None
        at += run.end - run.begin
        if found and (found[-1].source, found[-1].end) == (run.source, run.begin):
            found[-1] = found[-1]._replace(end=run.end)
        else:
            found.append(run)
    return tuple(found) if at == size else None


def _used_up(runs: Sequence[Run], files: Mapping[str, Shape]) -> bool:
    """Whether every element of the tensors that are used at all is used once."""
    ends: dict[str, int] = {}
    for source, begin, end in sorted(runs):
        if ends.get(source, 0) != begin:
            return False
        ends[source] = end
    return all(end == math.prod(files[source]) for source, end in ends.items())
