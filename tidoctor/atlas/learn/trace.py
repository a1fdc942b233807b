"""Watches a model class being built: which config values it reads, and what it does with them.

While `watching` is active, every value that a constructor reads from a config is replaced by a
stand-in that behaves like the value and remembers where it came from. Arithmetic on stand-ins
yields stand-ins that spell the whole expression, comparisons are noted, and a parameter made
with such sizes leaves the expression of each of its dimensions. What is gathered is only a
vocabulary of likely expressions and conditions: whether they hold is decided by `fit` on
models that were built without any of this.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch.overrides import TorchFunctionMode

from tidoctor.atlas.learn.builds import HIDDEN

# Loop variables are written `_I1_`, `_I2_`, ... by nesting; `fit` decides which index is meant.
INDEX = "_I{}_"
LONGEST = 400


class Log:
    """What one construction showed."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.missed: set[str] = set()
        self.conditions: set[str] = set()
        self.values: set[str] = set()
        self.hashed: set[str] = set()
        self.compared: dict[str, set[Any]] = {}
        self.hints: dict[str, list[str | None]] = {}
        self.loops = 0


_log: Log | None = None


def spelled(value: Any) -> str:
    """The expression behind a value, or the value itself as a literal."""
    text = getattr(value, "_text", None)
    if text is not None:
        return str(text)
    return repr(value)


def noted(text: str) -> None:
    """A condition that the code asked about."""
    if _log is not None and len(text) < LONGEST:
        _log.conditions.add(text)


def compared(one: Any, other: Any) -> None:
    """Remember which constant a value was compared with: a value worth trying."""
    text = getattr(one, "_text", None)
    if _log is not None and text is not None and getattr(other, "_text", None) is None:
        with contextlib.suppress(TypeError):
            _log.compared.setdefault(str(text), set()).add(other)


def tagged(value: Any, text: str) -> Any:
    """The stand-in for a value."""
    if len(text) > LONGEST or getattr(value, "_text", None) is not None:
        return value
    kind = type(value)
    if kind is bool:
        made: Any = Whole(value)
    elif kind is int:
        made = Whole(value)
        if _log is not None:
            _log.values.add(text)
    elif kind is float:
        made = Real(value)
    elif kind is str:
        made = Word(value)
    elif kind is list:
        made = Row(value)
    elif kind is tuple:
        made = Fixed(value)
    else:
        return value
    made._text = text
    return made


def _binary(name: str, sign: str, swapped: bool) -> Callable[[Any, Any], Any]:
    def operate(self: Any, other: Any) -> Any:
        result = getattr(self._base, name)(self, other)
        if result is NotImplemented:
            return result
        left, right = (other, self) if swapped else (self, other)
        return tagged(result, f"({spelled(left)} {sign} {spelled(right)})")

    return operate


def _comparison(name: str, sign: str) -> Callable[[Any, Any], Any]:
    def compare(self: Any, other: Any) -> Any:
        result = getattr(self._base, name)(self, other)
        if result is not NotImplemented:
            noted(f"({spelled(self)} {sign} {spelled(other)})")
            compared(self, other)
        return result

    return compare


_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "floordiv": "//", "truediv": "/", "mod": "%", "pow": "**",
}  # fmt: skip
_ORDER = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class _Number:
    _text: str
    _base: Any

    def __bool__(self) -> bool:
        noted(self._text)
        return bool(self._base.__bool__(self))

    def __hash__(self) -> int:
        return int(self._base.__hash__(self))

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __copy__(self) -> Any:
        return self

    def __reduce__(self) -> Any:
        return (self._base, (self._base(self),))

    def __neg__(self) -> Any:
        return tagged(-self._base(self), f"(-{self._text})")

    def __abs__(self) -> Any:
        return tagged(abs(self._base(self)), f"abs({self._text})")

    def __ceil__(self) -> Any:
        return tagged(math.ceil(self._base(self)), f"ceil({self._text})")

    def __floor__(self) -> Any:
        return tagged(math.floor(self._base(self)), f"floor({self._text})")

    def __trunc__(self) -> Any:
        return tagged(math.trunc(self._base(self)), f"int({self._text})")

    def __round__(self, digits: Any = None) -> Any:
        if digits is not None:
            return round(self._base(self), digits)
        return tagged(round(self._base(self)), f"round({self._text})")


class Whole(_Number, int):
    """An int, or a bool: `bool` admits no subclass."""

    _base = int


class Real(_Number, float):
    """A float."""

    _base = float


for _name, _sign in _SIGNS.items():
    for _class in (Whole, Real):
        setattr(_class, f"__{_name}__", _binary(f"__{_name}__", _sign, False))
        setattr(_class, f"__r{_name}__", _binary(f"__r{_name}__", _sign, True))
for _name, _sign in _ORDER.items():
    for _class in (Whole, Real):
        setattr(_class, f"__{_name}__", _comparison(f"__{_name}__", _sign))


class Word(str):
    """A string."""

    _text: str
    _base = str

    def __hash__(self) -> int:
        if _log is not None:
            _log.hashed.add(self._text)
        return str.__hash__(self)

    def __contains__(self, other: Any) -> bool:
        noted(f"({spelled(other)} in {self._text})")
        return str.__contains__(self, other)

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return (str, (str.__str__(self),))


Word.__eq__ = _comparison("__eq__", "==")  # type: ignore[method-assign]
Word.__ne__ = _comparison("__ne__", "!=")  # type: ignore[method-assign]


def listed(value: Any) -> str:
    """A sequence as a list, which all sequences of a config are once they were written."""
    text = getattr(value, "_text", None)
    if text is not None or not isinstance(value, (list, tuple)):
        return spelled(value)
    return f"[{', '.join(spelled(each) for each in value)}]"


class _Sequence:
    _text: str
    _base: Any

    def __getitem__(self, key: Any) -> Any:
        value = self._base.__getitem__(self, key)
        if isinstance(key, slice):
            ends = [spelled(each) if each is not None else "" for each in (key.start, key.stop)]
            if key.step is not None:
                return value if key.step != -1 else tagged(value, f"{self._text}[::-1]")
            return tagged(value, f"{self._text}[{':'.join(ends)}]")
        return tagged(value, f"{self._text}[{spelled(key)}]")

    def __iter__(self) -> Iterator[Any]:
        index = _enter()
        try:
            for at in builtins.range(self._base.__len__(self)):
                value = self._base.__getitem__(self, at)
                yield tagged(value, f"{self._text}[{index}]")
        finally:
            _leave()

    def __reversed__(self) -> Iterator[Any]:
        return iter(tagged(self._base(self)[::-1], f"{self._text}[::-1]"))

    def __add__(self, other: Any) -> Any:
        joined = self._base.__add__(self, other)
        return tagged(joined, f"({self._text} + {listed(other)})")

    def __radd__(self, other: Any) -> Any:
        joined = self._base(other) + self._base(self)
        return tagged(joined, f"({listed(other)} + {self._text})")

    def __contains__(self, other: object) -> bool:
        noted(f"({spelled(other)} in {self._text})")
        return any(other == each for each in builtins.list(self._base.__iter__(self)))

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class Row(_Sequence, list):  # type: ignore[type-arg]
    """A list."""

    _base = list


class Fixed(_Sequence, tuple):  # type: ignore[type-arg]
    """A tuple."""

    _base = tuple


def _enter() -> str:
    if _log is None:
        return INDEX.format(0)
    _log.loops += 1
    return INDEX.format(_log.loops)


def _leave() -> None:
    if _log is not None:
        _log.loops -= 1


def _range(*ends: Any) -> Any:
    plain = builtins.range(*(int(end) for end in ends))
    for end in ends:
        if _log is not None and getattr(end, "_text", None):
            _log.values.add(end._text)
    return _Loop(plain, spelled(ends[0]) if len(ends) > 1 else "0")


class _Loop:
    """A range whose numbers know that they are an index."""

    def __init__(self, plain: range, first: str) -> None:
        self.plain, self.first = plain, first

    def __iter__(self) -> Iterator[Any]:
        index = _enter()
        try:
            first, step = self.plain.start, self.plain.step
            text = index if step == 1 else f"({step} * {index})"
            if step == -1:
                text = f"(-{index})"
            if first:
                text = f"({self.first} + {text})"
            for value in self.plain:
                yield tagged(value, text)
        finally:
            _leave()

    def __len__(self) -> int:
        return len(self.plain)

    def __contains__(self, value: object) -> bool:
        return value in self.plain

    def __getitem__(self, key: Any) -> Any:
        return self.plain[key]

    def __reversed__(self) -> Iterator[int]:
        return reversed(self.plain)


def _enumerate(items: Any, start: int = 0) -> Iterator[Any]:
    index = _enter()
    try:
        for at, value in builtins.enumerate(items, start):
            yield tagged(at, index if not start else f"({index} + {start})"), value
    finally:
        _leave()


def _len(value: Any) -> int:
    size = builtins.len(value)
    text = getattr(value, "_text", None)
    return tagged(size, f"len({text})") if text else size


class _KindOf(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, builtins.int)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, builtins.int)

    def __or__(cls, other: Any) -> Any:
        return builtins.int | other

    def __ror__(cls, other: Any) -> Any:
        return other | builtins.int


class _Int(metaclass=_KindOf):
    def __new__(cls, value: Any = 0, *more: Any) -> Any:
        text = getattr(value, "_text", None)
        made = builtins.int(value, *more)
        if text is None:
            return made
        return tagged(made, text if isinstance(value, Whole) else f"int({text})")


def _folded(function: Any, name: str) -> Callable[..., Any]:
    def fold(*values: Any, **more: Any) -> Any:
        if more or not values:
            return function(*values, **more)
        if len(values) == 1:
            text = getattr(values[0], "_text", None)
            items = builtins.list(type(values[0])._base.__iter__(values[0])) if text else values[0]
            if text is None or not isinstance(values[0], _Sequence):
                return function(items)
            return tagged(function(items), f"{name}({text})")
        result = function(*(_bare(each) for each in values))
        if any(getattr(each, "_text", None) for each in values):
            return tagged(_bare(result), f"{name}({', '.join(spelled(each) for each in values)})")
        return result

    return fold


def _bare(value: Any) -> Any:
    return value._base(value) if isinstance(value, _Number) else value


class _Mathematics(types.ModuleType):
    """`math`, whose roots and logarithms keep the expression."""

    def __getattr__(self, name: str) -> Any:
        thing = getattr(math, name)
        if name not in ("sqrt", "log2", "log", "prod"):
            return thing

        def keep(value: Any, *more: Any) -> Any:
            text = getattr(value, "_text", None)
            result = thing(_bare(value), *more)
            return tagged(result, f"{name}({text})") if text and not more else result

        return keep


_PATCHES: dict[str, Any] = {
    "range": _range,
    "enumerate": _enumerate,
    "len": _len,
    "int": _Int,
    "max": _folded(builtins.max, "max"),
    "min": _folded(builtins.min, "min"),
    "sum": _folded(builtins.sum, "sum"),
}


class _Sizes(TorchFunctionMode):  # type: ignore[misc]
    """Leaves on each new tensor the expressions of its sizes."""

    def __torch_function__(
        self, function: Any, kinds: Any, values: Any = (), named: Any = None
    ) -> Any:
        result = function(*values, **(named or {}))
        name = getattr(function, "__name__", "")
        if name in ("empty", "zeros", "ones", "randn", "rand", "full", "normal", "randint"):
            given = values[0] if values else (named or {}).get("size")
            sizes = list(given) if isinstance(given, (list, tuple)) else list(values)
            texts = [getattr(each, "_text", None) for each in sizes]
            with contextlib.suppress(AttributeError):
                if len(texts) == result.dim() and any(texts):
                    result._texts = [
                        text or repr(int(size)) for text, size in zip(texts, sizes, strict=True)
                    ]
        return result


@functools.lru_cache(maxsize=1)
def _config_modules(count: int) -> list[types.ModuleType]:
    """The modules in which models and configs are made, of so many that are imported."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith("transformers.") and isinstance(module, types.ModuleType):
            last = name.rsplit(".", 1)[-1]
            if last.startswith(("modeling_", "configuration_")) or last in (
                "pytorch_utils",
                "activations",
                "backbone_utils",
            ):
                found.append(module)
    return found


@contextlib.contextmanager
def watching(config: Any) -> Iterator[Log]:
    """Observe what is built from this config inside the block.

    Args:
        config: a transformers config object made for this one construction; it is changed.
    """
    global _log
    import torch
    from transformers import PreTrainedConfig

    _name_paths(config, "")
    read, write = PreTrainedConfig.__getattribute__, PreTrainedConfig.__setattr__
    make = torch.nn.Parameter.__new__
    log = Log()

    def watched_read(self: Any, key: str) -> Any:
        try:
            value = read(self, key)
        except AttributeError:
            path = object.__getattribute__(self, "__dict__").get("_watched_path")
            if _log is not None and path is not None and not key.startswith("_"):
                _log.missed.add(path + key)
            raise
        if _log is None or (key.startswith("_") and key not in HIDDEN) or callable(value):
            return value
        own = object.__getattribute__(self, "__dict__")
        path = own.get("_watched_path")
        if path is None:
            return value
        key = type(self).attribute_map.get(key, key)
        if key in own.get("_watched_changes", ()):
            return value
        if key not in own and key != "num_labels":
            return value
        text = path + key
        _log.reads.add(text)
        return tagged(value, text)

    def watched_write(self: Any, key: str, value: Any) -> None:
        own = object.__getattribute__(self, "__dict__")
        if "_watched_path" in own and not key.startswith("_"):
            name = type(self).attribute_map.get(key, key)
            own["_watched_changes"] = own.get("_watched_changes", frozenset()) | {name}
        write(self, key, value)

    def watched_parameter(cls: Any, data: Any = None, *rest: Any, **named: Any) -> Any:
        made = make(cls, data, *rest, **named)
        texts = getattr(data, "_texts", None)
        if texts:
            made._texts = texts
        return made

    changed = [(own, _PATCHES.keys() - own.keys(), own.get("math") is math)
               for own in map(vars, _config_modules(len(sys.modules)))]  # fmt: skip
    for own, added, counts in changed:
        own.update((name, _PATCHES[name]) for name in added)
        if counts:
            own["math"] = _Mathematics("math")
    PreTrainedConfig.__getattribute__ = watched_read
    PreTrainedConfig.__setattr__ = watched_write
    torch.nn.Parameter.__new__ = staticmethod(watched_parameter)
    _log = log
    try:
        with _Sizes():
            yield log
    finally:
        _log = None
        PreTrainedConfig.__getattribute__ = read
        PreTrainedConfig.__setattr__ = write
        torch.nn.Parameter.__new__ = make
        for own, added, counts in changed:
            for name in added:
                del own[name]
            if counts:
                own["math"] = math


def _name_paths(config: Any, path: str) -> None:
    from transformers import PreTrainedConfig

    own = vars(config)
    own["_watched_path"] = path
    for key, value in list(own.items()):
        if isinstance(value, PreTrainedConfig) and "_watched_path" not in vars(value):
            _name_paths(value, f"{path}{key}.")


def gather_hints(log: Log, model: Any) -> None:
    """Take the expressions that the parameters and buffers of a watched model carry."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        texts = getattr(tensor, "_texts", None)
        if texts:
            log.hints[name] = list(texts)
            log.values.update(text for text in texts if text and not text.isdigit())
