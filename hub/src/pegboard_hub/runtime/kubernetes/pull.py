"""A pod's first container: fetches a release by digest, verifies it, installs it offline, and ends.

`python -m pegboard_hub.runtime.kubernetes.pull …`. What it verifies against is in the pod itself: the digests that
the runtime wrote into its arguments. None of the author's code runs here. When it fails, its last line says why: the
kubelet keeps that, and the author reads it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

import httpx2
from pydantic import ValidationError

from pegboard.core.errors import PegboardError
from pegboard.core.publishing import Artifact, ArtifactFile
from pegboard.core.release import Declaration
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.home import Home
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.publishing.orders import DesiredRelease, Role, Scale
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.kubernetes.releases import FILES
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.installing import install
from pegboard_hub.runtime.verified import NotStarted, check_release
from pegboard_hub.runtime.workshop import Workshop

ANSWER_S: Final = 120.0
TRIES: Final = 5
AGAIN_S: Final = 1.0

FAILED: Final = 1

_PYTHON: Final = Path(sys.executable).resolve()


class PodStore(ArtifactStore):
    """An artifact's files, as the runtime gives them; nothing else is asked, whatever a file says of where it is.

    Args:
        folder: where they are kept meanwhile.
        door: the way to the runtime.
    """

    def __init__(self, folder: Path, door: httpx2.AsyncBaseTransport) -> None:
        super().__init__(Home(folder, folder / "run"), self._ask, dict)
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        self._client = httpx2.AsyncClient(transport=door, base_url="http://releases", timeout=ANSWER_S)

    async def file(self, file: ArtifactFile) -> Path:
        """One file."""
        return await self.own(file.sha256)

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()

    async def _ask(self, digest: str) -> bytes:
        fault = ""
        for again in range(TRIES):
            try:
                answer = await self._client.get(FILES.format(digest=digest))
                if answer.is_success:
                    return answer.content
                fault = _words(answer)
                if answer.status_code == httpx2.codes.NOT_FOUND:
                    break
            except (httpx2.HTTPError, OSError) as error:
                fault = f"the runtime does not answer ({type(error).__name__})"
            await asyncio.sleep(AGAIN_S * again)
        raise ReleaseFailed(f"{digest[:12]}… cannot be fetched: {fault}")


def read_order(order: Path, artifact: str, release: str) -> tuple[Artifact, Declaration]:
    """What is to be installed, as the pod's own files say, once all of it is as signed and as the pod was told.

    Args:
        order: folder with the release's documents.
        artifact: digest of the artifact that this pod is for.
        release: digest of the release that this pod is for.

    Raises:
        NotStarted: a digest or the signature is another's.
        ReleaseFailed: a document cannot be read.
    """
    try:
        made = Artifact.model_validate_json((order / "artifact.json").read_text(encoding="utf-8"))
        declared = Declaration.model_validate_json((order / "declaration.json").read_text(encoding="utf-8"))
        signature = (order / "signature").read_text(encoding="utf-8")
    except (OSError, ValidationError) as error:
        raise ReleaseFailed(f"the release's documents cannot be read: {type(error).__name__}") from error
    if (made.digest, declared.digest) != (artifact, release):
        raise ReleaseFailed("the release's documents are not those that this pod is for")
    wanted = DesiredRelease(
        release=release,
        artifact=made,
        declaration=declared,
        signature=signature,
        role=Role.LIVE,
        scale=Scale(min=1, max=1),
    )
    check_release(made.server, wanted, order / "release-keys.json")
    return made, declared


async def pull(order: Path, artifact: str, release: str, store: PodStore, into: Path, uv: Path) -> None:
    """Fetch, verify and install.

    Args:
        order, artifact, release: as `read_order`.
        store: the files.
        into: folder of the release; begun anew, whatever is in there of an earlier try.
        uv: the program that makes environments.

    Raises:
        PegboardError: it could not be; the message is for the author.
        OSError: a file cannot be written.
    """
    made, _ = read_order(order, artifact, release)
    await asyncio.to_thread(_empty, into)
    isolation = Isolation(Mode.OFF, "a container of its own", _PYTHON)
    shop = Workshop(made.server, into, into / "work", isolation, uv)
    if made.image:
        # The image has the environment; manifest and policies come as for everybody.
        made = made.model_copy(update={"files": ()})
    await install(shop, made, store)


def main(arguments: list[str] | None = None) -> int:
    """Install, and end. The exit status is 1 when it could not be; the last line on stderr says why."""
    parser = argparse.ArgumentParser(prog="python -m pegboard_hub.runtime.kubernetes.pull", description=__doc__)
    parser.add_argument("--order", type=Path, required=True, help="folder with the release's documents")
    parser.add_argument("--artifact", required=True, help="digest of the artifact that this pod is for")
    parser.add_argument("--release", required=True, help="digest of the release that this pod is for")
    parser.add_argument("--releases", type=Path, required=True, help="socket that leads to the runtime")
    parser.add_argument("--fetched", type=Path, required=True, help="folder of files on their way")
    parser.add_argument("--into", type=Path, required=True, help="folder of the release")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_pull(options, preflight.find_uv()))
    except NotStarted as error:
        print(f"{error.trouble.what}; {error.trouble.mend}", file=sys.stderr)
        return FAILED
    except (PegboardError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


async def _pull(options: argparse.Namespace, uv: Path) -> None:
    store = PodStore(options.fetched / "files", at_socket(options.releases))
    try:
        await pull(options.order, options.artifact, options.release, store, options.into, uv)
    finally:
        await store.close()
        _empty(options.fetched)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            remove_tree(left)
        else:
            left.unlink()


def _words(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


if __name__ == "__main__":
    sys.exit(main())
