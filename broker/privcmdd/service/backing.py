# SPDX-License-Identifier: Apache-2.0
"""Where guest bytes live, as far as the service needs to know.

``server/memory.py`` keeps them in memfds; a simulation may keep them in arrays. Frames of a domain lie in
its file in guest order, a page each; holes cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Backing(Protocol):
    """One memory file a domain, all of the broker's own making."""

    def create(self, domid: int, n_pages: int) -> None:
        """Make the file of a domain.

        Args:
            domid: Whose it is; has no file yet.
            n_pages: Its size, in pages of 4096 bytes; sparse.

        Raises:
            ModelError: ENOMEM, the file is larger than the host allows or no descriptor is left.
        """

    def descriptor(self, domid: int, *, writable: bool) -> int:
        """Return a new descriptor of the file, which the caller owns and closes.

        One that is not ``writable`` cannot be written through, nor reopened for writing by another user.
        """

    def read(self, domid: int, page: int, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from byte ``offset`` of file page ``page``; may run over into later pages."""

    def write(self, domid: int, page: int, offset: int, data: bytes | memoryview) -> None:
        """Write ``data`` at byte ``offset`` of file page ``page``; may run over into later pages."""

    def discard(self, domid: int, pages: npt.NDArray[np.uint32]) -> None:
        """Give pages back to the host; they read as zeros afterwards, through every mapping."""

    def close(self, domid: int) -> None:
        """Let go of the file. Mappings and descriptors that others hold stay theirs."""
