"""What a file that has no safetensors header is instead, told by its size and its first bytes."""

from __future__ import annotations

import re
from typing import Literal

from tidoctor.headertext import quoted

FileDefect = Literal[
    "file-empty", "too-short", "lfs-pointer", "html", "not-safetensors", "all-zero",
    "header-truncated", "header-too-large",
]  # fmt: skip
"""Why the file is none, or its header cannot be had; the library refuses each of them."""

_MAGIC = {
    b"PK\x03\x04": "a zip archive, such as torch.save writes",
    b"\x80\x02": "a pickle, such as an old torch.save wrote",
    **{bytes([0x80, protocol]): "a pickle" for protocol in (3, 4, 5)},
    b"GGUF": "a GGUF file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x1f\x8b": "gzip data",
    b"\x28\xb5\x2f\xfd": "zstandard data",
}
_POINTER = re.compile(rb"oid sha256:([0-9a-f]{64})\s+size ([0-9]{1,20})\b")


def unfit(head: bytes, length: int, size: int, cap: int) -> tuple[FileDefect, str] | None:
    """Why a file of `size` bytes has no whole header of a legal length; None if it has.

    `head` is its beginning, at least eight bytes if there are as many, and `length` what these say:
    the bytes of JSON, legal up to `cap`. The text is a sentence fragment that is safe to print.
    """
    if size <= 0:
        return "file-empty", "the file is empty"
    if len(head) < 8:
        return "too-short", f"the file has {size:,} bytes, the length in front alone needs 8"
    if not any(head):
        zero = f"the first {len(head):,} of {size:,} bytes are zero, as in an unfinished download"
        return "all-zero", zero
    if length <= min(cap, size - 8):
        return None
    # A legal length has four zero bytes at its end; text and the containers below have not.
    if (other := _lookalike(head)) is not None:
        return other
    if length <= cap:
        return "header-truncated", cut_off(length, size - 8)
    if head[8:].lstrip(b" \t\r\n").startswith(b"{"):
        declared = f"a header of {length:,} bytes is declared, readers allow {cap:,}"
        return "header-too-large", declared
    unknown = f"the first 8 bytes ({head[:8].hex()}) are no header length and no known signature"
    return "not-safetensors", unknown


def cut_off(length: int, present: int) -> str:
    """Says that the file ends inside its header, after `present` of `length` bytes."""
    return f"a header of {length:,} bytes is declared, the file ends after {present:,} of them"


def _lookalike(head: bytes) -> tuple[FileDefect, str] | None:
    """What the file is instead, judged by its first bytes."""
    if head.startswith(b"version https://git-lfs"):
        found = _POINTER.search(head)
        known = f"sha256 {found[1].decode()}, {int(found[2]):,} bytes" if found else "unreadable"
        return "lfs-pointer", f"the file is a git-lfs pointer in place of the real file ({known})"
    for magic, name in _MAGIC.items():
        # Two bytes alone may as well be the low end of a length.
        if head.startswith(magic) and (len(magic) > 2 or any(head[4:8])):
            return "not-safetensors", f"the file is {name}"
    words = " ".join(head[:400].decode("utf-8", "replace").strip("\ufeff\ufffd").split())
    if not words or "\ufffd" in words or not words.isprintable():
        return None
    excerpt = quoted(words, 60)
    if words.startswith("<"):
        return "html", f"the file is an HTML or XML page ({excerpt})"
    if words.startswith(("{", "[")):
        return "not-safetensors", f"the file is JSON text without a length in front ({excerpt})"
    return "not-safetensors", f"the file is plain text ({excerpt})"
