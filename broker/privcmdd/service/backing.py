# SPDX-License-Identifier: Apache-2.0
"""Where guest bytes live, and how events are raised, as far as the service needs to know.

``server/memory.py`` keeps bytes in memfds and ``server/events.py`` events in eventfds; a simulation may keep both in
dictionaries. Frames of a domain lie in its file in guest order, a page each; holes cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.keys import FileKey


"""A domain's memory file goes by its domid."""


class Backing(Protocol):
    """One memory file a domain, and one for the hypercall buffers of a process; all of the broker's own making."""

    def create(self, key: FileKey, n_pages: int) -> None:
        """Make a file.

        Args:
            key: Whose it is; there is none yet.
            n_pages: Its size, in pages of 4096 bytes; sparse.

        Raises:
            ModelError: ENOMEM, the file is larger than the host allows or no descriptor is left.
        """

    def descriptor(self, key: FileKey, *, writable: bool) -> int:
        """Return a new descriptor of the file, which the caller owns and closes.

        One that is not ``writable`` cannot be written through, nor reopened for writing by another user.
        """

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from byte ``offset`` of file page ``page``; may run over into later pages."""

    def write(self, key: FileKey, page: int, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at byte ``offset`` of file page ``page``; may run over into later pages."""

    def discard(self, key: FileKey, pages: npt.NDArray[np.uint32]) -> None:
        """Give pages back to the host; they read as zeros afterwards, through every mapping."""

    def close(self, key: FileKey) -> None:
        """Let go of the file. Mappings and descriptors that others hold stay theirs."""

    def make_events(self, channel: int) -> None:
        """Make the two events of an event channel, unless they are there.

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """

    def events(self, channel: int) -> tuple[int, int]:
        """Return a new descriptor of each of a channel's events, which the caller owns and closes.

        One becomes readable when its event is raised, and a 64-bit number written to it raises it (eventfd(2)).

        Raises:
            ModelError: ENOMEM, no descriptor is left.
        """

    def raise_event(self, channel: int, side: int) -> None:
        """Raise an event, if anybody has ever asked for it: an event that is up stays up."""

    def take_event(self, channel: int, side: int) -> bool:
        """Whether an event is up; it is down afterwards."""

    def close_events(self, channel: int) -> None:
        """Let go of a channel's events. Descriptors that others hold stay theirs."""
