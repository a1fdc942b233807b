"""For every record and every head: a variant that the loader takes, or a conflict is told.

And in each case the head of the result is the one that the model had.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import pytest
from checkpoints import Memory, filled, promised, safetensors_bytes

from tidoctor import loaders, rules
from tidoctor.atlas import families
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.families import ClassFacts
from tidoctor.checkpoint import Checkpoint
from tidoctor.cures import Options
from tidoctor.finding import Outcome
from tidoctor.loaders import Record
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan
from tidoctor.variants import choose

TINY: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 16),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff", "ffn_dim"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 2),
    "num_key_value_heads": 2, "head_dim": 4, "d_kv": 4, "vocab_size": 64,
    "max_position_embeddings": 64, "n_positions": 64, "moe_intermediate_size": 8,
    "num_experts_per_tok": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "hidden_activation": "gelu", "attention_bias": False, "mlp_bias": False,
    "use_sliding_window": False, "sliding_window": None, "max_window_layers": 2,
    "layer_norm_eps": 1e-5, "norm_epsilon": 1e-5, "use_bias": True, "decoder_sparse_step": 1,
    "norm_topk_prob": True,
}  # fmt: skip
SITUATIONS = {
    # name: (flag, head): None for no flag; a head of its own, a copy of the embedding, or none
    "tied": (True, None), "redundant": (True, "same"), "differs": (True, "own"),
    "untied": (False, "own"), "lost": (False, None), "flagless": (None, "own"),
}  # fmt: skip
_MOST_BYTES = 400_000
CASES = [
    (name, i, record)
    for name in loaders.names()
    for i, record in enumerate(loaders.consumer(name).records)
]


@functools.cache
def table(model_type: str, task: str) -> tuple[ClassFacts, dict[str, list[int]]] | None:
    """The tensors of a tiny model without its head; None where none is known or it is not tiny."""
    name = families.class_for(model_type, task)
    facts = families.class_facts(name) if name else None
    if facts is None or not facts.head or not facts.embedding:
        return None
    try:
        shapes = promised({**TINY, "model_type": model_type}, facts.name)
    except NotCovered:
        shapes = {facts.embedding: [64, 16]}
    if 2 * sum(math.prod(s) for s in shapes.values()) > _MOST_BYTES:
        return None
    shapes.pop(facts.head, None)
    return facts, shapes


@functools.cache
def sick(model_type: str, task: str, situation: str) -> Checkpoint | None:
    """A tiny checkpoint of a model type in one of the situations of its head."""
    known = table(model_type, task)
    if known is None:
        return None
    facts, shapes = known
    flag, head = SITUATIONS[situation]
    rows: dict[str, Any] = dict(shapes)
    if head and facts.head and facts.embedding in shapes:
        like = shapes[facts.embedding]
        rows[facts.head] = like if head == "own" else ("BF16", like, facts.embedding)
    config = {**TINY, "architectures": [facts.name], "model_type": model_type}
    if flag is not None:
        config["tie_word_embeddings"] = flag
    return open_checkpoint(Memory({
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors_bytes(filled(rows)),
    }))  # fmt: skip


def payload(checkpoint: Checkpoint, name: str) -> bytes | None:
    row = checkpoint.tensors.get(name)
    return b"".join(checkpoint.chunks(row)) if row else None


@pytest.mark.parametrize(
    ("name", "number", "record"), CASES, ids=[f"{name}-{i}" for name, i, _ in CASES]
)
def test_the_loader_takes_what_is_chosen_or_it_is_said_that_nothing_helps(
    name: str, number: int, record: Record
) -> None:
    consumer = loaders.consumer(name)
    wish = f"{name}@{consumer.timeline.known[max(record.versions.places)]}"
    for model_type in record.model_types[:2]:
        for situation in SITUATIONS:
            before = sick(model_type, record.tasks[0], situation)
            if before is None:
                continue
            options = Options(wanted=record.tasks[0])
            choice = choose(before, [wish], options)
            after = Plan(choice.steps).apply(before)
            (verdict,) = rules.diagnose(after, wanted=record.tasks[0], loaders=[wish]).loaders
            where = (wish, model_type, situation, choice)
            assert bool(choice.unmet) is (verdict.outcome is not Outcome.LOADS), where
            _nothing_is_lost(before, after, situation)


def _nothing_is_lost(before: Checkpoint, after: Checkpoint, situation: str) -> None:
    view, now = rules.View(before), rules.View(after)
    if not view.embedding:
        return
    _, head = SITUATIONS[situation]
    assert now.embedding is not None
    embedding = payload(before, view.tensors[view.embedding].name)
    assert payload(after, now.tensors[now.embedding].name) == embedding
    if head == "own" and view.head:
        assert now.head is not None
        own = payload(before, view.tensors[view.head].name)
        assert payload(after, now.tensors[now.head].name) == own
        assert view.tie.meant == now.tie.meant
    elif now.head is not None:
        assert payload(after, now.tensors[now.head].name) == embedding
    if view.head_is_lost:
        assert now.head is None and now.tie.meant is False


def test_the_cases_are_not_idle() -> None:
    asked = [
        sick(model_type, record.tasks[0], situation)
        for _, _, record in CASES
        for model_type in record.model_types[:2]
        for situation in SITUATIONS
    ]
    assert sum(one is not None for one in asked) > 1700
