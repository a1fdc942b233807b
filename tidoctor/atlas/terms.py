"""Expressions of the atlas as trees, each operation of which can be worked out alone."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidoctor.atlas.expression import Expression, parse


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A node of an expression.

    Attributes:
        kind: constant, name, item, length, and, or, not, if, whole (evaluated at once) or the
            name of an operator or function.
        parts: the operands.
        name: of the field, for name, item and length.
        value: of a constant.
        alone: the operation on operands `a0`, `a1`, ...
        names: the fields and indices that it reads.
    """

    kind: str
    parts: tuple[Term, ...] = ()
    name: str = ""
    value: object = None
    alone: Expression | None = None
    names: frozenset[str] = frozenset()


@functools.cache
def term(text: str) -> Term:
    """The tree of an expression, each text once."""
    return _term(ast.parse(text.strip(), mode="eval").body)


def _term(node: ast.expr) -> Term:
    match node:
        case ast.Constant(value=value):
            return Term("constant", value=value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return Term("constant", value=-value)
        case ast.Name() | ast.Attribute():
            name = ast.unparse(node)
            return Term("name", name=name, names=frozenset((name,)))
        case ast.Subscript(value=ast.Name() | ast.Attribute() as whole, slice=key) if not (
            isinstance(key, ast.Slice)
        ):
            return _over("item", (_term(key),), name=ast.unparse(whole))
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name() | ast.Attribute() as whole]):
            return _over("length", (), name=ast.unparse(whole))
        case ast.BoolOp(op=op, values=values):
            kind = "and" if isinstance(op, ast.And) else "or"
            return _over(kind, tuple(map(_term, values)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _over("not", (_term(operand),))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _over("if", (_term(test), _term(body), _term(orelse)))
        case ast.BinOp(left=left, op=op, right=right):
            return _operation(type(op).__name__, node, (left, right))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _operation(type(op).__name__, node, (left, right))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _operation(name, node, args)
    text = ast.unparse(node)
    return Term("whole", alone=parse(text), names=parse(text).names)


def _over(kind: str, parts: tuple[Term, ...], name: str = "", alone: Any = None) -> Term:
    names = frozenset((name,) if name else ()).union(*(part.names for part in parts))
    return Term(kind, parts, name, None, alone, names)


def _operation(kind: str, node: ast.expr, operands: Sequence[ast.expr]) -> Term:
    """An operation, and the same on operands that are given by name."""
    given = [
        operand if isinstance(operand, ast.Constant) else ast.Name(f"a{n}")
        for n, operand in enumerate(operands)
    ]
    shape: ast.expr
    match node:
        case ast.BinOp(op=op):
            shape = ast.BinOp(given[0], op, given[1])
        case ast.Compare(ops=ops):
            shape = ast.Compare(given[0], ops, [given[1]])
        case ast.Call(func=function):
            shape = ast.Call(function, list(given), [])
        case _:
            raise ValueError(ast.unparse(node))
    return _over(kind, tuple(map(_term, operands)), alone=parse(ast.unparse(shape)))
