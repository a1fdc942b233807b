"""The program that asks an installed transformers about a class. It runs in a process of its own.

    python -P tidoctor/atlas/installed.py FOLDER

FOLDER holds `config.json` and `question.json`: `{"class": name, "files": {name: [dtype, shape]}}`,
`files` being null when they cannot be compared. The answer is one JSON object per line on standard
output, each as soon as it is known:

    {"part": "library", "version": "5.23.0"}
    {"part": "model", "memory": {name: shape}, "saved": {name: shape}, "ties": {alias: keeper}}
    {"part": "load", "missing": [], "unexpected": [], "mismatched": [[name, found, wanted]],
     "failed": [[name, why]]}

or, in the place of a part, `{"part": …, "error": a sentence}`. Nothing is downloaded, no code of a
model is run and no weight is allocated: the model and the tensors of the files stand on the meta
device, where a tensor is its shape.

It imports nothing of tidoctor, so that it can be started as a file, without any folder on the
search path in which a checkpoint could have put a module. Facts about the library: transformers
5.23, modeling_utils.py (`save_pretrained`, `from_pretrained`) and core_model_loading.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MEMORY = 16 << 30  # bytes of address space, where the system can limit it
_SENTENCE = 300  # characters
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip


class Cannot(Exception):
    """A part of the answer that there is none to; says why in one sentence."""


def main(folder: Path) -> None:
    """Answer the question in a folder."""
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what the library prints is no part of the answer

    def tell(part: str, **facts: object) -> None:
        answer.write(json.dumps({"part": part, **facts}) + "\n")
        answer.flush()

    part = "library"
    try:
        question = json.loads((folder / "question.json").read_text("ascii"))
        tell(part, version=version())
        part = "model"
        kind = class_named(question["class"])
        tell(part, **model_facts(kind, config_of(kind, folder)))
        if question["files"] is not None:
            part = "load"
            tell(part, **load_facts(kind, config_of(kind, folder), question["files"]))
    except BaseException as e:
        tell(part, error=str(e) if isinstance(e, Cannot) else said(e))


def version() -> str:
    """The installed release. Raises Cannot where there is none that can be asked."""
    for name in ("transformers", "torch"):
        if importlib.util.find_spec(name) is None:
            raise Cannot(
                f"{name} is not installed beside tidoctor: pip install transformers torch"
            )
    limit_memory()
    import transformers

    found = str(transformers.__version__)
    if not found.partition(".")[0].isdigit() or int(found.partition(".")[0]) < 5:
        raise Cannot(f"transformers {found} is installed, and 5.0 or newer is needed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return found


def limit_memory() -> None:
    """Let a config that asks for the impossible fail in this process alone."""
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = MEMORY if hard == resource.RLIM_INFINITY else min(hard, MEMORY)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def class_named(name: str) -> Any:
    """A public model class."""
    import transformers

    try:
        kind = getattr(transformers, name, None) if name.isidentifier() else None
    except Exception as e:  # its module wants a library that is absent
        raise Cannot(f"the class could not be imported: {said(e)}") from e
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise Cannot(f"it has no model class of the name {name[:80]}")
    return kind


def config_of(kind: Any, folder: Path) -> Any:
    """The config as the class reads it. Raises Cannot for a config of another model type."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    values = json.loads((folder / "config.json").read_text("ascii"))
    own = values.get("model_type")
    of: Any = getattr(kind, "config_class", None)
    if not getattr(of, "model_type", ""):
        if not isinstance(own, str) or own not in CONFIG_MAPPING:
            raise Cannot("it knows no config of this model_type")
        of = CONFIG_MAPPING[own]
    same = own in (None, of.model_type) or (own in CONFIG_MAPPING and CONFIG_MAPPING[own] is of)
    part = getattr(of, "base_config_key", "") or ""
    if not same and part not in values:
        raise Cannot(
            f"{kind.__name__} is built from configs of model_type {of.model_type}, and this one "
            f"says {json.dumps(own)[:80]}"
        )
    try:
        return of.from_pretrained(str(folder))
    except Exception as e:
        raise Cannot(f"it does not read this config: {said(e)}") from e


def model_facts(kind: Any, config: Any) -> dict[str, Any]:
    """Tensors of the class in memory and as a fresh save writes them, and the ties in force."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    try:
        with torch.device("meta"):
            model = kind(config)
        model.tie_weights()
    except Exception as e:
        raise Cannot(f"it does not build the class under this config: {said(e)}") from e
    state = dict(model.state_dict())
    # The same object under two names is one tensor; only `keep_vars` shows the objects.
    objects = {name: id(each) for name, each in model.state_dict(keep_vars=True).items()}
    unsaved = set(model._keys_to_ignore_on_save or ())
    written = {name: each for name, each in state.items() if name not in unsaved}
    kept = remove_tied_weights_from_state_dict(dict(written), model)
    keeper = {objects[name]: name for name in reversed(list(kept))}
    ties = {
        name: keeper[objects[name]]
        for name in written
        if name not in kept and objects[name] in keeper
    }
    saved = revert_weight_conversion(model, kept) if kept else {}
    return {"memory": shapes(state), "saved": shapes(saved), "ties": ties}


def shapes(tensors: Mapping[str, Any]) -> dict[str, list[int]]:
    """Name -> shape of tensors."""
    return {name: [int(size) for size in each.shape] for name, each in tensors.items()}


def load_facts(kind: Any, config: Any, files: Mapping[str, Any]) -> dict[str, Any]:
    """What the loader of the library makes of names and shapes.

    They are given to `from_pretrained` as a state dict on the meta device. Three of its steps are
    left out, none of which decides where a tensor goes: it asks for accelerate, which it does not
    use when all is on one device; it gives missing tensors initial values; and it tells its
    findings, partly by raising, where they are picked up here instead.
    """
    import torch
    from transformers import PreTrainedModel, modeling_utils

    told: list[Any] = []

    def keep(*_: object, loading_info: Any, **__: object) -> None:
        if sys.exc_info()[0] is None:  # else the loader broke off before it was done
            told.append(loading_info)

    for place, name, other in (
        (modeling_utils, "check_and_set_device_map", lambda device_map: device_map),
        (PreTrainedModel, "_initialize_missing_keys", lambda *_, **__: None),
        (modeling_utils, "log_state_dict_report", keep),
    ):
        if not hasattr(place, name):
            raise Cannot(f"its loader could not be asked: it has no {name}")
        setattr(place, name, other)
    state = {}
    for name, (dtype, shape) in files.items():
        if dtype not in _DTYPES:
            raise Cannot(f"tensors of the dtype {dtype[:20]} are not compared")
        state[name] = torch.empty(shape, dtype=getattr(torch, _DTYPES[dtype]), device="meta")
    try:
        kind.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, device_map={"": "meta"},
            ignore_mismatched_sizes=True, attn_implementation="eager",
        )  # fmt: skip
    except Exception as e:
        if not told:
            raise Cannot(f"its loader gave up: {said(e)}") from e
    if not told:
        raise Cannot("its loader could not be asked: it did not tell what it found")
    info = told[0]
    failed = {str(name): last_words(str(why)) for name, why in info.conversion_errors.items()}
    return {
        "missing": sorted(set(info.missing_keys) - failed.keys()),
        "unexpected": sorted(info.unexpected_keys),
        "mismatched": sorted(
            [name, list(map(int, found)), list(map(int, wanted))]
            for name, found, wanted in info.mismatched_keys
        ),
        "failed": sorted([name, why] for name, why in failed.items()),
    }


def last_words(text: str) -> str:
    """The sentence in a traceback to which the library added a line of its own."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[-1].startswith("Error:"):
        lines.pop()
    return lines[-1][:_SENTENCE] if lines else ""


def said(error: BaseException) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):
        lines[0] = " ".join(lines[:2])
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return told if len(told) <= _SENTENCE else told[: _SENTENCE - 1] + "…"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
