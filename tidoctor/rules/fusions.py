"""Projections that are stored as one matrix where the class has several, or the reverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tidoctor.rules.fitting import Shape, Shapes

# Leaves of one module that other programs join along their rows.
_JOINED = (
    frozenset({"q_proj", "k_proj", "v_proj"}),
    frozenset({"query", "key", "value"}),
    frozenset({"gate_proj", "up_proj"}),
    frozenset({"k_proj", "v_proj"}),
)


class Fusion(NamedTuple):
    """One group: names in the files, and the names on disk that they would have to become."""

    stored: tuple[str, ...]
    needed: tuple[str, ...]

    @property
    def fused(self) -> bool:
        """Whether the files hold one tensor for several."""
        return len(self.stored) < len(self.needed)


def fusions(missing: Shapes, left: Shapes) -> Iterator[Fusion]:
    """The groups among missing and left over tensors whose rows add up."""
    for joined, apart, fused in ((left, missing, True), (missing, left, False)):
        groups = _groups(apart)
        for name, shape in joined.items():
            module, leaf, kind = _split(name)
            for leaves in _JOINED:
                parts = groups.get((module, kind), {})
                if leaf in leaves or not leaves <= parts.keys():
                    continue
                chosen = {f"{module}{p}{kind}": parts[p] for p in sorted(leaves)}
                if _adds_up(shape, chosen.values()):
                    one, many = (name,), tuple(chosen)
                    yield Fusion(one, many) if fused else Fusion(many, one)
                    break


def _groups(names: Shapes) -> Mapping[tuple[str, str], dict[str, Shape]]:
    found: dict[tuple[str, str], dict[str, Shape]] = {}
    for name, shape in names.items():
        module, leaf, kind = _split(name)
        found.setdefault((module, kind), {})[leaf] = shape
    return found


def _split(name: str) -> tuple[str, str, str]:
    """`a.b.q_proj.weight` as ("a.b.", "q_proj", ".weight")."""
    front, _, kind = name.rpartition(".")
    module, dot, leaf = front.rpartition(".")
    return module + dot, leaf, f".{kind}"


def _adds_up(whole: Shape, parts: Iterable[Shape]) -> bool:
    parts = list(parts)
    if not whole or any(len(p) != len(whole) or p[1:] != whole[1:] for p in parts):
        return False
    return sum(p[0] for p in parts) == whole[0]
