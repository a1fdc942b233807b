"""No false alarm on what transformers writes: every generating class that it has.

Each class is built on the meta device from its default config with few layers, and the names and
shapes of a fresh save are diagnosed with the config that goes with them. No value is needed: the
data of these files are zeros that are made up when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from tidoctor import rules
from tidoctor.atlas import families, learner
from tidoctor.finding import Severity
from tidoctor.header import serialise
from tidoctor.opening import open_checkpoint
from tidoctor.rules.subject import GENERATING

DTYPES = {
    "torch.float32": ("F32", 4), "torch.bfloat16": ("BF16", 2), "torch.float16": ("F16", 2),
    "torch.int64": ("I64", 8), "torch.int32": ("I32", 4), "torch.int8": ("I8", 1),
    "torch.uint8": ("U8", 1), "torch.bool": ("BOOL", 1), "torch.float64": ("F64", 8),
    "torch.complex64": ("C64", 8), "torch.float8_e4m3fn": ("F8_E4M3", 1),
}  # fmt: skip
CLASSES = sorted(
    name for name in json.loads(json.dumps(list(families._data()["classes"])))
    if (facts := families.class_facts(name)) and facts.task in GENERATING
)  # fmt: skip


class Zeros:
    """A folder with a config and one weight file whose data are zeros.

    It reads like a place far away, so that values, which it does not have, are not looked at.
    """

    kind = "folder"
    chosen: str | None = None
    revision: str | None = None
    name = "zeros"
    stride = 4 << 20

    def __init__(self, config: bytes, head: bytes, size: int) -> None:
        self.config, self.head, self.length = config, head, size
        self.bytes_read = 0

    def files(self) -> dict[str, int]:
        return {"config.json": len(self.config), "model.safetensors": self.length}

    def folders(self) -> frozenset[str]:
        return frozenset()

    def vet(self, file: str) -> None:
        pass

    def ahead(self, files: Iterable[str]) -> None:
        pass

    def listed(self, file: str) -> None:
        return None

    def size(self, file: str) -> int | None:
        return self.files().get(file)

    def read(self, file: str, begin: int, end: int) -> bytes:
        data = self.config if file == "config.json" else self.head
        end = min(end, self.files()[file])
        part = data[begin:end]
        return part + bytes(end - begin - len(part))


def fresh_save(name: str) -> Zeros:
    """What `save_pretrained` of a new model of this class would write, without its values."""
    from transformers.core_model_loading import revert_weight_conversion

    facts = families.class_facts(name)
    assert facts is not None
    config_class = learner.config_class_of(name, facts.model_types)
    learner.stand_in_for_timm()
    layout = built(name, config_class)
    kept = {n: layout.state[n] for n in layout.kept()}
    if hasattr(layout.model, "_weight_conversions"):
        del layout.model._weight_conversions
    disk: dict[str, Any] = revert_weight_conversion(layout.model, kept)
    rows = []
    for n, tensor in sorted(disk.items()):
        dtype, size = DTYPES[str(tensor.dtype)]
        rows.append((n, dtype, list(tensor.shape), tensor.numel() * size))
    head, entries = serialise(rows, {"format": "pt"})
    layout.model.config.architectures = [name]
    text = layout.model.config.to_json_string(use_diff=False).encode()
    return Zeros(text, head, len(head) + max((e.end for e in entries), default=0))


def built(name: str, config_class: Any) -> Any:
    """The class with its default config, cut down and with open values filled in where it can be."""
    for small, filled in ((True, False), (True, True), (False, False), (False, True)):
        values = json.loads(learner.default_values(config_class))
        values |= learner.CLASS_SEEDS.get(name, {})
        if small:
            learner.shrink(values)
        if filled:
            learner.fill(values)
        try:
            config = config_class.from_dict(values)
            return learner.Layout(name, config)
        except Exception as e:
            error = e
    raise error


@pytest.mark.parametrize("name", CLASSES)
def test_a_fresh_save_has_no_finding_above_note(name: str) -> None:
    checkpoint = open_checkpoint(fresh_save(name))
    diagnosis = rules.diagnose(checkpoint)
    loud = [(f.code, str(f.severity), f.message) for f in diagnosis.findings
            if f.severity > Severity.NOTE]  # fmt: skip
    assert loud == []
