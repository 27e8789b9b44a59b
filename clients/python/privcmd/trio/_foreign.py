# SPDX-License-Identifier: Apache-2.0
"""Foreign memory, for trio."""

from __future__ import annotations

from mmap import PROT_READ, PROT_WRITE
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from privcmd._mapper import PAGED_RETRIES, Errors, Mapper, Pause, Steps
from privcmd._mapping import BaseMapping
from privcmd.errors import BrokerGone

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Sequence

    from privcmd.trio._client import AsyncClient

T = TypeVar("T")


class AsyncMapping(BaseMapping):
    """A mapping that is closed by ``await mapping.aclose()`` or at the end of an ``async with``.

    ``close()`` works too, without waiting: the broker is told with the next request.
    """

    _owner: AsyncForeignMemory

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Unmap, here and at the broker. Idempotent, not cancellable; no error when the broker is gone.

        Raises:
            BufferError: A view of the mapping is still in use; nothing was done.
        """
        self.unmap_here()
        await self._owner.settle()


class AsyncForeignMemory:
    """Maps guest frames; `privcmd.ForeignMemory` says what the methods do and raise.

    Args:
        client: The connection to use; its address space stands for this process. It stays open.
    """

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self._mapper: Mapper[AsyncMapping] = Mapper(self._new, client.left)
        client.listeners.append(self._mapper.notice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all mappings and memory files; a mapping whose views are in use stays until it is closed."""
        for mapping in self._mapper.live():
            try:
                mapping.unmap_here()
            except BufferError:
                continue
        await self.settle()
        self._mapper.close()
        if self._mapper.notice in self.client.listeners:
            self.client.listeners.remove(self._mapper.notice)

    async def map(
        self,
        domid: int,
        gfns: Iterable[int],
        prot: int = PROT_READ | PROT_WRITE,
        addr: int | None = None,
        *,
        errors: Errors = None,
        paged_retries: int = PAGED_RETRIES,
    ) -> AsyncMapping:
        """As `privcmd.ForeignMemory.map`."""
        return await self._drive(self._mapper.map(domid, gfns, prot, addr, errors, paged_retries))

    async def reserve(self, n_pages: int, prot: int = PROT_READ | PROT_WRITE) -> AsyncMapping:
        """As `privcmd.ForeignMemory.reserve`."""
        return await self._drive(self._mapper.reserve(n_pages, prot))

    async def mmapbatch(self, domid: int, addr: int, gfns: Iterable[int]) -> array[int]:
        """As `privcmd.ForeignMemory.mmapbatch`."""
        return await self._drive(self._mapper.mmapbatch(domid, addr, gfns))

    async def mmapbatch_v2(self, domid: int, addr: int, gfns: Iterable[int]) -> array[int]:
        """As `privcmd.ForeignMemory.mmapbatch_v2`."""
        return await self._drive(self._mapper.mmapbatch_v2(domid, addr, gfns))

    async def mmap_entries(self, domid: int, entries: Sequence[tuple[int, int, int]]) -> None:
        """As `privcmd.ForeignMemory.mmap_entries`."""
        await self._drive(self._mapper.mmap_entries(domid, entries))

    def mappings(self) -> list[AsyncMapping]:
        """The mappings that are open, in order of address."""
        return self._mapper.live()

    async def settle(self) -> None:
        """Give back at the broker what closed mappings have left behind; no error when the broker is gone."""
        with trio.CancelScope(shield=True):
            try:
                if not self.client.closed:
                    await self._drive(self._mapper.settle())
            except BrokerGone:
                return

    def _new(self, n_pages: int, prot: int, leave: Callable[[BaseMapping], None]) -> AsyncMapping:
        mapping = AsyncMapping(n_pages, prot, leave)
        mapping._owner = self  # noqa: SLF001
        return mapping

    async def _drive(self, steps: Steps[T]) -> T:
        """Perform steps; other tasks make requests only where the steps pause. Returns the steps' value."""
        answers: list[Any] | None = None
        while True:
            async with self.client.lock:
                try:
                    step = next(steps) if answers is None else steps.send(answers)
                    with trio.CancelScope(shield=True):
                        while not isinstance(step, Pause):
                            try:
                                answers = await self.client.exchange(step)
                            except BaseException as error:  # noqa: BLE001 - the steps undo and raise it again
                                step = steps.throw(error)
                            else:
                                step = steps.send(answers)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
                assert isinstance(step, Pause)
            try:
                await trio.sleep(step.seconds)
            except BaseException:
                # The task is cancelled while it waits for paged frames: the steps undo what they did.
                steps.close()
                await self.settle()
                raise
            answers = []
