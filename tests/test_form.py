"""The form of a result: shards, one file, overlays, other types of numbers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import tidoctor
from tests import checkpoints
from tests.test_writer import EMBEDDING, HEAD, names, state, tensors
from tidoctor.errors import Refused, Usage
from tidoctor.form import Form, dtype_wish
from tidoctor.sharding import byte_size, shares
from tidoctor.source.folder import Folder
from tidoctor.tensors import Section, Tensor

TIED = checkpoints.LLAMA | {"tie_word_embeddings": True}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    table = checkpoints.llama(head=False)
    return checkpoints.write(tmp_path / "source", table, TIED, files={"tokenizer.json": "{}"})


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "source", checkpoints.llama(head=False), TIED, shards=3)


def rows(*sizes: int) -> list[Tensor]:
    where = Folder(Path(), name="x", kind="folder")
    return [Tensor(str(i), "U8", (n,), "", Section(where, "x", 0), 0, n) for i, n in enumerate(sizes)]


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5_000_000_000), ("500 MB", 500_000_000), ("2GiB", 1 << 31), ("1.5kb", 1500),
     ("10", 10), ("3k", 3000), ("1TB", 10**12)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "0.1", "1e9", "5 PB", "nan", "5GB5", "9" * 20])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Usage):
        byte_size(text)


@pytest.mark.parametrize(
    ("sizes", "most", "files"),
    [
        ([1, 2, 3], None, [[1, 2, 3]]),
        ([], None, []),
        ([1, 2, 3], 3, [[1, 2], [3]]),
        ([5, 1, 1, 5, 1], 3, [[5], [5], [1, 1, 1]]),  # what is too large does not close a shard
        ([2, 2, 2], 3, [[2], [2], [2]]),
    ],
)
def test_shares(sizes: list[int], most: int | None, files: list[list[int]]) -> None:
    assert [[r.nbytes for r in file] for file in shares(rows(*sizes), most)] == files


def test_one_file_becomes_shards_and_one_file_again(source: Path, tmp_path: Path) -> None:
    before = tensors(source)
    done = tidoctor.untie(source, tmp_path / "a", form=Form(max_shard_size=4000))
    assert done.exit_code == 0
    files = sorted(path.name for path in (tmp_path / "a").glob("*.safetensors"))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) > 3 and not (tmp_path / "a" / "model.safetensors").exists()
    assert tensors(tmp_path / "a") == before | {HEAD: before[EMBEDDING]}
    index = json.loads((tmp_path / "a" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(len(row[2]) for row in tensors(tmp_path / "a").values())
    for name, file in index["weight_map"].items():
        assert name in tidoctor.open(tmp_path / "a" / file).tensors
    for file in files:
        held = [len(data) for _, _, data in tensors_of(tmp_path / "a" / file).values()]
        assert sum(held) <= 4000 or len(held) == 1
    again = tidoctor.tie(tmp_path / "a", tmp_path / "b", form=Form(single_file=True))
    assert again.exit_code == 0
    assert tensors(tmp_path / "b") == before
    assert names(tmp_path / "b") == names(source)


def tensors_of(file: Path) -> dict[str, tuple[str, list[int], bytes]]:
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return {
        name: (row["dtype"], row["shape"], raw[8 + length + row["data_offsets"][0] : 8 + length + row["data_offsets"][1]])
        for name, row in json.loads(raw[8 : 8 + length]).items()
        if name != "__metadata__"
    }


def test_a_file_that_comes_out_as_it_was_is_not_written_anew(sharded: Path, tmp_path: Path) -> None:
    most = max(tidoctor.open(sharded).weights, key=lambda w: w.header.size).header.size
    done = tidoctor.untie(sharded, tmp_path / "out", form=Form(max_shard_size=most))
    assert tensors(tmp_path / "out") == tensors(sharded) | {HEAD: tensors(sharded)[EMBEDDING]}
    kept = [w for w in done.planned.weights if w.whole]
    for weight in kept:
        assert (tmp_path / "out" / weight.name).read_bytes() == (sharded / weight.whole[1]).read_bytes()


def test_a_healthy_checkpoint_can_take_another_form(sharded: Path, tmp_path: Path) -> None:
    done = tidoctor.repair(sharded, tmp_path / "out", form=Form(single_file=True))
    assert done.exit_code == 0 and done.receipt is not None
    assert tensors(tmp_path / "out") == tensors(sharded)
    assert names(tmp_path / "out") == {"config.json", "model.safetensors"}


def test_shadowed_copies_do_not_come_twice_into_one_file(sharded: Path, tmp_path: Path) -> None:
    extra = checkpoints.filled({"model.norm.weight": ("BF16", [16], "another")})
    second = sharded / "model-00002-of-00003.safetensors"
    second.write_bytes(checkpoints.safetensors_bytes({**tensors_of(second), **extra}))
    counted = tidoctor.open(sharded)
    truth = counted.read(counted.tensors["model.norm.weight"], 0, 32)
    tidoctor.repair(sharded, tmp_path / "out", form=Form(single_file=True), partial=True)
    assert tensors(tmp_path / "out")["model.norm.weight"][2] == truth


# --- apart and overlays ------------------------------------------------------------------------


def test_with_links_the_head_stands_apart_from_a_single_file(source: Path, tmp_path: Path) -> None:
    done = tidoctor.untie(source, tmp_path / "out", form=Form(link="hard"))
    assert done.exit_code == 0 and done.receipt is not None
    body = tmp_path / "out" / "model-00001-of-00002.safetensors"
    assert body.stat().st_ino == (source / "model.safetensors").stat().st_ino
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert tensors(tmp_path / "out") == tensors(source) | {HEAD: tensors(source)[EMBEDDING]}
    assert set(json.loads((tmp_path / "out" / INDEX).read_text())["weight_map"]) == set(tensors(tmp_path / "out"))


def carried_out(steps: tuple[str, ...], source: Path, overlay: Path, place: Path) -> None:
    """Lay an overlay over a copy of the source, as the steps say."""
    import shutil

    shutil.copytree(source, place)
    for step in steps:
        verb, _, rest = step.partition(" ")
        old, _, new = rest.partition(" to ")
        if verb == "rename":
            (place / old).rename(place / new)
        else:
            assert verb == "remove"
            (place / old).unlink()
    for path in overlay.iterdir():
        shutil.copy(path, place)


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_an_overlay_holds_what_is_new(kind: str, tmp_path: Path) -> None:
    shards = 1 if kind == "single" else 3
    table = checkpoints.llama(head=False)
    source = checkpoints.write(tmp_path / "source", table, TIED, shards=shards)
    before = state(source)
    done = tidoctor.untie(source, tmp_path / "out", form=Form(delta=True))
    assert done.exit_code == 0 and done.receipt is not None and done.result is None
    files = names(tmp_path / "out")
    if kind == "sharded":
        assert done.receipt.steps == ()  # dropped in as it is
        assert files == {"model-added.safetensors", INDEX}
    else:
        assert done.receipt.steps == ("rename model.safetensors to model-00001-of-00002.safetensors",)
        assert files == {"model-00002-of-00002.safetensors", INDEX}
    carried_out(done.receipt.steps, source, tmp_path / "out", tmp_path / "laid")
    assert tensors(tmp_path / "laid") == tensors(source) | {HEAD: tensors(source)[EMBEDDING]}
    found = tidoctor.diagnose(tmp_path / "laid")
    assert not [f for f in found.findings if f.severity > 1], found.findings
    assert state(source) == before


def test_an_overlay_of_a_rename_replaces_what_it_changes(sharded: Path, tmp_path: Path) -> None:
    wrapped = {f"module.{n}": ("BF16", s, n) for n, s in checkpoints.llama().items()}
    source = checkpoints.write(tmp_path / "wrapped", wrapped, checkpoints.LLAMA, shards=2)
    done = tidoctor.repair(source, tmp_path / "out", form=Form(delta=True))
    assert done.receipt is not None
    carried_out(done.receipt.steps, source, tmp_path / "out", tmp_path / "laid")
    assert tensors(tmp_path / "laid") == {n.removeprefix("module."): r for n, r in tensors(source).items()}


@pytest.mark.parametrize(
    "wishes", [{"single_file": True, "max_shard_size": 1}, {"delta": True, "single_file": True}]
)
def test_wishes_that_contradict(wishes: dict[str, object]) -> None:
    with pytest.raises(Usage, match="contradicts"):
        Form(**wishes)  # type: ignore[arg-type]


# --- types of numbers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wish"),
    [("bf16", ("*", "BF16")), ("FLOAT16", ("*", "F16")), ("*.norm.weight=f32", ("*.norm.weight", "F32")),
     ("a=b=fp16", ("a=b", "F16"))],
)  # fmt: skip
def test_dtype_wishes(text: str, wish: tuple[str, str]) -> None:
    assert dtype_wish(text) == wish


@pytest.mark.parametrize("text", ["", "int8", "f64", "=f32", "x=", "bf16=x"])
def test_what_is_no_dtype(text: str) -> None:
    with pytest.raises(Usage, match="--dtype"):
        dtype_wish(text)


def test_a_cast_is_streamed_verified_and_told_to_the_config(source: Path, tmp_path: Path) -> None:
    form = Form(dtypes=(("*", "F32"),))
    done = tidoctor.untie(source, tmp_path / "out", form=form)
    assert done.exit_code == 0 and done.receipt is not None and done.receipt.overflows == {}
    assert done.cost == done.receipt.cost
    assert (done.receipt.made, done.receipt.verified) == (len(tensors(tmp_path / "out")), 0)
    for name, (dtype, shape, data) in tensors(tmp_path / "out").items():
        old = tensors(source)[EMBEDDING if name == HEAD else name]
        assert (dtype, shape) == ("F32", old[1])
        assert data == b"".join(b"\0\0" + old[2][i : i + 2] for i in range(0, len(old[2]), 2))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"
    back = tidoctor.repair(tmp_path / "out", tmp_path / "back", form=Form(dtypes=(("*", "BF16"),)))
    assert back.exit_code == 0
    assert tensors(tmp_path / "back") == tensors(source) | {HEAD: tensors(source)[EMBEDDING]}


def test_the_last_pattern_counts(source: Path, tmp_path: Path) -> None:
    form = Form(dtypes=(("*", "F16"), ("*norm.weight", "F32"), ("model.norm.weight", "BF16")))
    done = tidoctor.repair(source, tmp_path / "out", form=form)
    kinds = {name: row[0] for name, row in tensors(tmp_path / "out").items()}
    assert kinds["model.norm.weight"] == "BF16"
    assert kinds["model.layers.0.input_layernorm.weight"] == "F32"
    assert kinds[EMBEDDING] == "F16"
    # A mixture is not what one word of config.json says.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert done.exit_code == 0


def test_a_pattern_that_fits_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="lm_heat"):
        tidoctor.repair(source, tmp_path / "out", form=Form(dtypes=(("lm_heat*", "F32"),)))


def test_numbers_that_become_infinite_are_told(tmp_path: Path) -> None:
    values = np.zeros((64, 16), "<f4")
    values[3, :5] = (1e5, -1e5, 65519.9, np.inf, np.nan)
    table = {n: ("F32", s) for n, s in checkpoints.llama(head=False).items()}
    files = checkpoints.filled(table)
    files[EMBEDDING] = ("F32", [64, 16], values.tobytes())
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TIED))
    (folder / "model.safetensors").write_bytes(checkpoints.safetensors_bytes(files))
    done = tidoctor.repair(folder, tmp_path / "out", form=Form(dtypes=(("*", "F16"),)))
    assert done.receipt is not None
    assert done.receipt.overflows == {EMBEDDING: 2}


def test_quantised_weights_are_not_converted(tmp_path: Path) -> None:
    table: dict[str, object] = dict(checkpoints.llama(head=False))
    for name in [n for n in table if "proj" in n]:
        shape = table.pop(name)
        table[name.replace(".weight", ".qweight")] = ("I32", [2, shape[1]])  # type: ignore[index]
        table[name.replace(".weight", ".scales")] = ("F16", [1, shape[1]])  # type: ignore[index]
    config = TIED | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    source = checkpoints.write(tmp_path / "source", table, config)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"quantised|converted"):
        tidoctor.repair(source, tmp_path / "out", form=Form(dtypes=(("*", "F32"),)))


def test_a_planned_cast_reads_as_it_will_be(source: Path) -> None:
    from tidoctor.plan import Plan

    before = tidoctor.open(source)
    ops = [{"op": "cast", "tensor": n, "dtype": "F32"} for n in before.tensors]
    after = Plan().then(ops).apply(before)
    row, old = after.tensors[EMBEDDING], before.read(before.tensors[EMBEDDING], 0, 1 << 20)
    wide = b"".join(b"\0\0" + old[i : i + 2] for i in range(0, len(old), 2))
    assert row.nbytes == len(wide)
    for begin, end in ((0, 1 << 20), (0, 3), (5, 9), (1001, 1002), (len(wide) - 1, len(wide) + 5)):
        assert after.read(row, begin, end) == wide[begin:end]
    assert after.same_bytes(row, row)
    with pytest.raises(Refused, match="twice"):
        Plan().then([{"op": "cast", "tensor": EMBEDDING, "dtype": "F16"}]).apply(after)


def test_what_loaders_make_of_an_overlay_is_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tidoctor.__main__ import main

    dest = tmp_path / "out"
    assert main(["untie", str(source), str(dest), "--for", "candle@0.7.1", "--delta"]) == 0
    assert "candle 0.7.1 loads" in capsys.readouterr().out
    assert dest.is_dir()


def test_a_name_that_no_index_can_hold_is_a_sentence(tmp_path: Path) -> None:
    """Half a surrogate pair can be escaped in JSON, and cannot be written as text."""
    source, places = tmp_path / "source", {}
    source.mkdir()
    for k, name in enumerate(("a.\udcff.w", "b.w"), 1):
        places[name] = f"model-{k:05d}-of-00002.safetensors"
        head = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
        head += b" " * (-len(head) % 8)
        (source / places[name]).write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    index = {"metadata": {"total_size": 16}, "weight_map": places}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Refused, match="not Unicode text"):
        tidoctor.repair(source, tmp_path / "out", form=Form(dtypes=(("b*", "BF16"),)))
    assert not (tmp_path / "out").exists()
