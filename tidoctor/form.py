"""The form that a result takes: how its files come about, not what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Link = Literal["auto", "hard", "never"]
"""How files that do not change get to the result.

Sharing extents where the file system can, else by copy; as hard links; or by copy at any price.
"""


@dataclass(frozen=True, slots=True)
class Form:
    """What was asked for.

    `link` says how files that do not change get there.
    """

    link: Link = "auto"


PLAIN = Form()
