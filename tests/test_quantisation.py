"""Weights stored in parts: tables of healthy and sick modules, and what the rules make of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama

from tidoctor import rules
from tidoctor.finding import Diagnosis, Finding
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

Table = dict[str, Any]
UP = [f"model.layers.{i}.mlp.up_proj" for i in range(2)]
DOWN = [f"model.layers.{i}.mlp.down_proj" for i in range(2)]


def declared(**said: Any) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": said}


def in_parts(modules: list[str], parts: Table, *, without: str = "") -> Table:
    """A Llama in which these modules are stored in these parts."""
    table = {n: row for n, row in llama().items() if n.removesuffix(".weight") not in modules}
    rows = {f"{m}.{part}": row for m in modules for part, row in parts.items()}
    return {**table, **{n: row for n, row in rows.items() if n != without}}


# up_proj is 32 x 16: 16 features in, 32 out
GPTQ = {
    "qweight": ("I32", [2, 32]), "qzeros": ("I32", [2, 4]), "scales": ("F16", [2, 32]),
    "g_idx": ("I32", [16]),
}
AWQ = {"qweight": ("I32", [16, 4]), "qzeros": ("I32", [2, 4]), "scales": ("F16", [2, 32])}
BNB4 = {
    "weight": ("U8", [256, 1]), "weight.absmax": ("U8", [4]), "weight.quant_map": ("F32", [16]),
    "weight.nested_absmax": ("F32", [1]), "weight.nested_quant_map": ("F32", [256]),
    "weight.quant_state.bitsandbytes__nf4": ("U8", [90]),
}
BNB8 = {"weight": ("I8", [32, 16]), "SCB": ("F32", [32]), "weight_format": ("U8", [])}
FP8 = {"weight": ("F8_E4M3", [32, 16]), "weight_scale": ("F32", [1])}
BLOCKS = {"weight": ("F8_E4M3", [256, 384]), "weight_scale_inv": ("F32", [2, 3])}
INT8 = {"weight": ("I8", [32, 16]), "weight_scale": ("BF16", [32, 1])}
PACKED = {
    "weight_packed": ("I32", [32, 2]), "weight_scale": ("BF16", [32, 1]),
    "weight_shape": ("I64", [2]),
}
NVFP4 = {
    "weight": ("U8", [32, 8]), "weight_scale": ("F8_E4M3", [32, 1]), "weight_scale_2": ("F32", []),
    "input_scale": ("F32", []),
}
MLX = {"weight": ("U32", [32, 2]), "scales": ("BF16", [32, 1]), "biases": ("BF16", [32, 1])}
QUANTO = {"weight._data": ("I8", [32, 16]), "weight._scale": ("BF16", [32, 1])}
EXPERTS = {
    "model.layers.0.mlp.experts.gate_up_proj_blocks": ("U8", [4, 32, 1, 16]),
    "model.layers.0.mlp.experts.gate_up_proj_scales": ("U8", [4, 32, 1]),
}
SCHEMES: dict[str, tuple[Table, dict[str, Any]]] = {
    "gptq": (in_parts(UP, GPTQ), declared(quant_method="gptq", bits=4, group_size=8)),
    "gptq, one group": (
        in_parts(UP, {**GPTQ, "qzeros": ("I32", [1, 4]), "scales": ("F16", [1, 32])}),
        declared(quant_method="gptq", bits=4, group_size=-1),
    ),
    "awq": (in_parts(UP, AWQ), declared(quant_method="awq", bits=4, group_size=8)),
    "bitsandbytes 4-bit": (
        in_parts(UP, BNB4), declared(quant_method="bitsandbytes", load_in_4bit=True)),
    "bitsandbytes 8-bit": (
        in_parts(UP, BNB8), declared(quant_method="bitsandbytes", load_in_8bit=True)),
    "fp8": (in_parts(UP, FP8), declared(quant_method="compressed-tensors")),
    "block fp8": (
        in_parts(UP, BLOCKS), declared(quant_method="fp8", weight_block_size=[128, 128])),
    "int8": (in_parts(UP, INT8), declared(quant_method="compressed-tensors")),
    "compressed-tensors": (in_parts(UP, PACKED), declared(quant_method="compressed-tensors")),
    "nvfp4": (in_parts(UP, NVFP4), declared(quant_method="modelopt", quant_algo="NVFP4")),
    "mlx": (in_parts(UP, MLX), {**LLAMA, "quantization": {"group_size": 16, "bits": 4}}),
    "quanto": (in_parts(UP, QUANTO), declared(quant_method="quanto")),
    "mxfp4": ({**llama(), **EXPERTS}, declared(quant_method="mxfp4")),
    "one module in parts, its layer's others plain": (
        in_parts(UP[:1], FP8), declared(quant_method="fp8", modules_to_not_convert=[UP[1]])),
    "bitnet that quantises while it loads": (
        llama(), declared(quant_method="bitnet", quantization_mode="online")),
    "settings for the cache alone": (
        llama(), declared(quant_method="compressed-tensors", config_groups={})),
    "integer buffers": (
        {**llama(), "model.position_ids": ("I64", [1, 64]), "model.mask": ("U8", [4])}, LLAMA),
    "scales of the cache": (
        {**llama(), "model.layers.0.self_attn.k_scale": ("F32", [1])}, LLAMA),
    "a parameter called scale": (
        {**llama(), "model.layers.0.scale": ("F32", [1]),
         "model.layers.0.weight_scale": ("F32", [1])}, LLAMA),
}  # fmt: skip
Q_CODES = {"Q01", "Q02", "Q03", "Q04", "Q05", "Q06"}


def examine(table: Table, config: dict[str, Any], **more: Any) -> Diagnosis:
    return rules.diagnose(open_checkpoint(Memory(build(table, config, **more))))


def told(found: Diagnosis) -> dict[str, str]:
    return {f.code: str(f.severity) for f in found.findings if f.code in Q_CODES}


def only(found: Diagnosis, code: str) -> Finding:
    (finding,) = [f for f in found.findings if f.code == code]
    return finding


@pytest.mark.parametrize("name", SCHEMES)
def test_a_declared_scheme_with_all_its_parts_is_silent(name: str) -> None:
    assert told(examine(*SCHEMES[name])) == {}


@pytest.mark.parametrize(
    "name", [n for n, (t, c) in SCHEMES.items() if c != LLAMA and t.keys() != llama().keys()]
)
def test_packed_weights_without_a_declaration_are_an_error(name: str) -> None:
    found = examine(SCHEMES[name][0], LLAMA)
    assert told(found)["Q01"] == "error"
    assert not {"C06", "C07"} & {f.code for f in found.findings}


def test_an_8_bit_float_without_a_scale_is_a_warning() -> None:
    cast = {n: ("F8_E4M3", s) if len(s) == 2 else s for n, s in llama().items()}
    assert told(examine(cast, LLAMA)) == {"Q01": "warning"}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (BNB4, {"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True, "load_in_4bit": True}),
        (BNB8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
        (BLOCKS, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    ],
)  # fmt: skip
def test_the_declaration_is_written_where_the_parts_tell_all_of_it(
    parts: Table, expected: dict[str, Any]
) -> None:
    before = open_checkpoint(Memory(build(in_parts(UP, parts), LLAMA)))
    cure = only(rules.diagnose(before), "Q01").cure
    assert cure is not None and cure.needs == ("accept",)
    after = Plan((cure.operations,)).apply(before)
    said = after.settings["quantization_config"]
    assert isinstance(said, dict) and expected.items() <= said.items()
    plain = said.get("llm_int8_skip_modules", said.get("modules_to_not_convert"))
    assert "lm_head" in plain and DOWN[0] in plain and UP[0] not in plain
    assert told(rules.diagnose(after)) == {}


@pytest.mark.parametrize("method", ["fp8", "gptq", "bitsandbytes", "compressed-tensors"])
def test_a_declaration_that_no_tensor_bears_out_is_deleted(method: str) -> None:
    before = open_checkpoint(Memory(build(llama(), declared(quant_method=method))))
    finding = only(rules.diagnose(before), "Q02")
    assert str(finding.severity) == "error" and finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    assert "quantization_config" not in after.settings
    assert [f for f in rules.diagnose(after).findings if f.severity > 1] == []


def test_a_scheme_that_is_not_known_is_not_judged() -> None:
    found = examine(llama(), declared(quant_method="sevenbit"))
    assert "Q02" in {n.code for n in found.not_run} and told(found) == {}


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ("fp8", "NVFP4", {"Q02": "warning"}),
        ("modelopt", "FP8", {}),
        ("fp8", "FP8", {}),
        ("modelopt", "NVFP4", {}),
    ],
)
def test_two_declarations_have_to_agree(own: str, other: str, expected: dict[str, str]) -> None:
    beside = {"hf_quant_config.json": json.dumps({"quantization": {"quant_algo": other}})}
    found = examine(in_parts(UP, FP8), declared(quant_method=own), files=beside)
    assert told(found) == expected


@pytest.mark.parametrize(
    ("parts", "gone", "config"),
    [
        (GPTQ, "scales", declared(quant_method="gptq", bits=4, group_size=8)),
        (GPTQ, "qzeros", declared(quant_method="gptq", bits=4, group_size=8)),
        (BNB4, "weight.absmax", declared(quant_method="bitsandbytes")),
        (PACKED, "weight_scale", declared(quant_method="compressed-tensors")),
        (FP8, "weight_scale", declared(quant_method="compressed-tensors")),
        (NVFP4, "weight_scale", declared(quant_method="modelopt")),
    ],
)
def test_a_part_that_the_other_modules_have_is_missed(
    parts: Table, gone: str, config: dict[str, Any]
) -> None:
    many = [*UP, *DOWN]
    lost = f"{UP[1]}.{gone}"
    layers = [*many, *(m.replace("mlp", "self_attn") for m in many)]
    finding = only(examine(in_parts(layers, parts, without=lost), config), "Q03")
    assert finding.tensors == (lost,)
    # where half of the modules lack it, which of them are whole is not for the file to tell
    assert str(finding.severity) == ("warning" if parts is FP8 else "error")


def test_what_is_left_of_a_quantisation_beside_plain_weights_is_dropped() -> None:
    table = {
        **llama(), f"{UP[0]}.weight.absmax": ("F32", [8]), f"{DOWN[0]}.SCB": ("F32", [16]),
        f"{UP[1]}.weight_scale_inv": ("F32", [1, 1]),
    }  # fmt: skip
    before = open_checkpoint(Memory(build(table, LLAMA)))
    finding = only(rules.diagnose(before), "Q04")
    assert len(finding.tensors) == 3 and finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    assert set(after.tensors) == set(llama())
    assert [f for f in rules.diagnose(after).findings if f.severity > 1] == []


def test_biases_of_nothing_beside_packed_weights_are_a_note() -> None:
    config = declared(quant_method="gptq", bits=4, group_size=8)
    table = {**in_parts(UP, GPTQ), **{f"{m}.bias": ("F32", [32]) for m in UP}}
    files = build(table, config)
    assert told(rules.diagnose(open_checkpoint(Memory(files)))) == {}  # they hold values
    data = bytearray(files["model.safetensors"])
    checkpoint = open_checkpoint(Memory(files))
    for module in UP:
        span = checkpoint.tensors[f"{module}.bias"].span
        data[span.begin : span.end] = bytes(span.end - span.begin)
    files["model.safetensors"] = bytes(data)
    assert told(rules.diagnose(open_checkpoint(Memory(files)))) == {"Q05": "note"}


@pytest.mark.parametrize(
    ("parts", "config", "right"),
    [
        (GPTQ, declared(quant_method="gptq", bits=4, group_size=16), {"bits": 4, "group_size": 8}),
        (GPTQ, declared(quant_method="gptq", bits=8, group_size=8), {"bits": 4, "group_size": 8}),
        (AWQ, declared(quant_method="awq", bits=4, group_size=4), {"bits": 4, "group_size": 8}),
        (MLX, {**LLAMA, "quantization": {"group_size": 8, "bits": 4}},
         {"bits": 4, "group_size": 16}),
    ],
)  # fmt: skip
def test_bits_and_groups_are_told_by_the_shapes(
    parts: Table, config: dict[str, Any], right: dict[str, int]
) -> None:
    before = open_checkpoint(Memory(build(in_parts(UP, parts), config)))
    finding = only(rules.diagnose(before), "Q06")
    assert finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    key = next(k for k in ("quantization_config", "quantization") if k in config)
    said = after.settings[key]
    assert isinstance(said, dict) and right.items() <= said.items()
    assert told(rules.diagnose(after)) == {}


def test_single_modules_may_have_settings_of_their_own() -> None:
    own = {"group_size": 64, "bits": 4, **{m: {"group_size": 16, "bits": 4} for m in UP}}
    assert told(examine(in_parts(UP, MLX), {**LLAMA, "quantization": own})) == {}


def test_a_dtype_of_few_readers_is_a_note() -> None:
    finding = only(examine({**llama(), "x": ("F8_E8M0", [4])}, LLAMA), "Q07")
    assert "0.6.0" in finding.message
    assert "Q07" in examine(llama(), LLAMA).ran


# --- the dtype of plain weights ------------------------------------------------------------------


def wide(*, norms_only: bool = False) -> Table:
    return {n: ("F32", s) if not norms_only or len(s) == 1 else s for n, s in llama().items()}


def test_weights_in_twice_the_declared_width_are_a_note() -> None:
    before = open_checkpoint(Memory(build(wide(), LLAMA)))
    finding = only(rules.diagnose(before), "C10")
    assert str(finding.severity) == "note" and finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    assert after.settings["torch_dtype"] == "float32"
    assert "C10" not in {f.code for f in rules.diagnose(after).findings}


@pytest.mark.parametrize(
    ("table", "config"),
    [
        (llama(), LLAMA),
        (wide(norms_only=True), LLAMA),
        (wide(), {**LLAMA, "torch_dtype": "float32"}),
        (wide(), {k: v for k, v in LLAMA.items() if k != "torch_dtype"}),
        (in_parts(UP, BNB4), declared(quant_method="bitsandbytes")),
    ],
)
def test_a_dtype_that_is_declared_or_a_few_wide_tensors_are_no_contradiction(
    table: Table, config: dict[str, Any]
) -> None:
    assert "C10" not in {f.code for f in examine(table, config).findings}
