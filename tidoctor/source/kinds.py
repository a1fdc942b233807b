"""How a place was given: as a folder, as one weight file, as an index; by what stands there."""

from __future__ import annotations

from collections.abc import Collection

from tidoctor.errors import Unreadable
from tidoctor.names import printable

INDEX_SUFFIX = ".safetensors.index.json"
WEIGHT_SUFFIX = ".safetensors"
CONFIG = "config.json"


def placed(text: str, path: str, files: Collection[str]) -> tuple[str, str, str | None]:
    """(what its files' names begin with, kind, chosen file) of a path among files.

    Raises Unreadable when nothing stands there, or something that is no part of a checkpoint.
    """
    if not path:
        return "", "folder", None
    folder, slash, name = path.rpartition("/")
    if path in files:
        if name.endswith(INDEX_SUFFIX):
            return folder + slash, "index", name
        if name.endswith((WEIGHT_SUFFIX, ".json")):
            return folder + slash, "file", name
        raise Unreadable(
            printable(text),
            "is neither a folder nor a .safetensors file",
            "give the checkpoint's folder, a .safetensors file or its .safetensors.index.json",
        )
    prefix = f"{path}/"
    if not any(n.startswith(prefix) for n in files):
        raise Unreadable(printable(text), f"there is no {printable(path)}", "check the path")
    return prefix, "folder", None
