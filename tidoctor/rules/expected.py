"""What config.json and its class promise against the tensors that are there.

These rules speak of what no other rule explains, and of each tensor once: `View.account` puts
every difference under one cause. Where the promise is not known they do not run, and say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tidoctor.atlas import families
from tidoctor.checkpoint import CONFIG
from tidoctor.errors import Unreadable
from tidoctor.finding import Cure, Evidence, Finding, Location, Operation
from tidoctor.names import collapse, printable, ranges, some, some_patterns, template
from tidoctor.rules.fitting import Fit, Gap, Misfit, Renaming
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
from tidoctor.rules.view import GENERATING, View, spellings

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_LAYER_ROOTS = ("layers", "h", "blocks")
_MOST_LAYERS = 10_000
_MOST_SHOWN = 6
# Words that a multimodal class puts around the names of the text model in it.
_AROUND_TEXT = re.compile(
    r"(?:model\.)?(?:language_model|text_model|thinker|llm)(?:\.model)?|model\.language_model"
)
_POOLER = re.compile(r"(?:^|\.)pooler\.")
_ZEROS = re.compile(rb"\0*")
_MOST_BYTES = 64_000_000  # of biases read to see whether they are zero


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "a number"


def _in_index(view: View, name: str) -> Location:
    """The line of a tensor in the index, else its file. The name is canonical."""
    tensor = view.tensors[name]
    index = view.checkpoint.index
    if index and (line := index.document.line("weight_map", tensor.name)):
        return Location(index.file, line)
    return Location(tensor.file)


def _lost(view: View, gaps: Sequence[Gap]) -> tuple[int, tuple[Evidence, ...]]:
    """Bytes of missing tensors, and what they are."""
    rows: list[Evidence] = []
    total = 0
    shapes = {gap.name: gap.shape for gap in gaps}
    dtype = view.size_of(())[0]
    for pattern, members in collapse(shapes):
        size = sum(view.size_of(shapes[m])[1] for m in members)
        total += size
        if len(rows) < _MOST_SHOWN:
            kinds = {shapes[m] for m in members}
            shape = _shape(shapes[members[0]]) if len(kinds) == 1 else "several shapes"
            count = f"{len(members)} tensors, " if len(members) > 1 else ""
            fact = f"{printable(pattern)}: {count}{shape}, {size} bytes in {dtype}"
            rows.append(Evidence("shapes", fact, list(shapes[members[0]])))
    return total, tuple(rows)


@rule("C06", "dimension-contradicts", absorbs=("H12",))
def dimension_contradicts(view: View) -> Iterator[Finding]:
    """Tensors have other shapes than config.json asks for.

    Why: transformers refuses them and names only `ignore_mismatched_sizes`, which would fill each
    of them with random numbers.

    Recognised by: the shapes that the class has under this config. When another value of a single
    key makes all of them right, it is named.

    Fine: a vocabulary larger than the tokenizer's is padding, and vocab_size counts it (C05). Heads
    times head_dim need not be hidden_size.

    Cure: set that key, where there is exactly one. Otherwise export again.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    if not account.misfits or account.share:
        return
    misfits = account.misfits
    first = misfits[0]
    fitting = account.corrections
    cure = None
    said = f"{len(misfits)} tensors have another shape than config.json asks for"
    if len(misfits) == 1:
        said = f"{printable(first.name)} is {_shape(first.found)}, not {_shape(first.expected)}"
    at = view.at()
    if len(fitting) == 1:
        one = fitting[0]
        key = ".".join(one.path)
        said = f"{printable(key)} is {one.old}; the shapes are those of {one.new}"
        cure = consent(f"set {printable(key)} to {one.new}", set_key(*one.path, value=one.new))
        at = view.at(*one.path)
    rows = [_misfit_row(m) for m in misfits[:_MOST_SHOWN]]
    if len(fitting) > 1:
        ways = " or ".join(f"{'.'.join(map(printable, c.path))} {c.new}" for c in fitting[:3])
        rows.append(Evidence(CONFIG, f"one other value would do: {ways}"))
    yield found(
        ERROR,
        said,
        at=at,
        tensors=tuple(view.tensors[m.name].name for m in misfits),
        evidence=tuple(rows),
        cure=cure,
        not_="ignore_mismatched_sizes=True: these tensors become random",
    )


def _misfit_row(misfit: Misfit) -> Evidence:
    return Evidence(
        "shapes",
        f"{printable(misfit.name)} is {_shape(misfit.found)}, expected {_shape(misfit.expected)}",
        list(misfit.found),
    )


@rule("D05", "per-rank-slice")
def per_rank_slice(view: View) -> Iterator[Finding]:
    """A dimension is a half, a quarter, an eighth of what it should be.

    Why: the state dict of one rank of a tensor-parallel or sharded run was saved as if it were the
    model. Loaders refuse the shapes; the other parts are elsewhere.

    Recognised by: the shapes that the class has under this config; each odd tensor lacks the same
    share, and no single setting explains it.

    Fine: a config that declares smaller dimensions (C06).

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
        at=_in_index(view, misfits[0].name),
        tensors=tuple(names),
        evidence=tuple(_misfit_row(m) for m in misfits[:_MOST_SHOWN]),
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

    Cure: fetch the file that holds them, or export again.
    """
    view.need_config()
    view.need_whole()
    fit = view.fit
    if isinstance(fit, str) or view.account.unknown:
        yield from _layers_by_number(view)
        return
    gaps = view.account.gaps
    idle = [gap for gap in gaps if _POOLER.search(gap.name)]
    if idle:
        yield _pooler(view, idle)
    gaps = tuple(gap for gap in gaps if gap not in idle)
    if not gaps:
        return
    whole = _whole_layers(gaps, fit)
    total, rows = _lost(view, gaps)
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
    total, rows = _lost(view, gaps)
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
    counts = [view.setting(k) for k in LAYER_COUNTS if isinstance(view.setting(k)[0], int)]
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
    present = {
        int(number)
        for n in view.tensors
        for root in roots
        if n.startswith(root) and (number := n[len(root) :].partition(".")[0]).isdecimal()
    }
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

    Cure: take the biases from the source, or set the class that has these tensors.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    fit = view.need_fit()
    name = fit.expected.class_name
    if account.biases:
        gaps = account.biases
        total, rows = _lost(view, gaps)
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
    if sum(t.nbytes for t in tensors) > _MOST_BYTES:
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


@rule("C12", "names-of-another-family", absorbs=("H10", "H03"))
def names_of_another_family(view: View) -> Iterator[Finding]:
    """The tensors are those of another class than config.json names.

    Why: model_type or architectures was copied from another model, or a script converted the one
    and not the other. transformers leaves out what the class does not know, and starts with random
    numbers whatever has no tensor.

    Recognised by: another class that gives exactly these names and shapes under the values of this
    config. For a class that is not known to every tensor: no name at all where it has them.

    Fine: llama-compatible files under `llama` on purpose; there the tensors fit.

    Cure: set model_type and architectures to the family that the tensors belong to, or convert the
    names.
    """
    view.need_config()
    view.need_whole()
    if isinstance(view.fit, str) or (view.account.unknown and not view.account.elsewhere):
        yield from _no_name_of_the_class(view)
        return
    elsewhere = view.account.elsewhere
    if not elsewhere:
        return
    own = view.fit.expected
    fitting = [name for name, _ in elsewhere]
    operations = [set_key("architectures", value=[fitting[0]])]
    if (model_type := elsewhere[0][1]) != view.model_type:
        operations.append(set_key("model_type", value=model_type))
    yield found(
        ERROR,
        f"the tensors are not those of {own.class_name}; they are exactly those of "
        f"{some(fitting, 3)}",
        certainty=PROVEN if len(fitting) == 1 else LIKELY,
        at=view.at("model_type"),
        evidence=_difference(view, view.fit),
        cure=consent(
            f"set model_type to {model_type} and architectures to {fitting[0]}", *operations
        )
        if len(fitting) == 1
        else None,
        not_="training on: what the class does not know would be left out",
    )


def _difference(view: View, fit: Fit) -> tuple[Evidence, ...]:
    rows = []
    if fit.unexpected:
        rows.append(
            Evidence(
                "names",
                f"{fit.expected.class_name} has no place for {some_patterns(fit.unexpected)}",
                len(fit.unexpected),
            )
        )
    if fit.missing:
        names = [gap.name for gap in fit.missing]
        rows.append(
            Evidence(
                "names", f"{fit.expected.class_name} needs {some_patterns(names)}", len(names)
            )
        )
    rows += [_misfit_row(m) for m in fit.mismatched[:3]]
    return tuple(rows)


def _no_name_of_the_class(view: View) -> Iterator[Finding]:
    facts = view.declared
    if facts is None or facts.task not in GENERATING or not facts.embedding or not view.tensors:
        raise NotApplicable("the names of this class are not known")
    if view.model_type not in facts.model_types:
        raise NotApplicable("class and model_type are of two families")
    inside = any(n.endswith("." + facts.embedding) for n in view.tensors)  # at another depth
    known = view.embedding or view.head or view.body_is_there or inside
    if known or view.wrappers or any(n.startswith(facts.prefix or "\0") for n in view.tensors):
        return
    shown = ", ".join(printable(p) for p, _ in collapse(view.tensors)[:3])
    yield found(
        WARNING,
        f"no tensor has a name of {facts.name}: {shown}, …",
        certainty=LIKELY,
        at=view.at("architectures"),
        evidence=(Evidence("names", f"{facts.name} has {facts.embedding}"),),
        not_="training on: every weight would start from random numbers",
    )


@rule("N07", "part-of-another-class", absorbs=("C12", "C07", "N14", "H08"))
def part_of_another_class(view: View) -> Iterator[Finding]:
    """A text class with the names of a multimodal model, or the other way round.

    Why: a part was saved with the names of the whole, or the whole was declared as its part.
    transformers finds nothing where the class looks and starts with random numbers.

    Recognised by: the same names and shapes but for the words that stand around the text model
    (`language_model`, `thinker`); or class and model_type of two kinds, of which the other one fits
    exactly.

    Fine: multimodal names under a multimodal class, in the spelling of any release.

    Cure: name the class that fits, or rename the tensors of the part. Parts that are gone have to
    come from the source.
    """
    view.need_config()
    view.need_whole()
    if isinstance(view.fit, str):
        yield from _declared_as_a_part(view)
        return
    account = view.account
    around = [r for r in account.renamed if _is_around(r)]
    if not around:
        if account.unknown:
            yield from _text_alone(view, view.fit)
        return
    pairs = [pair for r in around for pair in r.pairs]
    inner = all(len(r.old) > len(r.new) for r in around)
    here = [view.tensors[old].name for old, _ in pairs]
    name = view.fit.expected.class_name
    rest = [n for n in view.fit.unexpected if n not in {old for old, _ in pairs}]
    lost = [gap.name for gap in account.gaps]
    words = around[0].old if inner else around[0].new
    said = (
        f"{len(here)} tensors stand under `{printable(words)}`, where {name} has none"
        if inner
        else f"{len(here)} tensors lack the `{words}` that {name} puts around its text model"
    )
    yield found(
        ERROR,
        said + (f"; {len(lost)} tensors of its other parts are not stored" if lost else ""),
        at=_in_index(view, pairs[0][0]),
        tensors=tuple(here + lost),
        evidence=(
            Evidence("names", f"stored: {some_patterns(here)}", len(here)),
            Evidence("names", f"{name} has {some_patterns([new for _, new in pairs])}"),
            *((Evidence("names", f"also stored: {some_patterns(rest)}"),) if rest else ()),
        ),
        cure=_renaming_cure(view, around) if not lost else None,
    )


def _is_around(renaming: Renaming) -> bool:
    """Whether words around a text model were put in or left out."""
    old, new = renaming.old.split("."), renaming.new.split(".")
    longer, shorter = (old, new) if len(old) >= len(new) else (new, old)
    more = [w for w in longer if w not in shorter]
    return bool(more) and _AROUND_TEXT.fullmatch(".".join(more)) is not None


def _declared_as_a_part(view: View) -> Iterator[Finding]:
    """`architectures` names another kind of class than model_type, which fits exactly."""
    facts = view.declared
    reason = view.fit if isinstance(view.fit, str) else ""
    if facts is None or view.model_type is None or view.wanted is not None:
        raise CannotRun(reason)
    if view.model_type in facts.model_types or not facts.model_types:
        raise CannotRun(reason)
    other = families.class_for(view.model_type, "image-text-to-text") or families.class_for(
        view.model_type, "causal-lm"
    )
    if other is None or other == facts.name:
        raise CannotRun(reason)
    fit = view.fit_as(other)
    if isinstance(fit, str):
        raise CannotRun(fit)
    if fit.missing or fit.mismatched or fit.unexpected or fit.unclear:
        return
    yield found(
        ERROR,
        f"architectures names {facts.name}; config and tensors are those of {other}",
        at=view.at("architectures"),
        evidence=(
            Evidence(str(view.at("model_type")), f"model_type is {view.model_type}"),
            Evidence("names", f"all {len(view.tensors)} tensors are those of {other}"),
        ),
        cure=consent(
            f"set architectures to {other}", set_key("architectures", value=[other])
        ),
    )


def _text_alone(view: View, fit: Fit) -> Iterator[Finding]:
    """The text model of a multimodal class alone, told by its embedding."""
    promised = fit.expected.saved or fit.expected.memory
    for bare in ("model.embed_tokens.weight", "embed_tokens.weight"):
        if bare in view.tensors and bare not in promised:
            whole = next((n for n in promised if n.endswith(f".{bare}")), None)
            break
    else:
        raise CannotRun(view.account.unknown)
    if whole is None or any(n.startswith(whole.split(".")[0] + ".") for n in view.tensors if
                            not whole.startswith("model.")):  # fmt: skip
        raise CannotRun(view.account.unknown)
    around = whole.removesuffix(f".{bare}")
    roots = {n.split(".")[0] for n in promised} - {n.split(".")[0] for n in view.tensors}
    if not _AROUND_TEXT.fullmatch(around) or not roots:
        raise CannotRun(view.account.unknown)
    yield found(
        ERROR,
        f"only a text model is stored, without the `{around}` that {fit.expected.class_name} puts "
        "around it; its other parts are not there",
        certainty=LIKELY,
        at=view.at("architectures"),
        evidence=(
            Evidence("names", f"{bare} is stored, {fit.expected.class_name} has {whole}"),
            Evidence("names", f"nothing is stored under {some(sorted(roots), 4)}"),
        ),
    )


@rule("N14", "component-renamed", absorbs=("C12",))
def component_renamed(view: View) -> Iterator[Finding]:
    """One component of the names is another word than the class has: `embedding`, `final_norm`.

    Why: a converter or a merge used names of its own, or of another release. Loaders leave these
    tensors out, and the places where they belong stay random.

    Recognised by: as many tensors left over as missing, with the same shapes, that become each
    other when the same words are exchanged in all of them.

    Fine: spellings that transformers itself knows and renames while loading.

    Cure: rename them. Where several pairings have the right shapes, which one is meant has to be
    decided by who made the names.
    """
    account = view.account
    if account.unknown:
        raise CannotRun(account.unknown)
    for renaming in account.renamed:
        if _is_around(renaming):
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
            at=_in_index(view, renaming.pairs[0][0]),
            tensors=tuple(here),
            evidence=(
                Evidence("names", f"left over: {some_patterns(here)}", len(here)),
                Evidence("names", f"missing: {some_patterns(names)}", len(names)),
                Evidence("shapes", "each has the shape of the one that it would become"),
            ),
            cure=_renaming_cure(view, [renaming]) if renaming.certain else None,
        )


def _renaming_cure(view: View, renamings: Sequence[Renaming]) -> Cure | None:
    if view.wrappers or not all(r.certain for r in renamings):
        return None
    pairs = [(view.tensors[old].name, new) for r in renamings for old, new in r.pairs]
    if any(new in view.checkpoint.tensors for _, new in pairs):
        return None
    operations: list[Operation] = [rename(old, new) for old, new in pairs]
    return consent(f"rename {len(pairs)} tensors", *operations)


RULES = (
    part_of_another_class,
    component_renamed,
    dimension_contradicts,
    layers_absent,
    biases_contradict,
    names_of_another_family,
    per_rank_slice,
)
