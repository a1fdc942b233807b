"""Reports for people: no boxes, two-space indent, only what is wrong, the summary last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tidoctor.errors import TidoctorError
from tidoctor.names import printable
from tidoctor.report.style import Style
from tidoctor.report.verdict import Exit

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.atlas.identity import Identity
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.expecting import Answer
    from tidoctor.finding import Diagnosis
    from tidoctor.loaders import Consumer, Origin
    from tidoctor.opinion import Opinion
    from tidoctor.repairs import Treatment
    from tidoctor.rules import Rule, Symptom
    from tidoctor.rules.statistics import Statistics


class Text:
    """Each method returns a whole report that ends with a line end. `between` parts two of them.

    `opening` and `ending` stand around all reports of one command on sources.
    """

    between = "\n"
    errors_in_report = False

    def __init__(self, style: Style, *, several: bool = False) -> None:
        self.style = style
        self.several = several
        self._diagnosed = False

    def opening(self) -> str:
        """What comes before the first source."""
        return ""

    def ending(self, codes: Sequence[int]) -> str:
        """What comes after the last source; `codes` are the exit codes of all of them."""
        if len(codes) < 2 or not self._diagnosed:
            return ""
        kinds = (("pass", Exit.CLEAN), ("fail", Exit.FINDINGS), ("not examined", Exit.UNEXAMINED))
        counts = [(list(codes).count(code), told) for told, code in kinds]
        told = ", ".join(f"{n} {word}" for n, word in counts if n)
        return f"\n{len(codes)} checkpoints: {told}.\n"

    def inspection(
        self,
        checkpoint: Checkpoint,
        wanted: Callable[[str], bool],
        *,
        every: bool,
        like: Identity | None = None,
        values: Mapping[str, Statistics | None] | None = None,
    ) -> str:
        """The tensors whose names are wanted, one row for each with `every`.

        `like` is what they look like, where config.json does not tell; `values` are the numbers
        they hold, where those were read.
        """
        from tidoctor.report.text.inspection import inspection

        return ended(
            inspection(checkpoint, wanted, self.style, every=every, like=like, values=values)
        )

    def expectation(self, answer: Answer, *, every: bool) -> str:
        """The tensors that are expected, one row for each with `every`."""
        from tidoctor.report.text.expectation import expectation

        return ended(expectation(answer, self.style, every=every))

    def diagnosis(
        self, checkpoint: Checkpoint, found: Diagnosis, opinion: Opinion | None = None
    ) -> str:
        """The findings, the second opinion if one was asked for, and a line that sums up."""
        from tidoctor.report.text.diagnosis import diagnosis

        self._diagnosed = True
        return ended(diagnosis(checkpoint, found, self.style, opinion=opinion))

    def treatment(
        self, done: Treatment, cost: Cost | None, *, dry_run: bool, exit_code: int
    ) -> str:
        """The plan and what became of it."""
        from tidoctor.report.text.treatment import treatment

        return ended(treatment(done, cost, self.style))

    def rules(self, listed: Sequence[Rule], query: str | None = None) -> str:
        """The catalogue, or the page of the one rule that was asked for."""
        from tidoctor.report.text.rules import catalogue, page

        return ended(page(listed[0], self.style) if query else catalogue(listed, self.style))

    def loaders(self, known: Sequence[Consumer], query: str | None = None) -> str:
        """The loaders that are known, or the page of the one that was asked for."""
        from tidoctor.report.text.loaders import listing, page

        return ended(page(known[0], self.style) if query else listing(known, self.style))

    def symptoms(
        self, message: str, likely: Sequence[Symptom], origins: Sequence[Origin] = ()
    ) -> str:
        """What an error message points to, and the loaders that print it."""
        from tidoctor.report.text.rules import symptoms

        return ended(symptoms(message, likely, origins, self.style))

    def error(
        self, error: TidoctorError, source: str | None, exit_code: int, *, hint: bool = True
    ) -> str:
        """What went wrong, in the report."""
        return self.complaint(error, source, exit_code, hint=hint)

    def complaint(
        self, error: TidoctorError, source: str | None, exit_code: int, *, hint: bool = True
    ) -> str:
        """What went wrong, on one line of standard error."""
        told = TidoctorError(error.where, error.what, error.hint if hint else "")
        return ended([self.style.paint("error", "error") + f": {printable(str(told))}"])


def ended(lines: Iterable[str]) -> str:
    """The lines with an end each."""
    return "".join(f"{line}\n" for line in lines)
