"""A checkpoint in an object store, through fsspec and the package for that kind of store."""

from __future__ import annotations

import re
from typing import Any

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.distant import Absent, Distant, Got, Listed, Reader
from tidoctor.source.kinds import INDEX_SUFFIX, WEIGHT_SUFFIX

SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*)://.+", re.DOTALL)
_INSTALL = "pip install 'tidoctor[cloud]'"


def open_cloud(url: str) -> Distant:
    """The source that an fsspec URL names. Raises Unreadable with what to do."""
    where = printable(url)
    scheme = url.partition("://")[0]
    if "::" in url:
        raise Unreadable(where, "is a chain of file systems", "give the address itself")
    try:
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(url)
    except ImportError as e:
        raise Unreadable(where, f"needs a package for {scheme}:// ({_package(e)})", _INSTALL) from e
    except Exception as e:
        raise Unreadable(where, f"{scheme}:// is not known here", "see fsspec for the kinds") from e
    path = path.rstrip("/")
    name = path.rpartition("/")[2]
    chosen = name if name.endswith((WEIGHT_SUFFIX, ".json")) else None
    root = path.rpartition("/")[0] if chosen else path
    listing, folders = _listed(fs, root, where)
    if not listing and not folders:
        raise Unreadable(where, "nothing is there", "check the address")
    if chosen and chosen not in listing:
        raise Unreadable(where, "no such file", "check the address")
    kind = "folder" if chosen is None else "index" if chosen.endswith(INDEX_SUFFIX) else "file"

    reader = _Files(fs, root, where)
    return Distant(url, listing, reader, kind=kind, chosen=chosen, folders=folders)


class _Files(Reader):
    """Reads ranges of files below one folder of a store."""

    def __init__(self, fs: Any, root: str, where: str) -> None:
        self._fs, self._root, self._where = fs, root, where

    def fetch(self, file: str, begin: int, end: int) -> Got:
        """The bytes [begin, end) of a file. Raises Absent or Unreadable."""
        try:
            # By keywords: the third place of s3fs means a version.
            data = self._fs.cat_file(f"{self._root}/{file}", start=begin, end=end)
        except FileNotFoundError as e:
            raise Absent(file) from e
        except Exception as e:
            raise _told(e, f"{self._where}: {printable(file)}") from e
        return Got(bytes(data), None)


def _listed(fs: Any, root: str, where: str) -> tuple[dict[str, Listed], frozenset[str]]:
    """Files with their sizes, and folders, at the top level."""
    try:
        rows = fs.ls(root, detail=True)
    except FileNotFoundError as e:
        raise Unreadable(where, "nothing is there", "check the address") from e
    except Exception as e:
        raise _told(e, where) from e
    files: dict[str, Listed] = {}
    folders: set[str] = set()
    for row in rows:
        name = str(row["name"]).rstrip("/").rpartition("/")[2]
        if row["type"] == "directory":
            folders.add(name)
        elif name not in ("", ".", ".."):
            size = row.get("size")
            files[name] = Listed(size if type(size) is int else None)
    return files, frozenset(folders)


def _told(error: Exception, where: str) -> Unreadable:
    """What a store said no with. Its own words may hold what the address was signed with."""
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return Unreadable(where, "access is denied", "check the credentials of this store")
    kind = type(error).__name__
    return Unreadable(where, f"cannot be read ({kind})", "check the address and the network")


def _package(error: ImportError) -> str:
    """The package that is missing: fsspec names it in a sentence, Python as a module."""
    found = re.search(r"[Ii]nstall (\w+)", str(error))
    return found[1] if found else error.name or "fsspec"
