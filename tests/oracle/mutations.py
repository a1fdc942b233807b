"""Injuries to healthy checkpoints: what is found, what is named aright, what is healed.

    python -m tests.oracle.mutations [COUNT] [SEED]

Tiny models of every family, saved by transformers, get one random injury each, in memory. Three
shares come out: injuries that are found at all (a finding that the healthy model does not have), those named with a rule that is about such an injury, and those whose repair gives back
the original table and config, of the ones that can be healed without another copy. What is missed
is listed by kind.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.checkpoints import Memory
from tidoctor import rules
from tidoctor.checkpoint import Checkpoint
from tidoctor.errors import Refused, Unreadable
from tidoctor.finding import Diagnosis, Severity
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

Files = dict[str, bytes]
Header = dict[str, Any]
INDEX = "model.safetensors.index.json"

NAMES = {"N01", "N02", "N04", "N05", "N07", "N08", "N09", "N10", "N12", "N13", "N14", "N15", "C12"}
LOST = {"C07", "C09", "H02", "H08", "H09", "H10", "C04", "C12", "N08"}
SHAPES = {"C05", "C06", "D01", "D02", "D05", "H12", "H13"}
RIGHT: Mapping[str, set[str]] = {
    "drop": LOST,
    "rename": NAMES | LOST,
    "wrap": NAMES,
    "swap": SHAPES,
    "reshape": SHAPES,
    "retype": {"Q01", "Q02", "Q03", "D03", "C10"},
    "truncate": {"F02", "F05", "F01"},
    "trail": {"F02"},
    "zero": {"D04"},
    "nan": {"D03"},
    "reindex": {"S01", "S03", "S04", "S09"},
    "config": SHAPES | LOST | NAMES | {"C03", "C11", "H05", "H07", "H01", "C08"},
}
HEALABLE = {"rename", "wrap", "trail", "reindex", "config"}


class Nothing(Exception):
    """This injury cannot be done to this model, or would change nothing that matters."""


@dataclass
class Patient:
    """A healthy checkpoint in memory: its files, its diagnosis and what it holds."""

    name: str
    files: Files
    findings: frozenset[tuple[str, Severity]]
    content: dict[str, Any]


# --- files ---------------------------------------------------------------------------------------


def opened(files: Files) -> Checkpoint:
    return open_checkpoint(Memory(files))


def header_of(data: bytes) -> tuple[Header, int]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), 8 + length


def with_header(header: Header, payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + payload


def rebuilt(header: Header, payload: bytes) -> bytes:
    """The file with the entries in this header, laid out anew without gaps."""
    out, parts, offset = {}, [], 0
    for name, entry in header.items():
        if name == "__metadata__":
            out[name] = entry
            continue
        begin, end = entry["data_offsets"]
        parts.append(payload[begin:end])
        out[name] = {**entry, "data_offsets": [offset, offset + end - begin]}
        offset += end - begin
    return with_header(out, b"".join(parts))


def content(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything that matters: each tensor with its bytes, and the values of the config."""
    held: dict[str, Any] = {}
    for name, tensor in checkpoint.tensors.items():
        digest = hashlib.blake2b(checkpoint.read(tensor, 0, tensor.nbytes), digest_size=16)
        held[name] = (tensor.dtype, tensor.shape, digest.hexdigest())
    held[""] = json.dumps(checkpoint.settings, sort_keys=True)
    return held


# --- injuries ------------------------------------------------------------------------------------

Injury = Callable[[Files, random.Random], tuple[Files, str]]


def _weights(files: Files) -> list[str]:
    return sorted(f for f in files if f.endswith(".safetensors"))


def _entries(header: Header) -> list[str]:
    return [n for n in header if n != "__metadata__"]


def _pick(files: Files, dice: random.Random) -> tuple[str, Header, bytes, str]:
    file = dice.choice(_weights(files))
    header, start = header_of(files[file])
    return file, header, files[file][start:], dice.choice(_entries(header))


def _follow(files: Files, changes: Mapping[str, str | None], file: str) -> Files:
    """The index told of renamed and dropped tensors, as a tool that did it would."""
    if INDEX not in files:
        return files
    index = json.loads(files[INDEX])
    for old, new in changes.items():
        index["weight_map"].pop(old, None)
        if new:
            index["weight_map"][new] = file
    return {**files, INDEX: json.dumps(index).encode()}


def drop(files: Files, dice: random.Random) -> tuple[Files, str]:
    file, header, payload, name = _pick(files, dice)
    if len(_entries(header)) < 2:
        raise Nothing
    del header[name]
    return _follow({**files, file: rebuilt(header, payload)}, {name: None}, file), name


def _renamed(files: Files, file: str, changes: Mapping[str, str]) -> Files:
    header, start = header_of(files[file])
    new = {changes.get(n, n): entry for n, entry in header.items()}
    if len(new) < len(header):
        raise Nothing
    written = {**files, file: with_header(new, files[file][start:])}
    return _follow(written, changes, file)


def rename(files: Files, dice: random.Random) -> tuple[Files, str]:
    file, _, _, name = _pick(files, dice)
    words = name.split(".")
    plain = [i for i, w in enumerate(words) if not w.isdigit() and len(w) > 3]
    if not plain:
        raise Nothing
    i = dice.choice(plain)
    way = dice.choice(("letter", "suffix", "twice", "plural"))
    if way == "letter":
        at = dice.randrange(len(words[i]) - 1)
        words[i] = words[i][:at] + words[i][at + 1 :]
    elif way == "plural":
        words[i] += "s"
    elif words[-1] != "weight":
        raise Nothing
    else:
        words = words[:-1] if way == "suffix" else [*words, "weight"]
    if len(words) < 2 and way == "suffix":
        raise Nothing
    return _renamed(files, file, {name: ".".join(words)}), f"{way} {name}"


def wrap(files: Files, dice: random.Random) -> tuple[Files, str]:
    prefix = dice.choice(("module.", "_orig_mod.", "module._orig_mod.", "base_model.model."))
    for file in _weights(files):
        header, _ = header_of(files[file])
        files = _renamed(files, file, {n: prefix + n for n in _entries(header)})
    return files, prefix


def swap(files: Files, dice: random.Random) -> tuple[Files, str]:
    file, header, _, name = _pick(files, dice)
    other = dice.choice(_entries(header))
    if header[other]["shape"] == header[name]["shape"]:
        raise Nothing  # no shape tells; not counted, since nothing but training knows
    changed = {**header, name: header[other], other: header[name]}
    _, start = header_of(files[file])
    return {**files, file: with_header(changed, files[file][start:])}, f"{name} {other}"


def reshape(files: Files, dice: random.Random) -> tuple[Files, str]:
    file, header, payload, name = _pick(files, dice)
    shape = header[name]["shape"]
    new = dice.choice((shape[::-1], [_count(shape)], [1, *shape]))
    if new == shape or not shape:
        raise Nothing
    header[name]["shape"] = new
    return {**files, file: with_header(header, payload)}, f"{name} {shape} {new}"


def _count(shape: list[int]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


def retype(files: Files, dice: random.Random) -> tuple[Files, str]:
    file, header, payload, name = _pick(files, dice)
    others = {"F32": ("I32", "U32"), "BF16": ("F16", "I16"), "F16": ("BF16", "I16")}
    new = dice.choice(others.get(header[name]["dtype"], ("",)))
    if not new:
        raise Nothing
    header[name]["dtype"] = new
    return {**files, file: with_header(header, payload)}, f"{name} {new}"


def truncate(files: Files, dice: random.Random) -> tuple[Files, str]:
    file = dice.choice(_weights(files))
    keep = dice.randrange(1, len(files[file]))
    return {**files, file: files[file][:keep]}, f"{file} at {keep}"


def trail(files: Files, dice: random.Random) -> tuple[Files, str]:
    file = dice.choice(_weights(files))
    return {**files, file: files[file] + dice.randbytes(dice.randrange(1, 99))}, file


def _overwritten(
    files: Files, dice: random.Random, make: Callable[[str, int], bytes]
) -> tuple[Files, str]:
    file, header, payload, name = _pick(files, dice)
    begin, end = header[name]["data_offsets"]
    new = make(header[name]["dtype"], end - begin)
    old = payload[begin:end]
    new = new + old[len(new) :]
    if new == old:
        raise Nothing
    start = len(files[file]) - len(payload)
    data = files[file]
    return {**files, file: data[: start + begin] + new + data[start + end :]}, name


def zero(files: Files, dice: random.Random) -> tuple[Files, str]:
    return _overwritten(files, dice, lambda dtype, size: bytes(size))


def nan(files: Files, dice: random.Random) -> tuple[Files, str]:
    patterns = {"F32": b"\0\0\xc0\x7f", "F16": b"\0\x7e", "BF16": b"\xc0\x7f"}

    def make(dtype: str, size: int) -> bytes:
        if dtype not in patterns or size < 4:
            raise Nothing
        return patterns[dtype]

    return _overwritten(files, dice, make)


def reindex(files: Files, dice: random.Random) -> tuple[Files, str]:
    if INDEX not in files:
        raise Nothing
    index = json.loads(files[INDEX])
    where = index["weight_map"]
    name = dice.choice(sorted(where))
    way = dice.choice(("elsewhere", "gone", "phantom", "no such file"))
    others = sorted(set(where.values()) - {where[name]})
    if way == "elsewhere" and others:
        where[name] = dice.choice(others)
    elif way == "gone":
        del where[name]
    elif way == "phantom":
        where[name + "_extra"] = where[name]
    else:
        where[name] = "model-00099-of-00099.safetensors"
    return {**files, INDEX: json.dumps(index).encode()}, f"{way} {name}"


_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "n_layer", "n_embd",
    "d_model", "d_ff", "num_layers", "moe_intermediate_size", "ffn_dim",
)  # fmt: skip


def config(files: Files, dice: random.Random) -> tuple[Files, str]:
    settings = json.loads(files["config.json"])
    keys = [k for k in _SIZES if type(settings.get(k)) is int]
    way = dice.choice((*keys, "model_type", "comma"))
    if way == "comma":
        text = files["config.json"].rstrip()
        return {**files, "config.json": text[:-1].rstrip() + b",\n}"}, way
    if way == "model_type":
        del settings[way]
    else:
        change = dice.choice((1, -1)) if "layer" in way else dice.choice((8, 16, 64))
        settings[way] += change
        way += ": layers more" if "layer" in way and change > 0 else ""
    return {**files, "config.json": json.dumps(settings, indent=2).encode()}, way


INJURIES: Mapping[str, Injury] = {
    "drop": drop, "rename": rename, "wrap": wrap, "swap": swap, "reshape": reshape,
    "retype": retype, "truncate": truncate, "trail": trail, "zero": zero, "nan": nan,
    "reindex": reindex, "config": config,
}  # fmt: skip


# --- the trial -----------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What became of one injury."""

    kind: str
    patient: str
    what: str
    codes: tuple[str, ...]
    found: bool
    named: bool
    healed: bool | None  # None where nothing in the files could heal it


def told(diagnosis: Diagnosis) -> frozenset[tuple[str, Severity]]:
    return frozenset((f.code, f.severity) for f in diagnosis.findings)


def trial(patient: Patient, kind: str, dice: random.Random) -> Outcome:
    """One injury. Raises Nothing where it would change nothing."""
    files, what = INJURIES[kind](dict(patient.files), dice)
    if files == patient.files:
        raise Nothing
    try:
        sick = opened(files)
        diagnosis = rules.diagnose(sick, deep=kind in ("zero", "nan"))
    except Unreadable:
        return Outcome(kind, patient.name, what, ("refused",), True, kind == "truncate", None)
    new = told(diagnosis) - patient.findings
    spoken = {c for f in diagnosis.findings if (f.code, f.severity) in new
              for c in (f.code, *f.includes)}  # fmt: skip
    # A layer too many in the config is a lost layer, as far as the files can tell.
    able = kind in HEALABLE and not what.endswith("layers more")
    healed = content(cured(sick)) == patient.content if able else None
    return Outcome(
        kind, patient.name, what, tuple(sorted(spoken)), bool(new), bool(spoken & RIGHT[kind]), healed
    )


def cured(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint after every cure that needs no donor, one after the other."""
    tried: set[str] = set()
    for _ in range(6):
        for finding in rules.diagnose(checkpoint).findings:
            cure = finding.cure
            if finding.severity is Severity.NOTE or finding.fingerprint in tried:
                continue
            if cure is None or not cure.operations or "donor" in cure.needs:
                continue
            tried.add(finding.fingerprint)
            try:
                checkpoint = Plan((cure.operations,)).apply(checkpoint)
            except Refused:
                continue
            break
        else:
            break
    return checkpoint


def patients(folder: Path, every: int = 1) -> Iterator[Patient]:
    """Every family as transformers saves it; each is healthy, or it would be no patient."""
    from tests.oracle import models

    for variant in models.VARIANTS[::every]:
        at = models.write(variant, folder / str(variant))
        files = {p.name: p.read_bytes() for p in sorted(at.iterdir())}
        checkpoint = opened(files)
        diagnosis = rules.diagnose(checkpoint, deep=True)
        yield Patient(str(variant), files, told(diagnosis), content(checkpoint))


def run(count: int, seed: int, every: int = 1) -> list[Outcome]:
    """So many injuries, spread over the patients and the kinds."""
    dice = random.Random(seed)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        ward = list(patients(Path(folder), every))
        kinds = list(INJURIES)
        while len(outcomes) < count:
            try:
                outcomes.append(trial(dice.choice(ward), dice.choice(kinds), dice))
            except Nothing:
                continue
    return outcomes


def shares(outcomes: list[Outcome]) -> tuple[float, float, float]:
    """(found, named, healed of those that can be)."""
    able = [o for o in outcomes if o.healed is not None]
    return (
        sum(o.found for o in outcomes) / len(outcomes),
        sum(o.named for o in outcomes) / len(outcomes),
        sum(bool(o.healed) for o in able) / max(len(able), 1),
    )


def main(count: int = 20_000, seed: int = 1) -> None:
    outcomes = run(count, seed)
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.kind].append(outcome)
    for kind, members in sorted(by_kind.items()):
        found, named, healed = shares(members)
        print(f"{kind:9} {len(members):6} found {found:.3f} named {named:.3f} healed {healed:.3f}")
    print("all       {:6} found {:.3f} named {:.3f} healed {:.3f}".format(
        len(outcomes), *shares(outcomes)))  # fmt: skip
    for title, missed in (
        ("not found", [o for o in outcomes if not o.found]),
        ("named otherwise", [o for o in outcomes if o.found and not o.named]),
        ("not healed", [o for o in outcomes if o.healed is False]),
    ):
        print(f"\n{title}: {len(missed)}")
        for (kind, codes), n in Counter((o.kind, o.codes) for o in missed).most_common(12):
            some = [f"{o.patient}: {o.what}" for o in missed if (o.kind, o.codes) == (kind, codes)]
            print(f"  {n:5} {kind} {','.join(codes)}: {'; '.join(some[:4])}")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
