"""N07: a part of a model under the class of the whole, or the reverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidoctor.atlas import families
from tidoctor.finding import Evidence, Finding
from tidoctor.names import printable, some
from tidoctor.patterns import some_patterns
from tidoctor.rules.causes import AROUND_TEXT
from tidoctor.rules.fitting import Fit
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    CannotRun,
    advice,
    found,
    rule,
)
from tidoctor.rules.subject import GENERATING
from tidoctor.rules.view import View
from tidoctor.rules.wording import class_cure, model_type_row, place, renaming_cure


@rule("N07", "part-of-another-class", absorbs=("C12", "C07", "N14", "H08"))
def part_of_another_class(view: View) -> Iterator[Finding]:
    """A text class with the names of a multimodal model, or the other way round.

    Why: a part was saved with the names of the whole, or the whole was declared as its part.
    transformers finds nothing where the class looks and starts with random numbers.

    Recognised by: the same names and shapes but for the words that stand around the text model
    (`language_model`, `thinker`); or class and model_type of two kinds, of which the other one fits
    exactly.

    Fine: multimodal names under a multimodal class, in the spelling of any release. Single tensors
    that the class has no place for (a head of pretraining) are a note.

    Example: `Gemma3ForCausalLM` over `language_model.model.…` and `vision_tower.…`.

    Cure: name the class that fits, or rename the tensors of the part. Parts that are gone have to
    come from the source.
    """
    view.need_config()
    view.need_whole()
    if isinstance(view.fit, str):
        yield from _declared_as_a_part(view)
        return
    account = view.account
    if account.elsewhere and (whole := _of_the_model_type(view, account.elsewhere.classes)):
        yield _class_of_a_part(view, whole)
        return
    around = [r for r in account.renamed if r.around_text]
    if not around:
        if account.unknown or account.alien:
            yield from _text_alone(view, view.fit)
        elif account.rest:
            yield _left_over(view, account.rest)
        return
    pairs = [pair for r in around for pair in r.pairs]
    inner = all(len(r.old) > len(r.new) for r in around)
    here = [view.tensors[old].name for old, _ in pairs]
    name = view.fit.expected.class_name
    rest = [n for n in view.fit.unexpected if n not in {old for old, _ in pairs}]
    lost = [gap.name for gap in account.gaps]
    words = around[0].old if inner else around[0].new
    said = (
        f"{len(here)} tensors stand under `{printable(words)}`, where {name} has none"
        if inner
        else f"{len(here)} tensors lack the `{words}` that {name} puts around its text model"
    )
    yield found(
        ERROR,
        said + (f"; {len(lost)} tensors of its other parts are not stored" if lost else ""),
        at=place(view, pairs[0][0]),
        tensors=tuple(here + lost),
        evidence=(
            Evidence("names", f"stored: {some_patterns(here)}", len(here)),
            Evidence("names", f"{name} has {some_patterns([new for _, new in pairs])}"),
            *((Evidence("names", f"also stored: {some_patterns(rest)}"),) if rest else ()),
        ),
        cure=renaming_cure(view, around) if not lost else None,
    )


def _left_over(view: View, names: Sequence[str]) -> Finding:
    here = [view.tensors[n].name for n in names]
    many = "tensor is" if len(here) == 1 else "tensors are"
    return found(
        NOTE,
        f"{len(here)} {many} stored that {view.need_fit().expected.class_name} has no place for",
        at=place(view, names[0]),
        tensors=tuple(here),
        evidence=(Evidence("names", some_patterns(here), len(here)),),
        caution="transformers passes over them; strict loaders refuse what they do not know",
    )


def _of_the_model_type(view: View, classes: Sequence[tuple[str, str]]) -> str | None:
    """Of the classes that fit, the generating one of this model type, where the declared is not."""
    facts = view.declared
    if facts is None or view.wanted is not None or view.model_type in facts.model_types:
        return None
    fitting = [n for n, model_type in classes if model_type == view.model_type]
    known = [f for n in fitting if (f := families.class_facts(n)) and f.task in GENERATING]
    return known[0].name if known and facts.task in GENERATING else None


def _class_of_a_part(view: View, whole: str) -> Finding:
    named = view.declared.name if view.declared else ""
    return found(
        ERROR,
        f"architectures names {named}; config and tensors are those of {whole}",
        at=view.at("architectures"),
        evidence=(
            model_type_row(view),
            Evidence("names", f"all {len(view.tensors)} tensors are those of {whole}"),
        ),
        cure=class_cure(whole),
    )


def _declared_as_a_part(view: View) -> Iterator[Finding]:
    """`architectures` names another kind of class than model_type, which fits exactly."""
    facts = view.declared
    reason = view.fit if isinstance(view.fit, str) else ""
    if facts is None or view.model_type is None or view.wanted is not None:
        raise CannotRun(reason)
    if view.model_type in facts.model_types or not facts.model_types:
        yield from _text_by_its_embedding(view, reason)
        return
    other = families.class_for(view.model_type, "image-text-to-text") or families.class_for(
        view.model_type, "causal-lm"
    )
    if other is None or other == facts.name:
        raise CannotRun(reason)
    fit = view.fit_as(other)
    if isinstance(fit, str):
        raise CannotRun(fit)
    if fit.missing or fit.mismatched or fit.unexpected or fit.unclear:
        return
    yield _class_of_a_part(view, other)


def _text_by_its_embedding(view: View, reason: str) -> Iterator[Finding]:
    """The text model of a class whose tensors are not known one by one, told by the embedding."""
    facts = view.declared
    whole = facts.embedding if facts else None
    bare = view.embedding
    if facts is None or not whole or not bare or not whole.endswith(f".{bare}"):
        raise CannotRun(reason)
    around = whole.removesuffix(f".{bare}")
    roots = {n.partition(".")[0] for n in view.tensors}
    text = {bare.partition(".")[0], (facts.head or "").rpartition(".weight")[0].split(".")[-1]}
    if not AROUND_TEXT.fullmatch(around) or not roots <= text:
        raise CannotRun(reason)
    yield found(
        ERROR,
        f"only a text model is stored, without the `{around}` that {facts.name} puts around it; "
        "its other parts are not there",
        certainty=LIKELY,
        at=view.at("architectures"),
        tensors=(whole,),
        evidence=(
            Evidence("names", f"{printable(bare)} is stored, {facts.name} has {whole}"),
            Evidence("names", f"nothing is stored outside {some(sorted(roots), 4)}"),
        ),
        cure=advice(
            f"put `{around}.` in front and take the other parts from the model it was tuned from, "
            "or declare the class of the text model"
        ),
    )


def _text_alone(view: View, fit: Fit) -> Iterator[Finding]:
    """The text model of a multimodal class alone, told by its embedding."""
    promised = fit.expected.saved or fit.expected.memory
    why = view.account.unknown or "most tensors stand under names that are not those of the class"
    for bare in ("model.embed_tokens.weight", "embed_tokens.weight"):
        if bare in view.tensors and bare not in promised:
            whole = next((n for n in promised if n.endswith(f".{bare}")), None)
            break
    else:
        raise CannotRun(why)
    if whole is None or any(n.startswith(whole.split(".")[0] + ".") for n in view.tensors if
                            not whole.startswith("model.")):  # fmt: skip
        raise CannotRun(why)
    around = whole.removesuffix(f".{bare}")
    roots = {n.split(".")[0] for n in promised} - {n.split(".")[0] for n in view.tensors}
    if not AROUND_TEXT.fullmatch(around) or not roots:
        raise CannotRun(why)
    yield found(
        ERROR,
        f"only a text model is stored, without the `{around}` that {fit.expected.class_name} puts "
        "around it; its other parts are not there",
        certainty=LIKELY,
        at=view.at("architectures"),
        evidence=(
            Evidence("names", f"{bare} is stored, {fit.expected.class_name} has {whole}"),
            Evidence("names", f"nothing is stored under {some(sorted(roots), 4)}"),
        ),
    )


RULES = (part_of_another_class,)
