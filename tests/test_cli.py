"""The command line as users and CI jobs meet it: exit codes, streams, help, imports."""

from __future__ import annotations

import ast
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

import tidoctor
from tests import checkpoints
from tests.atlas_samples import TRUE
from tests.report_samples import validated
from tidoctor import cli
from tidoctor.__main__ import main
from tidoctor.atlas import data

ROOT = Path(__file__).parents[1]
BASE = checkpoints.LLAMA | {"architectures": ["LlamaModel"]}
TIED = checkpoints.LLAMA | {"tie_word_embeddings": True}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run in a folder with checkpoints: well, tied, base (no prefix, no head), lost, lfs, empty."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TIDOCTOR_FORMAT", "TIDOCTOR_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    make = checkpoints.write
    make(Path("well"), checkpoints.llama(), checkpoints.LLAMA)
    make(Path("tied"), checkpoints.llama(head=False), TIED)
    make(Path("base"), checkpoints.llama(prefix="", head=False), BASE, shards=2)
    make(Path("lost"), checkpoints.llama(head=False), checkpoints.LLAMA)
    make(Path("lfs"), {}, checkpoints.LLAMA)
    Path("lfs/model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    Path("empty").mkdir()

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more.pop("env", {})
    command = [sys.executable, "-m", "tidoctor", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, **more
    )


# --- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("diagnose well", 0),
        ("diagnose lost", 1),
        ("diagnose lost --fail-on never", 0),
        ("diagnose tied --fail-on note", 1),
        ("diagnose tied", 0),
        ("diagnose base", 0),
        ("diagnose base --as causal-lm", 1),
        ("diagnose base --fail-on warning", 1),
        ("diagnose lost --ignore H", 0),
        ("diagnose lost --select N,C --select S", 0),
        ("diagnose missing", 3),
        ("diagnose empty", 3),
        ("diagnose well lost", 1),
        ("diagnose missing lost well", 3),
        ("diagnose well --select Z99", 2),
        ("diagnose well --as NoSuchClass-at-all", 2),
        ("diagnose well --fail-on sometimes", 2),
        ("diagnose well --no-such-option", 2),
        ("diagnose", 2),
        ("", 2),
        ("undo well", 2),
        ("inspect well", 0),
        ("inspect lfs", 3),
        ("inspect missing well", 3),
        ("inspect well --format concise", 2),
        ("repair well healed", 0),
        ("repair base healed --as causal-lm", 1),
        ("repair base healed --as causal-lm --donor well", 0),
        ("repair base healed --as causal-lm --donor missing", 3),
        ("repair base well --as causal-lm --donor well", 2),
        ("untie tied untied", 0),
        ("untie lost untied", 1),
        ("tie well tied2", 1),
        ("diagnose tied --for candle@0.7.1", 1),
        ("diagnose tied --for candle@0.7.2,transformers", 0),
        ("diagnose tied --for candle@0.7.1 --fail-on never", 0),
        ("diagnose base --for vllm", 1),
        ("diagnose base --for mergekit", 0),
        ("diagnose tied --for candel", 2),
        ("diagnose tied --for candle@9", 2),
        ("loaders", 0),
        ("loaders candle", 0),
        ("loaders tgi", 0),
        ("loaders candel", 2),
        ("explain", 0),
        ("explain candle", 0),
        ("explain H02", 0),
        ("explain head-lost", 0),
        ("explain hed-lost", 2),
        ("explain Z99", 2),
        ("explain 'Error: cannot find tensor lm_head.weight'", 0),
        ("explain Error: cannot find tensor lm_head.weight", 0),
        ("explain 'the cat sat on the mat'", 1),
    ],
)
def test_exit_codes_are_the_same_in_every_format(run: Run, line: str, code: int) -> None:
    arguments = shlex.split(line)
    got, out, err = run(*arguments)
    assert got == code, (out, err)
    assert "Traceback" not in err and (out or err)
    if "--format" not in arguments:
        again, out, err = run(*arguments, "--format", "json")
        # What the first run wrote is in the way of the second.
        assert again == (2 if Path("healed").exists() or Path("untied").exists() else code)
        assert [validated(row) for row in out.splitlines()] and not err


def test_a_wrong_command_line_says_what_and_where_to_look(run: Run) -> None:
    _, out, err = run("diagnose", "--no-such-option", "well")
    assert out == ""
    assert err == (
        "error: tidoctor diagnose: No such option: --no-such-option; "
        "see tidoctor diagnose --help\n"
    )
    assert "did you mean head-lost?" in run("explain", "hed-lost")[2]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), RecursionError(), MemoryError()])
def test_a_bug_is_one_line_and_3(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(source: str) -> Any:
        raise error

    monkeypatch.setattr(tidoctor, "open", broken)
    code, out, err = run("diagnose", "well")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert f"internal error: {type(error).__name__}" in err and "TIDOCTOR_DEBUG=1" in err
    monkeypatch.setenv("TIDOCTOR_DEBUG", "1")
    assert "Traceback (most recent call last)" in run("diagnose", "well")[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruptions_are_130(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupted(source: str) -> Any:
        signal.raise_signal(number)

    # A shell starts what runs in the background with Ctrl-C ignored.
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(tidoctor, "open", interrupted)
    try:
        assert run("diagnose", "well") == (130, "", "interrupted\n")
    finally:
        signal.signal(signal.SIGINT, given)
    assert signal.getsignal(signal.SIGTERM) is before


# --- formats and streams -------------------------------------------------------------------------


def test_json_is_one_line_for_each_source_errors_included(run: Run) -> None:
    sources = ["well", "missing", "base", "empty", "lfs"]
    code, out, err = run("diagnose", *sources, "--format", "json", "--as", "causal-lm")
    told = [validated(row) for row in out.splitlines()]
    assert (code, err) == (3, "")
    assert [t["source"]["name"] for t in told] == sources
    assert [t["schema"].split(".")[1] for t in told] == [
        "diagnosis/1", "error/1", "diagnosis/1", "error/1", "diagnosis/1",
    ]  # fmt: skip


def test_the_environment_chooses_the_format_where_it_is_offered(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDOCTOR_FORMAT", "concise")
    assert run("diagnose", "lost")[1].startswith("config.json:")
    assert run("inspect", "well")[1].startswith("well  LlamaForCausalLM")
    monkeypatch.setenv("TIDOCTOR_FORMAT", "json")
    assert validated(run("diagnose", "lost")[1])
    assert run("diagnose", "lost", "--format", "text")[1].startswith("lost  Llama")
    assert validated(run("diagnose")[1])["exit_code"] == 2
    monkeypatch.setenv("TIDOCTOR_FORMAT", "yaml")
    assert run("diagnose", "lost")[0] == 2


def test_a_repair_from_plan_to_verified_copy(run: Run) -> None:
    line = ["repair", "base", "healed", "--as", "causal-lm", "--donor", "well", "--format", "json"]
    planned = validated(run(*line, "--dry-run")[1])
    assert not Path("healed").exists()
    assert (planned["dry_run"], planned["written"], planned["result"]) == (True, None, None)
    assert planned["predicted"]["summary"]["verdict"] == "healthy"
    assert {o["op"] for o in planned["operations"]} >= {"rename", "graft", "set"}
    done = validated(run(*line)[1])
    assert done["operations"] == planned["operations"] and done["cost"] == planned["cost"]
    assert done["written"]["verified"] == 21
    assert done["written"]["bytes"] == done["cost"]["total"]
    assert done["result"]["summary"]["verdict"] == "healthy"
    assert (done["exit_code"], done["dest"]) == (0, "healed")
    assert run("diagnose", "healed")[0] == 0


def test_the_text_of_a_repair(run: Run) -> None:
    _, out, _ = run("repair", "base", "healed", "--as", "causal-lm", "--donor", "well")
    lines = out.splitlines()
    assert lines[0] == "repair base → healed  LlamaModel  20 tensors  11.4 kB in 2 files"
    assert "  rename             20 tensors: X → model.X" in lines
    assert "  graft              lm_head.weight (64 × 16 BF16, 2.0 kB) from well" in lines
    assert any("21 tensors verified equal to the source byte for byte" in line for line in lines)
    assert lines[-1].startswith("healthy: no error, no warning")
    _, out, _ = run("repair", "well", "halves", "--dtype", "*norm.weight=f32")
    said = "5 tensors computed and read back; 16 tensors verified equal to the source byte for byte"
    assert any(said in line for line in out.splitlines())
    _, out, _ = run("repair", "well", "other")
    assert out.splitlines()[-1] == "nothing written: nothing to do"
    assert not Path("other").exists()


def test_what_a_repair_declines_is_told_in_every_format(run: Run) -> None:
    line = ["repair", "base", "healed", "--as", "causal-lm"]
    assert "  declined           C04 base-class-saved: " in run(*line)[1]
    concise = run(*line, "--format", "concise")[1].splitlines()
    assert concise[0].startswith("config.json:2: error C04 base-class-saved ")
    assert concise[1].startswith("base: declined C04 base-class-saved ")
    assert concise[2].startswith("base: nothing written: ")
    declined = validated(run(*line, "--format", "json")[1])["declined"]
    assert [d["code"] for d in declined] == ["C04"] and "--donor" in declined[0]["reason"]


def test_inspecting_some_tensors(run: Run) -> None:
    out = run("inspect", "well", "--match", "*.q_proj.*", "--match", "lm_head*")[1]
    assert "3 of 21 tensors, 2 patterns. " in out
    told = validated(run("inspect", "well", "--match", "lm_head*", "--format", "json")[1])
    assert [t["name"] for t in told["tensors"]] == ["lm_head.weight"]
    assert "0 of 21 tensors" in run("inspect", "well", "--match", "nothing")[1]


def test_an_inspection_points_at_defects(run: Run) -> None:
    data = Path("well/model.safetensors").read_bytes()
    Path("well/model.safetensors").write_bytes(data + b"trailing")
    code, out, _ = run("inspect", "well")
    assert code == 0 and "1 defect: run tidoctor diagnose" in out


def test_a_report_in_a_file(run: Run) -> None:
    assert run("diagnose", "lost", "-o", "report.txt") == (1, "", "")
    assert Path("report.txt").read_text(encoding="utf-8") == run("diagnose", "lost")[1]
    assert run("diagnose", "lost", "-o", "none/report.txt")[0] == 3
    before = Path("lost/config.json").read_bytes()
    assert run("diagnose", "lost", "-o", "lost/config.json")[0] == 2
    assert Path("lost/config.json").read_bytes() == before


def test_colour_is_for_terminals_unless_told(run: Run) -> None:
    assert "\x1b" not in run("diagnose", "lost")[1]
    assert "\x1b[1;31merror\x1b[0m" in run("diagnose", "lost", "--color", "always")[1]
    line = ("diagnose", "lost", "--format", "json", "--color", "always")
    assert "\x1b" not in run(*line)[1]


def test_hostile_names_are_escaped_in_every_report(run: Run) -> None:
    folder = Path("bad\x1b[31m\u202e")
    table = {"x\x1b]0;title\x07\u202e.weight": [2]} | dict(checkpoints.llama(head=False))
    config = checkpoints.LLAMA | {"architectures": ["L\x1b[2J\u2028"]}
    checkpoints.write(folder, table, config)
    for command in ("inspect", "diagnose", "diagnose missing"):
        _, out, err = run(*command.split(), str(folder))
        assert "\\x1b[31m\\u202e" in out
        assert not {"\x1b", "\u202e", "\u2028", "\x07"} & set(out + err)
    _, out, err = run("diagnose", str(folder / "none"))
    assert err.startswith("error: bad\\x1b[31m\\u202e/none: ")


def test_streams_that_know_only_ascii(run: Run) -> None:
    checkpoints.write(Path("größe"), {"表.weight": [2, 3]}, None)
    done = process("inspect", "größe", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0 and done.stderr == ""
    assert "\\u8868.weight" in done.stdout and "2 x 3" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away_changes_nothing(run: Run) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tidoctor", "diagnose", "well", "lost"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_is_told(run: Run) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tidoctor", "diagnose", "well"], stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=120,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr == (
        "error: standard output: cannot be written (No space left on device)\n"
    )


def test_without_standard_output_the_code_still_tells(run: Run) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{shlex.quote(sys.executable)} -m tidoctor diagnose lost >&-"],
        stderr=subprocess.PIPE, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"")


# --- help and imports ----------------------------------------------------------------------------

_COMMAND = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = _COMMAND.commands  # type: ignore[attr-defined]
CODES = ("\n    0  ", "\n    1  ", "\n    2  ", "\n    3  ", "\n    130  ")


def test_the_commands_are_these() -> None:
    assert list(COMMANDS) == [
        "inspect", "diagnose", "repair", "untie", "tie", "expect", "loaders", "explain", "demo",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_tells_everything(run: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "") and "\x1b" not in out
    assert all(mark in out for mark in CODES) and "Examples:" in out
    parameters: list[Any] = (COMMANDS[command] if command else _COMMAND).params
    for parameter in parameters:
        assert parameter.help, parameter.name
        assert all(name in out for name in parameter.opts if name.startswith("-"))
    for name in () if command else COMMANDS:
        assert f"\n  {name} " in out
    assert "..." not in out.replace("]...", "").replace("}...", "")  # no summary is cut short


def _examples() -> list[str]:
    epilogs = [_COMMAND.epilog, *(c.epilog for c in COMMANDS.values())]
    lines = [line.strip() for e in epilogs for line in str(e).splitlines()]
    return [line for line in dict.fromkeys(lines) if line.startswith("tidoctor ")]


@pytest.mark.parametrize("example", _examples())
def test_every_example_runs(run: Run, example: str) -> None:
    Path("base").rename("my-model")
    Path("well").rename("base-model")
    Path("checkpoints").mkdir()
    Path("tied").rename("checkpoints/a")
    line = example.removeprefix("tidoctor ").replace("checkpoints/*", "checkpoints/a")
    with data.using(TRUE):
        code, out, err = run(*shlex.split(line))
    assert code in (0, 1), err
    assert out or code == 1


HEAVY = ("huggingface_hub", "rich", "numpy", "pydantic", "safetensors", "torch")


def _loaded(*arguments: str) -> set[str]:
    program = (
        "import json, sys\nfrom tidoctor.__main__ import main\ncode = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    return set(modules)


def test_the_version_needs_nothing() -> None:
    assert not _loaded("--version") & {*HEAVY, "typer", "tidoctor.cli", "tidoctor.checkpoint"}


@pytest.mark.parametrize("line", ["--help", *(f"{command} --help" for command in COMMANDS)])
def test_help_imports_nothing_heavy(line: str) -> None:
    assert not _loaded(*line.split()) & set(HEAVY)


def test_inspecting_imports_nothing_heavy(run: Run) -> None:
    for line in ("inspect tied", "inspect well --format json"):
        assert not _loaded(*line.split()) & {*HEAVY, "tidoctor.writer"}


def test_versions_agree(run: Run) -> None:
    assert run("--version") == (0, f"tidoctor {tidoctor.__version__}\n", "")
    line = [sys.executable, "-c", "from tidoctor.cli import run; run(['--version'])"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.check_output(line, env=environment, text=True) == (
        f"tidoctor {tidoctor.__version__}\n"
    )


def test_command_bodies_are_short() -> None:
    for name in COMMANDS:
        text = (Path(cli.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        (command,) = (
            node for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef) and node.decorator_list
        )  # fmt: skip
        assert command.name == name
        body = text.splitlines()[command.body[1].lineno - 1 : command.end_lineno]
        assert sum(bool(line.strip()) for line in body) <= 10, name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_no_other(name: str) -> None:
    others = {f"tidoctor.cli.{other}" for other in COMMANDS if other != name}
    assert not _loaded(name, "--help") & others
