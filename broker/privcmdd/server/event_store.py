# SPDX-License-Identifier: Apache-2.0
"""Events of channels that outlive a broker: the service manager keeps their descriptors (systemd's FDSTORE).

Guests, their memory and their ports come from ``server.state_dir``. An eventfd has no place on a disk; without a
manager that keeps it, a guest's program has to ask the next broker for a new one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privcmdd.server.listen import FIRST_ACTIVATED_FD

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from privcmdd.server.notify import Notifier

NAME: Final = re.compile(r"event-(\d+)-([01])")


class EventStore:
    """What the manager keeps.

    Attributes:
        left: The events that it has kept for this broker, two of each channel.
    """

    def __init__(self, notifier: Notifier, left: Mapping[int, tuple[int, int]]) -> None:
        self._notifier = notifier
        self.left = left

    def keep(self, channel: int, events: tuple[int, int]) -> None:
        """Keep the events of a channel, in place of what an earlier broker has had kept by these names."""
        self.forget(channel)
        for side, fd in enumerate(events):
            self._notifier.store(f"event-{channel}-{side}", fd)

    def forget(self, channel: int) -> None:
        """Keep them no longer."""
        for side in range(2):
            self._notifier.unstore(f"event-{channel}-{side}")


def split(environ: MutableMapping[str, str]) -> dict[int, tuple[int, int]]:
    """Take events out of what the manager has handed in; what is left of LISTEN_FDS are sockets.

    Sockets come first: their descriptors and names stay as they are.

    Returns:
        The two events of each channel. What is not whole is closed.
    """
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not any(map(NAME.fullmatch, names)):
        return {}
    found: dict[int, dict[int, int]] = {}
    sockets = [name for name in names if not NAME.fullmatch(name)]
    for fd, name in enumerate(names, FIRST_ACTIVATED_FD):
        if match := NAME.fullmatch(name):
            os.set_inheritable(fd, False)
            found.setdefault(int(match[1]), {})[int(match[2])] = fd
    for channel in [channel for channel, sides in found.items() if len(sides) < 2 or not _are_events(sides)]:
        for fd in found.pop(channel).values():
            os.close(fd)
    environ["LISTEN_FDS"], environ["LISTEN_FDNAMES"] = str(len(sockets)), ":".join(sockets)
    return {channel: (sides[0], sides[1]) for channel, sides in found.items()}


def _are_events(sides: Mapping[int, int]) -> bool:
    return all(str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[eventfd]" for fd in sides.values())
