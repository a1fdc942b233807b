"""The composite action, its steps run in order as a runner would, with the inputs of a workflow."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests import checkpoints
from tests.ci.conftest import ROOT

FOLDER = ROOT / ".github/actions/diagnose"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())
_VALUE = re.compile(r"\$\{\{ *([a-z.-]+) *\}\}")
Act = Callable[..., tuple[int, str, dict[str, str]]]


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNNER_TEMP, with the first step already run in it: it installs tidoctor."""
    folder = tmp_path_factory.mktemp("runner")
    step = ACTION["runs"]["steps"][0]
    environment = os.environ | {
        "PYTHON": "python3", "RUNNER_TEMP": str(folder), "GITHUB_ACTION_PATH": str(FOLDER),
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], env=environment, check=True)
    return folder


@pytest.fixture
def act(temporary: Path, tmp_path: Path) -> Act:
    """Run the steps after the installation; (worst exit code, log, outputs)."""
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin/gh"
    gh.write_text('#!/bin/sh\necho "$@" > "$HERE/gh.line"\ncat > "$HERE/gh.body"\n')
    gh.chmod(0o755)
    (tmp_path / "repository").mkdir()

    def run(**inputs: str) -> tuple[int, str, dict[str, str]]:
        given = {k: str(v.get("default", "")) for k, v in ACTION["inputs"].items()}
        given |= {k.replace("_", "-"): v for k, v in inputs.items()} | {"token": "secret"}
        output = tmp_path / "output"
        output.write_text("")
        base = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "PYTHON"))}
        base |= {
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "HERE": str(tmp_path),
            "RUNNER_TEMP": str(temporary), "GITHUB_ACTION_PATH": str(FOLDER),
            "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_WORKSPACE": str(tmp_path / "repository"), "GITHUB_SHA": "a" * 40,
            "GITHUB_REF": "refs/heads/main", "GITHUB_REPOSITORY": "o/r",
        }  # fmt: skip
        worst, log, outputs = 0, "", {}
        for step in ACTION["runs"]["steps"][1:]:
            if "upload-sarif" in step.get("if", "") and (
                given["upload-sarif"] != "true" or not outputs.get("sarif-file")
            ):
                continue

            def value(m: re.Match[str], known: dict[str, str] = outputs) -> str:
                kind, _, name = m[1].partition(".")
                return given[name] if kind == "inputs" else known[m[1].rpartition(".")[2]]

            more = {k: _VALUE.sub(value, v) for k, v in step["env"].items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                env=base | more, cwd=tmp_path / "repository", capture_output=True, text=True,
            )  # fmt: skip
            worst = max(worst, done.returncode)
            log += done.stdout + done.stderr
            outputs = dict(row.split("=", 1) for row in output.read_text().splitlines())
        return worst, log, outputs

    return run


def test_healthy(act: Act, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "repository/a/b", checkpoints.llama(), checkpoints.LLAMA)
    code, log, outputs = act()
    assert code == 0 and log == "::notice title=tidoctor::1 checkpoint: 1 healthy\n"
    assert {k: v for k, v in outputs.items() if k != "sarif-file"} == {
        "exit-code": "0", "errors": "0", "warnings": "0", "notes": "0", "checkpoints": "1",
    }  # fmt: skip
    assert "### `a/b`: healthy" in (tmp_path / "summary.md").read_text()


def test_sick_with_upload(act: Act, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    checkpoints.write(repository / "a", checkpoints.llama(head=False), checkpoints.LLAMA)
    checkpoints.write(repository / "b", checkpoints.llama(), checkpoints.LLAMA)
    code, log, outputs = act(sources="a\nb\n", upload_sarif="true", fail_on="warning")
    assert code == 1 and outputs["errors"] == "1" and outputs["checkpoints"] == "2"
    assert log.startswith("::error file=a/config.json,line=16,title=H02 head-lost::")
    assert (tmp_path / "gh.line").read_text().split() == [
        "api", "--method", "POST", "repos/o/r/code-scanning/sarifs", "--input", "-",
    ]  # fmt: skip
    body = json.loads((tmp_path / "gh.body").read_text())
    assert (body["commit_sha"], body["ref"]) == ("a" * 40, "refs/heads/main")
    sent = json.loads(gzip.decompress(base64.b64decode(body["sarif"])))
    assert [r["results"][0]["ruleId"] for r in sent["runs"] if r["results"]] == ["H02"]


def test_inputs_stay_values(act: Act, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "repository/a", checkpoints.llama(), checkpoints.LLAMA)
    evil = '$(touch pwned); "; touch pwned; # --help'
    for inputs in ({"select": evil}, {"as": evil}, {"sources": f"--help\n{evil}"}, {"deep": evil}):
        code, log, _ = act(**inputs)
        assert code != 0 and "Usage" not in log, inputs
        assert not list(tmp_path.rglob("pwned"))


def test_nothing_there_is_not_healthy(act: Act) -> None:
    code, log, outputs = act(recursive="false")
    assert code == 3 and "::error title=tidoctor%3A not examined::" in log
    assert outputs["exit-code"] == "3"
