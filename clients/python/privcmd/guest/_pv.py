# SPDX-License-Identifier: Apache-2.0
"""The kernel of a PV guest, as far as toolstacks look at it: its p2m, its start info page, its registers.

A PV domain of ``domain.create`` is bare memory. It lacks the pages that a domain builder and then the guest's kernel
write, and that ``xl dump-core`` and libxenguest read. `PvKernel` writes these into the domain's last pages.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import TYPE_CHECKING, Final

from privcmd.errors import PrivcmdError
from privcmd.results import HOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from privcmd.client import Client

PAGE: Final = 4096
PER_PAGE: Final = 512  # frame numbers
READ_WRITE: Final = 3
BUFFER_PAGES: Final = 3

DOMCTL: Final = 36
MMUEXT_OP: Final = 26
XEN_VERSION: Final = 17
DOMCTL_VERSIONS: Final = {4 << 16 | 17: 0x15, 4 << 16 | 20: 0x17}
"""The version of the interface by what xen_version says."""
DOMCTL_BYTES: Final = 144
GET_INFO: Final = 5
SET_CONTEXT: Final = 12
PIN_L4: Final = 3
HEAD: Final = struct.Struct("<IIH6x")
# Members of C structures, in bytes from the beginning of each.
INFO_SHARED_INFO: Final = HEAD.size + 48  # xen_domctl_getdomaininfo.shared_info_frame
MAX_PFN: Final = 3088  # shared_info.arch.max_pfn, and pfn_to_mfn_frame_list_list behind it
START_PAGES: Final = 32  # start_info.nr_pages, and shared_info behind it
START_STORE: Final = 56  # start_info.store_mfn
START_CONSOLE: Final = 72  # start_info.console.domU.mfn
CONTEXT_BYTES: Final = 5168  # vcpu_guest_context
CONTEXT_RDX: Final = 616
CONTEXT_CR3: Final = 4984 + 3 * 8


class PvKernel:
    """The pages that the kernel of a PV guest keeps, written into the last pages that the guest has.

    Args:
        client: A connection with the right to administer the domain.
        dom: A PV domain that is paused.

    Attributes:
        n_pages: How many of the domain's pages are used.
        start_info, store, console: Pseudo-physical frame numbers of those pages.

    Raises:
        PrivcmdError: EINVAL, the domain is not PV; ENOMEM, it has too few pages; and the errors of the requests.
    """

    def __init__(self, client: Client, dom: int) -> None:
        self._client = client
        self._dom = dom
        self._version = DOMCTL_VERSIONS[client.hypercall(XEN_VERSION, 0)]
        info = client.domains.info(dom)
        if info.kind != "pv":
            raise PrivcmdError(errno.EINVAL, f"domain {dom} is {info.kind}: only a PV guest keeps a p2m")
        known = client.domains.info(dom, num=info.gfn_limit).frames
        self._frames: list[int] = [] if known is None else known.tolist()
        while self._frames and self._frames[-1] == HOLE:
            self._frames.pop()
        n_leaves = -(-len(self._frames) // PER_PAGE)
        n_middle = -(-n_leaves // PER_PAGE)
        self.n_pages: int = n_leaves + n_middle + 5
        there = [pfn for pfn, frame in enumerate(self._frames) if frame != HOLE]
        if len(there) < self.n_pages:
            raise PrivcmdError(errno.ENOMEM, f"domain {dom} has {len(there)} pages, its kernel needs {self.n_pages}")
        pfns = there[-self.n_pages :]
        self.start_info: int
        self.store: int
        self.console: int
        self.start_info, self.store, self.console, self._root, top = pfns[:5]
        middle, leaves = pfns[5 : 5 + n_middle], pfns[5 + n_middle :]
        self._put(leaves, self._frames)
        self._put(middle, [self._frames[pfn] for pfn in leaves])
        self._put([top], [self._frames[pfn] for pfn in middle])
        self._shared_info = self._find_shared_info()
        self._write(self._shared_info, MAX_PFN, struct.pack("<2Q", len(self._frames), self._frames[top]))
        self._put([self._root], [])
        self._pin(self._frames[self._root])
        self._tell(self._frames[self.store], self._frames[self.console])

    def suspend(self) -> None:
        """Do what a kernel does before it suspends: name pages by pfns, because the mfns change when it is restored.

        It does not make ``SCHEDOP_shutdown``; the toolstack does that (``xc_domain_shutdown``).
        """
        self._tell(self.store, self.console)

    def _tell(self, store: int, console: int) -> None:
        """Write the start info page, and the registers that point to it and to the page tables."""
        page = bytearray(PAGE)
        page[:32] = b"xen-3.0-x86_64".ljust(32, b"\0")
        struct.pack_into("<2Q", page, START_PAGES, len(self._frames), self._shared_info * PAGE)
        struct.pack_into("<Q", page, START_STORE, store)
        struct.pack_into("<Q", page, START_CONSOLE, console)
        self._write(self._frames[self.start_info], 0, bytes(page))
        context = bytearray(CONTEXT_BYTES)
        struct.pack_into("<Q", context, CONTEXT_RDX, self._frames[self.start_info])
        struct.pack_into("<Q", context, CONTEXT_CR3, self._frames[self._root] * PAGE)
        with self._buffers() as at:
            self._client.write(at + PAGE, bytes(context))
            self._domctl(at, SET_CONTEXT, struct.pack("<I4xQ", 0, at + PAGE))

    def _put(self, pfns: Sequence[int], numbers: Sequence[int]) -> None:
        """Fill pages with frame numbers, then with ``HOLE``; with zeros when there are no numbers."""
        rest = HOLE if numbers else 0
        for index, pfn in enumerate(pfns):
            part = list(numbers[index * PER_PAGE : (index + 1) * PER_PAGE])
            part += [rest] * (PER_PAGE - len(part))
            self._write(self._frames[pfn], 0, struct.pack(f"<{PER_PAGE}Q", *part))

    def _write(self, mfn: int, offset: int, data: bytes) -> None:
        addr = self._client.mmap(0, PAGE, READ_WRITE)
        try:
            if self._client.privcmd_mmapbatch_v2(self._dom, addr, [mfn]).n_failed:
                raise PrivcmdError(errno.EINVAL, f"frame {mfn:#x} of domain {self._dom} cannot be written to")
            self._client.write(addr + offset, data)
        finally:
            self._client.munmap(addr, PAGE)

    def _find_shared_info(self) -> int:
        with self._buffers() as at:
            self._domctl(at, GET_INFO, b"")
            (frame,) = struct.unpack("<Q", self._client.read(at + INFO_SHARED_INFO, 8))
        if frame == HOLE:
            raise PrivcmdError(errno.ENOMEM, f"there is no memory for a shared_info page of domain {self._dom}")
        return int(frame)

    def _pin(self, mfn: int) -> None:
        with self._buffers() as at:
            self._client.write(at, struct.pack("<I4x2Q", PIN_L4, mfn, 0))
            self._hypercall(MMUEXT_OP, at, 1, 0, self._dom)

    def _domctl(self, at: int, command: int, values: bytes) -> None:
        self._client.write(at, (HEAD.pack(command, self._version, self._dom) + values).ljust(DOMCTL_BYTES, b"\0"))
        self._hypercall(DOMCTL, at)

    def _hypercall(self, number: int, *arguments: int) -> None:
        value = self._client.hypercall(number, *arguments)
        if value < 0:
            raise PrivcmdError(-value, f"hypercall {number} on domain {self._dom} was refused")

    @contextlib.contextmanager
    def _buffers(self) -> Iterator[int]:
        """Have memory that hypercalls can point to, for the time of a block."""
        addr = self._client.mmap(0, BUFFER_PAGES * PAGE, READ_WRITE, file="hypercall")
        try:
            yield addr
        finally:
            self._client.munmap(addr, BUFFER_PAGES * PAGE)
