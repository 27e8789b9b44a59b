# SPDX-License-Identifier: Apache-2.0
"""The operations of a vcpu, for both faces: steps that say what to ask the broker and what to wait for.

A method is a generator. It yields calls, to be sent together, and gets their answers back (an error is in its call's
place), or a ``Readable``, to be waited for.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from privcmd import _calls as calls
from privcmd._call import Call
from privcmd.errors import PrivcmdError
from privcmd.guest._grants import ENTRIES_PER_PAGE, GrantEntry
from privcmd.guest._ioreq import BUFFERED_ADDRESSES, BUFFERED_SIZES, Ioreq, IoreqState, IoreqType, put_buffered
from privcmd.guest._servers import CONFIG_ADDRESS, CONFIG_DATA, CONFIG_ENABLED, PAGE_SIZE, Connected, chosen, map_pages

if TYPE_CHECKING:
    import mmap

    from privcmd._protocol import Notification
    from privcmd.results import Interrupts, IoreqServer

SIZES = (1, 2, 4, 8)
# The address at which the broker's model of this process has guest memory during one access.
SCRATCH = 0x1000_0000
CHUNK_PAGES = 1024
READ_WRITE = 3


@dataclass(frozen=True, slots=True)
class Readable:
    """Wait until a descriptor is readable.

    Attributes:
        fd: The descriptor.
        what: The name of what is waited for, for messages.
    """

    fd: int
    what: str


T = TypeVar("T")
Steps: TypeAlias = Generator[Sequence[Call[Any]] | Readable, list[Any], T]


class Vcpu:
    """One vcpu of a domain, without a processor: its caller says what it does."""

    def __init__(self, dom: int, vcpu: int, fileno: int) -> None:
        """Begin to play a vcpu.

        Args:
            dom: The domain.
            vcpu: The vcpu's number.
            fileno: The connection's descriptor: readable when the broker has sent something.
        """
        self.dom = dom
        self.vcpu = vcpu
        self._fileno = fileno
        self._connected: dict[int, Connected] = {}
        self._table: dict[int, mmap.mmap] = {}
        self._stale = True
        self._subscribed = False
        self._config_address = 0
        self._n_heard = 0

    def notice(self, notice: Notification) -> None:
        """Note what a notification of the broker says."""
        self._n_heard += 1
        if notice.topic == "ioreq" and notice.body["dom"] == self.dom:
            self._stale = True

    def close(self) -> None:
        """Give back the pages and event channels of ioreq servers, and the grant table. Idempotent."""
        for connected in self._connected.values():
            connected.close()
        self._connected.clear()
        for page in self._table.values():
            page.close()
        self._table.clear()

    # --- requests ----------------------------------------------------------------------------------------

    def request(self, request: Ioreq) -> Steps[int]:
        """Make an access. Gives the answer's data, cut to the size; all ones when no device model emulates it."""
        if request.size not in SIZES or request.count < 1:
            raise PrivcmdError(errno.EINVAL, f"{request.count} accesses of {request.size} bytes: sizes are 1, 2, 4, 8")
        yield from self._follow()
        ones = (1 << 8 * request.size) - 1
        if request.type is IoreqType.PIO and not request.read and (request.addr, request.size) == (CONFIG_ADDRESS, 4):
            self._config_address = request.data
        found = chosen(self._connected.values(), request, self._config_address)
        if found is None:
            return ones
        return (yield from self._exchange(*found)) & ones

    def invalidate_mapcache(self) -> Steps[None]:
        """Tell every device model that the guest's memory has changed, so that it unmaps what it keeps mapped."""
        yield from self._follow()
        for connected in list(self._connected.values()):
            yield from self._exchange(connected, Ioreq(IoreqType.INVALIDATE, addr=0, data=(1 << 64) - 1, size=4))

    def buffered_write(self, addr: int, data: int, size: int) -> Steps[bool]:
        """Write without waiting, as Xen does to the VGA's memory; False when no server takes it or the ring is full.

        Raises:
            PrivcmdError: EINVAL, such an address or size cannot be buffered.
        """
        if size not in BUFFERED_SIZES or not 0 <= addr < BUFFERED_ADDRESSES:
            raise PrivcmdError(errno.EINVAL, f"{size} bytes at {addr:#x}: 1, 2 or 4 below 1 MiB can be buffered")
        yield from self._follow()
        found = chosen(self._connected.values(), Ioreq(IoreqType.COPY, addr, size, data), 0)
        if found is None or found[0].buffered is None:
            return False
        connected, channel = found[0], found[0].buffered
        if not put_buffered(connected.pages[1], addr, size, data):
            return False
        channel.notify()
        return True

    def _exchange(self, connected: Connected, request: Ioreq) -> Steps[int]:
        """Hand a request over and wait for its answer; first for the answer that an earlier caller did not wait for."""
        slot = connected.slot(self.vcpu)
        if slot.state is not IoreqState.NONE:
            yield from self._answered(connected, "the answer to an earlier request that was given up")
            slot.take()
        slot.put(request)
        connected.channel.notify()
        kind = "read" if request.read else "write"
        yield from self._answered(connected, f"the answer to a {request.type.name} {kind} at {request.addr:#x}")
        return slot.take()

    def _answered(self, connected: Connected, what: str) -> Steps[None]:
        slot = connected.slot(self.vcpu)
        who = f"ioreq server {connected.server.id} of domain {self.dom}"
        while slot.state is not IoreqState.ANSWERED:
            yield Readable(connected.channel.fileno(), f"{what} from {who}")
            connected.channel.take()

    # --- ioreq servers -----------------------------------------------------------------------------------

    def _follow(self) -> Steps[None]:
        """Update the ioreq servers: a range that a server claims while it answers counts for the next request."""
        if self._subscribed and is_readable(self._fileno):
            yield from ask(calls.ping())  # reads the notifications that the broker has sent
        if not self._subscribed:
            yield from ask(calls.subscribe("ioreq", "interrupt"))
            self._subscribed = True
        elif not self._stale:
            return
        self._stale = False
        (servers,) = yield from ask(calls.ioreq_servers(self.dom))
        enabled = {server.id: server for server in servers if server.enabled}
        for number in self._connected.keys() - enabled.keys():
            self._connected.pop(number).close()
        for number, server in enabled.items():
            there = self._connected.get(number)
            if there is not None and there.server.ports == server.ports:
                there.server = server
                continue
            if there is not None:
                self._connected.pop(number).close()
            if self.vcpu < len(server.ports):
                self._connected[number] = yield from self._connect(server)

    def _connect(self, server: IoreqServer) -> Steps[Connected]:
        """Map the pages of a server, and bind its event channels."""
        first = 0 if server.bufioreq else 1
        pages = yield from self._map_resource(0, server.id, first, 2 - first)
        pages.reverse()
        (channel,) = yield from ask(calls.evtchn_attach(server.ports[self.vcpu], on=self.dom))
        buffered = None
        if server.bufioreq_port:
            (buffered,) = yield from ask(calls.evtchn_attach(server.bufioreq_port, on=self.dom))
        return Connected(server, pages, channel, buffered)

    def _map_resource(self, kind: int, number: int, first: int, n_pages: int) -> Steps[list[mmap.mmap]]:
        """Map pages of a resource; the broker's model of this process has them only for a moment."""
        space = calls.mmap(SCRATCH, n_pages * PAGE_SIZE, READ_WRITE, fixed=True)
        resource = calls.mmap_resource(self.dom, kind, number, idx=first, num=n_pages, addr=SCRATCH, extents=True)
        back = calls.munmap(SCRATCH, n_pages * PAGE_SIZE)
        _, mapped, _ = yield from ask(space, resource, back)
        (memory,) = yield from ask(calls.domain_memory(self.dom, write=True))  # when nothing can leave it open
        return map_pages(memory.fd, pages_of(mapped["extents"]))

    # --- grants ------------------------------------------------------------------------------------------

    def grant_entry(self, ref: int) -> Steps[GrantEntry]:
        """An entry of the guest's grant table; the table is mapped when an entry is first needed."""
        index = ref // ENTRIES_PER_PAGE
        if index not in self._table:
            (self._table[index],) = yield from self._map_resource(1, 0, index, 1)
        return GrantEntry(self._table[index], ref)

    def end_grant(self, ref: int) -> Steps[None]:
        """End a grant that is not in use."""
        entry = yield from self.grant_entry(ref)
        if entry.in_use:
            raise PrivcmdError(errno.EBUSY, f"grant {ref} of domain {self.dom} is in use (flags {entry.flags:#x})")
        entry.end()

    # --- memory ------------------------------------------------------------------------------------------

    def read_memory(self, addr: int, length: int) -> Steps[bytes]:
        """Bytes of the guest's memory.

        Raises:
            PrivcmdError: EFAULT, a guest frame is not there.
        """
        parts = []
        for at, size in chunks(addr, length):
            answers = yield from self._with_frames(at, size, calls.read(SCRATCH + at % PAGE_SIZE, size))
            parts.append(answers)
        return b"".join(parts)

    def write_memory(self, addr: int, data: bytes) -> Steps[None]:
        """Write to the guest's memory.

        Raises:
            PrivcmdError: EFAULT, a guest frame is not there; the chunks of 4 MiB before its chunk have been written.
        """
        for at, size in chunks(addr, len(data)):
            part = bytes(data[at - addr : at - addr + size])
            yield from self._with_frames(at, size, calls.write(SCRATCH + at % PAGE_SIZE, part))

    def _with_frames(self, addr: int, size: int, access: Call[T]) -> Steps[T]:
        """Make an access to guest frames, which are mapped only as long as it takes."""
        first, last = addr // PAGE_SIZE, (addr + size - 1) // PAGE_SIZE
        n_pages = last - first + 1
        replies = yield [
            calls.mmap(SCRATCH, n_pages * PAGE_SIZE, READ_WRITE, fixed=True),
            calls.privcmd_mmapbatch_v2(self.dom, SCRATCH, range(first, last + 1)),
            access,
            calls.munmap(SCRATCH, n_pages * PAGE_SIZE),
        ]
        for reply in replies[:2]:
            if isinstance(reply, PrivcmdError):
                raise reply
        batch, answer = replies[1], replies[2]
        if batch.n_failed:
            gfn = first + next(index for index, error in enumerate(batch.frames) if error)
            raise PrivcmdError(errno.EFAULT, f"guest frame {gfn:#x} of domain {self.dom} is not there", {"gfn": gfn})
        if isinstance(answer, PrivcmdError):
            raise answer
        return answer  # type: ignore[no-any-return]

    # --- interrupts --------------------------------------------------------------------------------------

    def interrupts(self) -> Steps[Interrupts]:
        """The interrupt lines as the device models drive them."""
        (lines,) = yield from ask(calls.interrupts(self.dom))
        return lines  # type: ignore[no-any-return]

    def wait_interrupt(self, irq: int) -> Steps[None]:
        """Wait until an ISA interrupt is asserted, directly or through a PCI link."""
        yield from self._follow()
        while True:
            n_heard = self._n_heard
            if irq in (yield from self.interrupts()).isa:
                return
            if self._n_heard == n_heard:  # else a change was read together with that answer
                yield Readable(self._fileno, f"ISA interrupt {irq} of domain {self.dom}")

    # --- PCI ---------------------------------------------------------------------------------------------

    def config_access(self, function: int, register: int, size: int, data: int, *, read: bool) -> Steps[int]:
        """Access a PCI function's register through ports 0xcf8 and 0xcfc.

        Args:
            function: bus << 8 | device << 3 | function.
            register: 0 to 255.
            size: 1, 2 or 4 bytes.
            data: What is written.
            read: True: read; False: write ``data``.
        """
        address = CONFIG_ENABLED | function << 8 | (register & 0xFC)
        yield from self.request(Ioreq(IoreqType.PIO, CONFIG_ADDRESS, 4, address))
        return (yield from self.request(Ioreq(IoreqType.PIO, CONFIG_DATA + register % 4, size, data, read=read)))


def is_readable(fd: int) -> bool:
    """Whether there is something to read, without waiting."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def ask(*wanted: Call[Any]) -> Steps[list[Any]]:
    """Send several calls at once. Gives their answers, or raises the first error."""
    replies = yield wanted
    for reply in replies:
        if isinstance(reply, PrivcmdError):
            raise reply
    return replies


def pages_of(extents: bytes) -> list[int]:
    """The pages of the memory file that extents name, in order."""
    triples = memoryview(extents).cast("I").tolist()
    return [page + i for _, page, n in zip(triples[::3], triples[1::3], triples[2::3], strict=True) for i in range(n)]


def chunks(addr: int, length: int) -> list[tuple[int, int]]:
    """The pieces of an access, as (address, bytes): whole pages except at its ends."""
    found = []
    end = addr + length
    while addr < end:
        size = min(end - addr, CHUNK_PAGES * PAGE_SIZE - addr % PAGE_SIZE)
        found.append((addr, size))
        addr += size
    return found
