"""Names in a file become names in memory: rules, shapes, hostile names, and the data."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor.atlas import operations, renames
from tidoctor.atlas.expression import NotCovered
from tidoctor.atlas.loading import Fed, Loading, Mismatch, Missing, load
from tidoctor.atlas.operations import Shape
from tidoctor.atlas.renames import Rule, conversions

MERGE = ("MergeModulelist", {"dim": 0})
CONCATENATE = ("Concatenate", {"dim": 1})
GATE_UP = Rule(
    ("mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"),
    ("mlp.experts.gate_up_proj",), (MERGE, CONCATENATE),
)
DOWN = Rule(("mlp.experts.*.down_proj.weight",), ("mlp.experts.down_proj",), (MERGE,))
MOE = (GATE_UP, DOWN)
MOE_MEMORY = {"model.mlp.experts.gate_up_proj": (3, 8, 6), "model.mlp.experts.down_proj": (3, 6, 4)}


def experts(count: int = 3, first: int = 0) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for at in range(first, first + count):
        stem = f"model.mlp.experts.{at}"
        found[f"{stem}.gate_proj.weight"] = (4, 6)
        found[f"{stem}.up_proj.weight"] = (4, 6)
        found[f"{stem}.down_proj.weight"] = (6, 4)
    return found


def one(name: str, shape: Shape, expected: dict[str, Shape], *rules: Rule) -> Loading:
    return load({name: shape}, expected, rules, "model")


@pytest.mark.parametrize(
    ("name", "memory", "through"),
    [
        ("model.norm", "model.norm", ()),
        ("norm", "model.norm", ("prefix added",)),
        ("model.lm_head", "lm_head", ("prefix stripped",)),
        ("model.model.norm", "model.norm", ("prefix stripped",)),
        ("old", "model.norm", ("renamed", "prefix added")),
        ("model.old", "model.norm", ("renamed",)),
    ],
)
def test_a_name_is_taken_renamed_or_gets_the_base_prefix(
    name: str, memory: str, through: tuple[str, ...]
) -> None:
    found = one(name, (2,), {memory: (2,)}, Rule(("old",), ("norm",)))
    assert found.fed == {memory: Fed((name,), through)}
    assert not found.missing and not found.unexpected and not found.mismatched


def test_the_prefix_is_decided_for_each_name() -> None:
    memory: dict[str, Shape] = {"model.a": (1,), "model.b": (1,), "head": (1,)}
    found = load({"a": (1,), "model.b": (1,), "model.head": (1,)}, memory, (), "model")
    assert set(found.fed) == set(memory)


def test_nothing_is_stripped_where_the_result_is_not_wanted() -> None:
    found = load({"model.extra": (1,), "module.model.a": (1,)}, {"model.a": (1,)}, (), "model")
    assert found.unexpected == {
        "model.extra": ("model.extra",), "module.model.a": ("module.model.a",),
    }
    assert found.missing == {"model.a": Missing()}


def test_shapes_are_compared() -> None:
    found = one("norm", (3,), {"model.norm": (2,)})
    assert found.mismatched == {
        "model.norm": Mismatch((3,), (2,), ("norm",), (), ("prefix added",))
    }
    assert not found.fed and not found.missing


def test_a_renaming_that_leads_away_is_not_made() -> None:
    rule = Rule((r"^model\.",), ("body.",))
    assert one("model.norm", (2,), {"model.norm": (2,)}, rule).fed == {
        "model.norm": Fed(("model.norm",))
    }


def test_renamings_follow_one_another() -> None:
    rules = (Rule(("a$",), ("b",)), Rule(("b$",), ("c",)))
    assert set(one("x.a", (1,), {"x.c": (1,)}, *rules).fed) == {"x.c"}


def test_a_match_ends_where_the_word_does() -> None:
    rule = Rule(("weight",), ("w",))
    found = load({"x.weight": (1,), "x.weight_scale": (1,)}, {"x.w": (1,)}, (rule,), "")
    assert set(found.fed) == {"x.w"} and set(found.unexpected) == {"x.weight_scale"}


def test_a_group_is_carried_over() -> None:
    rule = Rule((r"blocks\.(\d+)\.norm", r"layer_(\d+)_norm"), (r"layers.\1.ln",))
    found = load(
        {"blocks.12.norm": (1,), "layer_3_norm": (1,)},
        {"layers.12.ln": (1,), "layers.3.ln": (1,)}, (rule,), "",
    )
    assert len(found.fed) == 2


def test_a_number_is_shifted() -> None:
    rule = Rule((r"queries\.(\d+)",), (r"layers.\1.query",), offset=1)
    assert set(one("queries.4", (1,), {"layers.5.query": (1,)}, rule).fed) == {"layers.5.query"}


PAIR = Rule(("norm0", "norm1"), ("norm1", "norm2"), paired=True)


def test_paired_sources_wait_for_the_first() -> None:
    memory: dict[str, Shape] = {"norm1": (1,), "norm2": (2,)}
    old = load({"norm1": (2,), "norm0": (1,)}, memory, (PAIR,), "")
    new = load({"norm2": (2,), "norm1": (1,)}, memory, (PAIR,), "")
    assert {k: v.sources for k, v in old.fed.items()} == {"norm1": ("norm0",), "norm2": ("norm1",)}
    assert {k: v.sources for k, v in new.fed.items()} == {"norm1": ("norm1",), "norm2": ("norm2",)}


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("model.tower.old.x", "model.tower.new.x"),
        ("tower.old.x", "model.tower.new.x"),  # the base prefix may be missing
        ("other.old.x", None),
        ("old.x", None),
    ],
)
def test_a_scoped_rule_stays_in_its_submodel(name: str, memory: str | None) -> None:
    rule = Rule((r"^old\.",), ("new.",), scope="tower", base="model")
    found = one(name, (1,), {"model.tower.new.x": (1,)}, rule)
    assert set(found.fed) == ({memory} if memory else set())


def test_experts_are_stacked_and_concatenated() -> None:
    found = load(experts(), MOE_MEMORY, MOE, "model")
    assert set(found.fed) == set(MOE_MEMORY)
    fed = found.fed["model.mlp.experts.gate_up_proj"]
    assert len(fed.sources) == 6 and fed.through == ("MergeModulelist", "Concatenate")
    stripped = {name.removeprefix("model."): shape for name, shape in experts().items()}
    assert load(stripped, MOE_MEMORY, MOE, "model").fed["model.mlp.experts.down_proj"].through == (
        "prefix added", "MergeModulelist",
    )


def test_a_lost_expert_matrix_fails_the_concatenation() -> None:
    files = experts()
    del files["model.mlp.experts.1.gate_proj.weight"]
    found = load(files, MOE_MEMORY, MOE, "model")
    missing = found.missing["model.mlp.experts.gate_up_proj"]
    assert missing.lacking == ("model.mlp.experts.1.gate_proj.weight",)
    assert len(missing.sources) == 5 and "differ" in missing.reason
    assert set(found.fed) == {"model.mlp.experts.down_proj"}


def test_a_lost_expert_makes_the_stack_too_short() -> None:
    files = experts()
    del files["model.mlp.experts.2.down_proj.weight"]
    found = load(files, MOE_MEMORY, MOE, "model").mismatched["model.mlp.experts.down_proj"]
    assert (found.found, found.wanted) == ((2, 6, 4), (3, 6, 4))
    assert found.lacking == ("model.mlp.experts.2.down_proj.weight",)


def test_a_lost_projection_makes_half_of_the_rows() -> None:
    files = {k: v for k, v in experts().items() if "up_proj" not in k}
    found = load(files, MOE_MEMORY, MOE, "model")
    # One source alone counts as already merged and has no name that the next step looks for.
    missing = found.missing["model.mlp.experts.gate_up_proj"]
    assert missing.lacking == tuple(f"model.mlp.experts.{at}.up_proj.weight" for at in range(3))
    assert missing.reason == "nothing to be concatenated"


def test_the_numbers_of_the_experts_do_not_count() -> None:
    assert set(load(experts(first=7), MOE_MEMORY, MOE, "model").fed) == set(MOE_MEMORY)


def test_names_of_the_lacking_are_few() -> None:
    files = {k: v for k, v in experts(1).items() if "down" in k}
    found = load(files, {"model.mlp.experts.down_proj": (10**9, 6, 4)}, MOE, "model")
    assert len(found.mismatched["model.mlp.experts.down_proj"].lacking) == 16


CUT = Rule((r"attn\.qkv\.",), ("q.", "k.", "v."), (("Chunk", {"dim": 0}),))
SPLIT = Rule(("qkv.weight",), ("q.weight", "k.weight", "v.weight"), (("Split", {"dim": 0}),))
TURN = Rule(("w",), ("v",), (("Transpose", {"dim0": 0, "dim1": 1, "check_dims": False}),))
TURN_IF = Rule(("w",), ("v",), (("Transpose", {"dim0": 1, "dim1": 2, "check_dims": True}),))
JOIN = Rule((r"\.q\.", r"\.k\."), (".qk.",), (("Concatenate", {"dim": 0}),))
COMB = Rule(("w",), ("v",), (("Interleave", {"dim": 1, "inverse": False}),))
ROPE = Rule(
    (r"qkv",), ("q", "k"), (("Chunk", {"dim": 0}), ("PermuteForRope", {"inverse": False}))
)


@pytest.mark.parametrize(
    ("rule", "files", "memory", "found"),
    [
        (CUT, {"attn.qkv.w": (9, 2)}, {"q.w": (3, 2), "k.w": (3, 2), "v.w": (3, 2)}, {}),
        (CUT, {"attn.qkv.w": (8, 2)}, {"q.w": (3, 2), "k.w": (3, 2), "v.w": (3, 2)}, {"v.w": (2, 2)}),
        (SPLIT, {"qkv.weight": (8, 2)}, {"q.weight": (4, 2), "k.weight": (2, 2), "v.weight": (2, 2)}, {}),
        (TURN, {"w": (3, 2)}, {"v": (2, 3)}, {}),
        (TURN, {"w": (2, 3)}, {"v": (2, 3)}, {"v": (3, 2)}),
        (TURN_IF, {"w": (1, 2, 3)}, {"v": (1, 2, 3)}, {}),
        (TURN_IF, {"w": (1, 3, 2)}, {"v": (1, 2, 3)}, {}),
        (TURN_IF, {"w": (5, 3, 2)}, {"v": (1, 2, 3)}, {"v": (5, 2, 3)}),
        (JOIN, {"a.q.w": (4, 2), "a.k.w": (2, 2)}, {"a.qk.w": (6, 2)}, {}),
        (JOIN, {"a.q.w": (4, 2)}, {"a.qk.w": (6, 2)}, {"a.qk.w": (4, 2)}),
        (COMB, {"w": (2, 4)}, {"v": (2, 4)}, {}),
        (ROPE, {"qkv": (8, 4)}, {"q": (4, 4), "k": (4, 4)}, {}),
    ],
)
def test_shapes_go_through_the_operations(
    rule: Rule, files: dict[str, Shape], memory: dict[str, Shape], found: dict[str, Shape]
) -> None:
    loading = load(files, memory, (rule,), "")
    assert {k: v.found for k, v in loading.mismatched.items()} == found
    assert set(loading.fed) == set(memory) - set(found)
    assert not loading.missing


def test_what_is_lacking_in_a_concatenation_is_named() -> None:
    found = load({"a.q.w": (4, 2)}, {"a.qk.w": (6, 2)}, (JOIN,), "").mismatched["a.qk.w"]
    assert found.lacking == ("a.k.w",)


@pytest.mark.parametrize(
    ("rule", "files", "memory", "why"),
    [
        (SPLIT, {"qkv.weight": (9, 2)},
         {"q.weight": (4, 2), "k.weight": (2, 2), "v.weight": (2, 2)}, "8 rows are wanted"),
        (TURN, {"w": (3,)}, {"v": (2, 3)}, "no dimension 1"),
        (COMB, {"w": (2, 3)}, {"v": (2, 3)}, "odd"),
        (JOIN, {"a.q.w": (4, 2), "a.k.w": (2, 3)}, {"a.qk.w": (6, 2)}, "differ"),
        (CUT, {"attn.qkv.w": ()}, {"q.w": (), "k.w": (), "v.w": ()}, "no dimension 0"),
    ],
)
def test_an_operation_that_fails_leaves_all_it_was_to_feed(
    rule: Rule, files: dict[str, Shape], memory: dict[str, Shape], why: str
) -> None:
    loading = load(files, memory, (rule,), "")
    assert set(loading.missing) == set(memory)
    assert all(why in each.reason for each in loading.missing.values())
    assert all(each.sources == tuple(files) for each in loading.missing.values())


ERNIE = Rule(
    ("experts.*.gate.w", "experts.*.up.w"), ("text.gate_up", "vision.gate_up"),
    (("ErnieFuseAndSplitTextVisionExperts", {"stack_dim": 0, "concat_dim": 1}),),
)


def test_experts_are_shared_out_by_their_numbers() -> None:
    files: dict[str, Shape] = {}
    for at in (10, 11, 9, 8):  # 8 and 9 are for text
        width = 4 if at < 10 else 6
        files |= {f"experts.{at}.gate.w": (width, 2), f"experts.{at}.up.w": (width, 2)}
    memory: dict[str, Shape] = {"text.gate_up": (2, 8, 2), "vision.gate_up": (2, 12, 2)}
    assert set(load(files, memory, (ERNIE,), "").fed) == set(memory)


def test_a_name_that_several_tensors_were_to_come_from_is_reported_under_all() -> None:
    found = load({"x.attn.qkv.w": (9,)}, {}, (CUT,), "")
    assert found.unexpected == {"x.attn.qkv.w": ("x.q.w", "x.k.w", "x.v.w")}


def test_a_result_without_a_place_makes_the_loader_raise() -> None:
    found = load({"attn.qkv.w": (9, 2)}, {"q.w": (3, 2), "k.w": (3, 2)}, (CUT,), "")
    assert len(found.raises) == 1 and "v.w" in found.raises[0]


def test_a_wrong_size_before_a_permutation_by_heads_is_unknown() -> None:
    found = load({"qkv": (9, 4)}, {"q": (4, 4), "k": (4, 4)}, (ROPE,), "")
    assert set(found.unknown) == {"q", "k"} and "heads" in found.unknown["q"]
    assert not found.fed and not found.missing and not found.mismatched


def test_an_operation_nobody_knows_is_said_to_be_unknown() -> None:
    rule = Rule(("w",), ("v",), (("Fold", {}),))
    found = load({"w": (1,)}, {"v": (1,)}, (rule,), "")
    assert set(found.unknown) == {"v"} and not found.missing and not found.fed


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_names_for_one_tensor_the_first_in_order_is_taken(turned: bool) -> None:
    files: dict[str, Shape] = {"model.norm": (2,), "norm": (3,)}
    if turned:
        files = dict(reversed(files.items()))
    found = load(files, {"model.norm": (2,)}, (), "model")
    assert found.fed["model.norm"].sources == ("model.norm",)
    assert found.surplus == {"norm": "model.norm"}


@given(st.permutations(sorted(experts(4) | {"norm": (1,), "model.norm": (1,), "x": (1,)})))
def test_the_order_of_the_names_decides_nothing(names: list[str]) -> None:
    memory = MOE_MEMORY | {"model.norm": (1,)}
    shapes = experts(4) | {"norm": (2,), "model.norm": (1,), "x": (1,)}

    def essence(names: list[str]) -> tuple[object, ...]:
        found = load({name: shapes[name] for name in names}, memory, MOE, "model")
        return (
            {k: set(v.sources) for k, v in found.fed.items()}, set(found.missing),
            {k: (v.found, set(v.sources)) for k, v in found.mismatched.items()},
            found.unexpected, found.surplus,
        )

    assert essence(names) == essence(sorted(names))


# --- the classes -----------------------------------------------------------------------------


def through(name: str, prefix: str, file_name: str, memory: str, **types: str) -> bool:
    rules = conversions(name, prefix, types)
    found = load({file_name: (1,)}, {memory: (1,)}, rules, prefix)
    return memory in found.fed or memory in found.mismatched


@pytest.mark.parametrize(
    ("name", "prefix", "file_name", "memory"),
    [
        ("BertModel", "bert", "embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("BertForMaskedLM", "bert", "bert.embeddings.LayerNorm.beta", "bert.embeddings.LayerNorm.bias"),
        ("Wav2Vec2Model", "wav2vec2", "conv.weight_g", "conv.parametrizations.weight.original0"),
        ("GPTNeoXForCausalLM", "gpt_neox", "embed_out.weight", "lm_head.weight"),
        ("MixtralForCausalLM", "model",
         "model.layers.0.block_sparse_moe.experts.0.w2.weight", "model.layers.0.mlp.experts.down_proj"),
        ("LlavaForConditionalGeneration", "model",
         "language_model.model.norm.weight", "model.language_model.norm.weight"),
        ("LlavaForConditionalGeneration", "model",
         "vision_tower.vision_model.post_layernorm.bias", "model.vision_tower.post_layernorm.bias"),
        ("LlavaForConditionalGeneration", "model", "language_model.lm_head.weight", "lm_head.weight"),
        ("Qwen2_5_VLForConditionalGeneration", "model",
         "model.norm.weight", "model.language_model.norm.weight"),
        ("Qwen2_5_VLForConditionalGeneration", "model", "visual.x", "model.visual.x"),
    ],
)
def test_spellings_of_other_releases_lead_to_the_names_in_memory(
    name: str, prefix: str, file_name: str, memory: str
) -> None:
    assert through(name, prefix, file_name, memory)


def test_a_part_that_the_config_chooses_brings_its_own_rules() -> None:
    name = "model.language_model.layers.0.mlp.experts.0.down_proj.weight"
    memory = "model.language_model.layers.0.mlp.experts.down_proj"
    llava = "LlavaForConditionalGeneration"
    assert not through(llava, "model", name, memory)
    assert through(llava, "model", name, memory, text_config="qwen3_moe")


def test_rules_of_a_part_are_bound_to_its_place() -> None:
    rules = conversions("LlavaForConditionalGeneration", "model")
    assert {rule.scope for rule in rules} == {None, "", "vision_tower"}
    assert all(rule.base == "model" for rule in rules)


def test_an_ancestor_of_the_same_type_speaks_for_its_parts() -> None:
    assert {rule.scope for rule in conversions("MixtralForCausalLM", "model")} == {None}


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("NobodysModel", {}),
        ("DetrForObjectDetection", {}),  # could not be built when the data was learned
        ("LlavaForConditionalGeneration", {"text_config": "nothing"}),
        ("LlavaForConditionalGeneration", {"vision_config": ""}),
    ],
)
def test_what_was_not_learned_is_not_covered(name: str, types: dict[str, str]) -> None:
    with pytest.raises(NotCovered):
        conversions(name, "model", types)


# --- the data --------------------------------------------------------------------------------

ROWS: list[tuple[str, dict[str, Any]]] = [
    (key, row) for key, rows in renames._data()["rules"].items() for row in rows
]
RULES = [renames._rule(row, None, "") for _, row in ROWS]
SOURCES = sorted({source for rule in RULES for source in rule.sources})


def test_every_rule_can_be_made_ready() -> None:
    assert len(ROWS) > 500
    for rule in RULES:
        renames.Renamer(rule)("some.name")
        assert not rule.paired or len(rule.sources) == len(rule.targets)
        assert all(name in operations.OPERATIONS for name, _ in rule.operations)
        groups = renames._pattern(rule.sources).groups - len(rule.sources)
        assert groups or not any("\\" in target for target in rule.targets), rule


def test_every_reference_in_the_data_leads_somewhere() -> None:
    data = renames._data()
    assert set(data["same"].values()) <= data["rules"].keys()
    assert not data["same"].keys() & data["rules"].keys()
    assert not data["classes"].keys() & data["unlearned"].keys()
    for name, row in data["classes"].items():
        for part in row["parts"]:
            assert part["at"] and part["class"], name


def unbounded(tree: Any) -> int:
    """How many repetitions without an end a parsed pattern has."""
    count = 0
    for operation, argument in tree:
        if str(operation) in ("MAX_REPEAT", "MIN_REPEAT"):
            inner = unbounded(argument[2])
            assert not inner, "a repetition in a repetition"
            digits = str(argument[2]).find("CATEGORY_DIGIT") >= 0
            count += str(argument[1]) == "MAXREPEAT" and not digits
        elif str(operation) == "SUBPATTERN":
            count += unbounded(argument[3])
        elif str(operation) in ("ASSERT", "ASSERT_NOT"):
            count += unbounded(argument[1])
        elif str(operation) == "BRANCH":
            count += max(unbounded(branch) for branch in argument[1])
    return count


def test_no_pattern_has_more_than_one_long_repetition() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from re import _parser  # type: ignore[attr-defined]
    for source in SOURCES:
        assert unbounded(_parser.parse(source.replace("*.", r".*\."))) <= 1, source


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_quick_look_never_skips_a_match(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(SOURCES))
    pattern = re.compile(source.replace("*.", r".*\."), re.ASCII)
    name = data.draw(st.from_regex(pattern))
    assert renames._needle(source) in name


# --- hostile and large -----------------------------------------------------------------------


def test_a_name_too_long_to_be_looked_at_is_unknown() -> None:
    name = "model.norm" + "x" * renames.LONGEST
    found = load({name: (1,), "model.norm": (1,)}, {"model.norm": (1,)}, (), "model")
    assert set(found.unknown) == {name} and set(found.fed) == {"model.norm"}
    assert not found.unexpected


@pytest.mark.parametrize(
    "class_name",
    ["DeepseekV3ForCausalLM", "Ernie4_5_VLMoeForConditionalGeneration",
     "CohereAsrForConditionalGeneration"],
)
@pytest.mark.parametrize("piece", ["mlp.experts.1.", "encoder.", "(", "*.", "\\1", "٣.²."])
def test_names_made_to_match_almost_cost_little(class_name: str, piece: str) -> None:
    rules = conversions(class_name, "model")
    end = ".self_attn.linear_qq.gate_proj.weightx"
    stem = (piece * renames.LONGEST)[: renames.LONGEST - len(end) - 6]
    files: dict[str, Shape] = {f"{stem}{at:06}{end}": (1,) for at in range(2000)}
    start = time.perf_counter()
    found = load(files, {}, rules, "model")
    assert time.perf_counter() - start < 5
    assert len(found.unexpected) == 2000


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 2), (2, 3, 4), (10**30, 1)], ids=str)
def test_odd_names_and_shapes_never_break_it(shape: Shape) -> None:
    for rule in RULES:
        plain = [re.sub(r"\\(?=\W)", "", source).replace("*", "0") for source in rule.sources]
        targets = [target.replace("\\1", "0").replace("*", "0") for target in rule.targets]
        files: dict[str, Shape] = dict.fromkeys([*plain, *targets, "", ".", "\n"], shape)
        memory: dict[str, Shape] = dict.fromkeys(targets, (2, 2))
        found = load(files, memory, (rule,), "")
        told = {*found.fed, *found.missing, *found.mismatched, *found.unknown}
        assert set(memory) <= told, rule


def test_a_very_large_model_takes_about_a_second() -> None:
    files: dict[str, Shape] = {}
    memory: dict[str, Shape] = {}
    for layer in range(61):
        stem = f"model.layers.{layer}.mlp.experts"
        for expert in range(500):
            files[f"{stem}.{expert}.gate_proj.weight"] = (2, 4)
            files[f"{stem}.{expert}.up_proj.weight"] = (2, 4)
            files[f"{stem}.{expert}.down_proj.weight"] = (4, 2)
        memory[f"{stem}.gate_up_proj"] = (500, 4, 4)
        memory[f"{stem}.down_proj"] = (500, 4, 2)
    rules = conversions("DeepseekV3ForCausalLM", "model")
    start = time.perf_counter()
    found = load(files, memory, rules, "model")
    assert set(found.fed) == set(memory) and not found.unexpected
    assert time.perf_counter() - start < 6  # 0.7 s on one quiet core
