"""Puts what was learned into the data files."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.expression import FUNCTIONS
from tidoctor.atlas.learn.builds import type_name

DATA = Path(__file__).parent.parent / "layouts"
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_LANGUAGE = """
i j k l and or not in is None True False if else for value
"""
_WORDS = frozenset(_LANGUAGE.split()) | FUNCTIONS.keys()
# What of a rule for a field is an expression.
RULES = ("default", "always", "missing", "null", "given")
HOLDING = frozenset({"prelu", "xielu"})  # activations that hold parameters


def folder_of(thing: Any) -> str:
    """The model folder of a class of transformers: `llama`."""
    parts = str(thing.__module__).split(".")
    return parts[2] if parts[:2] == ["transformers", "models"] and len(parts) > 2 else "generic"


def source_of(folder: str) -> str:
    """A digest of what the library has in a model folder: facts hold as long as it is the same."""
    import transformers

    whole = hashlib.sha256()
    models = Path(transformers.__file__).parent / "models" / folder
    for path in sorted(models.glob("*.py")):
        if path.name.startswith(("modeling_", "configuration_")):
            whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def expressions(facts: Mapping[str, Any]) -> Iterator[str]:
    """Every expression of a class's facts, and every field it is pinned by."""
    for key in ("memory", "disk"):
        layout = facts.get(key, {})
        yield from layout.get("counts", {}).values()
        yield from layout.get("pinned", ())
        for row in layout.get("tensors", {}).values():
            several = row and isinstance(row, list) and isinstance(row[0], dict)
            for each in row if several else [row]:
                if isinstance(each, dict):
                    yield each.get("if", "None")
                    yield from each["shape"]
                else:
                    yield from each
    for _, _, guard in facts.get("ties", ()):
        if isinstance(guard, str):
            yield guard
    yield from facts.get("pinned", ())
    yield from facts.get("most", ())
    yield from facts.get("least", ())
    yield from facts.get("lengths", ())
    yield from facts.get("words", ())


def names_in(text: str) -> set[str]:
    """The fields an expression reads, dotted."""
    bare = re.sub(r"'(?:[^'\\]|\\.)*'", "''", text)
    return {each for each in _NAME.findall(bare) if each not in _WORDS}


def compared_in(text: str) -> dict[str, set[Any]]:
    """Field -> the constants that an expression compares it with."""
    found: dict[str, set[Any]] = {}
    for node in ast.walk(ast.parse(text.strip(), mode="eval")):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            constants = {e.value for e in sides if isinstance(e, ast.Constant)}
            for each in sides:
                if isinstance(each, ast.List | ast.Tuple):
                    constants |= {m.value for m in each.elts if isinstance(m, ast.Constant)}
            for each in sides:
                if constants and not isinstance(each, ast.Constant):
                    for name in names_in(ast.unparse(each)):
                        found.setdefault(name, set()).update(constants)
    return found


def fields_of(
    class_name: str, learned: Mapping[str, Mapping[str, Any]], depth: int = 5
) -> set[str]:
    """The fields that a class reads, dotted; those that its parts read of its config included."""
    facts = learned.get(class_name)
    if facts is None or not depth:
        return set()
    found = {name for text in expressions(facts) for name in names_in(text)}
    for key in ("memory", "disk"):
        for part in facts.get(key, {}).get("parts", ()):
            if "class" in part:
                before = part["config"] + "." if part["config"] else ""
                found |= {before + n for n in fields_of(part["class"], learned, depth - 1)}
    return found


def wanted_fields(
    learned: Mapping[str, Mapping[str, Any]], parts: Callable[[str], Mapping[str, Any]]
) -> dict[str, set[str]]:
    """Model type -> fields that some class reads; `parts` gives the sub-configs of a type."""
    found: dict[str, set[str]] = {}
    for class_name, facts in learned.items():
        found.setdefault(facts["config"], set())
        for name in sorted(fields_of(class_name, learned)):
            if name:
                model_type = facts["config"]
                follow(name, model_type, parts, found)
    return found


def inner_fields(
    configs: Mapping[str, Mapping[str, Any]], parts: Callable[[str], Mapping[str, Any]]
) -> dict[str, set[str]]:
    """Model type -> fields of it that the facts about the configs around it read."""
    found: dict[str, set[str]] = {}
    for model_type, row in configs.items():
        rules = [*row["fields"].values()]
        rules += [rule for part in row.get("parts", {}).values()
                  for rule in part.get("sets", {}).values()]  # fmt: skip
        for rule in rules:
            texts = [rule] if isinstance(rule, str) else [rule.get(k) for k in RULES]
            for name in {each for text in texts if text for each in names_in(text)}:
                if "." in name:
                    follow(name, model_type, parts, found)
    return found


def follow(
    name: str, model_type: str, parts: Callable[[str], Mapping[str, Any]],
    found: dict[str, set[str]],
) -> None:
    """Add a dotted field to those of the config class that has it."""
    *way, last = name.split(".")
    for step in way:
        part = parts(model_type).get(step)
        if part is None:
            return
        model_type = type_name(type(part))
        found.setdefault(model_type, set())
    if last != "model_type":
        found.setdefault(model_type, set()).add(last)


def parts_of(facts: Mapping[str, Any]) -> Iterator[str]:
    """Classes that a class always has as parts."""
    for key in ("memory", "disk"):
        for part in facts.get(key, {}).get("parts", ()):
            if "class" in part:
                yield part["class"]


def from_timm(
    model_type: str, configs: Mapping[str, Mapping[str, Any]], seen: tuple[str, ...] = ()
) -> bool:
    """Whether a config has a part that timm builds: the learner puts a stand-in in its place."""
    if model_type.startswith("timm"):
        return True
    if model_type in seen or model_type not in configs:
        return False
    parts = configs[model_type].get("parts", {}).values()
    return any(from_timm(str(part.get("type")), configs, (*seen, model_type)) for part in parts)


def stands_in(name: str, learned: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a class or a part of it has the one layer of the stand-in for a timm model."""
    facts = learned.get(name, {})
    return any("timm_model." in each for each in facts.get("memory", {}).get("tensors", ())) or any(
        stands_in(each, learned) for each in parts_of(facts) if each != name
    )


def write(
    root: Path,
    learned: Mapping[str, dict[str, Any]],
    absent: Mapping[str, str],
    configs: Mapping[str, dict[str, Any]],
    kinds: Mapping[str, Any],
) -> None:
    """Write one file per model folder, and the index.

    A class of whose config nothing is known can answer nothing: it is absent, and so is an
    abstract one without tensors.
    """
    import transformers

    root.mkdir(exist_ok=True, parents=True)
    for old in root.glob("*.json"):
        old.unlink()
    files: dict[str, dict[str, Any]] = {}
    classes: dict[str, str] = {}
    types: dict[str, str] = {}
    absent = dict(absent)
    for name, facts in sorted(learned.items()):
        if facts["config"] not in configs:
            absent[name] = f"nothing is known of configs of the model type {facts['config']}"
            continue
        if not facts["memory"].get("tensors") and not facts["memory"].get("parts"):
            absent[name] = "it has no tensors of its own"
            continue
        if from_timm(facts["config"], configs) or stands_in(name, learned):
            absent[name] = "Unbuildable: a part of it comes from timm, which a stand-in replaced"
            continue
        folder = folder_of(learner.model_class(name))
        classes[name] = folder
        files.setdefault(folder, {}).setdefault("classes", {})[name] = facts
    for model_type, row in sorted(configs.items()):
        folder = folder_of(kinds[model_type])
        types[model_type] = folder
        files.setdefault(folder, {}).setdefault("configs", {})[model_type] = row
    for folder, content in sorted(files.items()):
        content = {"source": source_of(folder)} | content
        (root / f"{folder}.json").write_text(spread(content), encoding="ascii")
    index = {
        "learned_from": {"transformers": transformers.__version__},
        "classes": classes,
        "configs": types,
        "absent": dict(sorted(absent.items())),
    }
    (root / "index.json").write_text(spread(index, 2), encoding="ascii")


def publish(staged: Path, root: Path = DATA) -> None:
    """Replace the data files by staged ones; only files that changed are touched."""
    root.mkdir(exist_ok=True)
    fresh = {path.name: path.read_bytes() for path in staged.glob("*.json")}
    for name, content in fresh.items():
        path = root / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for old in root.glob("*.json"):
        if old.name not in fresh:
            old.unlink()


def spread(value: Any, depth: int = 5, indent: str = "") -> str:
    """JSON with one line per tensor, field or class, so that differences can be read."""
    if depth and isinstance(value, dict) and value and len(packed(value)) > 60:
        inner = indent + " "
        rows = [
            f"{inner}{packed(key)}: {spread(each, depth - 1, inner)}" for key, each in value.items()
        ]
        text = "{\n" + ",\n".join(rows) + "\n" + indent + "}"
    else:
        text = packed(value)
    return text + ("\n" if not indent else "")


def packed(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, separators=(",", ":"))
