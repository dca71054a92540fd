"""The chart, run: every container that Helm renders comes up as a process with the very command, variables, files and
user of its manifest, in a network of its own; and a submitted project becomes a live pod.

The cluster's API is played, and a node stood in for (`kubelet.py`): nothing here is a cluster's."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import kmock
import pytest

from pegboard.core.archive import File, pack
from pegboard_hub.common.home import Home
from pegboard_hub.common.runtimes import KnownRuntime, digest_of, new_runtime
from pegboard_hub.packages.wheel import kit_wheel
from pegboard_hub.runtime import preflight
from tests import postgres
from tests.hub.fake_cluster import FakeCluster
from tests.hub.test_helm_chart import changed, render
from tests.system.certificates import make_pair
from tests.system.kubelet import Node, Pod, contents, possible

pytestmark = [
    pytest.mark.system,
    pytest.mark.heavy,
    pytest.mark.anyio,
    pytest.mark.skipif(not possible(), reason="root, ip, bwrap and setpriv are needed to stand in for a node"),
]

Json = dict[str, Any]
TD = "acme.com"
JOIN_FILE = "/tmp/a.join"  # noqa: S108 - in the pod
URL = "https://mcp.acme.com:8443"
GRANTS = """
[reviews]
unreviewed = ["dev"]

[publishing]
indexes = ["{index}/simple"]
"""
SIGN_IN = """
[provider]
name = "Acme"
issuer = "https://login.acme.com"
client_id = "pegboard"
client_secret = { file = "client.secret" }
"""


class World:
    """What the chart is installed into.

    Attributes:
        packages: where the company's package index is.
    """

    packages = ""

    def __init__(self, folder: Path, node: Node, cluster: FakeCluster, objects: list[Json], secrets: Any) -> None:
        self.folder = folder
        self.node = node
        self.cluster = cluster
        self.objects = objects
        self.contents: dict[tuple[str, str], dict[str, bytes]] = {("secret", n): s for n, s in secrets.items()}
        for each in objects:
            if each["kind"] == "ConfigMap":
                self.contents["configMap", each["metadata"]["name"]] = contents(each)

    def pod(self, kind: str, name: str) -> Pod:
        found = next(each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
        claims = tuple(each["metadata"]["name"] for each in found["spec"].get("volumeClaimTemplates", ()))
        spec = found["spec"]["template"]["spec"]
        made = Pod(self.node, name, found["metadata"]["namespace"], spec, self.contents, claims)
        self.node.name(f"{name}.{found['metadata']['namespace']}.svc", made.address)
        return made


@contextmanager
def index(address: str, cache: Path) -> Iterator[str]:
    """A company's package index, which has what PyPI has; its address."""
    cache.mkdir()
    places = {"simple": "https://pypi.org/simple", "files": "https://files.pythonhosted.org"}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            place, _, rest = self.path.lstrip("/").partition("/")
            kept = cache / hashlib.sha256(self.path.encode()).hexdigest()
            if place not in places:
                self.send_error(404)
                return
            if not kept.exists():
                asked = httpx2.get(f"{places[place]}/{rest}", headers={"accept": "text/html"}, timeout=60)
                content = asked.raise_for_status().content
                if place == "simple":
                    content = content.replace(b"https://files.pythonhosted.org/", b"/files/")
                part = kept.with_suffix(f".{threading.get_ident()}")
                part.write_bytes(content)
                part.rename(kept)
            body = kept.read_bytes()
            self.send_response(200)
            self.send_header("content-type", "text/html" if place == "simple" else "application/octet-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Any) -> None:
    far_reader, far_writer = await there()

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65536):
                target.write(chunk)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


@asynccontextmanager
async def listening(address: str, port: int, there: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """A way from the pods' network to something on this machine."""
    served = await asyncio.start_server(lambda r, w: relay(r, w, there), address, port, ssl=tls)
    try:
        yield
    finally:
        served.close()


def secrets(node: Node, database: str) -> dict[str, dict[str, bytes]]:
    """What the operator made, as the guide says."""
    runtime, builder = new_runtime("kubernetes"), new_runtime("builder")
    runs = KnownRuntime(name="kubernetes", digest=digest_of(runtime.credential), namespaces=("dev", "prod"))
    builds = KnownRuntime(name="builder", digest=digest_of(builder.credential), builds=True)
    chain, key = make_pair(("mcp.acme.com",))
    return {
        "pegboard-database": {"url": database.encode()},
        "pegboard-sign-in": {"sign-in.toml": SIGN_IN.encode(), "client.secret": b"secret"},
        "pegboard-tls": {"tls.crt": chain, "tls.key": key},
        "pegboard-runtime": {
            "runtime.json": runtime.model_dump_json().encode(),
            "known.json": runs.model_dump_json().encode(),
        },
        "pegboard-builder": {
            "builder.json": builder.model_dump_json().encode(),
            "known.json": builds.model_dump_json().encode(),
        },
    }


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(folder: Path, anyio_backend: str) -> AsyncIterator[World]:
    node = Node(folder, TD)
    try:
        with postgres.running() as server, index(node.address, folder / "index") as packages:
            url = server.create()
            socket = url.partition("host=")[2].partition("&")[0].replace("%2F", "/")
            url = f"postgresql://postgres:@{node.address}:5432/{postgres.name_of(url)}"
            made = secrets(node, url)
            values = changed(
                publicUrl=URL,
                hub__grants=GRANTS.format(index=packages),
                edges__service={"type": "ClusterIP", "port": 8443},
            )
            chain, key = make_pair(("kubernetes.default.svc",))
            (folder / "api.pem").write_bytes(chain + key)
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(folder / "api.pem")
            node.name("kubernetes.default.svc", node.address)
            node.variables = {"KUBERNETES_SERVICE_HOST": "kubernetes.default.svc", "KUBERNETES_SERVICE_PORT": "6443"}

            async def to_postgres() -> Any:
                return await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.5432")

            async with FakeCluster(kubelet=False) as cluster, kmock.Server(cluster) as api:

                async def to_api() -> Any:
                    return await asyncio.open_connection(api.host, api.port)

                async with listening(node.address, 5432, to_postgres), listening(node.address, 6443, to_api, tls):
                    there = World(folder, node, cluster, render(values), made)
                    there.packages = packages
                    there.contents["configMap", "kube-root-ca.crt"] = {"ca.crt": chain}
                    yield there
    finally:
        node.close()


async def aside(work: Callable[[], Any]) -> Any:
    """In a thread: the played API answers meanwhile."""
    return await asyncio.to_thread(work)


class Kubelet:
    """Runs what the played cluster schedules, until cancelled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up: dict[str, Pod] = {}

    async def run(self) -> None:
        cluster = self.world.cluster
        while True:
            cluster.settle()
            for name in cluster.pods():
                if name not in self.up:
                    self.up[name] = await self._start(name)
            await asyncio.sleep(0.2)

    async def _start(self, name: str) -> Pod:
        cluster = self.world.cluster
        known = {"ConfigMap": "configMap", "Secret": "secret"}
        objects = {
            (known[kind], each): contents(cluster.get(kind, each)) for kind in known for each in cluster.names(kind)
        }
        pod = Pod(self.world.node, name, "pegboard-servers", cluster.get("Pod", name)["spec"], objects)
        cluster.say(name, podIP=pod.address)
        await aside(pod.up)
        state = {"running": {"startedAt": "2026-11-26T10:00:00Z"}}
        container = {"name": "server", "restartCount": 0, "state": state, "lastState": {}}
        ready = [{"type": "Ready", "status": "True"}]
        cluster.say(name, phase="Running", conditions=ready, containerStatuses=[container])
        return pod


def project(packages: str, folder: Path) -> bytes:
    """What an author has: `pegboard new`, locked with the company's index and the instance's own for the kit.

    The author has no way to either from here, so it is locked with others, and their addresses are changed.
    """
    wheel, shelf, made, own = kit_wheel(), folder / "kit", folder / "desk", f"{URL}/packages/simple/"
    shelf.mkdir()
    (shelf / wheel.file_name).write_bytes(wheel.content)
    words = ["--owner", "platform", "--description", "Say good day", "--kit", own, "--into", str(made)]
    subprocess.run([sys.executable, "-m", "pegboard.cli", "new", "desk", *words], capture_output=True, check=False)
    said = (made / "pyproject.toml").read_text()
    (made / "pyproject.toml").write_text(said.replace(f'"{own}"', f'"{shelf}"\nformat = "flat"'))
    done = subprocess.run(
        [str(preflight.find_uv()), "lock", "--project", str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made / "pyproject.toml").write_text(said)
    file = f'url = "{URL}/packages/sha256/{wheel.digest}/{wheel.file_name}", hash = "sha256:{wheel.digest}"'
    changes = {
        f'path = "{shelf / wheel.file_name}"': f"{file}, size = {len(wheel.content)}",
        f"file://{shelf}": own,
        str(shelf): own,
        "https://pypi.org/simple": f"{packages}/simple",
        "https://files.pythonhosted.org/": f"{packages}/files/",
    }
    lock = (made / "uv.lock").read_text()
    for before, now in changes.items():
        assert before in lock
        lock = lock.replace(before, now)
    (made / "uv.lock").write_text(lock)
    paths = [each for each in made.rglob("*") if each.is_file() and ".venv" not in each.parts]
    return pack({each.relative_to(made).as_posix(): File(each.read_bytes()) for each in paths})


async def submitted(hub: Pod, server: str, archive: bytes) -> tuple[httpx2.AsyncClient, str]:
    """Submit as the operator at the machine does."""
    home = Home.at(hub.volumes["home"] / "home")
    way = httpx2.AsyncHTTPTransport(uds=str(home.internal_socket))
    headers = {"authorization": f"Bearer {home.operator_token.read_text().strip()}"}
    client = httpx2.AsyncClient(
        transport=way, base_url="http://hub/internal/v1/publishing", headers=headers, timeout=30
    )
    answer = await client.post(f"/{server}/submissions", content=archive)
    assert answer.status_code == 202, answer.text
    return client, answer.json()["id"]


async def followed(client: httpx2.AsyncClient, id_: str, tell: Callable[[str], None]) -> list[str]:
    """The states until it is live, or will not be."""
    states: list[str] = []
    after = 0
    while not states or states[-1] not in ("live", "failed", "rolled_back"):
        answer = (await client.get(f"/submissions/{id_}/events", params={"after": after, "wait_s": 5})).json()
        after = answer["next"]
        for each in answer["events"]:
            tell(f"{each['state']}: {each['step']} {each['what']}")
            states += [each["state"]] if states[-1:] != [each["state"]] else []
    return states


async def test_the_chart_comes_up_and_a_submitted_project_becomes_a_live_pod(world: World) -> None:
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {what}", flush=True)

    job = world.pod("Job", "pegboard-migration")
    await aside(lambda: job.done("migrate"))
    tell("the database is migrated")
    runtime, hub = world.pod("Deployment", "pegboard-runtime"), world.pod("StatefulSet", "pegboard-hub")
    await aside(hub.up)
    tell("the hub is ready")
    await aside(runtime.up)
    builder = world.pod("Deployment", "pegboard-builder")
    await aside(builder.up)
    tell("runtime and builder run")
    added = ["pegboard", "edge", "add", "a", "--home", "/var/lib/pegboard/home", "--out", JOIN_FILE]
    added += [
        "--spiffe-id",
        "spiffe://acme.com/ns/pegboard/sa/pegboard-edge",
        "--gate",
        "pegboard-hub.pegboard.svc:8444",
    ]
    await aside(lambda: hub.exec("hub", *added))
    world.contents["secret", "pegboard-edge-a"] = {"join.json": (hub.volumes["tmp"] / "a.join").read_bytes()}
    edge = world.pod("StatefulSet", "pegboard-edge-a")
    world.node.name("mcp.acme.com", edge.address)
    await aside(edge.up)
    tell("the edge is ready")
    archive = await aside(lambda: project(world.packages, world.folder))
    tell("an author has a project")
    kubelet = Kubelet(world)
    running = asyncio.create_task(kubelet.run())
    try:
        client, id_ = await submitted(hub, "dev/desk", archive)
        states = await followed(client, id_, tell)
        logs = "\n".join(each.said() for each in world.node.pods.values())
        assert states[-1] == "live", logs
        assert states[:3] == ["submitted", "built", "checked"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
