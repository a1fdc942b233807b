"""Plans: what would change, as operations on the table of tensors.

`Plan.apply` is pure: it returns the checkpoint that would exist, on which the same rules run and
which the writer makes true. No byte of a tensor is read or moved here.

Operations, as mappings (`Operation` in `tidoctor.finding`):

    rename   from, to              the same bytes under another name
    drop     tensor [, file]       one row less: everywhere, or only the copy in one file
    copy     from, to              a second row that points at the same bytes
    graft    tensor [, from]       a row that points into another checkpoint; one marked
                                   `optional` is left out when the donor lacks it
    set      path, value           a key of config.json (path is a list of keys)
    unset    path                  the key removed
    tidy                           config.json as strict JSON with the same values
    rewrite  file                  the file laid out anew from the rows that can be read
    reindex                        files named, and the index written, as loaders expect
    discard  file                  a file that is not carried over
    adopt    file                  a weight file that was not read becomes one of the shards
    cast     tensor, dtype         the same numbers as another floating-point type
    gather   tensor, shape, from   a row made of byte ranges of others: `from` is a list of
                                   {tensor, begin, end}
    merge    tensor, weight, a, b, scale
                                   a row computed of a weight and its LoRA adapter
    reshard  bytes                 files of at most so many bytes of tensors, or one (null)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tidoctor.checkpoint import Checkpoint
from tidoctor.draft import Draft
from tidoctor.finding import Operation
from tidoctor.layout import laid_out


class Plan(NamedTuple):
    """Steps in the order in which they apply, each a group of operations, and the donors they name.

    A step refers to the checkpoint that the steps before it lead to. With `apart` new tensors get
    a file of their own even beside a single one, and with `kept` no numbered file that exists is
    given another number for that.
    """

    steps: tuple[tuple[Operation, ...], ...] = ()
    donors: Mapping[str, Checkpoint] | None = None
    apart: bool = False
    kept: bool = False

    def __bool__(self) -> bool:
        return bool(self.steps)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of all steps."""
        return tuple(operation for step in self.steps for operation in step)

    def then(self, operations: Iterable[Operation]) -> Plan:
        """This plan followed by one more step."""
        return self._replace(steps=(*self.steps, tuple(operations)))

    def apply(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint that would exist. Reads no tensor.

        Raises Refused when an operation does not fit the checkpoint.
        """
        for step in self.steps:
            draft = Draft(checkpoint, self.donors or {})
            for operation in step:
                draft.edit(operation)
            checkpoint = laid_out(draft, apart=self.apart, kept=self.kept)
        return checkpoint
