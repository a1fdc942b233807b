"""Whether a model on the Hub is judged as its copy here, for each folder of a folder.

`python tests/bench/remote_equals_local.py FOLDER` serves every folder in FOLDER as a repository of
the stand-in, diagnoses both with `--deep --for all`, and compares all findings and verdicts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def told(cwd: Path, names: list[str], environment: dict[str, str]) -> list[dict[str, Any]]:
    """The JSON of each source, without what has to differ."""
    command = [sys.executable, "-m", "tidoctor", "diagnose", "--deep", "--for", "all", "--format", "json"]
    rows = []
    for at in range(0, len(names), 40):
        run = subprocess.run([*command, *names[at : at + 40]], cwd=cwd, env=environment, capture_output=True, text=True)
        pairs = zip(names[at : at + 40], run.stdout.splitlines(), strict=True)
        rows += [json.loads(line.replace(name, "NAME")) for name, line in pairs]
    for row in rows:
        if row["schema"] == "tidoctor.error/1":
            row["where"] = row["source"] = None
            continue
        row["source"] = {k: v for k, v in row["source"].items() if k not in ("name", "revision")}
        row["summary"].pop("bytes_read")
        row["summary"].pop("rules")  # one is about permissions, which only files here have
        for finding in row["findings"]:
            # What the listing of the repository adds.
            finding["evidence"] = [e for e in finding["evidence"] if e["where"] != "listing"]
    return rows


def main(folder: Path) -> int:
    from fakehub import FakeHub

    cases = sorted(p for p in folder.iterdir() if p.is_dir())
    names = [f"org/{p.name}" for p in cases]
    with FakeHub() as hub, tempfile.TemporaryDirectory() as home:
        for case in cases:
            hub.repo(f"org/{case.name}", {
                p.relative_to(case).as_posix(): p.read_bytes() for p in case.rglob("*") if p.is_file()
            })  # fmt: skip
        environment = os.environ | {
            "HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)
        }  # fmt: skip
        here = told(folder, [f"./{p.name}" for p in cases], environment)
        there = told(folder, names, environment)
    differ = [c.name for c, a, b in zip(cases, here, there, strict=True) if a != b]
    for case, a, b in zip(cases, here, there, strict=True):
        if a != b:
            for key in a:
                if a[key] != b.get(key):
                    print(f"{case.name} differs in {key}: {a[key]} but {b.get(key)}")
    print(f"{len(cases) - len(differ)} of {len(cases)} are judged alike")
    return int(bool(differ) or not cases)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
