"""A stand-in for the Hugging Face Hub on this machine, for the unmodified huggingface_hub client.

It serves model repositories made of bytes or of virtual files of any size, sends large files to a
CDN on another origin (the same port under another host name, so that every client sees two), keeps
a log of all requests, and has faults on demand. `python -m tests.fakehub` runs it by itself.

Not covered: Xet transfers (run clients with HF_HUB_DISABLE_XET=1), datasets, spaces, OAuth.
"""

from __future__ import annotations

from fakehub.contents import Bytes, Content, Virtual, safetensors
from fakehub.faults import Fault
from fakehub.repos import Repo
from fakehub.server import FakeHub, Request

__all__ = ["Bytes", "Content", "FakeHub", "Fault", "Repo", "Request", "Virtual", "safetensors"]
