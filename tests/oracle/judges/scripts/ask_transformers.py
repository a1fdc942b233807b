"""transformers as a judge: `python ask_transformers.py FOLDER …`, one JSON line per folder.

The class with the head is asked for, as a program that generates does, whatever config.json says.
"""

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="0")

import inspect
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

PROBE = [100, 110, 105, 120, 99, 130, 101]
POSITION = 5  # of the rotary table that is told
WORDS = [100, 101, 102]  # `abc`, what the judges that only generate are asked


def matrix(model, folder):
    """Which tensor of the files the head is, bit for bit: `FILE:NAME`, or None."""
    head = model.get_output_embeddings().weight
    if head.is_meta:
        return None
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if tensor.shape == head.shape and torch.equal(tensor, head):
                return f"{file.name}:{name}"
    return None


def listed(info):
    """The report of a load in one line."""
    said = []
    for kind in ("missing", "unexpected", "mismatched"):
        keys = sorted(str(k[0] if isinstance(k, tuple) else k) for k in info[f"{kind}_keys"])
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            said.append(f"{kind} {', '.join(keys[:3])}{more}")
    return "; ".join(said)


def greedy(model):
    """What generating from WORDS would say: logarithms of four probabilities, and the logits."""
    ids, logs, logits = torch.tensor([WORDS]), [], []
    for _ in range(4):
        row = model(input_ids=ids, use_cache=False).logits[0, -1].float()
        best = row.argmax()
        logs.append(round(row.log_softmax(-1)[best].item(), 4))
        logits.append(round(row[best].item(), 4))
        ids = torch.cat([ids, best.reshape(1, 1)], dim=1)
    return {"logs": logs, "logits": logits}


def tables(model):
    """The rotary table of each layer at one position, cosines and then sines; [] without any."""
    body = getattr(model, "model", None)
    rotary = getattr(body, "rotary_emb", None)
    if rotary is None:
        return []
    place, kinds = (torch.zeros(1, 1, 1), torch.tensor([[POSITION]])), [None] * len(body.layers)
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        kinds = model.config.layer_types
    found = []
    for kind in kinds:
        pair = rotary(*place, kind) if kind else rotary(*place)
        halves = [part[0, 0, : part.shape[-1] // 2].tolist() for part in pair]
        found.append([round(v, 3) for half in halves for v in half])
    return found


def load(folder):
    """What happened to one folder."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    name = "AutoModelForSeq2SeqLM" if kind == "t5" else "AutoModelForCausalLM"
    torch.manual_seed(12345)
    try:
        model, info = getattr(transformers, name).from_pretrained(
            folder, output_loading_info=True, torch_dtype=torch.float32,
            attn_implementation="eager",
        )
    except Exception as e:
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    said = {"loaded": True, "report": listed(info), "matrix": matrix(model, folder)}
    ids = torch.tensor([PROBE])
    inputs = {"input_ids": ids, "decoder_input_ids": ids} if kind == "t5" else {"input_ids": ids}
    try:
        with torch.no_grad():
            logits = model.eval()(**inputs, use_cache=False).logits[0].float()
        if logits.is_meta:
            return {**said, "error": "the answer has no values: parameters on the meta device"}
        steps = {int(best) - token for best, token in
                 zip(logits.argmax(-1).tolist(), PROBE, strict=True)}
        last = logits[-1, 96:108].tolist()
        if kind != "t5":
            with torch.no_grad():
                said |= {"greedy": greedy(model), "tables": tables(model)}
    except Exception as e:
        return {**said, "error": f"{type(e).__name__}: {e}"}
    return {
        **said,
        "step": steps.pop() if len(steps) == 1 else None,
        "answer": [round(v, 3) for v in last],
    }


warnings.simplefilter("ignore")
torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    print(json.dumps({"fixture": folder.name, **load(folder)}), flush=True)
