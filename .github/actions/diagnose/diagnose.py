"""Diagnose what the inputs of the action name; they arrive in the environment, as DIAGNOSE_*."""

import json
import os
import sys
from pathlib import Path

from tidoctor.__main__ import main

OPTIONS = {
    "AS": "--as",
    "FOR": "--for",
    "SELECT": "--select",
    "IGNORE": "--ignore",
    "FAIL_ON": "--fail-on",
    "BASELINE": "--baseline",
    "PROMISE": "--promise",
    "CONFIG": "--config",
}
FLAGS = {"RECURSIVE": "--recursive", "DEEP": "--deep"}


def given(name: str) -> str:
    """An input of the action; empty when it was not given."""
    return os.environ.get(f"DIAGNOSE_{name}", "").strip()


def arguments() -> list[str]:
    """The command line that the inputs ask for; a value never becomes an option."""
    line = ["diagnose"]
    for name, option in OPTIONS.items():
        if given(name):
            line.append(f"{option}={given(name)}")
    for name, flag in FLAGS.items():
        if given(name) not in ("", "true", "false"):
            sys.exit(f"::error::{name.lower()} is neither true nor false")
        if given(name) == "true":
            line.append(flag)
    return line


def report(sarif: Path, code: int) -> dict[str, str]:
    """The outputs of the action."""
    runs = json.loads(sarif.read_text(encoding="utf-8"))["runs"] if sarif.exists() else []
    levels = [r["level"] for run in runs for r in run["results"] if "suppressions" not in r]
    return {
        "exit-code": str(code),
        "errors": str(levels.count("error")),
        "warnings": str(levels.count("warning")),
        "notes": str(levels.count("note")),
        "checkpoints": str(len(runs)),
        "sarif-file": str(sarif) if runs else "",
    }


def run() -> int:
    """Write SARIF for the outputs, tell GitHub, and return the exit code of tidoctor."""
    sources = [line.strip() for line in given("SOURCES").splitlines() if line.strip()]
    sarif = Path(os.environ["RUNNER_TEMP"], "tidoctor.sarif")
    sarif.unlink(missing_ok=True)
    line = arguments()
    main([*line, "--format=sarif", f"--output={sarif}", "--quiet", "--", *sources])
    code = main([*line, "--format=github", "--", *sources])
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as outputs:
        for key, value in report(sarif, code).items():
            outputs.write(f"{key}={value}\n")
    return code


if __name__ == "__main__":
    sys.exit(run())
