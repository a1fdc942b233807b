"""Will it load? The five incidents, and whatever else decides, from tiny checkpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkpoints import LLAMA, Memory, build, filled, llama, safetensors_bytes

import tidoctor
from tidoctor import loaders, rules
from tidoctor.errors import Usage
from tidoctor.finding import Certainty, CureKind, Diagnosis, Finding, Verdict
from tidoctor.loaders import Examination, Patient, asked
from tidoctor.loaders.patient import Loading
from tidoctor.opening import open_checkpoint

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TIED = {**LLAMA, "tie_word_embeddings": True}
QWEN2 = {
    **LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu",
    "sliding_window": 4096, "max_window_layers": 2, "use_sliding_window": False,
}  # fmt: skip
TIED_QWEN2 = {**QWEN2, "tie_word_embeddings": True}
V5 = {
    **{k: v for k, v in LLAMA.items() if k != "rope_theta"},
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
}
Files = dict[str, bytes]


def qwen2(*, head: bool = True) -> dict[str, Any]:
    table: dict[str, Any] = dict(llama(head=head))
    for layer in range(2):
        for part, rows in (("q", 16), ("k", 8), ("v", 8)):
            table[f"model.layers.{layer}.self_attn.{part}_proj.bias"] = [rows]
    return table


def same_head(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, HEAD: ("BF16", [64, 16], EMBEDDING)}


def diagnosis(files: Files, *wishes: str, **options: Any) -> Diagnosis:
    return rules.diagnose(open_checkpoint(Memory(files)), loaders=wishes, **options)


def prescribed(files: Files, *wishes: str) -> Diagnosis:
    return tidoctor.diagnose(open_checkpoint(Memory(files)), loaders=wishes)


def judge(files: Files, wish: str) -> Verdict:
    (verdict,) = diagnosis(files, wish, select=["L"]).loaders
    return verdict


def outcome(files: Files, wish: str) -> str:
    return str(judge(files, wish).outcome)


def only(found: Diagnosis, code: str) -> Finding:
    (finding,) = [f for f in found.findings if f.code == code]
    return finding


# --- the incidents --------------------------------------------------------------------------------

TIED_LLAMA = build(llama(head=False), TIED)
UNTIED_QWEN2 = build(qwen2(), QWEN2)
TIED_QWEN = build(qwen2(head=False), TIED_QWEN2)
LOST = build(llama(head=False), LLAMA)
BASE = build(llama(prefix="", head=False), {**LLAMA, "architectures": ["LlamaModel"]})


@pytest.mark.parametrize(
    ("files", "wish", "verdict", "message"),
    [
        # 1: tied Llama in candle
        (TIED_LLAMA, "candle@0.7.1", "fails", "cannot find tensor lm_head.weight"),
        (TIED_LLAMA, "candle@0.7.2", "loads", ""),
        # 2: untied Qwen2 in candle
        (UNTIED_QWEN2, "candle@0.6.0", "misreads", ""),
        (UNTIED_QWEN2, "candle@0.7.0", "loads", ""),
        (TIED_QWEN, "candle@0.5.1", "fails", "cannot find tensor lm_head.weight"),
        (TIED_QWEN, "candle@0.6.0", "loads", ""),
        # 3: an AutoModel save
        (BASE, "transformers", "misreads", "lm_head.weight | MISSING"),
        (BASE, "transformers@4.57.6", "misreads",
         "Some weights of LlamaForCausalLM were not initialized from the model checkpoint at "
         "memory and are newly initialized: ['lm_head.weight']"),
        (BASE, "mistral.rs", "fails",
         "Unsupported Hugging Face Transformers -CausalLM model class `LlamaModel`. "
         "Please raise an issue."),
        # 4: tied Qwen2 in LoRAX, and its kin
        (TIED_QWEN, "lorax@0.12.1", "fails", "RuntimeError: weight lm_head.weight does not exist"),
        (TIED_QWEN, "lorax@main", "loads", ""),
        (TIED_QWEN, "tgi@2.2.0", "fails", "RuntimeError: weight lm_head.weight does not exist"),
        (TIED_QWEN, "tgi@2.3.0", "loads", ""),
        (TIED_LLAMA, "lorax@0.10.1", "fails",
         "RuntimeError: weight lm_head.weight does not exist"),
        (TIED_LLAMA, "lorax@0.11.0", "loads", ""),
        (TIED_LLAMA, "tgi@2.0.2", "fails", "RuntimeError: weight lm_head.weight does not exist"),
        (TIED_LLAMA, "tgi@2.0.3", "loads", ""),
        (TIED_LLAMA, "cake@2026-02-28", "fails", "cannot find tensor lm_head.weight"),
        (TIED_LLAMA, "cake@2026-03-01", "loads", ""),
        # 5: tied Llama in mergekit, and a lost head
        (TIED_LLAMA, "mergekit@c891a09", "fails",
         "RuntimeError: Tensor lm_head.weight required but not present in model memory"),
        (TIED_LLAMA, "mergekit", "loads", ""),
        (LOST, "mergekit", "misreads", ""),
        (LOST, "vllm@0.20.0", "fails",
         "ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}"),
        *[(LOST, f"vllm@{v}", "misreads", None) for v in ("0.21.0", "0.28.0", "0.29.0", "0.32.0",
                                                           "0.33.0")],
        # what strict readers say of a redundant head
        (build(same_head(llama()), TIED), "vllm@0.5.3", "fails", "KeyError: 'lm_head.weight'"),
        (build(same_head(llama()), TIED), "mlx-lm@0.21.0", "fails",
         "ValueError: Received 1 parameters not in model: lm_head.weight."),
    ],
)  # fmt: skip
def test_the_incidents(files: Files, wish: str, verdict: str, message: str | None) -> None:
    found = judge(files, wish)
    assert str(found.outcome) == verdict
    assert found.certainty is Certainty.PROVEN
    assert found.source and found.why
    assert message is None or found.message == message


def test_a_merge_of_a_bare_base_class_is_one_and_no_model_that_writes() -> None:
    assert outcome(BASE, "mergekit") == "loads"
    merged, served = diagnosis(BASE, "mergekit", "transformers", select=["L"]).loaders
    assert str(merged.outcome) == str(served.outcome) == "misreads"
    assert outcome(BASE, "mergekit@0.0.5") == "fails"


def test_a_loader_that_ties_by_mistake_is_told_as_such() -> None:
    found = diagnosis(UNTIED_QWEN2, "candle@0.6.0")
    finding = only(found, "L02")
    assert "the embedding is used as head" in finding.message
    assert finding.tensors == (HEAD,)
    assert finding.cure is not None and finding.cure.summary == "use candle 0.7.0 or newer"
    assert any("candle-transformers/src/models/qwen2.rs" in e.fact for e in finding.evidence)


def test_it_may_not_matter_which_of_two_equal_tensors_is_the_head() -> None:
    equal = build(same_head(qwen2()), QWEN2)
    assert outcome(equal, "candle@0.6.0") == "loads"


# --- every way of choosing a head, with every situation and prefix --------------------------------

SITUATIONS = {
    "tied": (llama(head=False), True),
    "redundant": (same_head(llama()), True),
    "differs": (llama(), True),
    "untied": (llama(), False),
    "lost": (llama(head=False), False),
}
POLICY_OF = {
    # loader: tied, redundant, differs, untied, lost
    "candle@0.7.1": "FLLLF",  # explicit
    "candle@0.7.2": "LLMLF",  # flag
    "mistral.rs@0.3.1": "LLLLM",  # presence
    "transformers@5.23.0": "LLLLM",  # presence, then the flag, then random numbers
    "transformers@4.57.6": "LLMLM",  # the flag, then random numbers
    "exllamav3": "LLLLF",  # presence, then the flag
    "mlx-lm@0.21.0": "LFFLF",  # the flag, strictly
    "mergekit": "LLLLM",  # copied
    "vllm@0.28.0": "LLMLM",
    "vllm@0.33.0": "LLLLM",
    "litgpt": "LLLLM",
}
LETTERS = {"L": "loads", "F": "fails", "M": "misreads"}


@pytest.mark.parametrize("wish", POLICY_OF)
def test_the_head_table(wish: str) -> None:
    got = {name: outcome(build(t, {**LLAMA, "tie_word_embeddings": flag}), wish)
           for name, (t, flag) in SITUATIONS.items()}
    assert got == dict(zip(SITUATIONS, map(LETTERS.get, POLICY_OF[wish]), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.model.", "model.model.", "transformer."])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("wish", ["candle", "lorax", "tgi", "mlx-lm", "vllm", "litgpt", "exllamav3"])
def test_exact_loaders_take_no_other_prefix(wish: str, situation: str, prefix: str) -> None:
    table, flag = SITUATIONS[situation]
    moved = {
        prefix + n.removeprefix("model.") if n.startswith("model.") else n: row
        for n, row in table.items()
    }
    files = build(moved, {**LLAMA, "tie_word_embeddings": flag})
    assert outcome(files, wish) == "fails"


def test_embedding_loaders_want_bare_names() -> None:
    config = {**LLAMA, "architectures": ["Qwen3Model"], "model_type": "qwen3"}
    table = {
        **llama(prefix="", head=False),
        **{f"layers.{i}.self_attn.{x}_norm.weight": [4] for i in range(2) for x in "qk"},
    }
    marked = build(table, config, files={"modules.json": "[]"})
    # With --for a generating loader the class with a head is asked for.
    assert outcome(marked, "mistral.rs@0.9.2") == "fails"


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "wish", "verdict", "message"),
    [
        (V5, "candle", "misreads", ""),
        (V5, "transformers@4.57.6", "misreads", ""),
        (V5, "transformers@5.0.0", "loads", ""),
        (V5, "mistral.rs", "fails", "missing field `rope_theta` at line 21 column 1"),
        (V5, "mistral.rs@0.5.0", "misreads", ""),
        (V5, "tgi", "misreads", ""),
        (V5, "tgi@2.0.2", "unknown", ""),
        (V5, "vllm", "loads", ""),  # from 0.24 on it wants transformers 5
        (V5, "vllm@0.20.0", "unknown", ""),  # depends on the transformers beside it
        (V5, "llama.cpp", "loads", ""),
        (V5, "mlx-lm", "misreads", ""),
        ({**V5, "rope_parameters": {"rope_theta": 10000.0}}, "candle", "loads", ""),
        ({**V5, "rope_parameters": {"rope_theta": 10**400}}, "candle", "loads", ""),
        ({**V5, "rope_parameters": {"rope_theta": True}}, "candle", "loads", ""),
        ({**V5, "rope_parameters": 7}, "candle", "loads", ""),
        ({k: v for k, v in LLAMA.items() if k != "max_position_embeddings"}, "candle", "fails",
         "missing field `max_position_embeddings` at line 17 column 1"),
        ({**LLAMA, "rms_norm_eps": None}, "candle", "fails",
         "invalid type: null, expected f64"),
        ({**LLAMA, "tie_word_embeddings": "yes"}, "candle", "unknown", ""),
        ({**LLAMA, "model_type": None}, "candle", "unknown", ""),
        ({**LLAMA, "model_type": ["llama"]}, "candle", "unknown", ""),
        ({**LLAMA, "model_type": "no-such-thing"}, "candle", "unknown", ""),
    ],
)  # fmt: skip
def test_what_a_config_must_say(
    config: dict[str, Any], wish: str, verdict: str, message: str
) -> None:
    found = judge(build(llama(), config), wish)
    assert (str(found.outcome), found.message) == (verdict, message)


def test_a_key_that_a_parser_wants_though_its_value_is_not_used() -> None:
    flagless = {k: v for k, v in QWEN2.items() if k != "tie_word_embeddings"}
    found = judge(build(qwen2(), flagless), "candle")
    last = json.dumps(flagless, indent=2).count("\n") + 1
    assert found.message == f"missing field `tie_word_embeddings` at line {last} column 1"
    null = judge(build(qwen2(), {**QWEN2, "sliding_window": None}), "candle")
    assert null.message == "invalid type: null, expected usize"


def test_defaults_of_the_tie_flag_differ() -> None:
    flagless = {k: v for k, v in LLAMA.items() if k != "tie_word_embeddings"}
    files = build(llama(), flagless)
    assert outcome(files, "transformers") == outcome(files, "candle") == "loads"
    assert outcome(files, "mlx-lm") == "misreads"


# --- files ----------------------------------------------------------------------------------------


def spread(**tables: dict[str, Any]) -> Files:
    """Weight files by name; an index that lists each name once, in the first file that has it."""
    files = {"config.json": json.dumps(LLAMA).encode()}
    weight_map: dict[str, str] = {}
    for name, table in tables.items():
        files[name] = safetensors_bytes(filled(table))
        for tensor in table:
            weight_map.setdefault(tensor, name)
    files["model.safetensors.index.json"] = json.dumps(
        {"metadata": {}, "weight_map": weight_map}
    ).encode()
    return files


ONE, TWO, STALE = (f"model-0000{i}-of-0000{n}.safetensors" for i, n in ((1, 2), (2, 2), (9, 9)))


def test_a_stale_shard_breaks_those_who_read_all_files() -> None:
    half = list(llama())[:9]
    files = spread(**{ONE: {n: s for n, s in llama().items() if n in half},
                      TWO: {n: s for n, s in llama().items() if n not in half}})
    assert {outcome(files, w) for w in ("candle", "tgi", "lorax", "mlx-lm", "vllm")} == {"loads"}
    files[STALE] = safetensors_bytes(filled({HEAD: [64, 16]}))
    assert outcome(files, "vllm") == outcome(files, "transformers") == "loads"
    found = judge(files, "lorax")
    assert found.message == (
        f"Key {HEAD} was found in multiple non-adapter files: {STALE} and {TWO}"
    )
    assert judge(files, "tgi").message == f"Key {HEAD} was found in multiple files: {STALE} and {TWO}"
    files[STALE] = safetensors_bytes(filled({"model.layers.7.old.weight": [2]}))
    assert outcome(files, "lorax") == "loads"
    assert outcome(files, "mlx-lm") == "fails"


def test_a_name_that_nobody_looks_for() -> None:
    files = {n: d for n, d in build(llama(), LLAMA).items() if n != "model.safetensors"}
    files["weights.safetensors"] = safetensors_bytes(filled(llama()))
    assert judge(files, "transformers").message == (
        "OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory "
        "memory."
    )
    assert outcome(files, "mlx-lm") == "fails"
    assert outcome(files, "lorax") == outcome(files, "vllm") == "loads"


def test_nothing_is_said_of_a_folder_that_lacks_a_shard() -> None:
    files = build(llama(), LLAMA, shards=2)
    del files["model-00002-of-00002.safetensors"]
    for verdict in diagnosis(files, "all").loaders:
        assert str(verdict.outcome) in ("unknown", "fails"), verdict


GEMMA2 = {
    **LLAMA, "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 4,
    "query_pre_attn_scalar": 4, "sliding_window": 64, "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}  # fmt: skip


def gemma2(*, head: bool) -> dict[str, Any]:
    norms = {
        f"model.layers.{i}.{where}_feedforward_layernorm.weight": [16]
        for i in range(2) for where in ("pre", "post")
    }  # fmt: skip
    table = {**llama(head=False), **norms}
    return same_head(table) if head else table


@pytest.mark.parametrize("wish", [*(f"vllm@0.{n}.0" for n in (29, 32, 33)), "mlx-lm"])
def test_a_redundant_head_is_refused_by_some(wish: str) -> None:
    assert outcome(build(gemma2(head=False), GEMMA2), wish) == "loads"
    found = judge(build(gemma2(head=True), GEMMA2), wish)
    assert str(found.outcome) == "fails"
    assert found.message == (
        "ValueError: Received 1 parameters not in model: lm_head.weight."
        if wish == "mlx-lm"
        else "ValueError: There is no module or parameter named 'lm_head' in Gemma2ForCausalLM"
    )
    assert outcome(build(gemma2(head=True), GEMMA2), "vllm@0.28.0") == "loads"


@pytest.mark.parametrize("model_type", ["gemma", "cohere", "lfm2"])
def test_mlx_lm_refuses_a_redundant_head(model_type: str) -> None:
    body = {"model.embed_tokens.weight": (8, 4), "model.norm.weight": (4,)}
    (wish,) = asked(["mlx-lm"])
    outcomes = []
    for files in (body, {**body, HEAD: (8, 4)}):
        patient = Patient(
            settings={"model_type": model_type, "block_dim": 4, "rope_theta": 1e4},
            model_type=model_type, task="causal-lm", class_name="X", declared="X",
            files={"model.safetensors": files}, prefix="model.", head=HEAD,
            embedding="model.embed_tokens.weight", stored_embedding="model.embed_tokens.weight",
            stored_head=HEAD if HEAD in files else None, same=lambda: (True, ""), tied=True,
            expected=body, loading=Loading(),
        )  # fmt: skip
        outcomes.append(str(Examination(patient).evaluate(wish).outcome))
    assert outcomes == ["loads", "fails"]


# --- copies of one tensor -------------------------------------------------------------------------


def test_the_copy_that_is_read_counts() -> None:
    files = spread(**{ONE: llama(), TWO: {**llama(head=False), HEAD: [64, 16]}})
    assert outcome(files, "candle") == outcome(files, "transformers") == "loads"  # both are equal
    norm = "model.norm.weight"
    other = spread(**{ONE: {n: s for n, s in llama().items() if n != norm}, TWO: {norm: [16]}})
    old = {HEAD: ("BF16", [64, 16], b"\x3f" * 2048), norm: ("BF16", [16], bytes(32))}
    other[TWO] = safetensors_bytes(old)
    found = judge(other, "transformers")
    assert str(found.outcome) == "misreads" and found.tensors == (HEAD,)
    assert TWO in found.why and ONE in found.why
    unsure = judge(other, "mlx-lm")
    assert str(unsure.outcome) == "unknown" and "remove the copy" in unsure.why
    assert outcome(other, "mergekit") == "loads"  # it takes what the index names


def test_a_file_that_the_index_names_and_that_is_not_there() -> None:
    files = build(llama(), LLAMA, shards=2)
    del files[TWO]
    found = judge(files, "transformers")
    assert (str(found.outcome), found.message) == (
        "fails", f"FileNotFoundError: No such file or directory: {TWO}",
    )  # fmt: skip
    assert outcome(files, "mlx-lm") == "fails"
    assert outcome(files, "candle") == outcome(files, "vllm") == "unknown"


# --- unknown --------------------------------------------------------------------------------------


def test_no_record_never_loads() -> None:
    known = loaders.consumer("lmdeploy")
    for model_type in ("gemma", "nobody", "llama\n", ""):
        patient = Patient(model_type=model_type, task="causal-lm", loading=Loading(), expected={})
        for wish in asked(["all"]):
            spoken = wish.consumer.find(model_type, "causal-lm", wish.place.low)
            if spoken is None:
                found = Examination(patient).evaluate(wish)
                assert str(found.outcome) in ("unknown", "fails") and found.why
                assert str(found.outcome) == "unknown" or wish.consumer.classes
    assert known.find("gemma", "causal-lm", 0) is None


def test_an_empty_patient_loads_nowhere() -> None:
    for wish in asked(["all"]):
        assert str(Examination(Patient()).evaluate(wish).outcome) == "unknown"


def test_between_versions_that_differ_nothing_is_known() -> None:
    found = judge(TIED_LLAMA, "mergekit@0.0.4.4")
    assert (str(found.outcome), found.why) == (
        "unknown", "it lies between 0.0.2.1 and 0.0.5, which differ",
    )  # fmt: skip
    assert outcome(TIED_LLAMA, "candle@0.7.9") == "loads"


def test_quantised_weights_are_not_judged() -> None:
    config = {**LLAMA, "quantization_config": {"quant_method": "awq"}}
    for verdict in diagnosis(build(llama(), config), "all").loaders:
        assert str(verdict.outcome) != "loads"


def test_what_was_never_seen_is_likely_only() -> None:
    for wish in ("sglang", "ollama"):
        found = judge(build(llama(), LLAMA), wish)
        assert (str(found.outcome), found.certainty) == ("loads", Certainty.LIKELY)


def test_one_goes_through_another() -> None:
    found = judge(LOST, "ctranslate2")
    assert (found.loader, str(found.outcome)) == ("ctranslate2", "misreads")
    assert found.why.startswith("handed on to transformers 4.57.6: ")


# --- hostile checkpoints --------------------------------------------------------------------------


def test_thousands_of_strange_names_are_judged_in_short() -> None:
    table = {f"\x1b[31m{i}\u202e.weight": [1] for i in range(3000)}
    files = build({**llama(), **table}, LLAMA)
    for verdict in diagnosis(files, "all", select=["L"]).loaders:
        for text in (verdict.message, verdict.why):
            assert len(text) < 600 and "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize(
    "config",
    ["", "[]", "{", "7", '{"model_type": "llama"}', '{"model_type": {"a": 1}, "architectures": 3}',
     '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "text_config": []}',
     '{"model_type": "llama", "architectures": ["' + "x" * 10_000 + '"]}', "[" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("table", [{}, {"a": [1]}, llama()])
def test_any_config_is_judged(config: str, table: dict[str, Any]) -> None:
    found = diagnosis(build(table, config), "all")
    assert len(found.loaders) == len(loaders.names())


# --- rules ----------------------------------------------------------------------------------------


def test_a_failure_has_its_evidence_and_two_ways_out() -> None:
    finding = only(prescribed(TIED_LLAMA, "candle@0.7.1", "transformers"), "L01")
    assert str(finding.severity) == "error"
    assert finding.message == "candle 0.7.1 asks for lm_head.weight and finds none"
    assert [e.where for e in finding.evidence] == [
        "config.json:16", "candle", "candle", "message",
    ]  # fmt: skip
    assert finding.cure is not None and finding.cure.kind is CureKind.SAFE
    assert finding.cure.summary == (
        "use candle 0.7.2 or newer; or store the head explicitly (2048 bytes more)"
    )
    assert finding.cure.command == "tidoctor untie memory DEST --for candle@0.7.1"


def test_the_copy_that_is_proposed_breaks_no_other_loader() -> None:
    alone = only(prescribed(TIED_LLAMA, "candle@0.7.1"), "L01").cure
    strict = only(prescribed(TIED_LLAMA, "candle@0.7.1", "mlx-lm@0.21.0"), "L01").cure
    assert alone is not None and strict is not None
    assert alone.command == "tidoctor untie memory DEST --for candle@0.7.1"
    # A head beside a true flag stops mlx-lm 0.21.0, so that the flag has to be cleared as well.
    assert strict.command == "tidoctor repair memory DEST --for candle@0.7.1 --for mlx-lm@0.21.0"
    assert strict.summary.endswith(
        "store the head explicitly (2048 bytes more), write tie_word_embeddings = false"
    )


def test_a_redundant_head_is_left_where_the_flag_does_as_well() -> None:
    files = build(same_head(llama()), TIED)
    cure = only(prescribed(files, "mlx-lm@0.21.0"), "L01").cure
    assert cure is not None and cure.command == "tidoctor repair memory DEST --for mlx-lm@0.21.0"
    assert cure.summary == (
        "use mlx-lm 0.22.0 or newer; or write tie_word_embeddings = false"
    )


def test_the_copy_that_is_proposed_is_loaded() -> None:
    before = open_checkpoint(Memory(TIED_LLAMA))
    from tidoctor.plan import Plan

    copy: dict[str, object] = {"op": "copy", "from": EMBEDDING, "to": HEAD}
    after = Plan(((copy,),)).apply(before)
    (verdict,) = rules.diagnose(after, loaders=["candle@0.7.1"]).loaders
    assert str(verdict.outcome) == "loads"


def test_unknown_verdicts_are_one_note() -> None:
    config = {**LLAMA, "model_type": "no-such-thing"}
    finding = only(diagnosis(build(llama(), config), "candle", "vllm"), "L03")
    assert str(finding.severity) == "note"
    assert [e.where for e in finding.evidence] == ["candle", "vllm"]


def test_without_a_question_the_rules_are_idle() -> None:
    found = diagnosis(TIED_LLAMA)
    assert found.loaders == ()
    assert {"L01", "L02", "L03"} <= {n.code for n in found.not_applicable}
    assert not [f for f in found.findings if f.code.startswith("L")]


def test_a_generating_loader_makes_a_base_class_an_error() -> None:
    assert str(only(diagnosis(BASE), "C04").severity) == "warning"
    assert str(only(diagnosis(BASE, "vllm"), "C04").severity) == "error"
    assert str(only(diagnosis(BASE, "mergekit"), "C04").severity) == "warning"


def test_unknown_loaders_are_refused() -> None:
    with pytest.raises(Usage, match="did you mean candle"):
        diagnosis(TIED_LLAMA, "candel")


def test_asking_all_compares_bytes_and_names_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs time does not grow with the number of loaders."""
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.loaders import evaluation
    from tidoctor.rules import fitted

    counts = {"fit": 0, "same": 0, "seen": 0}

    def counting(name: str, function: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            counts[name] += 1
            return function(*arguments)

        return wrapped

    monkeypatch.setattr(fitted, "fit", counting("fit", fitted.fit))
    monkeypatch.setattr(evaluation, "seen", counting("seen", evaluation.seen))
    monkeypatch.setattr(Checkpoint, "same_bytes", counting("same", Checkpoint.same_bytes))
    files = build(llama(), TIED)
    diagnosis(files)
    plain = dict(counts)
    diagnosis(files, "all")
    assert counts["fit"] - plain["fit"] <= plain["fit"] + 1
    assert counts["same"] - plain["same"] == plain["same"] == 1
    kinds = {(r.select, r.pattern, r.index) for n in loaders.names()
             for r in loaders.consumer(n).records}
    assert counts["seen"] <= len(kinds)


def test_the_library_takes_loaders_too(tmp_path: Any) -> None:
    for name, data in TIED_LLAMA.items():
        (tmp_path / name).write_bytes(data)
    found = tidoctor.diagnose(tmp_path, loaders=["candle@0.7.1"])
    assert [str(v.outcome) for v in found.loaders] == ["fails"]


def test_an_expert_that_is_lost_stops_who_joins_experts() -> None:
    """Seen with transformers 5.23: the joined tensor has another shape."""
    body = {f"model.layers.0.block_sparse_moe.experts.{i}.w2.weight": (4, 8) for i in range(2)}
    for gone, expected in ((1, "fails"), (2, "misreads")):
        kept = dict(list(body.items())[gone:])
        patient = Patient(
            settings={"model_type": "mixtral"}, model_type="mixtral", task="causal-lm",
            class_name="X", declared="X", files={"model.safetensors": kept},
            formats={"model.safetensors": "pt"}, prefix="model.",
            loading=Loading(missing=tuple(n for n in body if n not in kept)),
        )  # fmt: skip
        (wish,) = asked(["transformers@5.23.0"])
        assert str(Examination(patient).evaluate(wish).outcome) == expected
