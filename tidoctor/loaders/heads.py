"""What each way of choosing an output head comes to.

A policy answers four situations: the flag that the consumer reads ties or not, and a head is in the
files or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Use = Literal["own", "tied", "lacks", "surplus", "none"]
"""The head in the file; the embedding; it asks for a head that is not used or not there; it stops
at a head that it has no place for; it goes on without any head."""


class Policy(NamedTuple):
    """What serves as head, by situation, and the same in words."""

    tied_absent: Use
    tied_present: Use
    untied_present: Use
    untied_absent: Use
    words: str

    def use(self, tied: bool | None, present: bool) -> Use | None:
        """What serves as head; None where that depends on a flag that is not known."""
        ways = (self.tied_present, self.untied_present)
        if not present:
            ways = (self.tied_absent, self.untied_absent)
        if tied is None:
            return ways[0] if ways[0] == ways[1] else None
        return ways[0] if tied else ways[1]


POLICIES: Mapping[str, Policy] = {
    "explicit": Policy(
        "lacks", "own", "own", "lacks", "reads the head from the file, whatever the flag says"
    ),
    "flag": Policy(
        "tied", "tied", "own", "lacks", "takes the embedding when the flag says so, else the head"
    ),
    "flag-strict": Policy(
        "tied", "surplus", "own", "lacks",
        "takes the embedding when the flag says so, and then refuses a head in the file",
    ),
    "presence": Policy(
        "tied", "own", "own", "tied",
        "takes the head if there is one, else the embedding, whatever the flag says",
    ),
    "presence-then-flag": Policy(
        "tied", "own", "own", "lacks",
        "takes the head if there is one, else the embedding if the flag says so",
    ),
    "flag-then-presence": Policy(
        "tied", "tied", "own", "tied",
        "takes the embedding when the flag says so or when there is no head",
    ),
    "embedding": Policy(
        "tied", "tied", "tied", "tied", "always takes the embedding and passes over a head"
    ),
    "embedding-strict": Policy(
        "tied", "surplus", "surplus", "tied", "always takes the embedding and refuses a head"
    ),
    "unplaced": Policy(
        "tied", "surplus", "surplus", "lacks",
        "takes the embedding when the flag says so, and refuses a head in the file in any case",
    ),
    "unread-when-tied": Policy(
        "lacks", "lacks", "own", "lacks",
        "builds a head of its own and skips the one in the file when the flag ties",
    ),
    "unread-when-untied": Policy(
        "tied", "tied", "lacks", "lacks",
        "takes the embedding when the flag says so, and else never reads the head",
    ),
    "copied": Policy(
        "tied", "own", "own", "none", "carries over a head if there is one, and else writes none"
    ),
}  # fmt: skip
"""Every way of choosing a head, by the name that the data uses."""
