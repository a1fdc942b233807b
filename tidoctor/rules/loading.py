"""L: whether the loaders that were asked about take the checkpoint, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tidoctor.atlas import families
from tidoctor.atlas.families import ClassFacts
from tidoctor.finding import Cure, Evidence, Finding, Location, Outcome, Verdict
from tidoctor.loaders import Asked, Examination, Patient
from tidoctor.loaders.patient import Loading
from tidoctor.rules.rule import (
    ERROR,
    NOTE,
    PROVEN,
    CannotRun,
    NotApplicable,
    found,
    rule,
    safe,
)
from tidoctor.rules.view import GENERATING, View

_GENERATORS = tuple(task for task in GENERATING if task != "masked-lm")


def judge(view: View, wishes: Sequence[Asked]) -> tuple[Verdict, ...]:
    """What each of some loaders makes of the checkpoint, in their order, and what would help."""
    if not wishes:
        return ()
    whole = patient(view)
    exam = Examination(whole)
    found = [exam.evaluate(wish) for wish in wishes]
    variants = _Variants(view, whole, wishes, found)
    return tuple(
        replace(verdict, cure=_cure(exam, wish, verdict, variants))
        if verdict.outcome in (Outcome.FAILS, Outcome.MISREADS)
        else verdict
        for wish, verdict in zip(wishes, found, strict=True)
    )


def headed_class(view: View) -> str | None:
    """The class with a head that a generating loader builds of a bare base class, else None."""
    if view.declared is None or view.declared.task != "base" or view.generator is None:
        return None
    return view.generator.name if view.generator.task in _GENERATORS else None


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
        files={
            w.name: {e.name: tuple(e.shape) for e in w.header.entries}
            for w in (*c.weights, *c.extras)
        },
        index=c.index.weight_map if c.index else None,
        read=tuple(w.name for w in c.weights),
        incomplete=None if _hidden(view) else view.incomplete,
        prefix="" if facts is None or base else facts.prefix,
        head=facts.head if facts else None,
        embedding=facts.embedding if facts else None,
        stored_head=stored,
        stored_embedding=view.tensors[view.embedding].name if view.embedding else None,
        head_parts=_head_parts(view),
        same=lambda: _same(view),
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
        if generator is not None and generator.task in _GENERATORS:
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
        return None, nothing, nothing, None, fit
    loading = Loading(
        missing=tuple(g.name for g in fit.missing if g.name != facts.head),
        misfits=tuple((m.name, m.found, m.expected) for m in fit.mismatched),
        unclear=fit.unclear,
    )
    promise = fit.expected
    if promise.saved is None:
        return None, nothing, nothing, loading, promise.saved_reason
    optional = {n for n in promise.saved if not promise.required(n) or view.is_idle(n)}
    aliases = frozenset(promise.disk_ties)
    return dict(promise.saved), frozenset(optional), aliases, loading, ""


def _hidden(view: View) -> bool:
    """Whether all that is lacking stands in files of the index, which a single file hides.

    To loaders that go by the index they are not hidden.
    """
    c = view.checkpoint
    if c.entrance != "single" or c.index is None:
        return False
    files = {w.name: w for w in (*c.weights, *c.extras)}
    return all(
        f in files and not files[f].header.defects for f in {*c.index.weight_map.values()}
    ) and not any(w.header.defects for w in c.weights)


def _head_parts(view: View) -> tuple[str, ...]:
    """Tensors of a head that is no plain matrix; one that only lacks its suffix is not a part."""
    if view.head:
        return ()
    module = view.head_name.removesuffix(".weight")
    return tuple(view.tensors[n].name for n in view.head_parts if n != module)


def _same(view: View) -> tuple[bool | None, str]:
    try:
        return view.head_equals_embedding, "they are not of one plain type"
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


# --- rules ----------------------------------------------------------------------------------------


def _of(view: View, outcome: Outcome) -> list[Verdict]:
    if not view.verdicts:
        raise NotApplicable("no loader was asked about (--for)")
    return [v for v in view.verdicts if v.outcome is outcome]


@rule("L01", "loader-fails")
def loader_fails(view: View) -> Iterator[Finding]:
    """A loader that was asked about stops with an error.

    Why: loaders differ in whether the head may be absent, in the prefix that they want, in keys of
    config.json that they cannot do without, and in the names of files that they look for; and each
    changes from version to version.

    Recognised by: the policy of that loader and version, which is data with its source in the code
    of the loader: `tidoctor loaders NAME`. The message is the one that its user sees.

    Cure: the first version that takes this checkpoint; or a copy that this version takes, where
    `tidoctor untie` or `tidoctor tie` writes one that the other loaders asked about take as well.
    """
    for verdict in _of(view, Outcome.FAILS):
        yield _finding(view, verdict)


@rule("L02", "loader-misreads")
def loader_misreads(view: View) -> Iterator[Finding]:
    """A loader that was asked about loads the checkpoint and computes something else.

    Why: the embedding used as head where the model has another one, a head of random numbers, a
    rotary base that is looked for where transformers 5 does not write it. Nothing stops, and the
    answers are wrong.

    Recognised by: the policy of that loader and version, as for L01, and the bytes of head and
    embedding where the answer depends on them.

    Cure: as for L01. A lost head has to come from the model that this one was tuned from (H02).
    """
    for verdict in _of(view, Outcome.MISREADS):
        yield _finding(view, verdict)


@rule("L03", "loader-unknown")
def loader_unknown(view: View) -> Iterator[Finding]:
    """What a loader that was asked about makes of this checkpoint is not known.

    Why: no record speaks of this model type or version, or a fact is missing that the answer needs.
    Nothing is guessed.

    Recognised by: the records of the loader.

    Cure: none; ask the loader itself.
    """
    unknown = _of(view, Outcome.UNKNOWN)
    if not unknown:
        return
    names = ", ".join(f"{v.loader} {v.version}" for v in unknown)
    one = unknown[0]
    yield found(
        NOTE,
        f"{names}: {one.why}"
        if len(unknown) == 1
        else f"what {len(unknown)} loaders make of it is not known: {names}",
        at=view.at("model_type"),
        evidence=tuple(Evidence(v.loader, f"{v.version}: {v.why}") for v in unknown),
    )


def _finding(view: View, verdict: Verdict) -> Finding:
    return found(
        ERROR,
        _sentence(verdict),
        certainty=verdict.certainty,
        at=_place(view, verdict),
        tensors=verdict.tensors,
        evidence=tuple(_evidence(view, verdict)),
        cure=verdict.cure,
        about=verdict.loader,
    )


def _sentence(verdict: Verdict) -> str:
    who = f"{verdict.loader} {verdict.version}"
    if verdict.why.startswith("it "):
        return f"{who} {verdict.why.removeprefix('it ')}"
    return f"{who}: {verdict.why}"


def _place(view: View, verdict: Verdict) -> Location:
    keys = {"class": "architectures", "flag": "tie_word_embeddings", "head": "tie_word_embeddings"}
    weights = view.checkpoint.weights
    if verdict.cause in ("names", "prefix", "shapes", "files") and weights:
        return Location(weights[0].name)
    return view.at(keys[verdict.cause]) if verdict.cause in keys else view.at()


def _evidence(view: View, verdict: Verdict) -> Iterator[Evidence]:
    if verdict.cause in ("head", "flag"):
        yield from view.tie.evidence
        if verdict.policy:
            yield Evidence(verdict.loader, verdict.policy)
    since = f"; since {verdict.since}" if verdict.since else ""
    sure = "" if verdict.certainty is PROVEN else "inferred, not seen: "
    yield Evidence(verdict.loader, f"{sure}{verdict.source}{since}", verdict.source)
    if verdict.message:
        yield Evidence("message", verdict.message, verdict.message)


# --- cures ----------------------------------------------------------------------------------------


class _Variants:
    """Copies of the checkpoint that commands of tidoctor write, and who loads them."""

    def __init__(
        self, view: View, whole: Patient, wishes: Sequence[Asked], found: Sequence[Verdict]
    ) -> None:
        self.view = view
        size = view.tensors[view.embedding].nbytes if view.embedding else 0
        made = (
            ("untie", whole.untied(), f"store the head explicitly ({size} bytes more)"),
            ("tie", whole.headless(), f"leave out the head, a copy ({size} bytes less)"),
        )
        self.made = [(verb, Examination(v), words) for verb, v, words in made if v is not None]
        self.content = [w for w, v in zip(wishes, found, strict=True) if v.outcome is Outcome.LOADS]

    def for_(self, wish: Asked) -> tuple[str, str] | None:
        """(command, words) of the first one that loads here and wherever the checkpoint loads."""
        for verb, exam, words in self.made:
            if all(exam.evaluate(w).outcome is Outcome.LOADS for w in (wish, *self.content)):
                return self.view.command(verb), words
        return None


def _cure(exam: Examination, wish: Asked, verdict: Verdict, variants: _Variants) -> Cure | None:
    """The first later version that loads it, and a copy that this version loads."""
    newer = _newer(exam, wish)
    ways = [f"use {verdict.loader} {newer}"] if newer else []
    command = None
    if copy := variants.for_(wish):
        command, words = copy
        ways.append(words)
    return safe("; or ".join(ways), command=command) if ways else None


def _newer(exam: Examination, wish: Asked) -> str:
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


RULES = (loader_fails, loader_misreads, loader_unknown)
