"""A model repository on the Hugging Face Hub, read where it is.

One request pins the revision to a commit and gives names, sizes and digests of all files; what the
cache has of that commit is taken from there, the rest is read by ranges. Nothing is written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.address import Address
from tidoctor.source.cached import Snapshot, cached_file, snapshot
from tidoctor.source.distant import Absent, Distant, Got, Listed, Reader
from tidoctor.source.kinds import placed
from tidoctor.source.refusals import refusal
from tidoctor.source.transfer import Client, Piece, Sink, Spilled, persist

_TIMEOUT = 30.0  # seconds for the description of a repository
_ADDRESSES = 4096  # files whose place on the CDN is remembered
_COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger("tidoctor")


def open_hub(text: str, address: Address) -> Distant | Snapshot:
    """The source that an address of the Hub names: remote, or offline the copy in the cache.

    Raises Unreadable with what to do.
    """
    from huggingface_hub import is_offline_mode
    from huggingface_hub.utils import httpx

    if is_offline_mode():
        return snapshot(text, address)
    try:
        info = _described(text, address)
    except Unreadable as e:
        if not isinstance(e.__cause__, httpx.TransportError):
            raise
        try:
            found = snapshot(text, address)
        except Unreadable:
            raise e from e.__cause__
        log.warning(
            "%s: %s; what the cache has of commit %s is used", e.where, e.what, found.revision
        )
        return found
    commit = str(info.sha or address.revision or "main")
    listing = _listing(text, address, info, commit)
    prefix, kind, chosen = placed(text, address.path, listing)
    inside = {n.removeprefix(prefix): one for n, one in listing.items() if n.startswith(prefix)}
    reader = _Files(text, address, commit, prefix, inside)
    source = Distant(
        text, inside, reader, kind=kind, chosen=chosen,
        revision=commit if _COMMIT.fullmatch(commit) else None,
    )  # fmt: skip
    source.repository, source.inside = address.repo, prefix
    return source


def _api() -> Any:
    from huggingface_hub import HfApi

    from tidoctor import __version__

    return HfApi(library_name="tidoctor", library_version=__version__)


def _described(text: str, address: Address) -> Any:
    """What the Hub says of the repository at the revision."""
    try:
        return persist(
            lambda: _api().model_info(
                address.repo, revision=address.revision, files_metadata=True, timeout=_TIMEOUT
            ),
            printable(text),
        )
    except Exception as e:
        raise refusal(e, address.repo, address.revision, text) from e


def _listing(text: str, address: Address, info: Any, commit: str) -> Mapping[str, Listed]:
    """Every file of the commit. Mirrors leave sizes out of the description; the tree has them."""
    files = {s.rfilename: _listed(s.size, s.lfs) for s in info.siblings or ()}
    if files and all(one.size is None for one in files.values()):
        try:
            rows = persist(lambda: list(_api().list_repo_tree(
                address.repo, recursive=True, revision=commit
            )), printable(text))  # fmt: skip
            known = {r.path: _listed(r.size, r.lfs) for r in rows if hasattr(r, "size")}
            files = {n: known.get(n, one) for n, one in files.items()}
        except Exception as e:
            log.debug("%s: no tree (%s)", text, type(e).__name__)  # sizes come with the files then
    return {n: one for n, one in files.items() if _plain(n)}


def _listed(size: object, lfs: Any) -> Listed:
    digest = getattr(lfs, "sha256", None)
    return Listed(
        size if type(size) is int and size >= 0 else None,
        digest if isinstance(digest, str) else None,
        stored=lfs is not None,
    )


def _plain(name: object) -> bool:
    """Whether a listed name is that of a file inside the repository."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


class _Files(Reader):
    """Reads ranges of the files of one commit, on any thread."""

    def __init__(
        self, text: str, address: Address, commit: str, prefix: str, listing: Mapping[str, Listed]
    ) -> None:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import build_hf_headers

        from tidoctor import __version__

        self._text, self._address, self._commit = text, address, commit
        self._prefix, self._listing = prefix, listing
        self._places: dict[str, Any] = {}
        self._tags: dict[str, str] = {}
        self._begun: dict[tuple[str, int], Got] = {}  # what came while places were asked for
        headers = build_hf_headers(library_name="tidoctor", library_version=__version__)
        self._client = Client(constants.ENDPOINT, headers, printable(text))
        self._refused: type[Exception] = HfHubHTTPError
        self._link = partial(hf_hub_url, address.repo, revision=commit)
        self._cached = cache(self._lookup)

    def fetch(self, file: str, begin: int, end: int) -> Got:
        """The bytes [begin, end) of a file. Raises Absent or Unreadable."""
        path, listed = self._prefix + file, self._listing[file]
        if (local := self._cached(path)) is not None:
            return _local(local, begin, end, self._text)
        if begin == 0 and (begun := self._begun.pop((path, end), None)) is not None:
            return begun
        try:
            if not listed.stored and begin == 0 and end == listed.size:
                return self._whole(path, end)
            return self._part(path, begin, end, None)
        except Unreadable:
            raise
        except Exception as e:
            raise self._told(e, path) from e

    def find(self, file: str, end: int) -> None:
        """Ask where a file lies on the CDN; what the Hub itself sends instead is kept."""
        path, listed = self._prefix + file, self._listing[file]
        if not listed.stored or not end or self._cached(path):
            return
        try:
            piece = self._client.range(self._link(path), 0, end, stay=True)
        except Unreadable:
            raise
        except Exception as e:
            raise self._told(e, path) from e
        self._remember(path, piece)
        if piece.data:
            self._begun[path, end] = Got(piece.data, piece.total)

    def stream(self, file: str, begin: int, end: int, sink: Sink) -> None:
        """The same as they come."""
        path, listed = self._prefix + file, self._listing[file]
        if not listed.stored or self._cached(path):
            return super().stream(file, begin, end, sink)
        try:
            self._part(path, begin, end, sink)
        except (Unreadable, Spilled):
            raise
        except Exception as e:
            raise self._told(e, path) from e

    def _told(self, error: Exception, path: str) -> Exception:
        from huggingface_hub.errors import RemoteEntryNotFoundError

        if isinstance(error, RemoteEntryNotFoundError):
            return Absent(path)
        name = f"{self._text}: {path}"
        return refusal(error, self._address.repo, self._address.revision, name)

    def _whole(self, path: str, size: int) -> Got:
        piece = self._client.whole(self._link(path), size + 1)
        if len(piece.data) != size:
            raise Unreadable(
                printable(f"{self._text}: {path}"),
                f"came with another length than the listing says ({size:,} bytes)", "try again",
            )  # fmt: skip
        return Got(piece.data, size)

    def _part(self, path: str, begin: int, end: int, sink: Sink | None) -> Got:
        link, tag = self._link(path), self._tags.get(path, "")
        place = self._places.get(path, link)
        given = 0

        def counted(chunk: bytes) -> None:
            nonlocal given
            if sink is not None:
                sink(chunk)
                given += len(chunk)

        taker = counted if sink is not None else None
        for attempt in (1, 2, 3):
            try:
                piece = self._client.range(place, begin + given, end, etag=tag, sink=taker)
                break
            except self._refused as e:
                # A signed address lives for an hour; what the Hub itself says stands.
                response = getattr(e, "response", None)
                if attempt == 3 or response is None or self._client.owns(response.url):
                    raise
                self._places.pop(path, None)
                place = link
        self._remember(path, piece)
        return Got(piece.data, piece.total)

    def _remember(self, path: str, piece: Piece) -> None:
        """Keep the tag of a file and the address that it was sent from."""
        if piece.etag:
            self._tags.setdefault(path, piece.etag)
        if piece.url and len(self._places) < _ADDRESSES:
            self._places[path] = piece.url

    def _lookup(self, path: str) -> Path | None:
        """The copy of a file that the cache has."""
        listed = self._listing[path.removeprefix(self._prefix)]
        return cached_file(self._address.repo, path, self._commit, listed)


def _local(path: Path, begin: int, end: int, text: str) -> Got:
    try:
        with path.open("rb") as f:
            f.seek(begin)
            return Got(f.read(end - begin), path.stat().st_size)
    except OSError as e:
        raise Unreadable(printable(f"{text}: {path}"), f"cannot be read ({e.strerror})") from e


