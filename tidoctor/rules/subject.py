"""Who is under examination: names without wrappers, the class that is served, what is complete.

Everything here is derived once from the immutable checkpoint and from what was asked for. Wrappers
around names are peeled off first, so that a head called `module.lm_head.weight` is a head.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property

from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts
from tidoctor.checkpoint import CONFIG, Checkpoint, shard_of
from tidoctor.errors import Usage
from tidoctor.finding import Location
from tidoctor.names import brief, printable, some
from tidoctor.patterns import Kinds
from tidoctor.rules.rule import CannotRun, NotApplicable
from tidoctor.tensors import Forms, Tensor, forms, homes
from tidoctor.wrappers import is_altered, modern, peel, without_adapter, without_infixes

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


class Subject:
    """One checkpoint, and the class that it must serve.

    `wanted` is that class, or a task such as `causal-lm`; None leaves the choice to config.json.
    Raises Usage for a class or task that nobody knows.
    """

    def __init__(self, checkpoint: Checkpoint, wanted: str | None = None) -> None:
        self.checkpoint = checkpoint
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
    def forms(self) -> Forms:
        """The names in the files by dtype and shape."""
        return forms(self.checkpoint.tensors)

    @cached_property
    def own_forms(self) -> Forms:
        """The canonical names by dtype and shape."""
        return self.forms if self.tensors is self.checkpoint.tensors else forms(self.tensors)

    def bytes_of(self, alike: Sequence[str]) -> int:
        """Length in bytes of tensors of one dtype and shape, under their canonical names."""
        return len(alike) * self.tensors[alike[0]].nbytes

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

    @cached_property
    def index_agrees(self) -> bool:
        """Whether the index places every tensor just where it is, and no copy is elsewhere."""
        c = self.checkpoint
        if c.index is None or c.shadows:
            return False
        here = homes(c.tensors)
        return c.index.weight_map is here or c.index.weight_map == here


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
