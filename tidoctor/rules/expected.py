"""What config.json and its class promise against the tensors that are there.

These rules speak of what no other rule explains, and of each tensor once: `View.account` puts
every difference under one cause. Where the promise is not known they do not run, and say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tidoctor.checkpoint import CONFIG
from tidoctor.errors import Unreadable
from tidoctor.finding import Evidence, Finding
from tidoctor.names import printable
from tidoctor.patterns import ranges, some_patterns, template
from tidoctor.rules.alternatives import Surplus
from tidoctor.rules.causes import similar
from tidoctor.rules.fitting import Fit, Gap, Misfit
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    advice,
    consent,
    found,
    rename,
    rule,
    set_key,
)
from tidoctor.rules.subject import LAYER_COUNTS
from tidoctor.rules.view import View, spellings
from tidoctor.rules.wording import MOST_ROWS, gap_rows, misfit_row, place, renaming_cure, shape_text
from tidoctor.tensors import nbytes

_LAYER_ROOTS = ("layers", "h", "blocks")
_MOST_LAYERS = 10_000
_ZEROS = re.compile(rb"\0*")
_MOST_BYTES = 64_000_000  # of biases read to see whether they are zero


@rule("C06", "dimension-contradicts", absorbs=("H12",))
def dimension_contradicts(view: View) -> Iterator[Finding]:
    """Tensors have other shapes than config.json asks for.

    Why: transformers refuses them and names only `ignore_mismatched_sizes`, which would fill each
    of them with random numbers.

    Recognised by: the shapes that the class has under this config. When another value of a single
    key makes all of them right, it is named.

    Fine: a vocabulary larger than the tokenizer's is padding, and vocab_size counts it (C05). Heads
    times head_dim need not be hidden_size.

    Whole layers beyond the number that the config states are told here, too.

    Example: `"intermediate_size": 11008` where `mlp.up_proj.weight` has 14336 rows.

    Cure: set that key, where there is exactly one. Otherwise export again.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    yield from _surplus_layers(view, account.layers)
    if not account.misfits or account.share:
        return
    misfits = account.misfits
    first = misfits[0]
    fitting = account.corrections
    cure = None
    said = f"{len(misfits)} tensors have another shape than config.json asks for"
    if len(misfits) == 1:
        wrong, right = shape_text(first.found), shape_text(first.expected)
        said = f"{printable(first.name)} is {wrong}, not {right}"
    at = view.at()
    if len(fitting) == 1:
        one = fitting[0]
        key = ".".join(one.path)
        said = f"{printable(key)} is {one.old}; the shapes are those of {one.new}"
        cure = consent(f"set {printable(key)} to {one.new}", set_key(*one.path, value=one.new))
        at = view.at(*one.path)
    rows = [misfit_row(m) for m in misfits[:MOST_ROWS]]
    if len(fitting) > 1:
        ways = " or ".join(f"{'.'.join(map(printable, c.path))} {c.new}" for c in fitting[:3])
        rows.append(Evidence(CONFIG, f"one other value would do: {ways}"))
    yield found(
        ERROR,
        said,
        at=at,
        tensors=tuple(view.tensors[m.name].name for m in misfits),
        evidence=tuple(rows),
        includes=("H12",) if _rows_differ(view, misfits) else (),
        cure=cure,
        not_="ignore_mismatched_sizes=True: these tensors become random",
    )


def _rows_differ(view: View, misfits: Sequence[Misfit]) -> bool:
    """Whether one of them is a head that has not as many rows as the embedding."""
    if view.head is None or view.embedding is None or view.head not in {m.name for m in misfits}:
        return False
    head, embedding = view.tensors[view.head].shape, view.tensors[view.embedding].shape
    return len(head) == len(embedding) == 2 and head[0] != embedding[0]


def _surplus_layers(view: View, layers: Sequence[Surplus]) -> Iterator[Finding]:
    for each in layers:
        names = [view.tensors[n].name for n in each.names]
        root = printable(each.root.removesuffix("."))
        one = each.cure
        key = ".".join(map(printable, one.path)) if one else ""
        yield found(
            WARNING,
            f"layers {ranges(each.numbers)} of {root} are stored and have no place in "
            f"{view.need_fit().expected.class_name}" + (f": {key} is {one.old}" if one else ""),
            at=view.at(*one.path) if one else view.at(),
            tensors=tuple(names),
            evidence=(
                Evidence("names", some_patterns(names), len(names)),
                *((Evidence(str(view.at(*one.path)), f"{key} is {one.old}"),) if one else ()),
            ),
            cure=consent(
                f"set {key} to {one.new}, if they belong to the model",
                set_key(*one.path, value=one.new),
            )
            if one
            else None,
            caution="transformers passes over them, and the model computes without",
        )


@rule("D05", "per-rank-slice")
def per_rank_slice(view: View) -> Iterator[Finding]:
    """A dimension is a half, a quarter, an eighth of what it should be.

    Why: the state dict of one rank of a tensor-parallel or sharded run was saved as if it were the
    model. Loaders refuse the shapes; the other parts are elsewhere.

    Recognised by: the shapes that the class has under this config; each odd tensor lacks the same
    share, and no single setting explains it.

    Fine: a config that declares smaller dimensions (C06).

    Example: `model.norm.weight` of shape [2048] in a model of hidden size 4096.

    Cure: join the parts of all ranks with the tool of the trainer, or export again.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    if not account.share:
        return
    misfits = account.misfits
    names = [view.tensors[m.name].name for m in misfits]
    yield found(
        ERROR,
        f"{some_patterns(names)}: {len(misfits)} of {len(view.tensors)} tensors hold one part in "
        f"{account.share} of their values",
        certainty=PROVEN if len(misfits) > 2 else LIKELY,
        at=place(view, misfits[0].name),
        tensors=tuple(names),
        evidence=tuple(misfit_row(m) for m in misfits[:MOST_ROWS]),
        cure=advice("join the parts of all ranks, or export again with the parameters gathered"),
        caution="the other parts are not in these files",
        not_="changing config.json: the other parts stay lost",
    )


@rule("C07", "layers-absent")
def layers_absent(view: View) -> Iterator[Finding]:
    """Tensors that the class needs under this config are not stored: layers, or parts of some.

    Why: transformers starts them with random numbers and says so in a report; engines that read
    every file serve nonsense. One rank of a sharded save was kept, an export skipped a file, or a
    merge did not know a kind of tensor.

    Recognised by: the tensors of the class under this config. For a class that is not known to
    every tensor: the numbers of the layers beside the embedding against the count in the config.

    Fine: dense first layers, layers of several kinds and layers that share tensors, as the class
    has them; a pooler that nobody uses is a note.

    Example: layers 0 to 15 of 32, or `self_attn.k_proj.weight` missing in layer 7 alone.

    Cure: fetch the file that holds them, or export again.
    """
    view.need_config()
    view.need_whole()
    fit = view.fit
    if isinstance(fit, str) or view.account.unknown:
        yield from _layers_by_number(view)
        return
    if view.account.alien:
        raise CannotRun("most tensors stand under names that are not those of the class")
    gaps = view.account.gaps
    idle = [gap for gap in gaps if view.is_idle(gap.name)]
    if idle:
        yield _pooler(view, idle)
    gaps = tuple(gap for gap in gaps if gap not in idle)
    if not gaps:
        return
    whole = _whole_layers(gaps, fit)
    total, rows = gap_rows(view, gaps)
    parts = []
    inside = [g for g in gaps if _layer(g.name) not in {k for ks in whole.values() for k in ks}]
    for root, keys in whole.items():
        numbers = [n for _, n in keys]
        of = len(_layers(fit, root))
        where = "" if len(whole) == 1 else f" of {printable(root)}"
        parts.append(f"{len(numbers)} of {of} layers{where} are not stored: {ranges(numbers)}")
    if inside:
        many = "is" if len(inside) == 1 else "are"
        what = "tensor" if len(inside) == 1 else "tensors"
        parts.append(
            f"{len(inside)} {what} {many} not stored: {some_patterns([g.name for g in inside])}"
        )
    _, path = _declared_layers(view)
    yield found(
        ERROR,
        "; ".join(parts),
        at=view.at(*path) if whole and path else view.at("architectures"),
        tensors=tuple(gap.name for gap in gaps),
        evidence=(
            *rows,
            Evidence("size", f"{total} bytes are lost", total),
            *(_declared_evidence(view) if whole else ()),
        ),
        cure=advice("fetch the file that holds them, or export again"),
        not_=f"setting {'.'.join(path)} to what is stored: the model would be another one"
        if whole and path
        else "",
    )


def _pooler(view: View, gaps: Sequence[Gap]) -> Finding:
    total, rows = gap_rows(view, gaps)
    return found(
        NOTE,
        f"the pooler is not stored: {some_patterns([g.name for g in gaps])}",
        at=view.at("architectures"),
        tensors=tuple(gap.name for gap in gaps),
        evidence=(*rows, Evidence("size", f"{total} bytes", total)),
        caution="transformers starts it with random numbers; only pooler_output depends on it",
    )


def _layer(name: str) -> tuple[str, int] | None:
    """(root, number) of the first numbered component of a name."""
    pieces, numbers = template(name)
    return (pieces[0].removesuffix("."), numbers[0]) if numbers else None


def _whole_layers(gaps: Sequence[Gap], fit: Fit) -> dict[str, list[tuple[str, int]]]:
    """Root -> layers of which every tensor is missing."""
    promised = fit.expected.saved or fit.expected.memory
    needed: dict[tuple[str, int], int] = {}
    for name in promised:
        if key := _layer(name):
            needed[key] = needed.get(key, 0) + 1
    missing: dict[tuple[str, int], int] = {}
    for gap in gaps:
        if key := _layer(gap.name):
            missing[key] = missing.get(key, 0) + 1
    found: dict[str, list[tuple[str, int]]] = {}
    for key, count in missing.items():
        if count >= needed.get(key, 0) > 1:
            found.setdefault(key[0], []).append(key)
    return found


def _layers(fit: Fit, root: str) -> set[int]:
    promised = fit.expected.saved or fit.expected.memory
    return {key[1] for name in promised if (key := _layer(name)) and key[0] == root}


def _declared_layers(view: View) -> tuple[int | None, tuple[str, ...]]:
    # Where two keys count (blocks and the sub-layers in them), the smaller one is of blocks.
    counts = [view.setting(k) for k in LAYER_COUNTS if type(view.setting(k)[0]) is int]
    count, path = min(counts, key=lambda c: int(str(c[0])), default=(None, ()))
    return (count, path) if isinstance(count, int) else (None, ())


def _declared_evidence(view: View) -> tuple[Evidence, ...]:
    count, path = _declared_layers(view)
    if count is None:
        return ()
    return (Evidence(str(view.at(*path)), f"{'.'.join(path)} is {count}", count),)


def _layers_by_number(view: View) -> Iterator[Finding]:
    """Whole layers, told by their numbers beside the embedding."""
    facts = view.generator
    embedding = view.embedding
    if facts is None or embedding is None or embedding not in spellings(facts, "embedding"):
        raise NotApplicable("where the layers stand is not known")
    count, path = _declared_layers(view)
    beside = embedding.removesuffix(".weight").rpartition(".")[0]
    places = {beside, beside.removeprefix(facts.prefix.removesuffix(".")).removeprefix(".")}
    roots = [f"{place}.{word}.".removeprefix(".") for place in places for word in _LAYER_ROOTS]
    layer = re.compile(f"(?:{'|'.join(map(re.escape, roots))})([0-9]{{1,9}})(?![^.])")
    present = view.own_kinds.numbers(layer.match, 1)
    if count is None or not 0 < count <= _MOST_LAYERS or not present:
        raise NotApplicable("the layers are not numbered beside the embedding")
    missing = sorted(set(range(count)) - present)
    if missing:
        yield found(
            ERROR,
            f"{len(missing)} of {count} layers are not stored: {ranges(missing)}",
            certainty=LIKELY,
            at=view.at(*path),
            evidence=(
                Evidence(str(view.at(*path)), f"{'.'.join(path)} is {count}", count),
                Evidence("names", f"layers {ranges(present)} are stored", sorted(present)),
            ),
            cure=advice("fetch the file that holds them, or export again"),
            not_=f"setting {'.'.join(path)} to {len(present)}: the model would be another one",
        )


@rule("C09", "biases-contradict")
def biases_contradict(view: View) -> Iterator[Finding]:
    """All biases of a kind are missing, or there are biases that the class does not have.

    Why: transformers starts missing ones with zeros and drops those that it does not expect, each
    with a report only. A layer computes something else then.

    Recognised by: the tensors of the class under this config; everything else fits.

    Fine: `attention_bias`, `qkv_bias` and `mlp_bias` decide in the classes that know them. Surplus
    biases that are all zero change nothing and are a note.

    Example: a Qwen2 without `self_attn.q_proj.bias` in any layer.

    Cure: take the biases from the source, or set the class that has these tensors.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    fit = view.need_fit()
    name = fit.expected.class_name
    if account.biases:
        gaps = account.biases
        total, rows = gap_rows(view, gaps)
        yield found(
            ERROR,
            f"{len(gaps)} biases of {name} are not stored: "
            f"{some_patterns([g.name for g in gaps])}",
            at=view.at("architectures"),
            tensors=tuple(gap.name for gap in gaps),
            evidence=(*rows, Evidence("size", f"{total} bytes are lost", total)),
            cure=advice("export again with them, or set the class that has none"),
            caution="a family without these biases may have been meant",
        )
    if account.surplus:
        names = [view.tensors[n].name for n in account.surplus]
        zero = _all_zero(view, account.surplus)
        yield found(
            NOTE if zero else WARNING if zero is None else ERROR,
            f"{len(names)} biases are stored that {name} does not have: {some_patterns(names)}"
            + ("; all are zero" if zero else ""),
            at=view.at("architectures"),
            tensors=tuple(names),
            evidence=(
                Evidence("names", some_patterns(names), len(names)),
                *((Evidence("bytes", "not all of them are zero"),) if zero is False else ()),
            ),
            not_="dropping them: the layers would compute something else"
            if zero is False
            else "",
        )


def _all_zero(view: View, names: Sequence[str]) -> bool | None:
    """Whether these tensors hold nothing but zero bytes; None where they are too many to read."""
    tensors = [view.tensors[n] for n in names]
    if nbytes(tensors) > _MOST_BYTES:
        return None
    for tensor in tensors:
        try:
            view.need_bytes(tensor)
            for chunk in view.checkpoint.chunks(tensor):
                if not _ZEROS.fullmatch(chunk):
                    return False
        except (CannotRun, Unreadable):
            return None
    return True


@rule("N14", "component-renamed", absorbs=("C12",))
def component_renamed(view: View) -> Iterator[Finding]:
    """One component of the names is another word than the class has: `embedding`, `final_norm`.

    Why: a converter or a merge used names of its own, or of another release. Loaders leave these
    tensors out, and the places where they belong stay random.

    Recognised by: as many tensors left over as missing, with the same shapes, that become each
    other when the same words are exchanged in all of them.

    Fine: spellings that transformers itself knows and renames while loading.

    Example: `backbone.embedding.weight` for `backbone.embeddings.weight` in a Nemotron-H.

    Cure: rename them. Where several pairings have the right shapes, which one is meant has to be
    decided by who made the names.
    """
    if isinstance(view.fit, str):
        yield from _embedding_renamed(view, view.fit)
        return
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    for renaming in account.renamed:
        if renaming.around_text:
            continue
        here = [view.tensors[old].name for old, _ in renaming.pairs]
        names = [new for _, new in renaming.pairs]
        words = (
            f"`{printable(renaming.old)}` for `{renaming.new}`"
            if renaming.old and renaming.new
            else f"`{printable(renaming.old)}` too much"
            if renaming.old
            else f"without `{renaming.new}`"
        )
        yield found(
            ERROR,
            f"{some_patterns(here)}: {len(here)} of {len(view.tensors)} tensors "
            f"{'is' if len(here) == 1 else 'are'} called {words}",
            certainty=PROVEN if renaming.certain else LIKELY,
            at=place(view, renaming.pairs[0][0]),
            tensors=tuple(here),
            evidence=(
                Evidence("names", f"left over: {some_patterns(here)}", len(here)),
                Evidence("names", f"missing: {some_patterns(names)}", len(names)),
                Evidence("shapes", "each has the shape of the one that it would become"),
            ),
            cure=renaming_cure(view, [renaming]) if renaming.certain else None,
        )


def _embedding_renamed(view: View, reason: str) -> Iterator[Finding]:
    """The embedding under a similar word, in a class whose tensors are not known one by one."""
    facts = view.generator or view.target
    wanted = facts.embedding if facts else None
    rows, _ = view.setting("vocab_size")
    known = view.embedding in spellings(facts, "embedding") if view.embedding else False
    if facts is None or wanted is None or known:
        raise CannotRun(reason)
    words = wanted.split(".")
    alike = [
        n
        for n, t in view.tensors.items()
        if n != view.head and len(t.shape) == 2 and t.shape[0] == rows
        and len(odd := _odd_words(n.split("."), words)) == 1 and similar(*odd[0])
    ]  # fmt: skip
    if len(alike) != 1:
        raise CannotRun(reason)
    actual = view.tensors[alike[0]]
    yield found(
        ERROR,
        f"{printable(actual.name)} has the shape and nearly the name of {wanted}, which "
        f"{facts.name} needs",
        certainty=LIKELY,
        at=place(view, alike[0]),
        tensors=(actual.name, wanted),
        evidence=(
            Evidence("names", f"no tensor is called {wanted}"),
            Evidence("shapes", f"{printable(actual.name)} is {shape_text(actual.shape)}"),
        ),
        cure=consent(f"rename it to {wanted}", rename(actual.name, wanted)),
    )


def _odd_words(here: list[str], there: list[str]) -> list[tuple[str, str]]:
    if len(here) != len(there):
        return []
    return [(a, b) for a, b in zip(here, there, strict=True) if a != b]


RULES = (
    component_renamed,
    dimension_contradicts,
    layers_absent,
    biases_contradict,
    per_rank_slice,
)
