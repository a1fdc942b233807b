"""The learner's own reading of the facts, on resolved fields: fast, and independent of the shipped one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn.fit import VARIABLES, WRONG, Universe


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
    layout = facts["memory"]
    if kind == "disk" and "disk" in facts:
        return expanded(facts["disk"], "disk", values, known)
    found = expanded(layout, kind if "disk" not in facts else "memory", values, known)
    if kind == "disk":
        found = expanded(layout, "memory", values, known)
        for alias, _, guard in facts.get("ties", ()):
            for name, point in points(layout, alias, values):
                if guard is True or one(str(guard), values, point):
                    found.pop(name, None)
        for name in facts.get("unsaved", ()):
            found.pop(name, None)
    return found


def one(text: str, values: Mapping[str, Any], point: tuple[int, ...]) -> Any:
    """The value of an expression at one point."""
    found = Universe([values], [(0, *point)]).evaluate(text)[0]
    if found is WRONG:
        raise Uncovered(text)
    return found


def points(layout: Mapping[str, Any], template: str, values: Mapping[str, Any]) -> Any:
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
            for number in range(one(text, values, point))
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
    for template, guard, shape in rows(layout):
        for name, point in points(layout, template, values):
            if guard is None or one(guard, values, point):
                sizes = tuple(one(text, values, point) for text in shape)
                if not all(type(each) is int for each in sizes):
                    raise Uncovered(template)
                found[name] = sizes
    for part in layout.get("parts", ()):
        before = part["config"] + "." if part["config"] else ""
        inner = {k.removeprefix(before): v for k, v in values.items() if k.startswith(before)}
        if "auto" in part:
            tasks = learner.classes_by_type().get(str(inner.get("model_type")), {})
            kind_of = tasks.get(part["auto"])
        else:
            kind_of = part["class"]
        if kind_of not in known:
            raise Uncovered(f"part {kind_of}")
        for name, sizes in predicted(known[kind_of], kind, inner, known).items():
            if name not in part.get("without", ()):
                found[part["at"] + name] = sizes
    return found
