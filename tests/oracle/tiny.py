"""Tiny models of any class: its default config with every width divided until it is small."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator
from typing import Any

from tidoctor.atlas import learner

_WIDTH = re.compile(
    r"(?:.*_)?(?:size|dim|hidden|width|channels|rank|features|planes)|d_\w+|n_embd|n_inner|.*_dim\w*"
)
_NOT_A_WIDTH = re.compile(r"(?:.*_)?(?:patch|image|kernel|window|chunk|block|context|head)s?_size.*")
MOST_PARAMETERS = 8_000_000
_SECONDS = 20


class TooLarge(Exception):
    """No divisor made a small model."""


@contextlib.contextmanager
def limited(seconds: int = _SECONDS) -> Iterator[None]:
    """Raise TimeoutError when the block takes longer."""

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def narrowed(values: dict[str, Any], by: int) -> None:
    """Divide widths, in place, and cut the vocabulary."""
    for key, value in values.items():
        if isinstance(value, dict):
            narrowed(value, by)
        elif isinstance(value, list) and _WIDTH.fullmatch(key):
            values[key] = [v // by if type(v) is int and v >= 4 * by else v for v in value]
        elif type(value) is not int:
            continue
        elif key.endswith(("token_id", "token_index")) and value > 100:
            values[key] = 90 + value % 10
        elif "vocab_size" in key and value > 256:
            values[key] = 256
        elif key.endswith("position_embeddings") and value > 128:
            values[key] = 128
        elif _WIDTH.fullmatch(key) and not _NOT_A_WIDTH.fullmatch(key) and value >= 4 * by:
            values[key] = value // by


def tiny_config(name: str, config_class: Any) -> Any:
    """The smallest of a few configs that the class builds on the meta device.

    Raises TooLarge, or what the library raised last.
    """
    import torch

    error: Exception = TooLarge(name)
    for by in (16, 8, 4, 2, 1):
        for filled in (False, True):
            values = json.loads(learner.default_values(config_class))
            values |= learner.CLASS_SEEDS.get(name, {})
            learner.shrink(values)
            if filled:
                learner.fill(values)
            narrowed(values, by)
            try:
                with limited(), torch.device("meta"):
                    config = config_class.from_dict(values)
                    model = learner.model_class(name)(config)
            except Exception as e:
                error = e
                continue
            if sum(p.numel() for p in model.parameters()) <= MOST_PARAMETERS:
                return config
            error = TooLarge(name)
            break
    raise error
