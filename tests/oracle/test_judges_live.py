"""Four real programs, run now: the record of what they did is true on this machine.

mistral.rs, mlx-lm and mergekit get environments of their own, kept for the next run (see
`judges.environments`; about 450 MB for the first two, and mergekit looks into the environment of
the tests for its torch), transformers is the one of the tests. The other judges are not run here
but by `python -m tests.oracle.judges.run`, which takes about 15 minutes when their environments are
there. An environment that cannot be made is an error, not a skip: what was not run was not proven.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.judges import environments, fixtures, judging, run
from tests.oracle.judges.environments import Judge
from tests.oracle.judges.fixtures import SCALED, SOUND
from tests.oracle.judges.judging import Outcome

JUDGES = environments.judges(
    [run.REFERENCE, "mlx-lm-0.32.2", "mistralrs-0.9.5", "mergekit-0.1.5"]
)
# All situations of files, prefixes and heads; the other families differ in heads only.
FAMILIES = ("llama", "gemma2")
RECORD = run.read()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fixtures")
    return {
        name: fixtures.write(fixture, root / name)
        for name, fixture in fixtures.FIXTURES.items()
        if fixture.family.name in FAMILIES or fixture.situation in SOUND.values()
        or name in SCALED
    }


@pytest.mark.parametrize("judge", JUDGES, ids=[judge.name for judge in JUDGES])
def test_a_program_does_today_what_is_recorded(judge: Judge, folders: dict[str, Path]) -> None:
    interpreter = environments.create(judge, beside=True)
    said = {one["fixture"]: one for one in run.ask(judge, interpreter, folders.values())}
    assert said.keys() == folders.keys()
    recorded = RECORD["judges"][judge.name]["outcomes"]
    found = run.outcomes(judge, said, RECORD)
    differ = {
        name: (one, Outcome(*recorded[name]))
        for name, one in found.items() if one != Outcome(*recorded[name])
    }
    assert not differ
    if judge.name == run.REFERENCE:
        for name, answer in run.references(said).items():
            wanted = RECORD["references"][name]
            assert max(abs(a - b) for a, b in zip(answer, wanted, strict=True)) < (
                judging.TOLERANCE / 4
            )
