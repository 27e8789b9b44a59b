# SPDX-License-Identifier: Apache-2.0
"""The state of the simulated machine, and the operations that every part of the hypervisor uses.

What has to happen outside the model (punching unused pages out of a memory file, telling subscribers) is left in
``effects``, and the service carries it out: the model does no I/O.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import Found
from privcmdd.model.host import Host
from privcmdd.model.lists import distinct
from privcmdd.model.machine.changes import Changes
from privcmdd.model.machine.debts import Debts, FrameDebt
from privcmdd.model.machine.domain import DomainState
from privcmdd.model.machine.effects import Discard, PutFrames, StateChanged
from privcmdd.model.machine.evtchn import VIRQ_DOM_EXC, EventChannels
from privcmdd.model.machine.frames import BARRED, FEW, NO_FRAME, FrameTable
from privcmdd.model.machine.gntalloc import Shares
from privcmdd.model.slices import Pace
from privcmdd.model.units import DOMID_FIRST_RESERVED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    import numpy.typing as npt

    from privcmdd.model.files import Places
    from privcmdd.model.findings import FindingKind
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.effects import Effect
    from privcmdd.model.machine.frames import Gmfns, Mfns

    class Injection(Protocol):
        """Makes frames of a look-up fail: ``Injections.fail_frames`` for one asker."""

        def __call__(
            self,
            domid: int,
            gmfns: npt.NDArray[np.uint64] | None,
            mfns: npt.NDArray[np.uint32],
            errors: npt.NDArray[np.int32] | None,
            /,
            *,
            stop: bool = False,
        ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
            """Return mfns and errors; with ``stop``, up to the first frame that fails."""


class Machine:
    """Frames, and the domains that own them.

    Attributes:
        frames: All frames of the machine.
        domains: Every domain that is not gone, by domid.
        effects: What the service has to carry out.
        debts: What changes have left to be given back in slices.
        pace: How much is done in one step.
        events: The event channels of all domains.
        host: Which host is simulated.
        last_domid: The domid that was given last.
        last_generation: The generation of the domain that was made last.
        changes: What may have changed since the state was last kept; None where no state is kept.
        injection: Makes frames fail by the rules that the request which runs now may meet; None when it meets none.
    """

    def __init__(
        self, n_frames: int, max_domains: int = 1024, max_gfns: int = 1 << 24, host: Host | None = None
    ) -> None:
        self.frames = FrameTable(n_frames)
        self.domains: dict[int, Domain] = {}
        self.effects: list[Effect] = []
        self.debts = Debts()
        self.pace = Pace()
        self.events = EventChannels(self.emit)
        self.shares = Shares(self.emit)
        self.max_domains = max_domains
        self.max_gfns = max_gfns
        self.host = host or Host()
        self.injection: Injection | None = None
        self.last_domid = 0
        self.last_generation = 0
        self.changes: Changes | None = None

    def translated(self, domid: int) -> Domain:
        """Return a domain whose physmap can be changed.

        Raises:
            ModelError: ESRCH; EINVAL, the domain is dying or PV.
        """
        domain = self.living(domid)
        if not domain.kind.translated:
            raise ModelError(errno.EINVAL, f"domain {domid} is PV: it has no physmap", dom=domid)
        return domain

    def domain(self, domid: int) -> Domain:
        """Return a domain.

        Raises:
            ModelError: ESRCH, there is no such domain, or it is gone.
        """
        domain = self.domains.get(domid)
        if domain is None:
            raise no_such_domain(domid)
        self.touch(domid)
        return domain

    def living(self, domid: int) -> Domain:
        """Return a domain whose memory can be changed.

        Raises:
            ModelError: ESRCH; EINVAL, the domain is dying.
        """
        domain = self.domain(domid)
        if not domain.alive:
            raise ModelError(errno.EINVAL, f"domain {domid} is dying: its memory can no longer be changed", dom=domid)
        return domain

    def put(self, mfns: Mfns) -> None:
        """Put a reference to each frame listed; ``NO_FRAME`` must not be among them.

        Frames without references go back to the machine, and a dying domain that owns no frame any more is gone.
        This never fails: when there is no memory for it, the put is put off until effects are carried out.
        """
        try:
            self._drop(mfns)
        except MemoryError:
            self.effects.append(PutFrames([mfns]))

    def put_parts(self, parts: Sequence[Mfns], n_frames: int | None = None) -> None:
        """As ``put``, for several lists. When they are too much for one step, this makes a debt.

        Args:
            parts: Frames; ``NO_FRAME`` and barred entries may be among them.
            n_frames: How many frames there are; None: as many as there are entries.
        """
        if (sum(map(len, parts)) if n_frames is None else n_frames) > self.pace.bulk:
            self.debts.make(FrameDebt(self._put_now, parts, self.pace.bulk))
        else:
            self._put_now(parts)

    def _put_now(self, parts: Sequence[Mfns]) -> None:
        try:
            self.drop_parts(parts)
        except MemoryError:
            self.effects.append(PutFrames(parts))

    def drop_parts(self, parts: Sequence[Mfns]) -> None:
        """As ``put_parts``, for references whose put was put off.

        Raises:
            MemoryError: There still is no memory for it; nothing has changed.
        """
        mfns = np.concatenate([np.asarray(part, dtype=np.uint32) for part in parts])
        self._drop(mfns[(mfns != NO_FRAME) & (mfns != BARRED)])

    def _drop(self, mfns: Mfns) -> None:
        """Put references. Raises MemoryError; then nothing has changed."""
        gone = self.frames.put(mfns)
        if not len(gone):
            return
        try:
            dead = self._dead(gone)
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
        """Return frames to be freed: for each domain the frames, their pages in its file, and where these lie.

        Frames of DOMID_IO and DOMID_XEN are never freed.
        """
        owners = self.frames.owner[gone]
        dead = []
        for domid in distinct(owners).tolist():
            if domid < DOMID_FIRST_RESERVED:
                domain = self.domains[domid]
                freed = gone[owners == domid]
                pages = self.frames.page[freed]
                dead.append((domain, freed, pages, domain.file.places(pages)))
        return dead

    def bury(self, domain: Domain) -> None:
        """Make a dying domain gone, if it owns no frame any more."""
        if domain.state is DomainState.DYING and domain.tot_pages == 0 and domain.n_resource == 0:
            domain.state = DomainState.GONE
            del self.domains[domain.domid]
            self.announce(domain)

    def keep_track(self) -> Changes:
        """Have changes noted from now on, and return where."""
        self.changes = Changes()
        self.events.changes = []
        for domain in self.domains.values():
            domain.changes = self.changes
        return self.changes

    def touch(self, domid: int) -> None:
        """Note that a domain may be changed now."""
        if self.changes is not None:
            self.changes.domains.add(domid)

    def emit(self, effect: Effect) -> None:
        """Add an effect."""
        self.effects.append(effect)

    def announce(self, domain: Domain) -> None:
        """Tell that a domain's state has changed. Toolstacks are told of dying and gone domains by VIRQ_DOM_EXC."""
        self.effects.append(StateChanged(domain.domid, domain.state))
        if not domain.alive:
            self.events.raise_virq(0, VIRQ_DOM_EXC)

    def found(self, kind: FindingKind, text: str, *, dom: int | None = None, addr: int | None = None) -> None:
        """Add a finding; see ``findings``."""
        self.effects.append(Found(kind, text, dom, addr))

    def owner(self, mfn: int) -> int:
        """Return the domid of a frame's owner."""
        return int(self.frames.owner_of[mfn])

    def gmfn(self, mfn: int) -> int:
        """Return the number by which a foreign mapping asks for a frame: its gfn, or its mfn if its owner is PV."""
        owner = self.domains.get(self.owner(mfn))
        return int(self.frames.gfn[mfn]) if owner is not None and owner.kind.translated else mfn

    def extents(self, mfns: Mfns) -> npt.NDArray[np.uint32]:
        """Return where frames lie in their domain's memory file, as runs.

        Args:
            mfns: Frames of one domain, in request order; ``NO_FRAME`` where there is none.

        Returns:
            (k, 3) uint32, for each run: the index of its first frame, the page of that frame, the number of pages.
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

    def inject(self, injection: Injection | None) -> None:
        """Let frames fail on demand from now on, until this is called with None."""
        self.injection = injection

    def take_effects(self) -> list[Effect]:
        """Return the effects since the last call, in order, and forget them."""
        effects, self.effects = self.effects, []
        return effects


NO_EXTENTS: Final = np.zeros((0, 3), dtype=np.uint32)


def no_such_domain(domid: int) -> ModelError:
    """Return ESRCH, the answer to a domid that names no domain."""
    return ModelError(errno.ESRCH, f"there is no domain {domid}", dom=domid)


def as_array(gmfns: Gmfns) -> npt.NDArray[np.uint64]:
    """Return frame numbers as an array."""
    return np.asarray(gmfns, dtype=np.uint64)


def as_gmfns(gmfns: npt.NDArray[np.uint64]) -> Gmfns:
    """Return frame numbers in the form that is fastest for their count: a list of few, an array of many."""
    return gmfns.tolist() if len(gmfns) <= FEW else gmfns
