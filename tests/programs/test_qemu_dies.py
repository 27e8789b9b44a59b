# SPDX-License-Identifier: Apache-2.0
"""A device model that is killed, or driven mad, takes nobody with it, and another one can follow."""

from __future__ import annotations

import errno
import mmap
import os
import random
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import Client
from privcmd.errors import PrivcmdError
from privcmd.guest import Guest, bdf
from privcmd.guest._ioreq import BITS_OFFSET, COUNTERS, READ, TYPE_OFFSET, IoreqState
from privcmd.guest._vcpu import pages_of
from privcmd.run import _qemu as qemu
from privcmd.run import host
from programs.programs import needs

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

N_PAGES = 4096
BRIDGE = 0x1237_8086
DESTROY_SERVER = 6
ADDRESS = 0x7000_0000


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Nothing here can be tested without these."""
    needs("xenstored")
    try:
        qemu.find()
    except PrivcmdError as missing:
        pytest.skip(f"NOT TESTED: QEMU as a device model; {missing} (apt-get install qemu-system-xen)")


def held(client: Client) -> dict[str, Any]:
    """What the broker holds for others; xenstored keeps an entry without pages for its next hypercall."""
    stats = client.stats()
    pages = {name: n for name, n in stats["mappings"].items() if name != "entries"}
    return {**pages, "objects": stats["objects"]["alive"], "connections": stats["broker"]["connections"]}


def n_fds(broker: PrivateBroker) -> int:
    """The broker's descriptors."""
    return len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))


def test_one_that_is_killed_is_replaced(broker: PrivateBroker) -> None:
    """The guest's request is not answered, in a sentence; what the dead one had is given back; the next one answers.

    Its ioreq server stays, as on Xen, until a toolstack ends it: of two that claim a port the newer is asked.
    """
    with (
        host.running([host.DomainConfig("hvm", N_PAGES)], socket=broker.path, store=True) as up,
        Client(broker.path) as client,
        Guest(up.doms[0], client, timeout_s=0.3) as hurried,
    ):
        dom, store = up.doms[0], up.store
        assert store is not None
        hurried.read(0, 1)  # has an address space from now on
        before, before_fds = held(client), n_fds(broker)
        with qemu.running(broker.path, store, dom, N_PAGES) as pid:
            assert hurried.pci_read(bdf(0), 0) == BRIDGE
            os.kill(pid, signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(PrivcmdError, match="ioreq server 0 of domain 1 has not come within") as refused:
                    hurried.port_read(0x1F2)
                assert refused.value.errno == errno.ETIMEDOUT
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(PrivcmdError, match="an earlier request that was given up"):
            hurried.port_read(0x1F2)

        assert [server.id for server in client.ioreq_servers(dom)] == [0]
        assert any(held(client) == before for _ in range(1000)), "what a process held goes with it, soon"

        with (
            qemu.running(broker.path, store, dom, N_PAGES),
            Client(broker.path) as another,
            Guest(dom, another, timeout_s=10) as guest,
        ):
            assert [server.id for server in client.ioreq_servers(dom)] == [0, 1]
            assert guest.pci_read(bdf(0), 0) == BRIDGE
            client.dm_op(dom, [struct.pack("<IIH6x", DESTROY_SERVER, 0, 0)])
            guest.invalidate_mapcache()
            assert hurried.pci_read(bdf(0), 0) == BRIDGE
        client.domains.destroy(dom)
        # The domain's memory file has gone, that of xenstored's hypercall buffers has come.
        assert any(held(client) == before and n_fds(broker) <= before_fds for _ in range(1000))


def write_rubbish(client: Client, dom: int, kind: str) -> None:
    """Write into the pages of a domain's newest server what no Xen writes, and notify its device model."""
    server = client.ioreq_servers(dom)[-1]
    client.mmap(ADDRESS, 2 * 4096, 3, fixed=True)
    extents = client.mmap_resource(dom, 0, server.id, num=2, addr=ADDRESS, extents=True)["extents"]
    client.munmap(ADDRESS, 2 * 4096)
    fd = client.domains.memory(dom, write=True).fd
    buffered, requests = (mmap.mmap(fd, 4096, offset=page * 4096) for page in pages_of(extents))
    os.close(fd)
    dice = random.Random(kind)
    if kind == "no such type":
        requests[TYPE_OFFSET] = 77
    elif kind == "counters":
        buffered[: COUNTERS.size] = COUNTERS.pack(7, 1 << 31)
    else:
        buffered[:] = dice.randbytes(4096)
        requests[:] = dice.randbytes(4096)
    requests[BITS_OFFSET] = READ | IoreqState.READY
    for port in (server.ports[0], server.bufioreq_port):
        with client.events.attach(port, on=dom) as channel:
            channel.notify()
    buffered.close()
    requests.close()


def test_rubbish_in_one_qemus_pages_is_no_concern_of_another(broker: PrivateBroker) -> None:
    """Whatever the first does then (it aborts, or turns in circles until it is killed), the second one answers."""
    guests = [host.DomainConfig("hvm", N_PAGES), host.DomainConfig("hvm", N_PAGES)]
    with (
        host.running(guests, socket=broker.path, store=True) as up,
        Client(broker.path) as client,
        Client(broker.path) as another,
        Guest(up.doms[1], another, timeout_s=10) as honest,
    ):
        store = up.store
        assert store is not None
        with qemu.running(broker.path, store, up.doms[1], N_PAGES):
            assert honest.pci_read(bdf(0), 0) == BRIDGE
            client.attach()
            before = held(client)
            for kind in ("no such type", "counters", "random"):
                with qemu.running(broker.path, store, up.doms[0], N_PAGES) as pid:
                    write_rubbish(client, up.doms[0], kind)
                    assert honest.pci_read(bdf(0), 0) == BRIDGE
                    os.kill(pid, signal.SIGKILL)
                assert honest.pci_read(bdf(1, 1), 0) == 0x7010_8086
            assert any(held(client) == before for _ in range(1000)), "what a process held goes with it, soon"
            told = client.stats()["broker"]
            assert (told["faults"], told["broken"], told["unanswered"]) == (0, {}, {})
