"""C: config.json against itself and against the tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tidoctor.atlas import families
from tidoctor.atlas.identity import HIDDEN
from tidoctor.checkpoint import CONFIG
from tidoctor.dtypes import DTYPES
from tidoctor.finding import Cure, Evidence, Finding, Location
from tidoctor.names import brief, printable
from tidoctor.patterns import Kinds, collapse, some_patterns, template
from tidoctor.rules.causes import sliced
from tidoctor.rules.likeness import likeness
from tidoctor.rules.packing import FLOATS
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
from tidoctor.rules.subject import LAYER_COUNTS, is_foreign_config
from tidoctor.rules.view import ADAPTER_CONFIG, MORE_ROWS, View

_DRAFT_PARTS = ("eh_proj", "enorm", "hnorm", "shared_head", "mtp")
_DRAFT_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
_LAYER = re.compile(r"(?:(?:model\.)?(?:language_model\.)?layers)\.([0-9]{1,9})\.")
_LAYER_PATH = re.compile(r".*?layers\.\d{1,9}\.")
_MTP = re.compile(r"(?:.*\.)?mtp(?:_layers|_block)?\..*")


@rule("C01", "config-absent")
def config_absent(view: View) -> Iterator[Finding]:
    """There is no config.json.

    Why: loaders cannot know the class, the number of heads, the rotary base, the epsilon. Some of
    it could be guessed from shapes, and a wrong guess computes nonsense.

    Recognised by: the files of the folder.

    Fine: a single file that was given by name; an adapter (C02); a component of a pipeline.

    Example: weights of a fine-tune that were uploaded without their config.

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

    Example: `adapter_config.json` and `adapter_model.safetensors`, and nothing else.

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
            ADAPTER_CONFIG if ADAPTER_CONFIG in c.files else c.weights[0].name
        ),
        evidence=(Evidence("folder", f"weights: {', '.join(w.name for w in c.weights)}"),),
        cure=advice(f"merge it into {printable(base)}" if base else "merge it into its base model"),
    )


def _adapter_base(view: View) -> str | None:
    data = view.adapter_config
    base = data.get("base_model_name_or_path") if isinstance(data, dict) else None
    return base if isinstance(base, str) and base else None


@rule("C03", "model-type")
def model_type(view: View) -> Iterator[Finding]:
    """`model_type` is missing, or unknown to the transformers that tidoctor knows.

    Why: transformers picks config and class by it and stops without it ("Should have a model_type
    key").

    Recognised by: the key in config.json.

    Fine: a newer family is unknown here and not wrong; `auto_map` brings its own code. Configs of
    other libraries (diffusers, timm) have no model_type.

    Example: `"architectures": ["LlamaForCausalLM"]` and no `model_type`.

    Cure: write the type of the class that `architectures` names.
    """
    settings = view.need_config()
    if view.model_type is None:
        facts = view.declared
        types = _own_types(facts.name, facts.model_types) if facts else ()
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


def _own_types(class_name: str, types: Sequence[str]) -> Sequence[str]:
    """Of several model types, the one that the class is named after."""
    squeezed = class_name.lower()
    named = [t for t in types if squeezed.startswith(t.replace("_", "").replace("-", ""))]
    return sorted(named, key=len)[-1:] if len(types) > 1 else types


@rule("C05", "vocab-size")
def vocab_size(view: View) -> Iterator[Finding]:
    """`vocab_size` is not the number of rows of the embedding.

    Why: transformers refuses the shapes and names only `ignore_mismatched_sizes`, which would fill
    both matrices with random numbers.

    Recognised by: the shape of the embedding, and of the head.

    Fine: a tokenizer smaller than the matrix is padding. Mllama has eight rows more.

    Example: `"vocab_size": 128256` over an embedding of 128260 × 4096.

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
    if not isinstance(view.fit, str):
        if sliced(view.fit.mismatched):
            return  # cut up like others, among them those that do not count tokens (D05)
        saved = view.fit.expected.saved or {}
        if saved.get(view.embedding) == tensor.shape:
            return  # the class counts the rows of this one by another field
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

    Example: `"num_nextn_predict_layers": 1` and no tensor of `model.layers.61`.

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
    beyond = [] if view.verbatim else _beyond(view.own_kinds, layers)
    if not count and not any(mark in n for n in beyond for mark in _DRAFT_PARTS):
        beyond = []  # layers like all others: the count is wrong (C06)
    stored = [*beyond, *view.own_kinds.where(_MTP.fullmatch)]
    stored = list(dict.fromkeys(stored))
    if not stored and not count:
        raise NotApplicable("there are no such layers, and none are declared")
    if stored and count:
        shared = _shared_with_body(view, beyond)
        said = "names", f"{some_patterns(shared)} are not stored: they are those of the model"
        yield found(
            NOTE,
            f"{len(stored)} tensors of layers that predict more tokens; transformers skips them",
            at=view.at(*path),
            tensors=tuple(view.tensors[n].name for n in stored),
            evidence=(
                Evidence(str(view.at(*path)), f"{'.'.join(path)} is {count}"),
                *((Evidence(*said, len(shared)),) if shared else ()),
            ),
            includes=("H09",) if shared else (),
            cure=consent(
                "nothing has to be done; for a server that asks for them, store copies",
                *(
                    {"op": "copy", "from": view.tensors[kept].name, "to": name}
                    for name, kept in shared.items()
                ),
            )
            if shared
            else None,
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


def _shared_with_body(view: View, beyond: Sequence[str]) -> dict[str, str]:
    """Embedding and head that a drafting layer has in some releases and shares in others.

    DeepSeek-V3 and GLM-4.5 store them again with the layer, GLM-4.6 does not.
    """
    layers = {_LAYER_PATH.match(n) for n in beyond if ".eh_proj." in n}
    shared = {}
    for layer in layers:
        for tail, kept in (("embed_tokens", view.embedding), ("shared_head.head", view.head)):
            name = f"{layer[0]}{tail}.weight" if layer else ""
            if layer and kept and name not in view.tensors:
                shared[name] = kept
    return dict(sorted(shared.items()))


def _beyond(names: Kinds, layers: object) -> list[str]:
    if type(layers) is not int or all(n < layers for n in names.numbers(_LAYER.match, 1)):
        return []
    return [n for n in names.where(_LAYER.match) if (m := _LAYER.match(n)) and int(m[1]) >= layers]


_NAMED = {
    "float64": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16",
}  # fmt: skip


@rule("C10", "dtype-contradicts")
def dtype_contradicts(view: View) -> Iterator[Finding]:
    """Most weights have another dtype than config.json declares.

    Why: trainers that keep their weights in F32 save those, and the files are twice as large as
    they were. Loaders that follow the config cast; those that follow the files need the memory.

    Recognised by: the dtype of most bytes of matrices against `dtype` or `torch_dtype`.

    Fine: norms, routers and states in F32 beside BF16 matrices; F32 that is declared; quantised
    weights, whose declared dtype is that of the computation.

    Example: `"torch_dtype": "bfloat16"` over F32 matrices, which take twice the space.

    Cure: a copy in the declared dtype (`tidoctor repair SOURCE DEST --dtype`), or the stored dtype
    declared. Casting to fewer bits cannot be taken back.
    """
    view.need_config()
    view.need_whole()
    key = "dtype" if view.setting("dtype")[0] is not None else "torch_dtype"
    value, path = view.setting(key)
    declared = _NAMED.get(value.removeprefix("torch.")) if isinstance(value, str) else None
    if declared is None:
        raise NotApplicable("config.json declares no float type")
    if view.packed or "quantization_config" in view.settings:
        raise NotApplicable("the weights are quantised")
    sizes = Counter[str]()
    for (dtype, shape), alike in view.own_forms.items():
        if len(shape) > 1 and dtype in FLOATS:
            sizes[dtype] += view.bytes_of(alike)
    total = sum(sizes.values())
    stored = max(sizes, key=lambda d: sizes[d], default=declared)
    yield from _odd_halves(view)
    if stored == declared or sizes[stored] * 2 <= total:
        return
    wider = DTYPES[stored].bits > DTYPES[declared].bits
    narrow = stored == "BF16" and declared == "F16"
    yield found(
        NOTE,
        f"{'.'.join(path)} is {brief(value)}, but most weights are {stored}"
        + (f": {total} bytes, and half would do" if wider and stored == "F32" else ""),
        at=view.at(*path),
        evidence=(
            Evidence(str(view.at(*path)), f"{'.'.join(path)} is {brief(value)}", value),
            Evidence(
                "size", f"{sizes[stored]} of {total} bytes of matrices are {stored}", dict(sizes)
            ),
        ),
        cure=consent(
            f"declare {stored}, or write a copy in {declared}",
            set_key(*path, value=next(n for n, d in _NAMED.items() if d == stored)),
        ),
        caution="numbers beyond 65504 become infinite in F16" if narrow else "",
    )


def _odd_halves(view: View) -> Iterator[Finding]:
    """A tensor of one 16-bit float where the same tensor of the other layers has the other one."""
    total = Counter[str]()
    for (dtype, _), alike in view.own_forms.items():
        total[dtype] += len(alike)
    if not {"F16", "BF16"} <= total.keys():
        return
    kinds: dict[object, dict[str, list[str]]] = {}
    for name, tensor in view.tensors.items():
        if tensor.dtype in ("F16", "BF16"):
            of_kind = kinds.setdefault(template(name)[0], {})
            of_kind.setdefault(tensor.dtype, []).append(name)
    odd = []
    for of_kind in kinds.values():
        if len(of_kind) == 2:
            few, many = sorted(of_kind, key=lambda d: (len(of_kind[d]), total[d]))
            rare = total[few] * 10 < total[many]
            odd += of_kind[few] if rare or len(of_kind[few]) < len(of_kind[many]) else []
    halves = {dtype: n for dtype, n in total.items() if dtype in ("F16", "BF16")}
    if not odd and len(halves) == 2 and min(halves.values()) == 1 and max(halves.values()) > 9:
        few = min(halves, key=lambda d: halves[d])
        yield _lone_half(view, next(n for n, t in view.tensors.items() if t.dtype == few))
    if not odd:
        return
    here = [view.tensors[n].name for n in odd]
    yield found(
        WARNING,
        f"{some_patterns(here)}: {view.tensors[odd[0]].dtype}, where the same tensors of other "
        "layers have the other 16-bit float",
        certainty=LIKELY,
        at=Location(view.tensors[odd[0]].file),
        tensors=tuple(here),
        evidence=(Evidence("names", some_patterns(here), len(here)),),
        caution="if only the label is wrong, every value is another one",
    )


def _lone_half(view: View, name: str) -> Finding:
    tensor = view.tensors[name]
    return found(
        NOTE,
        f"{printable(tensor.name)} is the only tensor of {tensor.dtype} among those of the other "
        "16-bit float",
        certainty=LIKELY,
        at=Location(tensor.file),
        tensors=(tensor.name,),
        evidence=(Evidence("names", f"{printable(tensor.name)} is {tensor.dtype}"),),
        caution="if only the label is wrong, every value is another one",
    )


@rule("C11", "config-not-strict")
def config_not_strict(view: View) -> Iterator[Finding]:
    """config.json is not strict JSON.

    Why: Python accepts NaN and Infinity, Go and Rust do not; a comma too many or a comment stops
    everyone.

    Recognised by: a strict parser.

    Fine: a repeated key is legal, though readers differ on which one counts: a warning.

    Example: `"attention_dropout": 0.0,}`, or `"time_step_limit": [0.0, Infinity]`.

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
    dtype_contradicts,
    config_not_strict,
)
