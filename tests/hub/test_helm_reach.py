"""Who reaches whom in the cluster, computed from the policies that are made: it is what the guide says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pegboard_hub.runtime.kubernetes.manifests import release_objects
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings
from tests.hub.kube_rig import CREDENTIAL, KEYS, SERVER, release
from tests.hub.test_helm_chart import VALUES, named, rendered

Json = dict[str, Any]
Edge = tuple[str, str, int]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "kubernetes.md"
DNS = {"name": "names", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
GRANTED = "db.acme.com:5432"
OUTSIDE = {
    "10.0.0.1/32": "the cluster's API",
    "10.2.0.0/24": "the database",
    "10.3.0.0/24": "the company's login",
    "10.4.0.0/24": "package indexes",
    "10.9.0.0/24": "what is granted",
}


def server_objects() -> list[Json]:
    said = tomllib.loads(named("ConfigMap", "pegboard-runtime")["data"]["cluster.toml"])
    wanted = release(egress=[GRANTED], granted=(GRANTED,))
    return list(release_objects(SERVER, wanted, ClusterSettings.model_validate(said), CREDENTIAL, KEYS))


def everything() -> list[Json]:
    return [*rendered(), *server_objects()]


def pods() -> list[Json]:
    """The kinds of pods there are, each by the name that the guide has for it."""
    found = [DNS]
    for each in everything():
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            labels, namespace = each["spec"]["template"]["metadata"]["labels"], each["metadata"]["namespace"]
            name = "a server" if namespace == "pegboard-servers" else labels["app.kubernetes.io/component"]
            made = {"name": name, "namespace": namespace, "labels": labels, "spec": each["spec"]["template"]["spec"]}
            if all(other["name"] != name for other in found):
                found.append(made)
    return found


def chosen(peer: Json, pod: Json, home: str) -> bool:
    """Whether a peer of a policy in namespace `home` is this pod."""
    if "ipBlock" in peer:
        return False
    wanted = peer.get("namespaceSelector", {}).get("matchLabels", {"kubernetes.io/metadata.name": home})
    there = {"kubernetes.io/metadata.name": pod["namespace"]}
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return wanted.items() <= there.items() and labels.items() <= pod["labels"].items()


def policies(pod: Json, direction: str) -> list[Json]:
    return [
        each
        for each in everything()
        if each["kind"] == "NetworkPolicy"
        and each["metadata"]["namespace"] == pod["namespace"]
        and direction in each["spec"]["policyTypes"]
        and each["spec"]["podSelector"].get("matchLabels", {}).items() <= pod["labels"].items()
    ]


def allowed(pod: Json, other: Json, direction: str) -> set[int] | None:
    """Ports on which policies of `pod` let `other` through; None where no policy of it says anything."""
    found = policies(pod, direction)
    if not found:
        return None
    key = "from" if direction == "Ingress" else "to"
    return {
        port["port"]
        for policy in found
        for rule in policy["spec"].get(direction.lower(), ())
        if key not in rule or any(chosen(peer, other, policy["metadata"]["namespace"]) for peer in rule[key])
        for port in rule["ports"]
    }


def reached() -> set[Edge]:
    made: set[Edge] = set()
    for source in pods():
        for target in pods():
            if source is target or source is DNS:
                continue
            out, into = allowed(source, target, "Egress"), allowed(target, source, "Ingress")
            assert out is not None, f"{source['name']} has no policy for what it reaches"
            made |= {(source["name"], target["name"], port) for port in (out if into is None else out & into)}
        if source is not DNS:
            made |= {
                (source["name"], OUTSIDE[peer["ipBlock"]["cidr"]], port["port"])
                for policy in policies(source, "Egress")
                for rule in policy["spec"].get("egress", ())
                for peer in rule["to"]
                if "ipBlock" in peer
                for port in rule["ports"]
            }
    anybody = {"name": "clients", "namespace": "somewhere", "labels": {}}
    for target in pods():
        if target is not DNS:
            made |= {("clients", target["name"], port) for port in allowed(target, anybody, "Ingress") or ()}
    return made


def in_the_guide() -> set[Edge]:
    part = GUIDE.read_text(encoding="utf-8").partition("## Who reaches whom")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")
    ]
    return {(source, target, int(port)) for source, target, port, *_ in rows if re.fullmatch(r"\d+", port)}


def test_exactly_what_the_guide_says_reaches_whom() -> None:
    assert reached() == in_the_guide()


def listens(pod: Json) -> set[int]:
    said = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    ports = {port["containerPort"] for each in said for port in each.get("ports", ())}
    words = [word for each in said for word in (*each.get("command", ()), *each.get("args", ()))]
    named = (re.fullmatch(r"--(?:mtls-port|probe-port|port)=(\d+)|--door=[^@]+@(\d+):.*", word) for word in words)
    return ports | {int(port) for match in named if match for port in match.groups() if port}


def test_every_port_that_is_let_through_is_one_that_somebody_listens_on() -> None:
    there = {each["name"]: each for each in pods() if each is not DNS}
    for source, target, port in reached():
        if target in there:
            assert port in listens(there[target]), f"{source} may reach {target} at {port}, and nobody listens"


def test_every_service_leads_to_a_port_of_its_pods_and_every_probe_asks_one() -> None:
    there = {each["name"]: each for each in pods() if each is not DNS}
    for each in rendered():
        if each["kind"] == "Service":
            pod = there[each["spec"]["selector"]["app.kubernetes.io/component"]]
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= listens(pod), each["metadata"]["name"]
    for name, pod in there.items():
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe, {})
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                assert port is None or port in listens(pod), f"{probe} of {name}"


def test_the_builder_reaches_no_server_no_database_and_no_api() -> None:
    assert {(target, port) for source, target, port in reached() if source == "builder"} == {
        ("names", 53),
        ("hub", 8445),
        ("package indexes", 443),
    }
    assert {source for source, target, _ in reached() if target == "builder"} == set()
    assert VALUES["builder"]["indexes"] == ["10.4.0.0/24"]
