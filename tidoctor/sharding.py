"""Which tensors share a file: sizes as people write them, and shards as transformers makes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tidoctor.errors import Usage
from tidoctor.tensors import Tensor

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?I?)B?", re.IGNORECASE)


def byte_size(text: str) -> int:
    """`5GB` → 5,000,000,000 and `2GiB` → 2,147,483,648, as transformers reads them.

    Raises Usage for anything else, and for less than a byte.
    """
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    size = int(float(found[1]) * unit) if found and unit else 0
    if size < 1:
        raise Usage("--max-shard-size", f"{text!r} is not a size", "write it like 5GB or 500MB")
    return size


def shares(rows: Sequence[Tensor], most: int | None) -> list[list[Tensor]]:
    """The tensors of each file, in order, so that no file holds more than `most` bytes of them.

    One that alone is larger has a file of its own. None makes one file. This is how
    `split_state_dict_into_shards_factory` of huggingface_hub goes about it, which transformers
    uses: a shard is closed when the next tensor does not fit, except by those that are too large.
    """
    if most is None:
        return [list(rows)] if rows else []
    files: list[list[Tensor]] = []
    current: list[Tensor] = []
    size = 0
    for row in rows:
        if row.nbytes > most:
            files.append([row])
            continue
        if size + row.nbytes > most:
            files.append(current)
            current, size = [], 0
        current.append(row)
        size += row.nbytes
    return files + [current] * bool(current)
