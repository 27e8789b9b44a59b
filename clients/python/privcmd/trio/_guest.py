# SPDX-License-Identifier: Apache-2.0
"""A guest that a test can script, for trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import trio

from privcmd.guest import _operations as operations
from privcmd.guest._stepping import stepping_async
from privcmd.guest._vcpu import Readable, Steps, Vcpu

if TYPE_CHECKING:
    from privcmd.trio._client import AsyncClient

T = TypeVar("T")


class AsyncGuest:
    """A guest that does what it is told; `privcmd.guest.Guest` says what the methods do and raise.

    Args:
        dom: The domain.
        client: The connection to use, only for this guest; it stays open.
        vcpu: The vcpu to play, for one task at a time.

    There is no timeout but the caller's. When an operation is cancelled while the device model works on it, the next
    operation waits for it first.
    """

    def __init__(self, dom: int, client: AsyncClient, *, vcpu: int = 0) -> None:
        self.client = client
        self.steps: Vcpu = Vcpu(dom, vcpu, client.fileno())
        client.listeners.append(self.steps.notice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the pages of requests and close the event channels. Idempotent."""
        self.steps.close()
        if self.steps.notice in self.client.listeners:
            self.client.listeners.remove(self.steps.notice)

    async def drive(self, steps: Steps[T]) -> T:
        """Take steps to their end. Returns their value."""
        await trio.lowlevel.checkpoint()
        answers: list[Any] | None = None
        while True:
            try:
                step = next(steps) if answers is None else steps.send(answers)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Readable):
                await trio.lowlevel.wait_readable(step.fd)
                answers = []
            else:
                answers = await self.client.exchange(step)

    port_read: Final = stepping_async(operations.port_read)
    port_write: Final = stepping_async(operations.port_write)
    mmio_read: Final = stepping_async(operations.mmio_read)
    mmio_write: Final = stepping_async(operations.mmio_write)
    buffered_write: Final = stepping_async(operations.buffered_write)
    rep_ins: Final = stepping_async(operations.rep_ins)
    rep_outs: Final = stepping_async(operations.rep_outs)
    pci_read: Final = stepping_async(operations.pci_read)
    pci_write: Final = stepping_async(operations.pci_write)
    read: Final = stepping_async(operations.read)
    write: Final = stepping_async(operations.write)
    interrupts: Final = stepping_async(operations.interrupts)
    wait_interrupt: Final = stepping_async(operations.wait_interrupt)
    invalidate_mapcache: Final = stepping_async(operations.invalidate_mapcache)
    grant: Final = stepping_async(operations.grant)
    end_grant: Final = stepping_async(operations.end_grant)
    grant_in_use: Final = stepping_async(operations.grant_in_use)
