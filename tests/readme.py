"""The README with what its commands really print, and its table of rules.

`python tests/readme.py` writes it anew; test_readme.py compares.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
_RULES = re.compile(r"(?<=<!-- rules -->\n).*?(?=<!-- /rules -->)", re.DOTALL)


def regenerated(text: str, folder: Path) -> str:
    """The text with every example run in `folder`, in order, and the table of rules."""
    commands = folder / ".bin"
    commands.mkdir()
    tidoctor = commands / "tidoctor"
    tidoctor.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tidoctor "$@"\n')
    tidoctor.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "LC_ALL": "C.UTF-8",
    }
    for name in ("TIDOCTOR_FORMAT", "FORCE_COLOR", "GITHUB_ACTIONS"):
        environment.pop(name, None)

    def run(block: re.Match[str]) -> str:
        shown = []
        for line in block[0].splitlines():
            if not line.startswith("$ "):
                continue
            done = subprocess.run(
                ["bash", "-c", line.removeprefix("$ ")],
                cwd=folder, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert not done.stderr, done.stderr
            shown.append(f"{line}\n{done.stdout.rstrip()}\n")
        return "\n".join(shown)

    return _RULES.sub(lambda _: rule_table(), _BLOCK.sub(run, text))


def rule_table() -> str:
    from tidoctor.rules import RULES

    rows = [f"| {r.code} | {r.name} | {r.title} |" for r in RULES]
    return "\n".join(["| code | name | what |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as place:
        README.write_text(regenerated(README.read_text(encoding="utf-8"), Path(place)))
