"""`[proxy]` in `pegboard.toml`: a server that somebody else wrote, and what its owner says of each of its tools.

| said              | the backend is                                                                |
|-------------------|-------------------------------------------------------------------------------|
| `command`         | a process beside the proxy, spoken to over its standard input and output      |
| `command`, `url`  | a process beside the proxy, spoken to over HTTP on loopback                   |
| `url`             | somewhere else, spoken to over HTTPS; its place is declared as egress         |
"""

from __future__ import annotations

import re
import ssl
from base64 import b64decode
from ipaddress import ip_address
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from pegboard.core.names import NAME_PATTERN, TOOL_PATTERN
from pegboard.core.strict import Strict

PORT: Final = "{port}"
"""In `command` and `url`: a free port of loopback, which the proxy chooses at each start."""

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=]+)-----END CERTIFICATE-----")
_NUMBERS: Final = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}")
_PORTS: Final = {"http": 80, "https": 443}
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_KEPT_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "content-type", "accept", "transfer-encoding", "cookie", "origin"}
)
"""Headers that the protocol sets; beside them all `mcp-…`, `x-forwarded-…` and `x-pegboard-…`."""

PolicyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]


def _is_here(host: str) -> bool:
    """Whether a host is this machine, or what only this machine reaches, in whatever spelling an address may have.

    Where a name leads by the DNS is not seen here: what carries its egress looks at that.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return bool(_NUMBERS.fullmatch(name))  # 127.1, 0x7f000001 and 2130706433 are addresses to resolvers
    address = getattr(address, "ipv4_mapped", None) or address
    never = (address.is_loopback, address.is_link_local, address.is_unspecified, address.is_multicast)
    return any(never)


class ProxyApproval(Strict):
    """That a person must say yes before a tool runs (as `@requires_approval` of a kit's own tool)."""

    by: str = Field(default="", description="caller, owner, or a business group; left out: by the sensitivity")
    own: bool = Field(default=False, description="people of the team or group may decide on what they asked for")
    expires_minutes: float = Field(default=30, ge=1, le=10_080, description="how long a request waits")
    why: str = Field(default="", max_length=500, description="what callers and deciders are told of the reason")

    @field_validator("by")
    @classmethod
    def _somebody(cls, by: str) -> str:
        if by and not re.fullmatch(NAME_PATTERN, by):
            raise ValueError("give 'caller', 'owner' or the name of a business group")
        return by


class ProxyTool(Strict):
    """What the owner says of one tool of the backend. Hints left out are the backend's own, as pinned."""

    policy: PolicyName | None = Field(default=None, description="file in policies/; left out: the proxy's `policy`")
    serve: bool = Field(default=True, description="false hides the tool from everybody")
    minutes_saved: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="that one call saves a person; 0 is an answer, too"
    )
    read_only: bool | None = Field(default=None, description="it changes nothing")
    destructive: bool | None = Field(default=None, description="it may overwrite or delete")
    idempotent: bool | None = Field(default=None, description="calling it again changes nothing more")
    open_world: bool | None = Field(default=None, description="it deals with what is outside the company")
    approval: ProxyApproval | None = Field(default=None, description="who must say yes before it runs")
    confirm: str | None = Field(
        default=None, min_length=1, max_length=300, description="what callers confirm, with arguments in braces"
    )


class Proxy(Strict):
    """How a server that somebody else wrote is started, reached and bounded."""

    command: tuple[str, ...] = Field(default=(), description="program and arguments of the backend")
    url: str = Field(default="", max_length=500, description="of its MCP endpoint; with `command`, on loopback")
    ca: str = Field(
        default="",
        max_length=32_768,
        description="certificates, in PEM, of the authorities that may vouch for a remote server, and no others; "
        "left out: those that the machine knows",
    )
    backend: str = Field(
        default="backend",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="folder of the backend's files and packages (package-lock.json or uv.lock), where it starts",
    )
    headers: dict[str, str] = Field(default={}, description="header to the variable of [secrets] that it is set to")
    environment: dict[str, str] = Field(default={}, description="variables of the backend's process")
    secrets: tuple[str, ...] = Field(default=(), description="variables of [secrets] that its process gets, too")
    tell_caller: bool = Field(
        default=False, description="tell it who calls, in `_meta` under pegboard.dev/caller; never a token"
    )
    policy: PolicyName | None = Field(default=None, description="file in policies/ for tools that name none")
    tools: dict[str, ProxyTool] = Field(default={}, description="what is said of each tool, by its name")
    timeout_s: float = Field(default=60, gt=0, le=600, description="within which a call must be answered")
    start_s: float = Field(default=30, gt=0, le=300, description="within which the backend must be there")
    concurrency: int = Field(default=8, ge=1, le=256, description="calls that it gets at once")
    result_kb: int = Field(default=1024, ge=1, le=16_384, description="largest answer, in KiB")

    later: ClassVar = ("ca",)

    @field_validator("ca")
    @classmethod
    def _authorities(cls, text: str) -> str:
        """Certificates alone: a manifest is shown to people, and a key beside them would be, too.

        Kept without line ends, which no text of a declaration has.
        """
        found = re.sub(r"\s(?!CERTIFICATE-)", "", text)
        if _CERTIFICATE.sub("", found):
            raise ValueError("give certificates in PEM (BEGIN CERTIFICATE … END CERTIFICATE) and nothing else")
        if found:
            trusting(found)
        return found

    @field_validator("tools")
    @classmethod
    def _tool_names(cls, tools: dict[str, ProxyTool]) -> dict[str, ProxyTool]:
        for name in tools:
            if not re.fullmatch(TOOL_PATTERN, name):
                raise ValueError(f"{name!a} is no name of a tool: use {TOOL_PATTERN}")
        return tools

    @field_validator("headers")
    @classmethod
    def _header_names(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            low = name.lower()
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name!a} is no name of a header")
            if low in _KEPT_HEADERS or low.startswith(("mcp-", "x-forwarded-", "x-pegboard-")):
                raise ValueError(f"{name} is set by the protocol or the platform: use another header")
        return headers

    @model_validator(mode="after")
    def _reachable(self) -> Proxy:
        if not self.command and not self.url:
            raise ValueError('say how it is reached: command = ["program", …], url = "https://…", or both')
        if self.command and not self.command[0].strip():
            raise ValueError("command begins with the program to start")
        if not self.command and self.secrets:
            raise ValueError("secrets go to a process that is started here: for a remote server use headers")
        if self.url:
            self._check_url()
        if self.ca and (self.command or not self.url):
            raise ValueError("ca says who may vouch for a remote server: leave it out for one that is started here")
        if self.headers and not self.url:
            raise ValueError("headers are sent over HTTP: without url, give the process its secrets by `secrets`")
        return self

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url.replace(PORT, "1"))
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"url is no address: {error}") from error
        if parts.scheme not in _PORTS or not host or parts.username or parts.fragment:
            raise ValueError("url must be an http:// or https:// address without user and fragment")
        if self.command and host not in LOOPBACK:
            raise ValueError(
                "url of a server that is started here must be on loopback, as http://127.0.0.1:{port}/mcp"
            )
        if not self.command and (PORT in self.url or _is_here(host) or parts.scheme != "https"):
            raise ValueError(
                "url of a remote server must be https:// and not of this machine; say command to start one"
            )

    @property
    def place(self) -> str:
        """`host:port` of a remote backend, as egress names it; empty for one that is started here."""
        if self.command:
            return ""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"

    def told(self, tool: str) -> ProxyTool:
        """What the owner says of a tool; nothing where nothing is said."""
        return self.tools.get(tool, ProxyTool())


def trusting(ca: str) -> ssl.SSLContext:
    """TLS towards a server that only these authorities vouch for; its certificate must have the server's name.

    Args:
        ca: their certificates, as `Proxy.ca` has them.

    Raises:
        ValueError: there is one that cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # its default is to verify chain and name
    try:
        for certificate in _CERTIFICATE.findall(ca):
            context.load_verify_locations(cadata=b64decode(certificate, validate=True))
    except (ValueError, ssl.SSLError) as error:
        raise ValueError("has a certificate that cannot be read") from error
    return context
