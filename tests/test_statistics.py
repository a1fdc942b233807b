"""The numbers that tensors hold, of every float type, and how inspect tells them."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from checkpoints import Memory, safetensors_bytes

import tidoctor
from tests.report_samples import validated
from tidoctor.checkpoint import Checkpoint
from tidoctor.opening import open_checkpoint
from tidoctor.report.json import Objects
from tidoctor.report.style import Style
from tidoctor.report.text.inspection import inspection
from tidoctor.rules.statistics import NOTHING, Statistics, _table, decoder, statistics


def opened(**rows: tuple[str, list[int], bytes]) -> Checkpoint:
    return open_checkpoint(Memory({"model.safetensors": safetensors_bytes(rows)}))


def of(dtype: str, raw: bytes, count: int) -> Statistics | None:
    checkpoint = opened(a=(dtype, [count], raw))
    return statistics(checkpoint, checkpoint.tensors.values())["a"]


def test_figures_are_those_of_numpy_over_many_pieces() -> None:
    values = np.random.default_rng(0).normal(3, 2, 1_000_003).astype("<f4")
    values[:1000] = 0
    values[-3:] = math.nan, math.inf, -math.inf
    held = of("F32", values.tobytes(), values.size)
    assert held is not None
    finite = values[:-3].astype("f8")
    assert (held.count, held.odd, held.zeros) == (values.size, 3, 1000)
    assert (held.least, held.most) == (finite.min(), finite.max())
    assert held.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert held.deviation == pytest.approx(finite.std(), rel=1e-9)


@pytest.mark.parametrize(
    ("dtype", "raw", "numbers"),
    [
        ("BF16", struct.pack("<3H", 0x3F80, 0xC000, 0x8000), [1.0, -2.0, 0.0]),
        ("F16", struct.pack("<2e", 0.5, -65504), [0.5, -65504]),
        ("F64", struct.pack("<2d", 1e300, -1e-300), [1e300, -1e-300]),
        ("F8_E4M3", bytes([0x38, 0xB8, 0x7E, 0x01, 0x08, 0]), [1, -1, 448, 2**-9, 2**-6, 0]),
        ("F8_E5M2", bytes([0x3C, 0xBC, 0x7B]), [1, -1, 57344]),
        ("F8_E8M0", bytes([127, 128, 126]), [1, 2, 0.5]),
        ("I8", bytes([255, 2]), [-1, 2]),
        ("BOOL", bytes([0, 1]), [0, 1]),
    ],
)
def test_every_type_is_decoded(dtype: str, raw: bytes, numbers: list[float]) -> None:
    decode = decoder(dtype)
    assert decode is not None and decode(raw).tolist() == numbers


def test_what_has_no_decoder_is_none() -> None:
    assert of("F4", b"\x12" * 4, 8) is None
    assert math.isnan(_table("F8_E4M3")[0x7F]) and math.isnan(_table("F8_E8M0")[255])


def test_sums_leave_out_what_holds_no_finite_value() -> None:
    bad = of("F32", struct.pack("<f", math.nan), 1)
    good = of("F32", struct.pack("<2f", 4.0, 6.0), 2)
    assert bad is not None and good is not None
    whole = sum([bad, good], NOTHING)
    assert (whole.least, whole.most, whole.mean, whole.odd) == (4.0, 6.0, 5.0, 1)


def test_inspect_tells_them_for_a_pattern_and_for_each_tensor() -> None:
    rows = {f"l.{i}.w": ("F32", [2], struct.pack("<2f", i, -i)) for i in range(3)}
    checkpoint = opened(**rows, z=("F4", [2], b"\x11"))
    values = tidoctor.statistics(checkpoint)
    lines = inspection(checkpoint, lambda n: True, Style(False), every=False, values=values)
    (figures,) = [line for line in lines if "l.{0..2}.w" in line and "-2" in line]
    assert figures.split() == ["l.{0..2}.w", "-2", "2", "0", "1.291", "2", "0"]
    assert any("not read" in line for line in lines)
    told = validated(Objects().inspection(checkpoint, lambda n: True, every=False, values=values))
    by_name = {t["name"]: t["values"] for t in told["tensors"]}
    assert by_name["l.2.w"]["max"] == 2 and by_name["z"] is None
