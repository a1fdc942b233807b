"""Expressions as text: with other variables, tidied, and how complicated they are."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Mapping, Sequence

from tidoctor.atlas.learn.universe import VARIABLES

INDEX = re.compile(r"_I\d+_")


@functools.lru_cache(maxsize=200_000)
def tidy(text: str) -> str | None:
    """The expression with no more parentheses than needed."""
    try:
        return ast.unparse(ast.parse(text, mode="eval"))
    except (SyntaxError, RecursionError, MemoryError):
        return None


@functools.lru_cache(maxsize=200_000)
def cost(text: str) -> int:
    """How complicated an expression is: its nodes."""
    try:
        return sum(1 for _ in ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, RecursionError, MemoryError):
        return 10_000


@functools.lru_cache(maxsize=200_000)
def variants(text: str, variables: int, literals: tuple[int, ...] = ()) -> Sequence[str]:
    """The expression with its loop variables replaced by index variables or positions."""
    symbols = sorted(set(INDEX.findall(text)))
    if not symbols:
        return [text]
    choices: list[str] = [*VARIABLES[:variables], *(str(each) for each in literals)]
    if len(symbols) > 3 or not choices:
        return []
    found = []
    for chosen in itertools.product(choices, repeat=len(symbols)):
        found.append(_replaced(text, dict(zip(symbols, chosen, strict=True))))
    return found


def _replaced(text: str, mapping: Mapping[str, str]) -> str:
    return INDEX.sub(lambda match: mapping[match[0]], text)


def unrolled(text: str, variables: int, groups: Sequence[str]) -> list[str]:
    """The same where nested loops filled one flat list: turns of the outer and the inner loop.

    Args:
        text: an expression with loop variables.
        variables: how many index variables there are.
        groups: expressions of how many turns the inner loop takes.
    """
    symbols = sorted(set(INDEX.findall(text)))
    if not symbols or len(symbols) > 2 or not variables:
        return []
    index = VARIABLES[variables - 1]
    found = []
    for group in groups:
        turns = [f"({index} // {group})", f"({index} % {group})"]
        for chosen in itertools.product(turns, repeat=len(symbols)):
            found.append(_replaced(text, dict(zip(symbols, chosen, strict=True))))
    return found
