# SPDX-License-Identifier: Apache-2.0
"""What programs leave behind: mappings still held when their last connection ends, and the request that made each.

The same notices say what of Xen's the programs asked for and did not get.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from typing import Any

    from privcmd._connection import Connection
    from privcmd._protocol import Notification

SETTLE_S = 5.0
"""How long the broker may take to notice that a process has gone."""


class Leak:
    """One mapping that was still there at the end of a process.

    Attributes:
        pid: The process.
        client: What it called itself.
        start: First address.
        n_pages: Pages with a frame.
        dom: Whose frames.
        request: The method of the request that made it, and that request's number within its connection.
    """

    __slots__ = ("client", "dom", "n_pages", "pid", "request", "start")

    def __init__(self, body: dict[str, Any], entry: dict[str, Any]) -> None:
        self.pid: int = body["pid"]
        self.client: str = body["client"]
        self.start: int = entry["start"]
        self.n_pages: int = entry["present"]
        self.dom: int | None = entry["dom"]
        self.request: str = entry["request"]

    def as_map(self) -> dict[str, Any]:
        """It as a map, for JSON."""
        return {name: getattr(self, name) for name in ("pid", "client", "start", "n_pages", "dom", "request")}

    def __str__(self) -> str:
        pages = f"{self.n_pages} page{'s' * (self.n_pages != 1)}"
        where = f"{pages} of domain {self.dom} at {self.start:#x}"
        return f"process {self.pid} ({self.client}): {where}, made by {self.request}"


class Watch:
    """Follows the address spaces of a broker's clients, by the notices that one connection gets.

    Args:
        token: Only spaces of clients that name it in their ``hello`` count.

    Attributes:
        leaks: The mappings that were left behind.
        unanswered: What was asked for and not answered, and how often.
        n_dropped: How many mappings, or notices of them, the broker has left out.
    """

    def __init__(self, token: str) -> None:
        self.leaks: list[Leak] = []
        self.unanswered: dict[str, int] = {}
        self.n_dropped = 0
        self._ignored = ""
        self._token = token
        self._alive: set[int] = set()

    def notice(self, notice: Notification) -> None:
        """Take a notice of the topic ``space``."""
        if notice.topic != "space" or self._token not in notice.body["client"]:
            return
        body = notice.body
        if body["state"] == "made":
            self._alive.add(body["space"])
            return
        self._alive.discard(body["space"])
        if not self._ignored or self._ignored not in body["client"]:
            self.leaks += [Leak(body, entry) for entry in body["held"]]
            self.n_dropped += body.get("held_more", 0)  # a broker before 0.2 does not say it
        for what, n in body.get("unanswered", {}).items():
            self.unanswered[what] = self.unanswered.get(what, 0) + n

    def ignore(self, token: str) -> None:
        """Take what clients that name this token still map at their end as no leak: they were not let finish."""
        self._ignored = token

    def settle(self, link: Connection) -> None:
        """Wait until every address space of the programs has gone, and all is known that is to be told of it.

        Processes that a program leaves running in the background are waited for no longer than ``SETTLE_S``.

        Args:
            link: The connection that gets the notices.
        """
        deadline = time.monotonic() + SETTLE_S
        link.call("ping")  # brings what has been said so far
        while self._alive and time.monotonic() < deadline:
            link.call("ping")
        self.n_dropped += link.call("stats")["connection"]["dropped_notifications"]
