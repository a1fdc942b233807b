"""What tensors a config.json and a class promise.

    from tidoctor.atlas.expectation import expectation
    expectation(config, "LlamaForCausalLM").disk["lm_head.weight"]   # (128256, 4096)

The facts behind it were learned from one release of transformers and hold for models that it
builds and saves; files from elsewhere may spell names otherwise and still load.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tidoctor.atlas import data, families, renames
from tidoctor.atlas.configs import Resolved, resolve
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.layout import Class, Expansion, matching

__all__ = ["Expectation", "NotCovered", "expectation", "is_passing", "why_not"]

# State that a model makes itself or that only training uses; no release was ever wrong without it,
# and published models lack it. Poolers are not among them: those are told, but as a note.
_PASSING = re.compile(
    r"(?:^|\.)(?:num_batches_tracked|position_ids|token_type_ids|inv_freq|original_inv_freq"
    r"|masked_bias|masked_spec_embed|mask_token|embed_positions\.weights"
    r"|relative_position_index|attn\.bias)$"
)
_LONGEST = 64  # characters of such an end; what stands before it is not looked at

Tensors = Mapping[str, tuple[int, ...]]

# Keys that model code reads with a default of its own. Where the facts about a config do not know
# one of them, they were learned without it, or with the one value that is usual for it, and a file
# that sets it otherwise may have other shapes.
ASIDE = frozenset({
    "head_dim", "attention_head_size", "adapter_attn_dim", "alignment_intermediate_size",
    "conv_kernel_size", "conv_groups", "embedding_size", "max_relative_positions", "norm_rel_ebd",
    "position_buckets", "share_att_key", "talking_head", "router_bias", "output_proj_dims",
    "spatial_pool_out_channels",
})  # fmt: skip


class Expectation(NamedTuple):
    """The tensors of one class under one config.

    Attributes:
        class_name: the class.
        model_type: of the config it is built from.
        version: the release of transformers that the facts were learned from.
        memory: name -> shape of the model's tensors in memory, buffers that are part of its state
            included; tied tensors stand there under each of their names.
        saved: name -> shape as a fresh save writes them, without tied aliases and unsaved ones;
            None where only the form in memory is known. `disk` is the same or raises.
        saved_reason: why it is None, in one sentence.
        ties: alias -> the tensor whose bytes it shares, in memory names; those in force.
        disk_ties: the same as far as the names on disk are known; no alias is in `disk`.
        unsaved: names in memory that are never written.
        missing_ok: regular expressions, searched in names in memory: a loader is content without.
        unexpected_ok: the same for names in a file that it passes over.
        quantisation: the method that the config names, else None. It changes names and shapes of
            layers; what stands here is the model without it.
        verified: what the facts were held against: "defaults", "random", "real", "saved".
    """

    class_name: str
    model_type: str
    version: str
    memory: Tensors
    saved: Tensors | None
    saved_reason: str
    ties: Mapping[str, str]
    disk_ties: Mapping[str, str]
    unsaved: tuple[str, ...]
    missing_ok: tuple[str, ...]
    unexpected_ok: tuple[str, ...]
    quantisation: str | None
    verified: Mapping[str, Any]

    @property
    def disk(self) -> Tensors:
        """Name -> shape as a fresh save writes them. Raises NotCovered where not known."""
        if self.saved is None:
            raise NotCovered(self.saved_reason)
        return self.saved

    def required(self, name: str) -> bool:
        """Whether a loader complains when a file lacks this tensor of `disk`."""
        return not any(pattern.search(name) for pattern in _patterns(self.missing_ok))

    def passed_over(self, name: str) -> bool:
        """Whether a loader says nothing of this name when a file has it and the class does not."""
        return any(pattern.search(name) for pattern in _patterns(self.unexpected_ok))


def is_passing(name: str) -> bool:
    """Whether a tensor is state of which nothing follows, whether it is there or not."""
    return _PASSING.search(name, max(len(name) - _LONGEST, 0)) is not None


def expectation(config: Mapping[str, Any], class_name: str) -> Expectation:
    """The tensors that a class has under the values of a config.json.

    Raises NotCovered where that is not known: a class that was not learned, a config of another
    model type, values that the facts do not reach or that no model can have.
    """
    source = data.current()
    expansion = Expansion(source)
    of = expansion.class_(class_name)
    if not _fits(config.get("model_type"), of.model_type, source):
        raise NotCovered(
            f"{class_name} is built from configs of model_type {of.model_type}, and this one says "
            f"{data.shown(config['model_type'])}"
        )
    if aside := _read_aside(config, of.model_type, source):
        raise NotCovered(f"what `{aside}` does to the shapes of {class_name} is not known")
    resolved = resolve(config, of.model_type)
    memory = expansion.memory(of, resolved)
    ties = expansion.ties(of, resolved, memory)
    unsaved = matching(of.unsaved, memory)
    if lost := [alias for alias, target in ties.items() if target not in memory]:
        raise NotCovered(f"nothing is known of the tensor that {lost[0]} is tied to")
    saved: Tensors | None = None
    disk_ties: Mapping[str, str] = ties
    reason = ""
    if misnamed := _misnamed(resolved):
        disk_ties, reason = {}, misnamed
    elif of.disk is None and not expansion.apart:
        gone = {*ties, *unsaved}
        saved = {n: shape for n, shape in memory.items() if n not in gone} if gone else memory
    else:
        try:
            saved = expansion.uncut(of, resolved)
            disk_ties = _cut(expansion, of, resolved, saved, ties)
        except NotCovered as e:
            saved, disk_ties, reason = None, {}, e.reason
    return Expectation(
        class_name=class_name,
        model_type=of.model_type,
        version=source.version,
        memory=memory,
        saved=saved,
        saved_reason=reason,
        ties=ties,
        disk_ties=disk_ties,
        unsaved=tuple(unsaved),
        missing_ok=of.missing_ok,
        unexpected_ok=of.unexpected_ok,
        quantisation=_quantisation(config),
        verified=of.verified,
    )


def _misnamed(config: Resolved, above: str = "") -> str:
    """Why the form on disk is not the usual one: a part goes by another model type, "" if none.

    The class of such a part is fixed, yet the library looks for its conversions by the type that
    its config has in the file (`conversion_mapping.py` of transformers 5.23).
    """
    for key, part in config.parts():
        types = (part.called, part.model_type)
        if part.called not in ("", config.model_type) and any(map(renames.has_rules, types)):
            said = f"`{above}{key}` calls itself {data.shown(part.called)}"
            return f"{said} and is {part.model_type}: how it is saved is not known"
        if why := _misnamed(part, f"{above}{key}."):
            return why
    return ""


def _cut(
    expansion: Expansion,
    of: Class,
    config: Resolved,
    tensors: dict[str, tuple[int, ...]],
    ties: Mapping[str, str],
) -> Mapping[str, str]:
    """Take tied and unsaved tensors out of those on disk; the ties by their names there.

    A tie that the layout does not show on disk is looked for under its name in memory, then in
    the other facts about the class, which tell all ties of a fresh save.
    """
    found = expansion.ties(of, config, tensors)
    for name in (*found, *matching(of.unsaved, tensors)):
        tensors.pop(name, None)
    if lost := [alias for alias, target in found.items() if target not in tensors]:
        raise NotCovered(f"nothing is known of the tensor that {lost[0]} is tied to")
    for alias, target in ties.items():
        if target in tensors and alias not in tensors:
            found.setdefault(alias, target)
    if len(found) < len(ties) and (facts := families.class_facts(of.name)):
        told = {a: t for a, t in facts.ties.items() if a not in tensors and t in tensors}
        if len(told) == len(ties):
            return told
    return found


def why_not(class_name: str) -> str | None:
    """Why the atlas has nothing on a class, in one sentence; None where it has."""
    try:
        return data.current().why_not(class_name)
    except NotCovered as e:
        return e.reason


def _fits(own: object, wanted: str, source: data.Data) -> bool:
    """Whether a config of its own model type is one of the wanted type.

    Some model types are other names for a config class; their facts are the same then.
    """
    if own is None or own == wanted:
        return True
    try:
        return isinstance(own, str) and source.config(own) == source.config(wanted)
    except NotCovered:
        return False


def _quantisation(config: Mapping[str, Any]) -> str | None:
    found = config.get("quantization_config")
    if not found:
        return None
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    return method if isinstance(method, str) and method else "unknown"


@functools.cache
def _patterns(texts: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, texts))


def _read_aside(
    settings: Mapping[str, Any], model_type: str, source: data.Data, depth: int = 4
) -> str | None:
    """A key that may change shapes and that the facts about this config do not know."""
    facts = source.config(model_type)
    known = {each for key in ("fields", "aliases", "parts", "idle") for each in facts.get(key, ())}
    for key in sorted(ASIDE & settings.keys() - known):
        value = settings[key]
        width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
        if key == "head_dim" and value == _divided(width, heads):
            continue
        if key == "embedding_size" and value == width:
            continue
        if value not in (None, False, -1) and value != facts.get("usual", {}).get(key):
            return key
    for name, part in facts.get("parts", {}).items():
        inner = settings.get(name)
        if not isinstance(inner, Mapping) or not depth:
            continue
        own = inner.get("model_type") if part.get("open") else None
        kind = own if isinstance(own, str) else part.get("type")
        if isinstance(kind, str) and (found := _read_aside(inner, kind, source, depth - 1)):
            return f"{name}.{found}"
    return None


def _divided(width: object, heads: object) -> int | None:
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None
