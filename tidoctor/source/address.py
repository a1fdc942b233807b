"""Which repository of the Hub a text names, if it names one.

    hf://org/name[@revision][/folder or file]     org/name[@revision]
    https://huggingface.co/org/name[/tree/revision/folder, /blob/revision/file, …]

The grammar of the long forms is that of huggingface_hub (`parse_hf_uri`); names of one segment
(`gpt2`), which that refuses and the Hub serves, are taken as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from tidoctor.errors import Unreadable
from tidoctor.names import printable

_SCHEME = "hf://"
ID = r"[A-Za-z0-9_][\w.\-]{0,95}"
_SHORT = re.compile(rf"(?P<repo>{ID}(?:/{ID})?)(?:@(?P<revision>[^\s@]+))?", re.ASCII)
_HOSTS = ("huggingface.co", "hf.co")


class Address(NamedTuple):
    """A model repository, a revision (None for the default branch) and a path in it ("" for all).

    `spelled_out` says that the text can mean nothing else.
    """

    repo: str
    revision: str | None
    path: str
    spelled_out: bool


def hub_address(text: str) -> Address | None:
    """The address that a text is, None when it is none.

    Raises Unreadable for one that cannot be a model's.
    """
    if text.startswith(_SCHEME):
        short = _SHORT.fullmatch(text.removeprefix(_SCHEME))
        if short and "/" not in short["repo"]:
            return Address(short["repo"], short["revision"], "", True)
        return _parsed(text)
    if text.startswith(("http://", "https://")):
        return _parsed(text) if _is_hub(text) else None
    if text.startswith(tuple(f"{host}/" for host in _HOSTS)):
        return _parsed(f"https://{text}")
    short = _SHORT.fullmatch(text)
    return Address(short["repo"], short["revision"], "", False) if short else None


def _is_hub(text: str) -> bool:
    """Whether the URL's host is the Hub's, or that of the endpoint in use."""
    from huggingface_hub import constants

    try:
        host, port = urlsplit(text).hostname, urlsplit(text).port
    except ValueError:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    return host in _HOSTS or (host, port) == (endpoint.hostname, endpoint.port)


def _parsed(text: str) -> Address:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    try:
        found = parse_hf_uri(text, endpoint=constants.ENDPOINT)
    except (HfUriError, ValueError) as e:
        raise Unreadable(
            printable(text), "is no address of a model", "write it as hf://org/name@revision/folder"
        ) from e
    if found.type != "model":
        raise Unreadable(printable(text), f"is a {found.type}, not a model")
    return Address(found.id, found.revision, found.path_in_repo.strip("/"), True)
