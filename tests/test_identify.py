"""What names and shapes alone say of a model: classes, recovered fields, and what stays open."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidoctor
from tests.checkpoints import write
from tidoctor.atlas import data
from tidoctor.atlas.configs import resolve
from tidoctor.atlas.expectation import expectation
from tidoctor.atlas.expression import NotCovered, Run, parse
from tidoctor.atlas.identify import Identity, has_names, identify
from tidoctor.atlas.observed import _alone, _Row
from tidoctor.atlas.solving import Contradiction, Fields, Literal, Solver

Shape = tuple[int, ...]


def llama(layers: int = 2, *, head: bool = True, prefix: str = "model.") -> dict[str, Shape]:
    """8 heads and 2 key-value heads of 32, written down by hand."""
    table: dict[str, Shape] = {f"{prefix}embed_tokens.weight": (1000, 256)}
    for i in range(layers):
        at = f"{prefix}layers.{i}."
        table |= {
            f"{at}self_attn.q_proj.weight": (256, 256), f"{at}self_attn.k_proj.weight": (64, 256),
            f"{at}self_attn.v_proj.weight": (64, 256), f"{at}self_attn.o_proj.weight": (256, 256),
            f"{at}mlp.gate_proj.weight": (768, 256), f"{at}mlp.up_proj.weight": (768, 256),
            f"{at}mlp.down_proj.weight": (256, 768), f"{at}input_layernorm.weight": (256,),
            f"{at}post_attention_layernorm.weight": (256,),
        }  # fmt: skip
    table[f"{prefix}norm.weight"] = (256,)
    if head:
        table["lm_head.weight"] = (1000, 256)
    return table


def qwen2() -> dict[str, Shape]:
    biases = {
        name.replace("weight", "bias"): shape[:1]
        for name, shape in llama().items()
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    }
    return llama() | biases


def qwen3() -> dict[str, Shape]:
    norms = {f"model.layers.{i}.self_attn.{n}_norm.weight": (64,) for i in (0, 1) for n in "qk"}
    return llama() | norms


def gpt2() -> dict[str, Shape]:
    table: dict[str, Shape] = {
        "transformer.wte.weight": (500, 96), "transformer.wpe.weight": (64, 96),
        "transformer.ln_f.weight": (96,), "transformer.ln_f.bias": (96,),
    }  # fmt: skip
    for i in range(3):
        at = f"transformer.h.{i}."
        for norm in ("ln_1", "ln_2"):
            table |= {f"{at}{norm}.weight": (96,), f"{at}{norm}.bias": (96,)}
        for name, out in (("attn.c_attn", 288), ("attn.c_proj", 96), ("mlp.c_fc", 384)):
            table |= {f"{at}{name}.weight": (96, out), f"{at}{name}.bias": (out,)}
        table |= {f"{at}mlp.c_proj.weight": (384, 96), f"{at}mlp.c_proj.bias": (96,)}
        table[f"{at}attn.bias"] = (1, 1, 64, 64)  # a mask that older releases stored
    return table


def bert(labels: int = 3) -> dict[str, Shape]:
    table: dict[str, Shape] = {
        "bert.embeddings.word_embeddings.weight": (700, 48),
        "bert.embeddings.position_embeddings.weight": (128, 48),
        "bert.embeddings.token_type_embeddings.weight": (2, 48),
        "bert.embeddings.position_ids": (1, 128),
        "bert.pooler.dense.weight": (48, 48), "bert.pooler.dense.bias": (48,),
        "classifier.weight": (labels, 48), "classifier.bias": (labels,),
    }  # fmt: skip
    sizes = {
        "attention.self.query": (48, 48), "attention.self.key": (48, 48),
        "attention.self.value": (48, 48), "attention.output.dense": (48, 48),
        "intermediate.dense": (112, 48), "output.dense": (48, 112),
    }  # fmt: skip
    for i in range(2):
        for name, shape in sizes.items():
            at = f"bert.encoder.layer.{i}.{name}."
            table |= {f"{at}weight": shape, f"{at}bias": shape[:1]}
    for name in (
        "embeddings.LayerNorm",
        *(f"encoder.layer.{i}.{n}.LayerNorm" for i in (0, 1) for n in ("attention.output", "output")),
    ):
        table |= {f"bert.{name}.weight": (48,), f"bert.{name}.bias": (48,)}
    return table


def mixtral(*, packed: bool) -> dict[str, Shape]:
    table = {name: shape for name, shape in llama().items() if ".mlp." not in name}
    for i in range(2):
        at = f"model.layers.{i}."
        if packed:
            table |= {
                f"{at}mlp.gate.weight": (4, 256),
                f"{at}mlp.experts.gate_up_proj": (4, 2 * 512, 256),
                f"{at}mlp.experts.down_proj": (4, 256, 512),
            }
            continue
        table[f"{at}block_sparse_moe.gate.weight"] = (4, 256)
        for j in range(4):
            expert = f"{at}block_sparse_moe.experts.{j}."
            table |= {
                f"{expert}w1.weight": (512, 256), f"{expert}w2.weight": (256, 512),
                f"{expert}w3.weight": (512, 256),
            }  # fmt: skip
    return table


def names(found: Identity) -> set[str]:
    return {each.class_name for each in found.exact}


def of(found: Identity, class_name: str) -> Mapping[str, object]:
    return next(each.fields for each in found.exact if each.class_name == class_name)


# --- tables ---------------------------------------------------------------------------------------


def test_a_plain_llama_fits_many_classes_and_none_is_picked() -> None:
    found = identify(llama())
    assert names(found) >= {"LlamaForCausalLM", "MistralForCausalLM", "GraniteForCausalLM"}
    assert found.unique is None
    assert not names(found) & {"Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaModel"}
    expected = {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 2, "vocab_size": 1000,
        "attention_bias": False, "mlp_bias": False,
    }  # fmt: skip
    assert expected.items() <= found.fields.items()
    with pytest.raises(ValueError, match="choose one"):
        found.config()
    with pytest.raises(ValueError, match="does not have"):
        found.config("Qwen3ForCausalLM")


def test_heads_are_told_as_products_and_never_guessed() -> None:
    found = identify(llama())
    for path in ("num_attention_heads", "num_key_value_heads", "head_dim"):
        assert path not in found.fields
    assert "num_attention_heads * head_dim = 256" in found.undetermined["num_attention_heads"]
    assert "num_key_value_heads * head_dim = 64" in found.undetermined["num_key_value_heads"]
    assert "64 (4 and 1 heads)" in found.undetermined["head_dim"]
    assert "128" not in found.undetermined["head_dim"].partition("usual")[2]  # 64 is no multiple
    proposal = found.config("LlamaForCausalLM")
    assert proposal["architectures"] == ["LlamaForCausalLM"]
    assert proposal["model_type"] == "llama"
    assert proposal["hidden_size"] == 256
    assert str(proposal["num_attention_heads"]).startswith("not determined: ")
    assert "rope_theta" not in proposal
    assert "hidden_act" not in proposal


def test_a_flag_of_the_tie_is_never_claimed() -> None:
    """A head may be lost, and a tied one stored all the same."""
    stored, absent = identify(llama()), identify(llama(head=False))
    assert "LlamaForCausalLM" in names(absent)
    for found, value in ((stored, "false"), (absent, "true")):
        assert "tie_word_embeddings" not in found.fields
        assert found.undetermined["tie_word_embeddings"].startswith(f"{value}, unless")


def test_biases_make_it_qwen2() -> None:
    found = identify(qwen2())
    assert "Qwen2ForCausalLM" in names(found)
    assert "LlamaForCausalLM" not in names(found)  # it would have one on the output as well


def test_all_biases_are_an_attention_bias() -> None:
    table = llama()
    for name in [n for n in table if "self_attn" in n]:
        table[name.replace("weight", "bias")] = table[name][:1]
    found = identify(table)
    assert of(found, "LlamaForCausalLM")["attention_bias"] is True
    assert "Qwen2ForCausalLM" not in names(found)


def test_a_norm_of_each_head_tells_the_heads() -> None:
    found = identify(qwen3())
    expected = {"head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 1}
    assert expected.items() <= of(found, "Qwen3ForCausalLM").items()
    # Others that fit (a mixture of experts whose layers are all dense) read a size that their
    # config may leave out: what all agree on is less.
    assert "head_dim" in {*found.fields, *found.undetermined}
    assert "LlamaForCausalLM" not in names(found)


def test_gpt2() -> None:
    found = identify(gpt2())
    assert "GPT2LMHeadModel" in names(found)
    fields = of(found, "GPT2LMHeadModel")
    assert fields == {
        "vocab_size": 500, "n_embd": 96, "n_positions": 64, "n_layer": 3, "n_inner": 384,
        "add_cross_attention": False,
    }  # fmt: skip


def test_bert_with_labels() -> None:
    found = identify(bert())
    assert names(found) == {"BertForSequenceClassification"}
    only = found.unique
    assert only is not None
    assert only.fields == {
        "vocab_size": 700, "hidden_size": 48, "max_position_embeddings": 128, "type_vocab_size": 2,
        "intermediate_size": 112, "num_hidden_layers": 2, "num_labels": 3,
        "add_cross_attention": False,
    }  # fmt: skip
    assert found.config()["num_labels"] == 3
    assert str(found.config()["num_attention_heads"]).startswith("not determined")


@pytest.mark.parametrize("packed", [True, False])
def test_mixtral_packed_and_by_expert(packed: bool) -> None:
    found = identify(mixtral(packed=packed))
    assert "MixtralForCausalLM" in names(found)
    expected = {"num_local_experts": 4, "intermediate_size": 512, "num_hidden_layers": 2}
    assert expected.items() <= of(found, "MixtralForCausalLM").items()


def test_a_body_without_head_is_the_base_class() -> None:
    found = identify(llama(prefix="", head=False))
    assert "LlamaModel" in names(found)
    assert not [name for name in names(found) if name.endswith("ForCausalLM")]


def test_layers_of_two_kinds_tell_where_they_change() -> None:
    table = expectation(
        {
            "model_type": "deepseek_v3", "num_hidden_layers": 5, "first_k_dense_replace": 2,
            "n_routed_experts": 3, "hidden_size": 96, "vocab_size": 100,
        },
        "DeepseekV3ForCausalLM",
    ).disk  # fmt: skip
    fields = of(identify(table), "DeepseekV3ForCausalLM")
    expected = {"first_k_dense_replace": 2, "n_routed_experts": 3, "num_hidden_layers": 5,
                "kv_lora_rank": 512, "qk_rope_head_dim": 64, "q_lora_rank": 1536}  # fmt: skip
    assert expected.items() <= fields.items()
    assert not {"num_attention_heads", "v_head_dim", "qk_nope_head_dim"} & fields.keys()


@pytest.mark.parametrize("lost", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_what_lacks_a_tensor_is_only_similar(lost: str) -> None:
    table = llama()
    del table[lost]
    found = identify(table)
    assert not found.exact
    assert found.candidates
    assert not found.fields
    assert not found.proposal()
    assert "similar" in found.told()


def test_one_odd_shape_is_no_fit() -> None:
    table = llama() | {"model.layers.1.mlp.up_proj.weight": (769, 256)}
    assert not identify(table).exact


# --- soundness ------------------------------------------------------------------------------------

LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "LlamaForCausalLM": {"hidden_size": "w", "intermediate_size": "w", "num_hidden_layers": "n",
                         "vocab_size": "w", "attention_bias": "b", "mlp_bias": "b",
                         "num_attention_heads": "h", "head_dim": "d", "num_key_value_heads": "h",
                         "tie_word_embeddings": "b"},
    "Qwen3ForCausalLM": {"hidden_size": "w", "num_hidden_layers": "n", "head_dim": "d",
                         "num_attention_heads": "h", "num_key_value_heads": "h",
                         "attention_bias": "b"},
    "GPT2LMHeadModel": {"n_embd": "w", "n_layer": "n", "n_positions": "w", "vocab_size": "w",
                        "add_cross_attention": "b"},
    "OPTForCausalLM": {"hidden_size": "w", "word_embed_proj_dim": "w", "ffn_dim": "w",
                       "enable_bias": "b", "do_layer_norm_before": "b", "num_hidden_layers": "n"},
    "MixtralForCausalLM": {"hidden_size": "w", "num_local_experts": "n", "num_hidden_layers": "n",
                           "num_attention_heads": "h", "num_key_value_heads": "h",
                           "head_dim": "d"},
    "DeepseekV3ForCausalLM": {"hidden_size": "w", "num_hidden_layers": "n", "q_lora_rank": "w",
                              "first_k_dense_replace": "n", "n_routed_experts": "n",
                              "kv_lora_rank": "w", "attention_bias": "b", "v_head_dim": "d"},
    "BertForTokenClassification": {"hidden_size": "w", "num_labels": "n", "vocab_size": "w",
                                   "num_hidden_layers": "n", "type_vocab_size": "n"},
    "Qwen3NextForCausalLM": {"hidden_size": "w", "num_hidden_layers": "n", "num_experts": "n",
                             "linear_num_value_heads": "h", "linear_num_key_heads": "h",
                             "decoder_sparse_step": "n"},
    "NemotronHForCausalLM": {"hidden_size": "w", "n_routed_experts": "n", "mlp_bias": "b",
                             "mamba_num_heads": "h"},
}  # fmt: skip
VALUES = {
    "w": (64, 96, 128, 320), "n": (1, 2, 3, 5, 7), "h": (2, 4, 8, 12), "d": (16, 32, 64, 80),
    "b": (False, True),
}  # fmt: skip


@pytest.mark.parametrize("class_name", LAYOUTS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_what_is_told_is_what_the_config_said(class_name: str, seed: int) -> None:
    drawn = random.Random(seed)
    model_type = str(data.current().layout(class_name)["config"])
    config: dict[str, Any] = {"model_type": model_type}
    for path, kind in LAYOUTS[class_name].items():
        if drawn.random() < 0.7:
            config[path] = drawn.choice(VALUES[kind])
    try:
        promised = expectation(config, class_name)
    except NotCovered:
        return
    found = identify(promised.disk)
    assert class_name in names(found), (config, found.told())
    resolved = resolve(config, model_type)
    for path, value in of(found, class_name).items():
        said = resolved.value(path)
        if said is None and path == "n_inner":  # the size in force, which the file leaves to us
            said = 4 * int(str(resolved.value("n_embd")))
        assert value == (list(said) if isinstance(said, tuple | range) else said), (path, config)
    witness = next(each.witness for each in found.exact if each.class_name == class_name)
    assert expectation(witness, class_name).disk == promised.disk


def solved(fields: Mapping[str, str], *wanted: tuple[str, int | bool], at: Any) -> Solver:
    from tests.atlas_samples import made_up

    facts = made_up(at, configs={"toy": {"fields": fields}})
    clauses = [(Literal(parse(text), "", (), want),) for text, want in wanted]
    solver = Solver(Fields(facts, "toy", {}), clauses, Run({}, 100_000))
    solver.work()
    return solver


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 * x + 2", 12), ("(2 * x - 1) * (2 * x - 1)", 7), ("x ** 2 // 1", 9), ("2 ** x", 6),
        ("100 - x", 40), ("int(x / 1)", 5), ("7 if x is None else x", 8), ("x * (x + 1)", 11),
    ],
)  # fmt: skip
def test_expressions_are_read_backwards(tmp_path: Any, text: str, value: int) -> None:
    want = parse(text).value({"x": value})
    assert solved({"x": "1"}, (text, int(want)), at=tmp_path).known == {("x", None): value}


@pytest.mark.parametrize("text", ["x * y", "x // 3", "max(x, 100)", "int(x * 1.5) // 7"])
def test_what_allows_several_values_stays_open(tmp_path: Any, text: str) -> None:
    want = parse(text).value({"x": 30, "y": 4})
    assert not solved({"x": "1", "y": "1"}, (text, int(want)), at=tmp_path).known


def test_a_ratio_is_not_told_from_a_rounded_product(tmp_path: Any) -> None:
    assert not solved({"ratio": "4.0"}, ("int(96 * ratio)", 384), at=tmp_path).known


def test_two_sizes_for_one_field_are_a_contradiction(tmp_path: Any) -> None:
    with pytest.raises(Contradiction):
        solved({"x": "1"}, ("x", 3), ("2 * x", 8), at=tmp_path)
    with pytest.raises(Contradiction):
        solved({"x": "1"}, ("2 * x", 7), at=tmp_path)


# --- any input ------------------------------------------------------------------------------------

HOSTILE: Mapping[str, Mapping[str, Shape]] = {
    "empty": {},
    "garbage": {"a": (1,), "b.c": (2, 3)},
    "a number too long": llama() | {"model.layers.99999999999.input_layernorm.weight": (256,)},
    "a large number": llama() | {"model.layers.999999999.input_layernorm.weight": (256,)},
    "a far layer": llama() | {"model.layers.19999.input_layernorm.weight": (256,)},
    "zeros": {name: tuple(0 for _ in shape) for name, shape in llama().items()},
    "huge sizes": {name: tuple(10**400 for _ in shape) for name, shape in llama().items()},
    "no dimensions": dict.fromkeys(llama(), ()),
    "odd names": {"\0\ud800\n": (1,), "{i}": (2,), "{}": (3,), "a" * 100_000: (1,), "": (1,)},
    "one name": {f"model.layers.{i}.w": (1,) for i in range(90_000)},
    "many names": {f"x{i}y": (1,) for i in range(90_000)},
    "many numbers": {".".join(["7"] * 30) + f".{i}": (1,) for i in range(30_000)},
    "many layers": llama(2500),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_any_names_and_numbers_are_answered_in_time(case: str) -> None:
    start = time.process_time()
    found = identify(HOSTILE[case])
    assert time.process_time() - start < 20
    if case != "many layers":
        assert not found.exact
    assert "\n" not in found.told()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_shapes_at_random_never_fail(seed: int) -> None:
    drawn = random.Random(seed)
    table = drawn.choice([llama, qwen2, qwen3, gpt2, bert])()
    for name in drawn.sample(sorted(table), 3):
        table[name] = tuple(drawn.choice([0, 1, 3, 64, 2**62]) for _ in range(drawn.randrange(4)))
    found = identify(table)
    assert all(expectation(each.witness, each.class_name) for each in found.exact)


def test_ninety_thousand_tensors() -> None:
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 120}
    table = expectation(config, "DeepseekV3ForCausalLM").disk
    assert len(table) > 89_000
    start = time.process_time()
    found = identify(table)
    assert time.process_time() - start < 30
    assert "DeepseekV3ForCausalLM" in names(found)
    assert of(found, "DeepseekV3ForCausalLM")["num_hidden_layers"] == 120


# --- where it is told -----------------------------------------------------------------------------


def test_inspect_asks_only_where_the_config_does_not_tell(tmp_path: Any) -> None:
    table = {name: ("BF16", list(shape)) for name, shape in bert().items()}
    other = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
    own = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    silent = write(tmp_path / "silent", table, None)
    wrong = write(tmp_path / "wrong", table, other)
    right = write(tmp_path / "right", table, own)
    for folder in (silent, wrong):
        found = tidoctor.identify(folder, doubtful=True)
        assert found is not None
        assert names(found) == {"BertForSequenceClassification"}
    assert tidoctor.identify(right, doubtful=True) is None
    always = tidoctor.identify(right)
    assert always is not None
    assert always.unique is not None


def test_has_names() -> None:
    assert has_names("LlamaForCausalLM", llama())
    assert not has_names("LlamaForCausalLM", gpt2())
    with pytest.raises(NotCovered):
        has_names("NoSuchClass", llama())


def test_inspect_tells_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from tidoctor.__main__ import main

    table = {name: ("BF16", list(shape)) for name, shape in bert().items()}
    folder = write(tmp_path / "silent", table, None)
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "names and shapes are those of BertForSequenceClassification\n" in text
    assert "hidden_size 48" in text
    assert "not determined: num_attention_heads\n" in text
    assert main(["inspect", str(folder), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["identity"]
    assert [each["class"] for each in told["exact"]] == ["BertForSequenceClassification"]
    assert told["fields"]["num_labels"] == 3
    assert told["proposal"]["num_attention_heads"].startswith("not determined")


def test_an_absent_config_is_proposed_and_never_written(tmp_path: Any) -> None:
    table = {name: ("BF16", list(shape)) for name, shape in llama().items()}
    folder = write(tmp_path / "silent", table, None)
    finding = next(f for f in tidoctor.diagnose(folder).findings if f.code == "C01")
    facts = {e.where: e for e in finding.evidence}
    assert "LlamaForCausalLM" in facts["tensors"].fact
    proposal = facts["config.json"].value
    assert isinstance(proposal, Mapping)
    assert proposal["hidden_size"] == 256
    assert str(proposal["architectures"]).startswith("not determined: one of ")
    assert finding.cure is not None
    assert not finding.cure.operations
    assert str(finding.cure.kind) == "consent"


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.dictionaries(st.integers(0, 2), st.integers(0, 1))),
        max_size=12,
    )
)
def test_rows_that_no_other_shares_a_name_with(rows: list[tuple[str, dict[int, int]]]) -> None:
    made = [_Row("", key, tuple(fixed.items()), (), (), (), False) for key, fixed in rows]
    told = [
        not any(
            i != j and key == other and all(there.get(p, n) == n for p, n in fixed.items())
            for j, (other, there) in enumerate(rows)
        )
        for i, (key, fixed) in enumerate(rows)
    ]
    assert _alone(made) == told


def test_one_vector_is_looked_for_in_classes_with_thousands_of_experts() -> None:
    """Some have a row for each expert; holding each against all others once took minutes."""
    found = identify({"embed_tokens.weight": (4,)})
    assert found.candidates and not found.exact
