"""Whether a donor looks like the model that the patient was tuned from.

Names, shapes and dtypes are a matter of `tidoctor.donors`, which refuses; here are the signs that
leave a choice: config values that tuning does not touch, and weights that tuning hardly moves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tidoctor.casting import WIDTHS, cast
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.rules.view import View
from tidoctor.tensors import Tensor

# What says nothing about the weights, or is changed by tuning, saving and converting.
_SUPERFICIAL = frozenset({
    "_attn_implementation", "_name_or_path", "architectures", "bos_token_id", "dtype",
    "eos_token_id", "id2label", "label2id", "max_length", "num_labels", "pad_token_id",
    "problem_type", "quantization_config", "return_dict", "tie_word_embeddings", "torch_dtype",
    "torchscript", "transformers_version", "use_cache",
})  # fmt: skip
_SAMPLES = 6  # matrices
_BYTES = 1 << 16  # read of each, from its middle
_ALIKE = 0.5  # correlation; tuned weights have above 0.9, those of two trainings about 0


def doubts(patient: Checkpoint, donor: Checkpoint) -> tuple[str, ...]:
    """What speaks against the donor being the model that the patient was tuned from."""
    ours, theirs = View(patient), View(donor)
    name = printable(donor.source.name)
    found = []
    differing = sorted(_differing(ours.text_settings, theirs.text_settings))
    if differing:
        more = f" and {len(differing) - 4} more" if len(differing) > 4 else ""
        found.append(f"the donor {name} has another config: {', '.join(differing[:4])}{more}")
    likeness = sorted(_correlations(ours, theirs))
    if likeness and (middle := likeness[len(likeness) // 2]) < _ALIKE:
        found.append(
            f"the donor {name} has other weights: {len(likeness)} matrices that both have "
            f"correlate by {middle:.2f}, those of a model tuned from it by more than 0.9"
        )
    return tuple(found)


def _differing(ours: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[str]:
    """`rope_theta 10000.0, not 500000.0` for each value that both have and that differs."""
    for key in ours.keys() & theirs.keys() - _SUPERFICIAL:
        mine, yours = ours[key], theirs[key]
        if mine != yours and not isinstance(mine, dict) and not isinstance(yours, dict):
            yield f"{printable(key)} {_short(yours)}, not {_short(mine)}"


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return printable(text if len(text) <= 30 else text[:29] + "…")


def _correlations(ours: View, theirs: View) -> Iterator[float]:
    """Those of pieces of matrices that both have, spread over the model."""
    import numpy as np

    pairs = [
        (row, twin)
        for name, row in ours.tensors.items()
        if (twin := theirs.tensors.get(name))
        and row.shape == twin.shape
        and len(row.shape) == 2
        and row.dtype in WIDTHS
        and twin.dtype in WIDTHS
    ]
    step = max(len(pairs) // _SAMPLES, 1)
    for row, twin in pairs[step // 2 :: step][:_SAMPLES]:
        try:
            a, b = (_numbers(v.checkpoint, t) for v, t in ((ours, row), (theirs, twin)))
        except Unreadable:
            continue
        both = np.isfinite(a[: len(b)]) & np.isfinite(b[: len(a)])
        a, b = (x[: len(both)][both].astype("f8") for x in (a, b))
        norm = float(np.sqrt((a @ a) * (b @ b)))
        if norm > 0:
            yield float(a @ b) / norm


def _numbers(checkpoint: Checkpoint, tensor: Tensor) -> Any:
    """Numbers from the middle of a tensor, as F32."""
    import numpy as np

    width = WIDTHS[tensor.dtype]
    count = _BYTES // width
    begin = max((tensor.nbytes // width - count) // 2, 0) * width
    data = checkpoint.read(tensor, begin, begin + count * width)
    whole = data[: len(data) // width * width]
    return np.frombuffer(cast(whole, tensor.dtype, "F32")[0], "<f4")
