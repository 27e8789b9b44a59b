# SPDX-License-Identifier: Apache-2.0
"""State kept in a dictionary, which fails when it is told to; and a broker that crashes and starts again."""

from __future__ import annotations

import errno
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.units import DOMID_FIRST_RESERVED
from sim.snapshot import walk
from support.desk import SMALL, Desk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.service.keeping import Records
    from privcmdd.service.settings import Settings


class MemoryStore:
    """Records in a dictionary.

    Attributes:
        records: By domid and name.
        n_commits: Commits so far, refused ones included.
        refused: Numbers of commits that are refused, counted from 1, each with the errno.
        n_bytes: Bytes of the records that were written.
    """

    def __init__(self) -> None:
        self.records: Records = {}
        self.n_commits = 0
        self.refused: dict[int, int] = {}
        self.n_bytes = 0

    def load(self) -> Records:
        """All records."""
        return deepcopy(self.records)

    def commit(self, changed: Mapping[tuple[int, str], bytes | None]) -> None:
        """Keep records, all or none."""
        self.n_commits += 1
        if (number := self.refused.get(self.n_commits)) is not None:
            raise ModelError(number, f"commit {self.n_commits} is refused ({errno.errorcode[number]})")
        for (dom, name), data in changed.items():
            group = self.records.setdefault(dom, {})
            if data is None:
                del group[name]
            else:
                group[name] = data
                self.n_bytes += len(data)
        self.records = {dom: group for dom, group in self.records.items() if group}


def after_crash(desk: Desk, store: MemoryStore, settings: Settings = SMALL) -> Desk:
    """The broker that is started after another one was killed: all that it has is records and files of domains."""
    return Desk(settings, desk.backing.left(), store)


def image(desk: Desk) -> dict[str, Any]:
    """All of a broker's state that is to outlive it."""
    machine = desk.broker.world.machine
    found: dict[str, Any] = {
        "last domid": machine.last_domid,
        "last generation": machine.last_generation,
        "free": machine.frames.n_free,
    }
    owned = np.flatnonzero(machine.frames.owner < DOMID_FIRST_RESERVED)
    for table in ("owner", "refs", "gfn", "page"):
        found[table] = getattr(machine.frames, table)[owned].tolist()
    for domid, domain in machine.domains.items():
        found[f"generation of {domid}"] = domain.generation
        domain.vram = None  # a device model is told once that all has changed
        if domain.pager is not None:
            domain.pager.asked.clear()  # a pager is told once more
        if domain.alive:
            walk(machine.events.ports(domid), f"ports of {domid}", found)
        walk(domain, f"domain {domid}", found)
    injections = desk.broker.world.injections
    for armed in () if injections is None else injections.rules.values():
        if armed.owner is None and armed.rule.connection is None:
            walk(armed, f"rule {armed.id}", found)
    return found
