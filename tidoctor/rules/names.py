"""N: tensor names, from wrappers around all of them to a damaged suffix."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding
from tidoctor.names import printable
from tidoctor.patterns import some_patterns
from tidoctor.rules.renaming import line_of, renames, renaming
from tidoctor.rules.rule import ERROR, LIKELY, NOTE, WARNING, NotApplicable, found, rule
from tidoctor.rules.subject import GENERATING
from tidoctor.rules.view import View
from tidoctor.wrappers import WRAPPER_INFIXES, WRAPPER_PREFIXES, modern, without_infixes

_WEIGHT_NORM = re.compile(r"(.*)\.(weight_g|weight_v)")
_PARAMETRIZED = re.compile(r"(.*)\.parametrizations\.weight\.original[01]")
_OWN_PARTS = frozenset({
    "model", "transformer", "language_model", "text_model", "text_encoder", "encoder", "decoder",
    "backbone", "gpt_neox",
})  # fmt: skip
_SUBCLASS = re.compile(r"(.*\.weight)\.(_data|_scale|_zero_point)")
_SEQUENTIAL_HEAD = re.compile(
    r"((?:language_model\.|model\.)?(?:lm_head|embed_out))\.0\.(weight|bias)"
)
_NUMBERED_HEAD = re.compile(
    r"(?:language_model\.|model\.)?(?:lm_head|embed_out)\.[0-9]+\.(?:weight|bias)"
)
# Modules that are plain matrices or norms in every family that has them. Packed experts
# (`experts.down_proj`) are parameters of that name and legally carry no suffix.
_MODULES = re.compile(
    r"(?:.*\.)?(?:lm_head|embed_out|embed_tokens|wte|word_embeddings"
    r"|(?:self_attn|attention|attn)\.(?:[qkvo]_proj|qkv_proj|out_proj|dense|c_attn|c_proj)"
    r"|mlp\.(?:gate_proj|up_proj|down_proj|gate_up_proj|fc1|fc2|c_fc|c_proj)"
    r"|(?:input|post_attention)_layernorm|(?:model|transformer)\.norm)"
)


def _not_adapter(view: View) -> None:
    if view.checkpoint.entrance == "adapter":
        raise NotApplicable("the folder holds an adapter")


@rule("N01", "wrapper-prefix", absorbs=("C12", "N07", "N14"))
def wrapper_prefix(view: View) -> Iterator[Finding]:
    """A training wrapper stands in front of the names: `module.`, `_orig_mod.` and their like.

    Why: transformers finds none of the tensors and starts with random weights; it says so only in a
    report. The state dict was taken from the wrapped model.

    Recognised by: more than half of the names carry the prefix; combinations are peeled one after
    the other. Also a whole set one level too deep (`model.model.layers`, `model.lm_head`).

    Fine: `model.model.` occurs in composite classes; it is claimed only when the head, too, is one
    level deeper.

    Example: `module._orig_mod.model.layers.0.mlp.up_proj.weight`.

    Cure: strip the prefix. Headers and index change, no tensor does.
    """
    _not_adapter(view)
    if view.wrappers:
        names = view.kinds.in_order(view.wrapped)
        kinds = dict.fromkeys(view.wrappers)
        who = ", ".join(f"`{p}` ({WRAPPER_PREFIXES[p]})" for p in kinds)
        operations = renames(view, names, view.unwrapped)
        yield found(
            ERROR,
            f"{len(names)} of {len(view.checkpoint.tensors)} names carry the wrapper {who}",
            at=line_of(view, names[0]),
            tensors=tuple(names),
            evidence=(Evidence("names", some_patterns(names), list(view.wrappers)),),
            cure=renaming(operations, f"strip {''.join(view.wrappers)} from {len(names)} names"),
        )
        return
    facts = view.declared
    if facts is None or not facts.embedding or facts.embedding in view.tensors:
        return
    if view.model_type not in facts.model_types or not facts.own:
        return  # another class may wrap this one (ShieldGemma around Gemma 3), or a base its body
    tail = "." + facts.embedding
    inner = next((n for n in view.checkpoint.tensors if n.endswith(tail)), None)
    extra = inner.removesuffix(facts.embedding) if inner else ""
    # Only when the head, too, is deeper: composite models nest a part and keep others beside it.
    if not extra or not all(n.startswith(extra) for n in view.checkpoint.tensors):
        return
    own = _OWN_PARTS.intersection(extra.split("."))
    heads = [facts.head] if facts.task in GENERATING else facts.own
    if own and not any(f"{extra}{head}" in view.checkpoint.tensors for head in heads):
        return
    operations = renames(view, view.checkpoint.tensors, lambda n: n.removeprefix(extra))
    yield found(
        ERROR,
        f"every name is too deep: {some_patterns([extra + facts.embedding])} stands where "
        f"{facts.embedding} belongs",
        at=line_of(view, extra + facts.embedding),
        tensors=tuple(view.checkpoint.tensors),
        evidence=(Evidence("names", f"all of them start with {printable(extra)}", extra),),
        cure=renaming(operations, f"strip `{printable(extra)}` from every name"),
    )


@rule("N02", "wrapper-infix")
def wrapper_infix(view: View) -> Iterator[Finding]:
    """A wrapper stands inside the path: `layers.0._checkpoint_wrapped_module.mlp`.

    Why: transformers does not find these tensors and leaves them random.

    Recognised by: the component itself; only some layers may have it.

    Fine: the same words elsewhere in a name (`orig_model`): whole components count.

    Example: `model.layers.0._checkpoint_wrapped_module.mlp.up_proj.weight`.

    Cure: strip it. Headers and index change, no tensor does.
    """
    names = view.kinds.where(
        lambda n: without_infixes(view.unwrapped(n)) != view.unwrapped(n)
    )
    if not names:
        return
    who = [w for w in WRAPPER_INFIXES if any(f".{w}." in n for n in names)]
    operations = renames(view, names, without_infixes)
    yield found(
        ERROR,
        f"{len(names)} names carry the wrapper "
        + ", ".join(f"`{w}` ({WRAPPER_INFIXES[w]})" for w in who),
        at=line_of(view, names[0]),
        tensors=tuple(names),
        evidence=(Evidence("names", some_patterns(names), who),),
        cure=renaming(operations, f"strip it from {len(names)} names"),
    )


@rule("N04", "bare-layout")
def bare_layout(view: View) -> Iterator[Finding]:
    """The tensors of the body stand without the base prefix: `layers.0` for `model.layers.0`.

    Why: the file was saved from the bare base class. transformers puts the prefix back itself,
    except that version 4 calls a file with a bare body and a head "corrupted"; most other loaders
    want the prefix.

    Recognised by: the embedding and the layers without the prefix that the family has.

    Fine: GPT-2 and BLOOM were published bare; embedding models are bare on purpose; T5 has no
    prefix.

    Example: `layers.0.mlp.up_proj.weight` in a Llama, beside `embed_tokens.weight`.

    Cure: put the prefix in front. Headers and index change, no tensor does.
    """
    prefix, bare, prefixed = view.layout
    if not bare or prefixed:
        return
    facts = view.generator
    mixed = view.head is not None and bool(view.declared and view.declared.task != "base")
    here = [view.tensors[n].name for n in bare]  # a wrapper may still stand around them
    operations = renames(view, here, lambda n: prefix + _canonical(view, n))
    summary = f"put `{prefix}` in front of {len(bare)} names"
    yield found(
        WARNING if mixed else NOTE,
        f"{len(bare)} of {len(view.checkpoint.tensors)} tensors lack the prefix `{prefix}` of "
        f"{facts.name if facts else 'this family'}",
        at=line_of(view, here[0]),
        tensors=tuple(here),
        evidence=(Evidence("names", some_patterns(here)),),
        cure=renaming(operations, summary),
    )


def _canonical(view: View, name: str) -> str:
    return without_infixes(view.unwrapped(name))


@rule("N05", "mixed-layout", absorbs=("N04",))
def mixed_layout(view: View) -> Iterator[Finding]:
    """Some tensors of the body carry the base prefix, others do not.

    Why: transformers 4 leaves those without it random; version 5 reads both.

    Recognised by: the same layers under two roots.

    Fine: a head at the top beside a prefixed body is the normal layout.

    Example: `layers.0.…` and `model.layers.1.…` in one file.

    Cure: put the prefix in front of the bare ones.
    """
    prefix, bare, prefixed = view.layout
    if not bare or not prefixed:
        return
    here = [view.tensors[n].name for n in bare]
    operations = renames(view, here, lambda n: prefix + _canonical(view, n))
    yield found(
        ERROR,
        f"{len(bare)} tensors of the body stand without the prefix `{prefix}`, {len(prefixed)} "
        "with it",
        at=line_of(view, here[0]),
        tensors=tuple(here),
        evidence=(
            Evidence("names", f"without: {some_patterns(here)}"),
            Evidence("names", f"with: {some_patterns(prefixed)}"),
        ),
        cure=renaming(operations, f"put `{prefix}` in front of {len(bare)} names"),
    )


@rule("N11", "legacy-names")
def legacy_names(view: View) -> Iterator[Finding]:
    """Parameter names of an older generation: `LayerNorm.gamma`, or the two forms of weight norm.

    Why: transformers renames them while loading; converters to other formats often do not.

    Recognised by: the suffix, `gamma` and `beta` only below a module called `LayerNorm`.

    Fine: `gamma` is a real name in ConvNeXt and layer-scale blocks. Weight norm has two spellings,
    `weight_g`/`weight_v` and `parametrizations.weight.original0`/`1`: each is right for its torch.

    Example: `bert.embeddings.LayerNorm.gamma`.

    Cure: rename `gamma` to `weight` and `beta` to `bias`. For weight norm nothing has to be done.
    """
    old = view.kinds.where(lambda n: modern(n) != n)
    if old:
        operations = renames(view, old, modern)
        yield found(
            NOTE,
            f"{len(old)} LayerNorm parameters are called gamma and beta, as in TensorFlow",
            at=line_of(view, old[0]),
            tensors=tuple(old),
            evidence=(Evidence("names", some_patterns(old)),),
            cure=renaming(operations, f"rename {len(old)} parameters"),
        )
    normed = view.kinds.where(lambda n: _WEIGHT_NORM.fullmatch(n) or _PARAMETRIZED.fullmatch(n))
    if normed:
        new = bool(_PARAMETRIZED.fullmatch(normed[0]))
        yield found(
            NOTE,
            f"{len(normed)} parameters of weight norm in the "
            f"{'newer' if new else 'older'} spelling; readers of the other one rename",
            at=line_of(view, normed[0]),
            tensors=tuple(normed),
            evidence=(Evidence("names", some_patterns(normed)),),
        )


@rule("N12", "wrapped-module")
def wrapped_module(view: View) -> Iterator[Finding]:
    """A tensor of a wrapped module or tensor subclass: `lm_head.0.weight`, `weight._data`.

    Why: no loader looks there; the module stays random, or a quantised tensor lies in pieces.

    Recognised by: a head with a number in its path; `._data` and `._scale` behind `weight`.

    Fine: a Sequential elsewhere (`mlp.0.weight` in projectors).

    Example: `lm_head.0.weight`; `model.layers.0.mlp.up_proj.weight._data`.

    Cure: `lm_head.0.weight` is renamed. The pieces of a tensor subclass have to be dequantised by
    the library that made them.
    """
    names = view.checkpoint.tensors
    # With a second number it is a list of heads, one for each codebook or further token.
    heads = [
        n
        for n in view.kinds.where(_NUMBERED_HEAD.fullmatch)
        if _SEQUENTIAL_HEAD.fullmatch(n) and n.replace("head.0.", "head.1.") not in names
    ]
    if heads:
        operations = renames(view, heads, lambda n: _SEQUENTIAL_HEAD.sub(r"\1.\2", n))
        yield found(
            ERROR,
            f"the head is wrapped in a Sequential: {some_patterns(heads)}",
            at=line_of(view, heads[0]),
            tensors=tuple(heads),
            evidence=(Evidence("names", some_patterns(heads)),),
            cure=renaming(operations, "rename it"),
        )
    pieces = view.kinds.where(_SUBCLASS.fullmatch)
    if pieces:
        yield found(
            ERROR,
            f"{len(pieces)} tensors are pieces of a quantised tensor: {some_patterns(pieces)}",
            at=line_of(view, pieces[0]),
            tensors=tuple(pieces),
            evidence=(Evidence("names", some_patterns(pieces)),),
        )


@rule("N13", "damaged-suffix")
def damaged_suffix(view: View) -> Iterator[Finding]:
    """A name has lost its `.weight`, or has it twice.

    Why: no loader repairs it; the module stays random. More often the fault is in code that asks
    for a module (`lm_head`) where it should ask for its tensor (`lm_head.weight`).

    Recognised by: a module that is a matrix or a norm in every family, without suffix.

    Fine: packed experts, `A_log`, `D`, `dt_bias`, `sinks` and the like have no suffix.

    Example: `lm_head` for `lm_head.weight`, `model.norm.weight.weight`.

    Cure: rename it; header and index change, no tensor does.
    """
    names = view.checkpoint.tensors
    cut = [
        n
        for n in view.kinds.where(lambda n: _MODULES.fullmatch(view.unwrapped(n)))
        if names[n].shape and f"{n}.weight" not in names
    ]
    twice = view.kinds.where(lambda n: n.endswith(".weight.weight"))
    if not cut and not twice:
        return
    operations = renames(
        view,
        cut + twice,
        lambda n: n.removesuffix(".weight") if n.endswith(".weight.weight") else n + ".weight",
    )
    what = f"{len(cut)} names lack `.weight`" if cut else f"{len(twice)} names have `.weight` twice"
    yield found(
        ERROR,
        f"{what}: {some_patterns(cut + twice)}",
        at=line_of(view, (cut + twice)[0]),
        tensors=tuple(cut + twice),
        evidence=(Evidence("names", some_patterns(cut + twice)),),
        cure=renaming(operations, f"rename {len(cut) + len(twice)} tensors"),
    )


@rule("N15", "names-cut", absorbs=("C12", "N07", "N14"))
def names_cut(view: View) -> Iterator[Finding]:
    """Every name has lost the same number of characters at its start.

    Why: a script stripped a wrapper prefix by length, not by content: `der.layers` is what is left
    of `model.decoder.layers`. No loader finds anything.

    Recognised by: all names start with the tail of the path that the family's embedding has, and
    the tail begins inside a component.

    Fine: short names of a family of its own; every one has to be the tail of an expected name.

    Example: `yers.0.mlp.up_proj.weight`: six characters of every name are gone.

    Cure: put the characters back.
    """
    facts = view.generator
    if facts is None or not facts.embedding or facts.embedding in view.tensors:
        raise NotApplicable("the embedding has its full name, or is not known")
    full = facts.embedding
    names = list(view.checkpoint.tensors)
    cut = next(
        (
            k
            for k in range(1, len(full))
            if full[k:] in view.tensors and full[k - 1] != "." and full[k] != "."
        ),
        None,
    )
    if cut is None:
        return
    fragment = full[cut:].partition(".")[0] + "."
    if not all(n.startswith(fragment) for n in names):
        return
    operations = renames(view, names, lambda n: full[:cut] + n)
    yield found(
        ERROR,
        f"every name has lost its first {cut} characters: {printable(fragment)}… for "
        f"{full[:cut]}{printable(fragment)}…",
        certainty=LIKELY,
        at=line_of(view, names[0]),
        tensors=tuple(names),
        evidence=(Evidence("names", f"{some_patterns([full[cut:]])} where {full} belongs", cut),),
        cure=renaming(operations, f"put `{full[:cut]}` in front of {len(names)} names"),
    )


RULES = (
    wrapper_prefix,
    wrapper_infix,
    bare_layout,
    mixed_layout,
    legacy_names,
    wrapped_module,
    damaged_suffix,
    names_cut,
)
