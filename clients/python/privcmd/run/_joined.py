# SPDX-License-Identifier: Apache-2.0
"""A broker that was there before, and goes on when the host has ended."""

from __future__ import annotations

from privcmd._connection import Connection
from privcmd.run._guests import request

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from privcmd._protocol import Notification
    from privcmd.run._guests import Guest


class Joined:
    """A broker that is joined.

    Args:
        path: Its socket.
        guests: Domains to make.
        emulated: The one that gets a device model.
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
        guests: Sequence[Guest] = (),
        *,
        emulated: Guest | None = None,
        listener: Callable[[Notification], None] | None = None,
    ) -> None:
        self.path = path
        self.link: Connection = Connection(path)
        try:
            if listener is not None:
                self.link.listeners.append(listener)
                self.link.call("subscribe", topics=["space"])
            wanted = [request(guest, emulated=guest is emulated) for guest in guests]
            self.doms: list[int] = [self.link.call("domain.create", **one)["dom"] for one in wanted]
        except BaseException:
            self.link.close()
            raise

    def failure(self) -> None:
        """Why it could not be started: it was there."""

    def names(self) -> Iterable[tuple[int, str]]:
        """The numbers and names of all its domains that have a name."""
        return [(row["dom"], row["name"]) for row in self.link.call("domain.list")["domains"] if row["name"]]

    def close(self) -> None:
        """Leave it. Idempotent."""
        self.link.close()
