# SPDX-License-Identifier: Apache-2.0
"""Keeps the state of the world: what a step of a request has changed is kept before the next step, or the answer.

So an answer that a client has is true after a crash of the broker as well. What was kept last is held in memory too:
only records that differ from it are given to the store.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import restore
from privcmdd.model.machine.effects import ChannelGone, Discard, StateChanged
from privcmdd.service import records
from privcmdd.service.keeping import FORM, Line, StateError
from privcmdd.service.lasting import Channel
from privcmdd.service.packing import pack, unpack
from privcmdd.service.restoring import restore_world

if TYPE_CHECKING:
    from privcmdd.model.injection import Armed, Injections
    from privcmdd.model.machine.effects import Effect
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.keeping import Records, RecordStore
    from privcmdd.service.world import World

    Changed = dict[tuple[int, str], bytes | None]

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
        self._write({(0, "broker"): pack({"form": FORM, "lineage": line.lineage, "epoch": line.epoch})})
        return line

    def load(self, world: World) -> list[int]:
        """Enter what was kept into a world that is empty, and keep what it becomes from now on.

        Returns:
            The domids of domains that are lost, because their memory is; they are forgotten.

        Raises:
            StateError: The records cannot be read, or are none of a machine of this size.
            ModelError: As ``RecordStore.commit``.
        """
        world.keep, world.keeps = partial(self.keep, world), True
        lost = restore_world(world, self._kept)
        if lost:
            self._write({(domid, name): None for domid in lost for name in self._kept[domid]})
        return lost

    def keep(self, world: World) -> None:
        """Keep what has changed since this was last called.

        Raises:
            ModelError: As ``RecordStore.commit``; then all that has changed is taken back.
        """
        changed: Changed = {}
        counts: dict[int, tuple[int, int]] = {}
        if world.injections is not None:
            stay = [armed for armed in world.injections.rules.values() if armed.stays]
            counts = {armed.id: (armed.n_seen, armed.n_fired) for armed in stay}
            if counts != self._counts:
                changed.update(self._changed_rules(world.injections, stay))
        if world.has_machine and (domids := touched(world.machine)):
            changed[0, "machine"] = records.of_machine(world.machine)
            for domid in domids:
                changed.update(self._changed(world, domid))
        new = self._new(changed)
        if new:
            try:
                self._write(new)
            except ModelError:
                if counts.keys() == self._counts.keys() and all(name.startswith(records.RULE) for _, name in new):
                    counts = self._counts  # how often rules were met is no reason to refuse: it is kept later
                else:
                    self._take_back(world)
                    raise
        self._counts = counts
        _begin_anew(world)

    def _take_back(self, world: World) -> None:
        """Bring the world to what was kept last.

        What a domain has that is not kept stays as it is: mappings of its frames, and of its grants.
        """
        if world.injections is not None:
            self._take_back_rules(world.injections)
        if not world.has_machine:
            return
        machine = world.machine
        domains = machine.domains
        living = {domid for domid, domain in domains.items() if domain.alive}
        domids = touched(machine) & (self._kept.keys() | living)
        there = {domid: records.domain_of(self._kept[domid]) for domid in domids if domid in self._kept}
        gone = domids - there.keys()
        for domid in domids & living:
            restore.leave(machine, domains[domid])
        for domid in gone:
            del domains[domid]
            world.leases.forget(domid)
            world.backing.close(domid)
        for domid, (domain, pages, others) in there.items():
            restore.enter_again(machine, domain, pages, others, domains.get(domid))
        machine.frames.withdraw()
        machine.events.take_back(set(there), gone)
        for channel in world.lasting.channels():
            if not machine.events.has_channel(channel):
                world.backing.close_events(channel)
                world.let_go(Channel(channel))
        records.restore_numbers(machine, self._kept[0].get("machine"))
        left = (_still(machine, effect, domids) for effect in machine.effects)
        machine.effects[:] = [effect for effect in left if effect is not None]
        _begin_anew(world)

    def _take_back_rules(self, injections: Injections) -> None:
        """Put those rules in force again that were kept, with their counts, beside those of connections."""
        rules = {number: armed for number, armed in injections.rules.items() if not armed.stays}
        for name, data in self._kept[0].items():
            if name.startswith(records.RULE):
                number = int(name.removeprefix(records.RULE))
                rules[number] = records.rule_of(number, data)
        injections.rules = dict(sorted(rules.items()))
        last_id = unpack(self._kept[0]["rules"]) if "rules" in self._kept[0] else 0
        injections.last_id = max(last_id, *injections.rules, 0)

    def _changed_rules(self, injections: Injections, stay: list[Armed]) -> Changed:
        """The records of rules that may have changed; those of rules that were cleared are forgotten."""
        changed: Changed = {(0, name): None for name in self._kept[0] if name.startswith(records.RULE)}
        changed.update({(0, f"{records.RULE}{armed.id}"): records.of_rule(armed) for armed in stay})
        changed[0, "rules"] = records.of_rules(injections)
        return changed

    def _changed(self, world: World, domid: int) -> Changed:
        """The records of a domain that may have changed; those of a domain that is dying or gone are forgotten."""
        machine = world.machine
        changes, domain = machine.changes, machine.domains.get(domid)
        assert changes is not None
        if domain is None or not domain.alive:
            return {(domid, name): None for name in self._kept.get(domid, NONE)}
        changed: Changed = {}
        if domid in changes.domains:
            changed[domid, "domain"] = records.of_domain(machine, domain)
            changed[domid, "lease"] = records.of_lease(world, domain)
        if any(number == domid for number, _, _ in machine.events.changes or ()):
            changed[domid, "ports"] = records.of_ports(machine, domid)
        for part in changes.parts.get(domid, ()):
            changed[domid, f"{records.PART}{part}"] = records.of_part(machine, domain, part)
        return changed

    def _new(self, changed: Changed) -> Changed:
        """Those of these records that differ from what is kept."""
        return {(domid, name): data for (domid, name), data in changed.items() if self._known(domid, name) != data}

    def _write(self, new: Changed) -> None:
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


def touched(machine: Machine) -> set[int]:
    """The domids of domains that may have changed since the state was last kept."""
    assert machine.changes is not None
    assert machine.events.changes is not None
    return machine.changes.domains | {domid for domid, _, _ in machine.events.changes if domid}


def _begin_anew(world: World) -> None:
    """Forget what has changed: what is, is kept."""
    if world.has_machine:
        machine = world.machine
        assert machine.changes is not None
        assert machine.events.changes is not None
        machine.changes.clear()
        machine.events.changes.clear()


def _still(machine: Machine, effect: Effect, domids: set[int]) -> Effect | None:
    """What of an effect is still to be carried out, when changes of these domains were taken back."""
    if isinstance(effect, Discard) and effect.domid in domids:
        domain = machine.domains.get(effect.domid)
        return None if domain is None else Discard(effect.domid, domain.file.unheld(effect.pages))
    if isinstance(effect, StateChanged) and effect.domid in domids:
        return None
    if isinstance(effect, ChannelGone) and machine.events.has_channel(effect.channel):
        return None
    return effect
