"""A result that a process left unfinished, continued where what it fetched is proven.

A journal in the hidden folder says of every file with bytes from the Hub how far it had come: which
bytes of which file of which commit stand in it, and their SHA-256. The next run with the same
destination takes the folder over. A file that it plans out of the same bytes is kept, everything
else is removed; of what is kept, all that still has the digest in the journal is not fetched again.
Nothing is taken from the journal but where to look: what is there is read, and digested.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from tidoctor.assembly import Part, Piece
from tidoctor.errors import Unreadable
from tidoctor.names import printable
from tidoctor.pouring import Marks
from tidoctor.source.distant import Distant
from tidoctor.staging import Stage, is_plain, remove, settle

log = logging.getLogger("tidoctor")

JOURNAL = ".tidoctor.journal"
WORTH = 64 << 20  # fetched bytes for which an unfinished result stays; less comes again in no time
_LONGEST = 32 << 20  # bytes of a journal that is read; 8 MB of a result take one line of 200


class Journal:
    """What of the files in a hidden folder has come, and what of that an earlier run had fetched.

    `held` is the number of bytes that the folder takes on the disk before anything is written,
    `kept` that of those that go on to be used, `come` that of those fetched since. Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recipes: dict[str, str] = {}
        self._marks: dict[tuple[str, str, int], list[tuple[int, str]]] = defaultdict(list)
        self._handle = -1
        self._staying: set[str] = set()
        self._ends: dict[tuple[str, int], int] = {}
        self.held = self.kept = self.come = 0
        for line in _lines(folder / JOURNAL):
            self._read(line)
        names = {JOURNAL, *(name for name, _, _ in self._marks)}
        ours = {name for name in names if _ours(folder, name)}
        _clear(folder, ours)
        self._goes_on = JOURNAL in ours
        self.held = sum(_allotted((folder / name).lstat()) for name in ours)

    def _begin(self, parts: Iterable[Part]) -> None:
        """Keep those files that these are made of the same bytes as, and write on from here."""
        parts = tuple(parts)
        self._recipes = {p.name: text for p in parts if (text := _recipe(p)) is not None}
        if not self._recipes or any(p.name == JOURNAL for p in parts):
            self._recipes = {}
            _clear(self._folder, set())
            return
        known = {(name, recipe) for name, recipe, _ in self._marks}
        self._staying = {
            name for name, recipe in self._recipes.items()
            if (name, recipe) in known and (self._folder / name).exists()
        }  # fmt: skip
        _clear(self._folder, {*self._staying, JOURNAL})
        self.kept = sum(_on_disk(self._folder / name) for name in self._staying)
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        flags |= 0 if self._goes_on else os.O_CREAT | os.O_EXCL
        self._handle = os.open(self._folder / JOURNAL, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
        os.write(self._handle, b"\n")  # whatever was written last may have no end

    def continues(self, part: Part) -> bool:
        """Whether the file of a part is there already, with some of its bytes."""
        return part.name in self._staying

    def marks(self, part: Part, number: int) -> Marks:
        """Those of one of the pieces of a part."""
        recipe = self._recipes.get(part.name)
        if recipe is None or _origin(part.pieces[number]) is None:
            return Marks()
        known = self._marks.get((part.name, recipe, number), ()) if self.continues(part) else ()
        begin = part.pieces[number].span.begin
        self._ends[part.name, number] = max((end for end, _ in known), default=begin)
        return Marks(known, partial(self._note, part.name, recipe, number))

    @contextmanager
    def lasting(self, stage: Stage, parts: Iterable[Part]) -> Iterator[None]:
        """Write these parts; let the folder stay when many bytes are there and no more come.

        That is when they cannot be read, or at Ctrl-C; it is told. Other errors, such as a full
        disk, are not mended by going on. What was there before stays until it is known what of it
        is used.
        """
        self._begin(parts)
        stage.stays = False
        try:
            yield
        except (Unreadable, KeyboardInterrupt):
            if self.kept + self.come >= WORTH:
                stage.stays = True
                log.warning(
                    "what came is kept in %s: the same command goes on from there",
                    printable(str(stage.folder)),
                )
            raise

    def end(self) -> None:
        """The result is complete and on the disk: the journal goes."""
        if self._handle >= 0:
            (self._folder / JOURNAL).unlink()
            self.close()
            settle(self._folder)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _note(self, name: str, recipe: str, number: int, end: int, sha256: str) -> None:
        row = json.dumps([name, recipe, number, end, sha256])
        os.write(self._handle, row.encode("ascii") + b"\n")
        self.come += max(0, end - self._ends[name, number])
        self._ends[name, number] = end

    def _read(self, line: bytes) -> None:
        try:
            name, recipe, number, end, sha256 = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            return  # the last one may have been cut off
        kinds = [type(value) for value in (name, recipe, number, end, sha256)]
        if kinds == [str, str, int, int, str] and _inner(name):
            self._marks[name, recipe, number].append((end, sha256))


def _lines(path: Path) -> list[bytes]:
    """The lines of a journal of our own, none where there is no such file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return []
    with os.fdopen(handle, "rb") as f:
        if not is_plain(os.fstat(handle)):
            return []
        return f.read(_LONGEST).split(b"\n")


def _allotted(status: os.stat_result) -> int:
    """Bytes that a file takes on the disk, those behind its end too that wait for more of it."""
    return getattr(status, "st_blocks", 0) * 512


def _on_disk(path: Path) -> int:
    """Bytes of a file that are there; one with holes has less than its size."""
    status = path.lstat()
    return min(status.st_size, _allotted(status))


def _inner(name: str) -> bool:
    path = PurePath(name)
    outside = not path.parts or path.is_absolute() or path.drive or ".." in path.parts
    # Half a surrogate pair, which JSON can spell and a file system may not know.
    written = not any("\ud800" <= letter <= "\udfff" for letter in name)
    return not outside and written and "\0" not in name


def _ours(folder: Path, name: str) -> bool:
    """Whether there is a file of our own that no link leads to and nobody else has a name for.

    A file that someone put there may be one that must not be written to.
    """
    path = folder / name
    try:
        inner = [folder / part for part in PurePath(name).parents]
        return not any(p.is_symlink() for p in inner) and is_plain(path.lstat())
    except OSError:
        return False


def _recipe(part: Part) -> str | None:
    """A text that is the same for files of the same bytes; None when none of them are the Hub's.

    Of others only the number counts: they are written anew.
    """
    origins = [_origin(piece) for piece in part.pieces]
    if not any(origins):
        return None
    import hashlib

    rows = [[piece.size, origin] for piece, origin in zip(part.pieces, origins, strict=True)]
    text = json.dumps([part.name, hashlib.sha256(part.head).hexdigest(), rows])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _origin(piece: Piece) -> list[Any] | None:
    """The bytes of a commit that a piece is, None when it is something else."""
    span, source = piece.span, piece.span.source
    if piece.tensor or not isinstance(source, Distant):
        return None
    if source.repository is None or source.revision is None:
        return None
    listed = source.listed(span.file)
    digest = listed.sha256 if listed else None
    path = source.inside + span.file
    return [source.repository, source.revision, path, span.begin, span.end, digest]


def _clear(folder: Path, staying: set[str], inner: str = "") -> bool:
    """Remove all but these files of a folder, and folders with none of them; whether any stays."""
    stays = False
    with os.scandir(folder / inner) as found:
        entries = list(found)
    for entry in entries:
        name = inner + entry.name
        if entry.is_dir(follow_symlinks=False):
            if _clear(folder, staying, f"{name}/"):
                stays = True
                continue
        elif name in staying:
            stays = True
            continue
        remove(Path(entry.path))
    return stays
