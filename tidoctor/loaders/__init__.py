"""Who will read a checkpoint: what each consumer does, version by version, as data.

One JSON file per consumer says how it finds tensors, head and embedding, with the source of each
statement; `evaluate` holds a checkpoint against it. Nothing here reads a file of a checkpoint:
a `Patient` is a value that somebody else makes.
"""

from __future__ import annotations

from tidoctor.loaders.catalogue import Asked, asked, consumer, find, names
from tidoctor.loaders.evaluation import Examination, evaluate
from tidoctor.loaders.origins import Origin, origins
from tidoctor.loaders.patient import Patient
from tidoctor.loaders.policy import Consumer, Record

__all__ = [
    "Asked", "Consumer", "Examination", "Origin", "Patient", "Record", "asked", "consumer",
    "evaluate", "find", "names", "origins",
]  # fmt: skip
