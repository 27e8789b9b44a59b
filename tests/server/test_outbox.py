# SPDX-License-Identifier: Apache-2.0
"""What a connection still has to be sent, on a socket that takes little: whole, in order, each descriptor once."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import trio

from privcmdd.model.ledger import Account, Slot
from privcmdd.server import fdpass
from privcmdd.server.outbox import Outbox
from sim.kernel import Kernel
from sim.transport import BrokerEnd
from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BIG = 300_000  # more than a socket takes at once


def test_a_notification_goes_whole_or_not_at_all() -> None:
    """One whose rest could not be paid for, once the socket has taken its beginning, is dropped before it begins."""
    end = BrokerEnd(room_bytes=8)
    account = Account("uid 1", {Slot.QUEUED_BYTES: 10})
    charge = account.charge(Slot.QUEUED_BYTES)

    def pay(n_bytes: int) -> None:
        charge.resize(charge.amount + n_bytes)

    with Kernel() as kernel:
        outbox = Outbox(
            end,  # type: ignore[arg-type] # of a socket, it is what an outbox uses
            pay,
            lambda n_bytes: pay(-n_bytes),
            lambda function: kernel.start("flush", function),
        )
        outbox.offer(bytes(20), bound_bytes=1000)
        assert (outbox.n_dropped, end.n_unread) == (1, 0)
        assert account.idle

        outbox.offer(bytes(10), bound_bytes=1000)
        assert (outbox.n_dropped, end.n_unread, outbox.n_bytes) == (1, 8, 2)
        outbox.close()


async def test_a_message_that_goes_in_parts_has_its_descriptors_once() -> None:
    """They go with its first byte; what is left of it goes without them, and they are closed once."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    n_charged = 0

    def charge(n_bytes: int) -> None:
        nonlocal n_charged
        n_charged += n_bytes

    with ours, theirs:
        before = descriptors.open_now()
        async with trio.open_nursery() as nursery:

            def fork(flush: Callable[[], Awaitable[None]]) -> None:
                nursery.start_soon(flush)

            outbox = Outbox(ours, charge, lambda n_bytes: charge(-n_bytes), fork)
            for letter in (b"a", b"b", b"c"):
                outbox.send(letter * BIG, [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)])
            received, n_fds = b"", 0
            while len(received) < 3 * BIG and not outbox.broken:
                await trio.lowlevel.wait_readable(theirs)
                data, fds, _, _ = socket.recv_fds(theirs, 65_536, 4)
                received += data
                n_fds += len(fds)
                fdpass.close_all(fds)

        assert not outbox.broken
        assert received == b"a" * BIG + b"b" * BIG + b"c" * BIG
        assert (n_fds, n_charged, outbox.n_bytes) == (3, 0, 0)
        assert descriptors.left_since(before) == {}
