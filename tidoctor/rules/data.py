"""D: data: placeholders in its place, and values that cannot be right."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import printable
from tidoctor.patterns import some_patterns, template
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import ERROR, LIKELY, NOTE, WARNING, CannotRun, advice, found, rule
from tidoctor.rules.values import equal, suspects
from tidoctor.rules.view import View
from tidoctor.tensors import Tensor, elements

_NEAR = 1 << 20  # bytes read at a time of files that lie here; far away it is more
_PARAMETER = re.compile(r".*(?:weight|bias|gamma|beta|_proj)")
_NORM = re.compile(r"(?:norm|ln_f|ln|layernorm)\.weight$", re.IGNORECASE)
_WEIGHT = re.compile(r"(?:weight|_proj)$")  # packed experts have no suffix
_MATRIX = re.compile(
    r"(?:.*\.)?(?:embed_tokens|word_embeddings|wte|lm_head|embed_out|shared"
    r"|[qkvo]_proj|qkv_proj|gate_proj|up_proj|down_proj|gate_up_proj|c_attn|c_fc)\.weight"
)


@rule("D01", "empty-placeholder", absorbs=("D02", "C05", "H12"))
def empty_placeholder(view: View) -> Iterator[Finding]:
    """A parameter has shape [0]: the placeholder that ZeRO-3 or FSDP leaves on a rank.

    Why: the state dict was saved without gathering the parameters. Loaders fail with "copying a
    param with shape torch.Size([0])", or leave the weight random.

    Recognised by: the header.

    Fine: buffers of custom code may be empty; only weights and biases are claimed, and not the bias
    of a layer without outputs.

    Example: `model.embed_tokens.weight` of shape [0] in a file of 905 kB for 13 billion parameters.

    Cure: none in this file; export again with gathering, or convert the trainer's own shards.
    """
    table = view.checkpoint.tensors
    empty = (n for (_, shape), alike in view.forms.items() if shape == (0,) for n in alike)
    names = view.kinds.in_order(
        n for n in empty if _PARAMETER.fullmatch(n) and not _beside_empty_matrix(n, table)
    )
    if names:
        total = len(view.checkpoint.tensors)
        yield found(
            ERROR,
            f"{len(names)} of {total} tensors are empty placeholders: {some_patterns(names)}",
            at=Location(view.checkpoint.tensors[names[0]].file),
            tensors=tuple(names),
            evidence=(Evidence("shapes", f"{printable(names[0])} has shape [0]"),),
            cure=advice("export again with the parameters gathered"),
            caution="if the trainer's own shards are gone, these values are lost",
        )


def _beside_empty_matrix(name: str, table: Mapping[str, Tensor]) -> bool:
    """Whether this is the bias of a layer that really has no outputs: its matrix is 0 × n."""
    matrix = table.get(name.removesuffix("bias") + "weight") if name.endswith("bias") else None
    return matrix is not None and len(matrix.shape) > 1 and 0 in matrix.shape


@rule("D02", "flat-parameter", absorbs=("C05", "H12"))
def flat_parameter(view: View) -> Iterator[Finding]:
    """A one-dimensional tensor under the name of a matrix: an FSDP flat parameter.

    Why: one rank's piece of several parameters, laid end to end, was saved under the name of the
    first. Loaders fail with a size mismatch.

    Recognised by: one dimension under a name that is a matrix in every family.

    Fine: packed quantised weights keep two dimensions, or another name.

    Example: `model.embed_tokens.weight` of shape [131344896], an eighth of an 8 B model's first
    unit.

    Cure: none in this file; consolidate the shards of all ranks.
    """
    flat = view.kinds.in_order(
        n
        for (dtype, shape), alike in view.forms.items()
        if len(shape) == 1 and shape != (0,) and dtype in FLOATS
        for n in alike
        if _MATRIX.fullmatch(n)
    )
    if flat:
        tensor = view.checkpoint.tensors[flat[0]]
        yield found(
            ERROR,
            f"{len(flat)} matrices are flat: {some_patterns(flat)}",
            certainty=LIKELY,
            at=Location(tensor.file),
            tensors=tuple(flat),
            evidence=(
                Evidence(
                    "shapes",
                    f"{printable(flat[0])} has shape [{tensor.shape[0]}], "
                    f"{elements(tensor.shape)} elements in one dimension",
                ),
            ),
            cure=advice("consolidate the shards of all ranks with the trainer's own tool"),
        )


@rule("D03", "not-finite", needs_deep=True)
def not_finite(view: View) -> Iterator[Finding]:
    """A weight holds NaN or infinity.

    Why: one such number spreads over everything that is computed after it. Bit rot and broken
    downloads make them, and so does training that diverged.

    Recognised by: reading all values of every float type.

    Fine: masks in buffers hold minus infinity on purpose; an infinity is claimed in weights and
    biases alone, NaN everywhere. Bit rot need not leave a NaN: only a digest proves that a file is
    intact.

    Example: `model.layers.3.mlp.up_proj.weight`: 17 of its values.

    Cure: download the file again, or export an earlier state.
    """
    bad = {
        n: v.odd for n, v in view.values.items() if v.nan or (v.odd and _PARAMETER.fullmatch(n))
    }
    if bad:
        first = next(iter(bad))
        yield found(
            ERROR,
            f"{len(bad)} tensors hold NaN or infinity: {some_patterns(list(bad))}",
            at=Location(view.checkpoint.tensors[first].file),
            tensors=tuple(bad),
            evidence=tuple(
                Evidence("values", f"{printable(n)}: {count} of its values", count)
                for n, count in list(bad.items())[:8]
            ),
            cure=advice("download the file again, or export an earlier state"),
        )
        return
    # A rule that ran says that all is well: what could not be looked at is said.
    short = [n for n, v in view.values.items() if v.read < view.checkpoint.tensors[n].nbytes]
    if short:
        raise CannotRun(f"{some_patterns(short)} cannot be read to the end")


@rule("D04", "all-zero")
def all_zero(view: View) -> Iterator[Finding]:
    """Weights hold nothing but zeros: matrices, or all that stands at the end of a file.

    Why: a download or a write that was interrupted after its space was reserved leaves zeros
    behind, with a sound header and the right size. Nothing refuses such a file.

    Recognised by: three pages of each file (first, middle, last); where one is empty, three pages
    of each tensor around it. With `--deep`, all values. Whether the same tensor of other layers has
    values tells a fault from a habit.

    Fine: gates and adapters that start from zero, and norms stored as an offset, when they are zero
    in every layer. Biases are a note. A norm of which there is one is held against the other norms.

    Example: every matrix from layer 20 on zero, up to the end of
    `model-00003-of-00004.safetensors`.

    Cure: download the file again; if its digest equals the published one, report it there.
    """
    zero, ends = _zeros(view)
    if not zero:
        return
    table = view.checkpoint.tensors
    alive = {template(n)[0] for n in table if n not in zero}
    ends_of_model = {view.tensors[n].name for n in (view.head, view.embedding) if n}
    weights = [n for n in table if n in zero and _WEIGHT.search(n) and table[n].nbytes > 1]
    lone = {n for n in weights if _is_norm(n, table[n]) and not template(n)[1]}
    if not any(_is_norm(n, table[n]) for n in table if n not in zero):
        lone = set()
    told = ends | ends_of_model | lone
    odd = [n for n in weights if template(n)[0] in alive or n in told]
    habit = [n for n in weights if n not in odd and _is_weight(n, table[n])]
    biases = [n for n in table if n in zero and n.endswith(".bias") and template(n)[0] in alive]
    for names, severity in ((odd, WARNING), (habit, NOTE), (biases, NOTE)):
        if not names:
            continue
        cut = [n for n in names if n in ends and severity is WARNING]
        how = "every byte" if view.deep else "the first, the middle and the last page"
        kind = "biases" if names is biases else "weights"
        yield found(
            ERROR if cut else severity,
            f"{len(names)} {kind} hold only zeros"
            + (
                f", up to the end of {printable(table[cut[0]].file)}: "
                if cut
                else ": "
                if names is habit or set(names) & ends_of_model
                else ", though other layers have values: "
            )
            + some_patterns(names),
            certainty=LIKELY,
            at=Location(table[names[0]].file),
            tensors=tuple(names),
            evidence=(Evidence("values", f"{how} of {printable(names[0])} is zero"),),
            cure=advice("download the file again"),
        )


def _is_norm(name: str, tensor: Tensor) -> bool:
    return len(tensor.shape) == 1 and _NORM.search(name) is not None


def _is_weight(name: str, tensor: Tensor) -> bool:
    return len(tensor.shape) > 1 and bool(_WEIGHT.search(name)) and tensor.nbytes > 1


def _zeros(view: View) -> tuple[set[str], set[str]]:
    """(tensors of nothing but zeros, those of them with nothing but zeros up to the file's end)."""
    checkpoint = view.checkpoint
    zero, ends = set(), set()
    if view.deep:
        zero = {n for n, v in view.values.items() if v.zero}
    elif checkpoint.source.stride > _NEAR:
        raise CannotRun("needs --deep, since the files are far away and pages cost requests")
    else:
        for weight in checkpoint.weights:
            zero |= {t.name for t in suspects(checkpoint, weight)}
    alive = {template(n)[0] for n in checkpoint.tensors if n not in zero} if zero else set()
    for weight in checkpoint.weights if zero else ():
        rows = sorted(checkpoint.rows(weight), key=lambda r: -r.span.begin)
        rows = [r for r in rows if r.nbytes and r.span.begin < weight.header.size]
        tail = [r.name for r, _ in itertools.takewhile(lambda p: p[1], _with(rows, zero))]
        # Gates at the end are zero in every layer; what a write left out has values in others.
        if len(tail) > 1 and len(tail) < len(rows) and any(template(n)[0] in alive for n in tail):
            ends |= set(tail)
    return zero, ends


def _with(rows: Sequence[Tensor], zero: Collection[str]) -> Iterator[tuple[Tensor, bool]]:
    return ((row, row.name in zero) for row in rows)


@rule("D06", "equal-layers", needs_deep=True)
def equal_layers(view: View) -> Iterator[Finding]:
    """The same matrix of different layers holds the same bytes.

    Why: a script that stacks or repeats layers wrote one of them twice, or a write went to the
    wrong place. Two trained layers never agree to the last bit.

    Recognised by: names that differ in the number of the layer alone, equal bytes; tensors of one
    number all over are left out.

    Fine: models that repeat layers on purpose (depth up-scaling) do this with whole layers, hence
    a note there. Head and embedding are not compared here (H04).

    Example: `layers.5.mlp.up_proj.weight` and `layers.6.mlp.up_proj.weight` with the same bytes.

    Cure: none; find out which of the two is the right one.
    """
    table = view.checkpoint.tensors
    matrices = [
        t for n, t in table.items()
        if _is_weight(n, t) and template(n)[1] and not view.values[n].constant
        and view.values[n].read == t.nbytes
    ]  # fmt: skip
    groups = [g for g in equal(view.checkpoint, matrices) if len({template(n)[0] for n in g}) == 1]
    names = [n for g in groups for n in g]
    if not groups:
        return
    layers = {template(n)[1][:1] for n in names}
    alike = {template(n)[0] for n in names}
    every = {template(t.name)[0] for t in matrices if template(t.name)[1][:1] in layers}
    whole = alike == every
    yield found(
        NOTE if whole else WARNING,
        f"{len(names)} matrices hold the same bytes as that of another layer: "
        f"{some_patterns(names)}",
        certainty=LIKELY,
        at=Location(table[names[0]].file),
        tensors=tuple(names),
        evidence=tuple(
            Evidence("bytes", f"{' and '.join(map(printable, g[:3]))} are equal", len(g))
            for g in groups[:6]
        ),
        caution="whole layers were repeated" if whole else "",
    )


RULES = (empty_placeholder, flat_parameter, not_finite, all_zero, equal_layers)
