"""H02, H03, H12: the output head."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.atlas import families
from tidoctor.checkpoint import CONFIG
from tidoctor.finding import Evidence, Finding, Location, Severity
from tidoctor.names import printable
from tidoctor.rules.ends import graft_cure, is_draft, need_ends, tie_place
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    consent,
    found,
    rename,
    rule,
    safe,
)
from tidoctor.rules.view import MORE_ROWS, View
from tidoctor.rules.wording import shape_text
from tidoctor.tensors import Tensor

_HEADED_TASKS = (
    "sequence-classification", "token-classification", "question-answering",
    "image-classification",
)  # fmt: skip


@rule("H02", "head-lost", absorbs=("H06", "H07"))
def head_lost(view: View) -> Iterator[Finding]:
    """The head is not stored, and it was a tensor of its own.

    Why: transformers 5 puts random numbers in its place and mentions it in a report; version 4 logs
    a line; other engines tie silently. In each case the logits are wrong.

    Recognised by: no head in the files, a tie flag that is effectively false, and a class that
    needs one.

    Fine: embedding and reward models have no head by design (H03); a tied model needs none (H01).

    Example: Llama-3.1-8B saved through AutoModel: `"tie_word_embeddings": false`, no
    `lm_head.weight`.

    Cure: take the head from the model that this one was tuned from, if it was frozen in training.
    Otherwise only the training run still has it.
    """
    need_ends(view)
    if not view.head_is_lost or (view.embedding_model and view.wanted is None):
        return
    embedding = view.tensors[view.embedding or ""]
    renamed = _head_under_another_name(view, embedding)
    if renamed:
        yield _misnamed(view, renamed)
        return
    certain = view.generator is not None and view.target is not None
    yield found(
        ERROR if certain else WARNING,
        f"{view.head_name} is lost: it is not stored, and it is not tied to the embedding",
        certainty=PROVEN if certain else LIKELY,
        at=tie_place(view),
        tensors=(view.head_name,),
        evidence=(
            *view.tie.evidence,
            Evidence("names", f"no tensor is called {view.head_name}"),
            Evidence(
                "size",
                f"a head of {shape_text(embedding.shape)} {embedding.dtype} takes "
                f"{embedding.nbytes} bytes",
                embedding.nbytes,
            ),
        ),
        cure=graft_cure(view.head_name),
        caution="if the head was trained, only the training run still has it",
        not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong",
    )


def _head_under_another_name(view: View, embedding: Tensor) -> str | None:
    """A matrix of the head's shape that has no place, or outside the body; if there is only one."""
    facts = view.generator
    if view.head_is_unread:
        unread = view.need_fit().unexpected
        strays = [n for n in unread if view.tensors[n].shape == embedding.shape]
        if len(strays) == 1:
            return strays[0]
    if facts is None or not facts.prefix:
        return None
    if not (view.embedding or "").startswith(facts.prefix):
        return None  # a bare body: its other matrices stand at the top as well
    found_here = [
        n
        for n, t in view.tensors.items()
        if t.shape == embedding.shape and not n.startswith(facts.prefix) and n.count(".") <= 2
    ]
    return found_here[0] if len(found_here) == 1 else None


def _misnamed(view: View, name: str) -> Finding:
    actual = view.tensors[name].name
    return found(
        ERROR,
        f"{view.head_name} is not stored; {printable(actual)} has its shape",
        certainty=LIKELY,
        at=tie_place(view),
        tensors=(view.head_name, actual),
        evidence=(
            *view.tie.evidence,
            Evidence("shapes", f"{printable(actual)} is {shape_text(view.tensors[name].shape)}"),
        ),
        cure=(safe if name in families.HEADS else consent)(
            f"rename {printable(actual)} to {view.head_name}", rename(actual, view.head_name)
        ),
        not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong",
    )


@rule("H03", "no-head-by-design")
def no_head_by_design(view: View) -> Iterator[Finding]:
    """There is no output head, and there should be none.

    Why: embedding models and classifiers of a generating family have a body only, or a task head.
    Opened as a generator they compute nonsense.

    Recognised by: the class in config.json, or the files of sentence-transformers.

    Fine: this is the healthy state of such models.

    Example: Qwen3-Embedding-8B, whose class is `Qwen3ForCausalLM` and beside which `1_Pooling`
    stands.

    Cure: none needed.
    """
    view.need_config()
    facts = view.declared
    marker = view.embedding_model
    task = bool(facts and facts.task in _HEADED_TASKS)
    if not view.generator or not view.head_is_absent or not (marker or task) or not view.embedding:
        return
    if view.wanted is not None and view.must_generate:
        return
    if view.tie.meant is True and not task:
        return  # a tied head is not absent
    because = (
        f"{marker} stands beside the model" if marker else f"the class is {facts and facts.name}"
    )
    yield found(
        NOTE,
        f"no output head, by design: {because}",
        at=view.at("architectures"),
        evidence=(Evidence(marker or CONFIG, because),),
    )


@rule("H12", "head-rows-differ")
def head_rows_differ(view: View) -> Iterator[Finding]:
    """Head and embedding have different numbers of rows.

    Why: one of them was resized or padded alone. transformers refuses the one that does not fit
    `vocab_size`.

    Recognised by: the shapes of both.

    Fine: Mllama (eight more rows in the embedding), CPM-Ant, and draft models with a reduced
    vocabulary.

    Example: `lm_head.weight` 32000 × 4096, `model.embed_tokens.weight` 32064 × 4096.

    Cure: none that is safe; find out which of the two fits the tokenizer.
    """
    need_ends(view)
    if not view.head or not view.embedding:
        return
    head, embedding = view.tensors[view.head], view.tensors[view.embedding]
    plain = head.dtype in FLOATS and embedding.dtype in FLOATS
    if not plain or len(head.shape) != 2 or len(embedding.shape) != 2:
        return
    if head.shape[0] == embedding.shape[0]:
        return
    wrong = () if isinstance(view.fit, str) else view.fit.mismatched
    if not is_draft(view) and view.head in {m.name for m in wrong}:
        return  # the one that does not fit is told with its shape (C06)
    right = view.model_type in MORE_ROWS or is_draft(view)
    severity: Severity = NOTE if right else WARNING
    yield found(
        severity,
        f"the head has {head.shape[0]} rows, the embedding {embedding.shape[0]}"
        + (", as in every model of this kind" if right else ""),
        at=Location(head.file),
        tensors=(head.name, embedding.name),
        evidence=(
            Evidence("shapes", f"{printable(head.name)} {shape_text(head.shape)}"),
            Evidence("shapes", f"{printable(embedding.name)} {shape_text(embedding.shape)}"),
        ),
    )


RULES = (head_lost, no_head_by_design, head_rows_differ)
