"""Untie and tie: a tied head stored explicitly, and a head that equals the embedding dropped."""

from __future__ import annotations

from pathlib import Path

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused
from tidoctor.finding import Operation
from tidoctor.form import PLAIN, Form
from tidoctor.plan import Plan
from tidoctor.repairs import Course, Options, Progress, Treatment, guard, open_at
from tidoctor.rules.rule import CannotRun


def untie(
    source: str | Path,
    dest: str | Path,
    *,
    form: Form = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Store the tied head explicitly; see `tidoctor.untie`."""
    before = open_at(source)
    view = rules.View(before)
    _need_head(view)
    if view.head or view.head_parts:
        operations: list[Operation] = []
    else:
        operations = _copies(view)
    return _retie("untie", before, operations, dest, form, force, dry_run, progress)


def tie(
    source: str | Path,
    dest: str | Path,
    *,
    form: Form = PLAIN,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Treatment:
    """Drop a head that equals the embedding; see `tidoctor.tie`."""
    before = open_at(source)
    view = rules.View(before)
    _need_head(view)
    operations = _drops(view) if view.head else []
    if view.head_parts and not view.head:
        raise Refused(before.source.name, "the head is quantised and cannot be the embedding")
    return _retie("tie", before, operations, dest, form, force, dry_run, progress)


def _need_head(view: rules.View) -> None:
    """Raise Refused unless head and embedding of a complete checkpoint can be told."""
    name = view.checkpoint.source.name
    if view.incomplete:
        raise Refused(
            name, f"the checkpoint is not complete: {view.incomplete}", "see tidoctor diagnose"
        )
    if view.checkpoint.config is None:
        raise Refused(name, "there is no config.json to tell whether the head is tied")
    if not view.must_generate or (view.generator and view.generator.head is None):
        raise Refused(name, "the class has no output head", "see tidoctor diagnose")
    if not view.embedding:
        raise Refused(
            name, "no embedding is stored under a name that is known", "see tidoctor diagnose"
        )


def _copies(view: rules.View) -> list[Operation]:
    """Copies of the tied tensors under the names that belong to the head."""
    name = view.checkpoint.source.name
    if view.tie.meant is None:
        raise Refused(
            name,
            "whether the head is tied is not known here",
            "write tie_word_embeddings into config.json",
        )
    if view.tie.meant is False:
        raise Refused(
            name,
            f"{view.head_name} is not tied but lost",
            "a copy of the embedding would compute something else; see tidoctor explain H02",
        )
    facts = view.generator
    head = view.head_name
    pairs = {head: view.embedding or ""}
    if facts:
        module = head.removesuffix("weight")
        pairs |= {
            alias: kept
            for alias, kept in facts.ties.items()
            if alias.startswith(module) and alias != head and kept in view.tensors
        }
    return [
        {"op": "copy", "from": view.tensors[kept].name, "to": alias}
        for alias, kept in pairs.items()
        if alias not in view.tensors
    ]


def _drops(view: rules.View) -> list[Operation]:
    """Dropping what is tied to the embedding, and the flag that says so."""
    name = view.checkpoint.source.name
    head = view.tensors[view.head or ""]
    facts = view.generator
    try:
        equal = view.head_equals_embedding
    except CannotRun as e:
        raise Refused(name, str(e), "see tidoctor diagnose") from e
    if equal is not True:
        raise Refused(
            name, f"{head.name} does not equal the embedding byte for byte", "both are needed"
        )
    if facts and facts.always_tied and view.tie.v4 is False:
        raise Refused(
            name,
            f"{facts.name} scales its output by the same flag, so that tying would change it",
        )
    if facts and facts.always_tied is False:
        raise Refused(name, f"{facts.name} never ties its head")
    dropped = [head]
    if facts:
        module = (view.head or "").removesuffix("weight")
        dropped += [
            view.tensors[alias]
            for alias, kept in facts.ties.items()
            if alias.startswith(module)
            and alias != view.head
            and alias in view.tensors
            and kept in view.tensors
            and view.checkpoint.same_bytes(view.tensors[alias], view.tensors[kept])
        ]
    operations: list[Operation] = [{"op": "drop", "tensor": t.name} for t in dropped]
    if not (view.tie.v4 is True and view.tie.v5 is True):
        operations += view.flag_operations(True)
    return operations


def _retie(
    verb: str,
    before: Checkpoint,
    operations: list[Operation],
    dest: str | Path,
    form: Form,
    force: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Treatment:
    options = Options()
    diagnosis = options.diagnose(before)
    if not operations and not form.changes:
        guard(before, dest, force)
        stored = "stored already" if verb == "untie" else "not stored"
        return Treatment.idle(verb, before, diagnosis, dest, f"nothing to do: the head is {stored}")
    plan = Plan((), None, form.apart, form.delta)
    if operations:
        plan = plan.then(operations)
    course = Course(verb, before, diagnosis, plan, options, Path(dest), form)
    return course.carry_out(
        lambda c, d: (), partial=False, force=force, dry_run=dry_run, progress=progress
    )
