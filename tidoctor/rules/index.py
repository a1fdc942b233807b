"""S: the index against the files, that is, which copy of each tensor counts."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.checkpoint import Index
from tidoctor.finding import Cure, Evidence, Finding, Location
from tidoctor.names import printable, some
from tidoctor.rules.rule import (
    ERROR,
    NOTE,
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
from tidoctor.tensors import nbytes


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
    absent = {*index.weight_map.values()} - present
    for name, file in index.weight_map.items() if absent else ():
        if file in absent:
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
        f"{some(tuple(files), 3)} {are} not there; the index puts {tensor_count(tensors)} in "
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
            f"the index lists {tensor_count(lost)} that no file holds: {some(lost, 3)}",
            at=_line(index, "weight_map", lost[0]),
            tensors=lost,
            evidence=tuple(
                Evidence(
                    str(_line(index, "weight_map", n)),
                    f"{printable(n)} → {printable(index.weight_map[n])}, whose header lacks it",
                )
                for n in lost[:4]
            ),
            cure=consent("remove the entries from the index", reindex()),
            caution="if the tensor was lost on export, the entry is its last trace",
        )


def _misplaced(view: View, index: Index, names: list[str], held: dict[str, list[str]]) -> Finding:
    first = names[0]
    return found(
        ERROR,
        f"the index names the wrong file for {tensor_count(tuple(names))}: {some(tuple(names), 3)}",
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
    return safe(summary, *({"op": "adopt", "file": w.name} for w in extras), reindex())


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
            f"the index does not list {tensor_count(unlisted)} of its files: {some(unlisted, 3)}",
            at=_line(index, "weight_map"),
            tensors=unlisted,
            evidence=(Evidence(index.file, f"no entry for {some(unlisted, 3)}"),),
            cure=safe("write the index from the headers", reindex()),
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
        cure=safe("write the index from the headers", reindex()) if curable else None,
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
            cure=safe("write the index anew", reindex()),
        )


RULES = (missing_shard, phantom_entry, unlisted_tensor, bad_index, wrong_total_size)
