"""Whether another checkpoint can give what this one has lost."""

from __future__ import annotations

from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.finding import Finding
from tidoctor.rules.rule import CannotRun


def name_in_donor(tensor: str, donor: rules.View) -> str | None:
    """What the donor calls a tensor."""
    if tensor in donor.tensors:
        return donor.tensors[tensor].name
    part = donor.head if tensor == donor.head_name else None
    return donor.tensors[part].name if part else None


def unfit(finding: Finding, patient: Checkpoint, donor: Checkpoint) -> str:
    """Why a donor cannot give what a finding lacks, empty when it can."""
    ours, theirs = rules.View(patient), rules.View(donor)
    name = donor.source.name
    if ours.model_type != theirs.model_type:
        return f"the donor {name} is a {theirs.model_type}, this is a {ours.model_type}"
    grafts = [
        str(o["tensor"])
        for o in (finding.cure.operations if finding.cure else ())
        if o["op"] == "graft" and not o.get("optional")
    ]
    for tensor in grafts:
        given = name_in_donor(tensor, theirs)
        if given is None:
            tied = theirs.tie.meant is True and theirs.head is None
            return f"the donor {name} has no {tensor}" + ("; its own is tied" if tied else "")
    if ours.head_name in grafts:
        try:
            own = theirs.tie.meant is not True and theirs.head_equals_embedding is not True
        except CannotRun as e:
            return f"the donor {name}: {e}"
        if not own:
            return f"the head of the donor {name} is its embedding, not a head of its own"
    like = ours.embedding or ours.head
    twin = theirs.embedding if ours.embedding else theirs.head
    pairs = [(ours.tensors[like], theirs.tensors[twin])] if like and twin else []
    if not pairs:  # then every tensor that both have has to fit
        pairs = [(t, theirs.tensors[n]) for n, t in ours.tensors.items() if n in theirs.tensors]
    if not pairs:
        return f"the donor {name} has no tensor in common with this"
    pairs += [
        (ours.tensors[like], donor.tensors[str(name_in_donor(t, theirs))])
        for t in grafts
        if like and t in (ours.head_name, ours.generator.embedding if ours.generator else None)
    ]
    for mine, yours in pairs:
        if mine.shape != yours.shape:
            return (
                f"{yours.name} of the donor {name} has {_dims(yours.shape)}, {mine.name} has "
                f"{_dims(mine.shape)}: another vocabulary or size"
            )
        if mine.dtype != yours.dtype:
            return f"{yours.name} of the donor {name} is {yours.dtype}, {mine.name} is {mine.dtype}"
    return ""


def _dims(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
