"""The element types of safetensors, and how many bytes a tensor of them takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

U64_MAX = 2**64 - 1
"""The largest number that a shape or an offset can hold."""


class Dtype(NamedTuple):
    """Bits of one element, and the first safetensors release that reads the type."""

    bits: int
    since: str


# From the enum `Dtype` of tensor.rs at the release tags, of which 0.5.3 is the oldest looked at.
_RELEASES = {
    "0.5.3": "BOOL:8 U8:8 I8:8 F8_E5M2:8 F8_E4M3:8 I16:16 U16:16 F16:16 BF16:16 "
    "I32:32 U32:32 F32:32 F64:64 I64:64 U64:64",
    "0.6.0": "F4:4 F6_E2M3:6 F6_E3M2:6 F8_E8M0:8",
    "0.7.0": "C64:64",
    "0.8.0": "F8_E4M3FNUZ:8 F8_E5M2FNUZ:8",
}
DTYPES: Mapping[str, Dtype] = MappingProxyType(
    {
        name: Dtype(int(bits), since)
        for since, names in _RELEASES.items()
        for name, bits in (word.split(":") for word in names.split())
    }
)


def span_bytes(dtype: str, shape: Sequence[int]) -> int | None:
    """How many bytes such a tensor takes.

    None for an unknown dtype, for a size that overflows 64 bits when multiplied from left to right
    (as the library does: [2**40, 2**40, 0] overflows, [0, 2**63, 2**63] does not), and for
    elements smaller than a byte that do not fill whole bytes.
    """
    known = DTYPES.get(dtype)
    if known is None:
        return None
    count = 1
    for n in shape:
        count *= n
        if n < 0 or n > U64_MAX or count > U64_MAX:
            return None
    bits = count * known.bits
    return None if bits > U64_MAX or bits % 8 else bits // 8
