"""A second opinion: what the transformers that is installed beside tidoctor says of a checkpoint.

The atlas holds what one release promises; the library that is there may be another, or know a
class that the atlas does not. It is asked in a process of its own (`tidoctor.atlas.installed`):
which tensors the class has under this config, and what its loader makes of the names and shapes in
these files. Nothing of it is imported here, and no code of a model is run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tidoctor import isolation
from tidoctor.atlas import families, installed
from tidoctor.atlas.data import shown
from tidoctor.atlas.expectation import Expectation, expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Diagnosis, Severity
from tidoctor.names import natural_key
from tidoctor.rules.fitting import quantised
from tidoctor.rules.subject import is_foreign_config
from tidoctor.rules.view import View
from tidoctor.tensors import formed
from tidoctor.wrappers import is_adapter

SECONDS = 120.0
MOST = 1 << 26  # bytes of an answer; that about DeepSeek-V3 with 45,395 tensors has 5 MB

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

COMMAND: tuple[str, ...] = (sys.executable or "", "-P", installed.__file__)
"""What is run; the folder with the question is added."""

# Keys that make the library fetch or run something and have no part in names and shapes.
_LEFT_OUT = frozenset({
    "quantization_config", "compression_config", "fusion_config", "transformers_weights",
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
    "dtype", "torch_dtype", "_name_or_path", "extra_files",
})  # fmt: skip
_DEEPEST = 100  # levels of a config


class Misfit(NamedTuple):
    """A tensor and the two shapes that two sides give it."""

    name: str
    found: Shape
    wanted: Shape


@dataclass(frozen=True, slots=True)
class AtlasView:
    """How the atlas and the installed library differ about a fresh save of the class.

    Attributes:
        version: the release that the atlas was learned from; None where nothing was compared.
        reason: why nothing was compared, "" where it was.
        compared: number of tensors that the library names.
        form: "saved" or, where the atlas knows no more, "memory".
        installed_only: names that only the library has.
        atlas_only: names that only the atlas has.
        shapes: tensors with the shape in the atlas (`found`) and in the library (`wanted`).
        ties: aliases, in memory names, that the two tie otherwise.
    """

    version: str | None = None
    reason: str = ""
    compared: int = 0
    form: str = "saved"
    installed_only: tuple[str, ...] = ()
    atlas_only: tuple[str, ...] = ()
    shapes: tuple[Misfit, ...] = ()
    ties: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool | None:
        """Whether they say the same; None where that is not known."""
        if self.reason:
            return None
        return not (self.installed_only or self.atlas_only or self.shapes or self.ties)


@dataclass(frozen=True, slots=True)
class FilesView:
    """What the loader of the installed library makes of the names and shapes in the files.

    Attributes:
        reason: why it was not asked or did not answer, "" where it did.
        compared: number of tensors in the files.
        missing: names in memory that it would give initial values.
        unexpected: names that it would not use, as it renames them.
        mismatched: names in memory with the shape it gets (`found`) and the one it wants.
        failed: (name in memory, why) where its conversion of names and shapes fails.
    """

    reason: str = ""
    compared: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Misfit, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool | None:
        """Whether every tensor has its place and every place its tensor; None if unknown."""
        if self.reason:
            return None
        return not (self.missing or self.unexpected or self.mismatched or self.failed)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the installed transformers says of one checkpoint.

    Attributes:
        class_name: the class that it was asked about; None where it is not known which.
        version: its release, None where it was not reached.
        reason: why it has no opinion, in one sentence; "" where it has one.
        tensors: name -> shape as a fresh save of it writes them.
        ties: alias -> the tensor whose bytes it shares, in memory names.
        atlas: how the atlas differs from it.
        files: what it makes of the files.
    """

    class_name: str | None = None
    version: str | None = None
    reason: str = ""
    tensors: Shapes = field(default_factory=dict, repr=False)
    ties: Mapping[str, str] = field(default_factory=dict, repr=False)
    atlas: AtlasView = AtlasView()
    files: FilesView = FilesView()

    def surprises(self, found: Diagnosis) -> bool:
        """Whether it would not load the files as they are although no rule warned of anything."""
        ill = found.worst is not None and found.worst > Severity.NOTE
        return not self.reason and self.files.complete is False and not ill


class _Unasked(Exception):
    """Why the library is not asked."""


def second_opinion(
    checkpoint: Checkpoint, wanted: str | None = None, seconds: float = SECONDS
) -> Opinion:
    """Ask the installed library about a checkpoint and the class or task that it must serve.

    Takes about as long as importing torch and transformers, `seconds` at most. Raises Usage for an
    unknown class or task; whatever else goes wrong is the `reason` of the opinion.
    """
    view = View(checkpoint, wanted=wanted)
    name: str | None = None
    try:
        name = _class(view, wanted)
        config = _config(view)
        unfit = _unfit(view)
        parts, problem = _asked(config, name, None if unfit else checkpoint, seconds)
        return _opinion(view, name, parts, problem, unfit)
    except _Unasked as e:
        return Opinion(name, reason=str(e))


# --- the question -------------------------------------------------------------------------------


def _class(view: View, wanted: str | None) -> str:
    if view.checkpoint.entrance == "adapter":
        raise _Unasked("the folder holds an adapter")
    if view.checkpoint.config is None:
        raise _Unasked("there is no config.json")
    if not view.settings:
        raise _Unasked("config.json could not be read")
    if is_foreign_config(view.settings):
        raise _Unasked("config.json is not one of transformers")
    if wanted and view.wanted is None:
        raise _Unasked(f"it is not known which class serves {shown(view.model_type)} as {wanted}")
    if view.target:
        return view.target.name
    if view.declared_name is None:
        raise _Unasked("config.json names no class in architectures; name one with --as")
    return families.modern_name(view.declared_name)


def _config(view: View) -> object:
    """The config without what makes the library fetch or run something."""
    return _harmless(view.settings)


def _harmless(value: object, depth: int = 0) -> object:
    if depth > _DEEPEST:
        raise _Unasked("config.json is nested too deeply")
    if isinstance(value, Mapping):
        if "auto_map" in value:
            raise _Unasked("the model brings its own code, which is not run")
        return {k: _harmless(v, depth + 1) for k, v in value.items() if k not in _LEFT_OUT}
    if isinstance(value, list):
        return [_harmless(each, depth + 1) for each in value]
    return value


def _unfit(view: View) -> str:
    """Why the files cannot be held against the class, "" where they can."""
    if view.incomplete:
        return view.incomplete
    if view.quantisations:
        return "the weights are quantised"
    if view.kinds.first(is_adapter):
        return "an adapter is not merged"
    return quantised(view.kinds, {dtype for dtype, _ in view.forms}) or ""


def _asked(
    config: object, name: str, checkpoint: Checkpoint | None, seconds: float
) -> tuple[dict[str, dict[str, object]], str]:
    """The parts of the answer by name, and how the program ended if not well."""
    if not COMMAND[0]:
        raise _Unasked("the Python that runs tidoctor is not known")
    files = None
    if checkpoint is not None:
        files = {n: [dtype, list(shape)] for n, (dtype, shape) in formed(checkpoint.tensors)}
    try:
        with tempfile.TemporaryDirectory(prefix="tidoctor-") as place:
            folder = Path(place)
            question = {"class": name, "files": files}
            (folder / "config.json").write_text(json.dumps(config), "ascii")
            (folder / "question.json").write_text(json.dumps(question), "ascii")
            outcome = isolation.run(
                (*COMMAND, str(folder)), folder=folder, environment=_environment(),
                seconds=seconds, most=MOST,
            )  # fmt: skip
    except OSError as e:
        raise _Unasked(f"no temporary folder could be written: {e.strerror}") from e
    return dict(_parts(outcome.output)), outcome.problem


def _environment() -> dict[str, str]:
    """The own environment, offline, quiet, without accelerators and with few threads."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    return kept | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


# --- the answer ---------------------------------------------------------------------------------

_SENSELESS = "the program that asks it gave no sensible answer"


def _parts(output: bytes) -> Iterator[tuple[str, dict[str, object]]]:
    """The objects of an answer by their part; lines that are none are passed over."""
    for line in output.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("part"), str):
            yield found["part"], found


def _opinion(
    view: View, name: str, parts: Mapping[str, Mapping[str, object]], problem: str, unfit: str
) -> Opinion:
    """Make sense of the parts; one that is absent was not told because of the problem."""
    ended = f"the program that asks it {problem or 'gave no answer'}"
    version = parts.get("library", {}).get("version")
    version = version if isinstance(version, str) and version else None
    for part in ("library", "model"):
        reason = _reason(parts.get(part), ended)
        if reason:
            return Opinion(name, version, reason)
    model = parts["model"]
    memory, saved, ties = _shapes(model["memory"]), _shapes(model["saved"]), model["ties"]
    if version is None or memory is None or saved is None or not _is_ties(ties):
        return Opinion(name, version, _SENSELESS)
    assert isinstance(ties, dict)
    return Opinion(
        name,
        version,
        tensors=saved,
        ties=ties,
        atlas=_against_atlas(view, name, memory, saved, ties),
        files=FilesView(unfit) if unfit else _files(view, parts.get("load"), ended),
    )


_KEYS = {
    "library": ("version",),
    "model": ("memory", "saved", "ties"),
    "load": ("missing", "unexpected", "mismatched", "failed"),
}


def _reason(part: Mapping[str, object] | None, ended: str) -> str:
    """Why a part of the answer cannot be used, "" where it can."""
    if part is None:
        return ended
    error = part.get("error")
    if isinstance(error, str) and error:
        return isolation.sentence(error)
    if not all(key in part for key in _KEYS[str(part["part"])]):
        return _SENSELESS
    return ""


def _files(view: View, part: Mapping[str, object] | None, ended: str) -> FilesView:
    reason = _reason(part, ended)
    if part is None or reason:
        return FilesView(reason)
    missing, unexpected = _names(part["missing"]), _names(part["unexpected"])
    try:
        misfits = [Misfit(str(n), _shape(a), _shape(b)) for n, a, b in _rows(part["mismatched"])]
        failed = [(str(n), str(why)) for n, why in _rows(part["failed"])]
    except (TypeError, ValueError):
        return FilesView(_SENSELESS)
    if missing is None or unexpected is None:
        return FilesView(_SENSELESS)
    return FilesView(
        compared=len(view.checkpoint.tensors),
        missing=_sorted(missing),
        unexpected=_sorted(unexpected),
        mismatched=tuple(sorted(misfits, key=lambda m: natural_key(m.name))),
        failed=tuple(sorted(failed, key=lambda pair: natural_key(pair[0]))),
    )


def _against_atlas(
    view: View, name: str, memory: Shapes, saved: Shapes, ties: Mapping[str, str]
) -> AtlasView:
    try:
        promised = expectation(view.settings, name)
    except NotCovered as e:
        return AtlasView(reason=e.reason)
    form, theirs, ours = _same_form(promised, memory, saved)
    both = theirs.keys() & ours.keys()
    odd = {alias for alias, _ in ties.items() ^ promised.ties.items()}
    return AtlasView(
        version=promised.version,
        compared=len(theirs),
        form=form,
        installed_only=_sorted(theirs.keys() - both),
        atlas_only=_sorted(ours.keys() - both),
        shapes=tuple(
            Misfit(each, ours[each], theirs[each])
            for each in _sorted(both)
            if ours[each] != theirs[each]
        ),
        ties=_sorted(odd),
    )


def _same_form(promised: Expectation, memory: Shapes, saved: Shapes) -> tuple[str, Shapes, Shapes]:
    """The tensors of both sides in the most telling form that the atlas knows."""
    if promised.saved is None:
        return "memory", memory, promised.memory
    return "saved", saved, promised.saved


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural_key))


def _shapes(value: object) -> dict[str, Shape] | None:
    """Name -> shape out of JSON; None for anything else."""
    if not isinstance(value, dict):
        return None
    try:
        return {name: _shape(shape) for name, shape in value.items()}
    except TypeError:
        return None


def _shape(value: object) -> Shape:
    if not isinstance(value, list) or not all(type(size) is int for size in value):
        raise TypeError("no shape")
    return tuple(value)


def _rows(value: object) -> list[list[object]]:
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise TypeError("no rows")
    return value


def _names(value: object) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    return None


def _is_ties(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(root, str) for root in value.values())
