# SPDX-License-Identifier: Apache-2.0
"""The state that outlives the broker, as records: a name and bytes each. From the world to records, and back.

Kept are domains with all that belongs to them, their ports, their leases, the machine's own numbers, and rules of
injection that stay when their connection ends. Connections, their address spaces, their ports and shared pages end with
the broker. So a domain that is dying because it is mapped is gone after a restart, a port that was bound to one of
domain 0 is unbound, and nothing is mapped.

A domain has a record for itself, and one for each part of its guest frames, so that a change of one frame does not have
all of them written anew.
"""

from __future__ import annotations

from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.injection import Armed
from privcmdd.model.machine import restore
from privcmdd.model.machine.changes import PART_GFNS
from privcmdd.model.machine.domain import FLAGS, POD, Domain
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.service.keeping import StateError
from privcmdd.service.leases import Lease, Until
from privcmdd.service.packing import PackingError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from privcmdd.model.injection import Injections
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.keeping import Records
    from privcmdd.service.world import World

COUNTED: Final = frozenset({"tot_pages", "n_paged", "n_resource", "n_pod"})
"""Fields of a domain that ``restore`` counts anew."""
IN_PARTS: Final = frozenset({"p2m", "read_only", "dirty"})
"""Fields of a domain that are in the records of its parts."""
LEFT_OUT: Final = frozenset({"changes", "p2m_of", "file", "translated", "vram"})
"""Fields of a domain that are made anew, and ``vram``: a device model that follows changes is told once that all of
its frames have changed."""
WHOLE: Final = tuple(sorted({f.name for f in fields(Domain)} - COUNTED - IN_PARTS - LEFT_OUT))
"""Fields of a domain that are in its own record."""

PART: Final = "part/"
"""How names of records of parts begin."""
RULE: Final = "rule/"
"""How names of records of rules of injection begin."""
OF_LEASE: Final = ("uid", "pid", "client", "connection", "method", "request", "since_s")
"""Fields of a lease that are kept as they are."""
REJOIN_S: Final = 30.0
"""How long the clients of a job have to come back to the broker that follows, before the job ends: a client of the
Python library waits up to 10 s for that broker to listen."""
NO_ROWS: Final = np.zeros((0, 4), dtype="<u4")


def of_ports(machine: Machine, domid: int) -> bytes | None:
    """The record of a domain's ports; None when it has none."""
    ports = machine.events.kept(domid)
    return pack(ports) if ports else None


def of_machine(machine: Machine) -> bytes:
    """The record of the machine's own numbers."""
    return pack(
        {
            "n_frames": machine.frames.n_frames,
            "max_gfns": machine.max_gfns,
            "last_domid": machine.last_domid,
            "last_generation": machine.last_generation,
        }
    )


def of_domain(machine: Machine, domain: Domain) -> bytes:
    """The record of a domain itself."""
    said = {name: getattr(domain, name) for name in WHOLE}
    said["logs_dirty"] = domain.dirty is not None
    said["others"] = tuple(restore.held_rows(machine, domain))
    return pack(said)


def n_parts(domain: Domain) -> int:
    """The number of parts of a domain's guest frames."""
    return -(-len(domain.p2m) // PART_GFNS)


def of_rules(injections: Injections) -> bytes:
    """The record of what all rules of injection share: their numbers."""
    return pack(injections.last_id)


def of_rule(armed: Armed) -> bytes:
    """The record of a rule of injection, with its counts."""
    tries = {}
    for domid, counts in armed.tries.items():
        if len(there := np.flatnonzero(counts)):
            tries[domid] = (there.astype("<u4"), counts[there])
    return pack([armed.rule, armed.n_seen, armed.n_fired, tries])


def rule_of(number: int, data: bytes) -> Armed:
    """A rule from its record.

    Raises:
        PackingError: It cannot be read.
    """
    rule, n_seen, n_fired, tries = unpack(data)
    armed = Armed(number, rule, None)
    armed.n_seen, armed.n_fired = n_seen, n_fired
    for domid, (there, counts) in tries.items():
        armed.tries[domid] = np.zeros(1 << int(there[-1]).bit_length(), dtype=np.uint8)
        armed.tries[domid][there] = counts
    return armed


def of_lease(world: World, domain: Domain) -> bytes | None:
    """The record of a domain's lease; None when nobody is known to have made it."""
    lease = world.leases.of(domain.domid, domain.generation)
    if lease is None:
        return None
    said = {name: getattr(lease, name) for name in OF_LEASE}
    return pack(
        {
            **said,
            "ttl_s": lease.expires_s - lease.since_s,
            "until": lease.until.value,
            "job": "" if lease.job is None else lease.job.name,
        }
    )


def restore_lease(world: World, domain: Domain, data: bytes) -> None:
    """Enter the lease of a domain from its record. A job has some time to be joined again; connections have ended."""
    said = unpack(data)
    name, ttl_s, now_s = said.pop("job"), said.pop("ttl_s", inf), world.now()
    said["until"] = until = Until(said["until"])
    said["since_s"] = since_s = min(said["since_s"], now_s)  # after a start of the host its clock begins anew
    job = world.jobs.restored(said["uid"], name, said["pid"], said["client"], since_s) if name else None
    lease = Lease(domain.domid, domain.generation, job=job, expires_s=since_s + ttl_s, **said)
    if until is not Until.DESTROYED:
        lease.ends_s = now_s + REJOIN_S if until is Until.JOB else now_s
    world.leases.enter(lease)


def of_part(machine: Machine, domain: Domain, part: int) -> bytes | None:
    """The record of a part of a domain's guest frames; None when there is nothing to say of it."""
    here = slice(part * PART_GFNS, (part + 1) * PART_GFNS)
    entries = domain.p2m[here]
    rows = runs(entries, machine.frames.page[entries & ~np.uint32(FLAGS)])
    bits = [b"" if table is None else _bits(table[here]) for table in (domain.read_only, domain.dirty)]
    if not len(rows) and not any(bits):
        return None
    return pack([rows.tobytes(), *bits])


def runs(entries: npt.NDArray[np.uint32], pages: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A part of a p2m as runs.

    Args:
        entries: (n,) the entries of the p2m.
        pages: (n,) the page of the frame of each entry that names one.

    Returns:
        (k, 4) uint32, for each run: its first entry, the number of entries, the first one's value and page. Values and
        pages count up within a run; but where nothing is populated yet they are all the same.
    """
    if not len(entries):
        return NO_ROWS
    names = entries > POD
    steps = np.diff(entries) == names[1:]
    steps &= names[1:] == names[:-1]
    steps &= (np.diff(pages) == 1) | ~names[1:]
    starts = np.flatnonzero(np.concatenate(([True], ~steps)))
    lengths = np.diff(starts, append=len(entries))
    found = np.column_stack((starts, lengths, entries[starts], np.where(names[starts], pages[starts], 0)))
    rows: npt.NDArray[np.uint32] = found[entries[starts] != NO_FRAME].astype("<u4")
    return rows


def _bits(table: npt.NDArray[np.bool_]) -> bytes:
    return np.packbits(table).tobytes().rstrip(b"\0")


class _Tables:
    """The tables of a domain's guest frames, as they are put together from parts."""

    def __init__(self, n_gfns: int) -> None:
        self.p2m = np.zeros(n_gfns, dtype=np.uint32)
        self.pages = np.zeros(n_gfns, dtype=np.uint32)
        self.read_only = np.zeros(n_gfns, dtype=np.bool_)
        self.dirty = np.zeros(n_gfns, dtype=np.bool_)

    def add(self, part: int, data: bytes) -> None:
        """Read the record of a part."""
        rows, read_only, dirty = unpack(data)
        start = part * PART_GFNS
        for first, n, value, page in np.frombuffer(rows, dtype="<u4").reshape(-1, 4).tolist():
            here = slice(start + first, start + first + n)
            counting = np.arange(n, dtype=np.uint32) if value > POD else np.zeros(n, dtype=np.uint32)
            self.p2m[here] = counting + np.uint32(value)
            self.pages[here] = counting + np.uint32(page)
        for table, bits in ((self.read_only, read_only), (self.dirty, dirty)):
            if bits:
                known = table[start : start + PART_GFNS]
                known[:] = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=len(known))


def restore_machine(machine: Machine, data: bytes) -> None:
    """Set the machine's own numbers as they were kept.

    Raises:
        StateError: The machine has another size.
    """
    said = unpack(data)
    for name, key, real in (
        ("n_frames", "memory_mib", machine.frames.n_frames),
        ("max_gfns", "gfns_per_domain", machine.max_gfns),
    ):
        if said[name] != real:
            raise StateError(
                f"it was made with {said[name]} pages by machine.{key}, and there are {real} now; set machine.{key} "
                "back, or choose another directory"
            )
    restore_numbers(machine, data)


def restore_numbers(machine: Machine, data: bytes | None) -> None:
    """Set the numbers that were given last as they were kept; None: none was given yet."""
    said = {"last_domid": 0, "last_generation": 0} if data is None else unpack(data)
    machine.last_domid, machine.last_generation = said["last_domid"], said["last_generation"]


def domain_of(group: Mapping[str, bytes]) -> tuple[Domain, npt.NDArray[np.uint32], restore.Rows]:
    """A domain from its records.

    Returns:
        The domain, and what ``restore.enter`` takes with it.

    Raises:
        PackingError: The records cannot be read.
    """
    said: dict[str, Any] = unpack(group["domain"])
    parts = {int(name.removeprefix(PART)): data for name, data in group.items() if name.startswith(PART)}
    others = restore.Rows(*said.pop("others"))
    logs_dirty = said.pop("logs_dirty")
    try:
        domain = Domain(**said)
    except TypeError as problem:
        raise PackingError(f"the record of a domain of a later version: {problem}") from problem
    tables = _Tables(min(domain.max_gfns, PART_GFNS * (max(parts, default=-1) + 1)))
    for part, inner in parts.items():
        tables.add(part, inner)
    domain.p2m, domain.read_only = tables.p2m, tables.read_only
    domain.dirty = tables.dirty if logs_dirty else None
    return domain, tables.pages, others


def of_world(world: World) -> Records:
    """All records of a world."""
    machine = world.machine
    found: Records = {0: {"machine": of_machine(machine)}}
    if world.injections is not None:
        found[0]["rules"] = of_rules(world.injections)
        stay = (armed for armed in world.injections.rules.values() if armed.stays)
        found[0].update({f"{RULE}{armed.id}": of_rule(armed) for armed in stay})
    for domid, domain in machine.domains.items():
        if domain.alive:
            parts = {f"{PART}{part}": of_part(machine, domain, part) for part in range(n_parts(domain))}
            group = found[domid] = {name: data for name, data in parts.items() if data is not None}
            group["domain"] = of_domain(machine, domain)
            if (lease := of_lease(world, domain)) is not None:
                group["lease"] = lease
            if machine.events.ports(domid):
                group["ports"] = pack(machine.events.kept(domid))
    return found
