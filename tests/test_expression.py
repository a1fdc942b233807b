"""The language of the atlas: Python's meaning, and bounds where Python has none."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor.atlas.expression import LARGEST, LONGEST, NotCovered, Run, parse

SCOPE: dict[str, Any] = {
    "n": 5, "zero": 0, "ratio": 2.5, "none": None, "yes": True, "word": "full",
    "types": ["full", "sliding", "full"], "sizes": [3, 1, 4], "empty": [], "i": 2,
    "vision": {"hidden": 7, "deep": {"er": 1}},
}  # fmt: skip
FUNCTIONS = {
    "len": len, "int": int, "ceil": math.ceil, "floor": math.floor, "round": round, "max": max,
    "min": min, "sum": sum, "abs": abs, "sqrt": math.sqrt, "bool": bool, "str": str,
    "range": range, "prod": math.prod, "log2": math.log2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n // 2 * 3 - -1", 7),
        ("2 ** n % 7", 4),
        ("n / 2", 2.5),
        ("vision.hidden + vision.deep.er", 8),
        ("n if types[i] == 'full' else 0", 5),
        ("types[-2]", "sliding"),
        ("sizes[1:] + sizes[:1]", [1, 4, 3]),
        ("(1, 2)[::-1]", (2, 1)),
        ("0 < n <= 5 != zero", True),
        ("'full' in types and 'x' not in types", True),
        ("none is None and yes is True and n is not None", True),
        ("none or word", "full"),
        ("not empty", True),
        ("[k * 2 for k in range(3)]", [0, 2, 4]),
        ("len([t for t in types[:i] if t == 'full'])", 1),
        ("[[i * j for j in range(2)] for i in sizes]", [[0, 3], [0, 1], [0, 4]]),
        ("sum([sizes[k] for k in range(i)])", 4),
        ("[count(n), count(sizes), count([]), count(range(4))]", [1, 3, 0, 4]),
        ("ceil(ratio) + floor(ratio) + round(ratio) + int(ratio)", 9),
        ("max(sizes) - min(1, n) + abs(-3) + int(sqrt(16))", 10),
        ("str(n) + 'x' * 2", "5xx"),
        ("prod(sizes) * prod([])", 12),
        ("int(log2(8))", 3),
        ("vision['hidden']", 7),
        ("zero and 1 // zero", 0),  # what is not needed is not evaluated
        ("n if yes else unknown", 5),
    ],
)
def test_values(text: str, value: object) -> None:
    found = parse(text).value(SCOPE)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("i + layer_types[j]", {"i", "j", "layer_types"}),
        ("a.b.c if a.d is None else 2", {"a.b.c", "a.d"}),
        ("[k + n for k in range(m)]", {"n", "m"}),
        ("[k for k in range(k)]", {"k"}),  # the bound is read outside
        ("len('i')", set()),
    ],
)
def test_the_names_that_it_reads(text: str, names: set[str]) -> None:
    assert parse(text).names == names


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "f(1)", "len(1, 2)", "x.__class__", "().__class__", "lambda: 1", "x := 1",
        "{1: 2}", "{1}", "f'{x}'", "b'x'", "1j", "x & 1", "~x", "[*x]", "len(*x)", "max(x, key=y)",
        "(k for k in x)", "[j for j in x for k in x]", "[j for j, k in x]", "[k.a for k in x]",
        "x is y", "x is 3", "...", "await x", "x; y", "99999999999999999999999", "open('x')",
        "(" * 60 + "1" + ")" * 60 + "+ 1" * 60, "x" * 200_000, "[" * 5000, "-" * 5000 + "1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_language(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unknown", "unknown"),
        ("vision.other", "vision.other"),
        ("n.other", "n.other"),
        ("1 // zero", "division by zero"),
        ("1 % zero", "division by zero"),
        ("types[3]", "no such item"),
        ("vision['x']", "no such item"),
        ("word + 1", "unfit type"),
        ("word < 1", "unfit type"),
        ("'%9999999999d' % n", "unfit type"),
        ("none * 2", "unfit type"),
        ("len(n)", "unfit type"),
        ("count(word)", "unfit type"),
        ("count(yes)", "unfit type"),
        ("1 in n", "unfit type"),
        ("sum(types)", "unfit type"),
        ("int(word)", "unfit type"),
        ("int('9' * 5000)", "unfit type"),
        ("sqrt(-1)", "unfit type"),
        ("(-8) ** 0.5", "unfit type"),
        ("str(types)", "unfit type"),
        ("-word", "unfit type"),
        ("round(ratio, -(10 ** 9))", "unfit type"),
        ("10 ** 30", "too large"),
        ("n ** (10 ** 18)", "too large"),
        ("2.0 ** 5000", "too large"),
        (f"{LARGEST} * 2", "too large"),
        ("'ab' * 10 ** 9", "items"),
        ("[0] * 10 ** 9", "items"),
        ("range(10 ** 12)", "items"),
        ("prod([10 for k in range(90000)])", "too large"),
        ("log2(0)", "unfit type"),
        ("range(-(2 ** 63), 2 ** 63)", "too large"),
        ("[[k for k in range(5000)] for j in range(5000)]", "too many steps"),
        ("[sum(range(90000)) for j in range(90000)]", "too many steps"),
        ("[range(90000)[1:] == 1 for j in range(90000)]", "too many steps"),
    ],
)
def test_what_cannot_be_known_is_said_in_one_line(text: str, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(NotCovered) as raised:
        parse(text).value(SCOPE)
    assert reason in raised.value.reason and "\n" not in raised.value.reason
    assert time.process_time() - start < 5


def test_values_of_a_config_are_bounded_too() -> None:
    with pytest.raises(NotCovered, match="`n` is too large"):
        parse("n").value({"n": 10**400})
    with pytest.raises(NotCovered, match="items"):
        parse("[k for k in n]").value({"n": [0] * (LONGEST + 1)})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    other = [deep[0]]
    assert parse("a == b").value({"a": deep, "b": other}) is True  # the very same items
    with pytest.raises(NotCovered, match="deeply"):
        copy: list[Any] = []
        for _ in range(100_000):
            copy = [copy]
        parse("a == b").value({"a": deep, "b": copy})


def test_a_function_may_be_the_scope_and_its_refusal_passes_through() -> None:
    def look(name: str) -> object:
        if name == "a.b":
            return 3
        raise NotCovered(f"no {name}")

    assert parse("a.b + 1").value(look) == 4
    with pytest.raises(NotCovered, match=r"^no c$"):
        parse("a.b + c").value(look)


def test_a_run_is_shared_and_survives_a_failure_inside_a_comprehension() -> None:
    run = Run(SCOPE, 300)
    with pytest.raises(NotCovered, match="zero"):
        parse("[1 // (n - k) for k in range(10)]").value(run)
    assert parse("n").value(run) == 5  # `k` is gone and `n` is found again
    with pytest.raises(NotCovered, match="k"):
        parse("k").value(run)
    with pytest.raises(NotCovered, match="too many steps"):
        for _ in range(20):
            parse("len([k for k in range(20)])").value(run)


def test_a_text_is_parsed_once() -> None:
    assert parse("n + 1") is parse("n + 1")


# --- against Python itself -----------------------------------------------------------------------

_ATOMS = st.sampled_from(
    ["n", "zero", "ratio", "none", "yes", "word", "types", "sizes", "empty", "i", "0", "1", "-3",
     "2.5", "None", "True", "'full'", "''", "[]", "(1, 2)"]
)  # fmt: skip


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=",
                              "in", "not in", "and", "or"])  # fmt: skip
    function = st.sampled_from([name for name in FUNCTIONS if name not in ("max", "min", "str")])
    two = st.sampled_from(["max", "min", "range"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, binary, inner),
        st.builds("({} ** {})".format, inner, st.sampled_from(["0", "1", "2", "-1", "0.5"])),
        st.builds("({} {} {} {} {})".format, inner, binary, inner, binary, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("({} is None)".format, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[{}:{}]".format, inner, inner, inner),
        st.builds("{}({})".format, function, inner),
        st.builds("{}({}, {})".format, two, inner, inner),
        st.builds("[{} for i in {}]".format, inner, inner),
        st.builds("[{} for n in {} if {}]".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
    )


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@given(st.recursive(_ATOMS, _grown, max_leaves=12))
@settings(max_examples=600, deadline=None)
def test_it_means_what_python_means(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}} | FUNCTIONS | SCOPE)
        known = True
    except Exception:
        expected, known = None, False
    try:
        found = parse(text).value(SCOPE)
    except NotCovered:
        # Fewer types mix here: a string is not formatted, a list not turned into text.
        return
    assert known, text
    assert type(found) is type(expected) and repr(found) == repr(expected), text


_NUMBERS = st.recursive(
    st.sampled_from(["n", "i", "3", "7", "128", "sizes[0]", "sizes[-1]", "ratio"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
        st.builds("({} // {})".format, inner, st.sampled_from(["2", "n", "sizes[0]"])),
        st.builds("({} if {} > {} else {})".format, inner, inner, inner, inner),
        st.builds("max({}, {})".format, inner, inner),
        st.builds("int({})".format, inner),
    ),
    max_leaves=8,
)


@given(_NUMBERS)
@settings(max_examples=300, deadline=None)
def test_arithmetic_is_never_refused(text: str) -> None:
    expected = eval(text, {"__builtins__": {}} | FUNCTIONS | SCOPE)
    found = parse(text).value(SCOPE)
    assert found == expected and type(found) is type(expected)
