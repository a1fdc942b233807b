"""What transformers itself says of its classes: model types, tasks, names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

# task -> auto classes of transformers (modeling_auto.py). The order decides which task a class
# that stands in several of them is filed under: the narrower one first.
TASKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("image-text-to-text", ("IMAGE_TEXT_TO_TEXT",)),
    ("speech-seq2seq", ("SPEECH_SEQ_2_SEQ",)),
    ("seq2seq-lm", ("SEQ_TO_SEQ_CAUSAL_LM",)),
    ("causal-lm", ("CAUSAL_LM",)),
    ("masked-lm", ("MASKED_LM",)),
    ("ctc", ("CTC",)),
    ("sequence-classification", ("SEQUENCE_CLASSIFICATION",)),
    ("token-classification", ("TOKEN_CLASSIFICATION",)),
    ("question-answering", ("QUESTION_ANSWERING",)),
    ("multiple-choice", ("MULTIPLE_CHOICE",)),
    ("image-classification", ("IMAGE_CLASSIFICATION",)),
    ("image-text-to-text", ("MULTIMODAL_LM",)),
    ("base", ("BASE",)),
    ("pretraining", ("PRETRAINING",)),
    ("encoder", ("TEXT_ENCODING",)),
)


class Unbuildable(Exception):
    """The class has no usable default config."""


def auto_mappings() -> dict[str, dict[str, tuple[str, ...]]]:
    """Auto class key ("CAUSAL_LM", "BASE") -> model type -> class names."""
    from transformers.models.auto import modeling_auto

    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, mapping in vars(modeling_auto).items():
        match = re.fullmatch(r"MODEL_(?:FOR_)?(?:(\w+)_)?MAPPING_NAMES", name)
        if match is None:
            continue
        found[match[1] or "BASE"] = {
            model_type: tuple(names) if isinstance(names, (list, tuple)) else (names,)
            for model_type, names in mapping.items()
        }
    return found


def is_bare(name: str) -> bool:
    """Whether a class of the base mapping really is a body without a task head."""
    return re.search(r"For[A-Z]|With[A-Z]|Backbone$|LMHead|DoubleHeads", name) is None


def classes_by_type() -> dict[str, dict[str, str]]:
    """Model type -> task -> class name, the first class of each auto class winning."""
    table: dict[str, dict[str, str]] = {}
    for task, model_type, names in auto_entries():
        if fits(names[0], task):
            table.setdefault(model_type, {}).setdefault(filed(names[0], task), names[0])
    return table


def auto_entries() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Task, model type and class names, in the order of TASKS."""
    mappings = auto_mappings()
    for task, keys in TASKS:
        for key in keys:
            for model_type, names in mappings.get(key, {}).items():
                yield task, model_type, names


def fits(name: str, task: str) -> bool:
    """The base mapping also holds classes with a head, where a family has nothing else."""
    return task != "base" or is_bare(name)


def filed(name: str, task: str) -> str:
    """The text encoding mapping also holds text bodies of multimodal families."""
    return "base" if task == "encoder" and not name.endswith("EncoderModel") else task


def tasks_of_classes() -> dict[str, str]:
    """Class name -> task, for every class of every auto class and every exported one."""
    tasks: dict[str, str] = {}
    for task, _, names in auto_entries():
        for name in names:
            if fits(name, task):
                tasks.setdefault(name, filed(name, task))
    for mapping in auto_mappings().values():
        for names in mapping.values():
            for name in names:
                tasks.setdefault(name, "other")
    for name in exported_models():
        tasks.setdefault(name, "encoder" if name.endswith("EncoderModel") else "other")
    return tasks


def exported_models() -> Iterator[str]:
    """Public model classes, the abstract `...PreTrainedModel` ones left out."""
    import transformers

    for name in sorted(dir(transformers)):
        if re.search(r"Pre[tT]rainedModel|^Auto|^Pretrained", name):
            continue
        if re.search(r"Model|For[A-Z]|Encoder|Decoder|Backbone|Head", name) is None:
            continue
        thing = getattr(transformers, name, None)
        if inspect.isclass(thing) and issubclass(thing, transformers.PreTrainedModel):
            yield name


def model_types_by_class() -> dict[str, list[str]]:
    """Class name -> model types whose auto classes name it, in the library's order."""
    found: dict[str, list[str]] = {}
    for mapping in auto_mappings().values():
        for model_type, names in mapping.items():
            for name in names:
                types = found.setdefault(name, [])
                if model_type not in types:
                    types.append(model_type)
    return found


def model_class(name: str) -> Any:
    """The class object, from the package or, if not exported, from its modelling module."""
    import transformers

    thing = getattr(transformers, name, None)
    if thing is None:
        raise Unbuildable(f"{name} is not exported")
    return thing
