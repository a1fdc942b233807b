"""What the operations of transformers' loader do: stack, join, cut and permute tensors.

They are followed for whatever stands for a tensor (`Ways`): its shape, or the ranges of bytes that
it is made of. Source: the operations of core_model_loading.py in transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]
# Shapes, or what else stands for tensors (`Ways`), by source pattern (by target pattern at the
# end): a list as gathered, or one tensor.
Values = dict[str, Any]


class Failed(Exception):
    """The library would fail at this operation."""


class Unclear(Exception):
    """What the operation yields is not known here."""


class Ways(NamedTuple):
    """How tensors are put together and cut, for what stands for them: a shape, or more than that.

    Attributes:
        shape: of one.
        stacked: several along a new dimension.
        joined: several along a dimension they have.
        cut: one to `size` from `begin` on along a dimension.
    """

    shape: Callable[[Any], Shape]
    stacked: Callable[[Sequence[Any], int], Any]
    joined: Callable[[Sequence[Any], int], Any]
    cut: Callable[[Any, int, int, int], Any]


class Job(NamedTuple):
    """What an operation may ask for: the patterns, the first name in memory, the shapes there."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    name: str
    expected: Mapping[str, Shape]
    ways: Ways

    def only_target(self) -> str:
        """The target, where there has to be one. Raises Failed."""
        if len(self.targets) > 1:
            raise Failed("several targets for one result")
        return self.targets[0]


def _one(values: Values) -> Any:
    """The first tensor of the first pattern, which is all that some operations look at."""
    first = next(iter(values.values()))
    return first[0] if isinstance(first, list) else first


def _has(shape: Shape, dim: int) -> int:
    if not 0 <= dim < len(shape):
        raise Failed(f"a tensor of {len(shape)} dimensions has no dimension {dim}")
    return shape[dim]


def _with(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :])


def _stacked(shapes: Sequence[Shape], dim: int) -> Shape:
    if any(shape != shapes[0] for shape in shapes):
        raise Failed("the tensors to be stacked differ in shape")
    if not 0 <= dim <= len(shapes[0]):
        raise Failed(f"tensors of {len(shapes[0])} dimensions cannot be stacked along {dim}")
    return (*shapes[0][:dim], len(shapes), *shapes[0][dim:])


def _joined_shape(shapes: Sequence[Shape], dim: int) -> Shape:
    shapes = [shape for shape in shapes if shape != (0,)] or list(shapes[:1])
    if not shapes:
        raise Failed("nothing to be concatenated")
    total = sum(_has(shape, dim) for shape in shapes)
    if any(_with(shape, dim, 0) != _with(shapes[0], dim, 0) for shape in shapes):
        raise Failed("the tensors to be concatenated differ in their other dimensions")
    return _with(shapes[0], dim, total)


def _cut_shape(shape: Shape, dim: int, begin: int, size: int) -> Shape:
    return _with(shape, dim, size)


SHAPES = Ways(shape=lambda shape: shape, stacked=_stacked, joined=_joined_shape, cut=_cut_shape)


def _merge(values: Values, job: Job, dim: int = 0) -> Values:
    alone = len(values) == 1
    return {
        job.only_target() if alone else source: (
            job.ways.stacked(tensors, dim) if isinstance(tensors, list) else tensors
        )
        for source, tensors in values.items()
    }


def _concatenate(values: Values, job: Job, dim: int = 0, **_: object) -> Values:
    tensors: list[Any] = []
    for source in job.sources:
        gathered = values.get(source, [])
        tensors += gathered if isinstance(gathered, list) else [gathered]
    return {job.only_target(): job.ways.joined(tensors, dim)}


def _chunk(values: Values, job: Job, dim: int = 0, num_shards_attribute: str = "") -> Values:
    if num_shards_attribute:
        raise Unclear("the number of pieces depends on the config")
    if len(values) > 1:
        raise Failed("several tensors where one is to be cut")
    tensor = _one(values)
    whole, count = _has(job.ways.shape(tensor), dim), len(job.targets)
    size = -(-whole // count)
    starts = range(0, whole, size) if size else [0] * count
    return {
        target: job.ways.cut(tensor, dim, start, min(size, whole - start))
        for target, start in zip(job.targets, starts, strict=False)
    }


def _split(values: Values, job: Job, dim: int = 0) -> Values:
    if len(values) > 1:
        raise Failed("several tensors where one is to be cut")
    tensor = _one(values)
    shape: Shape = job.ways.shape(tensor)
    found: Values = {}
    total = 0
    for target in job.targets:
        wanted = job.expected.get(job.name.replace(job.targets[0], target))
        if wanted is None:
            raise Failed(f"the model has no {target}")
        found[target] = job.ways.cut(tensor, dim, total, _has(wanted, dim))
        total += _has(wanted, dim)
    if total != _has(shape, dim):
        raise Failed(f"{total} rows are wanted of dimension {dim}, which has {shape[dim]}")
    return found


def _transpose(
    values: Values, job: Job, dim0: int = 0, dim1: int = 1, check_dims: bool = False
) -> Values:
    if len(values) != 1:
        raise Failed("several tensors where one is to be transposed")
    if len(job.targets) > 1 and len(job.sources) > 1:
        raise Failed("several sources and several targets")
    shape = _one(values)
    if not check_dims or shape != job.expected.get(job.name):
        first, second = _has(shape, dim0), _has(shape, dim1)
        shape = _with(_with(shape, dim0, second), dim1, first)
    return {job.sources[0] if len(job.targets) > 1 else job.targets[0]: shape}


def _interleave(values: Values, job: Job, dim: int = 0, inverse: bool = False) -> Values:
    shape = _one(values)
    if _has(shape, dim) % 2:
        raise Failed(f"dimension {dim} has an odd size")
    return {job.targets[0]: shape}


def _permute(values: Values, job: Job, **_: object) -> Values:
    """Rows change their order, never the shape. Sizes that the heads do not divide fail there."""
    through = (len(job.targets) > 1) != (len(job.sources) > 1)
    if not through and (len(job.targets) > 1 or len(job.sources) > 1):
        raise Failed("several sources and several targets")
    return {
        source if through else job.targets[0]: (
            shapes[0] if isinstance(shapes, list) and shapes else shapes
        )
        for source, shapes in values.items()
    }


def _share_out(values: Values, job: Job, stack_dim: int = 0, concat_dim: int = 1) -> Values:
    """The experts of each source in equal runs, one run for each target."""
    found: dict[str, list[Shape]] = {}
    for source in job.sources:
        shapes = values.get(source)
        if not isinstance(shapes, list):
            raise Failed(f"nothing for {source}")
        run = -(-len(shapes) // len(job.targets))
        for at, target in enumerate(job.targets):
            part = shapes[at * run : (at + 1) * run]
            if not part:
                raise Failed(f"too few tensors for {source}")
            found.setdefault(target, []).append(_stacked(part, stack_dim))
    return {target: _joined_shape(shapes, concat_dim) for target, shapes in found.items()}


OPERATIONS: Mapping[str, Callable[..., Values]] = {
    "MergeModulelist": _merge,
    "Concatenate": _concatenate,
    "Chunk": _chunk,
    "Split": _split,
    "Transpose": _transpose,
    "Interleave": _interleave,
    "PermuteForRope": _permute,
    "ErnieFuseAndSplitTextVisionExperts": _share_out,
}
MOVING = frozenset({"MergeModulelist", "Concatenate", "Chunk", "Split"})
IN_ORDER = {"ErnieFuseAndSplitTextVisionExperts"}  # here the order of the experts matters
