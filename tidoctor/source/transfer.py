"""Ranges of files over HTTP, through the client, the headers and the errors of huggingface_hub.

Nothing here is taken on trust: a range counts only when the server says that it is exactly the one
asked for, of a file with the same entity tag as before; a server that ignores ranges is stopped at
the last byte wanted; every wait has an end. The client's own functions neither retry nor time out
where headers are read, and swallow a whole file from a server that ignores ranges.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

from tidoctor.errors import Unreadable

TRIES = 5
PATIENCE = 60  # seconds; a server that asks for a longer wait is given up
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_PROGRESS = 1 << 16  # bytes after which an interrupted transfer counts as a new one
_NEAR = 1 << 20  # bytes from the start that are skipped where the server knows no ranges
_HOPS = 5
_SLOWEST = 20_000  # bytes per second, after the first 30 seconds
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_ALL = re.compile(r"bytes \*/(\d{1,19})")

log = logging.getLogger("tidoctor")
wait = time.sleep  # replaced in tests

T = TypeVar("T")


Sink = Callable[[bytes], None]
"""Takes the bytes of a range in order."""


class Spilled(Exception):
    """A sink could not take what came: `error` says why."""

    def __init__(self, error: OSError) -> None:
        self.error = error


@cache
def _httpx() -> Any:
    """The client's HTTP library: imported late, looked up once, since its package finds names by
    importing modules every time."""
    from huggingface_hub.utils import httpx

    return httpx


@cache
def _errors() -> Any:
    from huggingface_hub import errors

    return errors


class _Elsewhere(Exception):
    """A file has to be had from another origin, at `url`."""

    def __init__(self, url: Any) -> None:
        self.url = url


class Piece(NamedTuple):
    """Bytes of a file, its size where the server tells it, its tag and where it really lies.

    That is an `httpx.URL`: parsing a signed address takes longer than all else of a request that is
    not waiting. `following` is the address at which a listing goes on.
    """

    data: bytes
    total: int | None
    etag: str
    url: Any
    following: str = ""


class Client:
    """Reads ranges of files whose addresses begin at one endpoint.

    `headers` may carry a token; it goes to the endpoint's own origin and nowhere else.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str], where: str) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session

        self.where = where
        self._session = get_session
        seconds = max(constants.HF_HUB_DOWNLOAD_TIMEOUT, 1)
        self._timeout = _httpx().Timeout(seconds, pool=PATIENCE)
        self._headers = dict(headers)
        self._origin = _origin(_url(endpoint))

    def range(
        self, url: Any, begin: int, end: int, *,
        etag: str = "", sink: Sink | None = None, stay: bool = False,
    ) -> Piece:  # fmt: skip
        """The bytes [begin, end) of a file at a text or `httpx.URL`, fewer when it ends before.

        With a `sink` they go there in order, as they come, and none are held; Spilled is raised
        when that fails. Told to `stay`, it does not follow to another origin: the answer is then
        without data and has the address there. Raises what huggingface_hub raises for a refusal,
        its `httpx.TransportError` when the connection fails to the end, and Unreadable for an
        answer that makes no sense.
        """
        httpx = _httpx()
        part = _Part(begin, end, etag, sink)
        url = _url(url)  # once for all attempts
        while not part.done:
            before = part.got
            try:
                persist(lambda: self._range(url, part, stay), self.where)
            except _Elsewhere as e:
                return Piece(b"", None, part.etag, e.url)
            except httpx.TransportError:
                if part.got - before < _PROGRESS:
                    raise
        return Piece(part.data, part.total, part.etag, part.url)

    def whole(self, url: str, most: int) -> Piece:
        """A whole small file, compressed on the way; at most `most` bytes of it are kept."""

        def get() -> Piece:
            with self._answer(url, {}) as response:
                data = bytearray()
                for chunk in _unhurried(response.iter_bytes(), most):
                    data += chunk
                    if len(data) > most:
                        break
                following = str(response.links.get("next", {}).get("url", ""))
                tag = _tag(response)
                return Piece(bytes(data[:most]), None, tag, response.url, following)

        return persist(get, self.where)

    def _range(self, url: Any, part: _Part, stay: bool) -> None:
        """One attempt at what is missing; what came before a failure is kept."""
        begin = part.begin + part.got
        asked = {"Range": f"bytes={begin}-{part.end - 1}", "Accept-Encoding": "identity"}
        with self._answer(url, asked, stay) as response:
            tag = _tag(response)
            if part.etag and tag and part.etag != tag:
                raise self._changed()
            part.etag = part.etag or tag
            part.url = response.url
            skip = 0
            if response.status_code == 416:
                found = _ALL.fullmatch(response.headers.get("Content-Range", ""))
                part.finish(int(found[1]) if found else begin)
                return
            if response.status_code == 206:
                part.total = self._checked(response, begin, part.end)
                part.end = min(part.end, part.total)
            elif begin > _NEAR:
                raise Unreadable(
                    self.where, "the server knows no ranges and would send the whole file",
                    "download the model and examine the copy",
                )  # fmt: skip
            else:
                skip = begin
                length = response.headers.get("Content-Length", "")
                encoded = response.headers.get("Content-Encoding")
                if length.isdigit() and not encoded:
                    part.total = int(length)
                    part.end = min(part.end, part.total)
            part.take(response, skip, ends=response.status_code == 200)

    def _checked(self, response: Any, begin: int, end: int) -> int:
        """The size of the file, when the answer is the range that was asked for."""
        said = response.headers.get("Content-Range", "")
        found = _RANGE.fullmatch(said)
        if found and not response.headers.get("Content-Encoding"):
            first, last, total = map(int, found.groups())
            if first == begin and last == min(end, total) - 1:
                return total
        raise Unreadable(
            self.where,
            f"the server answered with another range ({said[:60]!r}) than bytes {begin}-{end - 1}",
            "try again; behind a proxy, without it",
        )

    def _changed(self) -> Unreadable:
        return Unreadable(self.where, "a file changed while it was being read", "try again")

    @contextmanager
    def _answer(self, url: Any, more: Mapping[str, str], stay: bool = False) -> Iterator[Any]:
        """The answer at the end of all redirects; refusals are raised, and _Elsewhere to `stay`.

        They are followed here, so that the token goes to the endpoint's origin only: what counts as
        another host differs between versions of the client.
        """
        session = self._session()
        at = _url(url)
        for _ in range(_HOPS + 1):
            if at.scheme not in ("http", "https"):
                raise Unreadable(self.where, f"is redirected to a {at.scheme!r} address")
            headers = {k: v for k, v in self._headers.items() if self._may_carry(k, at)}
            request = session.build_request(
                "GET", at, headers={**headers, **more}, timeout=self._timeout
            )  # fmt: skip
            response = session.send(request, stream=True, follow_redirects=False)
            try:
                following = response.next_request  # whose headers are not those that it gets
                if response.status_code in _REDIRECTS and following is not None:
                    _drain(response)
                    at = following.url
                    if stay and not self.owns(at):
                        raise _Elsewhere(at)
                    continue
                if response.status_code not in (200, 206, 416):
                    _refuse(response)
                yield response
                return
            finally:
                response.close()
        raise Unreadable(self.where, "is redirected in a circle")

    def owns(self, url: Any) -> bool:
        """Whether an address is the endpoint's own."""
        return _origin(url) == self._origin

    def _may_carry(self, header: str, url: Any) -> bool:
        return header.lower() != "authorization" or self.owns(url)


class _Part:
    """A range on its way."""

    def __init__(self, begin: int, end: int, etag: str, sink: Sink | None) -> None:
        self.begin, self.end, self.etag, self._sink = begin, end, etag, sink
        self.total: int | None = None
        self.url: Any = None
        self._chunks: list[bytes] = []
        self.got = 0
        self._finished = end <= begin

    @property
    def done(self) -> bool:
        return self._finished or self.got >= self.end - self.begin

    @property
    def data(self) -> bytes:
        return b"".join(self._chunks)

    def _keep(self, chunk: bytes) -> None:
        if self._sink is None:
            self._chunks.append(chunk)
            return
        try:
            self._sink(chunk)
        except OSError as e:
            raise Spilled(e) from e

    def finish(self, total: int) -> None:
        """The file ends here."""
        self.total, self._finished = total, True

    def take(self, response: Any, skip: int, *, ends: bool) -> None:
        """Take from the body what is wanted; `ends` says that its end is that of the file."""
        want = self.end - self.begin
        packed = "Content-Encoding" in response.headers
        body = response.iter_bytes() if packed else response.iter_raw()
        for chunk in _unhurried(body, want):
            if skip:
                chunk, skip = chunk[skip:], max(0, skip - len(chunk))
            kept = chunk[: want - self.got]
            self._keep(kept)
            self.got += len(kept)
            if self.got >= want and (ends or len(kept) < len(chunk)):
                return  # the rest is not wanted; a range is read to its own end
        if ends and self.total is None:
            self.finish(self.begin + self.got)
        if not self.done:
            raise _httpx().ReadError(f"{want - self.got} bytes are missing")


def _unhurried(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The chunks of a body, unless they come so slowly that it would never end."""
    end = time.monotonic() + 30 + size / _SLOWEST
    for chunk in chunks:
        yield chunk
        if time.monotonic() > end:
            raise _httpx().ReadTimeout("the server sends too slowly")


def persist(act: Callable[[], T], where: str) -> T:
    """The result of `act`, tried again while the failure is one that may pass.

    Raises the last failure; that of a server which asks for a longer wait than a minute, at once.
    """
    httpx, errors = _httpx(), _errors()
    for attempt in range(1, TRIES + 1):
        try:
            return act()
        except errors.OfflineModeIsEnabled:
            raise
        except errors.HfHubHTTPError as e:
            pause = announced(e)
            if e.response is None or e.response.status_code not in RETRIED or attempt == TRIES:
                raise
            if pause is not None and pause > PATIENCE:
                raise
            _pause(pause, attempt, where, f"the server answered {e.response.status_code}")
        except httpx.ConnectError:
            if attempt >= 2:  # a host that is not there will not be there in a second
                raise
            _pause(None, attempt, where, "")
        except httpx.TransportError:
            if attempt == TRIES:
                raise
            _pause(None, attempt, where, "")
    raise AssertionError


def announced(error: Any) -> float | None:
    """How many seconds a server asks to wait, None when it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers

    response = error.response
    if response is None:
        return None
    said = response.headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said[:9])
    if said:
        import email.utils

        try:
            return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None
    if response.status_code != 429:
        return None
    try:
        limits = parse_ratelimit_headers(response.headers)
    except ValueError:
        return None
    return float(limits.reset_in_seconds) if limits and limits.remaining == 0 else None


_told_lock = threading.Lock()
_told_until = 0.0


def _pause(seconds: float | None, attempt: int, where: str, why: str) -> None:
    """Wait before the next attempt; tell of waits that a server asked for, once for all threads."""
    global _told_until
    if seconds is not None and seconds >= 1:
        with _told_lock:
            now = time.monotonic()
            if now >= _told_until:
                _told_until = now + seconds
                log.warning("%s: %s; waiting %.0f s", where, why, seconds)
    wait(seconds if seconds is not None else 0.25 * 2**attempt)


def _refuse(response: Any) -> None:
    """Raise the client's own exception for a refusal, having read little of its text."""
    from huggingface_hub.utils import hf_raise_for_status

    text = b""
    for chunk in response.iter_raw():
        text += chunk
        if len(text) > 1 << 16:
            break
    kept = {k: v for k, v in response.headers.items() if k.lower() not in _BODY}
    bare = _httpx().Response(
        response.status_code, headers=kept, content=text[: 1 << 16], request=response.request
    )
    hf_raise_for_status(bare)
    # What is neither an answer nor a refusal, such as 204 or a redirect to nowhere.
    raise Unreadable(str(response.url), f"the server answered {response.status_code}")


def _drain(response: Any) -> None:
    """Read a short body to its end, or the connection could not be used again."""
    if int(response.headers.get("Content-Length") or 0) <= 1 << 16:
        for _ in response.iter_raw():
            pass


_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _tag(response: Any) -> str:
    """The entity tag; a weak one names the same content."""
    return str(response.headers.get("ETag", "")).removeprefix("W/")


def _url(address: Any) -> Any:
    return _httpx().URL(address) if isinstance(address, str) else address


def _origin(url: Any) -> tuple[str, str, int | None]:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, port
