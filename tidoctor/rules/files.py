"""F: the bytes of one weight file."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.checkpoint import CONFIG, WeightFile
from tidoctor.finding import Cure, Evidence, Finding, Location
from tidoctor.header import Defect
from tidoctor.names import printable
from tidoctor.rules.rule import ERROR, NOTE, WARNING, NotApplicable, advice, found, rule, safe
from tidoctor.rules.view import View

_FOREIGN = frozenset({"lfs-pointer", "html", "not-safetensors", "all-zero"})
_LENGTH = frozenset({"header-truncated", "truncated", "trailing"})
_EMPTY = frozenset({"file-empty", "too-short", "no-tensors"})
_FORMATS = frozenset({"pt", "tf", "flax", "mlx", "np"})
_SHOWN = 8


def _files(view: View) -> Iterator[tuple[WeightFile, bool]]:
    """Every weight file, and whether loaders read it."""
    yield from ((w, True) for w in view.checkpoint.weights)
    yield from ((w, False) for w in view.checkpoint.extras)


def _defects(view: View, kinds: frozenset[str]) -> Iterator[tuple[WeightFile, bool, list[Defect]]]:
    for weight, read in _files(view):
        if found_here := [d for d in weight.header.defects if d.kind in kinds]:
            yield weight, read, found_here


def _evidence(weight: WeightFile, defects: list[Defect]) -> tuple[Evidence, ...]:
    rows = [Evidence(weight.name, d.text, {"kind": d.kind, "entry": d.entry}) for d in defects]
    if len(rows) > _SHOWN:
        rest = Evidence(weight.name, f"and {len(rows) - _SHOWN} more like these")
        return (*rows[:_SHOWN], rest)
    return tuple(rows)


@rule("F01", "not-safetensors")
def not_safetensors(view: View) -> Iterator[Finding]:
    """A weight file is something else: a git-lfs pointer, a web page, a pickle, zeros.

    Why: loaders say "header too large" for all of these, because they take the first eight bytes
    for a length. The message points nowhere near the cause.

    Recognised by: the first bytes of the file.

    Fine: a legal header above 100 MB gives the same message in loaders and is F03 here.

    Example: `version https://git-lfs.github.com/spec/v1` as the first line of model.safetensors.

    Cure: fetch the real file. A git-lfs pointer carries the digest and size of the right one.
    """
    for weight, read, defects in _defects(view, _FOREIGN):
        pointer = defects[0].kind == "lfs-pointer"
        how = "fetch it with `git lfs pull`" if pointer else "download the file again"
        wrong = "was not fetched" if pointer else "is not a safetensors file"
        yield found(
            ERROR if read else WARNING,
            f"{printable(weight.name)} {wrong}: {defects[0].text}",
            at=Location(weight.name),
            evidence=_evidence(weight, defects),
            cure=advice(how),
        )


@rule("F02", "wrong-length")
def wrong_length(view: View) -> Iterator[Finding]:
    """A weight file is shorter or longer than its header says.

    Why: the tensors at the end are cut, or bytes that nobody accounts for follow. The safetensors
    library refuses both with one message, "incomplete metadata, file not fully covered".

    Recognised by: 8 + header length + the largest end offset against the size of the file; in a
    repository, also the size that its listing gives.

    Fine: a file that is still being written ends in `.incomplete` or `.part`; those are not read.

    Example: a header that ends at byte 3 670 057 680 in a file half as long.

    Cure: download the file again. If its digest equals the published one, the published file is
    broken and has to be exported again.
    """
    for weight, read, defects in _defects(view, _LENGTH):
        cut = tuple(
            e.name
            for e in weight.header.entries
            if e.end > weight.header.size - weight.header.data_start
        )
        trailing = defects[0].kind == "trailing"
        cure: Cure = advice("download the file again")
        if trailing and read and len(defects) == 1:
            cure = safe("write the file without them", {"op": "rewrite", "file": weight.name})
        yield found(
            ERROR if read else WARNING,
            f"{printable(weight.name)} {'is too long' if trailing else 'is cut off'}: "
            f"{defects[0].text}",
            at=Location(weight.name),
            tensors=cut,
            evidence=(*_evidence(weight, defects), *_listed_size(view, weight)),
            cure=cure,
        )
    for weight, _ in _files(view):
        if not any(d.kind in _LENGTH | _FOREIGN | _EMPTY for d in weight.header.defects):
            yield from _unlisted(view, weight)


def _listed_size(view: View, weight: WeightFile) -> Iterator[Evidence]:
    """The size in the repository's listing, where there is one."""
    listed = view.checkpoint.source.listed(weight.name) if weight.whole else None
    if listed and listed.size is not None:
        same = "the same" if listed.size == weight.header.size else "not what came"
        fact = f"the repository lists {listed.size:,} bytes, {same}"
        yield Evidence("listing", fact, {"size": listed.size, "sha256": listed.sha256})


def _unlisted(view: View, weight: WeightFile) -> Iterator[Finding]:
    """A file that is sound, but not the one that the repository lists."""
    rows = tuple(_listed_size(view, weight))
    listed = view.checkpoint.source.listed(weight.name)
    if rows and listed and listed.size != weight.header.size:
        yield found(
            WARNING,
            f"{printable(weight.name)} has {weight.header.size:,} bytes, the repository lists "
            f"{listed.size:,}",
            at=Location(weight.name),
            evidence=rows,
            cure=advice("download it again; behind a mirror, from the Hub itself"),
        )


_HEADER = frozenset(
    {
        "header-too-large",
        "not-utf8",
        "bom",
        "nul-padding",
        "bad-json",
        "duplicate-key",
        "bad-metadata",
        "bad-entry",
        "unknown-dtype",
        "bad-shape",
        "bad-offsets",
        "span-size",
        "gap",
        "overlap",
        "shared-span",
        "misaligned",
    }
)
_LOSSLESS = frozenset(
    {
        "bom",
        "nul-padding",
        "bad-metadata",
        "gap",
        "shared-span",
        "misaligned",
    }
)
"""Defects after which every tensor is still fully known, so that a new header cures them."""


@rule("F03", "bad-header")
def bad_header(view: View) -> Iterator[Finding]:
    """The header of a weight file breaks the format.

    Why: the safetensors library refuses the whole file and does not say which entry is wrong:
    overlapping or gapped spans, two names on one span, a span that does not fit dtype and shape,
    an unknown dtype, metadata that are not strings, JSON that is none.

    Recognised by: an own parser that keeps what can be read and names each entry that is wrong.

    Fine: spaces after the JSON, tensors without elements at the end of another, and the dtypes that
    only newer releases of the library know. A repeated name is accepted by the library, which takes
    the last one; other readers differ, so it is a warning. Data that do not start at a multiple of
    8 are read by the library and copied, or refused, by some others: a note.

    Example: two names on the same bytes, or `"dtype": "BF17"`.

    Cure: where every tensor is still known, a new header is written and each tensor keeps its
    bytes.
    """
    for weight, read, defects in _defects(view, _HEADER):
        refused = any(d.refused for d in defects)
        repeated = any(d.kind == "duplicate-key" for d in defects)
        severity = ERROR if refused else WARNING if repeated else NOTE
        curable = read and all(d.kind in _LOSSLESS for d in weight.header.defects)
        yield found(
            severity if read else min(severity, WARNING),
            f"the header of {printable(weight.name)} is broken: {defects[0].text}"
            if refused
            else f"the header of {printable(weight.name)}: {defects[0].text}",
            at=Location(weight.name),
            tensors=tuple(dict.fromkeys(d.entry for d in defects if d.entry is not None)),
            evidence=_evidence(weight, defects),
            cure=safe("write the file with a new header", {"op": "rewrite", "file": weight.name})
            if curable
            else None,
        )


@rule("F04", "no-format-metadata")
def no_format_metadata(view: View) -> Iterator[Finding]:
    """`__metadata__` does not say `"format": "pt"`.

    Why: transformers before 4.48 fails without it ('NoneType' object has no attribute 'get'), and
    every transformers 4 refuses an object without a format, or with one it does not know.
    transformers 5 does not care.

    Recognised by: the header.

    Fine: some official repositories have none. `mlx`, `np`, `tf` and `flax` may be the truth.

    Example: a header with no `__metadata__`, as in gpt-oss.

    Cure: write the header with `{"format": "pt"}`.
    """
    for weight in view.checkpoint.weights:
        header = weight.header
        if not header.names or not header.sound:
            continue
        metadata = header.metadata
        value = metadata.get("format") if metadata is not None else None
        if isinstance(value, str) and value in _FORMATS:
            continue
        if metadata is None:
            said = "has no __metadata__, which transformers before 4.48 needs"
        elif value is None:
            said = "names no format in its __metadata__, which every transformers 4 refuses"
        else:
            said = f"gives the format {printable(repr(value))}, which every transformers 4 refuses"
        yield found(
            WARNING,
            f"{printable(weight.name)} {said}",
            at=Location(weight.name),
            evidence=(Evidence(weight.name, f"__metadata__ {said.partition(',')[0]}", value),),
            cure=safe(
                'write {"format": "pt"} into the header', {"op": "rewrite", "file": weight.name}
            ),
        )


@rule("F05", "empty-file")
def empty_file(view: View) -> Iterator[Finding]:
    """A weight file is a stub: no bytes, or a header without tensors.

    Why: distributed training saves leave such files on ranks that hold nothing. Beside a complete
    index a stub called model.safetensors wins in transformers, and every weight is random.

    Recognised by: size and header.

    Fine: an empty file of another name, which no loader looks for.

    Example: a model.safetensors of 88 bytes beside the folder of a sharded optimizer.

    Cure: delete the stub; if it is all there is, look for the shards that the trainer wrote.
    """
    for weight, read, defects in _defects(view, _EMPTY):
        rest = [w for w in view.checkpoint.weights if w is not weight and w.header.names]
        cure: Cure = advice("look for the weights where the trainer saved them")
        if rest:
            cure = safe(
                f"leave {printable(weight.name)} out", {"op": "discard", "file": weight.name}
            )
        yield found(
            ERROR if read or weight.name == "model.safetensors" else WARNING,
            f"{printable(weight.name)} holds no tensor: {defects[0].text}",
            at=Location(weight.name),
            evidence=_evidence(weight, defects),
            cure=cure,
        )


@rule("F06", "owner-only")
def owner_only(view: View) -> Iterator[Finding]:
    """Only their owner may read the weights, although others may read the rest.

    Why: the safetensors library writes files that way since 0.8, whatever the umask says. A server
    that runs as another user then finds config.json and cannot open the weights; some say "not
    found".

    Recognised by: the permission bits of weight files and of config.json.

    Fine: where config.json is as closed, it is on purpose.

    Example: model.safetensors with mode 0600 beside a config.json with mode 0644.

    Cure: give the weights the permissions of config.json; what tidoctor writes follows the umask.
    """
    config = view.checkpoint.mode(CONFIG)
    if config is None:
        raise NotApplicable("there is no config.json with permissions to compare with")
    wanted = config & 0o044
    closed = [
        weight.name
        for weight in view.checkpoint.weights
        if weight.whole
        and (mode := view.checkpoint.mode(weight.name)) is not None
        and wanted & ~mode
    ]
    if closed:
        mode = view.checkpoint.mode(closed[0]) or 0
        others = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield found(
            NOTE,
            f"{printable(closed[0])}{others} may be read by fewer users than config.json",
            at=Location(closed[0]),
            evidence=(
                Evidence(closed[0], f"its mode is {mode:04o}", mode),
                Evidence(CONFIG, f"its mode is {config:04o}", config),
            ),
            cure=advice("give it the permissions of config.json: chmod --reference"),
        )


RULES = (not_safetensors, wrong_length, bad_header, no_format_metadata, empty_file, owner_only)
