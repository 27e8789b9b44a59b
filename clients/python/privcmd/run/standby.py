# SPDX-License-Identifier: Apache-2.0
"""A broker of one's own that is started when its first client comes, and is set up before that client is answered."""

from __future__ import annotations

import socket

from privcmd.errors import BrokerGone
from privcmd.run.door import Door

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from privcmd._connection import Connection
    from privcmd._protocol import Notification
    from privcmd.broker import Serving


class Standby:
    """A broker behind a door.

    Args:
        directory: Where its socket and its files are; the caller's to remove.
        config: Its configuration, as TOML text; None is the built-in one.
        settings: Keys of it that are otherwise, each as TABLE.KEY=VALUE.
        requests: What it is asked before anybody else, method and parameters of each: they make its domains.
        listener: Called with each notice that it sends us.

    Attributes:
        path: Its socket.
        door: Its door; opening it raises what the broker answers to a request, or NoBroker.
        link: Our connection to it, the one that asked first; None as long as it has not been started.
    """

    def __init__(
        self,
        directory: str,
        *,
        config: str | None = None,
        settings: Sequence[str] = (),
        requests: Sequence[tuple[str, Mapping[str, Any]]] = (),
        listener: Callable[[Notification], None] | None = None,
    ) -> None:
        self.path = f"{directory}/s"
        self.link: Connection | None = None
        self._directory = directory
        self._config = config
        self._settings = settings
        self._requests = requests
        self._listener = listener
        self._starting: list[Serving] = []
        self.door = Door(self.path, self._start)

    def close(self) -> None:
        """End it. Idempotent."""
        self.door.closing = True
        for serving in self._starting:
            serving.kill()
        self.door.close()

    def _start(self, door: Door) -> None:
        from pathlib import Path  # noqa: PLC0415 - these are slow to import, and most programs need no broker

        from privcmd._connection import Connection  # noqa: PLC0415
        from privcmd._signals import put_off  # noqa: PLC0415
        from privcmd.broker import START_TIMEOUT_S, Serving  # noqa: PLC0415

        ours, theirs = socket.socketpair()
        with theirs:
            fds = [door.listener.fileno(), theirs.fileno()]
            link = Connection(self.path, sock=ours, timeout_s=START_TIMEOUT_S)
            door.stack.callback(link.close)
            if self._listener is not None:
                link.listeners.append(self._listener)
            # It says nothing of its own course: nobody reads that, and to import its logger takes longer than to start.
            args = ["--fd", str(fds[0]), "--first-fd", str(fds[1]), "--log-level", "warning"]
            args += [f"--set={one}" for one in self._settings]

            def start() -> None:
                with put_off():
                    serving = Serving(Path(self._directory), args, self._config, fds=fds)
                    self._starting.append(serving)
                    door.stack.callback(serving.terminate)
                if door.closing:
                    serving.kill()
                theirs.close()
                door.listener.close()

            try:
                answers = link.ask([*self._requests, ("ping", {})], meanwhile=start)
            except BrokerGone:
                raise self._starting[0].ended_early() from None
        for answer in answers:
            if answer.error is not None:
                self._starting[0].kill()  # a host without what it was to have is nobody's
                raise answer.error
        link.timeout_s = None
        self._starting.clear()
        self.link = link
