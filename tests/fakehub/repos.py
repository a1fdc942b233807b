"""Repositories: commits, branches, pull requests, and who may read them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fakehub.contents import Bytes, Content

LARGE = (".safetensors", ".bin", ".gguf", ".pt", ".onnx", ".h5")
_NUMBERS = itertools.count()
Files = Mapping[str, Content | bytes]


@dataclass
class Pull:
    """A pull request."""

    number: int
    title: str
    description: str
    head: str
    status: str = "open"
    author: str = "someone"


@dataclass
class Repo:
    """One model repository.

    `gated` shows its metadata to all and its files to `members` only; `private` hides it from
    others. `unlisted` leaves sizes and digests out of the listing, as some mirrors do, `direct` sends
    large files without a CDN, as others do, and `said` replaces what the listing says of a file.
    """

    name: str
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    gated: bool = False
    private: bool = False
    members: frozenset[str] = frozenset()
    unlisted: bool = False
    direct: bool = False
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # listed, but not to be had
    descriptions: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str | None = "main") -> str:
        """Put exactly these files into a new commit; its sha."""
        made = {path: _content(path, data) for path, data in files.items()}
        # No two commits of one process are alike: clients keep what they know of a commit.
        text = f"{self.name} {next(_NUMBERS)} {sorted((p, c.size) for p, c in made.items())}"
        sha = hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()
        self.commits[sha] = made
        if branch:
            self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        """The commit of a branch, pull request or sha."""
        if revision.startswith("refs/pr/"):
            number = revision.removeprefix("refs/pr/")
            return next((p.head for p in self.pulls if str(p.number) == number), None)
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def siblings(self, sha: str, blobs: bool) -> list[dict[str, Any]]:
        """What model info says of the files."""
        rows = []
        for path, content in self.commits[sha].items():
            row: dict[str, Any] = {"rfilename": path}
            if blobs and not self.unlisted:
                row |= {"size": content.size, "blobId": content.oid}
                if content.lfs:
                    row["lfs"] = {
                        "sha256": content.sha256, "size": content.size, "pointerSize": 135,
                    }  # fmt: skip
                row |= self.said.get(path, {})
            rows.append(row)
        return rows

    def tree(self, sha: str, under: str, recursive: bool) -> list[dict[str, Any]]:
        """What the tree listing says."""
        rows: dict[str, dict[str, Any]] = {}
        for path, content in self.commits[sha].items():
            if under and not path.startswith(f"{under}/"):
                continue
            rest = path.removeprefix(f"{under}/") if under else path
            if "/" in rest and not recursive:
                folder = path[: len(path) - len(rest)] + rest.partition("/")[0]
                rows[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                continue
            rows[path] = entry(path, content)
        return list(rows.values())


def entry(path: str, content: Content) -> dict[str, Any]:
    """One file of a tree listing."""
    row = {"type": "file", "path": path, "size": content.size, "oid": content.oid}
    if content.lfs:
        row["lfs"] = {"oid": content.sha256, "size": content.size, "pointerSize": 135}
    return row


def _content(path: str, data: Content | bytes) -> Content:
    if not isinstance(data, bytes):
        return data
    return Bytes(data, lfs=True if path.endswith(LARGE) else None)
