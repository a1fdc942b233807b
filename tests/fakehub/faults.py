"""What can go wrong on the way, on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Action = Literal[
    "status",  # answer with `status`
    "reset",  # send `after` bytes of the body, then reset the connection
    "short",  # announce the whole body, send `after` bytes, close in good order
    "stall",  # send `after` bytes of the body, then nothing more
    "ignore-range",  # 200 with the whole file
    "shift",  # another range than asked for, honestly announced
    "etag",  # another ETag than before
    "total",  # a Content-Range with another size of the file
    "redirect",  # send the client to `location`
]


@dataclass
class Fault:
    """One fault: `what` matches the file of the request, or its path for the API."""

    action: Action
    what: str = "*"
    where: Literal["any", "api", "hub", "cdn"] = "any"
    times: int | None = None  # None: always
    status: int = 503
    after: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    when: Callable[[], bool] = lambda: True

    def strikes(self, where: str, what: str) -> bool:
        """Whether it happens now; counts."""
        if self.times == 0 or self.where not in ("any", where):
            return False
        if not fnmatchcase(what, self.what) or not self.when():
            return False
        if self.times is not None:
            self.times -= 1
        return True
