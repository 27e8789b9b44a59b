# SPDX-License-Identifier: Apache-2.0
"""Foreign memory, blocking: guest frames mapped into this process's real memory."""

from __future__ import annotations

import contextlib
import os
import time
from mmap import PROT_READ, PROT_WRITE
from typing import TYPE_CHECKING, Any, Self, TypeVar

from privcmd._mapper import PAGED_RETRIES, Errors, Mapper, Pause, Steps
from privcmd._mapping import BaseMapping
from privcmd._protocol import Notification
from privcmd.client import Client
from privcmd.errors import BrokerGone

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["ForeignMemory", "Mapping"]

T = TypeVar("T")


class Mapping(BaseMapping):
    """A mapping that gives its frames back to the broker as soon as it is closed."""

    _owner: ForeignMemory

    def close(self) -> None:
        """Unmap, here and at the broker. Idempotent; no error when the broker is gone.

        Raises:
            BufferError: A view of the mapping is still in use; nothing was done.
        """
        self._owner._close(self)  # noqa: SLF001 - the mapping and its owner work together


class ForeignMemory:
    """Maps guest frames, as libxenforeignmemory does.

    Args:
        client: The connection to use; its address space stands for this process. By default a new connection,
            closed together with this object.

    May be used from several threads. Replacements of one range by several threads happen one after the other,
    in the same order at the broker and here. After fork(2) the child has none of the mappings (their
    addresses are inaccessible there) and needs a `Client` of its own.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._owns_client = client is None
        self.client: Client = client if client is not None else Client()
        self._mapper: Mapper[Mapping] = Mapper(self._new, self.client.left)
        self.client.listeners.append(self._mapper.notice)
        self.client.followed.append(self._map_again)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all mappings and memory files; a mapping whose views are in use stays until it is closed."""
        for mapping in self.mappings():
            try:
                mapping.close()
            except BufferError:
                continue
        self._settle()
        with self.client.lock:
            self._mapper.close()
            if self._mapper.notice in self.client.listeners:
                self.client.listeners.remove(self._mapper.notice)
                self.client.followed.remove(self._map_again)
        if self._owns_client:
            self.client.close()

    def map(
        self,
        domid: int,
        gfns: Iterable[int],
        prot: int = PROT_READ | PROT_WRITE,
        addr: int | None = None,
        *,
        errors: Errors = None,
        paged_retries: int = PAGED_RETRIES,
    ) -> Mapping:
        """Map frames of a domain in the given order, one page each.

        Args:
            domid: The domain.
            gfns: Frame numbers: integers in any iterable, a numpy array, or little-endian u64 bytes; mfns for
                a PV domain.
            prot: PROT_READ or PROT_READ | PROT_WRITE.
            addr: An address inside a live mapping of this object: the part of it that begins there gets these
                frames instead. If that fails, the old frames stay, here and at the broker. Other threads that
                read the memory meanwhile see each page old or new. In a space of personality "linux" the
                frames must replace the whole mapping: a VMA of the device cannot be cut (ENOMEM).
            errors: None: all or nothing, the first failed frame undoes everything and is raised. "keep": the
                mapping is made even when frames fail; look at its ``errors``.
            paged_retries: How often to ask again, 100 microseconds apart, for frames that are paged out.

        Returns:
            The mapping; with ``addr`` the mapping that has this address.

        Raises:
            FrameError: A frame failed and ``errors`` is None; nothing is mapped.
            PrivcmdError: EINVAL (no frames, bad address), EPERM (no right, or PROT_WRITE without the right
                to write), E2BIG (too many frames for one batch), EDQUOT, ENOMEM (no addresses, or more runs of
                frames than the kernel allows mappings; ``details`` has the limit and the number), EACCES
                (another prot than the mapping's at ``addr``). Nothing is changed.
            BrokerGone: The connection has ended, or did not answer within the client's ``timeout_s`` (a
                mapping whose outcome is unknown ends the connection, which gives all back).
        """
        return self._drive(self._mapper.map(domid, gfns, prot, addr, errors, paged_retries))

    def reserve(self, n_pages: int, prot: int = PROT_READ | PROT_WRITE) -> Mapping:
        """Make a mapping without frames, for `mmapbatch`, `mmapbatch_v2` and `mmap_entries`.

        Raises:
            PrivcmdError: ENOMEM, EDQUOT, EINVAL.
        """
        return self._drive(self._mapper.reserve(n_pages, prot))

    def mmapbatch(self, domid: int, addr: int, gfns: Iterable[int]) -> array[int]:
        """IOCTL_PRIVCMD_MMAPBATCH over part of a live mapping, as the ioctl does it: no undo, no retries.

        Returns:
            The array of frames, with 0xF0000000 or-ed into each that failed (0x80000000: paged out).

        Raises:
            PrivcmdError: EINVAL, E2BIG, EDQUOT, ENOMEM, EPERM.
        """
        return self._drive(self._mapper.mmapbatch(domid, addr, gfns))

    def mmapbatch_v2(self, domid: int, addr: int, gfns: Iterable[int]) -> array[int]:
        """IOCTL_PRIVCMD_MMAPBATCH_V2 over part of a live mapping, as the ioctl does it: no undo, no retries.

        Returns:
            For each frame 0 or a negative errno.

        Raises:
            PrivcmdError: EINVAL, E2BIG, EDQUOT, ENOMEM, EPERM.
        """
        return self._drive(self._mapper.mmapbatch_v2(domid, addr, gfns))

    def mmap_entries(self, domid: int, entries: Sequence[tuple[int, int, int]]) -> None:
        """IOCTL_PRIVCMD_MMAP: entries of (va, first frame, n_pages), each over part of a live mapping.

        Raises:
            PrivcmdError: The error of the first bad entry (``details["entry"]``). The entries before it are
                mapped; nothing has changed at the addresses of this entry and the later ones.
        """
        self._drive(self._mapper.mmap_entries(domid, entries))

    def mappings(self) -> list[Mapping]:
        """The mappings that are open, in order of address."""
        with self.client.lock:
            return self._mapper.live()

    def _new(self, n_pages: int, prot: int, leave: Callable[[BaseMapping], None]) -> Mapping:
        mapping = Mapping(n_pages, prot, leave)
        mapping._owner = self  # noqa: SLF001
        return mapping

    def _close(self, mapping: Mapping) -> None:
        if os.getpid() != self.client.pid:
            mapping.unmap_here()  # a thread that only the parent process has may hold the lock for ever
            return
        with self.client.lock:
            mapping.unmap_here()
            self._settle()

    def _settle(self) -> None:
        """Give back at the broker what closed mappings have left behind; a broker that is gone holds nothing."""
        if not self.client.closed and os.getpid() == self.client.pid:
            with contextlib.suppress(BrokerGone):
                self._drive(self._mapper.settle())

    def _map_again(self) -> None:
        """Map everything at the broker that follows, and tell what is not there any more."""
        n_lost = self._drive(self._mapper.map_again())
        self.client.notices.append(Notification("followed", {"lost": n_lost}))

    def _drive(self, steps: Steps[T]) -> T:
        """Perform steps; other threads make requests only where the steps pause. Returns the steps' value."""
        answers: list[Any] | None = None
        while True:
            with self.client.lock:
                try:
                    step = next(steps) if answers is None else steps.send(answers)
                    while not isinstance(step, Pause):
                        try:
                            answers = self.client.exchange(step, to_the_end=True)
                        except BaseException as error:  # noqa: BLE001 - the steps undo and raise it again
                            step = steps.throw(error)
                        else:
                            step = steps.send(answers)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
            time.sleep(step.seconds)
            answers = []
