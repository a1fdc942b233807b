"""Skips what only costs time when a model is built on the meta device, and limits that time.

Nothing here has a part in names, shapes or ties, nor in whether the library takes a config: the
initial values, what is logged of a config, and how the library finds out that it builds on meta.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from tidoctor.atlas import learner

# A build that takes longer is not worth learning from.
SECONDS = 5
# How often it is looked whether a build takes too long: setting a timer for each costs a tenth
# of a small one.
_LOOK = 0.25

_until = float("inf")
_looking = 0  # process that looks


@contextlib.contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Interrupt what takes too much processor time (main thread only)."""
    global _looking, _until
    if _looking != os.getpid():  # a timer is not inherited
        signal.signal(signal.SIGPROF, _look)
        signal.setitimer(signal.ITIMER_PROF, _LOOK, _LOOK)
        # At its end the interpreter gives signals back to the system, which would kill for this.
        atexit.register(signal.setitimer, signal.ITIMER_PROF, 0)
        _looking = os.getpid()
    before, _until = _until, time.process_time() + seconds
    try:
        yield
    finally:
        _until = before


def _look(number: int, frame: Any) -> None:
    global _until
    if time.process_time() > _until:
        _until = float("inf")  # once
        learner.too_slow(number, frame)


def hurry() -> None:
    """Prepare the library: initial values, logged configs, regex caching, garbage."""
    import torch
    import transformers
    from transformers import modeling_utils

    kinds = {
        each for kind in vars(torch.nn).values() if isinstance(kind, type) for each in kind.__mro__
    }
    for kind in kinds:
        if real := vars(kind).get("reset_parameters"):
            kind.reset_parameters = _resetting(real)  # type: ignore[attr-defined]
    # The innermost ones: what stands around them checks the shapes of what it is given.
    for name in ("fill", "zero", "normal", "uniform", "trunc_normal"):
        if real := getattr(torch.nn.init, f"_no_grad_{name}_", None):
            setattr(torch.nn.init, f"_no_grad_{name}_", functools.partial(_initial, real))
    # Every config is put into words for a log that nobody reads.
    transformers.PreTrainedConfig.__repr__ = object.__repr__
    modeling_utils.get_torch_context_manager_or_global_device = _device
    # The save conversions compile hundreds of patterns for every model.
    re._MAXCACHE = 1_000_000  # type: ignore[attr-defined]
    # The library itself never becomes garbage.
    gc.collect()
    gc.freeze()


def _resetting(real: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same, but for modules on the meta device."""

    def reset(module: Any) -> None:
        own = next(module.parameters(recurse=False), None)
        if own is None or not own.is_meta:
            real(module)

    return reset


def _initial(real: Callable[..., Any], tensor: Any, *rest: Any, **named: Any) -> Any:
    """Initial values, where there are any: other models of this process may be saved."""
    return tensor if tensor.is_meta else real(tensor, *rest, **named)


def _device() -> Any:
    """The device of the context, None for the CPU; the library makes a tensor to find out."""
    import torch

    device = torch.get_default_device()
    return None if device.type == "cpu" else device
