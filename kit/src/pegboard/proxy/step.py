"""The last step before a backend runs: limits, no way to new rights, its tie to the proxy, exec.

Run as `python -I -S step.py SETTINGS -- COMMAND…`. Needs the standard library alone, as it runs inside the backend's
sandbox.
"""

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

CANNOT_LAUNCH = 125
"""Exit status when a step failed; the command itself never ran."""


def main(arguments: list[str]) -> None:
    """Apply the settings and become the command.

    Raises:
        OSError: a step failed; nothing was started.
    """
    settings = json.loads(arguments[0])
    command = arguments[2:]
    for name, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, settings["processes"])):
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.closerange(3, 65_536)
    os.execvp(command[0], command)  # noqa: S606 - a list, never a shell


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"{sys.argv[3] if len(sys.argv) > 3 else 'backend'}: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT_LAUNCH)
