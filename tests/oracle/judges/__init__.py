"""Real programs that load tiny checkpoints, each in an environment of its own.

`environments` creates what is needed, `fixtures` writes the checkpoints, `run` asks the judges and
records what they did in `outcomes.json`. `tests/test_judges_recorded.py` holds the verdicts against
that file, `tests/oracle/test_judges_live.py` runs some of the programs again. Only the scripts in
`scripts/` ever meet the programs, and they know nothing of this package.

    python -m tests.oracle.judges.environments    make all environments (9 GB)
    python -m tests.oracle.judges.run             ask all judges, and record what they did
    python -m tests.oracle.judges.agreement       the matrix, and how many verdicts agree
"""
