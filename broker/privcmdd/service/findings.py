# SPDX-License-Identifier: Apache-2.0
"""Findings that are kept: what the model found, the request that caused it, and how often.

Equal findings are counted and not kept again. Each uid has room for a bounded number; a finding without room is only
counted, so that the first ones, which explain the rest, stay.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmdd.model.findings import FindingKind, Found
    from privcmdd.service.session import Session

    Params = dict[str, Any]

MOST_PER_UID: Final = 256  # different findings: more of them would say nothing new
MOST: Final = 4_096  # of all uids


@dataclass(frozen=True, slots=True)
class Culprit:
    """The client and the request that a finding is about.

    Attributes:
        uid: The client's uid: only that uid, and administrators, see the finding.
        pid: The process, as the kernel named it, for people.
        client: The name that the process gave itself.
        connection: The connection's number.
        method: The method of the request.
        request: The request's number within its connection, from 1 on.
    """

    uid: int
    pid: int
    client: str
    connection: int
    method: str
    request: int


@dataclass(slots=True)
class Finding:
    """One finding, and how often it was made."""

    found: Found
    culprit: Culprit
    count: int = 1

    def row(self) -> Params:
        """The finding as ``findings.list`` answers it."""
        found = self.found
        return {
            "kind": found.kind,
            "count": self.count,
            "text": found.text,
            "dom": found.dom,
            "addr": found.addr,
            **asdict(self.culprit),
        }


class Findings:
    """All findings of a broker's run.

    Attributes:
        totals: How often each kind was found, kept or not.
        n_dropped: Findings that there was no room for.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        """Begin with no finding.

        Args:
            tell: Called with each finding that is new.
        """
        self.totals: Counter[FindingKind] = Counter()
        self.n_dropped = 0
        self._tell = tell
        self._kept: dict[int, dict[tuple[Any, ...], Finding]] = {}
        self._n_kept = 0

    def record(self, found: Found, culprit: Culprit) -> None:
        """Keep a finding, or count it."""
        self.totals[found.kind] += 1
        kept = self._kept.setdefault(culprit.uid, {})
        key = (found.kind, found.text, culprit.connection, culprit.method)
        there = kept.get(key)
        if there is not None:
            there.count += 1
        elif len(kept) >= MOST_PER_UID or self._n_kept >= MOST:
            self.n_dropped += 1
        else:
            kept[key] = finding = Finding(found, culprit)
            self._n_kept += 1
            self._tell(finding)

    def seen_by(self, session: Session) -> Iterator[Finding]:
        """The findings that a client may see, in the order in which they were made, uid by uid."""
        for uid, kept in self._kept.items():
            yield from (finding for finding in kept.values() if sees(session, uid, finding.found.dom))

    def clear(self, session: Session) -> int:
        """Forget the findings that a client may see.

        Returns:
            How many were forgotten.
        """
        before = self._n_kept
        for uid, kept in [*self._kept.items()]:
            left = {key: one for key, one in kept.items() if not sees(session, uid, one.found.dom)}
            self._n_kept += len(left) - len(kept)
            self._kept[uid] = left
            if not left:
                del self._kept[uid]
        return before - self._n_kept


def sees(session: Session, uid: int, dom: int | None) -> bool:
    """Whether a client may see a finding of a uid; after RESTRICT, only one about the domain that is left to it."""
    own = session.identity.uid == uid or session.access.allows("admin", None)
    return own and (session.restricted_to is None or session.restricted_to == dom)


def serving(session: Session, found: Found) -> Culprit:
    """The client that is being served and the request that the finding is about, by default its current one."""
    identity = session.identity
    method, number = found.request or (session.method, session.n_requests)
    return Culprit(identity.uid, identity.pid, session.client_name, session.number, method, number)
