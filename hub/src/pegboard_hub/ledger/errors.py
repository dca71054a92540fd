"""Errors of the ledger's intake."""

from __future__ import annotations

from pegboard.core.errors import PegboardError


class DeliveryRefused(PegboardError):
    """Whoever delivers is not known at the internal door."""


class DeliveryMalformed(PegboardError):
    """A delivery does not have the agreed shape; nothing of it was taken."""


class DeliveredTooMuch(PegboardError):
    """A server delivered as much as it may; nothing of this delivery was taken."""
