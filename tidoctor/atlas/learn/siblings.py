"""What one tensor of a module says of another: a bias follows its weight.

A bias that exists rarely is seen under few sizes and few layer kinds, and is then explained by
whatever fits those: a number, or half of its condition. Its weight is seen more often. Wherever
there is a bias there is the weight, and its size is one of the weight's (the first, the second
where the module keeps its weight transposed), so what is known of the weight is put in.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tidoctor.atlas.learn.write import HOLDING, compared_in

Row = Mapping[str, Any]
_INDEX = re.compile(r"(?<![\w.])[ijkl](?![\w.])")
_FOLLOWING = re.compile(r"(.*\.)(bias|running_mean|running_var)")


def parsed(given: Any) -> tuple[list[str], str] | None:
    """Shape and condition of a row ("" for none); None where a name has several rows."""
    if isinstance(given, dict):
        return list(given["shape"]), str(given.get("if", ""))
    if isinstance(given, list) and not (given and isinstance(given[0], dict)):
        return list(given), ""
    return None


def written(shape: list[str], condition: str) -> Any:
    """A row of the data file."""
    return {"shape": shape, "if": condition} if condition else shape


def both(one: str, other: str) -> str:
    """That two conditions hold; "" is one that always holds."""
    if not one or not other or one == other:
        return one or other
    if one in conjuncts(other):
        return other
    if other in conjuncts(one):
        return one
    return " and ".join(f"({each})" if " " in each else each for each in (one, other))


@functools.cache
def conjuncts(text: str) -> frozenset[str]:
    """The conditions that all have to hold for one to hold, itself included."""
    found: set[str] = set()
    left = [ast.parse(text, mode="eval").body]
    while left:
        node = left.pop()
        found.add(ast.unparse(node))
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            left += node.values
    return frozenset({*found, text})


@functools.cache
def atoms(condition: str) -> frozenset[str]:
    """The conjuncts of a condition that are no conjunctions themselves."""
    found = conjuncts(condition)
    return frozenset(each for each in found if len(conjuncts(each) - {each}) == 0) or found


def implied(condition: str, by: str) -> bool:
    """Whether one condition is plainly part of another."""
    return not condition or (bool(by) and atoms(condition) <= conjuncts(by))


def followed(layout: Row) -> dict[str, Any]:
    """A layout in which each bias follows its weight."""
    tensors = dict(layout.get("tensors", {}))
    rows = {name: row for name, given in tensors.items() if (row := parsed(given))}
    pairs = [
        (name, match[1] + "weight")
        for name in rows
        if (match := _FOLLOWING.fullmatch(name)) and match[1] + "weight" in rows
    ]
    # Which dimension of a weight its bias has, where the two are spelled alike.
    turns = Counter(
        axis
        for name, weight in pairs
        for axis, text in enumerate(rows[weight][0][:2])
        if rows[name][0] == [text] and len(set(rows[weight][0][:2])) == 2
    )
    for name, weight in pairs:
        (shape, condition), (sizes, present) = rows[name], rows[weight]
        if len(shape) != 1 or not sizes:
            continue
        axis = 1 if turns[1] > turns[0] and len(sizes) > 1 else 0
        # One or two are sizes of their own: a transposed convolution onto one channel.
        if condition and re.fullmatch(r"\d\d+", shape[0]) and not sizes[axis].isdigit():
            shape = [sizes[axis]]
        # A bias without condition may stand beside a weight that is made in another way.
        if condition and not implied(present, condition) and "tie" not in present:
            flags = [each for each in sorted(atoms(condition)) if not _INDEX.search(each)]
            if flags and _INDEX.search(present):  # whether there is a bias is no matter of layers
                condition = functools.reduce(both, flags)
            condition = both(present, condition)
        if (shape, condition) != rows[name]:
            tensors[name] = written(shape, condition)
    return dict(layout) | {"tensors": tensors}


_LENGTH = re.compile(r"len\(([\w.]+)\) == (\d+)")
_MEMBER = re.compile(r"([A-Za-z_][\w.]*)\[(\d+)\]")


def of_length(layout: Row) -> tuple[dict[str, Any], dict[str, int]]:
    """A layout without rows for lists of another length, and field -> length that it holds for.

    A kernel given as a list makes a weight of that rank; other ranks are seen in one size only.
    """
    tensors = dict(layout.get("tensors", {}))
    lengths: dict[str, int] = {}
    for name, given in tensors.items():
        if not (isinstance(given, list) and given and isinstance(given[0], dict)):
            continue
        for row in given:
            match = _LENGTH.fullmatch(row.get("if", ""))
            if match and any(each.get("if") == f"not {match[0]}" for each in given):
                lengths[match[1]] = int(match[2])
                for text in row["shape"]:
                    for field, at in _MEMBER.findall(text):
                        lengths[field] = max(lengths.get(field, 0), int(at) + 1)
                tensors[name] = row["shape"]
                break
    return dict(layout) | {"tensors": tensors}, lengths


def loose_activations(layout: Row) -> Iterator[str]:
    """Fields of activations whose parameters are claimed in more places than their module is."""
    rows = {name: row for name, given in layout.get("tensors", {}).items()
            if (row := parsed(given))}  # fmt: skip
    claims = [(name, c, fields) for name, (_, c) in rows.items() if (fields := activations(c))]
    for name, condition, fields in claims:
        module = name.rpartition(".")[0].rpartition(".")[0] + "."
        others = {
            other for n, (_, other) in rows.items()
            if n.startswith(module) and not activations(other)
        }  # fmt: skip
        if others and all(others):
            shared = frozenset.intersection(*(atoms(each) for each in others))
            if not shared <= conjuncts(condition):
                yield from fields


@functools.cache
def activations(condition: str) -> tuple[str, ...]:
    """The fields that a condition compares with activations that hold parameters."""
    if not any(f"'{each}'" in condition for each in HOLDING):
        return ()
    return tuple(path for path, words in compared_in(condition).items() if HOLDING & words)


def sound(row: Row) -> dict[str, Any]:
    """The facts about a class in which each tensor agrees with the others of its module."""
    made = dict(row)
    for form in ("memory", "disk"):
        if "tensors" in row.get(form, {}):
            made[form], lengths = of_length(followed(row[form]))
            if lengths:
                made["lengths"] = made.get("lengths", {}) | lengths
            for path in loose_activations(row[form]):
                words = made.get("pinned", {}).get(path)
                if words:
                    kept = [each for each in words if each not in HOLDING]
                    made["pinned"] = made["pinned"] | {path: kept}
    return made


def borrowed(row: Row, kin: Row, before: str, after: str) -> dict[str, Any]:
    """Facts about a class with the rows of its head or body put in place of its own.

    Args:
        row: the facts.
        kin: those of the other class.
        before: prefix of the names in the class that is none in its kin.
        after: prefix of the names in the kin that is none in the class.
    """
    made = dict(row)
    for form in ("memory", "disk"):
        theirs = kin.get(form, {}).get("tensors", {})
        tensors = dict(row.get(form, {}).get("tensors", {}))
        for name in tensors:
            if name.startswith(before):
                tensors[name] = theirs.get(after + name.removeprefix(before), tensors[name])
        if tensors:
            made[form] = dict(row[form]) | {"tensors": tensors}
    return made
