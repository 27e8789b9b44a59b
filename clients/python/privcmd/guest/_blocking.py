# SPDX-License-Identifier: Apache-2.0
"""The guest's blocking face."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from privcmd.client import Client
from privcmd.errors import PrivcmdError
from privcmd.guest import _operations as operations
from privcmd.guest._stepping import stepping
from privcmd.guest._vcpu import Readable, Steps, Vcpu

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
ANSWER_TIMEOUT_S = 10.0


class Guest:
    """A guest that carries out operations: a vcpu without a processor, to drive a device model.

    Accesses to ports, memory and PCI configuration go to the device model through the real ioreq pages and event
    channels; once these are set up, the broker takes no part. What no device model emulates reads as ones, as on Xen.

    Args:
        dom: The domain, which must be HVM or PVH; the caller needs the right to write to it.
        client: The connection to use, only for this guest; by default a new one, closed together with the guest.
        vcpu: The vcpu to play. Several may be played at the same time, each by a thread and a `Guest` of its own.
        timeout_s: How long a device model may take to answer, in seconds; None is for ever.

    Operations raise PrivcmdError: ETIMEDOUT, with a sentence that says what they waited for; ESRCH, EPERM.
    """

    def __init__(
        self, dom: int, client: Client | None = None, *, vcpu: int = 0, timeout_s: float | None = ANSWER_TIMEOUT_S
    ) -> None:
        self._owns_client = client is None
        self.client: Client = client if client is not None else Client()
        self.timeout_s = timeout_s
        self.steps: Vcpu = Vcpu(dom, vcpu, self.client.fileno())
        self.client.listeners.append(self.steps.notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the pages of requests and close the event channels. Idempotent."""
        self.steps.close()
        if self.steps.notice in self.client.listeners:
            self.client.listeners.remove(self.steps.notice)
        if self._owns_client:
            self.client.close()

    def drive(self, steps: Steps[T]) -> T:
        """Take steps to their end. Returns their value."""
        answers: list[Any] | None = None
        while True:
            try:
                step = next(steps) if answers is None else steps.send(answers)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if isinstance(step, Readable):
                self._wait(step)
                answers = []
            else:
                answers = self.client.exchange(step)

    def _wait(self, step: Readable) -> None:
        poller = select.poll()
        poller.register(step.fd, select.POLLIN)
        if not poller.poll(None if self.timeout_s is None else self.timeout_s * 1000):
            raise PrivcmdError(errno.ETIMEDOUT, f"{step.what} has not come within {self.timeout_s} s")

    port_read: Final = stepping(operations.port_read)
    port_write: Final = stepping(operations.port_write)
    mmio_read: Final = stepping(operations.mmio_read)
    mmio_write: Final = stepping(operations.mmio_write)
    buffered_write: Final = stepping(operations.buffered_write)
    rep_ins: Final = stepping(operations.rep_ins)
    rep_outs: Final = stepping(operations.rep_outs)
    pci_read: Final = stepping(operations.pci_read)
    pci_write: Final = stepping(operations.pci_write)
    read: Final = stepping(operations.read)
    write: Final = stepping(operations.write)
    interrupts: Final = stepping(operations.interrupts)
    wait_interrupt: Final = stepping(operations.wait_interrupt)
    invalidate_mapcache: Final = stepping(operations.invalidate_mapcache)
    grant: Final = stepping(operations.grant)
    end_grant: Final = stepping(operations.end_grant)
    grant_in_use: Final = stepping(operations.grant_in_use)
