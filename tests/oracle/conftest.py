"""What the suites against the real transformers share. Run as `pytest tests/oracle`.

They need torch and transformers (the extra `oracle`); without them the run fails, because a proof
that did not happen is none. Nothing is downloaded: models are tiny, random and built from configs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported, which reads it once

NEEDED = ("torch", "transformers", "safetensors")


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run with a sentence when the reference libraries are missing."""
    missing = []
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as e:
            missing.append(f"{name} ({e})")
    if missing:
        raise pytest.UsageError(
            f"tests/oracle needs {', '.join(missing)}: pip install 'tidoctor[oracle]'"
        )
    _quiet()


def _quiet() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)  # tiny matrices; more threads only cost time
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`saved(variant)`: the folder of a variant, written at the first call. Never change it."""
    from tests.oracle.models import Variant, write

    root = tmp_path_factory.mktemp("saved")

    def folder(variant: Variant) -> Path:
        place = root / str(variant)
        return place if place.exists() else write(variant, place)

    return folder


@pytest.fixture(scope="session")
def bare(
    saved: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`bare(variant)`: the same model opened with AutoModel, which has no head, and saved."""
    from transformers import AutoModel

    from tests.oracle.models import Variant, save

    root = tmp_path_factory.mktemp("bare")

    def folder(variant: Variant) -> Path:
        place = root / str(variant)
        if not place.exists():
            save(AutoModel.from_pretrained(saved(variant)), place, sharded=variant.sharded)
        return place

    return folder
