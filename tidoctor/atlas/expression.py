"""The small language in which the atlas says sizes and conditions.

A subset of Python's expressions: names (dotted for sub-configs), literals, arithmetic,
comparisons, conditions, subscripts, a few functions and list comprehensions of one variable.
A text is parsed once, held against the whitelist and turned into closures; nothing is ever
handed to `eval`. The texts are the project's own, the values they read are not: they come
from somebody's config.json, so every step is bounded.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# What gives a name its value: a function that raises NotCovered for unknown names, or a mapping.
Scope = Callable[[str], object] | Mapping[str, object]

LARGEST = 2**63  # of an integer, in amount; no tensor has as many values
LONGEST = 100_000  # characters of a string, items of a list
STEPS = 1_000_000  # items looked at before an evaluation is given up
_DEEPEST = 40  # nesting of a text
_WIDEST = 100_000  # characters of a text


class NotCovered(Exception):
    """The atlas does not know, and says in one line why."""

    @property
    def reason(self) -> str:
        """The sentence."""
        return str(self)


class Expression:
    """A parsed text.

    Attributes:
        text: what was parsed.
        names: the names it may read, `text_config.hidden_size` as one; not those that a
            comprehension binds.
    """

    __slots__ = ("_run", "names", "text")

    def __init__(self, text: str) -> None:
        """Raise ValueError for a text outside of the language."""
        self.text = text
        self._run, self.names = _compiled(text)

    def value(self, scope: Scope | Run) -> Any:
        """What the text is worth. Raises NotCovered where that cannot be told.

        Expressions that are given the same `Run` share what it may spend.
        """
        try:
            return self._run(scope if isinstance(scope, Run) else Run(scope))
        except NotCovered:
            raise
        except ZeroDivisionError:
            problem = "a division by zero"
        except (IndexError, KeyError):
            problem = "there is no such item"
        except OverflowError:
            problem = "a number too large"
        except RecursionError:
            problem = "values nested too deeply"
        except (TypeError, ValueError, ArithmeticError):
            problem = "a value of an unfit type"
        raise NotCovered(f"{self} cannot be worked out: {problem}")

    def __str__(self) -> str:
        short = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        return f"`{short}`"

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


@functools.cache
def parse(text: str) -> Expression:
    """The expression of a text, each text once. Raises ValueError outside of the language."""
    return Expression(text)


class Run:
    """One evaluation or several: where names get their values, and what may still be spent."""

    __slots__ = ("left", "look")

    def __init__(self, scope: Scope, steps: int = STEPS) -> None:
        self.look = scope if callable(scope) else _in_mapping(scope)
        self.left = steps

    def spend(self, steps: int) -> None:
        """Account for that many steps. Raises NotCovered when there are none left."""
        self.left -= steps
        if self.left < 0:
            raise NotCovered("working it out would take too many steps")

    def walk(self, value: object) -> None:
        """Account for walking through a value."""
        if isinstance(value, str | list | tuple | range | Mapping):
            self.spend(len(value))


_Code = Callable[[Run], Any]


def _in_mapping(scope: Mapping[str, object]) -> Callable[[str], object]:
    def look(name: str) -> object:
        if name in scope:
            return scope[name]
        value: object = scope
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise NotCovered(f"nothing is known of `{name}`")
            value = value[part]
        return value

    return look


# --- bounds --------------------------------------------------------------------------------------


def _bounded(value: Any) -> Any:
    """The value, unless it is larger than anything a config can mean."""
    kind = type(value)
    if kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise NotCovered("a number is too large")
    elif kind is str or kind is list or kind is tuple or kind is range:
        if len(value) > LONGEST:
            raise NotCovered(f"more than {LONGEST} items")
    elif kind is complex:
        raise TypeError
    return value


def _numbers(*values: object) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise TypeError


def _sequence(value: Any) -> Any:
    if not isinstance(value, str | list | tuple | range):
        raise TypeError
    return value


# --- operators -----------------------------------------------------------------------------------


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, int | float):
        _numbers(b)
    elif type(a) is not type(b) or type(a) not in (str, list, tuple):
        raise TypeError
    return a + b


def _multiply(a: Any, b: Any) -> Any:
    for items, times in ((a, b), (b, a)):
        if type(items) in (str, list, tuple):
            if not isinstance(times, int):
                raise TypeError
            if len(items) * max(times, 0) > LONGEST:
                raise NotCovered(f"more than {LONGEST} items")
            return items * times
    _numbers(a, b)
    return a * b


def _power(a: Any, b: Any) -> Any:
    _numbers(a, b)
    # A base of n bits is at least 2 ** (n - 1) in amount.
    if isinstance(a, int) and isinstance(b, int) and b > 0 and (a.bit_length() - 1) * b > 64:
        raise NotCovered("a number is too large")
    return a**b


def _of_numbers(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def operated(a: Any, b: Any) -> Any:
        _numbers(a, b)
        return operate(a, b)

    return operated


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _add,
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _multiply,
    ast.Div: _of_numbers(operator.truediv),
    ast.FloorDiv: _of_numbers(operator.floordiv),
    ast.Mod: _of_numbers(operator.mod),  # of a string it would be formatting
    ast.Pow: _power,
}


def _contains(a: Any, b: Any) -> bool:
    if not isinstance(b, str | list | tuple | range | Mapping):
        raise TypeError
    return a in b


_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _contains,
    ast.NotIn: lambda a, b: not _contains(a, b),
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


# --- functions -----------------------------------------------------------------------------------


def _len(value: Any) -> int:
    return len(value if isinstance(value, Mapping) else _sequence(value))


def _count(value: Any) -> int:
    """One for a number; a field may also list several."""
    if isinstance(value, list | tuple | range):
        return len(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return 1


def _int(value: Any) -> int:
    if not isinstance(value, int | float | str):
        raise TypeError
    return int(value)


def _number(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def of(value: Any) -> Any:
        _numbers(value)
        return function(value)

    return of


def _round(value: Any, digits: Any = None) -> Any:
    _numbers(value)
    if digits is None:
        return round(value)
    if not isinstance(digits, int) or not -20 <= digits <= 20:  # 10 ** digits is computed
        raise TypeError
    return round(value, digits)


def _extreme(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def of(*values: Any) -> Any:
        return function(_sequence(values[0]) if len(values) == 1 else values)

    return of


def _sum(values: Any) -> Any:
    if isinstance(values, str):
        raise TypeError
    _numbers(*_sequence(values))
    return sum(values)


def _prod(values: Any) -> Any:
    if isinstance(values, str):
        raise TypeError
    _numbers(*_sequence(values))
    product = 1
    for value in values:
        product = _bounded(product * value)
    return product


def _str(value: Any) -> str:
    if value is not None and not isinstance(value, int | float | str):
        raise TypeError
    return str(value)


def _range(*bounds: Any) -> range:
    for bound in bounds:
        if not isinstance(bound, int):
            raise TypeError
    return range(*bounds)  # its length is asked for where results are bounded


# name -> function, fewest and most arguments
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "len": (_len, 1, 1),
    "count": (_count, 1, 1),
    "int": (_int, 1, 1),
    "ceil": (_number(math.ceil), 1, 1),
    "floor": (_number(math.floor), 1, 1),
    "round": (_round, 1, 2),
    "max": (_extreme(max), 1, 20),
    "min": (_extreme(min), 1, 20),
    "sum": (_sum, 1, 1),
    "prod": (_prod, 1, 1),
    "abs": (_number(abs), 1, 1),
    "sqrt": (_number(math.sqrt), 1, 1),
    "log2": (_number(math.log2), 1, 1),
    "bool": (bool, 1, 1),
    "str": (_str, 1, 1),
    "range": (_range, 1, 3),
}


# --- from text to closures -----------------------------------------------------------------------


def _compiled(text: str) -> tuple[_Code, frozenset[str]]:
    if len(text) > _WIDEST:
        raise ValueError(f"an expression of {len(text)} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        compiler = _Compiler()
        return compiler.code(tree.body, frozenset(), 0), frozenset(compiler.names)
    except (SyntaxError, RecursionError, MemoryError) as e:
        raise ValueError(f"not an expression: {text[:200]!r}") from e


class _Compiler:
    """Turns a syntax tree into closures and collects the names it reads."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def code(self, node: ast.expr, bound: frozenset[str], depth: int) -> _Code:
        """The closure of a node; `bound` are the variables of comprehensions around it."""
        if depth > _DEEPEST:
            raise ValueError(f"an expression nested more than {_DEEPEST} levels deep")
        one: Callable[[ast.expr], _Code] = functools.partial(
            self.code, bound=bound, depth=depth + 1
        )
        match node:
            case ast.Constant(value=value) if value is None or type(value) in _LITERALS:
                _check_literal(value)
                return lambda run: value
            case ast.Name() | ast.Attribute():
                return self._name(_dotted(node), bound)
            case ast.List(elts=items):
                codes = [one(item) for item in items]
                return lambda run: [code(run) for code in codes]
            case ast.Tuple(elts=items):
                codes = [one(item) for item in items]
                return lambda run: tuple([code(run) for code in codes])
            case ast.UnaryOp(op=op, operand=operand):
                return _unary(op, one(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _binary(_BINARY[type(op)], one(left), one(right))
            case ast.BoolOp(op=op, values=values):
                return _junction(isinstance(op, ast.And), [one(value) for value in values])
            case ast.Compare(left=left, ops=ops, comparators=rights):
                _check_identity(ops, rights)
                links = [
                    (_COMPARISONS[type(op)], one(right))
                    for op, right in zip(ops, rights, strict=True)
                ]
                return _comparison(one(left), links)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                asked, yes, no = one(test), one(body), one(orelse)
                return lambda run: yes(run) if asked(run) else no(run)
            case ast.Subscript(value=whole, slice=ast.Slice(lower=a, upper=b, step=c)):
                ends = [one(end) if end else None for end in (a, b, c)]
                return _slice(one(whole), ends)
            case ast.Subscript(value=whole, slice=key):
                return _item(one(whole), one(key))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                function, fewest, most = FUNCTIONS[name]
                if not fewest <= len(args) <= most:
                    raise ValueError(f"{name} with {len(args)} arguments")
                return _call(function, [one(argument) for argument in args])
            case ast.ListComp(
                elt=element,
                generators=[ast.comprehension(target=ast.Name(id=name), iter=items, ifs=ifs)],
            ):
                inner = bound | {name}
                return _comprehension(
                    name,
                    one(items),
                    [self.code(test, inner, depth + 1) for test in ifs],
                    self.code(element, inner, depth + 1),
                )
        raise ValueError(f"not part of the language: {ast.unparse(node)[:200]!r}")

    def _name(self, name: str, bound: frozenset[str]) -> _Code:
        if name.partition(".")[0] in bound and name not in bound:
            raise ValueError(f"a variable has no attributes: {name!r}")
        if name not in bound:
            self.names.add(name)

        def named(run: Run) -> Any:
            value = run.look(name)
            if type(value) is int and not -LARGEST <= value <= LARGEST:
                raise NotCovered(f"`{name}` is too large a number")
            return value

        return named


_LITERALS = (int, float, str, bool)


def _check_literal(value: object) -> None:
    try:
        _bounded(value)
    except NotCovered as e:
        raise ValueError(f"a literal: {e}") from e


def _check_identity(ops: Sequence[ast.cmpop], rights: Sequence[ast.expr]) -> None:
    """`is` has a meaning only for None, True and False."""
    for op, right in zip(ops, rights, strict=True):
        if isinstance(op, ast.Is | ast.IsNot):
            single = isinstance(right, ast.Constant) and (
                right.value is None or isinstance(right.value, bool)
            )
            if not single:
                raise ValueError(f"`is` with {ast.unparse(right)[:200]!r}")


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=name) if not name.startswith("__"):
            return f"{_dotted(inner)}.{name}"
    raise ValueError(f"not a name: {ast.unparse(node)[:200]!r}")


def _unary(op: ast.unaryop, operand: _Code) -> _Code:
    if isinstance(op, ast.Not):
        return lambda run: not operand(run)
    if not isinstance(op, ast.UAdd | ast.USub):
        raise ValueError("an operator that is not part of the language")
    sign = operator.neg if isinstance(op, ast.USub) else operator.pos

    def signed(run: Run) -> Any:
        value = operand(run)
        _numbers(value)
        return sign(value)

    return signed


def _binary(operate: Callable[[Any, Any], Any], left: _Code, right: _Code) -> _Code:
    def evaluate(run: Run) -> Any:
        result = _bounded(operate(left(run), right(run)))
        if type(result) is not int:
            run.walk(result)
        return result

    return evaluate


def _junction(all_of_them: bool, codes: Sequence[_Code]) -> _Code:
    def evaluate(run: Run) -> Any:
        value: Any = None
        for code in codes:
            value = code(run)
            if bool(value) is not all_of_them:
                break
        return value

    return evaluate


def _comparison(first: _Code, links: Sequence[tuple[Callable[[Any, Any], bool], _Code]]) -> _Code:
    def evaluate(run: Run) -> bool:
        left = first(run)
        for compare, code in links:
            right = code(run)
            if type(right) is not int:
                run.walk(right)
            if not compare(left, right):
                return False
            left = right
        return True

    return evaluate


def _slice(whole: _Code, ends: Sequence[_Code | None]) -> _Code:
    def evaluate(run: Run) -> Any:
        value = _sequence(whole(run))
        part = value[slice(*(end(run) if end else None for end in ends))]
        run.walk(part)
        return part

    return evaluate


def _item(whole: _Code, key: _Code) -> _Code:
    def evaluate(run: Run) -> Any:
        value = whole(run)
        return _bounded((value if isinstance(value, Mapping) else _sequence(value))[key(run)])

    return evaluate


def _call(function: Callable[..., Any], arguments: Sequence[_Code]) -> _Code:
    def evaluate(run: Run) -> Any:
        values = [argument(run) for argument in arguments]
        for value in values:
            run.walk(value)
        return _bounded(function(*values))

    return evaluate


def _comprehension(name: str, items: _Code, tests: Sequence[_Code], element: _Code) -> _Code:
    def evaluate(run: Run) -> list[Any]:
        values = _bounded(_sequence(items(run)))
        run.walk(values)
        outer, found = run.look, []
        bound: dict[str, Any] = {}
        run.look = lambda asked: bound[name] if asked == name else outer(asked)
        try:
            for bound[name] in values:
                if all(test(run) for test in tests):
                    found.append(element(run))
        finally:
            run.look = outer
        return found

    return evaluate
