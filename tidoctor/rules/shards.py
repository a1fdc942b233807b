"""S: the folder and its index, that is, which files and which copy of each tensor count."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.checkpoint import (
    INDEX,
    SINGLE,
    Index,
    Tensor,
    WeightFile,
    is_adapter_file,
    nbytes,
    shard_of,
)
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
    rule,
    safe,
)
from tidoctor.rules.subject import missing_shards
from tidoctor.rules.view import View

_REINDEX = {"op": "reindex"}
_KNOWN = ("diffusion_pytorch_model", "open_clip_", "adapter_model", "pytorch_lora_weights")


def _index(view: View) -> Index:
    """The index; the rule does not apply without one."""
    index = view.checkpoint.index
    if index is None:
        raise NotApplicable("there is no index")
    return index


def _line(index: Index, *path: str) -> Location:
    return Location(index.file, index.document.line(*path))


def _names_by_file(view: View) -> dict[str, set[str]]:
    """The names in each weight file, those that are not read included."""
    files = (*view.checkpoint.weights, *view.checkpoint.extras)
    return {w.name: {*w.header.names} for w in files}


def _holders(view: View) -> dict[str, list[str]]:
    """Which files hold each tensor, those that are not read included."""
    held: dict[str, list[str]] = {}
    for file, names in _names_by_file(view).items():
        for name in names:
            held.setdefault(name, []).append(file)
    return held


@rule("S01", "missing-shard", absorbs=("S08", "S05"))
def missing_shard(view: View) -> Iterator[Finding]:
    """The index names a file that is not there.

    Why: loaders that follow the index stop; engines that read every *.safetensors file never
    notice and serve random weights.

    Recognised by: the files of the folder against `weight_map`.

    Fine: nothing; but a complete set under other names only needs a new index.

    Example: the index names `model-00002-of-00004.safetensors`, which is not in the folder.

    Cure: fetch the file; or, where all its tensors are in other files of the folder, a new index.
    """
    index = _index(view)
    present = {w.name for w in (*view.checkpoint.weights, *view.checkpoint.extras)}
    missing: dict[str, list[str]] = {}
    for name, file in index.weight_map.items():
        if file not in present:
            missing.setdefault(file, []).append(name)
    if not missing:
        return
    files = sorted(missing)
    tensors = tuple(n for file in files for n in missing[file])
    held = _holders(view)
    cure: Cure | None = advice(f"fetch {some(tuple(files), 3)} again")
    if all(n in held for n in tensors):
        elsewhere = {held[n][0] for n in tensors}
        summary = f"the tensors are in {some(tuple(sorted(elsewhere)), 3)}: write a new index"
        cure = _taking_in(view, elsewhere, summary) or cure
    first = _line(index, "weight_map", tensors[0])
    are = "is" if len(files) == 1 else "are"
    yield found(
        ERROR,
        f"{some(tuple(files), 3)} {are} not there; the index puts {_count(tensors)} in "
        f"{'it' if len(files) == 1 else 'them'}",
        at=first,
        tensors=tensors,
        evidence=(
            *(
                Evidence(
                    str(_line(index, "weight_map", missing[file][0])),
                    f"weight_map names {printable(file)}",
                    file,
                )
                for file in files[:8]
            ),
            *_listed(view, files),
            Evidence("folder", f"holds {some(tuple(sorted(present)), 3) or 'none'}"),
        ),
        cure=cure,
    )


def _listed(view: View, missing: list[str]) -> Iterator[Evidence]:
    """What the listing of the repository, where there is one, says of missing files."""
    c = view.checkpoint
    rows = [(f, c.source.listed(f)) for f in missing]
    known = tuple(f for f, one in rows if one and one.size is not None)
    if known:
        gone = any(f in c.files for f in known)
        why = "but the server does not have it" if gone else "it was not downloaded"
        yield Evidence("listing", f"the repository lists {some(known, 3)}, {why}", list(known))


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
        cure=None if gap or not c.tensors else safe("write the index from the headers", _REINDEX),
    )


@rule("S03", "phantom-entry")
def phantom_entry(view: View) -> Iterator[Finding]:
    """The index places a tensor in a file that does not hold it.

    Why: readers that fetch each tensor from its file fail. transformers takes only the set of files
    from the index: version 5 reports a tensor that no file holds, version 4 leaves a lost head
    random and says nothing.

    Recognised by: `weight_map` against the headers.

    Fine: transformers 5 uses the index to choose files alone, and finds what is in another one.

    Example: `"lm_head.weight": "model-00004-of-00004.safetensors"`, whose header lacks it.

    Cure: where another file holds it, a new index is safe. An entry for a tensor that nobody holds
    may be the only trace of a loss: removing it asks for consent.
    """
    index = _index(view)
    if view.index_agrees:
        return
    inside = _names_by_file(view)
    off = [n for n, f in index.weight_map.items() if f in inside and n not in inside[f]]
    held = _holders(view) if off else {}
    wrong: dict[bool, list[str]] = {True: [], False: []}
    for name in off:
        wrong[name in held].append(name)
    if wrong[True]:
        yield _misplaced(view, index, wrong[True], held)
    if wrong[False]:
        lost = tuple(wrong[False])
        yield found(
            ERROR,
            f"the index lists {_count(lost)} that no file holds: {some(lost, 3)}",
            at=_line(index, "weight_map", lost[0]),
            tensors=lost,
            evidence=tuple(
                Evidence(
                    str(_line(index, "weight_map", n)),
                    f"{printable(n)} → {printable(index.weight_map[n])}, whose header lacks it",
                )
                for n in lost[:4]
            ),
            cure=consent("remove the entries from the index", _REINDEX),
            caution="if the tensor was lost on export, the entry is its last trace",
        )


def _misplaced(view: View, index: Index, names: list[str], held: dict[str, list[str]]) -> Finding:
    first = names[0]
    return found(
        ERROR,
        f"the index names the wrong file for {_count(tuple(names))}: {some(tuple(names), 3)}",
        at=_line(index, "weight_map", first),
        tensors=tuple(names),
        evidence=tuple(
            Evidence(
                str(_line(index, "weight_map", n)),
                f"{printable(n)} → {printable(index.weight_map[n])}, but {held[n][0]} holds it",
            )
            for n in names[:4]
        ),
        cure=_taking_in(view, {held[n][0] for n in names}, "write the index from the headers"),
    )


def _taking_in(view: View, files: set[str], summary: str) -> Cure | None:
    """A new index over the files that are read and these; None when names would collide."""
    extras = [w for w in view.checkpoint.extras if w.name in files]
    names = [n for w in extras for n in w.header.names]
    if len(set(names)) < len(names) or not set(names).isdisjoint(view.checkpoint.tensors):
        return None
    return safe(summary, *({"op": "adopt", "file": w.name} for w in extras), _REINDEX)


@rule("S04", "unlisted-tensor")
def unlisted_tensor(view: View) -> Iterator[Finding]:
    """A file of the index holds a tensor that `weight_map` does not list, or lists elsewhere.

    Why: transformers 4.50 to 4.57 ignores it and leaves the weight random; readers that iterate
    over files take it.

    Recognised by: the headers against `weight_map`.

    Fine: a hard-linked overlay shard supersedes tensors of another shard on purpose.

    Example: `lm_head.weight` in a shard, and no line for it in the index.

    Cure: write the index from the headers.
    """
    index = _index(view)
    if view.checkpoint.entrance != "index" or not index.usable:
        raise NotApplicable("the files are not read through the index")
    unlisted = () if view.index_agrees else tuple(
        n for w in view.checkpoint.weights for n in w.header.names if n not in index.weight_map
    )  # fmt: skip
    if unlisted:
        yield found(
            WARNING,
            f"the index does not list {_count(unlisted)} of its files: {some(unlisted, 3)}",
            at=_line(index, "weight_map"),
            tensors=unlisted,
            evidence=(Evidence(index.file, f"no entry for {some(unlisted, 3)}"),),
            cure=safe("write the index from the headers", _REINDEX),
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
        said = f"and repeats {_count(repeated)} of the model" if repeated else "and is not read"
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
            f"{_count(names)} in two files, with {how} bytes: {some(names, 3)}",
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


@rule("S09", "bad-index")
def bad_index(view: View) -> Iterator[Finding]:
    """The index cannot be read, or lacks what loaders take from it.

    Why: loaders stop with a JSON error, or with KeyError 'metadata' (transformers 4 and 5) or
    'weight_map'. A file name in it that leads out of the folder is followed by transformers 5.23
    and loads a tensor from somewhere else.

    Recognised by: a strict parser.

    Fine: trailing spaces and a key that nobody knows.

    Example: an index of four bytes, `Inva`, from an error page.

    Cure: write the index from the headers.
    """
    index = _index(view)
    problems = [p for p in index.document.problems if p.kind != "duplicate-key"]
    said = []
    if problems:
        said.append(f"line {problems[0].line}: {problems[0].text}")
    if not index.weight_map and not index.refused:
        said.append("it has no weight_map")
    elif not index.has_metadata:
        said.append("it has no metadata, which transformers asks for")
    said += [f"{printable(n)}: {why}" for n, why in index.refused]
    if not said:
        return
    # A file name that leads elsewhere stands for a tensor whose whereabouts are not known.
    whole = not missing_shards([w.name for w in view.checkpoint.weights])
    known = set(view.checkpoint.tensors)
    curable = whole and bool(known) and all(n in known for n, _ in index.refused)
    yield found(
        ERROR,
        f"{index.file} is broken: {said[0]}",
        at=Location(index.file, problems[0].line if problems else None),
        tensors=tuple(n for n, _ in index.refused),
        evidence=tuple(Evidence(index.file, s) for s in said[:8]),
        cure=safe("write the index from the headers", _REINDEX) if curable else None,
    )


@rule("S10", "wrong-total-size")
def wrong_total_size(view: View) -> Iterator[Finding]:
    """`metadata.total_size` of the index is absent or not the sum of the tensors.

    Why: it is used to plan memory and to show progress; no loader is known to fail over it.

    Recognised by: the sum of all spans.

    Fine: tied tensors that were counted twice make an honest difference.

    Example: `"total_size": 0`.

    Cure: any repair writes the right number.
    """
    index = _index(view)
    if view.checkpoint.entrance != "index":
        raise NotApplicable("the files are not read through the index")
    view.need_whole()
    total = view.checkpoint.nbytes + nbytes(view.checkpoint.shadows)
    if index.has_metadata and index.total_size != total:
        written = "absent" if index.total_size is None else printable(repr(index.total_size))
        yield found(
            NOTE,
            f"total_size in {index.file} is {written}; the tensors take {total} bytes",
            at=_line(index, "metadata", "total_size"),
            evidence=(Evidence("size", f"{total} bytes in all tensors", total),),
            cure=safe("write the index anew", _REINDEX),
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
        cure=None if vendor or not c.tensors else safe(f"name it {SINGLE}", _REINDEX),
    )


def _count(names: tuple[str, ...]) -> str:
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''}"


RULES = (
    missing_shard,
    no_index,
    phantom_entry,
    unlisted_tensor,
    unindexed_file,
    duplicate_tensor,
    ambiguous_entry,
    shard_gap,
    bad_index,
    wrong_total_size,
    unknown_file_name,
)
