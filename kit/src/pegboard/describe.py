"""`python -m pegboard.describe --project DIR`: print what a project declares, as one JSON document.

The runtime runs it inside the server's isolation, because reading a project's tools means running its code.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pegboard.core.errors import PegboardError
from pegboard.project import load_project


def main() -> int:
    """Print the declaration on stdout; exit status 2 and a message on stderr when the project does not fit."""
    parser = argparse.ArgumentParser(prog="pegboard.describe", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder with pegboard.toml")
    arguments = parser.parse_args()
    # The document alone may reach stdout: whatever the author's module prints goes to stderr.
    document_fd = os.dup(1)
    os.dup2(2, 1)
    try:
        project = load_project(arguments.project)
    except PegboardError as error:
        print(error, file=sys.stderr)
        return 2
    with os.fdopen(document_fd, "w", encoding="utf-8") as stdout:
        stdout.write(project.declaration.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
