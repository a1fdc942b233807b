"""The command and the verb that tell which tensors a config promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests import checkpoints
from tests.atlas_samples import LLAMA_31_8B, TRUE
from tests.report_samples import validated
from tidoctor.__main__ import main
from tidoctor.atlas import data
from tidoctor.atlas.expectation import NotCovered
from tidoctor.errors import Unreadable, Usage

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run in a folder with `whole`, a checkpoint, and `8b`, only a config.json."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TIDOCTOR_FORMAT", "TIDOCTOR_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    checkpoints.write(Path("whole"), checkpoints.llama(), checkpoints.LLAMA)
    config("8b", LLAMA_31_8B)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["expect", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    with data.using(TRUE):
        yield run


def config(folder: str, values: object) -> str:
    Path(folder).mkdir()
    Path(folder, "config.json").write_text(json.dumps(values))
    return folder


def test_the_text(run: Run) -> None:
    code, out, err = run("8b")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "8b  LlamaForCausalLM  8.03 B parameters"
    assert (
        lines[2] == "  tensor                                                count          shape"
    )
    assert (
        lines[3] == "  lm_head.weight                                            1  128256 × 4096"
    )
    assert "  model.layers.{0..31}.self_attn.q_proj.weight             32    4096 × 4096" in lines
    assert len(lines) == 17
    assert lines[-1] == (
        "291 tensors, 12 patterns. Learned from transformers 5.23.0, verified on its defaults, "
        "8 random configs, 1 published config."
    )


def test_a_row_for_each_tensor(run: Run) -> None:
    lines = run("8b", "--all")[1].splitlines()
    assert lines[-1].startswith("291 tensors. ") and len(lines) == 291 + 5
    two = next(i for i, line in enumerate(lines) if "layers.2.input_layernorm" in line)
    ten = next(i for i, line in enumerate(lines) if "layers.10.input_layernorm" in line)
    assert two < ten


def test_ties_and_what_a_loader_passes_over(run: Run) -> None:
    tied = config("tied", LLAMA_31_8B | {"tie_word_embeddings": True})
    out = run(tied)[1]
    assert "tied to model.embed_tokens.weight, not stored" in out and "\n290 tensors" in out
    values = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
              "quantization_config": {"quant_method": "fp8\x1b"}}  # fmt: skip
    out = run(config("ds", values))[1]
    assert (
        "  model.layers.{3..60}.mlp.experts.{0..255}.up_proj.weight    14848    2048 × 7168" in out
    )
    assert "  quantised          config.json names fp8\\x1b; these are the" in out
    assert "  passed over        model\\.layers\\.61.*\n" in out


def test_the_json(run: Run) -> None:
    tied = config("tied", LLAMA_31_8B | {"tie_word_embeddings": True})
    told = validated(run(tied, "--format", "json")[1])
    rows = {row.pop("name"): row for row in told.pop("tensors")}
    assert told == {
        "schema": "tidoctor.expectation/1",
        "tool": {"name": "tidoctor", "version": tidoctor.__version__},
        "source": {"name": "tied", "model_type": "llama"},
        "class": "LlamaForCausalLM",
        "library": {"name": "transformers", "version": "5.23.0"},
        "coverage": "full",
        "reason": None,
        "quantisation": None,
        "verified": {"defaults": True, "random": 8, "real": 1},
        "unsaved": [], "missing_ok": [], "unexpected_ok": [],
    }  # fmt: skip
    assert len(rows) == 291
    assert rows["lm_head.weight"] == {
        "shape": [128256, 4096], "tied_to": "model.embed_tokens.weight", "required": False,
    }  # fmt: skip
    assert rows["model.norm.weight"] == {"shape": [4096], "tied_to": None, "required": True}
    values = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
              "quantization_config": {"bits": 4}}  # fmt: skip
    told = validated(run(config("ds", values), "--format", "json")[1])
    assert (told["coverage"], told["quantisation"]) == ("unquantised", "unknown")


@pytest.mark.parametrize(
    "source", ["whole", "whole/", "whole/config.json", "whole/model.safetensors"]
)
def test_sources(run: Run, source: str) -> None:
    code, out, _ = run(source)
    assert code == 0 and out.startswith(f"{source}  LlamaForCausalLM  ")
    assert out.splitlines()[-1].startswith("21 tensors, ")


def test_a_config_under_another_name(run: Run) -> None:
    Path("8b/config.json").rename("8b/other.json")
    assert run("8b/other.json")[1].startswith("8b/other.json  LlamaForCausalLM  ")
    assert run("8b")[0] == 3


@pytest.mark.parametrize(
    ("wanted", "class_name"),
    [
        ("LlamaModel", "LlamaModel"),
        ("base", "LlamaModel"),
        ("causal-lm", "LlamaForCausalLM"),
    ],
)
def test_the_class_asked_for(run: Run, wanted: str, class_name: str) -> None:
    told = validated(run("8b", "--as", wanted, "--format", "json")[1])
    assert told["class"] == class_name
    assert ("lm_head.weight" in {row["name"] for row in told["tensors"]}) == (wanted == "causal-lm")


def test_old_spellings_of_architectures(run: Run) -> None:
    old = config("old", LLAMA_31_8B | {"architectures": ["FSDPLlamaForCausalLM"]})
    assert run(old)[1].startswith("old  LlamaForCausalLM  ")


@pytest.mark.parametrize(
    ("change", "arguments", "class_name", "reason"),
    [
        ({"architectures": ["MyForCausalLM"]}, [], "MyForCausalLM",
         '"MyForCausalLM" is no class that was learned from transformers 5.23.0'),
        ({}, ["--as", "sequence-classification"], "LlamaForSequenceClassification", None),
        ({}, ["--as", "ctc"], None, 'no class of transformers serves "llama" as ctc'),
        ({"hidden_size": "4096"}, [], "LlamaForCausalLM",
         '`hidden_size` is "4096", expected a number'),
        ({"model_type": "mine"}, [], "LlamaForCausalLM", None),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said_and_is_3(
    run: Run,
    change: dict[str, Any],
    arguments: list[str],
    class_name: str | None,
    reason: str | None,
) -> None:
    config("odd", LLAMA_31_8B | change)
    code, out, err = run("odd", *arguments)
    assert (code, err, out.count("\n")) == (3, "", 1)
    assert "not covered: " in out and out.startswith("odd  ")
    code, out, err = run("odd", *arguments, "--format", "json")
    told = validated(out)
    assert (code, err) == (3, "")
    assert (told["class"], told["coverage"], told["tensors"]) == (class_name, "none", [])
    assert told["library"] is None and (told["reason"] == reason or reason is None)


@pytest.mark.parametrize(
    ("make", "arguments", "code", "said"),
    [
        (None, ["none"], 3, "no such folder or file"),
        (None, ["none/config.json"], 3, "no such folder or file"),
        ("", ["bad"], 3, "bad/config.json:1: is no JSON"),
        ("{", ["bad/config.json"], 3, "bad/config.json:1: is no JSON"),
        ("[]", ["bad"], 3, "is no JSON object"),
        ("{}", ["bad"], 3, "names no class in architectures; name one with --as"),
        ('{"architectures": [3]}', ["bad"], 3, "names no class"),
        ('{"architectures": "x"}', ["bad"], 3, "names no class"),
        ("{}", ["bad", "--as", "causal-lm"], 3, "has no model_type"),
        ("{}", ["bad", "--as", "no-such-task"], 2, "is neither a class of transformers nor a task"),
        ("{}", ["bad", "--no-such-option"], 2, "No such option"),
        ("{}", [], 2, "Missing argument"),
        ("{}", ["bad", "-o", "bad/config.json"], 2, "would replace a part of a checkpoint"),
    ],
)
def test_errors(run: Run, make: str | None, arguments: list[str], code: int, said: str) -> None:
    if make is not None:
        Path("bad").mkdir()
        Path("bad/config.json").write_text(make)
    got, out, err = run(*arguments)
    assert (got, out, err.count("\n")) == (code, "", 1) and said in err
    got, out, _ = run(*arguments, "--format", "json")
    assert got == code and validated(out)["schema"] == "tidoctor.error/1"


def test_a_report_in_a_file(run: Run) -> None:
    assert run("8b", "-o", "report.txt") == (0, "", "")
    assert Path("report.txt").read_text(encoding="utf-8") == run("8b")[1]


def test_hostile_names_are_escaped(run: Run) -> None:
    odd = config("bad\x1b[31m", {"architectures": ["L\x1b[2J\u2028"], "model_type": "\u202e"})
    for arguments in ([odd], [odd, "--as", "causal-lm"]):
        _, out, err = run(*arguments)
        assert not {"\x1b", "\u202e", "\u2028"} & set(out + err) and "\\x1b[31m" in out


def test_the_verb(run: Run) -> None:
    assert tidoctor.expect(Path("8b")).disk["lm_head.weight"] == (128256, 4096)
    assert "lm_head.weight" not in tidoctor.expect("8b", as_="base").disk
    with pytest.raises(NotCovered):
        tidoctor.expect("8b", as_="LlamaForSequenceClassification")
    with pytest.raises(Unreadable):
        tidoctor.expect("none")
    with pytest.raises(Usage):
        tidoctor.expect("8b", as_="nothing-known")
