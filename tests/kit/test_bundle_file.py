"""The bundle a server decides with: read, kept, refused when it is old, and told to the hub."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import Bundle, BundledServer
from pegboard.core.errors import BundleRefused, StopsUnknown
from pegboard.core.jose import Jwk, Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.revoked import Revoked
from pegboard.remote import acknowledging
from pegboard.remote import bundle as bundle_module
from pegboard.remote.acknowledging import Acknowledging
from pegboard.remote.bundle import BundleFile
from tests.sockets import listening, socket_path

URL = "http://pegboard.test"
NAME = ServerName("prod", "desk")


class Home:
    """A bundle file and the keys it verifies with."""

    def __init__(self, folder: Path) -> None:
        self.key = new_private_key()
        self.file = folder / "desk.jws"
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps(public_jwks(self.key)))
        self.accepted = folder / "accepted.jws"
        self.restart()

    def restart(self) -> None:
        """Forget everything but the disk."""
        self.reader = BundleFile(self.file, self.keys, NAME, URL, self.accepted)

    def publish(self, key: Jwk | None = None, **changes: Any) -> None:
        server = BundledServer(
            server=str(NAME),
            owner="platform",
            support_channel="#desk",
            release="r",
            groups=changes.pop("groups", ("a",)),
            sensitivity=changes.pop("sensitivity", "internal"),
            notice=changes.pop("notice", ""),
        )
        facts = {
            "consumer": str(NAME),
            "version": 3,
            "issued_at": int(time.time()),
            "issuer": URL,
            "jwks": public_jwks(self.key),
            "servers": (server,),
        }
        text = Bundle(**(facts | changes)).sign(Signer(key or self.key))
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def groups(self) -> set[str]:
        return set(self.reader.current(time.time()).access.groups)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(bundle_module, "LOOK_AGAIN_S", 0)
    return Home(tmp_path)


def test_replaced_bundle_is_taken_up(home: Home) -> None:
    home.publish()
    assert home.groups() == {"a"}
    home.publish(version=4, groups=("b",))
    assert home.groups() == {"b"}


def test_what_callers_are_told_costs_no_memory_of_decisions(home: Home) -> None:
    home.publish()
    assert home.reader.current(time.time()).notice == ""
    home.publish(version=4, notice="It ends.")
    standing = home.reader.current(time.time())
    assert (standing.notice, standing.version) == ("It ends.", 3)


def test_what_is_revoked_counts_at_once_and_costs_no_memory_of_verified_tokens(home: Home) -> None:
    home.publish()
    before = home.reader.current(time.time())
    home.publish(version=4, revoked=Revoked(sessions=frozenset({"s", "r"})))
    after = home.reader.current(time.time())
    assert (before.revoked, after.revoked.sessions) == (Revoked(), {"s", "r"})
    assert (after.tokens, after.version) == (before.tokens, before.version)
    home.publish(version=5, groups=("b",))
    assert home.reader.current(time.time()).version == 5
    home.publish(version=6, jwks=public_jwks(home.key, new_private_key()))
    assert home.reader.current(time.time()).tokens is not before.tokens


def test_the_bundles_age_is_true_also_while_nobody_calls(home: Home) -> None:
    assert home.reader.facts() == (0, 0, 0)
    home.publish(issued_at=1_000)
    assert home.reader.facts() == (3, 1_000, 24 * 3600)
    home.publish(issued_at=2_000)
    assert home.reader.facts().issued_at == 2_000


@pytest.mark.parametrize(
    "replacement",
    [
        {"key": new_private_key(), "version": 9},
        {"version": 2},
        {"consumer": "prod/other", "version": 9},
        {"issuer": "http://elsewhere.test", "version": 9},
        {"servers": (), "version": 9},
    ],
    ids=["forged", "older version", "another consumer", "another hub", "names nobody"],
)
def test_bad_replacement_leaves_the_last_good_bundle_in_use(home: Home, replacement: dict[str, Any]) -> None:
    home.publish()
    assert home.groups() == {"a"}
    home.publish(**{"groups": ("everyone",)} | replacement)
    assert home.groups() == {"a"}


def test_torn_file_leaves_the_last_good_bundle_in_use(home: Home) -> None:
    home.publish()
    home.groups()
    home.file.write_text(home.file.read_text()[:100])
    assert home.groups() == {"a"}


@pytest.mark.parametrize(("version", "age_s"), [(2, 0), (3, 3600)], ids=["lower version", "signed before"])
def test_older_bundle_put_back_while_the_server_was_down_is_refused(home: Home, version: int, age_s: int) -> None:
    home.publish()
    assert home.groups() == {"a"}
    home.publish(version=version, issued_at=int(time.time()) - age_s, groups=("everyone",))
    home.restart()
    assert home.groups() == {"a"}


def test_bundle_kept_from_the_last_run_ages_as_any_other(home: Home) -> None:
    home.publish(issued_at=int(time.time()) - 24 * 3600 + 60)
    assert home.groups() == {"a"}
    home.file.unlink()
    home.restart()
    home.groups()
    with pytest.raises(BundleRefused, match="last renewed"):
        home.reader.current(time.time() + 120)


@pytest.mark.parametrize("kept", ["", "torn"], ids=["empty", "torn"])
def test_spoilt_copy_of_the_last_bundle_does_not_hold_up_a_start(home: Home, kept: str) -> None:
    home.accepted.write_text(kept)
    home.publish()
    assert home.groups() == {"a"}


def test_copy_of_the_last_bundle_that_another_hub_signed_is_not_used(home: Home) -> None:
    home.publish(key=new_private_key(), groups=("everyone",))
    home.file.replace(home.accepted)
    home.publish(version=1)
    assert home.groups() == {"a"}


def test_server_goes_on_where_the_bundle_in_use_cannot_be_kept(home: Home) -> None:
    home.accepted = home.file.parent / "missing" / "accepted.jws"
    home.restart()
    home.publish()
    assert home.groups() == {"a"}


@pytest.mark.parametrize(
    ("sensitivity", "age_s", "refused"),
    [
        ("restricted", 298, False),
        ("restricted", 305, True),
        ("confidential", 305, True),
        ("internal", 305, False),
        ("public", 86_390, False),
        ("public", 86_405, True),
    ],
)
def test_without_contact_sensitive_servers_refuse_after_five_minutes_and_others_after_a_day(
    home: Home, sensitivity: str, age_s: int, refused: bool
) -> None:
    now = int(time.time())
    home.publish(sensitivity=sensitivity, issued_at=now)
    home.reader.current(now)
    if refused:
        with pytest.raises(StopsUnknown if age_s < 86_400 else BundleRefused, match="last renewed"):
            home.reader.current(now + age_s)
    else:
        home.reader.current(now + age_s)
    home.publish(sensitivity=sensitivity, issued_at=now + age_s)
    home.reader.current(now + age_s)


def test_operator_can_tighten_the_ages(home: Home) -> None:
    now = int(time.time())
    home.publish(sensitivity="confidential", stops_max_age_s=10, max_age_s=60, issued_at=now)
    home.reader.current(now + 8)
    with pytest.raises(StopsUnknown):
        home.reader.current(now + 12)
    with pytest.raises(BundleRefused, match="last renewed"):
        home.reader.current(now + 62)


def test_no_bundle_and_an_old_one_refuse_everything(home: Home) -> None:
    with pytest.raises(BundleRefused, match="no bundle"):
        home.groups()
    home.publish(issued_at=int(time.time()) - 24 * 3600 - 1)
    with pytest.raises(BundleRefused, match="last renewed"):
        home.groups()
    home.publish()
    assert home.groups() == {"a"}


class Desk:
    """The hub's door for acknowledgements."""

    def __init__(self) -> None:
        self.words: list[Acknowledgement] = []
        self.tokens: set[str] = set()
        self.away = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        assert scope["path"] == "/internal/v1/acknowledgement"
        self.tokens.add(dict(scope["headers"])[b"authorization"].decode())
        if not self.away:
            self.words.append(Acknowledgement.model_validate_json((await receive())["body"]))
        status = 503 if self.away else 204
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def hear(self, count: int) -> None:
        with anyio.fail_after(60):
            while len(self.words) < count:
                await anyio.sleep(0.01)


@pytest.fixture
def socket() -> Iterator[Path]:
    with socket_path() as path:
        yield path


@pytest.mark.anyio
async def test_a_server_that_nobody_calls_acknowledges_each_bundle_it_takes_once_and_through_an_outage(
    home: Home, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledging, "LOOK_S", 0.01)
    desk, coming = Desk(), new_private_key()
    home.publish(issued_at=int(time.time()) - 60)
    telling = Acknowledging(home.reader, socket, "token-1")
    async with anyio.create_task_group() as group:
        group.start_soon(telling.run)
        async with listening(desk, socket):
            await desk.hear(1)
            desk.away = True
            home.keys.write_text(json.dumps(public_jwks(home.key, coming)))
            home.publish(version=4, jwks=public_jwks(home.key, coming))
            with anyio.fail_after(60):
                while home.reader.look().version != 4:  # type: ignore[union-attr]
                    await anyio.sleep(0.01)
            desk.away = False
            await desk.hear(2)
            home.publish(version=3)  # refused, so it is not told
            home.publish(version=5, key=coming)
            await desk.hear(3)
        group.cancel_scope.cancel()
    await telling.close()
    first, second, third = desk.words
    old, new = home.key["kid"], coming["kid"]
    assert (first.version, first.signed_by, first.token_keys, first.bundle_keys) == (3, old, (old,), (old,))
    assert (second.version, second.signed_by, second.token_keys, second.bundle_keys) == (
        4,
        old,
        (old, new),
        (old, new),
    )
    assert (third.version, third.signed_by) == (5, new)
    assert desk.tokens == {"Bearer token-1"}


def test_a_bundle_of_a_removed_key_is_refused_also_by_a_server_that_forgot_everything(home: Home) -> None:
    home.publish(groups=("everyone",))
    replayed = home.file.read_text()
    coming = new_private_key()
    home.keys.write_text(json.dumps(public_jwks(home.key, coming)))
    home.publish(version=4, key=coming)
    assert home.groups() == {"a"}
    home.keys.write_text(json.dumps(public_jwks(coming)))
    home.restart()
    assert home.groups() == {"a"}, "the copy in use verifies over the restart"
    home.file.with_suffix(".new").write_text(replayed)
    home.file.with_suffix(".new").replace(home.file)
    assert home.groups() == {"a"}
    home.accepted.unlink()
    home.restart()
    with pytest.raises(BundleRefused, match="no bundle"):
        home.groups()
