"""The hub's command line: which home, and the settings that come with it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S
from pegboard.core.errors import ConfigurationError
from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.common.database_url import EMBEDDED, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import hub_names, read_instance
from pegboard_hub.common.settings import DEMO, HubSettings, ServiceSettings


def read_settings(arguments: list[str]) -> tuple[Home, HubSettings]:
    """The home and settings that a command line names; what it leaves out comes from `instance.json`.

    Raises:
        ConfigurationError: the home cannot be used, or nothing says the public URL.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pegboard_hub.main", description="The hub's process: its parts, and the two doors to them."
    )
    parser.add_argument("--home", type=Path, required=True, help="folder of this instance")
    parser.add_argument("--public-url", help="the edge's origin, for example http://localhost:8400")
    parser.add_argument("--grants", type=Path, help="the operator's grants file (default: the demo's)")
    parser.add_argument("--sign-in", type=Path, help="the sign-in file (default: none, so the demo directory)")
    parser.add_argument("--notify", type=Path, help="the notification file (default: none)")
    parser.add_argument("--directory", type=Path, help="the demo directory's file (default: the demo's)")
    parser.add_argument(
        "--token-lifetime",
        type=_lifetime,
        default=os.environ.get("PEGBOARD_TOKEN_LIFETIME") or str(MAX_LIFETIME_S),
        help=f"seconds that a token lives, {MAX_LIFETIME_S} at most (default: that, or PEGBOARD_TOKEN_LIFETIME)",
    )
    parser.add_argument("--name", default="hub", help="of this process among the hubs of the home (default: hub)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    home = Home.open(options.home)
    instance = read_instance(home)
    public_url = options.public_url or instance.get("public_url")
    if not public_url:
        raise ConfigurationError("public URL", [f"neither --public-url nor {home.instance_file} says it"])
    sign_in = options.sign_in or instance.get("sign_in")
    notify = options.notify or instance.get("notify")
    settings = HubSettings(
        public_url=str(public_url).rstrip("/"),
        grants=Path(options.grants or instance.get("grants") or DEMO / "grants.toml").absolute(),
        directory=Path(options.directory or DEMO / "directory.toml").absolute(),
        sign_in=Path(sign_in).absolute() if sign_in else None,
        notify=Path(notify).absolute() if notify else None,
        edge=_edge(instance),
        token_lifetime_s=options.token_lifetime,
        grants_max_age_s=_age(instance, "grants_max_age_s", MAX_AGE_S),
        stops_max_age_s=_age(instance, "stops_max_age_s", STOPS_MAX_AGE_S),
        database_url=_server_url(),
        name=options.name,
        hubs=hub_names(count) if (count := int(instance.get("hubs") or 1)) > 1 else (),
        log_level=options.log_level,
        services=_services(instance),
    )
    return home, settings


def _server_url() -> str:
    """The URL of a PostgreSQL, if the environment names one."""
    url = read_database_url(os.environ)
    return "" if url in (None, EMBEDDED) else str(url)


def _edge(instance: dict[str, Any]) -> str:
    """The edge's own address, as the last start noted it: the public URL may only be good outside."""
    port, bind = instance.get("port"), str(instance.get("bind") or "")
    if not isinstance(port, int):
        return ""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared with
    scheme = "https" if instance.get("tls_cert") else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _services(instance: dict[str, Any]) -> ServiceSettings | None:
    """How services call, as the last start noted it."""
    noted = instance.get("services")
    if not isinstance(noted, dict):
        return None
    return ServiceSettings(int(noted["port"]), tuple(noted["trust_domains"]), str(noted.get("workload_api") or ""))


def _lifetime(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIFETIME_S):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number of seconds from 1 to {MAX_LIFETIME_S}")
    return int(text)


def _age(instance: dict[str, Any], name: str, most: int) -> int:
    """An age that the operator may have tightened; `pegboard up` has checked it, and it is never loosened."""
    value = instance.get(name, most)
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigurationError(name, [f"{value!r} is not a number of seconds from 1 to {most}"])
    return value
