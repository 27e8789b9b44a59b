# SPDX-License-Identifier: Apache-2.0
"""The state of the simulated machine, and what every part of the hypervisor builds on.

What has to happen outside (punching dead pages out of a memory file, telling subscribers) is left in
``effects`` for the service to carry out: nothing here touches the world.
"""

from __future__ import annotations

import errno
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import Found
from privcmdd.model.host import Host
from privcmdd.model.machine.domain import DomainState
from privcmdd.model.machine.effects import Discard, PutFrames, StateChanged
from privcmdd.model.machine.evtchn import VIRQ_DOM_EXC, EventChannels
from privcmdd.model.machine.frames import BARRED, FEW, NO_FRAME, FrameTable
from privcmdd.model.machine.gntalloc import Shares
from privcmdd.model.units import DOMID_FIRST_RESERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from privcmdd.model.files import Places
    from privcmdd.model.findings import FindingKind
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.effects import Effect
    from privcmdd.model.machine.frames import Gmfns, Mfns

    # Lets frames of a look-up fail: the domain, what is asked for, what was found, the error of each frame.
    Injection = Callable[
        [int, npt.NDArray[np.uint64] | None, npt.NDArray[np.uint32], npt.NDArray[np.int32] | None],
        tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None],
    ]


class Machine:
    """Frames, and the domains that own them.

    Attributes:
        frames: All frames of the machine.
        domains: Every domain that is not gone, by domid.
        effects: What is to be done outside.
        events: The event channels of all domains.
        host: Which host is simulated.
        injection: Lets frames fail on demand, for the request that runs now; None for none.
    """

    def __init__(
        self, n_frames: int, max_domains: int = 1024, max_gfns: int = 1 << 24, host: Host | None = None
    ) -> None:
        self.frames = FrameTable(n_frames)
        self.domains: dict[int, Domain] = {}
        self.effects: list[Effect] = []
        self.events = EventChannels(self.emit)
        self.shares = Shares(self.emit)
        self.max_domains = max_domains
        self.max_gfns = max_gfns
        self.host = host or Host()
        self.injection: Injection | None = None
        self.last_domid = 0
        self.generations = count(1)

    def translated(self, domid: int) -> Domain:
        """Look a domain up whose physmap can be changed.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying, or PV.
        """
        domain = self.living(domid)
        if not domain.kind.translated:
            raise ModelError(errno.EINVAL, f"domain {domid} is PV: it has no physmap", dom=domid)
        return domain

    def domain(self, domid: int) -> Domain:
        """Look a domain up.

        Raises:
            ModelError: ESRCH, there is none, or it is gone.
        """
        domain = self.domains.get(domid)
        if domain is None:
            raise no_such_domain(domid)
        return domain

    def living(self, domid: int) -> Domain:
        """Look a domain up whose memory can be changed.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying.
        """
        domain = self.domain(domid)
        if not domain.alive:
            raise ModelError(errno.EINVAL, f"domain {domid} is dying: its memory can no longer be changed", dom=domid)
        return domain

    def put(self, mfns: Mfns) -> None:
        """Drop a reference to each mentioned frame; ``NO_FRAME`` not among them.

        Frames that nothing refers to go back to the machine, and a dying domain that owns none any more is gone.
        Never fails: when there is no memory for it, it is put off until effects are carried out.
        """
        try:
            self._drop(mfns)
        except MemoryError:
            self.effects.append(PutFrames([mfns]))

    def put_parts(self, parts: Sequence[Mfns]) -> None:
        """As ``put``, for several lists, in which ``NO_FRAME`` and barred entries may be."""
        try:
            self.drop_parts(parts)
        except MemoryError:
            self.effects.append(PutFrames(parts))

    def drop_parts(self, parts: Sequence[Mfns]) -> None:
        """As ``put_parts``, for those that were put off.

        Raises:
            MemoryError: There is still no memory for it; nothing has changed.
        """
        mfns = np.concatenate([np.asarray(part, dtype=np.uint32) for part in parts])
        self._drop(mfns[(mfns != NO_FRAME) & (mfns != BARRED)])

    def _drop(self, mfns: Mfns) -> None:
        """Raises MemoryError; then nothing has changed."""
        gone = self.frames.put(mfns)
        if not len(gone):
            return
        try:
            dead = self._dead(gone)
            self.frames.make_room(len(gone))
        except MemoryError:
            self.frames.get(mfns)
            raise
        for domain, freed, pages, places in dead:
            domain.file.release(places)
            domain.n_resource -= len(places.resources)
            domain.tot_pages -= len(freed) - len(places.resources)
            self.effects.append(Discard(domain.domid, pages))
            self.frames.free(freed)
            self.bury(domain)

    def _dead(
        self, gone: npt.NDArray[np.uint32]
    ) -> list[tuple[Domain, npt.NDArray[np.uint32], npt.NDArray[np.uint32], Places]]:
        """The frames, by their owner, with their pages in its file; the machine's own never go back."""
        owners = self.frames.owner[gone]
        dead = []
        for domid in np.unique(owners).tolist():
            if domid < DOMID_FIRST_RESERVED:
                domain = self.domains[domid]
                freed = gone[owners == domid]
                pages = self.frames.page[freed]
                dead.append((domain, freed, pages, domain.file.places(pages)))
        return dead

    def bury(self, domain: Domain) -> None:
        """Let a dying domain go that owns no frame any more."""
        if domain.state is DomainState.DYING and domain.tot_pages == 0 and domain.n_resource == 0:
            domain.state = DomainState.GONE
            del self.domains[domain.domid]
            self.announce(domain)

    def emit(self, effect: Effect) -> None:
        """Note what is to be done outside."""
        self.effects.append(effect)

    def announce(self, domain: Domain) -> None:
        """A domain's state has changed: a toolstack waits for some of that (VIRQ_DOM_EXC)."""
        self.effects.append(StateChanged(domain.domid, domain.state))
        if not domain.alive:
            self.events.raise_virq(0, VIRQ_DOM_EXC)

    def found(self, kind: FindingKind, text: str, *, dom: int | None = None, addr: int | None = None) -> None:
        """Note harm that a real host does without a word; see ``findings``."""
        self.effects.append(Found(kind, text, dom, addr))

    def owner(self, mfn: int) -> int:
        """The domid that owns a frame."""
        return int(self.frames.owner_of[mfn])

    def gmfn(self, mfn: int) -> int:
        """By what a foreign mapping asks for a frame that has an owner: its gfn, or the mfn of a PV domain's."""
        owner = self.domains.get(self.owner(mfn))
        return int(self.frames.gfn[mfn]) if owner is not None and owner.kind.translated else mfn

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


NO_EXTENTS: Final = np.zeros((0, 3), dtype=np.uint32)


def no_such_domain(domid: int) -> ModelError:
    """The answer to a domid that names no domain."""
    return ModelError(errno.ESRCH, f"there is no domain {domid}", dom=domid)


def as_array(gmfns: Gmfns) -> npt.NDArray[np.uint64]:
    """Frame numbers as an array."""
    return np.asarray(gmfns, dtype=np.uint64)


def as_gmfns(gmfns: npt.NDArray[np.uint64]) -> Gmfns:
    """Frame numbers in the form that is fastest for so many."""
    return gmfns.tolist() if len(gmfns) <= FEW else gmfns


# ``Injections.fail_frames`` for one who asks.
