"""The entry point: what `python -m tidoctor` and the script call."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from tidoctor import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def script() -> NoReturn:
    """Run the command line of this process, and end it."""
    gc.disable()  # for good: it would look through all that is read, for longer than reading takes
    code = main()
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        # Everything is written and closed. To take the interpreter apart, object by object, would
        # cost an eighth of most commands.
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:  # answered before anything that takes time to import
        return _version()
    from tidoctor.process import carry_out

    return carry_out(arguments)


def _version() -> int:
    try:
        print(f"tidoctor {__version__}", flush=True)
    except OSError:  # nobody reads: that is no failure, and must not be told at exit either
        from tidoctor.process import flush

        flush()
    return 0


if __name__ == "__main__":
    script()
