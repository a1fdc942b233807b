"""C: config.json against itself and against the tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidoctor.atlas import families
from tidoctor.atlas.identity import HIDDEN
from tidoctor.checkpoint import CONFIG
from tidoctor.finding import Cure, Evidence, Finding, Location
from tidoctor.names import brief, collapse, printable
from tidoctor.rules.causes import sliced
from tidoctor.rules.likeness import likeness
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    WARNING,
    CannotRun,
    NotApplicable,
    advice,
    consent,
    found,
    rule,
    safe,
    set_key,
)
from tidoctor.rules.view import FLOATS, LAYER_COUNTS, MORE_ROWS, View, is_foreign_config

_DRAFT_PARTS = ("eh_proj", "enorm", "hnorm", "shared_head", "mtp")
_DRAFT_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
_LAYER = re.compile(r"(?:(?:model\.)?(?:language_model\.)?layers)\.(\d{1,9})\.")
_MTP = re.compile(r"(?:.*\.)?mtp(?:_layers|_block)?\..*")


@rule("C01", "config-absent")
def config_absent(view: View) -> Iterator[Finding]:
    """There is no config.json.

    Why: loaders cannot know the class, the number of heads, the rotary base, the epsilon. Some of
    it could be guessed from shapes, and a wrong guess computes nonsense.

    Recognised by: the files of the folder.

    Fine: a single file that was given by name; an adapter (C02); a component of a pipeline.

    Cure: take it from the model that this one was made from. The shapes tell which classes it may
    be and a part of the fields; the others are marked, and have to be known from elsewhere.
    """
    c = view.checkpoint
    if c.entrance == "adapter":
        raise NotApplicable("the folder holds an adapter")
    if c.source.kind == "file":
        raise NotApplicable("one file was chosen")
    if c.config is not None:
        return
    like = likeness(view)
    evidence = [Evidence("folder", f"holds {', '.join(map(printable, list(c.files)[:5]))}")]
    if view.tensors:
        names = [each.class_name for each in like.exact]
        evidence.append(Evidence("tensors", printable(like.told()), names))
    if fixed := like.fixed():
        evidence.append(Evidence("shapes", f"fix {printable(fixed)}", like.fields))
    if left_open := like.left_open():
        fact = f"leave open {printable(left_open)}"
        evidence.append(Evidence("shapes", fact, like.undetermined))
    cure = "take config.json from the model that this one was made from"
    if proposal := like.proposal():
        fact = "what it would have to say, with the fields marked that are not determined"
        evidence.append(Evidence("config.json", fact, proposal))
        cure += f"; {HIDDEN}"
    yield found(
        ERROR,
        "there is no config.json",
        at=Location(c.weights[0].name) if c.weights else None,
        evidence=tuple(evidence),
        cure=advice(cure),
    )


@rule("C02", "adapter-only", absorbs=("C01", "H02", "N01", "S11"))
def adapter_only(view: View) -> Iterator[Finding]:
    """The folder holds an adapter, not a model.

    Why: opened as a model it has no config.json, or one without model_type. It needs its base.

    Recognised by: adapter_config.json or adapter_model.safetensors, and no model weights.

    Fine: an adapter beside a complete model.

    Cure: load the base and put the adapter on top, or merge both.
    """
    c = view.checkpoint
    if c.entrance != "adapter":
        raise NotApplicable("there are model weights")
    base = _adapter_base(view)
    yield found(
        ERROR,
        "this is an adapter, not a model" + (f"; its base is {printable(base)}" if base else ""),
        at=Location(
            "adapter_config.json" if "adapter_config.json" in c.files else c.weights[0].name
        ),
        evidence=(Evidence("folder", f"weights: {', '.join(w.name for w in c.weights)}"),),
        cure=advice(f"merge it into {printable(base)}" if base else "merge it into its base model"),
    )


def _adapter_base(view: View) -> str | None:
    from tidoctor.document import parse

    c = view.checkpoint
    size = c.files.get("adapter_config.json")
    if size is None:
        return None
    data = parse(c.source.read("adapter_config.json", 0, min(size, 1_000_000))).data
    base = data.get("base_model_name_or_path") if isinstance(data, dict) else None
    return base if isinstance(base, str) and base else None


@rule("C03", "model-type")
def model_type(view: View) -> Iterator[Finding]:
    """`model_type` is missing, or unknown to the transformers that tidoctor knows.

    Why: transformers picks config and class by it and stops without it ("Should have a model_type
    key").

    Recognised by: the key.

    Fine: a newer family is unknown here and not wrong; `auto_map` brings its own code. Configs of
    other libraries (diffusers, timm) have no model_type.

    Cure: write the type of the class that `architectures` names.
    """
    settings = view.need_config()
    if view.model_type is None:
        facts = view.declared
        types = facts.model_types if facts else ()
        cure: Cure | None = None
        if len(types) == 1:
            cure = consent(
                f'write "model_type": "{types[0]}"', set_key("model_type", value=types[0])
            )
        yield found(
            ERROR,
            "model_type is not written; transformers cannot choose a class",
            at=view.at(),
            evidence=(Evidence(CONFIG, "there is no key model_type"),),
            cure=cure,
        )
    elif not families.known_model_type(view.model_type):
        own = "auto_map" in settings
        yield found(
            NOTE,
            f"model_type {brief(view.model_type)} is not one of transformers "
            f"{families.transformers_version()}" + ("; it brings its own code" if own else ""),
            certainty=LIKELY,
            at=view.at("model_type"),
            evidence=(
                Evidence(str(view.at("model_type")), f"model_type is {brief(view.model_type)}"),
            ),
        )


@rule("C05", "vocab-size")
def vocab_size(view: View) -> Iterator[Finding]:
    """`vocab_size` is not the number of rows of the embedding.

    Why: transformers refuses the shapes and names only `ignore_mismatched_sizes`, which would fill
    both matrices with random numbers.

    Recognised by: the shape of the embedding, and of the head.

    Fine: a tokenizer smaller than the matrix is padding. Mllama has eight rows more.

    Cure: set vocab_size to the number of rows, where both matrices agree.
    """
    view.need_config()
    facts = view.generator or view.target
    if facts is None or not view.embedding:
        raise NotApplicable("the embedding of this class is not known")
    if view.declared and view.declared.task in ("other", "pretraining"):
        raise NotApplicable("how this class counts its vocabulary is not known")
    if view.model_type in MORE_ROWS:
        raise NotApplicable("the embedding of this family has further rows")
    value, path = view.setting("vocab_size")
    tensor = view.tensors[view.embedding]
    if not isinstance(value, int) or isinstance(value, bool):
        raise CannotRun("vocab_size is not written; the default of the class decides")
    if tensor.dtype not in FLOATS or len(tensor.shape) != 2 or tensor.shape[0] == value:
        return
    if not isinstance(view.fit, str) and sliced(view.fit.mismatched):
        return  # cut up like others, among them those that do not count tokens (D05)
    rows = tensor.shape[0]
    head = view.tensors[view.head] if view.head else None
    agree = head is None or head.shape[:1] == (rows,)
    yield found(
        ERROR,
        f"vocab_size is {value}, the embedding has {rows} rows",
        at=view.at(*path),
        tensors=(tensor.name, *((head.name,) if head and agree else ())),
        evidence=(
            Evidence(str(view.at(*path)), f"{'.'.join(path)} is {value}", value),
            Evidence("shapes", f"{printable(tensor.name)} has {rows} rows", rows),
            *(
                (Evidence("shapes", f"{printable(head.name)} has {head.shape[0]} rows"),)
                if head and head.shape
                else ()
            ),
        ),
        cure=consent(
            f"set {'.'.join(path)} to {rows}",
            set_key(*path, value=rows),
        )
        if agree
        else None,
        not_="ignore_mismatched_sizes=True: both matrices become random",
    )


@rule("C08", "mtp-layers")
def mtp_layers(view: View) -> Iterator[Finding]:
    """Layers for predicting several tokens: stored and not declared, or declared and not stored.

    Why: transformers ignores them either way. Servers that speculate with them look for exactly
    what the config declares.

    Recognised by: `mtp.*`, layers beyond the number of hidden layers, and the count in the config.

    Fine: declared and stored; transformers reports them as unexpected.

    Cure: set the count to what is there, or take the layers from the source.
    """
    view.need_config()
    view.need_whole()
    layers = next(
        (view.setting(k)[0] for k in LAYER_COUNTS if view.setting(k)[0] is not None), None
    )
    key = next((k for k in _DRAFT_COUNTS if view.setting(k)[0] is not None), None)
    declared, path = view.setting(key) if key else (None, ())
    count = declared if isinstance(declared, int) else 0
    beyond = [n for n in view.tensors if _beyond(n, layers)]
    if not count and not any(mark in n for n in beyond for mark in _DRAFT_PARTS):
        beyond = []  # layers like all others: the count is wrong (C06)
    stored = [*beyond, *(n for n in view.tensors if "mtp" in n and _MTP.fullmatch(n))]
    stored = list(dict.fromkeys(stored))
    if not stored and not count:
        raise NotApplicable("there are no such layers, and none are declared")
    if stored and count:
        yield found(
            NOTE,
            f"{len(stored)} tensors of layers that predict more tokens; transformers skips them",
            at=view.at(*path),
            tensors=tuple(view.tensors[n].name for n in stored),
            evidence=(Evidence(str(view.at(*path)), f"{'.'.join(path)} is {count}"),),
        )
    elif stored:
        shown = ", ".join(printable(p) for p, _ in collapse(stored)[:2])
        yield found(
            NOTE,
            f"{len(stored)} tensors beyond the declared layers: {shown}",
            certainty=LIKELY,
            at=view.at(*path) if key else view.at(),
            tensors=tuple(view.tensors[n].name for n in stored),
            evidence=(Evidence("names", shown),),
        )
    else:
        yield found(
            NOTE,
            f"{'.'.join(path)} is {count}, but no such layer is stored",
            at=view.at(*path),
            evidence=(Evidence(str(view.at(*path)), f"{'.'.join(path)} is {count}"),),
            cure=consent(f"set {'.'.join(path)} to 0", set_key(*path, value=0)),
            caution="a server that speculates with these layers fails or falls back",
        )


def _beyond(name: str, layers: object) -> bool:
    layer = _LAYER.match(name)
    return layer is not None and type(layers) is int and int(layer[1]) >= layers


@rule("C11", "config-not-strict")
def config_not_strict(view: View) -> Iterator[Finding]:
    """config.json is not strict JSON.

    Why: Python accepts NaN and Infinity, Go and Rust do not; a comma too many or a comment stops
    everyone.

    Recognised by: a strict parser.

    Fine: a repeated key is legal, though readers differ on which one counts: a warning.

    Cure: write the same values as strict JSON. NaN and Infinity cannot be said in it: there the
    value has to be chosen by who knows the model.
    """
    config = view.checkpoint.config
    if config is None:
        raise NotApplicable("there is no config.json")
    problems = config.problems
    if not problems and not isinstance(config.data, dict):
        yield found(
            ERROR,
            "config.json is not a JSON object",
            at=Location(CONFIG, 1),
            evidence=(Evidence(CONFIG, f"it is {type(config.data).__name__}"),),
        )
        return
    if not problems:
        return
    repeated = all(p.kind == "duplicate-key" for p in problems)
    tidied = config.readable and not is_foreign_config(view.settings) and not repeated
    try:
        cure = (
            safe("write the same values as strict JSON", {"op": "tidy"})
            if tidied and config.tidy().strict
            else None
        )
    except ValueError:
        cure = None
    yield found(
        WARNING if repeated else ERROR,
        f"config.json is not strict JSON: {problems[0].text}",
        at=Location(CONFIG, problems[0].line),
        evidence=tuple(Evidence(f"{CONFIG}:{p.line}", p.text, p.kind) for p in problems[:8]),
        cure=cure,
    )


RULES = (
    config_absent,
    adapter_only,
    model_type,
    vocab_size,
    mtp_layers,
    config_not_strict,
)
