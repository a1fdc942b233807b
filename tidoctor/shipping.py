"""A result sent to the Hub: which files have to go, under which commit, with which words."""

from __future__ import annotations

from pathlib import Path

from tidoctor.carrying import reasons
from tidoctor.errors import TidoctorError, Usage
from tidoctor.repairs import Shipment, Treatment
from tidoctor.source import Source


def check(source: str, repo: str | None, create_pr: bool, *, delta: bool = False) -> None:
    """Raise Usage when it cannot be known where to send, or an overlay would have to be sent."""
    if delta:
        option = "--push" if repo is not None else "--create-pr"
        what = f"contradicts {option}, which chooses by itself what is to be sent"
        raise Usage("--delta", what, "give one of them")
    if create_pr and repo is None and Path(source).exists():
        raise Usage("--create-pr", "SOURCE is here, not on the Hub", "name the model with --push")


def ship(
    done: Treatment, repo: str | None, text: str, *, create_pr: bool, dry_run: bool
) -> Treatment:
    """The treatment, with what was sent; on a dry run with what would be.

    Into the repository that was examined only what changed goes, on top of the commit that was
    examined; into another one all of the result. `text` becomes the description.
    Raises Usage, Refused, or Unwritable.
    """
    source = done.before.source
    home = repository(source)
    target = repo or home
    if target is None:
        raise Usage("--create-pr", "SOURCE is not on the Hub", "name the model with --push")
    if not done.plan or (done.receipt is None and not dry_run):
        return done  # nothing came about; the report says why
    same = target == home
    prefix = getattr(source, "inside", "") if same else ""
    names = _changed(done) if same else _all(done)
    adds = tuple((prefix + name, _size(done, name)) for name in names)
    deletes = tuple(prefix + name for name in _gone(done)) if same else ()
    planned = Shipment(target, source.revision if same else None, adds, deletes, create_pr, "")
    if done.receipt is None:
        return done._replace(shipment=planned)
    from tidoctor.source.sending import Commit, send

    commit = Commit(
        target, planned.parent, [(prefix + name, done.dest / name) for name in names],
        deletes, f"[tidoctor] {done.verb}", text,
    )  # fmt: skip
    try:
        url = send(commit, pull_request=create_pr)
    except TidoctorError as e:
        raise type(e)(e.where, f"{e.what}; the result is at {done.dest}", e.hint) from e
    return done._replace(shipment=planned._replace(url=url))


def repository(source: Source) -> str | None:
    """The model on the Hub that a source is; None for other places."""
    found = getattr(source, "repository", None)
    return found if isinstance(found, str) else None


def _changed(done: Treatment) -> list[str]:
    """The files of the result that its source does not have under the same name."""
    planned = done.planned
    made = [w.name for w in planned.weights if w.whole != (planned.source, w.name)]
    return [*made, *planned.texts]


def _all(done: Treatment) -> list[str]:
    if done.receipt is not None:
        return list(done.receipt.files)
    unwanted = reasons(done.planned)
    carried = [n for n in done.before.files if unwanted(n) is None]
    return [*(w.name for w in done.planned.weights), *done.planned.texts, *carried]


def _gone(done: Treatment) -> list[str]:
    """The files of the source that the result does without."""
    planned = done.planned
    written = {w.name for w in planned.weights} | planned.texts.keys()
    unwanted = reasons(planned)
    return [n for n in planned.source.files() if n not in written and unwanted(n) is not None]


def _size(done: Treatment, name: str) -> int:
    if done.receipt is not None:
        return (done.dest / name).stat().st_size
    return done.planned.files.get(name, 0)
