# SPDX-License-Identifier: Apache-2.0
"""Guest memory and events in dictionaries, for tests that need no kernel; and a disk that breaks when told to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from privcmdd.model.units import DOMID_FIRST_RESERVED, PAGE_SIZE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.file_keys import FileKey

ZEROS = bytes(PAGE_SIZE)


def outlives(key: FileKey) -> bool:
    """Whether a file outlives the broker: those of domains do."""
    return isinstance(key, int) and key < DOMID_FIRST_RESERVED


class MemoryBacking:
    """A file is a dictionary of its pages that were written.

    Attributes:
        files: key -> page -> bytes.
        done: What was asked, in order.
        raised: Whether each event of a channel is up, by channel.
        broken: Raised by the next ``read``, ``create``, ``descriptor`` or ``discard``, when set; and by
            ``make_events``.
    """

    def __init__(self) -> None:
        self.raised: dict[int, list[bool]] = {}
        self.files: dict[FileKey, dict[int, bytearray]] = {}
        self.done: list[tuple[str, FileKey]] = []
        self.broken: Exception | None = None
        self._unopened: dict[FileKey, dict[int, bytearray]] = {}

    def _do(self, what: str, key: FileKey) -> None:
        self.done.append((what, key))
        if self.broken is not None and what in ("read", "create", "descriptor", "discard"):
            broken, self.broken = self.broken, None
            raise broken

    def create(self, key: FileKey, n_pages: int) -> None:
        """Make a file."""
        assert key not in self.files
        assert n_pages > 0
        self._do("create", key)
        self.files[key] = {}

    def descriptor(self, key: FileKey, *, writable: bool) -> int:
        """A descriptor that says which way it was opened; the bytes are not behind it."""
        self._do("descriptor", key)
        return os.open(os.devnull, os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY))

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read bytes."""
        self._do("read", key)
        n_pages = -(-(offset + size) // PAGE_SIZE)
        whole = b"".join(self.files[key].get(number, ZEROS) for number in range(page, page + n_pages))
        return whole[offset : offset + size]

    def write(self, key: FileKey, page: int, offset: int, data: bytes | memoryview) -> None:
        """Write bytes."""
        self._do("write", key)
        at = page * PAGE_SIZE + offset
        for i, byte in enumerate(bytes(data), at):
            self.files[key].setdefault(i // PAGE_SIZE, bytearray(PAGE_SIZE))[i % PAGE_SIZE] = byte

    def discard(self, key: FileKey, pages: npt.NDArray[np.uint32]) -> None:
        """Forget pages."""
        self._do("discard", key)
        for page in pages.tolist():
            self.files[key].pop(page, None)

    def left(self) -> MemoryBacking:
        """What a crash leaves: the files of domains, which the next broker opens again."""
        after = MemoryBacking()
        after._unopened = {key: pages for key, pages in self.files.items() if outlives(key)}
        return after

    def reopen(self, key: FileKey, n_pages: int) -> bool:
        """Open a file that a crash has left."""
        assert n_pages > 0
        self._do("reopen", key)
        if key in self._unopened:
            self.files[key] = self._unopened.pop(key)
        return key in self.files

    def sweep(self) -> None:
        """Forget the files that a crash has left and that nobody has opened."""
        self._unopened.clear()

    def filled(self, key: FileKey) -> list[tuple[int, int]]:
        """Pages that were written, a run each."""
        return [(page, 1) for page in sorted(self.files[key])]

    def close(self, key: FileKey) -> None:
        """Forget a file; it must be there, so closing twice is seen."""
        self._do("close", key)
        del self.files[key]

    def make_events(self, channel: int) -> None:
        """Make a channel's events."""
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
        self.raised.setdefault(channel, [False, False])

    def events(self, channel: int) -> tuple[int, int]:
        """Descriptors with nothing behind them."""
        assert channel in self.raised
        return os.open(os.devnull, os.O_CLOEXEC | os.O_RDWR), os.open(os.devnull, os.O_CLOEXEC | os.O_RDWR)

    def raise_event(self, channel: int, side: int) -> None:
        """Raise an event."""
        if channel in self.raised:
            self.raised[channel][side] = True

    def take_event(self, channel: int, side: int) -> bool:
        """Whether an event is up."""
        up = self.raised.get(channel, [False, False])
        taken, up[side] = up[side], False
        return taken

    def close_events(self, channel: int) -> None:
        """Forget a channel's events."""
        self.raised.pop(channel, None)
