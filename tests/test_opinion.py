"""The second opinion without the library: programs of all kinds in its place, and how it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests import checkpoints
from tests.report_samples import HEALTHY, ILL, validated
from tidoctor import isolation, opinion
from tidoctor.__main__ import main
from tidoctor.atlas import installed
from tidoctor.errors import Usage
from tidoctor.opinion import AtlasView, FilesView, Misfit, Opinion
from tidoctor.report.concise import Concise
from tidoctor.report.style import Style
from tidoctor.report.text.opinion import difference, lines

Fake = Callable[[str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.write(_made(tmp_path / "model"), checkpoints.llama(), checkpoints.LLAMA)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """`fake(code)`: a program that runs in the place of the one that asks the library."""

    def put(code: str) -> None:
        script = tmp_path / "fake.py"
        script.write_text(textwrap.dedent(code))
        monkeypatch.setattr(opinion, "COMMAND", (sys.executable, "-P", str(script)))

    return put


def _made(place: Path) -> Path:
    place.mkdir()
    return place


def _saved(**changes: Any) -> dict[str, Any]:
    shapes = {name: list(shape) for name, shape in checkpoints.llama().items()} | changes
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _answer(*parts: dict[str, Any]) -> str:
    """A program that answers with these parts."""
    return "\n".join(f"print({json.dumps(json.dumps(part))})" for part in parts)


LIBRARY = {"part": "library", "version": "5.99.0"}
MODEL = {"part": "model", "memory": _saved(), "saved": _saved(), "ties": {}}
LOAD: dict[str, Any] = {
    "part": "load", "missing": [], "unexpected": [], "mismatched": [], "failed": [],
}  # fmt: skip


# --- programs that misbehave --------------------------------------------------------------------


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Where nobody reaps orphans they stay as zombies, which run no more.
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_one_that_never_answers_is_ended_with_all_it_started(
    folder: Path, fake: Fake, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    fake(f"""
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{other.pid}}")
        time.sleep(600)
    """)
    begun = time.monotonic()
    found = tidoctor.second_opinion(folder, seconds=3)
    assert time.monotonic() - begun < 10
    assert found.reason == "the program that asks it gave no answer within 3 seconds"
    numbers = [int(pid) for pid in pids.read_text().split()]
    assert len(numbers) == 2
    deadline = time.monotonic() + 5
    while any(map(_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, numbers))


def test_what_was_told_before_the_time_was_over_counts(folder: Path, fake: Fake) -> None:
    fake(_answer(LIBRARY, MODEL) + "\nimport sys, time; sys.stdout.flush(); time.sleep(600)")
    found = tidoctor.second_opinion(folder, seconds=3)
    assert (found.reason, found.version, found.atlas.agrees) == ("", "5.99.0", True)
    assert found.files.reason == "the program that asks it gave no answer within 3 seconds"
    assert found.files.complete is None


def test_one_that_writes_without_end_is_stopped(
    folder: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opinion, "MOST", 1_000_000)
    fake("""
        import os
        while True:
            os.write(1, b"x" * 65536); os.write(2, b"y" * 65536)
    """)
    begun = time.monotonic()
    found = tidoctor.second_opinion(folder, seconds=60)
    assert time.monotonic() - begun < 30
    assert found.reason == "the program that asks it wrote more than 1 000 000 bytes"


def test_both_streams_are_kept_within_bounds(tmp_path: Path) -> None:
    code = "import os\nfor _ in range(2000): os.write(2, b'y' * 65536)\nos.write(1, b'done')"
    outcome = isolation.run(
        [sys.executable, "-c", code], folder=tmp_path, environment=os.environ, seconds=60, most=100
    )
    assert outcome == isolation.Outcome(b"done")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "gave no answer"),
        ("print('no JSON'); print('[1]'); print('{\"part\": 3}')", "gave no answer"),
        ("import os; os.write(1, bytes(range(256)) * 99)", "gave no answer"),
        ("print('[' * 100000)", "gave no answer"),
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import sys; sys.stderr.write('a\\n\\x1b[31mb\\n\\n'); sys.exit(3)",
         "ended with exit code 3 (\x1b[31mb)"),
        ("raise RuntimeError('x' * 5000)", f"ended with exit code 1 (RuntimeError: {'x' * 185}…)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal SIGKILL"),
    ],
)  # fmt: skip
def test_one_that_fails_is_one_sentence(
    folder: Path, fake: Fake, code: str, reason: str
) -> None:
    fake(code)
    found = tidoctor.second_opinion(folder, seconds=60)
    assert found == Opinion("LlamaForCausalLM", reason=f"the program that asks it {reason}")


@pytest.mark.parametrize(
    "parts",
    [
        [LIBRARY, {"part": "model"}],
        [LIBRARY, MODEL | {"memory": 3}],
        [LIBRARY, MODEL | {"saved": {"a": ["x"]}}],
        [LIBRARY, MODEL | {"saved": {"a": [True]}}],
        [LIBRARY, MODEL | {"saved": {"a": None}}],
        [LIBRARY, MODEL | {"ties": {"a": 3}}],
        [{"part": "library", "version": 5}, MODEL],
        [{"part": "library"}, MODEL],
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_none(
    folder: Path, fake: Fake, parts: list[dict[str, Any]]
) -> None:
    fake(_answer(*parts, LOAD))
    found = tidoctor.second_opinion(folder, seconds=60)
    assert found.reason == "the program that asks it gave no sensible answer"


@pytest.mark.parametrize(
    "part",
    [
        {"part": "load"},
        LOAD | {"missing": "abc"},
        LOAD | {"unexpected": [3]},
        LOAD | {"mismatched": [["a", [1]]]},
        LOAD | {"mismatched": [["a", [1], "x"]]},
        LOAD | {"mismatched": None},
        LOAD | {"failed": [1]},
        LOAD | {"failed": "abc"},
    ],
)
def test_files_are_not_judged_by_an_answer_of_another_form(
    folder: Path, fake: Fake, part: dict[str, Any]
) -> None:
    fake(_answer(LIBRARY, MODEL, part))
    found = tidoctor.second_opinion(folder, seconds=60)
    assert found.reason == "" and found.files.complete is None
    assert found.files.reason == "the program that asks it gave no sensible answer"


def test_a_program_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinion, "COMMAND", ("/nowhere/python", "x"))
    reason = tidoctor.second_opinion(folder).reason
    assert reason.startswith("the program that asks it could not be started (")
    monkeypatch.setattr(opinion, "COMMAND", ("", "x"))
    assert tidoctor.second_opinion(folder).reason == "the Python that runs tidoctor is not known"


# --- the real program without the library -------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real program under a Python that sees no installed package."""
    command = (sys.executable, "-S", "-P", installed.__file__)
    monkeypatch.setattr(opinion, "COMMAND", command)
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.mark.usefixtures("bare")
def test_absent_packages_are_a_sentence(folder: Path) -> None:
    found = tidoctor.second_opinion(folder)
    assert found.reason == (
        "transformers is not installed beside tidoctor: pip install transformers torch"
    )
    assert found.version is None


@pytest.mark.usefixtures("bare")
def test_modules_beside_a_checkpoint_are_not_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("transformers", "torch", "json"):
        (folder / f"{name}.py").write_text("open('/dev/stderr', 'w').write('run'); raise SystemExit")
    monkeypatch.chdir(folder)
    assert "is not installed beside tidoctor" in tidoctor.second_opinion(".").reason


@pytest.mark.usefixtures("bare")
def test_an_old_release_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = _made(tmp_path / "packages")
    (packages / "transformers.py").write_text("__version__ = '4.57.6'")
    (packages / "torch.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    reason = tidoctor.second_opinion(folder).reason
    assert reason == "transformers 4.57.6 is installed, and 5.0 or newer is needed"


# --- what is asked ------------------------------------------------------------------------------


def _asked(tmp_path: Path, fake: Fake) -> Path:
    """A program that notes its question, then says nothing."""
    note = tmp_path / "note.json"
    fake(f"""
        import json, os, sys
        here = sys.argv[1]
        note = {{name: json.load(open(os.path.join(here, name + ".json")))
                for name in ("config", "question")}}
        note["environment"] = dict(os.environ)
        note["folder"] = [here, os.getcwd()]
        json.dump(note, open({str(note)!r}, "w"))
    """)
    return note


def test_the_question(folder: Path, tmp_path: Path, fake: Fake, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    note = _asked(tmp_path, fake)
    tidoctor.second_opinion(folder)
    told = json.loads(note.read_text())
    assert told["question"]["class"] == "LlamaForCausalLM"
    assert told["question"]["files"] == {n: ["BF16", s] for n, s in checkpoints.llama().items()}
    assert told["environment"]["HF_HUB_OFFLINE"] == "1"
    assert "secret" not in told["environment"].values()
    assert not Path(told["folder"][0]).exists()  # nothing is left behind
    assert os.path.realpath(told["folder"][0]) == os.path.realpath(told["folder"][1])
    tidoctor.second_opinion(folder, wanted="base")
    assert json.loads(note.read_text())["question"]["class"] == "LlamaModel"
    with pytest.raises(Usage):
        tidoctor.second_opinion(folder, wanted="nonsense")


def test_settings_that_fetch_or_run_something_are_left_out(
    tmp_path: Path, fake: Fake
) -> None:
    config = checkpoints.LLAMA | {
        "attn_implementation": "someone/kernel",
        "text_config": {"_attn_implementation": "someone/kernel", "hidden_size": 3},
        "parts": [{"fusion_config": {}}],
        "limit": [0.0, float("inf")],
    }
    place = checkpoints.write(_made(tmp_path / "model"), checkpoints.llama(), config)
    note = _asked(tmp_path, fake)
    tidoctor.second_opinion(place)
    told = json.loads(note.read_text())["config"]
    assert "someone/kernel" not in json.dumps(told) and "fusion_config" not in json.dumps(told)
    assert told["text_config"] == {"hidden_size": 3} and told["limit"] == [0.0, float("inf")]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (checkpoints.LLAMA | {"auto_map": {"AutoModel": "x.Y"}},
         "the model brings its own code, which is not run"),
        (checkpoints.LLAMA | {"vision_config": [{"auto_map": {}}]},
         "the model brings its own code, which is not run"),
        ({k: v for k, v in checkpoints.LLAMA.items() if k != "architectures"},
         "config.json names no class in architectures; name one with --as"),
        (None, "there is no config.json"),
        ("{", "config.json could not be read"),
        ({"_class_name": "UNet"}, "config.json is not one of transformers"),
    ],
)  # fmt: skip
def test_what_is_not_asked(
    tmp_path: Path, fake: Fake, config: Any, reason: str
) -> None:
    place = checkpoints.write(_made(tmp_path / "model"), checkpoints.llama(), config)
    note = _asked(tmp_path, fake)
    found = tidoctor.second_opinion(place)
    assert found.reason == reason
    assert not note.exists()


@pytest.mark.parametrize(
    ("table", "changes", "reason"),
    [
        ({}, {"quantization_config": {"quant_method": "fp8"}}, "the weights are quantised"),
        ({"model.layers.0.self_attn.q_proj.qweight": ("I32", [2, 2])}, {}, "which names and shapes"),
        ({"model.layers.0.self_attn.q_proj.lora_A.weight": [2, 2]}, {}, "an adapter is not merged"),
    ],
)
def test_files_that_cannot_be_compared(
    tmp_path: Path, fake: Fake, table: Any, changes: Any, reason: str
) -> None:
    place = checkpoints.write(
        _made(tmp_path / "model"), checkpoints.llama() | table, checkpoints.LLAMA | changes
    )
    note = _asked(tmp_path, fake)
    tidoctor.second_opinion(place)
    told = json.loads(note.read_text())
    assert told["question"]["files"] is None and "quantization_config" not in told["config"]
    fake(_answer(LIBRARY, MODEL))
    found = tidoctor.second_opinion(place)
    assert reason in found.files.reason and found.atlas.agrees is True


def test_files_that_are_not_all_there(tmp_path: Path, fake: Fake) -> None:
    place = checkpoints.write(
        _made(tmp_path / "model"), checkpoints.llama(), checkpoints.LLAMA, shards=3
    )
    (place / "model-00002-of-00003.safetensors").unlink()
    fake(_answer(LIBRARY, MODEL))
    assert "model-00002-of-00003" in tidoctor.second_opinion(place).files.reason


# --- what is made of the answer -----------------------------------------------------------------


def test_agreement(folder: Path, fake: Fake) -> None:
    fake(_answer(LIBRARY, MODEL, LOAD))
    found = tidoctor.second_opinion(folder)
    assert found.reason == "" and found.version == "5.99.0"
    assert found.atlas.agrees is True and found.atlas.compared == len(found.tensors) == 21
    assert found.files == FilesView(compared=21)
    assert found.files.complete is True


def test_differences_from_the_atlas(folder: Path, fake: Fake) -> None:
    changed = _saved(**{"new.weight": [2], "model.norm.weight": [17], "lm_head.weight": None})
    ties = {"lm_head.weight": "model.embed_tokens.weight"}
    fake(_answer(LIBRARY, MODEL | {"saved": changed, "ties": ties}, LOAD))
    view = tidoctor.second_opinion(folder).atlas
    assert view.agrees is False
    assert view.installed_only == ("new.weight",) and view.atlas_only == ("lm_head.weight",)
    assert view.shapes == (Misfit("model.norm.weight", (16,), (17,)),)
    assert view.ties == ("lm_head.weight",)


def test_a_class_that_the_atlas_does_not_know(tmp_path: Path, fake: Fake) -> None:
    config = checkpoints.LLAMA | {"architectures": ["BrandNewForCausalLM"]}
    place = checkpoints.write(_made(tmp_path / "model"), checkpoints.llama(), config)
    fake(_answer(LIBRARY, MODEL, LOAD | {"missing": ["x.10", "x.9"]}))
    found = tidoctor.second_opinion(place)
    assert found.atlas.agrees is None and "BrandNewForCausalLM" in found.atlas.reason
    assert found.files.missing == ("x.9", "x.10") and found.files.complete is False
    assert len(found.tensors) == 21


# --- how it is told -----------------------------------------------------------------------------

PLAIN = Style()
GOOD = Opinion(
    "LlamaForCausalLM", "5.99.0", tensors={"a": (1,)},
    atlas=AtlasView("5.23.0", compared=291), files=FilesView(compared=291),
)  # fmt: skip
BAD = replace(
    GOOD,
    atlas=AtlasView(
        "5.23.0", compared=9, installed_only=("a.0.w", "a.1.w"), atlas_only=("b\x1b",),
        shapes=tuple(Misfit(f"c.{i}", (1, 2), ()) for i in range(5)), ties=("d",),
    ),
    files=FilesView(
        compared=9, missing=("e",), unexpected=("f",), mismatched=(Misfit("g", (1,), (2,)),),
        failed=(("h", "sizes\ndiffer"),),
    ),
)  # fmt: skip
NONE = Opinion("LlamaForCausalLM", "5.99.0", "it does not\nread this config")


def test_the_text() -> None:
    assert lines(GOOD, HEALTHY, PLAIN) == [
        "transformers 5.99.0, asked here: agrees with the atlas on all 291 tensors, and by names "
        "and shapes it loads all 291 tensors of the files and lacks none"
    ]
    assert lines(BAD, HEALTHY, PLAIN) == [
        "transformers 5.99.0, asked here as LlamaForCausalLM:",
        "  atlas              the atlas lacks 2 tensors (a.{0..1}.w)",
        "                     only the atlas has b\\x1b",
        "                     c.0 is 1 × 2 in the atlas, scalar here",
        "                     c.1 is 1 × 2 in the atlas, scalar here",
        "                     c.2 is 1 × 2 in the atlas, scalar here",
        "                     … and 2 more (all of them with --format json)",
        "                     the atlas ties d otherwise",
        "                     the atlas was learned from transformers 5.23.0",
        "  files              lacks e, to be given initial values",
        "                     does not use f",
        "                     g is 1 in the files, 2 wanted",
        "                     cannot make h: sizes\\ndiffer",
        "  caution            no rule has found why; believe the library that will load the files",
    ]
    assert not [line for line in lines(BAD, ILL, PLAIN) if "caution" in line]
    assert lines(NONE, HEALTHY, PLAIN) == [
        "not run --against-installed: transformers 5.99.0: it does not\\nread this config"
    ]


def test_one_line() -> None:
    assert difference(GOOD) == ""
    told = difference(BAD)
    assert told.startswith("installed transformers 5.99.0: the atlas lacks 2 tensors (a.{0..1}.w); ")
    assert told.endswith("; cannot make h: sizes\\ndiffer") and "\n" not in told
    assert difference(NONE).startswith("not-run --against-installed: transformers 5.99.0: ")
    unsure = replace(GOOD, files=FilesView("the weights are quantised"))
    assert difference(unsure).endswith(": not compared: the weights are quantised")


def test_the_page_of_a_checkpoint(folder: Path) -> None:
    checkpoint, found = tidoctor.open(folder), tidoctor.diagnose(folder)
    page = Concise(PLAIN)
    assert page.diagnosis(checkpoint, found, GOOD) == page.diagnosis(checkpoint, found)
    assert "does not use f" in page.diagnosis(checkpoint, found, BAD)


def _run(capsys: Any, *arguments: str) -> tuple[int, str]:
    code = main(["diagnose", *arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("other", ["agreeing", "differing", "failing"])
def test_the_command(folder: Path, fake: Fake, capsys: Any, other: str) -> None:
    load = LOAD | {"missing": ["x"], "mismatched": [["y", [1], [2]]], "failed": [["z", "why"]]}
    fake(
        {
            "agreeing": _answer(LIBRARY, MODEL, LOAD),
            "differing": _answer(LIBRARY, MODEL | {"saved": _saved(new=[2])}, load),
            "failing": "raise SystemExit(3)",
        }[other]
    )
    plain = _run(capsys, str(folder))
    code, text = _run(capsys, str(folder), "--against-installed")
    assert code == plain[0] == 0  # a second opinion changes no exit code
    kept = text.splitlines()
    assert [line for line in kept if line and line in plain[1].splitlines()] == [
        line for line in plain[1].splitlines() if line
    ]
    concise = _run(capsys, str(folder), "--against-installed", "--format", "concise")
    told = validated(_run(capsys, str(folder), "--against-installed", "--format", "json")[1])
    one = told["installed"]
    assert one["class"] == "LlamaForCausalLM"
    if other == "agreeing":
        assert "transformers 5.99.0, asked here: agrees with the atlas on all 21 tensors" in text
        assert concise == (0, "")
        assert one["atlas"]["agrees"] is True and one["files"]["complete"] is True
    elif other == "differing":
        assert "the atlas lacks new" in text and "y is 1 in the files, 2 wanted" in text
        assert "no rule has found why" in text
        assert concise[1].count("\n") == 1 and "installed transformers 5.99.0: " in concise[1]
        assert one["atlas"]["installed_only"] == ["new"]
        assert one["files"]["mismatched"] == [{"name": "y", "found": [1], "wanted": [2]}]
        assert one["files"]["failed"] == [{"name": "z", "reason": "why"}]
    else:
        reason = "the program that asks it ended with exit code 3"
        assert f"not run --against-installed: {reason}\n" in text
        assert concise[1].endswith(f": not-run --against-installed: {reason}\n")
        assert one["reason"] == reason and one["library"] is None and one["files"] is None


def test_without_the_option_nothing_of_it_is_loaded(folder: Path, capsys: Any) -> None:
    told = validated(_run(capsys, str(folder), "--format", "json")[1])
    assert told["installed"] is None
    code = (
        "import sys; from tidoctor.__main__ import main; main(['diagnose', sys.argv[1]]); "
        "late = {'tidoctor.opinion', 'tidoctor.isolation', 'torch', 'transformers'}; "
        "assert not late & sys.modules.keys(), late & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
