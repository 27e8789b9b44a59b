# SPDX-License-Identifier: Apache-2.0
"""What programs leave behind: mappings still held when their last connection ends, and the request that made each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from privcmd.client import Client
    from privcmd.protocol import Notification

SETTLE_S: Final = 5.0
"""How long the broker may take to notice that a process has gone."""


@dataclass(frozen=True, slots=True)
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

    pid: int
    client: str
    start: int
    n_pages: int
    dom: int | None
    request: str

    def __str__(self) -> str:
        pages = f"{self.n_pages} page{'s' * (self.n_pages != 1)}"
        where = f"{pages} of domain {self.dom} at {self.start:#x}"
        return f"process {self.pid} ({self.client}): {where}, made by {self.request}"


@dataclass
class Watch:
    """Follows the address spaces of a broker's clients from a connection of its own.

    Attributes:
        token: Only spaces of clients that name it in their ``hello`` count; all when empty.
    """

    client: Client
    token: str = ""
    leaks: list[Leak] = field(default_factory=list)
    _alive: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.client.listeners.append(self._notice)
        self.client.subscribe("space")

    def settle(self) -> list[Leak]:
        """Wait until every address space of the programs has gone, and say what they left behind.

        Processes that a program leaves running in the background are waited for no longer than ``SETTLE_S``.
        """
        deadline = time.monotonic() + SETTLE_S
        self.client.ping()  # brings what has been said so far
        while self._alive and time.monotonic() < deadline:
            self.client.ping()
        return self.leaks

    def _notice(self, notice: Notification) -> None:
        if notice.topic != "space" or self.token not in notice.body["client"]:
            return
        body = notice.body
        if body["state"] == "made":
            self._alive.add(body["space"])
            return
        self._alive.discard(body["space"])
        self.leaks += [leak(body, entry) for entry in body["held"]]


def leak(body: dict[str, Any], entry: dict[str, Any]) -> Leak:
    """One held entry of a notification."""
    return Leak(body["pid"], body["client"], entry["start"], entry["present"], entry["dom"], entry["request"])
