# SPDX-License-Identifier: Apache-2.0
"""What a connection still has to be sent, on a socket that takes little: whole, in order, each descriptor once."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.server import fdpass
from privcmdd.server.outbox import Outbox
from sim.kernel import Kernel
from sim.transport import BrokerEnd
from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

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
            lambda _: None,
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

            outbox = Outbox(ours, charge, lambda n_bytes: charge(-n_bytes), lambda _: None, fork)
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


def devices(n: int) -> list[int]:
    """New descriptors, to be sent."""
    return [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(n)]


async def test_descriptors_are_paid_for_until_they_are_read() -> None:
    """Law: descriptors that the peer has not read are charged, those that it has read are not (B4, B6)."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    account = Account("uid 1", {Slot.FDS: 5})
    charge = account.charge(Slot.FDS)
    with ours, theirs:
        before = descriptors.open_now()
        outbox = Outbox(ours, lambda _: None, lambda _: None, charge.resize, lambda _: None)
        for n_held in (2, 4):
            outbox.send(b"two", devices(2))
            assert (charge.amount, outbox.all_taken()) == (n_held, False)
        with pytest.raises(ModelError) as refused:
            outbox.send(b"two more", devices(2))
        assert (refused.value.errno, charge.amount) == (errno.EDQUOT, 4)
        assert not descriptors.left_since(before)

        for _ in range(2):
            fdpass.close_all(socket.recv_fds(theirs, 100, 4)[1])
        assert outbox.all_taken()
        assert account.idle


async def test_descriptors_that_are_read_late_are_paid_for_no_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Law: the charge ends when the peer has read its descriptors, though it asks for nothing more (B6)."""
    del autojump_clock
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    charge = Account("uid 1", {}).charge(Slot.FDS)
    with ours, theirs:
        outbox = Outbox(ours, lambda _: None, lambda _: None, charge.resize, nursery.start_soon)
        outbox.send(b"two", devices(2))
        await trio.sleep(1)
        assert charge.amount == 2

        fdpass.close_all(socket.recv_fds(theirs, 100, 4)[1])
        await trio.sleep(1)
        assert charge.amount == 0


async def test_descriptors_that_are_too_many_under_way_are_sent_later(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: when the kernel says ETOOMANYREFS, because others do not read, the message waits and nothing is lost."""
    del autojump_clock
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    send, refusals = fdpass.send, [OSError(errno.ETOOMANYREFS, "too many")] * 3

    def refused_at_first(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int]) -> int:
        if refusals:
            raise refusals.pop()
        return send(sock, data, fds)

    monkeypatch.setattr(fdpass, "send", refused_at_first)
    with ours, theirs:
        outbox = Outbox(ours, lambda _: None, lambda _: None, lambda _: None, nursery.start_soon)
        outbox.send(b"first", devices(1))
        outbox.send(b"second")
        await outbox.wait_below(0)
        assert not refusals
        data, fds, _, _ = socket.recv_fds(theirs, 5, 4)
        fdpass.close_all(fds)
        assert (data, len(fds), theirs.recv(100)) == (b"first", 1, b"second")
