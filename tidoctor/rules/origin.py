"""X01: what the model that this one was made from has, and this one has not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from tidoctor.atlas.expectation import is_passing
from tidoctor.finding import Cure, Evidence, Finding, Operation
from tidoctor.names import printable
from tidoctor.patterns import collapse, some_patterns
from tidoctor.rules.rule import (
    LIKELY,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    advice,
    consent,
    found,
    rule,
)
from tidoctor.rules.view import View

# Words that name the whole or the text model in it, and come and go between generations of names.
_AROUND = frozenset({
    "model", "language_model", "text_model", "thinker", "llm", "transformer", "backbone",
    "gpt_neox", "vision_model",
})  # fmt: skip
_EXPERT = re.compile(r"\.experts(?:\.\d+)?\..+")
_QKV = re.compile(r"\.(?:[qkv]_proj|qkv_proj|query_key_value|qkv|Wqkv|query|key|value)\.")
_GATE_UP = re.compile(r"\.(?:gate_proj|up_proj|gate_up_proj)\.")


@rule("X01", "absent-from-source", absorbs=("C07", "C08"))
def absent_from_source(view: View) -> Iterator[Finding]:
    """The model that this one was made from has tensors that are not here.

    Why: exporters and merging tools write what their own model class knows. Layers for predicting
    several tokens, vision towers and projectors are left out without a word, and config.json still
    declares them.

    Recognised by: the names of both after the differences that mean nothing: prefixes of another
    generation, stacked experts, fused projections, the parts of quantised weights, a tied head,
    buffers. Needs the source: `--donor`.

    Fine: a head that is tied or that another rule speaks of; a part that was left out on purpose,
    as when only the text model was wanted.

    Example: a fine-tuned Qwen3.5 without the `mtp.*` tensors of its base.

    Cure: take the tensors of parts that were not trained from the source. What was trained is lost.
    """
    source = view.origin
    if source is None:
        raise NotApplicable("no source is given to compare with")
    view.need_whole()
    theirs = _keys(View(source))
    ours = _keys(view)
    gone = {key: name for key, name in theirs.items() if key not in ours}
    if len(gone) * 2 > len(theirs):
        raise CannotRun(f"most names of {printable(source.source.name)} are others than here")
    forms = _forms(ours)
    gone = {k: n for k, n in gone.items() if not _in_another_form(k, forms, ours)}
    spoken = {view.head_name, *(view.missing_parts(view.target) if view.target else ())}
    names = [n for n in gone.values() if n not in spoken and n.split(".")[-2:] != ["lm_head",
             "weight"] and not is_passing(n)]  # fmt: skip
    if not names:
        return
    size = sum(source.tensors[n].nbytes for n in names if n in source.tensors)
    cure = _grafts(ours, theirs, names)
    yield found(
        WARNING,
        f"{len(names)} tensors of {printable(source.source.name)} are not here: "
        f"{some_patterns(names)}",
        certainty=PROVEN if cure else LIKELY,
        at=view.at("architectures"),
        tensors=tuple(names),
        evidence=(
            *(
                Evidence("names", f"{printable(p)}: {len(m)} tensors", len(m))
                for p, m in collapse(names)[:6]
            ),
            Evidence("size", f"{size} bytes in the source", size),
        ),
        cure=cure or advice("take them from the source under the names that are used here"),
        caution="only parts that were not trained are the same in the source",
    )


def _keys(view: View) -> dict[str, str]:
    """What a tensor is, without the words around it and without its storage -> its name."""
    parts = {n: m.stem for m in view.modules for n in m.parts.values()}
    found: dict[str, str] = {}
    for name, tensor in view.tensors.items():
        plain = f"{parts[name]}.weight" if name in parts else name
        words = plain.split(".")
        key = ".".join(w for i, w in enumerate(words) if w not in _AROUND or i == len(words) - 1)
        found.setdefault(key, tensor.name)
    return found


def _forms(keys: Mapping[str, str]) -> set[str]:
    """The keys without what tells one form of experts and projections from another."""
    return {_form(k) for k in keys}


def _form(key: str) -> str:
    key = _EXPERT.sub(".experts", key)
    return _GATE_UP.sub(".gate+up.", _QKV.sub(".q+k+v.", key))


def _in_another_form(key: str, forms: set[str], ours: Mapping[str, str]) -> bool:
    """Whether it is here stacked, fused, or apart; one of several that are apart is not."""
    form = _form(key)
    if form == key or form not in forms:
        return False
    expert = _EXPERT.search(key)
    numbered = bool(re.search(r"\.experts\.\d+\.", key))
    for other in ours:
        if _form(other) == form and (
            bool(re.search(r"\.experts\.\d+\.", other)) != numbered
            if expert
            else _fused(other) != _fused(key)
        ):
            return True
    return False


def _fused(key: str) -> bool:
    return bool(re.search(r"qkv|query_key_value|gate_up", key))


def _grafts(ours: Mapping[str, str], theirs: Mapping[str, str], names: list[str]) -> Cure | None:
    """Taking them as they are called there, where both call what they share alike."""
    shared = Counter(ours[key] == theirs[key] for key in theirs.keys() & ours.keys())
    if shared[False] or not shared[True]:
        return None
    steps: list[Operation] = [{"op": "graft", "tensor": n} for n in names]
    # A part may have been left out on purpose: naming the source is not yet the wish for it.
    cure = consent(f"take {len(names)} tensors from the source", *steps, needs="donor")
    return cure._replace(needs=("donor", "accept"))


RULES = (absent_from_source,)
