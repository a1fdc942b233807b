"""A repaired repository on a Hub, loaded by the real transformers through its own client."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fakehub import FakeHub

import tidoctor
from tests.oracle.models import DECODERS, Variant

ROOT = Path(__file__).parents[2]
LOAD = """
import sys, torch, transformers
model, report = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
torch.manual_seed(0)
print(float(model(torch.arange(8)[None]).logits.double().sum()))
"""
REPAIR = """
import sys, tidoctor
done = tidoctor.repair("org/bare", sys.argv[1], wanted="causal-lm", donor="org/whole")
assert done.exit_code == 0 and done.receipt, (done.reason, done.predicted)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_transformers_loads_a_repaired_repository(
    saved: Callable[..., Path], bare: Callable[..., Path], tmp_path: Path
) -> None:
    variant = Variant(DECODERS[0], tied=False, sharded=True)
    with FakeHub() as hub:
        hub.repo("org/whole", files(saved(variant)))
        hub.repo("org/bare", files(bare(variant)))
        environment = os.environ | {
            "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

        def run(script: str, *arguments: str) -> str:
            command = [sys.executable, "-c", script, *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout

        run(REPAIR, str(tmp_path / "healed"))
        hub.repo("org/healed", files(tmp_path / "healed"))
        assert run(LOAD, "org/healed") == run(LOAD, "org/whole")
        assert not tidoctor.diagnose(tmp_path / "healed").findings
