"""What the real programs did, held against what tidoctor says that they do.

    python -m tests.oracle.judges.agreement              numbers per judge
    python -m tests.oracle.judges.agreement --list       and every difference
    python -m tests.oracle.judges.agreement --dispute    write the differences to disputed.json

Nothing is run but tidoctor: the outcomes are those recorded in outcomes.json. A verdict of
`unknown` is never a difference: it says why it is one. A difference is a false statement of
tidoctor's (or a fault of the judge); `disputed.json` names those that are known and not yet mended,
and is empty when there are none.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.oracle.judges import fixtures, run
from tests.oracle.judges.judging import Outcome, plain
from tidoctor.finding import Verdict
from tidoctor.loaders import Examination, asked
from tidoctor.opening import open_checkpoint
from tidoctor.rules import View, loading
from tidoctor.source import open_source

DISPUTED = Path(__file__).parent / "disputed.json"


@dataclass(frozen=True)
class Case:
    """A fixture and a judge: what it did, and what tidoctor says."""

    judge: str
    fixture: str
    ran: Outcome
    verdict: Verdict

    @property
    def kind(self) -> str:
        """agrees | differs | unknown (we do not know) | unjudged (the judge could not tell)."""
        if self.ran.outcome == "unknown":
            return "unjudged"
        said = self.verdict.outcome.value
        if said == "unknown":
            return "unknown"
        if self.blind:
            return "unjudged"
        return "agrees" if said == self.ran.outcome else "differs"

    @property
    def blind(self) -> bool:
        """Whether we say that it takes another rotary base, and the fixture cannot show that.

        The answers of the fixtures in the dialect of transformers 5 hardly depend on the base but
        for those that are made to (`fixtures.THETA_FAMILIES`).
        """
        sharp = not self.fixture.endswith(("-fifth-untied", "-fifth-tied"))
        return (
            not sharp and self.verdict.outcome.value == "misreads"
            and self.verdict.cause == "config" and self.ran.outcome == "loads"
        )

    @property
    def message(self) -> bool | None:
        """Whether the message we give is the one that was seen; None where there is none."""
        given = plain(self.verdict.message).rstrip("…").strip()
        if self.kind != "agrees" or self.ran.outcome != "fails" or not given:
            return None
        seen = self.ran.message.rstrip("…").strip()
        return given in seen or seen in given


def cases(record: Mapping[str, Any], root: Path) -> list[Case]:
    """Every recorded outcome with our verdict; the fixtures are written below `root`."""
    judges = record["judges"]
    wishes = {name: asked([f"{j['consumer']}@{j['version']}"])[0] for name, j in judges.items()}
    found = []
    for name, folder in fixtures.write_all(root).items():
        exam = examination(folder)
        found += [
            Case(judge, name, Outcome(*one["outcomes"][name]), exam.evaluate(wishes[judge]))
            for judge, one in judges.items()
            if name in one["outcomes"]
        ]
    return found


def examination(folder: Path) -> Examination:
    """A fixture as `diagnose --for` holds it against loaders, without looking for cures."""
    checkpoint = open_checkpoint(open_source(str(folder)))
    wanted = loading.headed_class(View(checkpoint))
    return Examination(loading.patient(View(checkpoint, wanted=wanted)))


def disputes(found: Iterable[Case]) -> dict[str, dict[str, str]]:
    """Judge -> fixture -> the difference, of outcomes and of messages."""
    out: dict[str, dict[str, str]] = {}
    for case in found:
        ran, said = case.ran, case.verdict
        if case.kind == "differs":
            what = f"ran: {ran.outcome}; we say: {said.outcome.value}"
        elif case.message is False:
            what = f"ran: {ran.message}; we say: {plain(said.message)}"
        else:
            continue
        out.setdefault(case.judge, {})[case.fixture] = what
    return out


def table(found: Iterable[Case]) -> str:
    """The size of the matrix and the number of each kind, per judge."""
    counts: dict[str, Counter[str]] = {}
    for case in found:
        row = counts.setdefault(case.judge, Counter())
        row[case.kind] += 1
        row[f"ran {case.ran.outcome}"] += 1
        if case.message is not None:
            row["message" if case.message else "other message"] += 1
    total: Counter[str] = Counter()
    for row in counts.values():
        total += row
    columns = (
        "ran loads", "ran fails", "ran misreads", "ran unknown", "agrees", "differs", "unknown",
        "unjudged", "message", "other message",
    )
    lines = ["  ".join(["judge".ljust(20), *columns])]
    for name, row in {**counts, "all": total}.items():
        cells = (str(row[c]).rjust(len(c)) for c in columns)
        lines.append("  ".join([name.ljust(20), *cells]))
    size = sum(total[kind] for kind in ("agrees", "differs", "unknown", "unjudged"))
    shape = f"{len(counts)} judges × {len(fixtures.FIXTURES)} fixtures = {size} outcomes"
    return "\n".join([shape, *lines])


def main() -> int:
    """Print the agreement; 1 when there is a difference that disputed.json does not name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print every difference")
    parser.add_argument("--dispute", action="store_true", help="write them to disputed.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        found = cases(run.read(), Path(root))
    print(table(found))
    differ = disputes(found)
    if given.list:
        for judge, rows in differ.items():
            for fixture, what in rows.items():
                print(f"{judge} {fixture}: {what}")
    if given.dispute:
        text = json.dumps(differ, indent=1, ensure_ascii=False, sort_keys=True)
        DISPUTED.write_text(text + "\n", encoding="utf-8")
    return 0 if differ == disputed() else 1


def disputed() -> dict[str, dict[str, str]]:
    """The differences that are known."""
    if not DISPUTED.exists():
        return {}
    found: dict[str, dict[str, str]] = json.loads(DISPUTED.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
