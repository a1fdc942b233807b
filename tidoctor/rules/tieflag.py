"""H06, H07: the flag that ties head and embedding."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding
from tidoctor.names import brief
from tidoctor.rules.ends import is_draft, need_ends, need_text_generator, tie_place
from tidoctor.rules.rule import LIKELY, NOTE, PROVEN, WARNING, consent, found, rule
from tidoctor.rules.view import View


@rule("H06", "tie-flag-absent")
def tie_flag_absent(view: View) -> Iterator[Finding]:
    """`tie_word_embeddings` is not written: the default of the class decides.

    Why: the defaults differ (true for gemma, gpt2, opt and bloom, false for llama, qwen and
    mistral), and readers that take a missing flag for false or for true get it wrong for the other
    half.

    Recognised by: no such key at the top or in text_config.

    Fine: transformers 4 leaves it out when it has the default of the class.

    Example: a GPT-2 or Gemma config of transformers 4, in which the key never stood.

    Cure: write the value that the tensors imply.
    """
    need_ends(view)
    tie = view.tie
    if tie.key_written:
        return
    implied = True if view.head_is_absent else view.head_equals_embedding
    known = tie.meant is not None
    if known and view.head_is_absent and tie.meant is False:
        implied = None  # the head is lost: what the flag should say is not for the file to tell
    if not known and view.head_is_absent and view.embedding_model:
        return
    operations = view.flag_operations(implied) if implied is not None and known else []
    yield found(
        NOTE,
        "tie_word_embeddings is not written; "
        + (
            f"the class ties by default: {'yes' if tie.meant else 'no'}"
            if known
            else "what holds for this class is not known here"
        ),
        certainty=PROVEN if known else LIKELY,
        at=view.at(),
        evidence=tie.evidence,
        cure=consent("write it explicitly", *operations) if operations else None,
    )


@rule("H07", "tie-flag-disputed")
def tie_flag_disputed(view: View) -> Iterator[Finding]:
    """transformers 4 and 5 read the tie flag of this config differently.

    Why: in composite models version 4 asks `text_config` alone and version 5 the top level, each
    with defaults of its own. The same file is tied in one and untied in the other.

    Recognised by: both values, resolved for each version.

    Fine: version 5 writes some families this way itself (mistral3); as long as nobody loads the
    file with version 4, nothing happens.

    Example: `"tie_word_embeddings": true` at the top, false in `text_config`.

    Cure: write the same value on both levels.
    """
    need_text_generator(view)
    tie = view.tie
    root = view.settings.get("tie_word_embeddings")
    if is_draft(view) and root is True and _own_rows(view):
        yield _draft_cannot_tie(view)
        return
    nested = view.text_settings.get("tie_word_embeddings") if view.text_level else None
    unequal = root is not None and nested is not None and bool(root) != bool(nested)
    lonely = bool(
        view.text_level
        and view.generator
        and view.generator.nested
        and (root is None) != (nested is None)
    )
    if not tie.disputed and not unequal and not lonely:
        return
    facts = view.generator
    # transformers 5 itself writes some families so that version 4 sees no tie (mistral3).
    habit = facts is not None and facts.tie_default_v5 is True and facts.tie_default_v4 is False
    severity = WARNING if tie.disputed and tie.meant is None else NOTE
    if tie.disputed and view.head_is_absent and not (tie.writer == 5 and habit):
        severity = WARNING
    said = (
        f"transformers 4 takes the head as {_said(tie.v4)}, transformers 5 as {_said(tie.v5)}"
        if tie.disputed
        else "the tie flag stands on one level only, which some readers ignore"
        if lonely
        else "the two levels of the tie flag contradict each other"
    )
    value = tie.meant
    cure = None
    if value is not None and not (view.head_is_absent and (habit or value is False)):
        cure = consent("write the same value on both levels", *view.flag_operations(value))
    caution = ""
    if view.head_is_absent and cure:
        caution = "if there was a head, writing true silences the version that misses it"
    yield found(
        severity, said, at=tie_place(view), evidence=tie.evidence, cure=cure, caution=caution
    )


def _own_rows(view: View) -> bool:
    """Whether head and embedding are stored with different numbers of rows."""
    head, embedding = view.tensors.get(view.head or ""), view.tensors.get(view.embedding or "")
    return head is not None and embedding is not None and head.shape[:1] != embedding.shape[:1]


def _draft_cannot_tie(view: View) -> Finding:
    return found(
        WARNING,
        "tie_word_embeddings is true, but this draft model has a head for a vocabulary of its own",
        at=tie_place(view),
        evidence=(
            *view.tie.evidence,
            Evidence(
                str(view.at("draft_vocab_size")),
                f"draft_vocab_size is {brief(view.settings.get('draft_vocab_size'))}",
            ),
        ),
        cure=consent("set tie_word_embeddings to false", *view.flag_operations(False)),
    )


def _said(value: bool | None) -> str:
    return "unknown" if value is None else "tied" if value else "untied"


RULES = (tie_flag_absent, tie_flag_disputed)
