"""Which module may import which: the direction of the design, read from the syntax trees."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tidoctor"

# A module imports only from its own rank and from ranks before it.
RANKS = (
    ("buffers", "errors", "names", "finding", "form"),
    ("patterns", "wrappers"),
    ("casting", "document", "dtypes", "header", "headercolumns", "headertext", "isolation",
     "jsonscan", "sniff", "source"),
    ("tensors",),
    ("checkpoint", "opening", "pieced", "merging"),
    ("manifest",),
    ("atlas", "loaders", "promise"),
    ("rules",),
    ("expecting", "opinion", "settings", "baseline", "many", "promising"),
    ("filing", "sharding"),
    ("draft",),
    ("layout",),
    ("plan",),
    ("handles",),
    ("pouring", "staging"),
    ("copying",),
    ("ground", "carrying"),
    ("assembly",),
    ("destination", "continuing", "verification", "writer", "comparison"),
    ("donors", "tying", "forming", "kinship"),
    ("cures",),
    ("variants",),
    ("repairs",),
    ("retie",),
    ("shipping",),
    ("report",),
    ("checkup", "completion", "demo"),
    ("cli",),
    ("process",),
    ("__main__",),
)
RANK = {room: i for i, rooms in enumerate(RANKS) for room in rooms}

# Third-party libraries and the rooms that may import them.
HOMES = {
    "typer": ("cli",),
    "rich": ("report",),
    "huggingface_hub": ("source",),
    "fsspec": ("source",),
    "safetensors": (),
    "numpy": ("casting", "kinship", "merging", "rules", "atlas.learn"),
    # `atlas.installed` is a program that only ever runs in a process of its own: `opinion` starts
    # it by its file name when a user asks for the library that is there.
    "torch": ("atlas.learner", "atlas.learn", "atlas.installed"),
    "transformers": ("atlas.learner", "atlas.learn", "atlas.installed"),
}
# Rooms of one package whose modules do not know each other's siblings beyond these.
RULE_HELPERS = {
    "alternatives", "causes", "ends", "fitted", "fitting", "fusions", "judging", "likeness", "packing",
    "renaming", "rule", "statistics", "subject", "tie", "values", "view", "wording",
}  # fmt: skip

MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether at module level) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for inner in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) not in late) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "tidoctor":
                found += [(f"tidoctor.{a.name}", id(node) not in late) for a in node.names]
            else:
                found.append((module, id(node) not in late))
    return found


@pytest.mark.parametrize("path", MODULES, ids=[dotted(p) or "tidoctor" for p in MODULES])
def test_a_module_imports_only_in_the_direction_of_the_design(path: Path) -> None:
    here = dotted(path)
    room = here.partition(".")[0]
    if not room:  # the package itself holds the library verbs and imports all of it late
        assert not [m for m, early in imports(path) if m.startswith("tidoctor") and early and
                    m.removeprefix("tidoctor.") in RANK]
        return
    assert room in RANK, f"{room} has no rank: which room does it belong to?"
    for module, _ in imports(path):
        if module.startswith("tidoctor."):
            other = module.removeprefix("tidoctor.").partition(".")[0]
            if other in RANK:
                assert RANK[other] <= RANK[room], f"{here} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=[dotted(p) or "tidoctor" for p in MODULES])
def test_libraries_stay_in_their_rooms_and_are_imported_late(path: Path) -> None:
    here = dotted(path)
    for module, early in imports(path):
        library = module.partition(".")[0]
        if library in ("tidoctor", "__future__") or library in sys.stdlib_module_names:
            continue
        assert library in HOMES, f"{here} imports {library}, which no room may"
        homes = HOMES[library]
        rooms = (here, here.rpartition(".")[0], here.partition(".")[0])
        assert any(room in homes for room in rooms), f"{here} imports {library}"
        # typer carries the command line itself; the learners are scripts of their own
        if library != "typer" and not here.startswith("atlas.learn"):
            assert not early, f"{here} imports {library} at module level"


def test_families_of_rules_know_only_what_they_share() -> None:
    for path in (PACKAGE / "rules").glob("*.py"):
        if path.stem == "__init__":
            continue
        for module, _ in imports(path):
            if module.startswith("tidoctor.rules."):
                assert module.removeprefix("tidoctor.rules.") in RULE_HELPERS, (path.stem, module)
            assert module not in ("tidoctor.plan", "tidoctor.report", "tidoctor.source"), path.stem


def test_findings_know_nothing_of_plans() -> None:
    assert not [m for m, _ in imports(PACKAGE / "finding.py") if m.startswith("tidoctor")]
