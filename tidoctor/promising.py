"""Giving a promise: the description of a checkpoint as it is now."""

from __future__ import annotations

from collections.abc import Sequence

from tidoctor import __version__
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Outcome
from tidoctor.loaders import asked
from tidoctor.promise import TIES, Promise
from tidoctor.rules import loading
from tidoctor.rules.view import View
from tidoctor.tensors import formed


def promise(checkpoint: Checkpoint, loaders: Sequence[str] = ()) -> Promise:
    """What a checkpoint is: its tensors, class, tie, and who loads it.

    `loaders` are asked, every known one when there are none; of what is unknown nothing is
    promised. Raises Usage for a loader that nobody knows.
    """
    view = View(checkpoint)
    verdicts = loading.judge(view, asked(loaders or ["all"]), None)
    found = checkpoint.settings.get("architectures")
    classes = found if isinstance(found, list) else []
    return Promise(
        name=checkpoint.source.name,
        tensors=dict(formed(checkpoint.tensors)),
        architectures=tuple(c for c in classes if isinstance(c, str)),
        model_type=view.model_type,
        tie=TIES[view.tie.meant],
        loaders=tuple(
            (v.loader, v.version, str(v.outcome))
            for v in verdicts
            if v.outcome is not Outcome.UNKNOWN
        ),
        tool=__version__,
    )
