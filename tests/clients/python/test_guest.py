# SPDX-License-Identifier: Apache-2.0
"""A scripted guest against a device model, through a real broker and the real ioreq pages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from privcmd import Client
from privcmd.errors import PrivcmdError
from privcmd.guest import Guest, bdf
from privcmd.guest._ioreq import IoreqType
from privcmd.guest._vcpu import Readable
from privcmd.trio import AsyncClient, AsyncGuest
from support.device_model import MEMORY, PCI, PORT, DeviceModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmd.broker import PrivateBroker

GUARD_S = 30


@pytest.fixture
def dom(broker: PrivateBroker) -> int:
    """A domain of 64 pages with a hole."""
    with Client(broker.path) as toolstack:
        return toolstack.domains.create("hvm", 64, ranges=[(0, 32), (40, 24)])


@pytest.fixture
def model(broker: PrivateBroker, dom: int) -> Iterator[DeviceModel]:
    """A device model that has some of everything."""
    made = DeviceModel(broker, dom)
    made.claim(PORT, 0x60, 0x6F)
    made.claim(MEMORY, 0xA0000, 0xBFFFF)
    made.claim(PCI, bdf(3, 1), bdf(3, 1))
    with made:
        yield made


@pytest.fixture
def guest(broker: PrivateBroker, dom: int, model: DeviceModel) -> Iterator[Guest]:
    """The guest, played through a connection of its own."""
    assert model.dom == dom
    with Client(broker.path) as client, Guest(dom, client, timeout_s=GUARD_S) as made:
        yield made


def test_accesses_reach_the_device_model(guest: Guest, model: DeviceModel) -> None:
    """Ports, memory and PCI registers: what is written is what the device model has, and what is read back."""
    guest.port_write(0x62, 0xBEEF, 2)
    guest.mmio_write(0xA1000, 0x11223344_55667788, 8)
    guest.pci_write(bdf(3, 1), 0x41, 0x77, 1)

    assert (guest.port_read(0x62, 2), guest.port_read(0x62, 1)) == (0xBEEF, 0xEF)
    assert guest.mmio_read(0xA1000, 8) == 0x11223344_55667788
    assert guest.pci_read(bdf(3, 1), 0x41, 1) == 0x77
    assert model.ports == {0x62: 0xBEEF}
    assert model.config == {(bdf(3, 1), 0x41): 0x77}
    assert IoreqType.PCI_CONFIG in model.seen


def test_what_nobody_emulates_reads_as_ones(guest: Guest, model: DeviceModel) -> None:
    """And so does what is only partly somebody's: Xen asks for the whole access. Writes there go nowhere."""
    guest.port_write(0x70, 1)

    assert guest.port_read(0x70) == 0xFF
    assert guest.port_read(0x6E, 4) == 0xFFFF_FFFF
    assert guest.mmio_read(0x9FFFE, 4) == 0xFFFF_FFFF
    assert guest.pci_read(bdf(3, 2), 0) == 0xFFFF_FFFF
    assert model.seen == []


def test_string_instructions_move_guest_memory(guest: Guest) -> None:
    """The device model reads and writes the guest's memory itself, up or down."""
    guest.write(0x5000, bytes(range(16)))
    guest.rep_outs(0x60, 0x5000, 8)
    assert guest.port_read(0x60, 2) == 0x0F0E
    guest.rep_ins(0x60, 0x6FFE, 4)
    assert guest.read(0x6FFC, 12) == b"\0\0" + b"\x0e\x0f" * 4 + b"\0\0"
    guest.rep_outs(0x60, 0x500E, 8, descending=True)
    assert guest.port_read(0x60, 2) == 0x0100


def test_buffered_writes_are_taken_in_order(guest: Guest, model: DeviceModel) -> None:
    """Without waiting; a request that is waited for comes after them."""
    sent = [(0xA0000 + i, i * 3, size) for i, size in enumerate((1, 2, 4) * 20)]
    for addr, data, size in sent:
        assert guest.buffered_write(addr, data, size)

    while len(model.buffered) < len(sent):
        guest.port_read(0x60)

    assert model.buffered == sent
    assert not guest.buffered_write(0x90000, 1)
    with pytest.raises(PrivcmdError, match="EINVAL"):
        guest.buffered_write(1 << 20, 1)
    with pytest.raises(PrivcmdError, match="EINVAL"):
        guest.buffered_write(0xA0000, 1, 8)


def test_the_ring_of_buffered_writes_is_bounded(guest: Guest, model: DeviceModel) -> None:
    """When the device model does not look, 511 fit and no more; none is lost or overwritten."""
    model._drain = lambda: None  # type: ignore[method-assign]

    taken = [guest.buffered_write(0xA0000, i, 4) for i in range(600)]

    assert taken == [True] * 511 + [False] * 89


def test_guest_memory_is_read_and_written_anywhere(guest: Guest, broker: PrivateBroker) -> None:
    """Across pages, from any byte; a hole is EFAULT and named; nothing stays mapped."""
    guest.write(0x1FFD, b"across a page")
    assert guest.read(0x1FFC, 15) == b"\0across a page\0"
    with pytest.raises(PrivcmdError, match="0x20 ") as hole:
        guest.read(31 * 4096, 2 * 4096)
    assert hole.value.errno == errno.EFAULT
    with Client(broker.path) as client:
        assert client.stats()["mappings"]["frames"] == 2, "the device model's two pages alone"


def test_a_guest_tells_device_models_to_let_go(guest: Guest, model: DeviceModel) -> None:
    """The request that Xen makes when memory has moved: every enabled server gets it."""
    guest.invalidate_mapcache()

    assert model.seen == [IoreqType.INVALIDATE]


def test_interrupts_are_seen(guest: Guest, model: DeviceModel) -> None:
    """Raised by the device model while the guest waits, or before."""
    model.op(9, "<BB", 14, 1)
    guest.wait_interrupt(14)
    model.op(10, "<BB", 1, 11)
    model.op(8, "<HBBBB", 0, 0, 5, 0, 1)
    guest.wait_interrupt(11)
    model.op(14, "<IIQ", 0x42, 0, 0xFEE0_0000)
    lines = guest.interrupts()

    assert lines.isa == [11, 14]
    assert lines.msis == [{"number": 1, "address": 0xFEE0_0000, "data": 0x42}]


def test_an_interrupt_that_comes_with_an_answer_is_not_missed(guest: Guest, model: DeviceModel) -> None:
    """The answer that says "not yet" and the news may be read together: then there is nothing left to wait for."""
    guest.port_read(0x60)  # it knows the servers, so the first thing it asks is the one that matters
    steps = guest.steps.wait_interrupt(14)
    not_yet = guest.client.exchange(next(steps))  # type: ignore[arg-type]
    model.op(9, "<BB", 14, 1)
    guest.client.ping()  # reads the news, as the same read might have

    again = steps.send(not_yet)

    assert not isinstance(again, Readable)
    with pytest.raises(StopIteration):
        steps.send(guest.client.exchange(again))


def test_ranges_that_change_are_followed(guest: Guest, model: DeviceModel) -> None:
    """A range that is claimed later, and one that is given up."""
    assert guest.port_read(0x300) == 0xFF
    model.claim(PORT, 0x300, 0x300)
    model.client.ping()

    guest.interrupts()  # brings what the broker has said
    guest.port_write(0x300, 5)
    assert guest.port_read(0x300) == 5
    model.op(4, "<HHIQQ", model.id, 0, PORT, 0x300, 0x300)
    guest.interrupts()
    assert guest.port_read(0x300) == 0xFF


def test_of_two_device_models_the_later_is_asked(broker: PrivateBroker, guest: Guest, model: DeviceModel) -> None:
    """Of those that claim the same, Xen asks the one with the highest number."""
    later = DeviceModel(broker, model.dom)
    later.claim(PORT, 0x60, 0x60)
    with later:
        guest.interrupts()
        guest.port_write(0x60, 1)
        guest.port_write(0x61, 2)

    assert later.ports == {0x60: 1}
    assert model.ports == {0x61: 2}


def test_a_device_model_that_does_not_answer_is_named(broker: PrivateBroker, dom: int, model: DeviceModel) -> None:
    """ETIMEDOUT, with what was waited for; when it answers after all the next request goes on."""
    model.silent = True
    with Client(broker.path) as client, Guest(dom, client, timeout_s=0.01) as guest:
        with pytest.raises(PrivcmdError, match="a PIO read at 0x60 from ioreq server 0") as late:
            guest.port_read(0x60)
        assert late.value.errno == errno.ETIMEDOUT
        model.silent = False
        model._answer(model._channels[0])
        guest.timeout_s = GUARD_S
        guest.port_write(0x60, 9)
        assert guest.port_read(0x60) == 9


async def test_the_same_in_a_task(broker: PrivateBroker, dom: int, model: DeviceModel) -> None:
    """The trio face has the same operations; one that is cancelled is waited for by the next."""
    with trio.fail_after(GUARD_S):
        async with AsyncClient(broker.path) as client, AsyncGuest(dom, client) as guest:
            await guest.port_write(0x60, 7)
            assert await guest.port_read(0x60) == 7
            await guest.write(0x3000, b"task")
            assert await guest.read(0x3000, 4) == b"task"
            model.silent = True
            with trio.move_on_after(0.01) as scope:
                await guest.port_read(0x60)
            assert scope.cancelled_caught
            model.silent = False
            model._answer(model._channels[0])
            assert await guest.port_read(0x60) == 7


def test_a_grant_is_ended_when_nobody_has_it(broker: PrivateBroker, dom: int) -> None:
    """What the guest grants can be mapped; while it is, ending it is EBUSY, as a front end finds it."""
    with Client(broker.path) as back_end, Guest(dom, Client(broker.path)) as guest:
        guest.write(5 * 4096, b"ring")
        guest.grant(5, 8)
        guest.grant(6, 700, readonly=True)
        back_end.attach(personality="linux")
        back_end.mmap(1 << 32, 4096, 3, fixed=True, file="gntdev")
        back_end.map_grants(dom, 1 << 32, [8])
        assert back_end.read(1 << 32, 4) == b"ring"
        assert [guest.grant_in_use(ref) for ref in (8, 700, 9)] == [True, False, False]
        with pytest.raises(PrivcmdError, match="EBUSY: grant 8"):
            guest.end_grant(8)
        back_end.munmap(1 << 32, 4096)
        for ref in (8, 700):
            guest.end_grant(ref)
        statuses, _ = back_end.copy_grants([{"flags": 1, "len": 4, "source_dom": dom, "source_ref": 8}])
        assert statuses == [-1]
        with pytest.raises(PrivcmdError, match="EINVAL"):
            guest.grant(5, 64 * 512)
        guest.client.close()
