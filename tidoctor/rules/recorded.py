"""X03: whether the tensors are still those of a manifest."""

from __future__ import annotations

from collections.abc import Iterator

from tidoctor.finding import Evidence, Finding, Location
from tidoctor.names import printable
from tidoctor.patterns import some_patterns
from tidoctor.rules.rule import ERROR, NotApplicable, advice, found, rule
from tidoctor.rules.view import View

_TOLD = 8  # tensors told of one by one


@rule("X03", "unlike-manifest")
def unlike_manifest(view: View) -> Iterator[Finding]:
    """A tensor is not the one that the manifest records.

    Why: since the manifest was written, a file was replaced, cut, edited in place, or damaged on
    its way. Only a digest shows that; a header stays sound.

    Recognised by: the names of the manifest given with --manifest, and dtype, shape and SHA-256 of
    each tensor, for which all values are read. In which file a tensor lies does not matter.

    Fine: without a manifest there is nothing to compare.

    Example: one matrix of a shard that was trained on after the manifest was written.

    Cure: fetch the files again, or repair the source once more.
    """
    manifest = view.manifest
    if manifest is None:
        raise NotApplicable("no manifest was given")
    from tidoctor.manifest import digest

    wrong: dict[str, str] = {}
    for name, recorded in manifest.tensors.items():
        tensor = view.checkpoint.tensors.get(name)
        if tensor is None:
            wrong[name] = "is not there"
        elif (tensor.dtype, tensor.shape) != (recorded.dtype, recorded.shape):
            wrong[name] = "has another dtype or shape"
        else:
            view.need_bytes(tensor)
            if digest(view.checkpoint, tensor) != recorded.sha256:
                wrong[name] = "holds other bytes"
    for name in view.checkpoint.tensors:
        if name not in manifest.tensors:
            wrong[name] = "is not in the manifest"
    if wrong:
        here = view.checkpoint.tensors
        first = next((here[name] for name in wrong if name in here), None)
        yield found(
            ERROR,
            f"{len(wrong)} tensors are not those of the manifest: {some_patterns(list(wrong))}",
            at=Location(first.file) if first else None,
            tensors=tuple(wrong),
            evidence=tuple(
                Evidence(manifest.where, f"{printable(name)} {why}")
                for name, why in list(wrong.items())[:_TOLD]
            ),
            cure=advice("fetch the files again, or repair the source once more"),
        )


RULES = (unlike_manifest,)
