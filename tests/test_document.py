"""Reading and editing of JSON texts: tables of cases, and properties over generated texts."""

from __future__ import annotations

import copy
import json
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidoctor.document import Document, encode, parse

CONFIG = """{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "rope_scaling": {},
  "text_config": {
    "hidden_size": 64,
    "tie_word_embeddings": false
  },
  "vocab_size": 320
}
"""


def read(text: str) -> Document:
    return parse(text.encode())


def kinds(doc: Document) -> list[str]:
    return [problem.kind for problem in doc.problems]


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "data", "kind", "line", "said"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, "bom", 1, "EF BB BF"),
        (b'{"a": 1,\n "b": 2,\n}', {"a": 1, "b": 2}, "trailing-comma", 2, "before }"),
        (b"[1,\n2 , ]", [1, 2], "trailing-comma", 2, "before ]"),
        (b'{\n"a": -Infinity}', {"a": -math.inf}, "non-finite", 2, "-Infinity"),
        (b'{"a": 1e999}', {"a": math.inf}, "number", 1, "1e999"),
        (b"[1" + b"0" * 309 + b"]", [math.inf], "number", 1, "1000"),
        (b"[-" + b"7" * 5000 + b"]", [-math.inf], "number", 1, "-777"),
        (b'{"a": 1 // one\n}', {"a": 1}, "comment", 1, "// one"),
        (b'{\n/* one\n two */ "a": 1}', {"a": 1}, "comment", 2, "one"),
        (b'# head\n{"a": 1}', {"a": 1}, "comment", 1, "# head"),
        (b"{\"a\":\n'it\"s \\'x\\''}", {"a": "it\"s 'x'"}, "single-quote", 2, "it"),
        (b'{"a": 1,\n"b": 2,\n"a": 3}', {"a": 3, "b": 2}, "duplicate-key", 3, '"a"'),
        (b'{"a": "x",\n"a": "y", "b": "z"}', {"a": "y", "b": "z"}, "duplicate-key", 2, '"a"'),
        (b'{"a": "x\ty"}', {"a": "x\ty"}, "control-character", 1, "U+0009"),
        (b'{"a":\n"caf\xe9"}', {"a": "caf\ufffd"}, "encoding", 2, "0xE9"),
        (b'["\\ud83d\\ude00",\n"\\ud800"]', ["\U0001f600", "\ufffd"], "surrogate", 2, "d800"),
        (b'{"a": 1}\n}', {"a": 1}, "trailing-data", 2, "}"),
        (b'{"a": 1}\n\0\0', {"a": 1}, "trailing-data", 2, "u0000"),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}, "encoding", 1, "UTF-16"),
        ('{"a": "é"}'.encode("utf-32"), {"a": "é"}, "encoding", 1, "UTF-32"),
    ],
)
def test_what_is_not_strict_is_named_and_read(
    raw: bytes, data: object, kind: str, line: int, said: str
) -> None:
    doc = parse(raw)
    assert doc.readable
    assert doc.data == data
    assert kinds(doc) == [kind]
    assert doc.problems[0].line == line
    assert said in doc.problems[0].text
    assert doc.strict == (kind == "duplicate-key")


@pytest.mark.parametrize(
    ("raw", "line", "said"),
    [
        (b"", 1, "the text is empty"),
        (b" \n", 2, "the text is empty"),
        (b"\0\0\0", 1, "u0000"),
        (b"1.0e", 1, '"1.0e"'),
        (b"-", 1, '"-"'),
        (b"[\n01]", 2, '"01"'),
        (b"[.5]", 1, '".5"'),
        (b"[1.]", 1, '"1."'),
        (b"tru", 1, '"tru"'),
        (b'{"a": True}', 1, '"True"'),
        (b'{"a": 1\n"b": 2}', 2, "expected ',' or '}'"),
        (b'{"a" 1}', 1, "expected ':' after the key"),
        (b"{a: 1}", 1, "expected a key in double quotes"),
        (b"{,}", 1, "expected a key"),
        (b"[,]", 1, "expected a value"),
        (b"[1,,2]", 1, "expected a value"),
        (b"[1}", 1, "expected ',' or ']'"),
        (b'{"a": [1,\n2', 2, "the text ends"),
        (b'{"a":\n"b', 2, "inside the string"),
        (b"{/* a", 1, "inside the comment"),
        (b"[1 / 2]", 1, "found"),
        (b'["\\x41"]', 1, "escape"),
        (b'["\\\n"]', 1, "escape"),
        ('{"a":\u00a01}'.encode(), 1, "u00a0"),
    ],
)
def test_what_has_no_value_is_a_syntax_problem(raw: bytes, line: int, said: str) -> None:
    doc = parse(raw)
    assert (doc.readable, doc.strict, doc.data) == (False, False, None)
    problem = doc.problems[-1]
    assert (problem.kind, problem.line) == ("syntax", line)
    assert said in problem.text
    assert doc.line() is None
    with pytest.raises(ValueError, match=re.escape(problem.text)):
        doc.set(("a",), 1)
    with pytest.raises(ValueError, match=re.escape(problem.text)):
        doc.unset(("a",))
    with pytest.raises(ValueError, match=re.escape(problem.text)):
        doc.tidy()


def test_null_is_readable_and_differs_from_nothing() -> None:
    assert parse(b"null").readable
    assert parse(b"null").strict
    assert parse(b"null").data is None


@pytest.mark.parametrize("tail", [b"", b" // slow path"])
def test_depth_is_limited_exactly(tail: bytes) -> None:
    for depth, readable in ((5, True), (6, False)):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            inner = b"[]" if opening == b"[" else b"{}"
            raw = opening * (depth - 1) + inner + closing * (depth - 1)
            doc = parse(raw + tail, max_depth=5)
            assert doc.readable is readable
            assert ("too-deep" in kinds(doc)) is not readable


def test_size_is_limited() -> None:
    assert parse(b"[1]", max_bytes=3).strict
    doc = parse(b"[10]", max_bytes=3)
    assert (doc.readable, doc.data, kinds(doc)) == (False, None, ["too-large"])


def test_many_problems_are_told_by_number() -> None:
    doc = parse(b"[" + b"NaN,\n" * 250 + b"1]")
    assert len(doc.problems) == 101
    assert doc.problems[-1].text.startswith("150 more")
    assert len(doc.data) == 251  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 400_000,
        b'{"":' * 200_000,
        b'"' * 400_000,
        b'["' + b'\\"' * 200_000,
        b"[" + b"'\"'," * 150_000 + b"1]",
        b"[" + b'"\n",' * 150_000 + b"1]",
        b"//\n" * 150_000,
        b"/*" * 200_000,
        b"/" + b"*" * 400_000,
        b"9" * 400_000,
        b"1e" + b"9" * 400_000,
        b"{" + b'"":1,' * 150_000 + b"}",
        b"\n" * 400_000 + b"x",
        b"\xff" * 400_000,
        b'["' + b"\\ud800" * 60_000 + b'"]',
    ],
)
def test_hostile_text_takes_linear_time(raw: bytes) -> None:
    began = time.process_time()
    doc = parse(raw)
    doc.line("a", 0)
    # Quadratic work on 400 kB would take minutes.
    assert time.process_time() - began < 20
    assert not doc.strict
    assert len(doc.problems) < 500


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_the_keys(newline: str) -> None:
    doc = parse(CONFIG.replace("\n", newline).encode())
    assert doc.line() == 1
    assert doc.line("architectures") == 2
    assert doc.line("architectures", 0) == 3
    assert doc.line("text_config", "tie_word_embeddings") == 8
    assert doc.line("vocab_size") == 10
    for absent in (("none",), ("architectures", 1), ("architectures", "0"), ("vocab_size", "x")):
        assert doc.line(*absent) is None


def test_line_of_a_repeated_key_is_that_of_its_last_value() -> None:
    doc = parse(b'{"a":\n{"x": 1},\n"a": {\n"y": 2}}')
    assert doc.line("a") == 3
    assert doc.line("a", "y") == 4
    assert doc.line("a", "x") is None


# --- edits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ('{"a": 1}', "a", 2, '{"a": 2}'),
        ('{"a": 1}', "b", 2, '{"a": 1, "b": 2}'),
        ('{"a":1}', "b", [1, 2], '{"a":1,"b":[1,2]}'),
        ('{ "a" : 1 , "b" : 2 }', "c", 3, '{ "a" : 1 , "b" : 2 , "c" : 3 }'),
        ("{}", "a", 1, '{\n  "a": 1\n}'),
        ("{ }\n", "a", 1, '{ "a": 1}\n'),
        ('{\r\n\t"a": 1\r\n}', "b", 2, '{\r\n\t"a": 1,\r\n\t"b": 2\r\n}'),
        ('{\n    "a": 1\n}', "b.c", 2, '{\n    "a": 1,\n    "b": {\n        "c": 2\n    }\n}'),
        ('{\n  "a": {}\n}', "a.b", 2, '{\n  "a": {\n    "b": 2\n  }\n}'),
        ('{\n  "a": [1, 2]\n}', "a", [3, 4], '{\n  "a": [3, 4]\n}'),
        ('{\n  "a": {"b": 1}\n}', "a.c", [2], '{\n  "a": {"b": 1, "c": [2]}\n}'),
        ('{"a": 1, "a": 2}', "a", 3, '{"a": 1, "a": 3}'),
        ('{"a": 1.0e0}', "a", 1.0, '{"a": 1.0e0}'),
        ('{"a": 1}', "a", True, '{"a": true}'),
        ('{"a": 1, // one\n}', "b", 2, '{"a": 1, "b": 2, // one\n}'),
        ('{\n  "a": 1,\n\n  "b": 2\n}', "c", 3, '{\n  "a": 1,\n\n  "b": 2,\n  "c": 3\n}'),
        ('  {\n    "a": {}\n  }', "a.b", 2, '  {\n    "a": {\n      "b": 2\n    }\n  }'),
        ('{\n  "a": [1, 2]\n}', "b", 3, '{\n  "a": [1, 2],\n  "b": 3\n}'),
        ('{"é": 1}', "b", "ü", '{"é": 1, "b": "ü"}'),
        ('{"e": 1}', "b", "ü", '{"e": 1, "b": "\\u00fc"}'),
        ('{"a": NaN}', "a", 1, '{"a": 1}'),
    ],
)
def test_set(before: str, path: str, value: object, after: str) -> None:
    doc = read(before).set(tuple(path.split(".")), value)
    assert doc.text == after
    assert encode(doc) == after.encode()


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ('{"a": 1, "b": 2, "c": 3}', "a", '{"b": 2, "c": 3}'),
        ('{"a": 1, "b": 2, "c": 3}', "b", '{"a": 1, "c": 3}'),
        ('{"a": 1, "b": 2, "c": 3}', "c", '{"a": 1, "b": 2}'),
        ('{\n  "a": 1\n}\n', "a", "{}\n"),
        ('{\n  "a": {"b": 1}, "c": 2\n}', "a.b", '{\n  "a": {}, "c": 2\n}'),
        ('{"a": 1, "b": 2, "a": 3, "a": 4, "c": 5, "a": 6}', "a", '{"b": 2, "c": 5}'),
        ('{"a": 1, "a": 2,}', "a", "{}"),
        ('{"a": 1, "b": 2,}', "b", '{"a": 1,}'),
        ('{"a": 1, // one\n "b": 2}', "b", '{"a": 1 // one\n }'),
        ('{"a": 1, // one\n "b": 2}', "a", '{ // one\n "b": 2}'),
        ('{ /* one */ "a": 1, }', "a", "{ /* one */ }"),
        ('{"a": 1 /* one */, }', "a", "{ /* one */ }"),
        ('{"a": 1}', "b", '{"a": 1}'),
        ('{"a": 1}', "a.b", '{"a": 1}'),
        ('{"a": [1]}', "a.0", '{"a": [1]}'),
        ("[1]", "a", "[1]"),
    ],
)
def test_unset(before: str, path: str, after: str) -> None:
    doc = read(before).unset(tuple(path.split(".")))
    assert doc.text == after
    assert doc.readable


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'\xef\xbb\xbf{"a":1}\n', '{"a":1}\n'),
        (b'{"a": [1, 2, ],\n}', '{"a": [1, 2 ]\n}'),
        (b'{"a": 1, // one\n  # two\n  "b": /* three */ 2}', '{"a": 1,\n  "b":  2}'),
        (b"// one\n/* two\n*/\n[]", "[]"),
        (b"{'a\"\tb': 'it\\'s', \"c\": \"\x01\n\"}", '{"a\\"\\tb": "it\'s", "c": "\\u0001\\n"}'),
        (b'{"a": 1}\n// one\n}"x" // two\n', '{"a": 1}\n'),
        (b'1"x"\n', "1\n"),
        (b'{"a": 1, "a": 2,}', '{"a": 1, "a": 2}'),
        ('{"a": "é"}'.encode("utf-16"), '{"a": "é"}'),
        (b' {"a" : 1.0e0 } ', ' {"a" : 1.0e0 } '),
    ],
)
def test_tidy(before: bytes, after: str) -> None:
    doc = parse(before)
    tidied = doc.tidy()
    assert tidied.text == after
    assert tidied.strict
    assert tidied.data == doc.data == json.loads(encode(tidied))


@pytest.mark.parametrize("raw", [b"[NaN,]", b"[1e999]", b'["\\udc00"]', b'["\xff",]', b"["])
def test_tidy_refuses_what_strict_json_cannot_say(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(raw).tidy()


@pytest.mark.parametrize(
    ("raw", "path", "value"),
    [
        (b"[1]", ("a",), 1),
        (b'{"a": 1}', ("a", "b"), 1),
        (b'{"a": [1]}', ("a", "0"), 1),
        (b"{}", (), 1),
        (b"{}", ("a",), math.nan),
        (b"{}", ("a",), "\ud800"),
        ('{"é": 1}'.encode(), ("\udcff",), 1),
        (b"{}", ("a",), object()),
        (b"{}", tuple("abcdef" * 20), 1),
    ],
)
def test_set_refuses(raw: bytes, path: tuple[str, ...], value: object) -> None:
    doc = parse(raw)
    with pytest.raises(ValueError, match=r"\w"):
        doc.set(path, value)
    assert encode(doc) == raw


def test_a_value_that_is_put_back_looks_as_it_did() -> None:
    doc = read('{"name":"é","sizes":[1,2]}')
    changed = doc.set(("name",), "e").set(("sizes",), None).unset(("sizes",))
    assert changed.set(("sizes",), [1, 2]).set(("name",), "é").text == doc.text


def test_edits_keep_bytes_that_are_not_utf8() -> None:
    doc = parse(b'{"a": "caf\xe9", "b": 1}')
    assert encode(doc.set(("b",), 2)) == b'{"a": "caf\xe9", "b": 2}'


# --- properties ------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)
KEYS = st.sampled_from(["a", "b", "text_config", 'q"\\', "é\n"]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="#"), max_size=4
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)
STYLES = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2, 4, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (",", ": "), (" , ", " : ")]),
        "ensure_ascii": st.booleans(),
    }
)
NEWLINES = st.sampled_from(["\n", "\r\n"])
# Pieces of JSON in any order come much nearer to the grammar's corners than bytes do.
WORDS = ["true", "null", "NaN", "Infinity", "-Infinity", "1e999", "\\u", "\\ud800", "\\ude00"]
TOKENS = ["//", "/*", "*/", '"a"', '"a":', '"b":1', "'x'", "[]", "{}", *WORDS]
PIECES = st.lists(
    st.sampled_from([*"{}[],:\"'\\#a01-.eE+\n\r\t \0\x1f\ufeffé", *TOKENS]),
    max_size=14,
).map("".join)


def written(value: object, style: dict[str, Any], newline: str) -> str:
    return json.dumps(value, **style).replace("\n", newline) + newline


def same(left: object, right: object) -> bool:
    """Equal as JSON values: True is not 1, 1 is not 1.0, and the order of keys counts."""
    return json.dumps(left) == json.dumps(right)


def paths(value: object, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    steps: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [before] + [path for step, inner in steps for path in paths(inner, (*before, step))]


def objects(value: object, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all objects that are reached through objects only."""
    if not isinstance(value, dict):
        return []
    return [before] + [path for key in value for path in objects(value[key], (*before, key))]


def at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@given(VALUES, STYLES, NEWLINES)
def test_reading_equals_json(value: object, style: dict[str, Any], newline: str) -> None:
    text = written(value, style, newline)
    doc = read(text)
    assert doc.strict
    assert not doc.problems
    assert same(doc.data, json.loads(text))
    assert encode(doc) == text.encode()
    assert doc.tidy() is doc
    commented = read(text + "// the comment sends the text through the tolerant reader")
    assert same(commented.data, doc.data)
    assert kinds(commented) == ["comment"]
    assert commented.tidy().text.rstrip() == text.rstrip()


def strictly(raw: bytes) -> object:
    """What a strict reader with doubles makes of the bytes; ValueError if it refuses."""

    def refuse(word: str) -> float:
        raise ValueError(word)

    def number(word: str) -> int | float:
        value = float(word)
        if math.isinf(value):
            raise ValueError(word)
        return value if {".", "e", "E"} & set(word) else int(word)

    text = raw.decode("utf-8")
    value: object = json.loads(text, parse_constant=refuse, parse_float=number, parse_int=number)
    json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    return value


@settings(max_examples=600)
@given(st.binary(max_size=60) | PIECES.map(str.encode))
def test_any_bytes_have_a_document_and_strict_means_strict(raw: bytes) -> None:
    doc = parse(raw)
    try:
        value = strictly(raw)
    except ValueError:
        assert not doc.strict
        assert doc.problems
    else:
        assert doc.strict
        assert same(doc.data, value)
    assert doc.readable or doc.data is None
    assert all(
        1 <= problem.line <= raw.count(b"\n") + raw.count(b"\r") + 1 for problem in doc.problems
    )
    assert all(problem.text.isprintable() and problem.text.isascii() for problem in doc.problems)
    json.dumps(doc.data, ensure_ascii=False).encode()
    if doc.readable:
        for path in paths(doc.data):
            assert doc.line(*path) is not None


@settings(max_examples=300)
@given(PIECES.map(lambda inner: f'{{"a": 1, "k": [{inner}], "z": {{}}}}'.encode()))
def test_edits_of_tolerated_texts_change_only_their_value(raw: bytes) -> None:
    doc = parse(raw)
    if not isinstance(doc.data, dict):
        return
    for path in (("new",), ("k",), ("z", "y")):
        edited = doc.set(path, "v")
        expected = copy.deepcopy(doc.data)
        if path[0] == "z" and not isinstance(expected.get("z"), dict):
            continue
        at(expected, path[:-1])[path[-1]] = "v"
        assert same(edited.data, expected)
        del at(expected, path[:-1])[path[-1]]
        assert same(edited.unset(path).data, expected)
    try:
        tidied = doc.tidy()
    except ValueError:
        assert {"non-finite", "number", "surrogate", "encoding"} & set(kinds(doc))
    else:
        assert same(strictly(encode(tidied)), doc.data)


@given(OBJECTS, STYLES, NEWLINES, VALUES, KEYS, st.data())
def test_set_and_back(
    value: dict[str, Any],
    style: dict[str, Any],
    newline: str,
    new: object,
    key: str,
    data: st.DataObject,
) -> None:
    text = written(value, style, newline)
    doc = read(text)
    outer = data.draw(st.sampled_from(objects(value)))
    path = (*outer, data.draw(st.sampled_from([*at(value, outer), key])))
    changed = doc.set(path, new)
    expected = copy.deepcopy(value)
    at(expected, outer)[path[-1]] = new
    assert same(changed.data, expected)
    assert changed.strict
    if path[-1] in at(value, outer):
        assert changed.set(path, at(value, path)).text == text
    else:
        assert changed.unset(path).text == text


@given(OBJECTS, STYLES, st.data())
def test_unset_removes_only_its_key(
    value: dict[str, Any], style: dict[str, Any], data: st.DataObject
) -> None:
    doc = read(written(value, style, "\n"))
    outer = data.draw(st.sampled_from([path for path in objects(value) if at(value, path)]))
    key = data.draw(st.sampled_from([*at(value, outer)]))
    expected = copy.deepcopy(value)
    del at(expected, outer)[key]
    left = doc.unset((*outer, key))
    assert same(left.data, expected)
    assert left.text == written(expected, style, "\n") or len(at(value, outer)) == 1


@given(OBJECTS, st.sampled_from([0, 2, "\t"]), NEWLINES)
def test_lines_agree_with_a_search(value: dict[str, Any], indent: int | str, newline: str) -> None:
    marked = {"before": 1} | {f"{key}#{i}": value[key] for i, key in enumerate(value)}
    text = written(marked, {"indent": indent}, newline)
    doc = read(text)
    lines = text.split(newline)
    for key in marked:
        # No inner key holds a "#" and a digit at its end, so the key is found on one line only.
        found = [i for i, line in enumerate(lines, 1) if line.strip().startswith(json.dumps(key))]
        assert [doc.line(key)] == found


def _members(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs) + "}"


LEAVES = st.sampled_from(["1", "null", '"a"', '"\\u0061"', '"x\\"y"', '""', "[]", '["a", "a"]'])
REPEATING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=3).map(_members),
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    ),
    max_leaves=12,
)  # fmt: skip


@given(REPEATING)
def test_a_repeated_key_is_seen_wherever_it_is(text: str) -> None:
    repeated: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        repeated.extend({key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1})
        return dict(pairs)

    expected = json.loads(text, object_pairs_hook=look)
    document = parse(text.encode())
    assert document.data == expected
    assert bool(repeated) == any(p.kind == "duplicate-key" for p in document.problems)


@pytest.mark.parametrize("more", ["", ',"last":"a","first":"b"', ',"\\u0066irst":"b"'])
def test_a_repeated_key_is_seen_in_a_large_object(more: str) -> None:
    members = ",".join(f'"t{n}":"model-0000{n % 3}"' for n in range(5000))
    document = parse(f'{{"weight_map":{{"first":"b",{members}{more}}}}}'.encode())
    assert isinstance(document.data, dict)
    weight_map = document.data["weight_map"]
    assert bool(document.problems) == bool(more)
    assert list(weight_map.values())[1:4] == [f"model-0000{n}" for n in range(3)]
