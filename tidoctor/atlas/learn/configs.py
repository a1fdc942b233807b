"""Learns how config.json becomes field values: defaults, derived defaults, sub-configs, aliases.

Nothing here needs a model: config objects are cheap, so every statement is checked on dozens of
raw configs. A field whose value could not be explained is left out, and the facts that need it
then do not apply.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tidoctor.atlas.expectation import ASIDE
from tidoctor.atlas.expression import parse
from tidoctor.atlas.learn import checked
from tidoctor.atlas.learn.builds import extra_defaults, flattened, nested, type_name
from tidoctor.atlas.learn.dotted import put
from tidoctor.atlas.learn.fit import Fitter, Vocabulary
from tidoctor.atlas.learn.trying import alternatives
from tidoctor.atlas.learn.universe import WRONG, NoFit, Patience, Universe

Raw = dict[str, Any]
THREE = {"0": "a", "1": "b", "2": "c"}
PLAIN = (bool, int, float, str, type(None), list)


def config_classes() -> Mapping[str, Any]:
    """Model type -> config class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    found = {}
    for model_type in CONFIG_MAPPING_NAMES:
        try:
            found[model_type] = CONFIG_MAPPING[model_type]
        except Exception:
            continue
    return found


@functools.cache
def kinds() -> Mapping[str, Any]:
    """The same with the sub-configs that have no model type of their own, by `type_name`."""
    found = dict(config_classes())
    for kind in list(found.values()):
        try:
            inside = [each for _, each in nested(kind())]
        except Exception:
            continue
        for each in inside:
            found.setdefault(type_name(type(each)), type(each))
    return found


def spelled(text: str) -> bool:
    """Whether a text is of the language of the data; an object inside a list is not."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


class Config:
    """One config class under examination."""

    def __init__(self, kind: Any, counters: Iterable[Raw] = ()) -> None:
        """`counters` are raw configs on which former facts were wrong."""
        self.kind = kind
        self.counters = list(counters)
        self.plain = kind()
        self.values = flattened(self.plain)
        self.parts = {
            key: value
            for key, value in vars(self.plain).items()
            if hasattr(value, "model_type") and hasattr(value, "to_dict")
        }
        self.random = random.Random(kind.model_type)
        self.words, self.extras = spoken(kind)

    def made(self, raw: Raw) -> dict[str, Any] | None:
        """Fields of the config object, None where the library refuses."""
        return flattened_or_none(self.kind, raw)

    def facts(
        self, wanted: Iterable[str], below: Mapping[str, Iterable[str]] | None = None
    ) -> dict[str, Any]:
        """The row of the data file.

        Args:
            wanted: the fields of this level that some class reads.
            below: the same for the model types of sub-configs.
        """
        row: dict[str, Any] = {}
        spellings = self.kind.attribute_map
        aliases = {other: name for other, name in spellings.items() if self.heeds(other, name)}
        if aliases:
            row["aliases"] = dict(sorted(aliases.items()))
        fields = {}
        for name in sorted(set(wanted)):
            fact = self.fact(name)
            if fact is not None:
                fields[name] = fact
        parts = {key: self.part(key, value) for key, value in sorted(self.parts.items())}
        for key, value in self.parts.items():
            imposed = self.imposed(key, value, (below or {}).get(type_name(type(value)), ()))
            imposed |= checked.SETS.get(f"{type_name(self.kind)}.{key}", {})
            if imposed:
                parts[key]["sets"] = imposed
        # What a derived default reads must be known as well, and what is handed to a sub-config.
        handed = [each["sets"] for each in parts.values() if "sets" in each]
        for _ in range(4):
            read = {
                each
                for fact in [*fields.values(), *handed]
                for each in re.findall(r"[A-Za-z_]\w*(?:\.\w+)*", json.dumps(fact))
                if "." not in each and (each in self.values or each in self.extras)
            }
            for name in sorted(read - fields.keys() - {"value", "num_labels", "id2label"}):
                fact = self.fact(name)
                if fact is not None:
                    fields[name] = fact
        row["fields"] = dict(sorted(fields.items()))
        usual = {
            key: self.values[key]
            for key in sorted((ASIDE & self.values.keys()) - {"head_dim", *fields, *aliases})
            if isinstance(self.values[key], PLAIN) and self.values[key] not in (None, False, -1)
        }
        if usual:
            row["usual"] = usual
        if "head_dim" in self.values and not {"head_dim"} & (fields.keys() | aliases.keys()):
            row["idle"] = ["head_dim"]  # declared, and no class of it makes anything of it
        known = {*row["fields"], *parts, *aliases, *(part["instead"] for part in parts.values()
                 if "instead" in part)}  # fmt: skip
        inside = [
            f"{key}.{name}" for key, value in self.parts.items()
            for name in (below or {}).get(type_name(type(value)), ())
        ]  # fmt: skip
        strange = [each for each in sorted(self.extras - known - self.plain.to_dict().keys())
                   if self.strange(each, [*row["fields"], *inside])]  # fmt: skip
        extras = extra_defaults(self.kind) if strange else {}
        told = {each: extras.get(each) for each in strange}
        plain = self.plain.to_dict()
        told |= {each: plain[each] for each in checked.STRANGE.get(type_name(self.kind), ())}
        if told:
            row["strange"] = told
        for key in getattr(self.kind, "sub_configs", {}) or {}:
            if key not in parts and self.values.get(key, 0) is None:
                optional = self.optional_part(key)
                if optional:
                    parts[key] = optional
        if parts:
            row["parts"] = parts
        if type_name(self.kind) in checked.LAYERED:
            row["layered"] = checked.LAYERED[type_name(self.kind)]
        return row

    def heeds(self, other: str, name: str) -> bool:
        """Whether a number given under another name arrives, as it does unless a later one wins."""
        value = self.values.get(name)
        made = self.made({other: value + 1}) if type(value) is int else None
        return made is None or made.get(name) != value

    # --- sub-configs ---

    def part(self, key: str, value: Any) -> dict[str, Any]:
        """Which config a key holds."""
        row: dict[str, Any] = {"type": type_name(type(value))}
        for other in ("gpt2", "llama", "clip_vision_model", "vit", "whisper"):
            if other != value.model_type:
                made = self.made({key: {"model_type": other}})
                if made is not None and made.get(f"{key}.model_type") == other:
                    row["open"] = True
                    break
        default = difference(value)
        if default:
            row["default"] = default
        lifted = self.lifted(key, value)
        if lifted:
            row["lifted"] = lifted
        if self.instead(key, value):
            row["instead"] = f"{key}_dict"
        return row

    def instead(self, key: str, value: Any) -> bool:
        """Whether an older key, where it is given, takes the place of a whole sub-config."""
        for name, number in flattened(value).items():
            if type(number) is int and number > 16 and "." not in name:
                old, own = {f"{key}_dict": {name: 2 * number}}, {key: {name: 3 * number}}
                made = [self.made(raw) for raw in (old, own, own | old, own | {f"{key}_dict": {}})]
                if None not in made:
                    seen = [(each or {}).get(f"{key}.{name}") for each in made]
                    return seen == [2 * number, 3 * number, 2 * number, number]
        return False

    def strange(self, extra: str, fields: Iterable[str]) -> bool:
        """Whether a key that is no field changes some field, in a way that is not known.

        Also where no value was found that the class takes: then nothing can be said of it.
        """
        counts = {len(each) for each in self.values.values() if isinstance(each, list)}
        counts |= {self.values.get("num_hidden_layers", 1), 1}
        tries: list[Any] = [0, 1, 2, 3, 64, True, False, 0.5, "1", "1,2", {}, []]
        tries += sorted(self.words)
        tries += [[each] * n for n in sorted(counts) if type(n) is int for each in (0, 1, 4, 2.0)]
        tries += [{name: 3} for name in (*self.values, *self.extras) if "." not in name][:60]
        taken = [made for each in tries if (made := self.made({extra: each})) is not None]
        return not taken or any(
            made.get(name) != self.values.get(name) for made in taken for name in fields
        )

    def optional_part(self, key: str) -> dict[str, Any] | None:
        """A sub-config that is None unless it is given."""
        declared = self.kind.sub_configs[key]
        name = getattr(declared, "model_type", "")
        if name in kinds():
            made = self.made({key: {}})
            if made is not None and made.get(f"{key}.model_type") == name:
                return {"type": name, "none": True}
        return None

    def imposed(self, key: str, part: Any, fields: Iterable[str]) -> dict[str, Any]:
        """Fields of a sub-config that follow from what stands outside of it.

        `always` whatever it says itself, `default` where it says nothing, `missing` where it
        does not have the key; null where the rule was not found.
        """
        found: dict[str, Any] = {}
        for field in sorted(fields):
            name = f"{key}.{field}"
            default = self.values.get(name)
            if name not in self.values or not isinstance(default, PLAIN):
                continue
            options = alternatives(default)[:4]
            made = [(each, self.made({key: {field: each}})) for each in options]
            alone = [flattened_or_none(type(part), {field: each}) for each in options]
            taken = [
                (values[name], each)
                for (each, values), own in zip(made, alone, strict=True)
                if values is not None and own is not None and own.get(field) == each
            ]
            kept = all(value == each for value, each in taken)
            outside = [o for o in self.influences(name) if not o.startswith(key + ".")]
            if kept and not outside:
                if self.merged(key, part, field) and (text := literal(default)) is not None:
                    found[field] = {"missing": text}
                continue
            text, held = self.absent(name)
            if held:
                text = None
            if kept and all(self.survives(key, field, each, outside) for each in options):
                found[field] = {"default": text}
            elif not kept and all(value == default for value, _ in taken):
                found[field] = {"always": text}
            else:
                found[field] = {"always": None}
        return found

    def merged(self, key: str, part: Any, field: str) -> bool:
        """Whether a sub-config that is given keeps a default that is not its own.

        Not for a field that follows from others of the sub-config: its own rule tells it.
        """
        name, said = f"{key}.{field}", {"bos_token_id": 1}
        made, own = self.made({key: said}), flattened_or_none(type(part), said)
        if made is None or own is None or any(o != name for o in self.influences(name)):
            return False
        return bool(made.get(name) == self.values[name] != own.get(field))

    def survives(self, key: str, field: str, choice: Any, outside: list[str]) -> bool:
        """Whether what a sub-config says of a field counts, whatever is said outside."""
        for other in outside:
            for option, _ in self.effects[other][:4]:
                raw: Raw = {key: {field: choice}}
                put(raw, other, option)
                made = self.made(raw)
                if made is not None and made.get(f"{key}.{field}") != choice:
                    return False
        return True

    def lifted(self, key: str, value: Any) -> list[str]:
        """Keys that move down into the part when a flat config gives them at the top."""
        found = []
        for name, number in flattened(value).items():
            if type(number) is int and "." not in name and name not in self.values:
                made = self.made({name: number + 64})
                if made is not None and made.get(f"{key}.{name}") == number + 64:
                    found.append(name)
        return sorted(found)

    # --- one field ---

    def fact(self, name: str) -> Any:
        """What the field is: as it was checked by hand, else as it is found."""
        known = checked.FIELDS.get(type_name(self.kind), {})
        if name in known:
            return known[name]
        fact = self.labels() if name == "num_labels" else self.field(name)
        if isinstance(fact, str) and not spelled(fact):
            return None
        former = self.former(name) if fact is not None else {}
        if former:
            row: dict[str, Any] = {"default": fact} if isinstance(fact, str) else dict(fact or {})
            fact = row | {"former": former}
        return fact

    def former(self, name: str) -> dict[str, str]:
        """Former words for the members of a list, with what the library makes of each."""
        from transformers.configuration_utils import _LEGACY_LAYER_TYPE_REMAP as table

        default = self.values.get(name)
        if not isinstance(default, list) or not default or not isinstance(default[0], str):
            return {}
        found = {}
        for old, new in table.items():
            for rest in ([old] * len(default[1:]), default[1:]):  # some need one of each
                made = self.made({name: [old, *rest]})
                if made is not None and (made.get(name) or [None])[0] == new:
                    found[old] = new
        return found

    def labels(self) -> dict[str, Any] | None:
        """What the number of labels is, by itself and by the names of the labels.

        In most config classes a number that the file gives wins over the names, in a few the names
        do, and some make nothing of them (transformers 5.23, configuration_utils.py).
        """
        raws: tuple[Raw, ...] = (
            {}, {"num_labels": 5}, {"id2label": THREE}, {"num_labels": 5, "id2label": THREE},
        )  # fmt: skip
        none, number, names, both = ((self.made(raw) or {}).get("num_labels") for raw in raws)
        if type(none) is not int or number != 5:
            return None
        if names == none != 3 and both == 5:
            return {"default": str(none)}
        row = {"default": f"len(id2label) if id2label is not None else {none}"}
        if names == 3 and both == 5:
            return row
        if names == both == 3:
            return row | {"given": "len(id2label) if id2label is not None else value"}
        return None

    def field(self, name: str) -> Any:
        """What the field is, None where no statement holds."""
        default = self.values.get(name)
        if name not in self.values:
            if name in self.extras:
                return repr(extra_defaults(self.kind).get(name))
            made = [self.made({name: each}) for each in (1, 2)]
            if all(m is not None and m.get(name) == v for m, v in zip(made, (1, 2), strict=True)):
                return {"default": "None", "null": None}
            return None
        if not isinstance(default, PLAIN):
            return {"default": "None", "opaque": True} if default is None else None
        others, most = alternatives(default), 12
        if not others and isinstance(default, list):  # of one word; whichever the class knows
            others, most = alternatives(default, set(self.words)), 60
        if isinstance(default, list) and default:
            others = [*others[:8], default[:-1], [*default, default[0]], *others[8:]]
        given = [(each, self.made({name: each})) for each in others[:most]]
        tried = [(each, made) for each, made in given if made is not None]
        kept = all(made.get(name) == each for each, made in tried)
        absent, held = self.absent(name)
        if absent is None:
            return {"default": None} if kept and tried else None
        null = self.made({name: None})
        row: dict[str, Any] = {"default": absent}
        seen = {
            other: sorted({str(each) for each in [self.values.get(other), *choices]})
            for other, choices in self.influences(name).items()
            if isinstance(self.values.get(other), str) and re.search(rf"\b{other}\b", absent)
        } | held
        if seen:
            row["seen"] = seen
        if null is not None and null.get(name) is None and default is not None:
            row["null"] = "None"
        elif null is not None and null.get(name) != default:
            told, pins = self.absent(name, {name: None})
            if told is None or pins:
                return None
            row["null"] = told
        elif null is not None and type(default) is int and self.follows(name):
            told, pins = self.absent(name, {name: None})
            if (told, pins) != (absent, held):
                row["null"] = None if pins else told
        if tried and not kept:
            text = self.given(name, tried, absent)
            if text is not None and self.holds(name, row | {"given": text}):
                row["given"] = text
            elif all(made.get(name) == default for _, made in tried) and not self.namesakes(name):
                row = {"always": absent} | ({"seen": seen} if seen else {})
            else:
                return None
        if not self.holds(name, row):
            text = None if "given" in row or "always" in row else self.given(name, tried, absent)
            if text is None or not self.holds(name, row | {"given": text}):
                return None
            row["given"] = text
        return absent if row == {"default": absent} else row

    def follows(self, name: str) -> bool:
        """Whether a number that is null follows from another field, whose default it has."""
        others = [key for key, value in self.values.items()
                  if type(value) is int and "." not in key and key in self.effects]  # fmt: skip
        tries = ({name: None, key: self.effects[key][0][0]} for key in others if key != name)
        taken = [made for raw in tries if (made := self.made(raw)) is not None]
        return any(made.get(name) != self.values[name] for made in taken)

    def namesakes(self, name: str) -> list[str]:
        """Flags of the same name in sub-configs."""
        below = [f"{key}.{name}" for key in self.parts]
        return [each for each in below if isinstance(self.values.get(each), bool)]

    def given(
        self, name: str, tried: list[tuple[Any, dict[str, Any]]], absent: str = ""
    ) -> str | None:
        """How the config class changes what the file gives: a list is cut, or its end is set.

        `absent` is what the field is when the file does not give it.
        """
        default = self.values[name]
        if isinstance(default, bool):
            # Set here or in a sub-config, as it is with the tie of the embeddings.
            inside = self.namesakes(name)
            return f"value or {inside[0]}" if len(inside) == 1 else None
        # A key that is no field wins over the field: `1536 if width is None else width`.
        key = absent.rpartition(" else ")[2]
        if key in self.extras and f" if {key} is None" in absent:
            return f"value if {key} is None else {key}"
        if type(default) is int:
            return f"value or {absent}" if absent else None  # nought counts as not given
        if not isinstance(default, list) or not default:
            return None
        candidates = [f"value[:-1] + [{default[-1]!r}]"]
        for other, number in self.values.items():
            if type(number) is int and number == len(default) and "." not in other:
                candidates += [f"value[:{other}]", f"value[:{other} - 1] + [{default[-1]!r}]"]
        for text in candidates:
            rows = [self.beside({}) | made | {"value": each} for each, made in tried]
            found = Universe(rows, [(at,) for at in range(len(rows))]).evaluate(text)
            if found == [made[name] for _, made in tried]:
                return text
        return None

    def absent(
        self, name: str, stated: Raw | None = None
    ) -> tuple[str | None, dict[str, list[str]]]:
        """The expression for the value of a field that the file does not give, or gives as null.

        Beside it the fields, with their value as text, to which it is bound because it follows
        from them in a way that was not found.
        """
        others = self.influences(name)
        start = dict(stated or {})
        first = self.made(start)
        if first is None:
            return None, {}
        if stated:
            others = {each: rows for each, rows in self.effects_of(start, name).items() if rows}
        held: dict[str, list[str]] = {}
        while others:
            text = self.derived(name, start, others)
            if text is not None:
                return text, held
            # Words and lists first: numbers are what models vary most.
            worst = min(others, key=lambda each: (type(first.get(each)) is int, each))
            if worst in self.extras or "." in worst:
                return None, {}
            held[worst] = [str(first.get(worst))]
            del others[worst]
        return literal(first.get(name)), held

    def derived(self, name: str, start: Raw, others: Mapping[str, list[Any]]) -> str | None:
        """An expression for a field over those that change it."""
        raws: list[Raw] = [start]
        values = [self.beside(start) | (self.made(start) or {})]
        seen = set()
        for number in range(160):
            raw: Raw = copy.deepcopy(start)
            chosen = list(others) if number < 40 else sorted(others)
            for other in self.random.sample(chosen, self.random.randint(1, min(5, len(chosen)))):
                put(raw, other, self.random.choice(others[other]))
            key = json.dumps(raw, sort_keys=True, default=str)
            if key in seen:
                continue
            seen.add(key)
            made = self.made(raw)
            if made is not None and name in made:
                raws.append(raw)
                values.append(self.beside(raw) | made)
        for raw in self.counters:
            made = self.made(raw) if raw.get(name) is None else None
            if made is not None and name in made and (name in raw) == (name in start):
                values.append(self.beside(raw) | made)
        wanted = [each[name] for each in values]
        inputs = [{k: v for k, v in each.items() if k != name} for each in values]
        return explained(inputs, wanted, sorted(others))

    def beside(self, raw: Raw) -> dict[str, Any]:
        """The keys that are no fields, as a raw config gives them."""
        usual = dict.fromkeys(self.extras) | extra_defaults(self.kind)
        return {key: raw.get(key, usual[key]) for key in self.extras}

    def influences(self, name: str) -> dict[str, list[Any]]:
        """Other fields that change this one while it is not given, with values to try."""
        found: dict[str, list[Any]] = {}
        for other, rows in self.effects.items():
            if other != name and any(name in touched for _, touched in rows):
                found[other] = [choice for choice, _ in rows]
        return found

    def effects_of(self, start: Raw, name: str) -> dict[str, list[Any]]:
        """Keys whose change touches one field, beginning at another raw config."""
        found: dict[str, list[Any]] = {}
        plain = self.made(start) or {}
        for other, rows in self.effects.items():
            for choice, _ in rows:
                raw = copy.deepcopy(start)
                put(raw, other, choice)
                made = self.made(raw)
                if other != name and made is not None and made.get(name) != plain.get(name):
                    found[other] = [each for each, _ in rows]
                    break
        return found

    @functools.cached_property
    def effects(self) -> dict[str, list[tuple[Any, frozenset[str]]]]:
        """Key -> values it takes, each with the fields that change with it."""
        found: dict[str, list[tuple[Any, frozenset[str]]]] = {}
        keys = [
            (other, alternatives(value, words)[: 3 if "." in other else 12])
            for other, value in self.values.items()
            if isinstance(value, PLAIN)
            and not other.endswith("model_type")
            and other not in ("id2label", "label2id", "num_labels", "transformers_version")
            for words in [self.words if isinstance(value, (str, list, type(None))) else set()]
        ]
        keys += [(e, [2, 3, 4, 5, True, False]) for e in sorted(self.extras - self.values.keys())]
        for other, choices in keys:
            for choice in choices:
                raw: Raw = {}
                put(raw, other, choice)
                made = self.made(raw)
                if made is not None:
                    touched = frozenset(
                        each for each, value in self.values.items() if made.get(each) != value
                    )
                    found.setdefault(other, []).append((choice, touched))
        return found

    def holds(self, name: str, row: Mapping[str, Any]) -> bool:
        """Whether a given value survives whatever else is given."""
        if "always" in row:
            return True
        value = self.values[name]
        choices = alternatives(value)[:6]
        choices += [value] if choices else []
        paths = [
            (other, alternatives(each)[:4])
            for other, each in self.values.items()
            if isinstance(each, PLAIN) and other != name and "." not in other
            and other not in ("id2label", "label2id", "num_labels", "model_type")
        ]
        # Of sub-configs only what is known to reach up here.
        inside = [(other, rows) for other, rows in self.influences(name).items() if "." in other]
        if isinstance(value, bool):
            inside += [(other, [True, False]) for other in self.namesakes(name)]
        paths += [(each, [2, 3]) for each in sorted(self.extras - self.values.keys())]
        told = [raw for raw in self.counters if raw.get(name) is not None]
        for turn in range(40 + 10 * len(inside) + len(told)):
            if not choices:
                return True
            choice = self.random.choice(choices)
            raw: Raw = {name: choice}
            for other, options in self.random.sample(paths, min(4, len(paths))):
                if options:
                    raw[other] = self.random.choice(options)
            if inside and turn % 2:
                other, options = self.random.choice(inside)
                put(raw, other, self.random.choice(options))
            if turn < len(told):
                raw, choice = told[turn], told[turn][name]
            made = self.made(raw)
            if made is None:
                continue
            kept = choice
            if "given" in row:
                rows = [self.beside(raw) | made | {"value": choice}]
                kept = Universe(rows, [(0,)]).evaluate(str(row["given"]))[0]
            if made.get(name) != kept:
                return False
        return True


def flattened_or_none(kind: Any, raw: Raw) -> dict[str, Any] | None:
    """Fields of a config object, None where the library refuses."""
    try:
        return flattened(kind.from_dict(copy.deepcopy(raw)))
    except Exception:
        return None


def spoken(kind: Any) -> tuple[set[str], set[str]]:
    """Short strings in a config class's source, and the keys it takes beside its fields.

    They are only values and keys to try: what they do is observed on real config objects.
    """
    import inspect

    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return set(), set()
    extras = set(re.findall(r"kwargs\.(?:pop|get)\(\s*[\"'](\w+)", source))
    words = set(re.findall(r"[\"']([a-z][\w-]{2,30})[\"']", source)) - extras
    return words, extras


def literal(value: Any) -> str | None:
    """A value as an expression."""
    text = repr(value)
    return text if len(text) < 20_000 and "<" not in text[:1] else None


def explained(
    inputs: list[dict[str, Any]], wanted: list[Any], others: list[str]
) -> str | None:
    """An expression for a derived default over the other fields."""
    Patience.seconds(6)
    vocabulary = Vocabulary()
    for other in others:
        vocabulary.fields.add(other)
        seen = [each.get(other) for each in inputs]
        if any(each is None for each in seen):
            vocabulary.generic.add(f"{other} is None")
        if any(isinstance(each, bool) for each in seen):
            vocabulary.generic.add(other)
        vocabulary.generic |= {f"{other} == {e!r}" for e in seen if isinstance(e, str)}
        if any(isinstance(each, list) for each in seen):
            vocabulary.fields.add(f"len({other})")
            vocabulary.values |= {f"{other}[-1]", f"sum({other})", f"{other}[0]"}
    if all(isinstance(each, list) for each in wanted):
        return explained_list(inputs, wanted, others, vocabulary)
    universe = Universe(inputs, [(at,) for at in range(len(inputs))])
    try:
        text = Fitter(universe, vocabulary).value(list(range(len(inputs))), wanted)
    except NoFit:
        return None
    return text if len(text) < 300 else None


def explained_list(
    inputs: list[dict[str, Any]],
    wanted: list[list[Any]],
    others: list[str],
    vocabulary: Vocabulary,
) -> str | None:
    """The same for a list, member by member."""
    vocabulary.values.add("_I1_")
    for other in others:
        vocabulary.values.add(f"{other}[_I1_]")
        if any(type(each.get(other)) is int for each in inputs):
            for shift in ("", " + 1", " - 1"):
                vocabulary.generic.add(f"(_I1_{shift}) % {other} == 0")
            vocabulary.generic |= {f"_I1_ < {other}", f"_I1_ == {other} - 1"}
            vocabulary.generic |= {f"_I1_ < {one} - {other}" for one in others}
            vocabulary.generic |= {f"{other} % 2 == 0"}
        if any(isinstance(each.get(other), list) for each in inputs):
            vocabulary.generic.add(f"_I1_ in {other}")
        if any(each.get(other) is None for each in inputs):
            for number in range(1, 9):
                known = f"({other} if {other} is not None else {number})"
                vocabulary.generic |= {f"(_I1_ + {s}) % {known} == 0" for s in (0, 1)}
                vocabulary.generic.add(f"_I1_ < {known}")
    vocabulary.generic |= {f"_I1_ < {n}" for n in range(1, 5)}
    for modulus in range(2, 9):
        vocabulary.generic |= {f"(_I1_ + {s}) % {modulus} == 0" for s in range(modulus)}
    universe = Universe(inputs, [(at,) for at in range(len(inputs))])
    try:
        count = Fitter(universe, vocabulary).value(
            list(range(len(inputs))), [len(each) for each in wanted]
        )
        points = [(at, n) for at, each in enumerate(wanted) for n in range(len(each))]
        inner = Universe(inputs, points)
        members = [wanted[at][n] for at, n in points]
        member = Fitter(inner, vocabulary).value(list(range(len(points))), members)
    except NoFit:
        return None
    text = f"[{member} for i in range({count})]"
    check = universe.evaluate(text)
    good = all(
        found is not WRONG and found == each for found, each in zip(check, wanted, strict=True)
    )
    return text if good and len(text) < 400 else None


def difference(value: Any) -> dict[str, Any]:
    """What a default sub-config says otherwise than its class's defaults."""
    try:
        plain = type(value)().to_dict()
    except Exception:
        plain = {}
    found = {}
    for key, each in value.to_dict().items():
        if key in ("transformers_version", "model_type") or key.startswith("_"):
            continue
        if plain.get(key, WRONG) != each and isinstance(each, (*PLAIN, dict)):
            found[key] = each
    return json.loads(json.dumps(found, default=str)) if found else {}
