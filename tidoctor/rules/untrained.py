"""H14: a head that is stored, and was never trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from tidoctor.finding import Evidence, Finding
from tidoctor.names import printable
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import LIKELY, WARNING, CannotRun, NotApplicable, found, rule
from tidoctor.rules.statistics import decoder
from tidoctor.rules.view import View
from tidoctor.rules.wording import place
from tidoctor.tensors import Tensor

_ROWS = 4096  # looked at, evenly spaced
_LEAST = 64  # rows and columns, below which statistics tell nothing
_USUAL = 0.02  # the deviation of a fresh matrix where the config does not say


@rule("H14", "head-untrained", needs_deep=True)
def head_untrained(view: View) -> Iterator[Finding]:
    """The head looks like fresh random numbers, and the embedding does not.

    Why: a head that was not found starts random, and the next save writes it as if it were real.
    transformers 5.0 to 5.15 did that to tied Qwen2-VL models that 4.52 to 4.57 had saved. From then
    on every loader is content, and the logits are noise.

    Recognised by: mean, deviation and fourth moment are those of a normal distribution with the
    `initializer_range` of the config, and the lengths of the rows vary no more than chance lets
    them; in the embedding they vary more. Trained rows differ in length with how common a token is.

    Fine: a model of which nothing is trained, as in tests: there the embedding looks fresh as well.

    Example: `lm_head.weight` with mean 0.0000 and deviation 0.0200 beside a trained embedding.

    Cure: none in this file. If the model was tied, drop the head and set the flag to true; else
    take it from the model that this one was tuned from.
    """
    view.need_config()
    if not view.head or not view.embedding:
        raise NotApplicable("head and embedding are not both stored")
    head, embedding = view.tensors[view.head], view.tensors[view.embedding]
    shapes = {t.shape for t in (head, embedding)}
    if any(len(s) != 2 or min(s) < _LEAST for s in shapes):
        raise NotApplicable("the matrices are too small to be judged")
    ours, theirs = _moments(view, head), _moments(view, embedding)
    stated = view.setting("initializer_range")[0]
    usual = stated if isinstance(stated, float) and 0 < stated < 1 else _USUAL
    if not ours.fresh(usual) or theirs.spread < 2 * theirs.chance:
        return
    yield found(
        WARNING,
        f"{printable(head.name)} looks like random numbers that were never trained",
        certainty=LIKELY,
        at=place(view, view.head),
        tensors=(head.name,),
        evidence=(
            *view.tie.evidence,
            Evidence("values", f"mean {ours.mean:.6f}, deviation {ours.deviation:.6f}, as drawn "
                     f"with {usual}"),
            Evidence("values", f"lengths of its rows vary by {ours.spread:.4f}, by chance "
                     f"{ours.chance:.4f}; those of the embedding by {theirs.spread:.4f}"),
        ),
        not_="training on from it: the model has to learn its output anew",
    )  # fmt: skip


class _Moments(NamedTuple):
    """Statistics of a matrix; `spread` is how much the lengths of its rows vary, relatively."""

    mean: float
    deviation: float
    kurtosis: float
    spread: float
    size: int
    columns: int

    @property
    def chance(self) -> float:
        """The spread of rows of independent normal numbers."""
        return 1 / math.sqrt(2 * self.columns)

    def fresh(self, usual: float) -> bool:
        """Whether these are the moments of a matrix drawn with this deviation."""
        return (
            abs(self.mean) < 5 * self.deviation / math.sqrt(self.size)
            and abs(self.deviation / usual - 1) < 0.02
            and abs(self.kurtosis - 3) < max(0.05, 10 * math.sqrt(24 / self.size))
            and self.spread < 1.25 * self.chance
        )


def _moments(view: View, tensor: Tensor) -> _Moments:
    import numpy as np

    view.need_bytes(tensor)
    rows, columns = tensor.shape
    width = tensor.nbytes // rows
    step = max(rows // _ROWS, 1)
    begins = range(0, rows * width, step * width)
    pieces = [view.checkpoint.read(tensor, begin, begin + width) for begin in begins]
    decode = decoder(tensor.dtype) if tensor.dtype in FLOATS else None
    if decode is None:
        raise CannotRun(f"values of {tensor.dtype} are not compared")
    matrix = decode(b"".join(pieces)).reshape(len(pieces), columns)
    if not np.isfinite(matrix).all():
        raise CannotRun(f"{printable(tensor.name)} is not finite")
    lengths = np.sqrt((matrix.astype("f8") ** 2).sum(axis=1))
    lengths = lengths[lengths > 0]  # rows of padding
    mean, deviation = float(matrix.mean(dtype="f8")), float(matrix.std(dtype="f8"))
    if not deviation or not lengths.size:
        raise NotApplicable(f"{printable(tensor.name)} is of one number")
    fourth = float((((matrix - mean) / deviation) ** 4).mean(dtype="f8"))
    return _Moments(
        mean, deviation, fourth, float(lengths.std() / lengths.mean()), matrix.size, columns
    )


RULES = (head_untrained,)
