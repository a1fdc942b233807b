"""What the bytes of tensors hold, in one pass and from three pages."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from checkpoints import Memory, build, llama, payload, safetensors_bytes

from tidoctor import rules
from tidoctor.finding import Diagnosis
from tidoctor.opening import open_checkpoint
from tidoctor.rules import values

Rows = dict[str, tuple[str, Sequence[int], bytes]]


def opened(rows: Rows, cut: int = 0) -> values.Checkpoint:
    raw = safetensors_bytes(rows)
    return open_checkpoint(Memory({"model.safetensors": raw[: len(raw) - cut]}))


def look(dtype: str, data: bytes, count: int) -> values.Values:
    return values.survey(opened({"a": (dtype, [count], data)}))["a"]


@pytest.mark.parametrize(
    ("dtype", "size", "nan", "infinity"),
    [
        ("F64", 8, 0x7FF8000000000000, 0x7FF0000000000000),
        ("F32", 4, 0x7FC00000, 0x7F800000),
        ("F16", 2, 0x7E00, 0x7C00),
        ("BF16", 2, 0x7FC0, 0x7F80),
        ("F8_E5M2", 1, 0x7E, 0x7C),
        ("F8_E4M3", 1, 0x7F, None),
    ],
)
def test_nan_and_infinity_are_counted_with_either_sign(
    dtype: str, size: int, nan: int, infinity: int | None
) -> None:
    sign = 1 << (8 * size - 1)
    bad = [n for v in (nan, infinity) if v is not None for n in (v, v | sign)]
    one = (1).to_bytes(size, "little")
    for pattern in bad:
        wanted = int(pattern & ~sign != infinity)
        for before, after in ((0, 0), (1, 0), (0, 1), (200_000, 3), (3, 200_000)):
            data = one * before + pattern.to_bytes(size, "little") + one * after
            seen = look(dtype, data, before + after + 1)
            assert (seen.odd, seen.nan) == (1, wanted), (pattern, before)
    largest = (infinity or nan) - 1
    data = b"".join(n.to_bytes(size, "little") for n in (largest, largest | sign, 0, sign, 1))
    assert look(dtype, data, 5) == values.Values(0, 0, False, False, 5 * size)


def test_zeros_of_both_signs_are_zeros_and_one_small_number_is_none() -> None:
    minus = struct.pack("<H", 0x8000)
    assert look("BF16", bytes(8) + minus, 5).zero
    assert not look("BF16", bytes(8) + b"\x01\x00", 5).zero
    assert look("U8", bytes(300_000), 300_000).zero
    assert not look("I32", bytes(300_000) + b"\x01\0\0\0", 75_001).zero
    assert not look("F32", b"", 0).zero


def test_a_constant_is_one_number_all_over() -> None:
    ones = struct.pack("<f", 1.0) * 200_000
    assert look("F32", ones, 200_000).constant
    assert not look("F32", ones[:-4] + bytes(4), 200_000).constant
    assert not look("F32", ones[:400_000] + bytes(4) + ones[400_004:], 200_000).constant
    assert not look("F32", ones[:4], 1).constant


def test_formats_without_nan_have_none() -> None:
    every = bytes(range(256))
    assert look("F4", every, 512).odd == 0
    assert look("I8", every, 256).odd == 0
    assert look("F8_E8M0", every, 256).odd == 1
    assert look("F8_E4M3FNUZ", every, 256).odd == 1


def test_progress_ends_at_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    checkpoint = opened({f"a{i}": ("U8", [5_000_000], bytes(5_000_000)) for i in range(2)})
    values.survey(checkpoint, lambda what, done, total: seen.append((done, total)))
    assert seen[-1] == (10_000_000, 10_000_000) and seen == sorted(seen)


# --- zeros where a write was interrupted ---------------------------------------------------------


def layers(count: int, zero: Sequence[int] = (), size: int = 20_000) -> Rows:
    rows: Rows = {}
    for i in range(count):
        data = bytes(2 * size) if i in zero else payload(f"{i}", "BF16", [100, size // 100])
        rows[f"l.{i}.w.weight"] = ("BF16", [100, size // 100], data)
        rows[f"l.{i}.norm.weight"] = ("BF16", [4], bytes(8) if i in zero else b"\x80\x3f" * 4)
    return rows


def diagnosed(rows: Rows, *, deep: bool = False, cut: int = 0) -> Diagnosis:
    return rules.diagnose(opened(rows, cut), deep=deep, select=["D"])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("cut", [0, 50_000])
def test_a_zero_tail_is_an_error_and_every_tensor_in_it_is_named(deep: bool, cut: int) -> None:
    (finding,) = diagnosed(layers(10, range(6, 10)), deep=deep, cut=cut).findings
    assert (finding.code, str(finding.severity)) == ("D04", "error")
    there = range(6, 9) if cut else range(6, 10)
    assert set(finding.tensors) >= {f"l.{i}.w.weight" for i in there}


@pytest.mark.parametrize("deep", [False, True])
def test_a_hole_in_the_middle_is_a_warning(deep: bool) -> None:
    (finding,) = diagnosed(layers(9, [4]), deep=deep).findings
    assert (finding.code, str(finding.severity)) == ("D04", "warning")
    assert finding.tensors == ("l.4.w.weight", "l.4.norm.weight")


def test_a_hole_between_the_pages_needs_all_values() -> None:
    assert diagnosed(layers(9, [2])).findings == ()
    assert [f.code for f in diagnosed(layers(9, [2]), deep=True).findings] == ["D04"]


@pytest.mark.parametrize("deep", [False, True])
def test_what_starts_from_zero_on_purpose_is_no_error(deep: bool) -> None:
    gates = {f"l.{i}.gate.weight": ("BF16", [2, 2], bytes(8)) for i in range(3)}
    offsets = {f"l.{i}.norm.weight": ("BF16", [4], bytes(8)) for i in range(3)}
    tail = {**layers(3), "z.gate.weight": ("BF16", [2, 2], bytes(8))}
    for rows in ({**layers(3), **gates}, {**layers(3), **offsets}, tail):
        assert {str(f.severity) for f in diagnosed(rows, deep=deep).findings} <= {"note"}


def test_pages_of_a_file_belong_to_its_rows_wherever_those_are_read() -> None:
    """As after a repair: what was written is read where it was taken from."""
    pad: Rows = {"a": ("BF16", [15_000], b"\1" * 30_000)}
    written, origin = opened(layers(9, [4])), opened({**pad, **layers(9, [4])})
    rows = {n: row.moved(origin.tensors[n].span) for n, row in written.tensors.items()}
    (finding,) = rules.diagnose(replace(written, tensors=rows), select=["D04"]).findings
    assert finding.tensors == ("l.4.w.weight", "l.4.norm.weight")


def test_three_pages_of_a_file_are_read_and_no_more() -> None:
    checkpoint = opened(layers(50))
    source = checkpoint.source
    before = source.bytes_read
    rules.diagnose(checkpoint, select=["D04"])
    assert source.bytes_read - before <= 3 * values.PAGE


# --- equal layers --------------------------------------------------------------------------------


def test_the_same_matrix_in_two_layers_is_told() -> None:
    rows = layers(4)
    rows["l.2.w.weight"] = rows["l.1.w.weight"]
    rows["l.2.other.weight"] = ("BF16", [100, 200], payload("other", "BF16", [100, 200]))
    found = [f for f in diagnosed(rows, deep=True).findings if f.code == "D06"]
    assert [(str(f.severity), f.tensors) for f in found] == [
        ("warning", ("l.1.w.weight", "l.2.w.weight"))
    ]


def test_whole_layers_that_were_repeated_are_a_note() -> None:
    rows = layers(4)
    rows["l.2.w.weight"] = rows["l.1.w.weight"]
    found = [f for f in diagnosed(rows, deep=True).findings if f.code == "D06"]
    assert [str(f.severity) for f in found] == ["note"]


def test_tensors_of_one_number_are_no_duplicates() -> None:
    ones = b"\x80\x3f" * 400
    rows: Rows = {f"l.{i}.w.weight": ("BF16", [20, 20], ones) for i in range(3)}
    assert diagnosed(rows, deep=True).findings == ()


def test_an_almost_equal_matrix_is_another_one() -> None:
    rows = layers(3, size=200_000)
    data = bytearray(rows["l.1.w.weight"][2])
    data[150_000] ^= 1
    rows["l.2.w.weight"] = ("BF16", [100, 2000], bytes(data))
    assert "D06" not in {f.code for f in diagnosed(rows, deep=True).findings}


def test_random_bytes_never_raise() -> None:
    for dtype, size in (("BF16", 2), ("F32", 4), ("F8_E4M3", 1), ("I64", 8)):
        files = {"model.safetensors": safetensors_bytes({"a.weight": (dtype, [64], os.urandom(64 * size))})}
        rules.diagnose(open_checkpoint(Memory(files)), deep=True)


def test_a_healthy_model_has_no_finding_about_its_data() -> None:
    checkpoint = open_checkpoint(Memory(build(llama(), None)))
    assert rules.diagnose(checkpoint, deep=True, select=["D"]).findings == ()
