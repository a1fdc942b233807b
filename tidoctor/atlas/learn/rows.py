"""The facts of every class in a folder of data files, and which of them changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas.learn.write import expressions, parts_of


class Rows(Mapping[str, Any]):
    """The facts of every class in a folder of data."""

    def __init__(self, root: Path) -> None:
        self.index = json.loads((root / "index.json").read_text())
        self._files = {p.stem: json.loads(p.read_text()) for p in root.glob("*.json")}

    def __getitem__(self, name: str) -> Any:
        return self._files[self.index["classes"][name]]["classes"][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.index["classes"])

    def __len__(self) -> int:
        return len(self.index["classes"])

    def config(self, model_type: str) -> Any:
        """The facts about a model type."""
        return self._files[self.index["configs"][model_type]]["configs"].get(model_type)

    def intricacy(self, name: str) -> int:
        """How much a class has to say for itself: where that is much, more can be wrong."""
        return sum(map(len, {str(text) for text in expressions(self[name])}))

    def digest(self, name: str) -> str:
        """Of everything that the answers about a class hang on."""
        known: set[str] = set()
        texts: list[str] = []
        left = [name]
        while left:
            each = left.pop()
            if each in known or each not in self.index["classes"]:
                continue
            known.add(each)
            row = {k: v for k, v in self[each].items() if k != "verified"}
            texts.append(str(self._files[self.index["classes"][each]].get("source")))
            texts.append(json.dumps(row, sort_keys=True))
            left += parts_of(row)
            if row["config"] in self.index["configs"]:
                texts.append(json.dumps(self.config(row["config"]), sort_keys=True))
        return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def changed(root: Path, former: Path | None) -> list[str]:
    """Classes whose facts, or the library's files for them, are others than in former data."""
    now = Rows(root)
    if former is None:
        return list(now)
    before = Rows(former)
    return [n for n in now if n not in before or before.digest(n) != now.digest(n)]


def parts_in(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of parts in memory."""
    return list(row.get("memory", {}).get("parts", ()))
