"""What the verbs that write share: the form of the result, where else it goes, how it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tidoctor.cli import options
from tidoctor.form import Form, dtype_wish
from tidoctor.report import Format
from tidoctor.report.verdict import FailOn, of_treatment

if TYPE_CHECKING:
    from tidoctor.repairs import Progress, Treatment
    from tidoctor.report.delivery import Delivery, Told


def form_of(
    link: options.LinkMode,
    delta: bool,
    single_file: bool,
    size: str | None,
    dtypes: list[str] | None,
    manifest: Path | None,
) -> Form:
    """The form that the options add up to. Raises Usage for a size or type that is none."""
    most = None
    if size is not None:
        from tidoctor.sharding import byte_size

        most = byte_size(size)
    wishes = tuple(map(dtype_wish, dtypes or ()))
    return Form(link.value, delta, single_file, most, wishes, manifest)


def sent_to(source: str, push: str | None, create_pr: bool, form: Form) -> tuple[str | None, bool]:
    """Where the result goes besides. Raises Usage when it cannot."""
    if push is not None or create_pr:
        from tidoctor import shipping

        shipping.check(source, push, create_pr, delta=form.delta)
    return push, create_pr


def treat(
    told: Delivery,
    source: str,
    operate: Callable[[Progress], Treatment],
    dry_run: bool,
    fail_on: str = FailOn.ERROR,
    sent: tuple[str | None, bool] = (None, False),
) -> int:
    """Carry out, or plan, what writes a result, send it, and tell of it; the exit code."""
    from tidoctor.report.progress import Progress as Line

    def examine(_: str) -> Told:
        with Line(quiet=told.quiet) as line:
            done = operate(line)
        code = of_treatment(done, FailOn(fail_on))
        if any(sent):
            from tidoctor import shipping

            text = _described(done, code)
            repo, create_pr = sent
            done = shipping.ship(done, repo, text, create_pr=create_pr, dry_run=dry_run)
        return told.page.treatment(done, done.cost, dry_run=dry_run, exit_code=code), code

    return told.each([source], examine)


def _described(done: Treatment, code: int) -> str:
    """The report as the description of a commit."""
    from tidoctor.report import page
    from tidoctor.report.style import Style

    told = page(Format.TEXT, Style()).treatment(done, done.cost, dry_run=False, exit_code=code)
    return f"```\n{told}```\n"
