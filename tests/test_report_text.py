"""Text for people: whole reports, compared with what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tidoctor
from tests import checkpoints
from tests.report_samples import HEALTHY, ILL, UNEXAMINED
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Unreadable
from tidoctor.report.style import Style
from tidoctor.report.text import Text
from tidoctor.report.text.operations import renames, told

PLAIN = Text(Style())


def opened(folder: Path, table: checkpoints.Table, config: Any, **more: Any) -> Checkpoint:
    checkpoint = tidoctor.open(checkpoints.write(folder, table, config, **more))
    checkpoint.source.name = "./x"
    return checkpoint


@pytest.fixture
def tied(tmp_path: Path) -> Checkpoint:
    config = checkpoints.LLAMA | {"tie_word_embeddings": True}
    return opened(tmp_path, checkpoints.llama(head=False), config)


def every(name: str) -> bool:
    return True


def test_a_diagnosis_of_an_ill_checkpoint(tied: Checkpoint) -> None:
    assert PLAIN.diagnosis(tied, ILL) == """\
./x  LlamaForCausalLM  20 tensors  11.4 kB in 1 file

error C04 base-class-saved: saved from LlamaModel, the class without a head; lm_head.weight is lost
  config.json:2      architectures is ["LlamaModel"]
  names              290 of 290 tensors lack the prefix `model.`
  includes           N04 bare-layout, H02 head-lost
  cure [consent]     rename 290 tensors:
                     tidoctor repair ./x ./healed --donor y
  caution            if the head was trained, only the training run still has it
  not                tie_word_embeddings=true: loaders fall silent and the logits are wrong
  more               tidoctor explain C04

warning S10 wrong-total-size (likely): a sum
  more               tidoctor explain S10

note H01 head-tied: the head is the embedding
  more               tidoctor explain H01

not run H02 H04: cut

1 error, 1 warning, 1 note. 3 rules ran, 1 not applicable, 1 needs --deep, 2 could not run.
"""


def test_the_last_line_when_nothing_is_wrong_and_when_nothing_ran(tied: Checkpoint) -> None:
    assert PLAIN.diagnosis(tied, HEALTHY).splitlines()[-1] == (
        "healthy: no error, no warning, 1 note. 2 rules ran, 1 needs --deep."
    )
    assert PLAIN.diagnosis(tied, UNEXAMINED).splitlines()[-1] == (
        "not examined: no rule ran. 0 rules ran, 1 needs --deep."
    )


def test_an_inspection_collapses_layers_and_names_the_absent_head(tied: Checkpoint) -> None:
    lines = PLAIN.inspection(tied, every, every=False).splitlines()
    assert lines[0] == "./x  LlamaForCausalLM  5712 parameters  11.4 kB in 1 file  BF16"
    assert lines[2:5] == [
        "  tensor                                               count    shape       size",
        "  model.embed_tokens.weight                                1  64 × 16     2.0 kB",
        "  model.layers.{0..1}.input_layernorm.weight               2       16   64 bytes",
    ]
    assert lines[-3:-1] == [
        f"  {'lm_head.weight':51}      -  tied to model.embed_tokens.weight, not stored",
        "",
    ]
    assert lines[-1].startswith("20 tensors, 11 patterns. Read ")


def test_one_row_for_each_tensor(tied: Checkpoint) -> None:
    lines = PLAIN.inspection(tied, every, every=True).splitlines()
    rows = [line.split()[0] for line in lines if line.startswith("  model.")]
    assert sorted(rows) == sorted(tied.tensors)
    assert lines[-1].startswith("20 tensors. Read ")


def test_some_tensors_are_told_as_some(tied: Checkpoint) -> None:
    text = PLAIN.inspection(tied, lambda name: "q_proj" in name, every=False)
    assert "2 of 20 tensors, 1 pattern. " in text
    assert "not stored" not in text
    text = PLAIN.inspection(tied, lambda name: "lm_head" in name, every=False)
    assert "0 of 20 tensors, 0 patterns. " in text
    assert "  lm_head.weight      -  tied to model.embed_tokens.weight, not stored\n" in text


def test_a_hole_shows_itself_and_dtypes_get_a_column(tmp_path: Path) -> None:
    table = dict(checkpoints.llama(4)) | {"model.norm.weight": ("F32", [16])}
    del table["model.layers.2.self_attn.k_proj.weight"]
    checkpoint = opened(tmp_path, table, checkpoints.LLAMA)
    lines = PLAIN.inspection(checkpoint, every, every=False).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert lines[0].endswith("  BF16, F32")
    assert rows["tensor"] == ["count", "dtype", "shape", "size"]
    assert rows["model.layers.{0..1,3}.self_attn.k_proj.weight"][:2] == ["3", "BF16"]
    assert rows["model.norm.weight"][:3] == ["1", "F32", "16"]


def test_a_long_name_is_shown_whole_and_does_not_widen_the_table(tmp_path: Path) -> None:
    name = "x" * 5000
    checkpoint = opened(tmp_path, {name: [2], "short": [2]}, None)
    lines = PLAIN.inspection(checkpoint, every, every=False).splitlines()
    assert sum(name in line for line in lines) == 1
    assert all(len(line) < 200 for line in lines if name not in line)
    assert lines[0].startswith("./x  no config.json")


HOSTILE = "evil\x1b[31m[/x]\u202e\u2028\n.weight"
ESCAPED = "evil\\x1b[31m[/x]\\u202e\\u2028\\n.weight"


def test_names_from_files_cannot_steer_the_terminal(tmp_path: Path) -> None:
    config = {"architectures": ["A\x1b[2J"], "model_type": "m"}
    checkpoint = opened(tmp_path, {HOSTILE: [2], "b": [2]}, config)
    for all_rows in (True, False):
        text = PLAIN.inspection(checkpoint, every, every=all_rows)
        assert ESCAPED in text
        assert "\x1b" not in text and "\u202e" not in text
        assert "./x  A\\x1b[2J  4 parameters" in text


def test_an_error_is_one_line() -> None:
    error = Unreadable("./x\n", "no such folder", "check the path")
    assert PLAIN.error(error, "./x", 3) == "error: ./x\\n: no such folder; check the path\n"
    assert PLAIN.error(error, "./x", 3, hint=False) == "error: ./x\\n: no such folder\n"


@pytest.mark.parametrize(
    ("pairs", "lines"),
    [
        ({"a": "b"}, ["a → b"]),
        ({"layers.0.w": "model.layers.0.w", "norm.w": "model.norm.w"}, ["2 tensors: X → model.X"]),
        ({"module.a.w": "a.w", "module.b.w": "b.w"}, ["2 tensors: module.X → X"]),
        ({"m.LN.gamma": "m.LN.weight", "k.LN.gamma": "k.LN.weight"},
         ["2 tensors: X.gamma → X.weight"]),
        ({"h.0.attn.w": "h.0.self_attn.w", "h.1.attn.w": "h.1.self_attn.w"},
         ["2 tensors: X.attn.Y → X.self_attn.Y"]),
        ({"h.0._orig_mod.w": "h.0.w", "h.1._orig_mod.w": "h.1.w", "c": "d"},
         ["2 tensors: X._orig_mod.Y → X.Y", "c → d"]),
        ({"h.0.a": "b.0.c", "h.1.a": "b.1.c"}, ["2 tensors: h.N.a → b.N.c"]),
        ({"a\x1b": "b"}, ["a\\x1b → b"]),
    ],
)  # fmt: skip
def test_renames_are_told_by_what_changes(pairs: Mapping[str, str], lines: list[str]) -> None:
    assert renames(list(pairs.items())) == lines


def test_every_operation_has_words(tied: Checkpoint) -> None:
    embedding = "model.embed_tokens.weight"
    operations: list[dict[str, object]] = [
        {"op": "drop", "tensor": "a.0.w"}, {"op": "drop", "tensor": "a.1.w"},
        {"op": "drop", "tensor": "b", "file": "old.safetensors"},
        {"op": "copy", "from": "head", "to": embedding},
        {"op": "graft", "tensor": embedding, "donor": "../base"},
        {"op": "set", "path": ["text_config", "x"], "value": {"k": float("nan")}},
        {"op": "set", "path": ["long"], "value": "y" * 900},
        {"op": "unset", "path": ["y"]},
        {"op": "tidy"}, {"op": "rewrite", "file": "a.safetensors"}, {"op": "reindex"},
        {"op": "discard", "file": "b.bin"}, {"op": "invented", "size": 1},
    ]  # fmt: skip
    extent = "(64 × 16 BF16, 2.0 kB)"
    lines = dict(told(operations, tied))
    assert len(lines["set"][1]) < 300
    assert lines | {"set": lines["set"][:1]} == {
        "drop": ["a.{0..1}.w (2 tensors)", "b (the copy in old.safetensors)"],
        "copy": [f"head → {embedding} {extent}"],
        "graft": [f"{embedding} {extent} from ../base"],
        "set": ['config.json: text_config.x = {"k": "nan"}'],
        "unset": ["config.json: y removed"],
        "tidy": ["config.json as strict JSON with the same values"],
        "rewrite": ["a.safetensors from the tensors that can be read"],
        "reindex": ["files named, and the index written, as loaders expect"],
        "discard": ["b.bin"],
        "invented": ['{"op": "invented", "size": 1}'],
    }


def test_colour_changes_nothing_but_colour(tied: Checkpoint) -> None:
    import re

    coloured = Text(Style(True))
    for made, plain in (
        (coloured.diagnosis(tied, ILL), PLAIN.diagnosis(tied, ILL)),
        (coloured.inspection(tied, every, every=False),
         PLAIN.inspection(tied, every, every=False)),
    ):  # fmt: skip
        assert made != plain
        assert re.sub(r"\x1b\[[0-9;]*m", "", made) == plain
