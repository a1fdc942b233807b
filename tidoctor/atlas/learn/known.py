"""Facts about classes by name: what the cache has, what shipped data say, else learned now."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tidoctor.atlas import learner
from tidoctor.atlas.learn import checked, siblings
from tidoctor.atlas.learn.mending import ABSENT, COUNTERS, limited, limits_at
from tidoctor.atlas.learn.shipped import NOTHING, shipped, still_true


class Run(NamedTuple):
    """How classes are learned.

    Attributes:
        cache: the folder that keeps what is finished.
        begin: the folder of the data files that learning begins with, if any.
        workers: processes.
        seconds: sampling time per class.
    """

    cache: Path
    begin: Path | None
    workers: int
    seconds: float


class Known(Mapping[str, Any]):
    """Facts about classes by name: from the cache, else learned now."""

    def __init__(self, run: Run) -> None:
        import transformers

        self.cache, self.seconds = run.cache, run.seconds
        self._shipped = shipped(run.begin) if run.begin else NOTHING
        self._version = transformers.__version__
        self._held: dict[str, Any] = {}
        self._busy: list[str] = []

    def row(self, name: str) -> dict[str, Any]:
        """The facts, or {"absent": reason}."""
        if name in self._held:
            return dict(self._held[name])
        path = self.cache / f"{name}.json"
        if path.exists():
            row = json.loads(path.read_text())
        elif name in self._busy:
            return {ABSENT: "part of itself"}
        else:
            row = self._learned(name)
            written = path.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps(row))
            written.replace(path)
        self._held[name] = row = completed(self.cache, name, row)
        return dict(row)

    def forget(self, name: str) -> str:
        """Learn a class anew when it is asked for; the text of what was known of it."""
        self._held.pop(name, None)
        path = self.cache / f"{name}.json"
        text = path.read_text()
        path.unlink()
        return text

    def remember(self, name: str, text: str) -> None:
        """Take back what was known of a class."""
        self._held.pop(name, None)
        (self.cache / f"{name}.json").write_text(text)

    def _learned(self, name: str) -> dict[str, Any]:
        from tidoctor.atlas.learn.classes import learn
        from tidoctor.atlas.learn.forms import Inexpressible

        self._busy.append(name)
        path = self.cache / COUNTERS / f"{name}.json"
        counters = json.loads(path.read_text()) if path.exists() else []
        try:
            row = still_true(name, self._shipped, self._version, counters, self)
            return row or learn(name, self, self.seconds, counters)
        except (Inexpressible, learner.Unbuildable) as reason:
            return {ABSENT: f"{type(reason).__name__}: {reason}"[:300]}
        except Exception as error:
            traceback.print_exc()
            return {ABSENT: f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        finally:
            self._busy.remove(name)

    def __getitem__(self, name: str) -> Any:
        row = self.row(name)
        if ABSENT in row:
            raise KeyError(name)
        return row

    def __contains__(self, name: object) -> bool:
        from tidoctor.atlas.learn.builds import population

        return isinstance(name, str) and name in population() and ABSENT not in self.row(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def completed(cache: Path, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The facts with what was checked by hand, and limits that a verification made necessary."""
    if ABSENT in row:
        return row
    row = siblings.sound(checked.pinned(name, checked.guarded(name, row)))
    return limited(row, limits_at(cache, name))
