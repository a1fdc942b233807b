"""The five incidents in every format, on terminals of several widths, on pipes and in ASCII."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.snapshots import FORMATS, INCIDENTS, PLACE, ROOT, run, snapshot
from tidoctor.demo import write_incidents

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
CODES = [1, 0, 1, 1, 0]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic")
    write_incidents(folder)
    return folder


@pytest.fixture(autouse=True)
def there(clinic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clinic)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_tells_the_incidents_as_it_did(format_: str) -> None:
    assert snapshot(format_) == (PLACE / f"{format_}.txt").read_text(encoding="utf-8"), (
        "python tests/snapshots.py writes them anew"
    )


@pytest.mark.parametrize(("line", "code"), list(zip(INCIDENTS, CODES, strict=True)))
def test_exit_codes_are_the_same_in_every_format(line: str, code: int) -> None:
    assert [run(f"{line} --format {f}")[0] for f in FORMATS] == [code] * len(FORMATS)


def command(*arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name in ("NO_COLOR", "FORCE_COLOR", "TIDOCTOR_FORMAT", "COLUMNS", "GITHUB_STEP_SUMMARY"):
        environment.pop(name, None)
    return [sys.executable, "-m", "tidoctor", *arguments], environment


def on_terminal(width: int, *arguments: str) -> str:
    """What a terminal of this width receives."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    line, environment = command(*arguments)
    environment |= {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    running = subprocess.Popen(line, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    received = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        received += part
    os.close(ours)
    assert running.wait(timeout=60) == 1
    return received.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text_is_the_same_at_every_width(width: int) -> None:
    arguments = INCIDENTS[2].split()
    text = on_terminal(width, *arguments)
    assert "\x1b[1;31merror\x1b[0m" in text
    bare = _ANSI.sub("", text)
    assert bare == run(" ".join(arguments))[1]  # nothing cut, nothing broken, no boxes
    assert not set("│┃─━╭╮╯╰┏┓┗┛") & set(bare)
    # What has to be found at a glance stands within the narrowest width.
    for line in bare.splitlines():
        assert not re.match(r" {2}\S", line) or len(line.split("  ")[1]) < 24


@pytest.mark.parametrize("format_", FORMATS)
def test_a_pipe_gets_no_escape_codes(format_: str) -> None:
    line, environment = command(*INCIDENTS[0].split(), "--format", format_)
    done = subprocess.run(line, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout and b"\x1b" not in done.stdout


@pytest.mark.parametrize("format_", FORMATS)
def test_a_stream_of_ascii_gets_ascii(format_: str) -> None:
    line, environment = command(*INCIDENTS[2].split(), "--format", format_)
    environment |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(line, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"")
    text = done.stdout.decode("ascii")
    assert "base-class-saved" in text
    if format_ in ("json", "sarif"):
        assert json.loads(text)
