"""The models of one owner on the Hub that a pattern stands for: `org/*`, `org/Llama-*@main`.

A listing says which there are and which of them have files to look at; nothing else is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.source.address import ID
from tidoctor.source.kinds import WEIGHT_SUFFIX
from tidoctor.source.refusals import host, refusal
from tidoctor.source.transfer import Client

_PATTERN = re.compile(
    rf"(?P<scheme>hf://)?(?P<owner>{ID})/(?P<glob>[\w.\-*?\[\]!]*[*?\[][\w.\-*?\[\]!]*)"
    r"(?P<revision>@[^\s@]+)?",
    re.ASCII,
)
_MODEL = re.compile(rf"{ID}/{ID}", re.ASCII)
_PAGE = 64_000_000  # bytes of one page of a listing, which has a thousand models at most
_PAGES = 200  # the largest owners have some ten thousand models


class Pattern(NamedTuple):
    """The names of an owner's models, by a glob; `before` and `after` are kept around them."""

    before: str
    owner: str
    glob: str
    after: str


class Models(NamedTuple):
    """What matches, in the order of the names: models with weights in safetensors, and others."""

    weighty: list[str]
    others: list[str]


def pattern(text: str) -> Pattern | None:
    """The pattern that a text is, None when it is none."""
    found = _PATTERN.fullmatch(text)
    if found is None:
        return None
    return Pattern(found["scheme"] or "", found["owner"], found["glob"], found["revision"] or "")


def models(text: str, wanted: Pattern) -> Models:
    """The models that a pattern stands for. Raises Unreadable when there are none, or no answer."""
    where, matching = printable(text), {}
    try:
        for row in _rows(wanted.owner, where):
            name = row["id"]
            # What a server calls a model must be one of this owner's, not a path or an option.
            owner, _, own = name.partition("/")
            theirs = _MODEL.fullmatch(name) and owner.lower() == wanted.owner.lower()
            if theirs and fnmatchcase(own, wanted.glob):
                matching[name] = _has_weights(row)
    except Unreadable:
        raise
    except Exception as e:
        raise refusal(e, wanted.owner, None, text) from e
    names = sorted(matching)
    found = Models(
        [f"{wanted.before}{n}{wanted.after}" for n in names if matching[n]],
        [n for n in names if not matching[n]],
    )
    if not names:
        what = f"nothing here matches, and no model of {wanted.owner} on {host()} does"
        raise Unreadable(where, what, "check the spelling; for private models set HF_TOKEN")
    if not found.weighty:
        what = f"none of the {len(names)} models that match has a {WEIGHT_SUFFIX} file"
        raise Unreadable(where, what, "only these can be examined")
    return found


def _has_weights(row: dict[str, Any]) -> bool:
    """Whether there is anything to examine; where the listing leaves files out, opening tells."""
    files = row.get("siblings")
    if not isinstance(files, list):
        return True
    return any(str(file["rfilename"]).endswith(WEIGHT_SUFFIX) for file in files)


def _rows(owner: str, where: str) -> Iterator[dict[str, Any]]:
    """Every model of an owner, page by page.

    The client's own `list_models` waits without end for a server that stalls.
    """
    from huggingface_hub import constants, is_offline_mode
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import build_hf_headers

    from tidoctor import __version__

    if is_offline_mode():
        raise OfflineModeIsEnabled("a listing needs the Hub")
    headers = build_hf_headers(library_name="tidoctor", library_version=__version__)
    client = Client(constants.ENDPOINT, headers, where)
    query = urlencode({"author": owner, "expand": ["siblings"]}, doseq=True)
    address = f"{constants.ENDPOINT}/api/models?{query}"
    for _ in range(_PAGES):
        page = client.whole(address, _PAGE)
        yield from json.loads(page.data)
        if not page.following:
            return
        address = page.following
    raise Unreadable(where, "the listing does not end", "name the models, or fewer")
