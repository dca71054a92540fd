"""The chart as processes: what it is installed into, the node's kubelet, the company around it, and what its operator
does. The cluster's API is played, and a node stood in for (`kubelet.py`): nothing here is a cluster's."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import kmock

from pegboard_hub.common.runtimes import KnownRuntime, digest_of, new_runtime
from tests import postgres
from tests.hub.fake_cluster import FakeCluster
from tests.hub.test_helm_chart import changed, render
from tests.providers.scripted import CLIENT, SECRET, Scripted
from tests.system.certificates import make_pair
from tests.system.kubelet import Node, Pod, contents

Json = dict[str, Any]
TD = "acme.com"
URL = "https://mcp.acme.com:8443"
LOGIN = "https://login.acme.com"
GRANTS = """
[reviews]
unreviewed = ["dev"]

[publishing]
indexes = ["{index}/simple"]
"""
SIGN_IN = f"""
[provider]
name = "Acme"
issuer = "{LOGIN}"
client_id = "{CLIENT}"
client_secret = {{ file = "client.secret" }}
certificates = "login.pem"
"""
ADVISORY = (
    b"""{"id": "MAL-2026-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "evil"}, "versions": ["1"]}]}"""
)


class World:
    """What the chart is installed into.

    Attributes:
        packages: where the company's package index is.
        login: the company's.
        values: what the operator says of the chart.
        pods: of the chart, by the names of their workloads.
    """

    def __init__(self, node: Node, cluster: FakeCluster, login: Scripted, packages: str) -> None:
        self.node = node
        self.cluster = cluster
        self.login = login
        self.packages = packages
        self.values: Json = changed(
            publicUrl=URL,
            hub__grants=GRANTS.format(index=packages),
            edges__service={"type": "ClusterIP", "port": 8443},
            edges__members=[{"name": "a", "joinSecret": "pegboard-edge-a"}],
            builder__sandbox="bubblewrap",
            builder__advisories="advisories",
        )
        self.contents: dict[tuple[str, str], dict[str, bytes]] = {}
        self.pods: dict[str, Pod] = {}
        self.templates: dict[str, Json] = {}

    def rendered(self) -> dict[str, Json]:
        """What Helm makes of the values: workloads by name. ConfigMaps are there at once."""
        objects = render(self.values)
        for each in objects:
            if each["kind"] == "ConfigMap":
                self.contents["configMap", each["metadata"]["name"]] = contents(each)
        return {
            each["metadata"]["name"]: each for each in objects if each["kind"] in ("Job", "Deployment", "StatefulSet")
        }

    async def migrate(self) -> None:
        """Helm's hook before everything else: the Job, to its end."""
        job = self._pod("pegboard-migration", self.rendered()["pegboard-migration"])
        await aside(lambda: job.done("migrate"))
        await aside(job.close)

    async def start(self, name: str) -> Pod:
        """A workload's pod, from nothing but its claims, until it is ready."""
        made = self.pods[name] = self._pod(name, self.rendered()[name])
        await aside(made.up)
        return made

    async def upgrade(self, meanwhile: Callable[[str], Awaitable[None]]) -> list[str]:
        """As `helm upgrade` does: the hook, and then what has another template is replaced, in names' order.

        Args:
            meanwhile: called with the name of each pod while it is away.
        """
        await self.migrate()
        now = self.rendered()
        rolled = [name for name in sorted(self.pods) if now[name]["spec"] != self.templates[name]]
        for name in rolled:
            pod = self.pods.pop(name)
            await aside(pod.close)
            await meanwhile(name)
            await self.start(name)
        return rolled

    def twin(self, name: str, change: Callable[[Json], None]) -> Pod:
        """A pod beside a workload's own, with another specification; it is not started."""
        spec = copy.deepcopy(self.templates[name]["template"]["spec"])
        change(spec)
        return Pod(self.node, f"{name}-twin", "pegboard", spec, self.contents)

    def _pod(self, name: str, workload: Json) -> Pod:
        self.templates[name] = workload["spec"]
        claims = tuple(each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ()))
        namespace = workload["metadata"]["namespace"]
        made = Pod(self.node, name, namespace, workload["spec"]["template"]["spec"], self.contents, claims)
        self.node.name(f"{name}.{namespace}.svc", made.address)
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

    with suppress(asyncio.CancelledError):  # with the test's loop
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


@asynccontextmanager
async def listening(address: str, port: int, there: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """A way from the pods' network to something on this machine."""
    served = await asyncio.start_server(lambda r, w: relay(r, w, there), address, port, ssl=tls)
    try:
        yield
    finally:
        served.close()


def made_by_hand(database: str, login: bytes) -> dict[tuple[str, str], dict[str, bytes]]:
    """Secrets that the operator made, as the guide says, and a volume with advisories."""
    runtime, builder = new_runtime("kubernetes"), new_runtime("builder")
    runs = KnownRuntime(name="kubernetes", digest=digest_of(runtime.credential), namespaces=("dev", "prod"))
    builds = KnownRuntime(name="builder", digest=digest_of(builder.credential), builds=True)
    chain, key = make_pair(("mcp.acme.com",))
    made = {
        "pegboard-database": {"url": database.encode()},
        "pegboard-sign-in": {
            "sign-in.toml": SIGN_IN.encode(),
            "client.secret": SECRET.encode(),
            "login.pem": login,
        },
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
    advisories = {("persistentVolumeClaim", "advisories"): {"evil.json": ADVISORY}}
    return {**{("secret", name): content for name, content in made.items()}, **advisories}


@contextmanager
def company() -> Iterator[tuple[Scripted, int]]:
    """The company's login, and its port on loopback."""
    with Scripted().serving() as login:
        port, login.issuer = urlsplit(login.issuer).port or 0, LOGIN
        login.hire("ana", "platform")
        login.hire("gus")
        yield login, port


def serving(file: Path, chain: bytes, key: bytes) -> ssl.SSLContext:
    file.write_bytes(chain + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    return tls


@asynccontextmanager
async def cluster_and_company(folder: Path) -> AsyncIterator[World]:
    """Everything that the chart is installed into; what it started is ended first, so that nothing waits for it."""
    node = Node(folder, TD)
    address = node.address
    try:
        with (
            postgres.running() as database,
            index(address, folder / "index") as packages,
            company() as (login, login_port),
        ):
            url = database.create()
            socket = url.partition("host=")[2].partition("&")[0].replace("%2F", "/")
            chain, key = make_pair(("kubernetes.default.svc",))
            login_chain, login_key = make_pair(("login.acme.com",))
            node.name("kubernetes.default.svc", address)
            node.name("login.acme.com", address)
            node.variables = {"KUBERNETES_SERVICE_HOST": "kubernetes.default.svc", "KUBERNETES_SERVICE_PORT": "6443"}
            async with FakeCluster(kubelet=False) as cluster, kmock.Server(cluster) as api:
                to_database = partial(asyncio.open_unix_connection, f"{socket}/.s.PGSQL.5432")
                to_api = partial(asyncio.open_connection, api.host, api.port)
                to_login = partial(asyncio.open_connection, "localhost", login_port)
                async with (
                    listening(address, 5432, to_database),
                    listening(address, 6443, to_api, serving(folder / "api.pem", chain, key)),
                    listening(address, 443, to_login, serving(folder / "login.pem", login_chain, login_key)),
                ):
                    world = World(node, cluster, login, packages)
                    at = f"postgresql://postgres:@{address}:5432/{postgres.name_of(url)}"
                    world.contents = made_by_hand(at, login_chain)
                    world.contents["configMap", "kube-root-ca.crt"] = {"ca.crt": chain}
                    try:
                        yield world
                    finally:
                        await aside(node.end)
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
