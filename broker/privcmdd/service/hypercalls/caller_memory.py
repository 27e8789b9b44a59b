# SPDX-License-Identifier: Apache-2.0
"""The caller's memory as the hypervisor sees it through pointers in hypercall arguments.

It can read and write hypercall buffers, and read memory that the caller lends with its request. Other memory is EFAULT.
When it was to be read, the answer says which range, and the caller may ask again and lend it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.file_keys import BufferFile
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PROT_READ, PROT_WRITE, VM_MAX_ADDRESS
from privcmdd.wire.limits import LENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.backing import Backing
    from privcmdd.service.layout import Layout


class CallerMemory:
    """The hypercall buffers of one address space, and the memory lent with a request.

    Attributes:
        wanted: The range that could not be read, as address and size; None when all could be.
    """

    __slots__ = ("_backing", "_lent", "_lent_at", "_space", "wanted")

    def __init__(self, space: AddressSpace, backing: Backing, lent_at: int = 0, lent: bytes = b"") -> None:
        self._space = space
        self._backing = backing
        self._lent_at = lent_at
        self._lent = lent
        self.wanted: tuple[int, int] | None = None

    def _runs(self, address: int, size: int, access: int) -> Iterator[tuple[int, int, int]]:
        """The runs of the buffer file that a range of addresses is mapped to: page, offset, size."""
        at, end = address, address + size
        while at < end:
            entry = self._space.map.lookup(at)
            if entry is None or entry.file is not File.HYPERCALL or not entry.protection & access:
                raise ModelError(errno.EFAULT, f"{at:#x} is no hypercall buffer that allows it", addr=at)
            stop = min(end, entry.end)
            yield entry.offset + ((at - entry.start) >> PAGE_SHIFT), at & PAGE_MASK, stop - at
            at = stop

    def _file(self) -> BufferFile:
        assert self._space.buffers is not None
        return BufferFile(self._space.buffers.number)

    def read(self, address: int, size: int) -> bytes:
        """Read bytes.

        Raises:
            ModelError: EFAULT.
        """
        lent = address - self._lent_at
        if lent >= 0 and lent + size <= len(self._lent):
            return self._lent[lent : lent + size]
        try:
            runs = list(self._runs(address, size, PROT_READ | PROT_WRITE))
        except ModelError:
            if 0 < size <= LENT_BYTES and address + size <= VM_MAX_ADDRESS:
                self.wanted = (address, size)
            raise
        return b"".join(self._backing.read(self._file(), *run) for run in runs)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes.

        Raises:
            ModelError: EFAULT; nothing is written then.
        """
        view = memoryview(data)
        done = 0
        for page, offset, size in list(self._runs(address, len(data), PROT_WRITE)):
            self._backing.write(self._file(), page, offset, view[done : done + size])
            done += size

    def check(self, address: int, size: int) -> None:
        """Check that a range can be written.

        Raises:
            ModelError: EFAULT.
        """
        for _ in self._runs(address, size, PROT_WRITE):
            pass

    def get(self, layout: Layout, address: int) -> dict[str, Any]:
        """Read a structure."""
        return layout.unpack(self.read(address, layout.size))

    def put(self, layout: Layout, address: int, values: Mapping[str, Any]) -> None:
        """Write a whole structure."""
        self.write(address, layout.pack(values))

    def numbers(self, address: int, n: int) -> npt.NDArray[np.uint64]:
        """Read an array of u64."""
        return np.frombuffer(self.read(address, 8 * n), dtype="<u8")

    def put_numbers(self, address: int, numbers: npt.NDArray[Any]) -> None:
        """Write an array of u64."""
        self.write(address, numbers.astype("<u8").tobytes())
