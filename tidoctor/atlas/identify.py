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

import functools
import re
from collections.abc import Iterable, Iterator, Mapping

from tidoctor.atlas import data, families, renames
from tidoctor.atlas.completing import Completion
from tidoctor.atlas.configs import resolve
from tidoctor.atlas.data import shown
from tidoctor.atlas.expectation import Expectation, expectation, is_passing
from tidoctor.atlas.expression import NotCovered, Run
from tidoctor.atlas.identity import HIDDEN, Candidate, Identity
from tidoctor.atlas.layout import MOST_TENSORS, Class
from tidoctor.atlas.loading import load
from tidoctor.atlas.observed import (
    Form,
    Observed,
    Shapes,
    Unlike,
    clauses,
    key,
    offer,
)
from tidoctor.atlas.recovered import recovered
from tidoctor.atlas.solving import Contradiction, Fields, Solver

__all__ = ["HIDDEN", "Candidate", "Identity", "has_names", "identify"]

_MOST_NAMES = 5_000  # that differ by more than numbers; no class has as many
_MOST_CANDIDATES = 400  # classes whose layout is laid over the tensors
_MOST_SIMILAR = 12  # that are told where none is exact
_MOST_STEPS = 800_000  # of all candidates together
_MOST_STEPS_EACH = 80_000
_MOST_MADE = 3_000_000  # tensors made for verification
_MOST_TYPES = 3  # of a part whose class the config chooses
_STEPS_TO_TELL = 200_000

# Families that most files are of come first where several fit; that proves nothing.
_COMMON = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "mixtral", "qwen2_moe",
    "qwen3_moe", "deepseek_v3", "gpt2", "gpt_neox", "bert", "roberta", "distilbert", "t5", "bart",
    "whisper", "vit", "clip",
)  # fmt: skip
_FORMS: tuple[Form, ...] = ("disk", "memory")
# Names that say little of a layout where they are missing: biases, parameters of activations.
_MINOR = re.compile(r"\.bias$|\.alpha_[pn]$|\.(?:beta|eps)$|act[a-z_]*\.weight$")


def identify(shapes: Shapes) -> Identity:
    """The classes that tensors may belong to, and the fields of the config that they fix.

    `shapes` is name -> shape as in the files, wrappers of training taken off. Takes a bounded
    number of steps on any input; what was not looked at is said in `Identity.reason`.
    """
    if not shapes:
        return Identity((), "there are no tensors")
    if len(shapes) > MOST_TENSORS:
        return Identity((), f"there are more than {MOST_TENSORS} tensors")
    if empty := sum(0 in shape for shape in shapes.values()):
        return Identity((), f"{empty} of {len(shapes)} tensors have no values")
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
    return has_keys(class_name, keys(names))


def has_keys(class_name: str, names: frozenset[str]) -> bool:
    """The same for names without their numbers, as `keys` gives them."""
    return bool(_forms(data.current(), class_name, names))


def keys(names: Iterable[str]) -> frozenset[str]:
    """The names without their numbers, each once."""
    return frozenset(map(key, names))


def _commonness(each: Candidate) -> tuple[int, int, str]:
    known = each.model_type in _COMMON
    place = _COMMON.index(each.model_type) if known else len(_COMMON)
    return place, each.unused, each.class_name


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
        if strange and (offered.open or strange * 2 <= len(keys)):
            opened = tuple(prefix for prefix in offered.open if prefix)
            strange = sum(
                not key.startswith(opened) and not is_passing(key)
                for key in keys - offered.keys
            )
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
            completion = Completion(of, pins, types, run)
            for settings in completion.configs(solver):
                self._made += len(self._seen.shapes)
                differs = _verified(settings, class_name, self._seen.shapes)
                if not differs:
                    told = recovered(
                        solver.copy(Run({}, _STEPS_TO_TELL)), of, resolve(settings, model_type)
                    )
                    unused = self._unused(class_name, form)
                    return Candidate(
                        class_name, model_type, True, *told, dict(types), settings, unused
                    )
                return differs
        finally:
            self._steps -= before - run.left
        return completion.differs or "no values of the settings give all these shapes"


    def _unused(self, class_name: str, form: Form) -> int:
        """How many names the class could have beside, unimportant ones left out."""
        offered = offer(self._data, class_name, form)
        left = offered.keys - self._seen.keys if offered else ()
        return sum(_MINOR.search(key) is None for key in left)


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
            if is_passing(name) or any(pattern.search(name) for pattern in passed):
                continue
            return f"it has no {shown(name)}"
        if tuple(shape) != wanted:
            return f"{shown(name)} has another shape"
    unsaved = set(expected.unsaved)
    for name in promised:
        if name in files or name in ties or name in unsaved:
            continue
        if not is_passing(name) and expected.required(name):
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
    loading = load(files, expected.memory, rules, prefix)
    if loading.mismatched or loading.unknown or loading.raises or loading.surplus:
        return False
    if any(not is_passing(name) for name in loading.unexpected):
        return False
    unsaved = set(expected.unsaved)
    return not any(
        name not in expected.ties
        and name not in unsaved
        and not is_passing(name)
        and expected.required(name)
        for name in loading.missing
    )
