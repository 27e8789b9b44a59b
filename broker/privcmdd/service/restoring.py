# SPDX-License-Identifier: Apache-2.0
"""A world from records: after a restart, and in a broker that takes over from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.grants.in_use import ENTRY_V1_BYTES, GTF_READING, GTF_WRITING, STATUS_BYTES
from privcmdd.model.injection import Injections
from privcmdd.model.machine import restore
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service import records
from privcmdd.service.keeping import StateError
from privcmdd.service.packing import unpack

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.keeping import Records
    from privcmdd.service.world import World


def restore_world(world: World, kept: Records) -> list[int]:
    """Enter what records say into a world that is empty.

    Args:
        world: The world; its backing has the memory files of the domains, or finds them.
        kept: All records.

    Returns:
        The domids of domains that are lost, because their memory is.

    Raises:
        StateError: The records cannot be read, or are none of a machine of this size.
    """
    lost: list[int] = []
    own = kept.get(0, {})
    try:
        _restore_rules(world, own)
        if "machine" in own:
            records.restore_machine(world.machine, own["machine"])
            lost = [domid for domid, group in kept.items() if domid and not _enter(world, domid, group)]
            world.machine.frames.settle()
    except ValueError as problem:
        raise StateError(f"its records are damaged: {problem}") from problem
    world.backing.sweep()
    if world.has_machine:
        for domain in world.machine.domains.values():
            _mend_file(world, domain)
    return lost


def _restore_rules(world: World, own: dict[str, bytes]) -> None:
    """Put the rules in force that were kept, but those about a connection: its number is another one's now."""
    if "rules" not in own:
        return
    world.injections = Injections()
    world.injections.last_id = unpack(own["rules"])
    for name in [name for name in own if name.startswith(records.RULE)]:
        number = int(name.removeprefix(records.RULE))
        armed = records.rule_of(number, own[name])
        if armed.rule.connection is None:
            world.injections.rules[number] = armed


def _enter(world: World, domid: int, group: dict[str, bytes]) -> bool:
    """Enter a domain into the machine, unless its memory is lost. Returns whether it is there."""
    domain, pages, others = records.domain_of(group)
    if not world.backing.reopen(domid, domain.file.n_pages):
        return False
    restore.enter(world.machine, domain, pages, others)
    world.machine.events.enter(domid, unpack(group["ports"]) if "ports" in group else {})
    if "lease" in group:
        records.restore_lease(world, domain, group["lease"])
    return True


def _mend_file(world: World, domain: Domain) -> None:
    """Bring a memory file to the state of its domain: pages without a frame are empty, and no grant is in use."""
    backing, domid = world.backing, domain.domid
    filled = [np.arange(first, first + n, dtype=np.uint32) for first, n in backing.filled(domid)]
    if filled:
        backing.discard(domid, domain.file.unheld(np.concatenate(filled)))
    grants = domain.grants
    frames, size = (grants.shared, ENTRY_V1_BYTES) if grants.version == 1 else (grants.status, STATUS_BYTES)
    for page in world.machine.frames.page[np.array(frames, dtype=np.uint32)].tolist():
        table = np.frombuffer(backing.read(domid, page, 0, PAGE_SIZE), dtype=np.uint8).copy()
        flags = table[::size]
        if (flags & (GTF_READING | GTF_WRITING)).any():
            flags &= np.uint8(0xFF & ~(GTF_READING | GTF_WRITING))
            backing.write(domid, page, 0, table.tobytes())
