"""Words of the command line that are values already, or nearly: taken without pydantic.

typer, since 0.29, asks pydantic even to make a str of a str, and to import it costs a tenth of a
second of every command. What needs no judgement is taken here; all else goes typer's own way, and
so does everything in a version of typer that is built otherwise.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

_UNDECIDED = object()


class PlainWords:
    """For a command or a group of typer: its parameters take plain words by themselves."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, --help and those for completion among them."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            # The one name of typer's inside that this needs: what converts a parameter's words,
            # None until the first of them comes.
            if getattr(parameter, "_runtime_param", ...) is None:
                parameter._runtime_param = _Plain(parameter.type_descriptor.annotation)
        return parameters


class _Plain:
    """In the place of typer's converter of one parameter."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of `value`, words or a default; typer.BadParameter when it cannot be."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        taken = _list(value, self._annotation) if several else _one(value, self._annotation)
        if taken is not _UNDECIDED:
            return taken
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _list(values: Any, annotation: Any) -> Any:
    if get_origin(annotation) is not list or not isinstance(values, (list, tuple)):
        return _UNDECIDED
    (kind,) = get_args(annotation)
    taken = [_one(value, kind) for value in values]
    return _UNDECIDED if _UNDECIDED in taken else taken


def _one(value: Any, annotation: Any) -> Any:
    if annotation is str and type(value) is str:
        return value
    if annotation is Path and type(value) is str:
        return Path(value) if _may_be_read(value) else _UNDECIDED
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        if isinstance(value, annotation):
            return value
        return next((member for member in annotation if member.value == value), _UNDECIDED)
    return _UNDECIDED


def _may_be_read(path: str) -> bool:
    """Whether typer would pass this path by: it refuses one that it sees and cannot read."""
    try:
        os.stat(path)  # noqa: PTH116 - as typer does; Path.exists() would raise for a locked folder
    except OSError:
        return True
    return os.access(path, os.R_OK)
