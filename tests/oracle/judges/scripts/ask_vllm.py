"""vLLM from its source as a judge: `python ask_vllm.py FOLDER …`, one JSON line per folder.

Only the loading of weights is real: no compiled kernel is there, so there is no forward pass.
Memory that no weight is read into holds NaN and is told, the head is compared bit for bit with the
tensors of the files, and the rotary tables are read off. Models of experts run in a process of
their own, because what the first model of a process says of experts holds for all of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(sys.prefix) / "source"
POSITION = 5  # of the rotary table that is told
SECONDS = 3600

os.environ.update(
    VLLM_TARGET_DEVICE="cpu", VLLM_LOGGING_LEVEL="ERROR", VLLM_CPU_KVCACHE_SPACE="1",
    HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="0", VLLM_NO_USAGE_STATS="1",
)  # fmt: skip


class Stub:
    """An operation that is compiled in a real installation."""

    def __call__(self, *args, **kwargs):
        return None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self


def prepare():
    """Import vLLM where nothing is compiled, and fill fresh memory with NaN."""
    # it takes its own version for a statement of what it was compiled for
    about = SOURCE / "vllm-0+cpu.dist-info" / "METADATA"
    about.parent.mkdir(exist_ok=True)
    about.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0+cpu\n")
    sys.path.insert(0, str(SOURCE))
    os.environ["PYTHONPATH"] = str(SOURCE)  # of the processes in which it inspects classes
    import torch
    import torch._ops

    torch.accelerator.empty_cache = lambda *args, **kwargs: None
    import vllm.model_executor.models.llama  # noqa: F401  before operations are stubbed

    real = torch._ops._OpNamespace.__getattr__

    def lookup(self, name):
        try:
            return real(self, name)
        except AttributeError:
            if self.name.startswith("_C") and not name.startswith("__"):
                return Stub()
            raise

    torch._ops._OpNamespace.__getattr__ = lookup
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_num_threads(1)


def built(folder):
    """The model of a folder with its weights."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    wish = EngineArgs(
        model=str(folder), skip_tokenizer_init=True, enforce_eager=True, max_model_len=64,
        dtype="float32",
    )
    config = wish.create_engine_config()
    with set_current_vllm_config(config):
        if not torch.distributed.is_initialized():
            init_distributed_environment(1, 0, f"file:///tmp/ask-vllm-{os.getpid()}", 0, "gloo")
            initialize_model_parallel(1, 1)
        return get_model(vllm_config=config)


def matrix(model, folder):
    """Which tensor of the files the head is, bit for bit: `FILE:NAME`, or None."""
    import torch
    from safetensors.torch import load_file

    head = getattr(model, "lm_head", None)
    head = getattr(head, "weight", None) if head is not None else None
    if head is None:
        head = next(p for n, p in model.named_parameters() if "embed_tokens" in n or "wte" in n)
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if tensor.shape == head[: len(tensor)].shape and torch.equal(
                tensor, head[: len(tensor)]
            ):
                return f"{file.name}:{name}"
    return None


def tables(model):
    """The rotary table of each layer at one position: cosines, then sines."""
    found = []
    for layer in getattr(getattr(model, "model", None), "layers", ()):
        rotary = getattr(getattr(layer, "self_attn", None), "rotary_emb", None)
        for name in ("cos_sin_cache", "long_short_cos_sin_cache"):
            if (cache := getattr(rotary, name, None)) is not None:
                found.append([round(v, 3) for v in cache[POSITION].float().tolist()])
                break
    return found


def load(folder):
    """What happened to one folder."""
    import torch

    try:
        model = built(folder)
    except BaseException as e:
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    lost = [
        name
        for name, values in model.named_parameters()
        # weights of experts are packed by compiled code, which is not there
        if ".experts.w" not in name and torch.isnan(values.float()).any()
    ]
    return {
        "loaded": True, "step": None, "unread": lost, "matrix": matrix(model, folder),
        "tables": tables(model),
    }  # fmt: skip


def one_process(folders):
    """Judge folders here."""
    prepare()
    for folder in map(Path, folders):
        print("\n" + json.dumps({"fixture": folder.name, **load(folder)}), flush=True)
    os._exit(0)


def main():
    """Judge models of experts in one process, the others in another."""
    if sys.argv[1] == "--these":
        one_process(sys.argv[2:])
    folders = sys.argv[1:]
    experts = [f for f in folders if "expert" in (Path(f) / "config.json").read_text()]
    for part in (experts, [f for f in folders if f not in experts]):
        while part:
            child = subprocess.Popen(
                [sys.executable, __file__, "--these", *part], stdout=subprocess.PIPE, text=True
            )
            for line in child.stdout:
                if line.startswith('{"fixture"'):
                    print(line, end="", flush=True)
                    part = part[1:]
            if child.wait() and part:
                name = Path(part.pop(0)).name
                error = f"the process ended with code {child.returncode}"
                print(json.dumps({"fixture": name, "loaded": None, "error": error}), flush=True)


main()
