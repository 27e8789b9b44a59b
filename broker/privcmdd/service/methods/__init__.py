# SPDX-License-Identifier: Apache-2.0
"""The methods of the protocol: one file for each file of ``wire/table``, by the same name.

``conversation`` needs no machine. All other methods need it, and numpy with it: only ``machinery`` imports them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from privcmdd.service.methods import conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from privcmdd.model.errors import LawBroken
    from privcmdd.model.injection import Injections
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.keeper import Keeper
    from privcmdd.service.keeping import Records
    from privcmdd.service.processes import Spaces
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import Handler, World
    from privcmdd.wire.messages import BadRequest, Request
    from privcmdd.wire.methods import Method

AT_ONCE: Final[Mapping[str, Handler]] = conversation.HANDLERS
"""The methods that need no machine."""


@dataclass(frozen=True, slots=True)
class Machinery:
    """All functions and classes that need the machine.

    Attributes:
        machine: Makes the simulated machine.
        spaces: Makes the set of address spaces.
        handlers: The handlers of the methods that need the machine, by the method's name.
        leave: Called in order for a connection that ends: each gives back what the connection holds.
        inject: Performs a request under the rules of injection.
        carry_out: Carries out the effects of the machine.
        find_zombies: Records a finding for each address space that keeps a domain for too long after its end.
        end_leases: Destroys the domains whose lease is over.
        look: Checks all laws after a request.
        keeper: Makes what keeps the state.
        records: Returns all records of a world.
        restore: Enters what records say into a world, and returns the domids of domains that are lost.
        breaches: Returns the laws that are broken.
        counters: Returns all counters.
        space_report: Returns what the report of an incident says of a session's address space.
    """

    machine: type[Machine]
    spaces: type[Spaces]
    handlers: Mapping[str, Handler]
    leave: tuple[Callable[[World, Session], None], ...]
    inject: Callable[[World, Injections, Session, Method, Handler, dict[str, Any]], Generator[Pause, None, Any]]
    carry_out: Callable[[World, Session | None], None]
    find_zombies: Callable[[World], None]
    end_leases: Callable[[World], None]
    look: Callable[[World, Session, Request | BadRequest], None]
    keeper: type[Keeper]
    records: Callable[[World], Records]
    restore: Callable[[World, Records], list[int]]
    breaches: Callable[[World], Iterator[LawBroken]]
    counters: Callable[[World], dict[str, Any]]
    space_report: Callable[[Session], dict[str, Any] | None]


@cache
def machinery() -> Machinery:
    """All that needs the machine. The first call imports it; that call may be made in another thread."""
    from privcmdd.model.machine.machine import Machine  # noqa: PLC0415 - see the module's docstring
    from privcmdd.service import (  # noqa: PLC0415
        domain_files,
        effects,
        injection,
        keeper,
        paranoid,
        processes,
        records,
        restoring,
    )
    from privcmdd.service.methods import (  # noqa: PLC0415
        domains,
        evtchn,
        faults,
        findings,
        gntalloc,
        gntdev,
        guests,
        jobs,
        privcmd,
        spaces,
        stats,
    )

    rooms = (stats, spaces, privcmd, gntdev, gntalloc, evtchn, domains, guests, faults, findings, jobs)
    return Machinery(
        machine=Machine,
        spaces=processes.Spaces,
        handlers={name: handler for room in rooms for name, handler in room.HANDLERS.items()},
        leave=(spaces.leave, evtchn.leave, gntalloc.leave, faults.leave),
        inject=injection.perform,
        carry_out=effects.carry_out,
        find_zombies=effects.find_zombies,
        end_leases=domain_files.end_leases,
        look=paranoid.look,
        keeper=keeper.Keeper,
        records=records.of_world,
        restore=restoring.restore_world,
        breaches=paranoid.breaches,
        counters=stats.counters,
        space_report=spaces.report,
    )


def all_imported() -> None:
    """Import what else a first request would wait for: the hypercalls. May be called in another thread."""
    machinery()
    from privcmdd.service.hypercalls import dm_op, hypercall  # noqa: F401, PLC0415 - see ``methods.privcmd``
