"""The line that says what a report is about: name, class, size."""

from __future__ import annotations

from tidoctor.checkpoint import CONFIG, Checkpoint
from tidoctor.names import brief, printable
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import INDENT


def classes(checkpoint: Checkpoint) -> str:
    """The class in config.json, or why none is known."""
    if checkpoint.config is None:
        return f"no {CONFIG}"
    found = checkpoint.settings.get("architectures")
    named = [c for c in found if isinstance(c, str)] if isinstance(found, list) else []
    if named:
        return ", ".join(map(brief, named[:3]))
    if not checkpoint.settings:
        return f"{CONFIG} says nothing"
    kind = checkpoint.settings.get("model_type")
    return brief(kind) if isinstance(kind, str) and kind else "no class in config.json"


def named(checkpoint: Checkpoint) -> str:
    """What the user called it, with the commit that was examined: `org/name@0123456789ab`."""
    name, revision = checkpoint.source.name, checkpoint.source.revision
    if revision is None or revision in name:
        return name
    return f"{name} ({revision[:12]})" if "@" in name else f"{name}@{revision[:12]}"


def extent(checkpoint: Checkpoint) -> str:
    """`15.01 GB in 4 files`."""
    files = units.plural(len(checkpoint.weights), "file")
    return f"{units.size(checkpoint.nbytes)} in {files}"


def subject(name: str, parts: list[str], style: Style) -> str:
    """The header line of a report."""
    return INDENT.join([style.paint("strong", printable(name)), *parts])
