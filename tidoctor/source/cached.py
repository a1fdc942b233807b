"""What the cache of huggingface_hub has of a repository: without the network, and before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.address import Address
from tidoctor.source.distant import Listed
from tidoctor.source.folder import Folder
from tidoctor.source.kinds import placed


class Snapshot(Folder):
    """A cached commit. `listing` is that of the repository, as far as the cache knows it."""

    def __init__(
        self, path: Path, listing: Mapping[str, Listed], revision: str, *,
        name: str, kind: str, chosen: str | None,
    ) -> None:  # fmt: skip
        super().__init__(path, name=name, kind=kind, chosen=chosen)
        self.revision = revision
        self._listing = listing

    def listed(self, file: str) -> Listed | None:
        """What the listing of the repository says of a file."""
        return self._listing.get(file)


def snapshot(text: str, address: Address) -> Snapshot:
    """The cached copy of a revision, be it complete or not. Raises Unreadable without one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError

    where = printable(text)
    try:
        found = snapshot_download(
            address.repo, revision=address.revision, local_files_only=True
        )  # fmt: skip
    except IncompleteSnapshotError as e:
        found = e.snapshot_path
    except HFValidationError as e:
        raise Unreadable(where, "is no name that a repository can have") from e
    except (OSError, ValueError) as e:
        what = "is not in the cache, and the Hub is not asked because HF_HUB_OFFLINE is set"
        raise Unreadable(where, what, "unset it, or download the model first") from e
    root = Path(found)
    listing = _listing(address, root.name)
    here = [p.relative_to(root).as_posix() for p in root.rglob("*") if not p.is_dir()]
    prefix, kind, chosen = placed(text, address.path, {*here, *listing})
    inside = {n.removeprefix(prefix): one for n, one in listing.items() if n.startswith(prefix)}
    return Snapshot(root / prefix, inside, root.name, name=text, kind=kind, chosen=chosen)


def _listing(address: Address, commit: str) -> dict[str, Listed]:
    """What a download wrote down of the repository's files; empty when it did not."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        rows = get_cached_repo_tree(address.repo, revision=commit)
    except (CachedRepoTreeNotFoundError, OSError, ValueError, KeyError, TypeError):
        return {}
    return {r.path: Listed(r.size, r.lfs.sha256 if r.lfs else None) for r in rows}


def cached_file(repo: str, path: str, commit: str, listed: Listed) -> Path | None:
    """The file in the cache, if it is there with the size that the listing gives."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, path, revision=commit)
    if not isinstance(found, str):  # None, or an object that stands for "known to be missing"
        return None
    local = Path(found)
    try:
        if listed.size is not None and local.stat().st_size != listed.size:
            return None
    except OSError:
        return None
    return local
