"""Why tensors do not fit a class: other names, another class, another setting, slices.

Every difference that `tidoctor.rules.fitting` finds is put under one cause, each tensor once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidoctor.atlas import data, families
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.names import template
from tidoctor.rules.fitting import Fit, Gap, Misfit, Shape, Shapes, fit
from tidoctor.rules.fusions import Fusion, fusions

_MOST_PAIRS = 40_000  # templates of one name compared with templates of another
_MOST_CANDIDATES = 80  # classes tried in the place of one that does not fit
_MOST_TRIED = 3_000_000  # tensors made while looking for a setting or a class
# Words that a multimodal class puts around the names of the text model in it.
AROUND_TEXT = re.compile(
    r"(?:model\.)?(?:language_model|text_model|thinker|llm)(?:\.model)?|model\.language_model"
)


# --- renamed components -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renaming:
    """One component under another name.

    Attributes:
        old: dotted words in the names of the files; "" where words were left out there.
        new: what the class says in their place; "" where it says nothing.
        pairs: (name in the file, name on disk) of all tensors concerned.
        certain: whether no other pairing of these shapes is possible.
    """

    old: str
    new: str
    pairs: tuple[tuple[str, str], ...]
    certain: bool

    @property
    def around_text(self) -> bool:
        """Whether words around a text model were put in or left out."""
        old, new = self.old.split("."), self.new.split(".")
        longer, shorter = (old, new) if len(old) >= len(new) else (new, old)
        more = [w for w in longer if w not in shorter]
        return bool(more) and AROUND_TEXT.fullmatch(".".join(more)) is not None


def renamings(gaps: Sequence[Gap], extra: Mapping[str, Shape]) -> list[Renaming]:
    """How left over tensors become missing ones by exchanging the same words in all of them.

    Compared are names without their numbers; both must stand for the same numbers with the same
    shapes.
    """
    wanted = _by_template({gap.name: gap.shape for gap in gaps})
    there = _by_template(extra)
    if len(wanted) * len(there) > _MOST_PAIRS or not wanted or not there:
        return []
    by_rows: dict[frozenset[tuple[tuple[int, ...], Shape]], list[tuple[str, ...]]] = {}
    for pieces, rows in wanted.items():
        by_rows.setdefault(frozenset(rows.items()), []).append(pieces)
    fits = {
        pieces: by_rows.get(frozenset(rows.items()), [])
        for pieces, rows in there.items()
    }
    votes: Counter[tuple[str, str]] = Counter()
    ways: dict[tuple[str, str], list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for old, candidates in fits.items():
        for new in candidates:
            words = _exchanged(old, new)
            votes[words] += 1
            ways.setdefault(words, []).append((old, new))
    found: list[Renaming] = []
    used: set[tuple[str, ...]] = set()
    taken: set[tuple[str, ...]] = set()
    open_: set[tuple[str, ...]] = set()  # paired, but not for certain
    # Most pairs first; of as many, the exchange of fewest words.
    for words, _ in sorted(votes.items(), key=lambda v: (-v[1], len(v[0][0]) + len(v[0][1]), v[0])):
        pairs = [(o, n) for o, n in ways[words] if o not in used and n not in taken]
        if not pairs:
            continue
        # One pair is certain when nothing else has its shapes; several agree on the words.
        certain = len(pairs) > 1 or all(
            sum(c not in taken or c in open_ for c in fits[o]) == 1
            and sum(n in cs for p, cs in fits.items() if p not in used or p in open_) == 1
            for o, n in pairs
        )
        if not certain:
            open_ |= {each for pair in pairs for each in pair}
        used |= {o for o, _ in pairs}
        taken |= {n for _, n in pairs}
        found.append(
            Renaming(
                *words,
                tuple(
                    (_named(o, numbers), _named(n, numbers))
                    for o, n in pairs
                    for numbers in there[o]
                ),
                certain,
            )
        )
    return found


def _by_template(names: Shapes) -> dict[tuple[str, ...], dict[tuple[int, ...], Shape]]:
    found: dict[tuple[str, ...], dict[tuple[int, ...], Shape]] = {}
    for name, shape in names.items():
        pieces, numbers = template(name)
        found.setdefault(pieces, {})[numbers] = shape
    return found


def _named(pieces: Sequence[str], numbers: Sequence[int]) -> str:
    return pieces[0] + "".join(f"{n}{p}" for n, p in zip(numbers, pieces[1:], strict=True))


def _exchanged(old: Sequence[str], new: Sequence[str]) -> tuple[str, str]:
    """The words in which two templates differ, without those that both begin and end with."""
    a, b = "{}".join(old).split("."), "{}".join(new).split(".")
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    return ".".join(a), ".".join(b)


# --- another class, another setting -------------------------------------------------------------


def candidates(class_name: str, files: Shapes) -> list[tuple[str, str]]:
    """(class, model type) of the classes that could give these names.

    They have the embedding under a name of the files and all other names in their layouts. Those
    of the same model type come first, then those of the same task; the class itself is left out.
    """
    own = str(data.current().layout(class_name)["config"])
    facts = families.class_facts(class_name)
    if facts is None:
        return []
    wanted = {"{}".join(template(name)[0]) for name in files}
    known: dict[str, frozenset[str]] = {}
    found = []
    for name in data.current().class_names:
        other = families.class_facts(name)
        if other is None or name == class_name or other.embedding not in files:
            continue
        if _near(wanted, _templates(name, known)):
            model_type = str(data.current().layout(name)["config"])
            found.append((model_type != own, other.task != facts.task, name, model_type))
    return [(name, model_type) for _, _, name, model_type in sorted(found)[:_MOST_CANDIDATES]]


def _near(wanted: set[str], offered: frozenset[str]) -> bool:
    """Whether all names stand in a layout, but for a few (buffers of older releases)."""
    return bool(wanted) and len(wanted - offered) * 20 <= len(wanted)


def _templates(class_name: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """The names of a class without their numbers, whatever the config, parts included."""
    if class_name in known:
        return known[class_name]
    known[class_name] = frozenset()  # a part of itself adds nothing
    found: set[str] = set()
    try:
        facts = data.current().layout(class_name)
    except NotCovered:
        return frozenset()
    for form in ("memory", "disk"):
        layout = facts.get(form, {})
        found |= {_plain(name) for name in layout.get("tensors", ())}
        for part in layout.get("parts", ()):
            at, inner = _plain(part["at"]), part.get("class")
            if inner:
                found |= {at + name for name in _templates(inner, known)}
    known[class_name] = frozenset(found)
    return known[class_name]


def _plain(name: str) -> str:
    return "{}".join(template(_VARIABLE.sub("0", name))[0])


_VARIABLE = re.compile(r"\{[ijkl]\}")


def others(settings: Mapping[str, object], own: Fit) -> list[tuple[str, str]]:
    """(class, model type) of other classes that the files fit exactly under the same settings.

    Missing tensors that both lack and that lie outside the layers (a lost head) do not count.
    Classes of the same model type are enough, else those of one task.
    """
    class_name = own.expected.class_name
    lost = {gap.name for gap in own.missing if not _numbered(gap.name)}
    found: list[tuple[str, str]] = []
    made = 0
    for name, model_type in candidates(class_name, own.files):
        if found and _kind_of_class(name, model_type, own) != _kind_of_class(*found[0], own):
            break
        made += len(own.files)
        if made > _MOST_TRIED // 4:
            break
        try:
            other = fit({**settings, "model_type": model_type}, name, own.files)
        except NotCovered:
            continue
        odd = [gap for gap in other.missing if gap.name not in lost]
        if not odd and not other.mismatched and not other.unexpected and not other.unclear:
            found.append((name, model_type))
    return found


def _kind_of_class(name: str, model_type: str, own: Fit) -> tuple[bool, str]:
    """Classes of one model type are alike, others when they serve the same task."""
    kin = model_type == own.expected.model_type
    facts = families.class_facts(name)
    return kin, "" if kin or facts is None else facts.task


def _numbered(name: str) -> bool:
    return bool(template(name)[1])


@dataclass(frozen=True, slots=True)
class Correction:
    """One key of the config whose other value makes every shape right."""

    path: tuple[str, ...]
    old: object
    new: object


def corrections(
    settings: Mapping[str, object], own: Fit, known: Sequence[str] = ()
) -> list[Correction]:
    """Every single key whose change to a value taken from the shapes explains all misfits.

    `known` are names of further settings that may be absent from the file. The other tensors
    must stay as right as they were.
    """
    wanted = {misfit.name: misfit for misfit in own.mismatched}
    if not wanted:
        return []
    made = 0
    found: list[Correction] = []
    ratios = {
        (have, want)
        for misfit in wanted.values()
        if len(misfit.found) == len(misfit.expected)
        for have, want in zip(misfit.found, misfit.expected, strict=True)
        if have != want and have > 0
    }
    for path, old in (*_numbers(settings), *(((k,), None) for k in known if k not in settings)):
        for new in sorted(_values(old, ratios)):
            made += len(own.expected.memory)
            if made > _MOST_TRIED:
                return found
            changed = _changed(settings, path, new)
            try:
                promise = expectation(changed, own.expected.class_name)
            except NotCovered:
                continue
            disk = promise.saved if promise.saved is not None else promise.memory
            if not all(disk.get(n, m.found) == m.found for n, m in wanted.items()):
                continue
            try:
                if not fit(changed, own.expected.class_name, own.files).mismatched:
                    found.append(Correction(path, old, new))
            except NotCovered:
                continue
    return found


def _values(old: object, ratios: Iterable[tuple[int, int]]) -> set[int]:
    """Values that would bring a dimension from what is expected to what is there."""
    values: set[int] = set()
    for have, want in ratios:
        values.add(have)
        if isinstance(old, int) and want and (old * have) % want == 0:
            values.add(old * have // want)
        if isinstance(old, int):
            values.add(old + have - want)
    return {v for v in values if v > 0 and v != old}


def _numbers(
    settings: Mapping[str, object], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    """(path, value) of every whole number in the settings, two levels deep."""
    for key, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40:
            if not key.endswith(("token_id", "token_index", "_layers", "_layer")):
                yield (*at, key), value
        elif isinstance(value, Mapping) and not at and key.endswith("config"):
            yield from _numbers(value, (*at, key))


def _changed(
    settings: Mapping[str, object], path: tuple[str, ...], value: object
) -> dict[str, object]:
    out = dict(settings)
    if len(path) == 1:
        out[path[0]] = value
        return out
    inner = settings[path[0]]
    out[path[0]] = _changed(inner if isinstance(inner, Mapping) else {}, path[1:], value)
    return out


# --- slices -------------------------------------------------------------------------------------


def sliced(misfits: Sequence[Misfit]) -> int | None:
    """k when each of several has exactly one dimension that is 1/k of what it should be."""
    if len(misfits) < 2:
        return None
    shares = set()
    for misfit in misfits:
        if len(misfit.found) != len(misfit.expected):
            return None
        odd = [
            (have, want)
            for have, want in zip(misfit.found, misfit.expected, strict=True)
            if have != want
        ]
        if len(odd) != 1 or not odd[0][0] or odd[0][1] % odd[0][0]:
            return None
        shares.add(odd[0][1] // odd[0][0])
    share = shares.pop() if len(shares) == 1 else 0
    return share if share > 1 and share & (share - 1) == 0 else None


# --- who explains what --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """The differences between a checkpoint and its class, each under one cause.

    Attributes:
        renamed: components under another name.
        fused: projections that stand in one matrix, or in several, otherwise than in the class.
        elsewhere: (class, model type) of the classes that fit exactly instead; then nothing else
            is said, and nothing at all where they are of the same model type.
        misfits: tensors of another shape.
        corrections: single settings that would make all shapes right.
        share: k where the misfits are the k-th parts of tensors that were cut up.
        biases: missing biases, where all of a kind are missing and nothing else.
        surplus: biases in the files that the class does not have.
        gaps: every other missing tensor.
        unknown: why nothing can be said, "" where something can.
    """

    renamed: tuple[Renaming, ...] = ()
    fused: tuple[Fusion, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    misfits: tuple[Misfit, ...] = ()
    corrections: tuple[Correction, ...] = ()
    share: int | None = None
    biases: tuple[Gap, ...] = ()
    surplus: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unknown: str = ""


def account(
    settings: Mapping[str, object],
    own: Fit,
    explained: frozenset[str],
    instead: Callable[[], Sequence[tuple[str, str]]],
) -> Account:
    """Put every difference that other rules have not explained under one cause.

    `instead` finds other classes that fit exactly; it is asked only where that could be so.
    """
    name = own.expected.class_name
    gaps = [gap for gap in own.missing if gap.name not in explained]
    misfits = tuple(m for m in own.mismatched if m.name not in explained)
    joined = tuple(
        fusions({g.name: g.shape for g in gaps}, {n: own.files[n] for n in own.unexpected})
    )
    settled = {n for f in joined for n in (*f.stored, *f.needed)}
    gaps = [gap for gap in gaps if gap.name not in settled]
    loose = {n: own.files[n] for n in own.unexpected if n not in settled}
    ways = [r for r in renamings(gaps, loose) if _alike(r)]
    moved = {new for r in ways for _, new in r.pairs}
    left = [gap for gap in gaps if gap.name not in moved]
    renamed = [r for r in ways if not all(old in explained for old, _ in r.pairs)]
    extra = {n for n in own.unexpected if n not in explained}
    over = extra - settled - {old for r in ways for old, _ in r.pairs}
    plain = not over and len(renamed) < 2 and all(r.certain for r in renamed)
    if extra and (left or misfits or not plain) and (elsewhere := tuple(instead())):
        kin = any(model_type == own.expected.model_type for _, model_type in elsewhere)
        return Account() if kin else Account(elsewhere=elsewhere)
    if own.alien and (len(left) * 2 > len(own.missing) or len(renamed) != 1):
        return Account(unknown=f"most of the tensors of {name} are not there under their names")
    found = tuple(corrections(settings, own)) if len(misfits) == len(own.mismatched) else ()
    kinds = {_kind(gap.name) for gap in left}
    whole = bool(left) and all(kind.endswith(".bias") for kind in kinds) and not over
    if whole:
        promised = own.expected.saved or own.expected.memory
        kept = {_kind(n) for n in promised if n in own.files}
        whole = not kinds & kept
    if own.unclear and not (renamed or joined or misfits or left):
        return Account(unknown="the way of some names through the loader is not known")
    return Account(
        renamed=tuple(renamed),
        fused=joined,
        misfits=misfits,
        corrections=found,
        share=sliced(misfits) if misfits and not found else None,
        biases=tuple(left) if whole else (),
        surplus=tuple(sorted(n for n in over if _is_surplus(n, own))),
        gaps=() if whole else tuple(left),
    )


def _alike(renaming: Renaming) -> bool:
    """Whether the names share a word beside the exchanged ones: others are two tensors."""
    return all(
        old.rpartition(".")[2] == new.rpartition(".")[2] or old.split(".")[0] == new.split(".")[0]
        for old, new in renaming.pairs[:1]
    )


def _kind(name: str) -> str:
    return "{}".join(template(name)[0])


def _is_surplus(name: str, own: Fit) -> bool:
    """Whether a left over tensor is the bias of a weight that the class has."""
    stem = name.removesuffix(".bias")
    weight = f"{stem}.weight"
    return stem != name and weight in own.files and weight not in own.unexpected
