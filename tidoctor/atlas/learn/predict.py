"""The learner's own reading of the facts: on resolved fields, independent of the shipped one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn.universe import VARIABLES, WRONG, Universe, compiled


class Uncovered(Exception):
    """The facts do not say."""


def predicted(
    facts: Mapping[str, Any], kind: str, values: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes by the facts, for memory or for disk.

    Raises:
        Uncovered: a pinned field has another value, or an expression has no value.
    """
    for path, allowed in facts.get("pinned", {}).items():
        if values.get(path) not in allowed:
            raise Uncovered(path)
    for path, most in facts.get("most", {}).items():
        if not isinstance(values.get(path), int) or values[path] > most:
            raise Uncovered(path)
    for path, least in facts.get("least", {}).items():
        if type(values.get(path)) is int and values[path] < least:
            raise Uncovered(path)
    for path, words in facts.get("words", {}).items():
        held = values.get(path)
        if isinstance(held, list | tuple) and not {*held} <= {*words}:
            raise Uncovered(path)
    layout = facts["memory"]
    if kind == "disk" and "disk" in facts:
        return expanded(facts["disk"], "disk", values, known)
    found = expanded(layout, kind if "disk" not in facts else "memory", values, known)
    if kind == "disk":
        found = expanded(layout, "memory", values, known)
        reading = Reading(values)
        for alias, _, guard in facts.get("ties", ()):
            for name, point in instances(alias, found):
                if guard is True or reading.one(str(guard), point):
                    found.pop(name, None)
        for name in facts.get("unsaved", ()):
            found.pop(name, None)
    return found


class Reading:
    """The values of expressions under one config, each worked out once."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self._known: dict[tuple[str, tuple[int, ...]], Any] = {}

    def one(self, text: str, point: tuple[int, ...]) -> Any:
        """The value of an expression at one point; raises Uncovered where it has none."""
        code = compiled(text)
        if code is None:
            raise Uncovered(text)
        function, names = code
        used = tuple(n for variable, n in zip(VARIABLES, point, strict=False) if variable in names)
        key = text, used
        if key not in self._known:
            given = dict(zip(VARIABLES, point, strict=False))
            try:
                arguments = [given[n] if n in given else self.values[n] for n in names]
            except KeyError:
                # Through a universe, which knows what to do where a field is missing.
                self._known[key] = Universe([self.values], [(0, *point)]).evaluate(text)[0]
            else:
                self._known[key] = function(*arguments)
        if self._known[key] is WRONG:
            raise Uncovered(text)
        return self._known[key]


def instances(template: str, names: Iterable[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Those of the names that a template stands for, with their positions."""
    pattern = re.escape(template)
    for variable in VARIABLES:
        mark = re.escape(f"{{{variable}}}")
        pattern = pattern.replace(mark, rf"(?P<{variable}>\d+)", 1)
        pattern = pattern.replace(mark, rf"(?P={variable})")
    found = ((name, re.fullmatch(pattern, name)) for name in names)
    return [(name, tuple(map(int, match.groups()))) for name, match in found if match]


def points(layout: Mapping[str, Any], template: str, reading: Reading) -> Any:
    """The concrete names of a template, with their positions."""
    rows: list[tuple[str, tuple[int, ...]]] = [(template, ())]
    for variable in VARIABLES:
        mark = f"{{{variable}}}"
        if mark not in template:
            break
        container = template[: template.index(mark) + len(mark)]
        text = layout["counts"][container]
        rows = [
            (name.replace(mark, str(number)), (*point, number))
            for name, point in rows
            for number in range(reading.one(text, point))
        ]
    return rows


def rows(layout: Mapping[str, Any]) -> Any:
    """Template, condition and shape of every row; a name of several ranks has several."""
    for template, row in layout["tensors"].items():
        several = bool(row) and isinstance(row, list) and isinstance(row[0], dict)
        for each in row if several else [row]:
            if isinstance(each, dict):
                yield template, each.get("if"), each["shape"]
            else:
                yield template, None, each


def expanded(
    layout: Mapping[str, Any], kind: str, values: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """A layout's names and shapes, parts included."""
    found: dict[str, tuple[int, ...]] = {}
    if "uncovered" in layout:
        raise Uncovered(layout["uncovered"])
    for path, allowed in layout.get("pinned", {}).items():
        if values.get(path) not in allowed:
            raise Uncovered(path)
    reading = Reading(values)
    for template, guard, shape in rows(layout):
        for name, point in points(layout, template, reading):
            if guard is None or reading.one(guard, point):
                sizes = tuple(reading.one(text, point) for text in shape)
                if not all(type(each) is int for each in sizes):
                    raise Uncovered(template)
                found[name] = sizes
    for part in layout.get("parts", ()):
        before = part["config"] + "." if part["config"] else ""
        inner = {k.removeprefix(before): v for k, v in values.items() if k.startswith(before)}
        kind_of = part.get("class")
        if "auto" in part:
            tasks = learner.classes_by_type().get(str(inner.get("model_type")), {})
            kind_of = tasks.get(part["auto"])
        if kind_of is None or kind_of not in known:
            raise Uncovered(f"part {kind_of}")
        for name, sizes in predicted(known[kind_of], kind, inner, known).items():
            if name not in part.get("without", ()):
                found[part["at"] + name] = sizes
    return found
