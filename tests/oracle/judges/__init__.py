"""Real programs that load tiny checkpoints, each in an environment of its own.

`environments` creates what is needed, `fixtures` writes the checkpoints, `run` asks the judges and
records what they did in `outcomes.json`; `recorded` reads that file. Only the scripts in `scripts/`
ever meet the programs, and they know nothing of this package.
"""
