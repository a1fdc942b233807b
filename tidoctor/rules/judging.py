"""The checkpoint as loaders meet it, their verdicts, and what would help.

Imported only where a loader was asked about: nobody else pays for reading what is known of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts
from tidoctor.finding import Cure, Outcome, Verdict
from tidoctor.loaders import Asked, Examination, Patient
from tidoctor.loaders.patient import Answer, Copy, Loading
from tidoctor.rules.rule import CannotRun, safe
from tidoctor.rules.subject import UNREADABLE, WRITING
from tidoctor.rules.view import View
from tidoctor.tensors import homes

Prescribe = Callable[[View, Sequence[Asked], Sequence[Verdict]], Mapping[str, tuple[str, str]]]
"""From a checkpoint and what loaders make of it to `LOADER@VERSION` -> (words, command) of a copy
that this one loads."""

_MOST_COMPARED = 2 << 30  # bytes of one tensor of which two copies are compared


def judge(
    view: View, wishes: Sequence[Asked], prescribe: Prescribe | None
) -> tuple[Verdict, ...]:
    """What each of some loaders makes of the checkpoint, in their order, and what would help."""
    exam = Examination(patient(view))
    found = [exam.evaluate(wish) for wish in wishes]
    if all(v.outcome in (Outcome.LOADS, Outcome.UNKNOWN) for v in found):
        return tuple(found)
    copies = prescribe(view, wishes, found) if prescribe else {}
    return tuple(
        verdict._replace(cure=_cure(exam, wish, verdict, copies.get(str(wish))))
        if verdict.outcome in (Outcome.FAILS, Outcome.MISREADS)
        else verdict
        for wish, verdict in zip(wishes, found, strict=True)
    )


# --- from the view of the rules to the value that policies know -----------------------------------


def patient(view: View) -> Patient:
    """The checkpoint as loaders meet it: names as they stand in the files."""
    c = view.checkpoint
    facts, task = _asked_class(view)
    base = facts is not None and facts.task in ("base", "encoder")
    expected, optional, aliases, loading, why = _promised(view, facts)
    declared = view.declared_name
    stored = view.tensors[view.head].name if view.head else None
    return Patient(
        name=c.source.name,
        settings=view.settings,
        end=_end(view),
        model_type=_model_type(view, facts),
        declared=families.modern_name(declared) if declared else None,
        class_name=facts.name if facts else None,
        task=task,
        is_base=bool(view.declared and view.declared.task == "base"),
        embeds=view.embedding_model is not None and view.wanted is None,
        served=view.wanted is not None or not (view.declared and view.declared.task == "base"),
        files={
            w.name: {n: s for n, (_, s) in zip(w.header.names, w.header.columns.forms, strict=True)}
            for w in (*c.weights, *c.extras)
        },
        index=c.index.weight_map if c.index else None,
        read=tuple(w.name for w in c.weights),
        formats={
            w.name: _format(w.header.metadata)
            for w in (*c.weights, *c.extras)
            if w.header.metadata is not None
        },
        home=homes(c.tensors),
        incomplete=_incomplete(view),
        prefix="" if facts is None or base else facts.prefix,
        head=facts.head if facts else None,
        embedding=facts.embedding if facts else None,
        stored_head=stored,
        stored_embedding=view.tensors[view.embedding].name if view.embedding else None,
        head_parts=_head_parts(view),
        same=lambda: _same(view),
        equal=lambda one, other: _equal(view, one, other),
        tied=view.tie.meant,
        tied_v4=view.tie.v4,
        tied_v5=view.tie.v5,
        expected=expected,
        optional=optional,
        aliases=aliases,
        loading=loading,
        why=why,
    )


def _asked_class(view: View) -> tuple[ClassFacts | None, str | None]:
    """The class that a loader would build, and its task.

    A bare base class stands for the class with a head that a generating loader builds of it, or
    for the encoder that it is.
    """
    target, generator = view.target, view.generator
    if target is None:
        if generator is None:
            return None, "causal-lm" if view.must_generate else None
        return generator, generator.task
    if target.task == "base":
        if generator is not None and generator.task in WRITING:
            return generator, generator.task
        return target, "encoder"
    return target, target.task


def _model_type(view: View, facts: ClassFacts | None) -> str | None:
    """The model type; the one of the text part where a class of text alone is built of it."""
    inner = view.text_settings.get("model_type")
    if facts and view.text_level and view.model_type not in facts.model_types:
        return inner if isinstance(inner, str) else view.model_type
    return view.model_type


def _promised(
    view: View, facts: ClassFacts | None
) -> tuple[
    dict[str, tuple[int, ...]] | None, frozenset[str], frozenset[str], Loading | None, str
]:
    """(tensors of a fresh save, optional ones, aliases, what transformers makes of it, why not)."""
    nothing: frozenset[str] = frozenset()
    if facts is None:
        return None, nothing, nothing, None, "the class is not known here"
    fit = view.fit_as(facts.name, raw=True)
    if isinstance(fit, str):
        loading, why = None, fit
        promise = view.promise(facts.name)
        if isinstance(promise, str) or view.quantisations:
            return None, nothing, nothing, None, fit
    else:
        promise, why = fit.expected, ""
        loading = Loading(
            missing=tuple(g.name for g in fit.missing if g.name != facts.head),
            misfits=tuple((m.name, m.found, m.expected) for m in fit.mismatched),
            unclear=fit.unclear,
        )
    if promise.saved is None:
        return None, nothing, nothing, loading, promise.saved_reason
    optional = {n for n in promise.saved if not promise.required(n) or view.is_idle(n)}
    aliases = frozenset(promise.disk_ties)
    return dict(promise.saved), frozenset(optional), aliases, loading, why


def _incomplete(view: View) -> str | None:
    """Why tensors may be missing of which neither files nor index tell.

    A file that is only absent is told by both: what that comes to depends on the loader.
    """
    c = view.checkpoint
    defects = (d for w in (*c.weights, *c.extras) for d in w.header.defects)
    unread = any(d.kind in UNREADABLE and d.refused for d in defects)
    told = c.entrance in ("single", "index", "shards") and not unread
    return None if told else view.incomplete


def _format(metadata: Mapping[str, object]) -> str | None:
    found = metadata.get("format")
    return found if isinstance(found, str) else None


def _head_parts(view: View) -> tuple[str, ...]:
    """Tensors of a head that is no plain matrix; one that only lacks its suffix is not a part."""
    if view.head:
        return ()
    module = view.head_name.removesuffix(".weight")
    return tuple(view.tensors[n].name for n in view.head_parts if n != module)


def _same(view: View) -> Answer:
    try:
        return view.head_equals_embedding, "they are not of one plain type"
    except CannotRun as e:
        return None, str(e)


def _equal(view: View, one: Copy, other: Copy) -> Answer:
    """Whether two copies of tensors are the same, where reading both costs little enough."""
    first, second = (view.checkpoint.copy(*each) for each in (one, other))
    if first is None or second is None:
        return None, "one of them cannot be read"
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False, ""
    if first.nbytes > _MOST_COMPARED:
        return None, f"whether the copies are equal was not compared ({first.nbytes} bytes)"
    try:
        view.need_bytes(first)
        view.need_bytes(second)
        return view.checkpoint.same_bytes(first, second), ""
    except CannotRun as e:
        return None, str(e)


def _end(view: View) -> tuple[int, int] | None:
    """Line and column of the brace that ends config.json, as serde counts them (in bytes)."""
    config = view.checkpoint.config
    if config is None or not config.strict:
        return None
    text = config.text.rstrip()
    last = text.rpartition("\n")[2]
    return text.count("\n") + 1, len(last.encode("utf-8", "surrogatepass"))


# --- cures ----------------------------------------------------------------------------------------


def _cure(
    exam: Examination, wish: Asked, verdict: Verdict, copy: tuple[str, str] | None
) -> Cure | None:
    """The first later version that loads it, and a copy that this version loads."""
    newer = newer_version(exam, wish)
    ways = [f"use {verdict.loader} {newer}"] if newer else []
    words, command = copy or ("", None)
    return safe("; or ".join([*ways, *[words] * bool(words)]), command=command) if (
        ways or words
    ) else None


def newer_version(exam: Examination, wish: Asked) -> str:
    """`0.7.2 or newer`: the first later version from which on it loads, as far as known."""
    timeline = wish.consumer.timeline
    later = [
        version
        for version in timeline.known[wish.place.low + 1 :]
        if exam.evaluate(Asked(wish.consumer, timeline.place(version))).outcome is Outcome.LOADS
    ]
    if not later:
        return ""
    since = list(timeline.known[timeline.known.index(later[0]) :])
    if since != later or len(since) == 1:
        return later[-1]
    return f"{later[0]} or newer"
