"""H: the output head, the embedding, and whether they are one."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.atlas import families
from tidoctor.checkpoint import CONFIG, Tensor
from tidoctor.finding import Cure, Evidence, Finding, Location, Operation, Severity
from tidoctor.names import brief, printable
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    consent,
    found,
    rename,
    rule,
    safe,
)
from tidoctor.rules.view import MORE_ROWS, View

# Run with five releases and a probe of 23 more.
_DROPPED_BY_4 = Evidence(
    "transformers 4.43 to 4.57",
    "drop the head of the file and use the embedding, and say nothing (4.40 and 4.41 the reverse)",
)
_SCALED_BY_4 = Evidence(
    "transformers 4",
    "scales the output of the decoder as well: transformers 5 wrote true whatever was there before",
)
_HEADED_TASKS = (
    "sequence-classification", "token-classification", "question-answering",
    "image-classification",
)  # fmt: skip


def _text_generator(view: View) -> None:
    """Stop unless the checkpoint must have, or be able to have, an output head."""
    view.need_config()
    if not view.must_generate and not (view.target is None and view.generator):
        raise NotApplicable("the class has no output head")
    facts = view.generator
    if facts and (facts.head is None or "embed_tokens" in facts.head):  # FSMT: an embedding
        raise NotApplicable("the class has no single output head of its own")
    view.need_whole()


def _both_known(view: View) -> None:
    _text_generator(view)
    if not view.embedding and not view.head:
        raise CannotRun("neither head nor embedding has a name that is known")


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _location(view: View) -> Location:
    """Where the tie is written, else config.json."""
    if view.text_level and "tie_word_embeddings" in view.text_settings:
        if "tie_word_embeddings" in view.settings:
            return view.at("tie_word_embeddings")
        return view.at(view.text_level, "tie_word_embeddings")
    return view.at("tie_word_embeddings")


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
    _both_known(view)
    if not view.head_is_absent or not view.embedding or view.tie.meant is not True:
        return
    embedding = view.tensors[view.embedding]
    # Of a group of four (T5), readers that know no ties ask for each of the others.
    # Where the group is stored under another name than transformers keeps, H09 speaks of it.
    group = view.generator.ties.values() if view.generator else ()
    kept = all(keeper in view.tensors for keeper in group)
    ends = [end for end in _ends(view) if kept and end not in view.tensors]
    yield found(
        NOTE,
        f"{view.head_name} is not stored: it is tied to {printable(view.embedding)}",
        at=_location(view),
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
    _both_known(view)
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
        at=_location(view),
        tensors=(view.head_name,),
        evidence=(
            *view.tie.evidence,
            Evidence("names", f"no tensor is called {view.head_name}"),
            Evidence(
                "size",
                f"a head of {_shape(embedding)} {embedding.dtype} takes {embedding.nbytes} bytes",
                embedding.nbytes,
            ),
        ),
        cure=graft_cure(view),
        caution="if the head was trained, only the training run still has it",
        not_="tie_word_embeddings=true: loaders fall silent and the logits are wrong",
    )


def graft_cure(view: View) -> Cure:
    """Taking the head from a donor."""
    return consent(
        f"take {view.head_name} from the model it was tuned from",
        {"op": "graft", "tensor": view.head_name},
        needs="donor",
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
        at=_location(view),
        tensors=(view.head_name, actual),
        evidence=(
            *view.tie.evidence,
            Evidence("shapes", f"{printable(actual)} is {_shape(view.tensors[name])}"),
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
    _both_known(view)
    if view.head_equals_embedding is not True:
        return
    head = view.tensors[view.head or ""]
    tied = view.tie.meant
    yield found(
        NOTE,
        f"{printable(head.name)} equals the embedding byte for byte"
        + ("" if tied else ", though config.json does not tie them"),
        at=_location(view),
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
    _both_known(view)
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
    if not same_shape and (_draft(view) or view.model_type in MORE_ROWS):
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
    ends = _stored_ends(view) if facts and facts.tie_follows_flag else []
    own = view.head_name if facts is None or not facts.head else facts.head
    moved = [rename(head.name, own)] if view.head_is_misplaced else []
    sayable = facts is None or facts.always_tied is not True or resaved
    yield found(
        severity,
        f"{printable(head.name)} and {printable(embedding.name)} {how}, but the config ties them",
        at=_location(view),
        tensors=(head.name, embedding.name),
        evidence=(
            *tie.evidence,
            Evidence("bytes", "head and embedding differ")
            if same_shape
            else Evidence("shapes", f"head {_shape(head)}, embedding {_shape(embedding)}"),
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
    return not known and not view.tie.key_written and not _draft(view)


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


def _stored_ends(view: View) -> list[Operation]:
    """Copies of the embedding under the names that untying makes tensors of their own."""
    return [
        {"op": "copy", "from": view.tensors[kept].name, "to": end}
        for end, kept in _ends(view).items()
        if end not in view.tensors and kept in view.tensors
    ]


def _ends(view: View) -> dict[str, str]:
    """The embeddings of encoder and decoder that the class ties, and what to."""
    ties = view.generator.ties if view.generator else {}
    return {a: kept for a, kept in ties.items() if ".embed_tokens." in a and a != view.head_name}


def _draft(view: View) -> bool:
    return "draft_vocab_size" in view.settings


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
    _both_known(view)
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
    _text_generator(view)
    tie = view.tie
    root = view.settings.get("tie_word_embeddings")
    if _draft(view) and root is True and _own_rows(view):
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
        severity, said, at=_location(view), evidence=tie.evidence, cure=cure, caution=caution
    )


def _own_rows(view: View) -> bool:
    """Whether head and embedding are stored with different numbers of rows."""
    head, embedding = view.tensors.get(view.head or ""), view.tensors.get(view.embedding or "")
    return head is not None and embedding is not None and head.shape[:1] != embedding.shape[:1]


def _draft_cannot_tie(view: View) -> Finding:
    return found(
        WARNING,
        "tie_word_embeddings is true, but this draft model has a head for a vocabulary of its own",
        at=_location(view),
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
    _text_generator(view)
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
        cure=consent(
            f"take {wanted} from the model it was tuned from",
            {"op": "graft", "tensor": wanted},
            needs="donor",
        ),
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
        cure=consent(
            f"take {wanted} from the model it was tuned from",
            {"op": "graft", "tensor": wanted},
            needs="donor",
        ),
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
    _text_generator(view)
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
    ends = _ends(view)
    lost = {a: kept for a, kept in ends.items() if a not in view.tensors and kept in view.tensors}
    if not lost or len(lost) < len(ends):
        return
    yield found(
        ERROR,
        f"{' and '.join(lost)} are not stored, and nothing is tied to {next(iter(lost.values()))}",
        at=_location(view),
        tensors=tuple(lost),
        evidence=(*view.tie.evidence, Evidence("names", f"no tensor is called {next(iter(lost))}")),
        cure=consent(
            "store copies of the shared matrix, which both were when transformers 4 saved them",
            *_stored_ends(view),
        ),
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
    _both_known(view)
    if not view.head or not view.embedding:
        return
    head, embedding = view.tensors[view.head], view.tensors[view.embedding]
    plain = head.dtype in FLOATS and embedding.dtype in FLOATS
    if not plain or len(head.shape) != 2 or len(embedding.shape) != 2:
        return
    if head.shape[0] == embedding.shape[0]:
        return
    wrong = () if isinstance(view.fit, str) else view.fit.mismatched
    if not _draft(view) and view.head in {m.name for m in wrong}:
        return  # the one that does not fit is told with its shape (C06)
    right = view.model_type in MORE_ROWS or _draft(view)
    severity: Severity = NOTE if right else WARNING
    yield found(
        severity,
        f"the head has {head.shape[0]} rows, the embedding {embedding.shape[0]}"
        + (", as in every model of this kind" if right else ""),
        at=Location(head.file),
        tensors=(head.name, embedding.name),
        evidence=(
            Evidence("shapes", f"{printable(head.name)} {_shape(head)}"),
            Evidence("shapes", f"{printable(embedding.name)} {_shape(embedding)}"),
        ),
    )


RULES = (
    head_tied,
    head_lost,
    no_head_by_design,
    head_redundant,
    head_differs,
    tie_flag_absent,
    tie_flag_disputed,
    embedding_absent,
    tied_group_incomplete,
    head_rows_differ,
)
