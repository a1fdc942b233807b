"""All classes at once, and the content of families.json."""

from __future__ import annotations

import json
import re
import signal
import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tidoctor.atlas.learner.facts import Facts, learn_class
from tidoctor.atlas.learner.known import (
    Unbuildable,
    classes_by_type,
    model_types_by_class,
    tasks_of_classes,
)
from tidoctor.atlas.learner.models import stand_in_for_timm

# Names under which families unknown to transformers store the two ends of the model. The ones
# that are not a transformers spelling come from original (Meta, ChatGLM, InternLM, Qwen 1) or
# remote-code layouts.
GENERIC_HEADS = (
    "lm_head.weight",
    "model.lm_head.weight",
    "language_model.lm_head.weight",
    "model.language_model.lm_head.weight",
    "thinker.lm_head.weight",
    "llm.lm_head.weight",
    "text_model.lm_head.weight",
    "transformer.lm_head.weight",
    "embed_out.weight",
    "output.weight",
    "language_model.output.weight",
    "output_layer.weight",
    "transformer.output_layer.weight",
    "transformer.ff_out.weight",
    "model.transformer.ff_out.weight",
    "lm_head.decoder.weight",
    "lm_head.linear.weight",
    "cls.predictions.decoder.weight",
    "generator_lm_head.weight",
    "vocab_projector.weight",
    "predictions.decoder.weight",
    "decoder.output_projection.weight",
    "output_projection.weight",
    "proj_out.weight",
    "head.weight",
    "lm_head.out_proj.weight",
    "pred_layer.proj.weight",
    "lm_loss.weight",
)
GENERIC_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.embed_tokens.weight",
    "thinker.model.embed_tokens.weight",
    "llm.model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "model.transformer.wte.weight",
    "tok_embeddings.weight",
    "model.tok_embeddings.weight",
    "language_model.model.tok_embeddings.weight",
    "transformer.embedding.word_embeddings.weight",
    "embedding.word_embeddings.weight",
    "transformer.word_embeddings.weight",
    "word_embeddings.weight",
    "gpt_neox.embed_in.weight",
    "embed_in.weight",
    "backbone.embeddings.weight",
    "backbone.embedding.weight",
    "model.embeddings.weight",
    "shared.weight",
    "model.shared.weight",
    "embeddings.word_embeddings.weight",
    "bert.embeddings.word_embeddings.weight",
    "roberta.embeddings.word_embeddings.weight",
    "model.embeddings.tok_embeddings.weight",
    "model.text_model.embed_tokens.weight",
    "text_model.embed_tokens.weight",
    "transformer.embeddings.weight",
    "transformer.embed_tokens.weight",
    "model.word_embeddings.weight",
    "transformer.tokens_embed.weight",
    "model.encoder.embed_tokens.weight",
    "embed.weight",
)
# Sources: transformers PR 21955 changed the spelling, files written before it or by NVIDIA keep
# the old one (llama.cpp PR 9485, vLLM PR 251).
OLD_SPELLINGS = {"LLaMAForCausalLM": "LlamaForCausalLM"}


SECONDS_PER_CLASS = 120


def learn_one(job: tuple[str, str, list[str], dict[str, str]]) -> tuple[str, Facts | str]:
    """A class's facts, or why there are none. Runs in a worker."""
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    stand_in_for_timm()
    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS_PER_CLASS)
    try:
        return job[0], learn_class(*job)
    except Exception as error:
        return job[0], f"{type(error).__name__}: {str(error).splitlines()[:1]}"
    finally:
        signal.alarm(0)


def too_slow(signum: int, frame: object) -> None:
    """Ends a build that takes too long."""
    raise Unbuildable(f"more than {SECONDS_PER_CLASS} s")


def learn_all(workers: int, only: str) -> tuple[dict[str, Facts], dict[str, str]]:
    """Facts by class name, and reasons by the name of each class left out."""
    types, by_type = model_types_by_class(), classes_by_type()
    bare = {each: tasks["base"] for each, tasks in by_type.items() if "base" in tasks}
    jobs = [
        (name, task, types.get(name, []), bare)
        for name, task in sorted(tasks_of_classes().items())
        if re.search(only, name)
    ]
    learned: dict[str, Facts] = {}
    left_out: dict[str, str] = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, result in pool.map(learn_one, jobs, chunksize=4):
            if isinstance(result, str):
                left_out[name] = result
            else:
                learned[name] = result
    return learned, left_out


def abridged(name: str, facts: Facts, served: Mapping[str, list[str]]) -> Facts:
    """The facts without what families.py fills in by itself."""
    implied: Facts = {
        "types": served.get(name),
        "task": "other",
        "base": name if facts["task"] == "base" else None,
        "uniform": facts["base"] is not None,
        "own": [facts["head"]] if facts["head"] and facts["task"] != "base" else [],
        "ties": {facts["head"]: facts["embedding"]} if facts["head"] and facts["embedding"] else {},
        "always": False if not facts["ties"] else None,
        "follows": bool(facts["ties"]),
    }
    for key in facts:
        # Of the defaults of the flag, false and unknown differ; elsewhere both mean no.
        flag = key in ("v4", "v5")
        implied.setdefault(key, None if flag or facts[key] is None else type(facts[key])())
    row = {key: value for key, value in sorted(facts.items()) if value != implied[key]}
    if "own" in row:
        row["own"] = paired(row["own"])
    return row


def paired(names: list[str]) -> list[str]:
    """`a.bias` and `a.weight` written as `a.{bias,weight}`; families.py takes it apart."""
    left = set(names)
    for stem in [each.removesuffix("bias") for each in names if each.endswith(".bias")]:
        if stem + "weight" in left:
            left -= {stem + "bias", stem + "weight"}
            left.add(stem + "{bias,weight}")
    return sorted(left)


def finished(learned: dict[str, Facts], v4: Mapping[str, bool | None]) -> dict[str, Any]:
    """The content of families.json."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    tying = {each for facts in learned.values() if facts["ties"] for each in facts["types"]}
    for name, facts in learned.items():
        # Where a family has neither the flag nor a tie, transformers 4's generic true says nothing.
        ties_at_all = not tying.isdisjoint(facts["types"])
        facts["v4"] = v4.get(name) if ties_at_all or facts["v5"] is not None else None
        # A text_config's flag matters only where some class of the family ties at all (not CLIP).
        facts["nested"] = facts["nested"] and ties_at_all
        facts["bridged"] = facts["bridged"] and facts["nested"]
    for facts in learned.values():
        facts["types"] = sorted(facts["types"])
    types = {
        model_type: {task: name for task, name in sorted(tasks.items()) if name in learned}
        for model_type, tasks in sorted(classes_by_type().items())
    }
    served: dict[str, list[str]] = {}
    for model_type, tasks in types.items():
        for name in dict.fromkeys(tasks.values()):
            served.setdefault(name, []).append(model_type)
    return {
        "learned_from": {"transformers": transformers.__version__},
        "model_types": sorted(CONFIG_MAPPING_NAMES),
        "generic": {
            "embeddings": GENERIC_EMBEDDINGS,
            "heads": GENERIC_HEADS,
            "old_spellings": OLD_SPELLINGS,
        },
        "types": {each: tasks for each, tasks in types.items() if tasks},
        "classes": {name: abridged(name, facts, served) for name, facts in sorted(learned.items())},
    }


def one_line_each(content: dict[str, Any]) -> str:
    """JSON with one line per class, model type or list, so that differences can be read."""

    def packed(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

    parts = []
    for key, value in content.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"{packed(name)}:{packed(row)}" for name, row in value.items())
            parts.append(f"{packed(key)}:{{\n{rows}\n}}")
        else:
            parts.append(f"{packed(key)}:{packed(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
