"""Publishing, attacked by authors, other teams, a CI that is not theirs, and a builder that lies.

Rules (design §5): deny by default; an author's archive is text to judge; nobody publishes for another team, learns of
another's drafts, or gets past a review by submitting; a release is signed only of what the hub saw for itself.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from pegboard.core.archive import File, pack
from pegboard.core.publishing import Artifact, State, sha256
from pegboard.core.release import Declaration
from pegboard_hub.common.requests import SPIFFE_ENDS_HEADER, SPIFFE_HEADER
from pegboard_hub.common.settings import HubSettings, ServiceSettings
from pegboard_hub.publishing.orders import BuildResult
from pegboard_hub.publishing.reading import Here
from pegboard_hub.publishing.rights import Submitter
from pegboard_hub.publishing.serving import egress_of
from pegboard_hub.publishing.source import Submitted
from pegboard_hub.publishing.submitting import MOST_SENT, SENT_AT_ONCE
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.reviews.model import Kind
from tests.folders import new_folder
from tests.hub.company import API, Company, Hub, found_company, opened
from tests.hub.publishing_rig import FROM_FOLDER, Build, Builder, Project, build, found, released, submit, work
from tests.hub.reviewing import decide, decide_all, open_ones, register, server

pytestmark = pytest.mark.anyio

WIKI = Project()
OTHER = Project(tools={"find_page": "Find pages by their authors. Use it when somebody asks who wrote about it."})
TD = "example.org"
CI = f"spiffe://{TD}/ci/wiki"
SERVICES = ServiceSettings(8443, (TD,))


class Served(Company):
    """A company whose services may call."""

    @property
    def settings(self) -> HubSettings:
        return replace(super().settings, services=SERVICES)


@asynccontextmanager
async def served() -> AsyncIterator[Hub]:
    root = new_folder()
    made = found_company(root)
    async with opened(Served(made.home, made.grants)) as hub:
        yield hub
    shutil.rmtree(root)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with served() as found:
        yield found


@pytest.fixture(scope="class")
async def shared() -> AsyncIterator[Hub]:
    """A hub for cases that leave nothing behind which another would meet."""
    async with served() as found:
        yield found


_numbers = count()


async def ci_token(hub: Hub, service: str = CI, resource: str = API, **more: str) -> Any:
    """What a service gets at its port, by its certificate."""
    headers = {SPIFFE_HEADER: service, SPIFFE_ENDS_HEADER: str(int(time.time() + 600))}
    form = {"grant_type": "client_credentials", "resource": resource, **more}
    return await hub.public.post("/oauth/token", data=form, headers=headers)


async def publisher(hub: Hub, name: str = "dev/wiki") -> str:
    """CI that sam's team named a publisher of a server of theirs; its token."""
    await submit(hub, "sam", name, WIKI)
    headers = {"Authorization": f"Bearer {await hub.token('sam')}"}
    body = {"service": CI, "why": "our repository's CI"}
    answer = await hub.public.post(f"/api/v1/servers/{name}/publishers", json=body, headers=headers)
    assert answer.status_code == 204, answer.text  # also where it is one already
    got = await ci_token(hub)
    assert got.json()["scope"] == "submit"
    return str(got.json()["access_token"])


class TestOthersServers:
    """Nobody publishes under a name, or for a team, that is not theirs."""

    @pytest.mark.parametrize(
        ("person", "name", "project", "status", "code"),
        [
            ("sam", "prod/presto", Project("presto"), 409, "name_taken"),
            ("gus", "dev/wiki", WIKI, 403, "not_yours"),
            ("ana", "dev/wiki", WIKI, 403, "not_yours"),
            ("sam", "dev/wiki", WIKI.with_(said={"owner": '"platform"'}), 403, "not_yours"),
            ("sam", "dev/wiki", WIKI.with_(said={"owner": '"security"'}), 403, "not_yours"),
            ("sam", "dev/other", WIKI, 422, "invalid_project"),
            ("sam", "dev/WIKI", WIKI, 422, "invalid_request"),
            ("sam", "dev/wik1", Project("wik1"), 202, ""),
        ],
    )
    async def test_a_server_is_submitted_by_its_owners_alone(
        self, shared: Hub, person: str, name: str, project: Project, status: int, code: str
    ) -> None:
        answer = await submit(shared, person, name, project)
        if name == "prod/presto":
            # It is published: everybody may know that it is another team's.
            status, code = 403, "not_yours"
        assert answer.status_code == status, answer.text
        if code:
            assert answer.json()["error"]["code"] == code
            assert await shared.parts.publishing.listed(name) == []

    async def test_a_hidden_draft_is_a_name_that_is_taken_and_nothing_else(self, hub: Hub) -> None:
        await register(hub, "prod/wiki", "sam")
        hidden = await submit(hub, "ana", "prod/wiki", WIKI.with_(said={"owner": '"ads-eng"'}))
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (409, "name_taken")
        assert "search" not in hidden.text

    async def test_a_name_that_reads_like_anothers_is_refused(self, hub: Hub) -> None:
        answer = await submit(hub, "sam", "prod/prest0", Project("prest0"))
        assert (answer.status_code, "mistaken" in answer.text) == (422, True)

    async def test_another_team_learns_of_no_submission(self, hub: Hub) -> None:
        id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
        for path in (f"submissions/{id_}", f"submissions/{id_}/events", "servers/dev/wiki/submissions"):
            answer = await hub.api("ana", path)
            assert answer.status_code == 404
            assert "wiki" not in answer.text.replace("/wiki", "")
        headers = {"Authorization": f"Bearer {await hub.token('ana')}"}
        answer = await hub.public.post(f"/api/v1/submissions/{id_}/again", json={"namespace": "dev"}, headers=headers)
        assert answer.status_code == 404

    async def test_nobody_gives_a_server_to_another_team_by_its_manifest(self, hub: Hub) -> None:
        await released(hub, "sam", "dev/wiki", WIKI)
        answer = await submit(hub, "sam", "dev/wiki", WIKI.with_(said={"owner": '"platform"'}))
        assert (answer.status_code, server(hub, "dev/wiki").owner) == (403, "search-eng")

    async def test_what_the_operator_follows_takes_no_submission(self, hub: Hub) -> None:
        answer = await submit(hub, "pat", "prod/presto", Project("presto", said={"owner": '"platform"'}))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "followed")


class TestPublishers:
    """A service submits to servers that named it, and does nothing else."""

    async def test_it_submits_and_follows_what_it_submitted(self, hub: Hub) -> None:
        token = await publisher(hub)
        answer = await submit(hub, "", "dev/wiki", OTHER, token=token, kind="ci", job="https://ci.example/1")
        assert (answer.status_code, answer.json()["submitted_by"]) == (202, CI)
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("", "/events"):
            told = await hub.public.get(f"/api/v1/submissions/{answer.json()['id']}{path}", headers=headers)
            assert told.status_code == 200
        listed = await hub.public.get("/api/v1/servers/dev/wiki/submissions", headers=headers)
        assert [each["submitted_by"] for each in listed.json()["submissions"]] == [CI]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "whoami"),
            ("GET", "servers"),
            ("GET", "servers/prod/presto"),
            ("GET", "calls"),
            ("GET", "me/servers"),
            ("GET", "reviews"),
            ("GET", "approvals"),
            ("GET", "clients"),
            ("GET", "stops"),
            ("POST", "servers"),
            ("POST", "drafts:check"),
            ("POST", "access:check"),
            ("DELETE", "servers/dev/wiki?why=x"),
            ("PATCH", "servers/dev/wiki"),
            ("GET", "servers/dev/wiki/deployment"),
            ("POST", "servers/dev/wiki/deployment/promote"),
            ("POST", "servers/dev/wiki/deployment/rollback"),
            ("POST", "servers/dev/wiki/deployment/scale"),
        ],
    )
    async def test_its_token_does_nothing_else(self, shared: Hub, method: str, path: str) -> None:
        headers = {"Authorization": f"Bearer {await publisher(shared)}"}
        answer = await shared.public.request(method, f"/api/v1/{path}", headers=headers, json={})
        assert answer.status_code in (403, 404, 405), answer.text

    @pytest.mark.parametrize("name", ["prod/wiki", "dev/scratch", "dev/new-one", "prod/presto"])
    async def test_it_submits_to_no_other_server(self, shared: Hub, name: str) -> None:
        token = await publisher(shared)
        answer = await submit(shared, "", name, Project(name.partition("/")[2]), token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours")

    async def test_it_names_no_other_publisher_and_takes_none_away(self, hub: Hub) -> None:
        headers = {"Authorization": f"Bearer {await publisher(hub)}"}
        path = "/api/v1/servers/dev/wiki/publishers"
        body = {"service": f"spiffe://{TD}/mine", "why": "mine"}
        assert (await hub.public.get(path, headers=headers)).status_code == 404
        assert (await hub.public.post(path, headers=headers, json=body)).status_code == 404
        assert (await hub.public.delete(path, headers=headers, params={**body, "service": CI})).status_code == 404
        assert [each.service for each in await hub.parts.publishing.publishers("dev/wiki")] == [CI]

    async def test_it_brings_nothing_to_another_namespace(self, hub: Hub) -> None:
        token = await publisher(hub)
        answer = await submit(hub, "", "dev/wiki", OTHER, token=token)
        headers, body = {"Authorization": f"Bearer {token}"}, {"namespace": "prod"}
        path = f"/api/v1/submissions/{answer.json()['id']}/again"
        assert (await hub.public.post(path, json=body, headers=headers)).status_code == 403

    async def test_it_learns_of_no_submission_of_a_person(self, hub: Hub) -> None:
        token = await publisher(hub)
        [of_sam] = await hub.parts.publishing.listed("dev/wiki")
        headers = {"Authorization": f"Bearer {token}"}
        assert (await hub.public.get(f"/api/v1/submissions/{of_sam.id}", headers=headers)).status_code == 404
        listed = await hub.public.get("/api/v1/servers/dev/wiki/submissions", headers=headers)
        assert listed.json()["submissions"] == []

    async def test_it_gives_the_server_to_nobody_else(self, hub: Hub) -> None:
        token = await publisher(hub)
        answer = await submit(hub, "", "dev/wiki", OTHER.with_(said={"owner": '"platform"'}), token=token)
        assert answer.status_code == 403

    async def test_one_that_was_taken_away_submits_no_more_with_the_token_that_it_has(self, hub: Hub) -> None:
        token = await publisher(hub)
        headers = {"Authorization": f"Bearer {await hub.token('sam')}"}
        gone = {"service": CI, "why": "it moved"}
        answer = await hub.public.delete("/api/v1/servers/dev/wiki/publishers", params=gone, headers=headers)
        assert answer.status_code == 204
        assert (await submit(hub, "", "dev/wiki", OTHER, token=token)).status_code == 403
        assert (await ci_token(hub)).json()["error"] == "invalid_target"

    @pytest.mark.parametrize("more", [{"scope": "api"}, {"scope": "tools"}, {"scope": "submit api"}])
    async def test_it_gets_no_wider_token(self, shared: Hub, more: dict[str, str]) -> None:
        await publisher(shared)
        assert (await ci_token(shared, **more)).json()["error"] == "invalid_scope"

    async def test_a_service_that_nobody_named_gets_no_token_for_the_api(self, hub: Hub) -> None:
        await publisher(hub)
        assert (await ci_token(hub, f"spiffe://{TD}/ci/other")).json()["error"] == "invalid_target"

    async def test_a_persons_token_of_another_audience_submits_nothing(self, hub: Hub) -> None:
        token = await hub.token("ana", resource="http://localhost:8400/mcp/prod/presto")
        assert (await submit(hub, "", "dev/wiki", WIKI, token=token)).status_code == 401

    @pytest.mark.parametrize("person", ["ana", "gus", "sol"])
    async def test_publishers_are_named_by_owners_alone(self, shared: Hub, person: str) -> None:
        await submit(shared, "sam", "dev/wiki", WIKI)
        headers = {"Authorization": f"Bearer {await shared.token(person)}"}
        body = {"service": f"spiffe://{TD}/mine", "why": "mine now"}
        answer = await shared.public.post("/api/v1/servers/dev/wiki/publishers", json=body, headers=headers)
        assert answer.status_code in (403, 404)
        assert f"spiffe://{TD}/mine" not in {
            each.service for each in await shared.parts.publishing.publishers("dev/wiki")
        }


Lie = Callable[[Build], BuildResult]


def _artifact(made: Build, **changes: Any) -> BuildResult:
    """A result whose artifact says something else, and whose declaration is of it."""
    assert made.result.artifact is not None
    assert made.result.declaration is not None
    artifact = Artifact.model_validate({**made.result.artifact.model_dump(mode="json"), **changes})
    declaration = made.result.declaration.model_copy(update={"artifact": artifact.digest})
    return made.result.model_copy(update={"artifact": artifact, "declaration": declaration})


def _declaration(made: Build, **changes: Any) -> BuildResult:
    assert made.result.declaration is not None
    said = made.result.declaration.model_dump(mode="json")
    manifest = {**said["manifest"], **changes.pop("manifest", {})}
    declaration = Declaration.model_validate({**said, "manifest": manifest, **changes})
    return made.result.model_copy(update={"declaration": declaration})


OPEN = "permit (principal, action, resource);"
FOLDER = pack({"pegboard.toml": File(WIKI.manifest.encode()), "policies/readers.cedar": File(OPEN.encode())})
EXTRA = pack(
    {
        "pegboard.toml": File(WIKI.manifest.encode()),
        "policies/readers.cedar": File(WIKI.policy.encode()),
        "sitecustomize.py": File(b"import os"),
    }
)
BARE = pack({"pegboard.toml": File(WIKI.manifest.encode())})


def _folder(content: bytes) -> Lie:
    def lie(made: Build) -> BuildResult:
        made.contents[sha256(content)] = ("project", content)
        return _artifact(made, project=sha256(content))

    return lie


LIES: dict[str, Lie] = {
    "an artifact of another server": lambda made: _artifact(made, server="prod/presto"),
    "an artifact of another source": lambda made: _artifact(made, source=sha256(b"another")),
    "another lock file": lambda made: _artifact(made, lock=sha256(b"another")),
    "an artifact that the declaration is not of": lambda made: _declaration(made, artifact=sha256(b"another")),
    "a declaration without an artifact": lambda made: _declaration(made, artifact=""),
    "a declaration of another server": lambda made: _declaration(made, manifest={"name": "presto"}),
    "another owner": lambda made: _declaration(made, manifest={"owner": "platform"}),
    "more egress": lambda made: _declaration(made, manifest={"egress": ["evil.example:443"]}),
    "more access": lambda made: _declaration(made, manifest={"requests": {"business_groups": ["finance"]}}),
    "another policy": lambda made: _declaration(made, policies={"readers": OPEN}),
    "one policy more": lambda made: _declaration(made, policies={"readers": WIKI.policy, "open": OPEN}),
    "a tool without a policy": lambda made: _declaration(
        made, tools=[{"name": "find_page", "description": "Find.", "policy": "somebody-elses"}]
    ),
    "a tool that hides something": lambda made: _declaration(
        made, tools=[{"name": "find_page", "description": "Find.\u200b\u202e", "policy": "readers"}]
    ),
    "another policy for its processes": _folder(FOLDER),
    "code beside the policies of its processes": _folder(EXTRA),
    "no policies for its processes": _folder(BARE),
    "a folder that is none": _folder(b"#!/bin/sh"),
}


class TestBuilders:
    """A builder is believed in nothing that the hub can see for itself."""

    @pytest.mark.parametrize("lie", list(LIES.values()), ids=list(LIES))
    async def test_a_lie_is_neither_signed_nor_approved(self, shared: Hub, lie: Lie) -> None:
        id_ = (await submit(shared, "sam", "dev/wiki", WIKI.with_(more={"case": str(next(_numbers))}))).json()["id"]
        builder = Builder(shared)
        order = await builder.claim()
        assert order is not None
        made = build(order, await builder.source(order), WIKI)
        result = lie(made)
        await builder.hand_in(made)
        await builder.tell(order, result)
        await work(shared)
        failed = await found(shared, id_)
        assert (failed.state, failed.signature) == (State.FAILED, None)
        assert failed.trouble is not None
        assert failed.trouble.what
        assert server(shared, "dev/wiki").release is server(shared, "dev/wiki").waiting is None

    async def test_what_was_not_handed_in_is_no_result(self, hub: Hub) -> None:
        id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
        builder = Builder(hub)
        order = await builder.claim()
        assert order is not None
        made = build(order, await builder.source(order), WIKI)
        assert (await builder.tell(order, made.result)).status_code == 204
        assert (await found(hub, id_)).state is State.FAILED

    async def test_bytes_are_kept_under_their_own_digest_alone(self, hub: Hub) -> None:
        builder = Builder(hub)
        assert (await builder.put(sha256(b"good"), "wheel", b"bad")).status_code == 422
        assert (await builder.put(sha256(b"good"), "firmware", b"good")).status_code == 422
        assert (await builder.put(sha256(b"good"), "wheel", b"good")).status_code == 204
        assert (await builder.put(sha256(b"good"), "wheel", b"bad")).status_code == 422
        assert await hub.parts.publishing.fetch(sha256(b"good")) == b"good"

    async def test_a_result_is_no_result_of_another_order(self, hub: Hub) -> None:
        await submit(hub, "sam", "dev/wiki", WIKI)
        builder = Builder(hub)
        order = await builder.claim()
        assert order is not None
        made = build(order, await builder.source(order), WIKI)
        await builder.hand_in(made)
        other = Project("other")
        second = (await submit(hub, "sam", "dev/other", other)).json()["id"]
        claimed = await builder.claim()
        assert claimed is not None
        await builder.tell(claimed, made.result)
        await work(hub)
        assert (await found(hub, second)).state is State.FAILED

    @pytest.mark.parametrize("path", ["claim", "builds/x/progress", "builds/x/result"])
    @pytest.mark.parametrize("token", ["", "prober", "channel-of-prod/presto"])
    async def test_only_runtimes_build(self, shared: Hub, path: str, token: str) -> None:
        builder = Builder(shared, headers={"Authorization": f"Bearer {token}"} if token else {})
        assert (await builder.post(path, {"builder": "me"})).status_code == 401
        digest = sha256(b"x")
        assert (await builder.put(digest, "wheel", b"x")).status_code == 401
        gotten = await shared.internal.get(f"/internal/v1/runtime/artifacts/{digest}", headers=builder.headers)
        assert gotten.status_code == 401

    async def test_what_a_builder_says_of_its_steps_shows_as_it_is(self, hub: Hub) -> None:
        id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
        builder = Builder(hub)
        order = await builder.claim()
        assert order is not None
        word = {"builder": builder.name, "attempt": 1, "step": "\x1b[2J\u202eliving", "what": "a\x00b"}
        assert (await builder.post(f"builds/{order.id}/progress", word)).status_code == 204
        told = (await hub.api("sam", f"submissions/{id_}/events")).json()["events"][-1]
        assert (told["step"], told["what"]) == ("\\x1b[2J\\u202eliving", "a\\x00b")


class TestReviews:
    """Nothing gets past a review by being submitted."""

    async def test_what_was_refused_is_refused_when_it_comes_again(self, hub: Hub) -> None:
        first = await released(hub, "sam", "prod/wiki", WIKI)
        await decide(hub, "sol", (await open_ones(hub, "prod/wiki"))[Kind.SECURITY], "reject", why="no")
        again = await released(hub, "sam", "prod/wiki", WIKI)
        assert again != first
        assert (await found(hub, again)).state is State.FAILED
        assert (await found(hub, first)).state is State.FAILED
        assert server(hub, "prod/wiki").release is None

    async def test_a_yes_to_one_release_is_none_to_what_is_submitted_before_it_is_given(self, hub: Hub) -> None:
        await released(hub, "sam", "prod/wiki", WIKI)
        old = (await open_ones(hub, "prod/wiki"))[Kind.SECURITY]
        second = await released(hub, "sam", "prod/wiki", OTHER)
        assert old.id not in {each.id for each in (await open_ones(hub, "prod/wiki")).values()}
        assert (await found(hub, second)).state is State.IN_REVIEW

    async def test_approved_in_dev_is_not_approved_in_prod(self, hub: Hub) -> None:
        id_ = await released(hub, "sam", "dev/wiki", WIKI)
        assert (await found(hub, id_)).state is State.APPROVED
        again = await released(hub, "sam", "prod/wiki", WIKI)
        assert (await found(hub, again)).state is State.IN_REVIEW

    async def test_dev_is_opened_on_no_surface_of_production_and_to_no_service(self, hub: Hub) -> None:
        asks = (
            f'{{ business_groups = ["finance"], surfaces = ["chat", "ide", "bot", "cli", "service"], '
            f'channels = ["#data-help"], services = ["spiffe://{TD}/x"] }}'
        )
        id_ = await released(hub, "sam", "dev/wiki", WIKI.with_(said={"requests": asks}))
        assert (await found(hub, id_)).state is State.APPROVED
        granted = server(hub, "dev/wiki").granted
        assert (granted.surfaces, granted.channels, granted.services) == (("cli",), (), ())

    async def test_egress_is_what_is_granted_whatever_is_declared(self, hub: Hub) -> None:
        id_ = await released(hub, "sam", "prod/wiki", WIKI.with_(said={"egress": '["api.example.com:443"]'}))
        await decide_all(hub, "prod/wiki")
        submission, file = await found(hub, id_), hub.parts.registry.grants_file
        assert submission.declaration is not None
        assert file is not None
        assert egress_of(file, "prod/wiki", submission.declaration) == ("api.example.com:443",)
        assert egress_of(file, "dev/wiki", submission.declaration) == ()


class TestFloods:
    """Nobody keeps others from submitting."""

    async def test_a_team_has_so_many_builds_waiting_and_no_more(self, hub: Hub) -> None:
        for number in range(20):
            name = f"tool-{chr(97 + number)}x"
            assert (await submit(hub, "sam", f"dev/{name}", Project(name))).status_code == 202
        refused = await submit(hub, "sam", "dev/one-more", Project("one-more"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "too_many")
        other = Project("ads-tool", said={"owner": '"ads-eng"'})
        assert (await submit(hub, "ana", "dev/ads-tool", other)).status_code == 202

    async def test_nobody_sends_so_many_at_once_that_others_wait(self, hub: Hub) -> None:
        sam = Submitter("sam", "person", ("search-eng",))
        receiving = hub.parts.publishing.receiving

        async def nothing() -> bytes:
            return b""

        async with receiving(sam, nothing), receiving(sam, nothing):
            waits = [asyncio.create_task(submit(hub, "sam", "dev/wiki", WIKI)) for _ in range(MOST_SENT - 2)]
            await asyncio.wait(waits, timeout=0.2)
            assert not any(each.done() for each in waits)
            refused = await submit(hub, "sam", "dev/wiki", WIKI)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
            other = Project("ads-tool", said={"owner": '"ads-eng"'})
            assert (await submit(hub, "ana", "dev/ads-tool", other)).status_code == 202
        assert sorted({(await each).status_code for each in waits}) == [200, 202]

    async def test_what_is_slow_to_read_does_not_pile_up_in_memory(self, hub: Hub) -> None:
        goes_on, held = asyncio.Event(), []

        class Slow(Here):
            async def project(self, archive: bytes) -> Submitted:
                held.append(archive)
                await goes_on.wait()
                return await super().project(archive)

        async def receive() -> bytes:
            received.append(Project(f"wiki-{'abcde'[len(received)]}").archive)
            return received[-1]

        async def send() -> None:
            async with publishing.receiving(sam, receive) as archive:
                await publishing.submit(sam, "dev/wiki", archive, FROM_FOLDER)

        received: list[bytes] = []
        sam, publishing = Submitter("sam", "person", ("search-eng",)), hub.parts.publishing
        with pytest.warns(UserWarning, match="without limits"):
            publishing.reading = Slow()
        sent = [asyncio.create_task(send()) for _ in range(5)]
        await asyncio.wait(sent, timeout=0.2)
        assert len(received) == len(held) == SENT_AT_ONCE
        goes_on.set()
        await asyncio.gather(*sent, return_exceptions=True)
        assert len(received) == 5

    @pytest.mark.parametrize(
        "query",
        [
            {"repository": "https://sam:secret@git.example/wiki"},
            {"job": "https://token@ci.example/1"},
            {"message": "a\u202eb"},
            {"commit": "../../x"},
            {"kind": "operator"},
            {"actor": "pat"},
        ],
    )
    async def test_what_it_says_of_itself_is_held_to_rules(self, shared: Hub, query: dict[str, str]) -> None:
        assert (await submit(shared, "sam", "dev/wiki", WIKI, **query)).status_code == 422
        assert "dev/wiki" not in shared.parts.registry.current.servers

    async def test_a_broken_archive_registers_nothing(self, hub: Hub) -> None:
        for archive in (b"", b"x", pack({"x": File(b"")}), pack({"pegboard.toml": File(b"name = ")})):
            assert (await submit(hub, "sam", "dev/wiki", archive)).status_code == 422
        assert "dev/wiki" not in hub.parts.registry.current.servers

    async def test_a_retired_name_is_not_brought_back_by_submitting(self, hub: Hub) -> None:
        await register(hub, "dev/wiki", "sam")
        async with hub.parts.registry.changing() as changing:
            await changing.apply(
                Change("dev/wiki", PEGBOARD, "retire", "no use", values={"lifecycle": Lifecycle.RETIRED})
            )
        answer = await submit(hub, "sam", "dev/wiki", WIKI)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "retired")
