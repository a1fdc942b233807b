"""Rules as tables: what is done to a tiny checkpoint, and which findings it must have.

No file on disk: a checkpoint is bytes in memory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, llama, promised, safetensors_bytes, write

import tidoctor
from tidoctor import rules
from tidoctor.errors import Usage
from tidoctor.finding import CureKind, Diagnosis, Finding
from tidoctor.opening import open_checkpoint
from tidoctor.plan import Plan

TIED = {**LLAMA, "tie_word_embeddings": True}
FLAGLESS = {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"}
QWEN2 = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 16, "n_head": 4,
    "n_layer": 1, "vocab_size": 64, "n_positions": 32,
}
GPT2_BODY = promised({**GPT2, "architectures": ["GPT2Model"]})
BERT = {
    "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": 16,
    "vocab_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32,
}
T5 = {
    "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 16, "d_kv": 4,
    "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4, "vocab_size": 64,
    "tie_word_embeddings": True,
}
T5_BODY = promised(T5)
BART = {
    "architectures": ["BartForConditionalGeneration"], "model_type": "bart", "d_model": 16,
    "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 32,
    "vocab_size": 64, "tie_word_embeddings": False,
}
VIT = {
    "architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": 16,
    "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32,
}
OPT = {
    "architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": 64, "hidden_size": 16,
    "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 32,
}

FP8 = {
    **llama(), "model.layers.0.mlp.up_proj.weight": ("F8_E4M3", [32, 16]),
    "model.layers.0.mlp.up_proj.weight_scale_inv": ("F32", [1, 1]),
}

Files = dict[str, bytes]


def examine(files: Files, **options: Any) -> Diagnosis:
    return rules.diagnose(open_checkpoint(Memory(files)), **options)


def codes(diagnosis: Diagnosis) -> dict[str, str]:
    """{code: severity}, with what a finding includes as `+`."""
    out = {}
    for finding in diagnosis.findings:
        out[finding.code] = str(finding.severity)
        out |= {code: "+" for code in finding.includes}
    return out


def only(diagnosis: Diagnosis, code: str) -> Finding:
    (finding,) = [f for f in diagnosis.findings if f.code == code]
    return finding


def names(change: Callable[[str], str], table: dict[str, Any] | None = None) -> dict[str, Any]:
    return {change(n): shape for n, shape in (table or llama()).items()}


def copied_head(table: dict[str, Any], embedding: str = "model.embed_tokens.weight") -> dict:
    return {**table, "lm_head.weight": ("BF16", [64, 16], embedding)}


def edited(files: Files, file: str, change: Callable[[dict], Any]) -> Files:
    data = json.loads(files[file])
    result = change(data)
    return {**files, file: json.dumps(data if result is None else result).encode()}


INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

HEALTHY = {
    "llama untied": build(llama(), LLAMA),
    "llama untied, sharded": build(llama(), LLAMA, shards=3),
    "head equal to the embedding, untied": build(copied_head(llama(head=False)), LLAMA),
    "llama tied": build(llama(head=False), TIED),
    "flag absent, class ties": build(GPT2_BODY, GPT2),
    "flag absent, class does not tie": build(llama(), FLAGLESS),
    "GPT-2 with its prefix": build(names(lambda n: "transformer." + n, GPT2_BODY), GPT2),
    "T5": build(T5_BODY, T5),
    "T5 with a head of its own, as transformers 4 writes it": build(
        {**T5_BODY, "lm_head.weight": [64, 16]},
        {**T5, "tie_word_embeddings": False, "transformers_version": "4.57.6"},
    ),
    "T5 with a head of its own and the flag put back to false": build(
        {**T5_BODY, "lm_head.weight": [64, 16]},
        {**T5, "tie_word_embeddings": False, "transformers_version": "5.23.0"},
    ),
    "classifier": build(
        {**llama(head=False), "score.weight": [2, 16]},
        {**LLAMA, "architectures": ["LlamaForSequenceClassification"]},
    ),
    "embedding model": build(
        llama(head=False, prefix=""), {**LLAMA, "architectures": ["LlamaModel"]},
        files={"modules.json": "[]", "1_Pooling/config.json": "{}"},
    ),
    "embedding model that calls itself a generator": build(
        llama(head=False), LLAMA, files={"config_sentence_transformers.json": "{}"},
    ),
    "unknown family": build(
        llama(), {**LLAMA, "model_type": "new", "architectures": ["NewForCausalLM"],
                  "auto_map": {"AutoModel": "modeling.py"}},
    ),
    "an adapter beside it": {
        **build(llama(), LLAMA),
        "adapter_model.safetensors": safetensors_bytes({"x.lora_A.weight": ("F32", [1], b"1234")}),
        "adapter_config.json": b"{}",
    },
    "vendor's weights beside shards": {
        **build(llama(), LLAMA, shards=2),
        "consolidated.safetensors": safetensors_bytes({"output.weight": ("F32", [1], b"1234")}),
    },
    "packed experts without suffix": build(
        {**llama(), "model.layers.0.mlp.experts.gate_up_proj": [4, 16, 32],
         "model.layers.0.mlp.experts.down_proj": [4, 32, 16],
         "model.layers.0.self_attn.sinks": [4]}, LLAMA,
    ),
    "quantised head": build(
        {**llama(head=False), "lm_head.qweight": ("I32", [2, 64]),
         "lm_head.scales": ("F16", [1, 64])},
        {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1}},
    ),
    "MLA has lora in its names": build(
        {**llama(), "model.layers.0.self_attn.kv_a_proj_with_mqa.weight": [8, 16]}, LLAMA,
    ),
    "empty buffer of custom code": build({**llama(), "model.rope_cache": [0]}, LLAMA),
    "layer without outputs": build(
        {**llama(), "model.extra.weight": [0, 16], "model.extra.bias": [0]}, LLAMA),
    "diffusers component": {
        "config.json": b'{"_class_name": "UNet2DConditionModel"}',
        "diffusion_pytorch_model.safetensors": safetensors_bytes({"a": ("F32", [1], b"1234")}),
    },
    "timm": {
        "config.json": b'{"architecture": "vit", "pretrained_cfg": {}}',
        "model.safetensors": safetensors_bytes({"head.weight": ("F32", [1], b"1234")}),
    },
}  # fmt: skip


@pytest.mark.parametrize("files", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_checkpoint_has_no_finding_above_note(files: Files) -> None:
    found = examine(files)
    assert {c: s for c, s in codes(found).items() if s in ("error", "warning")} == {}
    assert found.ran


def base_class(config: dict[str, Any], **changes: Any) -> Files:
    return build(llama(head=False, prefix=""),
                 {**config, "architectures": ["LlamaModel"], **changes})


FLAT = {**llama(), "model.embed_tokens.weight": [258]}
OVERLAY = safetensors_bytes({"model.norm.weight": ("BF16", [16], b"\x80\x3f" * 16)})

SICK: dict[str, tuple[Files, dict[str, str]]] = {
    # F
    "git-lfs pointer": (
        {**build(llama(), LLAMA), "model.safetensors":
         b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"},
        {"F01": "error"}),
    "cut off": (
        {**build(llama(), LLAMA), "model.safetensors": build(llama(), LLAMA)["model.safetensors"][:-9]},
        {"F02": "error"}),
    "bytes at the end": (
        {**build(llama(), LLAMA), "model.safetensors":
         build(llama(), LLAMA)["model.safetensors"] + b"0000"}, {"F02": "error"}),
    "no metadata": (build(llama(), LLAMA, metadata=None), {"F04": "warning"}),
    "metadata without format": (build(llama(), LLAMA, metadata={}), {"F04": "warning"}),
    "metadata of another kind": (
        build(llama(), LLAMA, metadata={"format": "zarr"}), {"F04": "warning"}),
    "empty file": ({**build(llama(), LLAMA), "model.safetensors": b""}, {"F05": "error"}),
    # S
    "a shard is missing": (
        {k: v for k, v in build(llama(), LLAMA, shards=2).items() if k != TWO},
        {"S01": "error", "S08": "+"}),
    "no index": (
        {k: v for k, v in build(llama(), LLAMA, shards=2).items() if k != INDEX}, {"S02": "error"}),
    "phantom entry": (
        edited(build(llama(), LLAMA, shards=2), INDEX,
               lambda d: d["weight_map"].update({"mtp.fc.weight": ONE})), {"S03": "error"}),
    "wrong file in the index": (
        edited(build(llama(), LLAMA, shards=2), INDEX,
               lambda d: d["weight_map"].update({"lm_head.weight": ONE})), {"S03": "error"}),
    "entry missing in the index": (
        edited(build(llama(), LLAMA, shards=2), INDEX,
               lambda d: d["weight_map"].pop("model.norm.weight") and None), {"S04": "warning"}),
    "stray file that repeats tensors": (
        {**build(llama(), LLAMA), "other.safetensors": OVERLAY}, {"S05": "warning"}),
    "two copies, the index names the one read first": (
        edited({**build(llama(), LLAMA, shards=2), "zzz.safetensors": OVERLAY}, INDEX,
               lambda d: d["weight_map"].update({"x": "zzz.safetensors"})),
        {"S06": "error", "S03": "error", "S04": "+", "S10": "note"}),
    "single file beside an index": (
        {**build(llama(), LLAMA, shards=2), "model.safetensors": OVERLAY}, {"S07": "error", "S05": "+"}),
    "stub beside an index": (
        {**build(llama(), LLAMA, shards=2), "model.safetensors": safetensors_bytes({})},
        {"S07": "error", "F05": "+"}),
    "index without metadata": (
        edited(build(llama(), LLAMA, shards=2), INDEX, lambda d: d.pop("metadata") and None),
        {"S09": "error"}),
    "index with a byte order mark": (
        {**build(llama(), LLAMA, shards=2),
         INDEX: b"\xef\xbb\xbf" + build(llama(), LLAMA, shards=2)[INDEX]}, {"S09": "error"}),
    "index leads out": (
        edited(build(llama(), LLAMA, shards=2), INDEX,
               lambda d: d["weight_map"].update({"lm_head.weight": "../../etc/passwd"})),
        {"S09": "error", "S04": "warning"}),
    "index is a list": ({**build(llama(), LLAMA, shards=2), INDEX: b"[]"},
                        {"S09": "error", "S02": "error"}),
    "total size": (
        edited(build(llama(), LLAMA, shards=2), INDEX,
               lambda d: d["metadata"].update({"total_size": 1})), {"S10": "note"}),
    "strange name": (
        {"config.json": build(llama(), LLAMA)["config.json"],
         "weights.safetensors": build(llama(), LLAMA)["model.safetensors"]}, {"S11": "warning"}),
    # N
    "compiled and wrapped": (
        build(names(lambda n: "module._orig_mod." + n), LLAMA), {"N01": "error"}),
    "one level too deep": (build(names(lambda n: "model." + n), LLAMA), {"N01": "error"}),
    "wrapper that nobody knows": (
        build(names(lambda n: "state_dict." + n), LLAMA), {"N01": "error"}),
    "names of another program": (
        build({"decoder/layer_0/kernel": [16, 16], "token_embedder/embedding": [64, 16]}, LLAMA),
        {"C12": "error"}),
    "infix": (
        build(names(lambda n: n.replace("layers.0.", "layers.0._checkpoint_wrapped_module.")),
              LLAMA), {"N02": "error"}),
    "adapter inside": (
        build({**names(lambda n: n.replace("q_proj.weight", "q_proj.base_layer.weight")),
               "model.layers.0.self_attn.q_proj.lora_A.default.weight": [2, 16]}, LLAMA),
        {"N03": "error"}),
    "bare body, head on top": (
        build({**llama(prefix="", head=False), "lm_head.weight": [64, 16]}, LLAMA),
        {"N04": "warning"}),
    "both layouts": (
        build({**llama(), **names(lambda n: n.replace("model.layers.1", "layers.2"),
               {k: v for k, v in llama().items() if "layers.1" in k})},
              {**LLAMA, "num_hidden_layers": 3}), {"N05": "error"}),
    "gamma": (
        build({n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                   "LayerNorm.bias", "LayerNorm.beta"): s for n, s in promised(BERT).items()},
              BERT), {"N11": "note", "H01": "note", "H06": "+"}),
    "head in a Sequential": (
        build({**llama(head=False), "lm_head.0.weight": [64, 16]}, LLAMA), {"N12": "error"}),
    "head without suffix": (
        build({**llama(head=False), "lm_head": [64, 16]}, LLAMA), {"N13": "error"}),
    "suffix twice": (
        build(names(lambda n: n.replace("q_proj.weight", "q_proj.weight.weight")), LLAMA),
        {"N13": "error"}),
    "cut names": (
        build({n.replace("model.decoder.", "der."): s for n, s in promised(OPT).items()}, OPT),
        {"N15": "error"}),
    # H
    "head tied": (build(llama(head=False), TIED), {"H01": "note"}),
    "head lost": (build(llama(head=False), LLAMA), {"H02": "error"}),
    "head of a T5 lost": (
        build(T5_BODY, {**T5, "tie_word_embeddings": False, "transformers_version": "5.23.0"}),
        {"H02": "error", "H07": "+"}),
    "both ends of an untied BART lost": (
        build({n: s for n, s in promised(BART).items() if "embed_tokens" not in n}
              | {"model.shared.weight": [64, 16]}, BART), {"H09": "error"}),
    "head lost, flag absent": (
        build(llama(head=False), FLAGLESS), {"H02": "error", "H06": "+"}),
    "no head by design": (HEALTHY["classifier"], {"H03": "note"}),
    "head redundant": (build(copied_head(llama(head=False)), TIED), {"H04": "note"}),
    "head differs": (build(llama(), TIED), {"H05": "error"}),
    "head differs, class ties by default": (
        build({**names(lambda n: "transformer." + n, GPT2_BODY), "lm_head.weight": [64, 16]}, GPT2),
        {"H05": "error", "H06": "+"}),
    "T5 with a head, saved again by transformers 5": (
        build({**T5_BODY, "lm_head.weight": [64, 16]},
              {**T5, "scale_decoder_outputs": False, "transformers_version": "5.23.0"}),
        {"H05": "warning"}),
    "embedding under the name of the head": (
        build({**{n: s for n, s in llama(head=False).items() if "embed" not in n},
               "lm_head.weight": [64, 16]}, TIED), {"H08": "warning"}),
    "embedding lost": (
        build({n: s for n, s in llama().items() if "embed" not in n}, LLAMA), {"H08": "error"}),
    "tied group under an alias": (
        build({"encoder.embed_tokens.weight" if n == "shared.weight" else n: s
               for n, s in T5_BODY.items()}, T5), {"H09": "warning"}),
    "classifier of images lost": (
        build({n: s for n, s in promised(VIT).items() if "classifier" not in n}, VIT),
        {"H10": "error"}),
    "a Llama that calls itself a Phi": (
        build(llama(), {**LLAMA, "architectures": ["PhiForCausalLM"], "model_type": "phi"}),
        {"C12": "error", "H10": "+"}),
    "neither head nor embedding": (
        build({n: s for n, s in llama(head=False).items() if "embed" not in n}, TIED),
        {"H08": "error"}),
    "T5 without its shared matrix": (
        build({n: s for n, s in T5_BODY.items() if "shared" not in n}, T5), {"H08": "error"}),
    "score lost": (
        build(llama(head=False), {**LLAMA, "architectures": ["LlamaForSequenceClassification"]}),
        {"H10": "error", "H03": "note"}),
    "value head": (
        build({**llama(), "v_head.summary.weight": [1, 16]}, LLAMA), {"H11": "warning"}),
    "head has more rows": (
        build({**llama(), "lm_head.weight": [72, 16]}, LLAMA), {"C06": "error", "H12": "+"}),
    # C
    "no config": (build(llama(), None), {"C01": "error"}),
    "adapter only": (
        {"adapter_config.json": b'{"base_model_name_or_path": "org/base"}',
         "adapter_model.safetensors": safetensors_bytes(
             {"base_model.model.x.lora_A.weight": ("F32", [1], b"1234")})}, {"C02": "error"}),
    "no model_type": (
        build(llama(), {k: v for k, v in LLAMA.items() if k != "model_type"}), {"C03": "error"}),
    "base class saved, untied": (
        base_class(LLAMA), {"C04": "warning", "N04": "+", "H02": "+"}),
    "base class saved, tied": (base_class(TIED), {"C04": "warning", "N04": "+"}),
    "wrapper class": (
        build(llama(), {**LLAMA, "architectures": ["PeftModelForCausalLM"]}), {"C04": "error"}),
    "vocabulary": (build(llama(), {**LLAMA, "vocab_size": 60}), {"C05": "error"}),
    "a layer is lost": (
        build({n: s for n, s in llama(4).items() if "layers.2" not in n},
              {**LLAMA, "num_hidden_layers": 4}), {"C07": "error"}),
    "the last layers of quantised ones are lost": (
        build(FP8, {**LLAMA, "num_hidden_layers": 3,
                    "quantization_config": {"quant_method": "fp8"}}), {"C07": "error"}),
    "nothing but the embedding and the head": (
        build({n: s for n, s in llama().items() if "layers" not in n}, LLAMA), {"C07": "error"}),
    "MTP layers": (
        build({**llama(), "model.layers.2.eh_proj.weight": [16, 32]},
              {**LLAMA, "num_nextn_predict_layers": 0}), {"C08": "note"}),
    "trailing comma": (
        build(llama(), json.dumps(LLAMA)[:-1] + ",}"), {"C11": "error"}),
    "infinity": (
        build(llama(), json.dumps({**LLAMA, "x": float("inf")})), {"C11": "error"}),
    # D
    "ZeRO-3 placeholders": (
        build({n: [0] for n in llama()}, LLAMA), {"D01": "error"}),
    "flat parameter": (build(FLAT, LLAMA), {"D02": "error"}),
    # what the class promises; more in test_rules_expected.py
    "another intermediate size": (
        build(llama(), {**LLAMA, "intermediate_size": 48}), {"C06": "error"}),
    "tensor inside a layer": (
        build({n: s for n, s in llama().items() if "1.mlp.up" not in n}, LLAMA), {"C07": "error"}),
    "biases that are declared": (
        build(llama(), {**LLAMA, "attention_bias": True}), {"C09": "error"}),
    "text model under multimodal names": (
        build(names(lambda n: n.replace("model.", "model.language_model.")), LLAMA),
        {"N07": "error"}),
    "norm under another name": (
        build(names(lambda n: n.replace("model.norm", "model.final_norm")), LLAMA),
        {"N14": "error"}),
    "one rank of two": (
        build({n: [s[0] // 2, *s[1:]] if "up_proj" in n or "q_proj" in n else s
               for n, s in llama().items()}, LLAMA), {"D05": "error"}),
}  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), SICK.values(), ids=SICK.keys())
def test_what_is_wrong_is_found_and_nothing_else(files: Files, expected: dict[str, str]) -> None:
    assert codes(examine(files)) == expected


def test_every_rule_is_seen_to_find_something() -> None:
    seen = {code for _, expected in SICK.values() for code in expected} | {"D03", "D04"}
    seen |= {"N06", "N08", "N09", "N10"}  # in test_rules_expected.py
    seen |= {"L01", "L02", "L03", "X02"}  # in test_loaders_verdicts.py and test_promise.py
    seen |= {"Q01", "Q02", "Q03", "Q04", "Q05", "Q06", "Q07", "C10"}  # in test_quantisation.py
    seen |= {"D06"}  # in test_values.py
    seen |= {"X01"}  # in test_origin.py
    seen |= {"H13"}  # below
    seen |= {"C13", "H14"}  # in test_generations.py
    seen |= {"X03", "F06"}  # in test_manifest.py and below: they need files on a disk
    seen |= set(codes(examine(DISPUTED)))
    overlapping = safetensors_bytes({"a": ("F32", [1], b"1234"), "b": ("F32", [1], b"")})
    seen |= set(codes(examine({"model.safetensors": overlapping})))
    assert {r.code for r in rules.RULES} - seen == set()


# A composite model: transformers 4 reads the flag of text_config, transformers 5 the top one.
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "vocab_size": 64},
}  # fmt: skip
DISPUTED = build(
    {"language_model.model.embed_tokens.weight": [64, 16],
     "language_model.model.layers.0.mlp.down_proj.weight": [16, 32]},
    {**GEMMA3, "tie_word_embeddings": True,
     "text_config": {**GEMMA3["text_config"], "tie_word_embeddings": False}},
)  # fmt: skip


def test_a_flag_on_two_levels_is_disputed() -> None:
    finding = only(examine(DISPUTED), "H07")
    assert str(finding.severity) == "warning"
    assert "transformers 4 takes the head as untied, transformers 5 as tied" in finding.message


@pytest.mark.parametrize(
    ("version", "code"), [("4.57.6", "H02"), ("5.23.0", "H01")], ids=["written by 4", "by 5"]
)
def test_who_wrote_a_disputed_config_decides_what_it_means(version: str, code: str) -> None:
    files = edited(DISPUTED, "config.json", lambda d: d.update(transformers_version=version))
    assert code in codes(examine(files))


def test_wanting_a_generator_makes_a_saved_base_class_an_error() -> None:
    found = examine(base_class(LLAMA), wanted="causal-lm")
    assert codes(found) == {"C04": "error", "N04": "+", "H02": "+"}
    finding = only(found, "C04")
    assert finding.cure is not None and finding.cure.needs == ("donor",)
    assert "tie_word_embeddings=true" in finding.not_
    assert codes(examine(base_class(LLAMA), wanted="LlamaForCausalLM")) == codes(found)


def test_beside_sentence_transformers_a_base_class_is_a_note() -> None:
    assert codes(examine(HEALTHY["embedding model"]))["C04"] == "note"


def test_evidence_says_where_it_stands() -> None:
    finding = only(examine(build(llama(head=False), LLAMA)), "H02")
    assert str(finding.location) == "config.json:16"
    assert ("config.json:16", "tie_word_embeddings is false") in {
        (e.where, e.fact) for e in finding.evidence
    }


CURABLE = [
    "wrapper that nobody knows",
    "bytes at the end", "no metadata", "metadata without format", "no index",
    "wrong file in the index", "entry missing in the index", "stub beside an index",
    "index without metadata", "index with a byte order mark", "strange name", "compiled and wrapped", "one level too deep",
    "infix", "bare body, head on top", "both layouts", "head in a Sequential",
    "head without suffix", "suffix twice", "cut names", "embedding under the name of the head",
    "tied group under an alias", "base class saved, tied", "trailing comma",
]  # fmt: skip


@pytest.mark.parametrize("name", CURABLE)
def test_a_safe_cure_removes_its_finding(name: str) -> None:
    files, expected = SICK[name]
    before = open_checkpoint(Memory(files))
    finding = next(
        f for f in rules.diagnose(before).findings if expected[f.code] in ("error", "warning")
    )
    assert finding.cure is not None and finding.cure.kind is CureKind.SAFE, finding
    after = Plan((finding.cure.operations,)).apply(before)
    left = rules.diagnose(after)
    assert {c: s for c, s in codes(left).items() if s in ("error", "warning")} == {}
    assert after.nbytes == before.nbytes


def test_a_complete_base_class_becomes_the_generator_that_is_wanted() -> None:
    before = open_checkpoint(Memory(base_class(TIED)))
    finding = only(rules.diagnose(before, wanted="causal-lm"), "C04")
    assert str(finding.severity) == "error"
    assert finding.cure is not None and finding.cure.kind is CureKind.SAFE
    after = Plan((finding.cure.operations,)).apply(before)
    assert codes(rules.diagnose(after, wanted="causal-lm")) == {"H01": "note"}


def test_no_cure_of_a_lost_head_is_safe() -> None:
    for name in ("head lost", "base class saved, untied", "embedding lost", "head differs"):
        for finding in examine(SICK[name][0]).findings:
            assert finding.cure is None or finding.cure.kind is not CureKind.SAFE


def test_rules_that_cannot_run_say_why() -> None:
    found = examine(SICK["a shard is missing"][0])
    reasons = {n.code: n.reason for n in found.not_run}
    assert reasons["H02"] == f"{TWO} is not there"
    every = {*found.ran, *(n.code for n in (*found.not_applicable, *found.not_run))}
    assert every == {r.code for r in rules.RULES}


def test_bytes_that_are_cut_off_are_not_compared() -> None:
    files = build(copied_head(llama(head=False)), TIED)
    files["model.safetensors"] = files["model.safetensors"][:-100]
    found = examine(files)
    assert codes(found) == {"F02": "error"}
    assert "H04" in {n.code for n in found.not_run}


def test_selecting_and_ignoring() -> None:
    files = build(llama(head=False), LLAMA)
    assert codes(examine(files, select=["head-lost"])) == {"H02": "error"}
    assert codes(examine(files, select=["F", "s"])) == {}
    assert codes(examine(files, ignore=["H02"])) == {}
    with pytest.raises(Usage, match="did you mean head-lost"):
        examine(files, select=["head-lots"])
    with pytest.raises(Usage, match="neither a class"):
        examine(files, wanted="poet")


def test_fingerprints_outlive_sizes_and_lines() -> None:
    a = only(examine(build(llama(head=False), LLAMA)), "H02")
    b = only(examine(build(llama(3, head=False), {"x": 1, **LLAMA})), "H02")
    assert a.fingerprint == b.fingerprint
    assert a.location != b.location


def test_pages_are_whole() -> None:
    for rule in rules.RULES:
        assert rule.title.endswith("."), rule.code
        for part in ("Why:", "Recognised by:", "Cure:"):
            assert part in rule.page, (rule.code, part)
        assert tidoctor.explain(rule.code) is tidoctor.explain(rule.name) is rule


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ("Error: cannot find tensor lm_head.weight", "H01"),
        ("RuntimeError: weight lm_head.weight does not exist", "H01"),
        ("SafetensorError: File does not contain tensor lm_head.weight", "H01"),
        ("KeyError: 'lm_head.weight'", "H04"),
        ("ValueError: Received parameters not in model: lm_head.weight", "H04"),
        ("newly initialized: ['lm_head.weight']", "H02"),
        ('Unexpected key(s) in state_dict: "_orig_mod.model.x"', "N01"),
        ("Error while deserializing header: HeaderTooLarge", "F01"),
        ("incomplete metadata, file not fully covered", "F02"),
        ("copying a param with shape torch.Size([0]) from checkpoint", "D01"),
        ("copying a param with shape torch.Size([131344896])", "D02"),
        ("x does not appear to have a file named config.json", "C02"),
        ("FileNotFoundError: No such file model-00002-of-00004.safetensors", "S01"),
        ("KeyError: 'metadata'", "S09"),
        ("the model repeats a token, only garbage", "H05"),
    ],
)
def test_messages_of_loaders_lead_to_rules(message: str, first: str) -> None:
    assert rules.symptoms(message)[0].codes[0] == first


def test_symptoms_name_only_rules_that_exist() -> None:
    from tidoctor.rules.symptoms import SYMPTOMS

    for symptom in SYMPTOMS:
        for code in symptom.codes:
            assert rules.find(code).code == code


# --- values -----------------------------------------------------------------------------------

HALF = {"F64": "<d", "F32": "<f", "F16": "<e"}
BAD_VALUES = [
    (dtype, struct.pack(fmt, value)) for dtype, fmt in HALF.items() for value in (float("nan"), float("-inf"))
] + [
    ("BF16", b"\x80\x7f"), ("BF16", b"\xc1\xff"), ("F8_E5M2", b"\x7c"), ("F8_E5M2", b"\xff"),
    ("F8_E4M3", b"\x7f"), ("F8_E4M3", b"\xff"), ("F8_E8M0", b"\xff"), ("F8_E4M3FNUZ", b"\x80"),
]  # fmt: skip


def one_tensor(name: str, dtype: str, data: bytes) -> Files:
    return {"model.safetensors": safetensors_bytes({name: (dtype, [1], data)})}


@pytest.mark.parametrize(("dtype", "data"), BAD_VALUES)
def test_values_that_are_not_finite_are_found(dtype: str, data: bytes) -> None:
    files = one_tensor("a.weight", dtype, data)
    assert codes(examine(files, deep=True, select=["D"])) == {"D03": "error"}
    assert codes(examine(files, select=["D"])) == {}
    assert {n.code for n in examine(files).not_run} >= {"D03"}
    infinities = [struct.pack(fmt, float("-inf")) for fmt in HALF.values()] + [b"\x80\x7f", b"\x7c"]
    infinite = data in infinities and dtype != "F8_E4M3"
    mask = codes(examine(one_tensor("mask", dtype, data), deep=True, select=["D"]))
    assert mask == ({} if infinite else {"D03": "error"})


@pytest.mark.parametrize(
    ("dtype", "data"),
    [("F32", struct.pack("<f", 3e38)), ("F16", struct.pack("<e", 65504)), ("BF16", b"\x7f\x7f"),
     ("F8_E5M2", b"\x7b"), ("F8_E4M3", b"\x7e"), ("F8_E8M0", b"\xfe"), ("I32", b"\xff" * 4), ("U8", b"\xff")],
)  # fmt: skip
def test_the_largest_numbers_are_finite(dtype: str, data: bytes) -> None:
    assert codes(examine(one_tensor("a.weight", dtype, data), deep=True, select=["D"])) == {}


def test_zeros_are_told_from_a_habit_by_other_layers() -> None:
    zeros, ones = bytes(8), b"\x01" * 8
    odd = {"l.0.weight": ("F32", [2, 1], zeros), "l.1.weight": ("F32", [2, 1], ones)}
    habit = {"l.0.weight": ("F32", [2, 1], zeros), "l.1.weight": ("F32", [2, 1], zeros)}
    bias = {"l.0.bias": ("F32", [2], zeros), "l.1.bias": ("F32", [2], ones)}
    norms = {"l.0.norm.weight": ("F32", [2], ones), "norm.weight": ("F32", [2], zeros)}
    offsets = {"l.0.norm.weight": ("F32", [2], zeros), "norm.weight": ("F32", [2], zeros)}
    for table, expected in (
        (odd, {"D04": "warning"}), (habit, {"D04": "note"}), (bias, {"D04": "note"}),
        (norms, {"D04": "warning"}), (offsets, {}),
    ):  # fmt: skip
        files = {"model.safetensors": safetensors_bytes(table)}
        assert codes(examine(files, deep=True, select=["D"])) == expected


def test_the_only_tensor_of_the_other_half() -> None:
    table = {**llama(), "model.embed_tokens.weight": ("F16", [64, 16])}
    found = examine(build(table, LLAMA))
    assert codes(found) == {"C10": "note"} and only(found, "C10").tensors == ("model.embed_tokens.weight",)
    assert codes(examine(build({**table, "model.norm.weight": ("F16", [16])}, LLAMA))) == {}


def test_cures_can_be_pasted() -> None:
    finding = only(examine(SICK["compiled and wrapped"][0]), "N01")
    assert finding.cure is not None and finding.cure.command == "tidoctor repair memory DEST"
    finding = only(examine(base_class(LLAMA), wanted="causal-lm"), "C04")
    assert finding.cure is not None
    assert finding.cure.command == "tidoctor repair memory DEST --as causal-lm --donor MODEL"
    finding = only(examine(SICK["head differs"][0]), "H05")
    assert finding.cure is not None
    assert finding.cure.command == "tidoctor repair memory DEST --accept H05"
    finding = only(examine(SICK["gamma"][0]), "N11")
    assert finding.cure is not None
    assert finding.cure.command == "tidoctor repair memory DEST --accept N11"


def test_a_head_of_another_dtype_is_not_passed_over() -> None:
    table = {**llama(head=False), "lm_head.weight": ("F32", [64, 16])}
    found = examine(build(table, TIED))
    assert {n.code for n in found.not_run} >= {"H04", "H05"}
    assert "the head is F32" in {n.code: n.reason for n in found.not_run}["H05"]
    assert "H05" not in {n.code for n in examine(build(table, LLAMA)).not_run}


# --- labels -------------------------------------------------------------------------------------

LABELS = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}


def scored(rows: int, **config: Any) -> Files:
    table = {**llama(head=False), "score.weight": [rows, 16]}
    return build(table, {**LLAMA, "architectures": LABELS["architectures"], **config})


@pytest.mark.parametrize(
    ("files", "sick"),
    [
        (scored(2), False),
        (scored(3), True),
        (scored(2, id2label=LABELS["id2label"]), False),
        (scored(5, id2label=LABELS["id2label"]), True),
        (scored(5, num_labels=5), False),
        (scored(1, num_labels=1, problem_type="regression"), False),
        (scored(1, id2label={"0": "LABEL_0"}), False),
        (scored(5, num_labels=4), True),
    ],
)
def test_a_classifier_has_a_row_for_each_label(files: Files, sick: bool) -> None:
    before = open_checkpoint(Memory(files))
    found = [f for f in rules.diagnose(before).findings if f.severity > 1]
    assert [f.code for f in found] == ["H13"] * sick
    if sick:
        assert found[0].cure is not None
        after = Plan((found[0].cure.operations,)).apply(before)
        assert not [f for f in rules.diagnose(after).findings if f.severity > 1]


@pytest.mark.parametrize(
    ("rows", "count", "severity", "operations"),
    [(2, 5, "warning", True), (5, 5, "warning", False), (3, 5, "error", True), (2, 2, None, False)],
)
def test_labels_that_are_counted_twice(
    rows: int, count: int, severity: str | None, operations: bool
) -> None:
    """transformers 4.44 to 5.0 goes by id2label, 5.23 by num_labels."""
    files = scored(rows, num_labels=count, id2label=LABELS["id2label"])
    before = open_checkpoint(Memory(files))
    found = [f for f in rules.diagnose(before).findings if f.severity > 1]
    assert [(f.code, str(f.severity)) for f in found] == ([("H13", severity)] if severity else [])
    if severity:
        assert found[0].cure is not None and bool(found[0].cure.operations) is operations
        after = Plan((found[0].cure.operations,)).apply(before)
        left = [f for f in rules.diagnose(after).findings if f.severity > 1]
        assert bool(left) is not operations


@pytest.mark.parametrize(
    ("weights", "config", "told"),
    [(0o600, 0o644, True), (0o640, 0o644, True), (0o644, 0o644, False), (0o600, 0o600, False),
     (0o644, 0o600, False)],
)  # fmt: skip
def test_weights_that_only_their_owner_may_read(
    tmp_path: Path, weights: int, config: int, told: bool
) -> None:
    folder = write(tmp_path / "a", llama(), LLAMA)
    (folder / "model.safetensors").chmod(weights)
    (folder / "config.json").chmod(config)
    found = tidoctor.diagnose(folder)
    assert codes(found).get("F06") == ("note" if told else None)


def test_a_head_whose_last_word_is_wrong_is_lost_and_renamed() -> None:
    before = open_checkpoint(Memory(build(
        {("lm_head.weights" if n == "lm_head.weight" else n): s for n, s in llama().items()}, LLAMA
    )))  # fmt: skip
    finding = only(rules.diagnose(before), "H02")
    assert str(finding.severity) == "error" and finding.cure
    after = Plan((finding.cure.operations,)).apply(before)
    assert rules.diagnose(after).findings == ()


def test_a_task_head_whose_last_word_is_wrong_is_renamed() -> None:
    files = build(
        {**llama(head=False), "scre.weight": [2, 16]},
        {**LLAMA, "architectures": LABELS["architectures"]},
    )
    before = open_checkpoint(Memory(files))
    finding = only(rules.diagnose(before), "H10")
    assert finding.cure is not None and finding.cure.needs == ("accept",)
    after = Plan((finding.cure.operations,)).apply(before)
    assert [f for f in rules.diagnose(after).findings if f.severity > 1] == []


@pytest.mark.parametrize(
    "name",
    ["output.weight", "head.weight", "embed_out.weight", "lm_head.linear.weight",
     "language_model.lm_head.weight", "model.output.weight"],
)  # fmt: skip
@pytest.mark.parametrize("tied", [False, True])
def test_a_head_under_a_name_that_the_class_does_not_read(name: str, tied: bool) -> None:
    table = {(name if n == "lm_head.weight" else n): s for n, s in llama().items()}
    config = {**LLAMA, "tie_word_embeddings": tied}
    before = open_checkpoint(Memory(build(table, config)))
    if tied and name == "model.output.weight":  # any matrix: the class works without it
        assert codes(rules.diagnose(before)) == {"N07": "note", "H01": "note"}
        return
    finding = only(rules.diagnose(before), "H05" if tied else "H02")
    assert str(finding.severity) == "error" and finding.cure
    known = name != "model.output.weight" and not tied  # names that a head has in some family
    assert finding.cure.needs == (() if known else ("accept",))
    after = Plan((finding.cure.operations,)).apply(before)
    assert rules.diagnose(after).findings == ()
    assert after.tensors["lm_head.weight"].span == before.tensors[name].span


@pytest.mark.parametrize("tied", [False, True])
def test_a_small_head_of_another_task_is_not_the_output_head(tied: bool) -> None:
    table = {**llama(head=not tied), "head.weight": [3, 16]}
    found = codes(examine(build(table, {**LLAMA, "tie_word_embeddings": tied})))
    assert found == {"N07": "note"} | ({"H01": "note"} if tied else {})
