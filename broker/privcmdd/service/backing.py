# SPDX-License-Identifier: Apache-2.0
"""The interface to what keeps guest bytes and raises events.

``server/memory.py`` keeps bytes in memfds and ``server/events.py`` events in eventfds; a simulation may keep both in
dictionaries. The key of a domain's memory file is its domid. Frames of a domain lie in its file in guest order, a page
each; holes cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.file_keys import FileKey


class Backing(Protocol):
    """Memory files: one for each domain, one for the hypercall buffers of each process; and the events of channels."""

    def create(self, key: FileKey, n_pages: int) -> None:
        """Make a file.

        Args:
            key: The file's key; no file has it yet.
            n_pages: The file's size, in pages of 4096 bytes; sparse.

        Raises:
            ModelError: ENOMEM, the file is larger than the host allows or no descriptor is left.
        """

    def descriptor(self, key: FileKey, *, writable: bool) -> int:
        """Return a new descriptor of the file, which the caller owns and closes.

        A descriptor that is not ``writable`` cannot be written through, nor reopened for writing by another user.
        """

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from byte ``offset`` of file page ``page``; may run over into later pages."""

    def write(self, key: FileKey, page: int, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at byte ``offset`` of file page ``page``; may run over into later pages."""

    def discard(self, key: FileKey, pages: npt.NDArray[np.uint32]) -> None:
        """Give pages back to the host; they read as zeros afterwards, through every mapping."""

    def reopen(self, key: FileKey, n_pages: int) -> bool:
        """Open a file that an earlier broker made and that has outlived it; one that became shorter gets its size back.

        Returns:
            Whether it is there. Without a place for files that outlive the broker none is.
        """

    def sweep(self) -> None:
        """Remove the files that an earlier broker left and that were not opened again."""

    def filled(self, key: FileKey) -> list[tuple[int, int]]:
        """Return the runs of pages that the host has memory for, as first page and number of pages.

        All others read as zeros.
        """

    def close(self, key: FileKey) -> None:
        """Close the file. Mappings and descriptors that clients hold stay valid."""

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
        """Raise an event, if ``make_events`` has made it; an event that is raised already stays so."""

    def take_event(self, channel: int, side: int) -> bool:
        """Whether an event is raised; it is cleared afterwards."""

    def close_events(self, channel: int) -> None:
        """Close a channel's events. Descriptors that clients hold stay valid."""
