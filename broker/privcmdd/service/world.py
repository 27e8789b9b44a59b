# SPDX-License-Identifier: Apache-2.0
"""What the broker owns: the machine, memory files, address spaces, clients, findings and counters. It knows no method.

The machine is made when something first asks for it, and it is imported then: whoever makes a world hands it what
makes them (``Makers``), so that a broker that has just started answers before numpy is there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from privcmdd.model.errors import ModelError
from privcmdd.service.findings import Findings, sees
from privcmdd.service.sequence import Sequence
from privcmdd.wire.messages import notification

if TYPE_CHECKING:
    from privcmdd.model.injection import Injections
    from privcmdd.model.ledger import Account
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.backing import Backing
    from privcmdd.service.findings import Finding
    from privcmdd.service.processes import Spaces
    from privcmdd.service.session import Residence, Session
    from privcmdd.service.settings import Settings

FRAMES_PER_MIB: Final = 256
# Names of operations that are counted apart: they come from clients.
MOST_NAMES: Final = 256
OTHERS: Final = "others"  # what is counted when that many names are taken


class Makers(Protocol):
    """What makes the parts of a world that need numpy."""

    @property
    def machine(self) -> type[Machine]:
        """Makes the simulated machine."""

    @property
    def spaces(self) -> type[Spaces]:
        """Makes the set of address spaces."""


class World:
    """All state of the broker.

    Attributes:
        settings: Limits, access rules, defaults.
        backing: Makes and keeps memory files.
        instance: Another value for each run, so that a client can tell that all state is new.
        sessions: The clients that are connected, by number.
        accounts: What each uid uses, by uid.
        findings: Harm that clients did and were not told of.
        injections: Rules by which requests fail on demand; None until there was one.
        sequence: Numbers the steps of the connections that asked for it.
        machine_files: Keys of files of memory that is no guest's.
        unanswered: Hypercalls that there is no answer to, by name, and how often they were made.
        broken: Laws that are broken, each with what it is broken for, and how often that was found again; only known
            when every request is checked (``paranoid``).
        n_requests: Requests so far.
        n_refused: Those that were answered with an error.
        n_incidents: Those that met a bug of our own.
        has_machine: The machine has been made.
    """

    def __init__(
        self,
        settings: Settings,
        backing: Backing,
        instance: str,
        on_event: Callable[[Session, bytes], None],
        makers: Callable[[], Makers],
    ) -> None:
        """Begin with no domain and no client.

        Args:
            settings: Limits, access rules, defaults.
            backing: Makes and keeps memory files.
            instance: Names this run.
            on_event: Queue an encoded notification to a subscriber; must not fail.
            makers: Imports what makes the machine; called when that is first needed.
        """
        self.settings = settings
        self.backing: Backing = backing
        self.instance = instance
        self.sessions: dict[int, Session] = {}
        self.accounts: dict[int, Account] = {}
        self.findings = Findings(self._tell_of_finding)
        self.injections: Injections | None = None
        self.sequence = Sequence()
        self.machine_files: set[int] = set()
        self.unanswered: dict[str, int] = {}
        self.broken: dict[tuple[str, str], int] = {}
        self.n_requests = 0
        self.n_refused = 0
        self.n_incidents = 0
        self.has_machine = False
        self._on_event = on_event
        self._makers = makers

    @cached_property
    def machine(self) -> Machine:
        """The simulated machine."""
        size = self.settings.machine
        machine = self._makers().machine(
            size.memory_mib * FRAMES_PER_MIB, size.domains, size.gfns_per_domain, self.settings.host
        )
        self.has_machine = True
        return machine

    @cached_property
    def spaces(self) -> Spaces:
        """The address spaces of the clients."""
        return self._makers().spaces(self.machine, self._tell_of_space)

    def residence(self, session: Session) -> Residence:
        """The address space that a connection lives in; a new one when it has none.

        Raises:
            ModelError: EDQUOT.
        """
        return self.spaces.of(session, self.settings.space, self.settings.limits.slice_frames)

    def count_unanswered(self, what: str, number: int) -> ModelError:
        """An operation that is not there; it is counted, for people who wonder why a program fails.

        Returns:
            The refusal, for the caller to raise.
        """
        counts = self.unanswered
        name = what if what in counts or len(counts) < MOST_NAMES else OTHERS
        counts[name] = counts.get(name, 0) + 1
        return ModelError(number, f"{what} is not answered here", op=what)

    def accounts_below(self) -> dict[Account, list[Account]]:
        """The accounts of uids, with those of the connections that draw on each."""
        below: dict[Account, list[Account]] = {account: [] for account in self.accounts.values()}
        for session in self.sessions.values():
            below[session.uid_account].append(session.account)
        return below

    def usage(self) -> dict[str, dict[str, int]]:
        """What each uid uses, by uid and slot."""
        return {str(uid): {slot.value: n for slot, n in account.used.items()} for uid, account in self.accounts.items()}

    def tell(self, topic: str, body: dict[str, Any], concerns: Callable[[Session], bool]) -> None:
        """Tell those subscribers of a topic whom it concerns."""
        data = None
        for session in self.sessions.values():
            if topic in session.topics and concerns(session):
                if session.numbers is not None:
                    self._on_event(session, notification(topic, {**body, "seq": self.sequence.last}))
                    continue
                data = data or notification(topic, body)
                self._on_event(session, data)

    def _tell_of_space(self, residence: Residence, state: str) -> None:
        """Subscribers of the same uid, and administrators, hear of address spaces and what was left in them."""
        uid = residence.uid
        self.tell(
            "space",
            residence.told(state),
            lambda session: session.identity.uid == uid or session.access.allows("admin", None),
        )

    def _tell_of_finding(self, finding: Finding) -> None:
        """Subscribers who may see it hear of a finding when it is new."""
        uid, dom = finding.culprit.uid, finding.found.dom
        self.tell("finding", finding.row(), lambda session: sees(session, uid, dom))


Handler: TypeAlias = Callable[[World, "Session", dict[str, Any]], Any]
"""What does a method: it is given the world, who asks, and the checked parameters."""
