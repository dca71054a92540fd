"""A stand-in for a node: pods as processes, each in a network of its own with an address of its own, as the user that
its manifest says, with the very commands, variables, mounts and probes. Linux's namespaces make it (root is needed).

What it is not: a kubelet. No limits, no seccomp, no policy is enforced, and what the image has is this clone's.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from pegboard_hub.common.no_tls import NO_TLS
from pegboard_hub.runtime import preflight

Json = dict[str, Any]

VOLUMES = (("configMap", "name"), ("secret", "secretName"), ("persistentVolumeClaim", "claimName"))
"""Kinds of volumes that somebody else filled, each with the field that names it."""

UNMASKED = ("sh", "-c", 'mount -t proc proc /proc && exec "$@"', "sh")
"""Puts a whole /proc over the one in which bubblewrap covers places, as a container's runtime does."""

REPOSITORY = Path(__file__).parents[2]
SETTLE_S = 420


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def possible() -> bool:
    """Whether this machine lets a test make networks."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "bwrap", "setpriv"))):
        return False
    name = f"pgb{os.getpid()}t"
    try:
        run("ip", "link", "add", name, "type", "bridge")
        run("ip", "link", "del", name)
    except subprocess.CalledProcessError:
        return False
    return True


class Node:
    """Pods on a network of their own, which this machine is on as well.

    Args:
        folder: of volumes and logs.
        trust_domain: of the pods' identities.

    Attributes:
        variables: of every container, as the cluster gives them.
    """

    def __init__(self, folder: Path, trust_domain: str) -> None:
        self.folder = folder
        self.trust_domain = trust_domain
        command = [sys.executable, "-m", "tests.system.workload_process", str(folder / "ca"), trust_domain]
        self._identities = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
        self.variables: dict[str, str] = {}
        self.bridge = f"pgb{os.getpid()}"
        self.network = f"10.251.{os.getpid() % 250}"
        self.address = f"{self.network}.1"
        self.pods: dict[str, Pod] = {}
        self._numbers: dict[str, int] = {}
        self._etc()
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def _etc(self) -> None:
        etc = self.folder / "etc"
        etc.mkdir(parents=True)
        users = "".join(f"u{uid}:x:{uid}:65530::/:/bin/false\n" for uid in range(65530, 65534))
        (etc / "passwd").write_text(f"root:x:0:0::/:/bin/sh\n{users}")
        (etc / "group").write_text("root:x:0:\npegboard:x:65530:\n")
        (etc / "nsswitch.conf").write_text("hosts: files\n")
        (etc / "resolv.conf").write_text("")
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        for name in ("ssl", "pegboard"):
            (etc / name).mkdir()
        shutil.copy("/etc/ld.so.cache", etc / "ld.so.cache")

    def identify(self, socket: Path, who: str) -> None:
        """Serve a Workload API that says who asks there."""
        served = self._identities
        assert served.stdin is not None
        assert served.stdout is not None
        served.stdin.write(json.dumps({"socket": str(socket), "who": who}).encode() + b"\n")
        served.stdin.flush()
        assert served.stdout.readline()

    def name(self, host: str, address: str) -> None:
        """What the cluster's DNS says."""
        hosts = self.folder / "etc" / "hosts"
        if (line := f"{address} {host}\n") not in hosts.read_text():
            with hosts.open("a") as file:
                file.write(line)

    def new_network(self, pod: str) -> tuple[str, str]:
        """A network namespace, and its address: a pod in another's place has that, as a Service's stays the same."""
        number = self._numbers.setdefault(pod, len(self._numbers) + 2)
        namespace, address = f"{self.bridge}-{number}", f"{self.network}.{number}"
        wire = f"{self.bridge}v{number}"
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", wire, "type", "veth", "peer", "name", "e0", "netns", namespace)
        run("ip", "link", "set", wire, "master", self.bridge, "up")
        inside = ("ip", "-n", namespace)
        run(*inside, "addr", "add", f"{address}/24", "dev", "e0")
        run(*inside, "link", "set", "e0", "up")
        run(*inside, "link", "set", "lo", "up")
        return namespace, address

    def end(self) -> None:
        """All pods, each at once: nothing here is worth the seconds of an orderly end."""
        for pod in self.pods.values():
            pod.end()
        for pod in list(self.pods.values()):
            pod.close()

    def close(self) -> None:
        self.end()
        self._identities.kill()
        self._identities.communicate()
        run("ip", "link", "del", self.bridge)


class Pod:
    """One pod; `start` its containers in their order.

    Args:
        node: where it runs.
        name: of it.
        namespace: of it.
        spec: as the manifest says.
        objects: ConfigMaps' and Secrets' contents by kind and name.
        claims: names of volumes that outlive it.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        namespace: str,
        spec: Json,
        objects: dict[tuple[str, str], dict[str, bytes]],
        claims: tuple[str, ...] = (),
    ) -> None:
        self.node = node
        self.name = name
        self.spec = spec
        self.namespace = namespace
        self.folder = node.folder / name
        self._begin_anew(claims)
        self.network, self.address = node.new_network(name)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._group = spec["securityContext"]["fsGroup"]
        self.volumes = {each["name"]: self._volume(each, objects) for each in spec["volumes"]}
        self.volumes |= {each: self._folder(each) for each in claims}
        node.pods[name] = self

    def _begin_anew(self, claims: tuple[str, ...]) -> None:
        """Of a pod that was here before only its claims stay, and what it said."""
        for left in self.folder.iterdir() if self.folder.exists() else ():
            if left.is_dir() and left.name not in claims:
                shutil.rmtree(left)

    def _folder(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, 0, self._group)
        place.chmod(0o2777)
        return place

    def _volume(self, volume: Json, objects: dict[tuple[str, str], dict[str, bytes]]) -> Path:
        place = self._folder(volume["name"])
        if "csi" in volume:
            self._identity(place)
        for kind, key in VOLUMES:
            if kind in volume:
                found = objects[kind, volume[kind][key]]
                wanted = {each["key"]: each["path"] for each in volume[kind].get("items", ())} or {
                    n: n for n in found
                }
                for source, target in wanted.items():
                    self._write(place / target, found[source], volume[kind].get("defaultMode", 0o644))
        for source in volume.get("projected", {}).get("sources", ()):
            if "serviceAccountToken" in source:
                self._write(place / "token", b"the token of a service account", 0o440)
            if "configMap" in source:
                self._write(place / "ca.crt", objects["configMap", source["configMap"]["name"]]["ca.crt"], 0o440)
            if "downwardAPI" in source:
                self._write(place / "namespace", self.namespace.encode(), 0o440)
        return place

    def _write(self, path: Path, content: bytes, mode: int) -> None:
        path.write_bytes(content)
        os.chown(path, 0, self._group)
        path.chmod(mode)

    def _identity(self, place: Path) -> None:
        """The Workload API's socket, as SPIRE's driver mounts it: who asks there is this pod."""
        who = f"spiffe://{self.node.trust_domain}/ns/{self.namespace}/sa/{self.spec['serviceAccountName']}"
        self.node.identify(place / "spire-agent.sock", who)

    def container(self, name: str) -> Json:
        return next(each for each in self.containers if each["name"] == name)

    @property
    def containers(self) -> list[Json]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    def command(self, name: str, *instead: str) -> list[str]:
        """How a container, or another command in one (`kubectl exec`), is started."""
        container = self.container(name)
        context = {**self.spec["securityContext"], **container["securityContext"]}
        made = ["ip", "netns", "exec", self.network, "bwrap", "--die-with-parent", "--unshare-pid", "--unshare-uts"]
        made += ["--hostname", self.name, "--clearenv", "--ro-bind", "/usr", "/usr"]
        for top in ("bin", "sbin", "lib", "lib64"):
            made += ["--symlink", f"usr/{top}", f"/{top}"]
        made += ["--ro-bind", str(self.node.folder / "etc"), "/etc", "--ro-bind", "/etc/ssl", "/etc/ssl"]
        made += ["--proc", "/proc", "--dev", "/dev", "--perms", "0755", "--tmpfs", "/etc/pegboard"]
        launch = REPOSITORY / "hub" / "src" / "pegboard_hub" / "runtime" / "launch.py"
        image = [(sys.base_prefix, sys.base_prefix), (str(REPOSITORY), str(REPOSITORY))]
        image += [(str(launch), "/opt/pegboard/launch.py"), (str(preflight.find_uv()), "/opt/pegboard/uv")]
        for source, target in image:
            made += [*above(target), "--ro-bind", source, target]
        for mount in container.get("volumeMounts", ()):
            bind = "--ro-bind" if mount.get("readOnly") else "--bind"
            made += [*above(mount["mountPath"]), bind, str(self.volumes[mount["name"]]), mount["mountPath"]]
        made += ["--remount-ro", "/etc/pegboard", "--remount-ro", "/"]
        made += ["--chdir", container.get("workingDir", "/")]
        given = {"PATH": f"{REPOSITORY}/.venv/bin:/opt/pegboard:/usr/bin:/bin", "LANG": "C.UTF-8"}
        given |= {"PYTHONDONTWRITEBYTECODE": "1"} | self.node.variables
        given |= {each["name"]: self._value(each) for each in container.get("env", ())}
        for variable, value in given.items():
            made += ["--setenv", variable, value]
        user, group = context["runAsUser"], context["runAsGroup"]
        made += [
            "--",
            *(UNMASKED if context.get("procMount") == "Unmasked" else ()),
            "setpriv",
            f"--reuid={user}",
            f"--regid={group}",
            f"--groups={self._group}",
        ]
        made += ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        said = [*container["command"], *container.get("args", ())]
        return [*made, *(instead or (each.replace("$$", "$") for each in said))]

    def _value(self, variable: Json) -> str:
        if "value" in variable:
            return str(variable["value"]).replace("$$", "$")
        assert variable["valueFrom"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
        return self.name

    def start(self, name: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(self.command(name), stdout=log, stderr=log, start_new_session=True)
        return self.running[name]

    def exec(self, name: str, *command: str) -> str:
        done = subprocess.run(
            self.command(name, *command), capture_output=True, text=True, timeout=SETTLE_S, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self) -> str:
        logs = (path for path in sorted(self.folder.glob("*.log")))
        return "\n".join(f"== {self.name} {path.stem}\n{path.read_text(errors='replace')[-4000:]}" for path in logs)

    def up(self) -> Pod:
        """Start everything, and wait until it is ready."""
        for each in self.spec.get("initContainers", ()):
            process = self.start(each["name"])
            if each.get("restartPolicy") == "Always":
                self._until_probed(each, "startupProbe")
            else:
                assert process.wait(SETTLE_S) == 0, self.said()
        for each in self.spec["containers"]:
            self.start(each["name"])
        for each in self.spec["containers"]:
            self._until_probed(each, "startupProbe")
            self._until_probed(each, "readinessProbe")
        return self

    def done(self, name: str) -> None:
        """Run a container to its end."""
        assert self.start(name).wait(SETTLE_S) == 0, self.said()

    def _until_probed(self, container: Json, probe: str) -> None:
        deadline = time.monotonic() + SETTLE_S
        while not self.answers(container.get(probe), container["name"]):
            assert time.monotonic() < deadline, f"{probe} of {container['name']} is not answered\n{self.said()}"
            ended = self.running[container["name"]].poll()
            assert ended is None, f"{container['name']} ended with {ended}\n{self.said()}"
            time.sleep(0.2)

    def answers(self, probe: Json | None, container: str) -> bool:
        """Whether a probe is answered as the kubelet wants it."""
        if probe is None:
            return True
        if asked := probe.get("exec"):
            command = self.command(container, *asked["command"])
            return subprocess.run(command, capture_output=True, timeout=SETTLE_S, check=False).returncode == 0
        try:
            if asked := probe.get("httpGet"):
                headers = {each["name"]: each["value"] for each in asked.get("httpHeaders", ())}
                url = f"http://{self.address}:{asked['port']}{asked['path']}"
                return 200 <= httpx2.get(url, headers=headers, verify=NO_TLS, timeout=5).status_code < 400
            with socket.create_connection((self.address, probe["tcpSocket"]["port"]), 2):
                return True
        except (httpx2.HTTPError, OSError):
            return False

    def end(self) -> None:
        """Begin to end it: with a container's first process goes everything in its namespace of processes."""
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.terminate()

    def close(self) -> None:
        """End it, and take its network away."""
        self.end()
        for process in self.running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
        run("ip", "netns", "del", self.network)
        del self.node.pods[self.name]


def above(path: str) -> list[str]:
    """Folders above a mount, which everybody may pass through."""
    parents = [str(each) for each in reversed(Path(path).parents) if str(each) not in ("/", "/etc")]
    return [part for each in parents for part in ("--perms", "0755", "--dir", each)]


def contents(secret: Json) -> dict[str, bytes]:
    """The data of a Secret, or of a ConfigMap."""
    if secret["kind"] == "Secret":
        return {name: base64.b64decode(text) for name, text in secret["data"].items()}
    return {name: text.encode() for name, text in secret["data"].items()}
