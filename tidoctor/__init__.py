"""tidoctor, the checkpoint doctor: inspect, diagnose and repair model checkpoints without torch.

import tidoctor

for finding in tidoctor.diagnose("path/to/checkpoint").findings:
    print(finding.code, finding.message)
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # what `typing` has to say of it, without the time to import `typing`
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tidoctor.atlas.expectation import Expectation
    from tidoctor.atlas.identity import Identity
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.finding import Diagnosis
    from tidoctor.form import Form
    from tidoctor.opinion import Opinion
    from tidoctor.promise import Promise
    from tidoctor.repairs import Treatment
    from tidoctor.rules import Rule
    from tidoctor.rules.statistics import Statistics

__all__ = [
    "__version__", "diagnose", "expect", "explain", "identify", "open", "repair", "second_opinion",
    "statistics", "tie", "untie",
]  # fmt: skip


def open(source: str | Path) -> Checkpoint:
    """The checkpoint at a path: config, index and headers; no tensor is read.

    Raises Unreadable when nothing is there that could be examined.
    """
    from tidoctor.opening import open_checkpoint
    from tidoctor.source import open_source

    return open_checkpoint(open_source(str(source)))


def diagnose(
    source: str | Path | Checkpoint,
    *,
    wanted: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    deep: bool = False,
    loaders: Sequence[str] = (),
    promise: str | Path | Promise | None = None,
    donor: str | Path | Checkpoint | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    manifest: str | Path | None = None,
) -> Diagnosis:
    """Apply the rules to a checkpoint.

    `wanted` is the class, or a task such as `causal-lm`, that it must serve; `select` and `ignore`
    are codes, names or families of rules; `deep` reads all values; `loaders` are those whose
    verdict is wanted, such as `candle@0.7.1`, `vllm` or `all`; `promise` is a file that `inspect
    --write-promise` wrote, to which the checkpoint has to keep; `donor` is the model it was made
    from, whose tensors it should have; `progress` is told how far reading all values has come;
    `manifest` is a file that a repair wrote, against which every tensor is held.
    Raises Unreadable, or Usage for an unknown code, class or loader.
    """
    from pathlib import Path, PurePath

    from tidoctor import rules
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.promise import load as load_promise

    checkpoint = source if isinstance(source, Checkpoint) else open(source)
    if isinstance(promise, (str, PurePath)):
        promise = load_promise(Path(promise))
    recorded = None
    if manifest is not None:
        from tidoctor.manifest import read

        recorded = read(Path(manifest))
    copies = None
    if loaders:
        from tidoctor.variants import prescribe

        copies = prescribe
    return rules.diagnose(
        checkpoint,
        wanted=wanted,
        select=select,
        ignore=ignore,
        deep=deep,
        loaders=loaders,
        prescribe=copies,
        promise=promise,
        manifest=recorded,
        progress=progress,
        origin=donor if donor is None or isinstance(donor, Checkpoint) else open(donor),
    )


def statistics(
    source: str | Path | Checkpoint,
    wanted: Callable[[str], bool] = lambda name: True,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Statistics | None]:
    """The numbers that the tensors with a wanted name hold; None for types that are not read.

    Reads all of their values, in pieces; `progress` is told how far that has come. Raises
    Unreadable.
    """
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.rules.statistics import statistics as read

    checkpoint = source if isinstance(source, Checkpoint) else open(source)
    return read(checkpoint, (t for n, t in checkpoint.tensors.items() if wanted(n)), progress)


def second_opinion(
    source: str | Path | Checkpoint, *, wanted: str | None = None, seconds: float = 120
) -> Opinion:
    """Ask the transformers installed beside tidoctor about a checkpoint.

    It says which tensors the class has under this config, and what its loader makes of the names
    and shapes in the files; it runs in a process of its own, for `seconds` at most, offline and
    without code of the model. Why it could not be asked is the `reason` of the opinion.
    Raises Unreadable, or Usage for an unknown class.
    """
    from tidoctor import opinion
    from tidoctor.checkpoint import Checkpoint

    checkpoint = source if isinstance(source, Checkpoint) else open(source)
    return opinion.second_opinion(checkpoint, wanted, seconds)


def repair(
    source: str | Path,
    dest: str | Path,
    *,
    wanted: str | None = None,
    donor: str | Path | None = None,
    accept: Sequence[str] = (),
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    loaders: Sequence[str] = (),
    partial: bool = False,
    form: Form | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Treatment:
    """Write a repaired copy of a checkpoint, after the planned result was diagnosed.

    Safe cures are applied; `accept` lists the codes of others that may be, and a `donor` is the
    consent to take lost tensors from it. `loaders`, such as `candle@0.7.1`, are those that have to
    take the result: the cheapest variant is chosen that all of them load. `form` (of
    `tidoctor.form`) says how the files of the result come about. Nothing is written when an error
    would remain, unless `partial`, nor when there is nothing to do. Raises Unreadable, Unwritable,
    Refused or Usage.
    """
    from tidoctor import repairs
    from tidoctor.form import PLAIN

    return repairs.repair(
        source,
        dest,
        wanted=wanted,
        donor=donor,
        accept=accept,
        select=select,
        ignore=ignore,
        loaders=loaders,
        partial=partial,
        form=form or PLAIN,
        force=force,
        dry_run=dry_run,
        progress=progress,
    )


def untie(
    source: str | Path,
    dest: str | Path,
    *,
    loaders: Sequence[str] = (),
    form: Form | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Treatment:
    """Write a copy that stores the tied head explicitly, in the variant that `loaders` take.

    Raises Refused where the head is not tied but lost, and what `repair` raises.
    """
    from tidoctor import retie
    from tidoctor.form import PLAIN

    return retie.untie(
        source, dest, loaders=loaders, form=form or PLAIN, force=force, dry_run=dry_run,
        progress=progress,
    )  # fmt: skip


def tie(
    source: str | Path,
    dest: str | Path,
    *,
    loaders: Sequence[str] = (),
    form: Form | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Treatment:
    """Write a copy without the head that equals the embedding, in the variant that `loaders` take.

    Raises Refused where they differ, and what `repair` raises.
    """
    from tidoctor import retie
    from tidoctor.form import PLAIN

    return retie.tie(
        source, dest, loaders=loaders, form=form or PLAIN, force=force, dry_run=dry_run,
        progress=progress,
    )  # fmt: skip


def expect(source: str | Path, *, as_: str | None = None) -> Expectation:
    """The tensors, with their shapes, that a config and class should have.

    `source` is a checkpoint, a folder with a config.json or that file; `as_` a class or task,
    without which the class in config.json counts. Raises Unreadable, Usage, or NotCovered (of
    `tidoctor.atlas.expectation`) where the tensors are not known for sure.
    """
    from tidoctor import expecting

    return expecting.expect(str(source), as_)


def identify(source: str | Path | Checkpoint, *, doubtful: bool = False) -> Identity | None:
    """What kind of model tensors belong to, from their names and shapes alone.

    With `doubtful` only where config.json is absent or names a class with other tensors; None
    otherwise, which costs next to nothing. Raises Unreadable.
    """
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.rules.likeness import doubt, likeness
    from tidoctor.rules.view import View

    view = View(source if isinstance(source, Checkpoint) else open(source))
    return likeness(view) if not doubtful or doubt(view) else None


def explain(code: str) -> Rule:
    """The rule of a code or name; its page says what it means. Raises Usage for an unknown one."""
    from tidoctor import rules

    return rules.find(code)
