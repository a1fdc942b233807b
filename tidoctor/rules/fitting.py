"""How the tensors of a checkpoint fit a class: what it would lack, refuse and leave over.

The class and the config promise tensors (`tidoctor.atlas.expectation`), the loader turns names of
files into names of the model (`tidoctor.atlas.renames`). Where either is not known, NotCovered
says why, and nothing is claimed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from tidoctor.atlas import data, regions, renames
from tidoctor.atlas import loading as loads
from tidoctor.atlas.expectation import Expectation, is_passing
from tidoctor.patterns import Kinds

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_QUANTISED = re.compile(
    r"\.(?:qweight|qzeros|scales|g_idx|SCB|weight_format|absmax|quant_map|quant_state\..+"
    r"|nested_absmax|nested_quant_map|weight_packed|weight_shape|weight_scale(?:_inv|_2)?"
    r"|input_scale|weight_zero_point|weight\._data|weight\._scale|[a-z_]*_blocks|[a-z_]*_scales"
    r"|biases)$"
)
_PACKED = ("U8", "I8", "I32", "U32", "I16", "F8", "F4", "F6")


class Gap(NamedTuple):
    """A tensor that the class needs and the files do not give.

    Attributes:
        name: as a fresh save spells it, where that is known, else as the model does.
        shape: its shape under that name.
    """

    name: str
    shape: Shape


class Misfit(NamedTuple):
    """A tensor of another shape than the class has; `name` is canonical, as in the file."""

    name: str
    found: Shape
    expected: Shape


Kind = Literal["experts", "projections", "names"]
_STACKING = frozenset({"MergeModulelist", "ErnieFuseAndSplitTextVisionExperts"})
_JOINING = frozenset({"Concatenate", "Chunk", "Split"})


@dataclass(frozen=True, slots=True)
class Respelling:
    """Tensors that load, though a fresh save would store them otherwise.

    Attributes:
        kind: experts stacked or apart, projections fused or apart, or other names only.
        files: names in the files.
        saved: names on disk in a fresh save.
        feeds: what the loader gathers from either.
    """

    kind: Kind
    files: tuple[str, ...]
    saved: tuple[str, ...]
    feeds: tuple[loads.Feed, loads.Feed] | None = field(
        default=None, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """What a loader would make of a checkpoint.

    Attributes:
        expected: what the class promises.
        missing: what nothing feeds; tied tensors and those that may be missing left out.
        mismatched: what is fed in the wrong shape.
        unexpected: names in the file that feed nothing and are not passed over by the class.
        needed: how many tensors in memory the class cannot do without.
        without: how many of those get no values.
        unclear: whether the loader's conversions could not be followed to the end.
        respelled: what loads all the same from another generation of names.
        verbatim: whether names and shapes are to the letter those of a fresh save.
    """

    expected: Expectation
    missing: tuple[Gap, ...]
    mismatched: tuple[Misfit, ...]
    unexpected: tuple[str, ...]
    needed: int
    without: int
    unclear: bool = False
    respelled: tuple[Respelling, ...] = ()
    files: Shapes = field(default_factory=dict, repr=False, compare=False)
    verbatim: bool = False

    @property
    def exact(self) -> bool:
        """Whether every tensor has its place and every place its tensor."""
        return not (self.missing or self.mismatched or self.unexpected or self.unclear)

    @property
    def alien(self) -> bool:
        """Whether so much is missing that the files follow another layout altogether."""
        return self.without * 2 > self.needed


def verbatim(expected: Expectation, saved: Shapes) -> Fit:
    """The fit of files that have just what a fresh save of the class has.

    What a save writes the class takes back.
    """
    return Fit(expected, (), (), (), _needed(expected), 0, files=saved, verbatim=True)


def _needed(expected: Expectation) -> int:
    return len(expected.memory) - len(expected.ties) - len(frozenset(expected.unsaved))


def fit(expected: Expectation, settings: Mapping[str, object], files: Shapes) -> Fit:
    """Hold names and shapes of files against what a class promises under a config.

    Raises NotCovered where the way of its names is not known.
    """
    if expected.saved and files == expected.saved:
        return verbatim(expected, files)
    prefix = data.current().layout(expected.class_name).get("prefix", "")
    rules = renames.conversions(expected.class_name, prefix, _model_types(settings))
    loading = loads.load(files, expected.memory, rules, prefix)
    unsaved = frozenset(expected.unsaved)
    fed = {*loading.fed, *loading.mismatched, *loading.unknown}
    held = {root for alias, root in expected.ties.items() if alias in fed}

    def needless(name: str) -> bool:
        return (
            name in expected.ties
            or name in held
            or name in unsaved
            or not expected.required(name)
            or is_passing(name)
        )

    lost = [name for name in loading.missing if not needless(name)]
    short = [name for name, each in loading.mismatched.items() if each.lacking]
    wrong = [name for name in loading.mismatched if name not in short]
    gaps: dict[str, Gap] = {}
    misfits: dict[str, Misfit] = {}
    unclear = False
    spelt = _Spelling(expected, rules, prefix)
    if lost or short or wrong:
        for name in (*lost, *short):
            partly = loading.missing.get(name) or loading.mismatched[name]
            if partly.sources and not partly.lacking:
                odd = list(spelt.misfits(partly.sources, files))
                misfits |= {each.name: each for each in odd}
                unclear = unclear or not odd
                continue
            for gap in spelt.gaps(name, partly.lacking, files):
                gaps[gap.name] = gap
        for name in wrong:
            each = loading.mismatched[name]
            odd = list(spelt.misfits(each.sources, files))
            if not odd and len(each.sources) == 1:
                odd = [Misfit(each.sources[0], files[each.sources[0]], each.wanted)]
            misfits |= {one.name: one for one in odd}
            unclear = unclear or not odd
    extra = tuple(
        name
        for name in loading.unexpected
        if not expected.passed_over(name) and not is_passing(name)
    )
    return Fit(
        expected=expected,
        missing=tuple(gaps.values()),
        mismatched=tuple(misfits.values()),
        unexpected=extra,
        needed=_needed(expected),
        without=len(lost),
        unclear=unclear or bool(loading.raises) or bool(loading.unknown),
        respelled=tuple(_respelled(loading, spelt)),
        files=files,
    )


def _respelled(loading: loads.Loading, spelt: _Spelling) -> Iterator[Respelling]:
    """What is fed from names that a fresh save does not have."""
    if not spelt.disk:
        return
    for name, each in loading.fed.items():
        if all(source in spelt.disk for source in each.sources) or name not in spelt.fed:
            continue  # spelt alike, or a tied alias, or one that is never saved
        steps = {*each.through, *spelt.fed[name].through}
        kind: Kind = "names"
        if steps & _STACKING:
            kind = "experts"
        elif steps & _JOINING:
            kind = "projections"
        ours, theirs = each.feed, spelt.fed[name].feed
        feeds = (ours, theirs) if ours and theirs else None
        yield Respelling(kind, each.sources, spelt.fed[name].sources, feeds)


class _Spelling:
    """How a fresh save spells what the model has in memory."""

    def __init__(
        self, expected: Expectation, rules: Sequence[renames.Rule], prefix: str
    ) -> None:
        self.memory = expected.memory
        self.disk: Shapes = expected.saved or {}
        self._rules, self._prefix = rules, prefix

    @cached_property
    def fed(self) -> Mapping[str, loads.Fed]:
        """What each tensor in memory is fed from by a fresh save; empty where it is not known."""
        if not self.disk:
            return {}
        return loads.load(self.disk, self.memory, self._rules, self._prefix).fed

    def gaps(self, name: str, lacking: Sequence[str], files: Shapes) -> Iterator[Gap]:
        """What the files would have to hold for a tensor in memory."""
        known = self.fed[name].sources if name in self.fed else ()
        spelt = [source for source in known if source not in files]
        if lacking and not all(source in self.disk for source in lacking):
            spelt = []  # the files are of another generation, with names of its own
        if not spelt:
            yield Gap(name, self.memory[name])
            return
        for source in spelt:
            yield Gap(source, self.disk[source])

    def misfits(self, sources: Iterable[str], files: Shapes) -> Iterator[Misfit]:
        """Those of some names in the files whose shape is not the one of a fresh save."""
        for source in sources:
            wanted = self.disk.get(source)
            if wanted is not None and wanted != files[source]:
                yield Misfit(source, files[source], wanted)


def regrouped(fit: Fit) -> Mapping[str, tuple[regions.Run, ...]] | None:
    """Of which ranges of the tensors in the files those that a fresh save spells otherwise consist.

    None where a conversion does more than move values about, or where values would be left over.
    """
    feeds = [each.feeds for each in fit.respelled]
    if fit.expected.saved is None or None in feeds:
        return None
    pairs = [each for each in feeds if each is not None]
    return regions.regrouped(fit.files, fit.expected.saved, fit.expected.memory, pairs)


def _model_types(settings: Mapping[str, object], at: str = "", depth: int = 4) -> dict[str, str]:
    """Path -> model type of the sub-configs that say theirs."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and depth:
            place = f"{at}{key}"
            if isinstance(value.get("model_type"), str):
                found[place] = str(value["model_type"])
            found |= _model_types(value, f"{place}.", depth - 1)
    return found


def quantised(names: Kinds, dtypes: Iterable[str]) -> str | None:
    """What shows that weights are stored in a packed form; None when nothing does."""
    packed = sorted({d for d in dtypes if d.startswith(_PACKED)})
    if packed:
        return f"some tensors are {packed[0]}, which names and shapes of layers do not survive"
    name = names.first(_QUANTISED.search)
    return None if name is None else f"{name} belongs to a quantised layer"
