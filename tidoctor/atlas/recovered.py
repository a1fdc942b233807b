"""What is told of the fields of a config that was read off shapes: values, and reasons for none."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from tidoctor.atlas.completing import given, worth
from tidoctor.atlas.configs import Resolved
from tidoctor.atlas.expression import Run, parse
from tidoctor.atlas.layout import Class
from tidoctor.atlas.solving import UNKNOWN, Literal, Solver

_TOLD = (64, 80, 96, 128, 256)  # sizes of a head for which the split is told
# Neither follows from names: a head may be lost, and a tied one may be stored all the same.
_TIED = "true, unless a head was lost: none is stored"
_UNTIED = "false, unless the stored head holds the values of the embedding"


def recovered(
    sure: Solver, of: Class, config: Resolved
) -> tuple[dict[str, object], dict[str, str]]:
    """(values of the fields that shapes fix, reasons of those that are read and are not fixed).

    Both by dotted path. `sure` holds what follows from the shapes, `config` is one under which the
    class has them. Fields that only decide over an activation or the like are in neither.
    """
    fields, undetermined = _fields(sure, config)
    for tie in of.ties:
        for name in sorted(tie.condition.names) if tie.condition else ():
            path = sure.fields.canonical(name)
            flag = fields.pop(path, None) if path in fields else given(config, path)
            if isinstance(flag, bool) and sure.fields.rule(path) is not None:
                undetermined[path] = _TIED if flag else _UNTIED
    return fields, undetermined


def _fields(sure: Solver, config: Resolved) -> tuple[dict[str, object], dict[str, str]]:
    fields: dict[str, object] = {}
    lists: set[str] = set()
    for (path, item), value in sure.known.items():
        if item is None:
            fields[path] = value
        else:
            lists.add(path)
    undetermined: dict[str, str] = {}
    open_: dict[str, list[Literal]] = {}
    for clause in sure.clauses:
        for literal in clause:
            for path, _ in sure.free(literal):
                open_.setdefault(path, []).append(literal)
    for path in sorted(lists - fields.keys()):
        length = sure.known.get((path, "len"))
        items = [sure.known.get((path, n)) for n in range(length)] if type(length) is int else []
        if items and None not in items:
            fields[path] = items
        else:
            open_.setdefault(path, [])
    for path, literals in open_.items():
        if path in fields:
            continue
        sizes = [each for each in literals if not isinstance(each.want, bool)]
        told = dict.fromkeys(filter(None, (_equation(each, config) for each in sizes)))
        if told:
            undetermined[path] = "; ".join(sorted(told, key=len)[:3])
        elif path in lists:
            undetermined[path] = "the tensors tell only a part of the list"
    _splits(undetermined, open_, config)
    return fields, undetermined


def _equation(literal: Literal, config: Resolved) -> str:
    """An expression with its value, without the branches that are not taken."""
    tree = ast.parse(literal.expression.text.strip(), mode="eval").body
    text = ast.unparse(_Taken(literal, config).visit(tree))
    if not parse(text).names:
        return ""
    for variable, number in literal.indices:
        text = re.sub(rf"\b{variable}\b", str(number), text)
    return f"{text if len(text) <= 120 else text[:117] + '...'} = {literal.want}"


class _Taken(ast.NodeTransformer):
    """Leaves of each condition the branch that a config takes."""

    def __init__(self, literal: Literal, config: Resolved) -> None:
        self.literal, self.config = literal, config

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        if isinstance(node.test, ast.Name):  # `... if head_dim else ...`: if it is given
            return self.visit(node.body)  # type: ignore[no-any-return]
        test = self.literal._replace(expression=parse(ast.unparse(node.test)))
        value = worth(test, self.config, Run({}, 10_000))
        if value is UNKNOWN:
            return node
        taken: ast.AST = self.visit(node.body if value else node.orelse)
        return taken


def _splits(
    undetermined: dict[str, str], open_: Mapping[str, list[Literal]], config: Resolved
) -> None:
    """To the size of a head, how many heads there would be with the usual sizes."""
    for path in undetermined:
        if not path.endswith("head_dim"):
            continue
        products = {
            literal.want
            for literal in open_.get(path, ())
            if re.fullmatch(r"[\w.]+ \* [\w.]+ = \d+", _equation(literal, config))
        }
        sizes = [n for n in _TOLD if products and all(product % n == 0 for product in products)]
        if sizes:
            ways = ", ".join(
                f"{n} ({' and '.join(str(p // n) for p in sorted(products, reverse=True))} heads)"
                for n in sizes
            )
            undetermined[path] += f"; usual sizes that divide: {ways}"
