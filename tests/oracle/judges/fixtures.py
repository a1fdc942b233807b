"""The table of checkpoints that the judges load, and how they are written.

A fixture is a family in one situation. Its `truth` is the matrix that has to be the head: `own`,
`embedding`, or None where the head or the embedding is lost and whatever loads is wrong.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkpoints import safetensors_bytes
from tests.oracle.judges import families
from tests.oracle.judges.families import FAMILY, Family, Tensors

INDEX = "model.safetensors.index.json"
# Sound situations whose answers are references, by the head that they have.
SOUND = {"own": "untied-different", "embedding": "tied-absent"}
# Situations of files do not depend on the family: two of them, of different head rules, suffice.
FILE_FAMILIES = ("llama", "gemma2")


@dataclass
class Content:
    """What is about to be written: the situation edits it."""

    family: Family
    config: dict[str, Any]
    files: dict[str, Tensors]
    index: dict[str, str] | None = None
    metadata: dict[str, str] | None = field(default_factory=lambda: {"format": "pt"})

    @property
    def tensors(self) -> Tensors:
        """The tensors of a checkpoint that is still one file."""
        return self.files["model.safetensors"]


@dataclass(frozen=True)
class Fixture:
    """One checkpoint of the table."""

    family: Family
    situation: str
    truth: str | None
    change: Callable[[Content], None]

    @property
    def name(self) -> str:
        """Its folder, and its name in the recorded outcomes."""
        return f"{self.family.name}-{self.situation}"

    def reference(self, head: str) -> str | None:
        """The sound fixture whose answer is right for this one with that head, if there is one."""
        rotary = self.situation.split("-")[-1]
        if head == "own" and rotary in ROTARY.get(self.family.name, ()):
            return f"{self.family.name}-{rotary}"
        return f"{self.family.name}-{SOUND[head]}" if head in SOUND else None


# Heads and flags

FLAGS = {"tied": True, "untied": False, "unsaid": None}


def _flag(content: Content, flag: bool | None) -> None:
    content.config.pop("tie_word_embeddings", None)
    if flag is not None:
        content.config["tie_word_embeddings"] = flag


def _headed(content: Content, head: str) -> None:
    """`different` is how every content begins."""
    family, tensors = content.family, content.tensors
    if head == "absent":
        del tensors[family.head]
    elif head == "equal":
        tensors[family.head] = tensors[family.embedding].copy()
    elif head == "only":  # one matrix for both, stored under the name of the head
        tensors[family.head] = tensors.pop(family.embedding)


def _head_situations(family: Family) -> Iterator[Fixture]:
    for said, flag in FLAGS.items():
        tied = family.ties if flag is None else flag
        for head in ("absent", "equal", "different", "only"):
            truth: str | None = "embedding"
            if head == "different":
                truth = "own"  # two different matrices are two matrices, whatever the flag says
            elif head != "equal" and not tied:
                truth = None

            def change(content: Content, flag: bool | None = flag, head: str = head) -> None:
                _flag(content, flag)
                _headed(content, head)

            yield Fixture(family, f"{said}-{head}", truth, change)


# Prefixes

def _renamed(content: Content, new: Callable[[str], str]) -> None:
    content.files = {
        file: {new(name): values for name, values in tensors.items()}
        for file, tensors in content.files.items()
    }


def _bare(tied: bool, base: bool, head: str = "absent") -> Callable[[Content], None]:
    def change(content: Content) -> None:
        _flag(content, tied)
        _headed(content, head)
        prefix = content.family.prefix
        _renamed(content, lambda name: name.removeprefix(prefix))
        if base:
            content.config["architectures"] = [content.family.base]

    return change


def _moved(new: Callable[[str], str], flag: bool = False) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        _flag(content, flag)
        _renamed(content, new)

    return change


def _prefix_situations(family: Family) -> Iterator[Fixture]:
    yield Fixture(family, "base-untied", None, _bare(tied=False, base=True))
    yield Fixture(family, "base-tied", "embedding", _bare(tied=True, base=True))
    if family.prefix:
        yield Fixture(family, "bare-untied", None, _bare(tied=False, base=False))
        yield Fixture(family, "bare-tied", "embedding", _bare(tied=True, base=False))
        whole = _bare(tied=False, base=False, head="different")
        yield Fixture(family, "bare-headed", "own", whole)
        prefix = family.prefix

        def inner(name: str) -> str:
            return f"model.language_model.{name[len(prefix):]}" if name.startswith(prefix) else name

        yield Fixture(family, "model-language-model", "own", _moved(inner))
    yield Fixture(
        family, "language-model", "own", _moved(lambda name: f"language_model.{name}")
    )
    yield Fixture(family, "module", "own", _moved(lambda name: f"module.{name}"))


# Configs

def _fifth(flag: bool, *, both: bool = False) -> Callable[[Content], None]:
    """The dialect of transformers 5: the rotary settings moved, the dtype renamed.

    `both`: what others read stands at the top level as well.
    """

    def change(content: Content) -> None:
        _flag(content, flag)
        if flag:
            _headed(content, "absent")
        config = content.config
        config["dtype"] = config.pop("torch_dtype")
        config["transformers_version"] = "5.23.0"
        old = dict(config)
        if "rope_theta" in config:
            theta = config.pop("rope_theta")
            scaling = dict(config.pop("rope_scaling", None) or {})
            kind = scaling.pop("type", None) or scaling.pop("rope_type", None) or "default"
            rope = {"rope_theta": theta, "rope_type": kind, **scaling}
            if content.family.name == "gemma3_text":
                local = {"rope_theta": config.pop("rope_local_base_freq"), "rope_type": "default"}
                rope = {"full_attention": rope, "sliding_attention": local}
            if kind == "longrope":
                rope["original_max_position_embeddings"] = old["original_max_position_embeddings"]
            config["rope_parameters"] = rope
        if both:
            content.config = {**config, **old}

    return change


THETA = 500_000.0  # as in Llama 3; programs that find none take 10,000 or 1,000,000
_LENGTHS = {"factor": 4.0, "original_max_position_embeddings": 32}
# Rotary settings that are not those of a fresh config, by family: what they add to it. The twin of
# each without scaling is `theta`.
ROTARY: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "theta": {},
        "llama3": {"rope_scaling": {
            "rope_type": "llama3", **_LENGTHS, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        }},
        "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    },
    "qwen2": {"theta": {}, "yarn": {"rope_scaling": {"rope_type": "yarn", **_LENGTHS}}},
    "gemma2": {"theta": {}, "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}},
    "gemma3_text": {
        "theta": {"rope_local_base_freq": 20000.0},
        "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    },
    "phi3": {
        "theta": {},
        "longrope": {
            "original_max_position_embeddings": 64,
            "rope_scaling": {
                "type": "longrope", "short_factor": [1.0, 1.5, 2.5, 4.0],
                "long_factor": [1.0, 3.0, 6.0, 9.0],
            },
        },
    },
}
SCALED = {f"{f}-{s}": f"{f}-theta" for f, more in ROTARY.items() for s in more if s != "theta"}


def _rotary(change: Mapping[str, Any], dialect: str) -> Callable[[Content], None]:
    """Other rotary settings, and attention so sharp that the answer depends on them."""

    def apply(content: Content) -> None:
        content.config |= {"rope_theta": THETA, **copy.deepcopy(dict(change))}
        for name, values in content.tensors.items():
            if ".q_norm." in name or ".k_norm." in name:
                content.tensors[name] = values + np.float32(1.5)
            elif "self_attn.qkv_proj" in name:
                sharp = values * np.float32(6)
                width = families.GROUPS * families.WIDTH  # of the values, which stay
                content.tensors[name] = np.concatenate([sharp[:-width], values[-width:]])
            elif "self_attn.q_proj" in name or "self_attn.k_proj" in name:
                content.tensors[name] = values * np.float32(6)
        if dialect:
            _fifth(False, both=dialect == "both")(content)
        else:
            _flag(content, False)

    return apply


def _layout(content: Content) -> None:
    """The kinds of layers as transformers 5 writes them: no pattern beside the list."""
    _rotary(ROTARY["gemma3_text"]["theta"], "")(content)
    content.config["_sliding_window_pattern"] = content.config.pop("sliding_window_pattern")


def _no_window(content: Content) -> None:
    _flag(content, False)
    content.config["sliding_window"] = None


def _config_situations(family: Family) -> Iterator[Fixture]:
    yield Fixture(family, "fifth-untied", "own", _fifth(False))
    yield Fixture(family, "fifth-tied", "embedding", _fifth(True))
    for rotary, change in ROTARY.get(family.name, {}).items():
        for dialect in ("", "fifth", "both"):
            if dialect == "both" and rotary == "theta" and family.name != "gemma3_text":
                continue
            situation = f"{dialect}-{rotary}".removeprefix("-")
            yield Fixture(family, situation, "own", _rotary(change, dialect))
    if family.name == "gemma3_text":
        yield Fixture(family, "layout-theta", "own", _layout)
    if family.name == "qwen2":
        yield Fixture(family, "window-null", "own", _no_window)


# Files

def _shard(number: int, of: int) -> str:
    return f"model-{number:05d}-of-{of:05d}.safetensors"


def _sharded(content: Content, head_file: str | None = None) -> None:
    """Two shards of the body, the head in the second or in a file of its own; and the index."""
    family, of = content.family, 3 if head_file == _shard(3, 3) else 2
    tensors = content.files.pop("model.safetensors")
    head = tensors.pop(family.head)
    names = list(tensors)
    half = len(names) // 2
    content.files[_shard(1, of)] = {n: tensors[n] for n in names[:half]}
    content.files[_shard(2, of)] = {n: tensors[n] for n in names[half:]}
    content.files.setdefault(head_file or _shard(2, of), {})[family.head] = head
    content.index = {n: file for file, part in content.files.items() for n in part}


def _files(change: Callable[[Content], None]) -> Callable[[Content], None]:
    def whole(content: Content) -> None:
        _flag(content, False)
        change(content)

    return whole


def _stale(content: Content, file: str, *, head: bool) -> None:
    """A file that no index names: an old head, or a layer that is no more."""
    _sharded(content)
    if head:
        content.files[file] = {content.family.head: families.head(content.family, step=2)}
    else:
        left = content.files[_shard(1, 2)]
        name = next(n for n in left if ".0." in n)
        content.files[file] = {name.replace(".0.", ".7."): left[name].copy()}


def _omits(content: Content) -> None:
    _sharded(content)
    assert content.index is not None
    del content.index[content.family.head]


def _lies(content: Content) -> None:
    _sharded(content)
    del content.files[_shard(2, 2)][content.family.head]


def _unlisted(file: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        _sharded(content, file)
        _omitted(content)

    def _omitted(content: Content) -> None:
        assert content.index is not None
        del content.index[content.family.head]

    return change


def _absent_file(content: Content) -> None:
    _sharded(content, _shard(3, 3))
    del content.files[_shard(3, 3)]


def _twice(content: Content, *, equal: bool, first: bool = False) -> None:
    """The head in both shards; `first`: the index names the copy of the first."""
    _sharded(content)
    assert content.index is not None
    family = content.family
    real, old = families.head(family), families.head(family, step=2)
    one, two = _shard(1, 2), _shard(2, 2)
    content.files[one][family.head] = real if equal or first else old
    content.files[two][family.head] = real if equal or not first else old
    content.index[family.head] = one if first else two


def _single_and_index(content: Content) -> None:
    """A single file without the head, and an index that names it and a shard with the head."""
    family = content.family
    extra = _shard(2, 2)
    head = content.tensors.pop(family.head)
    content.index = dict.fromkeys(content.tensors, "model.safetensors")
    content.files[extra] = {family.head: head}
    content.index[family.head] = extra


def _no_metadata(content: Content) -> None:
    content.metadata = None


def _extra_tensor(content: Content) -> None:
    content.tensors["foo.bar.weight"] = families.embedding(content.family)[:3].copy()


def _lost_norm(content: Content) -> None:
    del content.tensors[f"{content.family.prefix}norm.weight"]


def _short_head(content: Content) -> None:
    family = content.family
    content.tensors[family.head] = content.tensors[family.head][:320].copy()


def _file_situations(family: Family) -> Iterator[Fixture]:
    table: dict[str, tuple[str | None, Callable[[Content], None]]] = {
        "sharded": ("own", _sharded),
        "head-shard": ("own", lambda c: _sharded(c, _shard(3, 3))),
        "head-other-file": ("own", lambda c: _sharded(c, "head.safetensors")),
        "stale-head": ("own", lambda c: _stale(c, _shard(7, 7), head=True)),
        "stale-head-other": ("own", lambda c: _stale(c, "old.safetensors", head=True)),
        "stale-layer": ("own", lambda c: _stale(c, _shard(7, 7), head=False)),
        "index-omits": ("own", _omits),
        "index-lies": (None, _lies),
        "head-shard-unlisted": ("own", _unlisted(_shard(3, 3))),
        "head-other-file-unlisted": ("own", _unlisted("head.safetensors")),
        "shard-missing": (None, _absent_file),
        "twice-equal": ("own", lambda c: _twice(c, equal=True)),
        "twice-different-last": ("own", lambda c: _twice(c, equal=False)),
        "twice-different-first": ("own", lambda c: _twice(c, equal=False, first=True)),
        "single-and-index": ("own", _single_and_index),
        "no-metadata": ("own", _no_metadata),
        "extra-tensor": ("own", _extra_tensor),
        "norm-lost": (None, _lost_norm),
        "head-short": (None, _short_head),
    }
    for situation, (truth, change) in table.items():
        yield Fixture(family, situation, truth, _files(change))


def _all() -> Iterator[Fixture]:
    for family in FAMILY.values():
        yield from _head_situations(family)
        yield from _prefix_situations(family)
        yield from _config_situations(family)
        if family.name in FILE_FAMILIES:
            yield from _file_situations(family)


FIXTURES = {fixture.name: fixture for fixture in _all()}


# Writing

def _tokenizer() -> dict[str, str]:
    """A tokenizer of single bytes: byte b is token b + 3. Some judges refuse a folder without."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    alphabet = {b: chr(b) if b in printable else chr(next(spare)) for b in range(256)}
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2} | {alphabet[b]: b + 3 for b in range(256)}
    special = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for text, i in (("<pad>", 0), ("<s>", 1), ("</s>", 2))
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}
    tokenizer: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": vocabulary, "merges": [],
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "pad_token": "<pad>", "unk_token": "</s>", "model_max_length": 128,
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    return {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False),
        "tokenizer_config.json": json.dumps(settings, indent=1),
    }


def contents(fixture: Fixture) -> Content:
    """The checkpoint before it is written."""
    family = fixture.family
    config = {
        "architectures": [family.causal], "model_type": family.name, **family.config,
        "torch_dtype": "float32", "transformers_version": "4.46.3",
    }
    tensors = {
        family.embedding: families.embedding(family), **families.body(family),
        family.head: families.head(family),
    }
    content = Content(family, config, {"model.safetensors": tensors})
    fixture.change(content)
    return content


@functools.cache
def digest() -> str:
    """What the table would write, but for the values: a record of another table is out of date."""
    told = hashlib.sha256()
    for name, fixture in FIXTURES.items():
        made = contents(fixture)
        shapes = {f: {n: t.shape for n, t in part.items()} for f, part in made.files.items()}
        all_of_it = [name, fixture.truth, made.config, shapes, made.index, made.metadata]
        told.update(json.dumps(all_of_it).encode())
    return told.hexdigest()[:16]


def write(fixture: Fixture, folder: Path) -> Path:
    """Write a fixture into a new folder and return it."""
    content = contents(fixture)
    folder.mkdir(parents=True)
    for file, tensors in content.files.items():
        rows = {n: ("F32", t.shape, t.astype("<f4").tobytes()) for n, t in tensors.items()}
        (folder / file).write_bytes(safetensors_bytes(rows, content.metadata))
    if content.index is not None:
        size = sum(t.nbytes for part in content.files.values() for t in part.values())
        index = {"metadata": {"total_size": size}, "weight_map": content.index}
        (folder / INDEX).write_text(json.dumps(index, indent=1))
    (folder / "config.json").write_text(json.dumps(content.config, indent=1) + "\n")
    for file, text in _tokenizer().items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def write_all(root: Path) -> dict[str, Path]:
    """Write those fixtures of the table that are not there yet."""
    return {
        name: root / name if (root / name / "tokenizer_config.json").exists()
        else write(fixture, root / name)
        for name, fixture in FIXTURES.items()
    }
