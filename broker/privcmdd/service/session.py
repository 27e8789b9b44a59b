# SPDX-License-Identifier: Apache-2.0
"""A connected client: who it is, what it may do, which address space it lives in."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privcmdd.model.ledger import Account, Charge
    from privcmdd.model.machine.debts import Debt
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.mm.vm_map import Maker
    from privcmdd.model.privcmd.personality import Personality
    from privcmdd.service.restrictions import Restrictions
    from privcmdd.service.sequence import Numbers
    from privcmdd.service.settings import AccessRule, Rights, SpaceDefaults

VERBS: Final = {"read": "map", "write": "map writable", "admin": "administer"}
RANK: Final[dict[str, int]] = {"read": 1, "write": 2, "admin": 3}
# Leftover mappings that one notification lists: more of them would say nothing new.
MOST_HELD: Final = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the kernel says is at the other end (SO_PEERCRED, SO_PEERGROUPS), when it connected.

    ``pid`` is for people to read; it is 0 across pid namespaces and is never used to decide.
    """

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    pid: int = 0


class Access:
    """The rights of one identity under a set of rules."""

    __slots__ = ("_by_domain", "_everywhere")

    def __init__(self, identity: Identity, rules: Iterable[AccessRule]) -> None:
        self._everywhere = 0
        self._by_domain: dict[int, int] = {}
        groups = identity.groups | {identity.gid}
        for rule in rules:
            if identity.uid not in rule.uids and groups.isdisjoint(rule.gids):
                continue
            rank = RANK[rule.rights]
            if rule.domains == "all":
                self._everywhere = max(self._everywhere, rank)
            else:
                for domid in rule.domains:
                    self._by_domain[domid] = max(self._by_domain.get(domid, 0), rank)

    def allows(self, rights: Rights, domid: int | None) -> bool:
        """Whether these rights are held on a domain, or on all domains that may ever be (None)."""
        held = self._everywhere if domid is None else max(self._everywhere, self._by_domain.get(domid, 0))
        return held >= RANK[rights]


@dataclass(slots=True, eq=False)
class Residence:
    """An address space and the connections that are its threads.

    Attributes:
        space: The model's.
        personality: The kernel that answers its privcmd calls.
        settings: The settings that it was made with.
        uid: Its owner; only connections of that uid may join.
        threads: Numbers of the connections that live in it; when the last one leaves, all it holds is given back.
        turnstile: The queue in which map requests take turns.
        pid: The process that made it, as the kernel named it, for people.
        client: The name that this process gave itself.
        restrictions: The domain that each restricted file of the device may name.
        unanswered: How often each operation that has no answer here was asked for, by its name.
        job: The job of the connection that it was made for.
    """

    space: AddressSpace
    personality: Personality
    settings: SpaceDefaults
    uid: int
    pid: int
    client: str
    restrictions: Restrictions
    threads: set[int] = field(default_factory=set)
    turnstile: Turnstile = field(default_factory=Turnstile)
    unanswered: dict[str, int] = field(default_factory=dict)
    job: Job | None = None

    def told(self, state: str) -> dict[str, Any]:
        """The notification that the space is made or gone; that of its end also says what is left, and was lacking."""
        rows, n_more = held(self.space) if state == "gone" else ([], 0)
        return {
            "space": self.space.number,
            "state": state,
            "pid": self.pid,
            "client": self.client,
            "job": "" if self.job is None else self.job.name,
            "held": rows,
            "held_more": n_more,
            "unanswered": self.unanswered if state == "gone" else {},
        }


@dataclass(slots=True, eq=False)
class Job:
    """A job. Another one of the same name, after its end, is another job.

    Attributes:
        uid: Whose it is.
        name: Its name, which the client chose.
        pid: The process that made it, as the kernel named it, for people.
        client: The name that this process gave itself.
        since_s: When it was made.
        sessions: The numbers of its connections.
        leader: The number of the connection that it ends with; None: it ends with its last one.
        keeps: Whether domains that are made in it stay when it ends.
        ended: Whether its last connection has ended.
        n_requests: Number of requests of those connections of it that have ended.
    """

    uid: int
    name: str
    pid: int
    client: str
    since_s: float
    sessions: set[int] = field(default_factory=set)
    leader: int | None = None
    keeps: bool = False
    ended: bool = False
    n_requests: int = 0


@dataclass(slots=True, eq=False)
class Session:
    """One connection. Made by ``Broker.connect``, ended by ``Broker.disconnect``.

    Attributes:
        number: Never used twice while the broker lives.
        account: Pays for what the connection itself uses; draws on ``uid_account``, which pays for address spaces.
        output: The charge for output that the client has not taken yet.
        residence: The address space it is a thread of; None until it first needs one.
        forked: Address spaces that it made for children.
        method: The method of its last request.
        recent: Its last requests: msgid, method, outcome. Only kept when every request is checked (``paranoid``).
        restricted_to: The only domain it may name after ``privcmd.restrict``.
        numbers: The numbers of its request's steps, when the client asked for them (feature ``seq``).
        ports: Its ports of domain 0's event channels.
        descriptors: The charge for descriptors that the client has not taken yet.
        incoming: The charge for a message that comes in pieces.
        owes: What its requests have left to be given back, in slices.
        events_of: The only domain whose ports it may bind to after ``evtchn.restrict``.
        job: The job that it belongs to; None: to none.
    """

    number: int
    identity: Identity
    access: Access
    account: Account
    uid_account: Account
    charges: list[Charge]
    output: Charge
    descriptors: Charge
    incoming: Charge
    residence: Residence | None = None
    forked: list[Residence] = field(default_factory=list)
    restricted_to: int | None = None
    ports: set[int] = field(default_factory=set)
    owes: list[Debt] = field(default_factory=list)
    events_of: int | None = None
    job: Job | None = None
    topics: frozenset[str] = frozenset()
    method: str = ""
    features: frozenset[str] = frozenset()
    numbers: Numbers | None = None
    client_name: str = ""
    closed: bool = False
    recent: list[tuple[int, str, str]] = field(default_factory=list)
    n_requests: int = 0
    n_ignored: int = 0
    n_dropped: int = 0

    def charge_output(self, n_bytes: int) -> None:
        """Charge for output that waits until the client takes it.

        Raises:
            ModelError: EDQUOT, its uid has too much output waiting.
        """
        self.output.resize(self.output.amount + n_bytes)

    def output_sent(self, n_bytes: int) -> None:
        """Release the charge for output that was taken or dropped."""
        if not self.closed:
            self.output.resize(self.output.amount - n_bytes)

    def hold_descriptors(self, n_fds: int) -> None:
        """Charge for so many descriptors that were sent, or wait to be, and that the client may not have taken.

        Raises:
            ModelError: EDQUOT, its uid has too many.
        """
        if not self.closed:
            self.descriptors.resize(n_fds)

    def sees(self, domid: int) -> bool:
        """Whether the client may know of a domain: it may map the domain, and RESTRICT does not forbid it."""
        return self.holds("read", domid)

    def holds(self, rights: Rights, domid: int | None) -> bool:
        """Whether the client has these rights on a domain (None: on every domain)."""
        return self.restricted_to in (None, domid) and self.access.allows(rights, domid)

    def check(self, rights: Rights, domid: int | None) -> None:
        """Check that the client has these rights on a domain (None: on every domain).

        Raises:
            ModelError: EPERM.
        """
        if self.restricted_to is not None and domid != self.restricted_to:
            raise ModelError(
                errno.EPERM,
                f"this connection is restricted to domain {self.restricted_to}, "
                f"asked for {'all' if domid is None else domid}",
                dom=domid,
                restricted_to=self.restricted_to,
            )
        if not self.access.allows(rights, domid):
            whom = "all domains" if domid is None else f"domain {domid}"
            raise ModelError(
                errno.EPERM,
                f"uid {self.identity.uid} has not the right to {VERBS[rights]} {whom}; "
                "[[access]] in the configuration grants it",
                dom=domid,
                rights=rights,
            )


def held(space: AddressSpace) -> tuple[list[dict[str, Any]], int]:
    """The foreign mappings that a space still has, at most ``MOST_HELD``, and how many entries were not looked at."""
    rows = []
    entries = [entry for entry in space.map if entry.made_by is not None]
    for at, entry in enumerate(entries, 1):
        assert entry.made_by is not None
        if present := space.pmap.count(entry.page, entry.n_pages):
            rows.append(
                {"start": entry.start, "present": present, "dom": entry.owner, "request": made_by(entry.made_by)}
            )
            if len(rows) == MOST_HELD:
                return rows, len(entries) - at
    return rows, 0


def made_by(maker: Maker) -> str:
    """The request that made a mapping, in words for people."""
    method, number = maker
    return f"{method} (request {number} of its connection)"


def check_file(residence: Residence, domid: int | None, file: int) -> None:
    """Check that a file of the device may name a domain (None: may make hypercalls).

    Raises:
        ModelError: EPERM, the file is restricted to another domain.
    """
    held = residence.restrictions.get(file)
    if held is not None and held != domid:
        raise ModelError(
            errno.EPERM,
            f"file {file} is restricted to domain {held}, asked for {'a hypercall' if domid is None else domid}",
            dom=domid,
            restricted_to=held,
        )


def authorise(session: Session, residence: Residence, domid: int, file: int) -> bool:
    """Check that a client may map a domain at all.

    Returns:
        Whether the client may also map it writable.

    Raises:
        ModelError: EPERM.
    """
    if file:
        check_file(residence, domid, file)
    if session.restricted_to is None and session.access.allows("write", domid):
        return True
    session.check("read", domid)
    return session.access.allows("write", domid)
