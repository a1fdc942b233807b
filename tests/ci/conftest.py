"""The suites that need other people's programs: `pip install '.[ci]'`, then `pytest tests/ci`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Told = Callable[..., str]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the five incidents, which is also the current one."""
    from tidoctor.demo import write_incidents

    for name in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY", "TIDOCTOR_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "clinic"
    folder.mkdir()
    write_incidents(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def told(clinic: Path, tmp_path: Path) -> Iterator[Told]:
    """What a command line writes to a file, in a format."""
    from tidoctor.__main__ import main

    def tell(format_: str, *line: str) -> str:
        target = tmp_path / f"report.{format_}"
        main([*line, "--format", format_, "-o", str(target)])
        return target.read_text(encoding="utf-8")

    yield tell


LINES = (
    ("diagnose", "llama-3.2-1b", "--for", "candle@0.7.1"),
    ("diagnose", "qwen2-7b"),
    ("diagnose", "llama-3.1-8b-tuned", "--as", "causal-lm"),
    ("diagnose", "qwen2.5-3b", "--for", "all"),
    ("diagnose", "-r", ".", "nix", "--for", "all", "--as", "causal-lm"),
    ("diagnose", "waived"),
    ("diagnose", "broken", "hostile\x1b[31m\n::error::x"),
    ("repair", "llama-3.1-8b-tuned", "healed", "--as", "causal-lm"),
    ("repair", "llama-3.1-8b-tuned", "healed", "--as", "causal-lm", "--donor", "llama-3.1-8b"),
)


@pytest.fixture(params=LINES, ids=" ".join)
def line(request: pytest.FixtureRequest, clinic: Path) -> tuple[str, ...]:
    """One command line after the other, with what it needs in the clinic."""
    from tests import checkpoints

    make = checkpoints.write
    make(clinic / "waived", checkpoints.llama(head=False), checkpoints.LLAMA)
    (clinic / "pyproject.toml").write_text(
        "[[tool.tidoctor.waive]]\ncode = 'H02'\nsource = 'waived'\nreason = 'a <b> & c'\n"
    )
    make(clinic / "broken", checkpoints.llama(), "{,}")
    (clinic / "broken/model.safetensors").write_bytes(os.urandom(64))
    odd = clinic / "hostile\x1b[31m\n::error::x"
    make(odd, {"a]]>\x1b&\u202e<b>.weight": [2], **checkpoints.llama(head=False)}, checkpoints.LLAMA)
    picked: tuple[str, ...] = request.param
    return picked
