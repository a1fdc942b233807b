"""`[tool.tidoctor]` of the nearest pyproject.toml: what a project always asks for, and waivers.

Specification of the table: https://packaging.python.org/en/latest/specifications/pyproject-toml/
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tidoctor.errors import Unreadable, Usage
from tidoctor.finding import Diagnosis, Finding, Severity, Waived
from tidoctor.names import brief

NAME = "pyproject.toml"
CAP = 4_000_000  # bytes; nobody writes such a file by hand
_DOTS = 200  # in one line outside of strings; a dotted key takes time by the square of its parts
_ASIDE = re.compile(r"""\"[^"]*\"|'[^']*'|#.*""")
_LISTS = ("select", "ignore", "for")
_KEYS = (*_LISTS, "fail-on", "waive")
_WAIVER_KEYS = ("code", "source", "reason")
FAIL_ON = (*(str(s) for s in reversed(Severity)), "never")


class Waiver(NamedTuple):
    """Findings that a project accepts, and why.

    `codes` are those of rules, `source` a pattern for names of sources in which `*` also stands
    for slashes, `by` the file that says so.
    """

    codes: frozenset[str]
    source: str
    reason: str
    by: str


class Settings(NamedTuple):
    """The table as it was written, checked; an empty one where there is none."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    loaders: tuple[str, ...] = ()
    fail_on: str = str(Severity.ERROR)
    waivers: tuple[Waiver, ...] = ()

    def apply(self, found: Diagnosis, source: str) -> Diagnosis:
        """The diagnosis of a source in which accepted findings no longer count."""
        known = {id(f): w for f in found.findings if (w := self._waiver(f, source))}
        if not known:
            return found
        return replace(
            found,
            findings=tuple(f for f in found.findings if id(f) not in known),
            waived=(
                *found.waived,
                *(
                    Waived(f, known[id(f)].reason, known[id(f)].by)
                    for f in found.findings
                    if id(f) in known
                ),
            ),
        )

    def overruled(
        self,
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
        loaders: Sequence[str] = (),
        fail_on: str | None = None,
    ) -> Settings:
        """The settings with what a command line gives in place of what is written."""
        return Settings(
            tuple(select) or self.select,
            tuple(ignore) or self.ignore,
            tuple(loaders) or self.loaders,
            fail_on or self.fail_on,
            self.waivers,
        )

    def _waiver(self, finding: Finding, source: str) -> Waiver | None:
        name = source.replace(os.sep, "/").removeprefix("./").rstrip("/")
        return next(
            (w for w in self.waivers
             if finding.code in w.codes and (fnmatchcase(name, w.source) or source == w.source)),
            None,
        )  # fmt: skip


def load(config: Path | None = None, *, isolated: bool = False) -> Settings:
    """The settings of a file; without one, those of the nearest pyproject.toml that has some.

    `isolated` reads nothing. Raises Usage for what the table may not hold, and for a file without
    one; Unreadable for a file that cannot be read.
    """
    if config is not None:
        if isolated:
            raise Usage("--isolated", "contradicts --config", "give one of them")
        table = _table(config, _text(config), strict=True)
        if table is None:
            raise Usage(str(config), "has no table [tool.tidoctor]", "add it, or give another file")
        return _settings(config, table)
    if isolated:
        return Settings()
    for path in _upwards():
        text = _text(path)
        if "tidoctor" in text and (table := _table(path, text, strict=False)) is not None:
            return _settings(path, table)
    return Settings()


def _upwards() -> Iterator[Path]:
    """Every pyproject.toml from the current folder upwards, by a short name."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / NAME
        try:
            there = path.is_file()
        except OSError:  # a folder above that may not be looked into holds none of ours
            continue
        if there:
            yield Path(NAME) if folder == here else path


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(CAP + 1)
    except OSError as e:
        hint = "mend it, or pass --isolated to go without"
        raise Unreadable(str(path), f"cannot be read ({e.strerror})", hint) from e
    if len(data) > CAP:
        raise Unreadable(str(path), f"has more than {CAP} bytes")
    return data.decode("utf-8", "replace")


def _table(path: Path, text: str, *, strict: bool) -> Mapping[str, object] | None:
    import tomllib

    try:
        if any(_ASIDE.sub("", line).count(".") > _DOTS for line in text.splitlines()):
            raise ValueError("a key has too many parts")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as e:
        told = str(e) or "nested too deeply"
        hint = "mend it" if strict else "mend it, or pass --isolated"
        raise Usage(str(path), f"is not TOML: {told}", hint) from e
    tool = document.get("tool")
    table = tool.get("tidoctor") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise Usage(str(path), "tool.tidoctor is not a table")
    return table


def _settings(path: Path, table: Mapping[str, object]) -> Settings:
    from tidoctor import rules
    from tidoctor.loaders import asked

    where = f"{path} [tool.tidoctor]"
    _refuse_others(where, table, _KEYS)
    select, ignore, loaders = (_strings(where, key, table.get(key)) for key in _LISTS)
    fail_on = table.get("fail-on", str(Severity.ERROR))
    if not isinstance(fail_on, str) or fail_on not in FAIL_ON:
        raise Usage(where, f"fail-on is {brief(repr(fail_on))}", f"one of {', '.join(FAIL_ON)}")
    try:
        rules.chosen([*select, *ignore])
        asked(loaders)
    except Usage as e:
        raise Usage(f"{where}: {e.where}", e.what, e.hint) from e
    waive = table.get("waive", [])
    if not isinstance(waive, list):
        raise Usage(where, "waive is not a list of tables", "write [[tool.tidoctor.waive]]")
    waivers = tuple(_waiver(path, number, row) for number, row in enumerate(waive, 1))
    return Settings(select, ignore, loaders, fail_on, waivers)


def _waiver(path: Path, number: int, row: object) -> Waiver:
    from tidoctor import rules

    where = f"{path} [[tool.tidoctor.waive]] {number}"
    if not isinstance(row, dict):
        raise Usage(where, "is not a table")
    _refuse_others(where, row, _WAIVER_KEYS)
    reason, source = row.get("reason"), row.get("source", "*")
    if not isinstance(reason, str) or not reason.strip():
        raise Usage(where, "has no reason", "say why, in a sentence for those who come after")
    if not isinstance(source, str) or not source:
        raise Usage(where, "source is not a pattern", 'such as source = "models/*"')
    code = row.get("code")
    if not isinstance(code, str):
        raise Usage(where, "has no code", 'such as code = "H02"')
    try:
        codes = rules.chosen([code])
    except Usage as e:
        raise Usage(f"{where}: {e.where}", e.what, e.hint) from e
    pattern = source.removeprefix("./").rstrip("/") or source
    return Waiver(codes, pattern, reason.strip(), path.name)


def _strings(where: str, key: str, value: object) -> tuple[str, ...]:
    """A list of strings, or one string with commas, as on the command line."""
    if isinstance(value, str):
        value = value.split(",")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) and v.strip() for v in value):
        raise Usage(where, f"{key} is not a list of strings", f'such as {key} = ["H02"]')
    return tuple(v.strip() for v in value)


def _refuse_others(where: str, table: Mapping[str, object], known: tuple[str, ...]) -> None:
    for key in table:
        if key in known:
            continue
        key = brief(key)
        near = difflib.get_close_matches(key.replace("_", "-"), known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise Usage(where, f"unknown key '{key}'", hint)
