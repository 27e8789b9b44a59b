# SPDX-License-Identifier: Apache-2.0
"""A connected client: who it is, what it may do, which address space it lives in."""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privcmdd.model.files import SharedFile
    from privcmdd.model.ledger import Account, Charge
    from privcmdd.service.processes import Residence
    from privcmdd.service.sequence import Numbers
    from privcmdd.service.settings import AccessRule, Rights

VERBS: Final = {"read": "map", "write": "map writable", "admin": "administer"}
RANK: Final[dict[str, int]] = {"read": 1, "write": 2, "admin": 3}


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
class Session:
    """One connection. Made by ``Broker.connect``, ended by ``Broker.disconnect``.

    Attributes:
        number: Never used twice while the broker lives.
        account: What the connection itself uses; draws on ``uid_account``, which pays for address spaces.
        output: What waits to be taken by the client.
        residence: The address space it is a thread of; None until it first needs one.
        forked: Address spaces made for children, until somebody joins them.
        method: What it asked for last.
        recent: Its last requests: msgid, method, outcome. Only kept when every request is checked (``paranoid``).
        restricted_to: The only domain it may name after ``privcmd.restrict``.
        numbers: Of its steps, when it asked for them (feature ``seq``).
        ports: Its event channels' ports, of domain 0, and what each costs.
        shares: The files of pages that it shares (gntalloc), and what each costs.
        events_of: The only domain whose ports it may bind to after ``evtchn.restrict``.
    """

    number: int
    identity: Identity
    access: Access
    account: Account
    uid_account: Account
    charges: list[Charge]
    output: Charge
    residence: Residence | None = None
    forked: list[Residence] = field(default_factory=list)
    restricted_to: int | None = None
    ports: dict[int, Charge] = field(default_factory=dict)
    shares: dict[SharedFile, Charge] = field(default_factory=dict)
    events_of: int | None = None
    topics: frozenset[str] = frozenset()
    method: str = ""
    features: frozenset[str] = frozenset()
    numbers: Numbers | None = None
    client_name: str = ""
    closed: bool = False
    recent: deque[tuple[int, str, str]] = field(default_factory=lambda: deque(maxlen=32))
    n_requests: int = 0
    n_ignored: int = 0
    n_dropped: int = 0

    def sees(self, domid: int) -> bool:
        """Whether the client may know of a domain: it may map it, and RESTRICT has not given it up."""
        return self.holds("read", domid)

    def holds(self, rights: Rights, domid: int | None) -> bool:
        """Whether the client may do that to a domain (None: to any)."""
        return self.restricted_to in (None, domid) and self.access.allows(rights, domid)

    def check(self, rights: Rights, domid: int | None) -> None:
        """Whether the client may do that to a domain (None: to any).

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
