"""D: placeholders in place of data."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidoctor.checkpoint import elements
from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import collapse, printable
from tidoctor.rules.rule import ERROR, LIKELY, advice, found, rule
from tidoctor.rules.view import FLOATS, View

_PARAMETER = re.compile(r".*(?:weight|bias|gamma|beta|_proj)")
_MATRIX = re.compile(
    r"(?:.*\.)?(?:embed_tokens|word_embeddings|wte|lm_head|embed_out|shared"
    r"|[qkvo]_proj|qkv_proj|gate_proj|up_proj|down_proj|gate_up_proj|c_attn|c_fc)\.weight"
)


def _shown(names: list[str]) -> str:
    patterns = [printable(p) for p, _ in collapse(names)]
    more = f" and {len(patterns) - 3} more" if len(patterns) > 3 else ""
    return ", ".join(patterns[:3]) + more


@rule("D01", "empty-placeholder", absorbs=("D02", "C05", "H12"))
def empty_placeholder(view: View) -> Iterator[Finding]:
    """A parameter has shape [0]: the placeholder that ZeRO-3 or FSDP leaves on a rank.

    Why: the state dict was saved without gathering the parameters. Loaders fail with "copying a
    param with shape torch.Size([0])", or leave the weight random.

    Recognised by: the header.

    Fine: buffers of custom code may be empty; only weights and biases are claimed.

    Cure: none in this file; export again with gathering, or convert the trainer's own shards.
    """
    names = [
        n for n, t in view.checkpoint.tensors.items() if t.shape == (0,) and _PARAMETER.fullmatch(n)
    ]
    if names:
        total = len(view.checkpoint.tensors)
        yield found(
            ERROR,
            f"{len(names)} of {total} tensors are empty placeholders: {_shown(names)}",
            at=Location(view.checkpoint.tensors[names[0]].file),
            tensors=tuple(names),
            evidence=(Evidence("shapes", f"{printable(names[0])} has shape [0]"),),
            cure=advice("export again with the parameters gathered"),
            caution="if the trainer's own shards are gone, these values are lost",
        )


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
            f"{len(flat)} matrices are flat: {_shown(flat)}",
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


RULES = (empty_placeholder, flat_parameter)
