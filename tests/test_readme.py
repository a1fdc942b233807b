"""Every example of the README was run, and prints what stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from readme import README, regenerated


def test_examples_print_what_stands_there(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("```console") >= 7
    assert regenerated(text, tmp_path) == text


def test_python_examples_parse_and_use_what_there_is() -> None:
    import tidoctor

    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "tidoctor":
            assert hasattr(tidoctor, node.attr)


def test_exit_codes_are_those_of_the_command_line() -> None:
    from tidoctor.report.verdict import Exit

    table = README.read_text(encoding="utf-8").partition("## Exit codes")[2]
    assert {int(c) for c in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {
        int(e) for e in Exit
    }
