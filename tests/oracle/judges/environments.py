"""The judges and the environments they run in: created once, then used offline.

    python -m tests.oracle.judges.environments            create all of them
    python -m tests.oracle.judges.environments mlx-lm-0.32.2 mistralrs-0.9.5
    python -m tests.oracle.judges.environments --list

They live in the folder that TIDOCTOR_JUDGES names, or in ~/.cache/tidoctor-judges. An environment
that was interrupted is taken up again; one whose requirements changed is made anew beside the old.
All of them together take about 9 GB, those without torch 0.7 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
# torch is pinned for the judges as for the tests: its CPU build, the same arithmetic everywhere.
TORCH = "torch==2.13.0"
READY = "ready.json"


@dataclass(frozen=True)
class Judge:
    """A program in one version: what to install and which script talks to it."""

    consumer: str  # its name among the loaders of tidoctor
    version: str
    script: str
    requirements: tuple[str, ...]
    source: tuple[str, str] | None = None  # an sdist, and the folder of it that the script needs

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.script}-{self.version}"

    @property
    def file(self) -> Path:
        """The script, which runs inside the environment."""
        return SCRIPTS / f"ask_{self.script.replace('-', '_')}.py"


def _transformers(version: str, *more: str) -> Judge:
    pins = (TORCH, f"transformers=={version}", *more)
    return Judge("transformers", version, "transformers", pins)


def _mistralrs(version: str) -> Judge:
    # none before 0.3.2, which have no wheels; 0.6.0 uses instructions that not every machine has
    return Judge("mistral.rs", version, "mistralrs", (f"mistralrs=={version}",))


def _vllm(version: str) -> Judge:
    # its source without the compiled part; what it requires itself is read from the source
    pins = (TORCH, "transformers==5.23.0", "uvloop==0.22.1", "setuptools-scm", "setuptools-rust")
    return Judge("vllm", version, "vllm", pins, (f"vllm=={version}", "."))


JUDGES = (
    _mistralrs("0.3.2"),
    _mistralrs("0.5.0"),
    _mistralrs("0.6.0"),
    _mistralrs("0.9.0"),
    _mistralrs("0.9.5"),
    Judge("mlx-lm", "0.32.2", "mlx-lm", ("mlx[cpu]==0.32.4", "mlx-lm==0.32.2")),
    _transformers("4.44.2", "numpy<2"),
    _transformers("4.51.3"),
    _transformers("4.57.6"),
    _transformers("5.0.0"),
    _transformers("5.23.0"),
    Judge(
        "mergekit", "0.0.5", "mergekit",
        (TORCH, "mergekit==0.0.5", "transformers==4.44.2", "peft==0.11.1", "numpy<2"),
    ),
    Judge(
        "llama.cpp", "2026-10", "llama-cpp",
        (TORCH, "transformers==4.57.6", "sentencepiece==0.2.1", "protobuf==4.25.8",
         "xllamacpp==2026.10.11549"),
        ("llama-cpp-python==0.3.36", "vendor/llama.cpp"),
    ),
    Judge("mergekit", "0.1.5", "mergekit", (TORCH, "mergekit==0.1.5")),
    _vllm("0.21.0"),
)


def judges(names: list[str] | None = None) -> list[Judge]:
    """The judges of these names, or all. Raises KeyError naming those there are."""
    table = {judge.name: judge for judge in JUDGES}
    for name in names or []:
        if name not in table:
            raise KeyError(f"no judge {name}; there are {', '.join(table)}")
    return [table[name] for name in names or table]


def home() -> Path:
    """Where the environments live."""
    named = os.environ.get("TIDOCTOR_JUDGES")
    return Path(named) if named else Path.home() / ".cache" / "tidoctor-judges"


def folder(judge: Judge, *, beside: bool = False) -> Path:
    """The environment of a judge, which need not exist; other requirements, another folder."""
    said = "\n".join([*judge.requirements, *(judge.source or ()), *([sys.prefix] * beside)])
    return home() / f"{judge.name}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _here(judge: Judge) -> bool:
    """Whether the interpreter that runs this has what the judge requires, to the version."""
    return all(map(_installed, judge.requirements))


def _installed(requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    try:
        installed = metadata.version(name.partition("[")[0])
    except metadata.PackageNotFoundError:
        return False
    return installed.partition("+")[0] == version


def python(judge: Judge) -> Path | None:
    """The interpreter that has what a judge requires, or None: this one, or a finished one."""
    if _here(judge):
        return Path(sys.executable)
    place = folder(judge)
    return place / "bin" / "python" if (place / READY).is_file() else None


def create(judge: Judge, *, beside: bool = False) -> Path:
    """The interpreter of a judge, whose environment is made when it is not there.

    `beside` lets a judge that needs torch look into the environment that runs this, when that has
    the torch in question, instead of installing another gigabyte.

    Raises subprocess.CalledProcessError when the installation fails.
    """
    if (ready := python(judge)) is not None:
        return ready
    beside = beside and TORCH in judge.requirements and _installed(TORCH)
    place = folder(judge, beside=beside)
    if (place / READY).is_file():
        return place / "bin" / "python"
    if not (place / "bin" / "python").exists():
        venv.create(place, with_pip=True)
    interpreter = place / "bin" / "python"
    if beside:
        (packages,) = place.glob("lib/python*/site-packages")
        (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-compile", *judge.requirements], check=True
    )
    if judge.source:
        _fetch(pip, *judge.source, place / "source")
        further = place / "source" / "requirements" / "common.txt"
        if further.exists():
            with_these = ["-r", str(further), *judge.requirements]
            subprocess.run([*pip, "install", "--quiet", "--no-compile", *with_these], check=True)
    frozen = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    unfinished = place / "ready.tmp"
    unfinished.write_text(json.dumps({"packages": frozen.split("\n")}, indent=1))
    unfinished.rename(place / READY)  # last, so that an interrupted one is never taken as ready
    return interpreter


def _fetch(pip: list[str], sdist: str, inner: str, to: Path) -> None:
    """Unpack the Python files below a folder of an sdist, and what its common.txt requires."""
    name, _, version = sdist.partition("==")
    inner = "" if inner == "." else f"{inner}/"
    with tempfile.TemporaryDirectory() as place:
        only = ["--no-deps", "--no-binary", name, "--dest", place]
        # of vLLM, pip asks for the metadata before it keeps the archive: with torch, in no variant
        told = {"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": version}
        only += ["--no-build-isolation"] * (name == "vllm")
        command = [*pip, "download", "--quiet", *only, sdist]
        subprocess.run(command, check=True, env=os.environ | told)
        (archive,) = Path(place).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            for member in tar:
                path = member.name.partition("/")[2]
                wanted = path.endswith((".py", "requirements/common.txt"))
                if member.isfile() and path.startswith(inner) and wanted:
                    member.name = path.removeprefix(inner)
                    tar.extract(member, to, filter="data")


def main() -> int:
    """Create environments; 1 when one could not be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="judges; all when none is named")
    parser.add_argument("--list", action="store_true", help="say which there are and are ready")
    given = parser.parse_args()
    try:
        wanted = judges(given.names)
    except KeyError as e:
        parser.error(str(e.args[0]))
    if given.list:
        for judge in wanted:
            print(f"{judge.name:24}{'ready' if python(judge) else 'missing'}")
        return 0
    failed = 0
    for judge in wanted:
        began = time.monotonic()
        try:
            create(judge)
        except (subprocess.CalledProcessError, OSError) as e:
            failed += 1
            print(f"{judge.name}: {e}", file=sys.stderr)
            continue
        print(f"{judge.name:24}ready after {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
