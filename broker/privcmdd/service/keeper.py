# SPDX-License-Identifier: Apache-2.0
"""Keeps the state of the world: what a step of a request has changed is kept before the next step, or the answer.

So an answer that a client has is true after a crash of the broker as well. What was kept last is held in memory too:
only records that differ from it are given to the store.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.grants.in_use import ENTRY_V1_BYTES, GTF_READING, GTF_WRITING, STATUS_BYTES
from privcmdd.model.injection import Injections
from privcmdd.model.machine import restore
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service import records
from privcmdd.service.keeping import Line, StateError
from privcmdd.service.packing import pack, unpack

if TYPE_CHECKING:
    from privcmdd.model.injection import Armed
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.keeping import Records, RecordStore
    from privcmdd.service.world import World

    Changed = dict[tuple[int, str], bytes | None]

# Number of the form of the records; a broker refuses state with a higher one.
FORM: Final = 1
NONE: Final[dict[str, bytes]] = {}


class Keeper:
    """Keeps the state of one world in a store."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._kept: Records = {}
        self._counts: dict[int, tuple[int, int]] = {}  # of rules: matches seen and taken when they were kept

    def begin(self, fresh_lineage: str) -> Line:
        """Read what was kept, and begin a new epoch. ``load`` has to follow.

        Args:
            fresh_lineage: The name of the line when nothing was kept yet.

        Raises:
            StateError: The records cannot be read, or are of a later version.
            ModelError: As ``RecordStore.commit``.
        """
        self._kept = self._store.load()
        own = self._kept.setdefault(0, {})
        line = Line(fresh_lineage, lasting=True)
        if "broker" in own:
            said = unpack(own["broker"])
            if said["form"] > FORM:
                raise StateError(f"it has form {said['form']}, this version knows forms up to {FORM}; use a later one")
            line = Line(said["lineage"], said["epoch"] + 1, lasting=True)
        self._commit({(0, "broker"): pack({"form": FORM, "lineage": line.lineage, "epoch": line.epoch})})
        return line

    def load(self, world: World) -> list[int]:
        """Enter what was kept into a world that is empty.

        Returns:
            The domids of domains that are lost, because their memory is.

        Raises:
            StateError: The records cannot be read, or are none of a machine of this size.
            ModelError: As ``RecordStore.commit``.
        """
        lost: list[int] = []
        world.keep = partial(self.keep, world)
        try:
            self._load_rules(world)
        except ValueError as problem:
            raise StateError(f"its records are damaged: {problem}") from problem
        if "machine" not in self._kept[0]:
            world.backing.sweep()
            return lost
        machine = world.machine
        try:
            records.restore_machine(machine, self._kept[0]["machine"])
            for domid, group in self._kept.items():
                if domid and not _enter(world, domid, group):
                    lost.append(domid)
        except ValueError as problem:
            raise StateError(f"its records are damaged: {problem}") from problem
        machine.frames.settle()
        world.backing.sweep()
        self._commit({(domid, name): None for domid in lost for name in self._kept[domid]})
        for domain in machine.domains.values():
            _mend_file(world, domain)
        return lost

    def keep(self, world: World) -> None:
        """Keep what has changed since this was last called.

        Raises:
            ModelError: As ``RecordStore.commit``; what has changed is still to be kept.
        """
        changed: Changed = {}
        counts: dict[int, tuple[int, int]] = {}
        if world.injections is not None:
            stay = [armed for armed in world.injections.rules.values() if armed.owner is None]
            counts = {armed.id: (armed.n_seen, armed.n_fired) for armed in stay}
            if counts != self._counts:
                changed.update(self._changed_rules(world.injections, stay))
        changes = world.machine.changes if world.has_machine else None
        if changes is not None and (changes.domains or changes.ports):
            changed[0, "machine"] = records.of_machine(world.machine)
            for domid in changes.domains | changes.ports - {0}:
                changed.update(self._changed(world.machine, domid))
        if changed:
            self._commit(changed)
        if changes is not None:
            changes.clear()
        self._counts = counts

    def _changed_rules(self, injections: Injections, stay: list[Armed]) -> Changed:
        """The records of rules that may have changed; those of rules that were cleared are forgotten."""
        changed: Changed = {(0, name): None for name in self._kept[0] if name.startswith(records.RULE)}
        changed.update({(0, f"{records.RULE}{armed.id}"): records.of_rule(armed) for armed in stay})
        changed[0, "rules"] = records.of_rules(injections)
        return changed

    def _load_rules(self, world: World) -> None:
        """Put the rules in force that were kept, but those about a connection: its number is another one's now."""
        own = self._kept[0]
        if "rules" not in own:
            return
        world.injections = Injections()
        world.injections.last_id = unpack(own["rules"])
        for name in [name for name in own if name.startswith(records.RULE)]:
            number = int(name.removeprefix(records.RULE))
            armed = records.rule_of(number, own[name])
            if armed.rule.connection is None:
                world.injections.rules[number] = armed

    def _changed(self, machine: Machine, domid: int) -> Changed:
        """The records of a domain that may have changed; those of a domain that is dying or gone are forgotten."""
        changes, domain = machine.changes, machine.domains.get(domid)
        assert changes is not None
        if domain is None or not domain.alive:
            return {(domid, name): None for name in self._kept.get(domid, NONE)}
        changed: Changed = {}
        if domid in changes.domains:
            changed[domid, "domain"] = records.of_domain(machine, domain)
        if domid in changes.ports:
            changed[domid, "ports"] = records.of_ports(machine, domid)
        for part in changes.parts.get(domid, ()):
            changed[domid, f"{records.PART}{part}"] = records.of_part(machine, domain, part)
        return changed

    def _commit(self, changed: Changed) -> None:
        new = {(domid, name): data for (domid, name), data in changed.items() if self._known(domid, name) != data}
        if not new:
            return
        self._store.commit(new)
        for (domid, name), data in new.items():
            group = self._kept.setdefault(domid, {})
            if data is not None:
                group[name] = data
                continue
            del group[name]
            if not group:
                del self._kept[domid]

    def _known(self, domid: int, name: str) -> bytes | None:
        return self._kept.get(domid, NONE).get(name)


def _enter(world: World, domid: int, group: dict[str, bytes]) -> bool:
    """Enter a domain into the machine, unless its memory is lost. Returns whether it is there."""
    parts = {
        int(name.removeprefix(records.PART)): data for name, data in group.items() if name.startswith(records.PART)
    }
    domain, pages, others = records.domain_of(group["domain"], parts)
    if not world.backing.reopen(domid, domain.file.n_pages):
        return False
    restore.enter(world.machine, domain, pages, others)
    world.machine.events.enter(domid, unpack(group["ports"]) if "ports" in group else {})
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
