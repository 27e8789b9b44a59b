# SPDX-License-Identifier: Apache-2.0
"""A device model in a thread: ports and memory that remember what was written, and DMA into its guest."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import TYPE_CHECKING, Self

from privcmd import Client
from privcmd.guest._ioreq import (
    BITS_OFFSET,
    BUFFERED,
    COUNTERS,
    DATA_IS_POINTER,
    DESCENDING,
    N_BUFFERED,
    READ,
    REQUEST,
    STATE_BITS,
    TYPE_OFFSET,
    IoreqState,
    IoreqType,
)
from privcmd.guest._vcpu import pages_of

if TYPE_CHECKING:
    from privcmd.broker import PrivateBroker
    from privcmd.evtchn import EventChannel

PORT, MEMORY, PCI = 0, 1, 2
ADDR = 0x7000_0000


class DeviceModel:
    """One ioreq server, for one vcpu.

    Attributes:
        ports: What was last written to each port.
        memory: The same of memory addresses.
        config: The same of (PCI function, register).
        seen: The types of all requests.
        buffered: Buffered writes: (address, data, size in bytes).
        silent: It does not answer: the request that made it so is never done.
    """

    def __init__(self, broker: PrivateBroker, dom: int) -> None:
        self.client = Client(broker.path)
        self.dom = dom
        self.ports: dict[int, int] = {}
        self.memory: dict[int, int] = {}
        self.config: dict[tuple[int, int], int] = {}
        self.seen: list[IoreqType] = []
        self.buffered: list[tuple[int, int, int]] = []
        self.silent = False
        self._stop, self._stopped = os.pipe()
        self.id = struct.unpack_from("<H", self.op(1, "<B3xH2x", 2, 0), 12)[0]

    def op(self, number: int, layout: str, *values: int) -> bytes:
        """A DM_OP; its first buffer afterwards."""
        ret, bufs = self.client.dm_op(self.dom, [struct.pack("<II", number, 0) + struct.pack(layout, *values)])
        assert ret == 0, (number, ret)
        return bufs[0]

    def claim(self, kind: int, first: int, last: int) -> None:
        """Emulate a range from now on."""
        self.op(3, "<HHIQQ", self.id, 0, kind, first, last)

    def start(self) -> Self:
        """Map the pages, enable the server, serve."""
        self.client.mmap(ADDR, 2 * 4096, 3, fixed=True)
        extents = self.client.mmap_resource(self.dom, 0, self.id, num=2, addr=ADDR, extents=True)["extents"]
        memory = self.client.domains.memory(self.dom, write=True)
        self._buffers, self._page = (mmap.mmap(memory.fd, 4096, offset=page * 4096) for page in pages_of(extents))
        os.close(memory.fd)
        buffered_port = struct.unpack_from("<I", self.op(2, "<HHIQQ", self.id, 1, 0, 0, 0), 12)[0]
        self.op(5, "<HBB", self.id, 1, 0)
        (port,) = struct.unpack_from("<I", self._page, 24)
        self._channels = [self.client.events.bind_interdomain(self.dom, number) for number in (port, buffered_port)]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        for channel in self._channels:
            channel.close()
        self._page.close()
        self._buffers.close()
        self.client.close()

    def _serve(self) -> None:
        import select  # noqa: PLC0415 - beside its use

        poller = select.poll()
        for fd in (self._stop, *(channel.fileno() for channel in self._channels)):
            poller.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._stop in ready:
                return
            for channel in self._channels:
                channel.take()
            self._drain()
            self._answer(self._channels[0])

    def _drain(self) -> None:
        """Take what is buffered."""
        read, written = COUNTERS.unpack_from(self._buffers, 0)
        while read != written:
            first, data = BUFFERED.unpack_from(self._buffers, COUNTERS.size + read % N_BUFFERED * BUFFERED.size)
            self.buffered.append((first >> 12, data, 1 << (first >> 10 & 3)))
            read += 1
        struct.pack_into("<I", self._buffers, 0, read)

    def _answer(self, channel: EventChannel) -> None:
        bits = self._page[BITS_OFFSET]
        if bits & STATE_BITS != IoreqState.READY or self.silent:
            return
        addr, data, count, size = REQUEST.unpack_from(self._page, 0)
        kind = IoreqType(self._page[TYPE_OFFSET])
        self.seen.append(kind)
        if kind is not IoreqType.INVALIDATE:
            self._do(kind, bits, addr, data, count, size)
        self._page[BITS_OFFSET] = bits & ~STATE_BITS | IoreqState.ANSWERED
        channel.notify()

    def _do(self, kind: IoreqType, bits: int, addr: int, data: int, count: int, size: int) -> None:
        store: dict[object, int]
        store, key = {  # type: ignore[assignment]
            IoreqType.PIO: (self.ports, addr),
            IoreqType.COPY: (self.memory, addr),
            IoreqType.PCI_CONFIG: (self.config, (addr >> 32, addr & 0xFF)),
        }[kind]
        if not bits & DATA_IS_POINTER:
            if bits & READ:
                struct.pack_into("<Q", self._page, 8, store.get(key, 0))
            else:
                store[key] = data
            return
        step = -size if bits & DESCENDING else size
        for at in range(data, data + count * step, step):
            if bits & READ:
                self._dma(at, store.get(key, 0).to_bytes(size, "little"))
            else:
                store[key] = int.from_bytes(self._dma_from(at, size), "little")

    def _dma(self, at: int, data: bytes) -> None:
        self._map(at)
        self.client.write(ADDR + 0x10000 + at % 4096, data)

    def _dma_from(self, at: int, size: int) -> bytes:
        self._map(at)
        return self.client.read(ADDR + 0x10000 + at % 4096, size)

    def _map(self, at: int) -> None:
        self.client.mmap(ADDR + 0x10000, 4096, 3, fixed=True)
        batch = self.client.privcmd_mmapbatch_v2(self.dom, ADDR + 0x10000, [at // 4096])
        assert not batch.n_failed
