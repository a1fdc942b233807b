"""H01, H04, H05, H09: one matrix under two names, stored once, twice, or as two."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.atlas import families
from tidoctor.checkpoint import CONFIG
from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import brief, printable
from tidoctor.rules.ends import (
    is_draft,
    need_ends,
    need_text_generator,
    other_ends,
    stored_ends,
    tie_place,
)
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    NotApplicable,
    consent,
    found,
    rename,
    rule,
    safe,
)
from tidoctor.rules.view import MORE_ROWS, View
from tidoctor.rules.wording import shape_text

# Run with five releases and a probe of 23 more.
_DROPPED_BY_4 = Evidence(
    "transformers 4.43 to 4.57",
    "drop the head of the file and use the embedding, and say nothing (4.40 and 4.41 the reverse)",
)
_SCALED_BY_4 = Evidence(
    "transformers 4",
    "scales the output of the decoder as well: transformers 5 wrote true whatever was there before",
)


@rule("H01", "head-tied", absorbs=("H06",))
def head_tied(view: View) -> Iterator[Finding]:
    """The head is not stored because it is the embedding.

    Why: it is how transformers saves a tied model, and nothing is missing. Loaders that ignore
    tying ask for lm_head.weight all the same: candle before 0.7.2, LoRAX and some versions of
    text-generation-inference.

    Recognised by: no head in the files, an embedding, and a tie flag that is effectively true.

    Fine: this is the healthy state. Do not set the flag to false.

    Example: Llama-3.2-1B: `"tie_word_embeddings": true` and no `lm_head.weight`.

    Cure: none needed. For a loader that insists, `tidoctor untie` writes a copy that stores the
    head and keeps the flag.
    """
    need_ends(view)
    if not view.head_is_absent or not view.embedding or view.tie.meant is not True:
        return
    embedding = view.tensors[view.embedding]
    # Of a group of four (T5), readers that know no ties ask for each of the others.
    # Where the group is stored under another name than transformers keeps, H09 speaks of it.
    group = view.generator.ties.values() if view.generator else ()
    kept = all(keeper in view.tensors for keeper in group)
    ends = [end for end in other_ends(view) if kept and end not in view.tensors]
    yield found(
        NOTE,
        f"{view.head_name} is not stored: it is tied to {printable(view.embedding)}",
        at=tie_place(view),
        evidence=(
            *view.tie.evidence,
            *((Evidence("names", f"{' and '.join(ends)} are tied to it as well"),) if ends else ()),
            *_zeroed_bias(view),
        ),
        cure=safe(
            f"nothing has to be done; for a loader that asks for {view.head_name}, store a copy "
            f"({embedding.nbytes} bytes more)",
            command=view.command("untie"),
        ),
        caution=_once_untied(view),
        includes=("H09",) if ends else (),
    )


def _zeroed_bias(view: View) -> tuple[Evidence, ...]:
    """The bias of a masked language model under the one name that version 4 writes."""
    ties = view.generator.ties if view.generator else {}
    pairs = [(a, kept) for a, kept in ties.items() if a.endswith(".bias") and kept in view.tensors]
    return tuple(
        Evidence(
            "transformers 4.44 to 4.50",
            f"leave {alias} zero: it is stored as {kept} alone, and nothing is said",
        )
        for alias, kept in pairs
        if alias not in view.tensors
    )


def _once_untied(view: View) -> str:
    if view.settings.get("scale_decoder_outputs") is False and view.tie.v5:
        return (
            "scale_decoder_outputs is false, so this T5 was configured as untied: if it ever had a "
            "head of its own, that head is lost, and transformers 5 does not say so"
        )
    if view.tie.disputed and view.tie.v4 is False:
        return (
            "for transformers 4 this config is untied: if the model ever had a head of its own, it "
            "is lost, and transformers 5 does not say so"
        )
    return ""


@rule("H04", "head-redundant", absorbs=("H06",))
def head_redundant(view: View) -> Iterator[Finding]:
    """The head is stored and equals the embedding.

    Why: nothing is wrong with the values. Some readers of tied models refuse the extra tensor
    (mergekit, the GGUF converter for some families), others insist on it.

    Recognised by: comparing the bytes of both.

    Fine: official repositories are saved this way.

    Example: Qwen1.5-0.5B stores `lm_head.weight` although it is tied.

    Cure: none needed; `tidoctor tie` writes a copy without it.
    """
    need_ends(view)
    if view.head_equals_embedding is not True:
        return
    head = view.tensors[view.head or ""]
    tied = view.tie.meant
    yield found(
        NOTE,
        f"{printable(head.name)} equals the embedding byte for byte"
        + ("" if tied else ", though config.json does not tie them"),
        at=tie_place(view),
        tensors=(head.name,),
        evidence=(
            *view.tie.evidence,
            Evidence("bytes", f"{head.nbytes} bytes of both compared: equal", head.nbytes),
        ),
        cure=safe(
            f"nothing has to be done; a copy without it is {head.nbytes} bytes smaller",
            command=view.command("tie"),
        ),
    )


@rule("H05", "head-differs", absorbs=("H06", "H07"))
def head_differs(view: View) -> Iterator[Finding]:
    """The head is stored and differs from the embedding, though the config ties them.

    Why: every transformers 4 drops the head of the file and uses the embedding instead, without a
    word. transformers 5 keeps both. Training with an untied head and an old config makes such
    files.

    Recognised by: comparing bytes, and the tie flag that is effectively true.

    Fine: head and embedding that are equal (H04); a draft model with a vocabulary of its own.

    Example: `lm_head.weight` trained on its own under `"tie_word_embeddings": true`.

    Cure: set the flag to false on every level that exists. Both tensors are kept, since either may
    be the trained one.
    """
    need_ends(view)
    tie = view.tie
    if view.head_equals_embedding is False and _default_of_unknown_config(view):
        yield _differs_by_default(view)
        return
    if view.head_equals_embedding is not False or (tie.meant is False and not tie.v4):
        return
    if not tie.v4 and not tie.v5:
        return
    head, embedding = view.tensors[view.head or ""], view.tensors[view.embedding or ""]
    same_shape = head.shape == embedding.shape
    if not same_shape and (is_draft(view) or view.model_type in MORE_ROWS):
        return
    facts = view.generator
    # A T5 that transformers 5 saved again: right for version 5, silently wrong in version 4.
    resaved = view.settings.get("scale_decoder_outputs") is False
    severity = WARNING if resaved or tie.disputed else ERROR
    never = facts is not None and (facts.always_tied is False or facts.head not in facts.ties)
    root = view.settings.get("tie_word_embeddings")
    default = facts is not None and tie.writer == 5 and root is facts.tie_default_v5
    if tie.disputed and tie.meant is False and (never or default):
        severity = NOTE  # as transformers 5 writes this class without being asked
    elif not tie.v4 and view.settings.get("tie_word_embeddings") is not True:
        severity = NOTE  # version 5 ties by default only, and keeps a head that differs
    how = "differ" if same_shape else "have different shapes"
    # What the flag unties beside the head (both ends of BART) must then be stored as well. The
    # T5 family scales its output by the same flag, so that false would say something else.
    ends = stored_ends(view) if facts and facts.tie_follows_flag else []
    own = view.head_name if facts is None or not facts.head else facts.head
    moved = [rename(head.name, own)] if view.head_is_misplaced else []
    sayable = facts is None or facts.always_tied is not True or resaved
    yield found(
        severity,
        f"{printable(head.name)} and {printable(embedding.name)} {how}, but the config ties them",
        at=tie_place(view),
        tensors=(head.name, embedding.name),
        evidence=(
            *tie.evidence,
            Evidence("bytes", "head and embedding differ")
            if same_shape
            else Evidence(
                "shapes",
                f"head {shape_text(head.shape)}, embedding {shape_text(embedding.shape)}",
            ),
            *((_DROPPED_BY_4,) if tie.v4 else ()),
            *((_SCALED_BY_4,) if resaved else ()),
        ),
        cure=consent(
            "set tie_word_embeddings to false, so that both are used"
            + (f", and rename {printable(head.name)} to {own}" if moved else ""),
            *view.flag_operations(False),
            *ends,
            *moved,
        )
        if sayable
        else None,
        caution="if training updated only one of them, the other may be stale",
        not_="dropping the head: it may be the trained one",
    )


def _default_of_unknown_config(view: View) -> bool:
    """Whether a config class that is not known decides over the tie, with no word in the file.

    Through all of transformers 4 the common base of config classes ties; version 5 does not.
    """
    known = view.model_type is None or families.known_model_type(view.model_type)
    return not known and not view.tie.key_written and not is_draft(view)


def _differs_by_default(view: View) -> Finding:
    head, embedding = view.tensors[view.head or ""], view.tensors[view.embedding or ""]
    own_code = "auto_map" in view.settings
    return found(
        NOTE if own_code else WARNING,
        f"{printable(head.name)} and {printable(embedding.name)} differ, and a config class that "
        "is not known here decides whether they are tied",
        certainty=LIKELY,
        at=view.at("model_type"),
        tensors=(head.name, embedding.name),
        evidence=(
            Evidence(str(view.at("model_type")), f"model_type is {brief(view.model_type)}"),
            Evidence(CONFIG, "tie_word_embeddings is not written; transformers 4 ties by default"),
            Evidence("bytes", "head and embedding differ"),
        ),
        cure=consent(
            "set tie_word_embeddings to false, so that both are used", *view.flag_operations(False)
        ),
        not_="dropping the head: it may be the trained one",
    )


@rule("H09", "tied-group-incomplete")
def tied_group_incomplete(view: View) -> Iterator[Finding]:
    """A group of three or more tied tensors is stored under a name that readers do not expect.

    Why: T5 and BART share one matrix between encoder, decoder and head. transformers keeps one of
    the names, others look for a certain one.

    Recognised by: the ties of the class, and which members are there.

    Fine: untied relatives (MADLAD, UMT5) have separate matrices.

    Example: `encoder.embed_tokens.weight` in a T5 that has no `shared.weight`.

    Cure: store it under the name that transformers keeps.
    """
    need_text_generator(view)
    facts = view.generator
    if facts is None or len(facts.ties) < 2:
        raise NotApplicable("the class has no larger tied group")
    keepers = set(facts.ties.values())
    if facts.tie_follows_flag and view.tie.meant is False:
        yield from _ends_lost(view)
    for keeper in sorted(keepers):
        members = [alias for alias, kept in facts.ties.items() if kept == keeper]
        here = [m for m in members if m in view.tensors]
        if len(members) < 2 or keeper in view.tensors or not here:
            continue
        tied = view.tie.meant is True
        first = view.tensors[here[0]]
        same = tied and len(here) == 1
        yield found(
            WARNING,
            f"{keeper} is stored as {printable(first.name)}",
            certainty=PROVEN if same else LIKELY,
            at=Location(first.file),
            tensors=(keeper, *here),
            evidence=(*view.tie.evidence, Evidence("names", f"no tensor is called {keeper}")),
            cure=safe(f"rename it to {keeper}", rename(first.name, keeper)) if same else None,
        )


def _ends_lost(view: View) -> Iterator[Finding]:
    """An untied encoder-decoder of which only the shared matrix is stored."""
    ends = other_ends(view)
    lost = {a: kept for a, kept in ends.items() if a not in view.tensors and kept in view.tensors}
    if not lost or len(lost) < len(ends):
        return
    yield found(
        ERROR,
        f"{' and '.join(lost)} are not stored, and nothing is tied to {next(iter(lost.values()))}",
        at=tie_place(view),
        tensors=tuple(lost),
        evidence=(*view.tie.evidence, Evidence("names", f"no tensor is called {next(iter(lost))}")),
        cure=consent(
            "store copies of the shared matrix, which both were when transformers 4 saved them",
            *stored_ends(view),
        ),
    )


RULES = (head_tied, head_redundant, head_differs, tied_group_incomplete)
