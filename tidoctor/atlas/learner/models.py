"""One model on the meta device: its names in memory and on disk, its ends and ties."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable
from typing import Any

from tidoctor.atlas.learner.known import model_class


@functools.cache
def stand_in_for_timm() -> None:
    """Let classes with a timm vision tower build without that library.

    The tower gets one tensor; neither ends nor ties nor prefix of a class depend on it.
    """
    import torch
    from transformers import PreTrainedModel, TimmWrapperModel

    def build(self: Any, config: Any) -> None:
        PreTrainedModel.__init__(self, config)
        self.features_only = False
        self.timm_model = torch.nn.Linear(1, 1)
        self.post_init()

    TimmWrapperModel.__init__ = build


class Layout:
    """Names of one model built on the meta device: in memory and on disk."""

    def __init__(self, name: str, config: Any) -> None:
        """Build `name` from `config`; raises whatever the library raises."""
        import torch

        with torch.device("meta"):
            self.model = model_class(name)(config)
        self.model.tie_weights()
        self.state = dict(self.model.state_dict())
        for key in self.model._keys_to_ignore_on_save or ():
            self.state.pop(key, None)
        self.memory = frozenset(self.state)

    @functools.cached_property
    def disk(self) -> frozenset[str]:
        """All names on disk, aliases included."""
        return frozenset(self.on_disk(self.memory))

    def on_disk(self, names: Iterable[str]) -> set[str]:
        """What a fresh save calls these tensors (an expert stack becomes many)."""
        from transformers.core_model_loading import revert_weight_conversion

        chosen = {name: self.state[name] for name in names if name in self.state}
        if not chosen:
            return set()
        if hasattr(self.model, "_weight_conversions"):
            del self.model._weight_conversions
        return set(revert_weight_conversion(self.model, chosen))

    def one_on_disk(self, name: str) -> str | None:
        """The name on disk of one tensor, None when it has not exactly one."""
        found = self.on_disk([name])
        return found.pop() if len(found) == 1 and found <= self.disk else None

    def names_of(self, module: Any) -> list[str]:
        """Names in memory of a module's weight (several when the module is shared)."""
        if module is None:
            return []
        return [
            f"{name}.weight"
            for name, each in self.model.named_modules(remove_duplicate=False)
            if each is module and f"{name}.weight" in self.memory
        ]

    def kept(self) -> set[str]:
        """Names in memory that survive `remove_tied_weights_from_state_dict`."""
        from transformers.modeling_utils import remove_tied_weights_from_state_dict

        return set(remove_tied_weights_from_state_dict(dict(self.state), self.model))

    def ties(self) -> dict[str, str]:
        """Dropped alias -> tensor that keeps the bytes, names in memory."""
        groups: dict[int, list[str]] = {}
        for name in self.memory:
            groups.setdefault(id(self.model.get_parameter_or_buffer(name)), []).append(name)
        shared = [names for names in groups.values() if len(names) > 1]
        kept = self.kept() if shared else set()
        found: dict[str, str] = {}
        for names in shared:
            keepers = sorted(kept.intersection(names))
            if len(keepers) == 1:
                found |= {name: keepers[0] for name in names if name != keepers[0]}
        return found

    def input_names(self) -> list[str]:
        """Names in memory of the token embedding."""
        import torch

        with contextlib.suppress(Exception):
            module = self.model.get_input_embeddings()
            if isinstance(module, torch.nn.Embedding) or hasattr(module, "num_embeddings"):
                return self.names_of(module)
        return []

    def output_names(self) -> list[str]:
        """Names in memory of the output projection.

        A class that only bundles models (Qwen2.5-Omni: thinker, talker, vocoder) has none of
        its own; then the one part that has an output projection speaks for it.
        """
        import transformers

        with contextlib.suppress(Exception):
            own = self.names_of(self.model.get_output_embeddings())
            if own:
                return own
        parts: list[str] = []
        for part in self.model.children():
            if isinstance(part, transformers.PreTrainedModel) and part.can_generate():
                with contextlib.suppress(Exception):
                    parts += self.names_of(part.get_output_embeddings())
        return parts

    def starred(self, name: str) -> str | None:
        """The name on disk with `*` for positions in a module list, whose length varies."""
        disk = self.one_on_disk(name)
        if disk is None:
            return None
        parts, places = disk.split("."), self._list_places(name)
        digits = [at for at, part in enumerate(parts) if part.isdigit()]
        if len(digits) == len(places):
            for at, varies in zip(digits, places, strict=True):
                parts[at] = "*" if varies else parts[at]
        return ".".join(parts)

    def _list_places(self, name: str) -> list[bool]:
        """For each number in a name in memory: is it a position in a module list?"""
        import torch

        lists = (torch.nn.ModuleList, torch.nn.ParameterList)
        places, module = [], self.model
        for part in name.split("."):
            if part.isdigit():
                places.append(isinstance(module, lists))
            module = getattr(module, part, None)
        return places


@functools.lru_cache(maxsize=8)
def base_layout(name: str, config_json: str, config_class: Any) -> Layout:
    """The bare class built from the same config."""
    return Layout(name, config_class.from_dict(json.loads(config_json)))
