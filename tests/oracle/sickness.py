"""Known ways in which a checkpoint breaks, done to a healthy copy, with what each should lead to.

Every case says what transformers makes of the folder (`harm`), because a sickness that nobody
suffers from would prove nothing, and which finding names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

from tests.oracle.folders import (
    CONFIG,
    INDEX,
    add,
    change_tensors,
    drop,
    edit_json,
    read_json,
    rename,
    set_config,
    state,
    unset_config,
    weight_files,
)
from tests.oracle.models import BY_NAME, Variant

Harm = Literal["raises", "misloads", "none"]
"""What transformers does: an exception, another model than the original, or nothing wrong.

Tensors that are missing or left over count as `misloads` even where the answers agree.
"""

Outcome = Literal["cured", "kept", "lost"]
"""What repair does: a healthy copy, nothing because nothing has to be done, or a refusal."""

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One sickness of one saved variant.

    `code` is the finding that names it. `accept` is the consent that its cure takes, and
    `donor` whether the cure takes the original as donor.
    """

    name: str
    variant: Variant
    damage: Damage
    code: str
    harm: Harm
    accept: tuple[str, ...] = ()
    donor: bool = False
    outcome: Outcome = "cured"

    def __str__(self) -> str:
        return f"{self.code}-{self.name}-{self.variant}"


def _of(name: str, tied: bool | None, *, sharded: bool = False) -> Variant:
    return Variant(BY_NAME[name], tied, sharded)


LLAMA = _of("llama", False)
LLAMA_TIED = _of("llama", True)
SHARDS = _of("llama", False, sharded=True)
SHARDS_TIED = _of("llama", True, sharded=True)
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


# --- names ---


def prefixed(prefix: str) -> Damage:
    """Put a prefix before every name."""
    return lambda folder: rename(folder, lambda name: prefix + name)


def replaced(pattern: str, by: str) -> Damage:
    """Rewrite the names that match an expression, of which there has to be one."""

    def damage(folder: Path) -> None:
        assert any(re.search(pattern, name) for name in state(folder))
        rename(folder, lambda name: re.sub(pattern, by, name))

    return damage


NAMES = (
    *(
        Case(f"wrapped in {prefix}", variant, prefixed(prefix), "N01", "misloads")
        for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.")
        for variant in (LLAMA, SHARDS_TIED)
    ),
    *(
        Case("wrapped in module.", variant, prefixed("module."), "N01", "misloads")
        for variant in (
            _of("gpt2", True), _of("opt", True), _of("falcon", False), _of("mamba", True),
            _of("phi", False), _of("mixtral", True), _of("gpt_oss", False),
            _of("deepseek_v3", False), _of("t5", True), _of("bart", True), _of("whisper", True),
            _of("bert", True), _of("roberta", True), _of("bert_classifier", None),
            _of("vit", None), _of("gemma3", True), _of("llava", False),
            _of("qwen2_5_vl", True, sharded=True),
        )
    ),
    Case("wrapped as peft does", LLAMA, prefixed("base_model.model."), "N01", "misloads"),
    Case("one level too deep", LLAMA, prefixed("model."), "N01", "none"),
    Case(
        "compiled layers", SHARDS,
        replaced(r"^model\.layers\.(\d+)\.", r"model.layers.\1._orig_mod."), "N02", "misloads",
    ),
    Case(
        "checkpointed layers", LLAMA_TIED,
        replaced(r"^model\.layers\.1\.", "model.layers.1._checkpoint_wrapped_module."),
        "N02", "misloads",
    ),
    Case("bare body beside a head", LLAMA, replaced(r"^model\.", ""), "N04", "none"),
    Case("LayerNorm as of old", _of("bert", True),
         replaced(r"LayerNorm\.weight$", "LayerNorm.gamma"), "N11", "none", outcome="kept"),
    Case("head in a list", LLAMA, replaced(r"^lm_head\.", "lm_head.0."), "N12", "misloads"),
    Case("head without suffix", LLAMA, replaced(r"^lm_head\.weight$", "lm_head"), "N13",
         "misloads"),
    Case("head without suffix", SHARDS, replaced(r"^lm_head\.weight$", "lm_head"), "N13",
         "misloads"),
    Case("head without suffix", _of("gpt_neox", False),
         replaced(r"^embed_out\.weight$", "embed_out"), "N13", "misloads"),
    Case("norm with two suffixes", LLAMA,
         replaced(r"^model\.norm\.weight$", "model.norm.weight.weight"), "N13", "misloads"),
    Case("no suffix anywhere", LLAMA_TIED, replaced(r"\.weight$", ""), "N13", "misloads"),
)


# --- shards and index ---


def remove(file: str) -> Damage:
    """Remove a file."""
    return lambda folder: (folder / file).unlink()


def wrong_shard(folder: Path) -> None:
    """The index sends one tensor to a shard that exists and does not hold it."""

    def change(index: dict[str, dict[str, str]]) -> None:
        held = index["weight_map"]
        first, last = min(held.values()), max(held.values())
        held["model.norm.weight"] = first if held["model.norm.weight"] != first else last

    edit_json(folder / INDEX, change)


def all_in_the_first(folder: Path) -> None:
    """The index sends every tensor to one shard."""
    edit_json(folder / INDEX, lambda index: index.update(
        weight_map=dict.fromkeys(index["weight_map"], min(index["weight_map"].values()))
    ))


def phantom(folder: Path) -> None:
    """The index lists a tensor that no shard holds."""
    edit_json(folder / INDEX, lambda index: index["weight_map"].update(
        {"model.layers.2.mlp.up_proj.weight": max(index["weight_map"].values())}
    ))


def unlisted(folder: Path) -> None:
    """A tensor of a shard that the index leaves out."""
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop("model.norm.weight"))


def cut_index(folder: Path) -> None:
    """The index ends in the middle."""
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(text[: len(text) // 2])


def two_copies(folder: Path) -> None:
    """The last shard holds another tensor under a name of the first; the index is right."""
    first, *_, last = weight_files(folder)
    name = next(iter(load_file(first)))
    tensors = load_file(last)
    tensors[name] = torch.zeros_like(load_file(first)[name])
    save_file(tensors, last, metadata={"format": "pt"})


def stub(folder: Path) -> None:
    """A single file without tensors beside a complete index."""
    save_file({}, folder / "model.safetensors", metadata={"format": "pt"})


def first_shard(folder: Path) -> Path:
    """The first of several shards."""
    return weight_files(folder)[0]


FILES = (
    Case("no index", SHARDS, remove(INDEX), "S02", "raises"),
    Case("no index", SHARDS_TIED, remove(INDEX), "S02", "raises"),
    Case("no index", _of("mixtral", False, sharded=True), remove(INDEX), "S02", "raises"),
    Case("wrong shard", SHARDS, wrong_shard, "S03", "none"),
    Case("everything sent to one shard", SHARDS, all_in_the_first, "S03", "misloads"),
    Case("phantom entry", SHARDS, phantom, "S03", "none", accept=("S03",)),
    Case("unlisted tensor", SHARDS_TIED, unlisted, "S04", "none"),
    Case("two copies", SHARDS, two_copies, "S06", "misloads", accept=("S06",)),
    Case("index cut off", SHARDS, cut_index, "S09", "raises"),
    Case("stub beside the index", SHARDS, stub, "S07", "misloads"),
    Case("shard missing", SHARDS, lambda f: first_shard(f).unlink(), "S01", "raises",
         outcome="lost"),
)


# --- bytes of one file ---


def truncated(folder: Path) -> None:
    """The last bytes of a weight file never arrived."""
    file = weight_files(folder)[-1]
    file.write_bytes(file.read_bytes()[:-100])


def trailing(folder: Path) -> None:
    """Bytes after the last tensor."""
    file = weight_files(folder)[-1]
    file.write_bytes(file.read_bytes() + b"\0" * 64)


def pointer(folder: Path) -> None:
    """What git leaves in place of a large file that was not fetched."""
    weight_files(folder)[-1].write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
    )


def no_metadata(folder: Path) -> None:
    """Files without `__metadata__`, as tools other than transformers write them."""
    change_tensors(folder, dict, metadata=None)


BYTES = (
    Case("truncated", LLAMA, truncated, "F02", "raises", outcome="lost"),
    Case("truncated", SHARDS, truncated, "F02", "raises", outcome="lost"),
    Case("trailing bytes", LLAMA, trailing, "F02", "raises"),
    Case("pointer", SHARDS, pointer, "F01", "raises", outcome="lost"),
    Case("no metadata", LLAMA, no_metadata, "F04", "none"),
    Case("no metadata", SHARDS_TIED, no_metadata, "F04", "none"),
)


# --- head and ties ---


def head_lost(folder: Path) -> None:
    """The tensor of the head is not there."""
    drop(folder, HEAD)


def head_shard_lost(folder: Path) -> None:
    """The shard that held the head alone is gone, and the index does not know of it."""
    (holder,) = [f for f in weight_files(folder) if HEAD in load_file(f)]
    assert list(load_file(holder)) == [HEAD]
    holder.unlink()
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop(HEAD))


def flag(value: bool, *path: str) -> Damage:
    """The tie flag set at one level of the config."""
    return lambda folder: set_config(folder, *path, "tie_word_embeddings", value=value)


def saved_by_alias(folder: Path) -> None:
    """Written by `safetensors.torch.save_model`, which keeps the first of two tied names."""
    import transformers
    from safetensors.torch import save_model

    (name,) = read_json(folder / CONFIG)["architectures"]
    model = getattr(transformers, name).from_pretrained(folder)
    for file in weight_files(folder):
        file.unlink()
    save_model(model, str(folder / "model.safetensors"))


def head_only(folder: Path) -> None:
    """The embedding under the name of the head alone."""
    rename(folder, lambda name: HEAD if name == EMBEDDING else name)


def placeholder(*names: str) -> Damage:
    """Tensors saved by one process while their values lay scattered over all (ZeRO-3)."""

    def damage(folder: Path) -> None:
        assert set(names) <= state(folder).keys()
        change_tensors(folder, lambda tensors: {
            n: torch.empty(0) if n in names else t for n, t in tensors.items()
        })

    return damage


def all_placeholders(folder: Path) -> None:
    """The same for every matrix."""
    change_tensors(folder, lambda tensors: {
        n: torch.empty(0) if t.ndim == 2 else t for n, t in tensors.items()
    })


def both(*steps: Damage) -> Damage:
    """Several damages, one after the other."""

    def damage(folder: Path) -> None:
        for step in steps:
            step(folder)

    return damage


HEADS = (
    *(
        Case("head lost", _of(name, False, sharded=sharded), head_lost, "H02", "misloads",
             donor=True)
        for name, sharded in (
            ("llama", False), ("llama", True), ("qwen2", False), ("gpt2", False),
            ("falcon", False), ("mamba", True), ("mixtral", True), ("cohere", False),
        )
    ),
    Case("head lost", LLAMA, head_lost, "H02", "misloads", outcome="lost"),
    *(
        Case("tied although it differs", _of(name, False, sharded=sharded), flag(True), "H05",
             "none", accept=("H05",))
        for name, sharded in (
            ("llama", False), ("qwen2", True), ("gemma2", False), ("gpt2", False),
            ("opt", True), ("granite", False), ("mistral", False),
        )
    ),
    *(
        Case("head is the only copy", _of(name, True), saved_by_alias, "H08", "none")
        for name in ("llama", "qwen3", "gpt2", "opt", "gemma2", "falcon")
    ),
    Case("head is the only copy", LLAMA_TIED, head_only, "H08", "none"),
    Case("head is the only copy", SHARDS_TIED, head_only, "H08", "none"),
    Case("embedding lost", LLAMA, lambda f: drop(f, EMBEDDING), "H08", "misloads",
         outcome="lost"),
    Case("embedding lost", SHARDS, lambda f: drop(f, EMBEDDING), "H08", "misloads", donor=True),
    Case("embedding lost", _of("t5", True), lambda f: drop(f, "shared.weight"), "H08", "misloads",
         donor=True),
    Case("task head lost", _of("bert_classifier", None),
         lambda f: drop(f, "classifier.weight", "classifier.bias"), "H10", "misloads",
         outcome="lost"),
    Case("task head lost", _of("vit", None),
         lambda f: drop(f, "classifier.weight", "classifier.bias"), "H10", "misloads",
         outcome="lost"),
    Case("bias of the head lost", _of("phi", False), lambda f: drop(f, "lm_head.bias"), "H10",
         "misloads", donor=True),
    Case("one end of BART lost", _of("bart", True), saved_by_alias, "H09", "none"),
    Case("one end of T5 lost", _of("t5", True), saved_by_alias, "H09", "none"),
    Case("head stored twice", LLAMA_TIED,
         lambda f: add(f, {HEAD: state(f)[EMBEDDING].clone()}), "H04", "none", outcome="kept"),
    Case("flag left out, tied", LLAMA_TIED,
         lambda f: unset_config(f, "tie_word_embeddings"), "H06", "misloads",
         outcome="lost"),
    Case("head lost with its shard", SHARDS, head_shard_lost, "H02", "misloads", donor=True),
)

TIE_LEVELS = (
    # One level says tied and the other not, with the head stored: both tensors are real.
    *(
        Case(f"{level or 'top'} ties what differs", _of(name, False), flag(True, *path), "H07",
             "none", accept=("H07", "H05"))
        for name in ("gemma3", "llava", "qwen2_5_vl")
        for level, path in (("", ()), ("text_config", ("text_config",)))
    ),
    # And without a head. transformers 5 goes by the top level, and where that is false LLaVA and
    # Qwen2.5-VL take the flag of text_config; transformers 4 goes by text_config.
    *(
        Case("text_config unties what is tied", _of(name, True), flag(False, "text_config"),
             "H07", "none", accept=("H07",))
        for name in ("gemma3", "llava", "qwen2_5_vl")
    ),
    *(
        Case("top unties what is tied", _of(name, True), flag(False), "H07", "none",
             accept=("H07",))
        for name in ("llava", "qwen2_5_vl")
    ),
    # Here nothing tells a head that was tied from one that was lost.
    Case("top unties what is tied", _of("gemma3", True), flag(False), "H02", "misloads",
         outcome="lost"),
)

VALUES = (
    Case("placeholder for the head", LLAMA, placeholder(HEAD), "D01", "raises", outcome="lost"),
    Case("placeholders everywhere", SHARDS, all_placeholders, "D01", "raises", outcome="lost"),
)


# --- config, and several at once ---


def vocabulary(folder: Path) -> None:
    """The config counts eight words more than there are rows."""
    set_config(folder, "vocab_size", value=read_json(folder / CONFIG)["vocab_size"] + 8)


CONFIGS = (
    Case("vocabulary", LLAMA, vocabulary, "C05", "raises", accept=("C05",)),
    Case("vocabulary", _of("gpt2", True), vocabulary, "C05", "raises", accept=("C05",)),
    Case("no architectures", LLAMA, lambda f: unset_config(f, "architectures"), "C04", "none",
         accept=("C04",)),
    Case("class of a wrapper", LLAMA,
         lambda f: set_config(f, "architectures", value=["FSDPLlamaForCausalLM"]), "C04", "none",
         accept=("C04",)),
    Case("no config", LLAMA, remove(CONFIG), "C01", "raises", outcome="lost"),
)

COMBINED = (
    Case("no index, wrapped", SHARDS, both(prefixed("module."), remove(INDEX)), "N01", "raises"),
    Case("no index, wrapped", SHARDS_TIED, both(prefixed("_orig_mod."), remove(INDEX)), "S02",
         "raises"),
    Case("wrapped, head lost", LLAMA, both(head_lost, prefixed("module.")), "H02", "misloads",
         donor=True),
    Case("wrapped, head without suffix", LLAMA,
         both(replaced(r"^lm_head\.weight$", "lm_head"), prefixed("module.")), "N13", "misloads"),
    Case("wrapped, no metadata", LLAMA_TIED, both(prefixed("module."), no_metadata), "N01",
         "misloads"),
    Case("wrapped, tied although it differs", SHARDS, both(prefixed("module."), flag(True)), "N01",
         "misloads", accept=("H05",)),
)

CASES: tuple[Case, ...] = (
    *NAMES, *FILES, *BYTES, *HEADS, *TIE_LEVELS, *VALUES, *CONFIGS, *COMBINED
)

