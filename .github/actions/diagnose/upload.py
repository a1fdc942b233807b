"""Print the body of GitHub's request "Upload an analysis as SARIF data" for a file.

https://docs.github.com/rest/code-scanning/code-scanning#upload-an-analysis-as-sarif-data
"""

import base64
import gzip
import json
import os
import sys
from pathlib import Path

MOST = 20  # runs that GitHub takes in one file


def body(data: bytes) -> dict[str, str]:
    """The request for one SARIF file."""
    runs = len(json.loads(data)["runs"])
    if runs > MOST:
        sys.exit(f"::error::{runs} checkpoints are more than the {MOST} that code scanning takes")
    return {
        "commit_sha": os.environ["GITHUB_SHA"],
        "ref": os.environ["GITHUB_REF"],
        "sarif": base64.b64encode(gzip.compress(data, mtime=0)).decode(),
    }


if __name__ == "__main__":
    print(json.dumps(body(Path(sys.argv[1]).read_bytes())))
