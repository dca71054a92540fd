"""The last step before a child process becomes what it is for: limits, credentials, its tie to the supervisor, exec.

Run as `python -I -S launch.py SETTINGS -- COMMAND…`; SETTINGS is the JSON of `launching.Launch` and holds no secret.
Needs the standard library alone: it also runs inside a server's sandbox, with that server's Python.
"""

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C

HANDS_OVER = "LAUNCH_HANDS_OVER"
"""The descriptor that listeners are handed over by, through the sandbox; gone before the command runs."""

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
    if settings["relay"]:
        _start_relay(settings["relay"])
    if settings["close_network"]:
        _call(libc.unshare(CLONE_NEWNET), "unshare the network")
    if settings["ways"]:
        _open_ways(libc, settings["ways"])
        if settings["uid"] is None:
            _be_nobody_special(libc, *settings["ids"])
    if settings["uid"] is not None:
        _become(settings["uid"], settings["gid"])
    _call(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    _tie_to_parent(libc, settings["parent"])
    os.umask(settings["umask"])
    if settings["folder"]:
        os.chdir(settings["folder"])
    os.execv(command[0], command)  # noqa: S606 - the command was built from a list by the supervisor


def _start_relay(relay: dict[str, Any]) -> None:
    """Start `relay.py` beside us, in no family of ours and with nothing of what we know, and keep a way to it."""
    ours, its = socket.socketpair()
    sandbox = os.pidfd_open(os.getpid())
    if child := os.fork():
        os.waitpid(child, 0)
        os.close(sandbox)
        ours.set_inheritable(True)
        os.environ[HANDS_OVER] = str(ours.detach())
        return
    try:
        if os.fork() == 0:
            high = [fcntl.fcntl(each, fcntl.F_DUPFD, 64) for each in (its.fileno(), sandbox)]
            for number, each in enumerate(high, 3):
                os.dup2(each, number)
            os.closerange(5, os.sysconf("SC_OPEN_MAX"))
            os.chdir("/")
            command = [sys.executable, "-I", "-S", relay["script"], json.dumps(relay["settings"])]
            os.execve(command[0], command, {})  # noqa: S606 - as below
    finally:
        os._exit(CANNOT_LAUNCH)


def _open_ways(libc: Any, ways: list[dict[str, Any]]) -> None:
    """Have what the server may reach listen on its loopback, and hand the listeners over to `relay.py`."""
    way = socket.socket(fileno=int(os.environ.pop(HANDS_OVER)))
    hosts = {each["host"]: each["address"] for each in ways if each["host"] != each["address"]}
    lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{address} {host}" for host, address in hosts.items())]
    for name, text in (("hosts", "\n".join(lines)), ("nsswitch.conf", "hosts: files")):
        with open(f"/etc/{name}", "w") as file:  # noqa: PTH123 - as above
            file.write(f"{text}\n")
        os.chmod(f"/etc/{name}", 0o644)  # noqa: PTH101 - everybody in the sandbox reads it
    for number, address in enumerate(dict.fromkeys(each["address"] for each in ways)):
        _have_address(number, address)
    for each in ways:
        with socket.socket(socket.AF_INET6 if ":" in each["address"] else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((each["address"], each["port"]))
            except OSError as error:
                place = f"{each['host']}:{each['port']}"
                raise OSError(error.errno, f"cannot have egress to {place} listen: {error.strerror}") from error
            listener.listen(128)
            socket.send_fds(way, [b"."], [listener.fileno()])
    way.close()
    _call(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "give up capabilities")


def _be_nobody_special(libc: Any, uid: int, gid: int) -> None:
    """Be the user again that we are outside: root of the sandbox only made its network."""
    _call(libc.unshare(CLONE_NEWUSER), "leave root of the sandbox")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - as above
            file.write(text)


def _have_address(number: int, address: str) -> None:
    """Have loopback answer for an address (netdevice(7)); it does for those of 127.0.0.0/8 and ::1 as it is."""
    if address.startswith("127.") or address == "::1":
        return
    if ":" in address:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asked:
            packed = socket.inet_pton(socket.AF_INET6, address)
            fcntl.ioctl(asked, SIOCSIFADDR, struct.pack("=16sIi", packed, 128, socket.if_nametoindex("lo")))
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        name = f"lo:{number}".encode()
        for what, said in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
            fcntl.ioctl(asked, what, struct.pack("=16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(said)))


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
