# SPDX-License-Identifier: Apache-2.0
"""What the model has decided and somebody else must carry out: nothing on this floor touches the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from privcmdd.model.files import BufferPages
    from privcmdd.model.findings import Found
    from privcmdd.model.keys import SharedFile
    from privcmdd.model.machine.domain import DomainState
    from privcmdd.model.machine.frames import Mfns


@dataclass(frozen=True, slots=True)
class Discard:
    """Pages of a memory file hold nothing any more: give them back to the host."""

    domid: int
    pages: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A domain came, began to die, or is gone."""

    domid: int
    state: DomainState


@dataclass(frozen=True, slots=True)
class DiscardBuffers:
    """Entries let go of pages of a buffer file: those that nobody has by now hold nothing any more.

    Attributes:
        buffers: The file.
        runs: First page and number of pages.
    """

    buffers: BufferPages
    runs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class BuffersGone:
    """The last address space that shared a buffer file is gone."""

    number: int


@dataclass(frozen=True, slots=True)
class FrameWanted:
    """Somebody looked for a guest frame that its domain's pager has evicted."""

    domid: int
    gfn: int


@dataclass(frozen=True, slots=True)
class Raised:
    """An event of a channel: the one of its first or of its second end."""

    channel: int
    side: int


@dataclass(frozen=True, slots=True)
class ChannelGone:
    """Both ends of an event channel are closed."""

    channel: int


@dataclass(frozen=True, slots=True)
class PutFrames:
    """References to frames were let go of when there was no memory to find out what that frees: do it now.

    Attributes:
        parts: The frames; ``NO_FRAME`` and barred entries may be among them.
    """

    parts: Sequence[Mfns]


@dataclass(frozen=True, slots=True)
class GuestChanged:
    """Something about a domain has changed that whoever plays it must look at.

    Attributes:
        domid: The domain.
        topic: What: ``ioreq``, its ioreq servers; ``interrupt``, its interrupt lines.
    """

    domid: int
    topic: str


@dataclass(frozen=True, slots=True)
class SharedFileGone:
    """Nobody holds a page of an allocation of gntalloc any more."""

    file: SharedFile


@dataclass(frozen=True, slots=True)
class ByteCleared:
    """A byte of a memory file, a domain's or that of shared pages, is 0 from now on: its page was let go of."""

    file: int | SharedFile
    page: int
    offset: int


@dataclass(frozen=True, slots=True)
class GrantsInUse:
    """Grants came into use or went out of it: the guest is to see that in its table.

    Attributes:
        domid: Whose grants.
        refs: Their numbers; how it is with them when this is carried out counts (``pins.in_use``).
    """

    domid: int
    refs: list[int]


Effect: TypeAlias = (
    "PutFrames | Discard | StateChanged | DiscardBuffers | BuffersGone | FrameWanted | Raised | ChannelGone "
    "| GuestChanged | GrantsInUse | ByteCleared | SharedFileGone | Found"
)
