"""The checkpoint as the rules see it: head, embedding and tie, what is unexplained, its values.

Everything here is derived once and shared by the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from tidoctor import document
from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts
from tidoctor.checkpoint import Checkpoint
from tidoctor.dtypes import span_bytes
from tidoctor.finding import Operation, Verdict
from tidoctor.promise import Promise
from tidoctor.rules.causes import Account, Explained, account, similar
from tidoctor.rules.fitted import Fitted
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import CannotRun, set_key
from tidoctor.rules.tie import Tie, resolve_tie
from tidoctor.rules.values import Progress, Values, survey
from tidoctor.tensors import Tensor

if TYPE_CHECKING:
    from tidoctor.manifest import Manifest

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_CAP = 1_000_000  # bytes

MORE_ROWS = frozenset({
    "mllama", "mllama_text_model", "cpmant", "moshi", "musicgen", "musicgen_melody", "idefics",
    "kyutai_speech_to_text", "marian", "fsmt",
})  # fmt: skip
"""Families whose embedding has further rows (images, prompts, audio) or another count for them."""


class View(Fitted):
    """One checkpoint under examination.

    `wanted` as for a `Subject`.
    `origin` is the model that it was made from, where that is known.
    `progress` is told how far the reading of all values has come.
    `manifest` is the record that the tensors are held against.
    `explained` tells of which tensors, by their names in the files, other rules have spoken;
    `judged` what the loaders that were asked about make of it. `promised` is what it has to be,
    `kept` what the loaders of that promise make of it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        wanted: str | None = None,
        deep: bool = False,
        manifest: Manifest | None = None,
        explained: Callable[[View], Explained] = lambda view: Explained(),
        judged: Callable[[View], tuple[Verdict, ...]] = lambda view: (),
        promised: Promise | None = None,
        kept: Callable[[View], tuple[Verdict, ...]] = lambda view: (),
        progress: Progress | None = None,
        origin: Checkpoint | None = None,
    ) -> None:
        super().__init__(checkpoint, wanted)
        self.promised = promised
        self._kept = kept
        self.origin = origin
        self._progress = progress
        self.deep = deep
        self.manifest = manifest
        self._explained = explained
        self._judged = judged

    @cached_property
    def adapter_config(self) -> object:
        """What adapter_config.json says; None where there is none, or none that can be read."""
        size = self.checkpoint.files.get(ADAPTER_CONFIG)
        if size is None:
            return None
        source = self.checkpoint.source
        return document.parse(source.read(ADAPTER_CONFIG, 0, min(size, _ADAPTER_CAP))).data

    @cached_property
    def values(self) -> Mapping[str, Values]:
        """What every tensor holds, by its name in the files; reads all of them, once."""
        return survey(self.checkpoint, self._progress)

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What the loaders that were asked about make of the checkpoint, in their order."""
        return self._judged(self)

    @cached_property
    def promised_verdicts(self) -> tuple[Verdict, ...]:
        """What the loaders of the promise make of the checkpoint."""
        return self._kept(self)

    @cached_property
    def account(self) -> Account:
        """The causes of whatever does not fit and no other rule explains. Raises as `need_fit`."""
        found = self.need_fit()
        if found.exact:
            return Account()
        actual = {tensor.name: name for name, tensor in self.tensors.items()}
        told = self._explained(self)
        explained = {actual.get(n, n) for n in told.names}
        shapes = frozenset(actual.get(n, n) for n in told.shapes)
        if self.must_generate and self.generator:  # a lost head is told by the rules about it
            heads = {self.head_name, str(self.generator.head)}
            explained |= heads
            if "draft_vocab_size" in self.settings:
                shapes |= heads
        strange = self._strange(found)
        said = Explained(frozenset(explained), shapes)
        return account(self.settings, strange, said, lambda: self.elsewhere)

    def size_of(self, shape: tuple[int, ...]) -> tuple[str, int]:
        """(dtype, bytes) that a tensor of this shape takes in the dtype of most of the weights."""
        weights = Counter[str]()
        for (dtype, _), alike in self.own_forms.items():
            weights[dtype] += self.bytes_of(alike)
        dtype = max(weights, key=lambda d: (weights[d], d), default="F32")
        return dtype, span_bytes(dtype, shape) or 0

    def need_bytes(self, tensor: Tensor) -> None:
        """Raise CannotRun when the bytes of a tensor are not all in its file."""
        for weight in self.checkpoint.weights:
            if weight.whole == tensor.span[:2] and tensor.span.end > weight.header.size:
                raise CannotRun(f"{weight.name} ends before the last byte of {tensor.name}")

    # --- head and embedding ---

    def _present(self, candidates: tuple[str | None, ...]) -> str | None:
        return next((n for n in candidates if n and n in self.tensors), None)

    @cached_property
    def embedding(self) -> str | None:
        """The canonical name of the input embedding that is stored, None when there is none."""
        facts = self.generator or self.target
        return self._present((*spellings(facts, "embedding"), *families.EMBEDDINGS))

    @cached_property
    def head(self) -> str | None:
        """The canonical name of the output head that is stored, None when there is none."""
        facts = self.generator
        own = spellings(facts, "head")
        if self.embedding in own or self.head_is_unread:
            return None  # in the first case the class uses one matrix under one name for both
        usual = tuple(n for n in families.HEADS if self._like_a_head(n))
        name = self._present((*own, *usual))
        return None if name == self.embedding else name

    def _like_a_head(self, name: str) -> bool:
        """Whether a tensor by one of the usual names has the shape, where a class has another."""
        embedding, tensor = self.tensors.get(self.embedding or ""), self.tensors.get(name)
        known = self.generator is not None and self.generator.head is not None
        return not known or not embedding or not tensor or tensor.shape == embedding.shape

    @cached_property
    def head_is_unread(self) -> bool:
        """Whether the class is known to find no head, whatever else is called like one."""
        if not self.generator or self.generator != self.target or not self.settings:
            return False
        known = self.fit
        return not isinstance(known, str) and not known.alien and any(
            gap.name == self.generator.head for gap in known.missing
        )

    @property
    def head_is_misplaced(self) -> bool:
        """Whether the class is known not to read the head that is stored, under the name it has."""
        if not self.head or not self.generator or self.generator != self.target:
            return False
        known = self.fit if self.settings else ""
        return not isinstance(known, str) and not known.alien and self.head in known.unexpected

    @cached_property
    def head_name(self) -> str:
        """What the head is called, or would be."""
        if self.head:
            return self.head
        return (self.generator and self.generator.head) or "lm_head.weight"

    @cached_property
    def head_parts(self) -> tuple[str, ...]:
        """Tensors of the head's module other than a plain weight: a quantised or wrapped head."""
        names = (*spellings(self.generator, "head"), families.HEADS[0])
        modules = {n.removesuffix(".weight") for n in names if n}
        inside = tuple(m + "." for m in modules)
        return tuple(
            n
            for n in self.tensors
            if (n.startswith(inside) or n in modules)
            and n != self.head
            and not self._misspelt_head(n)
            and not n.endswith((".bias", ".dense.weight", ".layer_norm.weight"))
        )

    def _misspelt_head(self, name: str) -> bool:
        """Whether this is a whole head under a wrong name: `lm_head.weights`, `lm_head.b.weight`.

        The module's own name and a Sequential have rules of their own.
        """
        tensor, embedding = self.tensors[name], self.tensors.get(self.embedding or "")
        words = name.split(".")
        last = words[-1]
        plain = embedding is not None and (tensor.dtype, tensor.shape) == embedding[1:3]
        misspelt = last != "weight" and similar(last, "weight")
        inner = len(words) > 1 and not words[-2].isdecimal()
        return plain and (misspelt or (inner and self.head_is_unread))

    @property
    def head_is_absent(self) -> bool:
        """Whether nothing of a head is stored, plain, quantised or wrapped."""
        return self.head is None and not self.head_parts

    @property
    def head_is_lost(self) -> bool:
        """Whether no head is stored and the embedding is not one, as far as that is known."""
        return self.head_is_absent and self.embedding is not None and self.tie.meant is False

    def missing_parts(self, facts: ClassFacts) -> list[str]:
        """Weights and biases that a class has beyond its base, neither stored nor tied.

        The head's own weight counts only when it is known to be lost. A submodel with layers of
        its own is no head, and what it consists of is for the config to say.
        """
        lost = [facts.head] if facts.head and self.head_is_lost else []
        submodels = {name.partition(".")[0] for name in facts.own if "*" in name}
        for name in facts.own:
            module, _, kind = name.rpartition(".")
            if kind not in ("weight", "bias") or name in facts.ties:
                continue
            if name.partition(".")[0] in submodels:
                continue
            if name == facts.head or name in self.tensors:
                continue
            # A quantised matrix stands in parts beside its bias.
            parts = (n for n in self.tensors if n.startswith(module + "."))
            if kind == "bias" or all(n.endswith(".bias") for n in parts):
                lost.append(name)
        return lost

    def ending(self, tails: tuple[str, ...]) -> list[str]:
        """The names that end in one of these."""
        return [n for n in self.tensors if n.endswith(tails)] if tails else []

    @property
    def body_is_there(self) -> bool:
        """Whether names follow the layout of the family, so that a missing one is missing."""
        facts = self.generator or self.target
        if facts is None or not facts.embedding:
            return False
        beside = facts.embedding.removesuffix(".weight").rpartition(".")[0]
        if beside:
            return any(n.startswith(beside + ".") for n in self.tensors)
        sides = {alias.partition(".")[0] + "." for alias in facts.ties if alias != facts.head}
        return bool(sides) and any(n.startswith(tuple(sides)) for n in self.tensors)

    @cached_property
    def head_equals_embedding(self) -> bool | None:
        """Whether both hold the same bytes; None when they cannot be compared.

        Reads both once, in pieces. Raises CannotRun when their bytes are not in the file.
        """
        if not self.head or not self.embedding:
            return None
        head, embedding = self.tensors[self.head], self.tensors[self.embedding]
        if head.dtype not in FLOATS or embedding.dtype not in FLOATS or not head.nbytes:
            return None
        if head.dtype != embedding.dtype and head.shape == embedding.shape:
            if self.tie.meant is False:
                return None
            raise CannotRun(
                f"the head is {head.dtype} and the embedding {embedding.dtype}: not compared"
            )
        if head.shape != embedding.shape:
            return False
        self.need_bytes(head)
        self.need_bytes(embedding)
        return self.checkpoint.same_bytes(head, embedding)

    # --- tie ---

    @cached_property
    def tie(self) -> Tie:
        """Whether head and embedding are tied, as each major version of transformers sees it."""
        return resolve_tie(
            self.settings, self.text_settings, self.text_level, self.generator, self.at
        )

    def flag_operations(self, value: bool) -> list[Operation]:
        """Operations that write the tie flag on every level that counts for some reader."""
        paths: list[tuple[str, ...]] = [("tie_word_embeddings",)]
        if self.text_level and (self.generator is None or self.generator.nested):
            paths.append((self.text_level, "tie_word_embeddings"))
        return [set_key(*path, value=value) for path in paths]


def spellings(facts: ClassFacts | None, part: str) -> tuple[str | None, ...]:
    """How the head or embedding of a class may be called: as it is, and with or without prefix."""
    name: str | None = getattr(facts, part, None) if facts else None
    if not facts or not name:
        return ()
    bare = name.removeprefix(facts.prefix)
    return (name, bare, facts.prefix + name)
