"""N03: a LoRA adapter that stands unmerged in a full checkpoint, and what merging it takes."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tidoctor.casting import WIDTHS
from tidoctor.finding import Cure, Evidence, Finding, Operation
from tidoctor.names import printable
from tidoctor.patterns import some_patterns
from tidoctor.rules.renaming import line_of, renames, renaming
from tidoctor.rules.rule import ERROR, NotApplicable, consent, found, rule
from tidoctor.rules.view import ADAPTER_CONFIG, View
from tidoctor.tensors import Tensor
from tidoctor.wrappers import is_adapter, without_adapter

_LARGEST = 1e6  # of a scale; those in use are below a thousand
# Modules that some families store turned round; a square matrix does not show it.
_TURNED = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
# Kinds of adapters, and settings of the usual kind, under which a merge is another sum.
_OTHERWISE = ("use_dora", "fan_in_fan_out", "lora_bias", "rank_pattern", "alpha_pattern",
              "use_qalora", "use_bdlora", "alora_invocation_tokens", "trainable_token_indices",
              "target_parameters", "layer_replication", "kasa_config", "velora_config",
              "monteclora_config")  # fmt: skip


class _Scaling(NamedTuple):
    """The rank of an adapter, and what B·A is multiplied by."""

    rank: int
    scale: float


class _Pair(NamedTuple):
    """The two factors of one module's adapter, by their names."""

    a: str
    b: str


@rule("N03", "unmerged-adapter")
def unmerged_adapter(view: View) -> Iterator[Finding]:
    """A full checkpoint with a LoRA adapter that was not merged.

    Why: the weights stand under `base_layer`, where no loader looks, and what was trained
    (`lora_A`, `lora_B`) is ignored.

    Recognised by: whole components: `lora_A`, `lora_B`, `base_layer`, `modules_to_save`.

    Fine: `lora` inside other names (`q_a_proj` of DeepSeek, `w_lora` of RWKV) is no adapter.

    Example: `…q_proj.base_layer.weight`, `…q_proj.lora_A.default.weight`.

    Cure: where adapter_config.json says rank and alpha of a plain LoRA, it is merged here: the
    weight plus alpha / rank times B·A, rounded once. Otherwise merge it with the library that
    trained it. Where only `base_layer` is left and no adapter is, a rename is enough.
    """
    names = list(view.checkpoint.tensors) if view.altered else []
    parts = [n for n in names if is_adapter(n)]
    adapted = set(parts)
    moved = [n for n in names if n not in adapted and without_adapter(n) != n]
    if view.checkpoint.entrance == "adapter":
        if not any(".base_layer." in n for n in moved):
            raise NotApplicable("the folder holds an adapter, as it should")
    elif not parts and not moved:
        return
    cure: Cure | None
    obstacle: tuple[Evidence, ...] = ()
    if parts:
        told = _scaling(view)
        merge = told if isinstance(told, str) else _merge(view, parts, moved, *told)
        if isinstance(merge, str):
            cure = consent("merge the adapter with the library that trained it", needs="merge")
            obstacle = (Evidence(ADAPTER_CONFIG, f"it cannot be merged here: {printable(merge)}"),)
        else:
            cure = consent("merge the adapter by what adapter_config.json says", *merge)
    else:
        cure = renaming(
            renames(view, moved, lambda n: without_adapter(n) or ""),
            f"strip `base_layer` from {len(moved)} names",
        )
    yield found(
        ERROR,
        f"an adapter was not merged: {len(parts)} adapter tensors, {len(moved)} weights under "
        "wrapped names",
        at=line_of(view, (parts or moved)[0]),
        tensors=tuple(parts + moved),
        evidence=(Evidence("names", some_patterns(parts + moved)), *obstacle),
        cure=cure or consent("merge the adapter with the library that trained it", needs="merge"),
        not_="stripping the names without merging: the model would compute as if never trained"
        if parts
        else "",
    )


def _scaling(view: View) -> _Scaling | str:
    """Rank and scale of the adapter, or why they are not known."""
    if ADAPTER_CONFIG not in view.checkpoint.files:
        return "there is no adapter_config.json, which says the scale"
    data = view.adapter_config
    if not isinstance(data, dict):
        return "adapter_config.json cannot be read"
    if data.get("peft_type") != "LORA":
        return "its kind is not LORA"
    for key in _OTHERWISE:
        if data.get(key):
            return f"{key} is set"
    rank, alpha = data.get("r"), data.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        return "rank and alpha are not written"
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        return "rank and alpha are not written"
    by_root = data.get("use_rslora", False)
    if by_root is not None and not isinstance(by_root, bool):
        return "use_rslora is neither true nor false"
    scale = alpha / (math.sqrt(rank) if by_root else rank)
    return _Scaling(rank, scale) if abs(scale) < _LARGEST else "alpha is no usable number"


def _merge(
    view: View, parts: Sequence[str], moved: Sequence[str], rank: int, scale: float
) -> list[Operation] | str:
    """The operations that merge all of the adapter, or why they cannot be told."""
    tensors = view.checkpoint.tensors
    pairs = _pairs(parts)
    if isinstance(pairs, str):
        return pairs
    made: list[Operation] = []
    used: dict[str, None] = {}
    for module, (a, b) in pairs.items():
        weight = f"{module}.base_layer.weight"
        if weight not in tensors:
            return f"there is no {weight}"
        if why := _unfit(tensors[weight], tensors[a], tensors[b]):
            return f"{module}: {why}"
        if tensors[a].shape[0] != rank:
            return f"{module}: its rank is not the {rank} of adapter_config.json"
        if module.rpartition(".")[2] in _TURNED and len({*tensors[weight].shape}) == 1:
            return f"{module}: whether it is stored turned round cannot be seen"
        used[weight] = None
        made.append({
            "op": "merge", "tensor": f"{module}.weight", "weight": weight, "a": a, "b": b,
            "scale": scale,
        })  # fmt: skip
    rest = [n for n in moved if n not in used and without_adapter(n)]
    originals = [n for n in moved if without_adapter(n) is None]
    new = [str(o["tensor"]) for o in made]
    renamed = renames(view, rest, lambda n: without_adapter(n) or "")
    taken = {*tensors, *(str(o["to"]) for o in renamed or ())}
    if renamed is None or taken & {*new}:
        return "names would stand for two tensors"
    drops: list[Operation] = [{"op": "drop", "tensor": n} for n in (*parts, *used, *originals)]
    # Beside the merged weights they would be applied once more.
    files = (
        f for f in view.checkpoint.files if f == ADAPTER_CONFIG or f.startswith("adapter_model.")
    )
    return [*made, *renamed, *drops, *({"op": "discard", "file": f} for f in files)]


def _pairs(parts: Sequence[str]) -> Mapping[str, _Pair] | str:
    """Module -> its factors, or what cannot be told of them."""
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    adapters = set()
    for name in parts:
        match = _FACTOR.fullmatch(name)
        if match is None:
            return f"{name} is no factor of a plain matrix"
        adapters.add(match["adapter"])
        sides[match["module"]][match["side"]] = name
    if len(adapters) > 1:
        return f"there are {len(adapters)} adapters"
    odd = next((module for module, each in sides.items() if len(each) != 2), None)
    if odd is not None:
        return f"{odd} has one factor only"
    return {module: _Pair(each["A"], each["B"]) for module, each in sides.items()}


def _unfit(weight: Tensor, a: Tensor, b: Tensor) -> str:
    """Why these three cannot be merged, "" where they can."""
    if any(t.dtype not in WIDTHS for t in (weight, a, b)):
        return "its weights are quantised"
    if not all(len(t.shape) == 2 for t in (weight, a, b)):
        return "its weights are no matrices"
    if (b.shape[0], a.shape[1]) != weight.shape or a.shape[0] != b.shape[1]:
        return "the shapes of the factors do not fit"
    return ""


RULES = (unmerged_adapter,)
