"""H08: the embedding."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import printable
from tidoctor.rules.ends import graft_cure, need_text_generator
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    found,
    rename,
    rule,
    safe,
)
from tidoctor.rules.view import View


@rule("H08", "embedding-absent", absorbs=("H06", "H09"))
def embedding_absent(view: View) -> Iterator[Finding]:
    """The embedding is not stored, or only under the name of the head.

    Why: savers that keep the first of two shared tensors by alphabet (safetensors.torch.save_model,
    save_torch_state_dict) drop the embedding of a tied model. transformers 4.51 to 4.57 leave it
    empty and fail in the first forward; other loaders ask for the embedding.

    Recognised by: the names; an entry in `__metadata__` such as
    `"model.embed_tokens.weight": "lm_head.weight"` proves that the two are one.

    Fine: another member of a larger tied group (`shared` of T5); an embedding that is quantised.

    Example: `lm_head.weight` and no `model.embed_tokens.weight` after `save_model`.

    Cure: for a tied model, call it by the name of the embedding. For an untied one the embedding is
    lost.
    """
    need_text_generator(view)
    if view.embedding:
        return
    facts = view.generator
    wanted = facts.embedding if facts else None
    if not wanted:
        raise CannotRun("what the embedding of this class is called is not known")
    if any(n.startswith(wanted.removesuffix(".weight") + ".") for n in view.tensors):
        return  # a quantised embedding
    twins = (
        [a for a, kept in facts.ties.items() if kept == wanted and a != view.head] if facts else []
    )
    if any(twin in view.tensors for twin in twins):
        raise NotApplicable("another member of the tied group is stored")
    if not view.body_is_there:
        raise CannotRun("the names do not follow the layout of the class")
    if not view.head:
        _no_other_name(view)
        yield _embedding_lost(view, wanted)
        return
    head = view.tensors[view.head]
    alias = any(
        w.header.metadata and w.header.metadata.get(wanted) == head.name
        for w in view.checkpoint.weights
    )
    tied = alias or view.tie.meant
    evidence = (
        *view.tie.evidence,
        Evidence("names", f"{printable(head.name)} is there, {wanted} is not"),
        *(
            (Evidence(head.file, f"__metadata__ says that {wanted} is {printable(head.name)}"),)
            if alias
            else ()
        ),
    )
    if tied:
        yield found(
            WARNING,
            f"{wanted} is stored under the name of the head, {printable(head.name)}",
            at=Location(head.file),
            tensors=(head.name, wanted),
            evidence=evidence,
            cure=safe(f"rename it to {wanted}", rename(head.name, wanted)),
            caution="transformers 4.44 to 4.50 start both from random numbers in Whisper and BART",
        )
        return
    _no_other_name(view)
    yield found(
        ERROR,
        f"{wanted} is lost: it is not stored, and not tied to the head",
        certainty=PROVEN if tied is False else LIKELY,
        at=Location(head.file),
        tensors=(wanted,),
        evidence=(
            *evidence,
            Evidence("transformers 5", "uses the head as embedding if the flag is true, silently"),
        ),
        cure=graft_cure(wanted),
        not_=f"renaming {printable(head.name)}: the input would be read through the output matrix",
    )


def _no_other_name(view: View) -> None:
    """Raise CannotRun when another matrix may be the embedding under a name that is not known."""
    rows, _ = view.setting("vocab_size")
    alike = [
        t.name
        for n, t in view.tensors.items()
        if n != view.head and len(t.shape) == 2 and t.shape[0] == rows
    ]
    if alike:
        raise CannotRun(f"{printable(alike[0])} has a row for each token and may be the embedding")


def _embedding_lost(view: View, wanted: str) -> Finding:
    rows, _ = view.setting("vocab_size")
    return found(
        ERROR,
        f"{wanted} is lost: it is not stored, nor is a head that it could be tied to",
        at=view.at("vocab_size") if rows is not None else view.at(),
        tensors=(wanted, *((view.head_name,) if view.tie.meant is False else ())),
        evidence=(Evidence("names", f"no tensor is called {wanted}"),),
        cure=graft_cure(wanted),
    )


RULES = (embedding_absent,)
