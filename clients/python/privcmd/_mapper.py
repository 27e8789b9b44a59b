# SPDX-License-Identifier: Apache-2.0
"""How foreign memory is mapped, for both faces: steps that say what to ask the broker and do the rest themselves.

A method here is a generator. It yields either calls, to be sent together, and gets their answers back (an error is in
its call's place), or a `Pause`. Between its answers and its next yield it changes this process's memory, so the face
that drives it must let no other request in between: two replacements must have the same order at the broker and in
the kernel.

The broker's model of this process uses the process's own addresses: each `BaseMapping` is reserved here first and then
announced with a fixed ``mmap``. Addresses that a closed mapping leaves behind are queued and given back with the next
request, always before they can be announced again.
"""

from __future__ import annotations

import bisect
import errno
import mmap
import os
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from privcmd import _calls as calls
from privcmd import _mman as mman
from privcmd._call import Call
from privcmd._forms import frames_as_bytes
from privcmd._mapping import BaseMapping
from privcmd._mman import PAGE_SIZE
from privcmd._outcome import Outcome, failed_batch_v1, runs_of
from privcmd.errors import FrameError, PrivcmdError

if TYPE_CHECKING:
    from privcmd._protocol import Notification

PAGED_PAUSE_S = 100e-6
"""Between two tries for frames that are paged out; the same as libxenforeignmemory's."""

PAGED_RETRIES = 1000
"""How often to try again for frames that are paged out; libxenforeignmemory tries for ever, which hangs tests."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let other threads or tasks make requests for a while."""

    seconds: float


T = TypeVar("T")
M = TypeVar("M", bound=BaseMapping)
Steps: TypeAlias = Generator[Sequence[Call[Any]] | Pause, list[Any], T]
Errors: TypeAlias = Literal["keep"] | None


class Mapper(Generic[M]):
    """The mappings of one address space, their memory files, and the ranges that are still to be given back."""

    def __init__(
        self, make: Callable[[int, int, Callable[[BaseMapping], None]], M], left: deque[tuple[int, int]]
    ) -> None:
        """Begin without mappings.

        Args:
            make: Makes a mapping of (n_pages, prot, leave).
            left: Ranges to give back, shared by all mappers of one connection: a mapping of another mapper may
                get the addresses next.
        """
        self._make = make
        self._left = left
        self._departed: deque[int] = deque()
        self._files: dict[tuple[int, bool], int] = {}  # (domid, writable) -> memory file
        self._n_changes: dict[int, int] = {}  # domid -> how often a domain of this number ended
        self._subscribed = False
        self._is_linux: bool | None = None
        self._live: dict[int, weakref.ref[M]] = {}
        self._starts: list[int] = []

    # --- the operations ----------------------------------------------------------------------------------

    def reserve(self, n_pages: int, prot: int) -> Steps[M]:
        """Make a mapping without frames, for the calls that map into an existing mapping."""
        mapping = self._new(n_pages, prot)
        try:
            yield from self._ask(calls.mmap(mapping.address, len(mapping), prot, fixed=True))
            if (yield from self._linux()):
                mman.map_failed(mapping.address, prot, ((0, n_pages),))
                mman.forbid_fork(mapping.address, len(mapping))
        except PrivcmdError:
            yield from self._undo(mapping)
            raise
        return mapping

    def map(
        self, domid: int, frames: Iterable[int], prot: int, addr: int | None, errors: Errors, retries: int
    ) -> Steps[M]:
        """Make a new mapping of these frames, or replace frames at ``addr``. Gives the mapping."""
        if errors not in (None, "keep"):
            raise ValueError(f'errors must be None or "keep", not {errors!r}')
        names = frames_as_bytes(frames)
        if not names:
            raise PrivcmdError(errno.EINVAL, "no frames to map", {"key": "arr"})
        if addr is not None:
            return (yield from self._replace(domid, names, prot, addr, errors, retries))
        mapping = self._new(len(names) // 8, prot)
        try:
            announce = calls.mmap(mapping.address, len(mapping), prot, fixed=True)
            outcome = yield from self._resolve(domid, prot, mapping.address, names, retries, announce)
            if errors is None:
                outcome.refuse_failures(domid, names)
            fd = yield from self._file(domid, prot, needed=bool(outcome.runs))
            outcome.check_room()
            outcome.apply(mapping, 0, domid, names, fd)
        except PrivcmdError:
            yield from self._undo(mapping)
            raise
        except BaseException:
            mapping.unmap_here()
            raise
        return mapping

    def _replace(self, domid: int, names: bytes, prot: int, addr: int, errors: Errors, retries: int) -> Steps[M]:
        """Put other frames into a part of a mapping. What may fail is tried at a scratch place first."""
        n_pages = len(names) // 8
        mapping, first = self._find(addr, n_pages)
        if prot != mapping.prot:
            raise PrivcmdError(
                errno.EACCES,
                f"the mapping has prot {mapping.prot}; a part of it cannot get {prot}",
                {"key": "prot"},
            )
        if errors is None or not mman.has_room(2 * n_pages):
            scratch = self._new(n_pages, prot)
            try:
                announce = calls.mmap(scratch.address, len(scratch), prot, fixed=True)
                outcome = yield from self._resolve(domid, prot, scratch.address, names, retries, announce)
                if errors is None:
                    outcome.refuse_failures(domid, names)
                yield from self._file(domid, prot, needed=bool(outcome.runs))
                outcome.check_room()
            except PrivcmdError:
                yield from self._undo(scratch)
                raise
            finally:
                scratch.unmap_here()
        # A privcmd VMA of Linux takes frames once; to take others it must be mapped anew.
        anew = [calls.mmap(addr, n_pages * PAGE_SIZE, prot, fixed=True)] if (yield from self._linux()) else []
        outcome = yield from self._resolve(domid, prot, addr, names, retries, *anew)
        fd = yield from self._file(domid, prot, needed=bool(outcome.runs))
        outcome.apply(mapping, first, domid, names, fd)
        if errors is None:
            # Only when the domain lost frames between the try and the replacement.
            outcome.refuse_failures(domid, names)
        return mapping

    def mmapbatch_v2(self, domid: int, addr: int, frames: Iterable[int]) -> Steps[array[int]]:
        """The ioctl over a mapping that is there; errors per frame, nothing undone, nothing tried again."""
        names = frames_as_bytes(frames)
        mapping, first = self._find(addr, len(names) // 8)
        outcome = yield from self._resolve(domid, mapping.prot, addr, names, 0)
        fd = yield from self._file(domid, mapping.prot, needed=bool(outcome.runs))
        outcome.apply(mapping, first, domid, names, fd)
        return outcome.errors

    def mmapbatch(self, domid: int, addr: int, frames: Iterable[int]) -> Steps[array[int]]:
        """The first version of the ioctl: the array comes back, failures marked in its top nibble."""
        names = frames_as_bytes(frames)
        mapping, first = self._find(addr, len(names) // 8)
        call = calls.privcmd_mmapbatch(domid, addr, names, extents=True)
        (batch,) = yield from self._ask(call, domid=domid, prot=mapping.prot)
        outcome = failed_batch_v1(names, batch)
        fd = yield from self._file(domid, mapping.prot, needed=bool(outcome.runs))
        outcome.apply(mapping, first, domid, names, fd)
        return batch.frames if batch.frames is not None else array("Q", names)

    def mmap_entries(self, domid: int, entries: Sequence[tuple[int, int, int]]) -> Steps[None]:
        """MMAP: entries of (va, first frame, n_pages) over mappings that are there, one after another."""
        places = [self._find(va, n_pages) for va, _, n_pages in entries]
        if not places:
            raise PrivcmdError(errno.EINVAL, "no entries to map", {"key": "entry"})
        prot = 0
        for mapping, _ in places:
            prot |= mapping.prot
        error = None
        try:
            call = calls.privcmd_mmap(domid, entries, extents=True)
            (extents,) = yield from self._ask(call, domid=domid, prot=prot)
        except PrivcmdError as refused:
            # The entries before the bad one are mapped all the same.
            error, extents = refused, array("I", refused.details.get("extents") or b"")
        start = 0
        for (mapping, first), (_, frame, n_pages) in zip(places, entries, strict=True):
            runs = runs_of(extents, start, n_pages)
            if runs:
                names = array("Q", range(frame, frame + n_pages)).tobytes()
                outcome = Outcome(array("i", bytes(4 * n_pages)), runs, n_pages - sum(runs[2::3]))
                fd = yield from self._file(domid, mapping.prot, needed=True)
                outcome.apply(mapping, first, domid, names, fd)
            start += n_pages
        if error is not None:
            raise error

    def map_again(self) -> Steps[int]:
        """Map all that is mapped once more, at the broker that follows one which has gone: there nothing is mapped yet.

        The memory is the guests' still, so pages keep their content, and other threads may use them meanwhile. A frame
        that is not there any more gets its errno; its page fails, or shows what it showed where no other frame is.

        Returns:
            The number of pages that had a frame and have none now.
        """
        self._left.clear()
        self.close()
        n_lost = 0
        for mapping in self.live():
            n_before = sum(1 for _, first, n in mapping.spans() for e in mapping.errors[first : first + n] if not e)
            try:
                yield from self._ask(calls.mmap(mapping.address, len(mapping), mapping.prot, fixed=True))
                for domid, first, n_pages in mapping.spans():
                    yield from self._span_again(mapping, domid, first, n_pages)
            except PrivcmdError as refused:
                mapping.errors[:] = array("i", [-(refused.errno or errno.EIO)]) * mapping.n_pages
            n_lost += n_before
            n_lost -= sum(1 for _, first, n in mapping.spans() for e in mapping.errors[first : first + n] if not e)
        return n_lost

    def _span_again(self, mapping: M, domid: int, first: int, n_pages: int) -> Steps[None]:
        names = mapping.gfns[first : first + n_pages].tobytes()
        outcome = yield from self._resolve(domid, mapping.prot, mapping.address + first * PAGE_SIZE, names, 0)
        fd = yield from self._file(domid, mapping.prot, needed=bool(outcome.runs))
        outcome.apply(mapping, first, domid, names, fd)

    def settle(self) -> Steps[None]:
        """Give back what closed mappings left behind."""
        if self._left:
            yield from self._ask()

    # --- what the face tells -----------------------------------------------------------------------------

    def notice(self, notice: Notification) -> None:
        """A domain that ends takes its memory files along: its domid may come back with other memory."""
        if notice.topic == "domain" and notice.body.get("state") in ("dying", "gone"):
            domid = notice.body["dom"]
            self._n_changes[domid] = self._n_changes.get(domid, 0) + 1
            for writable in (False, True):
                fd = self._files.pop((domid, writable), None)
                if fd is not None:
                    os.close(fd)

    def leave(self, mapping: BaseMapping) -> None:
        """Note that a mapping is closed. It takes no lock, because the garbage collector may call it."""
        self._left.append((mapping.address, PAGE_SIZE * mapping.n_pages))
        self._departed.append(mapping.address)

    def live(self) -> list[M]:
        """The mappings that are open, in order of address."""
        found = [(self._live[start]()) for start in self._starts]
        return [mapping for mapping in found if mapping is not None and not mapping.closed]

    def close(self) -> None:
        """Close the memory files; mappings do not need them."""
        while self._files:
            os.close(self._files.popitem()[1])

    # --- parts -------------------------------------------------------------------------------------------

    def _new(self, n_pages: int, prot: int) -> M:
        self._forget_departed()
        mapping = self._make(n_pages, prot, self.leave)
        start = mapping.address
        if start not in self._live:
            bisect.insort(self._starts, start)
        self._live[start] = weakref.ref(mapping)
        return mapping

    def _find(self, addr: int, n_pages: int) -> tuple[M, int]:
        """The live mapping that contains all of a range, and the range's first page in it."""
        if addr % PAGE_SIZE:
            raise PrivcmdError(errno.EINVAL, f"address {addr:#x} is not page-aligned", {"key": "addr"})
        at = bisect.bisect_right(self._starts, addr) - 1
        mapping = self._live[self._starts[at]]() if at >= 0 else None
        if mapping is not None and not mapping.closed:
            first = (addr - mapping.address) // PAGE_SIZE
            if first + n_pages <= mapping.n_pages:
                return mapping, first
        raise PrivcmdError(
            errno.EINVAL,
            f"{n_pages} pages at {addr:#x} do not lie inside one open mapping of this client",
            {"key": "addr"},
        )

    def _undo(self, mapping: M) -> Steps[None]:
        mapping.unmap_here()
        try:
            yield from self._ask()
        except PrivcmdError:
            # The error that is being raised says more than a munmap's, and a broken connection gives all back.
            return

    def _ask(self, *asked: Call[Any], domid: int | None = None, prot: int = 0) -> Steps[list[Any]]:
        """Send calls, after what is due: ranges to give back, and the domain's memory file if it is new.

        Raises:
            PrivcmdError: The error of the first call that was refused; the other calls were performed all the same.
        """
        dues: list[Call[Any]] = []
        while self._left:
            addr, size_bytes = self._left.popleft()
            dues.append(calls.munmap(addr, size_bytes))
        key = (domid, bool(prot & mmap.PROT_WRITE))
        fetch = domid is not None and key not in self._files
        if fetch:
            if not self._subscribed:
                dues.append(calls.subscribe("domain"))
            dues.append(calls.domain_memory(domid, write=key[1]))  # type: ignore[arg-type]
        n_changes = self._n_changes.get(domid, 0) if domid is not None else 0
        replies = yield [*dues, *asked]
        if fetch:
            self._subscribed = True
            self._keep_file(key, replies[len(dues) - 1], fresh=self._n_changes.get(domid, 0) == n_changes)  # type: ignore[arg-type]
        for reply in replies[len(dues) :]:
            if isinstance(reply, PrivcmdError):
                raise reply
        return replies[len(dues) :]

    def _keep_file(self, key: tuple[int, bool], reply: Any, *, fresh: bool) -> None:
        """Keep a memory file that the broker sent, unless its domain has ended since."""
        if isinstance(reply, PrivcmdError):
            return
        if fresh and key not in self._files:
            self._files[key] = reply.fd
        else:
            os.close(reply.fd)

    def _file(self, domid: int, prot: int, *, needed: bool) -> Steps[int]:
        """The domain's memory file; -1 when no good frame needs it."""
        if not needed:
            return -1
        key = (domid, bool(prot & mmap.PROT_WRITE))
        if key not in self._files:
            (reply,) = yield from self._ask(calls.domain_memory(domid, write=key[1]))
            self._keep_file(key, reply, fresh=True)
        return self._files[key]

    def _resolve(
        self, domid: int, prot: int, addr: int, names: bytes, retries: int, *before: Call[Any]
    ) -> Steps[Outcome]:
        """Map these frames by a batch at ``addr``; ask again for frames that are paged out."""
        call = calls.privcmd_mmapbatch_v2(domid, addr, names, extents=True)
        replies = yield from self._ask(*before, call, domid=domid, prot=prot)
        outcome = Outcome.of(replies[-1], len(names) // 8)
        # The call's own result does not tell: a uvm space answers 0 also when frames fail.
        while retries > 0 and (spans := outcome.spans_of(-errno.ENOENT)):
            retries -= 1
            yield Pause(PAGED_PAUSE_S)
            again = yield from self._ask(
                *(
                    calls.privcmd_mmapbatch_v2(
                        domid, addr + first * PAGE_SIZE, names[8 * first : 8 * (first + n)], extents=True
                    )
                    for first, n in spans
                )
            )
            for (first, n), part in zip(spans, again, strict=True):
                outcome.put(first, Outcome.of(part, n))
        return outcome

    def _linux(self) -> Steps[bool]:
        """Whether the address space has personality linux: only there can the device be mapped. Asked once."""
        if self._is_linux is None:
            try:
                (addr,) = yield from self._ask(calls.mmap(0, PAGE_SIZE, mmap.PROT_READ, file="privcmd"))
            except PrivcmdError as error:
                if error.errno != errno.ENODEV:
                    raise
                self._is_linux = False
            else:
                self._left.append((addr, PAGE_SIZE))
                self._is_linux = True
        return self._is_linux

    def _forget_departed(self) -> None:
        """Remove closed mappings from the list, unless another mapping has the address already."""
        while self._departed:
            start = self._departed.popleft()
            mapping = self._live[start]() if start in self._live else None
            if start in self._live and (mapping is None or mapping.closed):
                del self._live[start]
                del self._starts[bisect.bisect_left(self._starts, start)]


__all__ = ["PAGED_RETRIES", "Errors", "FrameError", "Mapper", "Pause", "Steps"]
