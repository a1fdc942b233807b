"""What rules about head and embedding, the two ends of a model, have in common."""

from __future__ import annotations

from tidoctor.finding import Cure, Location, Operation
from tidoctor.rules.rule import CannotRun, NotApplicable, consent
from tidoctor.rules.view import View


def need_text_generator(view: View) -> None:
    """Stop unless the checkpoint must have, or be able to have, an output head."""
    view.need_config()
    if not view.must_generate and not (view.target is None and view.generator):
        raise NotApplicable("the class has no output head")
    facts = view.generator
    if facts and (facts.head is None or "embed_tokens" in facts.head):  # FSMT: an embedding
        raise NotApplicable("the class has no single output head of its own")
    view.need_whole()


def need_ends(view: View) -> None:
    """Stop unless head or embedding can be told by their names."""
    need_text_generator(view)
    if not view.embedding and not view.head:
        raise CannotRun("neither head nor embedding has a name that is known")


def tie_place(view: View) -> Location:
    """Where the tie is written, else config.json."""
    if view.text_level and "tie_word_embeddings" in view.text_settings:
        if "tie_word_embeddings" in view.settings:
            return view.at("tie_word_embeddings")
        return view.at(view.text_level, "tie_word_embeddings")
    return view.at("tie_word_embeddings")


def is_draft(view: View) -> bool:
    """Whether it drafts for another model, with a vocabulary of its own."""
    return "draft_vocab_size" in view.settings


def other_ends(view: View) -> dict[str, str]:
    """The embeddings of encoder and decoder that the class ties, and what to."""
    ties = view.generator.ties if view.generator else {}
    return {a: kept for a, kept in ties.items() if ".embed_tokens." in a and a != view.head_name}


def graft_cure(name: str) -> Cure:
    """Taking the head or the embedding from a donor."""
    return consent(
        f"take {name} from the model it was tuned from",
        {"op": "graft", "tensor": name},
        needs="donor",
    )


def stored_ends(view: View) -> list[Operation]:
    """Copies of the embedding under the names that untying makes tensors of their own."""
    return [
        {"op": "copy", "from": view.tensors[kept].name, "to": end}
        for end, kept in other_ends(view).items()
        if end not in view.tensors and kept in view.tensors
    ]
