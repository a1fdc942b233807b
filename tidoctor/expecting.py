"""From a source and a wish to the tensors that are expected: which config, which class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor.document import parse
from tidoctor.errors import Unreadable, Usage
from tidoctor.source import CONFIG, CONFIG_CAP, INDEX_SUFFIX, Source, open_source
from tidoctor.source.folder import Folder

if TYPE_CHECKING:
    from tidoctor.atlas.expectation import Expectation


@dataclass(frozen=True, slots=True)
class Answer:
    """What is expected of a source, or why that is not known.

    Attributes:
        source: as the user named it.
        model_type: what config.json says.
        class_name: the class that was asked for; None when no class serves the task.
        expectation: its tensors, None where those of a fresh save are not known.
        reason: why they are not, in one sentence; "" where they are.
    """

    source: str
    model_type: str | None
    class_name: str | None
    expectation: Expectation | None
    reason: str = ""


def answer(source: str, wanted: str | None = None) -> Answer:
    """The tensors that a config promises under a class, a task or its own `architectures`.

    `source` is a checkpoint, a folder with a config.json or that file itself.
    Raises Unreadable when there is no config or it names no class, Usage for an unknown task.
    """
    from tidoctor.atlas.expression import NotCovered

    values = settings(source)
    found = values.get("model_type")
    model_type = found if isinstance(found, str) and found else None
    name = _class(source, values, model_type, wanted)
    if name is None:
        from tidoctor.atlas.data import shown

        reason = f"no class of transformers serves {shown(model_type)} as {wanted}"
        return Answer(source, model_type, None, None, reason)
    from tidoctor.atlas.expectation import expectation

    try:
        found = expectation(values, name)
        if found.saved is None:
            return Answer(source, model_type, name, None, found.saved_reason)
        return Answer(source, model_type, name, found)
    except NotCovered as e:
        return Answer(source, model_type, name, None, e.reason)


def expect(source: str, wanted: str | None = None) -> Expectation:
    """The same, but raises NotCovered where nothing is known."""
    from tidoctor.atlas.expression import NotCovered

    found = answer(source, wanted)
    if found.expectation is None:
        raise NotCovered(found.reason)
    return found.expectation


def settings(source: str) -> Mapping[str, object]:
    """The values of the config.json of a source. Raises Unreadable when they cannot be read."""
    place, file = _config_file(source)
    size = place.size(file)
    if size is None:
        raise Unreadable(source, f"holds no {file}", "the expected tensors follow from it")
    document = parse(place.read(file, 0, min(size, CONFIG_CAP + 1)), max_bytes=CONFIG_CAP)
    name = source if source.endswith(file) else f"{source.rstrip('/')}/{file}"
    if not document.readable:
        problem = document.problems[-1]
        raise Unreadable(f"{name}:{problem.line}", f"is no JSON: {problem.text}")
    if not isinstance(document.data, dict):
        raise Unreadable(name, "is no JSON object, so it sets nothing")
    return document.data


def _config_file(source: str) -> tuple[Source, str]:
    path = Path(source)
    try:
        alone = source.endswith(".json") and not source.endswith(INDEX_SUFFIX) and path.is_file()
    except (OSError, ValueError):
        alone = False
    if alone:
        return Folder(path.parent, name=source, kind="file", chosen=path.name), path.name
    place = open_source(source)
    chosen = place.chosen or ""
    named = chosen.endswith(".json") and not chosen.endswith(INDEX_SUFFIX)
    return place, chosen if named else CONFIG


def _class(
    source: str, values: Mapping[str, object], model_type: str | None, wanted: str | None
) -> str | None:
    """The class to expect; None when no class serves the wanted task."""
    from tidoctor.atlas import families
    from tidoctor.atlas.expectation import why_not

    if wanted is None:
        named = values.get("architectures")
        first = named[0] if isinstance(named, list) and named else None
        if isinstance(first, str) and first:
            return families.modern_name(first)
        what = f"its {CONFIG} names no class in architectures"
        raise Unreadable(source, what, "name one with --as, such as --as causal-lm")
    if why_not(wanted) is None or families.class_facts(wanted):
        return wanted
    if model_type and (name := families.class_for(model_type, wanted)):
        return name
    from tidoctor.rules.subject import TASKS

    if wanted not in TASKS:
        raise Usage(
            f"--as {wanted}",
            "is neither a class of transformers nor a task",
            f"tasks are {', '.join(TASKS)}",
        )
    if model_type is None:
        what = f"its {CONFIG} has no model_type, without which a task means no class"
        raise Unreadable(source, what, "name the class with --as")
    return None
