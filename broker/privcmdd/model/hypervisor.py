# SPDX-License-Identifier: Apache-2.0
"""The simulated hypervisor: domains, and who may map which of their frames.

Answers are those of Xen 4.17 to a PV dom0 (``mmu_update`` with a foreign domain), as recorded in
oracle/RESULTS.md, section 4; what it says of memory operations follows ``xen/common/memory.c``.

What has to happen outside (punching dead pages out of a memory file, telling subscribers) is left in
``effects`` for the service to carry out: nothing here touches the world.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.domain import PAGED, Domain, Kind, State
from privcmdd.model.errors import ModelError
from privcmdd.model.frames import FEW, FIRST_RAM, NO_FRAME, NOTHING, ONE, FrameTable
from privcmdd.model.units import DOMID_FIRST_RESERVED, FRAME_MASK
from privcmdd.model.uobject import ObjectCounters

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from privcmdd.model.frames import Errors, Mfns, Names


@dataclass(frozen=True, slots=True)
class Discard:
    """Pages of a memory file hold nothing any more: give them back to the host."""

    domid: int
    pages: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A domain came, began to die, or is gone."""

    domid: int
    state: State


Effect = Discard | StateChanged


@dataclass(frozen=True, slots=True)
class Extents:
    """How many of a list of frames were done, from the first on, and why not more.

    As Xen's memory operations answer: the number of extents done before the first that could not be.
    """

    n_done: int
    why: str | None
    mfns: npt.NDArray[np.uint32]


class Hypervisor:
    """All domains, and the machine's frames."""

    def __init__(self, n_frames: int, max_domains: int = 1024, max_gfns: int = 1 << 24) -> None:
        self.frames = FrameTable(n_frames)
        self.domains: dict[int, Domain] = {}
        self.effects: list[Effect] = []
        self.objects = ObjectCounters()
        self.max_domains = max_domains
        self.max_gfns = max_gfns
        self._last_domid = 0

    # Domains

    def domain(self, domid: int) -> Domain:
        """Look a domain up.

        Raises:
            ModelError: ESRCH, there is none, or it is gone.
        """
        domain = self.domains.get(domid)
        if domain is None:
            raise no_such_domain(domid)
        return domain

    def free_domid(self, wanted: int | None = None) -> int:
        """Choose the number of the next domain, as Xen's domctl does: the wanted one, or the next after the last.

        Raises:
            ModelError: EEXIST, the wanted one is taken; EINVAL, it is reserved; ENOMEM, too many domains.
        """
        if len(self.domains) >= self.max_domains:
            raise ModelError(
                errno.ENOMEM,
                f"there are {self.max_domains} domains, the most there may be; destroy one or raise machine.domains",
                limit=self.max_domains,
            )
        if wanted is not None:
            if not 0 < wanted < DOMID_FIRST_RESERVED:
                raise ModelError(
                    errno.EINVAL,
                    f"dom is {wanted:#x}, expected 1 to {DOMID_FIRST_RESERVED - 1:#x}: 0 and those above are Xen's own",
                    key="dom",
                )
            if wanted in self.domains:
                raise ModelError(errno.EEXIST, f"domain {wanted} exists ({self.domains[wanted].state})", dom=wanted)
            return wanted
        domid = self._last_domid
        while True:
            domid = domid + 1 if domid + 1 < DOMID_FIRST_RESERVED else 1
            if domid not in self.domains:
                return domid

    def create(
        self,
        kind: Kind,
        max_pages: int,
        ranges: Iterable[tuple[int, int]] | None = None,
        domid: int | None = None,
        name: str = "",
    ) -> Domain:
        """Make a domain and populate it.

        Args:
            kind: PV, HVM or PVH.
            max_pages: Its maximum reservation.
            ranges: (first gfn, number of pages) each; all of ``max_pages`` from 0 on when None. They must not
                overlap.
            domid: Its number, or None for the next free one.
            name: For people.

        Raises:
            ModelError: EINVAL, EEXIST, ENOMEM; then there is no such domain.
        """
        chosen = self.free_domid(domid)
        if max_pages > self.max_gfns:
            raise ModelError(
                errno.ENOMEM,
                f"max_pages is {max_pages}, a memory file holds {self.max_gfns} (machine.gfns_per_domain)",
                key="max_pages",
            )
        wanted = [(0, max_pages)] if ranges is None else list(ranges)
        for first, n_pages in wanted:
            if first < 0 or n_pages < 0 or first + n_pages > self.max_gfns:
                raise ModelError(
                    errno.ENOMEM if first < self.max_gfns else errno.EINVAL,
                    f"pages {first:#x} to {first + n_pages:#x} reach past {self.max_gfns:#x}, the guest frames a "
                    "domain may have (machine.gfns_per_domain)",
                    key="ranges",
                )
        n_total = sum(n_pages for _, n_pages in wanted)
        if n_total > max_pages:
            raise ModelError(
                errno.ENOMEM,
                f"ranges hold {n_total} pages, more than max_pages, {max_pages}",
                key="ranges",
                asked=n_total,
            )
        if n_total > self.frames.n_free:
            raise ModelError(
                errno.ENOMEM,
                f"the machine has {self.frames.n_free} free frames, {n_total} are asked for; destroy a domain or raise "
                "machine.memory_mib",
                free=self.frames.n_free,
                asked=n_total,
            )
        domain = Domain(chosen, kind, name, max_pages, self.max_gfns)
        gfns = np.concatenate([np.arange(f, f + n, dtype=np.uint64) for f, n in wanted]) if wanted else NO_NAMES
        if len(np.unique(gfns)) != n_total:
            raise ModelError(errno.EINVAL, "ranges overlap: a guest frame can be populated once", key="ranges")
        self.domains[chosen] = domain
        self._last_domid = chosen
        self._populate(domain, gfns)
        self.effects.append(StateChanged(chosen, domain.state))
        return domain

    def destroy(self, domid: int) -> State:
        """Begin the end of a domain; it is gone at once unless somebody holds its frames.

        Destroying it again does nothing (RESULTS.md, section 10).

        Raises:
            ModelError: ESRCH.
        """
        domain = self.domain(domid)
        if domain.alive:
            domain.state = State.DYING
            self.effects.append(StateChanged(domid, domain.state))
            own = domain.p2m[domain.p2m != NO_FRAME]
            paged = own >= PAGED
            domain.tot_pages += int(np.count_nonzero(paged))
            domain.n_paged = 0
            domain.p2m = NOTHING
            domain.p2m_of = NOTHING.data
            self.give(own & ~np.uint32(PAGED))
            self._bury(domain)
        return domain.state

    # Memory of a domain

    def populate(self, domid: int, gfns: Names) -> Extents:
        """Give a domain frames (XENMEM_populate_physmap, order 0), in order, until one cannot be had.

        A guest frame that is populated already stops it, where Xen would silently replace the frame.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self._living(domid)
        names = as_array(gfns)
        beyond = names >= self.max_gfns
        known = names < len(domain.p2m)
        there = np.zeros(len(names), dtype=np.bool_)
        there[known] = domain.p2m[names[known].astype(np.int64)] != NO_FRAME
        room = domain.max_pages - domain.tot_pages - domain.n_paged
        n_done, why = first_stop(
            len(names),
            (beyond, "is past the guest frames a domain may have (machine.gfns_per_domain)", names),
            (there | repeated(names), "is populated already", names),
        )
        if n_done > room:
            n_done, why = room, f"the reservation of {domain.max_pages} pages is used up"
        if n_done > self.frames.n_free:
            n_done, why = self.frames.n_free, "the machine has no free frame left (machine.memory_mib)"
        return Extents(n_done, why, self._populate(domain, names[:n_done]))

    def _populate(self, domain: Domain, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        gfns = names.astype(np.uint32)
        domain.reach(int(gfns.max(initial=0)) + 1)
        mfns = self.frames.allocate(domain.domid, gfns, domain.file.take(gfns))
        domain.p2m[gfns] = mfns
        domain.tot_pages += len(gfns)
        return mfns

    def decrease_reservation(self, domid: int, names: Names) -> Extents:
        """Take frames away from a domain (XENMEM_decrease_reservation), in order, until one is not there.

        A frame that is mapped keeps its content for those who hold it and counts for the domain until the
        last of them lets go (RESULTS.md, section 10).

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self._living(domid)
        asked = as_array(names)
        mfns = self._populated(domain, asked)
        absent = (mfns == NO_FRAME) | repeated(asked)
        n_done, why = first_stop(len(asked), (absent, "is not populated", asked))
        n_paged = int(np.count_nonzero(mfns[:n_done] >= PAGED))
        domain.n_paged -= n_paged
        domain.tot_pages += n_paged  # as if paged in: giving a frame back counts down here
        mfns = mfns[:n_done] & ~np.uint32(PAGED)
        domain.p2m[self.frames.gfn[mfns]] = NO_FRAME
        self.give(mfns)
        return Extents(n_done, why, mfns)

    def page_out(self, domid: int, gfns: Names) -> npt.NDArray[np.int32]:
        """Page frames out; mapping one is ENOENT until it is paged in. Content is kept.

        Returns:
            (n,) int32: 0, -EBUSY for a frame that is mapped, -EINVAL for one that is not populated.

        Raises:
            ModelError: ESRCH; ENODEV, only translated domains can be paged; EINVAL, it is dying.
        """
        domain, names, mfns, errors = self._pageable(domid, gfns)
        errors[mfns >= PAGED] = -errno.EINVAL
        good = errors == 0
        errors[np.flatnonzero(good)[self.frames.refs[mfns[good]] > 1]] = -errno.EBUSY
        errors[(errors == 0) & repeated(names)] = -errno.EINVAL  # out since its first mention
        good = errors == 0
        domain.p2m[names[good].astype(np.int64)] |= np.uint32(PAGED)
        n_moved = int(np.count_nonzero(good))
        domain.tot_pages -= n_moved
        domain.n_paged += n_moved
        return errors

    def page_in(self, domid: int, gfns: Names) -> npt.NDArray[np.int32]:
        """Page frames in again, with the content they had.

        Returns:
            (n,) int32: 0, or -EINVAL for a frame that is not paged out.

        Raises:
            ModelError: ESRCH; ENODEV, only translated domains can be paged; EINVAL, it is dying.
        """
        domain, names, mfns, errors = self._pageable(domid, gfns)
        errors[mfns < PAGED] = -errno.EINVAL
        errors[(errors == 0) & repeated(names)] = -errno.EINVAL  # in since its first mention
        good = errors == 0
        domain.p2m[names[good].astype(np.int64)] &= ~np.uint32(PAGED)
        n_moved = int(np.count_nonzero(good))
        domain.tot_pages += n_moved
        domain.n_paged -= n_moved
        return errors

    def _pageable(
        self, domid: int, gfns: Names
    ) -> tuple[Domain, npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
        domain = self._living(domid)
        if not domain.kind.translated:
            raise ModelError(errno.ENODEV, f"domain {domid} is PV: only HVM and PVH domains can be paged", dom=domid)
        names = as_array(gfns)
        mfns = self._populated(domain, names)
        errors = np.zeros(len(names), dtype=np.int32)
        errors[mfns == NO_FRAME] = -errno.EINVAL
        return domain, names, mfns, errors

    def _populated(self, domain: Domain, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """What the p2m has under names, ``NO_FRAME`` and ``PAGED`` as there; no bit of a name is dropped here."""
        mfns = np.zeros(len(names), dtype=np.uint32)
        if domain.kind.translated:
            known = names < len(domain.p2m)
            mfns[known] = domain.p2m[names[known].astype(np.int64)]
            return mfns
        known = names < self.frames.n_frames
        mfns[known] = names[known]
        mfns[self.frames.owner[mfns] != domain.domid] = NO_FRAME
        # A frame that was ballooned out but is still mapped is the domain's, yet no longer in its p2m.
        own = mfns != NO_FRAME
        own[own] = domain.p2m[self.frames.gfn[mfns[own]]] == mfns[own]
        return np.where(own, mfns, NO_FRAME).astype(np.uint32)

    def _living(self, domid: int) -> Domain:
        domain = self.domain(domid)
        if not domain.alive:
            raise ModelError(errno.EINVAL, f"domain {domid} is dying: its memory can no longer be changed", dom=domid)
        return domain

    # Foreign mappings

    def acquire(self, domid: int, names: Names) -> tuple[Mfns, Errors | None]:
        """Look frames up and take a reference to each good one, in one step.

        Args:
            domid: Whose frames.
            names: Frame numbers as the caller wrote them, of which 40 bits count: gfns of an HVM or PVH domain,
                mfns of a PV one. A list (at most ``FEW``) or (n,) uint64.

        Returns:
            The machine frames, ``NO_FRAME`` where there is none, and None when all are good, else the negative
            errno of each (0 for a good one): -ESRCH no such domain, -EINVAL not populated, -ENOENT paged out,
            -EPERM no RAM, -EBUSY not the domain's. In the form of ``names``.
        """
        domain = self.domains.get(domid)
        if isinstance(names, list):
            return self._acquire_few(domain, names)
        if domain is None:
            return np.zeros(len(names), dtype=np.uint32), np.full(len(names), -errno.ESRCH, dtype=np.int32)
        mfns, errors = self._look(domain, names & np.uint64(FRAME_MASK))
        np.add.at(self.frames.refs, mfns if errors is None else mfns[errors == 0], ONE)
        return mfns, errors

    def _look(
        self, domain: Domain, names: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
        index = names.view(np.int64)  # 40 bits: never negative
        if domain.kind.translated:
            p2m = domain.p2m
            if len(p2m) and int(index.max(initial=0)) < len(p2m):
                mfns = p2m[index]
                if int(mfns.min(initial=FIRST_RAM)) >= FIRST_RAM and int(mfns.max(initial=0)) < PAGED:
                    return mfns, None
            else:
                known = index < len(p2m)
                mfns = np.zeros(len(index), dtype=np.uint32)
                mfns[known] = p2m[index[known]]
            errors = np.zeros(len(index), dtype=np.int32)
            errors[mfns == NO_FRAME] = -errno.EINVAL
            errors[mfns >= PAGED] = -errno.ENOENT
            mfns[errors != 0] = NO_FRAME
            return mfns, errors
        ram = (index >= FIRST_RAM) & (index < self.frames.n_frames)
        mfns = np.where(ram, index, NO_FRAME).astype(np.uint32)
        own = self.frames.owner[mfns] == domain.domid
        if own.all():
            return mfns, None
        errors = np.where(own, 0, np.where(ram, -errno.EBUSY, -errno.EPERM)).astype(np.int32)
        errors[index == FRAME_MASK] = -errno.EINVAL
        mfns[~own] = NO_FRAME
        return mfns, errors

    def _acquire_few(self, domain: Domain | None, names: list[int]) -> tuple[list[int], list[int] | None]:
        mfns = [NO_FRAME] * len(names)
        if domain is None:
            return mfns, [-errno.ESRCH] * len(names)
        errors: list[int] | None = None
        refs = self.frames.refs_of
        translated = domain.kind.translated
        p2m = domain.p2m_of
        for i, name in enumerate(names):
            number = name & FRAME_MASK
            error = 0
            if translated:
                mfn = p2m[number] if number < len(p2m) else NO_FRAME
                if mfn == NO_FRAME:
                    error = -errno.EINVAL
                elif mfn >= PAGED:
                    error = -errno.ENOENT
            else:
                mfn = number
                if not FIRST_RAM <= number < self.frames.n_frames:
                    error = -errno.EINVAL if number == FRAME_MASK else -errno.EPERM
                elif self.frames.owner_of[number] != domain.domid:
                    error = -errno.EBUSY
            if error:
                errors = errors or [0] * len(names)
                errors[i] = error
            else:
                refs[mfn] += 1
                mfns[i] = mfn
        return mfns, errors

    def give(self, mfns: Mfns) -> None:
        """Drop a reference to each mentioned frame; ``NO_FRAME`` not among them.

        Frames that nothing refers to go back to the machine, and a dying domain that owns none any more is gone.
        """
        gone = self.frames.give(mfns)
        if not len(gone):
            return
        owners = self.frames.owner[gone]
        for domid in np.unique(owners).tolist():
            domain = self.domains[domid]
            freed = gone[owners == domid]
            pages = self.frames.page[freed]
            domain.file.give(pages)
            domain.tot_pages -= len(freed)
            self.effects.append(Discard(domid, pages))
            self.frames.free(freed)
            self._bury(domain)

    def _bury(self, domain: Domain) -> None:
        if domain.state is State.DYING and domain.tot_pages == 0:
            domain.state = State.GONE
            del self.domains[domain.domid]
            self.effects.append(StateChanged(domain.domid, domain.state))

    def owner(self, mfn: int) -> int:
        """The domid that owns a frame."""
        return int(self.frames.owner_of[mfn])

    def name(self, mfn: int) -> int:
        """By what a foreign mapping asks for a frame that has an owner: its gfn, or the mfn of a PV domain's."""
        return int(self.frames.gfn[mfn]) if self.domains[self.owner(mfn)].kind.translated else mfn

    def extents(self, mfns: Mfns) -> npt.NDArray[np.uint32]:
        """Where frames lie in their domain's memory file, as runs.

        Args:
            mfns: Frames in request order, ``NO_FRAME`` where there is none; all good ones of one domain.

        Returns:
            (k, 3) uint32: index of the first frame of the run, its page in the file, number of pages.
        """
        if len(mfns) == 1 and mfns[0] != NO_FRAME:
            return np.array([[0, self.frames.page_of[mfns[0]], 1]], dtype=np.uint32)
        frames = np.asarray(mfns, dtype=np.uint32)
        index = np.flatnonzero(frames)
        if not len(index):
            return NO_EXTENTS
        pages = self.frames.page[frames[index]].astype(np.int64)
        starts = np.flatnonzero((np.diff(index, prepend=-2) != 1) | (np.diff(pages, prepend=-2) != 1))
        lengths = np.diff(starts, append=len(index))
        return np.column_stack((index[starts], pages[starts], lengths)).astype(np.uint32)

    def take_effects(self) -> list[Effect]:
        """What is to be done outside since the last call, in order."""
        effects, self.effects = self.effects, []
        return effects


NO_NAMES: Final = np.zeros(0, dtype=np.uint64)
NO_EXTENTS: Final = np.zeros((0, 3), dtype=np.uint32)


def no_such_domain(domid: int) -> ModelError:
    """The answer to a domid that names no domain."""
    return ModelError(errno.ESRCH, f"there is no domain {domid}", dom=domid)


def as_array(names: Names) -> npt.NDArray[np.uint64]:
    """A list of names as an array."""
    return np.asarray(names, dtype=np.uint64)


def as_names(names: npt.NDArray[np.uint64]) -> Names:
    """Names in the form that is fastest for their number."""
    return names.tolist() if len(names) <= FEW else names


def repeated(names: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which names stand earlier in the list as well."""
    again = np.ones(len(names), dtype=np.bool_)
    again[np.unique(names, return_index=True)[1]] = False
    return again


def first_stop(n: int, *reasons: tuple[npt.NDArray[np.bool_], str, npt.NDArray[np.uint64]]) -> tuple[int, str | None]:
    """How far a list is done before the first reason to stop, and the reason."""
    n_done, why = n, None
    for stops, text, names in reasons:
        hits = np.flatnonzero(stops[:n_done])
        if len(hits):
            n_done = int(hits[0])
            why = f"frame {int(names[n_done]):#x} {text}"
    return n_done, why
