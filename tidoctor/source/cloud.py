"""A checkpoint in an object store, through fsspec and the package for that kind of store."""

from __future__ import annotations

import logging
import re
from typing import Any

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.distant import Absent, Distant, Got, Listed, Reader
from tidoctor.source.kinds import INDEX_SUFFIX, WEIGHT_SUFFIX

SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*)://.+", re.DOTALL)
_INSTALL = "pip install 'tidoctor[cloud]'"
_CREDENTIALS = "set the credentials of this store"
_AZURE = "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and a key"
_ACCOUNTS = {"az": _AZURE, "abfs": _AZURE, "abfss": _AZURE}


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
        if not _known(scheme):
            said = f"{scheme}:// is not known here"
            raise Unreadable(where, said, "see fsspec for the kinds") from e
        said = f"the {scheme}:// store is not told which account to use, or how"
        raise Unreadable(where, said, _ACCOUNTS.get(scheme, _CREDENTIALS)) from e
    # The package for gs:// writes whole tracebacks of what is told in a sentence here.
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())
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
        if len(data) > end - begin:  # all of a file, or another range
            what = "the store knows no ranges and sends more than was asked for"
            raise Unreadable(f"{self._where}: {printable(file)}", what, "examine a copy")
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
    if _denied(error):
        return Unreadable(where, "access is denied", "check the credentials of this store")
    kind = type(error).__name__
    return Unreadable(where, f"cannot be read ({kind})", "check the address and the network")


def _denied(error: Exception) -> bool:
    """Whether a store does not let this user in: every package has its own way of saying so."""
    if isinstance(error, PermissionError):
        return True
    kind = type(error).__name__
    status = getattr(error, "status_code", getattr(error, "code", None))  # of adlfs, of gcsfs
    forbidden = type(error) is OSError and str(error).startswith("Forbidden")  # of gcsfs, for 403
    words = "Credentials" in kind or "Authentication" in kind
    return words or forbidden or str(status) in ("401", "403")


def _known(scheme: str) -> bool:
    from fsspec.registry import known_implementations, registry

    return scheme in known_implementations or scheme in registry


def _package(error: ImportError) -> str:
    """The package that is missing: fsspec names it in a sentence, Python as a module."""
    found = re.search(r"[Ii]nstall (\w+)", str(error))
    return found[1] if found else error.name or "fsspec"
