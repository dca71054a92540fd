"""The grants file at the internal door: the operator takes it out of the registry, and asks what one would change."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import GrantsFile, read_grants
from pegboard_hub.common.requests import read_json, refuse
from pegboard_hub.registry import store
from pegboard_hub.registry.exporting import Expected, expected, exported
from pegboard_hub.registry.reviews.model import Kind, Review, State
from pegboard_hub.web.internal.operator import check_operator
from pegboard_hub.web.parts import Parts

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of a grants file; one of ten thousand servers has some three millions."""


class ExportWord(BaseModel):
    """The registry as a grants file."""

    text: str
    grants: str = Field(description="path of the file that is followed")


class ExpectedWord(BaseModel):
    """What would come of one server's entry."""

    server: str
    what: str = Field(description="new, changes, retires, conflicts or differs")
    fields: dict[str, tuple[Any, Any]] = Field(description="what it is, and what it would be")
    conflicts: dict[str, tuple[Any, Any]] = Field(description="what the file says, and what the registry says")
    differs: dict[str, tuple[Any, Any]] = Field(
        description="the same, where the registry has decided since and holds"
    )


class ImportWord(BaseModel):
    """What would come of a grants file."""

    servers: list[ExpectedWord]
    grants: str = Field(description="path of the file that is followed")


class ConflictsWord(BaseModel):
    """Where file and registry do not agree."""

    servers: list[str]
    differing: list[str] = Field(
        description="servers in which the registry has decided since the file said otherwise"
    )
    grants: str = Field(description="path of the file that is followed")


class TakenWord(BaseModel):
    """Whether the registry has a release."""

    taken: bool = Field(description="it is the one deployed, or the one that waits")


class UnreachedWord(BaseModel):
    """Servers that are approved, and into which nobody gets."""

    servers: dict[str, str] = Field(description="why, and what to do about it, by name")


def registry_door(parts: Parts) -> APIRouter:
    """The routes under `/internal/v1/registry`."""
    router = APIRouter(prefix="/internal/v1/registry", include_in_schema=False)
    grants, folder = str(parts.settings.grants), parts.settings.grants.parent

    async def would(file: GrantsFile) -> list[Expected]:
        async with parts.database.read() as connection:
            imported = await store.imported(connection)
        return expected(file, imported, parts.registry.current, folder)

    @router.get("/export")
    async def export(request: Request, into: Path = folder) -> ExportWord:
        check_operator(parts, request)
        file, snapshot = parts.registry.grants_file or GrantsFile(), parts.registry.current
        text = exported(file, snapshot, await _approved(parts), _moved_from(folder, into))
        return ExportWord(text=text, grants=grants)

    @router.get("/conflicts")
    async def conflicts(request: Request) -> ConflictsWord:
        check_operator(parts, request)
        found = await would(parts.registry.grants_file or GrantsFile())
        differing = [each.server for each in found if each.differs]
        return ConflictsWord(servers=list(parts.registry.conflicting), differing=differing, grants=grants)

    @router.get("/taken")
    async def taken(request: Request, server: str, release: str) -> TakenWord:
        check_operator(parts, request)
        found = parts.registry.current.servers.get(server)
        has = [each.digest for each in (found.release, found.waiting) if each] if found else []
        return TakenWord(taken=release in has)

    @router.get("/unreached")
    async def unreached(request: Request) -> UnreachedWord:
        check_operator(parts, request)
        found = await parts.reviewing.unreached(parts.registry.current.servers.values())
        return UnreachedWord(servers={name: f"{each.why} {each.mend}" for name, each in found.items()})

    @router.post("/import")
    async def dry_run(request: Request) -> ImportWord:
        check_operator(parts, request)
        body = await read_json(request, BODY_LIMIT)
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(text, str):
            raise refuse(422, "invalid_request", "text: it is no text.", "Send the file's text.")
        try:
            file = read_grants(text, "the file")
        except ConfigurationError as error:
            raise refuse(422, "invalid_request", f"{error}.", "Mend the file.") from error
        words = [ExpectedWord.model_validate(asdict(each)) for each in await would(file)]
        return ImportWord(servers=words, grants=grants)

    return router


def _moved_from(folder: Path, into: Path) -> Path | None:
    return None if into.resolve() == folder.resolve() else folder


async def _approved(parts: Parts) -> dict[str, list[Review]]:
    """The newest approval of each kind, by server."""
    newest: dict[str, dict[Kind, Review]] = {}
    for review in await parts.reviewing.listed(states=[State.APPROVED], limit=100_000):
        newest.setdefault(review.server, {}).setdefault(review.kind, review)
    return {name: [found[kind] for kind in Kind if kind in found] for name, found in newest.items()}
