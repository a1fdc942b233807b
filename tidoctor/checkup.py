"""Diagnosing sources one after the other: what a project accepts, what is known, what is new."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, NamedTuple

import tidoctor
from tidoctor.baseline import Baseline
from tidoctor.errors import Unwritable
from tidoctor.many import Ahead, Found
from tidoctor.names import some
from tidoctor.report.output import replace_file
from tidoctor.report.progress import Progress
from tidoctor.report.verdict import Exit, FailOn, of_diagnosis
from tidoctor.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tidoctor.checkpoint import Checkpoint
    from tidoctor.finding import Diagnosis
    from tidoctor.promise import Promise
    from tidoctor.report.delivery import Delivery, Told

_SWEEP = 100  # sources after which garbage is collected, so that memory stays flat

Seen = tuple["Checkpoint", "Diagnosis"]


class Checkup(NamedTuple):
    """What is wanted of every source.

    `settings` bring rules, loaders and waivers, a `baseline` findings that are known; with
    `write_baseline` it is written from what is found instead. A `promise` is what each has to be,
    a `donor` what each was made from, a `manifest` the record of its tensors.
    """

    settings: Settings
    wanted: str | None = None
    deep: bool = False
    against_installed: bool = False
    baseline: Baseline | None = None
    write_baseline: bool = False
    promise: Promise | None = None
    donor: str | None = None
    manifest: Path | None = None

    def look(self, source: str, progress: Progress | None = None) -> Seen:
        """Open and diagnose one source; `progress` is told of reading. Raises what these raise."""
        asks = self.settings
        checkpoint = tidoctor.open(source)
        found = tidoctor.diagnose(
            checkpoint, wanted=self.wanted, select=asks.select, ignore=asks.ignore,
            deep=self.deep, loaders=asks.loaders, promise=self.promise, donor=self.donor,
            progress=progress, manifest=self.manifest,
        )  # fmt: skip
        found = self.settings.apply(found, source)
        if self.baseline and not self.write_baseline:
            found = self.baseline.apply(found, source)
        return checkpoint, found

    def run(self, told: Delivery, found: Found) -> int:
        """Tell of every source; the worst exit code. Without any there is nothing to fail."""
        sources = found.sources
        if not sources:
            told.hint("nothing to examine: there are no weights beside these files")
        if found.passed_by:
            told.hint(f"passed by, for they have no .safetensors: {some(found.passed_by, 5)}")
        examined: dict[str, Diagnosis] = {}
        number = itertools.count()
        # On a terminal the reports themselves show how far it is.
        quiet = told.quiet or len(sources) < 2 or told.output.terminal
        alone = Progress(quiet=told.quiet or len(sources) > 1)

        def look(source: str) -> Seen:
            if (refused := found.refused.get(source)) is not None:
                raise refused
            return self.look(source, alone)

        with (
            alone,
            Ahead(sources, look) as seen,
            Progress(quiet=quiet, unit="checkpoints") as line,
        ):

            def tell(source: str) -> Told:
                done = next(number)
                line(source, done, len(sources))
                if done % _SWEEP == _SWEEP - 1:
                    gc.collect()  # the entry point turned the collector off
                checkpoint, diagnosis = seen(source)
                if self.write_baseline:
                    examined[source] = diagnosis
                asked = None
                if self.against_installed:  # one at a time: each loads a whole library
                    asked = tidoctor.second_opinion(checkpoint, wanted=self.wanted)
                return told.page.diagnosis(checkpoint, diagnosis, asked), self._code(diagnosis)

            code = told.each(sources, tell)
        if self.write_baseline and self.baseline and code != Exit.USAGE:
            self._write(self.baseline, examined)
        return code

    def _code(self, found: Diagnosis) -> Exit:
        """What is written down as known does not fail."""
        code = of_diagnosis(found, FailOn(self.settings.fail_on))
        return Exit.CLEAN if self.write_baseline and code is Exit.FINDINGS else code

    def _write(self, baseline: Baseline, examined: dict[str, Diagnosis]) -> None:
        try:
            replace_file(baseline.path, baseline.text(examined).encode("ascii"))
        except OSError as e:
            raise Unwritable(str(baseline.path), f"cannot be written ({e.strerror})") from e
