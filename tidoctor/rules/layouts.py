"""N06 to N10: the same model in another layout of names, of this library or of another program."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tidoctor.dtypes import span_bytes
from tidoctor.finding import Cure, Evidence, Finding, Location, Operation
from tidoctor.names import natural_key, printable
from tidoctor.patterns import Kinds, ranges, some_patterns
from tidoctor.rules.fitting import Kind, Respelling, regrouped
from tidoctor.rules.rule import (
    ERROR,
    NOTE,
    CannotRun,
    NotApplicable,
    advice,
    consent,
    found,
    rename,
    rule,
)
from tidoctor.rules.view import View
from tidoctor.rules.wording import place
from tidoctor.tensors import elements

# Program -> names of which each must occur; none is a name of the layouts of transformers.
FOREIGN: dict[str, tuple[re.Pattern[str], ...]] = {
    program: tuple(map(re.compile, patterns))
    for program, patterns in {
        "torchtune": (r"tok_embeddings\.weight", r"layers\.\d+\.attn\.q_proj\.weight"),
        "Meta's and Mistral's own code": (
            r"tok_embeddings\.weight", r"(?:layers\.\d+\.attention\.wq|output)\.weight",
        ),
        "llama.cpp": (r"token_embd\.weight", r"blk\.\d+\.attn_\w+\.weight"),
        "Microsoft's first code for Phi": (r"transformer\.embd\.wte\.weight",),
        "LitGPT": (r"transformer\.wte\.weight", r"transformer\.h\.\d+\.norm_1\.weight"),
        "AI2's code for OLMo": (
            r"model\.transformer\.wte\.weight",
            r"model\.transformer\.blocks\.\d+\.att_proj\.weight",
        ),
        "Megatron": (
            r"(?:.*\.)?embedding\.word_embeddings\.weight",
            r"(?:.*\.)?decoder\.layers\.\d+\.self_attention\.linear_qkv\.weight",
        ),
    }.items()
}  # fmt: skip
_EXPERT = re.compile(r"(.*\.experts\.)(\d{1,9})(\..+)")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_USUAL = "nothing has to be done; loading and saving with transformers writes the usual form"
_MOST_OPERATIONS = 200_000


def _respelled(view: View, kind: Kind) -> list[Respelling]:
    """What loads from another generation of names; raises where that cannot be known."""
    fit = view.need_fit()
    if fit.expected.saved is None:
        raise CannotRun(fit.expected.saved_reason)
    if view.account.unknown:
        raise CannotRun(view.account.unknown)
    return [each for each in fit.respelled if each.kind == kind]


def _note(
    view: View, rows: Sequence[Respelling], said: str, cure: Cure | None
) -> Finding:
    names = list(dict.fromkeys(n for each in rows for n in each.files))
    fresh = list(dict.fromkeys(n for each in rows for n in each.saved))
    return found(
        NOTE,
        said,
        at=place(view, names[0]),
        tensors=tuple(view.tensors[n].name for n in names),
        evidence=(
            Evidence("names", f"stored: {some_patterns(names)}", len(names)),
            Evidence("names", f"a fresh save has {some_patterns(fresh)}", len(fresh)),
        ),
        cure=cure,
        caution="transformers 5 reads both; other readers may know one of them only",
    )


@rule("N06", "layout-generation")
def layout_generation(view: View) -> Iterator[Finding]:
    """A multimodal model with the names of another generation of transformers.

    Why: transformers renames while it loads. Engines and converters often know one generation only:
    `model.` and `visual.`, or `language_model.model.`, or `model.language_model.`.

    Recognised by: names that the loader of transformers has to change, where a fresh save has
    others.

    Fine: for transformers both are right. What a model is called in memory is no measure: the names
    on disk are others again.

    Example: `model.language_model.layers.0…` where a fresh save has
    `language_model.model.layers.0…`.

    Cure: none needed. For a reader of the other generation, rename.
    """
    rows = _respelled(view, "names")
    if view.text_level is None and not (view.target and view.target.task == "image-text-to-text"):
        raise NotApplicable("the model has one part only")
    rows = [r for r in rows if len(r.files) == len(r.saved) == 1 and not _prefix_only(view, r)]
    if not rows:
        return
    pairs = [(view.tensors[r.files[0]].name, r.saved[0]) for r in rows]
    taken = view.checkpoint.tensors.keys() - {old for old, _ in pairs}
    free = not view.wrappers and not taken & {new for _, new in pairs}
    yield _note(
        view,
        rows,
        f"{len(rows)} of {len(view.tensors)} tensors are named as another generation of "
        "transformers names them",
        consent(f"rename {len(pairs)} tensors", *(rename(old, new) for old, new in pairs))
        if free
        else None,
    )


def _regroup(view: View, summary: str) -> Cure:
    """The form of a fresh save, of ranges of what is stored; advice where that is not possible.

    All of it: experts of one generation among names of another would be a form that nobody reads.
    """
    fit = view.need_fit()
    runs = None if view.wrappers else regrouped(fit)
    held = view.checkpoint.tensors
    if runs is None or not runs.keys().isdisjoint(held) or len(runs) > _MOST_OPERATIONS:
        return advice(_USUAL)
    shapes = fit.expected.saved or {}
    renames, made = list[Operation](), list[Operation]()
    given = dict[str, None]()
    for name, parts in runs.items():
        used = [view.tensors[run.source] for run in parts]
        width = span_bytes(used[0].dtype, (1,))
        if width is None or any(t.dtype != used[0].dtype for t in used):
            return advice(_USUAL)
        if (used[0].shape, parts[0].end) == (shapes[name], elements(shapes[name])):
            renames.append(rename(used[0].name, name))
            continue
        ranges = [
            {"tensor": t.name, "begin": run.begin * width, "end": run.end * width}
            for t, run in zip(used, parts, strict=True)
        ]
        made.append({"op": "gather", "tensor": name, "shape": [*shapes[name]], "from": ranges})
        given |= dict.fromkeys(t.name for t in used)
    return consent(summary, *renames, *made, *({"op": "drop", "tensor": n} for n in given))


def _prefix_only(view: View, row: Respelling) -> bool:
    """Whether only the base prefix was put in front or left out, which is another matter."""
    prefix = view.generator.prefix if view.generator else ""
    old, new = row.files[0], row.saved[0]
    return bool(prefix) and (prefix + old == new or old == prefix + new)


@rule("N08", "experts-packed")
def experts_packed(view: View) -> Iterator[Finding]:
    """The experts of a layer are one stacked tensor where a fresh save has many, or the reverse.

    Why: transformers 5 reads both. Quantisers, engines and adapters often know one form only.

    Recognised by: tensors that the loader stacks, or takes stacked, otherwise than in a fresh save.
    Experts of the right number with numbers of their own (from 1 on, or one left out and one too
    many) are an error: version 5 stacks them in the order of the files, without a word, and version
    4 starts those that it does not find from random numbers.

    Fine: gpt-oss and Llama 4 are published stacked.

    Example: `mlp.experts.gate_up_proj` of 128 × 1536 × 2048, or `mlp.experts.1` to `128`.

    Cure: none needed for transformers. For other readers the experts are stacked, or stored apart,
    as in a fresh save; no value changes. Experts that count from 1 are renamed.
    """
    if odd := _renumbered(view):
        yield _experts_renumbered(view, *odd)
        return
    rows = _respelled(view, "experts")
    if not rows:
        return
    packed = all(len(r.files) < len(r.saved) for r in rows)
    yield _note(
        view,
        rows,
        "the experts are stacked into one tensor for each layer"
        if packed
        else "the experts are stored otherwise than in a fresh save",
        _regroup(view, "store the experts apart" if packed else "stack the experts"),
    )


def _renumbered(view: View) -> tuple[dict[str, set[int]], int] | None:
    """(place of experts -> their numbers, how many there should be) where the numbers are odd."""
    counts = [view.setting(key)[0] for key in _EXPERT_COUNTS]
    count = next((c for c in counts if type(c) is int and c > 1), None)
    if count is None or view.verbatim:
        return None
    if all(n < count for n in view.own_kinds.numbers(_EXPERT.fullmatch, 2)):
        return None
    numbers: dict[str, set[int]] = {}
    for name in view.own_kinds.where(_EXPERT.fullmatch):
        if m := _EXPERT.fullmatch(name):
            numbers.setdefault(m[1], set()).add(int(m[2]))
    odd = {
        at: ns for at, ns in numbers.items() if len(ns) == count and ns != set(range(count))
    }
    return (odd, count) if odd else None


def _experts_renumbered(view: View, odd: dict[str, set[int]], count: int) -> Finding:
    from_one = all(ns == set(range(1, count + 1)) for ns in odd.values())
    here, steps = [], []
    for name, tensor in sorted(view.tensors.items(), key=lambda p: natural_key(p[0])):
        if (m := _EXPERT.fullmatch(name)) and m[1] in odd:
            here.append(tensor.name)
            if from_one:
                steps.append(rename(tensor.name, f"{m[1]}{int(m[2]) - 1}{m[3]}"))
    free = from_one and not view.wrappers and all(s["from"] in view.tensors for s in steps)
    at, numbers = next(iter(odd.items()))
    return found(
        ERROR,
        f"the {count} experts of {len(odd)} layers are numbered {ranges(numbers)}, not "
        f"{ranges(range(count))}",
        at=place(view, next(n for n in view.tensors if n.startswith(at))),
        tensors=tuple(here),
        evidence=(
            Evidence("names", some_patterns(here), len(here)),
            Evidence("transformers 5", "stacks experts in the order of the files"),
            Evidence("transformers 4", "starts what it does not find from random numbers"),
        ),
        cure=consent(f"rename {len(steps)} tensors, counting from 0", *steps) if free else None,
        caution="" if from_one else "the router counts experts: which is which is not known here",
    )


@rule("N09", "projections-fused")
def projections_fused(view: View) -> Iterator[Finding]:
    """Projections are fused (`qkv_proj`, `gate_up_proj`) where a fresh save is split, or reverse.

    Why: for some families transformers converts while it loads; for all others the projections
    stay random. Other readers look for one of the forms.

    Recognised by: tensors that the loader joins or cuts, or would have to for a fresh save (a
    note); missing and left over projections of one module whose rows add up (an error).

    Fine: Phi-3 is fused, Llama is split; each is healthy in its own form.

    Example: `self_attn.qkv_proj.weight` in a Llama.

    Cure: none needed for transformers. For other readers the rows are cut or joined as in a fresh
    save, where transformers is known to do just that; no value changes.
    """
    rows = _respelled(view, "projections")
    if rows:
        fused = all(len(r.files) < len(r.saved) for r in rows)
        yield _note(
            view,
            rows,
            "projections are fused that a fresh save stores apart"
            if fused
            else "projections are stored otherwise than in a fresh save",
            _regroup(view, "cut the projections apart" if fused else "join the projections"),
        )
    if groups := view.account.fused:
        stored = [view.tensors[n].name for g in groups for n in g.stored]
        needed = [n for g in groups for n in g.needed]
        name = view.need_fit().expected.class_name
        yield found(
            ERROR,
            f"{some_patterns(stored)}: projections are "
            f"{'fused' if groups[0].fused else 'split'} that {name} has "
            f"{'apart' if groups[0].fused else 'in one'}",
            at=place(view, groups[0].stored[0]),
            tensors=(*stored, *needed),
            evidence=(
                Evidence("names", f"stored: {some_patterns(stored)}", len(stored)),
                Evidence("names", f"{name} needs {some_patterns(needed)}", len(needed)),
                Evidence("shapes", "their rows add up"),
            ),
            cure=advice("cut or join the rows with the program that wrote them, or export again"),
            caution="some programs order the rows by head: adding up does not prove the order",
        )


@rule(
    "N10",
    "foreign-layout",
    absorbs=("C07", "C09", "C12", "H02", "H08", "H10", "N04", "N07", "N14"),
)
def foreign_layout(view: View) -> Iterator[Finding]:
    """The names are those of another program: Meta's or Mistral's own code, llama.cpp, Megatron.

    Why: the file is fine for that program. transformers and what follows its names find nothing and
    start with random numbers.

    Recognised by: names that only that program gives, such as `tok_embeddings.weight` beside
    `layers.0.attention.wq.weight`.

    Fine: a vendor's file beside the shards (`consolidated.safetensors`) is a note.

    Example: `tok_embeddings.weight`, `layers.0.attention.wq.weight`.

    Cure: convert it with the vendor's script. A rename alone is not enough: in Meta's layout the
    rows of q and k stand in another order, and some programs fuse what others keep apart.
    """
    for weight in view.checkpoint.extras:
        beside = [*weight.header.names]
        if other := _program(Kinds(beside)):
            yield found(
                NOTE,
                f"{printable(weight.name)} holds the model in the layout of {other}",
                at=Location(weight.name),
                evidence=(Evidence(weight.name, some_patterns(beside), len(beside)),),
                caution="readers that take every .safetensors file load both",
            )
    program = _program(view.own_kinds)
    if program is None:
        return
    fit = view.fit if view.settings else "there is no config.json"
    own = view.target
    if isinstance(fit, str):
        # Some classes are saved in the layout of their vendor.
        known = own is not None and own.embedding is not None and own.embedding not in view.tensors
    else:
        known = bool(fit.missing)
        if not known:
            return  # transformers reads these names
    names = list(view.checkpoint.tensors)
    missing = [] if isinstance(fit, str) else [gap.name for gap in fit.missing]
    yield found(
        ERROR if known else NOTE,
        f"the names are those of {program}",
        at=place(view, next(iter(view.tensors))),
        tensors=(*names, *missing),
        evidence=(Evidence("names", some_patterns(names), len(names)),),
        cure=advice("convert it with the script of that program"),
        not_="renaming alone: the rows of some projections stand in another order",
    )


def _program(names: Kinds) -> str | None:
    """Whose names these are."""
    for program, patterns in FOREIGN.items():
        if all(names.first(p.fullmatch) for p in patterns):
            return program
    return None


RULES = (layout_generation, experts_packed, projections_fused, foreign_layout)
