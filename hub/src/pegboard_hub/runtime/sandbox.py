"""A server's view of the machine under bubblewrap: what is in it, and nothing else (bwrap(1))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pegboard_hub.runtime.launching import LAUNCH_SCRIPT

INNER_LAUNCH = Path("/run/pegboard/launch.py")
"""Where the launch script is inside a sandbox."""

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl", "/etc/ca-certificates")
_ETC_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
_TMP_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class View:
    """What one sandbox holds beside the operating system's own programs and libraries.

    Attributes:
        readable: files and folders that are there, read-only.
        writable: folders that are there and may be changed.
        network: whether it has the machine's whole network, which no author's code has.
        egress: `host:port` pairs that it reaches, each of them and nothing else.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    network: bool = False
    egress: tuple[str, ...] = ()


def bwrap_arguments(bwrap: Path, view: View, becomes_user: bool) -> list[str]:
    """The command line up to the command that runs inside.

    Args:
        bwrap: the program.
        view: what is inside.
        becomes_user: the command inside changes to the server's own user, and needs that right for a moment.
    """
    arguments = [str(bwrap), "--die-with-parent", "--new-session"]
    arguments += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    if becomes_user:
        arguments += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user"]
    if view.egress:
        # Until its listeners are there: `launch.py` gives both up before the author's code runs.
        arguments += ["--cap-add", "CAP_NET_BIND_SERVICE", "--cap-add", "CAP_NET_ADMIN"]
        # The network is root's of the sandbox's own user namespace, which is nobody's outside.
        arguments += [] if becomes_user else ["--cap-add", "CAP_SETFCAP", "--uid", "0", "--gid", "0"]
    if not view.network:
        arguments += ["--unshare-net"]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/usr", "/usr", *_system(view.network)]
    arguments += ["--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    arguments += _parents([*view.readable, *view.writable, INNER_LAUNCH])
    arguments += _pairs("--ro-bind", view.readable)
    arguments += _pairs("--bind", view.writable)
    return [*arguments, "--ro-bind", str(LAUNCH_SCRIPT), str(INNER_LAUNCH), "--"]


def python_folders(python: Path) -> list[Path]:
    """Folders outside /usr that environments made from `python` need: where it lives.

    Asked of the interpreter that the operator has, never of an environment: what is installed into one can change
    what the environment says of itself.
    """
    prefixes = {python.parent.parent, python.resolve().parent.parent}
    return sorted(prefix for prefix in prefixes if prefix not in {Path("/"), Path("/usr")})


def _system(network: bool) -> Iterator[str]:
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.exists():
            yield from ("--ro-bind", name, name)
    yield from ("--perms", "0755", "--dir", "/etc")  # made by itself, it would be closed to a server's own user
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        yield from ("--ro-bind-try", name, name)


def _pairs(option: str, paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from (option, str(path), str(path))


def _parents(paths: Iterable[Path]) -> Iterator[str]:
    """Name every folder on the way: those that bubblewrap makes by itself are closed to a server's own user."""
    folders = {parent for path in paths for parent in path.parents if parent != Path("/")}
    for folder in sorted(folders):
        yield from ("--perms", "0755", "--dir", str(folder))
