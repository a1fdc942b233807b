"""Expressions read backwards: which values of fields make them come out as observed.

`Solver` holds clauses, each saying that an expression of a layout has some value, and draws from
them what follows for the fields of the config, and nothing that does not: every value in
`Solver.known` is the only one that the clauses allow. Fields that only occur together (the two
factors of a product) stay unknown. A field is an `Atom`; so are the items of a list and its
length, since a layout often tells some of them and not the others.

Every step is accounted for in a `Run` that the caller gives, so that no input takes long.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tidoctor.atlas import data
from tidoctor.atlas.expression import Expression, NotCovered, Run, parse
from tidoctor.atlas.terms import Term, term

Atom = tuple[str, int | str | None]
"""A field by its dotted path with None, its n-th item with n, its length with "len"."""

_MOST = 2**40  # the largest number that a field can hold
_MOST_TRIED = 64  # values of one field that are tried one by one
_MOST_ITEMS = 100_000


class Contradiction(Exception):
    """No config gives what was observed."""


class Literal(NamedTuple):
    """That an expression has a value (a size, a count) or a truth.

    Attributes:
        expression: of a layout.
        at: the dotted path of the config it reads, with a dot at its end; "" for the root.
        indices: index variables and their values.
        want: a whole number, or true or false.
    """

    expression: Expression
    at: str
    indices: tuple[tuple[str, int], ...]
    want: int | bool


Clause = tuple[Literal, ...]
"""Statements of which at least one holds."""


class Unknown:
    """What is not known yet; there is one."""


UNKNOWN = Unknown()


# --- what is known of the fields of a config -----------------------------------------------------


class Fields:
    """The rules of the fields of one config, sub-configs included.

    Raises NotCovered for a model type that was not learned.
    """

    def __init__(self, source: data.Data, model_type: str, types: Mapping[str, str]) -> None:
        self._data = source
        self._types = {"": model_type, **types}
        self._rules: dict[str, tuple[str, Any]] = {}
        source.config(model_type)

    def model_type(self, path: str) -> str | None:
        """The model type of the sub-config at a path, None where there is none."""
        if path in self._types:
            return self._types[path]
        above, _, name = path.rpartition(".")
        outer = self.model_type(above) if path else None
        found = None
        if outer is not None:
            part = self._data.config(outer).get("parts", {}).get(name)
            found = part.get("type") if part else None
        if isinstance(found, str):
            self._types[path] = found
        return found if isinstance(found, str) else None

    def rule(self, path: str) -> Mapping[str, Any] | None:
        """How a field gets its value, None for a name that is no field."""
        if path not in self._rules:
            at, _, name = path.rpartition(".")
            owner = self.model_type(at)
            facts: Mapping[str, Any] = {} if owner is None else self._data.config(owner)
            name = facts.get("aliases", {}).get(name, name)
            rule = facts.get("fields", {}).get(name)
            if isinstance(rule, str):
                rule = {"default": rule}
            self._rules[path] = (f"{at}.{name}" if at else name, rule)
        return self._rules[path][1]  # type: ignore[no-any-return]

    def part_default(self, path: str) -> Mapping[str, Any]:
        """What the sub-config at a path holds where the file has none; empty where nothing."""
        above, _, name = path.rpartition(".")
        outer = self.model_type(above)
        facts = {} if outer is None else self._data.config(outer).get("parts", {})
        default = facts.get(name, {}).get("default")
        return default if isinstance(default, Mapping) else {}

    def canonical(self, path: str) -> str:
        """The path with the field under the name that the library uses."""
        self.rule(path)
        return self._rules[path][0]

    def literal_default(self, path: str) -> object:
        """The default where it is a constant, else UNKNOWN."""
        rule = self.rule(path)
        if rule is None or not isinstance(rule.get("default"), str):
            return UNKNOWN
        default = term(rule["default"])
        return default.value if default.kind == "constant" else UNKNOWN


# --- the solver ----------------------------------------------------------------------------------


class Solver:
    """Clauses, and what follows from them.

    Attributes:
        known: the atoms whose value follows.
        members: (path, value) -> whether the list there contains it.
    """

    def __init__(self, fields: Fields, clauses: Iterable[Clause], run: Run) -> None:
        self.fields = fields
        self.clauses = list(dict.fromkeys(clauses))
        self.known: dict[Atom, object] = {}
        self.members: dict[tuple[str, object], bool] = {}
        self._bounds: dict[Atom, tuple[int, int]] = {}
        self._run = run
        self._settled: set[int] = set()
        self._readers: dict[str, list[int]] = {}  # path -> the clauses that read it
        for n, clause in enumerate(self.clauses):
            for path in {path for literal in clause for path in self._reads(literal)}:
                self._readers.setdefault(path, []).append(n)
        self._touched: set[str] = set()
        self._begun = False

    def copy(self, run: Run | None = None) -> Solver:
        """One that can go on without changing this one; steps are shared unless given."""
        self._run.spend(1 + (len(self.known) + len(self.clauses)) // 50)
        other = copy.copy(self)
        other._run = run or self._run
        other.known = dict(self.known)
        other.members = dict(self.members)
        other._bounds = dict(self._bounds)
        other._settled = set(self._settled)
        other._touched = set(self._touched)
        return other

    def only(self, literal: Literal) -> Solver:
        """One that knows the same and has a single statement to draw conclusions from."""
        other = Solver(self.fields, [(literal,)], self._run)
        other.known = dict(self.known)
        other._bounds = dict(self._bounds)
        return other

    def work(self) -> None:
        """Draw conclusions until there are no more. Raises Contradiction, NotCovered."""
        due: Iterable[int] = range(len(self.clauses)) if not self._begun else ()
        self._begun = True
        while due or self._touched:
            for n in due:
                if n not in self._settled and self._conclude(self.clauses[n]):
                    self._settled.add(n)
            touched, self._touched = self._touched, set()
            due = sorted({n for path in touched for n in self._readers.get(path, ())})
            self._run.spend(len(due) // 20)

    @property
    def open(self) -> list[Clause]:
        """The clauses that do not hold yet for sure."""
        return [each for n, each in enumerate(self.clauses) if n not in self._settled]

    def _reads(self, literal: Literal) -> Iterator[str]:
        """The paths of the fields that an expression reads, or whose rules do."""
        indices = {variable for variable, _ in literal.indices}
        for name in literal.expression.names - indices:
            yield from self._behind(literal.at + name, 8)

    def _behind(self, path: str, depth: int) -> Iterator[str]:
        path = self.fields.canonical(path)
        yield path
        rule = self.fields.rule(path)
        if rule is not None and isinstance(rule.get("always"), str) and depth:
            at = path.rpartition(".")[0]
            for name in parse(rule["always"]).names:
                yield from self._behind(f"{at}.{name}" if at else name, depth - 1)

    def _touch(self, path: str) -> None:
        """What reads a field has to be looked at again."""
        self._touched.add(path)

    def put(self, atom: Atom, value: object) -> None:
        """Take a value for an atom. Raises Contradiction where another is known."""
        if atom in self.known:
            if not _same(self.known[atom], value):
                raise Contradiction(f"{atom[0]}: {self.known[atom]} and {value}")
            return
        low, high = self._bounds.get(atom, (0, _MOST))
        if type(value) is int and not low <= value <= high:
            raise Contradiction(f"{atom[0]}: {value} is not within {low} and {high}")
        self.known[atom] = value
        self._touch(atom[0])

    def bounds(self, atom: Atom) -> tuple[int, int]:
        """Between which numbers an atom lies, if it is a number."""
        return self._bounds.get(atom, (0, _MOST))

    def free(self, literal: Literal) -> list[Atom]:
        """The atoms that an expression reads and whose value is not known."""
        return list(dict.fromkeys(self._free(term(literal.expression.text), literal)))

    # --- values -----------------------------------------------------------------------------

    def value(self, of: Term, literal: Literal) -> Any:
        """What a node is worth, UNKNOWN where that does not follow yet."""
        self._run.spend(1)
        match of.kind:
            case "constant":
                return of.value
            case "name":
                for variable, number in literal.indices:
                    if variable == of.name:
                        return number
                return self._field(literal.at + of.name)
            case "item":
                return self._item(of, literal)
            case "length":
                return self._length(literal.at + of.name)
            case "and" | "or":
                return self._junction(of, literal)
            case "not":
                inner = self.value(of.parts[0], literal)
                return UNKNOWN if inner is UNKNOWN else not inner
            case "if":
                test = self.value(of.parts[0], literal)
                if test is UNKNOWN:
                    return UNKNOWN
                return self.value(of.parts[1 if test else 2], literal)
            case "whole":
                scope: dict[str, object] = dict(literal.indices)
                for name in of.names - scope.keys():
                    scope[name] = self._field(literal.at + name)
                    if scope[name] is UNKNOWN:
                        return UNKNOWN
                return self._worth(of, scope)
        values = {}
        for n, part in enumerate(of.parts):
            values[f"a{n}"] = self.value(part, literal)
            if values[f"a{n}"] is UNKNOWN:
                return UNKNOWN
        return self._worth(of, values)

    def _worth(self, of: Term, scope: Mapping[str, object]) -> Any:
        assert of.alone is not None
        run = Run(scope, self._run.left)
        try:
            return of.alone.value(run)
        except NotCovered:
            return UNKNOWN
        finally:
            self._run.left = run.left

    def _field(self, path: str) -> Any:
        path = self.fields.canonical(path)
        if (path, None) in self.known:
            return self.known[path, None]
        at, _, name = path.rpartition(".")
        rule = self.fields.rule(path)
        if rule is None:
            return self.fields.model_type(at) if name == "model_type" else UNKNOWN
        if isinstance(rule.get("always"), str):
            return self.value(term(rule["always"]), _inner(rule["always"], at))
        length = self.known.get((path, "len"))
        if isinstance(length, int) and length <= _MOST_ITEMS:
            items = [self.known.get((path, n), UNKNOWN) for n in range(length)]
            self._run.spend(length)
            if not any(item is UNKNOWN for item in items):
                return items
        return UNKNOWN

    def _item(self, of: Term, literal: Literal) -> Any:
        key = self.value(of.parts[0], literal)
        whole = self._field(literal.at + of.name)
        if key is UNKNOWN:
            return UNKNOWN
        if whole is not UNKNOWN:
            try:
                return whole[key]
            except (TypeError, LookupError):
                return UNKNOWN
        atom = self._item_atom(of, literal, key)
        return UNKNOWN if atom is None else self.known.get(atom, UNKNOWN)

    def _item_atom(self, of: Term, literal: Literal, key: object) -> Atom | None:
        if type(key) is not int:
            return None
        path = self.fields.canonical(literal.at + of.name)
        length = self.known.get((path, "len"))
        if key < 0 and isinstance(length, int):
            key += length
        return path, key

    def _length(self, path: str) -> Any:
        path = self.fields.canonical(path)
        if (path, "len") in self.known:
            return self.known[path, "len"]
        whole = self._field(path)
        return UNKNOWN if whole is UNKNOWN or not hasattr(whole, "__len__") else len(whole)

    def _junction(self, of: Term, literal: Literal) -> Any:
        """Three-valued: one false part decides an `and` whatever the others are."""
        decisive = of.kind == "or"
        unknown = False
        value: Any = None
        for part in of.parts:
            value = self.value(part, literal)
            if value is UNKNOWN:
                unknown = True
            elif bool(value) is decisive:
                return decisive if unknown else value
        return UNKNOWN if unknown else value

    def _free(self, of: Term, literal: Literal) -> Iterator[Atom]:
        if of.kind in ("name", "whole"):
            for name in sorted(of.names):
                if all(name != variable for variable, _ in literal.indices):
                    yield from self._free_field(literal.at + name)
            return
        if of.kind == "item":
            key = self.value(of.parts[0], literal)
            if key is not UNKNOWN:
                atom = self._item_atom(of, literal, key)
                if atom is not None and self._item(of, literal) is UNKNOWN:
                    yield atom
                return
        if of.kind == "length" and self._length(literal.at + of.name) is UNKNOWN:
            yield self.fields.canonical(literal.at + of.name), "len"
        for part in of.parts:
            yield from self._free(part, literal)

    def _free_field(self, path: str) -> Iterator[Atom]:
        path = self.fields.canonical(path)
        if self._field(path) is not UNKNOWN:
            return
        rule = self.fields.rule(path)
        if rule is not None and isinstance(rule.get("always"), str):
            at = path.rpartition(".")[0]
            yield from self._free(term(rule["always"]), _inner(rule["always"], at))
        elif rule is not None:
            yield path, None

    # --- conclusions ------------------------------------------------------------------------

    def _conclude(self, clause: Clause) -> bool:
        """Whether a clause has nothing more to say."""
        open_: list[Literal] = []
        for literal in clause:
            value = self.value(term(literal.expression.text), literal)
            if value is UNKNOWN:
                open_.append(literal)
            elif _holds(literal, value):
                return True
        if not open_:
            raise Contradiction(f"{clause[0].expression} is not {clause[0].want}")
        if len(open_) == 1:
            self._take(open_[0])
        return False

    def _take(self, literal: Literal) -> None:
        """A statement that holds."""
        of = term(literal.expression.text)
        if isinstance(literal.want, bool):
            self._truth(of, literal, literal.want)
        else:
            self._within(of, literal, literal.want, literal.want)
        self._try_each(of, literal)

    def _try_each(self, of: Term, literal: Literal) -> None:
        """Where one atom is open and few values are left for it: those that will do."""
        atoms = set(self._free(of, literal))
        if len(atoms) != 1:
            return
        atom = atoms.pop()
        if isinstance(self.fields.literal_default(atom[0]), float):
            return
        low, high = self.bounds(atom)
        if high - low >= _MOST_TRIED:
            if not isinstance(literal.want, bool) and low <= 1 and self._rises(of, literal, atom):
                self._search(of, literal, atom, high)
            return
        fit = []
        for number in range(low, high + 1):
            self.known[atom] = number
            value = self.value(of, literal)
            del self.known[atom]
            if value is UNKNOWN:
                return
            if _holds(literal, value):
                fit.append(number)
        if not fit:
            raise Contradiction(f"{atom[0]}: nothing makes {literal.expression} {literal.want}")
        self._narrow(atom, fit[0], fit[-1])

    def _with(self, of: Term, literal: Literal, atom: Atom, value: int) -> Any:
        """What a node is worth where an atom has a value."""
        self.known[atom] = value
        try:
            return self.value(of, literal)
        finally:
            del self.known[atom]

    def _rises(self, of: Term, literal: Literal, atom: Atom) -> bool:
        """Whether a node can be told never to fall when the atom grows from 1 on."""
        if self.value(of, literal) is not UNKNOWN or self._atom(of, literal) == atom:
            return True
        known = [self.value(part, literal) for part in of.parts]
        match of.kind, known:
            case "Add", _:
                pass
            case "Mult", _:
                worths = [self._with(part, literal, atom, 1) for part in of.parts]
                if not all(_is_number(worth) and worth >= 0 for worth in worths):
                    return False
            case "Sub", [_, b] if _is_number(b):
                pass
            case ("FloorDiv" | "Div"), [_, b] if _is_number(b) and b > 0:
                pass
            case "Pow", [_, b] if type(b) is int and b > 0:
                worth = self._with(of.parts[0], literal, atom, 1)
                if not _is_number(worth) or worth < 0:
                    return False
            case ("int" | "floor" | "ceil"), [_]:
                pass
            case _:
                return False
        return all(self._rises(part, literal, atom) for part in of.parts)

    def _search(self, of: Term, literal: Literal, atom: Atom, high: int) -> None:
        """The values of the only atom of a rising expression that give what is wanted."""

        def first(want: int) -> int | None:
            """The least value that gives as much."""
            low, up = 1, min(high, 2**31)
            while low < up:
                middle = (low + up) // 2
                worth = self._with(of, literal, atom, middle)
                if worth is UNKNOWN:  # too large a number
                    up = middle
                    continue
                low, up = (low, middle) if worth >= want else (middle + 1, up)
            worth = self._with(of, literal, atom, low)
            return low if _is_number(worth) and worth >= want else None

        least, more = first(literal.want), first(literal.want + 1)
        if least is None or self._with(of, literal, atom, 0) == literal.want:
            return
        if more is None:
            return
        if more <= least:
            raise Contradiction(f"{atom[0]}: nothing makes {literal.expression} {literal.want}")
        self._narrow(atom, least, more - 1)

    def _narrow(self, atom: Atom, low: int, high: int) -> None:
        if isinstance(self.fields.literal_default(atom[0]), float):
            return  # a ratio: what it is multiplied with is rounded, so many values would do
        known = self.known.get(atom, UNKNOWN)
        if known is not UNKNOWN:
            if not isinstance(known, int | float) or not low <= known <= high:
                raise Contradiction(f"{atom[0]}: {known} is not within {low} and {high}")
            return
        before = self._bounds.get(atom, (0, _MOST))
        low, high = max(low, before[0]), min(high, before[1])
        if low > high:
            raise Contradiction(f"{atom[0]}: no number is left")
        if (low, high) != before:
            self._bounds[atom] = (low, high)
            self._touch(atom[0])
            if low == high:
                self.known[atom] = low

    def _atom(self, of: Term, literal: Literal) -> Atom | None:
        """The atom that a node is; None for one that is computed."""
        if of.kind == "name":
            path = self.fields.canonical(literal.at + of.name)
            rule = self.fields.rule(path)
            return None if rule is None or "always" in rule else (path, None)
        if of.kind == "item":
            key = self.value(of.parts[0], literal)
            return None if key is UNKNOWN else self._item_atom(of, literal, key)
        if of.kind == "length":
            return self.fields.canonical(literal.at + of.name), "len"
        return None

    def _within(self, of: Term, literal: Literal, low: int, high: int) -> None:
        """The value of a node lies between two whole numbers."""
        self._run.spend(1)
        if low > high:
            raise Contradiction(f"nothing makes {literal.expression} {literal.want}")
        atom = self._atom(of, literal)
        if atom is not None:
            self._narrow(atom, low, high)
            return
        if of.kind == "name":
            path = self.fields.canonical(literal.at + of.name)
            rule = self.fields.rule(path)
            if rule is not None and isinstance(rule.get("always"), str):
                inner = _inner(rule["always"], path.rpartition(".")[0])
                self._within(term(rule["always"]), inner, low, high)
            return
        if of.kind == "if":
            self._choice(of, literal, low, high)
            return
        if of.kind in ("int", "floor", "ceil") and len(of.parts) == 1:
            self._rounded(of, literal, low, high)
            return
        if len(of.parts) != 2:
            return
        left, right = of.parts
        a, b = self.value(left, literal), self.value(right, literal)
        if a is UNKNOWN and b is UNKNOWN:
            return
        bounds = None
        if a is UNKNOWN and _is_number(b):
            bounds, open_ = _left(of.kind, b, low, high), left
        elif b is UNKNOWN and _is_number(a):
            bounds, open_ = _right(of.kind, a, low, high), right
        if bounds is not None:
            self._within(open_, literal, *bounds)

    def _rounded(self, of: Term, literal: Literal, low: int, high: int) -> None:
        inner = of.parts[0]
        if inner.kind in ("Div", "Mult"):
            left, right = inner.parts
            a, b = self.value(left, literal), self.value(right, literal)
            if inner.kind == "Div" and a is UNKNOWN and type(b) is int and b > 0:
                if of.kind == "ceil":
                    self._within(left, literal, (low - 1) * b + 1, high * b)
                else:
                    self._within(left, literal, low * b, high * b + b - 1)
            elif inner.kind == "Mult":
                for known, other in ((a, right), (b, left)):
                    if _is_number(known) and known > 0:
                        # One more on each side, since the product is rounded.
                        bounds = math.floor((low - 1) / known) - 1, math.ceil((high + 1) / known)
                        self._within(other, literal, max(bounds[0], 0), bounds[1] + 1)
                        break
        elif inner.kind in ("name", "item"):
            self._within(inner, literal, low, high)

    def _choice(self, of: Term, literal: Literal, low: int, high: int) -> None:
        test, yes, no = of.parts
        decided = self.value(test, literal)
        if decided is not UNKNOWN:
            self._within(yes if decided else no, literal, low, high)
            return
        for branch, other, truth in ((yes, no, True), (no, yes, False)):
            value = self.value(branch, literal)
            if value is UNKNOWN:
                continue
            if not _is_number(value) or not low <= value <= high:
                self._truth(test, literal, not truth)
                self._within(other, literal, low, high)
            elif other.kind == "name" and test.names == {other.name}:
                # `4 * n if inner is None else inner`, and read nowhere else: the value in force
                # is known, and written out it gives the same model.
                readers = self._readers.get(self.fields.canonical(literal.at + other.name), ())
                text = literal.expression.text
                if all(each.expression.text == text for n in readers for each in self.clauses[n]):
                    self._within(other, literal, low, high)
            return

    def _truth(self, of: Term, literal: Literal, truth: bool) -> None:
        """A node is true, or false."""
        self._run.spend(1)
        match of.kind:
            case "name" | "item":
                atom = self._atom(of, literal)
                if atom is not None and self._is_flag(atom):
                    self.put(atom, truth)
            case "not":
                self._truth(of.parts[0], literal, not truth)
            case "and" | "or":
                if truth is (of.kind == "and"):
                    for part in of.parts:
                        self._truth(part, literal, truth)
                    return
                left = [p for p in of.parts if self.value(p, literal) is UNKNOWN]
                if len(left) == 1:
                    self._truth(left[0], literal, truth)
            case "Eq" | "NotEq" | "Is" | "IsNot":
                same = truth is (of.kind in ("Eq", "Is"))
                for one, other in (of.parts, of.parts[::-1]):
                    known = self.value(other, literal)
                    if known is not UNKNOWN and self.value(one, literal) is UNKNOWN:
                        self._equal(one, literal, known, same)
            case "Lt" | "LtE" | "Gt" | "GtE":
                self._ordered(of, literal, truth)
            case "In" | "NotIn":
                item, whole = of.parts
                known = self.value(item, literal)
                atom = self._atom(whole, literal)
                if known is not UNKNOWN and atom is not None and isinstance(known, int | str):
                    self._member(atom[0], known, truth is (of.kind == "In"))

    def _member(self, path: str, value: object, inside: bool) -> None:
        if self.members.setdefault((path, value), inside) is not inside:
            raise Contradiction(f"{path}: {value} is in it and is not")

    def _is_flag(self, atom: Atom) -> bool:
        """Whether a field is true or false and nothing else."""
        return atom[1] is None and isinstance(self.fields.literal_default(atom[0]), bool)

    def _equal(self, of: Term, literal: Literal, value: object, same: bool) -> None:
        atom = self._atom(of, literal)
        if same and type(value) is int:
            self._within(of, literal, value, value)
        elif atom is None:
            return
        elif same:
            self.put(atom, value)
        elif isinstance(value, bool) and self._is_flag(atom):
            self.put(atom, not value)

    def _ordered(self, of: Term, literal: Literal, truth: bool) -> None:
        kind = of.kind
        if not truth:
            kind = {"Lt": "GtE", "LtE": "Gt", "Gt": "LtE", "GtE": "Lt"}[kind]
        left, right = of.parts
        a, b = self.value(left, literal), self.value(right, literal)
        if a is not UNKNOWN and b is UNKNOWN:
            a, left = b, right
            b = self.value(of.parts[0], literal)
            kind = {"Lt": "Gt", "LtE": "GtE", "Gt": "Lt", "GtE": "LtE"}[kind]
        if a is not UNKNOWN or type(b) is not int:
            return
        atom = self._atom(left, literal)
        if atom is None:
            return
        low, high = {
            "Lt": (-_MOST, b - 1),
            "LtE": (-_MOST, b),
            "Gt": (b + 1, _MOST),
            "GtE": (b, _MOST),
        }[kind]
        if high >= 0:
            self._narrow(atom, max(low, 0), high)


def _inner(text: str, at: str) -> Literal:
    """A place for evaluating the rule of a field."""
    return Literal(parse(text), f"{at}." if at else "", (), 0)


def _holds(literal: Literal, value: object) -> bool:
    if isinstance(literal.want, bool):
        return bool(value) is literal.want
    return type(value) in (int, float) and value == literal.want


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _left(kind: str, b: Any, low: int, high: int) -> tuple[int, int] | None:
    """Bounds of x where `x kind b` lies between two numbers; None where nothing follows."""
    if type(b) is not int:
        return None
    match kind:
        case "Add":
            return low - b, high - b
        case "Sub":
            return low + b, high + b
        case "Mult" if b > 0:
            return -(-low // b), high // b
        case "FloorDiv" if b > 0:
            return low * b, high * b + b - 1
        case "Div" if b > 0:
            return low * b, high * b
        case "Pow" if 1 <= b <= 8 and low >= 0:
            return _root(low - 1, b) + 1 if low else 0, _root(high, b)
    return None


def _right(kind: str, a: Any, low: int, high: int) -> tuple[int, int] | None:
    """The same of x in `a kind x`."""
    if type(a) is not int:
        return None
    match kind:
        case "Add" | "Mult":
            return _left(kind, a, low, high)
        case "Sub":
            return a - high, a - low
        case "FloorDiv" | "Div" if a > 0 and low > 0:
            if kind == "Div":
                return -(-a // high), a // low
            return a // (high + 1) + 1, a // low
        case "Pow" if a > 1 and low > 0:
            exponents = [n for n in range(64) if low <= a**n <= high]
            return (exponents[0], exponents[-1]) if exponents else (1, 0)
    return None


def _root(number: int, degree: int) -> int:
    """The largest n whose power is not larger; 0 for what is below 1."""
    if number < 1:
        return 0
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
    return low
