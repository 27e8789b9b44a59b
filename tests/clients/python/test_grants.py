# SPDX-License-Identifier: Apache-2.0
"""Grants through the Python client: a back end beside a scripted front end, and pages of domain 0's own."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest
import trio

from privcmd import Client, PrivcmdError
from privcmd.guest import Guest
from privcmd.trio import AsyncClient, AsyncGuest

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker

AT = 1 << 32
CLEAR, SEND = 1, 2


def page_of(fd: int, page: int) -> mmap.mmap:
    """A page of a memory file; closes the descriptor."""
    try:
        return mmap.mmap(fd, 4096, offset=page * 4096)
    finally:
        os.close(fd)


def test_a_ring_is_shared_until_the_back_end_dies(broker: PrivateBroker) -> None:
    """The front end grants and waits; the back end maps, copies, and its death is told by a byte and an event."""
    with Client(broker.path) as toolstack, Client(broker.path) as mine:
        dom = toolstack.domains.create("hvm", 64)
        with Guest(dom, mine) as guest, mine.events.alloc_unbound(0, on=dom) as ring:
            guest.grant(5, 8)
            guest.grant(6, 9, readonly=True)
            guest.write(6 * 4096, b"request")
            guest.write(5 * 4096, b"\xff" * 4)
            with Client(broker.path) as back_end:
                back_end.attach(personality="linux")
                back_end.mmap(AT, 4096, 3, fixed=True, file="gntdev")
                back_end.map_grants(dom, AT, [8])
                asked = {"flags": 1, "len": 7, "source_dom": dom, "source_ref": 9}
                refused = {"flags": 2, "len": 1, "dest_dom": dom, "dest_ref": 9}
                assert back_end.copy_grants([asked, refused], b"x") == ([0, -1], b"request")
                with back_end.events.bind_interdomain(dom, ring.port) as channel:
                    back_end.notify_unmapped(AT + 1, CLEAR | SEND, channel.port)
                assert guest.grant_in_use(8)
            assert ring.wait(30)
            assert guest.read(5 * 4096, 4) == b"\xff\0\xff\xff"
            guest.end_grant(8)


def test_pages_of_domain_0_are_shared_with_a_guest(broker: PrivateBroker) -> None:
    """Both sides have the same bytes; the guest's side keeps the page when its maker has gone, and sees that it has."""
    with Client(broker.path) as maker, Client(broker.path) as other:
        dom = maker.domains.create("hvm", 64)
        made = maker.share_pages(dom, 2)
        with page_of(made.fd, 1) as ours:
            maker.notify_unshared(made.refs[1], CLEAR, offset=3)
            mapped = other.map_shared(made.refs[1:], on=dom)
            assert (mapped.refs, mapped.page, mapped.prot) == (made.refs[1:], 1, 3)
            with page_of(mapped.fd, mapped.page) as theirs:
                ours[0:4] = b"live"
                assert theirs[0:4] == b"live"
                maker.unshare_pages(made.refs)
                assert theirs[0:4] == b"liv\0"
        with pytest.raises(PrivcmdError, match="ENOENT"):
            other.map_shared(made.refs[:1], on=dom)
        other.unshare_pages(made.refs[1:])


def test_the_same_in_tasks(broker: PrivateBroker) -> None:
    """The asynchronous face."""

    async def scene() -> None:
        async with AsyncClient(broker.path) as client, AsyncClient(broker.path) as mine:
            dom = await client.domains.create("hvm", 64)
            async with AsyncGuest(dom, mine) as guest:
                await guest.grant(5, 8)
                await guest.write(5 * 4096, b"task")
                asked = {"flags": 1, "len": 4, "source_dom": dom, "source_ref": 8}
                assert await client.copy_grants([asked]) == ([0], b"task")
                await guest.end_grant(8)
            pages = await client.share_pages(dom)
            os.close(pages.fd)
            await client.unshare_pages(pages.refs)

    trio.run(scene)
