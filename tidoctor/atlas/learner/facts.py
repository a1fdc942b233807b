"""Everything that families.json says of one class."""

from __future__ import annotations

import inspect
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidoctor.atlas.learner.configs import Variant, config_class_of, flag_facts, with_flag
from tidoctor.atlas.learner.known import Unbuildable, is_bare
from tidoctor.atlas.learner.models import Layout, base_layout

# A class with more tensors of its own than this has its numbers replaced by `*`.
MANY = 24


Facts = dict[str, Any]


def learn_class(name: str, task: str, model_types: list[str], bare: Mapping[str, str]) -> Facts:
    """Everything about one class, unabridged."""
    config_class = config_class_of(name, model_types)
    types = model_types or [config_class.model_type]
    facts: Facts = {"task": task, "types": types} | flag_facts(config_class)
    untied, tied, on = build_both(name, config_class)
    if facts["nested"] and decisive_ties(tied) - set(untied.ties()):
        facts |= level_facts(name, config_class, on, decisive_ties(tied))
    facts |= tie_facts(untied, tied) | body_facts(name, task, untied, bare)
    facts |= ends(untied, tied)
    if facts["embedding"] is None:
        # A bundle (Qwen2.5-Omni) names no embedding, but its head may be tied to one.
        facts["embedding"] = facts["ties"].get(facts["head"])
    return facts


def build_both(name: str, config_class: Any) -> tuple[Layout, Layout, Variant]:
    """The class untied and tied: small, else in full size, else with open values set."""
    failure = Unbuildable(name)
    for filled, small in itertools.product((False, True), (True, False)):
        off, on = (Variant(flag, flag, small, filled) for flag in (False, True))
        try:
            untied = Layout(name, with_flag(name, config_class, off))
            return untied, Layout(name, with_flag(name, config_class, on)), on
        except Unbuildable:
            raise
        except Exception as error:
            failure = Unbuildable(f"{type(error).__name__}: {error}")
    raise failure


def level_facts(name: str, config_class: Any, on: Variant, ties: Iterable[str]) -> Facts:
    """Which level of a nested config decides in transformers 5, by building the two mixtures."""
    wanted = set(ties)
    top, inner = (
        not wanted.isdisjoint(Layout(name, with_flag(name, config_class, variant)).ties())
        for variant in (on._replace(inner=False), on._replace(top=False))
    )
    levels = {(True, False): "top", (False, True): "text", (True, True): "either"}
    return {"level": levels.get((top, inner), "both")}


def ends(untied: Layout, tied: Layout) -> Facts:
    """Names on disk of head and embedding."""
    outputs, inputs = untied.output_names(), untied.input_names()
    if len(inputs) > 1:  # one module under several names (T5): the one that is saved
        inputs = sorted(tied.kept().intersection(inputs))
    return {
        "head": untied.one_on_disk(outputs[0]) if len(outputs) == 1 else None,
        "embedding": untied.one_on_disk(inputs[0]) if len(inputs) == 1 else None,
    }


def decisive_ties(tied: Layout) -> set[str]:
    """Aliases (in memory) that tell whether the model is tied: the head's, if it has any."""
    ties = tied.ties()
    head = set(tied.output_names())
    return {alias for alias, kept in ties.items() if {alias, kept} & head} or set(ties)


def tie_facts(untied: Layout, tied: Layout) -> Facts:
    """What is tied with the flag on, and whether the flag decides."""
    ties, decisive = tied.ties(), decisive_ties(tied)
    named = {untied.starred(alias): untied.starred(kept) for alias, kept in ties.items()}
    follows = bool(decisive - set(untied.ties()))
    return {
        "ties": {a: k for a, k in sorted(named.items(), key=str) if a and k and a != k},
        "follows": follows,
        "always": None if follows else bool(decisive),
    }


def body_facts(name: str, task: str, own: Layout, bare: Mapping[str, str]) -> Facts:
    """Base class, prefix and the tensors beyond the base class."""
    if task == "base":
        return {"base": name, "prefix": "", "uniform": True, "own": []}
    nothing: Facts = {"base": None, "prefix": "", "uniform": False, "own": []}
    base_name, stem, config = find_base(own, bare)
    if base_name is None:
        return nothing
    try:
        base = base_layout(base_name, json.dumps(config.to_dict(), default=str), config.__class__)
    except Exception:  # the base class wants another config (MusicgenModel: the decoder's)
        return nothing
    body = {stem + each for each in base.memory} & own.memory
    extra = own.memory - body
    names = {own.starred(each) or each for each in extra}
    if len(names) > MANY:
        names = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", each) for each in names}
    prefix, uniform = find_prefix(own, base, stem)
    return {"base": base_name, "prefix": prefix, "uniform": uniform, "own": sorted(names)}


def find_base(own: Layout, bare: Mapping[str, str]) -> tuple[str | None, str, Any]:
    """Base class, where it sits in memory ("model."), and its config."""
    model = own.model
    default = bare.get(model.config.model_type)
    # The declared place is wrong in a few classes (Llama4ForCausalLM says "language_model").
    places = [model.base_model_prefix, *(place for place, _ in model.named_children())]
    for place in filter(None, places):
        inner: Any = getattr(model, place, None)
        name = type(inner).__name__
        if name == default or (place in (places[0], "model") and is_base(name)):
            return name, f"{place}.", inner.config
    inner = getattr(model, places[0], None) if places[0] else None
    return default, "" if inner is None else f"{places[0]}.", model.config


def is_base(name: str) -> bool:
    """Whether a part of a model is a public class without a task head."""
    import transformers

    thing = getattr(transformers, name, None)
    is_model = inspect.isclass(thing) and issubclass(thing, transformers.PreTrainedModel)
    return is_model and name.endswith("Model") and is_bare(name)


def find_prefix(own: Layout, base: Layout, stem: str) -> tuple[str, bool]:
    """What stands before the body's tensors on disk, and whether before all of them."""
    gone = {each for each in base.memory if stem + each not in own.memory}
    wanted = base.disk - base.on_disk(gone)
    if not wanted:
        return "", False
    longest = max(wanted, key=lambda each: (len(each), each))
    prefixes = {each[: -len(longest)] for each in own.disk if each.endswith(longest)}
    for prefix in sorted(prefixes, key=len):
        if (not prefix or prefix.endswith(".")) and all(prefix + w in own.disk for w in wanted):
            return prefix, True
    return "", False
