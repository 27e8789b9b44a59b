# SPDX-License-Identifier: Apache-2.0
"""Effects: what the model has decided and the service carries out, because the model does no I/O.

Named tuples: a dataclass takes eight times as long to define, and each start of a broker waits for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.file_keys import SharedFile
    from privcmdd.model.files import BufferPages
    from privcmdd.model.findings import Found
    from privcmdd.model.machine.domain import DomainState
    from privcmdd.model.machine.frames import Mfns


class Discard(NamedTuple):
    """Pages of a memory file hold nothing any more: give them back to the host."""

    domid: int
    pages: npt.NDArray[np.uint32]


class StateChanged(NamedTuple):
    """A domain came, began to die, or is gone."""

    domid: int
    state: DomainState


class DiscardBuffers(NamedTuple):
    """Map entries no longer map these pages of a buffer file: give the pages that are unused now back to the host.

    Attributes:
        buffers: The buffer file.
        runs: (first page, number of pages) of each run.
    """

    buffers: BufferPages
    runs: list[tuple[int, int]]


class BuffersGone(NamedTuple):
    """The last address space that shared a buffer file is gone."""

    number: int


class FrameWanted(NamedTuple):
    """A request looked up a guest frame that the domain's pager has evicted."""

    domid: int
    gfn: int


class Raised(NamedTuple):
    """An event of a channel is raised: that of its first (0) or of its second end (1)."""

    channel: int
    side: int


class ChannelGone(NamedTuple):
    """Both ends of an event channel are closed."""

    channel: int


class PutFrames(NamedTuple):
    """Put references to frames. This was put off, because there was no memory to find out which frames that frees.

    Attributes:
        parts: Lists of frames; ``NO_FRAME`` and barred entries may be among them.
    """

    parts: Sequence[Mfns]


class GuestChanged(NamedTuple):
    """Something has changed that the client which plays the guest must look at.

    Attributes:
        domid: The guest.
        topic: ``ioreq``: its ioreq servers have changed; ``interrupt``: its interrupt lines have.
    """

    domid: int
    topic: str


class SharedFileGone(NamedTuple):
    """No page of an allocation of gntalloc has a holder any more."""

    file: SharedFile


class ByteCleared(NamedTuple):
    """A byte of a memory file is set to 0, because the grant in its page is unmapped and this was asked for.

    Attributes:
        file: A domain's file, or a file of shared pages.
        page: The page of the file.
        offset: The byte of the page.
    """

    file: int | SharedFile
    page: int
    offset: int


class GrantsInUse(NamedTuple):
    """Grants came into use or went out of use: the guest is to see that in its grant table.

    Attributes:
        domid: The domain that granted them.
        refs: Their numbers. The bits are those of the moment when the effect is carried out (``in_use.in_use``).
    """

    domid: int
    refs: list[int]


Effect: TypeAlias = (
    "PutFrames | Discard | StateChanged | DiscardBuffers | BuffersGone | FrameWanted | Raised | ChannelGone "
    "| GuestChanged | GrantsInUse | ByteCleared | SharedFileGone | Found"
)
