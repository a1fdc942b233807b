"""Values worth trying for the fields of a config, alone or together.

None of them is a fact: what the library makes of each is asked by building it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from tidoctor.atlas import learner
from tidoctor.atlas.learn.builds import configured, nested
from tidoctor.atlas.learn.dotted import LEFT, Values

# Read by every constructor, never seen in a shape; trying them would only cost time.
_INERT = """
is_encoder_decoder rope_parameters _attn_implementation dtype torch_dtype architectures
transformers_version return_dict output_attentions output_hidden_states chunk_size_feed_forward
problem_type id2label label2id initializer_range initializer_factor layer_norm_eps rms_norm_eps
sliding_window max_window_layers use_sliding_window attention_dropout use_cache
model_type bos_token_id eos_token_id layerdrop norm_eps decoder_start_token_id
"""
INERT = frozenset(_INERT.split())
INERT_ENDINGS = ("dropout", "_dropout_prob", "_eps", "_std", "_theta", "_epsilon", "_loss_coef")
_QUOTED = re.compile(r"[\"'`]([A-Za-z0-9][\w+-]{1,30})[\"'`]")
_WHOLE = re.MULTILINE | re.DOTALL
_TEXT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 200,
}  # fmt: skip
_IMAGE = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_AUDIO = {
    "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96,
    "num_hidden_layers": 2,
}  # fmt: skip
# What the key of a sub-config says of it -> other models for it, small, of types that differ in
# the spelling of their fields, in their heads and in their form on disk.
_PARTS: tuple[tuple[str, Values, str], ...] = (
    ("vision|image|backbone|encoder", _IMAGE,
     "clip_vision_model siglip_vision_model dinov2 vit pixtral swin resnet convnext"),
    ("audio|speech|encoder", _AUDIO, "whisper wav2vec2 qwen2_audio_encoder hubert"),
    ("text|llm|decoder|encoder|generator|language", _TEXT,
     "llama mistral qwen2 qwen3 gemma2 qwen3_moe gpt2 opt bert t5"),
)  # fmt: skip
MOST_VALUES = 3  # of a number, besides those beside constants


def is_inert(path: str) -> bool:
    """Whether a field is known to have no part in names or shapes."""
    key = path.rsplit(".", 1)[-1]
    if key == "model_type" and "." in path:
        return False
    return key in INERT or key.endswith(INERT_ENDINGS)


def alternatives(
    value: Any, compared: Collection[Any] = (), activations: Sequence[str] = ()
) -> list[Any]:
    """Values that the learner tries in place of one, likely ones first."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        if value <= 16:
            near = [value + 1, value + 2, value - 1, 2 * value, 1, 3, 0, 4, 8]
        else:
            near = [2 * value, 3 * value, value // 2, value + value // 2, value // 4, value + 1]
        near += [each for each in compared if type(each) is int and each >= 0]
        near += [each + 1 for each in compared if type(each) is int and each >= 0]
        return unlike(near, value)
    if isinstance(value, float):
        return unlike([2 * value, value / 2, 0.0, 1.0, 0.5], value)
    if isinstance(value, str):
        if value in activations:
            return unlike(["relu", "silu", "gelu_new", *activations], value)
        return unlike([each for each in compared if isinstance(each, str)], value)
    if value is None:
        words = [each for each in compared if each is not None]
        return [2, 4, 64, True, 1, 16, *words]
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        first = [2 * value[0], *value[1:]]
        last = [*value[:-1], value[-1] + 1]
        double = [2 * each for each in value]
        return unlike([double, first, last, [*value[:-1], 2 * value[-1]], value[::-1]], value)
    if is_list_of_words(value):
        known = {*value, *(each for each in compared if isinstance(each, str))}
        if len(known) == 1 and known <= kinds_of_layers():  # no other kind was ever seen
            known = kinds_of_layers()
        words = sorted(known)
        turned = [[word, *value[1:]] for word in words]
        turned += [[*value[:-1], word] for word in words]
        turned += [[word] * len(value) for word in words] + [value[::-1]]
        return unlike(turned, value)
    if isinstance(value, list) and not value:
        return [[0], [1], [0, 2]]
    return []


def far(value: Any) -> list[int]:
    """Other values for a number of which nothing is known: near, far above, far below."""
    if type(value) is not int or value < 0:
        return []
    return unlike([value + 1, 2 * value, value // 2, 1], value)


def values_for(value: Any, words: Iterable[Any]) -> list[Any]:
    """Values that the scan tries: near its own, and on both sides of what it is compared with."""
    from tidoctor.atlas.learn.lesson import all_activations

    words = set(words)
    if isinstance(value, str):
        if value in all_activations():
            return unlike(["relu", "gelu_new", "prelu", "xielu"], value)
        return unlike(sorted(map(str, words)), value)[:12]
    if isinstance(value, bool):
        return [not value]
    numbers = sorted(each for each in words if type(each) is int and 0 <= each < 100_000)
    if isinstance(value, int):
        beside = [n + s for n in numbers for s in (0, 1, -1)] + [2 * n for n in numbers]
        small = [value + 1, value + 2, value - 1, 2 * value, value // 2]
        near = small if value <= 16 else alternatives(value)[:MOST_VALUES]
        found = [*near, *beside[:6]]
        if value > 16:
            found.insert(3, value + 3 if value % 2 else value + 2)
        return [each for each in unlike(found, value) if each >= 0]
    if isinstance(value, float):
        found = [0.0, 0.5, 1.0, 2 * value, *(e for e in words if isinstance(e, float))]
        return unlike(found, value)[:5]
    if isinstance(value, list):
        found = alternatives(value, words)[:8]
        if value:
            found += [value[:-1], [*value, value[-1]]]
        return [*distinct(found), None]
    if value is None:
        return [2, 64, True, 1, 3, 0.5, [1], *sorted(e for e in words if isinstance(e, str))[:6],
                *numbers[:4]]  # fmt: skip
    return []


@functools.cache
def kinds_of_layers() -> set[str]:
    """All words of the library for what a layer is, one of which a default may not have."""
    from transformers.configuration_utils import ALLOWED_LAYER_TYPES

    return {*ALLOWED_LAYER_TYPES}


def documented(name: str, base: Values) -> dict[str, set[str]]:
    """Field -> words that the library names for it, of fields whose value is a word.

    What a class compares with its default first hides the words it would compare with later.
    They are only values to try. Sources: what the config class says of the field in its docstring,
    and its lists of words.
    """
    found: dict[str, set[str]] = {}
    for path, config in nested(configured(name, base)):
        kind = type(config)
        lists = [each for each in vars(kind).values() if is_list_of_words(each)]
        for field, value in config.to_dict().items():
            if isinstance(value, str) and not LEFT.search(field):
                about = rf"^ *{field} \(.*?(?=^ *\w+ \(`|\Z)"
                told = re.search(about, kind.__doc__ or "", _WHOLE)
                words = set(_QUOTED.findall(told[0])) if told else set()
                words |= {word for each in lists if value in each for word in each}
                found[f"{path}.{field}" if path else field] = words - {value}
    return found


def joint_changes(name: str, base: Values) -> Iterator[Values]:
    """Changes of several fields, dotted, where one alone would not build.

    Which stages a backbone gives is said in two fields that have to agree; a model attends to
    another one only as a decoder.
    """
    if base.get("add_cross_attention") is False and base.get("is_decoder") is False:
        yield {"add_cross_attention": True, "is_decoder": True}
    yield from learner.TOGETHER.get(str(base.get("model_type")), ())
    for path, config in nested(configured(name, base)):
        stages = list(getattr(config, "stage_names", None) or ())
        for chosen in (stages[1:2], stages[1:3], stages[1:], stages[:1], stages):
            if chosen and hasattr(config, "out_features"):
                before = f"{path}." if path else ""
                yield {
                    f"{before}out_features": chosen,
                    f"{before}out_indices": [*map(stages.index, chosen)],
                }


def other_parts(base: Values) -> Iterator[tuple[str, Values]]:
    """Key of a sub-config -> one of another type for it, whether the file may choose it or not."""
    for key, value in base.items():
        if isinstance(value, dict) and "model_type" in value:
            for pattern, sizes, types in _PARTS:
                for model_type in types.split() if re.search(pattern, key) else ():
                    if model_type != value["model_type"]:
                        yield key, {"model_type": model_type, **sizes}


def is_list_of_words(value: Any) -> TypeGuard[list[str]]:
    """Whether a value tells what each layer is."""
    return isinstance(value, list) and bool(value) and all(isinstance(e, str) for e in value)


def distinct(items: list[Any]) -> list[Any]:
    """Without repetitions."""
    found: list[Any] = []
    for each in items:
        if each not in found:
            found.append(each)
    return found


def unlike(items: list[Any], value: Any) -> list[Any]:
    """Without repetitions and without the given value."""
    return [each for each in distinct(items) if each != value]
