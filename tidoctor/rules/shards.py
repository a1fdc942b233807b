"""S: the files of the folder, that is, which of them a loader reads."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.checkpoint import INDEX, SINGLE, Index, WeightFile, is_adapter_file, shard_of
from tidoctor.finding import Cure, Evidence, Finding, Location
from tidoctor.names import printable, some
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    NotApplicable,
    advice,
    consent,
    found,
    reindex,
    rule,
    safe,
)
from tidoctor.rules.subject import missing_shards
from tidoctor.rules.view import View
from tidoctor.rules.wording import tensor_count
from tidoctor.tensors import Tensor

_KNOWN = ("diffusion_pytorch_model", "open_clip_", "adapter_model", "pytorch_lora_weights")


@rule("S02", "no-index")
def no_index(view: View) -> Iterator[Finding]:
    """Numbered shards, but no index.

    Why: transformers finds neither model.safetensors nor an index and stops; engines that read
    every *.safetensors file are content.

    Recognised by: file names such as model-00001-of-00004.safetensors.

    Fine: engines that read every `*.safetensors` of the folder do not need it.

    Example: `model-00001-of-00002.safetensors` and `-00002-`, no index.

    Cure: write the index from the headers.
    """
    c = view.checkpoint
    shards = [w.name for w in c.weights if w.shard and w.shard[2] > 1]
    if c.entrance not in ("shards", "other") or not shards:
        raise NotApplicable("there are no shards without an index")
    gap = missing_shards([w.name for w in c.weights])
    yield found(
        ERROR,
        f"{len(shards)} numbered shards have no index",
        at=Location(shards[0]),
        evidence=(Evidence("folder", f"holds {shards[0]} … {shards[-1]} and no {INDEX}"),),
        cure=None if gap or not c.tensors else safe("write the index from the headers", reindex()),
    )


@rule("S05", "unindexed-file")
def unindexed_file(view: View) -> Iterator[Finding]:
    """A weight file stands beside the ones that are read.

    Why: engines that read every *.safetensors file take it along, and what it holds may replace
    tensors of the model.

    Recognised by: the files of the folder against the index, or beside model.safetensors.

    Fine: adapters, draft and vision shards, scales for the KV cache, `consolidated.*`. A note,
    unless it repeats names of the model.

    Example: `projector.safetensors` beside an index that does not name it.

    Cure: move it away if it is not meant to be there.
    """
    for weight in view.checkpoint.extras:
        if is_adapter_file(weight.name) or weight.name == SINGLE:
            continue
        repeated = tuple(n for n in weight.header.names if n in view.checkpoint.tensors)
        said = "and is not read"
        if repeated:
            said = f"and repeats {tensor_count(repeated)} of the model"
        yield found(
            WARNING if repeated else NOTE,
            f"{printable(weight.name)} stands beside the model's files {said}",
            certainty=LIKELY,
            at=Location(weight.name),
            tensors=repeated,
            evidence=(Evidence("folder", f"{printable(weight.name)} is named by no index"),),
            cure=consent(
                f"leave {printable(weight.name)} out", {"op": "discard", "file": weight.name}
            ),
        )


@rule("S06", "duplicate-tensor")
def duplicate_tensor(view: View) -> Iterator[Finding]:
    """The same tensor name stands in two files that are both read.

    Why: which copy wins depends on the reader. transformers takes the last file read, whatever
    `weight_map` says; strict readers take the one that the index names.

    Recognised by: the headers; the bytes decide how bad it is.

    Fine: copies that are equal, and an overlay shard that the index names and that is read last.

    Example: `model.norm.weight` in shard 1 and in shard 4.

    Cure: equal copies: drop the one that the index does not name.
    """
    c = view.checkpoint
    groups: dict[tuple[bool, bool], list[tuple[Tensor, Tensor]]] = {}
    for shadow in c.shadows:
        counted = c.tensors[shadow.name]
        for tensor in (shadow, counted):
            view.need_bytes(tensor)
        order = [w.name for w in c.weights]
        last = order.index(counted.file) > order.index(shadow.file)
        equal = c.same_bytes(shadow, counted)
        groups.setdefault((equal, last), []).append((shadow, counted))
    for (equal, last), pairs in groups.items():
        names = tuple(shadow.name for shadow, _ in pairs)
        shadow, counted = pairs[0]
        how = "equal" if equal else "different"
        drops = [{"op": "drop", "tensor": s.name, "file": s.file} for s, _ in pairs]
        yield found(
            WARNING if equal or last else ERROR,
            f"{tensor_count(names)} in two files, with {how} bytes: {some(names, 3)}",
            at=Location(shadow.file),
            tensors=names,
            evidence=(
                Evidence(
                    "headers",
                    f"{printable(shadow.name)} is in {printable(shadow.file)} and "
                    f"in {printable(counted.file)}",
                ),
                Evidence("bytes", f"the copies are {how}", equal),
                Evidence(
                    "order",
                    f"{printable(order[-1])} is read last; "
                    f"the index names {printable(counted.file)}",
                ),
            ),
            includes=("S04",) if c.index and counted.name in c.index.weight_map else (),
            cure=safe("drop the copies that do not count", *drops)
            if equal
            else consent("keep the copy that the index names, drop the other", *drops),
        )


@rule("S07", "ambiguous-entry", absorbs=("F05", "S05", "S11"))
def ambiguous_entry(view: View) -> Iterator[Finding]:
    """It depends on the reader which files are read at all.

    Why: with both model.safetensors and an index, transformers reads only the single file; readers
    of the index, and those that read every file, see something else. An index of safetensors
    beside pickles only leads nowhere. `consolidated.safetensors` alone is read by the vendor's own
    loader and nobody else.

    Recognised by: the files of the folder.

    Fine: repositories that ship `consolidated.safetensors` beside shards on purpose.

    Example: an old `model.safetensors` beside a complete index.

    Cure: leave out the file that is not meant.
    """
    c = view.checkpoint
    names = {w.name: w for w in (*c.weights, *c.extras)}
    if c.source.kind == "file":
        raise NotApplicable("one file was chosen")
    single = names.get(SINGLE)
    if single and c.index and c.index.usable:
        yield _single_beside_index(view, single, c.index)
    pickles = [f for f in c.files if f.startswith("pytorch_model")]
    if c.index and not c.weights and pickles:
        yield found(
            ERROR,
            f"{c.index.file} stands beside pickles only ({printable(pickles[0])}); none of its "
            "files is there",
            at=Location(c.index.file),
            evidence=(Evidence("folder", f"holds {', '.join(map(printable, pickles[:4]))}"),),
            cure=advice("remove the index, or fetch the safetensors files"),
        )
    if c.weights and all(w.name.startswith("consolidated") for w in c.weights):
        yield found(
            WARNING,
            f"only {printable(c.weights[0].name)} is here, which the vendor's own loader reads",
            at=Location(c.weights[0].name),
            includes=("S11",),
            evidence=(Evidence("folder", "neither model.safetensors nor an index"),),
        )


def _single_beside_index(view: View, single: WeightFile, index: Index) -> Finding:
    mapped, here = set(index.weight_map), {*single.header.names}
    files = set(index.weight_map.values())
    present = files <= {w.name for w in (*view.checkpoint.weights, *view.checkpoint.extras)}
    stub = not here
    severity = WARNING if here >= mapped else ERROR
    cure: Cure | None = None
    if stub and present:
        cure = safe(f"leave {SINGLE} out", {"op": "discard", "file": SINGLE})
    return found(
        severity,
        f"{SINGLE} and {index.file} are both here; transformers reads only {SINGLE}"
        + (", which holds no tensor" if stub else ""),
        at=Location(index.file),
        evidence=(
            Evidence("folder", f"{SINGLE} holds {len(here)} tensors"),
            Evidence(index.file, f"maps {len(mapped)} tensors to {len(files)} files"),
        ),
        cure=cure,
    )


@rule("S08", "shard-gap")
def shard_gap(view: View) -> Iterator[Finding]:
    """The numbers of the shards have a gap, or there are two totals.

    Why: a shard is missing, or a stale set was left behind by an earlier upload.

    Recognised by: file names.

    Fine: with a complete index numbers are decoration; a gap is then a note.

    Example: `model-00001-of-00003` beside `model-00002-of-00005`.

    Cure: fetch the missing shard; move the stale set away.
    """
    c = view.checkpoint
    if c.source.kind == "file":
        raise NotApplicable("one file was chosen")
    names = [w.name for w in (*c.weights, *c.extras)]
    shards = [(n, s) for n in names if (s := shard_of(n))]
    if not shards:
        raise NotApplicable("there are no numbered shards")
    indexed = bool(
        c.index
        and c.index.usable
        and not c.index.refused
        and set(c.index.weight_map.values()) <= set(names)
    )
    stems = {s[0] for _, s in shards}
    for stem in sorted(stems):
        totals = sorted({s[2] for _, s in shards if s[0] == stem})
        gap = missing_shards([n for n, s in shards if s[0] == stem])
        if len(totals) > 1:
            message = f"two sets of shards: of {' and of '.join(map(str, totals))}"
        elif gap:
            message = f"{len(gap)} of {totals[0]} shards missing: {', '.join(gap[:4])}"
        else:
            continue
        first = next(n for n, s in shards if s[0] == stem)
        named = set(c.index.weight_map.values()) if c.index else set()
        stale = len(totals) > 1 and any(s[0] == stem and n not in named for n, s in shards)
        yield found(
            WARNING if stale and indexed else NOTE if indexed else ERROR,
            message,
            certainty=LIKELY if indexed else PROVEN,
            at=Location(first),
            evidence=(Evidence("folder", f"holds {some(tuple(n for n, _ in shards), 3)}"),),
            cure=advice("move the stale set away" if len(totals) > 1 else f"fetch {gap[0]}"),
        )


@rule("S11", "unknown-file-name")
def unknown_file_name(view: View) -> Iterator[Finding]:
    """The weights stand under a name that no loader looks for.

    Why: transformers looks for model.safetensors, then for its index; readers that are given one
    file accept any name.

    Recognised by: the files of the folder.

    Fine: names of other libraries (diffusers, open_clip), variants such as model.fp16.safetensors,
    adapters, and a file that was given by name.

    Example: `weights.safetensors`.

    Cure: name it model.safetensors.
    """
    c = view.checkpoint
    if c.entrance != "other":
        raise NotApplicable("the weights are where loaders look")
    if c.config is None and len(c.extras) > 2:
        raise NotApplicable("a collection of files, not one checkpoint")
    name = c.weights[0].name
    if name.startswith(_KNOWN) or (name.startswith("model.") and name.count(".") == 2):
        raise NotApplicable(f"{name} is a name that other programs look for")
    vendor = name.startswith("consolidated")
    yield found(
        WARNING,
        f"no loader looks for {printable(name)}; transformers wants {SINGLE}",
        at=Location(name),
        evidence=(Evidence("folder", f"neither {SINGLE} nor {INDEX}"),),
        cure=None if vendor or not c.tensors else safe(f"name it {SINGLE}", reindex()),
    )


RULES = (
    no_index,
    unindexed_file,
    duplicate_tensor,
    ambiguous_entry,
    shard_gap,
    unknown_file_name,
)
