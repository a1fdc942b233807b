"""L: whether the loaders that were asked about take the checkpoint, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tidoctor.finding import Evidence, Finding, Location, Outcome, Verdict
from tidoctor.rules.rule import ERROR, NOTE, PROVEN, NotApplicable, found, rule
from tidoctor.rules.subject import WRITING
from tidoctor.rules.view import View

if TYPE_CHECKING:
    from tidoctor.loaders import Asked, Patient
    from tidoctor.rules.judging import Prescribe


def judge(view: View, wishes: Sequence[Asked], prescribe: Prescribe | None) -> tuple[Verdict, ...]:
    """What each of some loaders makes of the checkpoint, in their order, and what would help."""
    if not wishes:
        return ()
    from tidoctor.rules import judging

    return judging.judge(view, wishes, prescribe)


def patient(view: View) -> Patient:
    """The checkpoint as loaders meet it: names as they stand in the files."""
    from tidoctor.rules import judging

    return judging.patient(view)


def headed_class(view: View) -> str | None:
    """The class with a head that a generating loader builds of a bare base class, else None."""
    if view.declared is None or view.declared.task != "base" or view.generator is None:
        return None
    return view.generator.name if view.generator.task in WRITING else None


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

    Fine: other releases of the same loader, which the table lists.

    Example: candle before 0.7.2 on a tied Llama: `cannot find tensor lm_head.weight`.

    Cure: the first version that takes this checkpoint; or a copy that this version takes: the head
    stored or left out, the tie flag or another key written, the prefix put on or taken off.
    `tidoctor repair --for` writes it where the other loaders asked about take it as well and no
    rule objects.
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

    Fine: a loader that computes the same from another layout.

    Example: transformers 4.57 on a tied flag and a head of its own: it uses the embedding.

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

    Fine: nothing is claimed; an unknown verdict is neither good nor bad.

    Example: a model type of which no release of this loader is known to have heard.

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


RULES = (loader_fails, loader_misreads, loader_unknown)
