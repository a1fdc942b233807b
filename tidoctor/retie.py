"""Untie and tie: a tied head stored explicitly, and a head that equals the embedding dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tidoctor import rules
from tidoctor.cures import Options
from tidoctor.finding import Operation
from tidoctor.form import PLAIN, Form
from tidoctor.plan import Plan
from tidoctor.repairs import Course, Progress, Treatment, guard, open_at, pleasing
from tidoctor.tying import copies, drops


def untie(
    source: str | Path,
    dest: str | Path,
    *,
    loaders: Sequence[str] = (),
    form: Form = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Store the tied head explicitly; see `tidoctor.untie`."""
    return _retie("untie", source, copies, "drop", loaders, dest, form, force, dry_run, progress)


def tie(
    source: str | Path,
    dest: str | Path,
    *,
    loaders: Sequence[str] = (),
    form: Form = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Drop a head that equals the embedding; see `tidoctor.tie`."""
    return _retie("tie", source, drops, "store", loaders, dest, form, force, dry_run, progress)


def _retie(
    verb: str,
    source: str | Path,
    make: Callable[[rules.View], list[Operation]],
    reverse: str,
    loaders: Sequence[str],
    dest: str | Path,
    form: Form,
    force: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Treatment:
    """The course of a verb whose operations `make` gives; no variant makes the `reverse` change."""
    before = open_at(source)
    operations = make(rules.View(before))
    options = Options(loaders=tuple(loaders))
    diagnosis = options.diagnose(before)
    plan = Plan((), None, form.apart, form.delta)
    if operations:
        plan = plan.then(operations)
    plan, unmet = pleasing(plan, before, options, frozenset({reverse}))
    if not plan and not form.changes:
        guard(before, dest, force)
        stored = "stored already" if verb == "untie" else "not stored"
        reason = f"nothing to do: the head is {stored}"
        return Treatment.idle(verb, before, diagnosis, dest, reason, unmet=unmet)
    course = Course(verb, before, diagnosis, plan, options, Path(dest), unmet, form)
    return course.carry_out(
        lambda c, d: (), partial=False, force=force, dry_run=dry_run, progress=progress
    )
