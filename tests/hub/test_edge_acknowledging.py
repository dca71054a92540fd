"""What the edge acknowledges is what Envoy uses, not what the agent has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pegboard.core.jose import new_private_key, public_jwks
from pegboard.core.rates import NO_LIMITS
from pegboard.core.revoked import NOTHING
from pegboard.core.stops import NOTHING_STOPPED
from pegboard_hub.edge import publish
from pegboard_hub.edge.config import ROUTES, render
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.publish import Publisher
from pegboard_hub.edge.snapshot import EdgeSnapshot, ServicesDoor

pytestmark = pytest.mark.anyio


class Admin:
    """Envoy's administration, answering what a test wants."""

    def __init__(self) -> None:
        self.found: dict[str, str] | None = {}

    async def versions(self) -> dict[str, str] | None:
        return self.found


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    monkeypatch.setattr(publish, "ACKNOWLEDGED_WITHIN_S", 0.01)
    return Admin()


def documents(folder: Path) -> dict[str, publish.Json]:
    sockets = {name: folder / name for name in ("hub_socket", "access_log", "admin_socket")}
    url, keys = "http://localhost:8400", public_jwks(new_private_key())
    door = ServicesDoor(8443, Identity(folder / "svid", folder / "trust"))
    nothing = {"revoked": NOTHING, "stops": NOTHING_STOPPED, "rules": (), "limits": NO_LIMITS}
    known = {**sockets, **nothing, "folder": folder, "services": door}
    return render(EdgeSnapshot(url, ("127.0.0.1",), 8400, url, keys, (), **known))  # type: ignore[arg-type]


async def test_all_of_what_was_published_must_be_in_use(admin: Admin, tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, admin)  # type: ignore[arg-type]
    assert not await publisher.used(), "nothing was published yet"
    published = documents(tmp_path)
    await publisher.publish(published)
    right = {statistic: published[name]["version_info"] for name, statistic in publish._STATISTICS.items()}
    admin.found = {**right, "listener_manager.lds": "whatever"}
    assert await publisher.used()
    for statistic in right:
        admin.found = {**right, statistic: "the one before"}
        assert not await publisher.used(), statistic
        admin.found = {name: version for name, version in right.items() if name != statistic}
        assert not await publisher.used(), statistic
    admin.found = None
    assert not await publisher.used(), "an Envoy that does not answer"
    admin.found = right
    await publisher.publish(documents(tmp_path))
    assert not await publisher.used(), "it still uses the keys from before"


async def test_a_file_that_says_the_same_is_not_written_out_again(
    admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ten thousand servers that is megabytes for a change of one of them."""
    publisher, published = Publisher(tmp_path, admin), documents(tmp_path)  # type: ignore[arg-type]
    await publisher.publish(published)
    written: list[object] = []
    monkeypatch.setattr(publish.json, "dumps", lambda document, **_: written.append(document) or "{}")
    changed = {**published[ROUTES], "version_info": "another"}
    await publisher.publish({**published, ROUTES: changed})
    assert [each for each in written if each in published.values() and each.get("version_info")] == []
    assert changed in written
