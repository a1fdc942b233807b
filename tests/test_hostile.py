"""Bad input is normal input: any bytes and any JSON end in a finding or in one clean exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, safetensors_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor import rules
from tidoctor.__main__ import main
from tidoctor.errors import Refused, TidoctorError
from tidoctor.finding import CureKind
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan
from tidoctor.report import Format, page
from tidoctor.report.style import Style

KEYS = [
    "architectures", "model_type", "tie_word_embeddings", "text_config", "vocab_size",
    "num_hidden_layers", "num_nextn_predict_layers", "transformers_version", "auto_map",
    "scale_decoder_outputs", "draft_vocab_size", "transformers_weights", "_class_name", "metadata",
    "weight_map", "total_size", "dtype", "shape", "data_offsets", "__metadata__", "format",
]  # fmt: skip
WORDS = [
    "llama", "LlamaModel", "LlamaForCausalLM", "gemma3", "Gemma3ForConditionalGeneration", "t5",
    "T5ForConditionalGeneration", "bert", "BertForMaskedLM", "GPT2LMHeadModel", "gpt2", "5.23.0",
    "4.x", "model.safetensors", "../x", "model-00001-of-00002.safetensors", "BF16", "F4", "pt",
    "lm_head.weight", "model.embed_tokens.weight", "PeftModel", "FSDPLlamaForCausalLM", "\ud800",
    "999999999999.1",
]  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 70), st.floats(), st.sampled_from(WORDS),
    st.text(max_size=4), st.just(10**400),
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=3)), inner, max_size=4),
    ),
    max_leaves=12,
)
SETTINGS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=8)
PARTS = st.sampled_from([
    "model", "layers", "0", "1", "lm_head", "weight", "bias", "embed_tokens", "module", "_orig_mod",
    "lora_A", "base_layer", "score", "mtp", "shared", "encoder", "decoder", "transformer", "wte",
    "LayerNorm", "gamma", "{}", "", "\x1b[2J", "\u202e", "_data", "parametrizations", "original0",
])  # fmt: skip
NAMES = st.lists(PARTS, max_size=5).map(".".join)
TENSORS = st.dictionaries(
    NAMES,
    st.tuples(st.sampled_from(["BF16", "F32", "U8", "I32"]), st.lists(st.integers(0, 4), max_size=3)),
    max_size=8,
)  # fmt: skip
SIZE = {"BF16": 2, "F32": 4, "U8": 1, "I32": 4}


def weights(table: dict[str, tuple[str, list[int]]]) -> bytes:
    filled = {}
    for name, (dtype, shape) in table.items():
        count = SIZE[dtype]
        for d in shape:
            count *= d
        filled[name] = (dtype, shape, bytes(count))
    return safetensors_bytes(filled)


def examined(files: dict[str, bytes], wanted: str | None = None) -> None:
    """Open, diagnose, plan every cure, diagnose what it leads to, and print all of it."""
    try:
        checkpoint = open_checkpoint(Memory(files))
    except TidoctorError as e:
        assert "\n" not in str(e)
        return
    diagnosis = rules.diagnose(checkpoint, wanted=wanted)
    told = [page(f, Style(), several=False).diagnosis(checkpoint, diagnosis) for f in Format]
    json.loads(told[[*Format].index(Format.JSON)])
    for text in told:
        assert not {c for c in text if c != "\n" and (ord(c) < 32 or 0x7F <= ord(c) < 0xA0)}
        assert "\u202e" not in text
    for finding in diagnosis.findings:
        if finding.cure and finding.cure.operations:
            try:
                planned = Plan((finding.cure.operations,)).apply(checkpoint)
            except Refused:
                # A safe cure that is offered can be carried out.
                assert finding.cure.kind is not CureKind.SAFE, finding
                continue
            rules.diagnose(planned, wanted=wanted)


WANTED = st.sampled_from([None, "causal-lm", "LlamaForCausalLM", "base", "sequence-classification"])


@settings(max_examples=250, deadline=None)
@given(SETTINGS, TENSORS, WANTED)
def test_any_config_with_any_names(
    config: dict[str, Any], table: dict[str, Any], wanted: str | None
) -> None:
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": weights(table)}
    examined(files, wanted)


@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from([1, 2, 3]), st.sampled_from(["config.json", "model.safetensors.index.json"]))
def test_any_json_in_place_of_a_text_file(data: Any, shards: int, name: str) -> None:
    examined({**build(llama(), LLAMA, shards=shards), name: json.dumps(data).encode()})


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["model.norm.weight", "a", "lm_head.weight"]), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["total_size", "x"]), JSON, max_size=2),
)
def test_any_entries_in_an_index(entries: dict[str, Any], metadata: dict[str, Any]) -> None:
    files = build(llama(), LLAMA, shards=2)
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"].update(entries)
    index["metadata"] = metadata
    examined({**files, "model.safetensors.index.json": json.dumps(index).encode()})


FILES = st.sampled_from([
    "config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json",
    "model-00001-of-00002.safetensors", "adapter_model.safetensors", "consolidated.safetensors",
    "model-00002-of-00003.safetensors", "x.safetensors", "model-1-of-99999999.safetensors",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FILES, st.one_of(st.binary(max_size=60), TENSORS.map(weights)), max_size=5))
def test_any_bytes_in_any_files(files: dict[str, bytes]) -> None:
    examined(files)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_healthy_file_with_bytes_changed(data: st.DataObject) -> None:
    files = build(llama(), LLAMA, shards=2)
    name = data.draw(st.sampled_from(sorted(files)))
    raw = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 600) - 1))] = data.draw(st.integers(0, 255))
    examined({**files, name: bytes(raw)})


@pytest.mark.parametrize("command", ["diagnose", "inspect"])
@pytest.mark.parametrize(
    "config", [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe\x00", b"", b"9" * 10_000, b'"' * 99_999]
)
def test_the_command_line_never_shows_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, config: bytes
) -> None:
    for name, data in {**build(llama(), None), "config.json": config}.items():
        (tmp_path / name).write_bytes(data)
    assert main([command, str(tmp_path)]) in (0, 1, 3)
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    assert "internal error" not in told.out + told.err
