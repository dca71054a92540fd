"""The cluster's API: the few things that are asked of it. Lightkube is imported here and nowhere else."""

from __future__ import annotations

import builtins
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.config.models import Cluster as ApiServer
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

from pegboard.core.errors import ConfigurationError
from pegboard_hub.runtime.kubernetes.objects import MANAGER, Json, Manifest

ANSWER_S: Final = 10.0
"""Seconds that an answer may take."""

WATCH_S: Final = 240
"""Seconds after which the API ends a watch by itself, so that one that has died unnoticed is begun anew."""

PATHS: Final[Mapping[str, tuple[str, str, str]]] = {
    "ServiceAccount": ("", "v1", "serviceaccounts"),
    "Secret": ("", "v1", "secrets"),
    "ConfigMap": ("", "v1", "configmaps"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "Service": ("", "v1", "services"),
    "Deployment": ("apps", "v1", "deployments"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "Pod": ("", "v1", "pods"),
    "EndpointSlice": ("discovery.k8s.io", "v1", "endpointslices"),
}
"""Group, version and plural of every kind that is asked for: what the chart's Role allows, and no more."""

_KINDS: Final[Mapping[str, Any]] = {
    kind: create_namespaced_resource(group, version, kind, plural) for kind, (group, version, plural) in PATHS.items()
}


@dataclass(frozen=True, slots=True)
class Cause:
    """A field that another has changed.

    Attributes:
        field: its path.
        manager: who, as the API says.
    """

    field: str
    manager: str


class ApiAway(Exception):
    """The API does not answer, or cannot now. It is tried again."""


class ApiRefused(Exception):
    """The API answered no, and would again.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FieldConflict(Exception):
    """Others have changed fields that are in the manifest (409 of server-side apply)."""

    def __init__(self, causes: tuple[Cause, ...]) -> None:
        super().__init__(", ".join(f"{each.field} by {each.manager}" for each in causes))
        self.causes = causes


class WatchEnded(Exception):
    """A watch has ended, or what it would begin with is gone (410): list again."""


class Cluster:
    """One namespace of a cluster.

    Args:
        namespace: which.
        client: a client of its API.
    """

    def __init__(self, namespace: str, client: AsyncClient) -> None:
        self.namespace = namespace
        self._client = client

    @classmethod
    def open(cls, namespace: str, kubeconfig: Path | None = None) -> Cluster:
        """The cluster that this runs in, or that of a kubeconfig's current context.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()
            client = AsyncClient(config, namespace=namespace, timeout=httpx2.Timeout(ANSWER_S), trust_env=False)
        except (ConfigError, KeyError, OSError, ValueError) as error:
            mend = "run it in a pod with a ServiceAccount, or name a kubeconfig with --kubeconfig"
            raise ConfigurationError("cluster", [str(error) or type(error).__name__, mend]) from error
        return cls(namespace, client)

    @classmethod
    def at(cls, namespace: str, url: str) -> Cluster:
        """The cluster whose API is at `url` without a credential: `kubectl proxy`, or a test's."""
        config = KubeConfig.from_one(cluster=ApiServer(server=url), user=User(), namespace=namespace)
        timeout = httpx2.Timeout(ANSWER_S)
        return cls(namespace, AsyncClient(config, namespace=namespace, timeout=timeout, trust_env=False))

    async def get(self, kind: str, name: str) -> Json | None:
        """One object; None where there is none.

        Raises:
            ApiAway: as everywhere here.
            ApiRefused: as everywhere here.
        """
        try:
            return dict(await self._client.get(_KINDS[kind], name))
        except Exception as error:
            if _status(error) == httpx2.codes.NOT_FOUND:
                return None
            raise _told(error) from error

    async def list(self, kind: str, labels: Mapping[str, str]) -> tuple[list[Json], str]:
        """Every object with these labels, and the version to watch from."""
        try:
            listing = self._client.list(_KINDS[kind], labels=dict(labels))
            return [dict(each) async for each in listing], listing.resourceVersion or ""
        except Exception as error:
            raise _told(error) from error

    async def apply(self, manifest: Manifest, *, force: bool = False, manager: str = MANAGER) -> Json:
        """Apply a manifest server-side: it is created, or its fields are made so.

        Args:
            manifest: what should be.
            force: take over fields that others have changed meanwhile.
            manager: in whose name.

        Raises:
            FieldConflict: others have, and `force` is not said.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        try:
            found = await self._client.patch(
                _KINDS[kind],
                name,
                dict(manifest),
                patch_type=PatchType.APPLY,
                field_manager=manager,
                force=force,
            )
        except Exception as error:
            if causes := _causes(error):
                raise FieldConflict(causes) from error
            raise _told(error) from error
        return dict(found)

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object; one that is gone already is as well."""
        try:
            await self._client.delete(_KINDS[kind], name)
        except Exception as error:
            if _status(error) == httpx2.codes.NOT_FOUND:
                return
            raise _told(error) from error

    async def watch(self, kind: str, labels: Mapping[str, str], version: str) -> AsyncIterator[tuple[str, Json]]:
        """What happens to objects with these labels, from a version on: the kind of event, and the object.

        Raises:
            WatchEnded: it has to be begun anew, with a list.
        """
        events = self._client.watch(
            _KINDS[kind], labels=dict(labels), server_timeout=WATCH_S, resource_version=version or None
        )
        try:
            async for event, found in events:
                yield event, dict(found)
        except Exception as error:
            if _status(error) == httpx2.codes.GONE:
                raise WatchEnded("what it began with is gone") from error
            told = _told(error)
            raise (WatchEnded(str(told)) if isinstance(told, ApiAway) else told) from error
        raise WatchEnded("the API has ended it")

    async def log(self, pod: str, container: str, lines: int, since_s: int | None = None) -> builtins.list[str]:
        """The last lines that a container wrote, each with its time before it; none where it never ran."""
        try:
            stream = self._client.log(
                pod, container=container, tail_lines=lines, since=since_s, timestamps=True, newlines=False
            )
            return [line async for line in stream]
        except Exception as error:
            told = _told(error)
            if isinstance(told, ApiRefused) and told.status in (400, 404):
                return []
            raise told from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _answer(error: Exception) -> Json:
    """The `Status` that the API answered with; empty where it did not answer."""
    if isinstance(error, KeyError) and isinstance(error.__context__, httpx2.HTTPStatusError):
        # Lightkube wants a Content-Type of every answer, and a balancer's 503 may have none.
        error = error.__context__
    if isinstance(error, ApiError) and error.status is not None:
        return dict(error.status.to_dict())
    if not isinstance(error, httpx2.HTTPStatusError):
        return {}
    try:
        found = error.response.json()
    except ValueError:
        found = None
    # A proxy on the way answers in words of its own.
    code = error.response.status_code
    return {**found, "code": code} if isinstance(found, dict) else {"code": code, "message": f"status {code}"}


def _status(error: Exception) -> int:
    return int(_answer(error).get("code") or 0)


def _causes(error: Exception) -> tuple[Cause, ...]:
    """Who has changed what: `conflict with "kubectl-edit" using apps/v1`."""
    answer = _answer(error)
    if answer.get("code") != httpx2.codes.CONFLICT:
        return ()
    causes = (answer.get("details") or {}).get("causes") or ()
    found = [each for each in causes if each.get("reason") == "FieldManagerConflict"]
    return tuple(Cause(str(each.get("field", "")), _manager(str(each.get("message", "")))) for each in found)


def _manager(message: str) -> str:
    _, quote, rest = message.partition('"')
    return rest.partition('"')[0] if quote else message


def _told(error: Exception) -> ApiAway | ApiRefused:
    """An error of the client in our words. Whatever is not an answer of the API means that it is away."""
    if answer := _answer(error):
        status, message = int(answer.get("code") or 0), str(answer.get("message") or "nothing is said")
        # A token is renewed in a moment.
        if status in (401, 408, 429) or status >= 500:
            return ApiAway(f"{status}: {message}")
        return ApiRefused(status, message)
    if isinstance(error, httpx2.HTTPError | OSError | json.JSONDecodeError | ConfigError):
        return ApiAway(f"{type(error).__name__}: {error}".rstrip(": "))
    raise error
