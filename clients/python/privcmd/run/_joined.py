# SPDX-License-Identifier: Apache-2.0
"""A broker that was there before, and goes on when the host has ended."""

from __future__ import annotations

import errno
import itertools

from privcmd._connection import Connection
from privcmd.errors import PrivcmdError
from privcmd.run._guests import request
from privcmd.run._program import patience_s

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from privcmd._protocol import Notification
    from privcmd.run._guests import DomainConfig


class Joined:
    """A broker that is joined.

    Args:
        path: Its socket.
        guests: Domains to make.
        job: The job that they belong to, and end with; empty for none.
        keep: Whether the domains that are made in the job stay.
        emulated: The one that gets a device model.
        in_session: Whether it is a session's: the domains then have the lowest numbers that are free, as on a host of
            their own. Else the broker numbers them.
        listener: Called with each notice about address spaces that come and go.

    Attributes:
        path: The same.
        link: Our connection to it.
        doms: The domains that were made.

    Raises:
        NoBroker: Nobody answers there.
        PrivcmdError: A domain cannot be made.
    """

    def __init__(
        self,
        path: str,
        guests: Sequence[DomainConfig] = (),
        *,
        job: str = "",
        keep: bool = False,
        emulated: DomainConfig | None = None,
        in_session: bool = False,
        listener: Callable[[Notification], None] | None = None,
    ) -> None:
        self.path = path
        self.link: Connection = Connection(path, timeout_s=patience_s())
        self.doms: list[int] = []
        self._in_session = in_session
        try:
            if job:
                self.link.call("hello", job=job, leads=True, keep=keep)
            if listener is not None:
                self.link.listeners.append(listener)
                self.link.call("subscribe", topics=["space"])
            for guest in guests:
                self.doms.append(self._made(request(guest, emulated=guest is emulated)))
        except BaseException:
            self.close()
            raise

    def failure(self) -> None:
        """Why it could not be started: it was there."""

    def names(self) -> Iterable[tuple[int, str]]:
        """The numbers and names of all its domains that have a name."""
        return [(row["dom"], row["name"]) for row in self.link.call("domain.list")["domains"] if row["name"]]

    def close(self) -> None:
        """Leave it. Idempotent."""
        self.link.close()

    def _made(self, wanted: dict[str, Any]) -> int:
        """Make a domain. Returns its number."""
        while self._in_session:
            taken = {row["dom"] for row in self.link.call("domain.list")["domains"]}
            wanted["dom"] = next(dom for dom in itertools.count(1) if dom not in taken)
            try:
                self.link.call("domain.create", **wanted)
            except PrivcmdError as error:
                if error.errno != errno.EEXIST:  # another run was faster
                    raise
            else:
                break
        else:
            wanted["dom"] = self.link.call("domain.create", **wanted)["dom"]
        dom: int = wanted["dom"]
        return dom
