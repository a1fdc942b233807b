"""What a model on the Hub costs, beside the client's own function, in one run.

`python tests/bench/distant.py [ROUNDS]` serves 163 virtual shards with 91,000 tensors from a
process of its own behind a link with 50 ms round trip (see link.py; root only), and prints the least wall time of `tidoctor.diagnose`
and of `huggingface_hub.get_safetensors_metadata`, imports not counted, and their ratio.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.link import FAR, FAR_ADDRESSES, NEAR, inside, link  # noqa: E402

ROUND_TRIP = 0.05  # seconds
SHARDS = 163
CALLS = {
    "get_safetensors_metadata": "import huggingface_hub as h; h.HfApi; call = lambda: h.get_safetensors_metadata('org/m')",
    "tidoctor.diagnose": "import tidoctor, tidoctor.rules, tidoctor.source.hub; import huggingface_hub as h; h.HfApi; "
    "call = lambda: tidoctor.diagnose('org/m')",
}
TIMED = "import gc, time\n{setup}\ngc.disable()\nbegin = time.perf_counter()\ncall()\nprint(time.perf_counter() - begin, time.process_time())"


def files() -> dict[str, Any]:
    """91,991 tensors, as many as DeepSeek-V3 has, in 163 shards."""
    from fakehub import safetensors

    config = {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
        "num_hidden_layers": 61, "vocab_size": 129280, "tie_word_embeddings": False,
        "quantization_config": {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [128, 128],
        },
    }  # fmt: skip
    rows = [("model.embed_tokens.weight", "BF16", [129280, 7168])]
    rows += [
        (f"model.layers.{i}.mlp.experts.{e}.{p}.{w}", d, shape)
        for i in range(61) for e in range(251) for p in ("gate_proj", "up_proj", "down_proj")
        for w, d, shape in (("weight", "F8_E4M3", [2048, 7168]), ("weight_scale_inv", "F32", [16, 56]))
    ]  # fmt: skip
    rows += [("lm_head.weight", "BF16", [129280, 7168]), ("model.norm.weight", "BF16", [7168])]
    per = -(-len(rows) // SHARDS)
    made: dict[str, Any] = {}
    places = {}
    for k in range(SHARDS):
        name = f"model-{k + 1:05d}-of-{SHARDS:06d}.safetensors"
        part = sorted(rows[k * per : (k + 1) * per])
        made[name] = safetensors(part, seed=k)
        places |= dict.fromkeys((row[0] for row in part), name)
    total = sum(f.size - len(f.head) for f in made.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    made["model.safetensors.index.json"] = json.dumps(index, indent=2).encode()
    made["config.json"] = json.dumps(config).encode()
    return made


def serve() -> None:
    """The stand-in, until it is ended; prints its address, then a line of counts when asked."""
    from fakehub import FakeHub

    hub = FakeHub(0, *FAR_ADDRESSES)
    hub.repo("org/m", files())
    with hub:
        print(hub.url, flush=True)
        for _ in sys.stdin:
            answered = [r for r in hub.log if r.status // 100 != 3]
            sent = sum(r.sent for r in hub.log)
            print(len(answered), len(hub.log), sent, flush=True)
            hub.log.clear()


def main(rounds: int) -> None:
    server = subprocess.Popen(
        inside(FAR, sys.executable, __file__, "serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    try:
        url = server.stdout.readline().strip()
        best = dict.fromkeys(CALLS, float("inf"))
        with tempfile.TemporaryDirectory() as home:
            environment = os.environ | {
                "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            for i in range(rounds):
                for name, setup in CALLS.items():
                    environment["HF_HOME"] = f"{home}/{i}{name}"
                    command = inside(NEAR, sys.executable, "-c", TIMED.format(setup=setup))
                    run = subprocess.run(command, env=environment, capture_output=True, text=True)
                    if run.returncode:
                        raise SystemExit(run.stderr)
                    took, busy = map(float, run.stdout.split())
                    best[name] = min(best[name], took)
                    server.stdin.write("\n")
                    server.stdin.flush()
                    answered, all_, sent = server.stdout.readline().split()
                    print(f"{name:26} {took:6.2f} s, {busy:.2f} s of CPU  {answered} reads, {all_} requests, {int(sent) / 1e6:.1f} MB")
        ratio = best["tidoctor.diagnose"] / best["get_safetensors_metadata"]
        print(f"least: {best['tidoctor.diagnose']:.2f} s and {best['get_safetensors_metadata']:.2f} s; ratio {ratio:.2f}")
    finally:
        server.terminate()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        with link(ROUND_TRIP):
            main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
