# SPDX-License-Identifier: Apache-2.0
"""A broker of one's own that is started when its first client comes, and is set up before that client is answered."""

from __future__ import annotations

import socket

from privcmd._signals import put_off
from privcmd.errors import BrokerGone
from privcmd.run._door import Door
from privcmd.run._guests import request
from privcmd.run._program import patience_s

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from privcmd._connection import Connection
    from privcmd._protocol import Notification
    from privcmd._serving import Serving
    from privcmd.run._guests import DomainConfig


class Standby:
    """A broker behind a door.

    Args:
        directory: Where its socket and its files are; the caller's to remove.
        guests: Domains to make, before anybody else is answered.
        job: The job that they belong to; empty for none.
        emulated: The one that gets a device model.
        config: Its configuration, as TOML text; None is the built-in one.
        settings: Keys of it that are otherwise, each as TABLE.KEY=VALUE.
        listener: Called with each notice about address spaces that come and go.

    Attributes:
        path: Its socket.
        door: Its door; opening it raises what the broker answers to a request, or NoBroker.
        link: Our connection to it, the one that asked first; None as long as it has not been started.
        doms: The domains: their numbers are known before they are made.
    """

    def __init__(
        self,
        directory: str,
        guests: Sequence[DomainConfig] = (),
        *,
        job: str = "",
        emulated: DomainConfig | None = None,
        config: str | None = None,
        settings: Sequence[str] = (),
        listener: Callable[[Notification], None] | None = None,
    ) -> None:
        self.path: str = f"{directory}/s"
        self.link: Connection | None = None
        self.doms: list[int] = [*range(1, len(guests) + 1)]
        self._guests = guests
        self._emulated = emulated
        self._job = job
        self._directory = directory
        self._config = config
        self._settings = settings
        self._listener = listener
        self._starting: list[Serving] = []
        self.door: Door = Door(self.path, self._start)

    def failure(self) -> Exception | None:
        """Why it could not be started, or a domain not be made, when its first client came."""
        return self.door.failure()

    def names(self) -> Iterable[tuple[int, str]]:
        """The numbers and names of the domains that have a name."""
        return [(dom, guest.name) for dom, guest in zip(self.doms, self._guests, strict=True) if guest.name]

    def close(self) -> None:
        """End it. Idempotent."""
        self.door.closing = True
        for serving in self._starting:
            serving.kill()
        self.door.close()

    def _start(self, door: Door) -> None:
        from privcmd._connection import Connection  # noqa: PLC0415 - these are slow to import, and not all need a broker
        from privcmd._serving import START_TIMEOUT_S, Serving  # noqa: PLC0415

        ours, theirs = socket.socketpair()
        with theirs:
            fds = [door.listener.fileno(), theirs.fileno()]
            link = Connection(self.path, sock=ours, timeout_s=START_TIMEOUT_S)
            door.stack.callback(link.close)
            if self._listener is not None:
                link.listeners.append(self._listener)
            requests: list[tuple[str, dict[str, Any]]] = (
                [("hello", {"job": self._job, "leads": True})] if self._job else []
            )
            if self._listener is not None:
                requests.append(("subscribe", {"topics": ["space"]}))
            for dom, guest in zip(self.doms, self._guests, strict=True):
                requests.append(("domain.create", request(guest, dom=dom, emulated=guest is self._emulated)))
            # It says nothing of its own course: nobody reads that, and to import its logger takes longer than to start.
            args = ["--fd", str(fds[0]), "--first-fd", str(fds[1]), "--log-level", "warning"]
            args += [f"--set={one}" for one in self._settings]

            def start() -> None:
                with put_off():
                    serving = Serving(self._directory, args, self._config, fds=fds, apart=True)
                    self._starting.append(serving)
                    door.stack.callback(serving.terminate)
                if door.closing:
                    serving.kill()
                theirs.close()
                door.listener.close()

            try:
                answers = link.ask([*requests, ("ping", {})], meanwhile=start)
            except BrokerGone:
                raise self._starting[0].ended_early() from None
        for answer in answers:
            if answer.error is not None:
                self._starting[0].kill()  # a host without what it was to have is nobody's
                raise answer.error
        link.timeout_s = patience_s()
        self._starting.clear()
        self.link = link
