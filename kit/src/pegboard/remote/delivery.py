"""Bringing the spool to the hub, again and again, until the hub has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import httpx2
from pydantic import ValidationError

from pegboard.core.record import Receipt
from pegboard.remote.door import hub_client
from pegboard.remote.spool import Batch, SpoolReader

logger = logging.getLogger(__name__)

IDLE_S = 0.2
"""How long to wait before looking for new records, in seconds."""

LONGEST_WAIT_S = 5.0
"""The longest pause between two attempts while the hub is away, in seconds."""


class Delivery:
    """Delivers one spool over the hub's internal socket. One HTTP client serves all batches."""

    def __init__(
        self,
        reader: SpoolReader,
        hub_socket: Path,
        channel_token: str,
        delivered: Callable[[str, int], None] = lambda _result, _records: None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            reader: of the spool.
            hub_socket: the hub's internal door.
            channel_token: says whose records they are.
            delivered: told of each attempt, as one of `core.metrics.DELIVERIES`, and how many records it brought.
        """
        self._reader = reader
        self._delivered = delivered
        self._wholes: list[asyncio.Future[None]] = []
        self._client = hub_client(hub_socket, channel_token)

    async def run(self) -> None:
        """Deliver until cancelled."""
        wait, fault = IDLE_S, ""
        while True:
            try:
                wait = IDLE_S if await self.deliver() else min(wait * 2, LONGEST_WAIT_S)
                fault = ""
            except (OSError, httpx2.HTTPError) as error:
                if type(error).__name__ != fault:
                    logger.warning("records wait on disk, until the hub takes them: %s", type(error).__name__)
                fault = type(error).__name__
                wait = min(wait * 2, LONGEST_WAIT_S)
            except Exception:
                # Whatever it is, records must not wait until the process starts anew: no memory, no further thread.
                logger.exception("records wait on disk")
                wait = LONGEST_WAIT_S
            await asyncio.sleep(wait)

    async def deliver(self) -> bool:
        """Deliver everything there is. False when the hub did not take a batch.

        What is written meanwhile waits for the next time: a server under load would otherwise never pause, and bring
        each call to the hub in a delivery of its own.

        Raises:
            httpx2.HTTPError: the hub cannot be reached.
            OSError: the spool cannot be read.
        """
        wholes, self._wholes = self._wholes, []
        try:
            while (batch := await anyio.to_thread.run_sync(self._reader.next)) is not None:
                if batch.records and not await self._send(batch):
                    return False
                await anyio.to_thread.run_sync(self._reader.acknowledge, batch)
                if not batch.more:
                    break
            for whole in wholes:
                if not whole.done():
                    whole.set_result(None)
            return True
        finally:
            self._wholes += [whole for whole in wholes if not whole.done()]

    async def whole(self) -> None:
        """Wait until the hub has all that stands in the spool now. `run` delivers it."""
        whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wholes.append(whole)
        await whole

    async def close(self) -> None:
        """Close the connection to the hub."""
        await self._client.aclose()

    async def _send(self, batch: Batch) -> bool:
        try:
            response = await self._client.post("/internal/v1/records", json={"records": batch.records})
        except (OSError, httpx2.HTTPError):
            self._delivered("failed", 0)
            raise
        if response.status_code != httpx2.codes.OK:
            self._delivered("refused", 0)
            logger.warning("the hub answered %d to a batch of records", response.status_code)
            return False
        self._delivered("taken", len(batch.records))
        _tell_rejected(response.content, len(batch.records))
        return True


def _tell_rejected(answer: bytes, sent: int) -> None:
    """Log what the hub could not read. It was taken all the same: sending it again would hold up all that follows."""
    try:
        receipt = Receipt.model_validate_json(answer)
    except ValidationError:
        logger.warning("the hub took %d records with an answer that cannot be read", sent)
        return
    for rejection in receipt.rejected:
        logger.error("the hub cannot read %s %s: %s", rejection.kind, rejection.id, rejection.problem)
    if receipt.rejected and (more := sent - receipt.accepted - len(receipt.rejected)) > 0:
        logger.error("the hub cannot read %d more records of that delivery", more)
