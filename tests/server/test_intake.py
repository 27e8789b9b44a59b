# SPDX-License-Identifier: Apache-2.0
"""What is kept of unfinished messages is charged before it is read, and who has no room waits in the socket."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

import msgpack
import pytest
import trio
import trio.testing

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.server.intake import Intake
from privcmdd.wire.connection import Connection
from privcmdd.wire.limits import MESSAGE_BYTES
from support.process import Process, eventually

if TYPE_CHECKING:
    from support.rawclient import RawClient

MIB = 1 << 20
ROOM = 17_825_792
ONE_ROOM = ("--set", f"limits.incoming_bytes={ROOM}")


def message(n_bytes: int) -> bytes:
    """A request with a bin of this size: no method has such a parameter."""
    return bytes(msgpack.packb([0, 7, "ping", [{"data": bytes(n_bytes)}]]))


def charged(client: RawClient) -> int:
    """What our uid pays for incoming messages."""
    return int(client.call("stats")["uids"][str(os.getuid())]["incoming_bytes"])


def push(client: RawClient, data: bytes) -> int:
    """Send what the socket takes at once. Returns the number of bytes."""
    n_sent = 0
    client.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while n_sent < len(data):
            n_sent += client.sock.send(data[n_sent : n_sent + 65_536])
    client.sock.setblocking(True)
    return n_sent


def test_b2_unfinished_messages_of_a_uid_are_bounded() -> None:
    """Promise B2: forty messages of 16 MiB without their ends: the uid pays for all that is kept, and others work."""
    with Process(*ONE_ROOM) as process:
        process.ready()
        with contextlib.ExitStack() as stack, process.client() as other:
            data = message(16 * MIB)[:-1]
            for _ in range(40):
                client = stack.enter_context(process.client())
                push(client, data)
            assert eventually(lambda: charged(other) > 16 * MIB)
            assert charged(other) <= ROOM
            assert other.call("ping")
        with process.client() as other:
            assert eventually(lambda: charged(other) == 0)


@pytest.mark.parametrize("ends", ["completed", "closed"])
def test_messages_wait_for_room_in_order(ends: str) -> None:
    """The next message is read when the one before it is answered, or its client has gone."""
    with Process(*ONE_ROOM) as process:
        process.ready()
        with process.client() as first, process.client() as second, process.client() as other:
            large = message(12 * MIB)
            pushed = push(first, large)
            assert eventually(lambda: charged(other) > 12 * MIB)
            n_waiting = push(second, message(8 * MIB))
            assert charged(other) < 13 * MIB
            if ends == "completed":
                first.send(large[pushed:])
                assert first.message()[1] == 7
            else:
                first.close()
            second.send(message(8 * MIB)[n_waiting:])
            assert second.message()[1] == 7
            assert eventually(lambda: charged(other) == 0)


def test_who_has_room_and_needs_more_does_not_wait() -> None:
    """A message that shows its length bit by bit is ended when there is no room: two of them could wait for ever."""
    uid = Account("uid 1", {Slot.INCOMING_BYTES: 100})
    intake = Intake()
    one, two = (uid.charge(Slot.INCOMING_BYTES) for _ in range(2))

    assert intake.enter(uid, one, 60)
    assert intake.enter(uid, two, 40)
    with pytest.raises(ModelError, match="incoming"):
        intake.enter(uid, one, 61)
    intake.leave(uid, two)
    assert intake.enter(uid, one, 61)


async def test_room_is_given_in_the_order_of_asking() -> None:
    """Nobody passes who waits, not even with a small message; who gives up leaves the place to the next one."""
    uid = Account("uid 1", {Slot.INCOMING_BYTES: 100})
    intake = Intake()
    holder, large, gives_up, small = (uid.charge(Slot.INCOMING_BYTES) for _ in range(4))
    order: list[str] = []

    async def wait(name: str, charge: object, n_bytes: int, scope: trio.CancelScope) -> None:
        with scope:
            await intake.wait(uid, charge, n_bytes)  # type: ignore[arg-type] # a charge
            order.append(name)

    assert intake.enter(uid, holder, 60)
    async with trio.open_nursery() as nursery:
        giving_up = trio.CancelScope()
        for name, charge, n_bytes, scope in (
            ("large", large, 90, trio.CancelScope()),
            ("gives up", gives_up, 10, giving_up),
            ("small", small, 10, trio.CancelScope()),
        ):
            assert not intake.enter(uid, charge, n_bytes)
            nursery.start_soon(wait, name, charge, n_bytes, scope)
            await trio.testing.wait_all_tasks_blocked()
        giving_up.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        intake.leave(uid, holder)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["large", "small"]
        intake.leave(uid, large)
        intake.leave(uid, small)
    assert uid.idle
    assert intake.enter(uid, holder, 100)


def test_a_connection_knows_how_long_a_message_is_before_it_has_come() -> None:
    """The header of a bin tells; and no message needs more room than one always has."""
    connection = Connection()
    connection.receive(b"\x94\x00\x07\xa4ping\x91\x81\xa4data\xc6" + struct.pack(">I", 12 * MIB))

    assert 12 * MIB < connection.n_expected < 12 * MIB + 64
    assert MESSAGE_BYTES + 8192 * 33 < ROOM
