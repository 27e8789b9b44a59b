# SPDX-License-Identifier: Apache-2.0
"""The laws of the model, a function each. They hold between any two steps, whatever clients do.

The functions count from scratch and share no arithmetic with the code that they check. Tests run them after every
step; ``--paranoid`` runs them after every request.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.errors import LawBroken
from privcmdd.model.ledger import Slot
from privcmdd.model.lists import distinct
from privcmdd.model.machine.debts import FrameDebt
from privcmdd.model.machine.domain import FLAGS, PAGED, POD, DomainState
from privcmdd.model.machine.effects import PutFrames
from privcmdd.model.machine.evtchn import PortState
from privcmdd.model.machine.frames import BARRED, NO_FRAME
from privcmdd.model.machine.gntalloc import Shared
from privcmdd.model.mm.pmap import LEVEL_BITS
from privcmdd.model.units import DOMID_INVALID, DOMID_IO, DOMID_XEN, INVALID_FRAME, PAGE_MASK, VM_MAX_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from privcmdd.model.ledger import Account
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.privcmd.requests import Batch


def check(machine: Machine, spaces: Collection[AddressSpace], accounts: Mapping[Account, Iterable[Account]]) -> None:
    """Check all laws that hold between steps.

    Args:
        machine: The machine.
        spaces: Every address space that is not closed.
        accounts: Each account that spaces pay from, with the accounts that draw on it.

    Raises:
        LawBroken: The first law that does not hold.
    """
    for breach in breaches(machine, spaces, accounts):
        raise breach


def breaches(
    machine: Machine, spaces: Collection[AddressSpace], accounts: Mapping[Account, Iterable[Account]]
) -> Iterator[LawBroken]:
    """As ``check``, but yield all laws that are broken: for each law its first breach in each space or the machine."""
    for space in spaces:
        subject = f"space {space.number}"
        yield from _broken(entries_are_ordered, subject, space)
        yield from _broken(objects_are_counted, subject, space)
        yield from _broken(page_tables_are_counted, subject, space)
        yield from _broken(replacement_is_invisible, subject, space)
        yield from _broken(changes_are_counted, subject, space)
    yield from _broken(frames_are_counted, "machine", machine, spaces)
    yield from _broken(domains_live_as_long_as_referred_to, "machine", machine)
    yield from _broken(channels_have_two_ends, "machine", machine)
    yield from _broken(grants_in_use_are_counted, "machine", machine, spaces)
    yield from _broken(shares_are_held, "machine", machine, spaces)
    yield from _broken(tables_are_owned, "machine", machine)
    yield from _broken(charges_add_up, "machine", spaces, accounts)


def _broken(law: Callable[..., None], subject: str, *state: object) -> Iterator[LawBroken]:
    """Yield the breach of a law, if there is one. A law that cannot be checked in this state is broken too."""
    try:
        law(*state)
    except MemoryError:
        return  # the law is not checked for want of memory: that is no breach
    except LawBroken as breach:
        breach.subject = breach.subject or subject
        yield breach
    except Exception as problem:  # noqa: BLE001 - whatever is raised, the state is wrong
        uncheckable = LawBroken(law.__name__.replace("_", " "), f"cannot be checked: {problem!r}", subject)
        uncheckable.__cause__ = problem
        yield uncheckable


def require(law: str, holds: bool, text: str, subject: str = "") -> None:
    """Raise ``LawBroken`` unless the law holds. ``subject`` names the part of the state that is looked at."""
    if not holds:
        raise LawBroken(law, text, subject)


def entries_are_ordered(space: AddressSpace) -> None:
    """Law 1: entries are sorted, aligned, disjoint, and user addresses."""
    law = "1 entries are sorted, aligned, disjoint"
    end = 0
    for entry in space.map:
        require(law, entry.start >= end, f"{entry.start:#x} begins before {end:#x}")
        require(law, entry.end > entry.start, f"{entry.start:#x} is empty")
        require(law, not (entry.start | entry.end) & PAGE_MASK, f"{entry.start:#x} to {entry.end:#x} is unaligned")
        found = space.map.lookup(entry.start) is entry and space.map.lookup(entry.start - 1) is not entry
        require(law, found, f"{entry.start:#x} is not found by its address, or by one before it")
        end = entry.end
    require(law, end <= VM_MAX_ADDRESS, f"{end:#x} is past the end of user addresses")


def objects_are_counted(space: AddressSpace) -> None:
    """Law 2: an object has as many references as entries point to it, and the counter says how many objects exist."""
    law = "2 objects are referred to by their entries"
    pointing = Counter(entry.object for entry in space.map if entry.object is not None)
    for entry_object, n_entries in pointing.items():
        require(
            law,
            entry_object.refs == n_entries,
            f"object {entry_object.number} has {entry_object.refs}, not {n_entries}",
        )
    alive = space.objects.alive
    require(law, alive == len(pointing), f"{alive} objects are counted alive, {len(pointing)} are")
    for entry in space.map:
        if entry.object is not None:
            require(
                law, entry.offset + entry.n_pages <= entry.object.n_pages, f"{entry.start:#x} reaches past its object"
            )


def frames_are_counted(machine: Machine, spaces: Collection[AddressSpace]) -> None:
    """Law 3: a frame's references are its page table entries, the p2m's own, and those that are still to be put.

    A replacement that is being prepared holds references of its own to the frames that it has looked up so far.
    """
    law = "3 references are the mappings"
    frames = machine.frames
    expected = np.zeros(frames.n_frames, dtype=np.int64)
    for space in spaces:
        for _, leaf in space.pmap.leaves():
            np.add.at(expected, leaf[(leaf != NO_FRAME) & (leaf != BARRED)], np.int64(1))
    owed = [part for debt in machine.debts.owed if isinstance(debt, FrameDebt) for part in debt.parts]
    for part in owed:
        still = np.asarray(part, dtype=np.uint32)
        np.add.at(expected, still[(still != NO_FRAME) & (still != BARRED)], np.int64(1))
    for effect in machine.effects:
        if isinstance(effect, PutFrames):
            for part in effect.parts:
                np.add.at(expected, [mfn for mfn in part if mfn not in (NO_FRAME, BARRED)], np.int64(1))
    for domain in machine.domains.values():
        there = domain.p2m[domain.p2m > POD] & ~np.uint32(FLAGS)
        np.add.at(expected, there, np.int64(1))
        servers = domain.ioreq_servers.values()
        resources = [domain.shared_info, domain.grants.shared, domain.grants.status, *(s.frames for s in servers)]
        for mfns in (domain.detached, *resources):
            np.add.at(expected, mfns, np.int64(1))
        require(
            law,
            bool((frames.owner[there] == domain.domid).all()),
            f"domain {domain.domid} has a frame not its own",
            f"domain {domain.domid}",
        )
    prepared = any(space.pending is not None for space in spaces)
    wrong = np.flatnonzero(expected > frames.refs if prepared else expected != frames.refs)
    if len(wrong):
        mfn = int(wrong[0])
        text = f"frame {mfn:#x} has {int(frames.refs[mfn])} references, {int(expected[mfn])} are real"
        raise LawBroken(law, text, f"frame {mfn:#x}")
    unowned = int(np.count_nonzero((frames.refs > 0) & (frames.owner == DOMID_INVALID)))
    require(law, unowned == 0, f"{unowned} free frames are referred to")
    n_free = int(np.count_nonzero(frames.owner[min(256, frames.n_frames) :] == DOMID_INVALID))
    require(law, n_free == frames.n_free, f"{frames.n_free} frames are counted free, {n_free} are")


def page_tables_are_counted(space: AddressSpace) -> None:
    """Law 4: page table pages and wired pages equal a recount, and a failed frame has no page table entry."""
    law = "4 page tables and wired pages are accounted"
    present: set[int] = set()
    n_barred = 0
    for first, leaf in space.pmap.leaves():
        present.update((np.flatnonzero(leaf) + first).tolist())
        n_barred += int(np.count_nonzero(leaf == BARRED))
    counted, n_frames = (space.pmap.n_entries, space.pmap.n_present), len(present) - n_barred
    require(
        law,
        counted == (len(present), n_frames),
        f"{counted} entries and frames are counted, {len(present)} and {n_frames} are",
    )
    tables = sum(len({page >> LEVEL_BITS * level for page in present}) for level in (1, 2, 3))
    require(law, tables == space.pmap.n_ptps, f"{space.pmap.n_ptps} ptps are counted, {tables} are needed")
    wired = 0
    mapped = 0
    for entry in space.map:
        pages = [page for page in range(entry.page, entry.page + entry.n_pages) if page in present] if present else []
        mapped += len(pages)
        wired += len(pages) if entry.wired else 0
        if entry.object is not None:
            for page in pages:
                gmfn = int(entry.object.gmfns[entry.offset + page - entry.page])
                require(law, gmfn != INVALID_FRAME, f"page {page:#x} failed and has an entry")
    require(law, wired == space.n_wired, f"{space.n_wired} pages are counted wired, {wired} are")
    require(law, mapped == len(present), "a page has a page table entry and no map entry")


def replacement_is_invisible(space: AddressSpace) -> None:
    """Law 5: while a replacement is being prepared, the map is as it was when the preparation began."""
    pending = space.pending
    if pending is not None:
        require(
            "5 a replacement is seen whole or not at all",
            pending.generation == space.map.generation,
            f"{pending.start:#x} to {pending.end:#x} is being replaced, and the map has changed under it",
        )


def changes_are_counted(space: AddressSpace) -> None:
    """Law 6, over time: frames entered less frames removed are the frames that are mapped."""
    counters = space.counters
    there = counters.frames_entered - counters.frames_removed
    require(
        "6 only real changes are counted",
        there == space.pmap.n_present,
        f"{there} frames counted, {space.pmap.n_present} there",
    )


def errors_are_in_order(batch: Batch, n_asked: int) -> None:
    """Law 6, for one answer: each frame asked for has an error or a frame, never both, in its place.

    Frames of a mapping without access (linux, PROT_NONE) have neither.
    """
    law = "6 every frame is answered in its place"
    require(law, len(batch.mfns) == n_asked, f"{len(batch.mfns)} answers to {n_asked} frames")
    if batch.errors is not None:
        require(law, len(batch.errors) == n_asked, f"{len(batch.errors)} errors for {n_asked} frames")
        for index, (mfn, error) in enumerate(zip(batch.mfns, batch.errors, strict=True)):
            require(law, not (mfn and error) and error <= 0, f"frame {index} has frame {mfn} and error {error}")


def closed_space_is_empty(space: AddressSpace) -> None:
    """Law 7: when the last thread of an address space has ended, the space holds nothing."""
    law = "7 everything is given back"
    require(law, space.closed, "the space is not closed")
    require(law, not len(space.map) and not space.pmap.n_entries, "entries or frames are left")
    require(law, space.pmap.n_ptps == 0 and space.n_wired == 0, "page tables or wired pages are left")
    require(law, space.objects.alive == 0, f"{space.objects.alive} objects are left")


def domains_live_as_long_as_referred_to(machine: Machine) -> None:
    """Law 8: a domain is gone when nothing refers to it, no sooner and no later; its totals count its frames."""
    law = "8 a domain lives as long as it is referred to"
    owners = machine.frames.owner
    for domid in distinct(owners).tolist():
        known = domid in (DOMID_INVALID, DOMID_IO, DOMID_XEN) or domid in machine.domains
        require(law, known, f"domain {domid} is gone and owns frames", f"domain {domid}")
    for domain in machine.domains.values():
        subject = f"domain {domain.domid}"
        n_owned = int(np.count_nonzero(owners == domain.domid))
        require(
            law,
            n_owned == domain.tot_pages + domain.n_paged + domain.n_resource,
            f"domain {domain.domid} owns {n_owned} frames, counts {domain.tot_pages}, {domain.n_paged} paged out and "
            f"{domain.n_resource} of resources",
            subject,
        )
        n_waiting = int(np.count_nonzero(domain.p2m == POD))
        require(
            law,
            n_waiting == domain.n_pod,
            f"{subject} counts {domain.n_pod} guest frames that wait, {n_waiting} do",
            subject,
        )
        n_paged = int(np.count_nonzero((domain.p2m & PAGED) != 0))
        require(
            law,
            n_paged == domain.n_paged,
            f"{subject} counts {domain.n_paged} guest frames that are paged out, {n_paged} are",
            subject,
        )
        require(law, domain.alive or n_owned > 0, f"{subject} is {domain.state} and owns nothing", subject)
        require(law, domain.state is not DomainState.GONE, f"{subject} is gone and still listed", subject)


def channels_have_two_ends(machine: Machine) -> None:
    """Law 10: the other end of a bound port is bound to it and has the channel's other event; no third port has either.

    Xen's own ports are those of the domain's ioreq servers and of its pager.
    """
    law = "10 event channels have two ends"
    events = machine.events
    seen: set[tuple[int, int]] = set()
    for domid in (0, *machine.domains):
        if domid and not machine.domains[domid].alive:
            continue
        for number, port in events.ports(domid).items():
            where = f"port {number} of domain {domid}"
            require(law, (port.channel, port.side) not in seen, f"{where} shares its event with another port")
            seen.add((port.channel, port.side))
            if port.state is PortState.INTERDOMAIN:
                there = events.port(port.remote, port.remote_port)
                back = (there.remote, there.remote_port, there.channel, there.side)
                require(law, back == (domid, number, port.channel, 1 - port.side), f"{where} is not who it is bound to")
    for domain in machine.domains.values():
        if domain.alive:
            own = {number for number, port in events.ports(domain.domid).items() if port.for_xen}
            used = {port for server in domain.ioreq_servers.values() for port in (*server.ports, server.bufioreq_port)}
            used.add(domain.pager.port if domain.pager is not None else 0)
            subject = f"domain {domain.domid}"
            text = (
                f"ports {sorted(own)} of {subject} are Xen's own, its servers and its pager have {sorted(used - {0})}"
            )
            require(law, own == used - {0}, text, subject)


def grants_in_use_are_counted(machine: Machine, spaces: Collection[AddressSpace]) -> None:
    """Law 11: a grant is in use as often as pages map it, and each of these pages maps a frame of its domain."""
    law = "11 grants are in use as often as they are mapped"
    for space in spaces:
        alone = space.granted.notices.keys() - space.granted.refs.keys()
        require(law, not alone, f"space {space.number} has notices of pages {sorted(alone)[:4]}, which map no grant")
    mapped: Counter[tuple[int, int]] = Counter()
    written: Counter[tuple[int, int]] = Counter()
    for space in spaces:
        for page, held in space.granted.refs.items():
            if isinstance(held, Shared):
                continue
            domid, ref, writes = held
            mfn = space.pmap.get(page)
            there = mfn not in (NO_FRAME, BARRED) and machine.owner(mfn) == domid
            where = f"page {page:#x} of space {space.number}"
            require(law, there, f"{where} maps grant {ref} of domain {domid} and none of its frames")
            mapped[domid, ref] += 1
            written[domid, ref] += writes
    for domain in machine.domains.values():
        for ref, pin in domain.grants.pins.items():
            real = mapped.pop((domain.domid, ref), 0), written[domain.domid, ref]
            counted = pin.n_mappings, pin.n_writable
            text = f"grant {ref} of domain {domain.domid} is counted {counted} times mapped, and writable; it is {real}"
            require(law, counted == real and counted[0] > 0, text, f"domain {domain.domid}")
    require(law, not mapped, f"mapped and not counted (domain, grant): {list(mapped)[:4]}")


def shares_are_held(machine: Machine, spaces: Collection[AddressSpace]) -> None:
    """Law 12: a page that domain 0 grants exists as long as it has a holder; pages that are holders map it."""
    law = "12 shared pages are there as long as they are held"
    numbers = {space.number for space in spaces}
    holding = set()
    for ref, share in machine.shares.refs.items():
        holders = share.owners | share.mappers
        require(law, bool(holders), f"nobody holds grant {ref} of domain 0")
        for holder in holders:
            if holder.what == "page":
                require(law, holder.number in numbers, f"grant {ref} is held by space {holder.number}, which is gone")
                holding.add((holder.number, holder.page, ref))
    mapping = {
        (space.number, page, held.ref)
        for space in spaces
        for page, held in space.granted.refs.items()
        if isinstance(held, Shared)
    }
    require(law, holding == mapping, f"held or mapped alone (space, page, grant): {list(holding ^ mapping)[:4]}")


def tables_are_owned(machine: Machine) -> None:
    """Law 13: a frame that is pinned as a page table is one of its PV domain's own, and the domain lives."""
    law = "13 page tables are their domain's own frames"
    for domain in machine.domains.values():
        subject = f"domain {domain.domid}"
        pinned = np.fromiter(domain.tables, dtype=np.int64)
        require(law, not len(pinned) or (domain.alive and not domain.translated), f"{subject} has none", subject)
        lost = pinned[machine.frames.owner[pinned] != domain.domid].tolist()
        require(law, not lost, f"{subject} has pinned frames {lost[:4]}, which are not its own", subject)
        text = f"{subject} has page tables of levels {sorted(set(domain.tables.values()))}, expected 1 to 4"
        require(law, set(domain.tables.values()) <= {1, 2, 3, 4}, text, subject)


def charges_add_up(spaces: Collection[AddressSpace], accounts: Mapping[Account, Iterable[Account]]) -> None:
    """Law 9: an account pays for exactly what is in use."""
    law = "9 charges equal use"
    for account, drawing in accounts.items():
        own = [space for space in spaces if space.account is account]
        in_use = {
            Slot.SPACES: len(own),
            Slot.ENTRIES: sum(len(space.map) for space in own),
            Slot.OBJECTS: sum(space.objects.alive for space in own),
            Slot.FRAMES: sum(space.pmap.n_entries for space in own),
        }
        for slot, amount in in_use.items():
            if all(space.pending is None for space in own) or slot is Slot.SPACES:
                paid = account.used[slot]
                require(law, paid == amount, f"{account.name} pays {paid} {slot}, uses {amount}", account.name)
        below = list(drawing)
        for slot in set(Slot) - set(in_use):
            drawn = sum(child.used[slot] for child in below)
            paid = account.used[slot]
            require(law, paid == drawn, f"{account.name} pays {paid} {slot}, connections {drawn}", account.name)
