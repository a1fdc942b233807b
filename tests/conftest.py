"""Makes the builders beside the tests importable, and gives every test a Hub on this machine.

The client reads its endpoint once, when it is imported. So the stand-in has its port before
anything is imported, and no test, not even one with a misspelt path, ever asks the real Hub.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakehub import FakeHub

_HOME = tempfile.mkdtemp(prefix="tidoctor-hub-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
_HUB = FakeHub()
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(_name, None)
os.environ |= {
    "HF_ENDPOINT": _HUB.url,
    "HF_HOME": _HOME,
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@pytest.fixture(scope="session", autouse=True)
def _serving() -> Iterator[None]:
    with _HUB:
        yield


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """The stand-in, empty; with an empty cache."""
    from huggingface_hub import constants

    assert _HUB.url == constants.ENDPOINT
    _HUB.clear()
    yield _HUB
    _HUB.clear()
    _let_go()
    for name in ("hub", "token"):
        shutil.rmtree(Path(_HOME, name), ignore_errors=True)
        Path(_HOME, name).unlink(missing_ok=True)


def _let_go() -> None:
    """Wait for threads that still ask for what a test has given up: the next one counts requests.

    With the stand-in empty they get nothing, and soon end.
    """
    from tidoctor.source.distant import Team

    runs = (getattr(thread, "_target", None) for thread in threading.enumerate())
    teams = {id(t): t for run in runs if isinstance(t := getattr(run, "__self__", None), Team)}
    end = time.monotonic() + 20
    while any(team.busy for team in teams.values()) and time.monotonic() < end:
        time.sleep(0.005)
