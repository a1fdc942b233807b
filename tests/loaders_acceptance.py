"""What the verdicts on loaders have to show, replayed through the command line.

    python tests/loaders_acceptance.py [--runs 5]

Prints a line for each claim, and ends with 1 if one of them is not met. Nothing but tidoctor runs:
what the real programs did is the record of `oracle/judges`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import test_loaders_verdicts as tiny  # noqa: E402

from tests.oracle.judges import agreement, fixtures, run  # noqa: E402
from tidoctor.loaders import Examination, Patient, asked  # noqa: E402
from tidoctor.loaders.patient import Loading  # noqa: E402

MOST = 0.3  # seconds of processor time that `--for all` may add
Files = dict[str, bytes]


class Claim(NamedTuple):
    """A sentence, whether it holds, and the figure."""

    text: str
    met: bool
    figure: str


def written(folder: Path, files: Files) -> Path:
    """A folder with some files."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def told(folder: Path, wish: str) -> dict[str, Any]:
    """The verdict that `diagnose --for` prints."""
    command = [sys.executable, "-m", "tidoctor", "diagnose", str(folder), "--for", wish]
    done = subprocess.run(
        [*command, "--format", "json", "--isolated"], capture_output=True, text=True, check=False
    )
    (verdict,) = json.loads(done.stdout)["loaders"]
    return dict(verdict)


INCIDENTS: tuple[tuple[str, Files, str, str, str], ...] = (
    ("1 tied Llama", tiny.TIED_LLAMA, "candle@0.7.1", "fails", "cannot find tensor lm_head.weight"),
    ("1 tied Llama", tiny.TIED_LLAMA, "candle@0.7.2", "loads", ""),
    ("2 untied Qwen2", tiny.UNTIED_QWEN2, "candle@0.6.0", "misreads", ""),
    ("2 untied Qwen2", tiny.UNTIED_QWEN2, "candle@0.7.0", "loads", ""),
    ("3 AutoModel save of an untied Llama", tiny.BASE, "transformers", "misreads", ""),
    ("4 tied Qwen2", tiny.TIED_QWEN, "lorax@0.12.1", "fails", "lm_head.weight does not exist"),
    ("4 tied Qwen2", tiny.TIED_QWEN, "lorax@main", "loads", ""),
    ("5 tied Llama", tiny.TIED_LLAMA, "mergekit@c891a09", "fails",
     "Tensor lm_head.weight required but not present in model"),
    ("5 tied Llama", tiny.TIED_LLAMA, "mergekit@8522917", "loads", ""),
    ("5 tied Llama", tiny.TIED_LLAMA, "mergekit", "loads", ""),
    ("5 lost head", tiny.LOST, "mergekit", "misreads", ""),
    ("5 lost head", tiny.LOST, "vllm@0.20.0", "fails", "lm_head.weight"),
    *(("5 lost head", tiny.LOST, f"vllm@{v}", "misreads", "")
      for v in ("0.21.0", "0.28.0", "0.29.0", "0.32.0", "0.33.0")),
)  # fmt: skip


def incidents(root: Path) -> Iterator[Claim]:
    """The five incidents."""
    for i, (what, files, wish, outcome, message) in enumerate(INCIDENTS):
        found = told(written(root / str(i), files), wish)
        met = found["verdict"] == outcome and message in (found["message"] or "")
        yield Claim(f"{what}, {wish}: {outcome}", met, found["message"] or found["verdict"])


def agreed(root: Path) -> Iterator[Claim]:
    """The agreement with what the real programs did."""
    found = agreement.cases(run.read(), root)
    kinds = Counter(case.kind for case in found)
    reasons = all(c.verdict.why for c in found if c.kind == "unknown")
    judges = len({case.judge for case in found})
    yield Claim(
        f"{judges} programs × {len(fixtures.FIXTURES)} checkpoints: no verdict differs",
        kinds["differs"] == 0 and not agreement.disputes(found) and reasons,
        ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())),
    )


def seconds(folder: Path, *wishes: str) -> float:
    """Processor time of a diagnosis, in the process itself and without the kernel's."""
    before = os.times().children_user
    command = [sys.executable, "-m", "tidoctor", "diagnose", str(folder), "--isolated", *wishes]
    subprocess.run(command, capture_output=True, check=False)
    return os.times().children_user - before


def quick(root: Path, runs: int) -> Iterator[Claim]:
    """`--for all` beside a plain diagnosis, in turns."""
    for name in ("llama-untied-different", "gemma3_text-fifth-linear", "llama-base-untied"):
        folder = root / name
        pairs = [(seconds(folder), seconds(folder, "--for", "all")) for _ in range(runs)]
        more = statistics.median(every - plain for plain, every in pairs)
        yield Claim(
            f"--for all on {name}: at most {MOST} s more", more <= MOST,
            f"{more:.2f} s (plain {statistics.median(p for p, _ in pairs):.2f} s)",
        )  # fmt: skip


def unrecorded() -> Iterator[Claim]:
    """Nobody loads what no record speaks of."""
    wrong, tried = 0, 0
    every = [
        wish for one in asked(["all"]) for v in one.consumer.timeline.known
        for wish in asked([f"{one.consumer.name}@{v}"])
    ]  # fmt: skip
    for model_type in ("nobody", "gemma", "olmoe", "mamba2", "t5", "bert", "llama\n", ""):
        for task in ("causal-lm", "seq2seq-lm", "encoder"):
            exam = Examination(
                Patient(model_type=model_type, task=task, loading=Loading(), expected={})
            )
            for wish in every:
                if exam.record(wish)[0] is None:
                    tried += 1
                    wrong += str(exam.evaluate(wish).outcome) == "loads"
    yield Claim("no verdict without a record is `loads`", not wrong, f"{tried} tried, {wrong} load")


def found_by_running(root: Path) -> Iterator[Claim]:
    """What must not be lost."""
    for name, wish, outcome in (
        ("llama-fifth-theta", "mistral.rs", "fails"),
        ("llama-fifth-theta", "transformers@4.57.6", "misreads"),
        ("gemma3_text-fifth-theta", "transformers@4.57.6", "misreads"),
        ("gemma3_text-fifth-theta", "transformers@4.51.3", "misreads"),
        ("gemma2-tied-equal", "vllm@0.29.0", "fails"),
        ("gemma2-tied-equal", "vllm@0.33.0", "fails"),
        ("gemma2-tied-equal", "mlx-lm", "fails"),
        ("llama-head-other-file", "mlx-lm", "fails"),
        ("llama-stale-head", "mergekit", "loads"),
        ("llama-stale-head", "mlx-lm", "unknown"),
        ("llama-base-tied", "mistral.rs", "fails"),
        ("llama-base-tied", "transformers", "loads"),
    ):
        found = told(root / name, wish)["verdict"]
        yield Claim(f"{name}, {wish}: {outcome}", found == outcome, found)


def main() -> int:
    """Print every claim; 1 if one is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each measurement")
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for part in (
            incidents(root / "incidents"), agreed(root / "judged"), unrecorded(),
            found_by_running(root / "judged"), quick(root / "judged", given.runs),
        ):  # fmt: skip
            for claim in part:
                failed += not claim.met
                print(f"{'met    ' if claim.met else 'NOT MET'}  {claim.text}  [{claim.figure}]")
                sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
