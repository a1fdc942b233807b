"""The checkpoint as the later rules see it: canonical names, class, head, embedding and tie.

Everything here is derived once from the immutable checkpoint and shared by the rules. Wrappers
around names are peeled off first, so that a head called `module.lm_head.weight` is a head.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from tidoctor import document
from tidoctor.atlas import families
from tidoctor.atlas.expectation import Expectation, expectation
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.families import ClassFacts
from tidoctor.checkpoint import CONFIG, Checkpoint, Tensor, shard_of
from tidoctor.errors import Usage
from tidoctor.finding import Location, Operation, Verdict
from tidoctor.header import span_bytes
from tidoctor.names import brief, printable, some
from tidoctor.patterns import Kinds, roots
from tidoctor.promise import Promise
from tidoctor.rules import packing
from tidoctor.rules.alternatives import Others, others
from tidoctor.rules.causes import Account, Explained, account, similar
from tidoctor.rules.fitting import Fit, fit, quantised
from tidoctor.rules.packing import FLOATS as FLOATS
from tidoctor.rules.packing import Module
from tidoctor.rules.rule import CannotRun, NotApplicable, set_key
from tidoctor.rules.tie import Tie, resolve_tie
from tidoctor.rules.values import Progress, Values, survey
from tidoctor.wrappers import is_adapter, is_altered, modern, peel, without_adapter, without_infixes

if TYPE_CHECKING:
    from tidoctor.manifest import Manifest

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_CAP = 1_000_000  # bytes

GENERATING = (
    "causal-lm",
    "seq2seq-lm",
    "image-text-to-text",
    "speech-seq2seq",
    "masked-lm",
)
"""Tasks of classes whose output projection has a row for each token, in order of preference."""
WRITING = tuple(task for task in GENERATING if task != "masked-lm")
"""Those of them that write text, token after token."""

TASKS = (
    "base",
    "causal-lm",
    "masked-lm",
    "seq2seq-lm",
    "image-text-to-text",
    "speech-seq2seq",
    "ctc",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "image-classification",
)
"""Tasks that `--as` understands beside class names."""

MORE_ROWS = frozenset({
    "mllama", "mllama_text_model", "cpmant", "moshi", "musicgen", "musicgen_melody", "idefics",
    "kyutai_speech_to_text", "marian", "fsmt",
})  # fmt: skip
"""Families whose embedding has further rows (images, prompts, audio) or another count for them."""

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Keys that count layers, in order of preference."""

TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
UNREADABLE: frozenset[str] = frozenset(
    {
        "file-empty",
        "too-short",
        "lfs-pointer",
        "html",
        "not-safetensors",
        "all-zero",
        "header-truncated",
        "header-too-large",
        "not-utf8",
        "bad-json",
        "bad-entry",
        "bad-offsets",
        "bad-shape",
    }
)
"""Kinds of defects after which the table of a file may lack tensors."""

_EMBEDDING_MARKERS = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)


class View:
    """One checkpoint under examination.

    `wanted` is the class, or a task such as `causal-lm`, that the checkpoint must serve; None
    leaves the choice to config.json. Raises Usage for a class or task that nobody knows.
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
        self.checkpoint = checkpoint
        self.promised = promised
        self._kept = kept
        self.origin = origin
        self._progress = progress
        self.deep = deep
        self.manifest = manifest
        self._explained = explained
        self._judged = judged
        self.wish = wanted
        self.wanted = self._wanted(wanted)
        self._asked = f" --as {wanted}" if wanted else ""

    def command(self, verb: str, *options: str) -> str:
        """A command line that can be pasted: `tidoctor VERB SOURCE DEST` with options."""
        name = shlex.quote(printable(self.checkpoint.source.name))
        asked = self._asked if verb == "repair" else ""
        return " ".join((f"tidoctor {verb} {name} DEST{asked}", *options))

    # --- names ---

    @cached_property
    def _peeled(self) -> tuple[dict[str, str], tuple[str, ...]]:
        return peel(self.kinds)

    @property
    def wrappers(self) -> tuple[str, ...]:
        """Wrapper prefixes in front of most names, outermost first."""
        return self._peeled[1]

    @property
    def wrapped(self) -> Mapping[str, str]:
        """The names of the files that carry wrapper prefixes, and what is left without those."""
        return self._peeled[0]

    def unwrapped(self, name: str) -> str:
        """A name of the files without wrapper prefixes."""
        return self._peeled[0].get(name, name)

    @cached_property
    def altered(self) -> bool:
        """Whether some name in the files may have an infix, an adapter part or an old spelling."""
        return self.kinds.first(is_altered) is not None

    @cached_property
    def kinds(self) -> Kinds:
        """The names in the files, by kinds."""
        return Kinds(self.checkpoint.tensors)

    @cached_property
    def own_kinds(self) -> Kinds:
        """The canonical names, by kinds."""
        return self.kinds if self.tensors is self.checkpoint.tensors else Kinds(self.tensors)

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors under their canonical names: no wrapper, no infix, no adapter parts."""
        if not self.wrappers and not self.altered:
            return self.checkpoint.tensors
        found: dict[str, Tensor] = {}
        for name, tensor in self.checkpoint.tensors.items():
            bare = without_adapter(without_infixes(self.unwrapped(name)))
            if bare is not None:
                found.setdefault(modern(bare), tensor)
        return found

    # --- what was asked for, and what config.json says ---

    @property
    def settings(self) -> Mapping[str, object]:
        """The values of config.json."""
        return self.checkpoint.settings

    @cached_property
    def model_type(self) -> str | None:
        """`model_type` of the config when it is a string."""
        value = self.settings.get("model_type")
        return value if isinstance(value, str) and value else None

    @cached_property
    def text_level(self) -> str | None:
        """The key under which the config of the text part of a composite model stands."""
        return next((k for k in TEXT_CONFIGS if isinstance(self.settings.get(k), dict)), None)

    @cached_property
    def text_settings(self) -> Mapping[str, object]:
        """The config of the text part; the whole config when there is only one part."""
        nested = self.settings.get(self.text_level) if self.text_level else None
        return nested if isinstance(nested, dict) else self.settings

    def setting(self, key: str) -> tuple[object, tuple[str, ...]]:
        """A value of the text part, else of the root, and the path at which it stands."""
        if self.text_level and key in self.text_settings:
            return self.text_settings[key], (self.text_level, key)
        return self.settings.get(key), (key,)

    def at(self, *path: str) -> Location:
        """The place of a key in config.json; of the file when the key is not there."""
        config = self.checkpoint.config
        return Location(CONFIG, config.line(*path) if config and path else None)

    @cached_property
    def declared_name(self) -> str | None:
        """The first name in `architectures`, None when there is none."""
        names = self.settings.get("architectures")
        if names is None and self.text_level:  # where transformers 4.57 puts it for Qwen2-VL
            names = self.text_settings.get("architectures")
        first = names[0] if isinstance(names, list) and names else None
        return first if isinstance(first, str) and first else None

    @cached_property
    def declared(self) -> ClassFacts | None:
        """What is known of the class that config.json names."""
        name = self.declared_name
        return families.class_facts(families.modern_name(name)) if name else None

    @cached_property
    def unserved(self) -> str | None:
        """Why the wish cannot be served by any class, None where it can or nothing was wished."""
        if self.wanted is None:
            if self.wish is None or self.model_type is None:
                return None
            if not families.classes_of(self.model_type):
                return None
            return f"transformers has no class of {brief(self.model_type)} for {self.wish}"
        inner = self.text_settings.get("model_type")
        types = self.wanted.model_types
        if self.model_type is None or not types or {self.model_type, inner} & {*types}:
            return None
        if not families.known_model_type(self.model_type):
            return None
        own = brief(self.model_type)
        return f"{self.wanted.name} is a class of {some(types, 3)}, and this model is {own}"

    def _wanted(self, text: str | None) -> ClassFacts | None:
        if text is None:
            return None
        if facts := families.class_facts(text):
            return facts
        for_type = families.classes_of(self.model_type) if self.model_type else {}
        if text in for_type:
            return families.class_facts(for_type[text])
        if self.model_type and (name := families.class_for(self.model_type, text)):
            return families.class_facts(name)
        if text in TASKS:
            # Which class that is for this model is not known; the rules say so where it matters.
            return None
        raise Usage(
            f"--as {text}",
            "is neither a class of transformers nor a task",
            f"tasks are {', '.join(TASKS)}",
        )

    @cached_property
    def generator(self) -> ClassFacts | None:
        """The class with an output head that this checkpoint serves, or could serve."""
        for facts in (self.wanted, self.declared):
            if facts and facts.task in GENERATING:
                return facts
        names = (families.class_for(self.model_type or "", task) for task in GENERATING)
        could = [facts for n in names if n and (facts := families.class_facts(n))]
        bare = self.declared.name if self.declared and self.declared.task == "base" else None
        # Of a base class, the class that is the same body with a head: a Pegasus without its
        # encoder is another model, and an encoder is rather a masked language model.
        body = [facts for facts in could if bare and facts.base == bare]
        for task in ("seq2seq-lm", "masked-lm"):
            if chosen := next((f for f in body if f.task == task), None):
                return chosen
        return next(iter((*body, *could)), None)

    @cached_property
    def target(self) -> ClassFacts | None:
        """The class that must be served: the wanted one, else the declared one."""
        return self.wanted or self.declared

    @cached_property
    def must_generate(self) -> bool:
        """Whether the class to be served has an output head, by facts or else by its name."""
        if self.target:
            return self.target.task in GENERATING
        name = self.declared_name or ""
        return name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))

    @cached_property
    def embedding_model(self) -> str | None:
        """A file or folder that marks a sentence embedding model, None without one."""
        places = {*self.checkpoint.files, *self.checkpoint.folders}
        return next((m for m in (*_EMBEDDING_MARKERS, "1_Pooling") if m in places), None)

    # --- completeness ---

    @cached_property
    def incomplete(self) -> str | None:
        """Why the table of tensors is not complete, None when it is."""
        c = self.checkpoint
        if c.entrance == "file" and c.weights and (shard := c.weights[0].shard) and shard[2] > 1:
            return f"{c.weights[0].name} is one shard of {shard[2]}"
        if not c.weights:
            return "no weight file could be found"
        for weight in c.weights:
            unread = any(d.kind in UNREADABLE and d.refused for d in weight.header.defects)
            if unread:
                return f"{weight.name} could not be read completely"
        present = {w.name for w in (*c.weights, *c.extras)}
        if c.index and c.entrance == "index":
            absent = sorted(set(c.index.weight_map.values()) - present)
            if absent:
                return f"{absent[0]} is not there"
            return None  # with every file of the index here, numbers are decoration
        if c.entrance == "single" and c.index and not set(c.index.weight_map) <= set(c.tensors):
            return f"{c.weights[0].name} hides the files of the index"
        if gap := missing_shards([w.name for w in c.weights]):
            return f"{gap[0]} is not there"
        return None

    def need_whole(self) -> None:
        """Raise CannotRun when tensors may be missing because a file is."""
        if self.incomplete:
            raise CannotRun(self.incomplete)

    def need_config(self) -> Mapping[str, object]:
        """The config's values; raises CannotRun or NotApplicable when there are none."""
        if self.checkpoint.entrance == "adapter":
            raise NotApplicable("the folder holds an adapter")
        if self.checkpoint.config is None:
            raise NotApplicable("there is no config.json")
        if not self.settings:
            raise CannotRun("config.json could not be read")
        if is_foreign_config(self.settings):
            raise NotApplicable("config.json is not one of transformers")
        return self.settings

    # --- layout ---

    @cached_property
    def layout(self) -> tuple[str, list[str], list[str]]:
        """(prefix, body names without it, body names with it) of a family with a base prefix.

        Names are canonical. Raises NotApplicable when the family has no such prefix or is unknown.
        """
        facts = self.generator
        if facts is None or not facts.prefix or not facts.uniform_prefix or not facts.embedding:
            raise NotApplicable("the family has no base prefix that is known")
        prefix = facts.prefix
        prefixed = self.own_kinds.where(lambda n: n.startswith(prefix))
        # The body is told from the head by the first component: `lm_head`, `cls`, `score`.
        outside = {n.partition(".")[0] for n in facts.own}
        others = self.own_kinds.where(
            lambda n: not n.startswith(prefix) and n.partition(".")[0] not in outside
        )
        bare_embedding = facts.embedding.removeprefix(prefix)
        if bare_embedding not in self.tensors and not _same_blocks(others, prefixed, prefix):
            return prefix, [], prefixed
        return prefix, others, prefixed

    @cached_property
    def index_agrees(self) -> bool:
        """Whether the index places every tensor just where it is, and no copy is elsewhere."""
        c = self.checkpoint
        if c.index is None or c.shadows:
            return False
        return {name: tensor.file for name, tensor in c.tensors.items()} == c.index.weight_map

    # --- what the class promises ---

    @cached_property
    def fit(self) -> Fit | str:
        """How the tensors fit the class to be served, or why that cannot be known.

        Raises NotApplicable when there is no config of transformers to promise anything.
        """
        self.need_config()
        if self.target is not None:
            return self.fit_as(self.target.name)
        if self.declared_name is None:
            return "config.json names no class"
        return self.fit_as(families.modern_name(self.declared_name))

    @property
    def verbatim(self) -> bool:
        """Whether names and shapes are known to be those of a fresh save. Raises as `fit`."""
        return not isinstance(self.fit, str) and self.fit.verbatim

    def fit_as(self, class_name: str, *, raw: bool = False) -> Fit | str:
        """How the tensors fit a class under the config, or why that cannot be known.

        `raw` takes their names as they stand in the files, wrappers and all.
        """
        if self._unfit:
            return self._unfit
        if raw and self.quantisations:
            return "a quantisation is declared, and what a loader makes of it is not known"
        tensors = self.checkpoint.tensors if raw else self.tensors
        own = self.target is not None and class_name == self.target.name
        if own and "fit" in self.__dict__ and tensors.keys() == self.tensors.keys():
            return self.fit
        try:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            return fit(self._settings_for(class_name), class_name, shapes)
        except NotCovered as e:
            return e.reason

    def promise(self, class_name: str) -> Expectation | str:
        """What a class has under the config, whatever files are there, or why not known."""
        if self._untold:
            return self._untold
        try:
            return expectation(self._settings_for(class_name), class_name)
        except NotCovered as e:
            return e.reason

    def _settings_for(self, class_name: str) -> Mapping[str, object]:
        """The config from which a class is built: the text part for classes of text alone."""
        facts = families.class_facts(class_name)
        types = facts.model_types if facts else ()
        if self.text_level and self.model_type not in types:
            inner = self.text_settings.get("model_type")
            if isinstance(inner, str) and inner in types:
                return self.text_settings
        return self.settings

    def is_idle(self, name: str) -> bool:
        """Whether nothing that the class computes by default depends on a tensor: poolers."""
        heads = self.target is not None and self.target.task not in ("base", "encoder")
        return not heads and ".pooler." in f".{name}"

    @cached_property
    def elsewhere(self) -> Others:
        """The classes that the tensors fit exactly instead.

        None are looked for where another class is wanted than the declared one, or where the
        tensors are not known to be other ones.
        """
        found = self.fit
        if isinstance(found, str) or self.saved_as is not None or not found.unexpected:
            return Others()
        return others(self.settings, found)

    @cached_property
    def kin(self) -> tuple[str, ...]:
        """Those of the same model type, where the class to be served lacks tensors."""
        found = self.fit
        if isinstance(found, str) or not (found.missing or found.mismatched):
            return ()
        own = found.expected.model_type
        return tuple(name for name, kind in self.elsewhere.classes if kind == own)

    @cached_property
    def saved_as(self) -> ClassFacts | None:
        """The class in config.json, where another one is wanted; None otherwise."""
        if self.wanted is None or self.declared is None:
            return None
        return None if self.wanted.name == self.declared.name else self.declared

    def _strange(self, found: Fit) -> Fit:
        """A fit whose left over tensors belong to no class that is wanted or declared."""
        if self.saved_as is None:
            return found
        other = self.fit_as(self.saved_as.name)
        known = frozenset() if isinstance(other, str) else frozenset(other.unexpected)
        return replace(found, unexpected=tuple(n for n in found.unexpected if n in known))

    @cached_property
    def _unfit(self) -> str:
        """Why tensors cannot be held against a class, "" where they can."""
        return self.incomplete or self._untold

    @cached_property
    def _untold(self) -> str:
        """Why the class does not tell the names and shapes of the files, "" where it does."""
        if self.settings.get("auto_map"):
            return "the model brings its own code"
        if self.quantisations and not all(map(self.plain_though_declared, self.quantisations)):
            return "the weights are quantised"
        return self.packed

    @cached_property
    def quantisations(self) -> list[object]:
        """What config.json says about a quantisation, on any level."""
        keys = ("quantization_config", "compression_config")
        levels = (self.settings, self.text_settings)
        return [stated for level in levels for key in keys if (stated := level.get(key))]

    def plain_though_declared(self, stated: object) -> bool:
        """Whether a scheme that always packs weights is declared, and every tensor is plain."""
        method = stated.get("quant_method") if isinstance(stated, dict) else None
        if not isinstance(method, str) or method.lower() not in packing.STORED_PACKED:
            return False
        plain = all(t.dtype in FLOATS for t in self.tensors.values())
        return plain and not self.modules

    @cached_property
    def modules(self) -> tuple[Module, ...]:
        """The modules that are stored in parts, or whose weight is of a packed type."""
        return tuple(packing.modules(self.tensors, self.own_kinds))

    @cached_property
    def packed(self) -> str:
        """Why names and shapes are not those of plain weights, "" where they are."""
        if self.altered and self.kinds.first(is_adapter):
            return "an adapter is not merged"
        matrices = {t.dtype for t in self.tensors.values() if len(t.shape) == 2}
        return quantised(self.own_kinds, matrices) or ""

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

    def need_fit(self) -> Fit:
        """The same; raises CannotRun where it cannot be known."""
        if isinstance(self.fit, str):
            raise CannotRun(self.fit)
        return self.fit

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
        weights: dict[str, int] = {}
        for tensor in self.tensors.values():
            weights[tensor.dtype] = weights.get(tensor.dtype, 0) + tensor.nbytes
        dtype = max(weights, key=lambda d: (weights[d], d), default="F32")
        return dtype, span_bytes(dtype, shape) or 0

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

        The head's own weight counts only when it is known to be lost.
        """
        lost = [facts.head] if facts.head and self.head_is_lost else []
        for name in facts.own:
            module, _, kind = name.rpartition(".")
            if kind not in ("weight", "bias") or "*" in name or name in facts.ties:
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

    def need_bytes(self, tensor: Tensor) -> None:
        """Raise CannotRun when the bytes of a tensor are not all in its file."""
        for weight in self.checkpoint.weights:
            if weight.whole == tensor.span[:2] and tensor.span.end > weight.header.size:
                raise CannotRun(f"{weight.name} ends before the last byte of {tensor.name}")

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


def is_foreign_config(settings: Mapping[str, object]) -> bool:
    """Whether a config.json belongs to another library (diffusers, timm)."""
    own = "model_type" in settings or "architectures" in settings
    return not own and ("_class_name" in settings or "pretrained_cfg" in settings)


def missing_shards(names: list[str]) -> list[str]:
    """Names of shards that the numbering of the others calls for."""
    present: dict[tuple[str, int], set[int]] = {}
    for name in names:
        if shard := shard_of(name):
            present.setdefault((shard[0], shard[2]), set()).add(shard[1])
    return [
        f"{stem}-{k:05d}-of-{total:05d}.safetensors"
        for (stem, total), numbers in sorted(present.items())
        if total <= 100_000 and len(numbers) < total
        for k in range(1, total + 1)
        if k not in numbers
    ]


def _same_blocks(bare: list[str], prefixed: list[str], prefix: str) -> bool:
    """Whether layers stand under both roots and are made of the same parts.

    The parts are compared, since another family's layout may share the root and nothing else.
    """
    root = roots(bare).main
    if root is None or prefix + root not in roots(prefixed).counts:
        return False
    ours, theirs = _parts(bare, root), _parts(prefixed, prefix + root)
    return bool(ours) and ours <= theirs


def _parts(names: list[str], root: str) -> set[str]:
    """The names of the modules right below the layer number."""
    tails = (
        n.removeprefix(root + ".").partition(".")[2] for n in names if n.startswith(root + ".")
    )
    return {tail.partition(".")[0] for tail in tails}
