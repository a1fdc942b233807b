"""What a wish for another form means for one checkpoint, as operations of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from tidoctor.casting import WIDTHS
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused, Usage
from tidoctor.finding import Operation
from tidoctor.form import Form
from tidoctor.rules.view import View

_CONFIG = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_KEYS = ("dtype", "torch_dtype")


def operations_for(checkpoint: Checkpoint, form: Form) -> tuple[Operation, ...]:
    """Casts, the dtype in config.json, and another division into files.

    Raises Refused where numbers are parts of quantised weights, Usage for a pattern that fits none.
    """
    wished = list(_casts(checkpoint, form)) if form.dtypes else []
    if wished and all(glob == "*" for glob, _ in form.dtypes):
        wished += _settings(checkpoint.settings, _CONFIG[form.dtypes[-1][1]], ())
    if form.reshards:
        wished.append({"op": "reshard", "bytes": form.max_shard_size})
    return tuple(wished)


def _casts(checkpoint: Checkpoint, form: Form) -> Iterator[Operation]:
    if why := _parted(View(checkpoint)):
        raise Refused(
            checkpoint.source.name, f"{why}, so that its numbers cannot be converted one by one",
            "convert the checkpoint that it was made from",
        )
    used = set()
    for tensor in checkpoint.tensors.values():
        wish = next((w for w in reversed(form.dtypes) if fnmatchcase(tensor.name, w[0])), None)
        if wish is None or tensor.dtype not in WIDTHS:
            continue
        used.add(wish)
        if tensor.dtype != wish[1]:
            yield {"op": "cast", "tensor": tensor.name, "dtype": wish[1]}
    for glob, wanted in form.dtypes:
        if glob != "*" and (glob, wanted) not in used:
            raise Usage("--dtype", f"no floating-point tensor is left to the pattern {glob!r}")


def _parted(view: View) -> str:
    """Why numbers are no weights by themselves, "" where they are."""
    for level in (view.settings, view.text_settings):
        if level.get("quantization_config") or level.get("compression_config"):
            return "the weights are quantised"
    return view.packed


def _settings(
    settings: Mapping[str, object], wanted: str, path: tuple[str, ...]
) -> Iterator[Operation]:
    """The keys of config.json that name the type of the weights, in parts of the model too."""
    for key, value in settings.items():
        if key in _KEYS and isinstance(value, str) and value not in (wanted, f"torch.{wanted}"):
            yield {"op": "set", "path": [*path, key], "value": wanted}
        elif isinstance(value, dict) and key.endswith("_config") and not path:
            yield from _settings(value, wanted, (key,))
