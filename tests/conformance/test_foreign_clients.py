# SPDX-License-Identifier: Apache-2.0
"""MessagePack-RPC clients of other people, unmodified, do real work against the real broker."""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from aio_msgpack_rpc import Client
from aio_msgpack_rpc.error import RPCResponseError
from pynvim.msgpack_rpc import socket_session

from support.rawclient import RawClient

PAGE = 4096
HOLE = 12


@pytest.fixture(scope="module")
def dom(path: str) -> Iterator[int]:
    """An HVM domain of 16 frames with a hole in it, made through the protocol."""
    with RawClient(path) as admin:
        ranges = [{"gfn": 0, "npages": HOLE}, {"gfn": HOLE + 1, "npages": 3}]
        made = admin.call("domain.create", kind="hvm", max_pages=16, ranges=ranges, name="conformance")
        yield made["dom"]
        admin.call("domain.destroy", dom=made["dom"])


def row(dom: int) -> dict[str, Any]:
    """The row of the domain in `domain.list`."""
    return {"dom": dom, "kind": "hvm", "state": "paused", "name": "conformance", "tot_pages": 15, "max_pages": 16}


@pytest.fixture
def nvim(path: str) -> Iterator[Any]:
    """A pynvim session. Its own `close` leaves the socket to the garbage collector, so that is closed first."""
    session = socket_session(path)
    yield session
    loop = session.loop._loop
    session.loop._transport.close()
    loop.call_soon(loop.stop)
    loop.run_forever()
    session.close()


def test_pynvim_calls_without_params(nvim: Any) -> None:
    """It greets with a notification nobody asked for, then sends an empty array of params: both are fine."""
    assert set(nvim.request("ping")) == {"instance"}


def test_pynvim_lists_domains(nvim: Any, dom: int) -> None:
    """A nested result arrives as it is."""
    assert nvim.request("domain.list", {}) == {"domains": [row(dom)]}


def test_pynvim_maps_frames_in_a_bin(nvim: Any, dom: int) -> None:
    """Frames as little-endian u64 in bytes; the errors come as i32 in bytes, in order."""
    addr = nvim.request("mmap", {"len": 3 * PAGE, "prot": 3})["addr"]
    arr = struct.pack("<3Q", 1, HOLE, 2)
    answer = nvim.request("privcmd.mmapbatch_v2", {"dom": dom, "addr": addr, "arr": arr, "num": 3})

    assert answer == {"ret": 0, "n_failed": 1, "err": struct.pack("<3i", 0, -22, 0)}

    nvim.request("write", {"addr": addr + 2 * PAGE, "data": b"from nvim"})

    assert nvim.request("read", {"addr": addr + 2 * PAGE, "len": 9}) == {"data": b"from nvim"}


def test_pynvim_shows_our_errors(nvim: Any) -> None:
    """Its exception has the sentence of the error, and the session goes on."""
    with pytest.raises(Exception, match=r"^EINVAL: dom: missing; domain\.info needs it"):
        nvim.request("domain.info", {})
    with pytest.raises(Exception, match=r"^ENOSYS: "):
        nvim.request("nvim_get_api_info")
    with pytest.raises(Exception, match="exactly one map"):
        nvim.request("domain.info", 1, 2)
    assert nvim.request("ping")


async def work_with_aio(path: str, dom: int) -> None:
    """Ping, list and map with aio-msgpack-rpc; arrays instead of bins, and several calls under way."""
    reader, writer = await asyncio.open_unix_connection(path)
    client = Client(reader, writer, response_timeout=30)
    try:
        assert set(await client.call("ping")) == {"instance"}
        assert await client.call("domain.list", {}) == {"domains": [row(dom)]}

        addr = (await client.call("mmap", {"len": 4 * PAGE, "prot": 3}))["addr"]
        batch = {"dom": dom, "addr": addr, "arr": [HOLE, 3, 3, 99], "num": 4}
        assert await client.call("privcmd.mmapbatch_v2", batch) == {"ret": 0, "n_failed": 2, "err": [-22, 0, 0, -22]}
        good = {"dom": dom, "addr": addr, "arr": [0, 1, 2, 3]}
        assert await client.call("privcmd.mmapbatch_v2", good) == {"ret": 0, "n_failed": 0, "err": None}

        answers = await asyncio.gather(*(client.call("fault", {"addr": addr + page * PAGE}) for page in range(4)))
        assert [(answer["dom"], answer["frame"]) for answer in answers] == [(dom, page) for page in range(4)]

        with pytest.raises(RPCResponseError, match="ESRCH"):
            await client.call("domain.info", {"dom": 30_000})
        await client.notify("nobody.knows", {"this": 1})
        assert await client.call("ping")
    finally:
        client.close()
        await writer.wait_closed()


def test_aio_msgpack_rpc_works(path: str, dom: int) -> None:
    """The same work from asyncio."""
    asyncio.run(work_with_aio(path, dom))
