"""A graft of 1 GB from a model on the Hub, beside a plain download of the same bytes.

`python tests/bench/graft.py [ROUNDS]` prints wall and processor time of both with their ratios (the
download is that of the same client with sixteen threads, and nothing else), the peak memory of the
graft, and whether it is correct after ten resets at random places. The server is a process of its
own on this machine. What the patient has is linked, so that it costs neither.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

ROWS, CHANNELS = 128256, 4096  # 1.05 GB in BF16
PLAIN = """
import concurrent.futures, os, sys, time
from huggingface_hub.utils import get_session
url, begin, end, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
STEP = 32 << 20
def part(at):
    headers = {"Range": f"bytes={at}-{min(at + STEP, end) - 1}"}
    with get_session().stream("GET", url, headers=headers) as answer:
        place = at - begin
        for chunk in answer.iter_raw():
            place += os.pwrite(target, chunk, place)
busy = time.process_time()
started = time.perf_counter()
target = os.open(out, os.O_WRONLY | os.O_CREAT)
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    list(pool.map(part, range(begin, end, STEP)))
os.fsync(target)
print(time.perf_counter() - started, time.process_time() - busy)
"""
GRAFT = """
import resource, sys, time
import tidoctor, tidoctor.repairs, tidoctor.writer, huggingface_hub as h; h.HfApi
from tidoctor.form import Form
told = []
done = tidoctor.repair(sys.argv[1], sys.argv[2], donor="org/base", form=Form(link="hard"),
                       progress=lambda what, n, total: told.append((what, time.perf_counter(), time.process_time())))
end = time.perf_counter()
assert done.receipt, done.reason
copied = [row for row in told if row[0] == "copy"]
busy = copied[-1][2] - copied[0][2]
print(end - copied[0][1], busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def files(head: bool) -> dict[str, Any]:
    from fakehub import safetensors

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": CHANNELS,
        "intermediate_size": 64, "num_hidden_layers": 0, "num_attention_heads": 32, "vocab_size": ROWS,
        "tie_word_embeddings": False,
    }  # fmt: skip
    rows = [("model.norm.weight", "BF16", [CHANNELS])]
    rows += [("lm_head.weight", "BF16", [ROWS, CHANNELS])] if head else []
    # The embedding is small in the patient's copy of the story only by its file: it is a hole.
    rows += [("model.embed_tokens.weight", "BF16", [ROWS, CHANNELS])]
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(sorted(rows), seed=3)}


def serve() -> None:
    import random

    from fakehub import FakeHub, Fault

    hub = FakeHub()
    hub.repo("org/base", files(True))
    with hub:
        print(hub.url, flush=True)
        for line in sys.stdin:
            hub.faults.clear()
            if line.strip() == "resets":
                places = random.Random(7).sample(range(1, 32 << 20), 10)
                hub.faults += [Fault("reset", "model.safetensors", "cdn", 1, after=n, when=Later(hub)) for n in places]
            print("ready", flush=True)


class Later:
    """True once the headers have been read."""

    def __init__(self, hub: Any) -> None:
        self.hub, self.begun = hub, len(hub.log)

    def __call__(self) -> bool:
        return sum(r.what == "model.safetensors" and r.status == 206 for r in self.hub.log[self.begun:]) > 1


def patient(folder: Path) -> None:
    """A local model without a head, in two shards that are holes on the disk."""
    from fakehub import safetensors

    made = files(False)
    (folder / "config.json").write_bytes(made["config.json"])
    rows = [("model.embed_tokens.weight", "BF16", [ROWS, CHANNELS]), ("model.norm.weight", "BF16", [CHANNELS])]
    places = {}
    for number, row in enumerate(rows, 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        shard = safetensors([row])
        with (folder / name).open("wb") as f:
            f.write(shard.head)
            f.truncate(shard.size)
        places[row[0]] = name
    index = {"metadata": {"total_size": (ROWS + 1) * CHANNELS * 2}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def main(rounds: int) -> None:
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    place = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    try:
        url = server.stdout.readline().strip()
        environment = os.environ | {
            "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(place / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

        def run(script: str, *arguments: str) -> list[float]:
            command = [sys.executable, "-c", script, *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            return list(map(float, done.stdout.split()))

        (place / "patient").mkdir()
        patient(place / "patient")
        content = files(True)["model.safetensors"]
        table = json.loads(content.head[8:])
        begin, end = (len(content.head) + n for n in table["lm_head.weight"]["data_offsets"])
        ratios = []
        for how in ["", *[""] * (rounds - 1), "resets"]:
            server.stdin.write(f"{how}\n")
            server.stdin.flush()
            server.stdout.readline()
            if not how:
                link = f"{url}/org/base/resolve/main/model.safetensors"
                plain, plain_busy = run(PLAIN, link, str(begin), str(end), str(place / "plain"))
                (place / "plain").unlink()
            took, busy, peak = run(GRAFT, str(place / "patient"), str(place / "out"))
            same = correct(place / "out", content, begin, end)
            line = f"{how or 'quiet':7} graft {took:5.2f} s, {busy:.2f} s of CPU, peak {peak / 1024:.0f} MB, {'correct' if same else 'WRONG'}"
            if not how:
                ratios.append(took / plain)
                line += f"; plain download {plain:.2f} s, {plain_busy:.2f} s of CPU; ratios {ratios[-1]:.2f} and {busy / plain_busy:.2f}"
            print(line, flush=True)
            subprocess.run(["rm", "-rf", str(place / "out")], check=True)
        print(f"median ratio {statistics.median(ratios):.2f}")
    finally:
        server.terminate()
        subprocess.run(["rm", "-rf", str(place)], check=True)


def correct(folder: Path, content: Any, begin: int, end: int) -> bool:
    import tidoctor

    out = tidoctor.open(folder)
    head = out.tensors["lm_head.weight"]
    step = 8 << 20
    return head.nbytes == end - begin and all(
        out.read(head, at, at + step) == content.read(begin + at, min(begin + at + step, end))
        for at in range(0, head.nbytes, step)
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
