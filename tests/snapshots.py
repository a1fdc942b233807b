"""What every format makes of the five incidents: one file for each format below snapshots/.

`python tests/snapshots.py` writes them anew; test_snapshots.py compares.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLACE = Path(__file__).parent / "snapshots"
FORMATS = ("text", "concise", "json", "github", "sarif", "junit", "markdown")
INCIDENTS = (
    "diagnose llama-3.2-1b --for candle@0.7.1",
    "diagnose qwen2-7b",
    "diagnose llama-3.1-8b-tuned --as causal-lm",
    "diagnose qwen2.5-3b --for lorax@0.12.1",
    "diagnose llama-3.2-3b --for mergekit@0.0.4.2",
)
_OUTSIDE = ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY", "TIDOCTOR_FORMAT", "FORCE_COLOR", "NO_COLOR")


def run(line: str) -> tuple[int, str]:
    """Exit code and standard output of a command line, in the folder with the incidents."""
    from tidoctor.__main__ import main

    out = io.StringIO()
    before = {name: os.environ.pop(name) for name in _OUTSIDE if name in os.environ}
    try:
        with contextlib.redirect_stdout(out):
            code = main(line.split())
    finally:
        os.environ.update(before)
    return code, out.getvalue()


def snapshot(format_: str) -> str:
    """All incidents in one format, each under its command line."""
    told = []
    for line in INCIDENTS:
        code, text = run(f"{line} --format {format_}")
        if format_ in ("json", "sarif"):
            text = json.dumps(_brief(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
        told.append(f"$ tidoctor {line} --format {format_}\n{text}[exit {code}]\n")
    return "\n".join(told)


def _brief(value: Any) -> Any:
    """The rules of a SARIF run by their codes alone: their pages are compared elsewhere."""
    if isinstance(value, list):
        return [_brief(v) for v in value]
    if isinstance(value, dict):
        return {
            k: [r["id"] for r in v] if k == "rules" and isinstance(v, list) else _brief(v)
            for k, v in value.items()
        }
    return value


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tidoctor.demo import write_incidents

    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_incidents(Path(folder))
        for name in FORMATS:
            (PLACE / f"{name}.txt").write_text(snapshot(name), encoding="utf-8")
