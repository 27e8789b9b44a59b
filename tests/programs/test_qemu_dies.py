# SPDX-License-Identifier: Apache-2.0
"""A device model that is killed in the middle of a request takes nobody with it, and another one can follow."""

from __future__ import annotations

import errno
import os
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmd import Client
from privcmd.errors import PrivcmdError
from privcmd.guest import Guest, bdf
from privcmd.run import host, qemu
from programs.programs import needs

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

N_PAGES = 4096
BRIDGE = 0x1237_8086
DESTROY_SERVER = 6


def held(client: Client) -> dict[str, Any]:
    """What the broker holds for others; xenstored keeps an entry without pages for its next hypercall."""
    stats = client.stats()
    pages = {name: n for name, n in stats["mappings"].items() if name != "entries"}
    return {**pages, "objects": stats["objects"]["alive"], "descriptors": stats["uids"][str(os.getuid())]["fds"]}


def n_fds(broker: PrivateBroker) -> int:
    """The broker's descriptors."""
    return len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))


def test_one_that_is_killed_is_replaced(broker: PrivateBroker) -> None:
    """The guest's request is not answered, in a sentence; what the dead one had is given back; the next one answers.

    Its ioreq server stays, as on Xen, until a toolstack ends it: of two that claim a port the newer is asked.
    """
    needs("xenstored")
    try:
        qemu.find()
    except PrivcmdError as missing:
        pytest.skip(f"NOT TESTED: QEMU as a device model; {missing} (apt-get install qemu-system-xen)")
    with (
        host.running([host.Guest("hvm", N_PAGES)], socket=broker.path, store=True) as up,
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
