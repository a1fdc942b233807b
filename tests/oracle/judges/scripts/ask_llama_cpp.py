"""llama.cpp as a judge: `python ask_llama_cpp.py FOLDER …`, one JSON line per folder.

A folder is converted by convert_hf_to_gguf.py, whose source lies beside the environment, and the
result loaded by the runtime in a process of its own. Only the vocabulary is not the converter's
choice: every class writes that of tokenizer.json, because the fixtures have no SentencePiece model
and a tokenizer whose hash no converter knows. The text that a greedy generation adds to `abc` tells
the head: `cccc` is the embedding's answer, `defg` the head's own.
"""

import os
import signal
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="0")

import json
import logging
from pathlib import Path

SOURCE = Path(sys.prefix) / "source"
PROBE = "abc"
SECONDS = 60


class Errors(logging.Handler):
    """What the converter logs as an error before it ends."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def vocabulary(self):
    """The tokens of tokenizer.json; the runtime insists on a merge, so it gets an idle one."""
    self._set_vocab_gpt2()
    self.gguf_writer.add_token_merges(["Ġ Ġ"])


def subclasses(parent):
    """All classes derived from one."""
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


def converter():
    """The converter's `main`, with the vocabulary taken out of its hands."""
    sys.path[:0] = [str(SOURCE), str(SOURCE / "gguf-py")]
    import convert_hf_to_gguf
    from conversion.base import TextModel

    def get_model_class(*args, **kwargs):
        found = original(*args, **kwargs)
        found.set_vocab = vocabulary
        return found

    original = convert_hf_to_gguf.get_model_class
    convert_hf_to_gguf.get_model_class = get_model_class
    TextModel.get_vocab_base_pre = lambda self, tokenizer: "default"
    return convert_hf_to_gguf.main


def generate(file):
    """What the runtime makes of a converted file; runs in a process of its own."""
    import xllamacpp

    wish = xllamacpp.CommonParams()
    wish.model.path, wish.n_ctx, wish.cpuparams.n_threads = file, 64, 1
    server = xllamacpp.Server(wish)
    found = server.handle_completions(
        {"prompt": PROBE, "n_predict": 4, "temperature": 0, "top_k": 1, "n_probs": 1}
    )
    found = json.loads(found) if isinstance(found, str) else found
    choice = found["choices"][0]
    logs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
    return {"text": choice["text"], "logs": logs}


def load(folder, convert, file):
    """What happened to one folder."""
    # a name of its own, because the runtime treats one that contains `phi3` in another way
    sys.argv = [
        "convert", str(folder), "--outfile", str(file), "--outtype", "f32", "--model-name", "tiny",
    ]
    errors = Errors()
    logging.getLogger("hf-to-gguf").addHandler(errors)
    try:
        convert()
    except SystemExit:
        return {"loaded": False, "error": (errors.lines or ["it ended without a word"])[-1]}
    except Exception as e:
        return {"loaded": False, "error": f"{type(e).__name__}: {e}"}
    finally:
        logging.getLogger("hf-to-gguf").removeHandler(errors)
    try:
        child = subprocess.run(
            [sys.executable, __file__, "--one", str(file)], capture_output=True, text=True,
            timeout=SECONDS, errors="replace",
        )
    except subprocess.TimeoutExpired:
        return {"loaded": None, "error": f"no answer within {SECONDS} s"}
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"text"')]
    if not lines:
        return died(child)
    said = json.loads(lines[-1])
    text = said["text"][:4]
    steps = {ord(b) - ord(a) for a, b in zip(PROBE[-1] + text, text, strict=False)}
    return {
        "loaded": True,
        "step": steps.pop() if len(steps) == 1 and len(text) == 4 else None,
        "answer": [round(value, 4) for value in said["logs"][:4]],
    }


def died(child):
    """The runtime's error; a process that ended otherwise says nothing of the folder."""
    said = "error loading model: "
    errors = [line.split(said, 1)[1] for line in child.stderr.splitlines() if said in line]
    # the vocabulary is ours, not that of a checkpoint; Gemma 3 is cut to the tokens that it has
    ours = ("vocabulary", "'token_embd.weight' has wrong shape")
    if errors and any(text in errors[-1] for text in ours):
        return {"loaded": None, "error": errors[-1]}
    if errors:
        return {"loaded": False, "error": f"error loading model: {errors[-1]}"}
    code = child.returncode
    name = signal.Signals(-code).name if code < 0 else f"code {code}"
    if name not in ("SIGABRT", "SIGSEGV"):
        raise RuntimeError(f"ended with {name}: {child.stderr.strip()[-1000:]}")
    return {"loaded": True, "error": f"the process was ended by {name}"}


def main():
    """Judge each folder."""
    if sys.argv[1] == "--one":
        print("\n" + json.dumps(generate(sys.argv[2])), flush=True)
        os._exit(0)
    folders, convert = [Path(arg) for arg in sys.argv[1:]], converter()
    for folder in folders:
        with tempfile.TemporaryDirectory() as place:
            said = load(folder, convert, Path(place) / "model.gguf")
        print(json.dumps({"fixture": folder.name, **said}), flush=True)


main()
