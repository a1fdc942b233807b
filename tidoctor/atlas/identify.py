"""What kind of model tensors belong to, from their names and shapes alone.

`identify` looks for the classes of the atlas whose layout could give just these tensors. First by
names without numbers; then, for each candidate, the expressions of its layout are read backwards
(`tidoctor.atlas.solving`), which gives the fields of the config that the shapes fix; then the
fields are put back into the layout, and only where every name and every shape comes out again is
the class called exact. Several families share one layout, so several classes may be exact, and
none of them is picked.

Much of a config never shows in tensors (activation, rotary base, epsilon, windows, token ids), and
much shows only in products (heads times the size of a head). Neither is guessed.
"""

from __future__ import annotations

import ast
import copy
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidoctor.atlas import data, families, renames
from tidoctor.atlas.configs import Resolved, resolve
from tidoctor.atlas.data import shown
from tidoctor.atlas.expectation import Expectation, expectation
from tidoctor.atlas.expression import NotCovered, Run, parse
from tidoctor.atlas.layout import MOST_TENSORS, Class
from tidoctor.atlas.observed import (
    PASSING,
    Form,
    Observed,
    Shapes,
    Unlike,
    clauses,
    offer,
    split,
)
from tidoctor.atlas.solving import (
    Atom,
    Clause,
    Contradiction,
    Fields,
    Literal,
    Solver,
    Unknown,
    term,
)

_MOST_NAMES = 5_000  # that differ by more than numbers; no class has as many
_MOST_CANDIDATES = 400  # classes whose layout is laid over the tensors
_MOST_SIMILAR = 12  # that are told where none is exact
_MOST_STEPS = 1_000_000  # of all candidates together
_MOST_STEPS_EACH = 100_000
_MOST_MADE = 3_000_000  # tensors made for verification
_MOST_TRIES = 60  # configs put together for one class
_FEW = 64  # numbers that a field may be, so that all are tried
_DEEPEST = 9  # fields guessed one upon another
_MOST_TYPES = 3  # of a part whose class the config chooses
_USUAL = (64, 128, 80, 96, 256, 32, 16, 72, 48, 112, 160, 192, 8, 4, 2, 1)
_TOLD = (64, 80, 96, 128, 256)  # sizes of a head for which the split is told

# Families that most files are of come first where several fit; that proves nothing.
_COMMON = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "mixtral", "qwen2_moe",
    "qwen3_moe", "deepseek_v3", "gpt2", "gpt_neox", "bert", "roberta", "distilbert", "t5", "bart",
    "whisper", "vit", "clip",
)  # fmt: skip

_FORMS: tuple[Form, ...] = ("disk", "memory")
_MINOR = re.compile(r"\.bias$|\.alpha_[pn]$|\.(?:beta|eps)$|act[a-z_]*\.weight$")

HIDDEN = (
    "activation, epsilons, rotary base and scaling, attention window, dropout, token ids and,"
    " with rotary positions, the longest position are not in the tensors"
)
"""What no identification can tell, in one sentence."""


# --- the answer ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that the tensors may belong to.

    Attributes:
        class_name, model_type: the class and the config it is built from.
        exact: whether names and shapes are just what the class has under some config; else only
            the names are alike.
        fields: dotted path -> value, for the fields that the shapes fix. Empty unless exact.
        undetermined: dotted path -> why not, for fields that the layout reads and the shapes do
            not fix. A field that does not matter to names and shapes is not listed.
        types: dotted path of a sub-config -> its model type, where several are possible or it is
            another than the usual one.
        witness: one config under which the class has just these tensors; its undetermined
            fields have arbitrary values, so it is a proof and no config to load a model with.
        unused: how many further names, biases and activations apart, the class could have; many
            where it fits only with parts of it switched off.
        differs: for a class that is only similar, what stood against it.
    """

    class_name: str
    model_type: str
    exact: bool
    fields: Mapping[str, object] = field(default_factory=dict)
    undetermined: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    witness: Mapping[str, object] = field(default_factory=dict, repr=False)
    unused: int = 0
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What names and shapes say about a model.

    Attributes:
        candidates: the exact ones; similar ones only where there is none. Common families first,
            which is no order of likelihood.
        reason: why nothing or not everything was looked at, "" otherwise.
    """

    candidates: tuple[Candidate, ...]
    reason: str = ""

    @property
    def exact(self) -> tuple[Candidate, ...]:
        """The classes that have just these names and shapes under some config."""
        return tuple(each for each in self.candidates if each.exact)

    @property
    def closest(self) -> tuple[Candidate, ...]:
        """The exact classes with the least of them switched off.

        A mixture of experts whose layers are all dense has the tensors of a dense model.
        """
        least = min((each.unused for each in self.exact), default=0)
        return tuple(each for each in self.exact if each.unused == least)

    @property
    def unique(self) -> Candidate | None:
        """The only exact class, where everything was looked at."""
        exact = self.exact
        return exact[0] if len(exact) == 1 and not self.reason else None

    @property
    def fields(self) -> Mapping[str, object]:
        """Dotted path -> value on which the closest candidates agree."""
        closest = self.closest
        if not closest:
            return {}
        return {
            path: value
            for path, value in closest[0].fields.items()
            if all(path in o.fields and _same(o.fields[path], value) for o in closest[1:])
        }

    @property
    def undetermined(self) -> Mapping[str, str]:
        """Dotted path -> why it is not known, for the other fields of the closest candidates."""
        agreed = self.fields
        found: dict[str, str] = {}
        for each in self.closest:
            for path, reason in each.undetermined.items():
                found.setdefault(path, reason)
            for path in each.fields:
                found.setdefault(path, "the classes that fit differ in it")
        return {path: reason for path, reason in found.items() if path not in agreed}

    def config(self, class_name: str | None = None) -> dict[str, object]:
        """What config.json would say of the recovered fields.

        Without `class_name` the class has to be unique. A field that is not determined has a
        sentence in the place of its value, "not determined: ...", which no loader accepts; what
        is not in the tensors at all (`HIDDEN`) is not there. Raises ValueError for a class that
        is not exact, or when there are several and none is chosen.
        """
        if class_name is None:
            chosen = self.unique
            if chosen is None:
                raise ValueError("no single class fits: choose one of the exact candidates")
        else:
            found = [each for each in self.exact if each.class_name == class_name]
            if not found:
                raise ValueError(f"{class_name} does not have these names and shapes")
            chosen = found[0]
        proposal: dict[str, object] = {
            "architectures": [chosen.class_name],
            "model_type": chosen.model_type,
        }
        for path, value in chosen.types.items():
            _put(proposal, (*path.split("."), "model_type"), value)
        for path, value in chosen.fields.items():
            _put(proposal, path.split("."), value)
        for path, reason in chosen.undetermined.items():
            _put(proposal, path.split("."), f"not determined: {reason}")
        return proposal

    def told(self) -> str:
        """In one line, what the tensors look like."""
        exact, closest = self.exact, self.closest
        far = [each.class_name for each in exact if each not in closest]
        beside = f"; with parts of it switched off also {_some(far, 3)}" if far else ""
        if len(closest) == 1:
            doubt = f" ({self.reason})" if self.reason else ""
            return f"names and shapes are those of {closest[0].class_name}{beside}{doubt}"
        if closest:
            names = [each.class_name for each in closest]
            return f"names and shapes fit {len(names)} classes alike: {_some(names, 6)}{beside}"
        if self.candidates:
            some = _some([each.class_name for each in self.candidates], 3)
            return f"no known class has just these tensors; the names are similar to {some}"
        return f"no known class has these names{f': {self.reason}' if self.reason else ''}"


    def fixed(self) -> str:
        """The agreed fields in one line, "" where there are none."""
        return ", ".join(f"{path} {_brief(value)}" for path, value in self.fields.items())

    def left_open(self) -> str:
        """The undetermined fields with their reasons in one line, those of one reason together."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.undetermined.items():
            by_reason.setdefault(reason, []).append(path)
        return "; ".join(f"{', '.join(paths)} ({why})" for why, paths in by_reason.items())

    def proposal(self) -> dict[str, object]:
        """What can be said of config.json for the closest candidates; empty where there is none.

        As `config`, with the class marked as not determined where there are several.
        """
        closest = self.closest
        if len(closest) == 1:
            return self.config(closest[0].class_name)
        if not closest:
            return {}
        names = _some([each.class_name for each in closest], len(closest))
        types = _some(sorted({each.model_type for each in closest}), len(closest))
        found: dict[str, object] = {
            "architectures": f"not determined: one of {names}",
            "model_type": f"not determined: one of {types}",
        }
        for path, value in self.fields.items():
            _put(found, path.split("."), value)
        for path, reason in self.undetermined.items():
            _put(found, path.split("."), f"not determined: {reason}")
        return found


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 48 else f"{text[:44]} ..."


def _some(names: list[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _put(into: dict[str, object], path: Iterable[str], value: object) -> None:
    *way, last = path
    for step in way:
        inner = into.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        into = inner
    into[last] = value


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


# --- the search ----------------------------------------------------------------------------------


def identify(shapes: Shapes) -> Identity:
    """The classes that tensors may belong to, and the fields of the config that they fix.

    `shapes` is name -> shape as in the files, wrappers of training taken off. Takes a bounded
    number of steps on any input; what was not looked at is said in `Identity.reason`.
    """
    if not shapes:
        return Identity((), "there are no tensors")
    if len(shapes) > MOST_TENSORS:
        return Identity((), f"there are more than {MOST_TENSORS} tensors")
    seen = Observed(shapes)
    if len(seen.groups) > _MOST_NAMES:
        return Identity((), f"more than {_MOST_NAMES} names differ by more than their numbers")
    try:
        source = data.current()
        listed = _listed(source, seen)
    except NotCovered as e:
        return Identity((), e.reason)
    search = _Search(source, seen)
    exact: list[Candidate] = []
    similar: list[tuple[int, Candidate]] = []
    reason = ""
    if len(listed) > _MOST_CANDIDATES:
        reason = f"more than {_MOST_CANDIDATES} classes have such names"
    for missed, class_name, forms in listed[:_MOST_CANDIDATES]:
        if search.spent:
            reason = "looking at all classes would take too long"
            break
        found = search.look(class_name, forms)
        if found.exact:
            exact.append(found)
        else:
            similar.append((missed, found))
    if exact:
        return Identity(tuple(sorted(exact, key=_commonness)), reason)
    similar.sort(key=lambda each: (each[0], _commonness(each[1])))
    return Identity(tuple(each for _, each in similar[:_MOST_SIMILAR]), reason)


def has_names(class_name: str, names: Iterable[str]) -> bool:
    """Whether a class can have names like these under some config, but for a few.

    Raises NotCovered for a class that was not learned.
    """
    source = data.current()
    return bool(_forms(source, class_name, frozenset(split(name)[0] for name in names)))


def _commonness(each: Candidate) -> tuple[int, str]:
    known = each.model_type in _COMMON
    return _COMMON.index(each.model_type) if known else len(_COMMON), each.class_name


def _listed(source: data.Data, seen: Observed) -> list[tuple[int, str, tuple[Form, ...]]]:
    """(names that it lacks, class, its forms) of the classes with these names or nearly so.

    The best fitting come first. Forms with all names come before those without some; where a
    class has all names in one form, the others are left out.
    """
    found = []
    for class_name in source.class_names:
        if forms := _forms(source, class_name, seen.keys):
            found.append((forms[0][0], class_name, tuple(form for _, form in forms)))
    return sorted(found)


def _forms(source: data.Data, class_name: str, keys: frozenset[str]) -> list[tuple[int, Form]]:
    """(how badly it fits, form) of the forms in which a class has these names or nearly so."""
    forms: list[tuple[int, Form]] = []
    for form in _FORMS:
        offered = offer(source, class_name, form)
        if offered is None:
            continue
        common = len(keys & offered.keys)
        strange = len(keys) - common
        if strange and offered.open:
            opened = tuple(prefix for prefix in offered.open if prefix)
            strange = sum(not key.startswith(opened) for key in keys - offered.keys)
        if strange * 20 <= len(keys):
            forms.append((strange * 1000 + len(offered.keys) - common, form))
    return sorted(forms)


class _Search:
    """The classes one after another, with what they may spend together."""

    def __init__(self, source: data.Data, seen: Observed) -> None:
        self._data, self._seen = source, seen
        self._classes: dict[str, Class] = {}
        self._steps = _MOST_STEPS
        self._made = 0

    @property
    def spent(self) -> bool:
        """Whether nothing more may be looked at."""
        return self._steps <= 0 or self._made > _MOST_MADE

    def look(self, class_name: str, forms: Iterable[Form]) -> Candidate:
        """One class: exact with its fields, or what stands against it."""
        model_type = str(self._data.layout(class_name)["config"])
        differs = ""
        for form in forms:
            try:
                for types in self._types(class_name, model_type, form):
                    found = self._try(class_name, model_type, form, types)
                    if isinstance(found, Candidate):
                        return found
                    differs = differs or found
            except (Unlike, Contradiction) as e:
                differs = differs or str(e)
            except NotCovered as e:
                differs = differs or e.reason
        return Candidate(class_name, model_type, False, differs=differs)

    def _class(self, class_name: str) -> Class:
        if class_name not in self._classes:
            self._classes[class_name] = Class(class_name, self._data.layout(class_name))
        return self._classes[class_name]

    # --- parts whose class the config chooses ---

    def _types(self, class_name: str, model_type: str, form: Form) -> Iterator[dict[str, str]]:
        """The model types of sub-configs that may be: the usual ones, then each other one."""
        yield {}
        layout = self._data.layout(class_name)
        fields = Fields(self._data, model_type, {})
        for prefix, path, task in self._open(class_name, form, "", ""):
            if not prefix:
                continue
            usual = fields.model_type(path)
            names = frozenset(
                key.removeprefix(prefix) for key in self._seen.keys if key.startswith(prefix)
            )
            pinned = layout.get("pinned", {}).get(f"{path}.model_type")
            others = [
                each
                for each in _serving(self._data, task, form, names)
                if each != usual and (pinned is None or each in pinned)
            ]
            for each in others[:_MOST_TYPES]:
                yield {path: each}

    def _open(
        self, class_name: str, form: Form, prefix: str, at: str, depth: int = 4
    ) -> Iterator[tuple[str, str, str]]:
        """(prefix of names, path of the config, task) of those parts."""
        facts = self._data.layout(class_name)
        for part in (facts.get(form) or facts["memory"]).get("parts", ()):
            path = f"{at}.{part['config']}" if at and part["config"] else at or part["config"]
            if "auto" in part:
                yield prefix + part["at"], path, part["auto"]
            elif depth:
                yield from self._open(part["class"], form, prefix + part["at"], path, depth - 1)

    def _pins(
        self,
        class_name: str,
        form: Form,
        types: Mapping[str, str],
        fields: Fields,
        at: str,
        depth: int = 6,
    ) -> Iterator[tuple[str, list[object]]]:
        """(path, values) of the fields for whose other values the layout does not hold."""
        facts = self._data.layout(class_name)
        layout = facts.get(form) or facts["memory"]
        for path, values in {**facts.get("pinned", {}), **layout.get("pinned", {})}.items():
            yield f"{at}.{path}" if at else path, values
        for part in layout.get("parts", ()):
            path = f"{at}.{part['config']}" if at and part["config"] else at or part["config"]
            inner = part.get("class")
            if inner is None:
                inner = families.class_for(fields.model_type(path) or "", part["auto"])
            if inner and depth:
                yield from self._pins(inner, form, types, fields, path, depth - 1)

    # --- one class ---

    def _try(
        self, class_name: str, model_type: str, form: Form, types: Mapping[str, str]
    ) -> Candidate | str:
        run = Run({}, min(self._steps, _MOST_STEPS_EACH))
        before = run.left
        try:
            fields = Fields(self._data, model_type, types)
            of = self._class(class_name)
            laid = clauses(
                self._data, self._classes, of, form, fields, types, self._seen, run
            )
            solver = Solver(fields, laid, run)
            solver.work()
            pins = dict(self._pins(class_name, form, types, fields, ""))
            completion = _Completion(of, pins, types, run)
            for settings in completion.configs(solver):
                self._made += len(self._seen.shapes)
                differs = _verified(settings, class_name, self._seen.shapes)
                if not differs:
                    unused = _unused(self._data, class_name, form, self._seen)
                    return _candidate(class_name, of, settings, solver, types, unused)
                return differs
        finally:
            self._steps -= before - run.left
        return completion.differs or "no values of the settings give all these shapes"


@functools.lru_cache(maxsize=256)
def _serving(
    source: data.Data, task: str, form: Form, names: frozenset[str]
) -> tuple[str, ...]:
    """The model types whose class for a task has these names."""
    found = []
    for class_name in source.class_names:
        facts = families.class_facts(class_name)
        if facts is None or facts.task != task:
            continue
        offered = offer(source, class_name, form) or offer(source, class_name, "memory")
        if offered is None or offered.open or not names <= offered.keys:
            continue
        for model_type in facts.model_types:
            if families.class_for(model_type, task) == class_name:
                found.append((len(offered.keys), model_type))
    return tuple(model_type for _, model_type in sorted(found))


# --- from what is known to a whole config --------------------------------------------------------


class _Completion:
    """Looks for values of the fields that the shapes leave open."""

    def __init__(
        self,
        of: Class,
        pins: Mapping[str, list[object]],
        types: Mapping[str, str],
        run: Run,
    ) -> None:
        self._of, self._model_type = of, of.model_type
        self._pins, self._types, self._run = pins, types, run
        self._left = _MOST_TRIES
        self.differs = ""

    def configs(self, solver: Solver) -> Iterator[dict[str, object]]:
        """Configs under which every clause holds."""
        start = solver.copy()
        try:
            self._stored_heads(start)
            self._pinned(start)
            start.work()
        except Contradiction:
            start = solver.copy()
        yield from self._complete(start, 0)

    def _stored_heads(self, solver: Solver) -> None:
        """A tie that may be on or off is taken to be off where its alias is stored."""
        for tie in self._of.ties:
            if tie.condition is None or not re.fullmatch(r"[\w.]+", tie.condition.text):
                continue
            atom = solver.fields.canonical(tie.condition.text), None
            if atom not in solver.known and solver.fields.rule(atom[0]) is not None:
                solver.put(atom, False)

    def _pinned(self, solver: Solver) -> None:
        """Fields that have one value in all that is known of the class; words by default."""
        for path, values in self._pins.items():
            atom = solver.fields.canonical(path), None
            if atom in solver.known or not solver.fields.rule(atom[0]):
                continue
            default = solver.fields.literal_default(atom[0])
            if len(values) == 1:
                solver.put(atom, values[0])
            elif isinstance(default, str) and default in values:
                solver.put(atom, default)

    def _complete(self, solver: Solver, depth: int) -> Iterator[dict[str, object]]:
        self._left -= 1
        if self._left < 0:
            return
        settings = _assembled(solver, self._model_type, self._types)
        try:
            config = resolve(settings, self._model_type)
        except NotCovered as e:
            self.differs = e.reason
            return
        failing = []
        for clause in solver.open:
            self._run.spend(2)
            if not any(self._holds(literal, config) for literal in clause):
                failing.append(clause)
                if len(failing) > 40:
                    break
        if not failing:
            yield settings
            return
        if depth >= _DEEPEST:
            return
        worst = min(failing, key=lambda c: sum(len(solver.free(each)) for each in c) or 99)
        self.differs = f"{worst[0].expression} is not {worst[0].want}"
        for guess in self._guesses(worst, failing, solver, config):
            other = solver.copy()
            try:
                for atom, value in guess.items():
                    other.put(atom, value)
                other.work()
            except Contradiction:
                continue
            yield from self._complete(other, depth + 1)
            if self._left < 0:
                return

    def _holds(self, literal: Literal, config: Resolved) -> bool:
        value = _worth(literal, config, self._run)
        if isinstance(literal.want, bool):
            return not isinstance(value, Unknown) and bool(value) is literal.want
        return type(value) in (int, float) and value == literal.want

    def _guesses(
        self, clause: Clause, failing: list[Clause], solver: Solver, config: Resolved
    ) -> Iterator[dict[Atom, object]]:
        """Values worth trying for the atoms of a clause that does not hold.

        What is tried for an item of a list is tried for all items of which the same is wanted: the
        layers of a model are not guessed one by one.
        """
        tried = set()
        for literal in clause:
            alike = [
                each
                for other in failing
                for each in other
                if each.expression is literal.expression and each.want is literal.want
            ]
            numbers = sorted({number for each in alike for _, number in each.indices})
            for atom, value in self._guessed(literal, numbers, solver, config):
                key = atom, type(value), repr(value)
                if key in tried:
                    continue
                tried.add(key)
                if not isinstance(atom[1], int):
                    yield {atom: value}
                    continue
                same = {a for each in alike for a in solver.free(each) if a[0] == atom[0]}
                yield dict.fromkeys((atom, *sorted(same - {atom}, key=str)), value)

    def _guessed(
        self, literal: Literal, numbers: list[int], solver: Solver, config: Resolved
    ) -> Iterator[tuple[Atom, object]]:
        atoms = solver.free(literal)
        heads_last = sorted(atoms, key=lambda atom: "head_dim" in atom[0])
        # What the others are by default leaves one value for this.
        if len(atoms) > 1 and not isinstance(literal.want, bool):
            for atom in heads_last:
                other = solver.only(literal)
                try:
                    for fixed in atoms:
                        if fixed != atom and fixed[1] is None:
                            other.put(fixed, _given(config, fixed[0]))
                    other.work()
                except (Contradiction, NotCovered):
                    continue
                if atom in other.known:
                    yield atom, other.known[atom]
        for atom in reversed(heads_last):
            for value in self._values(atom, literal, numbers, solver, config):
                yield atom, value

    def _values(
        self,
        atom: Atom,
        literal: Literal,
        numbers: list[int],
        solver: Solver,
        config: Resolved,
    ) -> Iterator[object]:
        path, item = atom
        pinned = self._pins.get(path)
        if pinned and item is None:
            yield from pinned
            return
        low, high = solver.bounds(atom)
        if high - low < _FEW:
            yield from range(low, high + 1)
            return
        default: object = _given(config, path) if item is None else None
        usual: list[object] = []
        if isinstance(item, int):
            whole = _given(config, path)
            if isinstance(whole, list | tuple) and whole:
                default = whole[item] if -len(whole) <= item < len(whole) else whole[-1]
                usual = [word for word in dict.fromkeys(whole[:500]) if isinstance(word, str)]
        words = [*_words(solver.clauses, path), *usual]
        yield from words
        if isinstance(default, float) and not isinstance(literal.want, bool):
            yield from _ratios(atom, literal, solver)
            return
        if isinstance(default, bool):
            yield not default
            return
        if isinstance(default, str) and words:
            return
        if isinstance(default, list | tuple) and item is None:
            yield numbers
            members = {v: t for (p, v), t in solver.members.items() if p == path}
            yield [value for value, inside in members.items() if inside]
            return
        if low:
            yield low
        if isinstance(literal.want, bool):
            yield None
            if numbers:  # one more than the last layer, or the first: a layer where kinds change
                yield numbers[-1] + 1
                yield numbers[0]
                yield numbers[-1] + 2
            yield from range(9)
            return
        wants = dict.fromkeys(
            each.want
            for clause in (((literal,)), *solver.open)
            for each in clause
            if type(each.want) is int and each.want > 0 and atom in solver.free(each)
        )
        for want in wants:
            yield from (n for n in _USUAL if want % n == 0)
        for want in wants:
            yield from (want // n for n in _USUAL if want % n == 0)
        yield None


def _ratios(atom: Atom, literal: Literal, solver: Solver) -> Iterator[float]:
    """Plain values of a factor that give what is wanted, rounded or not."""
    other = solver.only(literal)
    other.known[atom] = 1.0
    whole = other.value(term(literal.expression.text), literal)
    if isinstance(whole, int | float) and whole > 0:
        exact = literal.want / whole
        for digits in (0, 1, 2, 3, 4, 6, 9):
            yield round(exact, digits)
        yield exact


def _words(laid: Iterable[Clause], path: str) -> list[object]:
    """The strings that a field, or an item of it, is compared with."""
    name = path.rpartition(".")[2]
    texts = {
        literal.expression.text
        for clause in laid
        for literal in clause
        if any(each.rpartition(".")[2] == name for each in literal.expression.names)
    }
    found: dict[object, None] = {}
    for text in sorted(texts):
        for node in ast.walk(ast.parse(text, mode="eval")):
            if isinstance(node, ast.Compare) and name in ast.unparse(node.left):
                for right in node.comparators:
                    if isinstance(right, ast.Constant) and isinstance(right.value, str):
                        found[right.value] = None
    return list(found)


def _worth(literal: Literal, config: Resolved, run: Run) -> Any:
    """What an expression is worth under a config; `Unknown` where that cannot be told."""
    try:
        inner = config.part(literal.at[:-1])
    except NotCovered:
        return Unknown()
    indices = dict(literal.indices)
    own = Run(lambda name: indices[name] if name in indices else inner.value(name), run.left)
    try:
        return literal.expression.value(own)
    except NotCovered:
        return Unknown()
    finally:
        run.left = own.left


def _given(config: Resolved, path: str) -> object:
    """A field under a config; None where it cannot be known."""
    try:
        return config.value(path)
    except NotCovered:
        return None


def _assembled(
    solver: Solver, model_type: str, types: Mapping[str, str]
) -> dict[str, object]:
    """The config that says what is known, and nothing else."""
    settings: dict[str, object] = {"model_type": model_type}
    places = {path.rpartition(".")[0] for path, _ in solver.known} | set(types)
    whole = {path[:n] for path in places for n in range(1, len(path) + 1) if path[n:n+1] in ("", ".")}
    for path in sorted(whole):  # outer ones first
        if default := solver.fields.part_default(path):
            _put(settings, path.split("."), copy.deepcopy(dict(default)))
    for path, kind in types.items():
        _put(settings, (*path.split("."), "model_type"), kind)
    lists: dict[str, dict[int | str, object]] = {}
    for (path, item), value in solver.known.items():
        if item is None:
            _put(settings, path.split("."), value)
        else:
            lists.setdefault(path, {})[item] = value
    if lists:
        try:
            config = resolve(settings, model_type)
        except NotCovered:
            return settings
        for path, items in lists.items():
            if (path, None) not in solver.known:
                _put(settings, path.split("."), _patched(_given(config, path), items))
    return settings


def _patched(default: object, items: Mapping[int | str, object]) -> list[object]:
    """A list with some of its items, and maybe its length, given."""
    whole = list(default) if isinstance(default, list | tuple) else []
    numbers = {n: value for n, value in items.items() if isinstance(n, int)}
    length = items.get("len")
    least = max((n + 1 for n in numbers), default=0)
    size = length if isinstance(length, int) else max(least, len(whole))
    size = min(size, 20_000)
    filler = whole[-1] if whole else next(iter(numbers.values()), None)
    whole = (whole + [filler] * size)[:size]
    for n, value in numbers.items():
        if -size <= n < size:
            whole[n] = value
    return whole


# --- verification --------------------------------------------------------------------------------


def _verified(settings: Mapping[str, object], class_name: str, files: Shapes) -> str:
    """What is not as the class has it under a config; "" where everything is."""
    try:
        expected = expectation(settings, class_name)
    except NotCovered as e:
        return e.reason
    differs = ""
    if expected.saved is not None:
        differs = _compared(expected, expected.saved, expected.disk_ties, files)
        if not differs:
            return ""
    if not _compared(expected, expected.memory, expected.ties, files):
        return ""
    return differs if not _loads(expected, settings, files) else ""


def _compared(
    expected: Expectation, promised: Shapes, ties: Mapping[str, str], files: Shapes
) -> str:
    """The first difference that matters between files and one form of a model."""
    passed = [re.compile(pattern) for pattern in expected.unexpected_ok]
    for name, shape in files.items():
        wanted = promised.get(name)
        if wanted is None and name in ties:
            wanted = promised.get(ties[name])
        if wanted is None:
            if PASSING.search(name) or any(pattern.search(name) for pattern in passed):
                continue
            return f"it has no {shown(name)}"
        if tuple(shape) != wanted:
            return f"{shown(name)} has another shape"
    unsaved = set(expected.unsaved)
    for name in promised:
        if name in files or name in ties or name in unsaved:
            continue
        if PASSING.search(name) is None and expected.required(name):
            return f"{shown(name)} is not there"
    return ""


def _loads(expected: Expectation, settings: Mapping[str, object], files: Shapes) -> bool:
    """Whether a loader turns the files into just the tensors of the model."""
    name = expected.class_name
    try:
        prefix = data.current().layout(name).get("prefix", "")
        rules = renames.conversions(name, prefix)
    except NotCovered:
        return False
    if not rules:
        return False
    loading = renames.load(files, expected.memory, rules, prefix)
    if loading.mismatched or loading.unknown or loading.raises or loading.surplus:
        return False
    if any(not PASSING.search(name) for name in loading.unexpected):
        return False
    unsaved = set(expected.unsaved)
    return not any(
        name not in expected.ties
        and name not in unsaved
        and PASSING.search(name) is None
        and expected.required(name)
        for name in loading.missing
    )


# --- what is told of the fields ------------------------------------------------------------------


def _candidate(
    class_name: str,
    of: Class,
    settings: Mapping[str, object],
    sure: Solver,
    types: Mapping[str, str],
    unused: int,
) -> Candidate:
    config = resolve(settings, of.model_type)
    fields, undetermined = _fields(sure, config)
    for tie in of.ties:
        if tie.condition is None:
            continue
        for name in sorted(tie.condition.names):
            path = sure.fields.canonical(name)
            if fields.get(path) is False or (path not in fields and _given(config, path) is False):
                if sure.fields.rule(path) is None:
                    continue
                fields.pop(path, None)
                undetermined[path] = (
                    "false, unless the stored head holds the same values as the embedding"
                )
    return Candidate(
        class_name, of.model_type, True, fields, undetermined, dict(types), settings, unused
    )


def _unused(source: data.Data, class_name: str, form: Form, seen: Observed) -> int:
    offered = offer(source, class_name, form)
    left = offered.keys - seen.keys if offered else ()
    return sum(_MINOR.search(key) is None for key in left)


def _fields(sure: Solver, config: Resolved) -> tuple[dict[str, object], dict[str, str]]:
    """(values of the fields that are fixed, reasons of those that are read and are not)."""
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

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:  # noqa: N802 (ast names it)
        if isinstance(node.test, ast.Name):  # `... if head_dim else ...`: if it is given
            return self.visit(node.body)  # type: ignore[no-any-return]
        test = self.literal._replace(expression=parse(ast.unparse(node.test)))
        value = _worth(test, self.config, Run({}, 10_000))
        if isinstance(value, Unknown):
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
