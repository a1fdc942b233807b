"""Points at which something was observed, and what expressions are worth there.

A point is a sample (its config values) and the positions in lists of layers. Expressions are
Python source over dotted field names; they come from the library's own arithmetic, so they are
evaluated with `eval`, here and only here.
"""

from __future__ import annotations

import ast
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

VARIABLES = ("i", "j", "k", "l")
_FUNCTIONS = {
    "__builtins__": {},
    "len": len,
    "count": lambda value: 1 if isinstance(value, int) else len(value),
    "int": int,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "max": max,
    "min": min,
    "sum": sum,
    "abs": abs,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "prod": math.prod,
    "bool": bool,
    "str": str,
    "range": range,
}


class NoFit(Exception):
    """Nothing in the vocabulary explains the observations."""


class _Wrong:
    """The value of an expression that cannot be evaluated at a point."""


WRONG = _Wrong()


class _Lacking:
    """Stands for a field that there is not: it refuses to be worked with."""

    def __bool__(self) -> bool:
        raise KeyError

    def __eq__(self, other: object) -> bool:
        raise KeyError

    __hash__ = None  # type: ignore[assignment]


class Patience:
    """How long fitting may go on: some classes have no form of our kind, however long we look.

    Counted in processor time, so that a busy machine learns the same as an idle one.
    """

    until = float("inf")
    step_until = float("inf")
    asked = 0
    SELDOM = 16  # asking for the processor time costs more than what most callers do in between

    @classmethod
    def seconds(cls, number: float) -> None:
        """Start the clock."""
        cls.until = time.process_time() + number
        cls.step_until = cls.until

    @classmethod
    def step(cls, number: float) -> None:
        """Start the clock of one step: what takes longer fails, and not what comes after it."""
        cls.step_until = min(cls.until, time.process_time() + number)

    @classmethod
    def check(cls) -> None:
        """Raise NoFit when the time is up."""
        cls.asked += 1
        if cls.asked % cls.SELDOM == 0 and time.process_time() > cls.step_until:
            raise NoFit("out of time")


class _Dots(ast.NodeTransformer):
    """`a.b.c` as one name."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.copy_location(ast.Name(id=ast.unparse(node), ctx=ast.Load()), node)


@functools.lru_cache(maxsize=200_000)
def compiled(text: str) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
    """An expression as a function, and the names of its arguments; None where it is none."""
    try:
        body = _Dots().visit(ast.parse(text, mode="eval")).body
    except (SyntaxError, RecursionError, MemoryError):
        return None
    read = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    bound = {node.id for node in ast.walk(body)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}  # fmt: skip
    names = tuple(sorted(read - bound - _FUNCTIONS.keys()))
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=name) for name in names], kwonlyargs=[],
        kw_defaults=[], defaults=[],
    )  # fmt: skip
    whole = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    function: Callable[..., Any] = eval(compile(whole, "<fact>", "eval"), dict(_FUNCTIONS))

    def carefully(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception:
            return WRONG

    return carefully, names


class Universe:
    """Points (sample, positions) and the values of expressions at them."""

    def __init__(self, values: Sequence[Mapping[str, Any]], points: Sequence[tuple[int, ...]]):
        """Points are tuples: index of the sample in `values`, then the positions."""
        self.values = values
        self.points = list(points)
        self.variables = len(points[0]) - 1 if points else 0
        self.where = {point: at for at, point in enumerate(self.points)}
        self._known: dict[str, list[Any]] = {}
        self._columns: dict[str, list[Any] | None] = {}

    def evaluate(self, text: str) -> list[Any]:
        """The expression's value at every point."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._everywhere(text)
        return known

    def _everywhere(self, text: str) -> list[Any]:
        code = compiled(text)
        if code is None:
            return [WRONG] * len(self.points)
        function, names = code
        columns: list[list[Any]] = []
        for name in names:
            column = self._column(name)
            if column is None:
                return [self._at(text, point) for point in self.points]
            columns.append(column)
        if not columns:
            return [function()] * len(self.points)
        return list(map(function, *columns))

    def _column(self, name: str) -> list[Any] | None:
        """The values of a name at every point, None where some point has none."""
        if name not in self._columns:
            try:
                self._columns[name] = [self._value(name, point) for point in self.points]
            except KeyError:
                self._columns[name] = None
        return self._columns[name]

    def _value(self, name: str, point: tuple[int, ...]) -> Any:
        if name in VARIABLES and VARIABLES.index(name) < len(point) - 1:
            return point[1 + VARIABLES.index(name)]
        return self.values[point[0]][name]

    def truth(self, text: str) -> np.ndarray[Any, Any] | None:
        """Truth at every point, None where it cannot be evaluated at some point."""
        found = self.evaluate(text)
        if any(each is WRONG for each in found):
            return None
        return np.fromiter((bool(each) for each in found), dtype=bool, count=len(found))

    def _at(self, text: str, point: tuple[int, ...]) -> Any:
        code = compiled(text)
        if code is None:
            return WRONG
        function, names = code
        try:
            values = [self._value(name, point) for name in names]
        except KeyError:  # that may not matter where a condition decides
            return self._unsure(function, names, point)
        return function(*values)

    def _unsure(
        self, function: Callable[..., Any], names: Sequence[str], point: tuple[int, ...]
    ) -> Any:
        """The value at a point that lacks a field, if it is the same whatever the field."""
        found = []
        for other in (_Lacking(), None):
            values = []
            for name in names:
                try:
                    values.append(self._value(name, point))
                except KeyError:
                    values.append(other)
            found.append(function(*values))
        return found[0] if same(found[0], found[1]) else WRONG

    def first_fit(self, text: str, at: Sequence[int], wanted: Sequence[Any]) -> bool:
        """Whether an expression gives the wanted values at some of the points."""
        known = self._known.get(text)
        if known is None:
            # Most candidates fail at once: look at a few points before evaluating all.
            for place, value in zip(at[:4], wanted[:4], strict=False):
                if not same(self._at(text, self.points[place]), value):
                    return False
            known = self.evaluate(text)
        return all(same(known[place], value) for place, value in zip(at, wanted, strict=True))


def same(found: Any, wanted: Any) -> bool:
    """Equal and of one kind (True is not 1)."""
    return type(found) is type(wanted) and bool(found == wanted)
