"""One line per finding, for editors and grep: `config.json:2: error C04 base-class-saved …`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tidoctor.names import printable
from tidoctor.report.text import Text, ended

if TYPE_CHECKING:
    from tidoctor.assembly import Cost
    from tidoctor.checkpoint import Checkpoint
    from tidoctor.finding import Diagnosis
    from tidoctor.opinion import Opinion
    from tidoctor.repairs import Treatment


class Concise(Text):
    """Text, but for findings, which stand on a line each. A healthy source has none."""

    between = ""

    def ending(self, codes: Sequence[int]) -> str:
        """Nothing: each line is about a finding."""
        return ""

    def diagnosis(
        self, checkpoint: Checkpoint, found: Diagnosis, opinion: Opinion | None = None
    ) -> str:
        """A line for each finding and for each rule that could not run.

        A second opinion has a line where it differs or could not be had.
        """
        from tidoctor.report.text.opinion import difference

        name = checkpoint.source.name
        lines = list(self._lines(name, found))
        if opinion is not None and (told := difference(opinion)):
            lines.append(f"{printable(name)}: {told}")
        return ended(lines)

    def treatment(
        self, done: Treatment, cost: Cost | None, *, dry_run: bool, exit_code: int
    ) -> str:
        """A line for each finding that remains or would, and the outcome."""
        final = done.result or (done.predicted if done.plan else done.diagnosis)
        lines = list(self._lines(str(done.dest) if done.plan else done.before.source.name, final))
        for one in done.declined:
            rule = f"{one.finding.code} {one.finding.name}"
            lines.append(f"{self._name(done)}: declined {rule} {printable(one.reason)}")
        lines += [f"{self._name(done)}: caution: {printable(said)}" for said in done.cautions]
        if done.receipt is None:
            lines.append(f"{self._name(done)}: nothing written: {printable(done.reason)}")
        else:
            verified = f"{done.receipt.verified + done.receipt.made} tensors verified"
            lines.append(f"{printable(str(done.dest))}: written, {verified}")
        return ended(lines)

    def _name(self, done: Treatment) -> str:
        return printable(done.before.source.name)

    def _lines(self, name: str, found: Diagnosis) -> Iterator[str]:
        from tidoctor.report.text.diagnosis import rule_names, waits
        from tidoctor.report.verdict import examined

        for one in found.findings:
            place = str(one.location) if one.location else ""
            if self.several or not place:
                place = f"{name.rstrip('/')}/{place}" if place else name
            severity = self.style.paint(str(one.severity), str(one.severity))
            rule = f"{one.code} {one.name}"
            yield f"{printable(place)}: {severity} {rule} {printable(one.message)}"
        names = rule_names()
        for skipped in found.not_run:
            if not waits(skipped):
                rule = f"{skipped.code} {names.get(skipped.code, '')}".rstrip()
                yield f"{printable(name)}: not-run {rule} {printable(skipped.reason)}"
        if not examined(found):
            yield f"{printable(name)}: not-examined: no rule ran"
