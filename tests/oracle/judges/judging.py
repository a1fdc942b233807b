"""From what a judge said of a fixture to an outcome: loads, fails or misreads, and which head.

That a program loaded a folder proves nothing: it has to have the right head, and its answer has to
be the answer of the whole body. A reference answer comes from transformers 5.23 on a sound fixture
of the same family, whose head was compared bit for bit with the tensor of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.oracle.judges import families
from tests.oracle.judges.fixtures import Fixture, contents

HEADS = ("own", "embedding", "stale", "random", "none", "unknown")
STEPS = {0: "embedding", 1: "own", 2: "stale"}
TOLERANCE = 0.02  # of logits between -9 and 9; another head or body is off by 0.1 and more
FINE = 0.002  # of logarithms of a program that is its own reference

Answers = Mapping[str, Sequence[float]]  # a fixture's name and its answer


@dataclass(frozen=True)
class Outcome:
    """What a program made of a fixture."""

    outcome: str  # loads | fails | misreads | unknown
    head: str  # own | embedding | stale | random | none | unknown
    message: str  # the program's error, or what else was seen


def plain(text: str, limit: int = 300) -> str:
    """A message in one line, without colours, folders and backtraces."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.split(r"\n\s*0: |\nStack backtrace|\n\nCaused by", text)[0]
    text = re.sub(r"(?:/[\w.+-]+)+/", "", " ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def content(fixture: Fixture, place: str) -> str:
    """Whose values `FILE:NAME` of a fixture holds: own, embedding, stale or unknown."""
    file, _, name = place.partition(":")
    values = contents(fixture).files[file][name]
    family = fixture.family
    for head, matrix in (
        ("embedding", families.embedding(family)),
        ("own", families.head(family)),
        ("stale", families.head(family, step=2)),
    ):
        if values.shape == matrix.shape and np.array_equal(values, matrix):
            return head
    return "unknown"


def _near(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= tolerance for a, b in zip(one, other, strict=True)
    )


def says(answer: Sequence[float], greedy: Mapping[str, Sequence[float]]) -> bool:
    """Whether an answer in words is that of transformers.

    Generators tell logarithms of probabilities, or (mistral.rs until 0.9.2) decimal logarithms of
    logits.
    """
    decimal = [math.log10(v) for v in greedy["logits"] if v > 0]
    return _near(answer, greedy["logs"], FINE) or _near(answer, decimal, FINE)


def _scales(fixture: Fixture, head: str) -> tuple[float, ...]:
    """By what the right answer differs from that of the sound fixture with the same head.

    Only T5 has more than one: its tie flag also says whether the decoder's output is divided by
    the root of the width. Where head and flag contradict each other nobody knows what was meant.
    """
    root = families.HIDDEN**0.5
    flag = contents(fixture).config.get("tie_word_embeddings", fixture.family.ties)
    if fixture.family.name != "t5" or (head == "embedding") is flag:
        return (1.0,)
    return (root,) if head == "embedding" else (1.0, 1 / root)


def _merged(fixture: Fixture, said: Mapping[str, Any]) -> Outcome:
    """mergekit: the head of the result, and what of the folder is nowhere in it."""
    family = fixture.family
    flag = contents(fixture).config.get("tie_word_embeddings", family.ties)
    if said["headed"]:
        head = content(fixture, said["matrix"]) if said["matrix"] else "unknown"
    else:
        head = "embedding" if flag else "none"
    needed = {family.embedding.removeprefix(family.prefix), *family.body}
    lost = [name for name in said["lost"] if name.removeprefix(family.prefix) in needed]
    notes = [] if said["headed"] else ["the result has no head"]
    if lost:
        notes.append(f"the result lacks {len(lost)} tensors, the first {lost[0]}")
    right = head == fixture.truth and not lost
    return Outcome("loads" if right else "misreads", head, "; ".join(notes))


def _unpacked(
    fixture: Fixture, said: Mapping[str, Any], tables: Mapping[str, Sequence[Sequence[float]]]
) -> Outcome:
    """vLLM, which loads and does not compute: the head, what was not read, the rotary tables."""
    head = content(fixture, said["matrix"]) if said["matrix"] else "random"
    notes = []
    if said["unread"]:
        notes.append(f"{len(said['unread'])} are not read, the first {said['unread'][0]}")
    sound = fixture.reference("own")
    wanted = tables.get(sound or "", ())
    near = len(wanted) == len(said["tables"]) and all(
        _near(one, other, TOLERANCE) for one, other in zip(said["tables"], wanted, strict=True)
    )
    if wanted and not near:
        notes.append("the rotary tables are others")
    right = head == fixture.truth and not notes
    return Outcome("loads" if right else "misreads", head, "; ".join(notes))


def judged(
    fixture: Fixture,
    said: Mapping[str, Any],
    answers: Answers,
    tolerance: float = TOLERANCE,
    tables: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Outcome:
    """The outcome of a fixture.

    `answers` are references by the name of the sound fixture, `tables` its rotary tables.
    """
    error = plain(said.get("error") or "")
    if said["loaded"] is None:
        return Outcome("unknown", "unknown", error)
    if not said["loaded"]:
        return Outcome("fails", "none", error)
    if error:
        return Outcome("fails", "none", f"at the first use: {error}")
    if "lost" in said:
        return _merged(fixture, said)
    if "unread" in said:
        return _unpacked(fixture, said, tables or {})
    step = said["step"]
    head = STEPS.get(step, "unknown") if step is not None else "unknown"
    if "matrix" in said:  # the weight itself was looked at
        known = content(fixture, said["matrix"]) if said["matrix"] else "random"
        assert head in ("unknown", known) or known == "random", (fixture.name, said)
        head = known
    report = said.get("report", "")
    sound = fixture.reference(head)
    reference = answers.get(sound or "")
    if reference is None and sound:
        return Outcome("unknown", head, plain(f"no sound fixture to compare with; {report}"))
    whole = reference is not None and any(
        _near(said["answer"], [value * scale for value in reference], tolerance)
        for scale in _scales(fixture, head)
    )
    right = head == fixture.truth and whole
    if head == fixture.truth and not whole:
        report = f"the head is right, the answer is not; {report}".strip("; ")
    return Outcome("loads" if right else "misreads", head, plain(report))
