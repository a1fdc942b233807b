"""mlx-lm on the CPU as a judge: `python ask_mlx_lm.py FOLDER …`, one JSON line per folder."""

import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model

PROBE = [100, 110, 105, 120, 99, 130, 101]


def load(folder):
    """What happened to one folder."""
    try:
        model, _ = load_model(folder)
    except (Exception, SystemExit) as e:
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    try:
        logits = model(mx.array([PROBE]))[0].astype(mx.float32)
        steps = {int(best) - token for best, token in
                 zip(mx.argmax(logits, axis=-1).tolist(), PROBE, strict=True)}
        last = logits[-1, 96:108].tolist()
    except Exception as e:
        return {"loaded": True, "error": f"{type(e).__name__}: {e}"}
    return {
        "loaded": True,
        "step": steps.pop() if len(steps) == 1 else None,
        "answer": [round(v, 3) for v in last],
    }


mx.set_default_device(mx.cpu)
for folder in map(Path, sys.argv[1:]):
    print(json.dumps({"fixture": folder.name, **load(folder)}), flush=True)
