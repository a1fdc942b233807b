"""A checkpoint on a web server that knows nothing of checkpoints: files by their addresses.

There is no listing, so the names that checkpoints have are tried, and those that the index gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.distant import Absent, Distant, Got, Listed, Reader
from tidoctor.source.kinds import CONFIG, INDEX_SUFFIX, WEIGHT_SUFFIX
from tidoctor.source.transfer import Client

_USUAL = (CONFIG, f"model{WEIGHT_SUFFIX}", f"model{INDEX_SUFFIX}")
_ABSENT = frozenset({403, 404, 410})  # stores answer 403 where nobody may list what is there
_MOST = 4096  # files of one index
_LONGEST = 64_000_000  # bytes of an index


def open_web(url: str) -> Distant:
    """The source at a web address: a folder, a weight file, an index or a config.json.

    Raises Unreadable when it is no usable address.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise Unreadable(printable(url), "is no usable address", "check it")
    folder, _, last = parts.path.rpartition("/")
    chosen = last if last.endswith((WEIGHT_SUFFIX, ".json")) else None
    if chosen is None and last:
        folder = parts.path
    base = f"{parts.scheme}://{parts.netloc}{folder}/"
    kind = "folder" if chosen is None else "index" if chosen.endswith(INDEX_SUFFIX) else "file"
    files = _Files(url, base, f"?{parts.query}" if parts.query else "")
    names = [*_USUAL, chosen] if chosen else list(_USUAL)
    if kind == "file":
        names = [CONFIG, chosen or CONFIG]
    listing = {name: Listed(None) for name in names}
    source = Distant(url, listing, files, kind=kind, chosen=chosen)
    index = chosen if kind == "index" else _USUAL[2] if kind == "folder" else None
    if index is not None and (size := source.size_of(index)):
        listing |= {n: Listed(None) for n in _named(source.read(index, 0, min(size, _LONGEST)))}
    return source


def _named(index: bytes) -> Iterable[str]:
    """The files that an index names, as far as it can be read; its faults are found later."""
    try:
        table = json.loads(index)["weight_map"]
        names = {n for n in table.values() if isinstance(n, str)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    plain = (n for n in names if n and ".." not in n.split("/") and not n.startswith("/"))
    return sorted(plain)[:_MOST]


class _Files(Reader):
    """Reads ranges of files below one address. What the address is signed with stays with it."""

    def __init__(self, text: str, base: str, query: str) -> None:
        self._where = printable(text.partition("?")[0])
        self._base, self._query = base, query
        self._client = Client(base, {}, self._where)
        self._tags: dict[str, str] = {}

    def fetch(self, file: str, begin: int, end: int) -> Got:
        """The bytes [begin, end) of a file. Raises Absent or Unreadable."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
        from huggingface_hub.utils import httpx

        where = f"{self._where}: {printable(file)}"
        link = f"{self._base}{quote(file)}{self._query}"
        try:
            piece = self._client.range(link, begin, end, etag=self._tags.get(file, ""))
        except OfflineModeIsEnabled as e:
            raise Unreadable(where, "is on the web, but HF_HUB_OFFLINE is set", "unset it") from e
        except HfHubHTTPError as e:
            status = e.response.status_code if e.response is not None else 0
            if status in _ABSENT:
                raise Absent(file) from e
            raise Unreadable(where, f"the server answered {status}", "try again later") from e
        except httpx.TransportError as e:
            what = f"the server cannot be reached, or breaks off ({type(e).__name__})"
            raise Unreadable(where, what, "check the address and the network") from e
        if piece.etag:
            self._tags.setdefault(file, piece.etag)
        return Got(piece.data, piece.total)
