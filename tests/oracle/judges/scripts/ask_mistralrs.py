"""mistral.rs as a judge: `python ask_mistralrs.py FOLDER …`, one JSON line per folder.

The probe text is made of bytes that follow each other in the vocabulary, so the text that a greedy
generation adds tells the head: `cccc` is the embedding's answer to `abc`, `defg` the head's own.
One process per folder, ended hard: the runtime neither forgets a model nor stops its threads.
"""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

PROBE = "abc"
SECONDS = 120


def load(folder):
    """What happened to one folder; runs in a process of its own."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from mistralrs import ChatCompletionRequest, ModelDType, Runner, Which

    try:
        runner = Runner(
            which=Which.Plain(model_id=str(Path(folder).resolve()), arch=None, dtype=ModelDType.F32)
        )
    except BaseException as e:  # pyo3 raises panics of Rust beside Exception
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    try:
        answer = runner.send_chat_completion_request(
            ChatCompletionRequest(
                messages=[{"role": "user", "content": PROBE}], model="default", max_tokens=4,
                temperature=0.0, top_k=1, logprobs=True, top_logprobs=1,
            )
        ).choices[0]
    except BaseException as e:
        return {"loaded": True, "error": f"{type(e).__name__}: {e}"}
    text = answer.message.content[:4]
    steps = {ord(b) - ord(a) for a, b in zip(PROBE[-1] + text, text, strict=False)}
    values = [entry.logprob for entry in answer.logprobs.content][:4]
    return {
        "loaded": True,
        "step": steps.pop() if len(steps) == 1 and len(text) == 4 else None,
        "answer": [round(v, 4) for v in values if math.isfinite(v)],
    }


def died(child):
    """What a process that ended without a word says: only an abort is the program's own doing."""
    code = child.returncode
    if code >= 0:
        raise RuntimeError(child.stderr.strip()[-1000:])
    name = signal.Signals(-code).name
    loaded = False if name == "SIGABRT" else None
    return {"loaded": loaded, "error": f"the process was ended by {name}"}


def main():
    """Judge each folder in a process of its own."""
    if sys.argv[1] == "--one":
        print("\n" + json.dumps(load(sys.argv[2])), flush=True)
        os._exit(0)
    for folder in sys.argv[1:]:
        try:
            child = subprocess.run(
                [sys.executable, __file__, "--one", folder], capture_output=True, text=True,
                timeout=SECONDS, errors="replace",
            )
            lines = [line for line in child.stdout.splitlines() if line.startswith("{")]
            said = json.loads(lines[-1]) if lines else died(child)
        except subprocess.TimeoutExpired:
            said = {"loaded": None, "error": f"no answer within {SECONDS} s"}
        print(json.dumps({"fixture": Path(folder).name, **said}), flush=True)


main()
