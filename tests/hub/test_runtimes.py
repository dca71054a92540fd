"""Runtimes of their own at the hub's internal door: what their credential, and their servers' channels, open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.bundle import open_bundle
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard_hub.common.asking import NotTheHub
from pegboard_hub.common.home import Home
from pegboard_hub.common.joining import NONCE_HEADER, PROOF_HEADER, digest_of, is_proved, new_nonce
from pegboard_hub.common.runtimes import (
    KnownRuntime,
    channel_token,
    digest_key,
    new_runtime,
    open_channel_token,
    runs,
)
from pegboard_hub.ledger.channels import Channels
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.runtime.kubernetes.bundle_link import BUNDLE, BUNDLE_FILE, KEYS_FILE, BundleLink
from pegboard_hub.web.app import internal_app
from tests.hub.company import Company, Hub

pytestmark = pytest.mark.anyio

PRESTO = ServerName("prod", "presto")
RELEASE = "5" * 64
OURS = new_runtime("kubernetes")
DIGEST = digest_of(OURS.credential)


def know(home: Home, **changes: Any) -> None:
    said = {"name": "kubernetes", "digest": DIGEST, "namespaces": ["prod"]} | changes
    home.runtimes.mkdir(exist_ok=True)
    (home.runtimes / f"{said['name']}.json").write_text(json.dumps(said), encoding="utf-8")


@pytest.fixture
def channels(tmp_path: Any) -> Channels:
    home = Home.open(tmp_path / "home")
    know(home)
    return Channels(home)


def token(server: ServerName = PRESTO, runtime: str = "kubernetes", digest: str = DIGEST) -> str:
    return channel_token(runtime, digest, server, RELEASE)


def test_a_channel_says_whose_it_is_without_being_registered(channels: Channels) -> None:
    found = channels.of(token())
    assert (found.server, found.release) == ("prod/presto", RELEASE)


@pytest.mark.parametrize(
    "forged",
    [
        token(ServerName("dev", "presto")),
        token(runtime="another"),
        token(digest="0" * 64),
        token().replace("presto", "tickets"),
        token().replace(RELEASE, "6" * 64),
        token()[:-1],
        token() + "0",
        "rt.kubernetes.prod.presto",
        "rt.kubernetes.prod.presto.x.",
        "rt.....",
        f"rt.kubernetes.prod.presto.{RELEASE}.é",
    ],
    ids=[
        "another namespace",
        "another runtime",
        "another credential",
        "renamed",
        "another release",
        "cut",
        "longer",
        "without an end",
        "no release",
        "empty",
        "not ASCII",
    ],
)
def test_a_channel_that_is_not_the_runtimes_opens_nothing(channels: Channels, forged: str) -> None:
    with pytest.raises(DeliveryRefused):
        channels.of(forged)


def test_a_runtime_that_is_taken_away_takes_its_servers_channels(channels: Channels, tmp_path: Any) -> None:
    (tmp_path / "home" / "runtimes" / "kubernetes.json").unlink()
    with pytest.raises(DeliveryRefused):
        channels.of(token())
    with pytest.raises(DeliveryRefused):
        channels.runtime(OURS.credential)


def test_a_credential_says_which_runtime_asks(channels: Channels) -> None:
    assert channels.runtime(OURS.credential) == "kubernetes"
    for other in ("", "x" * 43, DIGEST):
        with pytest.raises(DeliveryRefused):
            channels.runtime(other)


def test_each_namespace_has_one_runtime() -> None:
    two = {
        name: KnownRuntime(name=name, digest=DIGEST, namespaces=namespaces)
        for name, namespaces in {"kube-b": ("prod", "dev"), "kube-a": ("prod",)}.items()
    }
    found = {
        (name, space) for name in (*two, "machine") for space in ("prod", "dev", "lab") if runs(two, name, space)
    }
    assert found == {("kube-a", "prod"), ("kube-b", "dev"), ("machine", "lab")}


def test_no_runtime_may_be_called_as_the_instances_own() -> None:
    with pytest.raises(ValueError, match="own runtime"):
        KnownRuntime(name="machine", digest=DIGEST, namespaces=("prod",))


def test_the_hub_cannot_make_a_servers_key_for_digests() -> None:
    assert digest_key(OURS.credential, PRESTO) != digest_key(DIGEST, PRESTO)
    assert digest_key(OURS.credential, PRESTO) != digest_key(OURS.credential, ServerName("prod", "other"))
    assert open_channel_token(token(), DIGEST) is not None


async def test_a_pod_takes_its_own_servers_bundle_and_can_tell_that_the_hub_answers(
    hub: Hub, company: Company
) -> None:
    know(company.home)
    nonce = new_nonce()
    headers = {"authorization": f"Bearer {token()}", NONCE_HEADER: nonce}
    answer = await hub.internal.get(BUNDLE, headers=headers)
    assert answer.status_code == 200
    assert is_proved(answer.headers[PROOF_HEADER], digest_of(token()), nonce, 200, answer.content)
    assert answer.json()["bundle"] == company.home.bundle(PRESTO).read_text(encoding="utf-8")
    headers["authorization"] = f"Bearer {token(digest='0' * 64)}"
    assert (await hub.internal.get(BUNDLE, headers=headers)).status_code == 401


async def test_a_pods_agent_keeps_what_the_hub_tells_and_takes_nothing_from_anybody_else(
    hub: Hub, company: Company, tmp_path: Path
) -> None:
    know(company.home)
    link = BundleLink(tmp_path, token(), httpx2.ASGITransport(internal_app(hub.parts)))
    assert await link.ask()
    kept = (tmp_path / BUNDLE_FILE).read_text(encoding="utf-8")
    verifier = Verifier(json.loads((tmp_path / KEYS_FILE).read_text(encoding="utf-8")))
    assert open_bundle(kept, verifier, str(PRESTO)).servers[0].server == str(PRESTO)
    liar = httpx2.MockTransport(
        lambda request: httpx2.Response(200, json={"tag": "x", "bundle": "theirs", "keys": "{}"})
    )
    with pytest.raises(NotTheHub):
        await BundleLink(tmp_path, token(), liar).ask()
    assert (tmp_path / BUNDLE_FILE).read_text(encoding="utf-8") == kept
