"""H10, H11, H13: heads of tasks other than generating, and the labels they score."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import printable, some
from tidoctor.rules.causes import similar
from tidoctor.rules.packing import FLOATS
from tidoctor.rules.rule import (
    ERROR,
    LIKELY,
    PROVEN,
    WARNING,
    NotApplicable,
    advice,
    consent,
    found,
    rename,
    rule,
    safe,
    set_key,
)
from tidoctor.rules.subject import GENERATING
from tidoctor.rules.view import View
from tidoctor.rules.wording import gap_rows, place

_HEADED_TASKS = (
    "sequence-classification", "token-classification", "question-answering",
    "image-classification",
)  # fmt: skip
_LABELLING = ("sequence-classification", "token-classification", "image-classification")
_FOREIGN_HEADS = ("v_head.", "score.weight", "value_head.", "reward_head.")
# What the last matrix of a classifier is called, the most inner one first.
_SCORES = ("classifier.out_proj.weight", "classifier.weight", "score.weight")
_MOST_LABELS = 100_000


@rule("H10", "head-part-absent")
def task_head_absent(view: View) -> Iterator[Finding]:
    """The head of the class (score, classifier, a bias of the output) is not stored, or not all.

    Why: transformers starts it with random numbers. Training that began from an adapter often
    leaves the head in the adapter's `modules_to_save`.

    Recognised by: the class in config.json and its tensors.

    Fine: a model that is about to be trained has no task head yet.

    Example: `LlamaForSequenceClassification` without `score.weight`.

    Cure: fetch it from the adapter, take it from a model of the same task, or export again.
    """
    view.need_config()
    view.need_whole()
    facts = view.wanted or view.declared
    if facts is None or facts.task not in (*_HEADED_TASKS, *GENERATING):
        raise NotApplicable("the class has no head of its own")
    if facts.task not in GENERATING and view.settings.get("id2label") == {}:
        raise NotApplicable("there are no labels, hence no head")
    missing = [n for n in view.missing_parts(facts) if n != facts.head]
    # What stands behind a prefix that does not belong there is not lost (N01, N07).
    ends = tuple(f".{name}" for name in missing)
    missing = [n for n in missing if not any(t.endswith(f".{n}") for t in view.ending(ends))]
    if not missing:
        return
    pairs = _misspelt(view, missing)
    if len(pairs) == len(missing):
        yield _under_another_word(view, pairs, facts.name)
        return
    own = [n for n in facts.own if n.endswith((".weight", ".bias"))]
    whole = len(missing) == len([n for n in own if n != facts.head and n not in facts.ties])
    yield found(
        ERROR,
        f"{some(missing, 2)}, {'the head' if whole else 'a part of the head'} of {facts.name}, "
        f"{'is' if len(missing) == 1 else 'are'} not stored",
        certainty=PROVEN if whole else LIKELY,
        at=view.at("architectures"),
        tensors=tuple(missing),
        evidence=(
            Evidence("names", f"no tensor is called {some(missing, 2)}"),
            *_sizes(view, missing),
        ),
        cure=consent(
            f"take {some(missing, 2)} from a model of the same task",
            *({"op": "graft", "tensor": n} for n in missing),
            needs="donor",
        ),
        caution="a head that was trained is in the adapter's modules_to_save, or only in the "
        "training run",
    )


def _misspelt(view: View, missing: list[str]) -> dict[str, str]:
    """Missing name -> the one tensor whose name differs from it in a letter or two of one word."""
    expected = set() if isinstance(view.fit, str) else {*view.fit.files} - {*view.fit.unexpected}
    pairs: dict[str, str] = {}
    for name in missing:
        words = name.split(".")
        beside = [
            n
            for n in view.tensors
            if n not in expected and n.count(".") == len(words) - 1
            and len(odd := [p for p in zip(n.split("."), words, strict=True) if len({*p}) > 1]) == 1
            and similar(*odd[0])
        ]  # fmt: skip
        if len(beside) == 1 and beside[0] not in pairs.values():
            pairs[name] = beside[0]
    return pairs


def _under_another_word(view: View, pairs: dict[str, str], class_name: str) -> Finding:
    here = [view.tensors[n].name for n in pairs.values()]
    return found(
        ERROR,
        f"{some(here, 2)} stands where {class_name} has {some(list(pairs), 2)}",
        certainty=LIKELY,
        at=place(view, next(iter(pairs.values()))),
        tensors=(*here, *pairs),
        evidence=(Evidence("names", f"no tensor is called {some(list(pairs), 2)}"),),
        includes=("N14",),
        cure=consent(
            f"rename {len(here)} tensors",
            *(rename(view.tensors[old].name, new) for new, old in pairs.items()),
        ),
    )


def _sizes(view: View, names: list[str]) -> tuple[Evidence, ...]:
    """What is lost, where the shapes of the class are known."""
    if isinstance(view.fit, str):
        return ()
    gaps = [gap for gap in view.fit.missing if gap.name in names]
    if len(gaps) < len(names):
        return ()
    total, rows = gap_rows(view, gaps)
    return (*rows, Evidence("size", f"{total} bytes are lost", total))


@rule("H11", "foreign-head")
def foreign_head(view: View) -> Iterator[Finding]:
    """A generating model carries a head of another task: `v_head`, `score`.

    Why: strict loaders refuse the extra tensors, others ignore them.

    Recognised by: the names that such heads have.

    Fine: trl needs its value head for resuming.

    Example: `v_head.summary.weight` in a `LlamaForCausalLM`.

    Cure: drop it for serving.
    """
    view.need_config()
    if not view.must_generate:
        raise NotApplicable("the class does not generate")
    extra = [
        view.tensors[n].name for n in view.own_kinds.where(lambda n: n.startswith(_FOREIGN_HEADS))
    ]
    if view.kin or (view.saved_as and view.saved_as.task in _HEADED_TASKS):
        return  # the head of the class that the files were saved from
    if extra:
        yield found(
            WARNING,
            f"a head of another task is stored: {', '.join(map(printable, extra[:3]))}",
            at=Location(view.checkpoint.tensors[extra[0]].file),
            tensors=tuple(extra),
            evidence=(Evidence("names", ", ".join(map(printable, extra[:4]))),),
            cure=consent("drop it", *({"op": "drop", "tensor": n} for n in extra)),
        )


@rule("H13", "labels-differ", absorbs=("C06",))
def labels_differ(view: View) -> Iterator[Finding]:
    """The head of a classifier has another number of rows than config.json has labels.

    Why: transformers refuses the shapes and names only `ignore_mismatched_sizes`, which would fill
    the head with random numbers. The labels were not written when the head was made, and two are
    assumed where nothing is said.

    Recognised by: the rows of the last matrix of the head against `id2label`, else `num_labels`.

    Fine: regression has one row. Heads of several outputs for each label are not judged. Where
    `num_labels` and `id2label` contradict each other, transformers 4.44 to 5.0 went by `id2label`
    and 5.23 goes by `num_labels`: one of them right is a warning.

    Example: `score.weight` is 3 × 2048, and config.json has no `id2label`.

    Cure: write as many labels as there are rows, under names that say nothing; what they stand for
    has to be known from elsewhere.
    """
    view.need_config()
    facts = view.target
    if facts is None or facts.task not in _LABELLING:
        raise NotApplicable("the class scores no labels")
    name = next((n for n in _SCORES if n in facts.own and n in view.tensors), None)
    if name is None:
        raise NotApplicable("which tensor scores the labels is not known")
    tensor = view.tensors[name]
    if len(tensor.shape) != 2 or tensor.dtype not in FLOATS or not tensor.shape[0]:
        return
    rows = tensor.shape[0]
    labels, key = _labels(view)
    count = view.settings.get("num_labels")
    twice = key == "id2label" and type(count) is int and count != labels
    if labels is None or (labels == rows and not twice):
        return
    bias = name.removesuffix("weight") + "bias"
    here = [tensor.name, *([view.tensors[bias].name] if bias in view.tensors else ())]
    names = {str(i): f"LABEL_{i}" for i in range(rows)}
    if twice and rows in (labels, count):
        yield found(
            WARNING,
            f"config.json counts its labels twice: num_labels is {count}, id2label has {labels}; "
            f"{printable(tensor.name)} has {rows} rows",
            at=view.at("num_labels"),
            tensors=tuple(here),
            evidence=(
                Evidence("shapes", f"{printable(tensor.name)} has {rows} rows", rows),
                Evidence("transformers 4.44 to 5.0", f"go by id2label: {labels} rows", labels),
                Evidence("transformers 5.23", f"goes by num_labels: {count} rows", count),
            ),
            cure=safe(f"set num_labels to {rows}", set_key("num_labels", value=rows))
            if rows == labels
            else advice(f"write {rows} labels in id2label; only their maker knows the names"),
        )
        return
    yield found(
        ERROR,
        f"{printable(tensor.name)} has {rows} rows, config.json has {labels} labels"
        + ("" if key else ": none are written, and two are assumed"),
        at=view.at(key) if key else view.at(),
        tensors=tuple(here),
        evidence=(
            Evidence("shapes", f"{printable(tensor.name)} has {rows} rows", rows),
            Evidence(
                str(view.at(key)) if key else "config.json",
                f"{key} counts {labels}" if key else "neither id2label nor num_labels is written",
                labels,
            ),
        ),
        cure=consent(
            f"write {rows} labels",
            set_key("id2label", value=names),
            set_key("label2id", value={label: int(i) for i, label in names.items()}),
            *((set_key("num_labels", value=rows),) if "num_labels" in view.settings else ()),
        )
        if rows <= _MOST_LABELS
        else None,
        not_="ignore_mismatched_sizes=True: the head becomes random",
    )


def _labels(view: View) -> tuple[int | None, str]:
    """(how many labels config.json has, the key that says so)."""
    told = view.settings.get("id2label")
    if isinstance(told, dict) and told:
        return len(told), "id2label"
    count = view.settings.get("num_labels")
    if type(count) is int:
        return count, "num_labels"
    return (2, "") if told is None and count is None else (None, "")


RULES = (task_head_absent, foreign_head, labels_differ)
