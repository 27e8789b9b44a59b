# SPDX-License-Identifier: Apache-2.0
"""Event channels between processes, through a real broker: who is told, and that nobody is asked on the way."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest
import trio

from privcmd import Client
from privcmd.errors import PrivcmdError
from privcmd.trio import AsyncClient, wait_event

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

GUARD_S = 30


@pytest.fixture
def guest(broker: PrivateBroker) -> int:
    """A domain, as a toolstack leaves it."""
    with Client(broker.path) as toolstack:
        return toolstack.domains.create("hvm", 16)


def test_notifications_need_no_request(broker: PrivateBroker, guest: int) -> None:
    """Once bound, both ends notify and hear each other without a word to the broker."""
    with Client(broker.path) as backend, Client(broker.path) as acting:
        theirs = acting.events.alloc_unbound(0, on=guest)
        ours = backend.events.bind_interdomain(guest, theirs.port)
        assert ours.wait(GUARD_S), "the new end has an event at once"
        before = backend.stats()["broker"]["requests"]

        for _ in range(100):
            ours.notify()
            assert theirs.wait(GUARD_S)
            theirs.notify()
            assert ours.wait(GUARD_S)

        assert backend.stats()["broker"]["requests"] == before + 1
        assert not ours.take()
        theirs.close()
        ours.close()


def test_events_add_up_to_one(broker: PrivateBroker, guest: int) -> None:
    """However often the other end notifies before this one looks."""
    with Client(broker.path) as client:
        theirs = client.events.alloc_unbound(0, on=guest)
        with theirs, client.events.bind_interdomain(guest, theirs.port) as ours:
            assert ours.take()
            for _ in range(5):
                theirs.notify()
            ready, _, _ = select.select([ours], [], [], GUARD_S)
            assert ready == [ours]
            assert (ours.fds[0], theirs.fds[0]) == (ours.fileno(), theirs.fileno())
            assert ours.take()
            assert not ours.take()


def test_who_fills_an_event_holds_nobody_up(broker: PrivateBroker, guest: int) -> None:
    """Law 1.1: to notify does not wait, whatever the other end has done to the flags and the count."""
    with Client(broker.path) as backend, Client(broker.path) as acting:
        theirs = acting.events.alloc_unbound(0, on=guest)
        ours = backend.events.bind_interdomain(guest, theirs.port)
        os.set_blocking(theirs.fileno(), True)
        os.eventfd_write(theirs.fileno(), 2**64 - 2)

        ours.notify()

        assert theirs.take()
        assert not theirs.take()
        theirs.close()
        ours.close()


def test_the_next_device_model_gets_the_same_guest(broker: PrivateBroker, guest: int) -> None:
    """A device model that dies leaves a port that another one binds; the guest goes on as before."""
    with Client(broker.path) as acting, acting.events.alloc_unbound(0, on=guest) as theirs:
        for _ in range(3):
            with Client(broker.path) as backend, backend.events.bind_interdomain(guest, theirs.port) as ours:
                assert ours.take()
                theirs.notify()
                assert ours.wait(GUARD_S)
                ours.notify()
                assert theirs.wait(GUARD_S)


def test_an_end_of_a_domain_that_has_gone_is_silent(broker: PrivateBroker) -> None:
    """Notifying nobody is no error; the port can be closed, once."""
    with Client(broker.path) as client:
        guest = client.domains.create("hvm", 16)
        with client.events.alloc_unbound(0, on=guest) as theirs:
            ours = client.events.bind_interdomain(guest, theirs.port)
        client.domains.destroy(guest)

        ours.notify()
        client.events.close(ours.port)
        with pytest.raises(PrivcmdError, match="ENOTCONN"):
            client.events.close(ours.port)
        ours.close()
        ours.close()


async def test_a_task_waits_for_an_event(broker: PrivateBroker, guest: int) -> None:
    """The trio face: waiting blocks that task alone, and a cancelled wait takes nothing."""
    with trio.fail_after(GUARD_S):
        async with AsyncClient(broker.path) as client, trio.open_nursery() as nursery:
            theirs = await client.events.alloc_unbound(0, on=guest)
            ours = await client.events.bind_interdomain(guest, theirs.port)
            assert ours.take()

            with trio.CancelScope() as scope:
                scope.cancel()
                await wait_event(ours)
            nursery.start_soon(wait_event, theirs)
            ours.notify()
            theirs.notify()
            await wait_event(ours)
            assert not ours.take()
    theirs.close()
    ours.close()


def test_a_toolstack_waits_for_the_end_of_a_domain(broker: PrivateBroker, guest: int) -> None:
    """VIRQ_DOM_EXC becomes readable when one dies; nobody has to ask."""
    with Client(broker.path) as toolstack, toolstack.events.bind_virq(3) as interrupt:
        assert not interrupt.take()
        with Client(broker.path) as other:
            other.domains.destroy(guest)
        assert interrupt.wait(GUARD_S)
