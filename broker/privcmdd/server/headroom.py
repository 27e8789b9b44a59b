# SPDX-License-Identifier: Apache-2.0
"""How much memory the broker may still take before the kernel ends somebody for it: the bounds of its memory cgroups.

What is about to cost memory is announced (``spend``). The bounds are read again after each MiB that was announced, and
each time when little is left, so a request costs an addition. Both versions of the interface are known (Linux:
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst). Memory that the kernel can take back from the page
cache counts as free.

What clients touch of guests' memory counts in the cgroup in which they do it. When that is the broker's, the broker
finds that memory in use.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_BYTES: Final = 1 << 20
RESERVE_BYTES: Final = 12 << 20
"""Kept for what is not announced: answers to administrators, the log, imports."""

MOUNTED: Final = Path("/sys/fs/cgroup")
UNBOUNDED: Final = 1 << 62  # version 1 says so with the largest number of whole pages


@dataclass(frozen=True, slots=True)
class Group:
    """A memory cgroup with a bound."""

    usage: Path
    stat: Path
    bound_bytes: int

    def left(self) -> int:
        """How much may still be taken in it, in bytes."""
        used = int(self.usage.read_bytes())
        if self.bound_bytes - used < RESERVE_BYTES + STEP_BYTES:
            used -= self._cached()
        return self.bound_bytes - used

    def _cached(self) -> int:
        """What the kernel can take back: pages of files that are on a disk."""
        told = dict(line.split() for line in self.stat.read_text().splitlines())
        prefix = "total_" if "total_inactive_file" in told else ""
        return sum(int(told.get(f"{prefix}{name}", 0)) for name in ("inactive_file", "active_file"))


class Headroom:
    """What is left, looked at again when enough was announced."""

    def __init__(self, groups: list[Group]) -> None:
        self._groups = groups
        self._left = 0

    def spend(self, n_bytes: int) -> None:
        """Announce that about so much memory is about to be taken.

        Raises:
            ModelError: ENOMEM, it is not there.
        """
        self._left -= n_bytes
        if self._left >= 0:
            return
        self._left = 0
        left = min(group.left() for group in self._groups) - RESERVE_BYTES
        if left < n_bytes:
            raise ModelError(
                errno.ENOMEM,
                f"the broker may take {max(left, 0)} bytes more of the memory of its cgroup, and this needs about "
                f"{n_bytes}; nothing has changed: give something back, ask for less at a time, or raise the bound",
                left=max(left, 0),
                needed=n_bytes,
            )
        self._left = min(left - n_bytes, STEP_BYTES)


def of_cgroups(told: Path = Path("/proc/self/cgroup"), mounted: Path = MOUNTED) -> Headroom | None:
    """The headroom of this process; None when no cgroup bounds its memory."""
    try:
        groups = list(_groups(told.read_text(), mounted))
    except (OSError, ValueError):
        return None
    return Headroom(groups) if groups else None


def _groups(told: str, mounted: Path) -> Iterator[Group]:
    """The cgroups with a bound, from the process's own up to the root."""
    for line in told.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = mounted, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = mounted / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # In a container the path may be one of the host, and the container's own cgroup is what is mounted.
        own = top / path.lstrip("/")
        for folder in [own if own.is_dir() else top, *(own.parents if own.is_dir() else ())]:
            if folder != top and top not in folder.parents:
                break
            bound = folder / names[0]
            if bound.is_file() and (text := bound.read_text().strip()) != "max" and int(text) < UNBOUNDED:
                yield Group(folder / names[1], folder / "memory.stat", int(text))
