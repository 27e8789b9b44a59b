# SPDX-License-Identifier: Apache-2.0
"""A connection whose client has sent descriptors ends in its own time, and only its uid waits for that."""

from __future__ import annotations

import array
import os
import socket
from typing import TYPE_CHECKING

import trio
import trio.testing

from privcmdd.server import fdpass
from privcmdd.server.closer import Closer
from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVIL, OTHER = 1000, 1001


def connected(*sent: int) -> tuple[socket.socket, socket.socket]:
    """Two ends; so many descriptors have been sent to the first one with each message."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for n_fds in sent:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * n_fds))] if n_fds else []
        theirs.sendmsg([b"bytes"], rights)
    return ours, theirs


class Slow:
    """Closes descriptors when it is told to.

    Attributes:
        waiting: How many descriptors wait to be closed, one number for each time.
    """

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self._go = trio.Event()

    def go(self) -> None:
        """From now on closing does not take long."""
        self._go.set()

    async def close_all(self, fds: list[int]) -> None:
        """Close them, late."""
        self.waiting.append(len(fds))
        await self._go.wait()
        for fd in fds:
            os.close(fd)


async def test_a_connection_without_descriptors_ends_at_once() -> None:
    """Law: what brought only bytes, read or not, is closed before ``end`` returns."""
    closer = Closer(lambda _: None)
    before = descriptors.open_now()
    for sent in ((), (0, 0)):
        ours, theirs = connected(*sent)
        closer.end(ours, EVIL, [])
        theirs.close()

        assert not descriptors.left_since(before)
        assert not closer.is_full(EVIL)


async def test_descriptors_are_closed_for_one_connection_after_another(nursery: trio.Nursery) -> None:
    """Law: what other connections of the uid have sent is not received meanwhile; other uids' end at once."""
    slow = Slow()
    forked: list[Callable[[], Awaitable[None]]] = []
    closer = Closer(forked.append, slow.close_all)
    before = descriptors.open_now()
    ends = [connected(3, 0, 5), connected(2), connected(0)]
    other = connected(0)
    for ours, _ in ends:
        closer.end(ours, EVIL, [])
    closer.end(other[0], OTHER, [])

    assert len(forked) == 1
    assert other[0].fileno() == -1
    nursery.start_soon(forked[0])
    await trio.testing.wait_all_tasks_blocked()
    assert slow.waiting == [3]

    slow.go()
    await closer.wait(EVIL)
    assert slow.waiting == [3, 5, 2]
    for _, theirs in (*ends, other):
        theirs.close()
    assert not descriptors.left_since(before)


async def test_a_uid_whose_descriptors_are_too_many_is_full(nursery: trio.Nursery) -> None:
    """Law: a uid is full while as many descriptors of it as four messages bring wait to be closed; others are not."""
    slow = Slow()
    closer = Closer(nursery.start_soon, slow.close_all)
    before = descriptors.open_now()
    pairs = [connected() for _ in range(4)]
    for n_ended, (ours, _) in enumerate(pairs):
        assert not closer.is_full(EVIL), n_ended
        closer.end(ours, EVIL, [os.dup(0) for _ in range(fdpass.MOST_FDS)])

    assert closer.is_full(EVIL)
    assert not closer.is_full(OTHER)
    slow.go()
    await closer.wait(EVIL)
    assert not closer.is_full(EVIL)
    for _, theirs in pairs:
        theirs.close()
    assert not descriptors.left_since(before)


async def test_descriptors_that_came_already_are_closed_first(nursery: trio.Nursery) -> None:
    """Law: what a peer has received before its connection ends is closed like what has not been received."""
    slow = Slow()
    closer = Closer(nursery.start_soon, slow.close_all)
    before = descriptors.open_now()
    ours, theirs = connected(1)
    slow.go()

    closer.end(ours, EVIL, [os.dup(0), os.dup(0)])
    await closer.wait(EVIL)
    theirs.close()

    assert slow.waiting == [2, 1]
    assert not descriptors.left_since(before)
