"""Q: weights that are stored in parts, and what config.json says about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tidoctor.checkpoint import CONFIG
from tidoctor.dtypes import DTYPES
from tidoctor.finding import Cure, Evidence, Finding, Location, Operation
from tidoctor.names import brief, printable
from tidoctor.patterns import some_patterns
from tidoctor.rules import packing
from tidoctor.rules.packing import FLOATS, STORED_PACKED, Declaration, Module
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    NOTE,
    PROVEN,
    WARNING,
    CannotRun,
    NotApplicable,
    advice,
    consent,
    found,
    rule,
    set_key,
)
from tidoctor.rules.view import View
from tidoctor.rules.wording import place

_MOST_BYTES = 64_000_000  # of biases read to see whether they are zero
_BLOCKS = (32, 64, 128, 256)  # sides of the blocks that share one scale


def _packed(view: View) -> list[Module]:
    view.need_config()
    return list(view.modules)


def _names(view: View, modules: Sequence[Module]) -> tuple[str, ...]:
    return tuple(view.tensors[n].name for m in modules for n in m.parts.values())


@rule("Q01", "quantisation-undeclared", absorbs=("C06", "C07", "N12", "Q04"))
def quantisation_undeclared(view: View) -> Iterator[Finding]:
    """Weights are stored as packed or 8-bit numbers, and config.json does not say so.

    Why: transformers takes the integers for the weights, or leaves the module random, without a
    word; converters stop at the dtype. The state dict of a quantised model was saved without its
    config, or by a trainer that does not know of it.

    Recognised by: integers or 8-bit floats under the name of a weight, with the parts of a scheme
    beside them (`qweight`, `absmax`, `SCB`, `weight_scale`), and no declaration in config.json,
    hf_quant_config.json or quantize_config.json.

    Fine: integer buffers (positions, masks, counters) are no weights. An 8-bit float without any
    scale may be a plain cast: a warning.

    Example: `mlp.down_proj.weight` as U8 with `weight.absmax` beside it, and no
    `quantization_config`.

    Cure: write the declaration, where the parts tell all of it; otherwise dequantise with the
    library that quantised it.
    """
    modules = _packed(view)
    packed = [m for m in modules if m.scheme]
    if not packed:
        raise NotApplicable("no weight is stored in parts")
    if packing.declarations(view) or "quantization_config" in view.settings:
        return
    schemes = Counter(m.scheme for m in packed)
    cast = set(schemes) == {"bare"} and all(
        view.tensors[n].dtype.startswith("F") for m in packed for n in m.parts.values()
    )
    names = _names(view, [m for m in modules if m.scheme])
    known = [s for s in schemes if s != "bare"]
    said = " and ".join(known) if known else "no parts that would tell how to read them"
    left = any(packing.LEFT_OVER.fullmatch(p) for m in packed for p in m.parts)
    pieces = any(p.startswith("weight._") for m in packed for p in m.parts)
    dtypes = sorted({view.tensors[n].dtype for m in packed for n in list(m.parts.values())[:1]})
    yield found(
        WARNING if cast else ERROR,
        f"{len(packed)} weights are stored as {', '.join(dtypes)}, "
        f"and config.json declares no quantisation ({said})",
        certainty=PROVEN if known else LIKELY,
        at=place(view, next(iter(packed[0].parts.values()))),
        tensors=names,
        evidence=(
            Evidence("names", some_patterns(names), len(names)),
            Evidence(CONFIG, "there is no key quantization_config"),
        ),
        includes=(*(("Q04",) if left else ()), *(("N12",) if pieces else ())),
        cure=_declaring(view, packed)
        or advice("dequantise it with the library that quantised it, or export again"),
        not_="training on: the numbers are not the weights",
    )


def _declaring(view: View, packed: Sequence[Module]) -> Cure | None:
    """Writing the declaration, for schemes whose parts tell all of it."""
    schemes = {m.scheme for m in packed}
    if len(schemes) != 1 or any(True for _ in packing.lacks(list(packed))):
        return None
    scheme = schemes.pop()
    stated: dict[str, object] | None = None
    if scheme == "bitsandbytes 4-bit":
        stated = _bitsandbytes(view, packed)
    elif scheme == "bitsandbytes 8-bit":
        stated = {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}
        stated["llm_int8_skip_modules"] = _dense(view, packed)
    elif scheme == "block FP8" and (sides := _blocks(view, packed)):
        stated = {
            "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
            "weight_block_size": list(sides), "modules_to_not_convert": _dense(view, packed),
        }  # fmt: skip
    if stated is None:
        return None
    return consent(
        f"declare {stated['quant_method']} in config.json, as the parts tell it",
        set_key("quantization_config", value=stated),
    )


def _bitsandbytes(view: View, packed: Sequence[Module]) -> dict[str, object] | None:
    states = {p for m in packed for p in m.parts if p.startswith("weight.quant_state.")}
    kinds = {p.rpartition("__")[2] for p in states}
    if len(kinds) != 1 or not kinds <= {"nf4", "fp4"}:
        return None
    nested = any("weight.nested_absmax" in m.parts for m in packed)
    dtype = view.settings.get("dtype", view.settings.get("torch_dtype"))
    return {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": kinds.pop(),
        "bnb_4bit_use_double_quant": nested,
        "bnb_4bit_compute_dtype": dtype if isinstance(dtype, str) else "bfloat16",
        "llm_int8_skip_modules": _dense(view, packed),
    }


def _dense(view: View, packed: Sequence[Module]) -> list[str]:
    """The modules with a plain matrix, the embedding left out."""
    stems = {m.stem for m in packed}
    return sorted(
        stem
        for name, t in view.tensors.items()
        if len(t.shape) == 2 and t.dtype in FLOATS and name.endswith(".weight")
        and name != view.embedding and (stem := name.removesuffix(".weight")) not in stems
    )  # fmt: skip


def _blocks(view: View, packed: Sequence[Module]) -> tuple[int, int] | None:
    """The sides of the blocks with one scale each, when one pair fits every module and no other."""
    fitting = []
    for rows in _BLOCKS:
        for columns in _BLOCKS:
            if all(_in_blocks(view, m, rows, columns) for m in packed):
                fitting.append((rows, columns))
    return fitting[0] if len(fitting) == 1 else None


def _in_blocks(view: View, module: Module, rows: int, columns: int) -> bool:
    weight = view.tensors[module.parts["weight"]].shape
    scales = view.tensors[module.parts["weight_scale_inv"]].shape
    if len(weight) < 2 or len(weight) != len(scales):
        return False
    return scales[-2:] == (-(-weight[-2] // rows), -(-weight[-1] // columns))


@rule("Q02", "quantisation-contradicted")
def quantisation_contradicted(view: View) -> Iterator[Finding]:
    """config.json declares a quantisation that the tensors do not have, or two that differ.

    Why: loaders build quantised layers and then find plain weights: they stop, leave the layers
    random, or dequantise what is no longer packed. Merging, casting and exporting tools copy the
    declaration of the source.

    Recognised by: a scheme that always stores packed numbers, and not one tensor of such a type;
    or config.json and hf_quant_config.json naming two schemes.

    Fine: modules that the declaration excludes are plain on purpose; BitNet, and settings for the
    cache alone, leave weights plain. Schemes that are not known here are not judged.

    Example: `"quant_method": "fp8"` over BF16 tensors, after a cast.

    Cure: delete the declaration.
    """
    modules = _packed(view)
    stated = packing.declarations(view)
    if not stated:
        raise NotApplicable("no quantisation is declared")
    view.need_whole()
    yield from _two_schemes(view, stated)
    own = [d for d in stated if d.file == CONFIG]
    first = (own or stated)[0]
    if modules or _may_be_dense(first) or not own:
        return
    if first.method not in STORED_PACKED:
        raise CannotRun(f"what {brief(first.method) or 'the declared scheme'} stores is not known")
    odd = sorted({dtype for dtype, _ in view.own_forms} - FLOATS)
    if odd:
        return
    dtype, _ = view.size_of(())
    yield found(
        ERROR,
        f"{'.'.join(first.path)} declares {brief(first.method)}, but every weight is plain {dtype}",
        at=packing.at(view, first),
        evidence=(
            Evidence(
                str(packing.at(view, first)),
                f"{'.'.join(first.path)} declares {brief(first.method)}",
                first.method,
            ),
            Evidence("names", f"none of {len(view.tensors)} tensors is packed, none is a scale"),
        ),
        cure=consent(
            f"delete {' and '.join('.'.join(d.path) for d in own)}",
            *({"op": "unset", "path": list(d.path)} for d in own),
        ),
    )


def _may_be_dense(stated: Declaration) -> bool:
    """Whether the weights are plain under this declaration, all or some of them, on purpose."""
    said = stated.settings
    groups = said.get("config_groups")
    return (
        said.get("format") == "dense"
        or said.get("quantization_mode") == "online"
        or (groups is not None and not groups)
        or said.get("quant_algo", "") is None
        or said.get("dequantize") is True
    )


def _two_schemes(view: View, stated: Sequence[Declaration]) -> Iterator[Finding]:
    """Two declarations that cannot both be true."""
    own = next((d for d in stated if d.file == CONFIG), None)
    other = next((d for d in stated if d.file == "hf_quant_config.json"), None)
    if own is None or other is None or not other.method or not own.method:
        return
    said = str(own.settings.get("quant_algo", "")).lower() or own.method
    kin = {"modelopt", other.method, f"modelopt_{other.method}"}
    if own.method in kin or said == other.method or other.method.startswith(own.method):
        return
    yield found(
        WARNING,
        f"config.json declares {brief(own.method)}, {other.file} declares {brief(other.method)}",
        at=packing.at(view, own),
        evidence=(
            Evidence(str(packing.at(view, own)), f"quant_method is {brief(own.method)}"),
            Evidence(other.file, f"quant_algo is {brief(other.method)}"),
        ),
        cure=advice("keep the declaration that fits the tensors, and remove the other"),
    )


@rule("Q03", "quantised-part-absent")
def quantised_part_absent(view: View) -> Iterator[Finding]:
    """A part of a quantised module is not stored: the scales, the zero points, the packed weight.

    Why: without it the packed numbers mean nothing. Loaders stop at the name, or read the module
    with scales of their own.

    Recognised by: for each module, the parts that its scheme needs; for plain 8-bit floats, what
    the same module of other layers has. An error where most modules have the part.

    Fine: parts of one module in different shards. Zero points are optional where the scheme is
    symmetric and says so by leaving all of them out.

    Example: `self_attn.k_proj.qweight` and `.qzeros`, and no `.scales`.

    Cure: none; nothing of it can be derived. Quantise again, or fetch the file that holds it.
    """
    modules = _packed(view)
    if not modules:
        raise NotApplicable("no weight is stored in parts")
    view.need_whole()
    every = list(packing.lacks(modules))
    for usual in (True, False):
        lacking = [lack for lack in every if lack.usual is usual]
        if not lacking:
            continue
        gone = [lack.name for lack in lacking]
        here = [n for lack in lacking for n in lack.module.parts.values()]
        yield found(
            ERROR if usual else WARNING,
            f"{len(gone)} parts of quantised modules are not stored: {some_patterns(gone)}",
            certainty=PROVEN if usual else LIKELY,
            at=place(view, here[0]),
            tensors=tuple(gone),
            evidence=(
                Evidence("names", f"stored: {some_patterns(here)}", len(here)),
                Evidence("names", f"missing: {some_patterns(gone)}", len(gone)),
            ),
            cure=advice("quantise again, or fetch the file that holds them"),
        )


@rule("Q04", "quantisation-left-over")
def quantisation_left_over(view: View) -> Iterator[Finding]:
    """Parts of a quantised module stand beside a plain weight, or alone.

    Why: strict loaders and converters stop at them ("Can not map tensor"), others report them as
    unexpected. The weights were dequantised or merged, and their scales and tables stayed.

    Recognised by: names that only quantised modules have (`absmax`, `quant_state`, `SCB`, `qzeros`,
    `g_idx`, `weight_scale_inv`) where the weight is a plain float.

    Fine: a model that declares bitsandbytes needs them; scales of the key and value cache.

    Example: `mlp.up_proj.weight` in BF16, and `mlp.up_proj.weight.absmax`.

    Cure: drop them; the weight is complete without. Beside packed weights they are needed (Q01).
    """
    modules = _packed(view)
    view.need_whole()
    plain = [m for m in modules if not m.scheme and "weight" in m.parts]
    names = [n for m in plain for p, n in m.parts.items() if packing.LEFT_OVER.fullmatch(p)]
    if not names:
        return
    here = [view.tensors[n].name for n in names]
    drops: list[Operation] = [{"op": "drop", "tensor": n} for n in here]
    yield found(
        ERROR,
        f"{len(here)} parts of quantised modules stand beside plain weights: {some_patterns(here)}",
        at=place(view, names[0]),
        tensors=tuple(here),
        evidence=(
            Evidence("names", some_patterns(here), len(here)),
            Evidence(
                "shapes", f"{printable(plain[0].parts['weight'])} is a plain matrix beside them"
            ),
        ),
        cure=consent(f"drop {len(here)} tensors", *drops),
    )


@rule("Q05", "inert-bias")
def inert_bias(view: View) -> Iterator[Finding]:
    """Biases of nothing but zeros beside GPTQ weights.

    Why: exporters give every quantised layer a bias. Readers of families without biases report
    them, or stop.

    Recognised by: `.bias` beside `.qweight`, every byte zero, in all modules of that kind.

    Fine: biases with values compensate for the order of the rows and have to stay.

    Example: `self_attn.q_proj.bias`, 4096 zeros, in a Llama quantised with GPTQ.

    Cure: none needed; they can be dropped for a reader that refuses them.
    """
    modules = [m for m in _packed(view) if "qweight" in m.parts]
    names = [n for m in modules if (n := f"{m.stem}.bias") in view.tensors]
    if not names:
        raise NotApplicable("no quantised module has a bias")
    if sum(view.tensors[n].nbytes for n in names) > _MOST_BYTES:
        raise CannotRun("the biases are too large to be read")
    for name in names:
        view.need_bytes(view.tensors[name])
        if any(piece.strip(b"\0") for piece in view.checkpoint.chunks(view.tensors[name])):
            return
    here = [view.tensors[n].name for n in names]
    yield found(
        NOTE,
        f"{len(here)} biases of quantised modules hold nothing but zeros: {some_patterns(here)}",
        at=place(view, names[0]),
        tensors=tuple(here),
        evidence=(Evidence("bytes", "every byte of them is zero"),),
        cure=consent("drop them", *({"op": "drop", "tensor": n} for n in here)),
    )


@rule("Q06", "group-size-contradicts")
def group_size_contradicts(view: View) -> Iterator[Finding]:
    """Bits or group size in config.json do not fit the shapes of the packed weights.

    Why: kernels read the packed numbers in groups of another length: an error at best, nonsense at
    worst.

    Recognised by: rows and columns of the packed weight against those of its scales.

    Fine: modules for which the declaration has an entry of their own.

    Example: `"group_size": 128` where 4096 features have 64 scales.

    Cure: write the values that the shapes tell, where all modules agree; otherwise an entry for
    each odd module.
    """
    modules = _packed(view)
    stated = [d for d in packing.declarations(view) if d.file == CONFIG]
    if not stated or not modules:
        raise NotApplicable("nothing is declared that shapes could contradict")
    first = stated[0]
    bits, size = first.settings.get("bits"), first.settings.get("group_size")
    if type(bits) is not int or type(size) is not int or not 0 < bits <= 32:
        raise NotApplicable("bits and group size are not declared for all modules alike")
    if first.settings.get("dynamic") or first.settings.get("extra_config"):
        raise CannotRun("single modules have settings of their own")
    odd: dict[str, tuple[int, int]] = {}
    for module in modules:
        if module.stem in first.settings or f"{module.stem}.weight" in first.settings:
            continue
        shapes = _bits_and_group(view, module, bits)
        if shapes and (shapes[0] != bits or shapes[1] not in _as_group(size, shapes)):
            odd[module.stem] = (shapes[0], shapes[1])
    if not odd:
        return
    ways = set(odd.values())
    path = first.path
    operations = []
    judged = [m for m in modules if _bits_and_group(view, m, bits)]
    if len(ways) == 1 and len(odd) == len(judged):
        told = ways.pop()
        operations = [
            set_key(*path, key, value=value)
            for key, value, was in (("bits", told[0], bits), ("group_size", told[1], size))
            if value != was
        ]
    name, (b, g) = next(iter(odd.items()))
    yield found(
        ERROR,
        f"{len(odd)} modules are packed with other bits or group size than config.json declares",
        at=view.at(*path),
        tensors=_names(view, [m for m in modules if m.stem in odd]),
        evidence=(
            Evidence(str(view.at(*path)), f"bits is {bits}, group_size is {size}"),
            Evidence("shapes", f"{printable(name)}: {b} bits, groups of {g}"),
        ),
        cure=consent(f"set them to {b} bits and groups of {g}", *operations)
        if operations
        else advice("give the odd modules an entry of their own in the declaration"),
    )


def _as_group(size: int, shapes: tuple[int, int, int]) -> tuple[int, ...]:
    """The lengths of groups that a declared size stands for; −1 is one group for all."""
    return (shapes[2],) if size <= 0 else (size, min(size, shapes[2]))


def _bits_and_group(view: View, module: Module, bits: int) -> tuple[int, int, int] | None:
    """(bits, group size, input features) by the shapes of a module, None where they do not tell."""

    def shape(part: str) -> tuple[int, ...]:
        return view.tensors[module.parts[part]].shape if part in module.parts else ()

    scales = shape("scales")
    if module.scheme in ("GPTQ", "AWQ"):
        packed, zeros = shape("qweight"), shape("qzeros")
        if len(packed) != 2 or len(scales) != 2 or len(zeros) != 2 or not scales[1] or not zeros[1]:
            return None
        own = 32 * zeros[1] // scales[1]
        features = packed[0] if module.scheme == "AWQ" else packed[0] * 32 // max(own, 1)
    elif module.scheme == "MLX":
        packed = shape("weight")
        if len(packed) < 2 or len(scales) < 2:
            return None
        own, features = bits, packed[-1] * 32 // bits  # the shapes tell the product alone
        scales = (scales[-1],)
    else:
        return None
    if not own or not scales[0] or features % scales[0]:
        return None
    return own, features // scales[0], features


@rule("Q07", "dtype-of-few-readers")
def dtype_of_few_readers(view: View) -> Iterator[Finding]:
    """Tensors have a dtype that older releases of safetensors refuse.

    Why: a reader built on such a release refuses the whole file for one tensor ("unknown variant").

    Recognised by: the dtypes, and the release of safetensors that brought them.

    Fine: the file is sound; nothing has to be done for current readers.

    Example: scales in F8_E8M0, as in MXFP8 files.

    Cure: a newer reader, or a conversion.
    """
    few: dict[str, list[str]] = {}
    first = min(known.since for known in DTYPES.values())
    late = {dtype for dtype, known in DTYPES.items() if known.since != first}
    for (dtype, _), alike in view.forms.items():
        if dtype in late:
            few.setdefault(dtype, []).extend(alike)
    for dtype, alike in sorted(few.items()):
        names = view.kinds.in_order(alike)
        yield found(
            NOTE,
            f"{len(names)} tensors are {dtype}, which safetensors reads since "
            f"{DTYPES[dtype].since}",
            at=Location(view.checkpoint.tensors[names[0]].file),
            tensors=tuple(names),
            evidence=(Evidence("names", some_patterns(names), len(names)),),
        )


RULES = (
    quantisation_undeclared,
    quantisation_contradicted,
    quantised_part_absent,
    quantisation_left_over,
    inert_bias,
    group_size_contradicts,
    dtype_of_few_readers,
)
