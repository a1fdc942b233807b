"""What the installed transformers says: where it differs from the atlas, and what of the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tidoctor.finding import Diagnosis
from tidoctor.names import printable
from tidoctor.patterns import some_patterns
from tidoctor.report import units
from tidoctor.report.style import Style
from tidoctor.report.text.layout import Fact, facts

if TYPE_CHECKING:
    from tidoctor.opinion import AtlasView, FilesView, Misfit, Opinion

_MOST = 3  # patterns of names, and rows of shapes, shown of one kind


def lines(opinion: Opinion, found: Diagnosis, style: Style) -> list[str]:
    """The block of one opinion; a line where it agrees or could not be had."""
    if opinion.reason:
        return [_not_run(opinion)]
    who = f"transformers {printable(opinion.version or '')}, asked here"
    if opinion.atlas.agrees and opinion.files.complete:
        return [f"{who}: {_atlas(opinion.atlas)[0]}, and {_files(opinion.files)[0]}"]
    rows: list[Fact] = [("atlas", _atlas(opinion.atlas)), ("files", _files(opinion.files))]
    if opinion.surprises(found):
        said = "no rule has found why; believe the library that will load the files"
        rows.append(("caution", [said]))
    head = style.paint("strong", f"{who} as {printable(opinion.class_name or '')}:")
    return [head, *facts(rows, style)]


def difference(opinion: Opinion) -> str:
    """The same on one line; "" where it agrees or where there was nothing to compare with."""
    if opinion.reason:
        return _not_run(opinion).replace("not run", "not-run", 1)
    told = [] if opinion.atlas.agrees in (True, None) else _atlas(opinion.atlas)
    if opinion.files.complete is False:
        told += _files(opinion.files)
    elif opinion.files.reason:
        told.append(_files(opinion.files)[0])
    if not told:
        return ""
    return f"installed transformers {printable(opinion.version or '')}: {'; '.join(told)}"


def _not_run(opinion: Opinion) -> str:
    which = f" transformers {printable(opinion.version)}:" if opinion.version else ""
    return f"not run --against-installed:{which} {printable(opinion.reason)}"


def _atlas(view: AtlasView) -> list[str]:
    if view.reason:
        return [f"not compared: {printable(view.reason)}"]
    if view.agrees:
        return [f"agrees with the atlas on all {units.plural(view.compared, 'tensor')}"]
    told = []
    if view.installed_only:
        told.append(f"the atlas lacks {_counted(view.installed_only)}")
    if view.atlas_only:
        told.append(f"only the atlas has {_counted(view.atlas_only)}")
    told += _misfits(view.shapes, "in the atlas", "here")
    if view.ties:
        told.append(f"the atlas ties {_counted(view.ties)} otherwise")
    return [*told, f"the atlas was learned from transformers {printable(view.version or '')}"]


def _files(view: FilesView) -> list[str]:
    if view.reason:
        return [f"not compared: {printable(view.reason)}"]
    if view.complete:
        loaded = "the one tensor" if view.compared == 1 else f"all {view.compared} tensors"
        return [f"by names and shapes it loads {loaded} of the files and lacks none"]
    told = []
    if view.missing:
        told.append(f"lacks {_counted(view.missing)}, to be given initial values")
    if view.unexpected:
        told.append(f"does not use {_counted(view.unexpected)}")
    told += _misfits(view.mismatched, "in the files", "wanted")
    for name, why in view.failed[:_MOST]:
        told.append(f"cannot make {printable(name)}: {printable(why)}")
    return told + _more(len(view.failed))


def _counted(names: Iterable[str]) -> str:
    listed = list(names)
    shown = some_patterns(listed, _MOST)
    return shown if len(listed) == 1 else f"{len(listed)} tensors ({shown})"


def _misfits(misfits: Sequence[Misfit], found: str, wanted: str) -> list[str]:
    rows = [
        f"{printable(m.name)} is {units.shape(m.found)} {found}, {units.shape(m.wanted)} {wanted}"
        for m in misfits[:_MOST]
    ]
    return rows + _more(len(misfits))


def _more(count: int) -> list[str]:
    return [f"… and {count - _MOST} more (all of them with --format json)"] * (count > _MOST)
