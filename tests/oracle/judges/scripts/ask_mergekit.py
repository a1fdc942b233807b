"""mergekit as a judge: `python ask_mergekit.py FOLDER …`, one JSON line per folder.

A folder is merged with a copy of itself, so whatever mergekit read stands unchanged in the result.
"""

import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="0")

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from safetensors.torch import load_file


def tensors(folder):
    """All tensors of a folder: (file, name) and values."""
    return {
        (file.name, name): tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def load(folder, place):
    """What happened to one folder."""
    # the same last name, which messages quote: they may be about either of the two
    twin, out = place / folder.name, place / "result of the merge"
    shutil.copytree(folder, twin)
    recipe = {
        "merge_method": "linear", "dtype": "float32", "base_model": str(folder),
        "models": [{"model": str(m), "parameters": {"weight": 0.5}} for m in (folder, twin)],
    }
    try:
        run_merge(
            MergeConfiguration.model_validate(yaml.safe_load(yaml.safe_dump(recipe))), str(out),
            options=MergeOptions(copy_tokenizer=False, quiet=True),
        )
    except (Exception, SystemExit) as e:
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    before = tensors(folder)
    after = {name: tensor for (_, name), tensor in tensors(out).items()}
    blocks = [tensor.numpy().tobytes() for tensor in after.values()]
    head = after.get("lm_head.weight")
    return {
        "loaded": True,
        "headed": head is not None,
        "matrix": None if head is None else next(
            (f"{file}:{name}" for (file, name), value in before.items()
             if value.shape == head.shape and torch.equal(value, head)), None,
        ),
        # the experts of a layer may have become one tensor, so their bytes are looked for in it
        "lost": sorted({
            name for (_, name), value in before.items()
            if not any(value.numpy().tobytes() in block for block in blocks)
        }),
    }


warnings.simplefilter("ignore")
torch.set_num_threads(1)
for folder in (Path(arg).resolve() for arg in sys.argv[1:]):
    with tempfile.TemporaryDirectory() as place:
        said = load(folder, Path(place))
    print(json.dumps({"fixture": folder.name, **said}), flush=True)
