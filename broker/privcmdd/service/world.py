# SPDX-License-Identifier: Apache-2.0
"""All state of the broker: machine, memory files, address spaces, clients, findings, counters. It knows no method.

The machine is imported and made at its first use. The maker of a world passes it a function that does the import
(``Makers``), so that a broker that has just started answers before numpy is imported.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.service.findings import Findings, sees
from privcmdd.service.holds import Holds
from privcmdd.service.jobs import Jobs
from privcmdd.service.jobs import sees as sees_job
from privcmdd.service.lasting import LastingDescriptors
from privcmdd.service.leases import Leases, Until
from privcmdd.service.sequence import Sequence
from privcmdd.wire.messages import notification

if TYPE_CHECKING:
    from collections.abc import Hashable

    from privcmdd.model.injection import Injections
    from privcmdd.model.ledger import Account
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.backing import Backing
    from privcmdd.service.findings import Finding
    from privcmdd.service.keeping import Line
    from privcmdd.service.processes import Spaces
    from privcmdd.service.session import Job, Residence, Session
    from privcmdd.service.settings import Settings

FRAMES_PER_MIB: Final = 256
# Names of operations that are counted apart: they come from clients.
MOST_NAMES: Final = 256
OTHERS: Final = "others"  # counts every further name


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
        line: The line of brokers that this one belongs to.
        instance: A value that differs from run to run, so that a client can tell that all state is new.
        sessions: The clients that are connected, by number.
        accounts: What each uid uses, by uid.
        lasting: Descriptors that outlive the connections that they were made for.
        jobs: The jobs that connections belong to.
        leases: Who domains were made for.
        findings: Harm done by requests that were not refused for it.
        injections: Rules by which requests fail on demand; None until the first rule is added.
        sequence: Numbers the steps of the connections that asked for it.
        machine_files: Keys of the files of the machine's own memory that are made (``machine_files.py``).
        unanswered: How often each operation that has no answer here was asked for, by its name.
        broken: Laws that are broken, each with the part of the state that breaks it, and how often it was found again.
            Filled only when every request is checked (``paranoid``).
        holds: How long requests held the loop; the server fills it, because it has the clock.
        n_requests: Number of requests.
        n_refused: Number of requests that were answered with an error.
        n_incidents: Number of incidents: bugs of our own that were met.
        has_machine: Whether the machine has been made.
        keep: Keeps what the last step has changed, so that it outlives the broker. When it cannot be kept, it is taken
            back, and this raises ModelError. Does nothing where no state is kept.
        keeps: Whether state is kept.
        spend: Announces how many bytes of the host's memory are about to be taken; raises ModelError when they are not
            there. None: the memory has no bound.
        draining: Whether the broker is about to end: what has arrived is answered, and nobody new is let in.
        destroyed: When each dying domain began to die, by domid, until who keeps it is found.
        now: Returns the time in seconds.
        passing_on: Whether it ends because another broker takes over.
        hang_up: Ends the connection of a client soon, for a reason; the server sets it.
        pass_on: Begins to pass everything on to a process. Returns the descriptor that it is passed on through; raises
            ModelError.
    """

    def __init__(
        self,
        settings: Settings,
        backing: Backing,
        instance: str,
        line: Line,
        on_event: Callable[[Session, bytes], None],
        now: Callable[[], float],
        makers: Callable[[], Makers],
    ) -> None:
        """Begin with no domain and no client.

        Args:
            settings: Limits, access rules, defaults.
            backing: Makes and keeps memory files.
            instance: Names this run.
            line: The line of brokers that this one belongs to.
            on_event: Called to queue an encoded notification for a subscriber; must not fail.
            now: Returns the time in seconds, by any clock that does not go back.
            makers: Imports the classes that need numpy; called when the machine is first needed.
        """
        self.settings = settings
        self.backing: Backing = backing
        self.instance = instance
        self.line = line
        self.keep: Callable[[], None] = lambda: None
        self.keeps = False
        self.spend: Callable[[int], None] | None = None
        self.sessions: dict[int, Session] = {}
        self.accounts: dict[int, Account] = {}
        self.lasting = LastingDescriptors()
        self.jobs = Jobs()
        self.leases = Leases()
        self.findings = Findings(self._tell_of_finding)
        self.injections: Injections | None = None
        self.sequence = Sequence()
        self.machine_files: set[int] = set()
        self.unanswered: dict[str, int] = {}
        self.broken: dict[tuple[str, str], int] = {}
        self.holds = Holds()
        self.n_requests = 0
        self.n_refused = 0
        self.n_incidents = 0
        self.has_machine = False
        self.draining = False
        self.passing_on = False
        self.hang_up: Callable[[Session, str], None] = lambda _session, _why: None
        self.pass_on: Callable[[int], tuple[int, ...]] = refuse_to_pass_on
        self.destroyed: dict[int, float] = {}
        self.now = now
        self._on_event = on_event
        self._makers = makers

    @cached_property
    def machine(self) -> Machine:
        """The simulated machine."""
        size = self.settings.machine
        machine = self._makers().machine(
            size.memory_mib * FRAMES_PER_MIB, size.domains, size.gfns_per_domain, self.settings.host
        )
        if self.keeps:
            machine.keep_track()
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

    def join_job(self, session: Session, name: str, *, leads: bool, keep: bool = False) -> None:
        """Have a connection belong to a job, which need not wait any more for its clients to come back.

        Raises:
            ModelError: EBUSY.
        """
        self.jobs.join(session, name, self.now(), leads=leads, keep=keep)
        self.leases.end(lambda lease: lease.job is session.job and lease.until is Until.JOB, inf)

    def leave_job(self, session: Session) -> None:
        """Take a connection that ends out of its job. What was made for it, or for a job that ends, is over."""
        number = session.number
        self.leases.end(lambda lease: lease.until is Until.CONNECTION and lease.connection == number, self.now())
        job = self.jobs.leave(session)
        if job is not None:
            for other in job.sessions:
                self.hang_up(self.sessions[other], "the connection that led its job has ended")
            self.end_job(job)

    def end_job(self, job: Job) -> None:
        """End a job: what was made for it is over, and its findings and rules are forgotten."""
        self.jobs.end(job)
        self.leases.end(lambda lease: lease.job is job and lease.until is Until.JOB, self.now())
        self.findings.end(job)
        if self.injections is not None:
            self.injections.end(job)

    def count(self, session: Session, refusal: Exception) -> None:
        """Count a refusal if there is no such operation here, for people who wonder why a program fails."""
        if isinstance(refusal, Unanswered):
            of_space = () if session.residence is None else (session.residence.unanswered,)
            for counts in (self.unanswered, *of_space):
                name = refusal.what if refusal.what in counts or len(counts) < MOST_NAMES else OTHERS
                counts[name] = counts.get(name, 0) + 1

    def accounts_below(self) -> dict[Account, list[Account]]:
        """The account of each uid, with the accounts of the connections, and of what lasts, that draw on it."""
        below: dict[Account, list[Account]] = {}
        for account in self.accounts.values():
            lasting = self.lasting.account_of(account)
            below[account] = [] if lasting is None else [lasting]
        for session in self.sessions.values():
            below[session.uid_account].append(session.account)
        for restrictions in {residence.restrictions for residence in self.spaces.residences()}:
            below[restrictions.payer].append(restrictions.account)
        return below

    def let_go(self, key: Hashable) -> None:
        """End the charge for what the broker held open; a uid that uses nothing any more is forgotten."""
        self.lasting.let_go(key)
        for uid in [uid for uid, account in self.accounts.items() if account.idle]:
            del self.accounts[uid]

    def usage(self) -> dict[str, dict[str, int]]:
        """What each uid uses, by uid and slot."""
        return {str(uid): {slot.value: n for slot, n in account.used.items()} for uid, account in self.accounts.items()}

    def tell(self, topic: str, body: dict[str, Any], concerns: Callable[[Session], bool]) -> None:
        """Notify the subscribers of a topic whom this notification concerns."""
        data = None
        for session in self.sessions.values():
            if topic in session.topics and concerns(session):
                if session.numbers is not None:
                    self._on_event(session, notification(topic, {**body, "seq": self.sequence.last}))
                    continue
                data = data or notification(topic, body)
                self._on_event(session, data)

    def _tell_of_space(self, residence: Residence, state: str) -> None:
        """Notify the subscribers who may see an address space of a new state of it."""
        uid, job = residence.uid, residence.job
        self.tell("space", residence.told(state), lambda session: sees_job(session, uid, job))

    def _tell_of_finding(self, finding: Finding) -> None:
        """Notify the subscribers who may see a finding that it is new."""
        uid, job, dom = finding.culprit.uid, finding.culprit.job, finding.found.dom
        self.tell("finding", finding.row(), lambda session: sees(session, uid, job, dom))


def refuse_to_pass_on(_pid: int) -> tuple[int, ...]:
    """Refuse: without a server there is nothing to pass on.

    Raises:
        ModelError: EOPNOTSUPP.
    """
    raise ModelError(errno.EOPNOTSUPP, "this broker cannot be taken over from")


Handler: TypeAlias = Callable[[World, "Session", dict[str, Any]], Any]
"""The function that does a method. It takes the world, the session that asks, and the checked parameters."""
