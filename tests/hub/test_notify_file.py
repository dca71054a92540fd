"""The notification file: what it may say, where its secrets are, and what it never tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard_hub.notify.settings import SECRETS, open_notify
from pegboard_hub.notify.signing import headers, read_key
from pegboard_hub.runtime.as_before import NOBODY_IS_TOLD, notifications_of
from tests.hub.webhooks import KEY, OTHER_KEY, OTHER_SECRET, SECRET, notify_file

URL = 'url = "https://hooks.acme.example/T0/s3cret"'


def test_without_a_file_nobody_is_told() -> None:
    assert open_notify(None).receivers == {}


def test_a_destination_is_told_of_everything_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    lines = f'{URL}\ngroups = ["ads-eng"]\nevents = ["requested", "expiring"]'
    opened = open_notify(notify_file(tmp_path, every=URL, ads=lines), {})
    every, ads = opened.receivers["every"].asked, opened.receivers["ads"].asked
    assert [every.takes("decided", group) for group in ("", "platform")] == [True, True]
    told = [("requested", "ads-eng"), ("decided", "ads-eng"), ("requested", "platform"), ("requested", "")]
    assert [ads.takes(event, group) for event, group in told] == [True, False, False, False]  # type: ignore[arg-type]


def test_secrets_are_read_and_neither_they_nor_a_url_s_path_are_shown(tmp_path: Path) -> None:
    path = notify_file(tmp_path, one='url = { env = "HOOK_URL" }\nold_secret = { env = "OLD" }')
    opened = open_notify(path, {"HOOK_URL": "https://hooks.acme.example:8443/T0/s3cret", "OLD": OTHER_SECRET})
    [receiver] = opened.receivers.values()
    assert receiver.keys == (KEY, OTHER_KEY)
    assert receiver.origin == "https://hooks.acme.example:8443"
    shown = f"{opened!r}{receiver!r}{receiver.asked!r}"
    assert [each for each in ("s3cret", SECRET, OTHER_SECRET, repr(KEY)) if each in shown] == []


def test_the_supervisor_hands_secrets_on_that_the_hub_cannot_read(tmp_path: Path) -> None:
    path = notify_file(tmp_path, one=URL)
    (tmp_path / "hook.secret").unlink()
    opened = open_notify(path, {SECRETS: json.dumps({"file:hook.secret": SECRET})})
    assert opened.receivers["one"].keys == (KEY,)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (f'{URL}\ngroup = ["ads-eng"]', "destinations.one.group: unknown key; did you mean 'groups'?"),
        (f"{URL}\ngroups = []", "destinations.one.groups: "),
        (f'{URL}\nevents = ["asked"]', "destinations.one.events"),
        (f'{URL}\nold_secret = "{SECRET}"', "destinations.one.old_secret: "),
        (f'{URL}\nold_secret = {{ env = "NOT_SET" }}', "old_secret: the variable NOT_SET is not set"),
        (f'{URL}\nold_secret = {{ env = "SHORT" }}', "old_secret: env:SHORT holds no key"),
        ('url = "http://hooks.acme.example/T0/s3cret"', "must begin with https://"),
        ('url = "http://127.0.0.1.acme.example/s3cret"', "must begin with https://"),
        ('url = "http://localhost@acme.example/s3cret"', "must have neither a user nor a fragment"),
        ('url = "https://u:s3cret@acme.example/"', "must have neither a user nor a fragment"),
        ('url = "https://acme.example/#s3cret"', "must have neither a user nor a fragment"),
        ('url = "https://acme.example/s3cret\\r\\nx-evil: 1"', "without spaces"),
        ('url = "https://ácme.example/s3cret"', "ASCII"),
        ('url = "ftp://acme.example/s3cret"', "is no URL such as"),
        ('url = "file:///etc/s3cret"', "is no URL such as"),
        ('url = "https://[::1/s3cret"', "is no URL"),
        ('url = "https://acme.example:99999/s3cret"', "is no URL"),
        ('url = { env = "BAD_URL" }', "url: what env:BAD_URL holds must begin with https://"),
        ("url = 5", "destinations.one.url"),
    ],
)
def test_what_the_file_may_not_say_is_told_without_repeating_it(tmp_path: Path, lines: str, said: str) -> None:
    variables = {"SHORT": "whsec_c2hvcnQ=", "BAD_URL": "http://acme.example/s3cret"}
    with pytest.raises(ConfigurationError) as refused:
        open_notify(notify_file(tmp_path, one=lines), variables)
    assert said in str(refused.value)
    assert [each for each in ("s3cret", SECRET, "c2hvcnQ") if each in str(refused.value)] == []


@pytest.mark.parametrize("text", ["", "destinations = {}\n", "[destination.one]\n", "[destinations.Ana]\nurl = 1\n"])
def test_a_file_that_names_nobody_or_wrongly_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="destination"):
        open_notify(path, {})


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = notify_file(tmp_path, one=URL)
    (tmp_path / "hook.secret").chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        open_notify(path, {})


@pytest.mark.parametrize(
    "secret",
    ["", "hunter2", "whsec_", "whsec_%%%", f"whsec_{'A' * 28}", f"whsec_{'A' * 92}", SECRET.removeprefix("whsec_")],
)
def test_what_is_no_key_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="holds no key") as refused:
        read_key(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(refused.value)


def test_messages_are_signed_as_standard_webhooks_says() -> None:
    """An example that others publish of the scheme."""
    key = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}', [key])
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (signed["webhook-id"], signed["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_a_start_that_does_not_name_the_file_goes_on_with_that_of_the_last(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text(json.dumps({"notify": "/etc/pegboard/notify.toml"}))
    assert notifications_of(tmp_path, None) == Path("/etc/pegboard/notify.toml")
    assert notifications_of(tmp_path, NOBODY_IS_TOLD) is None
    assert notifications_of(tmp_path / "new", None) is None
