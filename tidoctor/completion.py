"""What a shell may offer for codes, families, loaders and their versions: what the tables hold.

Each function takes the word as far as it is typed and yields whole words with what they mean; in
a list with commas the last part is completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Offer = Iterator[tuple[str, str]]


def codes(incomplete: str) -> Offer:
    """Codes, names and families of rules."""
    from tidoctor import rules

    families = sorted({rule.code[0] for rule in rules.RULES})
    known = [(f, "every rule of the family") for f in families]
    known += [(rule.code, rule.name) for rule in rules.RULES]
    known += [(rule.name, rule.title) for rule in rules.RULES]
    return _offered(incomplete, known)


def questions(incomplete: str) -> Offer:
    """What `explain` explains by name: rules and loaders."""
    yield from codes(incomplete)
    yield from loader_names(incomplete)


def loader_names(incomplete: str) -> Offer:
    """The loaders that are known."""
    from tidoctor import loaders

    return _offered(incomplete, ((n, loaders.consumer(n).title) for n in loaders.names()))


def wishes(incomplete: str) -> Offer:
    """Loaders, `all`, and after an `@` the versions of one, the newest first."""
    from tidoctor import loaders

    name, at, _ = incomplete.rpartition(",")[2].partition("@")
    if not at:
        titles = ((n, loaders.consumer(n).title) for n in loaders.names())
        return _offered(incomplete, [("all", "every loader that is known"), *titles])
    found = loaders.find(name)
    versions = reversed(found.timeline.known) if found else ()
    return _offered(incomplete, ((f"{name}@{version}", "") for version in versions))


def _offered(incomplete: str, known: Iterable[tuple[str, str]]) -> Offer:
    head, comma, last = incomplete.rpartition(",")
    for word, means in known:
        if word.lower().startswith(last.lower()):
            yield f"{head}{comma}{word}", means
