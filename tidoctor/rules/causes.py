"""Why tensors do not fit a class: other names, slices, another class or setting, or lost.

Every difference that `tidoctor.rules.fitting` finds is put under one cause, each tensor once.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from tidoctor.patterns import template
from tidoctor.rules.alternatives import Correction, Others, Surplus, corrections, surplus_layers
from tidoctor.rules.fitting import Fit, Gap, Misfit, Shape, Shapes
from tidoctor.rules.fusions import Fusion, fusions

_MOST_PAIRS = 40_000  # templates of one name compared with templates of another
# Words that a multimodal class puts around the names of the text model in it.
AROUND_TEXT = re.compile(
    r"(?:model\.)?(?:language_model|text_model|thinker|llm)(?:\.model)?|model\.language_model"
)


# --- renamed components -------------------------------------------------------------------------


class Renaming(NamedTuple):
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


def renamings(
    gaps: Sequence[Gap], extra: Mapping[str, Shape], words: Collection[str] = ()
) -> list[Renaming]:
    """How left over tensors become missing ones by exchanging the same words in all of them.

    Compared are names without their numbers; both must stand for the same numbers with the same
    shapes. `words` are components of the class's own names: a tensor that is called by another of
    them is not for certain what is missing.
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
            exchange = _exchanged(old, new)
            votes[exchange] += 1
            ways.setdefault(exchange, []).append((old, new))
    found: list[Renaming] = []
    used: set[tuple[str, ...]] = set()
    taken: set[tuple[str, ...]] = set()
    open_: set[tuple[str, ...]] = set()  # paired, but not for certain
    # Most pairs first; of as many, the exchange of fewest words.
    for exchange in sorted(votes, key=lambda e: (-votes[e], len(e[0]) + len(e[1]), e)):
        pairs = [(o, n) for o, n in ways[exchange] if o not in used and n not in taken]
        if not pairs:
            continue
        # One pair is certain when nothing else has its shapes and the words are alike; several
        # agree on the words.
        alone = len(pairs) == 1
        certain = not _is_taken(*exchange, words) and (not alone or similar(*exchange)) and all(
            sum(c not in taken or c in open_ for c in fits[o]) == 1
            and sum(n in cs for p, cs in fits.items() if p not in used or p in open_) == 1
            for o, n in (pairs if alone else ())
        )
        if not certain:
            open_ |= {each for pair in pairs for each in pair}
        used |= {o for o, _ in pairs}
        taken |= {n for _, n in pairs}
        found.append(
            Renaming(
                *exchange,
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


def _is_taken(old: str, new: str, words: Collection[str]) -> bool:
    """Whether the words in the files are, or contain, other words of the class."""
    return AROUND_TEXT.fullmatch(old) is None and any(
        word in part and word not in new
        for part in old.split(".")
        for word in words
        if word == part or len(word) > 3
    )


def similar(old: str, new: str) -> bool:
    """Whether two exchanged words look like spellings of one: `final_norm`, `norm`."""
    if not old or not new:
        return True
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return old in new or new in old or matcher.ratio() > 0.75


# --- slices -------------------------------------------------------------------------------------


def sliced(misfits: Sequence[Misfit]) -> int | None:
    """k when each has exactly one dimension that is 1/k of what it should be.

    A single matrix proves nothing. Where matrices are cut up, norms stay whole.
    """
    flat = all(len(m.expected) == 1 for m in misfits)
    if not flat and (len(misfits) < 2 or any("norm" in m.name.lower() for m in misfits)):
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


class Explained(NamedTuple):
    """The tensors of which other rules have spoken.

    Attributes:
        names: those that are missing, left over or under another name.
        shapes: those of another shape.
    """

    names: frozenset[str] = frozenset()
    shapes: frozenset[str] = frozenset()


class Account(NamedTuple):
    """The differences between a checkpoint and its class, each under one cause.

    Attributes:
        renamed: components under another name.
        fused: projections that stand in one matrix, or in several, otherwise than in the class.
        elsewhere: the classes that fit exactly instead, else None; then nothing else is said, and
            nothing at all where they are of the same model type.
        misfits: tensors of another shape.
        corrections: single settings that would make all shapes right.
        share: k where the misfits are the k-th parts of tensors that were cut up.
        biases: missing biases, where all of a kind are missing and nothing else.
        surplus: biases in the files that the class does not have.
        layers: whole layers beyond those that the class has.
        rest: every other tensor that is left over.
        gaps: every other missing tensor.
        alien: whether most tensors are missing and as many stand under other names; then neither
            gaps nor rest are told apart.
        unknown: why nothing can be said, "" where something can.
    """

    renamed: tuple[Renaming, ...] = ()
    fused: tuple[Fusion, ...] = ()
    elsewhere: Others | None = None
    misfits: tuple[Misfit, ...] = ()
    corrections: tuple[Correction, ...] = ()
    share: int | None = None
    biases: tuple[Gap, ...] = ()
    surplus: tuple[str, ...] = ()
    layers: tuple[Surplus, ...] = ()
    rest: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    alien: bool = False
    unknown: str = ""


def account(
    settings: Mapping[str, object],
    own: Fit,
    explained: Explained,
    instead: Callable[[], Others],
) -> Account:
    """Put every difference that other rules have not explained under one cause.

    `instead` finds other classes that fit exactly; it is asked only where that could be so.
    """
    gaps = [gap for gap in own.missing if gap.name not in explained.names]
    misfits = tuple(m for m in own.mismatched if m.name not in explained.shapes)
    loose = {n: own.files[n] for n in own.unexpected if n not in explained.names}
    joined = tuple(fusions({g.name: g.shape for g in gaps}, loose))
    settled = {n for f in joined for n in (*f.stored, *f.needed)}
    gaps = [gap for gap in gaps if gap.name not in settled]
    loose = {n: shape for n, shape in loose.items() if n not in settled}
    renamed = [r for r in renamings(gaps, loose, _words(own)) if _alike(r)]
    moved = {each for r in renamed for pair in r.pairs for each in pair}
    left = [gap for gap in gaps if gap.name not in moved]
    over = [n for n in loose if n not in moved]
    # One word exchanged in a few names is a rename; in most of them it may be another family.
    plain = not over and len(renamed) < 2 and all(r.certain for r in renamed)
    most = any(len(r.pairs) * 2 > len(own.files) and not r.around_text for r in renamed)
    if loose and (left or misfits or not plain or most) and (elsewhere := instead()).classes:
        kin = any(model_type == own.expected.model_type for _, model_type in elsewhere.classes)
        return Account() if kin else Account(elsewhere=elsewhere)
    nothing = own.without >= own.needed
    if own.alien and over and (nothing or len(over) * 2 >= len(left)) and left:
        return Account(alien=True)
    fitting = tuple(corrections(settings, own, explained.shapes))
    if len(fitting) == 1:
        left = [gap for gap in left if gap.name in fitting[0].missing]
    if own.unclear and not (renamed or joined or misfits or left):
        return Account(unknown="the way of some names through the loader is not known")
    biases = _are_biases(left, own) and not over
    surplus = [n for n in over if _is_surplus(n, own)]
    layers = surplus_layers(settings, own, [n for n in over if n not in surplus])
    told = {*surplus, *(n for each in layers for n in each.names)}
    return Account(
        renamed=tuple(renamed),
        fused=joined,
        misfits=misfits,
        corrections=fitting,
        share=sliced(misfits) if misfits and not fitting else None,
        biases=tuple(left) if biases else (),
        surplus=tuple(sorted(surplus)),
        layers=layers,
        rest=tuple(n for n in over if n not in told),
        gaps=() if biases else tuple(left),
    )


def _words(own: Fit) -> frozenset[str]:
    """The components of the names that the class has."""
    promised = own.expected.saved or own.expected.memory
    return frozenset(word for name in promised for word in name.split("."))


def _are_biases(gaps: Sequence[Gap], own: Fit) -> bool:
    """Whether all biases of some kinds are missing, and nothing else."""
    kinds = {_kind(gap.name) for gap in gaps}
    promised = own.expected.saved or own.expected.memory
    kept = {_kind(name) for name in promised if name in own.files}
    return bool(kinds) and all(kind.endswith(".bias") for kind in kinds) and not kinds & kept


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
