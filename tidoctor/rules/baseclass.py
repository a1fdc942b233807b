"""C04: saved from the bare class, without its head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidoctor.atlas import families
from tidoctor.checkpoint import CONFIG
from tidoctor.finding import Cure, Evidence, Finding, Operation
from tidoctor.names import brief, printable, some
from tidoctor.patterns import collapse, some_patterns
from tidoctor.rules.causes import Renaming, renamings
from tidoctor.rules.fitting import Fit, Gap
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    consent,
    found,
    rename,
    rule,
    safe,
    set_key,
)
from tidoctor.rules.subject import GENERATING
from tidoctor.rules.view import View
from tidoctor.rules.wording import MOST_ROWS, class_cure, gap_rows, misfit_row, model_type_row

_WRAPPERS = ("PeftModel", "OptimizedModule", "DistributedDataParallel", "DeepSpeedEngine")
_MOST_PAIRS = 4_000_000  # names compared with names
_MOST_OWN = 10  # tensors of a head; a masked language model has up to eight


@rule("C04", "base-class-saved")
def base_class_saved(view: View) -> Iterator[Finding]:
    """`architectures` names no class that fits: the bare base, a wrapper, another class's head.

    Why: a model that was loaded with AutoModel and saved has lost the prefix of its names and, when
    head and embedding are not tied, its head. Servers that choose by `architectures` refuse it.

    Recognised by: the class in config.json, names without base prefix, no head; tensors that are
    exactly those of another class of the same family; with `--as`, what the wanted class needs and
    the files lack.

    Fine: embedding models are saved from the bare class on purpose, hence a warning, and a note
    beside the files of sentence-transformers. With `--as causal-lm` it is an error.
    GPT2LMHeadModel and T5EncoderModel end in "Model" and are whole classes.

    Example: `"architectures": ["LlamaModel"]` beside `layers.0…` and no `lm_head.weight`.

    Cure: put the prefix back and set `architectures`; a lost head has to come from the model that
    this one was tuned from.
    """
    view.need_config()
    name = view.declared_name
    if view.unserved:
        yield found(
            ERROR,
            view.unserved,
            certainty=PROVEN if view.wanted else LIKELY,
            at=view.at("model_type"),
            evidence=(model_type_row(view),),
        )
        return
    if view.wish and view.wanted is None:
        raise CannotRun(f"no class is known that would serve this model as {view.wish}")
    if name is None or "architectures" not in view.settings:
        yield from _no_architectures(view)
        return
    if name.startswith(_WRAPPERS):
        yield from _wrapper_class(view, name)
        return
    modern = families.modern_name(name)
    if modern != name and families.class_facts(modern):
        yield found(
            WARNING,
            f"architectures names {brief(name)}, today {modern}",
            at=view.at("architectures"),
            evidence=(Evidence(str(view.at("architectures")), f"architectures is {brief(name)}"),),
            cure=class_cure(modern),
        )
        return
    if _is_bare(view, name) and (view.wanted is None or view.wanted is view.generator):
        yield from _bare_class(view, name)
    elif view.saved_as is not None:
        yield from _saved_as(view, [view.saved_as.name])
    elif view.kin:
        yield from _saved_as(view, view.kin)


def _saved_as(view: View, saved: Sequence[str]) -> Iterator[Finding]:
    """Tensors of one class where another one of its family is to be served."""
    fit = view.need_fit()
    target = view.target
    # Another base prefix of the whole body is a rename; the head of one class is never another's.
    left = {n: fit.files[n] for n in fit.unexpected}
    ways = [r for r in renamings(fit.missing, left) if len(r.pairs) * 2 > len(fit.files)]
    moved = {new for r in ways for _, new in r.pairs}
    gaps = [g for g in fit.missing if g.name not in moved and not view.is_idle(g.name)]
    if not gaps and not moved and not fit.mismatched:
        return
    elsewhere = _elsewhere(fit, gaps)
    total, rows = gap_rows(view, gaps)
    lost = [gap.name for gap in gaps]
    needed = fit.expected.class_name
    parts = set(view.missing_parts(target)) - {target.head} if target else set()
    head = view.must_generate and view.head_is_lost and view.head_name in lost
    said = f"the tensors are those of {some(saved, 3)}, not of {needed}"
    if elsewhere:
        said += f"; {some_patterns(elsewhere)} stand where it has none"
    elif lost:
        said += f"; {some_patterns(lost)} {'is' if len(lost) == 1 else 'are'} lost"
    yield found(
        ERROR,
        said,
        at=view.at("architectures"),
        tensors=(*(view.tensors[o].name for r in ways for o, _ in r.pairs), *lost),
        evidence=(
            Evidence(
                str(view.at("architectures")), f"architectures is {brief(view.declared_name)}"
            ),
            *rows,
            *(misfit_row(m) for m in fit.mismatched[:MOST_ROWS]),
            *((Evidence("size", f"{total} bytes are lost", total),) if lost else ()),
        ),
        includes=(
            *(("H02",) if head else ()),
            *(("H10",) if parts and parts <= set(lost) else ()),
        ),
        cure=None if elsewhere else _other_class_cure(view, saved, ways, lost, total),
        caution="if they were trained, only the training run still has them" if lost else "",
        not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong"
        if head
        else "",
    )


def _elsewhere(fit: Fit, gaps: Sequence[Gap]) -> list[str]:
    """Left over tensors that bear the names of missing ones behind something else."""
    tails = {f".{gap.name}": gap.shape for gap in gaps}
    return [
        name
        for name in fit.unexpected
        if any(name.endswith(tail) and fit.files[name] == shape for tail, shape in tails.items())
    ] if len(fit.unexpected) * len(tails) < _MOST_PAIRS else []


def _other_class_cure(
    view: View, saved: Sequence[str], ways: Sequence[Renaming], lost: Sequence[str], total: int
) -> Cure | None:
    """Naming the class that fits; where another one is wanted, taking from a donor what it needs.

    None where more would have to be taken than there is.
    """
    if view.saved_as is None:
        if len(saved) > 1:
            return None
        key = set_key("architectures", value=[saved[0]])
        return consent(f"set architectures to {saved[0]}, if that was meant", key)
    if total > view.checkpoint.nbytes or view.wrappers:
        return None
    needed = view.wanted.name if view.wanted else ""
    moves = [rename(view.tensors[old].name, new) for r in ways for old, new in r.pairs]
    steps = [f"rename {len(moves)} tensors"] if moves else []
    steps += [f"take {some(lost, 2)} from a model of that class"] if lost else []
    return consent(
        ", ".join([*steps, f"set architectures to {needed}"]),
        *moves,
        set_key("architectures", value=[needed]),
        *({"op": "graft", "tensor": n} for n in lost),
        needs="donor" if lost else "accept",
    )


def _no_architectures(view: View) -> Iterator[Finding]:
    generator = view.generator
    if view.model_type is None or generator is None:
        return
    cure = None
    if view.wanted is generator or view.head is not None or view.tie.meant is True:
        cure = consent(
            f"set architectures to {generator.name}",
            set_key("architectures", value=[generator.name]),
        )
    yield found(
        WARNING,
        "architectures is not written; servers that choose the class by it refuse the model",
        at=view.at(),
        evidence=(Evidence(CONFIG, "there is no key architectures"),),
        cure=cure,
    )


def _wrapper_class(view: View, name: str) -> Iterator[Finding]:
    yield found(
        ERROR,
        f"architectures names {brief(name)}, a wrapper and not a model class",
        at=view.at("architectures"),
        evidence=(Evidence(str(view.at("architectures")), f"architectures is {brief(name)}"),),
        cure=class_cure(view.generator.name) if view.generator else None,
    )


def _is_bare(view: View, name: str) -> bool:
    facts = view.declared
    if facts is not None and view.model_type in facts.model_types:
        whole = view.generator is not None and view.generator.base == facts.name
        # With many tensors of its own, the other class is another network (BLIP's decoder).
        near = view.generator is not None and len(view.generator.own) <= _MOST_OWN
        return facts.task == "base" and whole and near and not name.endswith("Encoder")
    # A class that nobody knows, saved as the bare class of a family that somebody knows.
    own_code = "auto_map" in view.settings
    if own_code or not name.endswith("Model") or view.generator is None:
        return False
    try:
        return bool(view.layout[1])
    except NotApplicable:
        return False


def _bare_class(view: View, name: str) -> Iterator[Finding]:
    generator = view.generator
    if generator is None:
        return
    try:
        prefix, bare, prefixed = view.layout
    except NotApplicable:
        prefix, bare, prefixed = "", [], []
    view.need_whole()
    encoder = generator.task == "masked-lm"
    lost = view.missing_parts(generator)
    head_lost = view.head_is_lost
    demanded = view.wanted is not None and view.wanted.task in GENERATING
    # A decoder that was saved bare was as a rule meant to generate; of the others, encoders and
    # complete pairs of encoder and decoder are used as they are.
    usual = encoder or view.embedding_model or (not lost and generator.task != "causal-lm")
    severity = ERROR if demanded else NOTE if usual else WARNING
    operations: list[Operation] = []
    if bare and not prefixed:
        operations += [rename(view.tensors[n].name, prefix + n) for n in bare]
    operations.append(set_key("architectures", value=[generator.name]))
    cure: Cure | None
    if lost:
        operations += [{"op": "graft", "tensor": n} for n in lost]
        if head_lost:  # what belongs to an untied head, in releases that store it (a bias)
            aliases = (a for a in generator.ties if a in generator.own and a not in lost)
            operations += [
                {"op": "graft", "tensor": a, "optional": True}
                for a in aliases
                if a not in view.tensors
            ]
        what = f"take {some(lost, 2)} from the model it was tuned from"
        cure = consent(_cure_text(bare, prefix, generator.name, what), *operations, needs="donor")
    elif view.tie.meant is None and view.head is None:
        cure = None
    elif generator.task == "causal-lm" and families.class_for(view.model_type or "", "seq2seq-lm"):
        cure = None  # the causal class of such a family is the decoder alone
    else:
        cure = safe(_cure_text(bare, prefix, generator.name, ""), *operations)
    includes = (
        *(("N04",) if bare else ()),
        *(("H02",) if head_lost else ()),
        *(("H10",) if set(lost) - {generator.head} else ()),
    )
    yield found(
        severity,
        f"saved from {brief(name)}, the class without a head"
        + (f"; {some(lost, 2)} {'is' if len(lost) == 1 else 'are'} lost" if lost else ""),
        certainty=PROVEN if view.declared else LIKELY,
        at=view.at("architectures"),
        tensors=(*(view.tensors[n].name for n in bare), *lost),
        evidence=_bare_evidence(view, name, generator.name, prefix, bare, head_lost),
        includes=includes,
        cure=cure,
        caution="if the head was trained, only the training run still has it" if lost else "",
        not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong"
        if head_lost
        else "",
    )


def _cure_text(bare: list[str], prefix: str, name: str, graft: str) -> str:
    steps = [f"put `{prefix}` in front of {len(bare)} names"] if bare else []
    return ", ".join([*steps, *([graft] if graft else []), f"set architectures to {name}"])


def _bare_evidence(
    view: View, name: str, generator: str, prefix: str, bare: list[str], lost: bool
) -> tuple[Evidence, ...]:
    rows = [
        Evidence(str(view.at("architectures")), f'architectures is ["{brief(name)}"]'),
        *view.tie.evidence,
    ]
    total = len(view.tensors)
    if bare:
        shown = ", ".join(printable(p) for p, _ in collapse(bare)[:2])
        rows.append(
            Evidence(
                "names",
                f"{len(bare)} of {total} tensors lack the prefix `{prefix}`: {shown}, …",
                len(bare),
            )
        )
    if lost and view.embedding:
        tensor = view.tensors[view.embedding]
        have = view.checkpoint.nbytes
        shape = " × ".join(map(str, tensor.shape))
        rows.append(
            Evidence(
                "size",
                f"{have} bytes; {generator} needs {tensor.nbytes} more = one {shape} "
                f"{tensor.dtype} tensor",
                tensor.nbytes,
            )
        )
    return tuple(rows)


RULES = (base_class_saved,)
