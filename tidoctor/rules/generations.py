"""C13: keys that one major version of transformers writes and the other does not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidoctor.finding import Evidence, Finding, Operation
from tidoctor.names import brief
from tidoctor.rules.rule import LIKELY, NOTE, PROVEN, consent, found, rule, set_key
from tidoctor.rules.view import View

# Run: written by 5.0.0 and 5.23.0, read by 4.44.2, 4.51.3 and 4.57.6.
_TEN_THOUSAND = frozenset({"llama", "qwen2", "qwen3", "mistral"})
_BASE = 10000.0


@rule("C13", "keys-of-version-5")
def keys_of_version_5(view: View) -> Iterator[Finding]:
    """config.json says something in the words of transformers 5 alone.

    Why: version 5 writes `rope_parameters` where version 4 reads `rope_theta` and `rope_scaling`,
    and from 5.1 on `num_local_experts` where version 4 reads `num_experts` (Qwen3-MoE). Version 4,
    and what follows its config classes, takes its default for what it does not find: another rotary
    base, without a word, and other logits.

    Recognised by: the key of version 5 without the one of version 4, and a value that is not the
    usual default.

    Fine: for transformers 5 all is said. A rotary base of 10000 without scaling is what version 4
    takes anyway.

    Example: `"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}` and no
    `rope_theta`.

    Cure: write the old key beside the new one; version 5 reads both alike.
    """
    view.need_config()
    levels: list[tuple[tuple[str, ...], Mapping[str, object]]] = [((), view.settings)]
    if view.text_level:
        levels.append(((view.text_level,), view.text_settings))
    for path, settings in levels:
        yield from _rotary(view, path, settings)
        yield from _experts(view, path, settings)


def _rotary(
    view: View, path: tuple[str, ...], settings: Mapping[str, object]
) -> Iterator[Finding]:
    said = settings.get("rope_parameters")
    if not isinstance(said, dict) or "rope_theta" in settings:
        return
    base, kind = said.get("rope_theta"), said.get("rope_type", "default")
    if not isinstance(base, int | float) or isinstance(base, bool):
        return
    scaled = kind != "default" and "rope_scaling" not in settings
    if base == _BASE and not scaled:
        return
    model_type = settings.get("model_type")
    known = model_type in _TEN_THOUSAND
    steps: list[Operation] = [set_key(*path, "rope_theta", value=base)]
    if scaled:
        rest = {k: v for k, v in said.items() if k != "rope_theta"}
        steps.append(set_key(*path, "rope_scaling", value=rest))
    lost = "the rotary base" + (" and its scaling" if scaled else "")
    yield found(
        NOTE,
        f"{lost} stands in rope_parameters alone, which transformers 4 does not read: it takes "
        + ("10000" if known else "the default of its class"),
        certainty=PROVEN if known else LIKELY,
        at=view.at(*path, "rope_parameters"),
        evidence=(
            Evidence(
                str(view.at(*path, "rope_parameters")),
                f"rope_theta is {brief(base)}, rope_type {brief(kind)}",
                base,
            ),
            Evidence(
                "transformers 4.44 to 4.57", "read rope_theta and rope_scaling, and say nothing"
            ),
        ),
        cure=consent("write rope_theta beside it", *steps),
    )


def _experts(
    view: View, path: tuple[str, ...], settings: Mapping[str, object]
) -> Iterator[Finding]:
    count = settings.get("num_local_experts")
    model_type = settings.get("model_type")
    if model_type != "qwen3_moe" or type(count) is not int or "num_experts" in settings:
        return
    yield found(
        NOTE,
        "the number of experts stands in num_local_experts alone, which transformers up to 5.0 "
        "does not read here",
        at=view.at(*path, "num_local_experts"),
        evidence=(
            Evidence(str(view.at(*path, "num_local_experts")), f"it is {count}", count),
            Evidence("transformers 4.51 to 5.0", "read num_experts: size mismatch on the router"),
        ),
        cure=consent("write num_experts beside it", set_key(*path, "num_experts", value=count)),
    )


RULES = (keys_of_version_5,)
