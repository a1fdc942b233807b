"""[tool.tidoctor]: found, checked, overruled; waivers with their reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report_samples import HEALTHY, ILL, WAIVED
from tidoctor.errors import Unreadable, Usage
from tidoctor.settings import Settings, load

TABLE = """
[tool.tidoctor]
select = ["H", "c04"]
ignore = "F04, head-redundant"
for = ["candle@0.7.1"]
fail-on = "warning"

[[tool.tidoctor.waive]]
code = "base-class-saved"
source = "models/*"
reason = "the trainer keeps the head"
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_nearest_file_with_a_table_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load()
    assert found.select == ("H", "c04") and found.ignore == ("F04", "head-redundant")
    assert (found.loaders, found.fail_on) == (("candle@0.7.1",), "warning")
    (waiver,) = found.waivers
    assert waiver.codes == {"C04"} and waiver.by == "pyproject.toml"
    monkeypatch.chdir("deep/er")
    (project / "deep/pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert load() == found
    (project / "deep/pyproject.toml").write_text("[tool.tidoctor]\n")
    assert load() == Settings()
    assert load(isolated=True) == Settings()
    assert load(project / "pyproject.toml") == found


def test_what_others_broke_is_none_of_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("deep")
    Path("pyproject.toml").write_text("[tool.black\n")
    assert load().fail_on == "warning"
    Path("pyproject.toml").write_text("[tool.tidoctor\n")
    with pytest.raises(Usage, match="is not TOML"):
        load()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fail_on = 'error'", "unknown key 'fail_on'.*did you mean fail-on"),
        ("selct = ['H']", "did you mean select"),
        ("colour = 'json'", "unknown key 'colour'.*known are select"),
        ("select = ['H99']", "H99.*is no rule"),
        ("select = [1]", "select is not a list of strings"),
        ("for = ['candel']", "candel"),
        ("fail-on = 'sometimes'", "one of error, warning, note, never"),
        ("fail-on = ['error']", "one of error"),
        ("waive = 'H02'", r"write \[\[tool.tidoctor.waive\]\]"),
        ("[[tool.tidoctor.waive]]\ncode = 'H02'", "waive.. 1: has no reason"),
        ("[[tool.tidoctor.waive]]\ncode = 'H02'\nreason = ' '", "has no reason"),
        ("[[tool.tidoctor.waive]]\nreason = 'x'", "has no code"),
        ("[[tool.tidoctor.waive]]\nreason = 'x'\ncode = 'Z1'", "Z1.*is no rule"),
        ("[[tool.tidoctor.waive]]\nreason = 'x'\ncode = 'H02'\nsource = 1", "source is not a pattern"),
        ("x" * 100_000 + " = 1", "unknown key 'x{80}…'"),
        (f"fail-on = '{'x' * 100_000}'", "fail-on is 'x{79}…; one of error"),
        ("a." * 5000 + "a = 1", "is not TOML: a key has too many parts"),
        ("# " + "." * 5000 + "\nselect = '" + "a." * 500 + "'", "is no rule"),
        ("[[tool.tidoctor.waive]]\nreasn = 'x'", "did you mean reason"),
    ],
)
def test_what_may_not_stand_there_is_told(project: Path, text: str, told: str) -> None:
    Path("pyproject.toml").write_text(f"[tool.tidoctor]\n{text}\n")
    with pytest.raises(Usage, match=told):
        load()


def test_a_file_that_was_named_must_have_a_table(project: Path) -> None:
    Path("other.toml").write_text("[project]\n")
    with pytest.raises(Usage, match="has no table"):
        load(Path("other.toml"))
    with pytest.raises(Usage, match="contradicts"):
        load(Path("other.toml"), isolated=True)
    with pytest.raises(Unreadable, match="cannot be read"):
        load(Path("none.toml"))
    for text in ("tool = 1", "[tool]\ntidoctor = 1"):
        Path("other.toml").write_text(text)
        with pytest.raises(Usage):
            load(Path("other.toml"))


def test_the_command_line_wins() -> None:
    found = load()
    assert found.overruled() == found
    over = found.overruled(["N"], ["D"], ["vllm"], "never")
    assert (over.select, over.ignore, over.loaders, over.fail_on) == (("N",), ("D",), ("vllm",), "never")
    assert over.waivers == found.waivers


@pytest.mark.parametrize(
    ("source", "waived"),
    [("models/x", 1), ("./models/x/", 1), ("models/a/b", 1), ("other/x", 0), ("models", 0)],
)
def test_waivers_go_by_code_and_source(source: str, waived: int) -> None:
    found = load().apply(ILL, source)
    assert len(found.waived) == waived and len(found.findings) == 3 - waived
    if waived:
        assert found.waived == WAIVED.waived
    assert load().apply(HEALTHY, source) is HEALTHY
