"""C12: the names of another family."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding
from tidoctor.names import printable, some
from tidoctor.patterns import collapse, some_patterns
from tidoctor.rules.fitting import Fit
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    PROVEN,
    WARNING,
    NotApplicable,
    consent,
    found,
    rule,
    set_key,
)
from tidoctor.rules.subject import GENERATING
from tidoctor.rules.view import View
from tidoctor.rules.wording import misfit_row


@rule("C12", "names-of-another-family", absorbs=("H10", "H03"))
def names_of_another_family(view: View) -> Iterator[Finding]:
    """The tensors are those of another class than config.json names.

    Why: model_type or architectures was copied from another model, or a script converted the one
    and not the other. transformers leaves out what the class does not know, and starts with random
    numbers whatever has no tensor.

    Recognised by: another class that gives exactly these names and shapes under the values of this
    config. For a class that is not known to every tensor: no name at all where it has them.

    Fine: llama-compatible files under `llama` on purpose; there the tensors fit.

    Example: `"model_type": "llama"` over tensors with `self_attn.q_norm.weight` (Qwen3).

    Cure: set model_type and architectures to the family that the tensors belong to, or convert the
    names.
    """
    view.need_config()
    view.need_whole()
    if isinstance(view.fit, str) or view.account.unknown:
        yield from _no_name_of_the_class(view)
        return
    own = view.fit.expected
    if view.account.alien:
        yield found(
            ERROR,
            f"{view.fit.without} of {view.fit.needed} tensors of {own.class_name} are not stored "
            f"under the names it has; {len(view.fit.unexpected)} stand under others",
            at=view.at("architectures"),
            evidence=_difference(view, view.fit),
            not_="training on: what the class does not find starts from random numbers",
        )
        return
    elsewhere = view.account.elsewhere
    if elsewhere is None:
        return
    fitting = [name for name, _ in elsewhere.classes]
    operations = [set_key("architectures", value=[fitting[0]])]
    if (model_type := elsewhere.classes[0][1]) != view.model_type:
        operations.append(set_key("model_type", value=model_type))
    only = len(fitting) == 1 and elsewhere.complete
    yield found(
        ERROR,
        f"the tensors are not those of {own.class_name}; they are exactly those of "
        f"{some(fitting, 3)}",
        certainty=PROVEN if only else LIKELY,
        at=view.at("model_type"),
        evidence=_difference(view, view.fit),
        cure=consent(
            f"set model_type to {model_type} and architectures to {fitting[0]}", *operations
        )
        if only
        else None,
        not_="training on: what the class does not know would be left out",
    )


def _difference(view: View, fit: Fit) -> tuple[Evidence, ...]:
    rows = []
    if fit.unexpected:
        rows.append(
            Evidence(
                "names",
                f"{fit.expected.class_name} has no place for {some_patterns(fit.unexpected)}",
                len(fit.unexpected),
            )
        )
    if fit.missing:
        names = [gap.name for gap in fit.missing]
        rows.append(
            Evidence(
                "names", f"{fit.expected.class_name} needs {some_patterns(names)}", len(names)
            )
        )
    rows += [misfit_row(m) for m in fit.mismatched[:3]]
    return tuple(rows)


def _no_name_of_the_class(view: View) -> Iterator[Finding]:
    facts = view.declared
    if facts is None or facts.task not in GENERATING or not facts.embedding or not view.tensors:
        raise NotApplicable("the names of this class are not known")
    if view.model_type not in facts.model_types:
        raise NotApplicable("class and model_type are of two families")
    tail, prefix = f".{facts.embedding}", facts.prefix or "\0"
    inside = view.own_kinds.first(lambda n: n.endswith(tail))  # at another depth
    known = view.embedding or view.head or view.body_is_there or inside
    if known or view.wrappers or view.own_kinds.first(lambda n: n.startswith(prefix)):
        return
    shown = ", ".join(printable(p) for p, _ in collapse(view.tensors)[:3])
    yield found(
        WARNING,
        f"no tensor has a name of {facts.name}: {shown}, …",
        certainty=LIKELY,
        at=view.at("architectures"),
        evidence=(Evidence("names", f"{facts.name} has {facts.embedding}"),),
        not_="training on: every weight would start from random numbers",
    )


RULES = (names_of_another_family,)
