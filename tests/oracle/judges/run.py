"""Ask the judges about all fixtures and record what they did.

    python -m tests.oracle.judges.run                          all judges that are ready
    python -m tests.oracle.judges.run mlx-lm-0.32.2 -o outcomes.json

Judges that are named but have no environment are created first. Outcomes of other judges that the
file already holds stay. Without `-o` the committed record is rewritten.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.oracle.judges import environments, fixtures
from tests.oracle.judges.environments import Judge
from tests.oracle.judges.fixtures import SCALED, SOUND
from tests.oracle.judges.judging import FINE, TOLERANCE, Outcome, judged, says

RECORD = Path(__file__).parent / "outcomes.json"
REFERENCE = "transformers-5.23.0"  # whose answers to sound fixtures are the reference
GENERATORS = ("mistralrs", "llama-cpp")  # tell no logits, only what they generate

Said = dict[str, dict[str, Any]]


def ask(judge: Judge, interpreter: Path, folders: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """What a judge says of each folder. A crash costs the folder it happened at, no other."""
    left = list(folders)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    while left:
        with tempfile.TemporaryFile("w+") as talk:
            process = subprocess.Popen(
                [interpreter, judge.file, *left], stdout=subprocess.PIPE, stderr=talk, text=True,
                errors="replace", env=env | {"HF_HUB_OFFLINE": "1"},
            )
            assert process.stdout is not None
            began = len(left)
            for line in process.stdout:
                if not line.startswith('{"fixture"'):
                    continue
                said = json.loads(line)
                left = [folder for folder in left if folder.name != said["fixture"]]
                yield said
            code = process.wait()
            if not left:
                return
            talk.seek(0)
            last = (talk.read().strip().splitlines() or [""])[-1]
            if began == len(left) and code in (1, 2):  # not even the first: the script is at fault
                raise RuntimeError(f"{judge.name} ended with code {code}: {last}")
            yield {
                "fixture": left.pop(0).name, "loaded": False,
                "error": f"the process ended with code {code}",
            }


def kept(file: Path, name: str) -> Said:
    """What a judge said the last time, from the lines that `--keep` wrote."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {one["fixture"]: one for one in lines if one["judge"] == name}


def references(said: Said) -> dict[str, list[float]]:
    """The answers of a judge to the sound fixtures that it loads."""
    sound = {f.reference(head) for f in fixtures.FIXTURES.values() for head in SOUND}
    return {
        name: one["answer"] for name, one in said.items() if name in sound and one.get("answer")
    }


def outcomes(judge: Judge, said: Said, record: Mapping[str, Any]) -> dict[str, Outcome]:
    """The outcome of each fixture.

    A generator is its own reference, but for the ways of stretching the rotary base, of which it
    need not know: there its answer has to be that of transformers.
    """
    own = judge.script in GENERATORS
    known, tolerance = record["references"], TOLERANCE
    if own:
        known, tolerance = references(said), FINE
        for name in SCALED:
            greedy = record["greedy"][name]
            if name not in known or not says(known[name], greedy):
                known[name] = greedy["logs"]
    return {
        name: judged(fixtures.FIXTURES[name], one, known, tolerance, record["tables"])
        for name, one in said.items()
    }


def read(record: Path = RECORD) -> dict[str, Any]:
    """The recorded outcomes; an empty record when the file is not there."""
    empty: dict[str, Any] = {"references": {}, "greedy": {}, "tables": {}, "judges": {}}
    if not record.exists():
        return empty
    return empty | json.loads(record.read_text(encoding="utf-8"))


def write(record: Path, data: Mapping[str, Any]) -> None:
    """Write a record, one line per fixture, so that a change shows what changed."""
    lines = ['{"references": {']
    lines.append(",\n".join(f"{json.dumps(n)}: {json.dumps(a)}"
                            for n, a in sorted(data["references"].items())))
    for kind in ("greedy", "tables"):
        lines.append(f'}}, "{kind}": {{')
        rows = (f"{json.dumps(n)}: {json.dumps(a)}" for n, a in sorted(data[kind].items()))
        lines.append(",\n".join(rows))
    lines.append('}, "judges": {')
    parts = []
    for name, judge in sorted(data["judges"].items()):
        rows = ",\n".join(
            f" {json.dumps(fixture)}: {json.dumps(row, ensure_ascii=False)}"
            for fixture, row in judge["outcomes"].items()
        )
        head = {k: v for k, v in judge.items() if k != "outcomes"}
        parts.append(f'{json.dumps(name)}: {json.dumps(head)[:-1]}, "outcomes": {{\n{rows}\n}}}}')
    lines.append(",\n".join(parts))
    lines.append("}}\n")
    record.write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    """Run judges and record their outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="judges; all that are ready when none is named")
    parser.add_argument("-o", "--output", type=Path, default=RECORD)
    parser.add_argument("--fixtures", type=Path, help="folder for the checkpoints, kept")
    parser.add_argument("--keep", type=Path, help="add what the judges said, as JSON lines")
    parser.add_argument("--said", type=Path, help="judge what was kept; ask nobody")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="these fixtures")
    given = parser.parse_args()
    try:
        wanted = environments.judges(given.names)
    except KeyError as e:
        parser.error(str(e.args[0]))
    if not given.names:
        wanted = [judge for judge in wanted if environments.python(judge)]
    wanted.sort(key=lambda judge: judge.name != REFERENCE)  # the others need its answers
    data = read(given.output)
    with tempfile.TemporaryDirectory() as temporary:
        everything = fixtures.write_all(given.fixtures or Path(temporary))
        chosen = {n for n in everything if any(fnmatch.fnmatchcase(n, g) for g in given.only)}
        # and what their answers are compared with
        chosen |= {fixtures.FIXTURES[n].reference(head) or n for n in chosen for head in SOUND}
        folders = {n: f for n, f in everything.items() if n in chosen}
        for judge in wanted:
            began = time.monotonic()
            if given.said:
                said = {n: s for n, s in kept(given.said, judge.name).items() if n in folders}
                if not said:
                    continue
            else:
                interpreter = environments.create(judge)
                said = {one["fixture"]: one for one in ask(judge, interpreter, folders.values())}
            if given.keep:
                with given.keep.open("a") as file:
                    for one in said.values():
                        file.write(json.dumps({"judge": judge.name, **one}) + "\n")
            if judge.name == REFERENCE:
                data["references"] |= references(said)
                data["greedy"] |= {n: one["greedy"] for n, one in said.items() if n in SCALED}
                data["tables"] |= {
                    n: one["tables"] for n, one in said.items()
                    if one.get("tables") and n == fixtures.FIXTURES[n].reference("own")
                }
            found = outcomes(judge, said, data)
            before = data["judges"].get(judge.name, {})
            rows = before.get("outcomes", {})
            rows |= {n: [o.outcome, o.head, o.message] for n, o in found.items()}
            data["judges"][judge.name] = {
                "consumer": judge.consumer, "version": judge.version,
                "requirements": [*judge.requirements, *(judge.source or ())],
                "fixtures": fixtures.digest(),
                "answers": (
                    {**before.get("answers", {}), **references(said)}
                    if judge.script in GENERATORS else {}
                ),
                "outcomes": {name: rows[name] for name in fixtures.FIXTURES if name in rows},
            }
            write(given.output, data)
            counts = {o: sum(f.outcome == o for f in found.values())
                      for o in ("loads", "fails", "misreads", "unknown")}
            told = ", ".join(f"{n} {o}" for o, n in counts.items() if n)
            print(f"{judge.name:24}{told}  ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
