"""The real pre-commit, on a repository with sick and healthy checkpoints, with the hook cloned."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import checkpoints
from tests.ci.conftest import ROOT

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 16060522240\n"
)
Commit = Callable[..., tuple[int, str]]


def git(folder: Path, *line: str) -> str:
    name = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    return subprocess.check_output(
        ["git", *name, *line], cwd=folder, text=True, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with what is here now."""
    folder = tmp_path_factory.mktemp("tidoctor")
    shutil.copytree(ROOT / "tidoctor", folder / "tidoctor",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "now")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pre-commit-home")


@pytest.fixture
def commit(clone: Path, home: Path, tmp_path: Path) -> Commit:
    """Commit what lies in the repository, with the hook as pre-commit installs it."""
    folder = tmp_path / "models"
    folder.mkdir()
    git(folder, "init", "-q")
    revision = git(clone, "rev-parse", "HEAD").strip()
    (folder / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {clone}\n  rev: {revision}\n  hooks:\n  - id: tidoctor\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GIT_DIR")}
    environment |= {"PRE_COMMIT_HOME": str(home), "PRE_COMMIT_COLOR": "never"}

    def run() -> tuple[int, str]:
        git(folder, "add", "-A")
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", "run", "--verbose"], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode == 0:
            git(folder, "commit", "-qm", "fine", "--no-verify")
        return done.returncode, done.stdout + done.stderr

    return run


def test_healthy_passes_sick_fails(commit: Commit, tmp_path: Path) -> None:
    models = tmp_path / "models"
    make = checkpoints.write
    make(models / "well", checkpoints.llama(), checkpoints.LLAMA, shards=4)
    (models / "site").mkdir()
    (models / "site/config.json").write_text('{"port": 80}')
    code, told = commit()
    assert code == 0 and "Passed" in told, told

    make(models / "sick", checkpoints.llama(head=False), checkpoints.LLAMA, shards=4)
    code, told = commit()
    assert code == 1 and told.count("error H02 head-lost") == 1, told
    assert "sick/config.json:16: error H02" in told

    shutil.rmtree(models / "sick")
    (models / "pointer").mkdir()
    (models / "pointer/model.safetensors").write_bytes(POINTER)
    code, told = commit()
    assert code == 1, told
    assert "error F01 not-safetensors model.safetensors was not fetched: " in told
    assert "corrupt" not in told and "broken" not in told

    shutil.rmtree(models / "pointer")
    (models / "site/config.json").write_text('{"port": 81}')
    code, told = commit()
    assert code == 0 and "nothing to examine" in told, told

    # pre-commit names no file that is gone: a shard is missed when another file is committed.
    (models / "well/model-00002-of-00004.safetensors").unlink()
    code, told = commit()
    assert code == 0 and "no files to check" in told, told
    (models / "well/config.json").write_text((models / "well/config.json").read_text() + "\n")
    code, told = commit()
    assert code == 1 and "well/model.safetensors.index.json" in told, told
