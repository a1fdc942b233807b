"""The rules: what can be wrong with a checkpoint, and how it is recognised.

One module per family; each rule is a generator of findings whose docstring is its page. They are
evaluated from the bytes of files up to the head, and a root cause absorbs what it explains.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable, Usage
from tidoctor.finding import CureKind, Diagnosis, Finding, NotRun, Severity
from tidoctor.promise import Promise
from tidoctor.rules import (
    adapters,
    baseclass,
    config,
    data,
    embedding,
    expected,
    family,
    files,
    generations,
    head,
    index,
    layouts,
    loading,
    names,
    oneness,
    origin,
    parts,
    promised,
    quantisation,
    recorded,
    shards,
    taskheads,
    tieflag,
    untrained,
)
from tidoctor.rules.causes import Explained
from tidoctor.rules.rule import CannotRun, NotApplicable, Rule
from tidoctor.rules.symptoms import Symptom, meaning, symptoms
from tidoctor.rules.values import Progress
from tidoctor.rules.view import View

if TYPE_CHECKING:
    from tidoctor.loaders import Asked
    from tidoctor.manifest import Manifest
    from tidoctor.rules.judging import Prescribe

__all__ = [
    "RULES", "Rule", "Symptom", "View", "absent_head", "diagnose", "find", "meaning", "symptoms",
]  # fmt: skip

# In the order of evaluation: bytes, folder, names, config, head, the rest of the tensors, data,
# loaders, promise.
_EVALUATION = (
    *files.RULES,
    *sorted((*index.RULES, *shards.RULES), key=lambda r: r.code),
    *names.RULES,
    *adapters.RULES,
    *layouts.RULES,
    *quantisation.RULES,
    *config.RULES,
    *baseclass.RULES,
    *family.RULES,
    *parts.RULES,
    *generations.RULES,
    *sorted((*head.RULES, *oneness.RULES, *tieflag.RULES, *embedding.RULES), key=lambda r: r.code),
    *taskheads.RULES,
    *expected.RULES,
    *data.RULES,
    *untrained.RULES,
    *origin.RULES,
    *recorded.RULES,
    *loading.RULES,
    *promised.RULES,
)
RULES: tuple[Rule, ...] = tuple(sorted(_EVALUATION, key=lambda r: r.code))
"""Every rule, in the order of its code."""

# Rules whose findings account for tensors that are missing, left over or of another shape.
_NAMING = frozenset({
    "C04", "C08", "H02", "H08", "H09", "H10", "H11", "N01", "N12", "N13", "N15",
})  # fmt: skip
_SHAPING = frozenset({"C05", "D01", "D02", "H13"})
_EXPLAINING = tuple(r for r in RULES if r.code in _NAMING | _SHAPING)

_BY_KEY = {key: rule for rule in RULES for key in (rule.code, rule.name)}


def find(key: str) -> Rule:
    """The rule of a code or name, in any case. Raises Usage naming the nearest for another word."""
    for candidate in (key, key.upper(), key.lower()):
        if candidate in _BY_KEY:
            return _BY_KEY[candidate]
    near = difflib.get_close_matches(key.lower(), [r.name for r in RULES], 1)
    raise Usage(key, "is no rule", f"did you mean {near[0]}?" if near else "see tidoctor explain")


def chosen(keys: Sequence[str]) -> frozenset[str]:
    """The codes that a list of codes, names and families stands for. Raises Usage for others."""
    codes: set[str] = set()
    families = {r.code[0] for r in RULES}
    for key in keys:
        if key.upper() in families:
            codes |= {r.code for r in RULES if r.code[0] == key.upper()}
        else:
            codes.add(find(key).code)
    return frozenset(codes)


def _asked(loaders: Sequence[str]) -> tuple[Asked, ...]:
    if not loaders:
        return ()  # and nothing of what is known of them is read
    from tidoctor.loaders import asked

    return asked(loaders)


def diagnose(
    checkpoint: Checkpoint,
    *,
    wanted: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    deep: bool = False,
    loaders: Sequence[str] = (),
    prescribe: Prescribe | None = None,
    promise: Promise | None = None,
    progress: Progress | None = None,
    origin: Checkpoint | None = None,
    manifest: Manifest | None = None,
) -> Diagnosis:
    """Apply the rules to a checkpoint.

    `loaders` are consumers such as `candle@0.7.1`, `vllm` or `all`, whose verdicts are wanted; one
    that generates makes a bare base class answer for the class with a head; `prescribe` knows of
    copies that they take. `promise` is what the checkpoint has to be, `origin` the model that it
    was made from, `manifest` the record that tensors are held against; `progress` is told how far
    reading all values has come.
    Raises Usage for unknown codes, classes, tasks and loaders. A rule that could not run is listed
    with the reason, never left out.
    """
    wishes = _asked(loaders)
    wanted = wanted_class(checkpoint, wanted, loaders)
    view = View(
        checkpoint,
        wanted=wanted,
        deep=deep,
        manifest=manifest,
        explained=_explained,
        judged=lambda view: loading.judge(view, wishes, prescribe),
        promised=promise,
        kept=lambda view: loading.judge(view, _named_in(promise), None),
        progress=progress,
        origin=origin,
    )
    codes = (chosen(select) if select else frozenset(_BY_KEY)) - chosen(ignore)
    findings: list[Finding] = []
    ran: list[str] = []
    idle: list[NotRun] = []
    failed: list[NotRun] = []
    for rule in _EVALUATION:
        if rule.code not in codes:
            idle.append(NotRun(rule.code, "not selected"))
            continue
        if rule.needs_deep and not deep:
            failed.append(NotRun(rule.code, "needs --deep"))
            continue
        try:
            made = [_signed(f, rule, view) for f in rule.check(view)]
        except NotApplicable as e:
            idle.append(NotRun(rule.code, str(e)))
        except CannotRun as e:
            failed.append(NotRun(rule.code, str(e)))
        except Unreadable as e:
            failed.append(NotRun(rule.code, str(e)))
        else:
            ran.append(rule.code)
            findings += made
    return Diagnosis(
        findings=tuple(sorted(_absorbed(findings), key=lambda f: -f.severity)),
        ran=tuple(sorted(ran)),
        not_applicable=tuple(sorted(idle, key=lambda n: n.code)),
        not_run=tuple(sorted(failed, key=lambda n: n.code)),
        loaders=view.verdicts,
    )


def wanted_class(
    checkpoint: Checkpoint, wanted: str | None, loaders: Sequence[str]
) -> str | None:
    """The class or task that a checkpoint answers for, where it has to please some loaders."""
    if wanted is None and any(w.consumer.serves == "generation" for w in _asked(loaders)):
        return loading.headed_class(View(checkpoint))
    return wanted


def _named_in(promise: Promise | None) -> list[Asked]:
    """The loaders of a promise, without those that are no longer known."""
    found: list[Asked] = []
    for name, version, _ in promise.loaders if promise else ():
        with suppress(Usage):
            found += _asked([f"{name}@{version}"])
    return found


def _explained(view: View) -> Explained:
    """The tensors that rules about single causes speak of, whether or not they are selected."""
    names: set[str] = set()
    shapes: set[str] = set()
    for rule in _EXPLAINING:
        try:
            for finding in rule.check(view):
                names.update(finding.tensors)
                if rule.code in _SHAPING:
                    shapes.update(finding.tensors)
                operations = finding.cure.operations if finding.cure else ()
                names.update(str(o["to"]) for o in operations if o["op"] == "rename")
        except (NotApplicable, CannotRun, Unreadable):
            continue
    return Explained(frozenset(names), frozenset(shapes))


def _signed(finding: Finding, rule: Rule, view: View) -> Finding:
    """The finding with the rule's code and name, and a cure that can be pasted."""
    cure = finding.cure
    if cure and cure.operations and cure.command is None:
        asks = cure.kind is CureKind.CONSENT or finding.severity is Severity.NOTE
        options = {"donor": "--donor MODEL", "accept": f"--accept {rule.code}"}
        given = [options[need] for need in cure.needs if need in options]
        if asks and not given:
            given = [options["accept"]]
        cure = cure._replace(command=view.command("repair", *given))
    return replace(finding, code=rule.code, name=rule.name, cure=cure)


def _absorbed(findings: list[Finding]) -> list[Finding]:
    """One cause, one finding: a root lists the codes of what it explains, which then vanish.

    Only a finding about no other tensors than the root's is explained by it.
    """
    gone: set[int] = set()
    out: list[Finding] = []
    for root in findings:
        explains = {*_BY_KEY[root.code].absorbs, *root.includes}
        taken = [
            f
            for f in findings
            if f.code in explains
            and f is not root
            and (not root.tensors or set(f.tensors) <= set(root.tensors))
        ]
        gone |= {id(f) for f in taken}
        codes = [*root.includes, *(c for f in taken for c in (f.code, *f.includes))]
        worst = max([root.severity, *(f.severity for f in taken)])
        out.append(replace(root, includes=tuple(dict.fromkeys(codes)), severity=worst))
    return [new for old, new in zip(findings, out, strict=True) if id(old) not in gone]


def absent_head(checkpoint: Checkpoint) -> tuple[str, str] | None:
    """(head, embedding) when the head is not stored because it is tied, None otherwise."""
    view = View(checkpoint)
    if view.tie.meant is not True or not view.must_generate or view.incomplete:
        return None  # most are told by their config; where the head is costs far more to know
    if view.embedding and not view.head_parts and not view.head:
        return view.head_name, view.tensors[view.embedding].name
    return None
