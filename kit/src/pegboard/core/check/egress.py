"""What a server reaches: declared as the operator allows, and as its code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding

_PLACE: Final = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?|"
    r"\[[0-9A-Fa-f:.]+\]):(?P<port>[1-9][0-9]{0,4})"
)
_ADDRESS: Final = re.compile(
    r"\b(?P<scheme>https?|wss?|postgres(?:ql)?|mysql|redis|mongodb|amqp|ldaps?|ftps?|smtps?)(?:\+\w+)?://"
    r"(?:[^\s/@\"'<>]{1,128}@)?(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::(?P<port>\d{1,5}))?"
)
_PORTS: Final = {
    "https": 443, "http": 80, "wss": 443, "ws": 80, "postgres": 5432, "postgresql": 5432, "mysql": 3306,
    "redis": 6379, "mongodb": 27017, "amqp": 5672, "ldap": 389, "ldaps": 636, "ftp": 21, "ftps": 990,
    "smtp": 25, "smtps": 465,
}  # fmt: skip

_NETWORK: Final = (
    "aiohttp", "asyncpg", "boto3", "botocore", "elasticsearch", "ftplib", "google.cloud", "grpc", "http.client",
    "httpx", "httpx2", "imaplib", "kafka", "ldap3", "mysql", "paramiko", "pika", "poplib", "prestodb", "psycopg",
    "psycopg2", "pymongo", "pymysql", "redis", "requests", "slack_sdk", "smtplib", "snowflake", "socket",
    "sqlalchemy", "telnetlib", "trino", "urllib.request", "urllib3", "websocket", "websockets", "xmlrpc.client",
)  # fmt: skip
"""Modules whose use nearly always means the network."""

_MAYBE: Final = frozenset({"socket", "sqlalchemy", "redis"})
"""Of them, those that are imported for other reasons, too: no word of them by themselves."""

_PROGRAMS: Final = frozenset(
    {"subprocess", "pty", "ctypes", "cffi", "pickle", "marshal", "shelve", "dill", "cloudpickle"}
)
_CALLS: Final = frozenset(
    {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execve", "os.fork",
     "os.posix_spawn", "os.spawnv", "importlib.import_module", "asyncio.create_subprocess_exec",
     "asyncio.create_subprocess_shell"}
)  # fmt: skip

_OURSELVES: Final = re.compile(
    r"(?i)^(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|[\w.-]*\.?(example|example\.(com|org|net)|test|invalid|localhost))$"
)
"""Hosts of documentation (RFC 2606), and this machine: nothing is reached there."""

_NAMESPACES: Final = frozenset({"www.w3.org", "json-schema.org", "schemas.xmlsoap.org", "purl.org", "spdx.org"})
"""Hosts whose addresses are names, and are not called."""


def findings(subject: Subject) -> Iterator[Finding]:
    """What is declared and cannot be, is not allowed, or is not what the code says."""
    declared = subject.declaration.manifest.egress
    allowed = subject.allowed.egress
    hosts: set[str] = set()
    for place in declared:
        if (found := _PLACE.fullmatch(place)) is None or int(found["port"]) > 65_535:
            yield RULES["PB701"].at(FILE_NAME, f"egress {place[:100]!r} is no host:port")
            continue
        hosts.add(found["host"].lower().rstrip("."))
        if allowed is not None and place.lower() not in {each.lower() for each in allowed}:
            yield RULES["PB702"].at(FILE_NAME, f"egress {place[:100]!r} is not allowed here")
    if subject.files:
        yield from _of_code(subject, hosts)


def _of_code(subject: Subject, declared: set[str]) -> Iterator[Finding]:
    addressed: dict[str, str] = {}
    for each in subject.code.texts:
        for found in _ADDRESS.finditer(each.text[:20_000]):
            host = found["host"].lower().rstrip(".")
            if "." in host and not _OURSELVES.match(host) and host not in _NAMESPACES:
                port = found["port"] or str(_PORTS[found["scheme"].lower()])
                addressed.setdefault(f"{host}:{port}", each.place)
    known = {place.lower() for place in subject.declaration.manifest.egress}
    for place, where in addressed.items():
        if place not in known:
            yield RULES["PB703"].at(where, f"the code addresses {place}, which egress does not name")
    client = next((name for name in sorted(subject.code.imports) if _is_network(name)), "")
    if client and not known and not addressed:
        yield RULES["PB704"].at(subject.code.imports[client], f"{client} is imported, and egress is empty")
    # What a server of somebody else's reaches, in whatever language, is not for this to see.
    if (
        declared
        and not subject.proxied
        and not client
        and not any(_is_network(name, _MAYBE) for name in subject.code.imports)
    ):
        unused = sorted(host for host in declared if not any(host in each.text for each in subject.code.texts))
        if unused:
            yield RULES["PB706"].at(FILE_NAME, f"nothing in the code seems to reach {', '.join(unused[:5])}")
    yield from _programs(subject)


def _is_network(name: str, among: frozenset[str] | None = None) -> bool:
    listed = [each for each in _NETWORK if each not in _MAYBE] if among is None else among
    return any(name == each or name.startswith(f"{each}.") for each in listed)


def _programs(subject: Subject) -> Iterator[Finding]:
    for name, place in sorted(subject.code.imports.items()):
        if name in _PROGRAMS:
            yield RULES["PB705"].at(place, f"{name} is imported")
    for name, place in sorted(subject.code.calls.items()):
        if name in _CALLS:
            yield RULES["PB705"].at(place, f"{name} is called")
