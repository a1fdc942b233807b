"""The command of `tidoctor.atlas.learner`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import tidoctor.atlas.learner
from tidoctor.atlas.learner.older import ask_v4, print_v4
from tidoctor.atlas.learner.table import finished, learn_all, one_line_each

DATA = Path(__file__).parent.with_name("families.json")


def main() -> None:
    """Learn everything and write families.json; classes left out are listed on stderr."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    about = (tidoctor.atlas.learner.__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--transformers4", metavar="PYTHON", help="interpreter with 4.57")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", metavar="REGEX", help="a trial with some classes")
    parser.add_argument("--output", type=Path, default=DATA)
    parser.add_argument("--print-v4", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.print_v4:
        print_v4()
        return
    v4 = ask_v4(arguments.transformers4)
    learned, left_out = learn_all(arguments.workers, arguments.only)
    arguments.output.write_text(one_line_each(finished(learned, v4)), encoding="ascii")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(f"{len(learned)} classes learned, {len(left_out)} left out", file=sys.stderr)


if __name__ == "__main__":
    main()
