"""Files for other programs, read by those programs: action, hook, and the recipes of the README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ci.conftest import ROOT

ACTION = ROOT / ".github/actions/diagnose/action.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"


def passes(program: str, *arguments: str | Path) -> str:
    line = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def recipes(language: str, first: str) -> list[str]:
    """The blocks of the README in a language that begin with certain words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [b for b in blocks if b.startswith(first)]


def test_zizmor_finds_nothing_in_the_action() -> None:
    told = passes("zizmor", "--offline", "--persona=auditor", ACTION)
    assert "No findings to report" in told


def test_the_action_is_one() -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.github-actions", ACTION)
    action = yaml.safe_load(ACTION.read_text())
    for step in action["runs"]["steps"]:
        assert "uses" not in step, "no other action, nothing to pin"
        assert "${{" not in step["run"], "inputs travel through the environment"


def test_the_hook_is_one() -> None:
    passes("pre-commit", "validate-manifest", HOOKS)


@pytest.mark.parametrize(
    ("first", "schema", "name"),
    [("name: checkpoints\non:", "vendor.github-workflows", "workflow.yml"),
     ("checkpoints:\n", "vendor.gitlab-ci", ".gitlab-ci.yml")],
)  # fmt: skip
def test_recipes_are_what_they_are_for(first: str, schema: str, name: str, tmp_path: Path) -> None:
    (recipe,) = recipes("yaml", first)
    (tmp_path / name).write_text(recipe)
    passes("check-jsonschema", "--builtin-schema", schema, tmp_path / name)


def test_zizmor_finds_nothing_in_the_recipe(tmp_path: Path) -> None:
    (recipe,) = recipes("yaml", "name: checkpoints\non:")
    place = tmp_path / ".github/workflows"
    place.mkdir(parents=True)
    (place / "checkpoints.yml").write_text(recipe.replace("COMMIT", "0" * 40))
    passes("zizmor", "--offline", place / "checkpoints.yml")


def test_the_recipe_for_pre_commit_is_valid(tmp_path: Path) -> None:
    (recipe,) = recipes("yaml", "repos:\n")
    (tmp_path / ".pre-commit-config.yaml").write_text(recipe)
    passes("pre-commit", "validate-config", tmp_path / ".pre-commit-config.yaml")
