"""Any value as one that strict JSON can say, and its text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set

_DEEPEST = 100  # levels of nesting, as many as a config may have
_WIDEST = 4000  # bits; Python refuses to print much longer integers in decimal


def plain(value: object, depth: int = 0) -> object:
    """The value as objects, lists, strings, finite numbers, booleans and null.

    Sets are sorted; an infinity, a NaN, an integer too long to print and anything else become
    strings, and what is nested too deeply becomes null.
    """
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _WIDEST else f"{int(value):#x}"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, Set):
        return sorted((plain(v, depth + 1) for v in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(v, depth + 1) for v in value]
    return str(value)


def dumped(value: object) -> str:
    """The value on one line of ASCII, without `##`, by which CI runners know a command in a log."""
    return json.dumps(plain(value), ensure_ascii=True, allow_nan=False).replace("##", r"#\u0023")
