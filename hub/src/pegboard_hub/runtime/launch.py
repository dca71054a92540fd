"""The last step before a child process becomes what it is for: limits, credentials, its tie to the supervisor, exec.

Run as `python -I -S launch.py SETTINGS -- COMMAND…`; SETTINGS is the JSON of `launching.Launch` and holds no secret.
Needs the standard library alone: it also runs inside a server's sandbox, with that server's Python.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNET = 0x40000000

CANNOT_LAUNCH = 125
"""Exit status when a step failed; as with `env` and `timeout`, the command itself never ran."""


def main(arguments: list[str]) -> None:
    """Apply the settings and become the command.

    Raises:
        OSError: a step failed; nothing was started.
    """
    settings = json.loads(arguments[0])
    command = arguments[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    for group in settings["groups"]:
        with open(group, "w") as file:  # noqa: PTH123 - the standard library's quickest
            file.write("0")
    if settings["nice"]:
        os.nice(settings["nice"])
    for name, value in settings["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if settings["close_network"]:
        _call(libc.unshare(CLONE_NEWNET), "unshare the network")
    if settings["uid"] is not None:
        _become(settings["uid"], settings["gid"])
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    _tie_to_parent(libc, settings["parent"])
    os.umask(settings["umask"])
    if settings["folder"]:
        os.chdir(settings["folder"])
    os.execv(command[0], command)  # noqa: S606 - the command was built from a list by the supervisor


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _tie_to_parent(libc: Any, parent: int) -> None:
    """Die when the supervisor does. After the change of user, which clears the tie (prctl(2))."""
    _call(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "tie to the supervisor")
    if parent and os.getppid() != parent:
        sys.exit(CANNOT_LAUNCH)  # the supervisor died before the tie held


def _call(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"cannot {what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"launch: {error}", file=sys.stderr)
        sys.exit(CANNOT_LAUNCH)
