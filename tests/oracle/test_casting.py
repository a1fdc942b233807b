"""Casts equal those of torch bit for bit: all patterns of 16 bits, ten million of 32, some of 64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidoctor.casting import WIDTHS, cast

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
INTS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


def by_torch(bits: np.ndarray, stored: str, wanted: str) -> bytes:
    numbers = torch.from_numpy(bits.view(f"<i{bits.itemsize}")).view(TYPES[stored])
    return numbers.to(TYPES[wanted]).view(INTS[WIDTHS[wanted]]).numpy().tobytes()


def patterns(stored: str) -> np.ndarray:
    if WIDTHS[stored] == 2:
        return np.arange(1 << 16, dtype="<u2")
    rng = np.random.default_rng(3)
    some = rng.integers(0, 1 << 63, 1_000_000, dtype="<u8", endpoint=True) * 2
    if stored == "F64":
        # Also numbers within the range of the narrow types, halfway between two of theirs.
        near = rng.standard_normal(1_000_000).astype("<f4").astype("<f8").view("<u8")
        halves = near & ~np.uint64((1 << 42) - 1) | np.uint64(1 << 41)
        edges = np.array([0, 1, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000], "<u8")
        return np.concatenate([some, near, halves, edges, edges | np.uint64(1 << 63)])
    ten_million = rng.integers(0, 1 << 32, 10_000_000, dtype="<u4")
    wide = np.arange(1 << 16, dtype="<u4") << 16  # every sign and exponent, with the halfway bits
    return np.concatenate([ten_million, *(wide | tail for tail in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF))])


@pytest.mark.parametrize("wanted", TYPES)
@pytest.mark.parametrize("stored", TYPES)
def test_casts_are_those_of_torch(stored: str, wanted: str) -> None:
    bits = patterns(stored)
    ours, lost = cast(bits.tobytes(), stored, wanted)
    theirs = by_torch(bits, stored, wanted)
    if ours != theirs:
        a, b = (np.frombuffer(x, f"<u{WIDTHS[wanted]}") for x in (ours, theirs))
        wrong = np.nonzero(a != b)[0]
        if (stored, wanted) == ("F64", "BF16"):
            # Which NaN torch makes of one depends on where in the tensor it stands.
            wrong = wrong[(a[wrong] & 0x7FFF <= 0x7F80) | (b[wrong] & 0x7FFF <= 0x7F80)]
        shown = [(hex(bits[i]), hex(a[i]), hex(b[i])) for i in wrong[:5]]
        if len(wrong):
            pytest.fail(f"{len(wrong)} of {len(bits)} differ (number, ours, theirs): {shown}")
    before = torch.from_numpy(bits.view(f"<i{bits.itemsize}")).view(TYPES[stored])
    after = before.to(TYPES[wanted])
    assert lost == int((torch.isfinite(before) & torch.isinf(after)).sum())
