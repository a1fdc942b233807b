"""Where in a repository a finding is shown: a line of a text file, never a spot in a weight file.

GitHub shows an annotation or an alert at a line of a file. Weight files have no lines, so that a
finding about one is placed at the entry of the index, or the key of config.json, that betrays it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tidoctor.checkpoint import CONFIG

if TYPE_CHECKING:
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.document import Document
    from tidoctor.finding import Finding

_LINE = re.compile(r"(?P<file>[^/:]+\.json):(?P<line>[1-9][0-9]{0,8})")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_WINDOWS = os.name == "nt"  # elsewhere `C:` is a folder like any other
_LOCAL = frozenset({"folder", "file", "index"})
_KEYS = ("tie_word_embeddings", "architectures", "model_type")


class Place(NamedTuple):
    """A file of the checkpoint; `line` from 1, None without one; `width` its length in characters.

    `speaks_of` is the file that the finding itself names, where it is another one.
    """

    file: str
    line: int | None = None
    width: int = 0
    speaks_of: str = ""


def place(checkpoint: Checkpoint, finding: Finding) -> Place:
    """The line that shows a finding best."""
    texts = _texts(checkpoint)
    own = finding.location.file if finding.location else ""
    for file, line in _lines(checkpoint, finding, texts):
        if line is not None:
            width = len(_line(texts[file], line)) if file in texts else 0
            return Place(file, line, width, own if own and own != file else "")
    if own:
        return Place(own)
    if CONFIG in texts:
        return Place(CONFIG, 1, len(_line(texts[CONFIG], 1)))
    first = checkpoint.weights[0].name if checkpoint.weights else next(iter(checkpoint.files), "")
    return Place(first)


def _texts(checkpoint: Checkpoint) -> dict[str, Document]:
    texts = {CONFIG: checkpoint.config} if checkpoint.config else {}
    if checkpoint.index:
        texts[checkpoint.index.file] = checkpoint.index.document
    return texts


def _lines(
    checkpoint: Checkpoint, finding: Finding, texts: dict[str, Document]
) -> list[tuple[str, int | None]]:
    """Candidates, the best first."""
    found: list[tuple[str, int | None]] = []
    if finding.location:
        found.append((finding.location.file, finding.location.line))
    for one in finding.evidence:
        if (m := _LINE.fullmatch(one.where)) and m["file"] in texts:
            found.append((m["file"], int(m["line"])))
    index = checkpoint.index
    if index:
        own = finding.location.file if finding.location else ""
        named = next((t for t in finding.tensors if t in index.weight_map), None)
        held = next((t for t, file in index.weight_map.items() if own and file == own), None)
        found += [
            (index.file, index.document.line("weight_map", tensor))
            for tensor in (named, held)
            if tensor is not None
        ]
    config = checkpoint.config
    if config:
        found += [(CONFIG, config.line(key)) for key in _KEYS if key in checkpoint.settings]
    return found


def _line(document: Document, line: int) -> str:
    lines = re.split(r"\r\n?|\n", document.text)
    return lines[line - 1] if 0 < line <= len(lines) else ""


def path(checkpoint: Checkpoint, name: str, file: str = "") -> str:
    """A file of a source as a path from the root of the repository, where it lies in one.

    The root is GITHUB_WORKSPACE, else the current folder. `name` is what the source is called, or
    the folder that was written; a source that is not local keeps its name.
    """
    own = name == checkpoint.source.name
    if own and checkpoint.source.kind not in _LOCAL:
        return f"{name.rstrip('/')}/{file}" if file else name
    folder = Path(name)
    if own and checkpoint.source.kind in ("file", "index"):
        folder = folder.parent
    return rooted(folder / file if file else folder)


def rooted(local: Path) -> str:
    """A local path from the root of the repository, with slashes; absolute when it lies outside."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or ".")
    whole = Path(os.path.normpath(Path.cwd() / local))
    try:
        return whole.relative_to(os.path.normpath(Path.cwd() / root)).as_posix()
    except ValueError:
        return whole.as_posix()


def uri(text: str) -> str:
    """A path or URL as a URI reference, RFC 3986: `file://` for an absolute path."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogatepass")
    if _SCHEME.match(text):
        return quote(raw, safe="/:@?#&=%+,;~")
    escaped = quote(raw, safe="/~")
    if _WINDOWS and PureWindowsPath(text).drive.endswith(":"):
        return f"file:///{quote(raw, safe='/~:')}"
    return f"file://{escaped}" if text.startswith("/") else escaped or "."
