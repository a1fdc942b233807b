"""The demo: what it writes is what happened, it ends well and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import tidoctor
from tidoctor import demo
from tidoctor.__main__ import main


def test_it_ends_well_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = Path.cwd()
    assert main(["demo"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == here
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "5 incidents, 16 commands, each ended as it should."


def test_it_says_when_a_command_does_not_end_as_it_should(tmp_path: Path) -> None:
    lines: list[str] = []
    assert demo.run(tmp_path / "a", lines.append, lambda _: 7) == 1
    assert lines[-1].endswith("16 did not end as they should.")


def test_the_checkpoints_are_kept_where_they_were_wanted(tmp_path: Path) -> None:
    assert main(["demo", str(tmp_path / "clinic")]) == 0
    assert {"llama-3.2-1b", "qwen2-7b", "healed"} <= {p.name for p in (tmp_path / "clinic").iterdir()}
    healed = tidoctor.open(tmp_path / "clinic" / "healed")
    whole = tidoctor.open(tmp_path / "clinic" / "llama-3.1-8b")
    assert set(healed.tensors) == set(whole.tensors)
    for name, tensor in whole.tensors.items():
        assert whole.same_bytes(tensor, healed.tensors[name])


def test_an_existing_folder_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("x")
    assert main(["demo", str(tmp_path)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert str(tmp_path) in capsys.readouterr().err
