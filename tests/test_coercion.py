"""Words of the command line become what typer itself would make of them, without pydantic."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.core
import typer.main

from tidoctor import cli
from tidoctor.cli import coercion

WORDS = (
    "", "a", "text", "TEXT", "Text", "error", "none", "hard", "always", "5", "-", ".", "\udcff", "a" * 300,
)


def parameters() -> list[Any]:
    commands = [typer.main.get_command(cli.app), *map(cli._command, cli.VERBS)]
    return [
        pytest.param(command, parameter, id=f"{command.name}-{parameter.name}")
        for command in commands
        for parameter in command.get_params(typer.Context(command))
        if parameter.callback is None  # those with one act: the version, help, the completion
    ]


def outcome(command: Any, parameter: Any, value: Any) -> Any:
    try:
        made = parameter.process_value(typer.Context(command), value)
    except typer.TyperException as e:
        return type(e), e.format_message()
    return type(made), made


@pytest.mark.skipif(
    not hasattr(typer.core, "_TyperParameter"), reason="this typer converts without pydantic"
)
@pytest.mark.parametrize(("command", "parameter"), parameters())
def test_every_parameter_takes_words_as_typer_does(command: Any, parameter: Any) -> None:
    several = parameter.multiple or parameter.nargs == -1
    words = [[word] for word in WORDS] + [list(WORDS)] if several else WORDS
    for value in (None, parameter.default, *words):
        parameter._runtime_param = None
        command.get_params(typer.Context(command))
        assert isinstance(parameter._runtime_param, coercion._Plain)
        ours = outcome(command, parameter, value)
        parameter._runtime_param = None
        assert ours == outcome(command, parameter, value), value


def test_a_command_does_not_import_pydantic(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tidoctor.__main__ import main\n"
        f"main(['diagnose', {str(tmp_path)!r}, '--format', 'json', '-q', '--select', 'H'])\n"
        "assert 'typer' in sys.modules\nassert 'pydantic' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_word_that_is_no_value_is_refused_in_typers_words(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tidoctor", "inspect", str(tmp_path), "--format", "yaml"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "yaml" in ran.stderr and "text" in ran.stderr
