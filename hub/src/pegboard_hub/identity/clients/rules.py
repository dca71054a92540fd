"""What the operator settled on clients in the sign-in file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.identity.settings import SignInSettings


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A client that the operator registered by its id.

    Attributes:
        name: how pages call it.
        redirect_uris: where answers may go.
        surface: from which its calls count.
        secret: of a confidential client; None of a public one.
    """

    name: str
    redirect_uris: tuple[str, ...]
    surface: str
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClientRules:
    """Which clients there may be.

    Attributes:
        registered: the operator's own, by client id.
        redirect_schemes: private-use schemes that answers may go to, beside the ones of known editors.
        dynamic_registration: whether clients may register themselves (RFC 7591).
        documents: whether a client may be known by a document that its id leads to.
        document_hosts: the only hosts that documents are fetched from; empty for any.
        documents_from_loopback: whether documents of programs on this machine are fetched, to develop a client with.
        document_proxy: URL of the proxy that documents are fetched through; none is taken from the environment.
        operators: business groups whose people look after clients.
    """

    registered: Mapping[str, RegisteredClient] = field(default_factory=dict)
    redirect_schemes: frozenset[str] = frozenset()
    dynamic_registration: bool = True
    documents: bool = True
    document_hosts: tuple[str, ...] = ()
    documents_from_loopback: bool = False
    document_proxy: str | None = None
    operators: frozenset[str] = frozenset({"platform"})


def client_rules(opened: SignInSettings) -> ClientRules:
    """What the sign-in file says of clients, with the secrets that it names."""
    said = opened.file.clients
    registered = {
        client_id: RegisteredClient(client.name, client.redirect_uris, client.surface, opened.secret(client.secret))
        for client_id, client in said.registered.items()
    }
    return ClientRules(
        registered=registered,
        redirect_schemes=frozenset(said.redirect_schemes),
        dynamic_registration=said.dynamic_registration,
        documents=said.documents,
        document_hosts=said.document_hosts,
        documents_from_loopback=said.documents_from_loopback,
        document_proxy=said.document_proxy,
        operators=frozenset(opened.file.operators),
    )


def loopback_fault(public_url: str) -> str:
    """Why documents of this machine are not fetched; empty where they may be.

    Who names one sends the hub to this machine, so nobody else may be able to (the draft's §6.5 lets an authorization
    server that is itself on loopback do so).
    """
    if is_loopback(public_url):
        return ""
    return f"{public_url} is not a loopback address; this is for developing a client on one machine, so remove it"
