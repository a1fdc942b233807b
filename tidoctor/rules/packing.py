"""How weights are stored in parts: by which scheme, which parts, and what config.json says of it.

A module of a quantised model has no plain weight but several tensors: packed integers, scales,
tables. Here the tensors are put together again by module, and each module is given a scheme by the
parts that only this scheme has. The suffixes are those that the packages write (bitsandbytes,
GPTQModel, AutoAWQ, compressed-tensors, quanto, ModelOpt, MLX, AQLM; transformers 5.23
`quantizers/` reads them).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, NamedTuple

from tidoctor.checkpoint import CONFIG
from tidoctor.document import parse
from tidoctor.errors import Unreadable
from tidoctor.finding import Location
from tidoctor.patterns import Kinds, template
from tidoctor.tensors import Tensor

if TYPE_CHECKING:
    from tidoctor.rules.view import View

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})
_PART = re.compile(
    r"(?P<stem>.+?)(?P<sign>[._])(?P<part>qweight|qzeros|scales|biases|g_idx|SCB|weight_format"
    r"|weight_packed|weight_shape|weight_g_idx|weight_scale_inv|weight_scale_2|weight_scale"
    r"|weight_global_scale|weight_zero_point|input_scale|input_global_scale|input_zero_point"
    r"|weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[\w.]+"
    r"|_data|_scale|_zero_point)|codes|codebooks|blocks|scale|weight|bias)"
)
# What may stand after the last dot of a part, other than that of a plain weight or bias.
_PART_ENDS = re.compile(
    r"(?s:.*_)?(?:blocks|scales)|qweight|qzeros|biases|g_idx|SCB|codes|codebooks|scale"
    r"|(?:weight|input)_.*|_data|_scale|_zero_point|(?:nested_)?(?:absmax|quant_map)"
)
_SCALE = re.compile(r"scales?(?:_inv|_2)?$")
_UNDERLINED = frozenset({"blocks", "scales"})  # gpt-oss: parts of a parameter, not of a module
_FILES = {  # file -> the keys that lead to the declaration in it
    "hf_quant_config.json": ("quantization",),
    "quantize_config.json": (),
    "quant_config.json": (),
}
_CAP = 1_000_000  # bytes of such a file

# Scheme -> parts without which a module of it cannot be read. The first is the packed one.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "GPTQ": ("qweight", "qzeros", "scales"),
    "AWQ": ("qweight", "qzeros", "scales"),
    "compressed-tensors": ("weight_packed", "weight_scale"),
    "bitsandbytes 4-bit": ("weight", "weight.absmax", "weight.quant_map"),
    "bitsandbytes 8-bit": ("weight", "SCB"),
    "quanto": ("weight._data", "weight._scale"),
    "MXFP4": ("blocks", "scales"),
    "MLX": ("weight", "scales"),
    "AQLM": ("codes", "codebooks", "scales"),
    "NVFP4": ("weight", "weight_scale", "weight_scale_2"),
    "block FP8": ("weight", "weight_scale_inv"),
    "FP8": ("weight",),
    "INT8": ("weight", "weight_scale"),
}
# What config.json calls the scheme, in `quant_method`.
METHODS: Mapping[str, tuple[str, ...]] = {
    "GPTQ": ("gptq", "auto-round", "gptqmodel", "intel/auto-round"),
    "AWQ": ("awq", "auto-round", "intel/auto-round"),
    "compressed-tensors": ("compressed-tensors",),
    "bitsandbytes 4-bit": ("bitsandbytes",),
    "bitsandbytes 8-bit": ("bitsandbytes",),
    "quanto": ("quanto",),
    "MXFP4": ("mxfp4",),
    "MLX": ("mlx",),
    "AQLM": ("aqlm",),
    "NVFP4": ("modelopt", "nvfp4", "modelopt_fp4"),
    "block FP8": ("fp8", "modelopt"),
    "FP8": ("fp8", "compressed-tensors", "modelopt", "fbgemm_fp8", "quark"),
    "INT8": ("compressed-tensors", "eetq", "quark"),
}
# Methods whose weights cannot be dense: with one of these, some tensor has to be packed.
STORED_PACKED = frozenset({
    "gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4", "modelopt", "fbgemm_fp8",
    "eetq", "aqlm", "mlx", "nvfp4", "modelopt_fp4", "auto-round", "quanto",
})  # fmt: skip
# Parts that mean nothing to anyone else, even alone.
LEFT_OVER = re.compile(
    r"SCB|weight_format|g_idx|qzeros|weight_scale_inv"
    r"|weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+|_scale)"
)


class Module(NamedTuple):
    """One module of which something is stored in parts.

    Attributes:
        stem: its name.
        parts: part -> canonical name of the tensor.
        scheme: a key of `REQUIRED`; "bare" for packed numbers with nothing to read them by, "" when
            only parts are left and no packed weight.
    """

    stem: str
    parts: Mapping[str, str]
    scheme: str


class Declaration(NamedTuple):
    """What a config says of the scheme: the place, the keys that lead there, and the values."""

    file: str
    path: tuple[str, ...]
    settings: Mapping[str, object]

    @property
    def method(self) -> str:
        """The scheme in the words of config.json, "" when it is not said."""
        for key in ("quant_method", "quant_algo"):
            value = self.settings.get(key)
            if isinstance(value, str) and value:
                return value.lower()
        return "mlx" if "quantization" in self.path and "bits" in self.settings else ""


def _may_be_part(name: str) -> bool:
    return bool(_PART_ENDS.fullmatch(name.rpartition(".")[2])) or "quant_state." in name


def modules(tensors: Mapping[str, Tensor], kinds: Kinds, dtypes: Set[str]) -> list[Module]:
    """The modules that are stored in parts, or whose weight is of a packed type.

    `kinds` and `dtypes` are those of the tensors.
    """
    if dtypes <= FLOATS and not kinds.first(_may_be_part):
        return []
    ends = _ends(kinds)
    by_stem: dict[str, dict[str, str]] = {}
    for name in tensors:
        if name in ends:
            part, length = ends[name]
            by_stem.setdefault(name[:-length], {})[part] = name
    found = []
    schemes: dict[tuple[object, ...], str | None] = {}
    for stem, parts in by_stem.items():
        rows = [tensors[name] for name in parts.values()]
        seen = (*parts, *((t.dtype, len(t.shape)) for t in rows))
        if "qweight" in parts or seen not in schemes:  # the former is told by its shapes
            schemes[seen] = _scheme(parts, tensors)
        scheme = schemes[seen]
        if scheme is not None:
            found.append(Module(stem, parts, scheme))
    told = {n for m in found for n in m.parts.values()}
    # Experts in one tensor have no suffix.
    for name, tensor in tensors.items():
        small = tensor.dtype.startswith(("F8", "F4", "F6")) and len(tensor.shape) > 1
        small = small or (tensor.dtype in INTEGERS and name.endswith("_proj"))
        if small and name not in told and not _SCALE.search(name):
            scaled = any(name + tail in tensors for tail in ("_scale", "_scale_inv", ".scale"))
            found.append(Module(name, {"": name}, "FP8 experts" if scaled else "bare"))
    return found


def _ends(kinds: Kinds) -> dict[str, tuple[str, int]]:
    """The part that a name is of, and the length of what follows the stem."""
    found: dict[str, tuple[str, int]] = {}
    for kind in kinds:
        m = _PART.fullmatch(kind[0])
        numbered = m is not None and any(map(str.isdigit, kind[0][m.end("stem") :].split(".")))
        for names in ([name] for name in kind) if numbered else (kind,):
            if (m := _PART.fullmatch(names[0])) and (m["sign"] == "." or m["part"] in _UNDERLINED):
                found |= dict.fromkeys(names, (m["part"], len(names[0]) - m.end("stem")))
    return found


def _scheme(parts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str | None:
    """The scheme of a module by its parts, None when it is a plain module."""

    def dtype(part: str) -> str:
        return tensors[parts[part]].dtype if part in parts else ""

    if "qweight" in parts:
        return _gptq_or_awq(parts, tensors)
    for part, scheme in (
        ("weight_packed", "compressed-tensors"),
        ("weight._data", "quanto"),
        ("codebooks", "AQLM"),
    ):
        if part in parts:
            return scheme
    if dtype("blocks") == "U8":
        return "MXFP4"
    weight = dtype("weight")
    quantised = any(LEFT_OVER.fullmatch(part) for part in parts)
    if weight.startswith("F8"):
        return (
            "block FP8"
            if "weight_scale_inv" in parts
            else "FP8"
            if "weight_scale" in parts or "scale" in parts
            else "bare"
        )
    if weight in INTEGERS:
        if "SCB" in parts:
            return "bitsandbytes 8-bit"
        if any(p.startswith("weight.") and LEFT_OVER.fullmatch(p) for p in parts):
            return "bitsandbytes 4-bit"
        if weight == "U32" and "scales" in parts:
            return "MLX"
        if weight == "U8" and "weight_scale_2" in parts:
            return "NVFP4"
        if "weight_scale" in parts:
            return "INT8"
        return "bare" if tensors[parts["weight"]].shape else None
    if quantised:
        return ""
    # Integers where a bias belongs are none; the mask of GPT-2, called bias, has four dimensions.
    if dtype("bias") in INTEGERS and len(tensors[parts["bias"]].shape) == 1:
        return "bare"
    return None


def _gptq_or_awq(parts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """AWQ packs the columns of the matrix, GPTQ its rows, and only GPTQ has an order of rows."""
    if "g_idx" in parts or "scales" not in parts:
        return "GPTQ"
    packed, scales = tensors[parts["qweight"]].shape, tensors[parts["scales"]].shape
    return "GPTQ" if packed[-1:] == scales[-1:] else "AWQ"


def declarations(view: View) -> list[Declaration]:
    """Every place that declares a scheme: config.json on both levels, and the files beside it."""
    found = []
    levels: list[tuple[tuple[str, ...], Mapping[str, object]]] = [((), view.settings)]
    if view.text_level:
        levels.append(((view.text_level,), view.text_settings))
    for path, settings in levels:
        for key in ("quantization_config", "compression_config", "quantization"):
            value = settings.get(key)
            if isinstance(value, dict) and value:
                found.append(Declaration(CONFIG, (*path, key), value))
    for file, keys in _FILES.items():
        size = view.checkpoint.files.get(file)
        if size is None or size > _CAP:
            continue
        try:
            data = parse(view.checkpoint.source.read(file, 0, size)).data
        except Unreadable:
            continue
        for key in keys:
            data = data.get(key) if isinstance(data, dict) else None
        if isinstance(data, dict) and data:
            found.append(Declaration(file, keys, data))
    return found


def at(view: View, declaration: Declaration) -> Location:
    """Where a declaration stands."""
    if declaration.file == CONFIG:
        return view.at(*declaration.path)
    return Location(declaration.file)


class Lack(NamedTuple):
    """A part that a module does not have; `usual` says whether most modules of its kind do."""

    module: Module
    part: str
    usual: bool

    @property
    def name(self) -> str:
        """What the part would be called."""
        return f"{self.module.stem}{'_' if self.module.scheme == 'MXFP4' else '.'}{self.part}"


def lacks(found: list[Module]) -> Iterator[Lack]:
    """The parts that modules do not have and their scheme needs."""
    by_scheme: dict[str, list[Module]] = {}
    for module in found:
        by_scheme.setdefault(module.scheme, []).append(module)
    for scheme, members in by_scheme.items():
        for part in REQUIRED.get(scheme, ())[1:]:
            short = [m for m in members if part not in m.parts]
            if len(short) == len(members) and part == "qzeros":
                continue  # a symmetric scheme, stored without
            usual = len(short) * 2 < len(members)
            yield from (Lack(m, part, usual) for m in short)
    # Packed numbers alone, where the same module of other layers has its scales.
    kinds: dict[object, list[str]] = {}
    for m in found if "bare" in by_scheme else ():
        if m.scheme in REQUIRED and m.scheme not in ("GPTQ", "AWQ") and "weight" in m.parts:
            kinds.setdefault(template(m.stem)[0], []).append(_second(m))
    bare: dict[object, list[Module]] = {}
    for m in by_scheme.get("bare", ()):
        bare.setdefault(template(m.stem)[0], []).append(m)
    for kind, members in bare.items():
        if parts := kinds.get(kind):
            yield from (Lack(m, parts[0], len(members) < len(parts)) for m in members)
    for m in by_scheme.get("", ()):
        if "weight" not in m.parts:
            yield Lack(m, "weight", False)


def _second(module: Module) -> str:
    """The part beside the packed one, as the module has it."""
    usual = (*REQUIRED[module.scheme][1:], "weight_scale", "scale")
    return next((part for part in usual if part in module.parts), usual[0])
