"""Real models on the meta device: their names and shapes in memory and on disk, and their ties."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tidoctor.atlas import learner
from tidoctor.atlas.learn.hurry import SECONDS, limited

Shapes = dict[str, tuple[int, ...]]
# Fields of config.json whose names begin with an underscore.
HIDDEN = frozenset({"_remove_final_layer_norm"})
# Config class -> fields that it does not declare and that some model looks for nevertheless.
UNDECLARED: dict[Any, set[str]] = {}
# The first one may have to import the library's code.
FIRST_SECONDS = 30


class Part:
    """A submodel inside a model: where it sits, its class, and the config it was built from."""

    def __init__(self, at: str, name: str, config: str | None) -> None:
        self.at, self.name, self.config = at, name, config


class Built:
    """What one config makes of one class.

    Attributes:
        values: config fields by dotted path, as the class read them.
        memory: name -> shape, buffers that are saved included.
        disk: the same as a fresh save would name them, tied aliases included.
        ties: alias -> tensor that keeps the bytes, names in memory.
        gone: names in memory that a save drops because the class says so.
        parts: submodels that are classes of their own.
    """

    def __init__(self, name: str, config: Any, parts: bool = True, disk: bool = True) -> None:
        import torch

        self.values = flattened(config)
        paths = {id(each): path for path, each in nested(config)}
        with torch.device("meta"):
            model = learner.model_class(name)(config)
        model.tie_weights()
        # The parameters themselves, so that those that are tied are one object.
        state = dict(model.state_dict(keep_vars=True))
        self.memory: Shapes = {key: tuple(value.shape) for key, value in state.items()}
        self.gone = frozenset(model._keys_to_ignore_on_save or ()) & self.memory.keys()
        self.ties = ties_of(model, {k: v for k, v in state.items() if k not in self.gone})
        self.disk: Shapes = {}
        if disk:
            from transformers.core_model_loading import revert_weight_conversion

            if hasattr(model, "_weight_conversions"):
                del model._weight_conversions
            kept = {k: v for k, v in state.items() if k not in self.gone and k not in self.ties}
            with torch.no_grad():
                saved = revert_weight_conversion(model, kept) if kept else {}
            self.disk = {key: tuple(value.shape) for key, value in saved.items()}
        self.parts = list(parts_of(model, paths)) if parts else []


def ties_of(model: Any, state: Mapping[str, Any]) -> dict[str, str]:
    """Dropped alias -> keeper, as `save_pretrained` decides it; `state` holds the parameters."""
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    groups: dict[int, list[str]] = {}
    for name, each in state.items():
        groups.setdefault(id(each), []).append(name)
    shared = [names for names in groups.values() if len(names) > 1]
    if not shared:
        return {}
    # What is not shared has no part in it.
    kept = set(
        remove_tied_weights_from_state_dict({n: state[n] for ns in shared for n in ns}, model)
    )
    found: dict[str, str] = {}
    for names in shared:
        keepers = [name for name in names if name in kept]
        if keepers:
            found |= {name: keepers[0] for name in names if name not in kept}
    return found


def parts_of(model: Any, paths: Mapping[int, str]) -> Iterator[Part]:
    """The topmost submodels of public classes, with the path of the config object they hold."""
    import transformers

    inside: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if not name or not isinstance(module, transformers.PreTrainedModel):
            continue
        if any(name.startswith(f"{each}.") for each in inside):
            continue
        known = type(module).__name__
        if getattr(transformers, known, None) is not type(module) or known not in population():
            continue
        inside.append(name)
        yield Part(name + ".", known, paths.get(id(module.config)))


@functools.cache
def population() -> frozenset[str]:
    """Every class we try to learn."""
    return frozenset(learner.tasks_of_classes())


def nested(config: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The config objects below a config, with their dotted paths (the root is "")."""
    from transformers import PreTrainedConfig

    yield path, config
    for key, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig) and depth < 5:
            yield from nested(value, f"{path}.{key}" if path else key, depth + 1)


def type_name(kind: Any) -> str:
    """The model type of a config class, or its own name where another class has that type."""
    return _type_name(kind)


@functools.cache
def _type_name(kind: Any) -> str:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name = str(kind.model_type)
    try:
        holder = CONFIG_MAPPING[name]
    except KeyError:
        holder = kind
    return name if name and holder is kind else str(kind.__name__)


def flattened(config: Any) -> dict[str, Any]:
    """Config values by dotted path, by the names that the class reads."""
    found: dict[str, Any] = {}
    for path, each in nested(config):
        before = f"{path}." if path else ""
        for key, value in vars(each).items():
            if (not key.startswith("_") or key in HIDDEN) and isinstance(
                value, (int, float, str, list, tuple, dict, type(None))
            ):
                found[before + key] = list(value) if isinstance(value, tuple) else value
        found[before + "model_type"] = type_name(type(each))
        with contextlib.suppress(Exception):
            found[before + "num_labels"] = each.num_labels
    return found


def built(name: str, values: Mapping[str, Any], seconds: int = SECONDS, **how: Any) -> Built:
    """Build a class from raw config values; raises whatever the library raises."""
    config = configured(name, values)
    with limited(seconds):
        made = Built(name, config, **how)
    for path, each in nested(config):
        raw: Any = values
        for key in path.split(".") if path else ():
            raw = raw.get(key) if isinstance(raw, dict) else None
        for key, default in extra_defaults(type(each)).items():
            given = raw.get(key, default) if isinstance(raw, dict) else default
            made.values.setdefault(f"{path}.{key}" if path else key, given)
        for key in UNDECLARED.get(type(each), ()):
            made.values.setdefault(f"{path}.{key}" if path else key, None)
    return made


def extra_defaults(kind: Any) -> dict[str, Any]:
    """Keys a config class takes without keeping them as fields, with their defaults.

    The source names the keys and constants; a default counts only when a config that states it
    equals one that does not.
    """
    return _extra_defaults(kind)


@functools.cache
def _extra_defaults(kind: Any) -> dict[str, Any]:
    import ast
    import inspect
    import textwrap

    found: dict[str, Any] = {}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        plain = kind()
    except Exception:
        return found
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in ("pop", "get") or ast.unparse(node.func.value) != "kwargs":
            continue
        if not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        key, default = node.args[0].value, None
        if len(node.args) > 1:
            if not isinstance(node.args[1], ast.Constant):
                continue
            default = node.args[1].value
        if not isinstance(key, str) or hasattr(plain, key) or key.startswith("_"):
            continue
        with contextlib.suppress(Exception):
            if kind(**{key: default}).to_dict() == plain.to_dict():
                found[key] = default
    return found


def prepared(values: dict[str, Any], config: Any) -> dict[str, Any]:
    """Raw values that state what to_dict leaves unsaid, without what it spells out per layer."""
    values = copy.deepcopy(values)
    for path, each in nested(config):
        raw: Any = values
        for key in path.split(".") if path else ():
            raw = raw.get(key) if isinstance(raw, dict) else None
        if isinstance(raw, dict) and raw.pop("per_layer_config", None) is not None:
            raw |= {k: v for k, v in extra_defaults(type(each)).items() if v is not None}
    return values


def configured(name: str, values: Mapping[str, Any]) -> Any:
    """The config object for raw values."""
    return config_class(name).from_dict(copy.deepcopy(dict(values)))


@functools.cache
def config_class(name: str) -> Any:
    """The config class of a model class."""
    return learner.config_class_of(name, types_of(name))


@functools.cache
def _types() -> dict[str, list[str]]:
    return learner.model_types_by_class()


def types_of(name: str) -> list[str]:
    """Model types whose auto classes name this class."""
    return _types().get(name, [])


def default_values(name: str, cut: bool = True) -> dict[str, Any]:
    """Raw config values a class builds with: its defaults, cut down, open values filled.

    Args:
        name: the class.
        cut: reduce counts that only make a model large, where it then still builds.

    Raises:
        learner.Unbuildable: no variant builds.
    """
    kind = config_class(name)
    error: Exception | None = None
    for small, filled in ((cut, False), (False, False), (cut, True), (False, True)):
        values = json.loads(learner.default_values(kind)) | copy.deepcopy(
            learner.CLASS_SEEDS.get(name, {})
        )
        if small:
            learner.shrink(values)
        if filled:
            learner.fill(values)
        try:
            values = prepared(values, kind.from_dict(copy.deepcopy(values)))
            built(name, values, FIRST_SECONDS, parts=False, disk=False)
        except Exception as reason:
            error = reason
            continue
        return values
    raise learner.Unbuildable(f"{type(error).__name__}: {str(error).splitlines()[:1]}")
