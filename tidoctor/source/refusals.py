"""What the Hub, or the way to it, said no with: as one sentence and what to do about it."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import urlsplit

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.transfer import announced


def refusal(error: Exception, repo: str, revision: str | None, name: str) -> Unreadable:
    """The sentence for what the client raised while it dealt with a repository.

    `name` is what the user called it. No token and no signed address gets into the text.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    where = printable(name)
    page = f"{urlsplit(constants.ENDPOINT).scheme}://{host()}/{repo}"
    if isinstance(error, errors.GatedRepoError):
        said = "is gated: its files are for those who were given access"
        return Unreadable(where, f"{said}, and {_identity()} has none", f"ask for it at {page}")
    if isinstance(error, errors.DisabledRepoError):
        return Unreadable(where, "was disabled by the Hub", f"see {page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        what = f"no such model on {host()}, or a private one that {_identity()} may not see"
        return Unreadable(where, what, "check the spelling; for a private one set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        what = f"{repo} has no revision {printable(str(revision))}"
        return Unreadable(where, what, f"see {page}/refs; a commit is given in full")
    if isinstance(error, errors.HfHubHTTPError):
        return _by_status(error, where)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unreadable(where, "is needed from the Hub, but HF_HUB_OFFLINE is set", "unset it")
    if isinstance(error, httpx.TransportError):
        return Unreadable(where, *_no_connection(error))
    if isinstance(error, errors.HFValidationError):
        return Unreadable(where, "is no name that a repository can have", "check the spelling")
    what = f"{host()} answered with what is no description of a model ({type(error).__name__})"
    return Unreadable(where, what, "check HF_ENDPOINT, and whether a proxy asks for a login")


def _by_status(error: Exception, where: str) -> Unreadable:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    if status == 401:
        return Unreadable(where, f"{host()} does not accept {_identity()}", "renew or unset it")
    if status == 403:
        return Unreadable(where, f"{host()} forbids it to {_identity()}", "ask its owner")
    if status == 429:
        pause = announced(error)
        again = f"in {pause:.0f} s" if pause is not None else "in a few minutes"
        hint = f"try again {again}"
        if _identity() == _NOBODY:
            hint += "; with a token (HF_TOKEN) the limit is higher"
        return Unreadable(where, f"{host()} has had too many requests from here", hint)
    if status >= 500:
        return Unreadable(where, f"{host()} is in trouble (status {status})", "try again later")
    if status == 404:
        return Unreadable(where, f"is not to be found on {host()}", "check the spelling")
    return Unreadable(where, f"{host()} refuses it (status {status})", "check the address")


def _no_connection(error: Exception) -> tuple[str, str]:
    from huggingface_hub.utils import httpx

    if isinstance(error, httpx.TimeoutException):
        return f"{host()} does not answer in time", "try again"
    if isinstance(error, httpx.ConnectError):
        hint = "check the network; HF_HUB_OFFLINE=1 uses what the cache has"
        return f"{host()} cannot be reached ({_cause(error)})", hint
    return f"the connection to {host()} breaks off ({_cause(error)})", "try again"


def _cause(error: BaseException) -> str:
    """What the operating system said at the bottom of it."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, socket.gaierror):
            return "its name is not known"
        if isinstance(chain, OSError) and chain.strerror and not hasattr(chain, "response"):
            return printable(chain.strerror.lower())
        chain = chain.__cause__ or chain.__context__
    return _WORD.sub(lambda m: " " + m[0].lower(), type(error).__name__).strip()


_WORD = re.compile(r"[A-Z]")


def host() -> str:
    """The Hub, as its address names it."""
    from huggingface_hub import constants

    return printable(urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2])


_NOBODY = "an anonymous user"


def _identity() -> str:
    """Whose word is given: which token, never the token itself."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return _NOBODY
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(variable, "").strip():
            return f"the token in {variable}"
    return "the token of the saved login" if get_token() else _NOBODY
