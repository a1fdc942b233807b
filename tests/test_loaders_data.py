"""The files about loaders: sound, cited, and each record does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import LLAMA, build, llama

from tidoctor.errors import Usage
from tidoctor.finding import Certainty, Outcome
from tidoctor.loaders import Asked, Consumer, Patient, Record, asked, consumer, evaluate, names
from tidoctor.loaders.messages import TEMPLATES, fill
from tidoctor.loaders.parsing import parse
from tidoctor.loaders.patient import Loading
from tidoctor.loaders.policy import HEADS

EVERY = [consumer(name) for name in names()]
RECORDS = [(c, r) for c in EVERY for r in c.records]

# What serves as head: with a flag that ties and no head, a head; one that does not, a head, none.
USES = {
    "explicit": "lacks own own lacks",
    "flag": "tied tied own lacks",
    "flag-strict": "tied surplus own lacks",
    "presence": "tied own own tied",
    "presence-then-flag": "tied own own lacks",
    "flag-then-presence": "tied tied own tied",
    "embedding": "tied tied tied tied",
    "embedding-strict": "tied surplus surplus tied",
    "unplaced": "tied surplus surplus lacks",
    "unread-when-tied": "lacks lacks own lacks",
    "unread-when-untied": "tied tied lacks lacks",
    "copied": "tied own own none",
}
# What that comes to: the head of these patients differs from the embedding.
COMES_TO = {
    ("own", True): "loads", ("own", False): "loads", ("surplus", True): "fails",
    ("surplus", False): "fails", ("none", False): "misreads",
}  # fmt: skip


def test_the_loaders_of_the_seeds_are_there_and_more() -> None:
    seeds = {"candle", "lorax", "text-generation-inference", "mergekit", "transformers"}
    assert seeds < set(names())
    assert {"vllm", "sglang", "llama.cpp", "mlx-lm", "mistral.rs", "ollama", "cake"} < set(names())


def test_every_way_of_choosing_a_head_is_in_use_and_has_words() -> None:
    used = {r.head for _, r in RECORDS}
    assert used <= set(HEADS)
    assert set(USES) <= used


@pytest.mark.parametrize("one", EVERY, ids=[c.name for c in EVERY])
def test_every_record_is_cited(one: Consumer) -> None:
    for record in one.records:
        assert "/" in record.cite.repo and record.cite.file and record.cite.ref
        sure = record.cite.how in ("run", "read")
        assert (record.certainty is Certainty.PROVEN) is sure


@pytest.mark.parametrize("one", EVERY, ids=[c.name for c in EVERY])
def test_every_message_can_be_filled(one: Consumer) -> None:
    for record in one.records:
        for kind, template in record.errors.items():
            text = fill(template, {key: f"<{key}>" for key in TEMPLATES[kind]})
            assert bool(text) is bool(template) and "\n" not in text


def test_delegates_are_known() -> None:
    for _, record in RECORDS:
        if record.delegate:
            assert asked([record.delegate])


# --- each record does what it says ----------------------------------------------------------------


def synthetic(record: Record, model_type: str, task: str, *, tied: bool, head: bool) -> Patient:
    """A checkpoint as the record wants it; head and embedding differ."""
    fillers = {"prefix": "model.", "model_type": model_type, "head": "lm_head.weight"}
    prefix = fill(record.prefixes[0], fillers)
    spelt = [t for t in record.embedding if t not in ("{embedding}", "{head}")]
    # The class has the prefix "model.", unless the record spells out names of another class.
    base = prefix if spelt else "model."
    own = spelt[0] if spelt else base + "embed_tokens.weight"
    embedding = prefix + own.removeprefix(base)
    head_name = fill(record.head_names[0], fillers) if record.head_names else ""
    parts = {name: (4,) for name in record.head_parts}
    body = {own: (8, 4), base + "layers.0.weight": (4, 4)}
    files = {embedding: (8, 4), prefix + "layers.0.weight": (4, 4), **parts}
    expected = {**body, **parts, **({} if tied else {"lm_head.weight": (8, 4)})}
    if head:
        files[head_name] = (8, 4)
    settings: dict[str, Any] = {"model_type": model_type, "architectures": ["Synthetic"]}
    settings |= {k.name: 1 for k in record.config if k.instead is None}
    if record.tie_key:
        settings[record.tie_key.split("|")[0]] = tied
    return Patient(
        name="somewhere",
        settings=settings,
        end=(9, 1),
        model_type=model_type,
        declared="Synthetic",
        class_name="Synthetic",
        task=task,
        embeds=task == "embedding",
        files={"model.safetensors": files},
        read=("model.safetensors",),
        formats={"model.safetensors": "pt"},
        prefix=base,
        head="lm_head.weight",
        embedding=own,
        stored_head=head_name if head else None,
        stored_embedding=embedding,
        same=lambda: (False, ""),
        tied=tied,
        tied_v4=tied,
        tied_v5=tied,
        expected=expected,
        loading=Loading(),
    )


def situations() -> Iterator[tuple[Consumer, Record, str]]:
    for one, record in RECORDS:
        for model_type in record.model_types:
            yield one, record, "unheard-of" if model_type == "*" else model_type


CASES = list(situations())


@pytest.mark.parametrize(
    ("one", "record", "model_type"), CASES,
    ids=[f"{c.name}-{m}-{r.versions.text}-{r.tasks[0]}" for c, r, m in CASES],
)  # fmt: skip
def test_each_record_gives_the_verdict_that_it_says(
    one: Consumer, record: Record, model_type: str
) -> None:
    for place in (min(record.versions.places), max(record.versions.places)):
        wish = Asked(one, one.timeline.place(one.timeline.known[place]))
        for task in record.tasks:
            for i, (tied, head) in enumerate(
                ((True, False), (True, True), (False, True), (False, False))
            ):
                if record.needs_flag is not None and record.needs_flag is not tied:
                    patient = synthetic(record, model_type, task, tied=tied, head=head)
                    found = evaluate(patient, wish)
                    assert found.outcome is Outcome.FAILS and found.message
                    continue
                if head and record.head_names == ("lm_head",):
                    continue  # candle 0.6.0 looks for a name that no file has
                patient = synthetic(record, model_type, task, tied=tied, head=head)
                found = evaluate(patient, wish)
                told = (one.name, wish.version, model_type, tied, head, found)
                assert str(found.outcome) == expectation(record, model_type, i, patient), told
                if found.outcome is not Outcome.UNKNOWN:
                    assert found.certainty is record.certainty or record.delegate or tied
                    assert found.source == str(record.cite) or record.delegate


def expectation(record: Record, model_type: str, i: int, patient: Patient) -> str:
    """The outcome, worked out here and not by the evaluator."""
    if record.head in ("none", "refused", "unknown"):
        return {"none": "loads", "refused": "fails", "unknown": "unknown"}[record.head]
    if record.head == "delegated":
        (to,) = asked([record.delegate or ""])
        return str(evaluate(patient, to).outcome)
    use = USES[record.head].split()[i]
    tied, present = i < 2, i in (1, 2)
    if use == "lacks":
        return "fails" if record.missing in ("error", "fused", "weights") else "misreads"
    if record.wrong_flag is not None and record.wrong_flag.value is tied:
        return "misreads"
    if use == "tied":
        return "loads" if tied and not present else "misreads"
    return COMES_TO[use, tied]


# --- the validator --------------------------------------------------------------------------------

CITE = {"repo": "a/b", "file": "c.py", "ref": "1.0", "how": "read"}
RECORD: dict[str, Any] = {
    "model_types": ["llama"], "versions": "*", "head": "flag", "cite": CITE,
}  # fmt: skip
FILE: dict[str, Any] = {
    "name": "x", "title": "X", "aliases": [], "axis": "releases", "versions": ["1.0", "2.0"],
    "serves": "generation",
    "defaults": {
        "class_from": "caller", "base_class": "ignored", "select": "caller", "duplicates": "last",
        "extra": "ignore", "missing": "error",
    },
    "records": [RECORD],
}  # fmt: skip


def read(**changes: Any) -> Consumer:
    return parse(json.dumps({**FILE, **changes}), "x.json")


def record(**changes: Any) -> Consumer:
    return read(records=[{**RECORD, **changes}])


def test_a_sound_file_is_read() -> None:
    found = read()
    assert found.find("llama", "causal-lm", 1) is found.records[0]
    assert found.find("mistral", "causal-lm", 1) is None
    assert found.find("llama", "encoder", 1) is None
    assert found.find(None, "causal-lm", 1) is None


def test_an_exact_model_type_wins_over_the_fallback() -> None:
    both = read(records=[RECORD, {**RECORD, "model_types": ["*"], "head": "presence"}])
    assert [getattr(both.find(t, "causal-lm", 0), "head", None) for t in ("llama", "zamba")] == [
        "flag", "presence",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"versions": ">=3.0"}, "newer"),
        ({"versions": ">=1.5"}, "not one of the known"),
        ({"head": "sometimes"}, "head is 'sometimes'"),
        ({"missing": "never"}, "missing is 'never'"),
        ({"scaling": "always"}, "scaling is 'always'"),
        ({"scaling": {}}, "says nothing"),
        ({"scaling": {"takes": ["yarn"], "skips": ["yarn"]}}, "one thing twice"),
        ({"scaling": {"takes": ["yarn/moon"]}}, "condition that is not known: moon"),
        ({"scaling": {"takes": ["yarn"], "eats": []}}, "scaling is"),
        ({"layout": "any"}, "layout is 'any'"),
        ({"layout": {"key": "k", "absent": 0}}, "layout is"),
        ({"cite": {**CITE, "how": "guessed"}}, "not cited"),
        ({"cite": {**CITE, "ref": ""}}, "not cited"),
        ({"cite": {"repo": "a/b"}}, "TypeError"),
        ({"errors": {"missing": "no {tensor}"}}, "asks for 'tensor'"),
        ({"errors": {"missing": "no {0}"}}, "asks for '0'"),
        ({"errors": {"missing": "no {name!r}"}}, "asks for 'name'"),
        ({"errors": {"missing": "no {name"}}, "expected '}'"),
        ({"errors": {"missing": "two\nlines"}}, "more than one line"),
        ({"errors": {"explosion": "bang"}}, "no kind of message"),
        ({"prefixes": ["{nobody}."]}, "prefixes"),
        ({"model_types": []}, "no model type"),
        ({"model_types": ["*", "llama"]}, "beside other"),
        ({"model_types": "llama"}, "no list"),
        ({"tie": {"key": "t", "absent": "maybe"}}, "tie says"),
        ({"tie": {"key": None, "absent": True}}, "leaves the flag to nobody"),
        ({"head": "unknown"}, "no note says why"),
        ({"head": "delegated"}, "nobody named"),
        ({"delegate": "candle@0.11.0"}, "other way round"),
        ({"exempt": ["("]}, "unterminated|missing"),
        ({"colour": "red"}, "colour is no key"),
        ({"config": [{"key": "a", "otherwise": 1}]}, "is no key"),
    ],
)
def test_an_unsound_record_is_refused_by_name(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        record(**changes)
    assert str(caught.value).startswith("x.json, record 1")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"versions": []}, "none"),
        ({"versions": ["2.0", "1.0"]}, "not in order"),
        ({"serves": "tea"}, "serves"),
        ({"records": [RECORD, RECORD]}, "overlaps"),
        ({"records": [RECORD, {**RECORD, "versions": ">=2.0"}]}, "overlaps"),
        ({"records": [{**RECORD, "model_types": ["*"]}, RECORD]}, "has to be last"),
        ({"records": [{k: v for k, v in RECORD.items() if k != "cite"}]}, "cite is not said"),
        ({"defaults": {}}, "is not said"),
        ({"motto": "x"}, "motto is no key"),
    ],
)
def test_an_unsound_file_is_refused_by_name(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        read(**changes)
    assert str(caught.value).startswith("x.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "null", '{"name": "x"}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.json"):
        parse(text, "x.json")


# --- finding them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "name", "version"),
    [
        ("candle", "candle", "0.11.0"), ("Candle@v0.7.1", "candle", "0.7.1"),
        ("tgi@2.2", "text-generation-inference", "2.2.0"), ("mistralrs", "mistral.rs", "0.9.5"),
        ("llama_cpp", "llama.cpp", "2026-10"), ("lorax", "lorax", "main"),
        ("vllm@0.25.0", "vllm", "0.25.0"), ("MLX_LM", "mlx-lm", "0.32.2"),
    ],
)  # fmt: skip
def test_a_wish_names_a_loader_and_a_version(wish: str, name: str, version: str) -> None:
    (found,) = asked([wish])
    assert (found.consumer.name, found.version) == (name, version)


def test_each_wish_counts_once_and_all_means_all() -> None:
    assert [w.consumer.name for w in asked(["all"])] == list(names())
    assert len(asked(["candle", "all", "candle@0.11.0"])) == len(names())
    assert [w.version for w in asked(["candle@0.7.1", "candle"])] == ["0.7.1", "0.11.0"]


@pytest.mark.parametrize(
    ("wish", "hint"),
    [
        ("candel", "did you mean candle"), ("zzz", "known are"), ("", "known are"),
        ("candle@9", "nearest is 0.11.0"), ("candle@0.1", "nearest is 0.5.1"),
        ("lorax@mian", "nearest is main"), ("candle@", "nearest is"), ("all@1", "did you mean"),
        ("x" * 100_000, "known are"), ("candle@" + "9" * 100_000, "nearest is"),
    ],
)  # fmt: skip
def test_other_wishes_name_the_nearest(wish: str, hint: str) -> None:
    with pytest.raises(Usage, match=hint):
        asked([wish])


# --- eras and known classes -----------------------------------------------------------------------


def test_an_era_says_what_a_record_does_not() -> None:
    one = read(eras=[{"versions": "==1.0", "extra": "error", "errors": {"extra": "no {name}"}}])
    first, second = one.records
    assert (first.versions.text, first.extra, first.errors) == (
        "==1.0", "error", {"extra": "no {name}"},
    )  # fmt: skip
    assert (second.versions.text, second.extra, second.errors) == ("==2.0", "ignore", {})
    own = read(
        eras=[{"versions": "*", "extra": "error"}], records=[{**RECORD, "extra": "report"}]
    )
    assert [r.extra for r in own.records] == ["report"]


@pytest.mark.parametrize(
    "eras",
    [
        [{"versions": "*"}, {"versions": "==1.0"}],
        [{"versions": "==1.0", "colour": "red"}],
        [{"versions": "==3.0"}],
        [{"extra": "error"}],
    ],
)
def test_unsound_eras_are_refused(eras: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"x\.json, eras"):
        read(eras=eras)


KNOWN: dict[str, Any] = {
    "versions": "*", "by": "architectures", "names": ["LlamaForCausalLM"], "tasks": ["causal-lm"],
    "message": "no {class}", "cite": CITE,
}  # fmt: skip


def test_a_class_that_is_not_known_is_refused_and_one_without_a_record_is_not_judged() -> None:
    one = read(classes=[KNOWN])
    wish = Asked(one, one.timeline.place("2.0"))
    for declared, outcome, message in (
        ("GptForCausalLM", Outcome.FAILS, "no GptForCausalLM"),
        ("LlamaForCausalLM", Outcome.UNKNOWN, ""),
        (None, Outcome.UNKNOWN, ""),
    ):
        found = evaluate(Patient(model_type="gpt", declared=declared, task="causal-lm"), wish)
        assert (found.outcome, found.message) == (outcome, message)
    other = evaluate(Patient(model_type="gpt", declared="X", task="masked-lm"), wish)
    assert other.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [{"by": "colour"}, {"cite": {**CITE, "ref": ""}}, {"message": "no {colour}"}, {"names": 7}],
)
def test_unsound_lists_of_classes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"x\.json, classes"):
        read(classes=[{**KNOWN, **change}])
    with pytest.raises(ValueError, match="overlaps"):
        read(classes=[KNOWN, KNOWN])


# --- what is not asked for costs nothing ----------------------------------------------------------


@pytest.mark.parametrize("wish", ["", "candle"])
def test_loaders_are_read_only_when_one_is_asked_for(wish: str, tmp_path: Path) -> None:
    for name, content in build(llama(), LLAMA).items():
        (tmp_path / name).write_bytes(content)
    code = (
        "import sys; from tidoctor.cli import run; "
        f"run(['diagnose', {str(tmp_path)!r}, *{['--for', wish] if wish else []!r}]); "
        "print(any(m.startswith('tidoctor.loaders') for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == str(bool(wish))
