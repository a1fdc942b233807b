"""The files of a planned result: headers laid out anew, the index, and where a new row goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from tidoctor import document as documents
from tidoctor.checkpoint import INDEX_CAP, Index, WeightFile
from tidoctor.document import Document
from tidoctor.errors import Refused
from tidoctor.header import Header, columned, serialise
from tidoctor.names import printable
from tidoctor.opening import read_index
from tidoctor.source import Source
from tidoctor.tensors import Tensor, parameters, size


def weight_file(name: str, was: WeightFile | None, rows: Sequence[Tensor]) -> WeightFile:
    """A file with these tensors and the metadata of the one that it was.

    Raises Refused when the reference library would refuse it.
    """
    metadata = {"format": "pt"}
    if was is not None:
        found = was.header.metadata or {}
        names = {row.name for row in rows}
        metadata |= {
            # An alias note such as {"lm_head.weight": "embed"} lies once both are stored.
            k: v
            for k, v in found.items()
            if isinstance(v, str) and k not in names and v != "" and k != "format"
        }
        if found.get("format") in ("pt", "tf", "flax", "mlx", "np"):
            metadata["format"] = str(found["format"])
    raw, entries = serialise([(r.name, r.dtype, r.shape, r.nbytes) for r in rows], metadata)
    size = len(raw) + (entries[-1].end if entries else 0)
    header = Header(columned(entries), metadata, defects=(), length=len(raw) - 8, size=size)
    return WeightFile(name, header, None)


def index_file(
    source: Source, name: str, old: Index | None, tensors: Mapping[str, Tensor]
) -> tuple[Index, bytes | None]:
    """The index of these tensors and its text; no text where the old one says it all already.

    Raises Refused when a name of them is no Unicode text.
    """
    weight_map = {n: tensors[n].file for n in sorted(tensors)}
    total = size(tensors)
    if (
        old
        and dict(old.weight_map) == weight_map
        and old.total_size == total
        and not old.refused
        and not old.document.problems
    ):
        return old, None
    try:
        text = documents.encode(_document(old, weight_map, total, tensors))
    except UnicodeEncodeError as error:
        raise Refused(printable(name), "a name of a tensor is not Unicode text") from error
    return read_index(source, name, documents.parse(text, max_bytes=INDEX_CAP)), text


def _document(
    old: Index | None,
    weight_map: Mapping[str, str],
    total: int,
    tensors: Mapping[str, Tensor],
) -> Document:
    if old is None or not isinstance(old.document.data, dict):
        fresh = {"metadata": {"total_size": total}, "weight_map": weight_map}
        text = json.dumps(fresh, indent=2, ensure_ascii=False) + "\n"
        return documents.parse(text.encode("utf-8", "surrogatepass"), max_bytes=INDEX_CAP)
    document = old.document.set(("weight_map",), dict(weight_map))
    metadata = old.document.data.get("metadata")
    if not isinstance(metadata, dict):
        return document.set(("metadata",), {"total_size": total})
    document = document.set(("metadata", "total_size"), total)
    if "total_parameters" in metadata:
        count = parameters(tensors)
        document = document.set(("metadata", "total_parameters"), count)
    return document


_BLOCK = 4096  # bytes; see `tidoctor.ground`


def beside(rows: Sequence[Tensor], fresh: Iterable[Tensor]) -> list[Tensor]:
    """The rows of a file with new ones.

    One that points at the bytes of another stands right behind it if they are whole blocks: then
    all that follows keeps its place in a block, so that every byte can be cloned. Others come last.
    """
    joined = list(rows)
    for row in fresh:
        twin = next((i for i, r in enumerate(joined) if r.span == row.span), None)
        if twin is not None and row.nbytes % _BLOCK == 0:
            joined.insert(twin + 1, row)
        else:
            joined.append(row)
    return joined
