"""Submissions as authors make them and builders build them, in process: for tests of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from pegboard.core.archive import File, pack, unpack
from pegboard.core.checks import load_toml
from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Artifact, ArtifactFile, Provenance, Trouble, sha256
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard_hub.publishing.orders import BuildOrder, BuildResult, Told
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.submissions import Submission
from tests.hub.company import OPERATOR, URL, Hub

ADS = 'permit (principal in Group::"search-eng", action, resource);'
KIT = "0.9.0"
PYPROJECT = """
[project]
name = "wiki"
version = "1"
requires-python = ">=3.11"
dependencies = ["pegboard"]

[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
"""
LOCK = f"""
version = 1
requires-python = ">=3.11"

[[package]]
name = "pegboard"
version = "{KIT}"
source = {{ registry = "{URL}/packages/simple" }}
wheels = [{{ url = "{URL}/packages/pegboard-{KIT}-py3-none-any.whl", hash = "sha256:{"1" * 64}", size = 1 }}]

[[package]]
name = "wiki"
version = "1"
source = {{ editable = "." }}
dependencies = [{{ name = "pegboard" }}]

[package.metadata]
requires-dist = [{{ name = "pegboard" }}]
"""
BUILDER = "builder-of-the-test"

GROUPS = {"sam": ("search-eng",), "ana": ("ads-eng",), "pat": ("platform",), "sol": ("security",)}


@dataclass(frozen=True)
class Project:
    """A project of `search-eng`.

    Attributes:
        said: of its manifest, over the usual.
        more: files beside the usual.
        tools: its tools' descriptions, by name.
    """

    name: str = "wiki"
    said: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(
        default_factory=lambda: {"find_page": "Find pages of the wiki. Use it when somebody asks where it stands."}
    )
    policy: str = ADS

    def with_(self, **changes: Any) -> Project:
        return replace(self, **changes)

    @property
    def manifest(self) -> str:
        said = {
            "name": f'"{self.name}"',
            "entry": '"wiki.server:server"',
            "description": '"Search the wiki"',
            "owner": '"search-eng"',
            "support_channel": '"#search"',
        } | dict(self.said)
        return "".join(f"{key} = {value}\n" for key, value in said.items())

    @property
    def files(self) -> dict[str, File]:
        texts = {
            "pegboard.toml": self.manifest,
            "pyproject.toml": PYPROJECT,
            "uv.lock": LOCK,
            "src/wiki/server.py": f"# {dict(self.tools)}\n",
            "policies/readers.cedar": self.policy,
        } | dict(self.more)
        return {path: File(text.encode()) for path, text in texts.items()}

    @property
    def archive(self) -> bytes:
        return pack(self.files)

    @property
    def declared(self) -> tuple[ToolDeclaration, ...]:
        schema = {
            "type": "object",
            "properties": {"words": {"type": "string", "description": "what to look for"}},
            "required": ["words"],
        }
        return tuple(
            ToolDeclaration(
                name=name,
                description=text,
                policy="readers",
                minutes_saved=5,
                read_only=True,
                input_schema=schema,
                output_schema={"type": "object", "properties": {"pages": {"type": "array"}}},
            )
            for name, text in self.tools.items()
        )


@dataclass
class Build:
    """What a builder made, before it tells of it."""

    order: BuildOrder
    result: BuildResult
    contents: dict[str, tuple[str, bytes]]


def build(order: BuildOrder, source: bytes, project: Project) -> Build:
    """What an honest builder makes of a source: the same bytes whenever it is asked."""
    files = unpack(source)
    told = {path: file for path, file in files.items() if path == "pegboard.toml" or path.endswith(".cedar")}
    wheel = b"wheel of " + sha256(source).encode()
    folder, sbom = pack(told), b'{"bomFormat": "CycloneDX"}'
    artifact = Artifact(
        server=order.server,
        source=order.source,
        lock=sha256(files["uv.lock"].content),
        project=sha256(folder),
        python="3.12",
        kit=KIT,
        files=(
            ArtifactFile(name="wiki-1-py3-none-any.whl", sha256=sha256(wheel), size=len(wheel), origin="own"),
            ArtifactFile(name="pegboard-0.9.0-py3-none-any.whl", sha256="1" * 64, origin="platform"),
        ),
    )
    declaration = Declaration(
        manifest=load_toml(Manifest, files["pegboard.toml"].content.decode(), "pegboard.toml"),
        tools=project.declared,
        policies={"readers": files["policies/readers.cedar"].content.decode()},
        can_ask=True,
        artifact=artifact.digest,
    )
    result = BuildResult(artifact=artifact, declaration=declaration, sbom=sha256(sbom), sandboxed=True)
    contents = {sha256(wheel): ("wheel", wheel), sha256(folder): ("project", folder), sha256(sbom): ("sbom", sbom)}
    return Build(order, result, contents)


@dataclass
class Builder:
    """A builder at the hub's internal door."""

    hub: Hub
    name: str = BUILDER
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {OPERATOR}"})

    async def post(self, path: str, body: Any) -> httpx2.Response:
        return await self.hub.internal.post(f"/internal/v1/runtime/{path}", json=body, headers=self.headers)

    async def claim(self) -> BuildOrder | None:
        answer = await self.post("claim", {"builder": self.name})
        assert answer.status_code in (200, 204), answer.text
        return None if answer.status_code == 204 else BuildOrder.model_validate(answer.json())

    async def source(self, order: BuildOrder) -> bytes:
        answer = await self.hub.internal.get(f"/internal/v1/runtime/artifacts/{order.source}", headers=self.headers)
        assert answer.status_code == 200
        return answer.content

    async def put(self, digest: str, kind: str, content: bytes) -> httpx2.Response:
        path = f"/internal/v1/runtime/artifacts/{digest}"
        return await self.hub.internal.put(path, params={"kind": kind}, content=content, headers=self.headers)

    async def hand_in(self, made: Build) -> None:
        for digest, (kind, content) in made.contents.items():
            answer = await self.put(digest, kind, content)
            assert answer.status_code == 204, answer.text

    async def tell(self, order: BuildOrder, result: BuildResult) -> httpx2.Response:
        told = Told(builder=self.name, attempt=order.attempt, result=result)
        return await self.post(f"builds/{order.id}/result", told.model_dump(mode="json"))

    async def build(self, project: Project) -> BuildOrder:
        """Claim the next order and build it."""
        order = await self.claim()
        assert order is not None, "nothing is to be built"
        made = build(order, await self.source(order), project)
        await self.hand_in(made)
        answer = await self.tell(order, made.result)
        assert answer.status_code == 204, answer.text
        return order

    async def fail(self, trouble: Trouble, *, again: bool = False) -> BuildOrder:
        order = await self.claim()
        assert order is not None
        answer = await self.tell(order, BuildResult(trouble=trouble, again=again))
        assert answer.status_code == 204, answer.text
        return order


async def submit(
    hub: Hub, person: str, server: str, project: Project | bytes, /, token: str = "", **query: str
) -> httpx2.Response:
    """Submit as the command does."""
    headers = {"Authorization": f"Bearer {token or await hub.token(person)}"}
    content = project if isinstance(project, bytes) else project.archive
    path = f"/api/v1/servers/{server}/submissions"
    return await hub.public.post(path, content=content, params=query, headers=headers)


async def work(hub: Hub) -> None:
    """Let the hub do all that there is to do."""
    while await hub.parts.publishing.step():
        pass


async def released(hub: Hub, person: str, server: str, project: Project) -> str:
    """Submit a project, build it, and let the hub take it as far as it goes by itself; gives the submission's id."""
    answer = await submit(hub, person, server, project)
    assert answer.status_code == 202, answer.text
    await Builder(hub).build(project)
    await work(hub)
    return str(answer.json()["id"])


async def found(hub: Hub, id_: str) -> Submission:
    """The submission, as the operator sees it."""
    return await hub.parts.publishing.find(Submitter("operator", "operator"), id_)


async def states(hub: Hub, id_: str) -> list[str]:
    """The states that a submission went through, each once in a row."""
    passed: list[str] = []
    for event in await hub.parts.publishing.events(id_):
        if not passed or passed[-1] != event.state:
            passed.append(event.state)
    return passed


def submitter(person: str) -> Submitter:
    return Submitter(person, "person", GROUPS[person])


FROM_FOLDER = Provenance()
