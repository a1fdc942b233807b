"""Which files of a checkpoint a consumer reads, and what it then sees under which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tidoctor.loaders.patient import Copy, Patient, Shape
from tidoctor.loaders.policy import Record

_SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Seen:
    """The tensors that a consumer meets.

    Attributes:
        files: those it reads, in its order.
        tensors: name -> shape of the copy that counts, in the order of the files.
        copies: name -> the file of that copy and the name that it has there.
        twice: name -> the files of its copies, of names that stand in more than one of them.
        absent: files that it is led to and that are not there, sorted.
    """

    files: tuple[str, ...]
    tensors: Mapping[str, Shape]
    copies: Mapping[str, Copy]
    twice: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()


def seen(patient: Patient, record: Record) -> Seen:
    """What a consumer sees. No file at all where none has a name that it looks for."""
    files = _files(patient, record)
    tensors: dict[str, Shape] = {}
    copies: dict[str, Copy] = {}
    twice: dict[str, tuple[str, ...]] = {}
    mapped = patient.index if record.index in ("listed", "map") else None
    single = record.select == "single-first" and files == (_SINGLE,)
    if single:
        mapped = None  # whoever takes the single file does not look at the index
    for file in files:
        for stored, shape in patient.files[file].items():
            if mapped is not None and (
                stored not in mapped or (record.index == "map" and mapped[stored] != file)
            ):
                continue
            name = stored
            for text in record.strip:
                front = text.startswith("^")
                name = name.removeprefix(text[1:]) if front else name.replace(text, "")
            if name in copies and copies[name][0] != file:
                twice[name] = (*twice.get(name, (copies[name][0],)), file)
            copies[name] = (file, stored)
            tensors[name] = shape
    led = record.select in ("index-first", "single-first") and not single
    absent = {*(patient.index or {}).values()} - set(patient.files) if led else set()
    return Seen(files, tensors, copies, twice, tuple(sorted(absent)))


def _files(patient: Patient, record: Record) -> tuple[str, ...]:
    if record.select == "caller":
        return patient.read
    listed: tuple[str, ...] | None = None
    if patient.index is not None:
        listed = tuple(f for f in sorted(set(patient.index.values())) if f in patient.files)
    patterns = record.pattern.split("|")
    matching = tuple(f for f in sorted(patient.files) if any(fnmatchcase(f, p) for p in patterns))
    if record.select == "single-first":
        return (_SINGLE,) if _SINGLE in patient.files else listed or ()
    if record.select == "index-first":
        return matching if listed is None else listed
    if record.select == "glob-index" and listed is not None:
        return tuple(f for f in matching if f in listed)
    return matching
