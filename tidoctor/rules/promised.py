"""X: whether the checkpoint is still what was promised of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from tidoctor.finding import Cure, CureKind, Evidence, Finding, Outcome, Severity
from tidoctor.names import printable, some
from tidoctor.patterns import some_patterns
from tidoctor.promise import TIES, Promise
from tidoctor.rules.rule import ERROR, NOTE, WARNING, NotApplicable, found, rule
from tidoctor.rules.view import View
from tidoctor.tensors import formed

# What a verdict that is not the promised one means.
_SEVERITIES = {
    Outcome.LOADS: NOTE, Outcome.UNKNOWN: WARNING, Outcome.FAILS: ERROR, Outcome.MISREADS: ERROR,
}  # fmt: skip
_MOST = 4  # patterns named before the rest is counted


@rule("X02", "promise-broken")
def promise_broken(view: View) -> Iterator[Finding]:
    """The checkpoint is not what the promise of it says.

    Why: a new version of a library, another flag or another rank layout changes what an export
    writes, and nobody notices until somebody loads it.

    Recognised by: the file given with `--promise`: names, dtypes and shapes of all tensors, the
    class, whether head and embedding are one, and what loaders made of it. Values are not compared.

    Fine: a change that was meant. A loader that takes what it did not take before is a note.

    Example: an export that stores lm_head.weight since yesterday, though the promise says tied.

    Cure: mend the export; or write the promise anew with `tidoctor inspect --write-promise`.
    """
    promise = view.promised
    if promise is None:
        raise NotApplicable("no promise was given (--promise)")
    yield from _tensors(view, promise)
    yield from _class(view, promise)
    tie = TIES[view.tie.meant]
    if tie != promise.tie:
        yield _broken(
            view, f"head and embedding are {tie}, the promise says {promise.tie}",
            evidence=view.tie.evidence, at=("tie_word_embeddings",), about="tie",
        )  # fmt: skip
    yield from _loaders(view, promise)


def _broken(
    view: View,
    message: str,
    *,
    severity: Severity = ERROR,
    tensors: Iterable[str] = (),
    evidence: tuple[Evidence, ...] = (),
    at: tuple[str, ...] = (),
    about: str,
) -> Finding:
    name = view.checkpoint.source.name
    file = view.promised.name if view.promised else "FILE"
    anew = f"tidoctor inspect {shlex.quote(printable(name))} --write-promise"
    cure = Cure(
        CureKind.CONSENT, "mend the export; or, if the change was meant, write the promise anew",
        command=f"{anew} {shlex.quote(printable(file))}",
    )  # fmt: skip
    return found(
        severity, message, at=view.at(*at) if at else None, tensors=tuple(tensors),
        evidence=evidence, cure=cure, about=f"promise {about}",
    )  # fmt: skip


def _tensors(view: View, promise: Promise) -> Iterator[Finding]:
    now = dict(formed(view.checkpoint.tensors))
    then = promise.tensors
    lost = [n for n in then if n not in now]
    new = [n for n in now if n not in then]
    both = [n for n in then if n in now]
    for names, what in ((lost, "promised and not there"), (new, "there and not promised")):
        if names:
            told = Evidence("names", some_patterns(names, _MOST))
            message = f"{_counted(names)} {what}"
            yield _broken(view, message, tensors=names, evidence=(told,), about="names")
    for place, what in ((0, "dtype"), (1, "shape")):
        other = [n for n in both if then[n][place] != now[n][place]]
        if other:
            first = other[0]
            pair = f"{_value(now[first][place])}, {_value(then[first][place])} promised"
            yield _broken(
                view, f"{_counted(other)} of another {what}: {printable(first)} is {pair}",
                tensors=other, evidence=(Evidence("names", some_patterns(other, _MOST)),),
                about=what,
            )  # fmt: skip


def _counted(names: list[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"


def _value(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else printable(str(value))


def _class(view: View, promise: Promise) -> Iterator[Finding]:
    listed = view.settings.get("architectures")
    names = listed if isinstance(listed, list) else []
    now = tuple(n for n in names if isinstance(n, str))
    for key, is_, was in (
        ("architectures", now, promise.architectures),
        ("model_type", (view.model_type or "",), (promise.model_type or "",)),
    ):
        if is_ != was:
            told = [some(names, 3) or "absent" for names in (is_, was)]
            message = f"{key} is {told[0]}, the promise says {told[1]}"
            yield _broken(view, message, at=(key,), about=key)


def _loaders(view: View, promise: Promise) -> Iterator[Finding]:
    """One finding for all loaders: what they make of it now has most often one cause."""
    now = {(v.loader, v.version): v for v in view.promised_verdicts}
    worst = NOTE
    told: list[Evidence] = []
    for name, version, was in promise.loaders:
        verdict = now.get((name, version))
        is_ = verdict.outcome if verdict else Outcome.UNKNOWN
        if is_ == was:
            continue
        worst = max(worst, _SEVERITIES[is_])
        why = verdict.message or verdict.why if verdict else "this tidoctor does not know it"
        said = f"{version}: {is_}, promised {was}" + (f": {why}" if why else "")
        told.append(Evidence(name, said, {"version": version, "is": str(is_), "was": was}))
    if told:
        who = "1 loader makes" if len(told) == 1 else f"{len(told)} loaders make"
        given = Evidence("promise", f"given by tidoctor {promise.tool}", promise.tool)
        yield _broken(
            view, f"{who} something else of it than was promised", severity=worst,
            evidence=(*told, given), about="loaders",
        )  # fmt: skip


RULES = (promise_broken,)
