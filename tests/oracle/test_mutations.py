"""Random injuries to what transformers saved: a small, seeded set of those that can be run at will.

The whole trial is `python -m tests.oracle.mutations`.
"""

from __future__ import annotations

from tests.oracle import mutations


def test_injuries_are_found_named_and_healed() -> None:
    outcomes = mutations.run(400, seed=20, every=7)
    found, named, healed = mutations.shares(outcomes)
    missed = [(o.kind, o.patient, o.what, o.codes) for o in outcomes if not o.found or not o.named]
    assert found >= 0.97 and named >= 0.95, missed
    assert healed >= 0.9, [(o.kind, o.patient, o.what) for o in outcomes if o.healed is False]
