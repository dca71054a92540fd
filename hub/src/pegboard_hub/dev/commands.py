"""`pegboard dev`: run a project behind a local edge, as it will be governed, and take up what is saved."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import Grant
from pegboard.core.manifest import Manifest, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.dev import people
from pegboard_hub.dev.log import show
from pegboard_hub.dev.making import ProjectInPlace
from pegboard_hub.dev.reloading import Reloading
from pegboard_hub.runtime.commands import on_signals
from pegboard_hub.runtime.instance import Instance, InstanceSettings
from pegboard_hub.runtime.launching import leave_no_core
from pegboard_hub.runtime.preflight import find_uv
from pegboard_hub.runtime.progress import Progress, ProgressHandler

NAMESPACE = "dev"
HOME = Path(".pegboard") / "dev"
PORTS = range(8410, 8500)
PORT_NOTE = "port"
"""File in the home with the port of the last start, so that what was told to clients stays true."""

INSPECTOR = "npx @modelcontextprotocol/inspector --transport http"

WHO_S = 30.0


def dev(
    project: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder. Default: this one.")] = Path(),
    person: Annotated[
        str | None, typer.Option("--as", help="Show what this person of the demo may use. Default: one who may.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1024, max=65535, help="Of its edge. Default: the last one, else from 8410 on."),
    ] = None,
) -> None:
    """Run a project behind a local edge with real authorization, and reload it when you save.

    A whole Pegboard of its own runs for it in the project's .pegboard/, reached from this machine alone: Envoy, hub
    and pages, with the demo's people. All that pegboard.toml asks for is granted. An error in your code is said, and
    what ran before goes on.

    \b
    Examples:
      pegboard dev
      pegboard dev servers/presto --as fay
    """
    folder = project.resolve()
    try:
        manifest = read_manifest(folder)
    except ConfigurationError as error:
        mend = "make a project with pegboard new NAME, or name its folder: pegboard dev DIR"
        raise ConfigurationError(error.where, [*error.problems, mend]) from error
    home = folder / HOME
    home.mkdir(parents=True, exist_ok=True)
    directory_text = people.directory_text(manifest)
    known = people.read_directory(directory_text).people
    if person is not None and person not in known:
        raise typer.BadParameter(f"--as {person!r}: the demo's people are {', '.join(known)}.")
    files = _Files(home.parent, ServerName(NAMESPACE, manifest.name), folder)
    files.directory.write_text(directory_text, encoding="utf-8")
    files.grant(manifest)
    port = port or _port(home)
    progress = _Progress(files.server)
    logging.basicConfig(level=logging.WARNING, handlers=[ProgressHandler(progress)])
    settings = InstanceSettings(
        home=home,
        port=port,
        public_url=f"http://localhost:{port}",
        grants=files.grants,
        isolation="off",
        directory=files.directory,
        follows=False,
    )
    raise typer.Exit(asyncio.run(_run(settings, files, manifest, progress, person)))


class _Files:
    """What stands beside the instance's home: its grants and its people."""

    def __init__(self, folder: Path, server: ServerName, project: Path) -> None:
        self.server = server
        self.project = project
        self.grants = folder / "dev-grants.toml"
        self.directory = folder / "dev-people.toml"

    def grant(self, manifest: Manifest) -> Grant:
        """Write down that all is granted which a manifest asks for."""
        text = people.grants_text(self.server, self.project, manifest)
        if not self.grants.exists() or self.grants.read_text(encoding="utf-8") != text:
            replace_file(self.grants, text)
        requests = manifest.requests
        return Grant(
            source=str(self.project),
            groups=requests.business_groups,
            surfaces=requests.surfaces,
            channels=requests.channels,
            egress=manifest.egress,
            reason="pegboard dev",
        )


class _Progress(Progress):
    """Of an instance's start an author reads what is about their server."""

    def __init__(self, server: ServerName) -> None:
        super().__init__(quiet=False)
        self._server = str(server)

    def step(self, line: str) -> None:
        """A step on the way."""
        if line.startswith((self._server, "hub is", "edge is", "stop")):
            super().step(line)


async def _run(
    settings: InstanceSettings, files: _Files, manifest: Manifest, progress: _Progress, person: str | None
) -> int:
    leave_no_core()
    maker = ProjectInPlace(Home.open(settings.home), find_uv())
    instance = Instance(settings, progress, lambda *_: maker)
    (settings.home / PORT_NOTE).write_text(f"{settings.port}\n", encoding="ascii")
    told = asyncio.Event()
    on_signals(told, instance.kill)
    stopping = asyncio.create_task(told.wait())
    working = asyncio.create_task(_work(instance, settings, files, maker, manifest, progress, person))
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()  # what kept it from starting is said by whoever called
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(working, return_exceptions=True)
        await instance.stop()
        stopping.cancel()
    progress.say("Stopped; nothing is left running. What it kept is in .pegboard/dev.")
    return 0


async def _work(
    instance: Instance,
    settings: InstanceSettings,
    files: _Files,
    maker: ProjectInPlace,
    manifest: Manifest,
    progress: _Progress,
    person: str | None,
) -> None:
    server, home = files.server, instance.home
    directory = people.read_directory(files.directory.read_text(encoding="utf-8"))
    inside = people.who_may(manifest, directory)
    who = person or next(iter(inside), next(iter(directory.people)))

    async def reloaded(declaration: Declaration) -> None:  # noqa: ARG001 - what it says the edge is asked
        progress.say(await _told_to(server, settings, who))

    reloading = Reloading(
        server,
        files.project,
        home.secrets(server),
        maker,
        instance.servers,
        lambda declaration: files.grant(declaration.manifest),
        progress.problem,
        reloaded,
    )
    beside = [asyncio.create_task(show(home.log(server), progress.say), name="show the log")]
    try:
        await reloading.begin()
        await instance.start()
        if not instance.servers.has_fault(server) and maker.made is not None:
            # What was saved meanwhile may be no release: it is taken up like all that is saved later.
            reloading.declaration = maker.made.declaration
        for line in _welcome(settings, server, reloading.declaration, inside, directory.people, who):
            progress.say(line)
        progress.say("Saved files are taken up at once. Ctrl-C ends it.")
        if reloading.declaration is not None:
            beside.append(asyncio.create_task(reloaded(reloading.declaration), name="ask as somebody"))
        await reloading.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def _welcome(
    settings: InstanceSettings,
    server: ServerName,
    declaration: Declaration | None,
    inside: list[str],
    known: Any,
    who: str,
) -> Iterator[str]:
    url, page = settings.public_url, f"{settings.public_url}/servers/{server}"
    yield from ("", f"{server} is behind a local edge: {server.resource_url(url)}", "")
    yield "Call it, in another terminal:"
    at = f"PEGBOARD_PORT={settings.port} pegboard"
    yield f"  {at} tools {server} --as {who}"
    if declaration is not None and declaration.tools:
        yield f"  {at} call {server} {_call(declaration)} --as {who}"
    outside = [name for name in known if name not in inside]
    if outside:
        yield f"  {at} explain --server {server} --as {outside[-1]}"
    may = ", ".join(f"{name} ({', '.join(known[name].groups)})" for name in inside) or "nobody"
    yield from ("", f"May use it: {may}.  May not: {', '.join(outside) or 'nobody'}.", "")
    yield f"In a browser   {page}"
    yield f"MCP Inspector  {INSPECTOR} --server-url {server.resource_url(url)}"
    yield f"               (connect there, and sign in as {who})"
    yield f"An editor      {at} connect --help"
    yield ""


def _call(declaration: Declaration) -> str:
    """A call to begin with: the manifest's own smoke call, or one of a tool that reads, to be filled in."""
    smoke = next(iter(declaration.manifest.smoke), None)
    if smoke is not None:
        given = " ".join(f"--arg {name}={_shown(value)}" for name, value in smoke.arguments.items())
        return f"{smoke.tool} {given}".rstrip()
    tool = min(declaration.tools, key=lambda each: (not each.read_only, len(_required(each))))
    return " ".join([tool.name, *(f"--arg {name}=…" for name in _required(tool))])


def _required(tool: ToolDeclaration) -> list[str]:
    return [str(name) for name in tool.input_schema.get("required", ())]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isalnum() else "'" + text.replace("'", "'\\''") + "'"


async def _told_to(server: ServerName, settings: InstanceSettings, person: str) -> str:
    """What one person is told of the tools, asked through the edge as anybody would."""
    command = [sys.executable, "-m", "pegboard.cli", "tools", str(server), "--as", person, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--url",
        settings.public_url,
        env={name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WHO_S)
        said = json.loads(out)
    except (TimeoutError, ValueError):
        return f"{person} was not answered."
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "error" in said:
        return f"{person} is refused: {said['error']['message']}"
    names = [str(tool.get("name", "")) for tool in said.get("tools", ())]
    return f"{person} may use {', '.join(names) or 'no tool'}."


def _port(home: Path) -> int:
    """The port of the last start where it is free, else the first free one."""
    with suppress(OSError, ValueError):
        noted = int((home / PORT_NOTE).read_text(encoding="ascii"))
        if _free(noted):
            return noted
    for port in PORTS:
        if _free(port):
            return port
    raise ConfigurationError("--port", [f"none of {PORTS.start} to {PORTS.stop - 1} is free; name another"])


def _free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
