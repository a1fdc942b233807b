"""What transformers 4 takes for the default of the tie flag; its own interpreter is asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

from tidoctor.atlas.learner.configs import config_class_of
from tidoctor.atlas.learner.known import model_types_by_class, tasks_of_classes

_ROOT = Path(__file__).parents[3]


def print_v4() -> None:
    """Run by a transformers 4 interpreter: class name -> effective default of the flag.

    transformers 4 asks the text config alone (4.57, modeling_utils.py `tie_weights`).
    """
    found: dict[str, bool | None] = {}
    for name in tasks_of_classes():
        with contextlib.suppress(Exception):
            config = config_class_of(name, model_types_by_class().get(name, []))()
            flag = config.get_text_config(decoder=True).tie_word_embeddings
            found[name] = flag if isinstance(flag, bool) else None
    print(json.dumps(found))


def ask_v4(python: str | None) -> dict[str, bool | None]:
    """The answers of a transformers 4 interpreter; empty without one."""
    if python is None:
        return {}
    command = [python, "-m", "tidoctor.atlas.learner", "--print-v4"]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    answers: dict[str, bool | None] = json.loads(done.stdout.splitlines()[-1])
    return answers
