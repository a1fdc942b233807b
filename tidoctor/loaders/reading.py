"""Which files of a checkpoint a consumer reads, and what it then sees under which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tidoctor.loaders.patient import Patient, Shape
from tidoctor.loaders.policy import Record

_SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Seen:
    """The tensors that a consumer meets.

    Attributes:
        files: those it reads, in its order.
        tensors: name -> shape of the copy that counts, in the order of the files.
        twice: (name, first file, second file) of a name that stands in two of them, else None.
        stale: (name, its file, the file in the index) of a name whose copy that counts is not the
            one that the index names, else None.
    """

    files: tuple[str, ...]
    tensors: Mapping[str, Shape]
    twice: tuple[str, str, str] | None = None
    stale: tuple[str, str, str] | None = None


def seen(patient: Patient, record: Record) -> Seen:
    """What a consumer sees. No file at all where none has a name that it looks for."""
    files = _files(patient, record)
    tensors: dict[str, Shape] = {}
    home: dict[str, str] = {}
    twice = None
    mapped = patient.index if record.index in ("listed", "map") else None
    if record.select == "single-first" and files == (_SINGLE,):
        mapped = None  # whoever takes the single file does not look at the index
    for file in files:
        for name, shape in patient.files[file].items():
            if mapped is not None and (
                name not in mapped or (record.index == "map" and mapped[name] != file)
            ):
                continue
            if twice is None and name in home:
                twice = (name, home[name], file)
            home[name] = file
            tensors[name] = shape
    index = {} if patient.index is None or files == (_SINGLE,) else patient.index
    stale = next(
        (
            (name, home[name], file)
            for name, file in index.items()
            if name in home and home[name] != file and name in patient.files.get(file, ())
        ),
        None,
    )
    return Seen(files, tensors, twice, stale)


def _files(patient: Patient, record: Record) -> tuple[str, ...]:
    if record.select == "caller":
        return patient.read
    listed: tuple[str, ...] | None = None
    if patient.index is not None:
        listed = tuple(f for f in dict.fromkeys(patient.index.values()) if f in patient.files)
    matching = tuple(f for f in sorted(patient.files) if fnmatchcase(f, record.pattern))
    if record.select == "single-first":
        return (_SINGLE,) if _SINGLE in patient.files else listed or ()
    if record.select == "index-first":
        return matching if listed is None else listed
    if record.select == "glob-index" and listed is not None:
        return tuple(f for f in matching if f in listed)
    return matching


def unlisted(patient: Patient, files: Seen) -> list[str]:
    """Names that the index and the files do not have in common, sorted."""
    if patient.index is None:
        return []
    return sorted(set(patient.index) ^ set(files.tensors))
