"""Run the stand-in by itself: `python -m tests.fakehub [PORT] [FOLDER]`.

FOLDER holds repositories as ORG/NAME folders; the address goes to standard output.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakehub import FakeHub

if __name__ == "__main__":
    hub = FakeHub(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for folder in sorted(Path(sys.argv[2]).glob("*/*")) if len(sys.argv) > 2 else ():
        files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        hub.repo(f"{folder.parent.name}/{folder.name}", files)
    with hub:
        print(hub.url, flush=True)
        threading.Event().wait()
