"""What a config.json means: the values of the fields that a model is built from.

A config class fills in what the file leaves out, reads old spellings and builds sub-configs. The
facts about that are data (`ConfigFacts`); here they are applied to the values of one file, each
field when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from tidoctor.atlas import data
from tidoctor.atlas.data import shown
from tidoctor.atlas.expression import NotCovered, Run, parse

_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    tuple: "a list",
    range: "a list",
    dict: "an object",
}


class Absent(NotCovered):
    """A field that the file does not give and that then does not exist."""


class Resolved:
    """The fields of one config, by the names the model reads them under.

    Attributes:
        model_type: the config class, by its model type.
        foreign: it is a sub-config whose type the file chose, another than the usual one.
        called: the model type that the file gives a sub-config whose class is fixed, "" where it
            gives none or the right one.
    """

    def __init__(
        self,
        values: Mapping[str, object],
        model_type: str,
        *,
        source: data.Data,
        path: str = "",
        foreign: bool = False,
        called: str = "",
        outer: Resolved | None = None,
        sets: Mapping[str, Mapping[str, str | None]] | None = None,
    ) -> None:
        """Raise NotCovered for a model type that was not learned.

        Also for a key that is no field and changes fields in a way that was not learned, and
        where single layers have settings of their own (`per_layer_config`, transformers 5):
        they change sizes that are read here for all layers alike.
        """
        facts = source.config(model_type)
        for key, usual in facts.get("strange", {}).items():
            if values.get(key, usual) != usual:
                raise NotCovered(f"what `{path}{key}` does to other fields is not known")
        self.model_type = model_type
        self.foreign = foreign
        self.called = called
        self._outer = outer  # the config that this one is a part of, and what it sets here
        self._sets = sets or {}
        self._values = values
        self._data = source
        self._path = path
        self._fields: Mapping[str, Any] = facts.get("fields", {})
        self._parts: Mapping[str, Any] = facts.get("parts", {})
        self._lifted: Mapping[str, list[str]] = facts.get("lifted", {})
        self._aliases: Mapping[str, str] = facts.get("aliases", {})
        self._known: dict[str, object] = {}
        self._asked: set[str] = set()
        self._run = Run(self.value)
        if "per_layer_config" in values:  # empty, it says that no layer differs: this matters too
            self._values = self._alike(values, facts.get("layered"))
            self._known.clear()

    def value(self, name: str) -> object:
        """A field by its dotted path; a sub-config is a `Resolved` or None.

        `stated.` before a name is for rules: what the file says under it, null where nothing.
        Raises NotCovered where the value cannot be known.
        """
        name, _, rest = name.partition(".")
        if name == "stated":
            return self._values.get(rest)
        name = self._aliases.get(name, name)
        if name not in self._known:
            self._known[name] = self._found(name)
        value = self._known[name]
        if not rest:
            return value
        if isinstance(value, Resolved):
            return value.value(rest)
        here = self._at(name)
        raise NotCovered(
            f"{here} is null" if value is None else f"nothing is known of the fields of {here}"
        )

    __getitem__ = value

    def part(self, path: str) -> Resolved:
        """The sub-config at a dotted path, "" being this one. Raises NotCovered without one."""
        if not path:
            return self
        value = self.value(path)
        if isinstance(value, Resolved):
            return value
        raise NotCovered(f"{self._at(path)} is {'null' if value is None else 'no sub-config'}")

    def parts(self) -> Iterator[tuple[str, Resolved]]:
        """Key and sub-config, of those that the file gives and that something is known of."""
        for key in self._parts:
            with suppress(NotCovered):
                value = self.value(key)
                if isinstance(value, Resolved) and value._values:
                    yield key, value

    def _at(self, name: str) -> str:
        return f"`{self._path}{name}`"

    def _found(self, name: str) -> object:
        if name in self._asked:
            raise NotCovered(f"{self._at(name)} depends on itself")
        self._asked.add(name)
        try:
            if name in self._sets and self._outer is not None:
                rule = self._sets[name]
                there, given = self._given(name)
                if "missing" in rule:  # a null of the file counts
                    if not there:
                        return self._imposed(name, rule["missing"])
                elif "always" in rule or given is None:
                    return self._imposed(name, rule.get("always", rule.get("default")))
            if name in self._parts:
                return self._sub_config(name, self._parts[name])
            if name in self._fields:
                return self._field(name, self._fields[name])
        finally:
            self._asked.remove(name)
        if name == "model_type":
            return self.model_type
        if name == "id2label":  # a dictionary, which no expression can spell
            return self._values.get(name)
        raise NotCovered(f"nothing is known of {self._at(name)} in configs of {self.model_type}")

    # --- fields -----------------------------------------------------------------------------

    def _field(self, name: str, rule: str | Mapping[str, Any]) -> object:
        if isinstance(rule, str):
            rule = {"default": rule}
        if "always" in rule:
            return self._default(name, rule, "always")
        there, given = self._given(name)
        if given is None:
            if rule.get("absent"):
                if there:
                    return None
                raise Absent(f"{self._at(name)} is not set, and has no default")
            return self._default(name, rule, "null" if there and "null" in rule else "default")
        if rule.get("opaque"):
            raise NotCovered(f"{self._at(name)} is {shown(given)}, whose meaning is not known")
        self._check(name, given, rule)
        if isinstance(given, list) and "former" in rule:
            words: Mapping[str, str] = rule["former"]
            given = [words.get(e, e) if isinstance(e, str) else e for e in given]
        if "given" not in rule:
            return given
        return parse(rule["given"]).value(
            Run(lambda asked: given if asked == "value" else self.value(asked))
        )

    def _default(self, name: str, rule: Mapping[str, Any], key: str) -> object:
        """The value that a rule gives, where its circumstances were seen."""
        if rule[key] is None:
            raise NotCovered(f"{self._at(name)} is not set, and its default is not known")
        for other, values in rule.get("seen", {}).items():
            if str(value := self.value(other)) not in values:
                raise NotCovered(
                    f"{self._at(name)} follows from {self._at(other)} in a way that is not known"
                    f" for {shown(value)}"
                )
        return self._worth(rule[key])

    def _worth(self, text: str) -> object:
        return parse(text).value(self._run)

    def _imposed(self, name: str, text: str | None) -> object:
        """The value that the config around this one gives to a field of it."""
        if text is None or self._outer is None:
            raise NotCovered(
                f"{self._at(name)} follows from fields around it in a way that is not known"
            )
        return parse(text).value(self._outer._run)

    def _given(self, name: str) -> tuple[bool, object]:
        """Whether the file has the key, under any of its spellings, and its value."""
        spellings = [name, *(other for other, key in self._aliases.items() if key == name)]
        found = [spelling for spelling in spellings if spelling in self._values]
        if not found:
            return False, None
        value = self._values[found[0]]
        for other in found[1:]:
            if self._values[other] != value:
                raise NotCovered(
                    f"{self._at(found[0])} and {self._at(other)} are one setting and differ"
                )
        return True, value

    def _check(self, name: str, given: object, rule: Mapping[str, Any]) -> None:
        """Refuse a value of another type than the default's: no model was built from such."""
        if "types" in rule:
            expected = list(rule["types"])
        else:
            try:
                default = None if rule.get("absent") else self._default(name, rule, "default")
            except NotCovered:  # then the file has to give it, and any type may be meant
                return
            if default is None or isinstance(default, Resolved):
                return
            expected = [_kind(default)]
        if _kind(given) not in expected:
            raise NotCovered(
                f"{self._at(name)} is {shown(given)}, expected {' or '.join(expected)}"
            )

    def _alike(
        self, values: Mapping[str, object], rule: Mapping[str, Any] | None
    ) -> Mapping[str, object]:
        """The file's values where single layers have settings of their own, said otherwise.

        What all layers of one kind have alike has a key of its own in older configs, and that is
        what the facts know. `rule` names the kind, and for each setting that key, null for a
        setting that changes no size. Raises NotCovered for anything else.
        """
        at = self._at("per_layer_config")
        unknown = NotCovered(
            f"{at} gives layers settings of their own, and what they change is not known"
        )
        layers = values["per_layer_config"]
        if rule is None or not isinstance(layers, Mapping):
            raise unknown
        keys: Mapping[str, str | None] = rule["keys"]
        settings: dict[int, dict[str, object]] = {}
        for index, given in layers.items():
            if not (index.isdecimal() and len(index) < 9 and isinstance(given, Mapping)):
                raise unknown
            if not given.keys() <= keys.keys():
                raise unknown
            if own := {name: each for name, each in given.items() if keys[name]}:
                settings[int(index)] = own
        kinds = self.value("layer_types") if settings or any(keys.values()) else ()
        if not isinstance(kinds, list):
            raise unknown
        if settings.keys() != {at for at, kind in enumerate(kinds) if kind == rule["kind"]}:
            raise unknown
        first = next(iter(settings.values()), {})
        if any(each != first for each in settings.values()):
            raise unknown
        if settings and not first.keys() >= set(rule["always"]):
            raise unknown
        for name in first.keys() & rule.get("if", {}).keys():
            if self.value(rule["if"][name]) is not True:
                raise unknown
        rest = {name: each for name, each in values.items() if name != "per_layer_config"}
        return rest | {key: first.get(name) for name, key in keys.items() if key and settings}

    # --- sub-configs ------------------------------------------------------------------------

    def _sub_config(self, name: str, rule: Mapping[str, Any]) -> Resolved | None:
        _, given = self._given(name)
        if self._values.get(rule.get("instead", "")) is not None:  # an older key, which wins
            given = self._values[rule["instead"]]
        if given is None:
            keys = rule.get("lifted", self._lifted.get(name, ()))
            moved = {key: self._values[key] for key in keys if key in self._values}
            if moved or "default" in rule:
                given = {**rule.get("default", {}), **moved}
            elif rule.get("none"):
                return None
            else:
                given = {}
        if not isinstance(given, Mapping):
            raise NotCovered(f"{self._at(name)} is {shown(given)}, expected an object")
        usual, stated = rule.get("type"), given.get("model_type")
        model_type = stated if rule.get("open") and stated is not None else usual
        if not isinstance(model_type, str):
            raise NotCovered(f"{self._at(name)} does not say its model_type")
        return Resolved(
            given,
            model_type,
            source=self._data,
            path=f"{self._path}{name}.",
            foreign=self.foreign or model_type != usual,
            called=stated if isinstance(stated, str) and stated != model_type else "",
            outer=self,
            sets=rule.get("sets", {}),
        )


def resolve(values: Mapping[str, object], model_type: str | None = None) -> Resolved:
    """The fields of a config.

    `values` is the content of config.json; without `model_type`, its own decides.
    Raises NotCovered for a model type that was not learned.
    """
    own = values.get("model_type") if model_type is None else model_type
    if not isinstance(own, str):
        raise NotCovered("config.json does not say its model_type")
    return Resolved(values, own, source=data.current())


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "something else")
