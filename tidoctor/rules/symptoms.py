"""From the message of a loader to the rules that may be behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tidoctor.loaders import Origin


class Symptom(NamedTuple):
    """A kind of message, the likely rules in order, and what to keep in mind."""

    pattern: str  # a regular expression, searched without regard to case
    codes: tuple[str, ...]
    advice: str


# Collected from public reports of transformers, candle, LoRAX, text-generation-inference, mergekit,
# vLLM, llama.cpp and MLX; the more specific message stands first.
SYMPTOMS: tuple[Symptom, ...] = (
    Symptom(
        r"(cannot find tensor|weight|does not contain tensor|missing tensor|missing weight)\W+"
        r"(\w+\.)*(lm_head|output|embed_out)\b(\.weight)?",
        ("H01", "H02", "N13", "H03"),
        "a tied model stores no head: diagnose tells whether it is tied (then upgrade the loader, "
        "or `tidoctor untie`) or lost; code that asks for `lm_head` forgot `.weight`",
    ),
    Symptom(
        r"KeyError: ['\"]lm_head\.weight|(parameters? not in model|no module or parameter named|"
        r"can ?not map tensor)\W+.*lm_head",
        ("H04", "H01", "H05", "H11", "N12"),
        "drop the head only when it equals the embedding (H04); when it differs (H05), never",
    ),
    Symptom(
        r"newly initialized.*lm_head|lm_head\.weight\s*\|\s*MISSING",
        ("H02", "N12", "N01", "H06"),
        "harmless for tied models in old versions, a lost head otherwise",
    ),
    Symptom(
        r"newly initialized.*(score|classifier|qa_outputs)",
        ("H10", "H03"),
        "expected when training of a classifier begins, a loss when it is served",
    ),
    Symptom(
        r"unexpected key.*(_orig_mod|module\.|pretrained_model|_fsdp_wrapped)|"
        r"(_orig_mod|_fsdp_wrapped_module|_forward_module)\.",
        ("N01", "N02"),
        "",
    ),
    Symptom(
        r"no module or parameter named\W+(layers|model|language_model|visual)",
        ("N04", "N06", "N07"),
        "the loader knows the other generation of names, or the class is that of a part",
    ),
    Symptom(
        r"absmax|quant_map|\bSCB\b|can ?not map tensor",
        ("Q04", "Q01", "N11", "N12", "N04"),
        "converters stop at the first tensor that is none of their model's",
    ),
    Symptom(
        r"newly initialized|missing keys|(?-i:\bMISSING\b)",
        ("N01", "N02", "N07", "N10", "C04", "N04", "S07", "F05"),
        "when every layer is listed, the names as a whole do not fit: a wrapper, another layout or "
        "a stub file",
    ),
    Symptom(
        r"state dictionary.*(seems?|is) corrupted|checkpoint seems? corrupted",
        ("N05", "N04"),
        "transformers 4 says so of a bare body beside a head",
    ),
    Symptom(
        r"no module or parameter named ['\"]?(layers|model|language_model)",
        ("N04", "C04", "N01"),
        "",
    ),
    Symptom(
        r"can ?not map tensor.*(gamma|beta)",
        ("N11",),
        "",
    ),
    Symptom(
        r"can ?not map tensor.*(embed_tokens|layers\.)",
        ("N04", "N01", "N03", "N12"),
        "",
    ),
    Symptom(
        r"torch\.Size\(\[0\]\)",
        ("D01",),
        "",
    ),
    Symptom(
        r"copying a param with shape torch\.Size\(\[\d{4,}\]\)",
        ("D02", "D01"),
        "",
    ),
    Symptom(
        r"size mismatch|ignore_mismatched_sizes",
        ("C05", "H12", "C06", "D05", "D01", "D02"),
        "ignore_mismatched_sizes=True fills the tensor with random numbers",
    ),
    Symptom(
        r"header ?too ?large|HeaderTooLarge",
        ("F01", "F03", "F02"),
        "most often the file is a git-lfs pointer or a web page",
    ),
    Symptom(
        r"MetadataIncompleteBuffer|incomplete metadata|not fully covered",
        ("F02",),
        "",
    ),
    Symptom(
        r"invalid ?offset|InvalidOffset|TensorInvalidInfo|invalid shape, data type",
        ("F03",),
        "",
    ),
    Symptom(
        r"header ?too ?small|HeaderTooSmall|invalid header length|InvalidHeader",
        ("F05", "F02", "F01"),
        "",
    ),
    Symptom(
        r"(valid metadata|Incompatible safetensors file|metadata\.get|'NoneType' object has no "
        r"attribute 'get')",
        ("F04",),
        "",
    ),
    Symptom(
        r"unknown dtype|unsupported (safetensors? )?dtype|unknown variant|"
        r"KeyError:? ['\"]?(BF16|[UI]8|F8_)",
        ("Q07", "Q01", "F03"),
        "an older release of the library may not know a dtype of a newer one",
    ),
    Symptom(
        r"KeyError:? ['\"]?(metadata|weight_map)",
        ("S09",),
        "",
    ),
    Symptom(
        r"adapter_config|can't find 'adapter_config",
        ("C02", "N03"),
        "",
    ),
    Symptom(
        r"does not appear to have a file named config\.json|config\.json.*(not found|no such file)",
        ("C02", "C01"),
        "",
    ),
    Symptom(
        r"should have a .?model_type|model_type. key",
        ("C03", "C02"),
        "",
    ),
    Symptom(
        r"(architectures?|model class).*not supported|not a registered model|"
        r"unsupported architecture",
        ("C04", "C03"),
        "the class may also be one that this server does not have",
    ),
    Symptom(
        r"does not appear to have a file named (pytorch_model\.bin|model\.safetensors)|"
        r"no file named (pytorch_model|model\.safetensors)",
        ("S02", "S11", "C02"),
        "",
    ),
    Symptom(
        r"(no such file|not found).*-of-\d+\.safetensors|-of-\d+\.safetensors.*(no such|not found)",
        ("S01", "S08", "S07"),
        "",
    ),
    Symptom(
        r"JSONDecodeError|invalid character|not a valid JSON|expected value at line|"
        r"trailing comma",
        ("C11", "S09"),
        "",
    ),
    Symptom(
        r"KeyError:? ['\"]?(?:model\.)?layers\.\d+",
        ("C08", "C07"),
        "a layer beyond the last one is one for predicting more tokens",
    ),
    Symptom(
        r"is on the meta device|meta tensor",
        ("H08", "S03"),
        "",
    ),
    Symptom(
        r"share memory|shared tensor",
        ("H08", "H09", "D01", "C07"),
        "",
    ),
    Symptom(
        r"gibberish|garbage|nonsense|repeat(s|ed|ing)? (the same )?token|random output",
        ("H05", "H07", "H02", "S01", "S06", "Q01", "D03", "D04", "N01"),
        "none of these raises an exception in transformers",
    ),
)


def symptoms(message: str) -> list[Symptom]:
    """The kinds of messages that this one is like, the most specific first."""
    text = message if len(message) <= 8_000 else message[:2_000] + "\n" + message[-6_000:]
    return [s for s in SYMPTOMS if re.search(s.pattern, text, re.IGNORECASE | re.DOTALL)]


class Meaning(NamedTuple):
    """What a loader's message says of the checkpoint, and the rules that find it."""

    words: str
    codes: tuple[str, ...]


_MEANINGS: Mapping[str, Meaning] = {
    "missing": Meaning(
        "it asks for a tensor that no file holds under this name: a base prefix too many or too "
        "few, a missing file, another layout or class",
        ("L01", "L02", "N04", "N01", "C04", "S01", "C07"),
    ),
    "missing head": Meaning(
        "it asks for an output head that no file holds: the model is tied and stores none, or the "
        "head is lost",
        ("L01", "L02", "H01", "H02", "C04", "N13"),
    ),
    "extra": Meaning(
        "it has no place for a tensor that is stored: a wrapper or prefix, a stray file, a class "
        "with other parts",
        ("L01", "N01", "N04", "H11", "S05", "C12"),
    ),
    "extra head": Meaning(
        "it has no place for an output head that is stored: the model is tied there",
        ("L01", "H04", "H05", "H11"),
    ),
    "shape": Meaning(
        "a tensor has another shape than the class has under this config.json",
        ("L01", "C06", "C05", "D01", "D02"),
    ),
    "config": Meaning(
        "config.json lacks a key that it reads at the top level; transformers 5 moves some of them "
        "(rope_theta) elsewhere",
        ("L01", "C03"),
    ),
    "null": Meaning("a key of config.json is null where it wants a value", ("L01",)),
    "class": Meaning(
        "it does not serve the class that config.json names", ("L01", "C04", "C03")
    ),
    "duplicate": Meaning(
        "a tensor stands in two files, and it reads every file of the folder", ("L01", "S05", "S06")
    ),
    "flag": Meaning("it refuses this value of the tie flag", ("L01", "H04", "H05")),
    "corrupted": Meaning(
        "the body has no base prefix, and a head stands at the top", ("L01", "N05", "N04")
    ),
    "files": Meaning(
        "no weight file has a name that it looks for", ("L01", "S11", "S02")
    ),
    "absent": Meaning(
        "a file that the index names, or that it asks for by name, is not in the folder",
        ("L01", "S01", "S02"),
    ),
    "metadata": Meaning(
        "a safetensors file has no __metadata__, without which it does not know the format",
        ("L01", "F04"),
    ),
    "scaling": Meaning(
        "config.json stretches the rotary base in a way that it does not take, or does not find "
        "where it looks",
        ("L01", "C13"),
    ),
    "layout": Meaning("it does not find in this config of which kinds the layers are", ("L01",)),
    "index": Meaning("the index and the files do not name the same tensors", ("L01", "S03", "S04")),
}


def meaning(origin: Origin) -> Meaning:
    """What the message of a loader says."""
    kind = "missing" if origin.kind.startswith("missing") else origin.kind.partition("_")[0]
    head = f"{kind} head"
    return _MEANINGS[head if origin.about_head and head in _MEANINGS else kind]
