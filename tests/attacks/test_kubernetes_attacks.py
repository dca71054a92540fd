"""What an author, or somebody in the cluster, could try with a server that runs as a pod."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import kmock
import pytest
from pydantic import ValidationError

from pegboard.core.names import ServerName
from pegboard.core.publishing import Artifact
from pegboard_hub.common.runtimes import channel_token, digest_of, open_channel_token
from pegboard_hub.edge.mutual import Identity, from_some
from pegboard_hub.publishing.orders import DesiredRelease, Scale
from pegboard_hub.runtime.kubernetes import looking
from pegboard_hub.runtime.kubernetes.api import Cluster
from pegboard_hub.runtime.kubernetes.applying import Applying
from pegboard_hub.runtime.kubernetes.egress import EgressRefused, egress_rules
from pegboard_hub.runtime.kubernetes.manifests import CannotRun, release_objects
from pegboard_hub.runtime.kubernetes.objects import Manifest, release_name, server_name
from pegboard_hub.runtime.kubernetes.settings import is_image
from tests.hub.fake_cluster import FakeCluster
from tests.hub.kube_rig import CREDENTIAL, KEYS, SERVER, release, settings
from tests.hub.kube_schemas import faults

pytestmark = pytest.mark.anyio

NASTY = [
    'x"\n  privileged: true\n#',
    "x: {y: z}",
    "$(PEGBOARD_CREDENTIALS)",
    "${HOME}",
    "{{ .Values.secret }}",
    "\u202e\u200b",
    "--flag=evil",
    "a" * 90,
    "*anchor",
    "!!python/object:os.system",
]


def made(wanted: DesiredRelease, server: ServerName = SERVER, **changes: Any) -> dict[str, Manifest]:
    found = release_objects(server, wanted, settings(**changes), CREDENTIAL, KEYS)
    return {each["kind"]: each for each in found}


def but_the_order(objects: dict[str, Manifest]) -> str:
    """Everything but the document that the pod verifies, which has the author's words by nature."""
    return json.dumps({kind: each for kind, each in objects.items() if kind != "ConfigMap"}, ensure_ascii=False)


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("field", ["title", "support_channel", "links"])
def test_no_word_of_an_author_stands_in_an_object(field: str, text: str) -> None:
    value: Any = {"docs": "https://wiki.acme.com/x"} if field == "links" else text
    plain, nasty = made(release()), made(release(**{field: value}))
    assert text not in but_the_order(nasty)
    # But for digests and what is named by them both are the same.
    assert (
        nasty["Deployment"]["spec"]["template"]["spec"].keys()
        == plain["Deployment"]["spec"]["template"]["spec"].keys()
    )
    assert {kind: found for kind, each in nasty.items() if (found := faults(each))} == {}


@pytest.mark.parametrize(
    "text", ["../../etc", "a/b", "A", "a_b", "a.b", "-a", "a\n", "a b", "", "é", "a" * 33, "x: y"]
)
def test_no_name_of_a_server_can_be_another_objects_or_a_label_of_another(text: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        ServerName("prod", text)
    with pytest.raises(ValidationError):
        release(name=text)


@pytest.mark.parametrize(("one", "other"), [("a1-b/cc", "a1/b-cc"), ("prod/a1-b2", "prod-a1/b2")])
def test_two_servers_never_share_a_name_a_service_account_or_a_secret(one: str, other: str) -> None:
    first, second = ServerName.parse(one), ServerName.parse(other)
    assert server_name(first) != server_name(second)
    assert release_name(first, "1" * 64) != release_name(second, "1" * 64)


def test_nobody_finds_a_servers_name_that_gives_anothers_objects_by_trying() -> None:
    """Whoever did would be given the other's Secret, and replace its Service."""
    name = server_name(ServerName("prod", "customer-analytics-warehouse"))
    assert len(name.rpartition("-")[2]) * 4 >= 64
    assert len(name) <= 41


@pytest.mark.parametrize(
    "name",
    ["PATH", "LD_PRELOAD", "PYTHONPATH", "PEGBOARD_CREDENTIALS", "HOME", "SSL_CERT_FILE", "x", "A=B", "A B", "UV_X"],
)
def test_no_secret_takes_the_place_of_a_variable_that_steers_the_process(name: str) -> None:
    with pytest.raises(ValidationError):
        release(secrets={name: "env:TOKEN"})


@pytest.mark.parametrize("key", ["../x", "a/b", "a b", "a\nb", "..", ".", "$(X)", "é", "a:b", "x" * 254])
def test_no_reference_leads_out_of_the_servers_own_secret(key: str) -> None:
    with pytest.raises((CannotRun, ValidationError)):
        made(release(secrets={"TOKEN": f"file:{key}"}))


def test_a_secret_is_named_and_its_value_is_nowhere() -> None:
    objects = made(release(secrets={"TOKEN": "env:TOKEN", "OTHER": "file:other.key"}))
    (server,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each for each in server["env"]}
    own = f"{server_name(SERVER)}-secrets"
    assert given["TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": own, "key": "TOKEN"}}
    assert given["OTHER"]["valueFrom"] == {"secretKeyRef": {"name": own, "key": "other.key"}}
    agents = objects["Deployment"]["spec"]["template"]["spec"]["initContainers"]
    assert not [each for container in agents for each in container.get("env", ()) if "valueFrom" in each]


def test_the_runtimes_credential_and_what_is_made_of_it_stand_in_the_secret_alone() -> None:
    objects = made(release())
    token = json.loads(base64.b64decode(objects["Secret"]["data"]["channel.json"]))["channel_token"]
    for kind, each in objects.items():
        text = json.dumps(each)
        assert CREDENTIAL.credential not in text
        assert digest_of(CREDENTIAL.credential) not in text
        assert (token in text) is False, kind


@pytest.mark.parametrize(
    "place",
    [
        "169.254.169.254:80", "[fe80::1]:80", "127.0.0.1:6443", "[::1]:80", "0.0.0.0:80", "[fd00:ec2::254]:80",
        "169.254.0.1:53", "[::ffff:169.254.169.254]:80",
        "[::ffff:a9fe:a9fe]:80", "[64:ff9b::a9fe:a9fe]:80",
    ],
)  # fmt: skip
def test_no_grant_leads_to_the_node_or_to_where_the_cloud_keeps_credentials(place: str) -> None:
    with pytest.raises(EgressRefused):
        egress_rules([place], {})


@pytest.mark.parametrize(
    "place",
    [
        "db", "db:", ":80", "db:0", "db:65536", "db:80:90", "db.acme.com:80\n", "0.0.0.0/0:443", "*:443",
        "db acme:80",        "db:-1", "db:８０", "http://db:80", "[10.0.0.1]:80", "010.0.0.1:80", "a" * 300 + ":80",
    ],
)  # fmt: skip
def test_egress_that_is_no_host_and_port_opens_nothing(place: str) -> None:
    with pytest.raises(EgressRefused):
        egress_rules([place], {})


def test_what_an_author_asks_for_and_nobody_granted_is_in_no_policy() -> None:
    policy = made(release(egress=["10.9.9.9:5432"], granted=()))["NetworkPolicy"]
    assert "10.9.9.9" not in json.dumps(policy)


@pytest.mark.parametrize(
    "resources",
    [{"memory_mb": 65_536}, {"cpu_millis": 64_000}, {"memory_mb": 10**9}, {"cpu_millis": -1}, {"memory_mb": "1Ti"}],
)
def test_nobody_takes_more_of_a_node_than_the_operator_says(resources: dict[str, Any]) -> None:
    with pytest.raises((CannotRun, ValidationError)):
        made(release(resources=resources))


def test_nobody_takes_more_replicas_than_the_operator_says() -> None:
    objects = made(release(scale=Scale(min=50, max=100)), most_replicas=5)
    assert objects["Deployment"]["spec"]["replicas"] == 5
    assert "HorizontalPodAutoscaler" not in objects


@pytest.mark.parametrize(
    "image",
    [
        "registry.acme.com/teams/presto:latest", "registry.acme.com/teams/presto", "presto@sha256:" + "a" * 64,
        "registry.acme.com/teams/presto@sha256:" + "a" * 63, "registry.acme.com/teams/../x@sha256:" + "a" * 64,
        "registry.acme.com/teams/presto@sha256:" + "a" * 64 + "\n", " registry.acme.com/teams/p@sha256:" + "a" * 64,
        "REGISTRY.acme.com/teams/presto@sha256:" + "a" * 64, "registry.acme.com/teams/p@sha512:" + "a" * 64,
    ],
)  # fmt: skip
def test_an_image_that_could_become_another_is_none(image: str) -> None:
    assert not is_image(image)
    with pytest.raises(CannotRun):
        made(release(image=image), image_registries=["registry.acme.com/teams/"])


@pytest.mark.parametrize("registry", ["registry.acme.com.evil.example/teams/", "registry.acme.com/teams-evil/"])
def test_an_image_of_a_registry_that_begins_alike_is_not_run(registry: str) -> None:
    with pytest.raises(CannotRun):
        made(release(image=f"{registry}x@sha256:{'a' * 64}"), image_registries=["registry.acme.com/teams/"])
    with pytest.raises(ValidationError, match="must end with"):
        settings(image_registries=["registry.acme.com/teams"])


def test_the_authors_image_never_runs_beside_the_pods_key() -> None:
    image = f"registry.acme.com/teams/x@sha256:{'a' * 64}"
    spec = made(release(image=image), image_registries=["registry.acme.com/teams/"])["Deployment"]["spec"][
        "template"
    ]["spec"]
    with_key = [
        each
        for each in (*spec["initContainers"], *spec["containers"])
        if "identity" in json.dumps(each["volumeMounts"])
    ]
    assert [each["image"] for each in with_key] == [settings().image]


def test_a_declaration_that_would_not_fit_the_store_is_refused_and_not_cut() -> None:
    wanted = release()
    policies = {"big": "x" * 1_000_000}
    large = wanted.model_copy(update={"declaration": wanted.declaration.model_copy(update={"policies": policies})})
    with pytest.raises(CannotRun, match="does not fit"):
        made(large)


@pytest.mark.parametrize(
    "said", ["\x1b[2J\x1b[31mroot#", "a\n\nFAKE LOG LINE", "x" * 10_000, "\u202eevil", "<script>"]
)
def test_what_a_container_says_at_its_end_is_one_short_line(said: str) -> None:
    ended = {
        "name": "server",
        "restartCount": 1,
        "lastState": {"terminated": {"exitCode": 1, "message": said}},
        "state": {},
    }
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [ended]}}
    seen = looking.observe("prod/presto", "1" * 64, "spiffe://a/b", release().manifest.resources, {"Pod": [pod]})
    words = seen.replicas[0].last_failure
    assert len(words) < 600
    assert words.isprintable()


def test_a_pod_that_lies_about_its_address_is_still_who_it_must_be() -> None:
    pod = {"metadata": {"name": "p"}, "status": {"podIP": "evil.example"}}
    seen = looking.observe(
        "prod/presto", "1" * 64, "spiffe://acme.com/s", release().manifest.resources, {"Pod": [pod]}
    )
    assert seen.replicas[0].address.startswith("spiffe://acme.com/s@")


@pytest.mark.parametrize(
    "below",
    ["spiffe://acme.com/ns/servers", "spiffe://acme.com", "", "acme.com/", "spiffe://acme.com/ns/../", "spiffe://"],
)
def test_a_beginning_of_names_that_others_share_lets_nobody_in(below: str) -> None:
    with pytest.raises(ValueError, match=r"is no beginning|for nobody"):
        from_some(Identity(settings().edges[0].namespace, "x"), [], [below])  # type: ignore[arg-type]


def test_a_channel_is_good_for_one_server_and_one_release() -> None:
    digest = digest_of(CREDENTIAL.credential)
    token = channel_token("kubernetes", digest, SERVER, "1" * 64)
    assert open_channel_token(token, digest) is not None
    for other in (
        token.replace("presto", "other"),
        token.replace("1" * 64, "2" * 64),
        token.replace("kubernetes", "other"),
    ):
        assert open_channel_token(other, digest) is None


@pytest.fixture
async def cluster(anyio_backend: Any) -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as started:
        yield started


@pytest.fixture
async def applying(cluster: FakeCluster) -> AsyncIterator[Applying]:
    async with kmock.Server(cluster) as listening:
        there = Cluster.at("pegboard-servers", str(listening.url))
        yield Applying(there, "kubernetes")
        await there.close()


LABELS: list[dict[str, str]] = [
    {},
    {"app.kubernetes.io/managed-by": "pegboard"},
    {"app.kubernetes.io/managed-by": "helm", "pegboard.internal/runtime": "kubernetes"},
    {"app.kubernetes.io/managed-by": "pegboard", "pegboard.internal/runtime": "another"},
]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", ["ServiceAccount", "Secret", "NetworkPolicy", "Deployment", "Service"])
async def test_an_object_of_our_name_that_is_somebody_elses_is_neither_adopted_nor_removed(
    kind: str, labels: dict[str, str], cluster: FakeCluster, applying: Applying
) -> None:
    objects = made(release())
    name = objects[kind]["metadata"]["name"]
    theirs: Any = {**objects[kind], "metadata": {"name": name, "namespace": "pegboard-servers", "labels": labels}}
    cluster.put(kind, name, theirs)
    before = dict(cluster.objects[kind, name].fields)
    outcome = await applying.make_so(objects.values())
    assert "somebody else's" in outcome.refused[kind, name]
    await applying.make_so(())
    assert cluster.objects[kind, name].fields == before


async def test_an_object_that_loses_our_labels_is_left_alone_from_then_on(
    cluster: FakeCluster, applying: Applying
) -> None:
    await applying.make_so(made(release()).values())
    name = release_name(SERVER, release().release)
    cluster.edit("ConfigMap", name, ("metadata", "labels", "pegboard.internal/runtime"), "another")
    outcome = await applying.make_so(())
    assert ("ConfigMap", name) not in outcome.removed
    assert cluster.names("ConfigMap") == [name]


def test_an_artifact_of_another_server_is_not_this_ones() -> None:
    assert Artifact(
        server="prod/a", source="0" * 64, lock="0" * 64, project="0" * 64, python="3.11", kit="1"
    ).digest != Artifact(
        server="prod/b", source="0" * 64, lock="0" * 64, project="0" * 64, python="3.11", kit="1"
    ).digest  # fmt: skip
