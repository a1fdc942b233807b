"""Every rule has a page with all of its parts."""

from __future__ import annotations

import re

import pytest

from tidoctor.rules import RULES, Rule

PARTS = ("Why", "Recognised by", "Fine", "Example", "Cure")


def parts(rule: Rule) -> dict[str, str]:
    """What stands behind each heading of a page, in the order of the page."""
    found = re.split(r"(?m)^(%s): " % "|".join(PARTS), rule.page)  # noqa: UP031
    return {"What": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


@pytest.mark.parametrize("rule", RULES, ids=[r.code for r in RULES])
def test_a_page_has_every_part_once_and_in_order(rule: Rule) -> None:
    assert list(parts(rule)) == ["What", *PARTS]
    assert len(re.findall(r"(?m)^(?:%s): " % "|".join(PARTS), rule.page)) == len(PARTS)  # noqa: UP031
    for heading, text in parts(rule).items():
        assert len(text.strip()) > 10 and text.strip()[-1] in ".)`:", heading
    assert len(rule.title) <= 100 and rule.title.endswith(".")


def test_no_two_rules_share_an_example() -> None:
    examples = [parts(rule)["Example"].strip() for rule in RULES]
    assert len(set(examples)) == len(examples)
