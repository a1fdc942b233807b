"""What of a source goes along with its tensors: tokenizer, code, licence and all else there is.

Everything does, except files whose content lives on under another name, what the plan does without,
files that would lead a loader away from the result, and what is not the checkpoint's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tidoctor.checkpoint import CONFIG, SINGLE, Checkpoint, shard_of
from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.pieced import beneath
from tidoctor.source import INDEX_SUFFIX, WEIGHT_SUFFIX, Source, reason
from tidoctor.source.distant import Distant
from tidoctor.source.folder import Folder

_PRIVATE = frozenset({".git", ".cache"})  # of the tools that fetched the folder, not of the model
_OTHER_WEIGHTS = (
    ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx",
    ".onnx_data",
)  # fmt: skip


class Company(NamedTuple):
    """What stands beside the tensors: files with their sizes in bytes, and folders, that go along.

    `left_out` are the others, each as "name: why".
    """

    files: tuple[tuple[str, int], ...]
    folders: tuple[str, ...]
    left_out: tuple[str, ...]


def company(planned: Checkpoint) -> Company:
    """What goes along with a planned checkpoint, subfolders included.

    Raises Unreadable when the source cannot be listed.
    """
    files, folders, left_out = [], [], []
    unwanted = reasons(planned)
    for name, size in _listing(planned.source):
        bare = name.rstrip("/")
        why = unwanted(bare)
        if why is None and isinstance(size, str):
            why = size
        if why:
            left_out.append(f"{printable(name)}: {why}")
        elif why is None and name != bare:
            folders.append(bare)
        elif why is None:
            files.append((name, int(size)))
    return Company(tuple(files), tuple(folders), tuple(left_out))


def overlaid(planned: Checkpoint) -> tuple[str, ...]:
    """What has to be done to the files of the source for what is new to make the result with them.

    Each is "rename A to B" or "remove A"; without any, an overlay is just dropped in.
    """
    written = {weight.name for weight in planned.weights} | planned.texts.keys()
    moved = {
        w.whole[1]: w.name
        for w in planned.weights
        if w.whole and w.whole[0] is planned.source and w.whole[1] != w.name
    }
    gone = (_origins(planned) | planned.left_out) & planned.source.files().keys()
    lines = [f"rename {printable(old)} to {printable(new)}" for old, new in moved.items()]
    lines += [f"remove {printable(name)}" for name in sorted(gone - written - moved.keys())]
    return tuple(lines)


def reasons(planned: Checkpoint) -> Callable[[str], str | None]:
    """A function that says of a file of the source why it does not go along, None if it does.

    The reason is empty where there is nothing to tell: a file whose content lives on.
    """
    written = {weight.name for weight in planned.weights} | planned.texts.keys()
    origins = _origins(planned)
    extras = {weight.name for weight in planned.extras}
    index = planned.index
    # Beside a single file the index is idle; naming files that are gone, it is worse.
    idle = index if index and planned.entrance != "index" else None
    alone = planned.source.kind == "file"

    def why(name: str) -> str | None:
        if name in written or name in origins:
            return ""
        if alone:
            return None if CONFIG in planned.files and not _is_weight(name) else ""
        if _PRIVATE.intersection(name.split("/")):
            return "not a part of the model"
        if name in planned.left_out:
            return "the plan does without it"
        if idle and name == idle.file and not written.issuperset(idle.weight_map.values()):
            return "it names weight files that are not carried over"
        if name.endswith(WEIGHT_SUFFIX) and "/" not in name:
            return _stale(planned, name) if name in extras else "no tensor is read from it"
        return None

    return why


def _origins(planned: Checkpoint) -> set[str]:
    """The files of the source whose tensors the weights of the result hold."""
    names = set()
    for weight in planned.weights:
        if weight.whole:
            names.add(weight.whole[1])
        else:
            spans = beneath(row.span for row in planned.rows(weight))
            names |= {span.file for span in spans if span.source is planned.source}
    return names


def _is_weight(name: str) -> bool:
    return name.endswith((WEIGHT_SUFFIX, INDEX_SUFFIX, *_OTHER_WEIGHTS))


def _stale(planned: Checkpoint, name: str) -> str | None:
    """Why a weight file that nobody is led to would disturb the result; None if it would not."""
    first = planned.weights[0].name if planned.weights else SINGLE
    sharded = shard_of(first)
    stem = sharded[0] if sharded else first.removesuffix(WEIGHT_SUFFIX)
    shard = shard_of(name)
    if shard and shard[0] == stem:
        return "a shard of the same name that the result does not have"
    if sharded and name == SINGLE:
        return "loaders would read it in place of the shards"
    return None


def _listing(source: Source) -> Iterator[tuple[str, int | str]]:
    """Names with their sizes in bytes, or why they cannot go along; folders end in a slash."""
    if isinstance(source, Distant):
        for name in source.tree():
            if "/" not in name or source.kind != "file":
                size = source.size_of(name)
                yield name, "not to be had any more" if size is None else size
        return
    if not isinstance(source, Folder):
        yield from source.files().items()
        for name in sorted(source.folders()):
            yield f"{name}/", "a folder of a source that is not local"
        return
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(source.path / inner) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as e:
            where = printable(f"{source.name}: {inner}")
            raise Unreadable(where, f"cannot be listed ({reason(e)})") from e
        for entry in entries:
            name = inner + entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield name, _size(source, name, entry.is_symlink())
            elif source.kind != "file":
                yield f"{name}/", 0
                if entry.name not in _PRIVATE:
                    waiting.append(f"{name}/")


def _size(source: Folder, name: str, link: bool) -> int | str:
    """The size of a file in bytes, or why it cannot go along."""
    try:
        status = source.locate(name).stat()
    except (OSError, Unreadable) as e:
        if link:
            missing = isinstance(e, FileNotFoundError)
            return "a link to nothing" if missing else "a link that leads out of the checkpoint"
        if isinstance(e, Unreadable):
            raise
        where = printable(f"{source.name}: {name}")
        raise Unreadable(where, f"cannot be opened ({reason(e)})") from e
    if stat.S_ISREG(status.st_mode):
        return status.st_size
    if stat.S_ISDIR(status.st_mode):
        return "a link to a folder"
    return "neither a file nor a folder"
