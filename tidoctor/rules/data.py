"""D: data: placeholders in its place, and values that cannot be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidoctor.checkpoint import Tensor, elements
from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import printable, some_patterns, template
from tidoctor.rules.rule import ERROR, LIKELY, NOTE, WARNING, advice, found, rule
from tidoctor.rules.view import FLOATS, View

_PARAMETER = re.compile(r".*(?:weight|bias|gamma|beta|_proj)")
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

    Cure: none in this file; export again with gathering, or convert the trainer's own shards.
    """
    table = view.checkpoint.tensors
    names = [
        n
        for n, t in table.items()
        if t.shape == (0,) and _PARAMETER.fullmatch(n) and not _beside_empty_matrix(n, table)
    ]
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

    Cure: none in this file; consolidate the shards of all ranks.
    """
    flat = [
        n
        for n, t in view.checkpoint.tensors.items()
        if len(t.shape) == 1 and t.shape != (0,) and t.dtype in FLOATS and _MATRIX.fullmatch(n)
    ]
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


@dataclass(frozen=True, slots=True)
class _Bits:
    """How a float type says NaN or infinity: these bits all set, read as this unsigned integer."""

    unsigned: str
    exponent: int


# The types without infinities (F8_E4M3, its FNUZ kin, F8_E8M0) have NaN at single patterns.
_EXPONENTS = {
    "F64": _Bits("<u8", 0x7FF0000000000000),
    "F32": _Bits("<u4", 0x7F800000),
    "F16": _Bits("<u2", 0x7C00),
    "BF16": _Bits("<u2", 0x7F80),
    "F8_E5M2": _Bits("<u1", 0x7C),
}
_NAN_BYTES = {
    "F8_E4M3": (0x7F, 0xFF),
    "F8_E8M0": (0xFF,),
    "F8_E4M3FNUZ": (0x80,),
    "F8_E5M2FNUZ": (0x80,),
}
_PIECE = 8 << 20  # bytes read at a time; a multiple of every element's size


@rule("D03", "not-finite", needs_deep=True)
def not_finite(view: View) -> Iterator[Finding]:
    """A weight holds NaN or infinity.

    Why: one such number spreads over everything that is computed after it. Bit rot and broken
    downloads make them, and so does training that diverged.

    Recognised by: reading all values of every float type.

    Fine: masks in buffers hold minus infinity on purpose; only weights and biases are claimed. Bit
    rot need not leave a NaN: only a digest proves that a file is intact.

    Cure: download the file again, or export an earlier state.
    """
    bad: dict[str, int] = {}
    for name, tensor in view.checkpoint.tensors.items():
        if _PARAMETER.fullmatch(name) and (count := _not_finite(view, tensor)):
            bad[name] = count
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


def _not_finite(view: View, tensor: Tensor) -> int:
    """How many elements are NaN or infinite; 0 for types that have neither."""
    import numpy as np

    bits, nans = _EXPONENTS.get(tensor.dtype), _NAN_BYTES.get(tensor.dtype)
    count = 0
    if bits:
        view.need_bytes(tensor)
        for piece in view.checkpoint.chunks(tensor, _PIECE):
            values = np.frombuffer(piece, bits.unsigned)
            count += int(np.count_nonzero((values & bits.exponent) == bits.exponent))
    elif nans:
        view.need_bytes(tensor)
        for piece in view.checkpoint.chunks(tensor, _PIECE):
            values = np.frombuffer(piece, "<u1")
            count += sum(int(np.count_nonzero(values == nan)) for nan in nans)
    return count


@rule("D04", "all-zero", needs_deep=True)
def all_zero(view: View) -> Iterator[Finding]:
    """A weight matrix holds nothing but zeros.

    Why: a download that was interrupted after its space was reserved leaves zeros behind, with a
    sound header and the right size.

    Recognised by: reading all values of matrices; whether the same tensor of other layers is zero
    as well tells a fault from a habit.

    Fine: gates and adapters that start from zero, norms stored as an offset, biases.

    Cure: download the file again; if its digest equals the published one, report it there.
    """
    zero, alive = [], set()
    for name, tensor in view.checkpoint.tensors.items():
        if len(tensor.shape) < 2 or not name.endswith("weight") or tensor.nbytes < 2:
            continue
        view.need_bytes(tensor)
        if any(piece.strip(b"\0") for piece in view.checkpoint.chunks(tensor, _PIECE)):
            alive.add(template(name)[0])
        else:
            zero.append(name)
    for odd in (True, False):
        names = [n for n in zero if (template(n)[0] in alive) is odd]
        if names:
            yield found(
                WARNING if odd else NOTE,
                f"{len(names)} matrices hold only zeros"
                + (", though other layers have values: " if odd else ": ")
                + some_patterns(names),
                certainty=LIKELY,
                at=Location(view.checkpoint.tensors[names[0]].file),
                tensors=tuple(names),
                evidence=(Evidence("values", f"every byte of {printable(names[0])} is zero"),),
                cure=advice("download the file again"),
            )


RULES = (empty_placeholder, flat_parameter, not_finite, all_zero)
