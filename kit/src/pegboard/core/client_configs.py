"""How MCP clients are told of a server: one row a client, for the command that writes it and the page that shows it.

Every shape was read in the client's own documentation or taken from what its own command writes (autumn 2026). No row
holds a credential: a client that is given a URL alone is led to the sign-in by the server's 401.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from pegboard.core.names import MCP_PREFIX, ServerName
from pegboard.core.redirects import surface_of

URL = "{url}"
NAME = "{name}"
"""What stands for a server's address and an entry's name in the rows below."""

Platform = Literal["linux", "darwin", "win32"]

LABEL = "pegboard"
"""What the names of all our entries begin with. Short: clients join it with a tool's name, and 64 characters are all
that models allow for both."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """One client's configuration.

    Attributes:
        id: what the command calls the client.
        title: what people call it.
        syntax: of its file; `json` stands for JSON with comments and trailing commas too, which most of them read.
        entries: the key under which the servers stand.
        entry: one server's entry; `{url}` stands for its address.
        files: where a person's own file is, by platform; `~` and variables stand for what they mean there.
        folder_variable: a variable that names another folder for that file; empty for none.
        project_file: the file inside a project that the client reads; empty where it knows none.
        redirects: those that it comes to the hub with, in its registration or its document; empty where its makers
            do not say. Ports of those on the person's machine may be others.
        command: what adds a server in a terminal; empty where the client has no such command.
        link: what adds a server when it is opened in a browser; empty where there is no such link.
        then: what the person does next; `NAME` stands for the entry's name.
    """

    id: str
    title: str
    syntax: Literal["json", "toml"]
    entries: str
    entry: Mapping[str, str]
    files: Mapping[Platform, str]
    folder_variable: str
    project_file: str
    redirects: tuple[str, ...]
    command: tuple[str, ...]
    link: Literal["", "vscode", "cursor"]
    then: str

    @property
    def surfaces(self) -> tuple[str, ...]:
        """What the hub takes the client for: either, where its redirects are not known.

        Operators may decide otherwise, so this says only which servers are worth an entry.
        """
        return (surface_of(self.redirects),) if self.redirects else ("cli", "ide")

    def entry_for(self, url: str) -> dict[str, str]:
        """The entry of the server at `url`."""
        return {key: url if value == URL else value for key, value in self.entry.items()}

    def url_of(self, entry: object) -> str:
        """The address that an entry of this client's file leads to; empty where it leads to none."""
        if not isinstance(entry, Mapping):
            return ""
        # Gemini's older entries have `httpUrl`; what it reads there leads to the same place.
        keys = (next(key for key, value in self.entry.items() if value == URL), "url", "httpUrl", "serverUrl")
        return next((found for key in keys if isinstance(found := entry.get(key), str)), "")

    def command_for(self, name: str, url: str) -> str:
        """The command that adds the server at `url`; empty where the client has none."""
        filled = (NAME_AND_URL_JSON, _json({"name": name, **self.entry_for(url)})), (NAME, name), (URL, url)
        return shlex.join([_filled(word, filled) for word in self.command])

    def link_for(self, name: str, url: str) -> str:
        """The link that adds the server at `url`; empty where the client takes none."""
        if self.link == "vscode":
            return "vscode:mcp/install?" + quote(_json({"name": name, **self.entry_for(url)}), safe="")
        if self.link == "cursor":
            packed = base64.b64encode(_json(self.entry_for(url)).encode()).decode()
            return "cursor://anysphere.cursor-deeplink/mcp/install?" + urlencode({"name": name, "config": packed})
        return ""

    def snippet(self, name: str, url: str) -> str:
        """What the file has when the server at `url` is its only entry."""
        if self.syntax == "toml":
            values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in self.entry_for(url).items())
            return f"[{self.entries}.{name}]\n{values}"
        return json.dumps({self.entries: {name: self.entry_for(url)}}, indent=2)


NAME_AND_URL_JSON = "{json}"

HTTP = {"type": "http", "url": URL}
EVERYWHERE: tuple[Platform, ...] = ("linux", "darwin", "win32")

CLIENTS: tuple[ClientConfig, ...] = (
    ClientConfig(
        id="vscode",
        title="VS Code",
        syntax="json",
        entries="servers",
        entry=HTTP,
        files={
            "linux": "$XDG_CONFIG_HOME/Code/User/mcp.json",
            "darwin": "~/Library/Application Support/Code/User/mcp.json",
            "win32": "$APPDATA/Code/User/mcp.json",
        },
        folder_variable="",
        project_file=".vscode/mcp.json",
        redirects=("http://127.0.0.1/", "http://127.0.0.1:33418/", "https://vscode.dev/redirect"),
        command=("code", "--add-mcp", NAME_AND_URL_JSON),
        link="vscode",
        then="Start the servers with the command “MCP: List Servers”; VS Code opens the sign-in in your browser.",
    ),
    ClientConfig(
        id="cursor",
        title="Cursor",
        syntax="json",
        entries="mcpServers",
        entry={"url": URL},
        files=dict.fromkeys(EVERYWHERE, "~/.cursor/mcp.json"),
        folder_variable="",
        project_file=".cursor/mcp.json",
        redirects=(
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ),
        command=(),
        link="cursor",
        then="Open Cursor’s settings, “MCP”, and press “Connect” beside a server; it opens the sign-in.",
    ),
    ClientConfig(
        id="claude-code",
        title="Claude Code",
        syntax="json",
        entries="mcpServers",
        entry=HTTP,
        files=dict.fromkeys(EVERYWHERE, "~/.claude.json"),
        folder_variable="CLAUDE_CONFIG_DIR",
        project_file=".mcp.json",
        redirects=("http://localhost/callback", "http://127.0.0.1/callback"),
        command=("claude", "mcp", "add", "--scope", "user", "--transport", "http", NAME, URL),
        link="",
        then="Sign in: claude mcp login NAME, or /mcp inside claude.",
    ),
    ClientConfig(
        id="codex",
        title="Codex",
        syntax="toml",
        entries="mcp_servers",
        entry={"url": URL},
        files=dict.fromkeys(EVERYWHERE, "~/.codex/config.toml"),
        folder_variable="CODEX_HOME",
        project_file=".codex/config.toml",
        redirects=("http://127.0.0.1/callback",),
        command=("codex", "mcp", "add", NAME, "--url", URL),
        link="",
        then="Sign in: codex mcp login NAME.",
    ),
    ClientConfig(
        id="gemini-cli",
        title="Gemini CLI",
        syntax="json",
        entries="mcpServers",
        entry=HTTP,
        files=dict.fromkeys(EVERYWHERE, "~/.gemini/settings.json"),
        folder_variable="",
        project_file=".gemini/settings.json",
        redirects=("http://localhost:7777/oauth/callback",),
        command=("gemini", "mcp", "add", "--scope", "user", "--transport", "http", NAME, URL),
        link="",
        then="Sign in: start gemini and type /mcp auth NAME.",
    ),
    ClientConfig(
        id="windsurf",
        title="Windsurf",
        syntax="json",
        entries="mcpServers",
        entry={"serverUrl": URL},
        files=dict.fromkeys(EVERYWHERE, "~/.codeium/windsurf/mcp_config.json"),
        folder_variable="",
        project_file="",
        redirects=(),
        command=(),
        link="",
        then="Refresh the list under “MCP Servers” in Cascade; Windsurf opens the sign-in.",
    ),
    ClientConfig(
        id="zed",
        title="Zed",
        syntax="json",
        entries="context_servers",
        entry={"url": URL},
        files={
            "linux": "$XDG_CONFIG_HOME/zed/settings.json",
            "darwin": "~/.config/zed/settings.json",
            "win32": "$APPDATA/Zed/settings.json",
        },
        folder_variable="",
        project_file="",
        redirects=("http://127.0.0.1/callback",),
        command=(),
        link="",
        then="Zed starts the servers by itself; press “Authenticate” in the agent panel’s settings.",
    ),
)
"""Every client we know, in the order in which they are shown."""

BY_ID: Mapping[str, ClientConfig] = {client.id: client for client in CLIENTS}


def entry_name(server: ServerName, label: str = LABEL) -> str:
    """The name of a server's entry: letters, digits and `-`, which every client takes.

    Two servers never share one: a name has no `--`, so it tells where a namespace with a `-` of its own ends.
    """
    return f"{label}-{server.namespace}{'--' if '-' in server.namespace else '-'}{server.name}"


def label_of(public_url: str) -> str:
    """What entries begin with where the short label belongs to another instance already."""
    return f"{LABEL}-{re.sub(r'[^a-z0-9]+', '-', urlsplit(public_url).netloc.lower()).strip('-')}"


def server_at(url: str, public_url: str) -> ServerName | None:
    """The server of the instance at `public_url` that an entry's address leads to; None for any other address."""
    prefix = public_url.rstrip("/") + MCP_PREFIX
    if not url.startswith(prefix):
        return None
    try:
        return ServerName.parse(url.removeprefix(prefix))
    except ValueError:
        return None


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _filled(word: str, values: tuple[tuple[str, str], ...]) -> str:
    return next((value for placeholder, value in values if word == placeholder), word)
